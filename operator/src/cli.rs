//! The command line: `operator run`, `operator crd`, `operator probe`.
//!
//! In: arguments and environment. Out: an exit status. `anyhow` is allowed here and in `main` only.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use stockpredictor_api::ImagePullPolicy;

use crate::{logging, probe, run};

/// Turns StockPredictor objects into running, watched predictors.
#[derive(Debug, Parser)]
#[command(name = "operator", version, about)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Watch the cluster and reconcile until SIGTERM.
    Run(RunArgs),
    /// Write the custom resource definitions as YAML.
    Crd {
        /// Directory for one file a definition; without it everything goes to standard output.
        directory: Option<PathBuf>,
    },
    /// Ask a URL and print the answer; the exit status is 0 when it is a success (2xx).
    Probe {
        /// Such as `http://nvda.default.svc:8080/api/v1/health`.
        url: String,
    },
}

/// Options of `operator run`. Each has an environment variable, which is how the chart sets them.
#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Image of predictors that name none.
    #[arg(long, env = "STOCKPREDICTOR_PREDICTOR_IMAGE", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub predictor_image: String,

    /// When nodes pull the predictor's image, for objects that don't say.
    #[arg(long, env = "STOCKPREDICTOR_PREDICTOR_IMAGE_PULL_POLICY", default_value = "IfNotPresent", value_parser = pull_policy)]
    pub predictor_image_pull_policy: ImagePullPolicy,

    /// Namespaces to watch, separated by commas; empty means all of them.
    #[arg(long, env = "STOCKPREDICTOR_WATCH_NAMESPACES", value_delimiter = ',')]
    pub watch_namespaces: Vec<String>,

    /// Namespaces whose pods may reach every predictor, separated by commas.
    #[arg(
        long,
        env = "STOCKPREDICTOR_ALLOW_FROM_NAMESPACES",
        value_delimiter = ','
    )]
    pub allow_from_namespaces: Vec<String>,

    /// Namespace in which the operator runs: its pods may reach every predictor.
    #[arg(
        long,
        env = "STOCKPREDICTOR_OPERATOR_NAMESPACE",
        default_value = "stockpredictor"
    )]
    pub operator_namespace: String,

    /// Name of the operator's pod, for Events.
    #[arg(long, env = "POD_NAME")]
    pub pod_name: Option<String>,

    /// How many objects are reconciled at once.
    #[arg(long, env = "STOCKPREDICTOR_CONCURRENCY", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,

    /// What is logged, such as `info` or `info,kube=debug`.
    #[arg(long, env = "STOCKPREDICTOR_LOG", default_value = "info")]
    pub log: String,

    /// Address of /livez, /readyz and /metrics.
    #[arg(long, env = "STOCKPREDICTOR_LISTEN", default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
}

fn pull_policy(value: &str) -> Result<ImagePullPolicy, String> {
    [
        ImagePullPolicy::Always,
        ImagePullPolicy::IfNotPresent,
        ImagePullPolicy::Never,
    ]
    .into_iter()
    .find(|policy| policy.as_str() == value)
    .ok_or_else(|| "use Always, IfNotPresent or Never".to_owned())
}

impl Cli {
    /// Does what the command line says.
    ///
    /// # Errors
    /// When the command can't be carried out; the message says why and what to do.
    pub fn execute(self) -> anyhow::Result<ExitCode> {
        match self.command {
            Command::Run(arguments) => {
                logging::init(&arguments.log)?;
                runtime()?.block_on(run::run(arguments))?;
            }
            Command::Crd {
                directory: Some(directory),
            } => {
                for path in stockpredictor_api::crd::write(&directory)? {
                    println!("{}", path.display());
                }
            }
            Command::Crd { directory: None } => {
                for (_, yaml) in stockpredictor_api::crd::files()? {
                    println!("---\n{yaml}");
                }
            }
            Command::Probe { url } => {
                let answer = runtime()?.block_on(probe::probe(&url))?;
                println!("{}", answer.body);
                if !answer.success {
                    eprintln!("error: {url} answered {}", answer.status);
                    return Ok(ExitCode::FAILURE);
                }
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("can't start the async runtime")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run_args(arguments: &[&str]) -> Result<RunArgs, String> {
        let words = ["operator", "run", "--predictor-image", "p:1"]
            .iter()
            .chain(arguments);
        match Cli::try_parse_from(words)
            .map_err(|error| error.to_string())?
            .command
        {
            Command::Run(arguments) => Ok(arguments),
            other => Err(format!("{other:?}")),
        }
    }

    #[test]
    fn lists_are_separated_by_commas() {
        let arguments = run_args(&["--watch-namespaces", "a,b"]).unwrap();
        assert_eq!(arguments.watch_namespaces, ["a", "b"]);
    }

    #[test]
    fn an_unknown_pull_policy_names_the_known_ones() {
        let message = run_args(&["--predictor-image-pull-policy", "Sometimes"]).unwrap_err();
        assert!(
            message.contains("use Always, IfNotPresent or Never"),
            "{message}"
        );
    }

    #[test]
    fn unbounded_concurrency_is_refused() {
        assert!(run_args(&["--concurrency", "0"]).is_err());
    }

    #[test]
    fn the_image_is_required_and_not_empty() {
        assert!(Cli::try_parse_from(["operator", "run", "--predictor-image", ""]).is_err());
    }
}
