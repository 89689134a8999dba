//! `predictor storage backup`: one archive at one or more destinations, then retention.
//!
//! In come options, out go a request to the storage crate and the guide's summary.

use std::path::Path;

use anyhow::Context;
use clap::ValueEnum;
use jiff::Timestamp;
use serde::Serialize;
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::header::{Kind, MANUAL, Origin};
use stockpredictor_storage::backup::{self, DEFAULT_LEVEL, DEFAULT_LOGS_DAYS, Request};
use stockpredictor_storage::destination::{Destination, inside};
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::marker::Marker;
use stockpredictor_storage::restore::AllowSwitched;
use stockpredictor_storage::retention::Policy;
use uuid::Uuid;

use super::exit::Usage;
use super::output::{grouped, human_bytes};
use super::place::{self, StoreArgs};
use super::retain::{self, Retention};
use super::{Common, Outcome, accept, progress, settle};

/// Options of `predictor storage backup`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  predictor storage backup --root ./persistent_data
  predictor storage backup --mode incremental --keep-last 14 --keep-weekly 8
  predictor storage backup --destination /mnt/other --destination s3://bucket/prefix --min-successful 1 --encrypt-to age1…

Exit codes: 0 done, 1 failed, 2 usage, 3 done with warnings (a destination failed, a file could not be read, or the
backup is suspect: data was lost since the one before).")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Where the archive goes: a folder or an URL; may be repeated. Without it: the volume's backups/
    #[arg(
        long = "destination",
        env = "STOCKPREDICTOR_BACKUP_DESTINATIONS",
        value_delimiter = ',',
        value_name = "DIR|URL"
    )]
    destinations: Vec<String>,
    /// So many destinations must have the archive
    #[arg(
        long,
        env = "STOCKPREDICTOR_BACKUP_MIN_SUCCESSFUL",
        value_name = "N",
        default_value_t = 1
    )]
    min_successful: usize,
    /// Everything, or what changed since the last full backup
    #[arg(long, env = "STOCKPREDICTOR_BACKUP_MODE", value_enum, default_value_t = Mode::Full)]
    mode: Mode,
    /// Parts of the volume, with commas: models, cache, scalers, stock-data, config, logs, other. Without it: all
    #[arg(
        long,
        env = "STOCKPREDICTOR_BACKUP_INCLUDE",
        value_delimiter = ',',
        value_name = "PARTS"
    )]
    include: Vec<Category>,
    /// Take logs of so many days
    #[arg(long, env = "STOCKPREDICTOR_BACKUP_LOGS_DAYS", value_name = "DAYS", default_value_t = DEFAULT_LOGS_DAYS)]
    logs_days: u32,
    /// Keep the newest so many backups; those of other parts (--include) are counted by themselves
    #[arg(
        long,
        env = "STOCKPREDICTOR_BACKUP_KEEP_LAST",
        value_name = "N",
        default_value_t = 10
    )]
    keep_last: u32,
    /// Keep the newest backup of each of so many days
    #[arg(
        long,
        env = "STOCKPREDICTOR_BACKUP_KEEP_DAILY",
        value_name = "N",
        default_value_t = 0
    )]
    keep_daily: u32,
    /// Keep the newest backup of each of so many weeks
    #[arg(
        long,
        env = "STOCKPREDICTOR_BACKUP_KEEP_WEEKLY",
        value_name = "N",
        default_value_t = 0
    )]
    keep_weekly: u32,
    /// Keep the newest backup of each of so many months
    #[arg(
        long,
        env = "STOCKPREDICTOR_BACKUP_KEEP_MONTHLY",
        value_name = "N",
        default_value_t = 0
    )]
    keep_monthly: u32,
    /// Encrypt to this public key (age1…); may be repeated, any one of the private keys opens it
    #[arg(
        long = "encrypt-to",
        env = "STOCKPREDICTOR_BACKUP_ENCRYPT_TO",
        value_delimiter = ',',
        value_name = "AGE_RECIPIENT"
    )]
    encrypt_to: Vec<String>,
    /// 1 is fast, 12 is small
    #[arg(long, env = "STOCKPREDICTOR_BACKUP_COMPRESSION_LEVEL", value_name = "LEVEL", default_value_t = DEFAULT_LEVEL)]
    compression_level: i32,
    /// Data was removed on purpose since the last backup: this one is not suspect
    #[arg(long)]
    accept_shrink: bool,
    /// The loss before the suspect backup with this id was intended: it counts like any other from now on; may be repeated
    #[arg(long, value_name = "ID")]
    accept: Vec<Uuid>,
    /// Uid of the StorageBackup; retention and chains never cross origins
    #[arg(long, env = "STOCKPREDICTOR_BACKUP_UID", value_name = "UID", default_value = MANUAL)]
    backup_uid: String,
    #[command(flatten)]
    store: StoreArgs,
}

