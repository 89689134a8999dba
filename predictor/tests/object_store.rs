#![allow(clippy::unwrap_used, reason = "a test may panic")]
//! Object stores, against a real S3 server on a loopback port. `make test-s3` builds it and runs these tests.

mod s3_server;

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::thread;

use jiff::Timestamp;
use s3_server::{KEY, SECRET, Server};
use stockpredictor_predictor::object_store::ObjectStore;
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::destination::{Destination, Upload};

fn name(second: i64) -> ArchiveName {
    ArchiveName::at(
        Timestamp::from_second(1_754_049_600 + second).unwrap(),
        false,
    )
}

/// Bytes that differ everywhere.
fn bytes(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    (0..length)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            (state >> 56) as u8
        })
        .collect()
}

fn claim(store: &ObjectStore, second: i64) -> Option<Box<dyn Upload>> {
    store.claim(name(second)).unwrap()
}

fn names(store: &ObjectStore) -> Vec<String> {
    let mut names: Vec<_> = store
        .list()
        .unwrap()
        .into_iter()
        .map(|item| item.name)
        .collect();
    names.sort();
    names
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn an_archive_of_many_parts_comes_back_whole_and_in_ranges() {
    let server = Server::start();
    let store = server.connect();
    let content = bytes(40_000_001);
    let mut upload = claim(&store, 0).unwrap();
    for part in content.chunks(1_234_567) {
        upload.write_all(part).unwrap();
    }
    assert_eq!(
        names(&store),
        ["stock_prediction_backup_20250801_120000.claim"],
        "nothing of it is visible yet"
    );
    upload.finish(b"{}").unwrap();
    let archive = name(0).to_string();
    assert_eq!(names(&store), [name(0).meta(), archive.clone()]);
    assert_eq!(store.read(&name(0).meta(), 2).unwrap().unwrap(), b"{}");
    let opened = store.open(&archive).unwrap().unwrap();
    assert_eq!(opened.size(), content.len() as u64);
    // At borders of blocks, across several, at both ends, and from several threads.
    let mib = 1 << 20;
    let ranges = [
        (0, 1),
        (0, 5 * mib),
        (2 * mib - 1, 2),
        (7 * mib + 3, 9 * mib),
        (content.len() - 1, 1),
        (content.len() - 3 * mib, 3 * mib),
        (content.len(), 0),
    ];
    thread::scope(|scope| {
        for (start, length) in ranges {
            let (opened, content) = (&opened, &content);
            scope.spawn(move || {
                let mut buffer = vec![0; length];
                opened.read_exact_at(&mut buffer, start as u64).unwrap();
                assert!(buffer == content[start..start + length], "{start}+{length}");
            });
        }
    });
    assert!(
        opened
            .read_exact_at(&mut [0; 2], content.len() as u64 - 1)
            .is_err()
    );
    assert!(opened.read_exact_at(&mut [0; 2], u64::MAX).is_err());
    // An object that is exchanged isn't mixed with what was read before.
    let opened = store.open(&archive).unwrap().unwrap();
    opened.read_exact_at(&mut [0; 2], 0).unwrap();
    store.replace(&archive, &bytes(40_000_000)).unwrap();
    assert!(opened.read_exact_at(&mut [0; 2], 30_000_000).is_err());
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn a_dropped_upload_leaves_nothing() {
    let server = Server::start();
    let store = server.connect();
    let mut upload = claim(&store, 0).unwrap();
    upload.write_all(&bytes(20_000_000)).unwrap();
    drop(upload);
    assert_eq!(names(&store), [""; 0]);
    assert_eq!(server.files(), [""; 0], "no part stays");
    // An empty archive is no archive, but a small one needs no whole part.
    let mut upload = claim(&store, 0).unwrap();
    upload.write_all(b"x").unwrap();
    upload.finish(b"{}").unwrap();
    assert_eq!(store.read(&name(0).to_string(), 1).unwrap().unwrap(), b"x");
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn of_many_writers_one_gets_the_name() {
    let server = Server::start();
    let store = Arc::new(server.connect());
    let writers: Vec<_> = (0..8)
        .map(|index| {
            let store = Arc::clone(&store);
            thread::spawn(move || {
                let name = ArchiveName::at(name(0).time(), index % 2 == 0);
                let upload = store.claim(name).unwrap();
                upload.map(|mut upload| {
                    upload.write_all(b"x").unwrap();
                    upload.finish(b"{}").unwrap();
                })
            })
        })
        .collect();
    let results = writers.into_iter().map(|writer| writer.join().unwrap());
    assert_eq!(results.flatten().count(), 1);
    assert_eq!(names(&store).len(), 2);
    assert!(claim(&store, 0).is_none(), "taken by the archive");
    let held = claim(&store, 1).unwrap();
    assert!(claim(&store, 1).is_none(), "taken by a writer");
    drop(held);
    store.replace(&name(1).meta(), b"{}").unwrap();
    assert!(
        claim(&store, 1).is_none(),
        "taken by a file beside an archive"
    );
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn a_writer_whose_claim_was_taken_away_does_not_finish() {
    let server = Server::start();
    let store = server.connect();
    let mut upload = claim(&store, 0).unwrap();
    upload.write_all(b"x").unwrap();
    store
        .delete("stock_prediction_backup_20250801_120000.claim")
        .unwrap();
    let error = upload.finish(b"{}").unwrap_err();
    assert!(error.to_string().contains("claim is gone"), "{error}");
    assert_eq!(names(&store), [""; 0]);
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn a_killed_writer_is_invisible_and_cleaned_up_when_its_claim_is_old() {
    let server = Server::start();
    let store = server.connect();
    let mut upload = claim(&store, 0).unwrap();
    upload.write_all(&bytes(20_000_000)).unwrap();
    // A process that is killed sends nothing more. Here the whole parts are on their way in the background, so they have
    // to arrive before the upload can be called dead.
    server.wait_for_parts(2);
    std::mem::forget(upload);
    let claim_name = "stock_prediction_backup_20250801_120000.claim";
    assert_eq!(names(&store), [claim_name]);
    drop(claim(&store, 1).unwrap());
    assert_eq!(names(&store), [claim_name], "a young claim counts");
    let path = server
        .folder
        .path()
        .join("data/backups/here")
        .join(claim_name);
    let old = std::time::SystemTime::now() - std::time::Duration::from_hours(2);
    let times = fs::FileTimes::new().set_modified(old);
    File::options()
        .write(true)
        .open(path)
        .unwrap()
        .set_times(times)
        .unwrap();
    drop(claim(&store, 1).unwrap());
    assert_eq!(names(&store), [""; 0]);
    assert_eq!(server.files(), [""; 0], "no part stays");
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn more_objects_than_one_page_are_listed_and_those_of_others_are_not() {
    let server = Server::start();
    let mut options = server.options();
    options.namespace = "market".to_owned();
    options.predictor = "nvda".to_owned();
    let ours = ObjectStore::connect("s3://backups/here", &options).unwrap();
    assert_eq!(ours.label(), "s3://backups/here/market/nvda");
    let above = server.connect();
    thread::scope(|scope| {
        for worker in 0..4 {
            let ours = &ours;
            scope.spawn(move || {
                for index in (worker..1_100).step_by(4) {
                    ours.replace(&format!("object-{index:04}"), b"x").unwrap();
                }
            });
        }
    });
    let expected: Vec<_> = (0..1_100)
        .map(|index| format!("object-{index:04}"))
        .collect();
    assert_eq!(names(&ours), expected);
    assert_eq!(names(&above), [""; 0]);
    assert!(
        server
            .folder
            .path()
            .join("data/backups/here/market/nvda/object-0000")
            .exists()
    );
    for (store, name) in [
        (&above, "market/nvda/object-0000"),
        (&ours, "../x"),
        (&ours, ""),
    ] {
        assert!(store.read(name, 1).is_err(), "{name}");
    }
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn small_objects_are_replaced_bounded_and_deleted() {
    let server = Server::start();
    let store = server.connect();
    assert_eq!(store.read("a", 3).unwrap(), None);
    assert!(store.open("a").unwrap().is_none());
    store.replace("a", b"old").unwrap();
    store.replace("a", b"new").unwrap();
    assert_eq!(store.read("a", 3).unwrap().unwrap(), b"new");
    assert!(
        store
            .read("a", 2)
            .unwrap_err()
            .to_string()
            .contains("longer than 2")
    );
    store.delete("a").unwrap();
    store.delete("a").unwrap();
    assert_eq!(names(&store), [""; 0]);
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn credentials_come_from_a_file_and_wrong_ones_are_told_without_showing_them() {
    let server = Server::start();
    let mut options = server.options();
    let file = server.folder.path().join("credentials");
    let write = |secret: &str| {
        let text =
            format!("[default]\naws_access_key_id = {KEY}\naws_secret_access_key = {secret}\n");
        fs::write(&file, text).unwrap();
    };
    options.variables.clear();
    options.credentials_file = Some(file.clone());
    write(SECRET);
    let store = ObjectStore::connect("s3://backups", &options).unwrap();
    assert_eq!(names(&store), [""; 0]);
    write("another-secret");
    let store = ObjectStore::connect("s3://backups", &options).unwrap();
    let errors = [
        store.list().unwrap_err(),
        store.claim(name(0)).map(|_| ()).unwrap_err(),
        store.replace("a", b"x").unwrap_err(),
        store.read("a", 1).unwrap_err(),
    ];
    for error in errors {
        let told = error.to_string();
        assert!(told.contains("credentials"), "{told}");
        assert!(
            !told.contains("another-secret") && !told.contains(KEY),
            "{told}"
        );
        assert!(!format!("{store:?}").contains("secret"));
    }
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn a_missing_bucket_is_told_by_every_call() {
    let server = Server::start();
    let store = ObjectStore::connect("s3://no-such-bucket/a", &server.options()).unwrap();
    let errors = [
        store.list().unwrap_err(),
        store.claim(name(0)).map(|_| ()).unwrap_err(),
        store.replace("a", b"x").unwrap_err(),
        store.read("a", 1).unwrap_err(),
    ];
    for error in errors {
        assert!(
            error
                .to_string()
                .contains("NoSuchBucket: create the bucket"),
            "{error}"
        );
    }
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn an_endpoint_where_nobody_answers_is_told_within_its_limits() {
    let server = Server::start();
    let mut options = server.options();
    // Refused at once; and listening, but silent.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    for address in [closed, silent.local_addr().unwrap()] {
        options.endpoint = Some(format!("http://{address}"));
        options
            .variables
            .insert("AWS_READ_TIMEOUT".to_owned(), "1 second".to_owned());
        let store = ObjectStore::connect("s3://backups/a", &options).unwrap();
        let error = store.list().unwrap_err();
        assert!(error.to_string().contains("check the endpoint"), "{error}");
        assert!(
            error.to_string().starts_with("s3://backups/a: list: "),
            "{error}"
        );
    }
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn a_server_that_dies_ends_an_upload_with_an_error() {
    let mut server = Server::start();
    let store = server.connect();
    let mut upload = claim(&store, 0).unwrap();
    upload.write_all(&bytes(9_000_000)).unwrap();
    server.process.kill().unwrap();
    server.process.wait().unwrap();
    let rest = bytes(30_000_000);
    let failed = upload.write_all(&rest).and_then(|()| upload.finish(b"{}"));
    assert!(failed.is_err());
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn inside_an_asynchronous_task_a_call_fails_instead_of_blocking_it() {
    let server = Server::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let error = runtime.block_on(async { server.connect().list().unwrap_err() });
    assert!(error.to_string().contains("thread of their own"), "{error}");
}

/// A certificate for 127.0.0.1 that an authority of the test's own signed, and its key.
fn certify(folder: &Path) -> Vec<String> {
    let openssl = |arguments: &str| {
        let made = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(made.status.success(), "{arguments}: {made:?}");
    };
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
    fs::write(folder.join("extensions"), "subjectAltName=IP:127.0.0.1\n").unwrap();
    openssl(&format!(
        "req -x509 {key} -days 2 -subj /CN=authority -keyout ca.key -out ca.crt"
    ));
    openssl(&format!(
        "req {key} -subj /CN=store -keyout tls.key -out tls.csr"
    ));
    openssl(
        "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile extensions -out tls.crt",
    );
    let file = |name: &str| folder.join(name).display().to_string();
    let options = ["--cert", &file("tls.crt"), "--key", &file("tls.key")];
    options.map(str::to_owned).into()
}

#[test]
#[ignore = "needs an S3 server: make test-s3"]
fn a_store_with_a_certificate_of_its_own_is_trusted_by_its_bundle_only() {
    let server = Server::start_with("https", certify);
    let mut options = server.options();
    let error = ObjectStore::connect("s3://backups/here", &options)
        .unwrap()
        .list()
        .unwrap_err();
    assert!(error.to_string().contains("AWS_CA_BUNDLE"), "{error}");
    options.ca_bundle = Some(server.folder.path().join("ca.crt"));
    let store = ObjectStore::connect("s3://backups/here", &options).unwrap();
    let mut upload = claim(&store, 0).unwrap();
    upload.write_all(&bytes(9_000_000)).unwrap();
    upload.finish(b"{}").unwrap();
    assert_eq!(names(&store).len(), 2);
    let opened = store.open(&name(0).to_string()).unwrap().unwrap();
    assert_eq!(opened.size(), 9_000_000);
}
