//! Tests of whole backups, on real directories.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;

use super::request::DAY;
use super::*;
use crate::archive::digest::Digest;
use crate::archive::header::Origin;
use crate::archive::manifest::Content;
use crate::archive::member::{MemberHeader, TRAILER_LENGTH, Trailer, Unpacker};
use crate::archive::path::RelativePath;
use crate::destination::folder::Folder;
use crate::destination::{DestinationError, Item as Stored, ReadAt, Upload};
use crate::layout::Layout;
use crate::progress::Silent;
use crate::walk::ItemKind;

/// A volume with a folder as destination, both in temp directories.
struct Bench {
    root: tempfile::TempDir,
    store: tempfile::TempDir,
    request: Request,
}

impl Bench {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(".stockpredictor")).unwrap();
        let layout = Layout::new(root.path());
        let mut request = Request::new(layout, Origin::manual(Uuid::new_v4()), Timestamp::now());
        request.patience = Duration::from_millis(300);
        Self {
            root,
            store: tempfile::tempdir().unwrap(),
            request,
        }
    }

    fn write(&self, path: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    fn destinations(&self) -> Vec<Box<dyn Destination>> {
        vec![Box::new(Folder::create(self.store.path()).unwrap())]
    }

    fn run(&mut self) -> Report {
        self.run_with(None)
    }

    fn run_with(&mut self, hook: Option<&Hook<'_>>) -> Report {
        // The kernel's clock goes on, so that no file looks as if it changed just now.
        thread::sleep(Duration::from_millis(30));
        let report = run_hooked(&self.request, &self.destinations(), &Silent, hook).unwrap();
        self.request.now = report.name.next().time();
        report
    }

    fn archive(&self, report: &Report) -> PathBuf {
        self.store.path().join(report.name.to_string())
    }

    fn manifest(&self, report: &Report) -> Vec<Entry> {
        manifest(&fs::read(self.archive(report)).unwrap())
    }

    fn paths(&self, report: &Report) -> Vec<String> {
        let paths = self.manifest(report).into_iter().map(|entry| {
            let is_deleted = entry.content == Content::Deleted;
            format!("{}{}", if is_deleted { "-" } else { "" }, entry.path)
        });
        paths.collect()
    }

    fn content(&self, report: &Report, path: &str) -> Vec<u8> {
        let archive = fs::read(self.archive(report)).unwrap();
        let entries = manifest(&archive);
        let entry = entries
            .iter()
            .find(|entry| entry.path.as_bytes() == path.as_bytes());
        content(&archive, entry.unwrap())
    }
}

/// The uncompressed bytes from a member on.
fn raw_from(archive: &[u8], offset: u64) -> Vec<u8> {
    let mut rest = &archive[offset as usize..archive.len() - TRAILER_LENGTH];
    let (mut raw, mut all) = (Vec::new(), Vec::new());
    while !rest.is_empty() {
        let header = MemberHeader::read(rest).unwrap();
        if !all.is_empty() && !header.continues {
            break;
        }
        let (member, after) = rest.split_at(header.length as usize);
        Unpacker::default().unpack(member, &mut raw).unwrap();
        all.extend(&raw);
        rest = after;
    }
    all
}

/// What a tar reader finds at an entry's place.
fn content(archive: &[u8], entry: &Entry) -> Vec<u8> {
    let place = entry.content.place().unwrap();
    content_in(&raw_from(archive, place.member), entry)
}

fn content_in(raw: &[u8], entry: &Entry) -> Vec<u8> {
    let place = entry.content.place().unwrap();
    let mut tar = tar::Archive::new(&raw[place.skip as usize..]);
    let mut found = tar.entries().unwrap().next().unwrap().unwrap();
    let path = found.path_bytes().into_owned();
    let path = path.strip_suffix(b"/").unwrap_or(&path);
    assert_eq!(path, entry.path.as_bytes());
    let mut bytes = Vec::new();
    io::Read::read_to_end(&mut found, &mut bytes).unwrap();
    bytes
}

fn manifest(archive: &[u8]) -> Vec<Entry> {
    let (before, trailer) = archive.split_at(archive.len() - TRAILER_LENGTH);
    let trailer = Trailer::read(trailer).unwrap();
    assert_eq!(trailer.sha256, Digest::of(before));
    let raw = raw_from(archive, trailer.manifest.member);
    let mut tar = tar::Archive::new(&raw[..]);
    let mut found = tar.entries().unwrap().next().unwrap().unwrap();
    let mut text = String::new();
    io::Read::read_to_string(&mut found, &mut text).unwrap();
    assert_eq!(text.len() as u64, trailer.manifest_size);
    let entries: Vec<Entry> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(entries.is_sorted_by(|left, right| left.path < right.path));
    entries
}

/// Everything that a reader has to give back; directories' times are the last that a program sets.
fn tree(root: &Path) -> BTreeMap<RelativePath, (ItemKind, u32, Time, Option<Digest>)> {
    let items = Walk::new(root, &Category::ALL).unwrap().map(|found| {
        let Found::Item(item) = found else {
            panic!("{found:?}")
        };
        let digest = (item.kind == ItemKind::File)
            .then(|| Digest::of(&fs::read(root.join(item.path.as_path())).unwrap()));
        let attributes = item.attributes;
        (
            item.path,
            (item.kind, attributes.mode, attributes.mtime, digest),
        )
    });
    let own = [HEADER_PATH, crate::archive::manifest::MANIFEST_PATH];
    items
        .filter(|(path, _)| own.iter().all(|own| path.as_bytes() != own.as_bytes()))
        .collect()
}

