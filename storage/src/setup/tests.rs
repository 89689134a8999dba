use super::*;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

const MODEL: &[Gift<'_>] = &[
    Gift {
        path: "ml_models/m/v1/model.onnx",
        bytes: b"onnx",
    },
    Gift {
        path: "ml_models/m/current",
        bytes: b"v1\n",
    },
];
const SAMPLES: &[Gift<'_>] = &[Gift {
    path: "stock_data/historical/NVDA/NVDA.csv",
    bytes: b"csv",
}];

fn request() -> Request<'static> {
    Request {
        symbols: vec![Symbol::parse("BRK.B").unwrap()],
        model: MODEL.to_vec(),
        samples: SAMPLES.to_vec(),
        wants_samples: true,
    }
}

/// Every path below the root with its content; the marker without id and time.
fn tree(root: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![root.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            if path.is_dir() {
                found.insert(name + "/", Vec::new());
                pending.push(path);
            } else {
                let content = fs::read(&path).unwrap();
                found.insert(name, content);
            }
        }
    }
    if let Some(marker) = found.get_mut(".stockpredictor/volume.json") {
        let parsed: Marker = serde_json::from_slice(marker).unwrap();
        *marker = format!("{:?} {}", parsed.state, parsed.install_samples).into_bytes();
    }
    found
}

fn complete() -> BTreeMap<String, Vec<u8>> {
    let folder = tempfile::tempdir().unwrap();
    run(&Layout::new(folder.path()), &request()).unwrap();
    tree(folder.path())
}

#[test]
fn a_new_volume_gets_the_guides_tree_the_model_and_the_samples() {
    let folder = tempfile::tempdir().unwrap();
    let before = fs::metadata(folder.path()).unwrap().permissions().mode();
    let report = run(&Layout::new(folder.path()), &request()).unwrap();
    assert!(report.new_volume && !report.resumed);
    let tree = tree(folder.path());
    for directory in DIRECTORIES.iter().chain(&["stock_data/historical/BRK.B"]) {
        assert!(tree.contains_key(&format!("{directory}/")), "{directory}");
        let mode = fs::metadata(folder.path().join(directory))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7777, 0o755, "{directory}");
    }
    assert_eq!(tree["ml_models/m/v1/model.onnx"], b"onnx");
    assert_eq!(tree["stock_data/historical/NVDA/NVDA.csv"], b"csv");
    assert_eq!(tree[".stockpredictor/volume.json"], b"Ready true");
    let after = fs::metadata(folder.path()).unwrap().permissions().mode();
    assert_eq!(before, after, "the mount point itself is left alone");
}

#[test]
fn a_setup_stopped_after_any_step_is_finished_by_the_next_one() {
    let expected = complete();
    let count = plan(
        &Found {
            marker: None,
            has_data: false,
        },
        &request(),
        Uuid::nil(),
        Timestamp::now(),
    )
    .len();
    for stop in 0..count {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        let mut first = None;
        {
            let (_locks, found) = begin(&layout).unwrap();
            let steps = plan(&found, &request(), Uuid::new_v4(), Timestamp::now());
            let mut report = Report {
                volume_id: Uuid::nil(),
                new_volume: true,
                resumed: false,
                directories: Vec::new(),
                files: Vec::new(),
                scripts: Vec::new(),
                scripts_failed: Vec::new(),
            };
            for step in &steps[..stop] {
                execute(&layout, step, &mut report).unwrap();
                first = Some(report.volume_id);
            }
        }
        let report = run(&layout, &request()).unwrap();
        assert_eq!(report.resumed, stop > 0, "stopped after {stop} steps");
        if let Some(id) = first {
            assert_eq!(report.volume_id, id, "stopped after {stop} steps");
        }
        assert_eq!(tree(folder.path()), expected, "stopped after {stop} steps");
    }
}