/// How much goes into the archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Everything
    Full,
    /// What changed since the last full backup; full where there is none
    Incremental,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    #[serde(flatten)]
    backup: backup::Report,
    accepted: Vec<Uuid>,
    retention: Vec<Retention>,
}

/// Makes a backup.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let layout = args.common.layout();
    settle::first(&layout, AllowSwitched::No)?;
    let marker = Marker::read(&layout)?.with_context(|| {
        format!(
            "{} is no volume of ours: prepare it with `predictor storage setup --root {0}`",
            layout.root().display()
        )
    })?;
    let places = if args.destinations.is_empty() {
        vec![place::own_backups(&layout)]
    } else {
        place::distinct(&args.destinations)
    };
    for place in places.iter().filter(|place| !place.contains("://")) {
        inside::refuse(&layout, Path::new(place)).map_err(|error| Usage(error.to_string()))?;
    }
    let now = Timestamp::now();
    let mut request = Request {
        mode: match args.mode {
            Mode::Full => Kind::Full,
            Mode::Incremental => Kind::Incremental,
        },
        include: if args.include.is_empty() {
            Category::ALL.to_vec()
        } else {
            args.include.clone()
        },
        logs_days: args.logs_days,
        level: args.compression_level,
        threads: place::threads()?,
        recipients: args.encrypt_to.clone(),
        min_successful: args.min_successful,
        accept_shrink: args.accept_shrink,
        ..Request::new(layout.clone(), origin(args, &marker), now)
    };
    request
        .check(places.len())
        .map_err(|error| Usage(error.to_string()))?;
    let (destinations, unreachable) = reach(args, &layout, &places);
    request.unreachable = unreachable;
    let accepted = accept::accept(&layout, &destinations, &args.accept)?;
    let watch = progress::watch(args.common.output);
    let done = backup::run(&request, &destinations, &*watch)?;
    drop(watch);
    let retention = retain(args, &request.origin, &destinations, &done, now);
    let report = Report {
        backup: done,
        accepted,
        retention,
    };
    let outcome = Outcome::with_warnings(has_warnings(&report));
    args.common
        .output
        .print(&report, || text(&report, &layout, now))?;
    Ok(outcome)
}

fn origin(args: &Args, marker: &Marker) -> Origin {
    Origin {
        namespace: args.store.namespace.clone(),
        predictor: args.store.predictor.clone(),
        backup: args.backup_uid.clone(),
        ..Origin::manual(marker.id)
    }
}

/// Destinations, and how those fared that aren't there.
type Reached = (Vec<Box<dyn Destination>>, Vec<backup::DestinationReport>);

/// A destination that isn't there doesn't stop the others; the backup says whether enough are.
fn reach(args: &Args, layout: &Layout, places: &[String]) -> Reached {
    let mut destinations = Vec::new();
    let mut unreachable = Vec::new();
    for place in places {
        match args.store.create(layout, place) {
            Ok(destination) => destinations.push(destination),
            Err(error) => unreachable.push(backup::DestinationReport {
                destination: without_credentials(place),
                is_stored: false,
                error: Some(super::explain(&error)),
            }),
        }
    }
    (destinations, unreachable)
}

/// What stands before an `@` in an URL may be a secret.
fn without_credentials(place: &str) -> String {
    match place.split_once("://") {
        Some((scheme, rest)) => {
            let rest = rest.rsplit_once('@').map_or(rest, |(_, rest)| rest);
            let rest = rest.split_once('?').map_or(rest, |(rest, _)| rest);
            format!("{scheme}://{rest}")
        }
        None => place.to_owned(),
    }
}

