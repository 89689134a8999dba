//! Archives that no program of ours writes: none of them changes anything outside the target, each is refused with a
//! sentence, and verify finds each.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::items_after_statements,
    clippy::semicolon_if_nothing_returned,
    reason = "a test may panic, and its tables are beside what reads them"
)]

mod builder;
mod restore_support;

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use builder::*;
use restore_support::{TestVolume, difference, file, things};
use serde_json::json;
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::header::{Header, Kind};
use stockpredictor_storage::archive::manifest::{Content, Entry, Place, Time};
use stockpredictor_storage::archive::member::Trailer;
use stockpredictor_storage::archive::meta::Level;
use stockpredictor_storage::archive::path::RelativePath;
use stockpredictor_storage::chain::Chain;
use stockpredictor_storage::progress::{Progress, Silent};
use stockpredictor_storage::restore::{NoCheck, Open, RestoreError, run};
use stockpredictor_storage::snapshot::{Extracted, Snapshot, SnapshotError};
use stockpredictor_storage::verify::{Request, verify};
use uuid::Uuid;

/// A directory beside the target that must stay as it is.
struct Scene {
    folder: tempfile::TempDir,
}

type Seen = Vec<(String, u32, i64, i64, Vec<u8>)>;

impl Scene {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("canary/below")).unwrap();
        std::fs::write(folder.path().join("canary/song"), "tweet").unwrap();
        let mode = std::fs::Permissions::from_mode(0o640);
        std::fs::set_permissions(folder.path().join("canary/song"), mode).unwrap();
        std::fs::create_dir(folder.path().join("target")).unwrap();
        Self { folder }
    }

    fn target(&self) -> std::path::PathBuf {
        self.folder.path().join("target")
    }

    /// Everything but the target.
    fn outside(&self) -> Seen {
        let mut seen = Vec::new();
        let mut pending = vec![self.folder.path().to_owned()];
        while let Some(directory) = pending.pop() {
            for entry in std::fs::read_dir(&directory).unwrap() {
                let path = entry.unwrap().path();
                if path == self.target() {
                    continue;
                }
                let meta = path.symlink_metadata().unwrap();
                let content = if meta.is_dir() {
                    pending.push(path.clone());
                    Vec::new()
                } else {
                    std::fs::read(&path).unwrap()
                };
                let name = path.display().to_string();
                seen.push((name, meta.mode(), meta.mtime(), meta.mtime_nsec(), content));
            }
        }
        seen.sort();
        seen
    }
}

fn extract(
    shelf: &Shelf,
    name: &str,
    target: &Path,
    threads: usize,
) -> Result<Extracted, SnapshotError> {
    let chain = Chain::open(shelf, name, &[], None)?.with_threads(threads);
    chain.extract(&|_: &RelativePath| true, target, &Silent)
}

/// Refused by both, with the words, and nothing outside is changed.
fn refuse(what: &str, shelf: &Shelf, name: &str, words: &str) {
    for threads in [1, 3] {
        let scene = Scene::new();
        let before = scene.outside();
        let result = extract(shelf, name, &scene.target(), threads);
        assert_eq!(scene.outside(), before, "{what}");
        let error = match result {
            Ok(done) => panic!("{what}: {done:?} was extracted"),
            Err(error) => error,
        };
        let said = error.to_string();
        assert!(said.contains(words), "{what}: {said}");
        assert!(
            !matches!(error, SnapshotError::Use { .. }),
            "{what}: {said}"
        );
    }
    restored_in_place(what, shelf, name);
    let request = Request {
        level: Level::Readable,
        identities: &[],
        known: None,
        prover: None,
        progress: &Silent,
    };
    let report = verify(shelf, name, &request).unwrap();
    assert!(
        report.level.is_none() && !report.problems.is_empty(),
        "{what}: {report:?}"
    );
}

/// Refused by a restore in place, too, and the volume stays as it was.
fn restored_in_place(what: &str, shelf: &Shelf, name: &str) {
    let volume = TestVolume::with(&things(&[
        ("config/a", file("mine")),
        ("logs/api.log", file("line")),
    ]));
    let before = volume.read();
    let at = volume.volume(&Open);
    let restored = Chain::open(shelf, name, &[], None)
        .map_err(RestoreError::from)
        .and_then(|chain| {
            run(
                &at,
                &chain,
                &restore_support::request(Uuid::from_u128(1)),
                &NoCheck,
            )
        });
    assert!(restored.is_err(), "{what}: {restored:?}");
    assert_eq!(difference(&before, &volume.read()), Vec::<String>::new());
    assert_eq!(volume.state(), Vec::<String>::new(), "{what}");
}

