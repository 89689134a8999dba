//! Which backup a restore takes: by name, the newest, the newest proven, or the newest not after a time.
//!
//! In come a catalog's records and what a person asked for, out comes one record with the SHA-256 that its bytes must
//! have. What nobody attested is taken only by its exact name or by a SHA-256 that a person gives; the rest is chosen
//! by itself only if nothing speaks against it.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::archive::digest::Digest;
use crate::archive::header::Origin;
use crate::archive::meta::{Level, Meta};
use crate::archive::name::ArchiveName;
use crate::catalog::{self, Anomaly, Record};
use crate::known::Attestation;

/// At most so many names are given as candidates in a message.
const MAX_NAMED: usize = 5;

/// What a person asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The newest.
    Latest,
    /// The newest whose level is Proven.
    LatestProven,
    /// The newest not after a time.
    At(Timestamp),
    /// This one.
    Name(ArchiveName),
    /// A file anywhere; no catalog has it.
    File(PathBuf),
}

/// Whose backups are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// A predictor's in a cluster, on whatever volume.
    Predictor {
        /// Its namespace.
        namespace: String,
        /// Its name.
        predictor: String,
    },
    /// A volume's.
    Volume(Uuid),
    /// Whatever lies there, if it is of one predictor or volume.
    Any,
}

/// What was chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Choice<'a> {
    /// The backup.
    pub record: &'a Record,
    /// The full backup that it is based on, if it is incremental.
    pub base: Option<&'a Record>,
    /// The SHA-256 that the archive's bytes must have; `None` if nobody attested it.
    pub expected: Option<Digest>,
    /// Newer ones that were passed over, with the reason, the newest first.
    pub skipped: Vec<(ArchiveName, String)>,
}

/// Why nothing was chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SelectError {
    /// Nothing fits.
    #[error("no backup {wanted} of {scope} can be restored{}: `predictor storage list` shows what there is", passed_over(.skipped))]
    None {
        /// What was asked for.
        wanted: String,
        /// Whose.
        scope: String,
        /// What was passed over.
        skipped: Vec<(ArchiveName, String)>,
    },
    /// There would be one, but nobody attested it.
    #[error(
        "no backup {wanted} of {scope} is known to this volume, and anyone who can write to the destination could have put these there: {}: give one by its exact name, or its SHA-256 as --sha256, if you trust it", names(.candidates)
    )]
    Unattested {
        /// What was asked for.
        wanted: String,
        /// Whose.
        scope: String,
        /// The newest that would fit.
        candidates: Vec<ArchiveName>,
    },
    /// Backups of several lie there.
    #[error("backups of several origins lie there: {}: say whose with --origin", .0.join(", "))]
    SeveralOrigins(Vec<String>),
    /// No archive has this name.
    #[error("there is no backup {name}{}: `predictor storage list` shows what there is", nearest(.candidates))]
    NoSuchName {
        /// The name that was asked for.
        name: ArchiveName,
        /// The newest that there are.
        candidates: Vec<ArchiveName>,
    },
    /// The one that was asked for by name can't be restored.
    #[error("{name} can't be restored: {reason}: take another backup")]
    Unusable {
        /// Its name.
        name: ArchiveName,
        /// What is wrong.
        reason: String,
    },
    /// The one that was asked for isn't what was written under its name.
    #[error(
        "{name} is refused: {expected} was written under this name or id, and something else lies there: take another backup"
    )]
    Mismatch {
        /// Its name.
        name: ArchiveName,
        /// The SHA-256 that was written.
        expected: Digest,
    },
}

/// The text is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no time: write 2025-08-01T12:00:00Z, 2025-08-01 12:00 (UTC), or 2025-08-01 for the end of that day"
)]
pub struct TimeError(String);

impl Wanted {
    /// What an argument means: `latest`, `latest-proven`, a name, or else the path of a file.
    pub fn parse(text: &str) -> Self {
        match text {
            "latest" => Self::Latest,
            "latest-proven" | "latestProven" => Self::LatestProven,
            _ => text
                .parse()
                .map_or_else(|_| Self::File(PathBuf::from(text)), Self::Name),
        }
    }
}

impl fmt::Display for Wanted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => write!(formatter, "(latest)"),
            Self::LatestProven => write!(formatter, "(latest proven)"),
            Self::At(time) => write!(formatter, "not after {time}"),
            Self::Name(name) => name.fmt(formatter),
            Self::File(path) => path.display().fmt(formatter),
        }
    }
}