/// Only where the new archive lies: a destination that failed must not lose old ones for it.
fn retain(
    args: &Args,
    origin: &Origin,
    destinations: &[Box<dyn Destination>],
    done: &backup::Report,
    now: Timestamp,
) -> Vec<Retention> {
    let policy = Policy {
        keep_last: args.keep_last,
        daily: args.keep_daily,
        weekly: args.keep_weekly,
        monthly: args.keep_monthly,
    };
    destinations
        .iter()
        .zip(&done.destinations)
        .filter(|(_, fate)| fate.is_stored)
        .map(|(destination, _)| retain::retain(destination.as_ref(), origin, &policy, done.id, now))
        .collect()
}

fn has_warnings(report: &Report) -> bool {
    let backup = &report.backup;
    !backup.warnings.is_empty()
        || !backup.suspect.is_empty()
        || backup.skipped > 0
        || backup.destinations.iter().any(|one| !one.is_stored)
        || report.retention.iter().any(|one| one.error.is_some())
}

/// At most so many warnings are shown; JSON has all.
const SHOWN: usize = 20;

fn text(report: &Report, layout: &Layout, now: Timestamp) -> String {
    let backup = &report.backup;
    let mut lines = vec!["✅ Backup completed successfully!".to_owned()];
    for one in &backup.destinations {
        let place = match Path::new(&one.destination).strip_prefix(layout.root()) {
            Ok(inside) => inside.display().to_string(),
            Err(_) => one.destination.clone(),
        };
        lines.push(match &one.error {
            None => format!("   📁 File: {place}/{}", backup.name),
            Some(error) => format!("   ⚠️  Not at {place}: {error}"),
        });
    }
    lines.push(format!("   📊 Size: {}", human_bytes(backup.archive_bytes)));
    lines.push(format!(
        "   🕐 Time: {}",
        now.strftime("%a %b %e %H:%M:%S UTC %Y")
    ));
    let kind = match (backup.kind, &backup.base, &backup.why_full) {
        (Kind::Incremental, Some(base), _) => format!("incremental, based on {}", base.name),
        (_, _, Some(why)) => format!("full, because {why}"),
        _ => "full".to_owned(),
    };
    lines.push(format!(
        "   📦 {kind}: {} files, {} uncompressed",
        grouped(backup.files),
        human_bytes(backup.bytes)
    ));
    lines.push(format!("   🔑 SHA-256: {}", backup.sha256));
    for id in &report.accepted {
        lines.push(format!("   Backup {id} is no longer suspect."));
    }
    for one in &report.retention {
        if !one.deleted.is_empty() {
            lines.push(format!(
                "   🗑️  {} old backup(s) removed from {}, {} kept",
                one.deleted.len(),
                one.destination,
                one.kept
            ));
        }
        if let Some(error) = &one.error {
            lines.push(format!("   ⚠️  Old backups not removed: {error}"));
        }
    }
    if !backup.suspect.is_empty() {
        lines.push(format!(
            "⚠️  This backup is suspect: {}. Older backups are kept. If that was intended: predictor storage backup --accept {}",
            backup.suspect.join("; "),
            backup.id
        ));
    }
    if backup.skipped > 0 {
        lines.push(format!(
            "⚠️  {} FIFOs, sockets or devices can't be in an archive and were left out.",
            backup.skipped
        ));
    }
    for warning in backup.warnings.iter().take(SHOWN) {
        lines.push(format!("⚠️  {}: {}", warning.path, warning.message));
    }
    if backup.warnings.len() > SHOWN {
        lines.push(format!("⚠️  and {} more", backup.warnings.len() - SHOWN));
    }
    lines.join("\n") + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_message_has_credentials() {
        let table = [
            ("s3://key:secret@bucket/a", "s3://bucket/a"),
            ("s3://bucket/a?token=x", "s3://bucket/a"),
            ("/mnt/a@b", "/mnt/a@b"),
        ];
        for (place, shown) in table {
            assert_eq!(without_credentials(place), shown);
        }
    }
}
