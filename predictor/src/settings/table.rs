//! The table of settings, and the flags that are made from it.
//!
//! In comes nothing; out come the definitions that flags, environment, files, docs
//! and stats all share.

use std::collections::BTreeMap;

use clap::{Arg, ArgAction, ArgMatches, Command, FromArgMatches};

use super::value::{self, Expected};

/// One setting: its name, its ways in and its default.
pub struct Definition {
    /// Name in stats and messages.
    pub name: &'static str,
    /// The flag, without dashes.
    pub flag: &'static str,
    /// The environment variable; also the key in config/persistent.env.
    pub variable: &'static str,
    /// JSON pointer in the settings file.
    pub pointer: Option<&'static str>,
    /// The file under config/ that may hold it, at the same pointer.
    pub volume_file: Option<&'static str>,
    /// The built-in value; empty means none, or a path below the root.
    pub default: &'static str,
    /// Where below the root an unset path leads.
    pub inside: &'static str,
    /// Which commands take it.
    pub scope: Scope,
    /// One sentence for people.
    pub help: &'static str,
    /// Refuses a text that has not the right form.
    pub check: fn(&str) -> Result<(), Expected>,
}

/// Which commands take a setting as a flag.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// serve and storage setup.
    Both,
    /// serve only.
    Serve,
    /// storage setup only.
    Setup,
    /// serve and storage cleanup.
    Care,
    /// serve, but not shown in the help: for tests and unusual installations.
    Hidden,
}

const API_FILE: Option<&str> = Some("api_config.json");
const ML_FILE: Option<&str> = Some("ml_config.json");

const fn setting(
    name: &'static str,
    flag: &'static str,
    variable: &'static str,
    help: &'static str,
) -> Definition {
    Definition {
        name,
        flag,
        variable,
        pointer: None,
        volume_file: None,
        default: "",
        inside: "",
        scope: Scope::Serve,
        help,
        check: value::path,
    }
}