/// A tree with whatever is hard.
fn hard_tree(bench: &Bench) {
    let name = |bytes: &[u8]| bench.root.path().join(OsStr::from_bytes(bytes));
    for directory in ["config/empty", "stock_data/historical/NVDA", "scalers"] {
        fs::create_dir_all(name(directory.as_bytes())).unwrap();
    }
    bench.write("config/é ü.json", "{}");
    bench.write("config/new\nline", "x");
    bench.write("config/empty.json", "");
    fs::write(name(b"config/latin-\xe9\xff"), "bytes").unwrap();
    let long = format!(
        "other/{}/{}/{}",
        "a".repeat(120),
        "b".repeat(200),
        "c".repeat(255)
    );
    bench.write(&long, "deep");
    symlink("../config", name(b"scalers/link")).unwrap();
    symlink("x".repeat(300), name(b"scalers/long-link")).unwrap();
    symlink("/nowhere", name(b"dangling")).unwrap();
    let script = bench.write("backup_data.sh", "#!/bin/sh\n");
    fs::set_permissions(script, Permissions::from_mode(0o755)).unwrap();
    let secret = bench.write("config/secret", "s");
    fs::set_permissions(secret, Permissions::from_mode(0o600)).unwrap();
    for (index, size) in [0, 511, 512, 513, 300_000, 600_000, 3_000_000]
        .into_iter()
        .enumerate()
    {
        let bytes: Vec<u8> = (0..size).map(|at: usize| (at * at / 7) as u8).collect();
        bench.write(&format!("stock_data/historical/NVDA/{index}.csv"), bytes);
    }
    for index in 0..300 {
        bench.write(&format!("stock_data/cache/{index}"), vec![b'x'; 40 * index]);
    }
    let old = File::options()
        .write(true)
        .open(name(b"config/secret"))
        .unwrap();
    let before = SystemTime::UNIX_EPOCH - Duration::new(5, 123_456_789);
    old.set_modified(before).unwrap();
    let sparse = File::create(name(b"sparse")).unwrap();
    sparse.set_len(9 << 20).unwrap();
    sparse.write_all_at(b"middle", 5 << 20).unwrap();
}

fn unpacked(program: &str, archive: &Path) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(program)
        .args(["-xpzf"])
        .arg(archive)
        .arg("-C")
        .arg(folder.path())
        .env("LC_ALL", "C.UTF-8")
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    folder
}

#[test]
fn tar_and_bsdtar_unpack_a_full_backup_to_the_same_tree() {
    let mut bench = Bench::new();
    hard_tree(&bench);
    let report = bench.run();
    assert_eq!(report.warnings, []);
    let expected = tree(bench.root.path());
    let archive = bench.archive(&report);
    for program in ["tar", "bsdtar"] {
        let found = tree(unpacked(program, &archive).path());
        for (path, entry) in &expected {
            // libarchive adds the fraction of a time before 1970, POSIX has it subtracted.
            if program == "bsdtar" && path.as_bytes() == b"config/secret" {
                continue;
            }
            assert_eq!(found.get(path), Some(entry), "{program}: {path}");
        }
        assert_eq!(found.len(), expected.len(), "{program}");
    }
    let test = Command::new("gzip").arg("-t").arg(&archive).status();
    assert!(test.unwrap().success());
    let bytes = fs::read(&archive).unwrap();
    assert_eq!(report.sha256, Digest::of(&bytes));
    assert_eq!(report.archive_bytes, bytes.len() as u64);
}

#[test]
fn every_line_of_the_manifest_points_to_its_entry() {
    let mut bench = Bench::new();
    hard_tree(&bench);
    let report = bench.run();
    let archive = fs::read(bench.archive(&report)).unwrap();
    let entries = manifest(&archive);
    assert_eq!(entries.len(), tree(bench.root.path()).len());
    let mut raws = BTreeMap::new();
    for entry in &entries {
        let member = entry.content.place().unwrap().member;
        let raw = raws
            .entry(member)
            .or_insert_with(|| raw_from(&archive, member));
        let bytes = content_in(raw, entry);
        if let Content::File { size, sha256, .. } = &entry.content {
            assert_eq!((*size, *sha256), (bytes.len() as u64, Digest::of(&bytes)));
        }
    }
    let files = |entry: &&Entry| matches!(entry.content, Content::File { .. });
    assert_eq!(report.files, entries.iter().filter(files).count() as u64);
}

#[test]
fn one_thread_and_several_write_the_same_manifest() {
    let mut bench = Bench::new();
    hard_tree(&bench);
    let mut manifests = Vec::new();
    for threads in [1, 2, 5] {
        bench.request.threads = threads;
        let report = bench.run();
        manifests.push(bench.manifest(&report));
    }
    // The header has an id and a time of its own, so later members may lie some bytes elsewhere.
    let shift = |entries: &Vec<Entry>| {
        let places = entries.iter().filter_map(|entry| entry.content.place());
        let first = places.map(|place| place.member).min().unwrap();
        let shifted = entries.iter().cloned().map(move |mut entry| {
            match &mut entry.content {
                Content::File { place, .. }
                | Content::Directory { place, .. }
                | Content::Symlink { place, .. } => place.member -= first,
                Content::Deleted => {}
            }
            entry
        });
        shifted.collect::<Vec<_>>()
    };
    assert_eq!(shift(&manifests[0]), shift(&manifests[1]));
    assert_eq!(shift(&manifests[0]), shift(&manifests[2]));
}

