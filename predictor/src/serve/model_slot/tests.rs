use super::*;
use std::fs;
use std::time::Duration;

const FILES: [&str; 4] = [MODEL_FILE, CONFIG_FILE, SCALER_FILE, GOLDEN_FILE];

/// The shipped model on a volume of its own.
fn slot() -> (tempfile::TempDir, PathBuf, ModelSlot) {
    let root = tempfile::tempdir().unwrap();
    let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("default_model/nvda_lstm_model");
    let version = crate::model::folder::current_version(&shipped).unwrap();
    let folder = root.path().join(&version);
    fs::create_dir(&folder).unwrap();
    for name in FILES {
        fs::copy(shipped.join(&version).join(name), folder.join(name)).unwrap();
    }
    fs::write(root.path().join(CURRENT_FILE), version).unwrap();
    let slot = slot_of(root.path(), None);
    (root, folder, slot)
}

fn slot_of(path: &Path, scaler: Option<PathBuf>) -> ModelSlot {
    let settings = ModelSettings {
        path: path.to_owned(),
        version: None,
        scaler,
        check_interval: Duration::from_secs(1),
    };
    ModelSlot::new(settings, 1)
}

#[test]
fn a_read_that_failed_is_tried_again_though_the_files_look_the_same() {
    let (_root, _folder, slot) = slot();
    let failing = |_: &Target| {
        Err(ModelError::Read {
            path: MODEL_FILE.to_owned(),
            reason: "stale file handle".to_owned(),
        })
    };
    let first = slot.refresh_with(failing);
    assert!(matches!(first, Change::Refused(_)), "{first:?}");
    assert_eq!(slot.refresh_with(failing), Change::None, "it is told once");
    assert_eq!(slot.refresh(Timestamp::now()), Change::Loaded);
    assert!(slot.active().is_ok());
}

#[test]
fn a_model_that_is_wrong_is_not_read_again_until_it_changes() {
    let (_root, folder, slot) = slot();
    let graph = folder.join(MODEL_FILE);
    let whole = fs::read(&graph).unwrap();
    fs::write(&graph, b"x").unwrap();
    let first = slot.refresh(Timestamp::now());
    assert!(matches!(first, Change::Refused(_)), "{first:?}");
    let unasked = |_: &Target| -> Result<ActiveModel, ModelError> { panic!("it was read") };
    assert_eq!(slot.refresh_with(unasked), Change::None);
    fs::write(&graph, whole).unwrap();
    assert_eq!(slot.refresh(Timestamp::now()), Change::Loaded);
}

#[test]
fn recorded_forecasts_that_change_are_compared_unless_they_are_our_own() {
    let (_root, folder, slot) = slot();
    let golden = folder.join(GOLDEN_FILE);
    let text = fs::read(&golden).unwrap();
    fs::remove_file(&golden).unwrap();
    assert_eq!(slot.refresh(Timestamp::now()), Change::Loaded);
    assert_eq!(
        slot.active().unwrap().golden_to_write(),
        Some(golden.clone())
    );
    fs::write(&golden, text).unwrap();
    slot.golden_written(&golden);
    assert_eq!(slot.refresh(Timestamp::now()), Change::None);
    fs::write(&golden, "{}").unwrap();
    let change = slot.refresh(Timestamp::now());
    assert!(matches!(change, Change::Refused(_)), "{change:?}");
    assert!(slot.candidate().is_some() && slot.active().is_ok());
}

#[test]
fn another_scaler_beside_a_bare_graph_is_another_model() {
    let (_root, folder, _) = slot();
    let bare = tempfile::tempdir().unwrap();
    let graph = bare.path().join("own.onnx");
    fs::copy(folder.join(MODEL_FILE), &graph).unwrap();
    let scaler = bare.path().join("scaler.json");
    fs::copy(folder.join(SCALER_FILE), &scaler).unwrap();
    let slot = slot_of(&graph, Some(scaler.with_extension("pkl")));
    assert_eq!(slot.refresh(Timestamp::now()), Change::Loaded);
    assert_eq!(slot.refresh(Timestamp::now()), Change::None);
    fs::write(&scaler, "{}").unwrap();
    let change = slot.refresh(Timestamp::now());
    assert!(matches!(change, Change::Refused(_)), "{change:?}");
}