fn refused(what: &str, bytes: Vec<u8>, words: &str) {
    refuse(what, &Shelf::with(NAME, bytes), NAME, words);
}

/// A builder that has the directory `config`.
fn begun() -> Builder {
    let mut builder = Builder::new(&header());
    builder.add(&Tar::directory("config"));
    builder
}

fn line(path: &str, kind: &str, place: Place) -> serde_json::Value {
    json!({
        "path": path, "type": kind, "size": 5, "mode": "644",
        "mtime": "1700000000.123456789", "ctime": "0.000000000", "inode": 1,
        "sha256": Digest::of(b"price").to_string(), "target": "/etc",
        "member": place.member, "skip": place.skip,
    })
}

#[test]
fn paths_that_lead_out_are_refused() {
    let long_name = "n".repeat(256);
    let long_path = vec!["d"; 2100].join("/");
    let paths = [
        "../canary/song",
        "..",
        ".",
        "/",
        "/etc/passwd",
        "config/../../canary/song",
        "config//a",
        "config/./a",
        "./config/a",
        "config/a/",
        "config/..",
        "",
        "a\u{0}b",
        &long_name,
        &long_path,
    ];
    for path in paths {
        for kind in ["file", "directory", "symlink", "deleted"] {
            let mut builder = begun();
            let place = builder.entry(&Tar::file("config/a", b"price"));
            builder.json(&line(path, kind, place));
            refused(
                &format!("{kind} {path:?}"),
                builder.finish(),
                "manifest is malformed",
            );
        }
        // The manifest is good, the entry isn't.
        let mut builder = begun();
        let place = builder.entry(&Tar::file(path, b"price"));
        builder.line(&Tar::file("config/a", b"price").line(place));
        refused(&format!("entry {path:?}"), builder.finish(), "is refused");
    }
}

#[test]
fn parts_of_the_volume_that_no_backup_holds_are_refused() {
    for path in [
        "backups",
        ".stockpredictor",
        "monitoring",
        "lost+found",
        ".restore-1",
    ] {
        let mut builder = Builder::new(&header());
        builder.add(&Tar::directory(path));
        refused(path, builder.finish(), "no backup holds");
    }
    let mut models = header();
    models.include = vec![Category::Models];
    let mut builder = Builder::new(&models);
    builder.add(&Tar::directory("config"));
    refused("config", builder.finish(), "doesn't include");
}

#[test]
fn types_that_are_not_ours_are_refused() {
    // Hard link, character and block device, FIFO, contiguous file, GNU's long name, long link, sparse file,
    // multi-volume, volume header, directory with names, global header, Solaris's ACL, and nonsense.
    for kind in [
        b'1', b'3', b'4', b'6', b'7', b'L', b'K', b'S', b'M', b'V', b'D', b'g', b'A', b'Z', 0,
    ] {
        let mut tar = Tar::file("config/a", b"price");
        tar.kind = kind;
        tar.target = if kind == b'1' {
            b"../canary/song".to_vec()
        } else {
            Vec::new()
        };
        let mut builder = begun();
        let place = builder.entry(&tar);
        builder.line(&Tar::file("config/a", b"price").line(place));
        refused(&format!("type {kind}"), builder.finish(), "has the type");
        // Nobody names it: it isn't even looked over.
        let mut builder = begun();
        builder.entry(&tar);
        refused(
            &format!("unnamed type {kind}"),
            builder.finish(),
            "has the type",
        );
    }
}