impl Scope {
    /// What `--origin` means: a volume's id, or `NAMESPACE/PREDICTOR`.
    pub fn parse(text: &str) -> Option<Self> {
        if let Ok(volume) = text.parse() {
            return Some(Self::Volume(volume));
        }
        let (namespace, predictor) = text.split_once('/')?;
        if namespace.is_empty() || predictor.is_empty() || predictor.contains('/') {
            return None;
        }
        Some(Self::Predictor {
            namespace: namespace.to_owned(),
            predictor: predictor.to_owned(),
        })
    }

    /// The one that a backup belongs to: its predictor, or outside Kubernetes its volume.
    fn of(origin: &Origin) -> Self {
        if origin.predictor.is_empty() {
            Self::Volume(origin.volume)
        } else {
            Self::Predictor {
                namespace: origin.namespace.clone(),
                predictor: origin.predictor.clone(),
            }
        }
    }

    fn contains(&self, origin: &Origin) -> bool {
        match self {
            Self::Predictor {
                namespace,
                predictor,
            } => origin.namespace == *namespace && origin.predictor == *predictor,
            Self::Volume(volume) => origin.volume == *volume,
            Self::Any => true,
        }
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Predictor {
                namespace,
                predictor,
            } => write!(formatter, "{namespace}/{predictor}"),
            Self::Volume(volume) => write!(formatter, "{volume}"),
            Self::Any => write!(formatter, "this destination"),
        }
    }
}

/// Reads a time: RFC 3339, a date and time without zone (UTC), or a date, which means the end of that day (UTC).
pub fn parse_time(text: &str) -> Result<Timestamp, TimeError> {
    let text = text.trim();
    let refused = || TimeError(text.chars().take(40).collect());
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    // A civil date and time would also be read from a text with a zone that isn't understood.
    let is_plain = |char: char| char.is_ascii_digit() || "-:. Tt".contains(char);
    if !text.chars().all(is_plain) {
        return Err(refused());
    }
    let utc = |time: DateTime| TimeZone::UTC.to_timestamp(time).map_err(|_| refused());
    if text.len() <= "2025-08-01".len() {
        let date: Date = text.parse().map_err(|_| refused())?;
        let start = utc(date.to_datetime(jiff::civil::Time::midnight()))?;
        return start
            .checked_add(SignedDuration::from_hours(24) - SignedDuration::from_nanos(1))
            .map_err(|_| refused());
    }
    utc(text.parse().map_err(|_| refused())?)
}

/// Chooses among `records`, sorted as a catalog's are.
///
/// `attest` tells what is known about an archive, also of one without a file beside it that can be used: a volume's
/// [`Known`](crate::known::Known) or a resource's status.
/// `pinned` is a SHA-256 that a person trusts; only an archive that has it is taken then. A [`Wanted::File`] is in no
/// catalog and finds nothing here.
pub fn select<'a>(
    records: &'a [Record],
    wanted: &Wanted,
    scope: &Scope,
    attest: &dyn Fn(&Record) -> Attestation,
    pinned: Option<Digest>,
) -> Result<Choice<'a>, SelectError> {
    if let Wanted::Name(name) = wanted {
        return by_name(records, *name, attest, pinned);
    }
    // Whose an archive is whose file can't be used isn't known: it may be one of these.
    let is_in_scope = |meta: &Meta| scope.contains(&meta.origin);
    let candidates: Vec<_> = records
        .iter()
        .filter(|record| record.size.is_some() && record.meta.as_ref().is_none_or(is_in_scope))
        .filter(|record| fits(record, wanted))
        .collect();
    if *scope == Scope::Any {
        refuse_several(&candidates)?;
    }
    let mut passed = Vec::new();
    let mut unattested = Vec::new();
    for record in candidates {
        let Some(meta) = &record.meta else {
            passed.push((record.name, why_unusable(record)));
            continue;
        };
        let reason = match (why_not(record, meta), pinned, attest(record)) {
            (Some(reason), ..) => reason,
            (None, Some(pinned), _) if pinned != meta.sha256 => {
                "its SHA-256 isn't the given one".to_owned()
            }
            (None, _, Attestation::Mismatch { .. }) => {
                "something else was written under its name or id".to_owned()
            }
            (None, Some(expected), _) | (None, None, Attestation::Known(expected)) => {
                return Ok(Choice {
                    record,
                    base: base_of(records, record),
                    expected: Some(expected),
                    skipped: passed,
                });
            }
            (None, None, Attestation::Unattested) => {
                unattested.push(record.name);
                "its SHA-256 isn't known to this volume".to_owned()
            }
        };
        passed.push((record.name, reason));
    }
    unattested.truncate(MAX_NAMED);
    let (wanted, scope) = (wanted.to_string(), scope.to_string());
    Err(if unattested.is_empty() {
        SelectError::None {
            wanted,
            scope,
            skipped: passed,
        }
    } else {
        SelectError::Unattested {
            wanted,
            scope,
            candidates: unattested,
        }
    })
}

