//! Model folders that are broken or hostile: each is refused with a message that
//! names the file and the way out, and the process goes on.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

use std::fs;
use std::path::{Path, PathBuf};

use prost::Message;
use stockpredictor_predictor::feature::{FEATURES, Window};
use stockpredictor_predictor::model::folder::{self, hex_sha256};
use stockpredictor_predictor::model::onnx::{
    self, Attribute, Graph, Model, Node, StringPair, Tensor,
};
use stockpredictor_predictor::model::{ModelError, Session};

fn default_model() -> PathBuf {
    let model = Path::new(env!("CARGO_MANIFEST_DIR")).join("default_model/nvda_lstm_model");
    model.join(folder::current_version(&model).unwrap())
}

/// A copy of the default model that a test may break.
fn copy() -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in [
        "model.onnx",
        "model_config.json",
        "scaler.json",
        "golden.json",
    ] {
        fs::copy(default_model().join(name), copy.path().join(name)).unwrap();
    }
    copy
}

/// Replaces the graph and its hash.
fn put_graph(folder: &Path, bytes: &[u8]) {
    fs::write(folder.join("model.onnx"), bytes).unwrap();
    let path = folder.join("model_config.json");
    let mut config: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["sha256"]["model.onnx"] = hex_sha256(bytes).into();
    fs::write(path, config.to_string()).unwrap();
}

fn graph() -> Model {
    Model::decode(
        fs::read(default_model().join("model.onnx"))
            .unwrap()
            .as_slice(),
    )
    .unwrap()
}

fn refused_graph(model: &Model) -> ModelError {
    let copy = copy();
    put_graph(copy.path(), &model.encode_to_vec());
    folder::load(copy.path()).unwrap_err()
}

fn external() -> Tensor {
    Tensor {
        name: "w".to_owned(),
        data_type: onnx::FLOAT,
        data_location: 1,
        external_data: vec![StringPair {
            key: "location".to_owned(),
            value: "/etc/passwd".to_owned(),
        }],
        ..Tensor::default()
    }
}

#[test]
fn a_copy_loads() {
    folder::load(copy().path()).unwrap();
}

#[test]
fn a_changed_graph_or_scaler_does_not_match_its_hash() {
    for name in ["model.onnx", "scaler.json"] {
        let copy = copy();
        let path = copy.path().join(name);
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).unwrap();
        let error = folder::load(copy.path()).unwrap_err();
        assert!(
            matches!(&error, ModelError::Hash { path } if path.ends_with(name)),
            "{error}"
        );
    }
}

#[test]
fn a_missing_file_is_named() {
    for name in ["model.onnx", "scaler.json", "model_config.json"] {
        let copy = copy();
        fs::remove_file(copy.path().join(name)).unwrap();
        let error = folder::load(copy.path()).unwrap_err();
        assert!(
            matches!(&error, ModelError::Missing { path } if path.ends_with(name)),
            "{error}"
        );
    }
}

#[test]
fn recorded_forecasts_may_be_missing_but_not_broken() {
    let copy = copy();
    let path = copy.path().join("golden.json");
    fs::write(&path, "{").unwrap();
    assert!(matches!(
        folder::load(copy.path()).unwrap_err(),
        ModelError::Parse { .. }
    ));
    fs::remove_file(&path).unwrap();
    assert!(folder::load(copy.path()).unwrap().golden.is_none());
}

#[test]
fn a_graph_cut_off_anywhere_is_refused() {
    let whole = fs::read(default_model().join("model.onnx")).unwrap();
    for length in (0..whole.len()).step_by(97) {
        let copy = copy();
        put_graph(copy.path(), &whole[..length]);
        assert!(folder::load(copy.path()).is_err(), "{length}");
    }
}

#[test]
fn tensors_in_other_files_are_found_wherever_they_hide() {
    let inner = Graph {
        initializer: vec![external()],
        ..Graph::default()
    };
    let hide = |attribute: Attribute| {
        let mut model = graph();
        let node = Node {
            op_type: "If".to_owned(),
            attribute: vec![attribute],
            ..Node::default()
        };
        model.graph.as_mut().unwrap().node.push(node);
        model
    };
    let mut plain = graph();
    plain.graph.as_mut().unwrap().initializer.push(external());
    let mut unnamed = graph();
    unnamed.graph.as_mut().unwrap().initializer.push(Tensor {
        external_data: Vec::new(),
        ..external()
    });
    let sparse = onnx::SparseTensor {
        values: Some(external()),
        indices: None,
    };
    let mut function = graph();
    function.functions.push(onnx::Function {
        node: vec![Node {
            attribute: vec![Attribute {
                t: Some(external()),
                ..Attribute::default()
            }],
            ..Node::default()
        }],
        ..onnx::Function::default()
    });
    let mut training = graph();
    training.training_info.push(onnx::TrainingInfo {
        initialization: None,
        algorithm: Some(inner.clone()),
    });
    let models = [
        plain,
        unnamed,
        function,
        training,
        hide(Attribute {
            t: Some(external()),
            ..Attribute::default()
        }),
        hide(Attribute {
            tensors: vec![external()],
            ..Attribute::default()
        }),
        hide(Attribute {
            g: Some(inner.clone()),
            ..Attribute::default()
        }),
        hide(Attribute {
            graphs: vec![inner],
            ..Attribute::default()
        }),
        hide(Attribute {
            sparse_tensor: Some(sparse.clone()),
            ..Attribute::default()
        }),
        hide(Attribute {
            sparse_tensors: vec![sparse],
            ..Attribute::default()
        }),
    ];
    for (index, model) in models.iter().enumerate() {
        let error = refused_graph(model);
        assert!(
            matches!(error, ModelError::ExternalData { .. }),
            "{index}: {error}"
        );
    }
}

