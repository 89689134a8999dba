use super::*;
use proptest::prelude::*;

const TODAY: Date = jiff::civil::date(2024, 1, 2);
const GOOD: &str = "2023-12-28,496.43,498.84,494.12,495.22,24658700\n";

fn parse(rows: &str) -> Result<Vec<Bar>, HistoryError> {
    parse_csv(
        format!("{CSV_HEADER}\n{rows}").as_bytes(),
        "NVDA.csv",
        TODAY,
    )
}

fn refusal(rows: &str) -> String {
    parse(&format!("{GOOD}{rows}")).unwrap_err().to_string()
}

#[test]
fn columns_are_found_by_name_and_further_ones_are_ignored() {
    let text = "Volume,Close,adjusted,Low,High,Open,Date\n5,3,x,1,4,2,2023-12-29\n";
    let bars = parse_csv(text.as_bytes(), "a.csv", TODAY).unwrap();
    let expected = Bar {
        date: jiff::civil::date(2023, 12, 29),
        open: 2.0,
        high: 4.0,
        low: 1.0,
        close: 3.0,
        volume: 5,
    };
    assert_eq!(bars, [expected]);
}

#[test]
fn byte_order_mark_and_windows_line_ends_are_understood() {
    let text = format!("\u{feff}{CSV_HEADER}\r\n{}\r\n", GOOD.trim());
    assert_eq!(parse_csv(text.as_bytes(), "a.csv", TODAY).unwrap().len(), 1);
}

#[test]
fn a_volume_with_a_decimal_point_is_a_count() {
    assert_eq!(
        parse("2023-12-28,1,1,1,1,24658700.0\n").unwrap()[0].volume,
        24_658_700
    );
}

#[rstest::rstest]
#[case("2023-12-29,498.13,499.97,487", "line 3: has 4 of 6 fields")]
#[case("2023-12-29,NaN,499,487,495,1", "line 3: open \"NaN\"")]
#[case("2023-12-29,498,inf,487,495,1", "line 3: high \"inf\"")]
#[case("2023-12-29,498,499,0,495,1", "line 3: low \"0\"")]
#[case("2023-12-29,498,499,487,-495,1", "line 3: close \"-495\"")]
#[case("2023-12-29,498,499,487,,1", "line 3: close \"\"")]
#[case("2023-12-29,498,487,499,495,1", "line 3: high 487 is below low 499")]
#[case(
    "2023-12-29,499.1,499,487,495,1",
    "line 3: open 499.1 is outside of low 487 to high 499"
)]
#[case("2023-12-29,486.9,499,487,495,1", "line 3: open 486.9 is outside")]
#[case("2023-12-29,498,499,487,49,1", "line 3: close 49 is outside")]
#[case("2023-12-29,498,499,487,499.001,1", "line 3: close 499.001 is outside")]
#[case("2023-12-29,498,499,487,495,-1", "line 3: volume \"-1\"")]
#[case("2023-12-29,498,499,487,495,1e300", "line 3: volume \"1e300\"")]
#[case("29.12.2023,498,499,487,495,1", "line 3: \"29.12.2023\" is not a day")]
#[case("2023-02-30,498,499,487,495,1", "line 3: \"2023-02-30\" is not a day")]
#[case(
    "2023-12-27,498,499,487,495,1",
    "line 3: 2023-12-27 comes after 2023-12-28: sort"
)]
#[case("2023-12-28,498,499,487,495,1", "line 3: 2023-12-28 is there twice")]
#[case(
    "2024-01-03,498,499,487,495,1",
    "line 3: 2024-01-03 is in the future (today is 2024-01-02)"
)]
fn a_bad_line_is_refused_by_file_and_line(#[case] row: &str, #[case] message: &str) {
    let shown = refusal(row);
    assert!(
        shown.starts_with("NVDA.csv ") && shown.contains(message),
        "{shown}"
    );
}

#[test]
fn what_rounding_leaves_is_inside_of_the_range() {
    parse("2023-12-29,499.00000000000006,499,487,486.99999999999994,1\n").unwrap();
}