#[test]
fn an_incremental_backup_has_what_changed_and_what_is_gone() {
    let mut bench = Bench::new();
    for name in ["same", "grown", "gone", "chmod", "moved"] {
        bench.write(&format!("config/{name}"), name);
    }
    bench.write("config/folder/a", "a");
    bench.write("config/folder/b", "b");
    bench.write("config/kind", "was a file");
    let full = bench.run();
    assert_eq!((full.kind, full.why_full.clone()), (Kind::Full, None));

    bench.request.mode = Kind::Incremental;
    let none = bench.run();
    assert_eq!(
        (none.kind, none.why_full.clone()),
        (Kind::Incremental, None)
    );
    assert_eq!((none.files, bench.paths(&none)), (0, vec![]));
    assert_eq!(none.totals, full.totals);
    let base = none.base.clone().unwrap();
    assert_eq!(
        (base.id, base.name, base.sha256),
        (full.id, full.name, full.sha256)
    );

    bench.write("config/grown", "grown larger");
    bench.write("config/new/x", "new");
    let root = bench.root.path().to_owned();
    fs::remove_file(root.join("config/gone")).unwrap();
    fs::remove_dir_all(root.join("config/folder")).unwrap();
    fs::remove_file(root.join("config/kind")).unwrap();
    fs::create_dir(root.join("config/kind")).unwrap();
    fs::set_permissions(root.join("config/chmod"), Permissions::from_mode(0o600)).unwrap();
    // The same bytes and times in another inode: looked into, and kept.
    let moved = root.join("config/moved");
    let modified = fs::metadata(&moved).unwrap().modified().unwrap();
    fs::remove_file(&moved).unwrap();
    fs::write(&moved, "moved").unwrap();
    File::options()
        .write(true)
        .open(&moved)
        .unwrap()
        .set_modified(modified)
        .unwrap();
    let changed = bench.run();
    assert_eq!(
        bench.paths(&changed),
        [
            "config",
            "config/chmod",
            "-config/folder",
            "-config/folder/a",
            "-config/folder/b",
            "-config/gone",
            "config/grown",
            "config/kind",
            "config/new",
            "config/new/x"
        ]
    );
    assert_eq!(changed.files, 3);
    assert_eq!(bench.content(&changed, "config/grown"), b"grown larger");
    assert_eq!(changed.totals[&Category::Config].files, 5);
}

#[test]
fn what_kubelet_does_for_an_fsgroup_stores_nothing_again() {
    let mut bench = Bench::new();
    bench.write("config/a", "a");
    bench.write("stock_data/b", vec![7; 2 << 20]);
    for directory in ["config", "stock_data"] {
        let path = bench.root.path().join(directory);
        fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
    }
    bench.run();
    for (path, mode) in [
        ("config", 0o2775),
        ("stock_data", 0o2775),
        ("config/a", 0o664),
        ("stock_data/b", 0o664),
    ] {
        let path = bench.root.path().join(path);
        let _ = std::os::unix::fs::chown(&path, None, Some(2000));
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    bench.request.mode = Kind::Incremental;
    let report = bench.run();
    assert_eq!(report.kind, Kind::Incremental);
    assert_eq!(bench.paths(&report), Vec::<String>::new());
}

#[test]
fn without_a_base_that_serves_everywhere_the_run_is_full_and_says_why() {
    let mut bench = Bench::new();
    bench.write("config/a", "a");
    bench.write("logs/b", "b");
    bench.request.mode = Kind::Incremental;
    let why = |report: Report| {
        assert_eq!(report.kind, Kind::Full);
        report.why_full.unwrap()
    };
    assert!(why(bench.run()).contains("no full backup"));
    bench.request.include = vec![Category::Config];
    assert!(why(bench.run()).contains("other parts"));
    assert_eq!(bench.run().kind, Kind::Incremental);

    // Its archive is gone from the destination.
    let newest = |bench: &Bench| {
        let index = Index::open(&bench.request.layout).unwrap();
        let metas = index.metas(&bench.request.origin).unwrap();
        metas
            .into_iter()
            .find(|meta| meta.kind == Kind::Full)
            .unwrap()
    };
    let base = newest(&bench);
    fs::remove_file(bench.store.path().join(base.name.to_string())).unwrap();
    assert!(why(bench.run()).contains("not there"));
    // It is there, but the file beside it is another's.
    let base = newest(&bench);
    let path = bench.store.path().join(base.name.meta());
    let mut other = base.clone();
    other.id = Uuid::new_v4();
    fs::write(path, serde_json::to_vec(&other).unwrap()).unwrap();
    assert!(why(bench.run()).contains("another backup"));
    // The index is damaged in the middle, which shows only while it is read.
    let base = newest(&bench);
    let path = bench
        .root
        .path()
        .join(format!("backups/.index/{}.manifest.gz", base.id));
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, &bytes).unwrap();
    assert!(why(bench.run()).contains("damaged"));
    // It is cut off between two members.
    let base = newest(&bench);
    let path = bench
        .root
        .path()
        .join(format!("backups/.index/{}.manifest.gz", base.id));
    fs::write(path, "").unwrap();
    assert!(why(bench.run()).contains("cut off"));
    // Encrypted to someone, and the base isn't.
    let key = age::x25519::Identity::generate().to_public().to_string();
    bench.request.recipients = vec![key];
    assert!(why(bench.run()).contains("recipients"));
    assert_eq!(bench.run().kind, Kind::Incremental);
    assert_eq!(
        fs::read_dir(bench.store.path()).unwrap().count() % 2,
        1,
        "one archive was removed"
    );
}

#[test]
fn an_incremental_backup_is_based_on_the_newest_full_one_of_the_same_parts() {
    let mut bench = Bench::new();
    bench.write("config/a", "a");
    bench.write("logs/b", "b");
    let all = bench.run();
    bench.request.include = vec![Category::Config];
    let config = bench.run();
    bench.request.mode = Kind::Incremental;
    let parts = [
        (Category::ALL.to_vec(), Some(all.id)),
        (vec![Category::Config], Some(config.id)),
        // In the backup of everything, but that has more.
        (vec![Category::Logs], None),
        (vec![Category::Config, Category::Logs], None),
    ];
    for (number, (include, base)) in parts.into_iter().enumerate() {
        bench.write("config/new", number.to_string());
        bench.request.include = include;
        let made = bench.run();
        assert_eq!(made.base.map(|base| base.id), base, "{number}");
        assert_eq!(made.why_full.is_some(), base.is_none(), "{number}");
    }
}

