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
use std::time::SystemTime;

use super::*;
use crate::archive::digest::Digest;
use crate::archive::manifest::Content;
use crate::archive::member::{MemberHeader, TRAILER_LENGTH, Trailer, Unpacker};
use crate::archive::path::RelativePath;
use crate::destination::folder::Folder;
use crate::destination::{DestinationError, Item as Stored, ReadAt, Upload};
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

    fn run_with(&mut self, hook: Option<&Hook>) -> Report {
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
    let raw = raw_from(archive, place.member);
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
        (item.path, (item.kind, attributes.mode, attributes.mtime, digest))
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
    let long = format!("other/{}/{}/{}", "a".repeat(120), "b".repeat(200), "c".repeat(255));
    bench.write(&long, "deep");
    symlink("../config", name(b"scalers/link")).unwrap();
    symlink("x".repeat(300), name(b"scalers/long-link")).unwrap();
    symlink("/nowhere", name(b"dangling")).unwrap();
    let script = bench.write("backup_data.sh", "#!/bin/sh\n");
    fs::set_permissions(script, Permissions::from_mode(0o755)).unwrap();
    let secret = bench.write("config/secret", "s");
    fs::set_permissions(secret, Permissions::from_mode(0o600)).unwrap();
    for (index, size) in [0, 511, 512, 513, 300_000, 600_000, 3_000_000].into_iter().enumerate() {
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
    for entry in &entries {
        let bytes = content(&archive, entry);
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
