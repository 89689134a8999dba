//! What the API answers when everything is as it should be, and when a request isn't.

use super::common::{Service, Volume};

#[test]
fn a_real_prediction_has_every_field_and_the_next_session_as_target() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    for symbol in ["NVDA", "TSLA", "AAPL"] {
        let found = service.predict(symbol);
        assert_eq!(found["symbol"], symbol);
        assert_eq!(found["as_of"], "2023-12-29");
        assert_eq!(found["target_date"], "2024-01-02");
        assert_eq!(found["trading_signal"], "HOLD", "{found}");
        assert_eq!(found["cache"], "miss");
        assert_eq!(found["interval"]["level"], 0.8);
        let number = |name: &str| found[name].as_f64().unwrap();
        let (low, high) = (
            found["interval"]["low"].as_f64().unwrap(),
            found["interval"]["high"].as_f64().unwrap(),
        );
        assert!(
            low < number("predicted_price") && number("predicted_price") < high,
            "{found}"
        );
        let implied = number("predicted_price") / number("current_price") - 1.0;
        assert!(
            (implied - number("predicted_return")).abs() < 1e-12,
            "{found}"
        );
        assert!(
            found["confidence"].is_null() || (0.3..0.7).contains(&number("confidence")),
            "{found}"
        );
        assert!(
            found["data_age"].as_u64().unwrap() > 500,
            "the samples end in 2023: {found}"
        );
        assert_eq!(found["model"]["name"], "nvda_lstm_model");
        assert_eq!(found["model"]["sha256"].as_str().unwrap().len(), 64);
        let stored = volume.path(&format!(
            "stock_data/predictions/daily/{symbol}_2024-01-02.json"
        ));
        super::common::eventually("the prediction is stored", || stored.exists());
    }
    let close = service.get("/api/v1/historical/NVDA?days=1").json()["data"][0]["close"].clone();
    assert_eq!(service.predict("nvda")["current_price"], close);
}

#[test]
fn stored_sessions_are_the_last_ones_oldest_first() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    let found = service.get("/api/v1/historical/aapl?days=2").json();
    assert_eq!(
        (found["symbol"].as_str(), found["days"].as_u64()),
        (Some("AAPL"), Some(2))
    );
    let days: Vec<&str> = found["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|bar| bar["date"].as_str().unwrap())
        .collect();
    assert_eq!(days, ["2023-12-28", "2023-12-29"]);
    let count = |path: &str| service.get(path).json()["data"].as_array().unwrap().len();
    assert_eq!(count("/api/v1/historical/AAPL"), 30);
    assert_eq!(count("/api/v1/historical/AAPL?days=730"), 730);
    for days in ["0", "731", "-1", "x", "", "1.5", "99999999999999999999"] {
        let detail = service
            .get(&format!("/api/v1/historical/AAPL?days={days}"))
            .problem(400, "invalid-query");
        assert!(detail.contains("1 to 730"), "{detail}");
    }
}

#[test]
fn a_wrong_request_is_told_what_is_wrong_with_it() {
    let volume = Volume::new();
    let service = Service::start(&volume, &["--symbols", "NVDA"]);
    let detail = service
        .get("/api/v1/predict/TSLA")
        .problem(404, "unknown-symbol");
    assert!(
        detail.contains("spec.symbols") && detail.contains("NVDA"),
        "{detail}"
    );
    for symbol in [
        "..%2f..%2fetc",
        "%2e%2e",
        "A_B",
        "12345678901",
        "NVDA%00",
        "%FF",
    ] {
        let answer = service.get(&format!("/api/v1/predict/{symbol}"));
        assert!(answer.status == 400, "{symbol}: {answer:?}");
    }
    service
        .get("/api/v1/predict/..%2f..%2fetc")
        .problem(400, "invalid-symbol");
    service.get("/api/v1/nothing").problem(404, "not-found");
    service
        .request("POST", "/api/v1/predict/NVDA", "content-length: 0\r\n")
        .problem(405, "method-not-allowed");
    service
        .request("POST", "/api/v1/cache/clear", "content-length: 1000000\r\n")
        .problem(413, "too-large");
}

