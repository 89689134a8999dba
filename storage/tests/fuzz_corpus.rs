//! What the fuzz targets check, over the inputs that are kept: seeds, and whatever a fuzzer once found.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod builder;
#[path = "../fuzz/src/property/mod.rs"]
mod property;

use std::path::PathBuf;

fn inputs(target: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fuzz/corpus")
        .join(target);
    let mut inputs: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "seed"))
        .map(|path| (path.clone(), std::fs::read(path).unwrap()))
        .collect();
    inputs.sort();
    assert!(!inputs.is_empty(), "{} is empty", folder.display());
    inputs
}

/// The name says whether an input is accepted: else all could be refused at the door, and nobody would see it.
fn hold(target: &str, property: fn(&[u8]) -> bool) {
    for (path, input) in inputs(target) {
        // Where a property doesn't hold, the input's name is the last one that is shown.
        println!("{}", path.display());
        let is_good = path
            .file_name()
            .is_some_and(|name| name.as_encoded_bytes().starts_with(b"good_"));
        assert_eq!(property(&input), is_good, "{} is accepted", path.display());
    }
}

#[test]
fn manifests_hold_what_the_fuzzer_checks() {
    hold("manifest", property::manifest);
}

#[test]
fn archives_hold_what_the_fuzzer_checks() {
    hold("extract", property::extract);
}

#[test]
fn members_hold_what_the_fuzzer_checks() {
    hold("members", property::members);
}
