//! `predictor storage list`: what backups there are, and which of them are good.

use std::cmp::Reverse;

use jiff::Timestamp;
use serde::Serialize;
use stockpredictor_storage::archive::header::Kind;
use stockpredictor_storage::archive::meta::{Level, Meta};
use stockpredictor_storage::catalog::{Catalog, Record};
use stockpredictor_storage::restore::AllowSwitched;
use uuid::Uuid;

use super::output::{grouped, human_bytes};
use super::place::{self, StoreArgs};
use super::{Common, Outcome, settle};

/// Options of `predictor storage list`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  predictor storage list --root ./persistent_data
  predictor storage list --from s3://bucket/prefix --output json

Exit codes: 0 done, 1 failed, 2 usage, 3 something there can't be restored.")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Where to look: a folder or an URL; may be repeated. Without it: the volume's backups/
    #[arg(
        long = "from",
        env = "STOCKPREDICTOR_BACKUP_FROM",
        value_delimiter = ',',
        value_name = "DIR|URL"
    )]
    from: Vec<String>,
    #[command(flatten)]
    store: StoreArgs,
}

#[derive(Serialize)]
struct Report {
    backups: Vec<Row>,
}

/// One archive at one destination.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    id: Option<Uuid>,
    time: Timestamp,
    kind: Option<Kind>,
    base: Option<String>,
    bytes: Option<u64>,
    files: Option<u64>,
    is_encrypted: bool,
    level: Option<Level>,
    verified_at: Option<Timestamp>,
    is_suspect: bool,
    is_restorable: bool,
    problems: Vec<String>,
    destination: String,
    /// The newest first, those of the future last.
    #[serde(skip)]
    order: (bool, Reverse<Timestamp>),
}

impl Row {
    fn of(record: &Record, destination: &str) -> Self {
        let meta = record.meta.as_ref();
        let verification = meta.and_then(|meta| meta.verification);
        let mut problems: Vec<_> = record.anomalies.iter().map(ToString::to_string).collect();
        if let Some(suspect) = meta
            .filter(|meta| meta.is_suspect())
            .and_then(|meta| meta.suspect.as_ref())
        {
            problems.push(format!("suspect: {}", suspect.reasons.join("; ")));
        }
        let time = meta.map_or_else(|| record.name.time(), |meta| meta.created_at);
        Self {
            name: record.name.to_string(),
            id: meta.map(|meta| meta.id),
            time,
            kind: meta.map(|meta| meta.kind),
            base: record.base().map(|base| base.to_string()),
            bytes: record.size,
            files: meta.map(|meta| meta.stored_files),
            is_encrypted: record.name.is_encrypted(),
            level: verification.map(|verification| verification.level),
            verified_at: verification.map(|verification| verification.at),
            is_suspect: meta.is_some_and(Meta::is_suspect),
            is_restorable: record.is_restorable(),
            problems,
            destination: destination.to_owned(),
            order: (record.is_future(), Reverse(time)),
        }
    }
}

/// Lists the backups.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let layout = args.common.layout();
    settle::first(&layout, AllowSwitched::Yes)?;
    let mut places = args.from.clone();
    places.retain(|place| !place.is_empty());
    if places.is_empty() {
        places.push(place::own_backups(&layout));
    }
    let mut backups = Vec::new();
    for place in &places {
        let destination = args.store.open(place)?;
        let label = destination.label();
        let catalog = Catalog::read(destination.as_ref())?;
        backups.extend(catalog.records.iter().map(|record| Row::of(record, &label)));
    }
    backups.sort_by_key(|row| row.order);
    let report = Report { backups };
    args.common
        .output
        .print(&report, || text(&report, &places))?;
    let is_odd = |row: &Row| !row.problems.is_empty();
    Ok(Outcome::with_warnings(report.backups.iter().any(is_odd)))
}

fn text(report: &Report, places: &[String]) -> String {
    if report.backups.is_empty() {
        return format!(
            "No backups in {}. Make one: predictor storage backup\n",
            places.join(", ")
        );
    }
    let head = [
        "NAME",
        "TIME",
        "KIND",
        "BASE",
        "SIZE",
        "FILES",
        "ENCRYPTED",
        "LEVEL",
        "STATE",
        "DESTINATION",
    ];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(report.backups.iter().map(cells));
    let mut lines = align(&rows);
    for row in &report.backups {
        for problem in &row.problems {
            lines.push(format!("⚠️  {}: {problem}", row.name));
        }
    }
    lines.push("Restore one: predictor storage restore NAME".to_owned());
    lines.join("\n") + "\n"
}

fn cells(row: &Row) -> [String; 10] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let state = match (row.problems.is_empty(), row.is_suspect, row.is_restorable) {
        (true, ..) => "good",
        (false, true, _) => "suspect",
        (false, false, true) => "warning",
        (false, false, false) => "broken",
    };
    [
        row.name.clone(),
        row.time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
        or_dash(row.kind.map(|kind| match kind {
            Kind::Full => "full".to_owned(),
            Kind::Incremental => "incremental".to_owned(),
        })),
        or_dash(row.base.clone()),
        or_dash(row.bytes.map(human_bytes)),
        or_dash(row.files.map(grouped)),
        if row.is_encrypted { "yes" } else { "no" }.to_owned(),
        or_dash(row.level.map(|level| level_name(level).to_owned())),
        state.to_owned(),
        row.destination.clone(),
    ]
}

/// As the design calls it.
pub fn level_name(level: Level) -> &'static str {
    match level {
        Level::Stored => "Stored",
        Level::Readable => "Readable",
        Level::Proven => "Proven",
    }
}

/// Columns, two spaces between them.
fn align<const N: usize>(rows: &[[String; N]]) -> Vec<String> {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<_> = (0..N).map(|column| width(column).unwrap_or(0)).collect();
    let line = |row: &[String; N]| {
        let padded = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:width$}"));
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned() {
        let rows = [["a", "bb"], ["ccc", "d"]].map(|row| row.map(str::to_owned));
        assert_eq!(align(&rows), ["a    bb", "ccc  d"]);
    }
}
