//! The writing side of age: a whole archive is encrypted to public keys, so a backup needs no secret.
//!
//! In come recipients (`age1…`) and bytes, out come the same bytes or age's.

use std::io::{self, Write};
use std::str::FromStr;

use age::stream::StreamWriter;

/// Why an archive can't be encrypted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{shown:?} is no recipient ({reason}): write the public key that `age-keygen` prints, it begins with age1"
)]
pub struct RecipientError {
    /// The beginning of the text.
    pub shown: String,
    /// What age says.
    pub reason: String,
}

/// Public keys, checked; none of them means no encryption.
#[derive(Clone, Default)]
pub struct Recipients(Vec<age::x25519::Recipient>);

impl Recipients {
    /// Reads `age1…` keys.
    pub fn parse(texts: &[String]) -> Result<Self, RecipientError> {
        let parse = |text: &String| {
            age::x25519::Recipient::from_str(text.trim()).map_err(|reason| RecipientError {
                shown: text.chars().take(20).collect(),
                reason: reason.to_owned(),
            })
        };
        texts.iter().map(parse).collect::<Result<_, _>>().map(Self)
    }

    /// Whether nothing is encrypted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The keys as text, sorted, as the file beside an archive names them.
    pub fn ids(&self) -> Vec<String> {
        let mut ids: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// Where an archive's bytes go: straight to `W`, or through age.
pub enum Encrypted<W: Write> {
    /// As they are.
    Plain(W),
    /// Through age.
    Age(Box<StreamWriter<W>>),
}

impl<W: Write> Encrypted<W> {
    /// Begins the stream; writes age's header when there are recipients.
    pub fn begin(recipients: &Recipients, out: W) -> io::Result<Self> {
        if recipients.is_empty() {
            return Ok(Self::Plain(out));
        }
        let keys = recipients.0.iter().map(|key| key as &dyn age::Recipient);
        let encryptor = age::Encryptor::with_recipients(keys).map_err(io::Error::other)?;
        Ok(Self::Age(Box::new(encryptor.wrap_output(out)?)))
    }

    /// Writes what age keeps back and gives the destination again.
    pub fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => Ok(out),
            Self::Age(stream) => stream.finish(),
        }
    }
}

impl<W: Write> Write for Encrypted<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Age(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Age(stream) => stream.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;

    #[test]
    fn what_is_encrypted_is_read_with_the_identity_and_with_no_other() {
        let identity = age::x25519::Identity::generate();
        let keys = [identity.to_public().to_string()];
        let recipients = Recipients::parse(&keys).unwrap();
        assert_eq!(recipients.ids(), keys);
        let mut stream = Encrypted::begin(&recipients, Vec::new()).unwrap();
        stream.write_all(b"prices").unwrap();
        let bytes = stream.finish().unwrap();
        let open = |identity: &age::x25519::Identity| {
            let decryptor = age::Decryptor::new(&bytes[..]).unwrap();
            decryptor.decrypt(std::iter::once(identity as &dyn age::Identity))
        };
        let mut text = String::new();
        open(&identity).unwrap().read_to_string(&mut text).unwrap();
        assert_eq!(text, "prices");
        assert!(open(&age::x25519::Identity::generate()).is_err());
    }

    #[test]
    fn other_texts_are_no_recipients() {
        for text in ["", "age1", "ssh-ed25519 AAAA", "AGE-SECRET-KEY-1"] {
            let error = Recipients::parse(&[text.to_owned()]).err().unwrap();
            assert!(error.to_string().contains("age-keygen"), "{error}");
        }
    }
}
