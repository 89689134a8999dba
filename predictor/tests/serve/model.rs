//! Models that come, go, and are not what they should be.

use std::fs;

use prost::Message;
use serde_json::Value;
use stockpredictor_predictor::model::folder::hex_sha256;
use stockpredictor_predictor::model::onnx::StringPair;

use stockpredictor_predictor::serve::stats;
use stockpredictor_predictor::serve::writer::RealDisk;

use super::common::{
    MODEL, Service, Volume, constant_graph, eventually, in_process, plain_scaler, write_model,
};

#[test]
fn a_model_that_sees_more_than_one_percent_says_buy_or_sell() {
    let volume = Volume::new();
    for (version, factors, signal) in [
        ("up", [1.0, 2.0, 3.0], "BUY"),
        ("down", [-3.0, -2.0, -1.0], "SELL"),
    ] {
        volume.put_model(version, factors);
        let found = Service::start(&volume, &[]).predict("NVDA");
        assert_eq!(found["trading_signal"], signal, "{found}");
        assert!(found["confidence"].is_null(), "it has no table: {found}");
        let predicted = found["predicted_return"].as_f64().unwrap();
        assert!((0.01..0.2).contains(&predicted.abs()), "{found}");
    }
}

#[test]
fn a_version_that_fails_its_checks_does_not_replace_the_one_that_works() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    volume.put_model("broken", [-1.0, 0.0, 1.0]);
    // Cut off after it was hashed; the look in between may still have seen it whole.
    let graph = volume.path(MODEL).join("broken/model.onnx");
    let bytes = fs::read(&graph).unwrap();
    fs::write(&graph, &bytes[..bytes.len() - 9]).unwrap();
    eventually("the version is refused", || {
        !service.stats()["model"]["candidate"].is_null()
    });
    let model = service.stats()["model"].clone();
    assert_eq!(model["state"], "Loaded");
    assert_eq!(model["candidate"]["version"], "broken");
    let message = model["candidate"]["message"].as_str().unwrap();
    assert!(
        message.contains("broken/model.onnx does not match its sha256"),
        "{message}"
    );
    assert_eq!(service.get("/readyz").status, 200);
    assert_eq!(service.predict("NVDA")["trading_signal"], "HOLD");
    volume.set_current("2023-12-29");
    eventually("the complaint ends", || {
        service.stats()["model"]["candidate"].is_null()
    });
}

