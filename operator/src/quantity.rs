//! Kubernetes quantities (`1500m`, `10Gi`, `1e3`) as numbers, so that `1` and `1000m` compare equal.
//!
//! In: text. Out: a count of nano-units, or nothing when the text is no quantity. And back: bytes as short text.

use std::fmt::Write as _;

/// Nano-units in one unit; `n` is the smallest suffix that Kubernetes knows.
const NANO: i128 = 1_000_000_000;

/// Reads a quantity as nano-units. Fractions of a nano-unit are rounded up, as Kubernetes does.
pub fn parse(text: &str) -> Option<i128> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let end = digits
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(digits.len());
    let (number, suffix) = digits.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') || number.len() > 24 {
        return None;
    }
    let (numerator, denominator) = scale(suffix)?;
    let mantissa: i128 = format!("{whole}{fraction}").parse().ok()?;
    let divisor = 10_i128
        .checked_pow(u32::try_from(fraction.len()).ok()?)?
        .checked_mul(denominator)?;
    let product = mantissa.checked_mul(numerator)?.checked_mul(NANO)?;
    // Rounded up to the next nano-unit.
    Some(sign * product.checked_add(divisor - 1)?.div_euclid(divisor))
}

/// The whole units in a quantity, such as bytes; negative and unreadable ones give nothing.
pub fn units(text: &str) -> Option<u64> {
    u64::try_from(parse(text)?.div_euclid(NANO)).ok()
}

/// Bytes in the largest binary unit that keeps at least one digit before the point, such as `312Mi`.
pub fn bytes(count: u64) -> String {
    let mut text = String::new();
    let units = ["", "Ki", "Mi", "Gi", "Ti", "Pi"];
    let (mut value, mut unit) = (count as f64, 0);
    while value >= 1024.0 && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    // One digit after the point for small numbers of a large unit, where whole ones would be coarse.
    let digits = usize::from(unit > 0 && value < 10.0 && (value * 10.0).round() % 10.0 > 0.0);
    let _ = write!(text, "{value:.digits$}{}", units[unit]);
    text
}

fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (NANO, 1),
        "T" => (NANO * 1000, 1),
        "P" => (NANO * 1_000_000, 1),
        "E" => (NANO * NANO, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10_i128
                .checked_pow(power.unsigned_abs())
                .filter(|_| power.abs() <= 18)?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("1", "1000m")]
    #[case("0.5", "500m")]
    #[case("1Gi", "1024Mi")]
    #[case("1e3", "1k")]
    #[case("1E", "1000P")]
    #[case("+2", "2.0")]
    #[case("-1", "-1000m")]
    fn equal_quantities_are_equal(#[case] left: &str, #[case] right: &str) {
        assert!(parse(left).is_some(), "{left} is no quantity");
        assert_eq!(parse(left), parse(right));
    }

    #[rstest]
    #[case("")]
    #[case("Gi")]
    #[case("1.2.3")]
    #[case("1GiB")]
    #[case("1e99")]
    #[case("99999999999999999999999999999999999999999")]
    fn what_is_no_quantity_is_none(#[case] text: &str) {
        assert_eq!(parse(text), None);
    }

    #[rstest]
    #[case(0, "0")]
    #[case(1023, "1023")]
    #[case(1 << 30, "1Gi")]
    #[case(3 << 29, "1.5Gi")]
    #[case(312 << 20, "312Mi")]
    #[case(u64::MAX, "16384Pi")]
    fn bytes_are_short(#[case] count: u64, #[case] text: &str) {
        assert_eq!(bytes(count), text);
    }
}
