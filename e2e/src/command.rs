//! The command lines that users type, run as they type them.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

/// What a command printed, and whether it succeeded.
#[derive(Debug)]
pub struct Output {
    /// True for exit status 0.
    pub success: bool,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs `program` with `arguments` and `input` on standard input, at most 5 minutes.
pub async fn output(program: &str, arguments: &[&str], input: &str) -> Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{program} is not on the PATH"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes()).await?;
    }
    let ended = tokio::time::timeout(Duration::from_mins(5), child.wait_with_output())
        .await
        .with_context(|| format!("{program} {arguments:?} ran for more than 5 minutes"))??;
    Ok(Output {
        success: ended.status.success(),
        stdout: String::from_utf8_lossy(&ended.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ended.stderr).into_owned(),
    })
}

/// Like [`output`], but a failure is an error with what the command said.
pub async fn run(program: &str, arguments: &[&str]) -> Result<String> {
    let ended = output(program, arguments, "").await?;
    if !ended.success {
        bail!(
            "{program} {}: {}{}",
            arguments.join(" "),
            ended.stdout,
            ended.stderr
        );
    }
    Ok(ended.stdout)
}

/// `kubectl apply -f -` of `manifest`; the error is what the user would read.
pub async fn apply(namespace: &str, manifest: &str) -> Result<String> {
    let ended = output(
        "kubectl",
        &["apply", "--namespace", namespace, "-f", "-"],
        manifest,
    )
    .await?;
    if !ended.success {
        bail!("{}", ended.stderr);
    }
    Ok(ended.stdout)
}
