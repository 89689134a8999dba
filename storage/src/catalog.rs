//! What lies at a destination: archives, the files beside them, chains, and what is wrong with any of them.
//!
//! In comes a destination, out come records, the newest first. Only lists and `.meta.json` files are read, never an
//! archive; so a record is a hint for lists, retention and choice, and nothing is restored by its word.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use jiff::Timestamp;
use uuid::Uuid;

use crate::archive::header::{FORMAT, Kind, Origin};
use crate::archive::meta::{MAX_META, Meta};
use crate::archive::name::ArchiveName;
use crate::destination::{Destination, DestinationError, Item};
use crate::pin::{self, Pin};

/// Most threads that read `.meta.json` files at once: over a network the wait is long and the work little.
const READERS: usize = 8;
/// Most bytes of `.meta.json` files that are read, the newest first; enough for some 20,000 archives.
const MAX_BYTES: u64 = 32 << 20;
/// What ends the name of a writer's claim: a hidden file in a folder, an object in a store.
const CLAIMS: [(&str, &str); 2] = [(".", ".partial"), ("", ".claim")];

/// Everything of ours at one destination.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Catalog {
    /// Archives and what is left of them, the newest first.
    pub records: Vec<Record>,
    /// Marks of restores that use an archive, sorted.
    pub pins: Vec<Pin>,
}

/// One archive, or what is left of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name.
    pub name: ArchiveName,
    /// Bytes of the archive; `None` if there is none.
    pub size: Option<u64>,
    /// The file beside it, if it is there and fits.
    pub meta: Option<Meta>,
    /// What is wrong, the worst first.
    pub anomalies: Vec<Anomaly>,
}

/// Something that a whole backup doesn't have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Anomaly {
    /// A wrong clock made it.
    #[error("its name is of the future, so the clock was wrong: it is taken only by its name")]
    Future,
    /// A writer is at work, or died.
    #[error("it is being written, or its writer was killed")]
    Unfinished,
    /// The file beside it is there without its archive.
    #[error("the archive is gone: its deletion was interrupted, or a person removed it")]
    ArchiveMissing,
    /// The archive is there alone.
    #[error("{0} is missing beside it")]
    MetaMissing(String),
    /// The file beside it can't be understood.
    #[error("{name} is damaged: {reason}")]
    MetaDamaged {
        /// The file's name.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The file beside it tells of another archive.
    #[error("the file beside it tells of {0}, not of this archive")]
    MetaOfAnother(ArchiveName),
    /// A later release wrote it.
    #[error("format {0} is newer than this release knows: use a newer release")]
    Newer(u32),
    /// The archive was cut or replaced.
    #[error("the archive has {found} bytes, {expected} were written")]
    SizeDiffers {
        /// Bytes of the archive.
        found: u64,
        /// Bytes by the file beside it.
        expected: u64,
    },
    /// It is incremental and what it is based on isn't there whole.
    #[error("broken chain: {0}")]
    Broken(String),
}

impl Catalog {
    /// Reads what lies at a destination.
    pub fn read(destination: &dyn Destination) -> Result<Self, DestinationError> {
        let items = destination.list()?;
        let listing = Listing::of(&items);
        let stems = listing.metas_to_read();
        let metas = read_metas(destination, &stems)?;
        let mut records = listing.records(&metas);
        mark_future(&mut records, Timestamp::now());
        mark_broken(&mut records);
        let pins = pin::read(destination, &items)?;
        Ok(Self { records, pins })
    }

    /// Those of one origin.
    pub fn of<'a>(&'a self, origin: &'a Origin) -> impl Iterator<Item = &'a Record> {
        self.records
            .iter()
            .filter(move |record| record.is_of(origin))
    }

    /// Ids of the backups that a restore uses at this time; retention leaves them, and what they are based on.
    pub fn pinned(&self, now: Timestamp) -> BTreeSet<Uuid> {
        self.pins
            .iter()
            .filter(|pin| pin.is_valid(now))
            .filter_map(|pin| Some(self.find(pin.archive)?.meta.as_ref()?.id))
            .collect()
    }

    /// The record of an archive.
    pub fn find(&self, name: ArchiveName) -> Option<&Record> {
        find(&self.records, name)
    }
}

impl Record {
    /// Whether a readable file beside it says that it is of this origin.
    pub fn is_of(&self, origin: &Origin) -> bool {
        self.meta
            .as_ref()
            .is_some_and(|meta| meta.origin == *origin)
    }

    /// Whether what it is based on isn't there.
    pub fn is_broken(&self) -> bool {
        self.anomalies
            .iter()
            .any(|anomaly| matches!(anomaly, Anomaly::Broken(_)))
    }

