//! ONNX Runtime: finds its library, loads it once, and hands out its environment.
//!
//! In comes nothing but the place of the running program (and `ORT_DYLIB_PATH`); out
//! comes the one environment of the process, with telemetry off. Nothing else may
//! touch `ort`'s own loading, which panics when the library is missing.

use std::env;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use ort::environment::Environment;

const LIBRARY: &str = "libonnxruntime.so";
const ANCESTORS: usize = 5;

/// Why ONNX Runtime can't be used. The first failure stays for the life of the process.
#[derive(Clone, Debug, thiserror::Error)]
pub enum RuntimeError {
    /// No library where it is looked for.
    #[error(
        "{LIBRARY} was found neither beside the program (onnxruntime/ or lib/, up to {ANCESTORS} folders up) nor through ORT_DYLIB_PATH: run `make onnxruntime` or set ORT_DYLIB_PATH to the library"
    )]
    NotFound,
    /// `ORT_DYLIB_PATH` leads nowhere.
    #[error("ORT_DYLIB_PATH is {}, which is not a file: set it to {LIBRARY} or unset it", path.display())]
    WrongPath {
        /// The variable's value.
        path: PathBuf,
    },
    /// The library is there, but can't be loaded.
    #[error("{} can't be used as ONNX Runtime ({reason}): run `make onnxruntime` for the right one", path.display())]
    Load {
        /// The library.
        path: PathBuf,
        /// What the loader said.
        reason: String,
    },
}

/// Loads the library on the first call; later calls return the same result at once.
///
/// `main` calls it before any work, so that a missing library is a clear message at the start.
pub fn init() -> Result<&'static Environment, RuntimeError> {
    static ENVIRONMENT: OnceLock<Result<Environment, RuntimeError>> = OnceLock::new();
    ENVIRONMENT.get_or_init(load).as_ref().map_err(Clone::clone)
}

fn load() -> Result<Environment, RuntimeError> {
    let path = match env::var_os("ORT_DYLIB_PATH").filter(|value| !value.is_empty()) {
        Some(value) => Some(PathBuf::from(value))
            .filter(|path| path.is_file())
            .ok_or_else(|| RuntimeError::WrongPath {
                path: env::var_os("ORT_DYLIB_PATH").unwrap_or_default().into(),
            })?,
        None => find(&env::current_exe().map_err(|_| RuntimeError::NotFound)?)
            .ok_or(RuntimeError::NotFound)?,
    };
    let failed = |reason: String| RuntimeError::Load {
        path: path.clone(),
        reason,
    };
    // The pinned release has no telemetry; a newer one that ORT_DYLIB_PATH names does, and is told not to.
    // Such a build also looks for ORT_DISABLE_TELEMETRY, which only its environment can set.
    let environment = ort::init_from(&path)
        .map_err(|error| failed(error.to_string()))?
        .with_name("predictor")
        .with_telemetry(false)
        .build()
        .map_err(|error| failed(error.to_string()))?;
    // ONNX Runtime logs at information level what is of use only to its own developers.
    environment.set_log_level(ort::logging::LogLevel::Warning);
    Ok(environment)
}

/// The library for a program at `executable`: in `onnxruntime/` or `lib/` of a folder above it.
fn find(executable: &Path) -> Option<PathBuf> {
    let executable = executable.canonicalize().ok()?;
    let folders = executable.ancestors().skip(1).take(ANCESTORS);
    folders
        .flat_map(|folder| ["onnxruntime", "lib"].map(|name| folder.join(name).join(LIBRARY)))
        .find(|candidate| candidate.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_library_is_found_above_the_program_but_not_further_than_five_folders() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("lib")).unwrap();
        fs::write(root.join("lib").join(LIBRARY), "").unwrap();
        let near = root.join("a/b/c/d");
        let far = near.join("e");
        fs::create_dir_all(&far).unwrap();
        fs::write(near.join("predictor"), "").unwrap();
        fs::write(far.join("predictor"), "").unwrap();
        assert_eq!(
            find(&near.join("predictor")),
            Some(root.join("lib").join(LIBRARY))
        );
        assert_eq!(find(&far.join("predictor")), None);
    }

    #[test]
    fn the_runtime_loads_once_and_stays() {
        let first = init().unwrap();
        assert!(std::ptr::eq(first, init().unwrap()));
    }
}