/// A person who writes the whole name knows what they want, a suspect too; only what can't work is refused.
fn by_name<'a>(
    records: &'a [Record],
    name: ArchiveName,
    attest: &dyn Fn(&Record) -> Attestation,
    pinned: Option<Digest>,
) -> Result<Choice<'a>, SelectError> {
    let Some(record) = catalog::find(records, name).filter(|record| record.size.is_some()) else {
        return Err(SelectError::NoSuchName {
            name,
            candidates: records
                .iter()
                .filter(|record| record.size.is_some())
                .take(MAX_NAMED)
                .map(|record| record.name)
                .collect(),
        });
    };
    if record.is_broken() {
        return Err(SelectError::Unusable {
            name,
            reason: record
                .anomalies
                .last()
                .map(ToString::to_string)
                .unwrap_or_default(),
        });
    }
    let expected = match (attest(record), pinned) {
        (Attestation::Mismatch { expected }, _) => {
            return Err(SelectError::Mismatch { name, expected });
        }
        (Attestation::Known(known), Some(pinned)) if known != pinned => {
            return Err(SelectError::Unusable {
                name,
                reason: format!("it was written with SHA-256 {known}, not the given one"),
            });
        }
        (_, Some(pinned)) => Some(pinned),
        (Attestation::Known(known), None) => Some(known),
        (Attestation::Unattested, None) => None,
    };
    Ok(Choice {
        record,
        base: base_of(records, record),
        expected,
        skipped: Vec::new(),
    })
}

/// Whether it is what was asked for, as far as that can be told.
fn fits(record: &Record, wanted: &Wanted) -> bool {
    let is_proven = |meta: &Meta| {
        meta.verification
            .is_some_and(|verification| verification.level == Level::Proven)
    };
    match wanted {
        Wanted::Latest => true,
        Wanted::LatestProven => record.meta.as_ref().is_none_or(is_proven),
        Wanted::At(time) => record.name.time() <= *time,
        Wanted::Name(_) | Wanted::File(_) => false,
    }
}

/// Why the file beside an archive tells nothing about it.
fn why_unusable(record: &Record) -> String {
    let told: Vec<_> = record.anomalies.iter().map(ToString::to_string).collect();
    format!("{}: it can be restored by its name", told.join("; "))
}

/// What speaks against a backup, whoever wrote it.
fn why_not(record: &Record, meta: &Meta) -> Option<String> {
    if record.is_broken() {
        return record.anomalies.last().map(ToString::to_string);
    }
    if record.is_future() {
        return Some(Anomaly::Future.to_string());
    }
    meta.is_suspect().then(|| {
        let reasons = meta.suspect.iter().flat_map(|suspect| &suspect.reasons);
        let reasons: Vec<_> = reasons.map(String::as_str).collect();
        format!("suspect: {}", reasons.join("; "))
    })
}

fn refuse_several(candidates: &[&Record]) -> Result<(), SelectError> {
    let scopes: BTreeSet<String> = candidates
        .iter()
        .filter_map(|record| record.meta.as_ref())
        .map(|meta| Scope::of(&meta.origin).to_string())
        .collect();
    if scopes.len() < 2 {
        return Ok(());
    }
    Err(SelectError::SeveralOrigins(
        scopes.into_iter().take(MAX_NAMED).collect(),
    ))
}

fn base_of<'a>(records: &'a [Record], record: &Record) -> Option<&'a Record> {
    catalog::find(records, record.base()?)
}

fn names(names: &[ArchiveName]) -> String {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    names.join(", ")
}

fn nearest(candidates: &[ArchiveName]) -> String {
    if candidates.is_empty() {
        " nor any other".to_owned()
    } else {
        format!(", the newest are {}", names(candidates))
    }
}

fn passed_over(skipped: &[(ArchiveName, String)]) -> String {
    let told: Vec<_> = skipped
        .iter()
        .take(MAX_NAMED)
        .map(|(name, reason)| format!("{name}: {reason}"))
        .collect();
    if told.is_empty() {
        String::new()
    } else {
        format!(" ({})", told.join(", "))
    }
}

#[cfg(test)]
mod tests;
