//! Trading days of the New York Stock Exchange.
//!
//! In come days, out come sessions. The rules are those of NYSE Rule 7.2 and of the
//! yearly "Holidays & Trading Hours" page at nyse.com; days on which the exchange
//! closed for another reason are listed. They are right from 2013 on; early closes
//! are sessions like any other. No clock is read here.

use jiff::civil::{Date, Weekday, date};
use jiff::{Timestamp, ToSpan, tz::TimeZone};

/// National days of mourning since 2013: George H. W. Bush, Jimmy Carter.
const CLOSED_BY_PROCLAMATION: [Date; 2] = [date(2018, 12, 5), date(2025, 1, 9)];
/// First year in which Juneteenth was a holiday of the exchange.
const FIRST_JUNETEENTH: i16 = 2022;
/// The longest row of days without a session is far shorter; the bound only ends the search.
const LONGEST_SEARCH: i32 = 30;
/// The zone's rule since 2007, so that no time zone database is needed.
const NEW_YORK: &str = "EST5EDT,M3.2.0,M11.1.0";

/// The day in New York at that moment.
pub fn new_york_day(now: Timestamp) -> Date {
    let zone = TimeZone::posix(NEW_YORK).unwrap_or(TimeZone::UTC);
    zone.to_datetime(now).date()
}

/// Whether the exchange trades on that day.
pub fn is_session(day: Date) -> bool {
    let weekend = matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday);
    !weekend && !CLOSED_BY_PROCLAMATION.contains(&day) && !is_holiday(day)
}

/// The first session after `day`; at the end of the calendar's range the day itself.
pub fn next_session(day: Date) -> Date {
    (1..=LONGEST_SEARCH)
        .map_while(|ahead| day.checked_add(ahead.days()).ok())
        .find(|candidate| is_session(*candidate))
        .unwrap_or(day)
}

/// Sessions after `as_of` and before `today`: how many closes are missing.
pub fn sessions_between(as_of: Date, today: Date) -> u32 {
    if as_of >= today {
        return 0;
    }
    let missing = as_of
        .series(1.day())
        .skip(1)
        .take_while(|day| *day < today)
        .filter(|day| is_session(*day))
        .count();
    u32::try_from(missing).unwrap_or(u32::MAX)
}

fn is_holiday(day: Date) -> bool {
    let (year, month) = (day.year(), day.month());
    let is = |holiday: Option<Date>| holiday == Some(day);
    match month {
        // On a Saturday New Year's Day is not moved: the Friday before ends the business year.
        1 => {
            is(moved(year, 1, 1).filter(|moved| moved.month() == 1))
                || is(nth(year, 1, 3, Weekday::Monday))
        }
        2 => is(nth(year, 2, 3, Weekday::Monday)),
        3 | 4 => is(good_friday(year)),
        5 => is(nth(year, 5, -1, Weekday::Monday)),
        6 => year >= FIRST_JUNETEENTH && is(moved(year, 6, 19)),
        7 => is(moved(year, 7, 4)),
        9 => is(nth(year, 9, 1, Weekday::Monday)),
        11 => is(nth(year, 11, 4, Weekday::Thursday)),
        12 => is(moved(year, 12, 25)),
        _ => false,
    }
}

/// A fixed day: on a Saturday kept on Friday, on a Sunday on Monday.
fn moved(year: i16, month: i8, day: i8) -> Option<Date> {
    let holiday = Date::new(year, month, day).ok()?;
    match holiday.weekday() {
        Weekday::Saturday => holiday.yesterday().ok(),
        Weekday::Sunday => holiday.tomorrow().ok(),
        _ => Some(holiday),
    }
}

fn nth(year: i16, month: i8, nth: i8, weekday: Weekday) -> Option<Date> {
    Date::new(year, month, 1)
        .ok()?
        .nth_weekday_of_month(nth, weekday)
        .ok()
}