#[test]
fn without_a_model_the_service_lives_says_so_and_takes_the_model_when_it_comes() {
    let volume = Volume::new();
    let aside = volume.path("ml_models/aside");
    fs::rename(volume.path(MODEL), &aside).unwrap();
    let service = Service::start(&volume, &[]);
    assert_eq!(service.get("/livez").status, 200);
    let ready = service.get("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("nvda_lstm_model"), "{ready:?}");
    let detail = service
        .get("/api/v1/predict/NVDA")
        .problem(503, "model-missing");
    assert!(detail.contains("predictor train"), "{detail}");
    let stats = service.stats();
    assert_eq!(
        (stats["status"].as_str(), stats["model"]["state"].as_str()),
        (Some("unavailable"), Some("ModelMissing"))
    );
    assert_eq!(stats["problems"][0]["type"], "ModelMissing");
    assert_eq!(service.get("/api/v1/historical/NVDA").status, 200);
    assert_eq!(service.get("/api/v1/health").status, 503);
    fs::rename(aside, volume.path(MODEL)).unwrap();
    eventually("the model is loaded", || {
        service.get("/readyz").status == 200
    });
    assert_eq!(service.predict("NVDA")["symbol"], "NVDA");
}

#[test]
fn before_the_first_look_the_model_is_being_loaded_and_not_missing() {
    let volume = Volume::new();
    let service = in_process(&volume, RealDisk);
    let stats = serde_json::to_value(stats::collect(&service)).unwrap();
    assert_eq!(stats["status"], "unavailable", "{stats}");
    assert_eq!(stats["model"]["state"], "Loading", "{stats}");
    assert_eq!(stats["problems"][0]["type"], "ModelLoading", "{stats}");
    let problem = service.model.active().map(drop).unwrap_err();
    assert!(
        problem.document().r#type.ends_with(":model-loading"),
        "{problem:?}"
    );
    service.refresh_model();
    let stats = serde_json::to_value(stats::collect(&service)).unwrap();
    assert_eq!(stats["model"]["state"], "Loaded", "{stats}");
    assert_eq!(stats["problems"], Value::Array(vec![]), "{stats}");
}

/// Serves a volume whose current version is broken and returns the explanation.
fn refused(breakage: impl Fn(&std::path::Path)) -> String {
    let volume = Volume::new();
    breakage(&volume.path(MODEL).join("2023-12-29"));
    let service = Service::start(&volume, &[]);
    let detail = service
        .get("/api/v1/predict/NVDA")
        .problem(503, "model-refused");
    let model = service.stats()["model"].clone();
    assert_eq!(model["state"], "ModelRefused", "{model}");
    assert_eq!(model["message"], Value::from(detail.clone()));
    assert_eq!(service.get("/livez").status, 200);
    assert!(
        service
            .log()
            .iter()
            .any(|line| line.contains("was refused") && line.contains("ERROR"))
    );
    detail
}

fn put_graph(folder: &std::path::Path, bytes: &[u8]) {
    fs::write(folder.join("model.onnx"), bytes).unwrap();
    let path = folder.join("model_config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    config["sha256"]["model.onnx"] = hex_sha256(bytes).into();
    fs::write(path, config.to_string()).unwrap();
}

#[test]
fn a_truncated_model_is_refused() {
    let detail = refused(|folder| {
        let bytes = fs::read(folder.join("model.onnx")).unwrap();
        fs::write(folder.join("model.onnx"), &bytes[..bytes.len() / 2]).unwrap();
    });
    assert!(
        detail.contains("model.onnx does not match its sha256"),
        "{detail}"
    );
    let detail = refused(|folder| {
        let bytes = fs::read(folder.join("model.onnx")).unwrap();
        put_graph(folder, &bytes[..bytes.len() / 2]);
    });
    assert!(detail.contains("model.onnx"), "{detail}");
}

#[test]
fn a_model_of_the_wrong_shape_is_refused() {
    let detail = refused(|folder| {
        let mut graph = constant_graph([-1.0, 0.0, 1.0]);
        let shape = &mut graph.graph.as_mut().unwrap().input[0]
            .r#type
            .as_mut()
            .unwrap()
            .tensor_type
            .as_mut()
            .unwrap()
            .shape;
        shape.as_mut().unwrap().dim[2].dim_value = Some(5);
        put_graph(folder, &graph.encode_to_vec());
    });
    assert!(detail.contains("[batch, 1 to 512, 8]"), "{detail}");
}

#[test]
fn a_model_that_keeps_its_weights_elsewhere_is_refused() {
    let detail = refused(|folder| {
        let mut graph = constant_graph([-1.0, 0.0, 1.0]);
        let tensor = &mut graph.graph.as_mut().unwrap().initializer[0];
        tensor.raw_data.clear();
        tensor.data_location = 1;
        tensor.external_data = vec![StringPair {
            key: "location".to_owned(),
            value: "/etc/passwd".to_owned(),
        }];
        put_graph(folder, &graph.encode_to_vec());
    });
    assert!(
        detail.contains("other files, which are never opened"),
        "{detail}"
    );
}

#[test]
fn a_broken_scaler_or_configuration_is_refused() {
    let detail =
        refused(|folder| fs::write(folder.join("scaler.json"), "{\"mean\": [NaN]}").unwrap());
    assert!(detail.contains("scaler.json"), "{detail}");
    let detail =
        refused(|folder| fs::write(folder.join("model_config.json"), "{\"format\": 1,").unwrap());
    assert!(detail.contains("model_config.json"), "{detail}");
}

#[test]
fn a_model_that_no_longer_gives_its_recorded_forecasts_is_refused() {
    let detail =
        refused(|folder| put_graph(folder, &constant_graph([-1.0, 0.5, 1.0]).encode_to_vec()));
    assert!(detail.contains("golden.json"), "{detail}");
}

#[test]
fn a_model_that_gives_no_finite_number_does_not_replace_the_one_that_works() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    volume.put_model("nan", [f32::NAN; 3]);
    eventually("the version is refused", || {
        !service.stats()["model"]["candidate"].is_null()
    });
    let model = service.stats()["model"].clone();
    assert_eq!(
        (model["version"].as_str(), model["state"].as_str()),
        (Some("2023-12-29"), Some("Loaded"))
    );
    assert_eq!(model["candidate"]["version"], "nan");
    let message = model["candidate"]["message"].as_str().unwrap();
    assert!(message.contains("finite"), "{message}");
    assert_eq!(service.predict("NVDA")["model"]["version"], "2023-12-29");
    assert!(
        !volume.path(MODEL).join("nan/golden.json").exists(),
        "nothing is recorded of a model that was refused"
    );
    let detail = Service::start(&volume, &[])
        .get("/api/v1/predict/NVDA")
        .problem(503, "model-refused");
    assert!(detail.contains("finite"), "{detail}");
}

#[test]
fn a_pinned_version_is_served_whatever_current_says() {
    let volume = Volume::new();
    volume.put_model("other", [-1.0, 0.0, 1.0]);
    let service = Service::start(&volume, &["--model-version", "2023-12-29"]);
    assert_eq!(service.predict("NVDA")["model"]["version"], "2023-12-29");
}

#[test]
fn a_bare_graph_with_a_scaler_is_served_and_a_pickle_is_never_opened() {
    let volume = Volume::new();
    fs::write(
        volume.path("ml_models/own.onnx"),
        constant_graph([1.0, 2.0, 3.0]).encode_to_vec(),
    )
    .unwrap();
    fs::write(
        volume.path("scalers/scaler.json"),
        plain_scaler().to_string(),
    )
    .unwrap();
    fs::write(
        volume.path("scalers/scaler.pkl"),
        "cos\nsystem\n(S'exit'\ntR.",
    )
    .unwrap();
    let paths = [
        ("ML_MODEL_PATH", "ml_models/own.onnx"),
        ("ML_SCALER_PATH", "scalers/scaler.pkl"),
    ];
    let service = Service::start_with(&volume, &[], &paths);
    let found = service.predict("NVDA");
    assert_eq!(
        (
            found["model"]["name"].as_str(),
            found["trading_signal"].as_str()
        ),
        (Some("own"), Some("BUY"))
    );
    assert!(
        service
            .log()
            .iter()
            .any(|line| line.contains("WARN")
                && line.contains("scalers/scaler.json is read instead"))
    );
    fs::remove_file(volume.path("ml_models/own.onnx")).unwrap();
    fs::write(volume.path("ml_models/own.h5"), "x").unwrap();
    let service = Service::start_with(
        &volume,
        &[],
        &[("ML_MODEL_PATH", "ml_models/own.h5"), paths[1]],
    );
    let detail = service
        .get("/api/v1/predict/NVDA")
        .problem(503, "model-refused");
    assert!(detail.contains("export the model as ONNX"), "{detail}");
}

#[test]
fn the_guides_model_and_scaler_paths_lead_to_the_model_folder_with_a_notice() {
    let volume = Volume::new();
    let paths = [
        ("ML_MODEL_PATH", MODEL),
        ("ML_SCALER_PATH", "scalers/scaler.pkl"),
    ];
    let service = Service::start_with(&volume, &[], &paths);
    assert_eq!(service.predict("NVDA")["model"]["version"], "2023-12-29");
    assert!(
        service
            .log()
            .iter()
            .any(|line| line.contains("is ignored") && line.contains("has its own scaler"))
    );
}

#[test]
fn a_folder_that_is_itself_a_version_is_served() {
    let volume = Volume::new();
    write_model(
        &volume.path("ml_models/single"),
        "single",
        &constant_graph([1.0, 2.0, 3.0]),
    );
    let service = Service::start_with(&volume, &[], &[("ML_MODEL_PATH", "ml_models/single")]);
    assert_eq!(service.predict("NVDA")["model"]["version"], "single");
}
