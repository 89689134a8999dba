//! The commands of a page of the documentation, run as a reader would type them.
//!
//! In: the text of a page and a namespace. Out: its shell blocks, and a shell whose kubectl looks at that namespace.

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::command;
use crate::sandbox::Sandbox;

/// The blocks of a page that are marked `sh`, in its order.
pub fn blocks(page: &str) -> Vec<&str> {
    let parts = page.split("```sh\n").skip(1);
    parts.filter_map(|part| part.split("```").next()).collect()
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
