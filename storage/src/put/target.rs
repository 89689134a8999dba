//! Where something may be put. Pure.
//!
//! In comes a path below the root, out comes a [`Target`] or the reason why not.

use crate::archive::path::RelativePath;
use crate::atomic;
use crate::layout::DIRECTORIES;

/// The directories of the volume below which something may be put.
const ALLOWED: [&str; 4] = ["ml_models", "scalers", "config", "stock_data/historical"];
/// Components of `ml_models/NAME/VERSION`.
const VERSION_DEPTH: usize = 3;
/// Longest name: our temp files need some of the system's 255 bytes.
const MAX_NAME: usize = 128;

/// A path below one of the directories into which files may be put.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    path: RelativePath,
    base: RelativePath,
}

/// The path is no place for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{path} is refused: {reason}; put files below ml_models/, scalers/, config/ or stock_data/historical/"
)]
pub struct TargetError {
    /// What was asked for.
    pub path: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl Target {
    /// Checks a path.
    pub fn new(path: RelativePath) -> Result<Self, TargetError> {
        let refused = |reason| TargetError {
            path: path.to_string(),
            reason,
        };
        let base = ALLOWED.iter().find(|base| path.is_within(base.as_bytes()));
        let base = base.ok_or_else(|| refused("nothing is put there"))?;
        if DIRECTORIES
            .iter()
            .any(|own| own.as_bytes() == path.as_bytes())
        {
            return Err(refused("it is a directory of the volume itself"));
        }
        if path.components().any(|name| name.starts_with(b".")) {
            return Err(refused("names that begin with a dot are the program's own"));
        }
        if path.components().any(|name| name.len() > MAX_NAME) {
            return Err(refused("a name is longer than 128 bytes"));
        }
        if path.is_within(b"ml_models") {
            if path.name() == b"current" {
                return Err(refused("a version is put, and `current` follows"));
            }
            // What the checks have seen must stay what is used: nothing is added to a version, or changed in it.
            if path.components().count() != VERSION_DEPTH {
                return Err(refused(
                    "a model is put as a whole version, ml_models/NAME/VERSION, and what is in one never changes; put another version",
                ));
            }
        }
        let is_unfinished = |name: &[u8]| atomic::is_unfinished(&String::from_utf8_lossy(name));
        if path.components().any(is_unfinished) {
            return Err(refused("such names are for unfinished files"));
        }
        let base = RelativePath::new(*base).map_err(|_| refused("nothing is put there"))?;
        Ok(Self { path, base })
    }

    /// The path below the root.
    pub fn path(&self) -> &RelativePath {
        &self.path
    }

    /// The volume's directory that it lies below.
    pub fn base(&self) -> &RelativePath {
        &self.base
    }

    /// The directory it lies in.
    pub fn parent(&self) -> RelativePath {
        self.path.parent().unwrap_or_else(|| self.base.clone())
    }

    /// Names of directories between the volume's own one and the target.
    pub fn between(&self) -> Vec<&[u8]> {
        let names: Vec<&[u8]> = self.path.components().collect();
        let start = self.base.components().count();
        names[start..names.len() - 1].to_vec()
    }

    /// Whether it lies below `ml_models`.
    pub fn is_model(&self) -> bool {
        self.base.as_bytes() == b"ml_models"
    }

    /// The version, for `ml_models/NAME/VERSION`, which is the only place below `ml_models`.
    pub fn model_version(&self) -> Option<&[u8]> {
        self.is_model().then(|| self.path.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(path: &str) -> Result<Target, TargetError> {
        Target::new(RelativePath::new(path).unwrap())
    }

    #[test]
    fn files_go_below_four_directories_only() {
        for path in [
            "ml_models/m/1",
            "scalers/scaler.json",
            "scalers/feature_scalers/a.json",
            "config/ml_config.json",
            "stock_data/historical/NVDA",
            "stock_data/historical/NVDA/NVDA.csv",
        ] {
            assert!(target(path).is_ok(), "{path}");
        }
        for path in [
            "ml_models",
            "scalers/feature_scalers",
            "stock_data",
            "stock_data/historical",
            "stock_data/predictions/analysis/NVDA.jsonl",
            "backups/a.tar.gz",
            ".stockpredictor/volume.json",
            "ml_models/m/current",
            "ml_models/m",
            "ml_models/m/1/model.onnx",
            "ml_models/m/1/notes",
            "ml_models/m/1/report/a",
            "ml_models/.hidden/1",
            "ml_models_too/m/1",
            "logs/api.log",
        ] {
            assert!(target(path).is_err(), "{path}");
        }
    }

    #[test]
    fn a_model_version_is_known_by_its_place() {
        let version = target("ml_models/m/2024-01-02").unwrap();
        assert_eq!(version.model_version(), Some(&b"2024-01-02"[..]));
        assert_eq!(version.between(), [b"m"]);
        assert_eq!(target("scalers/a/b").unwrap().model_version(), None);
    }
}