#[test]
fn an_encrypted_backup_is_the_same_archive_behind_age() {
    let mut bench = Bench::new();
    bench.write("config/a", "secret");
    let identity = age::x25519::Identity::generate();
    bench.request.recipients = vec![identity.to_public().to_string()];
    let report = bench.run();
    assert!(report.name.to_string().ends_with(".tar.gz.age"));
    let bytes = fs::read(bench.archive(&report)).unwrap();
    assert_eq!(report.sha256, Digest::of(&bytes));
    let decryptor = age::Decryptor::new(&bytes[..]).unwrap();
    let mut opened = decryptor
        .decrypt(std::iter::once(&identity as &dyn age::Identity))
        .unwrap();
    let mut archive = Vec::new();
    io::Read::read_to_end(&mut opened, &mut archive).unwrap();
    let entries = manifest(&archive);
    assert_eq!(content(&archive, &entries[1]), b"secret");
    let meta = fs::read_to_string(bench.store.path().join(report.name.meta())).unwrap();
    assert!(meta.contains(&bench.request.recipients[0]) && !meta.contains("config/a"));
}

/// Appends to a file whenever it was read, so many times.
fn disturb<'f>(path: &'f Path, times: &'f AtomicUsize) -> impl Fn(&RelativePath) + Sync + 'f {
    move |read| {
        let is_it = path.ends_with(read.as_path());
        let count = |left: usize| left.checked_sub(1);
        if is_it
            && times
                .fetch_update(Ordering::SeqCst, Ordering::SeqCst, count)
                .is_ok()
        {
            let mut file = File::options().append(true).open(path).unwrap();
            file.write_all(b"more").unwrap();
        }
    }
}

#[test]
fn a_file_that_changes_while_it_is_read_is_read_again() {
    for (size, times, is_warned) in [
        (10, 2, false),
        (10, 9, true),
        (2 << 20, 3, false),
        (2 << 20, 9, true),
    ] {
        for threads in [1, 3] {
            let mut bench = Bench::new();
            bench.request.threads = threads;
            let live = bench.write("stock_data/live", vec![b'x'; size]);
            bench.write("stock_data/next", "next");
            let left = AtomicUsize::new(times);
            let report = bench.run_with(Some(&disturb(&live, &left)));
            assert_eq!(!report.warnings.is_empty(), is_warned, "{size} {times}");
            let stored = bench.content(&report, "stock_data/live");
            let reads = (times - left.load(Ordering::SeqCst)) - usize::from(is_warned);
            assert_eq!(stored.len(), size + 4 * reads, "{size} {times}");
            assert_eq!(bench.content(&report, "stock_data/next"), b"next");
            assert_eq!(report.files, 2);
            // tar alone takes the last entry of a path, which is the valid one.
            let folder = unpacked("tar", &bench.archive(&report));
            assert_eq!(
                fs::read(folder.path().join("stock_data/live")).unwrap(),
                stored
            );
        }
    }
}

#[test]
fn a_log_is_read_once_and_to_its_size_at_opening() {
    for size in [10, 2 << 20] {
        let mut bench = Bench::new();
        let live = bench.write("logs/api.log", vec![b'x'; size]);
        let left = AtomicUsize::new(9);
        let report = bench.run_with(Some(&disturb(&live, &left)));
        assert_eq!((report.warnings, left.load(Ordering::SeqCst)), (vec![], 8));
    }
}

#[test]
fn old_logs_are_left_out_and_are_not_taken_for_deleted() {
    let mut bench = Bench::new();
    let log = bench.write("logs/api.log", "old");
    bench.write("config/a", "a");
    bench.run();
    bench.request.mode = Kind::Incremental;
    bench.request.now = Timestamp::from_second(bench.request.now.as_second() + 30 * DAY).unwrap();
    let report = bench.run();
    assert_eq!(
        (report.kind, bench.paths(&report)),
        (Kind::Incremental, vec![])
    );
    bench.request.mode = Kind::Full;
    let report = bench.run();
    assert_eq!(bench.paths(&report), ["config", "config/a", "logs"]);
    fs::remove_file(log).unwrap();
}

#[test]
fn a_model_that_is_switched_while_it_is_read_is_stored_whole() {
    for (size, rounds, is_warned) in [(100, 1, false), (700_000, 1, false), (100, 99, true)] {
        let mut bench = Bench::new();
        let folder = bench.root.path().join("ml_models/nvda/1");
        fs::create_dir_all(&folder).unwrap();
        let install = |round: usize| {
            let model = vec![round as u8; size];
            let scaler = vec![round as u8 + 100; 10];
            let hashes = serde_json::json!({"sha256": {
                "model.onnx": Digest::of(&model).to_string(), "scaler.json": Digest::of(&scaler).to_string()}});
            fs::write(folder.join("model.onnx"), model).unwrap();
            fs::write(folder.join("model_config.json"), hashes.to_string()).unwrap();
            fs::write(folder.join("scaler.json"), scaler).unwrap();
        };
        install(0);
        bench.write("ml_models/nvda/1/readme", "x");
        bench.write("ml_models/nvda/current", "1");
        bench.request.threads = 1;
        let round = AtomicUsize::new(0);
        let switch = |path: &RelativePath| {
            if path.name() == b"readme" || (path.name() == b"scaler.json" && is_warned) {
                let next = round.fetch_add(1, Ordering::SeqCst) + 1;
                if next <= rounds {
                    install(next);
                }
            }
        };
        // Between model.onnx and scaler.json in the walk lies the readme, whose reading installs another model.
        let report = bench.run_with(Some(&switch));
        assert_eq!(
            !report.warnings.is_empty(),
            is_warned,
            "{:?}",
            report.warnings
        );
        if !is_warned {
            assert_eq!(
                bench.content(&report, "ml_models/nvda/1/model.onnx"),
                vec![1; size]
            );
            assert_eq!(
                bench.content(&report, "ml_models/nvda/1/scaler.json"),
                vec![101; 10]
            );
            assert_eq!(report.files, 5);
            bench.request.mode = Kind::Incremental;
            assert_eq!(bench.run().kind, Kind::Incremental);
        }
    }
}

