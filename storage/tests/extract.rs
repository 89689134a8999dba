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

/// A full archive and an incremental one on it.
fn chain(shelf: &Shelf) -> Vec<u8> {
    let full = small().finish();
    let header = header_on(Uuid::from_u128(1), Digest::of(&full));
    let mut builder = Builder::new(&header);
    builder.add(&Tar::file("config/a.json", b"{\"a\": 2}"));
    builder.deleted("config/empty");
    builder.add(&Tar::file("config/new", b"new"));
    builder.deleted("ml_models/model.onnx");
    builder.add(&Tar::directory("ml_models/model.onnx-2"));
    builder.add(&Tar::file("ml_models/model.onnx-2/a", &noise(200_000, 4)));
    let bytes = builder.finish();
    shelf.put(NAME, full);
    shelf.put(LATER, bytes.clone());
    bytes
}

#[test]
fn an_incremental_backup_is_merged_with_its_base() {
    let shelf = Shelf::default();
    chain(&shelf);
    for threads in [1, 3] {
        let (target, done) = extract(&shelf, LATER, threads, &|_| true).unwrap();
        assert_eq!((done.files, done.bytes), (5, 200_014));
        let found = look(target.path());
        let names: Vec<_> = found.keys().map(|path| path.to_string_lossy()).collect();
        assert_eq!(
            names,
            [
                "config",
                "config/a.json",
                "config/link",
                "config/new",
                "ml_models",
                "ml_models/model.onnx-2",
                "ml_models/model.onnx-2/a",
                "ml_models/nothing",
                "ml_models/\u{fffd}\u{fffd}",
            ]
        );
        assert_eq!(found[Path::new("config/a.json")].3, b"{\"a\": 2}");
        assert_eq!(found[Path::new("config")].1, TIME.seconds);
        let (target, _) =
            extract(&shelf, LATER, threads, &|path| path == b"ml_models/nothing").unwrap();
        assert_eq!(look(target.path()).len(), 2);
    }
    let report = check(&shelf, LATER, Level::Readable);
    assert!(report.is_good(Level::Readable), "{report:?}");
    assert_eq!((report.files, report.bytes), (7, 203_022));
}

#[test]
fn a_chain_without_its_own_base_is_refused() {
    let shelf = Shelf::default();
    chain(&shelf);
    let refused = |shelf: &Shelf, part: &str| {
        let error = extract(shelf, LATER, 2, &|_| true).unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
        let report = check(shelf, LATER, Level::Readable);
        assert_eq!(report.level, None);
        assert!(report.problems[0].to_string().contains(part), "{report:?}");
    };
    // The same files with another id, then with the same id and other bytes, then none.
    let mut other = header();
    other.id = Uuid::from_u128(9);
    shelf.put(NAME, Builder::new(&other).finish());
    refused(&shelf, "another backup");
    let mut builder = small();
    builder.add(&Tar::directory("scalers"));
    shelf.put(NAME, builder.finish());
    refused(&shelf, "SHA-256");
    shelf.0.lock().unwrap().remove(NAME);
    refused(&shelf, "isn't at a shelf");
}

#[test]
fn an_encrypted_archive_opens_with_its_key_only() {
    let (sealed, key) = encrypted(&small().finish());
    let name = ArchiveName::at(header().created_at, true).to_string();
    let shelf = Shelf::with(&name, sealed.clone());
    shelf.put(
        "stock_prediction_backup_20250801_120000.meta.json",
        meta(&name, &header(), &sealed),
    );
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.txt");
    std::fs::write(&file, format!("# created\n# public key: age1\n\n{key}\n")).unwrap();
    let right = Identity::read_file(&file).unwrap();
    let wrong = [encrypted(b"").1.parse::<Identity>().unwrap()];
    for identities in [&[][..], &wrong[..]] {
        let error = Chain::open(&shelf, &name, identities, None).unwrap_err();
        assert!(matches!(error, SnapshotError::Locked { .. }), "{error}");
        assert!(error.to_string().contains("--identity FILE"), "{error}");
    }
    for threads in [1, 3] {
        let chain = Chain::open(&shelf, &name, &right, Some(Digest::of(&sealed)))
            .unwrap()
            .with_threads(threads);
        let target = tempfile::tempdir().unwrap();
        let done = chain.extract(&|_| true, target.path(), &Silent).unwrap();
        assert_eq!(done.files, 4);
        let target = tempfile::tempdir().unwrap();
        let one = |path: &stockpredictor_storage::archive::path::RelativePath| {
            path.as_bytes() == b"config/a.json"
        };
        let done = chain.extract(&one, target.path(), &Silent).unwrap();
        assert_eq!(done.files, 1);
    }
    let request = |level, identities| Request {
        level,
        identities,
        known: Some(Digest::of(&sealed)),
        prover: None,
        progress: &Silent,
    };
    let report = verify(&shelf, &name, &request(Level::Stored, &[])).unwrap();
    assert!(
        report.is_good(Level::Stored) && report.is_attested,
        "{report:?}"
    );
    let report = verify(&shelf, &name, &request(Level::Readable, &right)).unwrap();
    assert!(report.is_good(Level::Readable), "{report:?}");
    assert_eq!(report.sha256, Some(Digest::of(&sealed)));
    let error = verify(&shelf, &name, &request(Level::Readable, &wrong)).unwrap_err();
    assert!(matches!(error, SnapshotError::Locked { .. }), "{error}");
}

