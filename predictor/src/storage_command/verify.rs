//! `predictor storage verify`: how good an archive is, and which file is wrong.

use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::ValueEnum;
use serde::Serialize;
use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::meta::Level;
use stockpredictor_storage::archive::name::ArchiveName;
use stockpredictor_storage::catalog::Catalog;
use stockpredictor_storage::decrypt::Identity;
use stockpredictor_storage::destination::Destination;
use stockpredictor_storage::progress::Progress;
use stockpredictor_storage::restore::AllowSwitched;
use stockpredictor_storage::select::Wanted;
use stockpredictor_storage::verify::{self, Prover, Request};

use super::choice::Asked;
use super::list::level_name;
use super::output::{grouped, human_bytes};
use super::place::{self, StoreArgs};
use super::{Common, Outcome, explain, level, progress, prove, settle};

/// Options of `predictor storage verify`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  predictor storage verify stock_prediction_backup_20250801_120000.tar.gz
  predictor storage verify --all --from s3://bucket/prefix --level stored
  predictor storage verify ./archive.tar.gz.age --identity key.txt --level proven

Levels: stored (the bytes are those that were written), readable (decrypted and unpacked, every file's hash is right),
proven (restored to a scratch folder, where the models give their golden predictions).
Exit codes: 0 the level was reached, 1 it was not, 2 usage, 3 reached, with something to look at.")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Name of a backup, `latest`, or the path of an archive
    #[arg(value_name = "FILE|NAME", required_unless_present = "all")]
    target: Option<String>,
    /// Every archive that is there
    #[arg(long, conflicts_with = "target")]
    all: bool,
    /// Where the archive lies: a folder or an URL. Without it: the volume's backups/
    #[arg(long, env = "STOCKPREDICTOR_BACKUP_FROM", value_name = "DIR|URL")]
    from: Option<String>,
    /// How far to go; without it: readable, or stored for an encrypted archive without identity
    #[arg(long, value_enum)]
    level: Option<Wish>,
    /// File with the private key of an encrypted archive
    #[arg(long, env = "STOCKPREDICTOR_IDENTITY", value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The SHA-256 that the archive must have
    #[arg(long, value_name = "SHA256", conflicts_with = "all")]
    sha256: Option<Digest>,
    /// Where to restore to for `proven`; without it: the system's folder for temporary files
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,
    #[command(flatten)]
    store: StoreArgs,
}

/// A level, as an option.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Wish {
    /// The bytes are those that were written
    Stored,
    /// Every file's hash is right
    Readable,
    /// The models give their golden predictions
    Proven,
}

impl From<Wish> for Level {
    fn from(wish: Wish) -> Self {
        match wish {
            Wish::Stored => Self::Stored,
            Wish::Readable => Self::Readable,
            Wish::Proven => Self::Proven,
        }
    }
}

#[derive(Serialize)]
struct Report {
    archives: Vec<Row>,
}

/// What was found about one archive.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Row {
    name: String,
    wanted: Level,
    level: Option<Level>,
    is_good: bool,
    is_attested: bool,
    files: u64,
    bytes: u64,
    sha256: Option<Digest>,
    problems: Vec<String>,
    notes: Vec<String>,
}

/// Verifies archives.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let layout = args.common.layout();
    settle::first(&layout, AllowSwitched::Yes)?;
    let identities = match &args.identity {
        Some(path) => Identity::read_file(path)?,
        None => Vec::new(),
    };
    let known = place::known(&layout)?;
    let asked = Asked {
        layout: &layout,
        store: &args.store,
        from: args.from.as_ref(),
        known: &known,
        origin: None,
        sha256: args.sha256,
    };
    let (destination, names) = targets(args, &asked)?;
    let watch = progress::watch(args.common.output);
    let mut archives = Vec::new();
    for name in names {
        let job = Job {
            args,
            destination: destination.as_ref(),
            identities: &identities,
            asked: &asked,
            watch: &*watch,
        };
        archives.push(match job.verify(&name) {
            // The others are looked at all the same.
            Err(error) if args.all => job.unseen(name, &error),
            row => row?,
        });
    }
    drop(watch);
    let report = Report { archives };
    args.common.output.print(&report, || text(&report))?;
    let worst = |row: &Row| match (row.is_good, row.notes.is_empty()) {
        (false, _) => Outcome::Failed,
        (true, false) => Outcome::Warnings,
        (true, true) => Outcome::Done,
    };
    let outcomes: Vec<_> = report.archives.iter().map(worst).collect();
    Ok(if outcomes.contains(&Outcome::Failed) {
        Outcome::Failed
    } else {
        Outcome::with_warnings(outcomes.contains(&Outcome::Warnings))
    })
}