/// A version folder whose files match, with so many other files on both sides of them.
fn install_beside(bench: &Bench, others: usize) {
    let (model, scaler) = (vec![7; 100], vec![8; 10]);
    let hashes = serde_json::json!({"sha256": {
        "model.onnx": Digest::of(&model).to_string(), "scaler.json": Digest::of(&scaler).to_string()}});
    bench.write("ml_models/m/1/model.onnx", model);
    bench.write("ml_models/m/1/model_config.json", hashes.to_string());
    bench.write("ml_models/m/1/scaler.json", scaler);
    for index in 0..others {
        bench.write(&format!("ml_models/m/1/checkpoints/{index}"), "x");
        bench.write(&format!("ml_models/m/1/runs/{index}"), "x");
    }
}

#[test]
fn a_model_among_thousands_of_files_is_stored_once_and_in_order() {
    for threads in [1, 3] {
        let mut bench = Bench::new();
        bench.request.threads = threads;
        install_beside(&bench, 1100);
        let report = bench.run();
        assert_eq!(report.warnings, []);
        // The manifest's order is checked where it is read.
        assert_eq!(bench.manifest(&report).len(), 2208);
        assert_eq!(report.files, 2203);
    }
}

#[test]
fn a_model_that_does_not_match_among_thousands_of_files_is_told_and_breaks_nothing() {
    let mut bench = Bench::new();
    bench.request.threads = 1;
    install_beside(&bench, 1100);
    let scaler = bench.write("ml_models/m/1/scaler.json", "another");
    let disturb = |path: &RelativePath| {
        if path.name() == b"scaler.json" {
            fs::write(&scaler, Uuid::new_v4().to_string()).unwrap();
        }
    };
    let report = bench.run_with(Some(&disturb));
    assert!(
        report
            .warnings
            .iter()
            .any(|warning| warning.message.contains("install the model again")),
        "{:?}",
        report.warnings
    );
    assert_eq!(bench.manifest(&report).len(), 2208);
}

#[test]
fn a_model_that_rests_and_does_not_match_is_stored_once() {
    let mut bench = Bench::new();
    install_beside(&bench, 0);
    let noise: Vec<u8> = (0..1 << 20)
        .flat_map(|_| Uuid::new_v4().into_bytes()[..1].to_vec())
        .collect();
    bench.write("ml_models/m/1/model.onnx", &noise);
    let report = bench.run();
    assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
    assert!(
        report.archive_bytes < 3 << 19,
        "{} bytes of an archive for {} of a model",
        report.archive_bytes,
        noise.len()
    );
}

#[test]
fn a_log_that_changed_and_grew_old_is_stored() {
    let mut bench = Bench::new();
    let log = bench.write("logs/api.log", "first");
    bench.run();
    fs::write(&log, "first and second").unwrap();
    let file = File::options().write(true).open(&log).unwrap();
    let old = SystemTime::now() - Duration::from_hours(24 * 8);
    file.set_modified(old).unwrap();
    bench.request.mode = Kind::Incremental;
    let report = bench.run();
    assert_eq!(report.kind, Kind::Incremental);
    assert_eq!(bench.content(&report, "logs/api.log"), b"first and second");
}

fn journal(bench: &Bench, state: &str, one_shot: bool, items: &str) -> Uuid {
    let id = Uuid::new_v4();
    let text = format!(
        r#"{{"format":1,"id":"{id}","backup":"{id}","startedAt":"2025-08-01T00:00:00Z","oneShot":{one_shot},"state":"{state}","items":[{items}]}}"#
    );
    bench.write(".stockpredictor/restore.json", text);
    id
}

