//! Destinations as people write them: a folder, or the URL of an object store.
//!
//! In come `DIR|URL` and the options of stores, out come destinations of the storage crate.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::Context;
use stockpredictor_storage::destination::Destination;
use stockpredictor_storage::destination::folder::Folder;
use stockpredictor_storage::destination::inside;
use stockpredictor_storage::known::{Known, KnownError};
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::marker::Marker;
use stockpredictor_storage::select::Scope;

use crate::object_store::{ObjectStore, Options};

/// How to reach an object store. Credentials come from a file or the environment, never from arguments.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "Object stores")]
pub struct StoreArgs {
    /// File of `NAME=VALUE` lines such as `AWS_ACCESS_KEY_ID=…`, or in the form of `~/.aws/credentials`, or a folder of files
    /// that are called as the variables; else the environment's
    #[arg(long, env = "STOCKPREDICTOR_CREDENTIALS_FILE", value_name = "FILE")]
    credentials_file: Option<PathBuf>,
    /// Certificates to trust, in PEM
    #[arg(long, env = "STOCKPREDICTOR_CA_BUNDLE", value_name = "FILE")]
    ca_bundle: Option<PathBuf>,
    /// Where the store listens, if it isn't the provider's own
    #[arg(long, env = "STOCKPREDICTOR_ENDPOINT", value_name = "URL")]
    endpoint: Option<String>,
    /// Namespace of the predictor; empty outside Kubernetes
    #[arg(
        long,
        env = "STOCKPREDICTOR_NAMESPACE",
        value_name = "NAME",
        default_value = ""
    )]
    pub namespace: String,
    /// Name of the predictor; empty outside Kubernetes
    #[arg(
        long,
        env = "STOCKPREDICTOR_NAME",
        value_name = "NAME",
        default_value = ""
    )]
    pub predictor: String,
}

impl StoreArgs {
    /// A destination that is there, or whose last directory can be made.
    pub fn create(&self, layout: &Layout, place: &str) -> anyhow::Result<Box<dyn Destination>> {
        match self.store(place)? {
            Some(store) => Ok(store),
            None => Ok(Box::new(Folder::create(place)?.beside(layout.root()))),
        }
    }

    /// A destination that must be there.
    pub fn open(&self, place: &str) -> anyhow::Result<Box<dyn Destination>> {
        match self.store(place)? {
            Some(store) => Ok(store),
            None => Ok(Box::new(Folder::open(place)?)),
        }
    }

    /// Whose backups are chosen from: the predictor's, else this volume's, else any one's.
    pub fn scope(&self, layout: &Layout) -> anyhow::Result<Scope> {
        if !self.namespace.is_empty() && !self.predictor.is_empty() {
            return Ok(Scope::Predictor {
                namespace: self.namespace.clone(),
                predictor: self.predictor.clone(),
            });
        }
        Ok(Marker::read(layout)?.map_or(Scope::Any, |marker| Scope::Volume(marker.id)))
    }

    fn store(&self, place: &str) -> anyhow::Result<Option<Box<dyn Destination>>> {
        if !place.contains("://") {
            return Ok(None);
        }
        let mut options = Options::from_environment();
        options.credentials_file.clone_from(&self.credentials_file);
        if self.ca_bundle.is_some() {
            options.ca_bundle.clone_from(&self.ca_bundle);
        }
        options.endpoint.clone_from(&self.endpoint);
        options.namespace.clone_from(&self.namespace);
        options.predictor.clone_from(&self.predictor);
        Ok(Some(Box::new(ObjectStore::connect(place, &options)?)))
    }
}

/// The volume's own backups: `BACKUP_PATH`, or `backups/`.
pub fn own_backups(layout: &Layout) -> String {
    let named = std::env::var_os("BACKUP_PATH").filter(|path| !path.is_empty());
    let path = named.map_or_else(|| layout.join("backups"), |path| layout.join(path));
    path.display().to_string()
}

/// The places without those that are named twice, by whatever path.
pub fn distinct(places: &[String]) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let is_new = |place: &&String| {
        let identity = if place.contains("://") {
            PathBuf::from(place.trim_end_matches('/'))
        } else {
            let path = Path::new(place);
            inside::resolved(path).unwrap_or_else(|_| path.to_owned())
        };
        seen.insert(identity)
    };
    places.iter().filter(is_new).cloned().collect()
}

/// Where backups are looked for: what `--from` says, else the volume's own. An empty variable counts as not set.
pub fn from(given: Option<&String>, layout: &Layout) -> String {
    given
        .filter(|place| !place.is_empty())
        .map_or_else(|| own_backups(layout), Clone::clone)
}

/// Splits the path of an archive into its folder and its name.
pub fn folder_of(file: &Path) -> anyhow::Result<(String, String)> {
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .with_context(|| format!("{} names no archive", file.display()))?;
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.display().to_string(),
        _ => ".".to_owned(),
    };
    Ok((folder, name.to_owned()))
}

/// The archives that runs on this volume wrote; none where there is no volume.
pub fn known(layout: &Layout) -> anyhow::Result<Known> {
    Ok(known_in(layout)?)
}

/// As [`known`], with the error that says what is wrong with the file.
pub fn known_in(layout: &Layout) -> Result<Known, KnownError> {
    Known::read(&layout.known())
}

/// Threads for the engine: `STOCKPREDICTOR_THREADS`, or one for each core (0).
pub fn threads() -> anyhow::Result<usize> {
    match std::env::var("STOCKPREDICTOR_THREADS") {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| {
            format!("STOCKPREDICTOR_THREADS is {text:?}: write a whole number, 0 for one each core")
        }),
        _ => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_named_twice_counts_once() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::os::unix::fs::symlink(&root, root.join("link")).unwrap();
        let path = |text: &str| root.join(text).display().to_string();
        let places = [
            path("new"),
            path("new/"),
            path("link/new"),
            path("other"),
            "s3://bucket/a".to_owned(),
            "s3://bucket/a/".to_owned(),
        ];
        assert_eq!(
            distinct(&places),
            [path("new"), path("other"), "s3://bucket/a".to_owned()]
        );
    }

    #[test]
    fn a_file_is_split_into_folder_and_name() {
        let split = |path: &str| folder_of(Path::new(path)).unwrap();
        assert_eq!(split("a/b.tar.gz"), ("a".to_owned(), "b.tar.gz".to_owned()));
        assert_eq!(split("b.tar.gz"), (".".to_owned(), "b.tar.gz".to_owned()));
        assert!(folder_of(Path::new("a/..")).is_err());
    }
}
