//! Reading the files that may hold settings.
//!
//! In come paths, out come JSON documents and the lines of persistent.env. A file
//! under config/ that is absent is an empty one; an absent settings file is an error.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use serde_json::Value;

use super::resolve::SettingsError;

/// Largest file with settings.
const MAX_BYTES: u64 = 1024 * 1024;
/// Version of the settings file that this release reads.
const VERSION: u64 = 1;

/// The settings file that `--settings` names.
pub fn settings_file(path: &Path) -> Result<Value, SettingsError> {
    let Some(text) = text(path)? else {
        return Err(SettingsError::Read {
            path: path.display().to_string(),
            source: io::ErrorKind::NotFound.into(),
        });
    };
    let document = parse(&text, path)?;
    match document.get("version").and_then(Value::as_u64) {
        Some(VERSION) => Ok(document),
        found => Err(SettingsError::Version {
            path: path.display().to_string(),
            found: found.map_or_else(
                || "no version".to_owned(),
                |found| format!("version {found}"),
            ),
        }),
    }
}

/// A JSON file under config/; nothing when it is absent or empty.
pub fn volume_json(path: &Path) -> Result<Value, SettingsError> {
    match text(path)? {
        Some(text) if !text.trim().is_empty() => parse(&text, path),
        _ => Ok(Value::Null),
    }
}

/// config/persistent.env: lines of `NAME=value`, `#` begins a comment line.
pub fn persistent_env(path: &Path) -> Result<BTreeMap<String, String>, SettingsError> {
    let mut found = BTreeMap::new();
    for (index, line) in text(path)?.unwrap_or_default().lines().enumerate() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let Some((name, value)) = line.split_once('=') else {
            return Err(SettingsError::ParseFile {
                path: path.display().to_string(),
                reason: format!("line {} is not NAME=value", index + 1),
            });
        };
        found.insert(name.trim().to_owned(), unquote(value.trim()).to_owned());
    }
    Ok(found)
}

fn unquote(value: &str) -> &str {
    ['"', '\'']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value)
}

fn parse(text: &str, path: &Path) -> Result<Value, SettingsError> {
    let refused = |reason: String| SettingsError::ParseFile {
        path: path.display().to_string(),
        reason,
    };
    match serde_json::from_str(text) {
        Ok(document @ Value::Object(_)) => Ok(document),
        Ok(_) => Err(refused("it must be one JSON object".to_owned())),
        Err(error) => Err(refused(error.to_string())),
    }
}

fn text(path: &Path) -> Result<Option<String>, SettingsError> {
    let failed = |source| SettingsError::Read {
        path: path.display().to_string(),
        source,
    };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let mut text = String::new();
    file.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(failed)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(SettingsError::ParseFile {
            path: path.display().to_string(),
            reason: format!("it is larger than {MAX_BYTES} bytes"),
        });
    }
    Ok(Some(text))
}
