//! `predictor storage restore`: look, ask, then the old state or the new one, never a mixture.
//!
//! In come options, out go calls to the storage crate. Without a terminal nothing is changed unless `--yes` says so.

use std::ffi::OsString;
use std::fs;
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use clap::builder::{OsStringValueParser, TypedValueParser};
use jiff::Timestamp;
use serde::Serialize;
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::archive::digest::Digest;
use stockpredictor_storage::archive::path::RelativePath;
use stockpredictor_storage::chain::Chain;
use stockpredictor_storage::decrypt::Identity;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::marker::Marker;
use stockpredictor_storage::restore::{self, Access, AllowSwitched, NoCheck, Plan, Volume};
use stockpredictor_storage::select::{self, Scope, Wanted};
use stockpredictor_storage::setup;
use stockpredictor_storage::snapshot::Snapshot;
use stockpredictor_storage::verify::Prover;
use uuid::Uuid;

use super::choice::{Asked, Choice};
use super::exit::Usage;
use super::output::{Output, grouped, human_bytes, visible_lines};
use super::place::{self, StoreArgs};
use super::selection::Selection;
use super::{Common, Outcome, ls, progress, prove, settle};

/// Options of `predictor storage restore`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  predictor storage restore stock_prediction_backup_20250801_120000.tar.gz
  predictor storage restore latest --only models,scalers --dry-run
  predictor storage restore --at '2025-08-01 12:00' --yes
  predictor storage restore ./archive.tar.gz.age --identity key.txt --to ./somewhere
  predictor storage restore NAME --from s3://bucket/prefix --to ./somewhere --path config/ml_config.json

The parts that the backup has are replaced whole; logs/ and stock_data/predictions/analysis/ are merged. The service must be
stopped. Exit codes: 0 done, 1 failed and nothing changed, 2 usage, 3 done with warnings.")]
pub struct Args {
    #[command(flatten)]
    common: Common,
    /// Name of a backup, `latest`, `latest-proven`, or the path of an archive
    #[arg(value_name = "FILE|NAME|latest", required_unless_present_any = ["at", "commit", "undo"])]
    target: Option<String>,
    /// The newest backup not after this time, such as 2025-08-01T12:00:00Z
    #[arg(long, value_name = "TIME", conflicts_with = "target", value_parser = select::parse_time)]
    at: Option<Timestamp>,
    /// Keep what the restore with this id put in place, and remove the old state
    #[arg(long, value_name = "ID", conflicts_with_all = ["target", "at", "undo", "to"])]
    commit: Option<Uuid>,
    /// Bring back what was there before the restore with this id
    #[arg(long, value_name = "ID", conflicts_with_all = ["target", "at", "to"])]
    undo: Option<Uuid>,
    /// Where the backup lies: a folder or an URL. Without it: the volume's backups/
    #[arg(long, env = "STOCKPREDICTOR_BACKUP_FROM", value_name = "DIR|URL")]
    from: Option<String>,
    /// Only these parts, with commas: models, cache, scalers, stock-data, config, logs, other
    #[arg(long, value_delimiter = ',', value_name = "PARTS")]
    only: Vec<Category>,
    /// Unpack into this new or empty folder; the volume, if there is one, stays as it is
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
    /// Only this file or directory, relative to the volume's root; may be repeated
    #[arg(
        long = "path",
        value_name = "PATH",
        requires = "to",
        value_parser = OsStringValueParser::new().try_map(path)
    )]
    paths: Vec<RelativePath>,
    /// Don't ask
    #[arg(long, short = 'y')]
    yes: bool,
    /// Only say what would change
    #[arg(long)]
    dry_run: bool,
    /// File with the private key of an encrypted archive
    #[arg(long, env = "STOCKPREDICTOR_IDENTITY", value_name = "FILE")]
    identity: Option<PathBuf>,
    /// The SHA-256 that the archive must have; makes an archive that this volume doesn't know eligible
    #[arg(long, value_name = "SHA256")]
    sha256: Option<Digest>,
    /// Whose backups `latest` and --at choose from: a volume's id, or NAMESPACE/PREDICTOR. Without it: this volume's
    #[arg(long, value_name = "ID", value_parser = origin)]
    origin: Option<Scope>,
    #[command(flatten)]
    store: StoreArgs,
}

/// The backup that was chosen.
struct Chosen {
    chain: Chain,
    name: String,
    notes: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Report {
    backup: String,
    created_at: Timestamp,
    is_dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    restore: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<Plan>,
    files: u64,
    bytes: u64,
    notes: Vec<String>,
}

/// Restores a backup.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let layout = args.common.layout();
    if let Some(id) = args.commit.or(args.undo) {
        return end(args, &layout, id);
    }
    if args.to.is_none() {
        // A dry run changes nothing, not even what another restore left.
        let access = if args.dry_run {
            Access::ReadOnly
        } else {
            Access::Write
        };
        settle::first_within(&layout, access, AllowSwitched::No)?;
    }
    let chosen = choose(args, &layout)?;
    match &args.to {
        Some(directory) => to_directory(args, &chosen, directory),
        None => in_place(args, &layout, &chosen),
    }
}