#[test]
fn files_without_an_identity_say_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key.txt");
    for content in ["", "# nothing\n", "age1xyz\n"] {
        std::fs::write(&file, content).unwrap();
        let error = Identity::read_file(&file).unwrap_err().to_string();
        assert!(
            error.contains("key.txt") && error.contains("AGE-SECRET-KEY"),
            "{error}"
        );
    }
    assert!(Identity::read_file(&folder.path().join("none")).is_err());
}

#[test]
fn an_archive_that_was_swapped_is_refused() {
    let shelf = Shelf::default();
    chain(&shelf);
    let expected = Digest::of(b"another");
    for wanted in ["", "config/a.json"] {
        let chain = Chain::open(&shelf, NAME, &[], Some(expected)).unwrap();
        let target = tempfile::tempdir().unwrap();
        let wanted = |path: &stockpredictor_storage::archive::path::RelativePath| {
            wanted.is_empty() || path.as_bytes() == wanted.as_bytes()
        };
        let error = chain.extract(&wanted, target.path(), &Silent).unwrap_err();
        assert!(matches!(error, SnapshotError::Mismatch { .. }), "{error}");
    }
    // A pinned incremental pins its base too, even when one file is wanted that the base doesn't have.
    let later = shelf.0.lock().unwrap()[LATER].clone();
    let mut builder = small();
    builder.add(&Tar::directory("scalers"));
    shelf.put(NAME, builder.finish());
    let chain = Chain::open(&shelf, LATER, &[], Some(Digest::of(&later))).unwrap();
    let target = tempfile::tempdir().unwrap();
    let new = |path: &stockpredictor_storage::archive::path::RelativePath| {
        path.as_bytes() == b"config/new"
    };
    let error = chain.extract(&new, target.path(), &Silent).unwrap_err();
    assert!(matches!(error, SnapshotError::Mismatch { .. }), "{error}");
}

#[test]
fn attempts_that_were_stored_again_are_skipped() {
    let mut builder = Builder::new(&header());
    builder.add(&Tar::directory("logs"));
    builder.entry(&Tar::file("logs/a", b"first"));
    builder.add(&Tar::file("logs/a", b"second"));
    builder.entry(&Tar::file("logs/b", &noise(300_000, 1)));
    builder.add(&Tar::file("logs/b", &noise(300_001, 2)));
    // One that is stored again after others.
    builder.entry(&Tar::file("logs/c", b"early"));
    let late = builder.lines.len();
    builder.add(&Tar::file("logs/d", b"d"));
    builder.add(&Tar::file("logs/c", b"late"));
    let line = builder.lines.pop().unwrap();
    builder.lines.insert(late, line);
    let shelf = Shelf::with(NAME, builder.finish());
    for threads in [1, 3] {
        let (target, done) = extract(&shelf, NAME, threads, &|_| true).unwrap();
        assert_eq!(done.files, 4);
        let read = |name: &str| std::fs::read(target.path().join(name)).unwrap();
        assert_eq!(
            (read("logs/a"), read("logs/c")),
            (b"second".to_vec(), b"late".to_vec())
        );
        assert_eq!(read("logs/b").len(), 300_001);
        let (target, _) = extract(&shelf, NAME, threads, &|path| path == b"logs/c").unwrap();
        assert_eq!(
            std::fs::read(target.path().join("logs/c")).unwrap(),
            b"late"
        );
    }
    assert!(check(&shelf, NAME, Level::Readable).is_good(Level::Readable));
}

