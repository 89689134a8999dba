//! Proving a restored volume: its models give their golden predictions, in a process of its own.
//!
//! In comes the root of a restored volume, out comes a sentence when something is wrong. A model is a program for
//! ONNX Runtime; one that ends the process must end that one, not the one that reports.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
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

/// Loads every model that is in use and compares its golden predictions.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let models = args.root.join("ml_models");
    let mut proven = 0;
    for entry in
        fs::read_dir(&models).with_context(|| format!("{} can't be read", models.display()))?
    {
        let path = entry?.path();
        if !path.join(CURRENT_FILE).is_file() {
            continue;
        }
        let name = path.display();
        let model = folder::load_version(&path, None).with_context(|| format!("{name}"))?;
        let mut session = Session::open(&model)?;
        let Some(golden) = model.golden else {
            bail!(
                "{name} has no golden.json, so nothing shows that it predicts what it did: let the service load it once, then back it up again"
            );
        };
        if let Err(error) = golden.check(&mut session) {
            bail!("{name}: {error}");
        }
        proven += 1;
    }
    if proven == 0 {
        bail!("{} has no model with a file `current`", models.display());
    }
    println!("{proven}");
    Ok(Outcome::Done)
}

/// Runs this program once more.
#[derive(Clone, Copy, Debug)]
pub struct Child;

impl Prover for Child {
    fn prove(&self, root: &Path) -> Result<(), String> {
        prove(root).map_err(|error| explain(&error))
    }
}

fn prove(root: &Path) -> anyhow::Result<()> {
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
        return Ok(());
    }
    let words: String = words
        .trim()
        .trim_start_matches("error: ")
        .chars()
        .take(MAX_TOLD)
        .collect();
    bail!(
        "the restored models don't predict what they did: {}",
        if words.is_empty() {
            status.to_string()
        } else {
            words
        }
    )
}