#[test]
fn a_volume_between_two_states_is_never_archived() {
    let mut bench = Bench::new();
    bench.write("config/a", "old");
    journal(&bench, "switched", false, "");
    let error = run(&bench.request, &bench.destinations(), &Silent).unwrap_err();
    assert!(matches!(error, BackupError::Journal(_)), "{error}");
    // One that was cut off while names changed is finished first.
    let items = ["config", "scalers"]
        .map(|name| format!(r#"{{"name":"{name}","hadOld":true,"hasNew":true}}"#));
    let id = journal(&bench, "switching", true, &items.join(","));
    bench.write(&format!(".restore-{id}/old/config/a"), "old");
    bench.write(&format!(".restore-{id}/new/scalers/b"), "new");
    bench.write("config/a", "new");
    bench.write("scalers/b", "old");
    let report = bench.run();
    assert_eq!(bench.content(&report, "config/a"), b"new");
    assert_eq!(bench.content(&report, "scalers/b"), b"new");
}

#[test]
fn a_version_that_is_put_meanwhile_is_not_named_without_being_there() {
    for threads in [1, 3] {
        let mut bench = Bench::new();
        bench.request.threads = threads;
        bench.write("ml_models/m/1/model.onnx", "1");
        bench.write("ml_models/m/current", "1\n");
        let root = bench.root.path().to_owned();
        let put = |path: &RelativePath| {
            if path.name() == b"model.onnx" {
                fs::create_dir_all(root.join("ml_models/m/2")).unwrap();
                fs::write(root.join("ml_models/m/2/model.onnx"), "2").unwrap();
                fs::write(root.join("ml_models/m/.current.partial"), "2\n").unwrap();
                let current = root.join("ml_models/m/current");
                fs::rename(root.join("ml_models/m/.current.partial"), current).unwrap();
            }
        };
        let report = bench.run_with(Some(&put));
        let current = bench.content(&report, "ml_models/m/current");
        assert_eq!(current, b"1\n", "{threads} threads");
        assert!(!bench.paths(&report).contains(&"ml_models/m/2".to_owned()));
        bench.request.mode = Kind::Incremental;
        let report = bench.run();
        assert_eq!(bench.content(&report, "ml_models/m/current"), b"2\n");
        assert!(
            bench
                .paths(&report)
                .contains(&"ml_models/m/2/model.onnx".to_owned())
        );
        let again = bench.run();
        assert_eq!(again.kind, Kind::Incremental);
    }
}

#[test]
fn a_backup_of_one_part_blinds_the_guard_for_no_other() {
    for without_index in [false, true] {
        let mut bench = Bench::new();
        bench.write("ml_models/a/1/model.onnx", "a");
        bench.write("config/x", "x");
        bench.run();
        bench.request.include = vec![Category::Config];
        assert_eq!(bench.run().suspect, Vec::<String>::new());
        bench.request.include = Category::ALL.to_vec();
        fs::remove_dir_all(bench.root.path().join("ml_models/a")).unwrap();
        if without_index {
            fs::remove_dir_all(bench.root.path().join("backups/.index")).unwrap();
        }
        let suspect = bench.run().suspect;
        assert!(
            suspect.iter().any(|reason| reason.contains("models")),
            "{suspect:?}"
        );
    }
}

#[test]
fn one_backup_of_the_future_is_neither_base_nor_measure() {
    let mut bench = Bench::new();
    bench.write("config/a", "a");
    bench.write("config/b", "b");
    let now = bench.request.now;
    bench.request.now = Timestamp::from_second(now.as_second() + 900 * DAY).unwrap();
    let future = bench.run();
    bench.request.now = now;
    bench.write("config/c", "c");
    let full = bench.run();
    bench.request.mode = Kind::Incremental;
    let incremental = bench.run();
    assert_eq!(incremental.base.map(|base| base.id), Some(full.id));
    let catalog = crate::catalog::Catalog::read(&*bench.destinations()[0]).unwrap();
    assert!(catalog.find(future.name).unwrap().is_future());
    assert!(!catalog.find(full.name).unwrap().is_future());
}

#[test]
fn the_index_keeps_what_later_runs_need_and_no_more() {
    let mut bench = Bench::new();
    bench.write("ml_models/a/1/model.onnx", "a");
    bench.write("config/a", "a");
    let first = bench.run();
    bench.request.include = vec![Category::Config];
    for _ in 0..52 {
        bench.run();
    }
    let index = Index::open(&bench.request.layout).unwrap();
    let metas = index.metas(&bench.request.origin).unwrap();
    // Fifty, and the first one, which measures and is the base of its parts.
    assert_eq!(metas.len(), 51);
    assert_eq!(metas[50].id, first.id);
    let manifests = fs::read_dir(index.directory()).unwrap().filter(|found| {
        let name = found.as_ref().unwrap().file_name();
        name.to_str().unwrap().ends_with(".manifest.gz")
    });
    assert_eq!(manifests.count(), 2);
    bench.request.mode = Kind::Incremental;
    assert_eq!(bench.run().kind, Kind::Incremental);
}

#[test]
fn an_archive_that_can_not_be_written_down_is_told_precisely() {
    let mut bench = Bench::new();
    bench.write("config/a", "a");
    bench.write("backups/.index/known.jsonl/in-the-way", "x");
    let report = bench.run();
    let warning = &report.warnings[0];
    assert_eq!(warning.path, "backups/.index/known.jsonl");
    assert!(
        warning.message.contains(&report.sha256.to_string()),
        "{warning:?}"
    );
    assert!(warning.message.contains("latest"), "{warning:?}");
}

#[test]
fn what_tar_unpacks_is_what_the_manifest_names_even_if_the_file_shrinks_at_last() {
    for shrinks in [1, 3, 99] {
        let mut bench = Bench::new();
        bench.request.threads = 1;
        let live = bench.write("stock_data/live", vec![7; 3 << 20]);
        let round = AtomicUsize::new(0);
        // Rewritten after each of the first readings; then cut off while the last ones are under way.
        let disturb = |path: &RelativePath| {
            if path.name() == b"live" {
                fs::write(&live, vec![8; 3 << 20]).unwrap();
            }
        };
        let cut = Cut {
            path: live.clone(),
            round: &round,
            shrinks,
        };
        let report =
            run_hooked(&bench.request, &bench.destinations(), &cut, Some(&disturb)).unwrap();
        assert_eq!(report.warnings.len(), 1, "{:?}", report.warnings);
        let stored = bench.content(&report, "stock_data/live");
        let folder = unpacked("tar", &bench.archive(&report));
        assert_eq!(
            fs::read(folder.path().join("stock_data/live")).unwrap(),
            stored
        );
        bench.request.now = report.name.next().time();
        let destination = &bench.destinations()[0];
        let archive = destination.open(&report.name.to_string()).unwrap().unwrap();
        assert_eq!(archive.size(), report.archive_bytes);
        if shrinks == 99 {
            let told = &report.warnings[0].message;
            assert!(told.contains("became shorter"), "{told}");
        }
    }
}

/// Cuts a file off while it is read, from the third reading on.
struct Cut<'a> {
    path: PathBuf,
    round: &'a AtomicUsize,
    shrinks: usize,
}

impl Progress for Cut<'_> {
    fn advance(&self, _: u64, bytes: u64) {
        // Called between the blocks of a large file.
        let round = self.round.fetch_add(1, Ordering::SeqCst);
        if bytes > 0 && round >= 9 && round.is_multiple_of(3) && round < 9 + 3 * self.shrinks {
            File::options()
                .write(true)
                .open(&self.path)
                .unwrap()
                .set_len(1 << 20)
                .unwrap();
        }
    }
}

