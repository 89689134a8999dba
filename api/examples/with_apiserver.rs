//! Runs a command against a real API server that exists only for it:
//! `cargo run -p stockpredictor-api --example with_apiserver -- COMMAND…`. The command finds `KUBECONFIG` in its
//! environment and kubectl on its path; its exit status is the result.

#[path = "../tests/common/server.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod server;

use std::process::{Command, ExitCode};

fn main() -> Result<ExitCode, String> {
    let mut arguments = std::env::args_os().skip(1);
    let program = arguments.next().ok_or("say which command to run")?;
    let server = server::Server::start()?;
    let mut path = server.tools().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let status = Command::new(&program)
        .args(arguments)
        .env("KUBECONFIG", server.kubeconfig())
        .env("PATH", path)
        .status()
        .map_err(|error| format!("can't run {}: {error}", program.display()))?;
    Ok(ExitCode::from(
        status
            .code()
            .and_then(|code| u8::try_from(code).ok())
            .unwrap_or(1),
    ))
}