/// The destination, and the names of the archives to look at.
fn targets(args: &Args, asked: &Asked<'_>) -> anyhow::Result<(Box<dyn Destination>, Vec<String>)> {
    let Some(target) = &args.target else {
        let destination = asked.open()?;
        let catalog = Catalog::read(destination.as_ref())?;
        let there = catalog
            .records
            .iter()
            .filter(|record| record.size.is_some());
        let names: Vec<_> = there.map(|record| record.name.to_string()).collect();
        if names.is_empty() {
            bail!("there are no backups in {}", destination.label());
        }
        return Ok((destination, names));
    };
    match Wanted::parse(target) {
        // Also one that no restore would take: what is wrong with it is the question.
        Wanted::Name(name) => Ok((asked.open()?, vec![name.to_string()])),
        wanted => {
            let choice = asked.choose(&wanted)?;
            for note in choice.notes {
                eprintln!("{note}");
            }
            Ok((choice.destination, vec![choice.name]))
        }
    }
}

/// What every archive of one call shares.
struct Job<'a> {
    args: &'a Args,
    destination: &'a dyn Destination,
    identities: &'a [Identity],
    asked: &'a Asked<'a>,
    watch: &'a dyn Progress,
}

impl Job<'_> {
    fn level(&self, name: &str) -> Level {
        let parsed: Option<ArchiveName> = name.parse().ok();
        let is_sealed = parsed.is_some_and(ArchiveName::is_encrypted) && self.identities.is_empty();
        match (self.args.level, is_sealed) {
            (Some(wish), _) => wish.into(),
            (None, true) => Level::Stored,
            (None, false) => Level::Readable,
        }
    }

    /// The row of an archive about which nothing could be found out.
    fn unseen(&self, name: String, error: &anyhow::Error) -> Row {
        Row {
            wanted: self.level(&name),
            name,
            level: None,
            is_good: false,
            is_attested: false,
            files: 0,
            bytes: 0,
            sha256: None,
            problems: vec![explain(error)],
            notes: Vec::new(),
        }
    }

    fn verify(&self, name: &str) -> anyhow::Result<Row> {
        let parsed: Option<ArchiveName> = name.parse().ok();
        let level = self.level(name);
        self.watch.step(&format!("🔍 Verifying {name}"));
        let scratch = match level {
            Level::Proven => Some(self.scratch()?),
            _ => None,
        };
        let prover = scratch
            .as_ref()
            .map(|folder| (folder.path(), &prove::Child as &dyn Prover));
        let request = Request {
            level,
            identities: self.identities,
            known: self.asked.sha256_of(name),
            prover,
            progress: self.watch,
        };
        let mut found = verify::verify(self.destination, name, &request)?;
        if let Some(parsed) = parsed
            && let Err(error) = level::note(self.destination, parsed, &found)
        {
            found.notes.push(format!(
                "the result can't be noted beside the archive: {}",
                explain(&error)
            ));
        }
        Ok(Row {
            name: name.to_owned(),
            wanted: level,
            level: found.level,
            is_good: found.is_good(level),
            is_attested: found.is_attested,
            files: found.files,
            bytes: found.bytes,
            sha256: found.sha256,
            problems: found.problems.iter().map(ToString::to_string).collect(),
            notes: found.notes,
        })
    }

    /// A folder that goes when the check is done, however it ends.
    fn scratch(&self) -> anyhow::Result<tempfile::TempDir> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("stockpredictor-verify-");
        let made = match &self.args.scratch {
            Some(parent) => builder.tempdir_in(parent),
            None => builder.tempdir(),
        };
        made.context("no scratch folder can be made: name one with --scratch")
    }
}

fn text(report: &Report) -> String {
    let mut lines = Vec::new();
    for row in &report.archives {
        let level = row.level.map_or("nothing", level_name);
        let sign = if row.is_good { '✓' } else { '✗' };
        let counts = if row.files > 0 {
            format!(", {} files, {}", grouped(row.files), human_bytes(row.bytes))
        } else {
            String::new()
        };
        let attested = if row.is_attested {
            ""
        } else {
            " (its SHA-256 is not known to this volume)"
        };
        lines.push(format!("{sign} {}: {level}{counts}{attested}", row.name));
        lines.extend(row.problems.iter().map(|problem| format!("  ✗ {problem}")));
        lines.extend(row.notes.iter().map(|note| format!("  ! {note}")));
    }
    lines.join("\n") + "\n"
}
