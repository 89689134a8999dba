//! Digests of documents, for annotations that tell whether something changed.
//!
//! In: JSON. Out: 16 hexadecimal digits that are the same in every release.

use serde_json::Value;
use sha2::{Digest, Sha256};

/// The first 16 hexadecimal digits of the SHA-256 of a document, whatever the order of its members.
pub fn digest(document: &Value) -> String {
    let mut hasher = Sha256::new();
    feed(document, &mut hasher);
    hasher
        .finalize()
        .iter()
        .take(8)
        .fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// Feeds the JSON text with sorted members: the order in memory depends on features of `serde_json` that any crate in the
/// workspace may turn on.
fn feed(value: &Value, hasher: &mut Sha256) {
    match value {
        Value::Object(members) => {
            let mut sorted: Vec<_> = members.iter().collect();
            sorted.sort_by_key(|(key, _)| *key);
            hasher.update(b"{");
            for (key, member) in sorted {
                hasher.update(Value::from(key.as_str()).to_string());
                hasher.update(b":");
                feed(member, hasher);
            }
            hasher.update(b"}");
        }
        Value::Array(items) => {
            hasher.update(b"[");
            for item in items {
                feed(item, hasher);
                hasher.update(b",");
            }
            hasher.update(b"]");
        }
        scalar => hasher.update(scalar.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use serde_json::json;

    #[rstest]
    #[case(json!({"a": 1, "b": [1, 2]}), json!({"b": [1, 2], "a": 1}), true)]
    #[case(json!({"a": 1}), json!({"a": 2}), false)]
    #[case(json!({"a": "1"}), json!({"a": 1}), false)]
    #[case(json!([[1], 2]), json!([[1, 2]]), false)]
    fn a_digest_depends_on_content_and_not_on_order(
        #[case] left: Value,
        #[case] right: Value,
        #[case] equal: bool,
    ) {
        assert_eq!(digest(&left) == digest(&right), equal);
    }

    #[test]
    fn the_digest_does_not_change_between_releases() {
        // A change here would make every upgrade write every object once.
        assert_eq!(
            digest(&json!({"b": ["x"], "a": {"c": null, "d": true}})),
            "5a609464b78759ba"
        );
    }
}
