//! A place in a job document: a folder on the volume or on another claim, or an object store.
//!
//! In comes what the document says, out comes a destination of the storage crate that the job may be told to leave.

use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use stockpredictor_storage::destination::folder::Folder;
use stockpredictor_storage::destination::{Destination, inside};
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::retention::Policy;

use super::document::Owner;
use super::failure::{Failure, Reason};
use super::interrupt::{Guarded, Stop};
use crate::object_store::{ObjectStore, Options};

/// Longest name, as of a Kubernetes label.
const MAX_NAME: usize = 63;

/// Where archives lie.
#[derive(Clone, Debug, Deserialize)]
pub struct Place {
    /// How the message calls it.
    pub name: String,
    #[serde(default)]
    path: Option<PathBuf>,
    #[serde(default)]
    url: Option<String>,
    #[serde(default)]
    endpoint: Option<String>,
    #[serde(default)]
    credentials: Option<PathBuf>,
    #[serde(default)]
    ca: Option<PathBuf>,
    #[serde(default)]
    retention: Option<Retention>,
}

/// How many backups stay there.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Retention {
    #[serde(default = "ten")]
    last: u32,
    #[serde(default)]
    daily: u32,
    #[serde(default)]
    weekly: u32,
    #[serde(default)]
    monthly: u32,
}

const fn ten() -> u32 {
    10
}

/// Whether a folder that isn't there is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// Its last directory is.
    Make,
    /// It is an error.
    Refuse,
}

impl Place {
    /// Whether it makes sense, in a job with or without a volume.
    pub fn check(&self, has_root: bool) -> Result<(), String> {
        if self.name.is_empty() || self.name.len() > MAX_NAME {
            return Err(format!("a place needs a name of 1 to {MAX_NAME} bytes"));
        }
        let name = &self.name;
        match (&self.path, &self.url) {
            (Some(path), None) => {
                let is_up = |part: Component<'_>| part == Component::ParentDir;
                if path.as_os_str().is_empty() || path.components().any(is_up) {
                    return Err(format!("the path of {name} is empty or has `..` in it"));
                }
                if path.is_relative() && !has_root {
                    return Err(format!(
                        "the path of {name} is relative, which means on the volume, but the job has no root"
                    ));
                }
                Ok(())
            }
            (None, Some(url)) if url.contains("://") => Ok(()),
            (None, Some(_)) => Err(format!(
                "the url of {name} is none: write s3://BUCKET/PREFIX"
            )),
            (None, None) | (Some(_), Some(_)) => {
                Err(format!("{name} needs either a path or a url"))
            }
        }
    }

    /// How many backups stay there.
    pub fn policy(&self) -> Policy {
        self.retention
            .map_or_else(Policy::default, |retention| Policy {
                keep_last: retention.last,
                daily: retention.daily,
                weekly: retention.weekly,
                monthly: retention.monthly,
            })
    }

    /// The destination. Stores keep archives below the owner's namespace and name.
    pub fn reach(
        &self,
        root: Option<&Path>,
        owner: &Owner,
        missing: Missing,
        stop: &Stop,
    ) -> Result<Box<dyn Destination>, Failure> {
        let reached: Box<dyn Destination> = match (&self.path, &self.url) {
            (Some(path), _) => {
                let path = match root {
                    Some(root) => Layout::new(root).join(path),
                    None => path.clone(),
                };
                Box::new(match (missing, root) {
                    (Missing::Make, Some(root)) => {
                        inside::refuse(&Layout::new(root), &path)
                            .map_err(|error| Failure::new(Reason::InvalidJob, error))?;
                        // The volume's own archives leave room for the service.
                        Folder::create(path)?.beside(root)
                    }
                    (Missing::Make, None) => Folder::create(path)?,
                    (Missing::Refuse, _) => Folder::open(path)?,
                })
            }
            (None, Some(url)) => {
                let mut options = Options::from_environment();
                options.credentials_file.clone_from(&self.credentials);
                options.endpoint.clone_from(&self.endpoint);
                if self.ca.is_some() {
                    options.ca_bundle.clone_from(&self.ca);
                }
                options.namespace.clone_from(&owner.namespace);
                options.predictor.clone_from(&owner.predictor);
                Box::new(ObjectStore::connect(url, &options)?)
            }
            (None, None) => {
                return Err(Failure::new(
                    Reason::InvalidJob,
                    format!("{} needs either a path or a url", self.name),
                ));
            }
        };
        Ok(Box::new(Guarded::new(reached, stop.clone())))
    }
}
