//! Text from outside, made fit for a person's terminal.
//!
//! In comes any text, out comes the same with every control character escaped.

/// The text with its control characters escaped: an archive's names and words must not write on a terminal.
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}
