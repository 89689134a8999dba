//! Put on whole volumes: all of a tar or nothing, and versions of models once.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use stockpredictor_storage::archive::path::RelativePath;
use stockpredictor_storage::layout::Layout;
use stockpredictor_storage::progress::Silent;
use stockpredictor_storage::put::{self, PutError, Report, Request, Target};
use stockpredictor_storage::setup;

fn volume() -> (tempfile::TempDir, Layout) {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    setup::run(&layout, &setup::Request::default()).unwrap();
    (folder, layout)
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o600);
        builder
            .append_data(&mut header, name, content.as_bytes())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

struct Options {
    force: bool,
    activate: bool,
    refuse: bool,
}

const PLAIN: Options = Options {
    force: false,
    activate: true,
    refuse: false,
};

fn put(
    layout: &Layout,
    path: &str,
    input: &mut dyn Read,
    options: &Options,
) -> Result<Report, PutError> {
    let inspect = |folder: &Path| {
        assert!(folder.join("model.onnx").is_file());
        if options.refuse {
            Err("a hash is wrong".to_owned())
        } else {
            Ok(())
        }
    };
    let request = Request {
        target: Target::new(RelativePath::new(path).unwrap()).unwrap(),
        force: options.force,
        activate: options.activate,
        inspect: &inspect,
    };
    put::run(layout, &request, input, &Silent)
}

/// Names below a directory, those of unfinished work included.
fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn a_version_is_put_once_and_becomes_the_current_one() {
    let (_folder, layout) = volume();
    let first = tar(&[("./model.onnx", "1"), ("./scaler.json", "{}")]);
    let report = put(&layout, "ml_models/m/v1", &mut &*first, &PLAIN).unwrap();
    assert_eq!((report.files, report.bytes, report.activated), (2, 3, true));
    // A folder of the version's name inside the tar is the same.
    let second = tar(&[("v2/model.onnx", "2")]);
    let quiet = Options {
        activate: false,
        ..PLAIN
    };
    assert!(
        !put(&layout, "ml_models/m/v2", &mut &*second, &quiet)
            .unwrap()
            .activated
    );
    let model = layout.join("ml_models/m");
    assert_eq!(names(&model), ["current", "v1", "v2"]);
    assert_eq!(fs::read(model.join("v2/model.onnx")).unwrap(), b"2");
    assert_eq!(fs::read(model.join("current")).unwrap(), b"v1\n");
    for force in [false, true] {
        let again = Options { force, ..PLAIN };
        let error = put(&layout, "ml_models/m/v1", &mut &*second, &again).unwrap_err();
        assert!(matches!(error, PutError::Exists { .. }), "{error}");
    }
    assert_eq!(fs::read(model.join("v1/model.onnx")).unwrap(), b"1");
    assert_eq!(names(&model), ["current", "v1", "v2"]);
}

/// A restore that is switched and waits for its next step.
fn half_restored(layout: &Layout) {
    let id = "6f1c2d34-0000-4000-8000-000000000001";
    let journal = format!(
        r#"{{"format":1,"id":"{id}","backup":"{id}","startedAt":"2025-08-01T00:00:00Z","oneShot":false,"state":"switched","items":[]}}"#
    );
    fs::write(layout.state().join("restore.json"), journal).unwrap();
}

#[test]
fn nothing_is_put_while_a_restore_waits() {
    let (_folder, layout) = volume();
    half_restored(&layout);
    let stream = tar(&[("a", "1")]);
    let error = put(&layout, "config/a", &mut &*stream, &PLAIN).unwrap_err();
    assert!(matches!(error, PutError::Journal(_)), "{error}");
    assert!(!layout.join("config/a").exists());
}

