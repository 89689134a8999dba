//! Proving a restored volume: its models give their golden predictions, in a process of its own.
//!
//! In comes the root of a restored volume, out comes a sentence when something is wrong. A model is a program for
//! ONNX Runtime; one that ends the process must end that one, not the one that reports.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use stockpredictor_storage::restore::Checker;
use stockpredictor_storage::verify::Prover;

use super::{Outcome, explain};
use crate::model::{CURRENT_FILE, Session, folder};

/// How long the models of a volume may take.
const PATIENCE: Duration = Duration::from_mins(5);
/// How often the child is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// Most of the child's words that are told, in characters.
const MAX_TOLD: usize = 400;

/// Options of `predictor storage prove`, which the program calls by itself.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Root of the restored volume.
    root: PathBuf,
}

/// Loads every model that is in use and compares its golden predictions. Models that can't be compared are a warning.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let models = args.root.join("ml_models");
    let entries = match fs::read_dir(&models) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            eprintln!("{} isn't there", models.display());
            return Ok(Outcome::Warnings);
        }
        Err(error) => {
            return Err(error).with_context(|| format!("{} can't be read", models.display()));
        }
    };
    let mut proven = 0;
    let mut outcome = Outcome::Done;
    for entry in entries {
        let path = entry?.path();
        if !path.join(CURRENT_FILE).is_file() {
            continue;
        }
        let name = path.display();
        let model = folder::load_version(&path, None).with_context(|| format!("{name}"))?;
        let mut session = Session::open(&model)?;
        let Some(golden) = model.golden else {
            eprintln!(
                "{name} has no golden.json, so nothing shows that it predicts what it did: let the service load it once, then back it up again"
            );
            outcome = Outcome::Warnings;
            continue;
        };
        if let Err(error) = golden.check(&mut session) {
            bail!("{name}: {error}");
        }
        proven += 1;
    }
    if proven == 0 && outcome == Outcome::Done {
        eprintln!("{} has no model with a file `current`", models.display());
        outcome = Outcome::Warnings;
    }
    println!("{proven}");
    Ok(outcome)
}

/// What the models of a volume showed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All predict what they did.
    Proven,
    /// There is nothing to compare, or not for all; the reason is for people.
    Unknown(String),
    /// One doesn't predict what it did, or can't be loaded.
    Refuted(String),
}

/// Runs this program once more.
#[derive(Clone, Copy, Debug)]
pub struct Child;

impl Prover for Child {
    fn prove(&self, root: &Path) -> Result<(), String> {
        match verdict(root) {
            Verdict::Proven => Ok(()),
            Verdict::Unknown(reason) | Verdict::Refuted(reason) => Err(reason),
        }
    }
}

/// A restored volume without anything to compare is no worse than the backup: only what is refuted is taken back.
impl Checker for Child {
    fn check(&self, root: &Path) -> Result<(), String> {
        match verdict(root) {
            Verdict::Proven | Verdict::Unknown(_) => Ok(()),
            Verdict::Refuted(reason) => Err(reason),
        }
    }
}

/// Tries the models of the volume below `root`.
pub fn verdict(root: &Path) -> Verdict {
    prove(root).unwrap_or_else(|error| Verdict::Refuted(explain(&error)))
}

fn prove(root: &Path) -> anyhow::Result<Verdict> {
    let program = std::env::current_exe().context("this program can't be found")?;
    let mut child = Command::new(program)
        .args(["storage", "prove"])
        .arg(root)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("the models can't be tried")?;
    let stderr = child.stderr.take();
    // Read beside the wait: a child that fills the pipe would else never end.
    let words = thread::spawn(move || {
        let mut text = String::new();
        if let Some(stderr) = stderr {
            use std::io::Read;
            let _ = stderr.take(64 << 10).read_to_string(&mut text);
        }
        text
    });
    let deadline = Instant::now() + PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            bail!(
                "the models gave no prediction within {} s",
                PATIENCE.as_secs()
            );
        }
        thread::sleep(LOOK);
    };
    let words = words.join().unwrap_or_default();
    if status.success() {
        return Ok(Verdict::Proven);
    }
    let words: String = words
        .trim()
        .trim_start_matches("error: ")
        .chars()
        .take(MAX_TOLD)
        .collect();
    if status.code() == Some(i32::from(Outcome::Warnings.code())) {
        return Ok(Verdict::Unknown(words));
    }
    bail!(
        "the restored models don't predict what they did: {}",
        if words.is_empty() {
            status.to_string()
        } else {
            words
        }
    )
}