#[test]
fn metrics_and_the_api_description_are_served() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    service.predict("NVDA");
    service.predict("NVDA");
    service.get("/api/v1/predict/XXXX");
    let text = service.get("/metrics").body;
    for line in [
        "stockpredictor_predictions_total{symbol=\"NVDA\"} 2",
        "stockpredictor_cache_hits_total 1",
        "stockpredictor_cache_misses_total 1",
        "stockpredictor_cache_entries 1",
        "stockpredictor_degraded 0",
        "stockpredictor_model_info{name=\"nvda_lstm_model\",version=\"2023-12-29\"",
        "stockpredictor_http_requests_total{route=\"/api/v1/predict/{symbol}\",status=\"4xx\"} 1",
        "stockpredictor_inference_duration_seconds_count 1",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("XXXX"), "no label takes what a request says");
    let described = service.get("/openapi.json").json();
    let properties = &described["components"]["schemas"]["Forecast"]["properties"];
    for (name, _) in service.predict("NVDA").as_object().unwrap() {
        let known = properties.get(name).is_some()
            || described["components"]["schemas"]["Prediction"]
                .to_string()
                .contains(&format!("\"{name}\""));
        assert!(known, "{name} is not described");
    }
}

#[test]
fn stats_say_what_is_set_and_where_it_was_set() {
    let volume = Volume::new();
    std::fs::write(volume.path("config/persistent.env"), "STOCK_DATA_TTL=7m\n").unwrap();
    let service = Service::start_with(
        &volume,
        &["--symbols", "NVDA,MSFT"],
        &[("ML_PREDICTION_TTL", "2h")],
    );
    let stats = service.stats();
    let setting = |name: &str| {
        let all = stats["settings"].as_array().unwrap();
        let found = all.iter().find(|one| one["name"] == name).unwrap();
        (
            found["value"].as_str().unwrap().to_owned(),
            found["source"].as_str().unwrap().to_owned(),
        )
    };
    let said = |value: &str, source: &str| (value.to_owned(), source.to_owned());
    assert_eq!(setting("symbols"), said("NVDA,MSFT", "flag"));
    assert_eq!(setting("cache.prediction_ttl"), said("2h", "environment"));
    assert_eq!(
        setting("cache.stock_data_ttl"),
        said("7m", "config/persistent.env")
    );
    assert_eq!(setting("cache.max_entries"), said("1000", "built-in"));
    assert_eq!(stats["status"], "ok");
    assert_eq!(stats["model"]["state"], "Loaded");
    assert_eq!(stats["volume"]["state"], "ready");
    assert_eq!(stats["symbols"][1]["state"], "NoHistory");
    let typed: stockpredictor_predictor::serve::stats::Stats =
        serde_json::from_value(stats.clone()).unwrap();
    assert_eq!(serde_json::to_value(typed).unwrap(), stats);
}

#[test]
fn the_four_logs_have_what_belongs_into_them() {
    let volume = Volume::new();
    let service = Service::start(&volume, &["--symbols", "NVDA,MSFT"]);
    service.predict("NVDA");
    service.get("/api/v1/predict/MSFT");
    service.stop();
    let log =
        |name: &str| std::fs::read_to_string(volume.path(&format!("logs/{name}.log"))).unwrap();
    assert!(log("application").contains("listening") && !log("application").contains("/api/v1"));
    assert!(log("api").contains("/api/v1/predict/NVDA"));
    assert!(log("prediction").contains("\"signal\":\"HOLD\""));
    assert!(log("error").contains("no CSV file in") && !log("error").contains("listening"));
}

#[test]
fn the_cache_is_cleared_from_loopback_but_not_through_a_proxy_without_the_token() {
    let volume = Volume::new();
    let token = volume.path("config/token");
    std::fs::write(&token, "secret\n").unwrap();
    let service = Service::start(&volume, &["--token-file", token.to_str().unwrap()]);
    service.predict("NVDA");
    let clear = |headers: &str| {
        service.request(
            "POST",
            "/api/v1/cache/clear",
            &format!("content-length: 0\r\n{headers}"),
        )
    };
    clear("x-forwarded-for: 10.0.0.1\r\n").problem(403, "forbidden");
    clear("x-forwarded-for: 10.0.0.1\r\nauthorization: Bearer wrong\r\n").problem(403, "forbidden");
    assert_eq!(service.predict("NVDA")["cache"], "hit");
    let cleared = clear("x-forwarded-for: 10.0.0.1\r\nauthorization: Bearer secret\r\n");
    assert_eq!(cleared.json()["cleared"], 1, "{cleared:?}");
    assert_eq!(service.predict("NVDA")["cache"], "miss");
    assert_eq!(clear("").status, 200);
    assert_eq!(service.predict("NVDA")["cache"], "miss");
}

#[test]
fn a_path_that_is_no_text_is_an_invalid_symbol() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    for path in ["/api/v1/predict/%ff", "/api/v1/historical/%ff"] {
        service.get(path).problem(400, "invalid-symbol");
    }
}

#[test]
fn a_log_filter_that_says_nothing_is_refused() {
    let done = super::common::predictor()
        .args(["serve", "--root", "nowhere"])
        .env("STOCKPREDICTOR_LOG", "%%%=bad")
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        !done.status.success() && message.contains("`%%%=bad` is no level"),
        "{message}"
    );
}