/// Every setting. Values of `root` and `config.path` say where files are found, so no file may hold them.
pub const TABLE: [Definition; 23] = [
    Definition {
        default: "/app/persistent_data",
        scope: Scope::Both,
        ..setting(
            "root",
            "root",
            "STOCKPREDICTOR_ROOT",
            "The volume's mount point",
        )
    },
    Definition {
        inside: "config",
        scope: Scope::Both,
        ..setting(
            "config.path",
            "config-path",
            "CONFIG_PATH",
            "Folder of persistent.env, ml_config.json and api_config.json",
        )
    },
    Definition {
        pointer: Some("/symbols"),
        volume_file: API_FILE,
        default: "NVDA,TSLA,AAPL",
        scope: Scope::Both,
        check: |text| value::symbols(text).map(|_| ()),
        ..setting(
            "symbols",
            "symbols",
            "STOCKPREDICTOR_SYMBOLS",
            "Symbols to serve, with commas between them",
        )
    },
    Definition {
        pointer: Some("/samples"),
        default: "false",
        scope: Scope::Setup,
        check: |text| value::switch(text).map(|_| ()),
        ..setting(
            "samples",
            "samples",
            "STOCKPREDICTOR_SAMPLES",
            "Put sample price history on a new volume",
        )
    },
    Definition {
        pointer: Some("/listen"),
        volume_file: API_FILE,
        default: "0.0.0.0:8080",
        check: |text| value::address(text).map(|_| ()),
        ..setting(
            "listen",
            "listen",
            "STOCKPREDICTOR_LISTEN",
            "Address and port of the HTTP API; port 0 takes any free one",
        )
    },
    Definition {
        pointer: Some("/token_file"),
        volume_file: API_FILE,
        ..setting(
            "api.token_file",
            "token-file",
            "STOCKPREDICTOR_TOKEN_FILE",
            "File with the bearer token for POST /api/v1/cache/clear; without one only loopback may",
        )
    },
    Definition {
        pointer: Some("/model/name"),
        volume_file: ML_FILE,
        default: "nvda_lstm_model",
        check: value::name,
        ..setting(
            "model.name",
            "model-name",
            "STOCKPREDICTOR_MODEL_NAME",
            "Folder of the model below ml_models",
        )
    },
    Definition {
        pointer: Some("/model/version"),
        volume_file: ML_FILE,
        check: value::name,
        ..setting(
            "model.version",
            "model-version",
            "STOCKPREDICTOR_MODEL_VERSION",
            "Version to pin; without it the volume's `current` decides",
        )
    },
    Definition {
        pointer: Some("/model/path"),
        volume_file: ML_FILE,
        inside: "ml_models/<model.name>",
        ..setting(
            "model.path",
            "model-path",
            "ML_MODEL_PATH",
            "Folder of the model, or a bare .onnx file",
        )
    },
    Definition {
        pointer: Some("/model/scaler_path"),
        volume_file: ML_FILE,
        ..setting(
            "model.scaler_path",
            "scaler-path",
            "ML_SCALER_PATH",
            "Scaler for a bare .onnx file (JSON; for a .pkl path the .json beside it)",
        )
    },
    Definition {
        pointer: Some("/model/check_interval"),
        volume_file: ML_FILE,
        default: "10s",
        scope: Scope::Hidden,
        check: |text| value::period(text).map(|_| ()),
        ..setting(
            "model.check_interval",
            "model-check-interval",
            "STOCKPREDICTOR_MODEL_CHECK_INTERVAL",
            "How often the model folder is looked at",
        )
    },
    Definition {
        inside: "ml_cache",
        ..setting(
            "cache.path",
            "cache-path",
            "ML_CACHE_PATH",
            "Folder of the prediction cache",
        )
    },
    Definition {
        pointer: Some("/cache/prediction_ttl"),
        volume_file: ML_FILE,
        default: "1h",
        check: |text| value::period(text).map(|_| ()),
        ..setting(
            "cache.prediction_ttl",
            "prediction-ttl",
            "ML_PREDICTION_TTL",
            "How long a prediction is served from the cache",
        )
    },
    Definition {
        pointer: Some("/cache/stock_data_ttl"),
        volume_file: ML_FILE,
        default: "30m",
        check: |text| value::period(text).map(|_| ()),
        ..setting(
            "cache.stock_data_ttl",
            "stock-data-ttl",
            "STOCK_DATA_TTL",
            "How long a history in memory is trusted while its files look unchanged",
        )
    },
    Definition {
        pointer: Some("/cache/cleanup_interval"),
        volume_file: ML_FILE,
        default: "6h",
        check: |text| value::period(text).map(|_| ()),
        ..setting(
            "cache.cleanup_interval",
            "cleanup-interval",
            "CACHE_CLEANUP_INTERVAL",
            "How often the volume is cleaned up",
        )
    },
    Definition {
        pointer: Some("/cache/max_entries"),
        volume_file: ML_FILE,
        default: "1000",
        check: |text| value::entries(text).map(|_| ()),
        ..setting(
            "cache.max_entries",
            "cache-max-entries",
            "STOCKPREDICTOR_CACHE_MAX_ENTRIES",
            "Most predictions in the cache; the least recently used one goes first",
        )
    },
    Definition {
        pointer: Some("/retention/cache"),
        volume_file: ML_FILE,
        default: "24h",
        scope: Scope::Care,
        check: |text| value::period(text).map(|_| ()),
        ..setting(
            "retention.cache",
            "retention-cache",
            "STOCKPREDICTOR_RETENTION_CACHE",
            "Files of caches that were not used for so long are removed",
        )
    },
    Definition {
        pointer: Some("/retention/predictions"),
        volume_file: ML_FILE,
        default: "7d",
        scope: Scope::Care,
        check: |text| value::period(text).map(|_| ()),
        ..setting(
            "retention.predictions",
            "retention-predictions",
            "STOCKPREDICTOR_RETENTION_PREDICTIONS",
            "Stored predictions of this age are removed; one without its real price stays for 30 days",
        )
    },
    Definition {
        pointer: Some("/retention/logs"),
        volume_file: ML_FILE,
        default: "30d",
        scope: Scope::Care,
        check: |text| value::period(text).map(|_| ()),
        ..setting(
            "retention.logs",
            "retention-logs",
            "STOCKPREDICTOR_RETENTION_LOGS",
            "Log files that were not written for so long are removed",
        )
    },
    Definition {
        inside: "stock_data/historical",
        ..setting(
            "stock_data.historical_path",
            "historical-path",
            "STOCK_HISTORICAL_PATH",
            "Folder with one folder of CSV files a symbol",
        )
    },
    Definition {
        inside: "stock_data/predictions",
        ..setting(
            "stock_data.predictions_path",
            "predictions-path",
            "PREDICTION_CACHE_PATH",
            "Folder of stored predictions",
        )
    },
    Definition {
        inside: "logs",
        ..setting(
            "logs.path",
            "log-path",
            "LOG_PATH",
            "Folder of the log files",
        )
    },
    Definition {
        default: "3s",
        scope: Scope::Hidden,
        check: |text| value::period(text).map(|_| ()),
        ..setting(
            "shutdown.drain",
            "drain",
            "STOCKPREDICTOR_DRAIN",
            "How long requests are still accepted after SIGTERM",
        )
    },
];