    /// Whether a writer may still be at work on it.
    pub fn is_unfinished(&self) -> bool {
        self.anomalies.contains(&Anomaly::Unfinished)
    }

    /// Whether its name is of the future, so that it isn't the newest of anything.
    pub fn is_future(&self) -> bool {
        self.anomalies.contains(&Anomaly::Future)
    }

    /// Whether the archive is there with a file beside it that fits, and so is its base.
    pub fn is_whole(&self) -> bool {
        self.size.is_some() && self.meta.is_some() && !self.is_broken()
    }

    /// Whether a restore may choose it by itself: whole, not of the future, and no doubt of the guard stands.
    pub fn is_restorable(&self) -> bool {
        self.is_whole()
            && !self.is_future()
            && self.meta.as_ref().is_some_and(|meta| !meta.is_suspect())
    }

    /// The archive that it is based on, if it is incremental.
    pub fn base(&self) -> Option<ArchiveName> {
        Some(self.meta.as_ref()?.base.as_ref()?.name)
    }
}

/// The record of an archive, in records that are sorted as a catalog's are.
pub(crate) fn find(records: &[Record], name: ArchiveName) -> Option<&Record> {
    records
        .binary_search_by(|record| name.cmp(&record.name))
        .ok()
        .and_then(|index| records.get(index))
}

/// Marks what a wrong clock made.
fn mark_future(records: &mut [Record], now: Timestamp) {
    for record in records
        .iter_mut()
        .filter(|record| record.name.is_future(now))
    {
        record.anomalies.push(Anomaly::Future);
    }
}

/// Marks incremental backups whose base isn't there as it was. Records are sorted, the newest first.
pub(crate) fn mark_broken(records: &mut [Record]) {
    let breaks: Vec<_> = records
        .iter()
        .enumerate()
        .filter_map(|(index, record)| Some((index, why_broken(records, record.meta.as_ref()?)?)))
        .collect();
    for (index, reason) in breaks {
        if let Some(record) = records.get_mut(index) {
            record.anomalies.push(Anomaly::Broken(reason));
        }
    }
}

fn why_broken(records: &[Record], meta: &Meta) -> Option<String> {
    let base = meta.base.as_ref()?;
    let Some(found) = find(records, base.name).filter(|found| found.size.is_some()) else {
        return Some(format!("its base {} is missing", base.name));
    };
    let Some(found) = &found.meta else {
        return Some(format!(
            "the file beside its base {} is missing or damaged",
            base.name
        ));
    };
    if found.id != base.id || found.sha256 != base.sha256 {
        return Some(format!("{} isn't the backup it is based on", base.name));
    }
    if found.kind != Kind::Full || found.origin != meta.origin {
        return Some(format!(
            "its base {} is no full backup of the same origin",
            base.name
        ));
    }
    None
}

/// A destination's names, sorted out.
struct Listing {
    archives: BTreeMap<ArchiveName, u64>,
    /// Stems, by their plain archive's name, with the file's size.
    metas: BTreeMap<ArchiveName, u64>,
    claims: BTreeSet<ArchiveName>,
}

impl Listing {
    fn of(items: &[Item]) -> Self {
        let mut listing = Self {
            archives: BTreeMap::new(),
            metas: BTreeMap::new(),
            claims: BTreeSet::new(),
        };
        for item in items {
            if let Ok(name) = item.name.parse() {
                listing.archives.insert(name, item.size);
            } else if ArchiveName::is_meta(&item.name) {
                if let Some(name) = item.name.strip_suffix(".meta.json").and_then(of_stem) {
                    listing.metas.insert(name, item.size);
                }
            } else if let Some(name) = claimed(&item.name) {
                listing.claims.insert(name);
            }
        }
        listing
    }

    /// Which files beside archives are read: the newest, as far as memory allows.
    fn metas_to_read(&self) -> Vec<ArchiveName> {
        let mut bytes = 0_u64;
        self.metas
            .iter()
            .rev()
            .take_while(|(_, size)| {
                bytes = bytes.saturating_add(**size);
                bytes <= MAX_BYTES
            })
            .map(|(name, _)| *name)
            .collect()
    }

    fn records(&self, metas: &BTreeMap<ArchiveName, Result<Meta, String>>) -> Vec<Record> {
        let names: BTreeSet<ArchiveName> = self
            .archives
            .keys()
            .chain(&self.claims)
            .copied()
            .chain(self.metas.keys().map(|stem| self.owner(*stem, metas)))
            .collect();
        names
            .into_iter()
            .rev()
            .filter(|name| !self.is_shadow(*name))
            .map(|name| self.record(name, metas))
            .collect()
    }

