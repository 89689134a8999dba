use super::*;

fn attributes() -> Attributes {
    Attributes {
        mode: 0o644,
        mtime: Time {
            seconds: -1,
            nanoseconds: 5,
        },
        ctime: Time::default(),
        inode: 7,
    }
}

#[test]
fn a_line_is_read_as_it_is_written() {
    let place = Place { member: 3, skip: 4 };
    let contents = [
        Content::File {
            attributes: attributes(),
            size: 9,
            allocated: 9,
            sha256: Digest::of(b"x"),
            place,
        },
        Content::File {
            attributes: attributes(),
            size: 9 << 30,
            allocated: 4096,
            sha256: Digest::of(b"x"),
            place,
        },
        Content::Symlink {
            attributes: attributes(),
            target: Target(b"\xff".to_vec()),
            place,
        },
        Content::Directory {
            attributes: attributes(),
            place,
        },
        Content::Deleted,
    ];
    for content in contents {
        let entry = Entry {
            path: RelativePath::new(b"a/\xfe".to_vec()).unwrap(),
            content,
        };
        let line = serde_json::to_string(&entry).unwrap();
        assert_eq!(
            serde_json::from_str::<Entry>(&line).unwrap(),
            entry,
            "{line}"
        );
    }
}

#[test]
fn the_longest_line_that_is_written_is_read() {
    let name = "\u{1}".repeat(255);
    let mut path = [name.as_str(); 16].join("/");
    path.truncate(crate::archive::path::MAX_PATH - 1);
    let entry = Entry {
        path: RelativePath::new(path).unwrap(),
        content: Content::Symlink {
            attributes: attributes(),
            target: Target(vec![1; crate::archive::path::MAX_PATH - 1]),
            place: Place {
                member: u64::MAX,
                skip: u32::MAX,
            },
        },
    };
    let line = serde_json::to_vec(&entry).unwrap();
    assert!(line.len() < MAX_LINE, "{}", line.len());
    assert_eq!(serde_json::from_slice::<Entry>(&line).unwrap(), entry);
}

#[test]
fn forged_lines_are_refused() {
    for line in [
        r#"{"path":"../a","type":"deleted"}"#,
        r#"{"path":"a","type":"device"}"#,
        r#"{"path":"a","type":"directory","mode":"77777","mtime":"0.000000000","ctime":"0.000000000","inode":1,"member":0,"skip":0}"#,
        r#"{"path":"a","type":"directory","mode":"755","mtime":"0.1","ctime":"0.000000000","inode":1,"member":0,"skip":0}"#,
    ] {
        assert!(serde_json::from_str::<Entry>(line).is_err(), "{line}");
    }
}
