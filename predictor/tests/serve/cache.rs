//! The prediction cache over restarts, new bars, new models, and many callers at once.

use std::fs;
use std::io::Write;
use std::thread;
use std::time::Duration;

use super::common::{MODEL, Service, Volume, eventually, request};

#[test]
fn a_service_that_comes_back_answers_with_the_same_prediction() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    let first = service.predict("NVDA");
    service.stop();
    let service = Service::start(&volume, &[]);
    let second = service.predict("NVDA");
    assert_eq!(second["prediction_time"], first["prediction_time"]);
    assert_eq!(
        (first["cache"].as_str(), second["cache"].as_str()),
        (Some("miss"), Some("hit"))
    );
    assert_eq!(second["predicted_price"], first["predicted_price"]);
}

#[test]
fn a_service_that_was_killed_answers_with_what_was_written() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    let first = service.predict("NVDA");
    eventually("the entry is written", || !volume.cache_files().is_empty());
    service.kill();
    let second = Service::start(&volume, &[]).predict("NVDA");
    assert_eq!(second["prediction_time"], first["prediction_time"]);
    assert_eq!(second["cache"], "hit");
}

#[test]
fn an_entry_that_expired_while_the_service_was_away_is_not_served() {
    let volume = Volume::new();
    let service = Service::start(&volume, &["--prediction-ttl", "2s"]);
    let first = service.predict("NVDA");
    service.stop();
    thread::sleep(Duration::from_secs(2));
    let second = Service::start(&volume, &["--prediction-ttl", "2s"]).predict("NVDA");
    assert_eq!(second["cache"], "miss");
    assert_ne!(second["prediction_time"], first["prediction_time"]);
}

#[test]
fn an_entry_expires_while_the_service_runs_and_its_file_goes() {
    let volume = Volume::new();
    let service = Service::start(
        &volume,
        &["--prediction-ttl", "1s", "--cleanup-interval", "1s"],
    );
    let first = service.predict("NVDA");
    assert_eq!(service.predict("NVDA")["cache"], "hit");
    eventually("the file is removed", || volume.cache_files().is_empty());
    let second = service.predict("NVDA");
    assert_eq!(second["cache"], "miss");
    assert_ne!(second["prediction_time"], first["prediction_time"]);
}

#[test]
fn an_appended_bar_misses_at_once() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    service.predict("NVDA");
    assert_eq!(service.predict("NVDA")["cache"], "hit");
    let mut file = fs::OpenOptions::new()
        .append(true)
        .open(volume.history("NVDA"))
        .unwrap();
    file.write_all(b"2024-01-02,492.44,492.95,475.95,481.68,41125400\n")
        .unwrap();
    let found = service.predict("NVDA");
    assert_eq!(found["cache"], "miss");
    assert_eq!(
        (found["as_of"].as_str(), found["target_date"].as_str()),
        (Some("2024-01-02"), Some("2024-01-03"))
    );
    assert_eq!(found["current_price"], 481.68);
}

#[test]
fn a_history_at_another_scale_is_another_prediction() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    let first = service.predict("NVDA");
    // As after a split of one to two: features are the same, prices are not.
    let text = fs::read_to_string(volume.history("NVDA")).unwrap();
    let mut lines = text.lines();
    let mut halved = vec![lines.next().unwrap().to_owned()];
    for line in lines {
        let mut fields: Vec<String> = line.split(',').map(str::to_owned).collect();
        for price in &mut fields[1..5] {
            *price = (price.parse::<f64>().unwrap() / 2.0).to_string();
        }
        halved.push(fields.join(","));
    }
    fs::write(volume.history("NVDA"), halved.join("\n") + "\n").unwrap();
    let second = service.predict("NVDA");
    assert_eq!(second["cache"], "miss");
    let ratio =
        first["current_price"].as_f64().unwrap() / second["current_price"].as_f64().unwrap();
    assert!((ratio - 2.0).abs() < 1e-9);
}

#[test]
fn another_model_misses_at_once_and_the_first_one_hits_again() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    let first = service.predict("NVDA");
    volume.put_model("other", [-1.0, 0.0, 1.0]);
    eventually("the model is switched", || {
        service.stats()["model"]["version"] == "other"
    });
    let other = service.predict("NVDA");
    assert_eq!(
        (other["cache"].as_str(), other["model"]["version"].as_str()),
        (Some("miss"), Some("other"))
    );
    volume.set_current("2023-12-29");
    eventually("the model is switched back", || {
        service.stats()["model"]["version"] == "2023-12-29"
    });
    assert_eq!(
        service.predict("NVDA")["prediction_time"],
        first["prediction_time"]
    );
    assert!(
        volume.path(MODEL).join("other/golden.json").exists(),
        "its first forecasts are recorded"
    );
}

