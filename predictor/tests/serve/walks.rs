//! A scrape walks over no files, however many there are: counted system calls.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::common::{Service, Volume, predictor, within};

/// Files on the volume.
const FILES: usize = 100_000;
/// Files in one directory.
const PER_DIRECTORY: usize = 1000;
/// Scrapes that are watched.
const SCRAPES: usize = 100;

/// How long the first count may take on a busy machine, with each call watched.
const PATIENCE: Duration = Duration::from_mins(3);

/// Where so many files are made in seconds: memory, where it has room for them.
fn fast_folder() -> PathBuf {
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).is_ok_and(|found| {
        let inodes = found.f_files == 0 || found.f_favail > 2 * FILES as u64;
        inodes && found.f_bavail * found.f_frsize > 256 << 20
    });
    if room {
        memory.to_owned()
    } else {
        std::env::temp_dir()
    }
}

#[test]
fn a_scrape_over_a_hundred_thousand_files_walks_over_none() {
    let volume = Volume::new_in(&fast_folder());
    for directory in 0..FILES / PER_DIRECTORY {
        let folder = volume.path(&format!("stock_data/cache/daily_cache/{directory}"));
        fs::create_dir(&folder).unwrap();
        for file in 0..PER_DIRECTORY {
            fs::File::create(folder.join(file.to_string())).unwrap();
        }
    }
    assert!(
        Command::new("strace").arg("--version").output().is_ok(),
        "strace is needed: install Debian's package strace (make test-unit does)"
    );
    let calls = volume.path("calls");
    // The tracer is a grandchild: the service stays the child that this test started.
    let own = predictor();
    let mut tracer = Command::new("strace");
    tracer
        .env_clear()
        .envs(
            own.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .env("PATH", std::env::var_os("PATH").unwrap())
        .args([
            "-D",
            "-f",
            "--seccomp-bpf",
            "-qq",
            "-e",
            "trace=getdents64,statx,newfstatat,openat,openat2",
        ])
        .arg("-o")
        .arg(&calls)
        .arg(own.get_program());
    let service = Service::start_as(tracer, &volume, &[], &[]);
    let counted = || {
        let files = "directory=\"stock_data\"";
        service
            .metrics()
            .value("persistent_storage_files_total", files)
    };
    within(PATIENCE, "the files are counted", || {
        counted() >= Some(FILES as f64)
    });
    let so_far = || fs::read_to_string(&calls).unwrap().lines().count();
    let before = so_far();
    assert!(
        before > FILES,
        "the tracer saw the count at the start: {before}"
    );
    for scrape in 1..=SCRAPES {
        assert!(counted() >= Some(FILES as f64));
        // Looks at the model, the volume and the histories go on meanwhile: some calls a second, none for a scrape.
        let during = so_far() - before;
        assert!(
            during < FILES / 100,
            "{scrape} scrapes made {during} calls, the count at the start {before}"
        );
    }
    service.stop();
}
