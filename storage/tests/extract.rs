//! Good archives: everything in them comes out as it went in, whatever the number of threads.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod builder;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use builder::*;
use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::manifest::Time;
use stockpredictor_storage::archive::meta::Level;
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::chain::Chain;
use stockpredictor_storage::decrypt::Identity;
use stockpredictor_storage::progress::Silent;
use stockpredictor_storage::snapshot::{Extracted, Snapshot, SnapshotError};
use stockpredictor_storage::verify::{Prover, Report, Request, verify};
use uuid::Uuid;

/// Type, mode, time and content of everything below a directory.
fn look(root: &Path) -> BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in std::fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_dir() {
                pending.push(path.clone());
                Vec::new()
            } else if meta.is_symlink() {
                std::fs::read_link(&path)
                    .unwrap()
                    .as_os_str()
                    .as_bytes()
                    .to_vec()
            } else {
                std::fs::read(&path).unwrap()
            };
            let relative = path.strip_prefix(root).unwrap().to_owned();
            found.insert(
                relative,
                (meta.mode(), meta.mtime(), meta.mtime_nsec(), content),
            );
        }
    }
    found
}

fn extract(
    shelf: &Shelf,
    name: &str,
    threads: usize,
    wanted: &(dyn Fn(&[u8]) -> bool + Sync),
) -> Result<(tempfile::TempDir, Extracted), SnapshotError> {
    let target = tempfile::tempdir().unwrap();
    let chain = Chain::open(shelf, name, &[], None)?.with_threads(threads);
    let done = chain.extract(&|path| wanted(path.as_bytes()), target.path(), &Silent)?;
    Ok((target, done))
}

fn check(shelf: &Shelf, name: &str, level: Level) -> Report {
    let request = Request {
        level,
        identities: &[],
        known: None,
        prover: None,
        progress: &Silent,
    };
    verify(shelf, name, &request).unwrap()
}

#[test]
fn everything_comes_out_as_it_went_in() {
    let mut builder = small();
    let large = noise(1_000_000, 3);
    let mut odd = Tar::file("scalers/odd", &large);
    odd.mtime = Time {
        seconds: -2,
        nanoseconds: 5,
    };
    odd.mode = 0o4711;
    builder.add(&Tar::directory("scalers"));
    builder.add(&odd);
    let long = format!("scalers/{}/{}", "x".repeat(200), "y".repeat(250));
    builder.add(&Tar::directory(format!("scalers/{}", "x".repeat(200))));
    builder.add(&Tar::file(&long, b"long"));
    let shelf = Shelf::with(NAME, builder.finish());
    for threads in [1, 3] {
        let (target, done) = extract(&shelf, NAME, threads, &|_| true).unwrap();
        assert_eq!((done.files, done.bytes), (6, 1_003_015));
        let found = look(target.path());
        assert_eq!(found.len(), 12);
        let time = (TIME.seconds, i64::from(TIME.nanoseconds));
        let expect = |name: &[u8], mode, time: (i64, i64), content: &[u8]| {
            let path = Path::new(std::ffi::OsStr::from_bytes(name));
            let entry = (mode, time.0, time.1, content.to_vec());
            assert_eq!(found.get(path), Some(&entry), "{path:?}");
        };
        expect(b"config", 0o40755, time, b"");
        expect(b"config/empty", 0o40755, time, b"");
        expect(b"config/a.json", 0o100_644, time, b"{\"a\": 1}");
        expect(b"config/link", 0o120_777, time, b"../../outside");
        expect(b"ml_models/\xff\xfe", 0o100_644, time, b"any");
        expect(b"ml_models/nothing", 0o100_644, time, b"");
        expect(b"scalers/odd", 0o100_711, (-2, 5), &large);
        expect(long.as_bytes(), 0o100_644, time, b"long");
    }
    let report = check(&shelf, NAME, Level::Readable);
    assert!(report.is_good(Level::Readable), "{report:?}");
    assert_eq!((report.files, report.bytes), (6, 1_003_015));
    assert!(report.notes[0].contains("is missing"), "{report:?}");
}

#[test]
fn only_what_is_wanted_comes_out() {
    let mut builder = small();
    let large = noise(700_000, 3);
    builder.add(&Tar::directory("stock_data"));
    builder.add(&Tar::file("stock_data/large", &large));
    builder.add(&Tar::file("stock_data/other", b"other"));
    let shelf = Shelf::with(NAME, builder.finish());
    for threads in [1, 3] {
        let (target, done) =
            extract(&shelf, NAME, threads, &|path| path == b"stock_data/large").unwrap();
        assert_eq!((done.files, done.bytes), (1, 700_000));
        let found = look(target.path());
        assert_eq!(found.len(), 2);
        assert!(found[Path::new("stock_data/large")].3 == large);
        assert_eq!(found[Path::new("stock_data")].1, TIME.seconds);
        let (target, _) = extract(&shelf, NAME, threads, &|path| path == b"config/link").unwrap();
        assert_eq!(look(target.path()).len(), 2);
    }
}
