//! `predictor storage cleanup`: the retention of the settings, and the report.
//!
//! In come settings, out go the storage crate's call and its report.

use std::path::PathBuf;
use std::time::SystemTime;

use stockpredictor_storage::cleanup::{self, Removed, Report, Request};

use super::exit::Outcome;
use super::output::{Output, grouped, human_bytes};
use super::progress;
use super::settle;
use crate::settings::{self, CleanupFlags, Settings};
use stockpredictor_storage::restore::AllowSwitched;

/// Options of `predictor storage cleanup`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  predictor storage cleanup --root ./persistent_data --dry-run
  predictor storage cleanup --retention-logs 7d
  predictor storage cleanup --settings /etc/stockpredictor/settings.json --output json

Models, scalers, configuration, history, outcomes and backups are never removed. Predictions whose real price isn't
known yet stay for 30 days. It may run beside the service, which runs it itself every CACHE_CLEANUP_INTERVAL.")]
pub struct Args {
    /// Count what would go, remove nothing.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    flags: CleanupFlags,
    /// The settings file that the operator writes.
    #[arg(long, env = "STOCKPREDICTOR_SETTINGS", value_name = "FILE")]
    settings: Option<PathBuf>,
    /// How to report.
    #[arg(long, value_enum, default_value_t = Output::Text)]
    output: Output,
}

/// Removes what is old.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let environment = |name: &str| std::env::var(name).ok();
    let resolved = settings::resolve(&args.flags.0, &environment, args.settings.as_deref())?;
    let settings = Settings::from_resolved(&resolved)?;
    settle::first(&settings.layout, AllowSwitched::No)?;
    let request = Request {
        retention: settings.retention,
        dry_run: args.dry_run,
        now: SystemTime::now(),
    };
    let watching = progress::watch(args.output);
    let report = cleanup::run(&settings.layout, &request, &*watching)?;
    drop(watching);
    args.output.print(&report, || text(&report))?;
    Ok(Outcome::with_warnings(report.problems > 0))
}

fn text(report: &Report) -> String {
    if report.another_at_work {
        return "Another cleanup is at work on this volume; nothing was done.\n".to_owned();
    }
    let verb = if report.dry_run {
        "would remove"
    } else {
        "removed"
    };
    let mut lines = Vec::new();
    let sorts = [
        ("cache files", report.cache),
        ("log files", report.logs),
        ("prediction files", report.predictions),
        ("temporary files", report.temporary),
    ];
    for (name, Removed { files, bytes }) in sorts {
        lines.push(format!(
            "   {name}: {verb} {} ({})",
            grouped(files),
            human_bytes(bytes)
        ));
    }
    lines.push(format!(
        "   empty directories: {verb} {}",
        grouped(report.directories)
    ));
    if report.unscored > 0 {
        lines.push(format!(
            "   {} old predictions stay until their real price is known, for at most 30 days",
            grouped(report.unscored)
        ));
    }
    for warning in &report.warnings {
        lines.push(format!("   ! {warning}"));
    }
    let unnamed = report.problems.saturating_sub(report.warnings.len() as u64);
    if unnamed > 0 {
        lines.push(format!("   ! and {} more", grouped(unnamed)));
    }
    let total = report.total();
    let freed = human_bytes(total.bytes);
    lines.push(match (report.dry_run, report.problems) {
        (true, _) => format!("🧹 Nothing was removed; {freed} would be freed"),
        (false, 0) => format!("✅ Cleanup completed; freed {freed}"),
        (false, _) => format!("⚠️  Cleanup completed, but not everywhere; freed {freed}"),
    });
    lines.join("\n") + "\n"
}