/// A graph in an attribute of a node of a graph, and so on.
fn nested(levels: usize) -> Vec<u8> {
    const ATTRIBUTE_GRAPH: u8 = 0x32;
    const NODE_ATTRIBUTE: u8 = 0x2a;
    const GRAPH_NODE: u8 = 0x0a;
    const MODEL_GRAPH: u8 = 0x3a;
    let wrap = |tag: u8, content: &[u8]| {
        let mut outer = vec![tag];
        prost::encoding::encode_varint(content.len() as u64, &mut outer);
        outer.extend(content);
        outer
    };
    let mut graph = Vec::new();
    for _ in 0..levels {
        for tag in [ATTRIBUTE_GRAPH, NODE_ATTRIBUTE, GRAPH_NODE] {
            graph = wrap(tag, &graph);
        }
    }
    wrap(MODEL_GRAPH, &graph)
}

#[test]
fn a_graph_nested_without_end_does_not_exhaust_the_stack() {
    let shallow = onnx::inspect(&nested(5), "model.onnx").unwrap_err();
    assert!(matches!(shallow, ModelError::Shape { .. }), "{shallow}");
    let deep = onnx::inspect(&nested(5000), "model.onnx").unwrap_err();
    assert!(matches!(deep, ModelError::Parse { .. }), "{deep}");
}

#[test]
fn inputs_and_outputs_of_another_shape_are_refused() {
    type Change = fn(&mut Graph);
    let changes: [Change; 6] = [
        |graph| graph.input[0].name = "x".to_owned(),
        |graph| {
            graph.input.pop();
        },
        |graph| graph.output[0].name = "y".to_owned(),
        |graph| {
            shape(&mut graph.input[0])[2].dim_value = Some(i64::try_from(FEATURES).unwrap() + 1);
        },
        |graph| shape(&mut graph.input[0])[1].dim_value = Some(100_000),
        |graph| shape(&mut graph.output[0])[1].dim_value = Some(1),
    ];
    for (index, change) in changes.iter().enumerate() {
        let mut model = graph();
        change(model.graph.as_mut().unwrap());
        let error = refused_graph(&model);
        assert!(
            matches!(error, ModelError::Shape { .. }),
            "{index}: {error}"
        );
    }
}

fn shape(value: &mut onnx::ValueInfo) -> &mut Vec<onnx::Dimension> {
    let tensor = value.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
    &mut tensor.shape.as_mut().unwrap().dim
}

#[test]
fn an_operator_that_the_runtime_does_not_know_is_an_error_and_no_crash() {
    let mut model = graph();
    model.graph.as_mut().unwrap().node[0].op_type = "Nonsense".to_owned();
    let copy = copy();
    put_graph(copy.path(), &model.encode_to_vec());
    let error = Session::open(&folder::load(copy.path()).unwrap()).unwrap_err();
    assert!(matches!(error, ModelError::Session { .. }), "{error}");
}

#[test]
fn a_forecast_that_is_not_finite_is_refused() {
    let mut model = graph();
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        if tensor.name == "median_b" {
            tensor.raw_data = f32::NAN.to_le_bytes().to_vec();
        }
    }
    let copy = copy();
    put_graph(copy.path(), &model.encode_to_vec());
    let loaded = folder::load(copy.path()).unwrap();
    let window = Window::from_rows(vec![[0.0; FEATURES]; loaded.window]).unwrap();
    let error = Session::open(&loaded).unwrap().run(&[window]).unwrap_err();
    assert!(matches!(error, ModelError::BadOutput { .. }), "{error}");
}

#[test]
fn changed_weights_are_noticed_by_the_recorded_forecasts() {
    let mut model = graph();
    for tensor in &mut model.graph.as_mut().unwrap().initializer {
        if tensor.name == "median_b" {
            tensor.raw_data = 0.5_f32.to_le_bytes().to_vec();
        }
    }
    let copy = copy();
    put_graph(copy.path(), &model.encode_to_vec());
    let loaded = folder::load(copy.path()).unwrap();
    let error = loaded
        .golden
        .clone()
        .unwrap()
        .check(&mut Session::open(&loaded).unwrap())
        .unwrap_err();
    assert!(matches!(error, ModelError::Golden { .. }), "{error}");
}