/// Ends a restore that waits for a decision.
fn end(args: &Args, layout: &Layout, id: Uuid) -> anyhow::Result<Outcome> {
    let volume = Volume::new(layout);
    let (done, told) = if args.commit.is_some() {
        (restore::commit(&volume, id)?, "committed")
    } else {
        (restore::undo(&volume, id)?, "undone")
    };
    args.common.output.print(&done, || {
        let mut lines = vec![match done.outcome {
            restore::Outcome::Done => format!("✅ Restore {id} is {told}."),
            restore::Outcome::NothingToDo => "There is no restore that waits.".to_owned(),
        }];
        lines.extend(done.leftovers.iter().map(|left| format!("⚠️  {left}")));
        lines.join("\n") + "\n"
    })?;
    Ok(Outcome::with_warnings(!done.leftovers.is_empty()))
}

fn choose(args: &Args, layout: &Layout) -> anyhow::Result<Chosen> {
    let identities = match &args.identity {
        Some(path) => Identity::read_file(path)?,
        None => Vec::new(),
    };
    let wanted = match (&args.at, &args.target) {
        (Some(time), _) => Wanted::At(*time),
        (None, Some(target)) => Wanted::parse(target),
        (None, None) => bail!("name a backup: `predictor storage list` shows what there is"),
    };
    let known = place::known(layout)?;
    let asked = Asked {
        layout,
        store: &args.store,
        from: args.from.as_ref(),
        known: &known,
        origin: args.origin.as_ref(),
        sha256: args.sha256,
    };
    let Choice {
        destination,
        name,
        expected,
        mut notes,
    } = asked.choose(&wanted)?;
    if expected.is_none() {
        notes.push(format!(
            "the SHA-256 of {name} is not known to this volume: its hashes are checked, its author is not"
        ));
    }
    let mut chain = Chain::open(destination.as_ref(), &name, &identities, expected)?;
    let threads = place::threads()?;
    if threads > 0 {
        chain = chain.with_threads(threads);
    }
    notes.extend(chain.notes().iter().cloned());
    Ok(Chosen { chain, name, notes })
}

fn origin(text: &str) -> Result<Scope, String> {
    Scope::parse(text).ok_or_else(|| "write a volume's id, or NAMESPACE/PREDICTOR".to_owned())
}

fn path(text: OsString) -> anyhow::Result<RelativePath> {
    ls::relative(text)?.context("it names the whole volume: leave --path out")
}

fn only(args: &Args) -> Option<&[Category]> {
    (!args.only.is_empty()).then_some(&args.only)
}

fn to_directory(
    args: &Args,
    chosen: &Chosen,
    directory: &std::path::Path,
) -> anyhow::Result<Outcome> {
    for path in &args.paths {
        let part = Category::of_top_level(path.top_level());
        if !args.only.is_empty() && !part.is_some_and(|part| args.only.contains(&part)) {
            let text = format!("{path} is in none of the parts that --only names");
            return Err(Usage(text).into());
        }
    }
    let mut paths = args.paths.clone();
    paths.sort();
    paths.dedup();
    let selection = Selection::new(&chosen.chain, paths);
    let mut report = report(args, chosen);
    report.to = Some(directory.to_owned());
    if !args.paths.is_empty() {
        // Before anything is written.
        selection.entries(&mut |_| Ok(()))?;
        selection.check()?;
    }
    if args.dry_run {
        let unpacked = restore::plan_directory(&selection, directory, only(args))?.unpacked;
        (report.files, report.bytes) = (unpacked.files, unpacked.bytes);
    } else {
        let watch = progress::watch(args.common.output);
        watch.step(&format!("📂 Unpacking {}", chosen.name));
        let done = restore::to_directory(&selection, directory, only(args), &*watch)?;
        (report.files, report.bytes) = (done.files, done.bytes);
    }
    args.common.output.print(&report, || {
        let verb = if args.dry_run {
            "would be unpacked"
        } else {
            "unpacked"
        };
        let mut lines = vec![format!(
            "✅ {} files, {} {verb} into {}",
            grouped(report.files),
            human_bytes(report.bytes),
            directory.display()
        )];
        lines.extend(report.notes.iter().map(|note| format!("! {note}")));
        lines.join("\n") + "\n"
    })?;
    Ok(Outcome::Done)
}