#[test]
fn a_manifest_of_many_members_is_read_in_pieces() {
    let mut builder = Builder::new(&header());
    builder.add(&Tar::directory("stock_data"));
    for index in 0..3000 {
        builder.add(&Tar::file(
            format!("stock_data/{index:05}"),
            format!("{index}").as_bytes(),
        ));
    }
    let shelf = Shelf::with(NAME, builder.finish());
    let (target, done) = extract(&shelf, NAME, 2, &|_| true).unwrap();
    assert_eq!(
        (
            done.files,
            std::fs::read(target.path().join("stock_data/02999")).unwrap()
        ),
        (3000, b"2999".to_vec())
    );
    let (_, done) = extract(&shelf, NAME, 2, &|path| path.ends_with(b"7")).unwrap();
    assert_eq!(done.files, 300);
}

#[test]
fn a_sparse_file_stays_sparse() {
    let mut data = vec![0; 8 << 20];
    data[3 << 20] = 1;
    let mut builder = Builder::new(&header());
    builder.target = 1 << 20;
    builder.add(&Tar::directory("ml_cache"));
    builder.add(&Tar::file("ml_cache/sparse", &data));
    let shelf = Shelf::with(NAME, builder.finish());
    for threads in [1, 3] {
        let (target, _) = extract(&shelf, NAME, threads, &|_| true).unwrap();
        let file = target.path().join("ml_cache/sparse");
        assert!(std::fs::read(&file).unwrap() == data);
        assert!(file.metadata().unwrap().blocks() * 512 <= 64 << 10);
    }
}

#[test]
fn verify_names_each_file_that_is_wrong() {
    let mut builder = Builder::new(&header());
    builder.target = 2048;
    builder.add(&Tar::directory("config"));
    for name in ["config/a", "config/b", "config/c"] {
        builder.flush();
        builder.add(&Tar::file(name, &noise(900, 5)));
    }
    let large = builder.add(&Tar::file("config/d", &noise(9000, 6)));
    let place = builder.add(&Tar::file("config/e", b"e"));
    assert_eq!(place.skip, 0);
    let good = builder.finish();
    let member = u32::from_le_bytes(good[16..20].try_into().unwrap()) as usize;
    let named = |at: usize| {
        let mut damaged = good.clone();
        damaged[at] ^= 16;
        let report = check(&Shelf::with(NAME, damaged), NAME, Level::Readable);
        assert_eq!(report.level, None);
        let all: Vec<String> = report.problems.iter().map(ToString::to_string).collect();
        all.join("\n")
    };
    let data = named(place.member as usize + 40);
    assert!(
        data.contains("config/e") && !data.contains("config/a"),
        "{data}"
    );
    let header = named(place.member as usize);
    assert!(
        header.contains("config/e") && !header.contains("config/a"),
        "{header}"
    );
    let part = named(large.member as usize + 1500);
    assert!(
        part.contains("config/d") && !part.contains("config/e"),
        "{part}"
    );
    assert!(named(member + 40).contains("config"));
}

struct Says(Result<(), String>);

impl Prover for Says {
    fn prove(&self, root: &Path) -> Result<(), String> {
        assert!(root.join("ml_models/model.onnx").exists());
        self.0.clone()
    }
}

#[test]
fn proven_asks_after_everything_was_restored() {
    let shelf = Shelf::with(NAME, small().finish());
    for (says, level) in [
        (Ok(()), Level::Proven),
        (Err("the model is silent".to_owned()), Level::Readable),
    ] {
        let scratch = tempfile::tempdir().unwrap();
        let prover = Says(says);
        let request = Request {
            level: Level::Proven,
            identities: &[],
            known: None,
            prover: Some((scratch.path(), &prover)),
            progress: &Silent,
        };
        let report = verify(&shelf, NAME, &request).unwrap();
        assert_eq!(report.level, Some(level), "{report:?}");
    }
}

#[test]
fn a_newer_format_and_a_missing_archive_are_said() {
    let mut newer = header();
    newer.format = 2;
    let shelf = Shelf::with(NAME, Builder::new(&newer).finish());
    let error = Chain::open(&shelf, NAME, &[], None).unwrap_err();
    assert!(
        matches!(error, SnapshotError::Newer { found: 2, .. }),
        "{error}"
    );
    let error = Chain::open(&shelf, LATER, &[], None).unwrap_err();
    assert!(error.to_string().contains("no such backup"), "{error}");
}
