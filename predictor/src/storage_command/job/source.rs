//! The archive that a restore takes: chosen, attested, opened, and pinned against retention.
//!
//! In comes a restore job, out comes a chain of archives. What nobody attested is taken only by its exact name or by a
//! SHA-256 that the document gives.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp;
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::catalog::{Catalog, Record};
use stockpredictor_storage::chain::Chain;
use stockpredictor_storage::decrypt::Identity;
use stockpredictor_storage::destination::Destination;
use stockpredictor_storage::known::{Attestation, Known};
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::pin;
use stockpredictor_storage::select::{self, Scope, Wanted};
use uuid::Uuid;

use super::document::Restore;
use super::failure::{Failure, Reason};
use super::interrupt::Stop;
use super::inventory::is_of;
use super::message::{self, Message, second};
use super::place::Missing;
use crate::storage_command::place;

/// What is known of archives: by the document, and by the volume's own runs.
pub struct Attested {
    given: BTreeMap<ArchiveName, Digest>,
    own: Known,
}

impl Attested {
    pub const fn new(given: BTreeMap<ArchiveName, Digest>, own: Known) -> Self {
        Self { given, own }
    }

    /// What the document says comes first: it was never on the volume.
    pub fn attest(&self, record: &Record) -> Attestation {
        let Some(known) = self.given.get(&record.name) else {
            return self.own.attest_record(record);
        };
        match &record.meta {
            Some(meta) if meta.sha256 != *known => Attestation::Mismatch { expected: *known },
            // Without a file beside it that fits the archive's own bytes decide.
            Some(_) | None => Attestation::Known(*known),
        }
    }
}

/// The keys of a file; none without one.
pub fn identities(path: Option<&Path>) -> Result<Vec<Identity>, Failure> {
    path.map_or_else(|| Ok(Vec::new()), |path| Ok(Identity::read_file(path)?))
}

/// Where a restore takes its archive from.
pub struct Source {
    pub destination: Box<dyn Destination>,
    pub identities: Vec<Identity>,
    /// How messages call the place.
    pub label: String,
}

/// The archive that was chosen.
#[derive(Clone, Copy, Debug)]
pub struct Chosen {
    pub name: ArchiveName,
    /// The SHA-256 that its bytes must have, if anybody knows it.
    pub expected: Option<Digest>,
}

impl Source {
    /// Reaches the place and reads the keys.
    pub fn reach(job: &Restore, stop: &Stop) -> Result<Self, Failure> {
        let (Some(source), Some(origin)) = (&job.source, &job.origin) else {
            return Err(Failure::new(
                Reason::InvalidJob,
                "source or origin is missing",
            ));
        };
        Ok(Self {
            destination: source.reach(job.root.as_deref(), origin, Missing::Refuse, stop)?,
            identities: identities(job.identity.as_deref())?,
            label: source.name.clone(),
        })
    }

    /// Chooses the archive.
    pub fn choose(
        &self,
        job: &Restore,
        wanted: &Wanted,
        message: &mut Message,
    ) -> Result<Chosen, Failure> {
        let Some(origin) = &job.origin else {
            return Err(Failure::new(Reason::InvalidJob, "origin is missing"));
        };
        let own = match &job.root {
            Some(root) => place::known_in(&Layout::new(root))?,
            None => Known::default(),
        };
        let attested = Attested::new(job.known.clone(), own);
        let catalog = Catalog::read(self.destination.as_ref())?;
        let is_named = matches!(wanted, Wanted::Name(_));
        let is_ours = |record: &&Record| {
            let meta = record.meta.as_ref();
            is_named || meta.is_none_or(|meta| is_of(origin, &meta.origin))
        };
        let records: Vec<Record> = catalog.records.iter().filter(is_ours).cloned().collect();
        let scope = Scope::Predictor {
            namespace: origin.namespace.clone(),
            predictor: origin.predictor.clone(),
        };
        let attest = |record: &Record| attested.attest(record);
        let choice = select::select(&records, wanted, &scope, &attest, job.sha256)?;
        for (name, reason) in &choice.skipped {
            message.warn(format!("{name} was passed over: {reason}"));
        }
        if choice.expected.is_none() {
            message.warn(format!(
                "the SHA-256 of {} is not known: its hashes are checked, its author is not",
                choice.record.name
            ));
        }
        Ok(Chosen {
            name: choice.record.name,
            expected: choice.expected,
        })
    }

    /// Opens the archive and its base.
    pub fn open(&self, name: ArchiveName, expected: Option<Digest>) -> Result<Chain, Failure> {
        let opened = Chain::open(
            self.destination.as_ref(),
            &name.to_string(),
            &self.identities,
            expected,
        );
        let chain = opened.map_err(|error| self.explain(error.into()))?;
        let threads = place::threads().map_err(|error| Failure::new(Reason::InvalidJob, error))?;
        Ok(if threads > 0 {
            chain.with_threads(threads)
        } else {
            chain
        })
    }

    /// Says where, and whether a key was given.
    pub fn explain(&self, failure: Failure) -> Failure {
        failure
            .with_key(!self.identities.is_empty())
            .at(&self.label)
    }

    /// Keeps retention away. A place that can only be read is nobody's who deletes there; that is told.
    pub fn pin(&self, name: ArchiveName, restore: Uuid, message: &mut Message) {
        let put = pin::put(self.destination.as_ref(), name, restore, Timestamp::now());
        if let Err(error) = put {
            message.warn(format!("{name} can't be protected from retention: {error}"));
        }
    }

    /// Lets retention have it again.
    pub fn unpin(&self, name: ArchiveName, restore: Uuid, message: &mut Message) {
        if let Err(error) = pin::remove(self.destination.as_ref(), name, restore) {
            message.warn(format!(
                "the protection of {name} from retention can't be taken off, it ends by itself: {error}"
            ));
        }
    }
}

/// What the message says of an archive.
pub fn described(
    chain: &Chain,
    name: ArchiveName,
    sha256: Digest,
    attested: bool,
) -> message::Archive {
    let header = chain.header();
    message::Archive {
        name,
        id: header.id,
        sha256,
        attested,
        kind: header.kind,
        base: header.base.as_ref().map(|base| base.name),
        created_at: second(header.created_at),
    }
}

/// Whether a restore of these parts brings models.
pub fn brings_models(chain: &Chain, only: Option<&[Category]>) -> bool {
    use stockpredictor_storage::snapshot::Snapshot;
    chain.include().contains(&Category::Models)
        && only.is_none_or(|only| only.contains(&Category::Models))
}
