//! The token for what only an administrator may do.
//!
//! In come the file that holds it and what a caller gave; out comes whether they agree.
//! The token is never logged and never compared in a way that tells how far it fits.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

/// Longest token.
const MAX_BYTES: u64 = 4096;

/// Whether `authorization` carries the token of `file`. The file is read anew, so a rotated secret counts at once.
pub fn matches(file: Option<&Path>, authorization: Option<&str>) -> bool {
    let (Some(file), Some(authorization)) = (file, authorization) else {
        return false;
    };
    let Some(given) = authorization.strip_prefix("Bearer ") else {
        return false;
    };
    let mut token = String::new();
    let read = File::open(file).and_then(|file| file.take(MAX_BYTES).read_to_string(&mut token));
    let token = token.trim();
    // Hashes have one length and say nothing about the token, so the comparison's time doesn't either.
    read.is_ok() && !token.is_empty() && Sha256::digest(token) == Sha256::digest(given.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_of_the_file_is_accepted() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "secret\n").unwrap();
        assert!(matches(Some(file.path()), Some("Bearer secret")));
        assert!(!matches(Some(file.path()), Some("Bearer other")));
        assert!(!matches(Some(file.path()), Some("secret")));
        assert!(!matches(Some(file.path()), None));
        assert!(!matches(None, Some("Bearer secret")));
    }

    #[test]
    fn an_empty_or_absent_file_accepts_nobody() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert!(!matches(Some(file.path()), Some("Bearer ")));
        assert!(!matches(Some(Path::new("/absent")), Some("Bearer ")));
    }
}