#[test]
fn the_same_version_may_be_put_again_and_becomes_the_current_one() {
    let (_folder, layout) = volume();
    let first = tar(&[("model.onnx", "1"), ("report/a", "r")]);
    put(&layout, "ml_models/m/v1", &mut &*first, &PLAIN).unwrap();
    let second = tar(&[("model.onnx", "2")]);
    put(&layout, "ml_models/m/v2", &mut &*second, &PLAIN).unwrap();
    // A put that was killed before its last step, and what the service adds when it loads a version.
    let model = layout.join("ml_models/m");
    fs::write(model.join("v1/golden.json"), "{}").unwrap();
    let again = put(&layout, "ml_models/m/v1", &mut &*first, &PLAIN).unwrap();
    assert!(again.activated);
    assert_eq!(fs::read(model.join("current")).unwrap(), b"v1\n");
    assert_eq!(fs::read(model.join("v1/golden.json")).unwrap(), b"{}");
    for other in [
        tar(&[("model.onnx", "1"), ("report/a", "s")]),
        tar(&[("model.onnx", "1")]),
        tar(&[("model.onnx", "1"), ("report/a", "r"), ("more", "")]),
        tar(&[
            ("model.onnx", "1"),
            ("report/a", "r"),
            ("golden.json", "[]"),
        ]),
    ] {
        for force in [false, true] {
            let options = Options { force, ..PLAIN };
            let error = put(&layout, "ml_models/m/v1", &mut &*other, &options).unwrap_err();
            assert!(matches!(error, PutError::Exists { .. }), "{error}");
        }
    }
    assert_eq!(names(&model), ["current", "v1", "v2"]);
    assert_eq!(fs::read(model.join("v1/model.onnx")).unwrap(), b"1");
}

/// A connection that breaks.
struct Broken;
impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ConnectionReset.into())
    }
}

#[test]
fn a_refused_model_and_a_cut_stream_leave_nothing() {
    let (_folder, layout) = volume();
    let whole = tar(&[("model.onnx", &"1".repeat(5000))]);
    let refused = Options {
        refuse: true,
        ..PLAIN
    };
    let error = put(&layout, "ml_models/m/v1", &mut &*whole, &refused).unwrap_err();
    assert!(error.to_string().contains("a hash is wrong"), "{error}");
    for end in [0, 100, 512, 1000, 3000, 5000] {
        assert!(put(&layout, "ml_models/m/v1", &mut &whole[..end], &PLAIN).is_err());
    }
    assert!(put(&layout, "ml_models/m/v1", &mut Broken, &PLAIN).is_err());
    assert_eq!(names(&layout.join("ml_models/m")), Vec::<String>::new());
}

#[test]
fn a_single_file_is_replaced_with_force_only() {
    let (_folder, layout) = volume();
    let path = "config/ml_config.json";
    for (content, force, works) in [("1", false, true), ("2", false, false), ("3", true, true)] {
        let stream = tar(&[("ml_config.json", content)]);
        let done = put(&layout, path, &mut &*stream, &Options { force, ..PLAIN });
        assert_eq!(done.is_ok(), works, "{content}");
    }
    assert_eq!(fs::read(layout.join(path)).unwrap(), b"3");
    assert_eq!(names(&layout.join("config")), ["ml_config.json"]);
    // A folder is never replaced.
    let history = "stock_data/historical/NVDA";
    let stream = tar(&[("NVDA.csv", "1")]);
    put(
        &layout,
        "stock_data/historical/NVDA/NVDA.csv",
        &mut &*stream,
        &PLAIN,
    )
    .unwrap();
    let force = Options {
        force: true,
        ..PLAIN
    };
    let stream = tar(&[("a.csv", "1"), ("b.csv", "2")]);
    assert!(put(&layout, history, &mut &*stream, &force).is_err());
    assert_eq!(names(&layout.join(history)), ["NVDA.csv"]);
}

#[test]
fn a_link_on_the_way_leads_nowhere() {
    let (_folder, layout) = volume();
    let outside = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(outside.path(), layout.join("ml_models/m")).unwrap();
    let stream = tar(&[("model.onnx", "1")]);
    assert!(put(&layout, "ml_models/m/v1", &mut &*stream, &PLAIN).is_err());
    assert_eq!(names(outside.path()), Vec::<String>::new());
}