#[test]
fn nothing_is_written_through_links() {
    let mut builder = begun();
    builder.add(&Tar::link("config/d", "../../canary"));
    builder.add(&Tar::file("config/d/song", b"miaow"));
    refused(
        "a file below a link",
        builder.finish(),
        "doesn't have the directory",
    );
    let mut builder = Builder::new(&header());
    builder.add(&Tar::link("config", "../canary"));
    builder.add(&Tar::directory("config/below"));
    refused(
        "a directory below a link",
        builder.finish(),
        "doesn't have the directory",
    );
    let mut builder = begun();
    builder.add(&Tar::link("config/a", "../../canary/song"));
    builder.add(&Tar::file("config/a", b"miaow"));
    refused(
        "a link, then a file of its name",
        builder.finish(),
        "names it twice",
    );
    let mut builder = begun();
    builder.add(&Tar::file("config/a", b"file"));
    builder.add(&Tar::file("config/a/b", b"below"));
    refused(
        "a file below a file",
        builder.finish(),
        "doesn't have the directory",
    );
    let mut builder = Builder::new(&header());
    builder.add(&Tar::file("config/a", b"orphan"));
    refused(
        "a file without its directory",
        builder.finish(),
        "doesn't have the directory",
    );
    // What tar says and what the manifest says must be the same thing.
    let mut builder = begun();
    let place = builder.entry(&Tar::link("config/a", "../../canary/song"));
    builder.line(&Tar::file("config/a", b"").line(place));
    refused(
        "a link where a file is named",
        builder.finish(),
        "differ in the type",
    );
    let mut builder = begun();
    let place = builder.entry(&Tar::link("config/a", "b"));
    builder.line(&Tar::link("config/a", "../../canary").line(place));
    refused("another target", builder.finish(), "differ in the target");
    let mut builder = begun();
    let mut tar = Tar::file("config/a", b"price");
    tar.target = b"../../canary".to_vec();
    builder.add(&tar);
    refused(
        "a file with a target",
        builder.finish(),
        "only a link has a target",
    );
    let mut builder = begun();
    let place = builder.entry(&Tar::link("config/a", ""));
    builder.line(&Tar::link("config/a", "b").line(place));
    refused(
        "a link without target",
        builder.finish(),
        "no usable target",
    );
}

#[test]
fn an_entry_must_be_what_the_manifest_says() {
    let good = Tar::file("config/a", b"price");
    type Spoil = fn(&mut Tar);
    let table: [(&str, Spoil, &str); 12] = [
        ("mode", |tar| tar.mode = 0o4755, "the mode"),
        ("wide mode", |tar| tar.mode = 0o100_644, "four digits"),
        ("time", |tar| tar.mtime.nanoseconds = 1, "the time"),
        ("path", |tar| tar.path = b"config/b".to_vec(), "the path"),
        (
            "size",
            |tar| *tar = Tar::file("config/a", b"pric"),
            "the size",
        ),
        (
            "content",
            |tar| tar.data = b"PRICE".to_vec(),
            "another SHA-256",
        ),
        ("hidden data", |tar| tar.data.push(b'!'), "hidden"),
        (
            "size beyond the member",
            |tar| tar.size = 1 << 30,
            "beyond its member",
        ),
        (
            "PAX size",
            |tar| {
                tar.records
                    .push((b"size".to_vec(), b"9223372036854775808".to_vec()))
            },
            "beyond its member",
        ),
        (
            "sparse",
            |tar| {
                tar.records
                    .push((b"GNU.sparse.realsize".to_vec(), b"1".to_vec()))
            },
            "unknown key",
        ),
        (
            "second time",
            |tar| tar.records.push((b"mtime".to_vec(), b"1".to_vec())),
            "appears twice",
        ),
        ("no PAX", |tar| tar.has_pax = false, "PAX record"),
    ];
    for (what, spoil, words) in table {
        let mut tar = good.clone();
        spoil(&mut tar);
        let mut builder = begun();
        let place = builder.entry(&tar);
        builder.line(&good.line(place));
        refused(what, builder.finish(), words);
    }
    for key in [
        "uid",
        "hdrcharset",
        "SCHILY.xattr.security.capability",
        "LIBARCHIVE.symlinktype",
        "comment",
    ] {
        let mut tar = good.clone();
        tar.records.push((key.as_bytes().to_vec(), b"0".to_vec()));
        let mut builder = begun();
        builder.add(&tar);
        refused(key, builder.finish(), "unknown key");
    }
}

