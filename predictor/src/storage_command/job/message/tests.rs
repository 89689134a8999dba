//! The contract's examples, and that any message fits.

use proptest::prelude::*;
use serde_json::Value;

use super::*;

#[test]
fn every_message_of_the_contract_is_written_as_it_is_read() {
    let contract = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/jobs.json");
    let contract: Value = serde_json::from_slice(&std::fs::read(contract).unwrap()).unwrap();
    for (name, example) in contract["messages"].as_object().unwrap() {
        let message: Message = serde_json::from_value(example.clone())
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let bytes = message.bytes();
        let written: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(written, *example, "{name}");
        let code = message.outcome().code();
        let expected: &[u8] = if example["result"] == "succeeded" {
            &[0]
        } else {
            &[1, 4]
        };
        assert!(expected.contains(&code), "{name}: {code}");
    }
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        "\\PC{0,400}",
        "[\"\\\\]{0,400}",
        "[\\x00-\\x1f]{0,400}",
        "[äöü€🔑]{0,300}",
        Just(String::new()),
    ]
}

fn texts(most: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::vec(text(), 0..most)
}

fn name(second: i64) -> ArchiveName {
    ArchiveName::at(
        Timestamp::from_second(1_754_049_600 + second).unwrap(),
        true,
    )
}

prop_compose! {
    fn message()(
        sentence in text(),
        warnings in texts(12),
        errors in texts(16),
        suspect in texts(8),
        keys in texts(16),
        backups in 0_i64..40,
        model in prop::option::of(text()),
        is_failure in any::<bool>(),
    ) -> Message {
        let mut message = Message::new("backup");
        message.say(sentence.clone());
        for warning in warnings {
            message.warnings.push(warning);
        }
        message.destinations = errors.into_iter().map(|error| Destination {
            name: "n".repeat(63),
            error: Some(error),
            ..Destination::default()
        }).collect();
        message.backups = Some((0..backups).rev().map(|second| Row {
            name: name(second),
            id: Uuid::from_u128(1),
            kind: Kind::Incremental,
            base: Some(name(0)),
            created_at: None,
            bytes: u64::MAX,
            files: u64::MAX,
            key_ids: keys.clone(),
            level: Some(Level::Readable),
            verified_at: Some(Timestamp::UNIX_EPOCH),
            suspect: true,
            destinations: vec!["n".repeat(63); 16],
        }).collect());
        message.total = Some(40);
        message.backup = Some(Backup {
            name: name(40),
            id: Uuid::from_u128(2),
            kind: Kind::Full,
            base: None,
            created_at: Timestamp::UNIX_EPOCH,
            bytes: 1,
            files: 1,
            sha256: Digest([7; 32]),
            key_ids: keys,
            level: None,
            verified_at: None,
            suspect,
            destinations: vec!["n".repeat(63); 16],
        });
        message.restore().model = model;
        if is_failure {
            message.fail(Failure::new(Reason::DestinationsFailed, sentence));
        }
        message
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_message_fits_and_is_json_with_its_result(message in message()) {
        let bytes = message.bytes();
        prop_assert!(bytes.len() <= MAX_BYTES, "{}", bytes.len());
        let read: Message = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(read.result, message.result);
        prop_assert_eq!(read.reason, message.reason);
        prop_assert_eq!(read.total, message.total);
        prop_assert!(read.text.len() <= MAX_MESSAGE);
        prop_assert!(read.warnings.len() <= MAX_WARNINGS);
        prop_assert!(read.warnings.iter().all(|text| text.len() <= MAX_TEXT));
        // The newest stay.
        let (all, left) = (message.backups.unwrap_or_default(), read.backups.unwrap_or_default());
        prop_assert!(left.iter().zip(&all).all(|(left, all)| left.name == all.name));
    }
}

#[test]
fn the_oldest_backups_go_before_any_text_is_cut() {
    let mut message = Message::new("backup");
    message.say("x".repeat(MAX_MESSAGE));
    let row = |second| Row {
        name: name(second),
        id: Uuid::from_u128(1),
        kind: Kind::Full,
        base: None,
        created_at: None,
        bytes: 1,
        files: 1,
        key_ids: vec!["k".repeat(62); 3],
        level: None,
        verified_at: None,
        suspect: false,
        destinations: vec!["volume".to_owned()],
    };
    message.backups = Some((0..10).rev().map(row).collect());
    let read: Message = serde_json::from_slice(&message.bytes()).unwrap();
    let left = read.backups.unwrap();
    assert!((5..10).contains(&left.len()), "{}", left.len());
    assert_eq!(left[0].name, name(9));
    assert_eq!(read.text.len(), MAX_MESSAGE);
}

#[test]
fn texts_are_cut_between_characters() {
    let mut text = "ä".repeat(200);
    cut(&mut text, 200);
    assert!(text.len() <= 200 && text.ends_with("ä…"), "{text}");
}
