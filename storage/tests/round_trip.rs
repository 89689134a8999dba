//! What a backup wrote, a restore reads: the same tree, full, incremental and encrypted.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use stockpredictor_storage::archive::header::{Kind, Origin};
use stockpredictor_storage::archive::meta::Level;
use stockpredictor_storage::backup::{self, Request};
use stockpredictor_storage::chain::Chain;
use stockpredictor_storage::decrypt::Identity;
use stockpredictor_storage::destination::Destination;
use stockpredictor_storage::destination::folder::Folder;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::progress::Silent;
use stockpredictor_storage::snapshot::Snapshot;
use stockpredictor_storage::verify::{self, verify};
use uuid::Uuid;

type Look = BTreeMap<PathBuf, (u32, i64, i64, Vec<u8>)>;

/// Type, mode, time and content of everything that a backup holds.
fn look(root: &Path) -> Look {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let relative = path.strip_prefix(root).unwrap().to_owned();
            if relative == Path::new("backups") || relative == Path::new(".stockpredictor") {
                continue;
            }
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_dir() {
                pending.push(path.clone());
                Vec::new()
            } else if meta.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .as_os_str()
                    .as_bytes()
                    .to_vec()
            } else {
                fs::read(&path).unwrap()
            };
            found.insert(
                relative,
                (meta.mode(), meta.mtime(), meta.mtime_nsec(), content),
            );
        }
    }
    found
}

fn volume() -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let at = |path: &str| root.path().join(path);
    for directory in [
        ".stockpredictor",
        "backups",
        "config",
        "scalers/empty",
        "ml_models/a/1",
        "stock_data/historical/NVDA",
        "logs",
    ] {
        fs::create_dir_all(at(directory)).unwrap();
    }
    for index in 0..2000 {
        let name = format!("stock_data/historical/NVDA/{index:04}.csv");
        fs::write(
            at(&name),
            format!("date,open\n{index},1\n").repeat(index % 50),
        )
        .unwrap();
    }
    let large: Vec<u8> = (0..4_000_000_u64)
        .map(|at| (at * at / 7 % 251) as u8)
        .collect();
    fs::write(at("ml_models/a/1/model.onnx"), large).unwrap();
    let sparse = File::create(at("ml_models/a/1/sparse")).unwrap();
    sparse.set_len(20 << 20).unwrap();
    sparse.write_all_at(b"here", 17 << 20).unwrap();
    fs::write(at("config/odd name\n").as_os_str(), "odd").unwrap();
    fs::write(
        root.path().join(OsStr::from_bytes(b"config/\xff\xfe")),
        "any",
    )
    .unwrap();
    fs::write(at(&format!("config/{}", "l".repeat(255))), "long").unwrap();
    symlink("../outside", at("config/link")).unwrap();
    symlink("x".repeat(300), at("config/long-link")).unwrap();
    // In JSON each of these characters takes six.
    let deep = at(&format!("config/{}", ["\u{1}"; 250].concat())).join(["\u{2}"; 250].concat());
    fs::create_dir_all(&deep).unwrap();
    symlink("\u{3}".repeat(4000), deep.join("link")).unwrap();
    fs::write(at("notes.txt"), "not ours").unwrap();
    fs::write(at("logs/api.log"), "line\n").unwrap();
    fs::set_permissions(
        at("config/link").parent().unwrap(),
        Permissions::from_mode(0o750),
    )
    .unwrap();
    let old = File::open(at("notes.txt")).unwrap();
    old.set_modified(SystemTime::UNIX_EPOCH - Duration::from_nanos(1_500_000_001))
        .unwrap();
    root
}

fn restore(
    destination: &dyn Destination,
    name: &str,
    keys: &[Identity],
    threads: usize,
) -> (tempfile::TempDir, Look) {
    let target = tempfile::tempdir().unwrap();
    let chain = Chain::open(destination, name, keys, None)
        .unwrap()
        .with_threads(threads);
    chain.extract(&|_| true, target.path(), &Silent).unwrap();
    let found = look(target.path());
    (target, found)
}

fn same(found: &Look, expected: &Look) {
    let names = |look: &Look| look.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (path, entry) in expected {
        assert!(found.get(path) == Some(entry), "{}", path.display());
    }
}

#[test]
fn a_volume_survives_backup_and_restore() {
    for is_encrypted in [false, true] {
        let root = volume();
        let store = tempfile::tempdir().unwrap();
        let origin = Origin::manual(Uuid::new_v4());
        let mut now = jiff::Timestamp::now();
        let identity = age::x25519::Identity::generate();
        let key: Identity = {
            use age::secrecy::ExposeSecret as _;
            identity.to_string().expose_secret().parse().unwrap()
        };
        let keys = [key];
        let back_up = |mode, now| {
            let mut request = Request::new(Layout::new(root.path()), origin.clone(), now);
            request.mode = mode;
            if is_encrypted {
                request.recipients = vec![identity.to_public().to_string()];
            }
            let folders: Vec<Box<dyn Destination>> =
                vec![Box::new(Folder::create(store.path()).unwrap())];
            backup::run(&request, &folders, &Silent).unwrap()
        };
        let destination = Folder::open(store.path()).unwrap();
        let good = |name: &str| {
            let request = verify::Request {
                level: Level::Readable,
                identities: &keys,
                known: None,
                prover: None,
                progress: &Silent,
            };
            let report = verify(&destination, name, &request).unwrap();
            assert!(report.is_good(Level::Readable), "{report:?}");
            assert_eq!(report.notes, Vec::<String>::new());
        };
        let before = look(root.path());
        let full = back_up(Kind::Full, now);
        assert_eq!(full.kind, Kind::Full);
        good(&full.name.to_string());
        for threads in [1, 3] {
            let (target, found) = restore(&destination, &full.name.to_string(), &keys, threads);
            same(&found, &before);
            let sparse = target
                .path()
                .join("ml_models/a/1/sparse")
                .metadata()
                .unwrap();
            assert!(sparse.blocks() * 512 < 1 << 20);
        }
        fs::remove_dir_all(root.path().join("scalers")).unwrap();
        fs::remove_file(root.path().join("config/link")).unwrap();
        fs::create_dir(root.path().join("config/link")).unwrap();
        fs::write(root.path().join("config/link/new"), "new").unwrap();
        fs::write(
            root.path().join("stock_data/historical/NVDA/0007.csv"),
            "changed",
        )
        .unwrap();
        now = now
            .checked_add(jiff::SignedDuration::from_secs(60))
            .unwrap();
        let changed = look(root.path());
        let later = back_up(Kind::Incremental, now);
        assert_eq!(later.kind, Kind::Incremental, "{:?}", later.why_full);
        good(&later.name.to_string());
        let (_target, found) = restore(&destination, &later.name.to_string(), &keys, 2);
        same(&found, &changed);
    }
}
