//! Which source wins: flag, environment, settings file, the volume's config/, built-in.
//!
//! In come the sources, out comes one checked text a setting, with its source. A value
//! of the wrong form is an error that names setting, source and the right form.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::table::{Definition, Flags, TABLE};
use super::value::Expected;
use super::{ShownSetting, absolute, read};

const ENV_FILE: &str = "persistent.env";

/// The environment as it is read: a variable's name in, its value out.
pub type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Why settings can't be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "each message says what the fields are")]
pub enum SettingsError {
    #[error("setting {name} from {source_name} is {value:?}: {expected}")]
    Value {
        name: &'static str,
        source_name: String,
        value: String,
        expected: Expected,
    },
    #[error("{path} can't be read: {source}: correct the path or the file's mode")]
    Read { path: String, source: io::Error },
    #[error("{path} is not valid ({reason}): correct it or remove it")]
    ParseFile { path: String, reason: String },
    #[error("{path} has {found}, this release reads version 1: use the release that wrote it")]
    Version { path: String, found: String },
}

/// Checked texts with their sources.
#[derive(Clone, Debug)]
pub struct Resolved {
    values: BTreeMap<&'static str, (String, String)>,
    /// Keys in config/persistent.env that no setting has.
    pub unknown: Vec<String>,
}

impl Resolved {
    /// The text of a setting of the table.
    pub fn text(&self, name: &str) -> &str {
        self.values.get(name).map_or("", |(text, _)| text)
    }

    /// The typed value of a setting.
    pub fn parse<T>(
        &self,
        name: &'static str,
        parse: fn(&str) -> Result<T, Expected>,
    ) -> Result<T, SettingsError> {
        let (text, source) = self.values.get(name).cloned().unwrap_or_default();
        parse(&text).map_err(|expected| wrong(name, &source, &text, expected))
    }

    /// All values for stats; paths that are not set are shown where they lead.
    pub fn shown(&self, root: &Path) -> Vec<ShownSetting> {
        let mut shown: Vec<ShownSetting> = TABLE
            .iter()
            .map(|definition| {
                let (text, source) = self
                    .values
                    .get(definition.name)
                    .cloned()
                    .unwrap_or_default();
                let value = if text.is_empty() && !definition.inside.is_empty() {
                    let inside = definition
                        .inside
                        .replace("<model.name>", self.text("model.name"));
                    absolute(root, &inside).display().to_string()
                } else {
                    text
                };
                ShownSetting {
                    name: definition.name.to_owned(),
                    value,
                    source,
                }
            })
            .collect();
        shown.sort_by(|left, right| left.name.cmp(&right.name));
        shown
    }
}

/// Finds the winning value of every setting.
pub fn resolve(
    flags: &Flags,
    environment: Environment<'_>,
    settings_file: Option<&Path>,
) -> Result<Resolved, SettingsError> {
    let file = settings_file.map(read::settings_file).transpose()?;
    let mut resolved = Resolved {
        values: BTreeMap::new(),
        unknown: Vec::new(),
    };
    // Root and config folder come first, the volume's files are found through them.
    let none = VolumeFiles::default();
    for name in ["root", "config.path"] {
        if let Some(definition) = TABLE.iter().find(|one| one.name == name) {
            resolved.values.insert(
                name,
                pick(definition, flags, environment, file.as_ref(), &none)?,
            );
        }
    }
    let root = PathBuf::from(resolved.text("root"));
    let config = match resolved.text("config.path") {
        "" => root.join("config"),
        path => absolute(&root, path),
    };
    let volume = VolumeFiles::read(&config)?;
    for definition in &TABLE {
        if !resolved.values.contains_key(definition.name) {
            let picked = pick(definition, flags, environment, file.as_ref(), &volume)?;
            resolved.values.insert(definition.name, picked);
        }
    }
    let known = |key: &&String| TABLE.iter().any(|one| one.variable == **key);
    resolved.unknown = volume
        .env
        .keys()
        .filter(|key| !known(key))
        .cloned()
        .collect();
    Ok(resolved)
}

/// The files under config/.
#[derive(Default)]
struct VolumeFiles {
    env: BTreeMap<String, String>,
    json: BTreeMap<&'static str, Value>,
}

impl VolumeFiles {
    fn read(config: &Path) -> Result<Self, SettingsError> {
        let mut json = BTreeMap::new();
        for file in TABLE.iter().filter_map(|one| one.volume_file) {
            if !json.contains_key(file) {
                json.insert(file, read::volume_json(&config.join(file))?);
            }
        }
        Ok(Self {
            env: read::persistent_env(&config.join(ENV_FILE))?,
            json,
        })
    }
}

fn pick(
    definition: &Definition,
    flags: &Flags,
    environment: Environment<'_>,
    file: Option<&Value>,
    volume: &VolumeFiles,
) -> Result<(String, String), SettingsError> {
    let is_set = |text: &String| !text.is_empty();
    let in_json = |document: Option<&Value>| {
        let value = document?.pointer(definition.pointer?)?;
        json_text(value)
    };
    let file_source = definition.volume_file.unwrap_or_default();
    let candidates = [
        (flags.0.get(definition.name).cloned(), "flag".to_owned()),
        (
            environment(definition.variable).filter(is_set),
            "environment".to_owned(),
        ),
        (in_json(file), "settings file".to_owned()),
        (
            volume.env.get(definition.variable).cloned().filter(is_set),
            format!("config/{ENV_FILE}"),
        ),
        (
            in_json(volume.json.get(file_source)),
            format!("config/{file_source}"),
        ),
    ];
    let found = candidates
        .into_iter()
        .find_map(|(text, source)| Some((text?, source)));
    let (text, source) =
        found.unwrap_or_else(|| (definition.default.to_owned(), "built-in".to_owned()));
    match (definition.check)(&text) {
        Ok(()) => Ok((text, source)),
        Err(expected) => Err(wrong(definition.name, &source, &text, expected)),
    }
}

/// A JSON value as the text that a flag would have; null means that nothing is said.
fn json_text(value: &Value) -> Option<String> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        Value::Array(items) => {
            let items = items.iter().map(|item| json_text(item).unwrap_or_default());
            Some(items.collect::<Vec<_>>().join(","))
        }
        other => Some(other.to_string()),
    }
}

fn wrong(name: &'static str, source: &str, text: &str, expected: Expected) -> SettingsError {
    SettingsError::Value {
        name,
        source_name: source.to_owned(),
        value: text.chars().take(100).collect(),
        expected,
    }
}

#[cfg(test)]
mod tests;