/// Values that were given as flags, by the setting's name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(pub BTreeMap<&'static str, String>);

impl Flags {
    fn augment(command: Command, fits: fn(&Definition) -> bool) -> Command {
        TABLE
            .iter()
            .filter(|one| fits(one))
            .fold(command, |command, definition| {
                command.arg(argument(definition))
            })
    }

    fn take(matches: &ArgMatches, fits: fn(&Definition) -> bool) -> Self {
        let given = TABLE
            .iter()
            .filter(|one| fits(one))
            .filter_map(|definition| {
                let value = matches.get_one::<String>(definition.flag)?;
                Some((definition.name, value.clone()))
            });
        Self(given.collect())
    }
}

fn argument(definition: &Definition) -> Arg {
    let shown_default = match (definition.default, definition.inside) {
        ("", "") => String::new(),
        ("", inside) => format!(" [default: <root>/{inside}]"),
        (default, _) => format!(" [default: {default}]"),
    };
    let argument = Arg::new(definition.flag)
        .long(definition.flag)
        .help(format!(
            "{} [env: {}]{shown_default}",
            definition.help, definition.variable
        ))
        .hide(definition.scope == Scope::Hidden)
        .value_name("VALUE")
        .action(ArgAction::Set);
    if definition.default == "false" {
        // `--samples` alone means true.
        argument
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
    } else {
        argument
    }
}

macro_rules! flags_of_a_command {
    ($name:ident, $what:literal, $fits:expr) => {
        #[doc = $what]
        #[derive(Clone, Debug, Default)]
        pub struct $name(pub Flags);

        impl FromArgMatches for $name {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(Flags::take(matches, $fits)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0.0.extend(Flags::take(matches, $fits).0);
                Ok(())
            }
        }

        impl clap::Args for $name {
            fn augment_args(command: Command) -> Command {
                Flags::augment(command, $fits)
            }

            fn augment_args_for_update(command: Command) -> Command {
                Flags::augment(command, $fits)
            }
        }
    };
}

flags_of_a_command!(
    ServeFlags,
    "Settings that `predictor serve` takes as flags.",
    |one| one.scope != Scope::Setup
);
flags_of_a_command!(
    SetupFlags,
    "Settings that `predictor storage setup` takes as flags.",
    |one| matches!(one.scope, Scope::Both | Scope::Setup)
);
flags_of_a_command!(
    CleanupFlags,
    "Settings that `predictor storage cleanup` takes as flags.",
    |one| one.scope == Scope::Care || matches!(one.name, "root" | "config.path")
);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn names_flags_and_variables_are_unique() {
        for pick in [
            |one: &Definition| one.name,
            |one: &Definition| one.flag,
            |one: &Definition| one.variable,
        ] {
            let unique: BTreeSet<_> = TABLE.iter().map(pick).collect();
            assert_eq!(unique.len(), TABLE.len());
        }
    }

    #[test]
    fn every_built_in_value_has_the_right_form() {
        for definition in &TABLE {
            assert_eq!(
                (definition.check)(definition.default),
                Ok(()),
                "{}",
                definition.name
            );
        }
    }

    #[test]
    fn every_setting_is_documented_with_its_flag_variable_and_default() {
        let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/settings.md");
        let docs = std::fs::read_to_string(docs).unwrap();
        for definition in &TABLE {
            let row = docs
                .lines()
                .find(|line| line.starts_with(&format!("| `{}` |", definition.name)))
                .unwrap_or_else(|| panic!("docs/settings.md has no row for {}", definition.name));
            assert!(row.contains(&format!("`--{}`", definition.flag)), "{row}");
            assert!(row.contains(&format!("`{}`", definition.variable)), "{row}");
            assert!(
                row.contains(definition.default) && row.contains(definition.inside),
                "{row}"
            );
            if let Some(file) = definition.volume_file {
                assert!(row.contains(file), "{row}");
            }
        }
    }
}