fn report(args: &Args, chosen: &Chosen) -> Report {
    Report {
        backup: chosen.name.clone(),
        created_at: chosen.chain.header().created_at,
        is_dry_run: args.dry_run,
        restore: None,
        to: None,
        plan: None,
        files: 0,
        bytes: 0,
        notes: chosen.notes.clone(),
    }
}

fn in_place(args: &Args, layout: &Layout, chosen: &Chosen) -> anyhow::Result<Outcome> {
    let mut report = report(args, chosen);
    if !layout.root().is_dir() {
        bail!(
            "{} is no directory: mount the volume there, or unpack elsewhere with --to DIR",
            layout.root().display()
        );
    }
    let plan = restore::compare(layout, &chosen.chain, only(args))?;
    restore::preflight(layout, &plan)?;
    let is_text = args.common.output == Output::Text;
    if is_text {
        eprint!("{}", visible_lines(&preview(&report, &plan, layout)));
    }
    if args.dry_run {
        report.plan = Some(plan);
        args.common.output.print(&report, || {
            "Nothing was changed: this was a dry run.\n".to_owned()
        })?;
        return Ok(Outcome::Done);
    }
    if !args.yes && !confirmed(layout)? {
        bail!("not confirmed, so nothing was changed");
    }
    if Marker::read(layout)?.is_none() {
        // An empty volume gets its tree and an id of its own; the default model stays away.
        setup::run(layout, &setup::Request::default())?;
    }
    let watch = progress::watch(args.common.output);
    watch.step(&format!("📂 Restoring {}", chosen.name));
    let volume = Volume {
        progress: &*watch,
        ..Volume::new(layout)
    };
    let request = restore::Request {
        id: Uuid::new_v4(),
        backup: chosen.chain.header().id,
        only: only(args),
        started_at: Timestamp::now(),
    };
    let done = restore::run(&volume, &chosen.chain, &request, &NoCheck)?;
    drop(watch);
    report.restore = Some(done.id);
    (report.files, report.bytes) = (done.extracted.files, done.extracted.bytes);
    report.plan = Some(done.plan);
    let mut outcome = Outcome::with_warnings(!done.leftovers.is_empty());
    let leftovers = done.leftovers.iter().map(ToString::to_string);
    report.notes.extend(leftovers);
    if restores_models(args, &chosen.chain) && has_models(layout) {
        // The data is what the backup had; whether its model works is worth knowing, but no reason to take it back.
        if let Err(reason) = prove::Child.prove(layout.root()) {
            outcome = Outcome::Warnings;
            report.notes.push(reason);
        }
    }
    args.common.output.print(&report, || {
        let mut lines = vec![format!(
            "✅ Restored {}: {} files, {}",
            report.backup,
            grouped(report.files),
            human_bytes(report.bytes)
        )];
        lines.extend(report.notes.iter().map(|note| format!("⚠️  {note}")));
        lines.join("\n") + "\n"
    })?;
    Ok(outcome)
}

fn restores_models(args: &Args, chain: &Chain) -> bool {
    chain.include().contains(&Category::Models)
        && (args.only.is_empty() || args.only.contains(&Category::Models))
}

fn has_models(layout: &Layout) -> bool {
    fs::read_dir(layout.join("ml_models")).is_ok_and(|mut entries| entries.next().is_some())
}

fn preview(report: &Report, plan: &Plan, layout: &Layout) -> String {
    let mut lines = vec![format!(
        "{} of {} onto {}:",
        report.backup,
        report.created_at.strftime("%Y-%m-%d %H:%M:%S UTC"),
        layout.root().display()
    )];
    for (part, changes) in &plan.parts {
        lines.push(format!(
            "  {:<11} {} added, {} changed, {} removed, {} kept",
            format!("{part}:"),
            grouped(changes.added.files),
            grouped(changes.changed.files),
            grouped(changes.removed.files),
            grouped(changes.kept.files)
        ));
    }
    lines.push(format!(
        "  {} files, {} are unpacked; {} of free space are needed meanwhile",
        grouped(plan.unpacked.files),
        human_bytes(plan.unpacked.bytes),
        human_bytes(plan.needed_bytes)
    ));
    lines.extend(report.notes.iter().map(|note| format!("  ! {note}")));
    lines.join("\n") + "\n"
}

/// Asks at a terminal; without one the answer is an error that names `--yes`.
fn confirmed(layout: &Layout) -> anyhow::Result<bool> {
    if !io::stdin().is_terminal() {
        bail!(
            "a restore replaces data and nobody can be asked here: look with --dry-run, then say --yes"
        );
    }
    eprint!(
        "Replace the data on {}? Type yes: ",
        layout.root().display()
    );
    io::stderr().flush()?;
    let mut answer = String::new();
    io::stdin().lock().read_line(&mut answer)?;
    Ok(answer.trim() == "yes")
}