/// Two days before Easter Sunday, by the anonymous Gregorian computus.
fn good_friday(year: i16) -> Option<Date> {
    let year_number = i32::from(year);
    let golden = year_number % 19;
    let (century, rest) = (year_number / 100, year_number % 100);
    let correction = (century - (century + 8) / 25 + 1) / 3;
    let epact = (19 * golden + century - century / 4 - correction + 15) % 30;
    let weekday = (32 + 2 * (century % 4) + 2 * (rest / 4) - epact - rest % 4) % 7;
    let late = (golden + 11 * epact + 22 * weekday) / 451;
    let days = epact + weekday - 7 * late + 114;
    let easter = Date::new(
        year,
        i8::try_from(days / 31).ok()?,
        i8::try_from(days % 31 + 1).ok()?,
    );
    easter.ok()?.checked_sub(2.days()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;
    use std::path::Path;
    use stockpredictor_storage::history;

    #[test]
    fn every_session_of_eleven_years_is_in_the_data_and_no_other_day() {
        let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/data");
        let (first, last) = (date(2013, 1, 2), date(2023, 12, 29));
        let expected: BTreeSet<Date> = first
            .series(1.day())
            .take_while(|day| *day <= last)
            .filter(|day| is_session(*day))
            .collect();
        for symbol in ["NVDA", "TSLA", "AAPL"] {
            let path = data.join(format!("{symbol}.csv"));
            let bars = history::load_file(&path, date(2024, 1, 2)).unwrap();
            let traded: BTreeSet<Date> = bars.iter().map(|bar| bar.date).collect();
            let differences: Vec<_> = traded.symmetric_difference(&expected).collect();
            assert!(differences.is_empty(), "{symbol}: {differences:?}");
        }
    }

    #[test]
    fn the_session_after_the_last_of_2023_is_the_second_of_january() {
        assert_eq!(next_session(date(2023, 12, 29)), date(2024, 1, 2));
    }

    #[test]
    fn holidays_that_the_exchange_has_published_are_no_sessions() {
        // The exchange's own lists for 2024 to 2028.
        let published = [
            "2024-01-01 2024-01-15 2024-02-19 2024-03-29 2024-05-27 2024-06-19 2024-07-04 2024-09-02 2024-11-28 2024-12-25",
            "2025-01-01 2025-01-09 2025-01-20 2025-02-17 2025-04-18 2025-05-26 2025-06-19 2025-07-04 2025-09-01 2025-11-27 2025-12-25",
            "2026-01-01 2026-01-19 2026-02-16 2026-04-03 2026-05-25 2026-06-19 2026-07-03 2026-09-07 2026-11-26 2026-12-25",
            "2027-01-01 2027-01-18 2027-02-15 2027-03-26 2027-05-31 2027-06-18 2027-07-05 2027-09-06 2027-11-25 2027-12-24",
            "2028-01-17 2028-02-21 2028-04-14 2028-05-29 2028-06-19 2028-07-04 2028-09-04 2028-11-23 2028-12-25",
        ];
        for (list, year) in published.iter().zip(2024..) {
            let expected: Vec<Date> = list.split(' ').map(|day| day.parse().unwrap()).collect();
            let found: Vec<Date> = date(year, 1, 1)
                .series(1.day())
                .take_while(|day| day.year() == year)
                .filter(|day| !matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday))
                .filter(|day| !is_session(*day))
                .collect();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn a_new_years_day_on_a_saturday_is_not_moved() {
        assert!(is_session(date(2021, 12, 31)));
        assert!(is_session(date(2022, 1, 3)));
    }

    #[test]
    fn the_age_of_data_counts_the_closes_that_are_missing() {
        let as_of = date(2023, 12, 29);
        assert_eq!(sessions_between(as_of, date(2023, 12, 29)), 0);
        assert_eq!(sessions_between(as_of, date(2024, 1, 2)), 0);
        assert_eq!(sessions_between(as_of, date(2024, 1, 3)), 1);
        assert_eq!(sessions_between(as_of, date(2024, 1, 16)), 9);
        assert_eq!(sessions_between(as_of, date(2023, 1, 1)), 0);
    }

    #[test]
    fn the_day_changes_at_midnight_in_new_york() {
        let day = |text: &str| new_york_day(text.parse().unwrap());
        assert_eq!(day("2024-01-03T04:59:00Z"), date(2024, 1, 2));
        assert_eq!(day("2024-01-03T05:00:00Z"), date(2024, 1, 3));
        assert_eq!(day("2024-07-03T04:00:00Z"), date(2024, 7, 3));
    }
}
