//! Memory of a backup of many and of large files. Ignored by default: it writes about a gigabyte.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::time::Instant;

use jiff::Timestamp;
use stockpredictor_storage::archive::header::{Kind, Origin};
use stockpredictor_storage::backup::{self, Request};
use stockpredictor_storage::destination::Destination;
use stockpredictor_storage::destination::folder::Folder;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::progress::Silent;

/// Most resident memory, in KiB.
const MOST: u64 = 64 << 10;

fn peak() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "writes 100,000 files and half a gigabyte"]
fn memory_is_bounded_for_many_files_and_for_large_ones() {
    let root = tempfile::tempdir().unwrap();
    let store = tempfile::tempdir().unwrap();
    fs::create_dir(root.path().join(".stockpredictor")).unwrap();
    for folder in 0..100 {
        let folder = root.path().join(format!("stock_data/cache/{folder}"));
        fs::create_dir_all(&folder).unwrap();
        for file in 0..1000_u32 {
            let line = format!("{file},").repeat(100 + file as usize % 200);
            fs::write(folder.join(format!("{file}.json")), line).unwrap();
        }
    }
    let mut word = 1_u64;
    let large: Vec<u8> = std::iter::repeat_with(|| {
        word = word.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (word >> 60) as u8
    })
    .take(1 << 20)
    .collect();
    let path = root.path().join("stock_data/large");
    for _ in 0..512 {
        use std::io::Write as _;
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        file.write_all(&large).unwrap();
    }
    drop(large);
    let destinations: Vec<Box<dyn Destination>> =
        vec![Box::new(Folder::create(store.path()).unwrap())];
    let origin = Origin::manual(uuid::Uuid::new_v4());
    let mut request = Request::new(Layout::new(root.path()), origin, Timestamp::now());
    for mode in [Kind::Full, Kind::Incremental] {
        request.mode = mode;
        let started = Instant::now();
        let report = backup::run(&request, &destinations, &Silent).unwrap();
        println!(
            "{mode:?}: {:?}, {} files, {} bytes, peak {} KiB",
            started.elapsed(),
            report.files,
            report.archive_bytes,
            peak()
        );
        assert_eq!(report.kind, mode);
        assert!(peak() <= MOST, "{} KiB", peak());
    }
}