#[test]
fn a_window_of_another_length_is_refused() {
    let loaded = folder::load(copy().path()).unwrap();
    let window = Window::from_rows(vec![[0.0; FEATURES]; loaded.window + 1]).unwrap();
    let error = Session::open(&loaded).unwrap().run(&[window]).unwrap_err();
    assert!(matches!(error, ModelError::WindowLength { .. }), "{error}");
}

#[test]
fn a_config_of_another_format_or_of_other_features_is_refused() {
    let change = |pointer: &str, value: serde_json::Value| {
        let copy = copy();
        let path = copy.path().join("model_config.json");
        let mut config: serde_json::Value =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        *config.pointer_mut(pointer).unwrap() = value;
        fs::write(path, config.to_string()).unwrap();
        folder::load(copy.path()).unwrap_err()
    };
    assert!(matches!(
        change("/format", 2.into()),
        ModelError::Format { found: 2, .. }
    ));
    assert!(matches!(
        change("/features/version", 9.into()),
        ModelError::Features { .. }
    ));
    assert!(matches!(
        change("/features/names/0", "close".into()),
        ModelError::Features { .. }
    ));
    assert!(matches!(
        change("/window", 30.into()),
        ModelError::Window { config: 30, .. }
    ));
    assert!(matches!(
        change("/version", "../x".into()),
        ModelError::BadName { .. }
    ));
    assert!(matches!(
        change("/quantiles", serde_json::json!([0.05, 0.5, 0.95])),
        ModelError::Parse { .. }
    ));
}

#[test]
fn a_bare_graph_with_its_scaler_forecasts_the_same() {
    let folder_model = folder::load(&default_model()).unwrap();
    let bare = folder::load_bare(
        &default_model().join("model.onnx"),
        &default_model().join("scaler.json"),
    )
    .unwrap();
    assert_eq!(
        (bare.name.as_str(), bare.version.as_str()),
        ("model", "unversioned")
    );
    assert_eq!(bare.confidence(0.0), None);
    assert_eq!(bare.sha256, folder_model.sha256);
    let mut session = Session::open(&bare).unwrap();
    folder_model.golden.unwrap().check(&mut session).unwrap();
}

#[test]
fn a_pickle_is_never_opened_and_stands_for_the_json_beside_it() {
    let copy = copy();
    let (model, pickle) = (
        copy.path().join("model.onnx"),
        copy.path().join("scaler.pkl"),
    );
    // Opening it would fail, as it is not there at all; the JSON beside it is.
    folder::load_bare(&model, &pickle).unwrap();
    assert_eq!(
        folder::json_beside_pickle(&pickle),
        Some(copy.path().join("scaler.json"))
    );
    for name in ["model.h5", "model.pkl", "MODEL.PKL", "model.pt"] {
        let error = folder::load_bare(&copy.path().join(name), &pickle).unwrap_err();
        assert!(matches!(error, ModelError::UnsafeFormat { .. }), "{error}");
    }
}

#[test]
fn a_folder_or_pipe_in_place_of_a_file_does_not_block() {
    let copy = copy();
    fs::remove_file(copy.path().join("model.onnx")).unwrap();
    fs::create_dir(copy.path().join("model.onnx")).unwrap();
    assert!(matches!(
        folder::load(copy.path()).unwrap_err(),
        ModelError::Read { .. }
    ));
}

#[test]
fn a_version_in_the_folder_of_another_is_refused() {
    let model = tempfile::tempdir().unwrap();
    let folder = model.path().join("2024-06-28");
    fs::rename(copy().keep(), &folder).unwrap();
    let error = folder::load_version(model.path(), Some("2024-06-28")).unwrap_err();
    assert!(
        matches!(error, ModelError::OtherVersion { .. }),
        "{error:?}"
    );
    assert!(
        error
            .to_string()
            .contains("its folder is called \"2024-06-28\": put the version again"),
        "{error}"
    );
    let rightly = model.path().join("2023-12-29");
    fs::rename(&folder, &rightly).unwrap();
    folder::load_version(model.path(), Some("2023-12-29")).unwrap();
}

#[test]
fn current_names_one_plain_folder() {
    let model = tempfile::tempdir().unwrap();
    let current = model.path().join("current");
    assert!(matches!(
        folder::current_version(model.path()).unwrap_err(),
        ModelError::Missing { .. }
    ));
    for text in ["", "../x", "a b", "a\nb", "\u{0}"] {
        fs::write(&current, text).unwrap();
        assert!(
            matches!(
                folder::current_version(model.path()).unwrap_err(),
                ModelError::BadCurrent { .. }
            ),
            "{text:?}"
        );
    }
    fs::write(&current, "2023-12-29\n").unwrap();
    assert_eq!(folder::current_version(model.path()).unwrap(), "2023-12-29");
}
