use super::*;
use crate::archive::meta::{Suspect, Verification};
use crate::catalog::Anomaly;
use crate::catalog::tests::{full, incremental, records};
use crate::known::{self, Known, Line};

const START: i64 = 1_754_000_000;

fn known(record: &Record) -> Attestation {
    let meta = record.meta.as_ref();
    meta.map_or(Attestation::Unattested, |meta| {
        Attestation::Known(meta.sha256)
    })
}

fn choose<'a>(records: &'a [Record], wanted: &Wanted) -> Result<Choice<'a>, SelectError> {
    select(records, wanted, &Scope::Any, &known, None)
}

fn metas() -> Vec<Meta> {
    (0..5).map(|index| full(START + index * 100)).collect()
}

#[test]
fn arguments_are_understood() {
    let name = metas()[0].name;
    let table = [
        ("latest".to_owned(), Wanted::Latest),
        ("latest-proven".to_owned(), Wanted::LatestProven),
        (name.to_string(), Wanted::Name(name)),
        (
            format!("./{name}"),
            Wanted::File(format!("./{name}").into()),
        ),
    ];
    for (text, expected) in table {
        assert_eq!(Wanted::parse(&text), expected, "{text}");
    }
    let volume = Uuid::from_u128(7);
    assert_eq!(
        Scope::parse(&volume.to_string()),
        Some(Scope::Volume(volume))
    );
    let predictor = Scope::parse("market/nvda").unwrap();
    assert_eq!(predictor.to_string(), "market/nvda");
    for text in ["", "nvda", "/nvda", "market/", "a/b/c"] {
        assert_eq!(Scope::parse(text), None, "{text}");
    }
}

#[test]
fn times_are_utc_unless_they_say_otherwise() {
    let table = [
        ("2025-08-01T12:00:00Z", "2025-08-01T12:00:00Z"),
        ("2025-08-01T12:00:00+02:00", "2025-08-01T10:00:00Z"),
        ("2025-08-01 12:00", "2025-08-01T12:00:00Z"),
        ("2025-08-01T12:00", "2025-08-01T12:00:00Z"),
        ("2025-08-01T12:00:30", "2025-08-01T12:00:30Z"),
        (" 2025-08-01 ", "2025-08-01T23:59:59.999999999Z"),
    ];
    for (text, expected) in table {
        assert_eq!(parse_time(text), Ok(expected.parse().unwrap()), "{text}");
    }
    for text in [
        "",
        "yesterday",
        "2025-13-01",
        "2025-08-01T12:00+",
        "12:00",
        "2025-08-01 25:00",
    ] {
        assert!(parse_time(text).is_err(), "{text}");
    }
}

#[test]
fn the_newest_that_nothing_speaks_against_is_chosen() {
    let mut metas = metas();
    let records = records(metas.clone());
    assert_eq!(
        choose(&records, &Wanted::Latest).unwrap().record,
        &records[0]
    );
    let at = |second: i64| Wanted::At(Timestamp::from_second(START + second).unwrap());
    for (second, expected) in [(400, 0), (399, 1), (300, 1), (0, 4), (9999, 0)] {
        let choice = choose(&records, &at(second)).unwrap();
        assert_eq!(choice.record, &records[expected], "{second}");
        assert_eq!(
            choice.expected,
            Some(records[expected].meta.as_ref().unwrap().sha256)
        );
    }
    assert!(matches!(
        choose(&records, &at(-1)),
        Err(SelectError::None { .. })
    ));
    // A suspect and a broken chain are passed over and told.
    metas[4].suspect = Some(Suspect {
        reasons: vec!["models are gone".to_owned()],
        accepted: false,
    });
    let absent = full(START - 9);
    metas[3] = incremental(START + 300, &absent);
    metas[1].verification = Some(Verification {
        level: Level::Proven,
        at: metas[1].created_at,
    });
    let records = crate::catalog::tests::records(metas.clone());
    let choice = choose(&records, &Wanted::Latest).unwrap();
    assert_eq!(choice.record.name, metas[2].name);
    let told: Vec<_> = choice
        .skipped
        .iter()
        .map(|(_, reason)| reason.as_str())
        .collect();
    assert!(
        told[0].contains("models are gone") && told[1].contains("broken"),
        "{told:?}"
    );
    let proven = choose(&records, &Wanted::LatestProven).unwrap();
    assert_eq!(proven.record.name, metas[1].name);
    // By name a suspect is taken, a broken chain isn't.
    assert!(choose(&records, &Wanted::Name(metas[4].name)).is_ok());
    let error = choose(&records, &Wanted::Name(metas[3].name)).unwrap_err();
    assert!(matches!(error, SelectError::Unusable { .. }), "{error}");
    let error = choose(&records, &Wanted::Name(absent.name)).unwrap_err();
    assert!(
        error.to_string().contains(&metas[4].name.to_string()),
        "{error}"
    );
}

