//! The commands of a page of the documentation, run as a reader would type them.
//!
//! In: the text of a page and a namespace. Out: its shell blocks, and a shell whose kubectl looks at that namespace.

use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::json;
use tempfile::TempDir;

use crate::command;
use crate::sandbox::Sandbox;

/// A run of a backup, on a slow, busy machine.
const RUN: Duration = Duration::from_mins(2);

/// The blocks of a page that are marked `sh`, in its order.
pub fn blocks(page: &str) -> Vec<&str> {
    let parts = page.split("```sh\n").skip(1);
    parts.filter_map(|part| part.split("```").next()).collect()
}

/// Makes what the pages start from: the examples, and a backup of `nvda-weekly`.
///
/// # Errors
/// When it does not come about.
pub async fn prepare(sandbox: &Sandbox) -> Result<()> {
    sandbox
        .apply(include_str!("../../examples/stockpredictor.yaml"))
        .await?;
    sandbox
        .apply(include_str!(
            "../../examples/backups/daily-weekly-monthly.yaml"
        ))
        .await?;
    sandbox.ready("nvda").await?;
    let trigger = json!({"spec": {"trigger": "before the trouble"}});
    sandbox.patch("sb", "nvda-weekly", &trigger).await?;
    let weekly = ("sb", "nvda-weekly");
    sandbox
        .settles(weekly, "LastBackupSucceeded", "True", "Completed", RUN)
        .await
        .map(drop)
}

/// A shell.
pub struct Shell {
    folder: TempDir,
}

impl Shell {
    /// One whose kubectl looks at the namespace of `sandbox`. It has a configuration of its own, so that nobody else's changes.
    ///
    /// # Errors
    /// When kubectl has no configuration that could be copied.
    pub async fn open(sandbox: &Sandbox) -> Result<Self> {
        let shell = Self {
            folder: tempfile::tempdir()?,
        };
        let config = command::run("kubectl", &["config", "view", "--raw"]).await?;
        std::fs::write(shell.folder.path().join("config"), config)?;
        shell
            .run(&format!(
                "kubectl config set-context --current --namespace={}",
                sandbox.namespace
            ))
            .await?;
        Ok(shell)
    }

    /// Runs `script` up to its first failure; what it printed.
    ///
    /// # Errors
    /// When a command of it fails.
    pub async fn run(&self, script: &str) -> Result<String> {
        let config = self.folder.path().join("config");
        let config = config.to_str().context("a path")?;
        let script = format!("export KUBECONFIG={config}\nset -eu\n{script}");
        let said = command::run("bash", &["-c", &script]).await?;
        println!("{said}");
        Ok(said)
    }
}
