use super::*;
use crate::progress::Silent;

const LIMITS: Limits = Limits {
    bytes: 1 << 20,
    entries: 100,
};

/// A tar of names, kinds and contents, without the checks of a well-meaning writer.
fn archive(entries: &[(&[u8], EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, content) in entries {
        let mut header = tar::Header::new_ustar();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name);
        header.set_entry_type(*kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o7777);
        header.set_link_name("/etc/passwd").unwrap();
        header.set_cksum();
        builder.append(&header, *content).unwrap();
    }
    builder.into_inner().unwrap()
}

fn unpacked(bytes: &[u8]) -> (tempfile::TempDir, Result<Unpacked, UnpackError>) {
    let folder = tempfile::tempdir().unwrap();
    let into = descriptor::open_root(folder.path()).unwrap();
    let result = unpack(&mut &*bytes, &into, &LIMITS, &Silent);
    (folder, result)
}

const FILE: EntryType = EntryType::Regular;

/// Path, type and content of an entry.
type Given<'a> = (&'a [u8], EntryType, &'a [u8]);

#[test]
fn hostile_entries_are_refused() {
    let table: [&[Given<'_>]; 17] = [
        &[(b"../a", FILE, b"x")],
        &[(b"a/../../b", FILE, b"x")],
        &[(b"/etc/a", FILE, b"x")],
        &[(b"./../a", FILE, b"x")],
        &[(b"a", FILE, b"x"), (b"a", FILE, b"y")],
        &[(b"a", FILE, b"x"), (b"./a", FILE, b"y")],
        &[(b"a", FILE, b"x"), (b"A", FILE, b"y")],
        &[(b"a", FILE, b"x"), (b"a/b", FILE, b"y")],
        &[(b"a", EntryType::Symlink, b"")],
        &[(b"a", EntryType::Link, b"")],
        &[(b"a", EntryType::Fifo, b"")],
        &[(b"a", EntryType::Char, b"")],
        &[(b"a", EntryType::Block, b"")],
        &[(b"a", EntryType::GNUSparse, b"")],
        &[(b".current", FILE, b"x")],
        &[(b"a//b", FILE, b"x")],
        &[(b"d", EntryType::Directory, b"")],
    ];
    for entries in table {
        let (folder, result) = unpacked(&archive(entries));
        assert!(result.is_err(), "{entries:?}");
        let outside = folder.path().parent().unwrap().join("a");
        assert!(!outside.exists(), "{entries:?}");
    }
}

#[test]
fn modes_are_ours_and_gzip_is_told_from_a_plain_tar() {
    use std::os::unix::fs::PermissionsExt;
    let plain = archive(&[
        (b"./", EntryType::Directory, b""),
        (b"./d/", EntryType::Directory, b""),
        (b"./d/a", FILE, b"abc"),
    ]);
    let mut coder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    coder.write_all(&plain).unwrap();
    let gzipped = coder.finish().unwrap();
    for bytes in [&plain, &gzipped] {
        let (folder, result) = unpacked(bytes);
        let result = result.unwrap();
        assert_eq!((result.files, result.bytes), (1, 3));
        let mode = |path: &str| {
            let found = std::fs::metadata(folder.path().join(path)).unwrap();
            found.permissions().mode() & 0o7777
        };
        assert_eq!((mode("d"), mode("d/a")), (0o755, 0o644));
    }
    for end in [gzipped.len() - 1, gzipped.len() / 2, 12] {
        assert!(unpacked(&gzipped[..end]).1.is_err(), "cut at {end}");
    }
    let mut flipped = gzipped.clone();
    let last = flipped.len() - 6;
    flipped[last] ^= 1;
    assert!(unpacked(&flipped).1.is_err(), "gzip's checksum is wrong");
}

#[test]
fn sizes_and_counts_are_limited() {
    let large = vec![0; 2 << 20];
    let result = unpacked(&archive(&[(b"a", FILE, &large)])).1;
    assert!(
        matches!(result, Err(UnpackError::TooLarge { .. })),
        "{result:?}"
    );
    let names: Vec<Vec<u8>> = (0..101)
        .map(|index| format!("{index}").into_bytes())
        .collect();
    let entries: Vec<_> = names.iter().map(|name| (&**name, FILE, &b""[..])).collect();
    let result = unpacked(&archive(&entries)).1;
    assert!(
        matches!(result, Err(UnpackError::TooMany { .. })),
        "{result:?}"
    );
    // A long name of a megabyte is refused before it is read whole.
    let name = vec![b'x'; 1 << 20];
    let entries: [(&[u8], EntryType, &[u8]); 2] =
        [(b"long", EntryType::GNULongName, &name), (b"a", FILE, b"x")];
    let result = unpacked(&archive(&entries)).1;
    assert!(matches!(result, Err(UnpackError::Read(_))), "{result:?}");
}

#[test]
fn what_is_no_tar_is_told_so() {
    for bytes in [&b""[..], b"hello", &[0x1f, 0x8b, 0, 0]] {
        assert!(unpacked(bytes).1.is_err());
    }
}
