//! `predictor storage monitor`: the guide's report, in its sections and layout.
//!
//! In come the exact numbers of the storage crate, out go the report's lines or JSON.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use stockpredictor_storage::health::State;
use stockpredictor_storage::monitor::{self, Growth, Report};

use super::Common;
use super::exit::Outcome;
use super::output::{grouped, human_bytes};
use super::progress;
use super::settle;
use stockpredictor_storage::restore::AllowSwitched;

/// Options of `predictor storage monitor`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  predictor storage monitor --root ./persistent_data
  predictor storage monitor --output json | jq .volume.free

Sizes are those of the files' content; a file with several names counts once. Growth is known after a day of samples,
of which each run takes one an hour at most. Ends with 3 when a line of the health check isn't good.")]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

/// Reports on the volume.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    settle::first(&args.common.layout(), AllowSwitched::Yes)?;
    let watching = progress::watch(args.common.output);
    let report = monitor::run(&args.common.layout(), Timestamp::now(), &*watching)?;
    drop(watching);
    let zone = TimeZone::system();
    args.common.output.print(&report, || text(&report, &zone))?;
    let is_good = report.checks.iter().all(|check| check.state == State::Ok);
    Ok(Outcome::with_warnings(!is_good))
}

fn text(report: &Report, zone: &TimeZone) -> String {
    let generated = zone.to_datetime(report.generated);
    let zone_name = zone.to_offset_info(report.generated);
    let volume = &report.volume;
    let mut lines = vec![
        "📊 Stock Prediction Service - Data Usage Report".to_owned(),
        "==============================================".to_owned(),
        format!(
            "Generated: {} {} {}",
            generated.strftime("%a %b %e %H:%M:%S"),
            zone_name.abbreviation(),
            generated.year()
        ),
        String::new(),
        "💾 Overall Disk Usage:".to_owned(),
        format!("{}    .", human_bytes(report.bytes)),
        format!(
            "   Volume: {} of {} used, {} free",
            human_bytes(volume.used),
            human_bytes(volume.capacity),
            human_bytes(volume.free)
        ),
        format!("   Growth: {}", growth(report.growth.as_ref())),
        String::new(),
        "📁 Directory Breakdown:".to_owned(),
    ];
    for directory in &report.directories {
        lines.push(format!(
            "   {}: {} ({} files)",
            directory.name,
            human_bytes(directory.bytes),
            grouped(directory.files)
        ));
    }
    let last = report.last_backup.as_ref().map_or_else(
        || "none".to_owned(),
        |last| format!("{} ({})", last.name, human_bytes(last.bytes)),
    );
    lines.extend([
        String::new(),
        "🕐 Recent Activity:".to_owned(),
        format!("   Last backup: {last}"),
        format!(
            "   Recent logs: {} files from last 24h",
            grouped(report.recent_logs)
        ),
        format!(
            "   Cache files: {} cached items",
            grouped(report.cache_files)
        ),
        String::new(),
        "🏥 Data Health Check:".to_owned(),
    ]);
    for check in &report.checks {
        let mark = match check.state {
            State::Ok => "✅",
            State::Warning => "⚠️ ",
            State::Failed => "❌",
        };
        lines.push(format!("   {mark} {}", check.message));
        if let Some(fix) = &check.fix {
            lines.push(format!("      {fix}"));
        }
    }
    lines.join("\n") + "\n"
}

fn growth(growth: Option<&Growth>) -> String {
    let Some(growth) = growth else {
        return "unknown before there are samples of a day".to_owned();
    };
    let sign = if growth.bytes_per_day < 0.0 { "-" } else { "" };
    let bytes = growth.bytes_per_day.abs().round() as u64;
    let full = match growth.full_in_days {
        Some(days) if days < 36_500.0 => format!("full in {} days", grouped(days as u64)),
        _ => "not filling up".to_owned(),
    };
    format!("{sign}{} a day, {full}", human_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use stockpredictor_storage::layout::Layout;
    use stockpredictor_storage::progress::Silent;
    use stockpredictor_storage::setup;

    #[test]
    fn the_report_has_the_guides_layout() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        setup::run(&layout, &setup::Request::default()).unwrap();
        let put = |path: &str, bytes: u64| {
            let file = std::fs::File::create(layout.join(path)).unwrap();
            file.set_len(bytes).unwrap();
        };
        put("ml_models/model_weights.h5", 450 << 20);
        for index in 0..1234 {
            put(&format!("ml_cache/predictions_cache/{index}.json"), 1024);
        }
        put("logs/api.log", 89 << 20);
        let name = "stock_prediction_backup_20250801_120000.tar.gz";
        put(&format!("backups/{name}"), 2_411_724);
        let now: Timestamp = "2025-08-01T17:08:15Z".parse().unwrap();
        let report = monitor::run(&layout, now, &Silent).unwrap();
        let text = text(&report, &TimeZone::UTC);
        for line in [
            "📊 Stock Prediction Service - Data Usage Report",
            "==============================================",
            "Generated: Fri Aug  1 17:08:15 UTC 2025",
            "💾 Overall Disk Usage:",
            "📁 Directory Breakdown:",
            "   ml_models: 450M (1 files)",
            "   ml_cache: 1.3M (1,234 files)",
            "   logs: 89M (1 files)",
            "🕐 Recent Activity:",
            "   Last backup: stock_prediction_backup_20250801_120000.tar.gz (2.3M)",
            "   Recent logs: 1 files from last 24h",
            "   Cache files: 1,234 cached items",
            "🏥 Data Health Check:",
            "   ✅ ML models directory exists",
            "   ✅ Stock data directory exists",
            "   ✅ Logs directory exists",
            "   ✅ Backups directory exists",
            "   ✅ 1 backup(s) available",
        ] {
            assert!(
                text.lines().any(|found| found == line),
                "{line}\nin\n{text}"
            );
        }
    }

    #[test]
    fn growth_is_told_in_words() {
        let told = |bytes_per_day, full_in_days| {
            growth(Some(&Growth {
                bytes_per_day,
                full_in_days,
                observed_days: 2.0,
            }))
        };
        assert_eq!(
            told(1024.0 * 1024.0, Some(12.7)),
            "1.0M a day, full in 12 days"
        );
        assert_eq!(told(-2048.0, None), "-2.0K a day, not filling up");
        assert!(growth(None).starts_with("unknown"));
    }
}