#[test]
fn a_setup_that_is_continued_without_samples_installs_those_it_began_with() {
    for first in [true, false] {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        run(
            &layout,
            &Request {
                wants_samples: first,
                ..request()
            },
        )
        .unwrap();
        fs::remove_dir_all(layout.join("stock_data")).unwrap();
        let begun = Marker {
            state: State::Installing,
            ..Marker::read(&layout).unwrap().unwrap()
        };
        begun.write(&layout).unwrap();
        run(
            &layout,
            &Request {
                wants_samples: !first,
                ..request()
            },
        )
        .unwrap();
        let sample = layout.join(SAMPLES[0].path);
        assert_eq!(sample.exists(), first, "the marker decides");
    }
}

#[test]
fn what_a_killed_setup_left_half_written_is_removed_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    run(&layout, &request()).unwrap();
    let begun = Marker {
        state: State::Installing,
        ..Marker::read(&layout).unwrap().unwrap()
    };
    let left = [
        layout.state().join(".volume.json.host-1-0.partial"),
        layout.join("ml_models/m/v1/.model.onnx.host-1-1.partial"),
    ];
    let foreign = layout.join("ml_models/m/v1/.mine.partial");
    for path in left.iter().chain([&foreign]) {
        fs::write(path, "half").unwrap();
    }
    run(&layout, &request()).unwrap();
    assert!(left[0].exists(), "a ready volume may be in use");
    begun.write(&layout).unwrap();
    run(&layout, &request()).unwrap();
    assert!(!left[0].exists() && !left[1].exists() && foreign.exists());
}

#[test]
fn a_second_setup_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    run(&layout, &request()).unwrap();
    let before = tree(folder.path());
    let report = run(&layout, &request()).unwrap();
    assert!(!report.new_volume && report.directories.is_empty() && report.files.is_empty());
    assert_eq!(tree(folder.path()), before);
}

#[test]
fn a_ready_volume_without_its_model_is_not_healed() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    run(&layout, &request()).unwrap();
    fs::remove_dir_all(layout.join("ml_models/m")).unwrap();
    run(&layout, &request()).unwrap();
    assert!(!layout.join("ml_models/m").exists());
}

#[test]
fn nothing_is_installed_beside_data_that_is_already_there() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    fs::create_dir_all(folder.path().join("stock_data/historical/TSLA")).unwrap();
    fs::write(
        folder.path().join("stock_data/historical/TSLA/a.csv"),
        "mine",
    )
    .unwrap();
    let report = run(&layout, &request()).unwrap();
    assert!(!report.new_volume && report.files.is_empty());
    assert!(!layout.join("ml_models/m").exists());
    assert_eq!(Marker::read(&layout).unwrap().unwrap().state, State::Ready);
}

#[test]
fn empty_directories_and_lost_and_found_are_not_data() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("lost+found")).unwrap();
    fs::write(folder.path().join("lost+found/#12"), "x").unwrap();
    fs::create_dir_all(folder.path().join("stock_data/historical/NVDA")).unwrap();
    let report = run(&Layout::new(folder.path()), &request()).unwrap();
    assert!(report.new_volume);
    assert_eq!(report.files.len(), 3);
}

#[test]
fn a_file_where_a_directory_belongs_is_named() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("logs"), "x").unwrap();
    let error = run(&Layout::new(folder.path()), &request()).unwrap_err();
    assert!(matches!(error, SetupError::InTheWay { .. }), "{error}");
}

#[test]
fn a_refusal_names_the_way_out() {
    let layout = Layout::new("/data");
    let denied = explain(
        &layout,
        Path::new("/data/logs"),
        io::ErrorKind::PermissionDenied.into(),
    );
    assert!(
        denied.to_string().contains("chown -R 1001:1001 /data"),
        "{denied}"
    );
    assert!(denied.to_string().contains("fsGroup: 1001"), "{denied}");
    let full = explain(
        &layout,
        Path::new("/data/logs"),
        io::ErrorKind::StorageFull.into(),
    );
    assert!(matches!(full, SetupError::Full { .. }), "{full}");
}
