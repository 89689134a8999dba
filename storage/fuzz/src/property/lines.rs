//! Bytes as lines of `manifest.jsonl`: parsed, written and parsed again, and listed by the reader of archives.

use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::manifest::{Entry, MAX_LINE};
use stockpredictor_storage::archive::path::{MAX_PATH, RelativePath};
use stockpredictor_storage::archive::reader::Archive;

use crate::builder::{Builder, Memory, NAME, Tar, header};

/// What a line says survives being written.
pub fn each_line_is_read_as_it_is_written(input: &[u8]) {
    for line in input.split_inclusive(|byte| *byte == b'\n') {
        let Ok(entry) = serde_json::from_slice::<Entry>(line) else {
            continue;
        };
        is_below_the_root(&entry.path);
        let written = serde_json::to_vec(&entry).unwrap();
        assert!(!written.contains(&b'\n'), "a line is one line");
        assert!(written.len() < MAX_LINE, "a line that is written is read");
        let again: Entry = serde_json::from_slice(&written).unwrap();
        assert_eq!(again, entry);
        assert_eq!(serde_json::to_vec(&again).unwrap(), written);
    }
}

/// Whatever the reader lets through is sorted, without duplicates, and may be in a backup. Says whether that was all.
pub fn an_archive_lists_them_in_order(input: &[u8]) -> bool {
    let mut builder = Builder::new(&header());
    builder.target = 4096;
    // Places must point before the manifest and behind backup.json, so there is something.
    builder.entry(&Tar::file("config/a", b"price"));
    builder.lines.push(input.to_vec());
    let bytes = builder.finish();
    let Ok(archive) = Archive::open(NAME, Box::new(Memory(bytes)), &[]) else {
        return false;
    };
    let mut last: Option<RelativePath> = None;
    let mut listed = 0;
    let result = archive.manifest(&mut |entry| {
        is_below_the_root(&entry.path);
        assert!(Category::of_top_level(entry.path.top_level()).is_some());
        let is_next = last
            .replace(entry.path.clone())
            .is_none_or(|last| last < entry.path);
        assert!(is_next, "{} comes too late", entry.path);
        listed += 1;
        Ok(())
    });
    let lines = input.split(|byte| *byte == b'\n').count() - 1;
    assert!(listed <= lines);
    if result.is_ok() {
        assert_eq!(listed, lines, "none is left out");
    }
    result.is_ok()
}

fn is_below_the_root(path: &RelativePath) {
    let bytes = path.as_bytes();
    assert!(!bytes.is_empty() && bytes.len() < MAX_PATH && !bytes.contains(&0));
    for name in path.components() {
        assert!(!matches!(name, b"" | b"." | b".."), "{path}");
    }
}