#[test]
fn another_version_of_the_same_graph_answers_under_its_own_name() {
    let volume = Volume::new();
    volume.put_model("one", [-1.0, 0.0, 1.0]);
    let service = Service::start(&volume, &[]);
    assert_eq!(service.predict("NVDA")["model"]["version"], "one");
    volume.put_model("two", [-1.0, 0.0, 1.0]);
    eventually("the model is switched", || {
        service.stats()["model"]["version"] == "two"
    });
    let found = service.predict("NVDA");
    assert_eq!(
        (found["cache"].as_str(), found["model"]["version"].as_str()),
        (Some("miss"), Some("two"))
    );
}

#[test]
fn a_cache_file_whose_prediction_is_not_its_keys_is_dropped() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    service.predict("NVDA");
    service.stop();
    let file = volume.cache_files().pop().unwrap();
    let whole: serde_json::Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (pointer, other) in [
        ("/forecast/symbol", "TSLA"),
        ("/forecast/as_of", "2023-12-28"),
        ("/forecast/model/version", "2022-12-30"),
        ("/key/version", "2022-12-30"),
    ] {
        let mut changed = whole.clone();
        *changed.pointer_mut(pointer).unwrap() = other.into();
        fs::write(&file, changed.to_string()).unwrap();
        let service = Service::start(&volume, &[]);
        assert_eq!(service.predict("NVDA")["cache"], "miss", "{pointer}");
    }
    fs::write(&file, whole.to_string()).unwrap();
    let service = Service::start(&volume, &[]);
    assert_eq!(service.predict("NVDA")["cache"], "hit");
}

#[test]
fn any_number_of_equal_requests_is_one_computation() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    let address = service.address.clone();
    let callers: Vec<_> = (0..60)
        .map(|_| {
            let address = address.clone();
            thread::spawn(move || request(&address, "GET", "/api/v1/predict/NVDA", "").unwrap())
        })
        .collect();
    let mut times: Vec<String> = Vec::new();
    for caller in callers {
        let answer = caller.join().unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        times.push(answer.json()["prediction_time"].to_string());
    }
    times.dedup();
    assert_eq!(times.len(), 1);
    let cache = service.stats()["cache"].clone();
    assert_eq!(
        (cache["misses"].as_u64(), cache["hits"].as_u64()),
        (Some(1), Some(59)),
        "{cache}"
    );
}

#[test]
fn damaged_and_foreign_cache_files_are_no_predictions() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    service.predict("NVDA");
    service.stop();
    let file = volume.cache_files().pop().unwrap();
    let text = fs::read_to_string(&file).unwrap();
    fs::write(file.with_file_name("TSLA_2023-12-29_00.json"), &text).unwrap();
    fs::write(&file, &text[..text.len() / 2]).unwrap();
    let service = Service::start(&volume, &[]);
    assert_eq!(service.predict("NVDA")["cache"], "miss");
    assert_eq!(service.predict("TSLA")["cache"], "miss");
    assert_eq!(service.predict("NVDA")["cache"], "hit");
}

#[test]
fn the_least_recently_used_entry_makes_room_also_after_a_restart() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    let first = service.predict("NVDA");
    thread::sleep(Duration::from_millis(50));
    service.predict("TSLA");
    thread::sleep(Duration::from_millis(50));
    service.predict("AAPL");
    thread::sleep(Duration::from_millis(50));
    // Used last, though computed first.
    service.predict("NVDA");
    service.stop();
    let service = Service::start(&volume, &["--cache-max-entries", "2"]);
    assert_eq!(service.stats()["cache"]["entries"], 2);
    assert_eq!(
        service.predict("NVDA")["prediction_time"],
        first["prediction_time"]
    );
    assert_eq!(service.predict("AAPL")["cache"], "hit");
    assert_eq!(service.predict("TSLA")["cache"], "miss");
}

#[test]
fn replicas_on_one_volume_answer_alike() {
    let volume = Volume::new();
    let services = [(); 3].map(|()| Service::start_with(&volume, &[], &[("POD_NAME", "pod-x")]));
    let first = services[0].predict("NVDA");
    eventually("the entry is written", || !volume.cache_files().is_empty());
    for service in &services[1..] {
        assert_eq!(
            service.predict("NVDA")["prediction_time"],
            first["prediction_time"]
        );
    }
    assert!(
        volume.path("logs/api.pod-x.log").exists(),
        "one has the plain names, the others their own"
    );
}