#[test]
fn places_that_point_elsewhere_are_refused() {
    let tar = Tar::file("config/a", b"price");
    let other = Tar::file("config/b", &noise(1000, 1));
    type Spoil = fn(&mut Place);
    let table: [(&str, Spoil, &str); 8] = [
        (
            "into the middle of an entry",
            |place| place.skip += 512,
            "no entry begins",
        ),
        ("one byte off", |place| place.skip += 1, "no entry begins"),
        (
            "beyond the member",
            |place| place.skip = u32::MAX,
            "no entry begins",
        ),
        (
            "into the middle of a member",
            |place| place.member += 1,
            "no entry begins",
        ),
        (
            "to backup.json",
            |place| place.member = 0,
            "where no entry of its can be",
        ),
        (
            "outside the file",
            |place| place.member = u64::MAX,
            "where no entry of its can be",
        ),
        (
            "behind the end",
            |place| place.member += 1 << 40,
            "where no entry of its can be",
        ),
        ("to its neighbour", |place| place.skip += 2048, "one place"),
    ];
    for (what, spoil, words) in table {
        let mut builder = begun();
        builder.flush();
        let mut place = builder.entry(&tar);
        spoil(&mut place);
        builder.line(&tar.line(place));
        builder.add(&other);
        builder.flush();
        refused(what, builder.finish(), words);
    }
    let mut builder = begun();
    let place = builder.entry(&Tar::file("config/a", &noise(200_000, 1)));
    let inner = Place {
        member: place.member + 1,
        skip: 0,
    };
    builder.line(&tar.line(inner));
    refused("into a large file", builder.finish(), "no entry begins");
    let mut builder = begun();
    let place = builder.add(&tar);
    builder.line(&other.line(place));
    refused("two lines, one place", builder.finish(), "one place");
    let mut builder = begun();
    builder.entry(&tar);
    refused(
        "an entry that nobody names",
        builder.finish(),
        "doesn't name",
    );
    let mut builder = begun();
    builder.add(&tar);
    builder.entry(&tar);
    refused(
        "an entry stored again after the named one",
        builder.finish(),
        "doesn't name",
    );
}

#[test]
fn manifests_that_lie_are_refused() {
    let tar = Tar::file("config/a", b"price");
    let with = |change: &dyn Fn(&mut Builder)| {
        let mut builder = begun();
        builder.add(&tar);
        change(&mut builder);
        builder.finish()
    };
    refused(
        "twice",
        with(&|b| b.lines.push(b.lines[1].clone())),
        "names it twice",
    );
    refused(
        "unsorted",
        with(&|b| b.lines.swap(0, 1)),
        "manifest isn't sorted",
    );
    refused(
        "no JSON",
        with(&|b| b.lines.push(b"{\n".to_vec())),
        "malformed",
    );
    refused(
        "empty line",
        with(&|b| b.lines.push(b"\n".to_vec())),
        "malformed",
    );
    refused(
        "no last line end",
        with(&|b| b.lines.push(b"{".to_vec())),
        "is cut",
    );
    refused(
        "long line",
        with(&|b| b.lines.push(vec![b' '; 70_000])),
        "longer than any",
    );
    refused(
        "deep JSON",
        with(&|b| b.lines.push([vec![b'['; 9000], vec![b'\n']].concat())),
        "malformed",
    );
    refused(
        "deletion in a full one",
        with(&|b| b.deleted("config/z")),
        "no deletions",
    );
    refused(
        "a path of another file",
        with(&|b| {
            b.lines[1] = String::from_utf8(b.lines[1].clone())
                .unwrap()
                .replace("config/a", "config/b")
                .into_bytes();
        }),
        "differ in the path",
    );
    for size in [u64::MAX, 1 << 63, 1 << 40] {
        let mut huge = tar.clone();
        huge.size = size;
        let place = begun().place();
        let bytes = with(&|b| {
            let Entry { path, mut content } = huge.line(place);
            if let Content::File { size: said, .. } = &mut content {
                *said = size;
            }
            b.lines.truncate(1);
            b.line(&Entry { path, content });
        });
        refused("absurd size", bytes, "more than the archive can hold");
    }
}

