//! From what a person asks for to an archive: where it lies, its name, and the hash that it must have.
//!
//! In comes `latest`, a time, a name or a file, out comes the archive that `restore` takes and `verify` looks at.

use anyhow::bail;
use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::catalog::Catalog;
use stockpredictor_storage::destination::Destination;
use stockpredictor_storage::known::Known;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::select::{self, Scope, Wanted};

use super::place::{self, StoreArgs};

/// Where and among what is chosen.
pub struct Asked<'a> {
    pub layout: &'a Layout,
    pub store: &'a StoreArgs,
    /// What `--from` says.
    pub from: Option<&'a String>,
    pub known: &'a Known,
    /// Whose backups; the volume's own without it.
    pub origin: Option<&'a Scope>,
    /// What `--sha256` says.
    pub sha256: Option<Digest>,
}

/// The archive.
pub struct Choice {
    pub destination: Box<dyn Destination>,
    pub name: String,
    /// `None` if nobody knows it.
    pub expected: Option<Digest>,
    /// Which newer ones were not taken, and why.
    pub notes: Vec<String>,
}

impl Asked<'_> {
    /// The archive that is wanted.
    pub fn choose(&self, wanted: &Wanted) -> anyhow::Result<Choice> {
        if let Wanted::File(path) = wanted {
            let (folder, name) = place::folder_of(path)?;
            if !path.is_file() {
                bail!(
                    "{} is neither the name of a backup nor a file: `predictor storage list` shows what there is",
                    path.display()
                );
            }
            return Ok(Choice {
                destination: self.store.open(&folder)?,
                expected: self.sha256_of(&name),
                name,
                notes: Vec::new(),
            });
        }
        let destination = self.open()?;
        let catalog = Catalog::read(destination.as_ref())?;
        let scope = match self.origin {
            Some(origin) => origin.clone(),
            None => self.store.scope(self.layout)?,
        };
        let attest = |record: &_| self.known.attest_record(record);
        let choice = select::select(&catalog.records, wanted, &scope, &attest, self.sha256)?;
        let passed = choice.skipped.iter();
        let notes = passed
            .map(|(name, reason)| format!("{name} was passed over: {reason}"))
            .collect();
        let (name, expected) = (choice.record.name.to_string(), choice.expected);
        Ok(Choice {
            destination,
            name,
            expected,
            notes,
        })
    }

    /// Where archives are looked for by name.
    pub fn open(&self) -> anyhow::Result<Box<dyn Destination>> {
        self.store.open(&place::from(self.from, self.layout))
    }

    /// The hash that an archive must have.
    pub fn sha256_of(&self, name: &str) -> Option<Digest> {
        let known = || self.known.sha256_of(name.parse().ok()?);
        self.sha256.or_else(known)
    }
}
