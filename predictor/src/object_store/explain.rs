//! What a store's errors mean for a person.
//!
//! In comes an error of the client, with XML, URLs and keys in it; out comes a sentence without credentials.

use std::error::Error as _;
use std::io;

use object_store::Error;

/// Longest part of a store's own words that is told, in characters.
const MAX_WORDS: usize = 200;

/// Codes of stores that don't take the credentials.
const REFUSED: [&str; 6] = [
    "AccessDenied",
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
];

/// Whether the bucket is what isn't there.
pub fn is_no_bucket(error: &Error) -> bool {
    code(&root(error)).is_some_and(|code| code == "NoSuchBucket")
}

/// The sentence, with the kind that the storage crate looks at.
#[allow(
    clippy::needless_pass_by_value,
    reason = "it ends the error, as map_err hands it over"
)]
pub fn error(error: Error) -> io::Error {
    let words = root(&error);
    let code = code(&words);
    let has = |codes: &[&str]| code.as_deref().is_some_and(|code| codes.contains(&code));
    let (is_missing, is_refused) = (has(&["NoSuchBucket"]), has(&REFUSED));
    let told = code.unwrap_or_else(|| words.chars().take(MAX_WORDS).collect());
    let (kind, fix) = match &error {
        // The client sorts some calls' answers under other headings; the store's own code is surer.
        Error::NotFound { .. } | Error::Generic { .. } if is_missing => (
            io::ErrorKind::NotFound,
            "create the bucket or correct the URL",
        ),
        _ if is_refused => (
            io::ErrorKind::PermissionDenied,
            "the store refused the credentials: check the access key, its secret and its rights",
        ),
        Error::NotFound { .. } => (
            io::ErrorKind::NotFound,
            "create the bucket or correct the URL",
        ),
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => (
            io::ErrorKind::PermissionDenied,
            "the store refused the credentials: check the access key, its secret and its rights",
        ),
        Error::AlreadyExists { .. } => (
            io::ErrorKind::AlreadyExists,
            "another writer was faster: try again",
        ),
        Error::Precondition { .. } => (
            io::ErrorKind::InvalidData,
            "the object was replaced meanwhile: try again",
        ),
        Error::NotImplemented { .. } | Error::NotSupported { .. } => (
            io::ErrorKind::Unsupported,
            "the store must support conditional writes (If-None-Match) and multipart uploads",
        ),
        _ if words.contains("peer certificate") => (
            io::ErrorKind::InvalidData,
            "the store's certificate isn't trusted: give its CA as a PEM file in AWS_CA_BUNDLE, and check that the certificate is for this host and in date",
        ),
        _ => (
            io::ErrorKind::Other,
            "check the endpoint, the network and the store",
        ),
    };
    io::Error::new(kind, format!("{told}: {fix}"))
}

/// What began it: the innermost error's words.
fn root(error: &Error) -> String {
    let mut words = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        // The middle of a chain has the response's body, its end the system's words.
        let text = source.to_string();
        if code(&words).is_none() {
            words = text;
        }
        next = source.source();
    }
    words
}

/// The code in an answer such as `<Error><Code>NoSuchKey</Code>…`.
fn code(words: &str) -> Option<String> {
    let (_, rest) = words.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_code = !code.is_empty() && code.len() < 80 && code.chars().all(char::is_alphanumeric);
    is_code.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(body: &str) -> Box<dyn std::error::Error + Send + Sync> {
        body.to_owned().into()
    }

    #[test]
    fn answers_become_sentences_without_keys() {
        let body = "403: <Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>AKIASECRET</AWSAccessKeyId></Error>";
        let told = error(Error::PermissionDenied {
            path: "a".to_owned(),
            source: answer(body),
        });
        assert_eq!(told.kind(), io::ErrorKind::PermissionDenied);
        assert!(
            told.to_string().starts_with("SignatureDoesNotMatch: "),
            "{told}"
        );
        assert!(!told.to_string().contains("AKIASECRET"), "{told}");
    }

    #[test]
    fn a_missing_bucket_is_told_from_a_missing_object() {
        let missing = |code: &str| Error::NotFound {
            path: "a".to_owned(),
            source: answer(&format!("404: <Error><Code>{code}</Code></Error>")),
        };
        assert!(is_no_bucket(&missing("NoSuchBucket")));
        assert!(!is_no_bucket(&missing("NoSuchKey")));
    }
}