/// A destination that fails at some point.
#[derive(Debug)]
struct Failing(&'static str);

struct FailingUpload(&'static str);

fn refusal(action: &str) -> DestinationError {
    DestinationError {
        destination: "failing".to_owned(),
        action: action.to_owned(),
        source: io::Error::other("no"),
    }
}

impl Destination for Failing {
    fn label(&self) -> String {
        "failing".to_owned()
    }
    fn list(&self) -> Result<Vec<Stored>, DestinationError> {
        Ok(Vec::new())
    }
    fn read(&self, _: &str, _: usize) -> Result<Option<Vec<u8>>, DestinationError> {
        Ok(None)
    }
    fn open(&self, _: &str) -> Result<Option<Box<dyn ReadAt>>, DestinationError> {
        Ok(None)
    }
    fn claim(&self, _: ArchiveName) -> Result<Option<Box<dyn Upload>>, DestinationError> {
        match self.0 {
            "claim" => Err(refusal("claim")),
            "taken" => Ok(None),
            other => Ok(Some(Box::new(FailingUpload(other)))),
        }
    }
    fn replace(&self, _: &str, _: &[u8]) -> Result<(), DestinationError> {
        Err(refusal("replace"))
    }
    fn delete(&self, _: &str) -> Result<(), DestinationError> {
        Ok(())
    }
}

impl Upload for FailingUpload {
    fn write_all(&mut self, _: &[u8]) -> Result<(), DestinationError> {
        if self.0 == "write" {
            Err(refusal("write"))
        } else {
            Ok(())
        }
    }
    fn finish(self: Box<Self>, _: &[u8]) -> Result<(), DestinationError> {
        Err(refusal("finish"))
    }
}

#[test]
fn a_destination_that_fails_drops_out_and_the_others_have_the_backup() {
    for point in ["claim", "write", "finish"] {
        for (threads, recipients) in [
            (1, vec![]),
            (
                3,
                vec![age::x25519::Identity::generate().to_public().to_string()],
            ),
        ] {
            let mut bench = Bench::new();
            hard_tree(&bench);
            bench.request.threads = threads;
            bench.request.recipients = recipients;
            let mut destinations = bench.destinations();
            destinations.insert(0, Box::new(Failing(point)));
            let report = run(&bench.request, &destinations, &Silent).unwrap();
            let fates: Vec<_> = report
                .destinations
                .iter()
                .map(|one| one.is_stored)
                .collect();
            assert_eq!(fates, [false, true], "{point}");
            assert!(
                report.destinations[0]
                    .error
                    .as_ref()
                    .unwrap()
                    .contains(point)
            );
            assert_eq!(
                report.sha256,
                Digest::of(&fs::read(bench.archive(&report)).unwrap())
            );

            bench.request.min_successful = 2;
            let stored = fs::read_dir(bench.store.path()).unwrap().count();
            let error = run(&bench.request, &destinations, &Silent).unwrap_err();
            assert!(
                error.to_string().contains(&format!("failing: {point}")),
                "{error}"
            );
            let left = fs::read_dir(bench.store.path()).unwrap().count();
            // A destination that fails last of all can't take back what the others have.
            assert_eq!(
                left,
                stored + if point == "finish" { 2 } else { 0 },
                "{point}"
            );
            let log = fs::read_to_string(bench.root.path().join("backups/backup_schedule.log"));
            let log = log.unwrap();
            assert_eq!(log.lines().count(), 2, "{log}");
            assert!(
                log.lines().nth(1).unwrap().contains("result=failed"),
                "{log}"
            );
        }
    }
}

#[test]
fn a_taken_name_is_not_waited_for_for_ever() {
    let bench = Bench::new();
    let mut destinations = bench.destinations();
    destinations.push(Box::new(Failing("taken")));
    let error = run(&bench.request, &destinations, &Silent).unwrap_err();
    assert!(matches!(error, BackupError::Names { .. }), "{error}");
    assert_eq!(fs::read_dir(bench.store.path()).unwrap().count(), 0);
}

#[test]
fn two_backups_in_one_second_get_two_names() {
    let mut bench = Bench::new();
    let now = bench.request.now;
    let left = bench.write("backups/.index/.x.manifest.gz.partial", "a killed run's");
    let first = bench.run();
    assert!(!left.exists());
    bench.request.now = now;
    let second = bench.run();
    assert_eq!(second.name, first.name.next());
    assert_eq!(second.id, second.id);
    let known = fs::read_to_string(bench.root.path().join("backups/.index/known.jsonl")).unwrap();
    let known: Vec<crate::known::Line> = known
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let names: Vec<_> = known
        .iter()
        .map(|known| (known.name, known.sha256))
        .collect();
    assert_eq!(
        names,
        [(first.name, first.sha256), (second.name, second.sha256)]
    );
}

#[test]
fn a_restore_or_another_backup_at_work_is_waited_for_and_then_told() {
    let mut bench = Bench::new();
    let lock = bench.request.layout.lock();
    let held = VolumeLock::try_take(&lock, LockMode::Exclusive).unwrap();
    let error = run(&bench.request, &bench.destinations(), &Silent).unwrap_err();
    assert!(matches!(error, BackupError::Lock(_)), "{error}");
    drop(held);
    bench.run();
    let index = Index::open(&bench.request.layout).unwrap();
    let _held = VolumeLock::try_take(&index.lock(), LockMode::Exclusive).unwrap();
    let error = run(&bench.request, &bench.destinations(), &Silent).unwrap_err();
    assert!(matches!(error, BackupError::Lock(_)), "{error}");
    let log = fs::read_to_string(bench.root.path().join("backups/backup_schedule.log")).unwrap();
    let results: Vec<_> = log.lines().map(|line| line.contains("result=ok")).collect();
    assert_eq!(results, [true, false], "{log}");
}

#[test]
fn names_of_the_archive_itself_and_special_files_are_told() {
    let mut bench = Bench::new();
    bench.write("backup.json", "mine");
    bench.write("manifest.jsonl", "mine");
    bench.write("config/backup.json", "fine");
    let made = Command::new("mkfifo")
        .arg(bench.root.path().join("config/pipe"))
        .status();
    assert!(made.unwrap().success());
    let report = bench.run();
    assert_eq!(bench.paths(&report), ["config", "config/backup.json"]);
    let warned: Vec<_> = report
        .warnings
        .iter()
        .map(|warning| warning.path.as_str())
        .collect();
    assert_eq!(warned, ["backup.json", "config/pipe", "manifest.jsonl"]);
    assert_eq!(report.skipped, 1);
    // What is no file any more is gone from the chain.
    let path = bench.root.path().join("config/backup.json");
    fs::remove_file(&path).unwrap();
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    bench.request.mode = Kind::Incremental;
    let report = bench.run();
    assert_eq!(bench.paths(&report), ["config", "-config/backup.json"]);
}

#[test]
fn a_lost_model_makes_a_suspect_that_is_no_measure_until_it_is_accepted() {
    let mut bench = Bench::new();
    bench.write("ml_models/a/1/model.onnx", "a");
    bench.write("ml_models/b/1/model.onnx", "b");
    bench.write("config/x", "x");
    assert_eq!(bench.run().suspect, Vec::<String>::new());
    fs::remove_dir_all(bench.root.path().join("ml_models/b")).unwrap();
    for _ in 0..2 {
        let report = bench.run();
        assert_eq!(report.suspect.len(), 1, "{:?}", report.suspect);
    }
    bench.request.mode = Kind::Incremental;
    let why = bench.run().why_full.unwrap();
    assert!(why.contains("accepted"), "{why}");
    bench.request.accept_shrink = true;
    assert_eq!(bench.run().suspect, Vec::<String>::new());
    bench.request.accept_shrink = false;
    let report = bench.run();
    assert_eq!((report.kind, report.suspect), (Kind::Incremental, vec![]));
}

#[test]
fn requests_without_sense_are_refused() {
    let bench = Bench::new();
    let refused = |request: &Request| {
        let error = run(request, &bench.destinations(), &Silent).unwrap_err();
        assert!(matches!(error, BackupError::Request(_)), "{error}");
    };
    for level in [0, 13] {
        refused(&Request {
            level,
            ..bench.request.clone()
        });
    }
    for min_successful in [0, 2] {
        refused(&Request {
            min_successful,
            ..bench.request.clone()
        });
    }
    refused(&Request {
        include: vec![],
        ..bench.request.clone()
    });
    let error = run(&bench.request, &[], &Silent).unwrap_err();
    assert!(error.to_string().contains("destination"), "{error}");
}

#[test]
#[ignore = "reads and unpacks more than 8 GiB of zeros"]
fn a_sparse_file_above_8_gib_survives() {
    let mut bench = Bench::new();
    let path = bench.write("stock_data/sparse", "");
    let size = (8 << 30) + 12_345_u64;
    let sparse = File::options().write(true).open(path).unwrap();
    sparse.set_len(size).unwrap();
    sparse.write_all_at(b"end", size - 3).unwrap();
    let report = bench.run();
    assert_eq!((report.bytes, report.warnings.clone()), (size, vec![]));
    let sum = Command::new("sh")
        .arg("-c")
        .arg("tar -xOzf \"$0\" stock_data/sparse | sha256sum")
        .arg(bench.archive(&report))
        .output()
        .unwrap();
    let entries = bench.manifest(&report);
    let Content::File {
        sha256,
        size: stored,
        allocated,
        ..
    } = &entries[1].content
    else {
        panic!("{entries:?}")
    };
    assert_eq!(*stored, size);
    assert_eq!(*allocated, 4096, "a restore needs room for one block");
    assert!(
        String::from_utf8(sum.stdout)
            .unwrap()
            .starts_with(&sha256.to_string())
    );
}

#[test]
fn what_can_not_be_opened_is_told_and_the_bases_copy_stays() {
    let mut bench = Bench::new();
    bench.write("config/a", "a");
    bench.write("config/d/b", "b");
    bench.run();
    bench.request.mode = Kind::Incremental;
    let root = bench.root.path().to_owned();
    let lock = |path: &str, mode| {
        fs::set_permissions(root.join(path), Permissions::from_mode(mode)).unwrap();
    };
    fs::write(root.join("config/a"), "changed").unwrap();
    lock("config/a", 0);
    lock("config/d", 0);
    if fs::read(root.join("config/a")).is_ok() {
        // Modes don't stop root; the merge's own test stands for this one.
        return;
    }
    let report = bench.run();
    lock("config/d", 0o755);
    let warned: Vec<_> = report
        .warnings
        .iter()
        .map(|warning| warning.path.as_str())
        .collect();
    assert_eq!(warned, ["config/a", "config/d"]);
    assert!(
        !bench
            .paths(&report)
            .iter()
            .any(|path| path.starts_with('-'))
    );
}
