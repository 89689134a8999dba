//! Broken price histories: one symbol is refused with a reason, the others are served.

use std::fs;
use std::io::Write;

use super::common::{Service, Volume};

const HEADER: &str = "date,open,high,low,close,volume";

/// Puts `text` in the place of TSLA's history and returns the explanation of the refusal.
fn refusal(service: &Service, volume: &Volume, text: &str) -> String {
    fs::write(volume.history("TSLA"), text).unwrap();
    let detail = service
        .get("/api/v1/predict/TSLA")
        .problem(503, "broken-history");
    assert!(detail.contains("TSLA.csv"), "{detail}");
    service
        .get("/api/v1/historical/TSLA")
        .problem(503, "broken-history");
    assert_eq!(
        service.predict("NVDA")["symbol"],
        "NVDA",
        "the others are served"
    );
    let states = service.stats()["symbols"].clone();
    let state = |symbol: &str| {
        let all = states.as_array().unwrap();
        all.iter().find(|one| one["symbol"] == symbol).unwrap()["state"].clone()
    };
    assert_eq!(
        (state("TSLA"), state("NVDA")),
        ("BrokenHistory".into(), "Ready".into())
    );
    assert_eq!(service.get("/readyz").status, 200);
    detail
}

#[test]
fn a_broken_history_is_one_symbols_problem_and_is_healed_by_the_right_file() {
    let volume = Volume::new();
    let good = fs::read_to_string(volume.history("TSLA")).unwrap();
    let service = Service::start(&volume, &[]);
    let last = |line: &str| format!("{good}{line}\n");
    let swapped = {
        let mut lines: Vec<&str> = good.lines().collect();
        lines.swap(100, 101);
        lines.join("\n") + "\n"
    };
    let table = [
        (good[..good.len() - 30].to_owned(), "fields"),
        (good.trim_end().to_owned(), "end the file with a newline"),
        (
            last("2024-01-02,250.08,251.25,244.41,24.842,104654200"),
            "close 24.842 is outside",
        ),
        (
            last("2024-01-02,250.08,251.25,244.41,NaN,104654200"),
            "close \"NaN\"",
        ),
        (
            last("2023-12-29,255.1,255.19,247.43,248.48,100891600"),
            "is there twice",
        ),
        (swapped, "sort the file by date"),
        (
            last("2999-01-02,250.08,251.25,244.41,248.42,104654200"),
            "is in the future",
        ),
        (format!("{HEADER}\n"), "no bars"),
        (good.replacen("close", "last", 1), "no column \"close\""),
        ("\u{0}\u{1}\u{2}".to_owned(), "no column"),
    ];
    for (text, expected) in table {
        let detail = refusal(&service, &volume, &text);
        assert!(detail.contains(expected), "{detail}");
    }
    fs::write(volume.history("TSLA"), &good).unwrap();
    assert_eq!(service.predict("TSLA")["as_of"], "2023-12-29");
}

#[test]
fn the_same_complaint_is_logged_once_however_often_it_is_asked_for() {
    let volume = Volume::new();
    fs::write(volume.history("TSLA"), HEADER).unwrap();
    let service = Service::start(&volume, &[]);
    for _ in 0..20 {
        service
            .get("/api/v1/predict/TSLA")
            .problem(503, "broken-history");
    }
    service.predict("NVDA");
    let complaints = service
        .log()
        .iter()
        .filter(|line| line.contains("TSLA.csv") && line.contains("ERROR"))
        .count();
    assert_eq!(complaints, 1);
}

#[test]
fn a_symbol_without_or_with_too_little_history_is_told_what_to_put_where() {
    let volume = Volume::new();
    let text = fs::read_to_string(volume.history("AAPL")).unwrap();
    let short: Vec<&str> = text.lines().take(40).collect();
    let mut file = fs::File::create(volume.history("AAPL")).unwrap();
    writeln!(file, "{}", short.join("\n")).unwrap();
    let service = Service::start(&volume, &["--symbols", "NVDA,AAPL,MSFT"]);
    let detail = service
        .get("/api/v1/predict/MSFT")
        .problem(503, "no-history");
    assert!(
        detail.contains("historical/MSFT") && detail.contains(HEADER),
        "{detail}"
    );
    let detail = service
        .get("/api/v1/predict/AAPL")
        .problem(503, "short-history");
    assert!(
        detail.contains("39 sessions") && detail.contains("needs 40"),
        "{detail}"
    );
    assert_eq!(service.get("/api/v1/historical/AAPL?days=5").status, 200);
    assert_eq!(service.predict("NVDA")["symbol"], "NVDA");
}
