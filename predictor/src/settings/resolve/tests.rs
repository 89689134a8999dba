use super::super::Settings;
use super::*;
use std::fs;

fn nothing(_: &str) -> Option<String> {
    None
}

fn contract() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../contracts/settings.json")
}

/// A volume with an empty config folder.
fn root() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("config")).unwrap();
    folder
}

fn flags(root: &Path, further: &[(&'static str, &str)]) -> Flags {
    let mut flags = Flags::default();
    flags.0.insert("root", root.display().to_string());
    flags.0.extend(
        further
            .iter()
            .map(|(name, text)| (*name, (*text).to_owned())),
    );
    flags
}

#[test]
fn each_source_wins_over_the_ones_after_it() {
    let folder = root();
    let ttl = |flags: &Flags, environment: Environment<'_>, file: Option<&Path>| {
        let resolved = resolve(flags, environment, file).unwrap();
        resolved.values["cache.prediction_ttl"].clone()
    };
    let plain = flags(folder.path(), &[]);
    let said = |text: &str, source: &str| (text.to_owned(), source.to_owned());
    assert_eq!(ttl(&plain, &nothing, None), said("1h", "built-in"));
    fs::write(
        folder.path().join("config/ml_config.json"),
        r#"{"cache":{"prediction_ttl":"5h"}}"#,
    )
    .unwrap();
    assert_eq!(
        ttl(&plain, &nothing, None),
        said("5h", "config/ml_config.json")
    );
    fs::write(
        folder.path().join("config/persistent.env"),
        "# mine\nexport ML_PREDICTION_TTL=\"4h\"\n",
    )
    .unwrap();
    assert_eq!(
        ttl(&plain, &nothing, None),
        said("4h", "config/persistent.env")
    );
    let file = folder.path().join("settings.json");
    fs::write(&file, r#"{"version":1,"cache":{"prediction_ttl":"3h"}}"#).unwrap();
    assert_eq!(
        ttl(&plain, &nothing, Some(&file)),
        said("3h", "settings file")
    );
    let environment = |name: &str| (name == "ML_PREDICTION_TTL").then(|| "2h".to_owned());
    assert_eq!(
        ttl(&plain, &environment, Some(&file)),
        said("2h", "environment")
    );
    let given = flags(folder.path(), &[("cache.prediction_ttl", "90m")]);
    assert_eq!(ttl(&given, &environment, Some(&file)), said("90m", "flag"));
}

#[test]
fn the_contracts_settings_file_is_understood() {
    let folder = root();
    let resolved = resolve(&flags(folder.path(), &[]), &nothing, Some(&contract())).unwrap();
    let settings = Settings::from_resolved(&resolved).unwrap();
    let symbols: Vec<_> = settings.symbols.iter().map(AsRef::as_ref).collect();
    assert_eq!(symbols, ["NVDA", "TSLA", "AAPL"]);
    assert!(settings.samples);
    assert_eq!(settings.model.version.as_deref(), Some("2023-12-29"));
    assert_eq!(
        settings.model.path,
        folder.path().join("ml_models/nvda_lstm_model")
    );
    assert_eq!(settings.cache.max_entries, 1000);
    assert_eq!(settings.cache.cleanup_interval.to_string(), "6h");
    let shown = settings
        .shown
        .iter()
        .find(|one| one.name == "symbols")
        .unwrap();
    assert_eq!(
        (shown.value.as_str(), shown.source.as_str()),
        ("NVDA,TSLA,AAPL", "settings file")
    );
}

#[test]
fn a_bad_value_names_the_setting_its_source_and_the_right_form() {
    let folder = root();
    let environment = |name: &str| (name == "ML_PREDICTION_TTL").then(|| "1 hour".to_owned());
    let error = resolve(&flags(folder.path(), &[]), &environment, None)
        .unwrap_err()
        .to_string();
    for part in [
        "cache.prediction_ttl",
        "environment",
        "\"1 hour\"",
        "30m, 24h or 7d",
    ] {
        assert!(error.contains(part), "{error}");
    }
    for (name, text) in [
        ("symbols", "NVDA,../x"),
        ("symbols", ","),
        ("listen", "8080"),
        ("cache.max_entries", "0"),
        ("model.name", "a/b"),
    ] {
        let error = resolve(&flags(folder.path(), &[(name, text)]), &nothing, None).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn a_broken_file_is_named_and_never_guessed_at() {
    let folder = root();
    let file = folder.path().join("settings.json");
    for text in ["{", "[]", "{\"version\":2}", "{}"] {
        fs::write(&file, text).unwrap();
        let error = resolve(&flags(folder.path(), &[]), &nothing, Some(&file)).unwrap_err();
        assert!(error.to_string().contains("settings.json"), "{error}");
    }
    assert!(
        resolve(
            &flags(folder.path(), &[]),
            &nothing,
            Some(Path::new("/absent.json"))
        )
        .is_err()
    );
    fs::write(
        folder.path().join("config/persistent.env"),
        "ML_PREDICTION_TTL\n",
    )
    .unwrap();
    let error = resolve(&flags(folder.path(), &[]), &nothing, None).unwrap_err();
    assert!(error.to_string().contains("line 1"), "{error}");
}

#[test]
fn keys_of_persistent_env_that_no_setting_has_are_told() {
    let folder = root();
    fs::write(
        folder.path().join("config/persistent.env"),
        "ML_PREDICTON_TTL=1h\n",
    )
    .unwrap();
    let resolved = resolve(&flags(folder.path(), &[]), &nothing, None).unwrap();
    assert_eq!(resolved.unknown, ["ML_PREDICTON_TTL"]);
}

#[test]
fn the_guides_variables_lead_to_its_paths() {
    let folder = root();
    let environment = |name: &str| match name {
        "ML_MODEL_PATH" => Some("/models/other".to_owned()),
        "LOG_PATH" => Some("elsewhere/logs".to_owned()),
        "STOCK_HISTORICAL_PATH" => Some(String::new()),
        _ => None,
    };
    let resolved = resolve(&flags(folder.path(), &[]), &environment, None).unwrap();
    let settings = Settings::from_resolved(&resolved).unwrap();
    assert_eq!(settings.model.path, Path::new("/models/other"));
    assert_eq!(settings.logs, folder.path().join("elsewhere/logs"));
    assert_eq!(
        settings.historical,
        folder.path().join("stock_data/historical")
    );
}