#[test]
fn one_of_the_future_is_taken_by_its_name_only() {
    let metas = metas();
    let mut records = records(metas.clone());
    let name = metas[4].name;
    for record in records.iter_mut().filter(|record| record.name == name) {
        record.anomalies.push(Anomaly::Future);
    }
    let latest = choose(&records, &Wanted::Latest).unwrap();
    assert_ne!(latest.record.name, name);
    assert!(latest.skipped[0].1.contains("clock"), "{latest:?}");
    assert!(choose(&records, &Wanted::Name(name)).is_ok());
}

#[test]
fn an_incremental_one_comes_with_its_base() {
    let base = full(START);
    let records = records([base.clone(), incremental(START + 1, &base)]);
    let choice = choose(&records, &Wanted::Latest).unwrap();
    assert_eq!(choice.base.map(|record| record.name), Some(base.name));
}

#[test]
fn what_nobody_attested_needs_its_exact_name_or_its_sha256() {
    let metas = metas();
    let records = records(metas.clone());
    let nobody = |_: &Record| Attestation::Unattested;
    let take = |wanted: &Wanted, pinned| select(&records, wanted, &Scope::Any, &nobody, pinned);
    let error = take(&Wanted::Latest, None).unwrap_err();
    assert!(
        error.to_string().contains(&metas[4].name.to_string()),
        "{error}"
    );
    assert!(error.to_string().contains("--sha256"), "{error}");
    let named = take(&Wanted::Name(metas[2].name), None).unwrap();
    assert_eq!(named.expected, None);
    let pinned = take(&Wanted::Latest, Some(metas[1].sha256)).unwrap();
    assert_eq!(
        (pinned.record.name, pinned.expected),
        (metas[1].name, Some(metas[1].sha256))
    );
    // An attested older one is better than an unattested newer one.
    let third = |record: &Record| {
        if record.name == metas[2].name {
            known(record)
        } else {
            Attestation::Unattested
        }
    };
    let choice = select(&records, &Wanted::Latest, &Scope::Any, &third, None).unwrap();
    assert_eq!(choice.record.name, metas[2].name);
    assert_eq!(choice.skipped.len(), 2);
}

#[test]
fn what_was_exchanged_is_refused_however_it_is_asked_for() {
    let metas = metas();
    let records = records(metas.clone());
    let expected = Digest::of(b"what was written");
    let exchanged = |_: &Record| Attestation::Mismatch { expected };
    for pinned in [None, Some(metas[4].sha256)] {
        for wanted in [Wanted::Latest, Wanted::Name(metas[4].name)] {
            let result = select(&records, &wanted, &Scope::Any, &exchanged, pinned);
            assert!(result.is_err(), "{wanted}");
        }
    }
    let other_pin = select(
        &records,
        &Wanted::Name(metas[4].name),
        &Scope::Any,
        &known,
        Some(expected),
    );
    assert!(matches!(other_pin, Err(SelectError::Unusable { .. })));
}

#[test]
fn an_archive_without_a_usable_file_beside_it_is_told_and_held_to_what_was_written_under_its_name()
{
    let metas = metas();
    let mut records = records(metas.clone());
    records[0].meta = None;
    records[0]
        .anomalies
        .push(Anomaly::MetaMissing(metas[4].name.meta()));
    for wanted in [Wanted::Latest, Wanted::At(metas[4].created_at)] {
        let choice = choose(&records, &wanted).unwrap();
        assert_eq!(choice.record.name, metas[3].name);
        let (name, reason) = &choice.skipped[0];
        assert_eq!(*name, metas[4].name);
        assert!(reason.contains("is missing beside it"), "{reason}");
    }
    let before = choose(&records, &Wanted::At(metas[3].created_at)).unwrap();
    assert!(
        before.skipped.is_empty(),
        "it is newer than what is asked for"
    );
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("known.jsonl");
    let written = Line {
        id: metas[4].id,
        name: metas[4].name,
        sha256: Digest::of(b"what was written"),
    };
    known::append(&path, &written).unwrap();
    let known = Known::read(&path).unwrap();
    let attest = |record: &Record| known.attest_record(record);
    let named = Wanted::Name(metas[4].name);
    let choice = select(&records, &named, &Scope::Any, &attest, None).unwrap();
    assert_eq!(choice.expected, Some(written.sha256));
}

#[test]
fn origins_are_not_mixed() {
    let mut metas = metas();
    metas[4].origin.volume = Uuid::from_u128(8);
    metas[3].origin.namespace = "market".to_owned();
    metas[3].origin.predictor = "nvda".to_owned();
    metas[2].origin.backup = "a schedule of the same volume".to_owned();
    let records = records(metas.clone());
    let error = choose(&records, &Wanted::Latest).unwrap_err();
    assert!(error.to_string().contains("market/nvda"), "{error}");
    let table = [
        (Scope::Volume(Uuid::from_u128(8)), metas[4].name),
        (Scope::parse("market/nvda").unwrap(), metas[3].name),
    ];
    for (scope, name) in table {
        let choice = select(&records, &Wanted::Latest, &scope, &known, None).unwrap();
        assert_eq!(choice.record.name, name, "{scope}");
    }
    let same_volume = crate::catalog::tests::records(metas[..3].to_vec());
    assert!(choose(&same_volume, &Wanted::Latest).is_ok());
}
