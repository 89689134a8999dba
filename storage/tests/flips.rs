//! Every bit of a small archive flipped, and every cut of it: verify finds all of them, and nothing extracts.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod builder;
mod restore_support;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use builder::*;
use restore_support::{TestVolume, file, things};
use stockpredictor_storage::archive::meta::Level;
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::chain::Chain;
use stockpredictor_storage::decrypt::Identity;
use stockpredictor_storage::progress::Silent;
use stockpredictor_storage::restore::{Gate, NoCheck, run};
use stockpredictor_storage::snapshot::{Extracted, Snapshot, SnapshotError};
use stockpredictor_storage::verify::{Request, verify};
use uuid::Uuid;

/// Whether verify, at both levels, and extract refuse these bytes. There is no file beside them that could help.
fn is_found(name: &str, bytes: &[u8], identities: &[Identity]) -> Result<(), String> {
    let shelf = Shelf::with(name, bytes.to_vec());
    let request = |level| Request {
        level,
        identities,
        known: None,
        prover: None,
        progress: &Silent,
    };
    if let Ok(report) = verify(&shelf, name, &request(Level::Readable))
        && (report.level.is_some() || report.problems.is_empty())
    {
        return Err(format!("verify says {report:?}"));
    }
    // An encrypted file's bytes can't be compared with anything unless a digest is known.
    if identities.is_empty()
        && let Ok(report) = verify(&shelf, name, &request(Level::Stored))
        && report.level.is_some()
    {
        return Err(format!("verify of the bytes says {report:?}"));
    }
    match unpack(&shelf, name, identities) {
        Ok(done) => Err(format!("{done:?} was extracted")),
        Err(_) => Ok(()),
    }
}

fn unpack(shelf: &Shelf, name: &str, identities: &[Identity]) -> Result<Extracted, SnapshotError> {
    let target = tempfile::tempdir().unwrap();
    let chain = Chain::open(shelf, name, identities, None)?.with_threads(1);
    chain.extract(&|_| true, target.path(), &Silent)
}

/// The bytes as they are must be good, else everything would be found.
fn is_good(name: &str, bytes: &[u8], identities: &[Identity]) {
    let shelf = Shelf::with(name, bytes.to_vec());
    assert_eq!(unpack(&shelf, name, identities).unwrap().files, 2);
    let said = is_found(name, bytes, identities).unwrap_err();
    assert!(said.contains("Some(Readable)"), "{said}");
}

fn tiny() -> Vec<u8> {
    let mut builder = Builder::new(&header());
    builder.target = 2048;
    builder.add(&Tar::directory("config"));
    builder.add(&Tar::file("config/a", b"price"));
    builder.add(&Tar::file("config/b", &[b'a'; 2500]));
    builder.add(&Tar::link("config/c", "a"));
    builder.finish()
}

fn every_flip_and_cut(name: &str, good: &[u8], identities: &[Identity]) {
    let mut missed = Vec::new();
    let mut look = |what: String, bytes: &[u8]| {
        if let Err(reason) = is_found(name, bytes, identities) {
            missed.push(format!("{what}: {reason}"));
        }
    };
    for bit in 0..good.len() * 8 {
        let mut damaged = good.to_vec();
        damaged[bit / 8] ^= 1 << (bit % 8);
        look(format!("bit {bit}"), &damaged);
    }
    for length in 0..good.len() {
        look(format!("cut to {length}"), &good[..length]);
    }
    let mut longer = good.to_vec();
    longer.push(0);
    look("a byte more".to_owned(), &longer);
    assert_eq!(missed, Vec::<String>::new());
}

#[test]
fn every_flip_and_cut_of_a_plain_archive_is_found() {
    let good = tiny();
    is_good(NAME, &good, &[]);
    every_flip_and_cut(NAME, &good, &[]);
}

#[test]
fn every_flip_and_cut_of_an_encrypted_archive_is_found() {
    let (sealed, key) = encrypted(&tiny());
    let identities = [key.parse().unwrap()];
    let name = ArchiveName::at(header().created_at, true).to_string();
    is_good(&name, &sealed, &identities);
    every_flip_and_cut(&name, &sealed, &identities);
}

/// Sees whether a restore began to replace names.
struct Watch(AtomicBool);

impl Gate for Watch {
    fn pass(&self, step: &'static str) -> io::Result<()> {
        if step.ends_with("aside") || step.ends_with("in place") {
            self.0.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

#[test]
fn every_flip_is_found_by_a_restore_in_place_before_it_touches_the_volume() {
    let good = tiny();
    let volume = TestVolume::with(&things(&[("config/a", file("mine"))]));
    let before = volume.read();
    let restore = |bytes: &[u8]| {
        let watch = Watch(AtomicBool::new(false));
        let shelf = Shelf::with(NAME, bytes.to_vec());
        let is_done = Chain::open(&shelf, NAME, &[], None).is_ok_and(|chain| {
            let chain = chain.with_threads(1);
            let asked = restore_support::request(Uuid::from_u128(1));
            run(&volume.volume(&watch), &chain, &asked, &NoCheck).is_ok()
        });
        (is_done, watch.0.into_inner())
    };
    for bit in 0..good.len() * 8 {
        let mut damaged = good.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(restore(&damaged), (false, false), "bit {bit}");
    }
    assert_eq!(volume.read(), before);
    assert_eq!(volume.state(), Vec::<String>::new());
    assert_eq!(restore(&good), (true, true), "what is whole is restored");
}