#[test]
fn ends_that_point_elsewhere_are_refused() {
    type Spoil = fn(Trailer) -> Trailer;
    let table: [(&str, Spoil); 8] = [
        ("nowhere", |t| Trailer {
            manifest: Place {
                member: u64::MAX,
                skip: 0,
            },
            ..t
        }),
        ("behind the end", |t| Trailer {
            manifest: Place {
                member: t.manifest.member + (1 << 30),
                skip: 0,
            },
            ..t
        }),
        ("to backup.json", |t| Trailer {
            manifest: Place { member: 0, skip: 0 },
            ..t
        }),
        ("beyond its member", |t| Trailer {
            manifest: Place {
                skip: u32::MAX,
                ..t.manifest
            },
            ..t
        }),
        ("past its PAX header", |t| Trailer {
            manifest: Place {
                skip: t.manifest.skip + 1024,
                ..t.manifest
            },
            ..t
        }),
        ("huge", |t| Trailer {
            manifest_size: u64::MAX,
            ..t
        }),
        ("empty", |t| Trailer {
            manifest_size: 0,
            ..t
        }),
        ("another SHA-256", |t| Trailer {
            sha256: Digest::of(b""),
            ..t
        }),
    ];
    for (what, spoil) in table {
        let mut builder = begun();
        builder.add(&Tar::file("config/a", b"price"));
        refused(what, builder.finish_with(spoil), NAME);
    }
}

#[test]
fn members_that_lie_are_refused() {
    let good = small().finish();
    let length = u32::from_le_bytes(good[16..20].try_into().unwrap()) as usize;
    // Sizes in the second member's header: a bomb that says it is small, one that says it is large, no size.
    for (at, value) in [
        (20, 100_u32),
        (20, 4 << 20),
        (20, u32::MAX),
        (20, 0),
        (16, 1),
        (16, u32::MAX),
        (16, 34),
    ] {
        let mut bytes = good.clone();
        bytes[length + at..length + at + 4].copy_from_slice(&value.to_le_bytes());
        refused(&format!("{value} at {at}"), bytes, NAME);
    }
    let mut builder = begun();
    builder.flush();
    builder.member(&Tar::file("config/a", b"price").bytes(), true);
    refused("a small entry that continues", builder.finish(), "");
    let mut builder = Builder::new(&header());
    builder.member(&[0; 1024], true);
    refused("a continuation of backup.json", builder.finish(), "");
    let mut builder = begun();
    builder.open.extend([0; 1024]);
    builder.add(&Tar::file("config/a", b"price"));
    refused("an end in the middle", builder.finish(), "");
    let bytes = small().finish();
    refused(
        "an archive after an archive",
        [bytes.clone(), bytes].concat(),
        "",
    );
    for bytes in [
        vec![],
        vec![0x1f, 0x8b],
        vec![0; 5000],
        b"age-encryption.org/".to_vec(),
    ] {
        let shelf = Shelf::with(NAME, bytes);
        assert!(Chain::open(&shelf, NAME, &[], None).is_err());
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let first = |json: &[u8]| Builder::raw(&Tar::file("backup.json", json).bytes()).finish();
    refused("no JSON", first(b"{"), "malformed");
    refused("empty", first(b""), "malformed");
    refused("too large", first(&vec![b' '; 70_000]), "no backup.json");
    let change = |change: fn(&mut Header)| {
        let mut header = header();
        change(&mut header);
        Builder::new(&header).finish()
    };
    refused("format 0", change(|header| header.format = 0), "format 0");
    refused(
        "a full one with a base",
        change(|header| {
            header.base = header_on(Uuid::nil(), Digest::of(b"")).base;
        }),
        "base",
    );
    refused(
        "an incremental one without",
        change(|header| header.kind = Kind::Incremental),
        "base",
    );
    refused(
        "another first entry",
        Builder::raw(&Tar::file("backup.js", b"{}").bytes()).finish(),
        "no backup.json",
    );
    refused(
        "a link as header",
        Builder::raw(&Tar::link("backup.json", "/etc/passwd").bytes()).finish(),
        "no backup.json",
    );
}

#[test]
fn chains_that_lie_are_refused() {
    let full = small().finish();
    let begin = || Builder::new(&header_on(Uuid::from_u128(1), Digest::of(&full)));
    let check = |what: &str, builder: Builder, words: &str| {
        let shelf = Shelf::with(NAME, full.clone());
        shelf.put(LATER, builder.finish());
        refuse(what, &shelf, LATER, words);
    };
    let mut builder = begin();
    builder.deleted("config/never");
    check("a deletion of nothing", builder, "doesn't have");
    let mut builder = begin();
    builder.deleted("config");
    check(
        "a deleted directory whose content stays",
        builder,
        "doesn't have the directory",
    );
    let mut builder = begin();
    builder.add(&Tar::link("config", "../canary"));
    check(
        "a link in a directory's place",
        builder,
        "doesn't have the directory",
    );
    let mut builder = begin();
    builder.add(&Tar::file("ml_models", b"file"));
    check(
        "a file in a directory's place",
        builder,
        "doesn't have the directory",
    );
    let mut itself = header_on(Uuid::from_u128(3), Digest::of(b""));
    itself.base.as_mut().unwrap().name = LATER.parse().unwrap();
    check("its own base", Builder::new(&itself), "base");
    let mut other = header_on(Uuid::from_u128(1), Digest::of(&full));
    other.origin.volume = Uuid::from_u128(77);
    check(
        "a base of another origin",
        Builder::new(&other),
        "another origin",
    );
}

#[test]
fn odd_but_good_archives_lose_nothing() {
    let mut builder = begun();
    builder.add(&Tar::file("config/A", b"upper"));
    builder.add(&Tar::file("config/a", b"lower"));
    for (index, seconds) in [i64::MIN, i64::MAX, -1, 0, 1 << 40].into_iter().enumerate() {
        let mut tar = Tar::file(format!("config/time{index}"), b"");
        tar.mtime = Time {
            seconds,
            nanoseconds: 999_999_999,
        };
        builder.add(&tar);
    }
    let mut tar = Tar::directory("ml_cache");
    tar.mode = 0o7000;
    builder.add(&tar);
    let mut tar = Tar::file("ml_cache/suid", b"#!");
    tar.mode = 0o6055;
    builder.add(&tar);
    builder.add(&Tar::link("ml_cache/x", "/etc/passwd"));
    let scene = Scene::new();
    let before = scene.outside();
    let shelf = Shelf::with(NAME, builder.finish());
    let done = extract(&shelf, NAME, &scene.target(), 2).unwrap();
    assert_eq!((done.files, scene.outside()), (8, before));
    let target = scene.target();
    assert_eq!(std::fs::read(target.join("config/A")).unwrap(), b"upper");
    assert_eq!(std::fs::read(target.join("config/a")).unwrap(), b"lower");
    let mode = |name: &str| target.join(name).metadata().unwrap().mode() & 0o7777;
    assert_eq!((mode("ml_cache"), mode("ml_cache/suid")), (0o700, 0o755));
}

/// Puts a link to the canary in a directory's place as soon as the directories are made.
struct Swapper<'scene>(&'scene Scene);