    /// Which archive the file beside `stem` belongs to: the one that is there; if none is, the one that it names.
    fn owner(
        &self,
        stem: ArchiveName,
        metas: &BTreeMap<ArchiveName, Result<Meta, String>>,
    ) -> ArchiveName {
        let named = metas
            .get(&stem)
            .and_then(|read| Some(read.as_ref().ok()?.name))
            .filter(|named| plain(*named) == stem)
            .unwrap_or(stem);
        let there = |encrypted| {
            let name = ArchiveName::at(stem.time(), encrypted);
            self.archives.contains_key(&name).then_some(name)
        };
        match (there(false), there(true)) {
            (Some(name), None) | (None, Some(name)) => name,
            _ => named,
        }
    }

    /// Whether this is only the claim of an archive that is listed in its other spelling.
    fn is_shadow(&self, name: ArchiveName) -> bool {
        let other = ArchiveName::at(name.time(), !name.is_encrypted());
        !self.archives.contains_key(&name) && self.archives.contains_key(&other)
    }

    fn record(
        &self,
        name: ArchiveName,
        metas: &BTreeMap<ArchiveName, Result<Meta, String>>,
    ) -> Record {
        let stem = plain(name);
        let size = self.archives.get(&name).copied();
        let mut record = Record {
            name,
            size,
            meta: None,
            anomalies: Vec::new(),
        };
        if self.claims.contains(&stem) {
            record.anomalies.push(Anomaly::Unfinished);
        } else if size.is_none() {
            record.anomalies.push(Anomaly::ArchiveMissing);
        }
        let damaged = |reason: &str| Anomaly::MetaDamaged {
            name: name.meta(),
            reason: reason.to_owned(),
        };
        match (metas.get(&stem), self.metas.contains_key(&stem)) {
            (Some(Ok(meta)), _) => match incoherence(meta, name, size) {
                Some(anomaly) => record.anomalies.push(anomaly),
                None => record.meta = Some(meta.clone()),
            },
            (Some(Err(reason)), _) => record.anomalies.push(damaged(reason)),
            (None, true) => record.anomalies.push(damaged(
                "it wasn't read, because these files take more than 32 MiB together",
            )),
            (None, false) if size.is_some() => {
                record.anomalies.push(Anomaly::MetaMissing(name.meta()));
            }
            (None, false) => {}
        }
        record
    }
}

/// What contradicts itself, or the archive that is there.
fn incoherence(meta: &Meta, name: ArchiveName, size: Option<u64>) -> Option<Anomaly> {
    if meta.format > FORMAT {
        return Some(Anomaly::Newer(meta.format));
    }
    if meta.name != name {
        return Some(Anomaly::MetaOfAnother(meta.name));
    }
    if let Some(found) = size.filter(|size| *size != meta.archive_bytes) {
        return Some(Anomaly::SizeDiffers {
            found,
            expected: meta.archive_bytes,
        });
    }
    let reason = if meta.format == 0 || meta.id.is_nil() {
        "it has no format or no id"
    } else if (meta.kind == Kind::Incremental) != meta.base.is_some() {
        "a base belongs to incremental backups and to no others"
    } else if meta.base.as_ref().is_some_and(|base| base.id == meta.id) {
        "it is its own base"
    } else {
        return None;
    };
    Some(Anomaly::MetaDamaged {
        name: name.meta(),
        reason: reason.to_owned(),
    })
}

/// Reads the files beside archives, several at once. An error of the destination ends it: a backup that can't be seen
/// now must not be taken for one that isn't there.
fn read_metas(
    destination: &dyn Destination,
    stems: &[ArchiveName],
) -> Result<BTreeMap<ArchiveName, Result<Meta, String>>, DestinationError> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(stem) = stems.get(next.fetch_add(1, Ordering::Relaxed)) {
            match read_meta(destination, *stem) {
                Ok(Some(read)) => done.push((*stem, read)),
                Ok(None) => {}
                Err(error) => {
                    next.store(stems.len(), Ordering::Relaxed);
                    return Err(error);
                }
            }
        }
        Ok(done)
    };
    let readers = READERS.min(stems.len());
    let parts = thread::scope(|scope| {
        let threads: Vec<_> = (0..readers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .map(|thread| {
                thread.join().unwrap_or_else(|_| {
                    Err(DestinationError {
                        destination: destination.label(),
                        action: "read the files beside archives".to_owned(),
                        source: io::Error::other("a reading thread ended early"),
                    })
                })
            })
            .collect::<Result<Vec<_>, _>>()
    })?;
    Ok(parts.into_iter().flatten().collect())
}

