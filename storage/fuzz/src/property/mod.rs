//! One function for each fuzz target: bytes in, a panic if a property doesn't hold, and whether they were accepted out.
//!
//! It is compiled twice, into the fuzz targets and into a test; both have `builder` at their root.
#![allow(
    clippy::unwrap_used,
    reason = "a property that doesn't hold panics: that is what a fuzzer looks for"
)]

mod draft;
mod edit;
mod input;
mod lines;
mod scene;
mod spoil;

use std::sync::OnceLock;

use stockpredictor_storage::decrypt::Identity;

use crate::builder::{LATER, NAME, Shelf};

use scene::Case;

/// Any bytes as the lines of a manifest, through the parser and through an archive that has them.
pub fn manifest(input: &[u8]) -> bool {
    lines::each_line_is_read_as_it_is_written(input);
    lines::an_archive_lists_them_in_order(input)
}

/// Any bytes as an archive, which is opened, verified and unpacked.
pub fn extract(input: &[u8]) -> bool {
    let shelf = Shelf::with(NAME, input.to_vec());
    scene::look(&Case {
        shelf: &shelf,
        name: NAME,
        identities: identities(),
        threads: 1,
        is_part: false,
    })
}

/// Archives that a program of ours could have sealed, whatever is in them: checksums, hashes and places are right
/// unless the input says otherwise.
pub fn members(input: &[u8]) -> bool {
    let made = edit::archives(input);
    let shelf = Shelf::with(NAME, made.full);
    let mut name = NAME;
    if let Some(incremental) = made.incremental {
        shelf.put(LATER, incremental);
        name = LATER;
    }
    scene::look(&Case {
        shelf: &shelf,
        name,
        identities: &[],
        threads: made.threads,
        is_part: made.is_part,
    })
}

/// A key that opens nothing, so that the headers of encrypted archives are read; none is stored in the repository.
fn identities() -> &'static [Identity] {
    static KEY: OnceLock<Vec<Identity>> = OnceLock::new();
    KEY.get_or_init(|| {
        let (_, key) = crate::builder::encrypted(b"");
        vec![key.parse().unwrap()]
    })
}