impl Progress for Swapper<'_> {
    fn expect(&self, _files: u64, _bytes: u64) {
        let directory = self.0.target().join("config");
        std::fs::remove_dir(&directory).unwrap();
        std::os::unix::fs::symlink("../canary", &directory).unwrap();
    }
}

#[test]
fn a_link_put_there_meanwhile_is_not_followed() {
    let mut builder = begun();
    builder.add(&Tar::file("config/song", b"miaow"));
    builder.add(&Tar::directory("logs"));
    let shelf = Shelf::with(NAME, builder.finish());
    let scene = Scene::new();
    let before = scene.outside();
    let chain = Chain::open(&shelf, NAME, &[], None)
        .unwrap()
        .with_threads(1);
    let error = chain
        .extract(&|_: &RelativePath| true, &scene.target(), &Swapper(&scene))
        .unwrap_err();
    assert!(error.to_string().contains("config"), "{error}");
    assert_eq!(scene.outside(), before);
}

#[test]
fn a_target_that_is_a_link_or_has_something_in_it_is_refused() {
    let shelf = Shelf::with(NAME, small().finish());
    let scene = Scene::new();
    let before = scene.outside();
    std::fs::remove_dir(scene.target()).unwrap();
    std::os::unix::fs::symlink("canary", scene.target()).unwrap();
    assert!(extract(&shelf, NAME, &scene.target(), 1).is_err());
    std::fs::remove_file(scene.target()).unwrap();
    std::fs::create_dir(scene.target()).unwrap();
    std::fs::create_dir(scene.target().join("config")).unwrap();
    assert!(extract(&shelf, NAME, &scene.target(), 1).is_err());
    assert_eq!(scene.outside().len(), before.len());
}
