//! Paths below the volume's root, as bytes in any encoding, that can't lead out of it.
//!
//! In comes whatever an archive or a directory says; out comes a [`RelativePath`] or a refusal. The order is that of a
//! walk: component by component, so a directory comes right before what is in it.

use std::cmp::Ordering;
use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text;

/// Longest path, as Linux has it (`PATH_MAX`).
pub const MAX_PATH: usize = 4096;
/// Longest component (`NAME_MAX`).
pub const MAX_NAME: usize = 255;

/// A path of at least one component, none of which is empty, `.` or `..`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct RelativePath(Box<[u8]>);

/// The bytes are no path below the root.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{shown:?} is refused as a path: {reason}")]
pub struct PathError {
    /// The beginning of the refused path.
    pub shown: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl RelativePath {
    /// Checks bytes that came from outside.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Result<Self, PathError> {
        let bytes = bytes.into();
        match fault(&bytes) {
            None => Ok(Self(bytes.into_boxed_slice())),
            Some(reason) => Err(PathError {
                shown: String::from_utf8_lossy(&bytes).chars().take(120).collect(),
                reason,
            }),
        }
    }

    /// The same path with one more component.
    pub fn child(&self, name: &[u8]) -> Result<Self, PathError> {
        Self::new([self.as_bytes(), b"/", name].concat())
    }

    /// The bytes, without a slash at either end.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// For calls to the system.
    pub fn as_path(&self) -> &Path {
        Path::new(OsStr::from_bytes(&self.0))
    }

    /// Its components, at least one.
    pub fn components(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.0.split(|byte| *byte == b'/')
    }

    /// The name directly below the root.
    pub fn top_level(&self) -> &[u8] {
        self.components().next().unwrap_or_default()
    }

    /// The last component.
    pub fn name(&self) -> &[u8] {
        self.components().next_back().unwrap_or_default()
    }

    /// The path without its last component; `None` directly below the root.
    pub fn parent(&self) -> Option<Self> {
        let end = self.0.iter().rposition(|byte| *byte == b'/')?;
        Some(Self(self.0[..end].into()))
    }

    /// Whether this is `directory` or lies below it.
    pub fn is_within(&self, directory: &[u8]) -> bool {
        self.0
            .strip_prefix(directory)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }
}

fn fault(bytes: &[u8]) -> Option<&'static str> {
    if bytes.is_empty() {
        return Some("it is empty");
    }
    if bytes.len() >= MAX_PATH {
        return Some("it is longer than the system allows");
    }
    if bytes.contains(&0) {
        return Some("it has a zero byte");
    }
    bytes
        .split(|byte| *byte == b'/')
        .find_map(|name| match name {
            b"" => Some("it is absolute, or has an empty component"),
            b"." | b".." => Some("it has a component . or .."),
            name if name.len() > MAX_NAME => Some("a component is longer than the system allows"),
            _ => None,
        })
}

impl PartialOrd for RelativePath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for RelativePath {
    fn cmp(&self, other: &Self) -> Ordering {
        let key = |byte: &u8| if *byte == b'/' { 0 } else { *byte };
        // No byte is zero, so this compares component by component.
        self.0.iter().map(key).cmp(other.0.iter().map(key))
    }
}

impl fmt::Display for RelativePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&text::visible(&String::from_utf8_lossy(&self.0)))
    }
}

impl fmt::Debug for RelativePath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

/// Bytes that are text in most cases: a string, or `{"base64": …}` where they aren't UTF-8.
#[derive(Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Text {
    /// UTF-8.
    Plain(String),
    /// Anything.
    Coded {
        /// The bytes in base64.
        base64: String,
    },
}

impl Text {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Plain(text.to_owned()),
            Err(_) => Self::Coded {
                base64: STANDARD.encode(bytes),
            },
        }
    }

    pub(crate) fn bytes(self) -> Result<Vec<u8>, base64::DecodeError> {
        match self {
            Self::Plain(text) => Ok(text.into_bytes()),
            Self::Coded { base64 } => STANDARD.decode(base64),
        }
    }
}

impl Serialize for RelativePath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Text::of(&self.0).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for RelativePath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Text::deserialize(deserializer)?
            .bytes()
            .map_err(D::Error::custom)?;
        Self::new(bytes).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn path(text: &str) -> RelativePath {
        RelativePath::new(text).unwrap()
    }

    #[test]
    fn paths_that_lead_out_are_refused() {
        for text in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "a/../b",
            "a//b",
            "a/",
            "./a",
            "a\0b",
        ] {
            assert!(RelativePath::new(text).is_err(), "{text:?}");
        }
        assert!(RelativePath::new(vec![b'a'; MAX_PATH]).is_err());
        assert!(RelativePath::new(vec![b'a'; MAX_NAME + 1]).is_err());
    }

    #[test]
    fn the_order_is_that_of_a_walk() {
        let mut sorted = ["a-b", "a/b", "a", "a/b/c", "a.b"].map(path);
        sorted.sort();
        assert_eq!(sorted, ["a", "a/b", "a/b/c", "a-b", "a.b"].map(path));
    }

    #[test]
    fn parts_are_found() {
        let path = path("a/b/c");
        assert_eq!((path.top_level(), path.name()), (&b"a"[..], &b"c"[..]));
        assert_eq!(path.parent().unwrap().as_bytes(), b"a/b");
        assert!(path.is_within(b"a/b") && !path.is_within(b"a/b/c/d") && !path.is_within(b"a/"));
        assert!(!RelativePath::new("ab").unwrap().is_within(b"a"));
    }

    proptest! {
        #[test]
        fn any_name_survives_json(bytes in proptest::collection::vec(1_u8.., 1..40)) {
            if let Ok(path) = RelativePath::new(bytes) {
                let text = serde_json::to_string(&path).unwrap();
                prop_assert_eq!(serde_json::from_str::<RelativePath>(&text).unwrap(), path);
            }
        }
    }
}
