//! `predictor storage test`: the checks of the volume, a line each.
//!
//! In comes the volume, out go lines with ✓, ! or ✗ and what to do.

use serde::Serialize;
use stockpredictor_storage::health::{self, Check, State, Surroundings};

use super::Common;
use super::exit::Outcome;
use super::settle;
use stockpredictor_storage::restore::AllowSwitched;

/// Options of `predictor storage test`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "Examples:
  predictor storage test --root ./persistent_data
  kubectl exec nvda-0 -- predictor storage test --output json

Ends with 0 when everything is good, 3 with warnings, 1 when a check failed. What is written for the test is removed.")]
pub struct Args {
    #[command(flatten)]
    common: Common,
}

#[derive(Serialize)]
struct Report {
    root: String,
    state: State,
    checks: Vec<Check>,
}

/// Checks the volume.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let layout = args.common.layout();
    settle::first(&layout, AllowSwitched::Yes)?;
    let checks = health::run(&layout, &Surroundings::look());
    let worst = checks.iter().map(|check| check.state).max();
    let report = Report {
        root: layout.root().display().to_string(),
        state: worst.unwrap_or(State::Ok),
        checks,
    };
    args.common.output.print(&report, || text(&report))?;
    Ok(match report.state {
        State::Ok => Outcome::Done,
        State::Warning => Outcome::Warnings,
        State::Failed => Outcome::Failed,
    })
}

fn text(report: &Report) -> String {
    let mut lines = vec![format!("🧪 Testing the storage at {}", report.root)];
    for check in &report.checks {
        let mark = match check.state {
            State::Ok => "✓",
            State::Warning => "!",
            State::Failed => "✗",
        };
        lines.push(format!("   {mark} {}", check.message));
        if let Some(fix) = &check.fix {
            lines.push(format!("       {fix}"));
        }
    }
    lines.push(match report.state {
        State::Ok => "✅ All checks passed".to_owned(),
        State::Warning => "⚠️  It works; mind the lines with !".to_owned(),
        State::Failed => {
            "❌ It does not work: put right the lines with ✗ and test again".to_owned()
        }
    });
    lines.join("\n") + "\n"
}