#[test]
fn a_last_row_that_may_be_cut_off_is_refused() {
    let shown = refusal("2023-12-29,498.13,499.97,487.51,495.22,388");
    assert!(
        shown.contains("NVDA.csv line 3: has no line end: end the file with a newline"),
        "{shown}"
    );
    parse("2023-12-29,498.13,499.97,487.51,495.22,388\r\n").unwrap();
}

#[test]
fn headers_without_a_needed_column_are_refused() {
    let error = parse_csv("date,open,high,low,close\n".as_bytes(), "a.csv", TODAY).unwrap_err();
    assert!(
        matches!(
            error,
            HistoryError::MissingColumn {
                column: "volume",
                ..
            }
        ),
        "{error}"
    );
    let error = parse_csv("".as_bytes(), "a.csv", TODAY).unwrap_err();
    assert!(
        matches!(error, HistoryError::MissingColumn { .. }),
        "{error}"
    );
}

#[test]
fn a_file_over_the_limit_is_refused_without_being_read_whole() {
    let error = parse_csv(io::repeat(b'x'), "a.csv", TODAY).unwrap_err();
    assert!(matches!(error, HistoryError::TooLarge { .. }), "{error}");
}

#[test]
fn several_files_are_joined_by_their_days() {
    let folder = tempfile::tempdir().unwrap();
    let nvda = folder.path().join("NVDA");
    fs::create_dir(&nvda).unwrap();
    fs::write(
        nvda.join("a.csv"),
        format!("{CSV_HEADER}\n2023-12-29,1,1,1,1,1\n"),
    )
    .unwrap();
    fs::write(nvda.join("b.csv"), format!("{CSV_HEADER}\n{GOOD}")).unwrap();
    fs::write(nvda.join(".hidden.csv"), "x").unwrap();
    fs::write(nvda.join("notes.txt"), "x").unwrap();
    let symbol = Symbol::parse("NVDA").unwrap();
    let bars = load_symbol(folder.path(), &symbol, TODAY).unwrap();
    assert_eq!(
        bars.iter().map(|bar| bar.date.day()).collect::<Vec<_>>(),
        [28, 29]
    );

    fs::write(
        nvda.join("c.csv"),
        format!("{CSV_HEADER}\n2023-12-29,1,1,1,1,1\n"),
    )
    .unwrap();
    let error = load_symbol(folder.path(), &symbol, TODAY).unwrap_err();
    assert!(matches!(error, HistoryError::Overlap { .. }), "{error}");
}

#[test]
fn a_symbol_without_files_is_named_with_the_way_out() {
    let folder = tempfile::tempdir().unwrap();
    let error = load_symbol(folder.path(), &Symbol::parse("TSLA").unwrap(), TODAY).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("TSLA: put one there with the header date,open"),
        "{error}"
    );
}

#[test]
fn the_sample_data_is_accepted() {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data");
    for symbol in ["NVDA", "TSLA", "AAPL"] {
        let bars = load_file(&data.join(format!("{symbol}.csv")), TODAY).unwrap();
        assert_eq!(bars.len(), 2768, "{symbol}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut text = format!("{CSV_HEADER}\n").into_bytes();
        text.extend(bytes);
        let _ = parse_csv(text.as_slice(), "a.csv", TODAY);
    }

    #[test]
    fn any_tail_cut_off_leaves_a_shorter_history_or_an_error(cut in 0_usize..100) {
        let text = format!("{CSV_HEADER}\n{GOOD}2023-12-29,498.13,499.97,487.51,495.22,38869000\n");
        let whole = parse_csv(text.as_bytes(), "a.csv", TODAY).unwrap();
        let end = text.len().saturating_sub(cut);
        if let Ok(bars) = parse_csv(&text.as_bytes()[..end], "a.csv", TODAY) {
            prop_assert_eq!(&bars[..], &whole[..bars.len()]);
        }
    }
}