fn read_meta(
    destination: &dyn Destination,
    stem: ArchiveName,
) -> Result<Option<Result<Meta, String>>, DestinationError> {
    match destination.read(&stem.meta(), MAX_META) {
        Ok(Some(bytes)) => Ok(Some(Meta::read(&bytes))),
        Ok(None) => Ok(None),
        // What the file is, not that the destination fails.
        Err(error)
            if matches!(
                error.source.kind(),
                io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput
            ) =>
        {
            Ok(Some(Err(error.source.to_string())))
        }
        Err(error) => Err(error),
    }
}

/// The name that stands for a stem.
fn plain(name: ArchiveName) -> ArchiveName {
    ArchiveName::at(name.time(), false)
}

fn of_stem(stem: &str) -> Option<ArchiveName> {
    format!("{stem}.tar.gz").parse().ok()
}

/// The stem that a claim reserves.
fn claimed(name: &str) -> Option<ArchiveName> {
    CLAIMS
        .iter()
        .find_map(|(start, end)| of_stem(name.strip_prefix(start)?.strip_suffix(end)?))
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;
    use std::path::Path;

    use jiff::Timestamp;
    use uuid::Uuid;

    use super::*;
    use crate::archive::digest::Digest;
    use crate::archive::header::Base;
    use crate::archive::meta::Guarded;
    use crate::destination::folder::Folder;

    pub(crate) fn origin(backup: &str) -> Origin {
        Origin {
            backup: backup.to_owned(),
            ..Origin::manual(Uuid::from_u128(7))
        }
    }

    /// The meta of a small full backup at a second.
    pub(crate) fn full(second: i64) -> Meta {
        let created_at = Timestamp::from_second(second).unwrap();
        Meta {
            format: FORMAT,
            id: Uuid::from_u128(u128::try_from(second).unwrap()),
            name: ArchiveName::at(created_at, false),
            origin: origin("manual"),
            kind: Kind::Full,
            base: None,
            created_at,
            include: Vec::new(),
            stored_files: 1,
            stored_bytes: 2,
            archive_bytes: 3,
            sha256: Digest::of(&second.to_le_bytes()),
            key_ids: Vec::new(),
            totals: BTreeMap::new(),
            guarded: Guarded::default(),
            suspect: None,
            verification: None,
        }
    }

    pub(crate) fn incremental(second: i64, base: &Meta) -> Meta {
        Meta {
            kind: Kind::Incremental,
            base: Some(Base {
                id: base.id,
                name: base.name,
                sha256: base.sha256,
            }),
            ..full(second)
        }
    }

    /// Records as a catalog would have them.
    pub(crate) fn records(metas: impl IntoIterator<Item = Meta>) -> Vec<Record> {
        let mut records: Vec<_> = metas
            .into_iter()
            .map(|meta| Record {
                name: meta.name,
                size: Some(meta.archive_bytes),
                meta: Some(meta),
                anomalies: Vec::new(),
            })
            .collect();
        records.sort_by_key(|record| std::cmp::Reverse(record.name));
        mark_broken(&mut records);
        records
    }

    pub(crate) fn store(folder: &Path, meta: &Meta) {
        fs::write(folder.join(meta.name.to_string()), "abc").unwrap();
        fs::write(
            folder.join(meta.name.meta()),
            serde_json::to_vec(meta).unwrap(),
        )
        .unwrap();
    }

    fn read(folder: &Path) -> Vec<Record> {
        Catalog::read(&Folder::open(folder).unwrap())
            .unwrap()
            .records
    }

    #[test]
    fn archives_are_listed_the_newest_first_and_other_files_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let metas: Vec<_> = (0..40).map(|index| full(1_000_000 + index)).collect();
        for meta in &metas {
            store(folder.path(), meta);
        }
        fs::write(folder.path().join("notes.txt"), "").unwrap();
        fs::write(folder.path().join("backup_schedule.log"), "").unwrap();
        assert_eq!(read(folder.path()), records(metas));
    }

    /// What is done to a folder of backups.
    type Change = Box<dyn Fn(&Path)>;

    #[test]
    fn every_anomaly_is_told() {
        let meta = full(1_000_000);
        let other = full(2_000_000);
        let archive = meta.name.to_string();
        let rewrite = |change: fn(&mut Meta)| -> Change {
            let mut changed = meta.clone();
            change(&mut changed);
            Box::new(move |folder| {
                let bytes = serde_json::to_vec(&changed).unwrap();
                fs::write(
                    folder.join("stock_prediction_backup_19700112_134640.meta.json"),
                    bytes,
                )
                .unwrap();
            })
        };
        let name = meta.name.meta();
        let table: Vec<(&str, Change)> = vec![
            ("is missing beside", {
                let name = name.clone();
                Box::new(move |folder| fs::remove_file(folder.join(&name)).unwrap())
            }),
            ("archive is gone", {
                let archive = archive.clone();
                Box::new(move |folder| fs::remove_file(folder.join(&archive)).unwrap())
            }),
            ("is damaged", {
                let name = name.clone();
                Box::new(move |folder| fs::write(folder.join(&name), "{").unwrap())
            }),
            ("longer than", {
                let name = name.clone();
                Box::new(move |folder| {
                    fs::write(folder.join(&name), vec![b' '; MAX_META + 1]).unwrap();
                })
            }),
            ("3 bytes, 4 were", rewrite(|meta| meta.archive_bytes = 4)),
            ("tells of", rewrite(|meta| meta.name = meta.name.next())),
            ("newer", rewrite(|meta| meta.format = FORMAT + 1)),
            ("no format", rewrite(|meta| meta.id = Uuid::nil())),
            (
                "a base belongs",
                rewrite(|meta| meta.kind = Kind::Incremental),
            ),
        ];
        for (expected, change) in table {
            let folder = tempfile::tempdir().unwrap();
            store(folder.path(), &meta);
            store(folder.path(), &other);
            change(folder.path());
            let found = read(folder.path());
            assert_eq!(found.len(), 2, "{expected}");
            assert!(found[0].anomalies.is_empty() && found[0].is_restorable());
            let told = found[1].anomalies[0].to_string();
            assert!(told.contains(expected), "{told} for {expected}");
            assert!(!found[1].is_restorable(), "{expected}");
            assert_eq!(found[1].meta.is_some(), expected == "archive is gone");
        }
    }

    #[test]
    fn a_writer_at_work_is_told_from_an_interrupted_deletion() {
        let meta = full(1_000_000);
        for claim in [
            ".stock_prediction_backup_19700112_134640.partial",
            "stock_prediction_backup_19700112_134640.claim",
        ] {
            let folder = tempfile::tempdir().unwrap();
            fs::write(folder.path().join(claim), "").unwrap();
            let found = read(folder.path());
            assert_eq!(found.len(), 1, "{claim}");
            assert!(found[0].is_unfinished());
            store(folder.path(), &meta);
            fs::remove_file(folder.path().join(meta.name.to_string())).unwrap();
            let found = read(folder.path());
            assert_eq!(found[0].anomalies, [Anomaly::Unfinished]);
        }
    }

    #[test]
    fn the_file_beside_two_spellings_belongs_to_the_one_it_names() {
        let folder = tempfile::tempdir().unwrap();
        let mut meta = full(1_000_000);
        meta.name = ArchiveName::at(meta.created_at, true);
        store(folder.path(), &meta);
        let other = ArchiveName::at(meta.created_at, false);
        fs::write(folder.path().join(other.to_string()), "x").unwrap();
        let found = read(folder.path());
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].name, found[0].is_restorable()), (meta.name, true));
        assert_eq!(found[1].anomalies, [Anomaly::MetaOfAnother(meta.name)]);
        // Alone it is still told by the name inside.
        for name in [meta.name, other] {
            fs::remove_file(folder.path().join(name.to_string())).unwrap();
        }
        let found = read(folder.path());
        assert_eq!(found.len(), 1);
        assert_eq!(
            found[0].meta.as_ref().map(|meta| meta.name),
            Some(meta.name)
        );
    }

    #[test]
    fn a_chain_is_whole_only_with_the_very_base() {
        let base = full(1_000_000);
        let upper = incremental(1_000_100, &base);
        let broken = |metas: Vec<Meta>| records(metas)[0].is_broken();
        assert!(!broken(vec![base.clone(), upper.clone()]));
        assert!(broken(vec![upper.clone()]));
        let changes: [fn(&mut Meta); 4] = [
            |meta| meta.id = Uuid::from_u128(1),
            |meta| meta.sha256 = Digest::of(b"other"),
            |meta| meta.origin = origin("another"),
            |meta| meta.kind = Kind::Incremental,
        ];
        for (index, change) in changes.into_iter().enumerate() {
            let mut altered = base.clone();
            change(&mut altered);
            assert!(broken(vec![altered, upper.clone()]), "change {index}");
        }
        let mut cut = records([base, upper]);
        cut[1].size = None;
        cut[0].anomalies.clear();
        mark_broken(&mut cut);
        assert!(cut[0].is_broken());
    }
}
