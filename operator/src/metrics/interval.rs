//! How far apart the runs of a schedule are at most: what "too old" is measured against.
//!
//! In: schedules as users wrote them, and the time. Out: seconds. An answer is kept for some days, and a scrape spends a
//! limited time on new ones, so that neither many objects nor a run each minute make it slow.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use k8s_openapi::jiff::{SignedDuration, Timestamp};

use crate::storage_backup::schedule::{Schedule, time_zone};

/// What "the coming year" means; a yearly run has a leap day before it at times.
const YEAR: SignedDuration = SignedDuration::from_hours(366 * 24);
/// Runs of so many days are looked at one by one: enough for what repeats each day, midnight included.
const CLOSELY: SignedDuration = SignedDuration::from_hours(2 * 24);
/// After that, only gaps longer than this are looked for: shorter ones are the same on each day that has runs.
const COARSE: SignedDuration = SignedDuration::from_hours(1);
/// An answer is good for so long: the year goes on, and time zones change.
const GOOD_FOR: SignedDuration = SignedDuration::from_hours(7 * 24);
/// How long a scrape may compute new answers.
const BUDGET: Duration = Duration::from_millis(500);

/// An answer.
#[derive(Clone, Copy, Debug)]
struct Known {
    seconds: Option<i64>,
    until: Timestamp,
    used: bool,
}

/// The answers so far, by schedule and time zone.
#[derive(Debug, Default)]
pub struct Intervals(HashMap<(String, Option<String>), Known>);

/// One scrape's questions.
#[derive(Debug)]
pub struct Asking<'a> {
    intervals: &'a mut Intervals,
    now: Timestamp,
    stop: Instant,
}

impl Intervals {
    /// Begins a scrape.
    pub fn ask(&mut self, now: Timestamp) -> Asking<'_> {
        Asking {
            intervals: self,
            now,
            stop: Instant::now() + BUDGET,
        }
    }
}

impl Asking<'_> {
    /// The longest time between two runs in the coming year, in seconds. Nothing for what is no schedule, and as long as
    /// there was no time to compute it.
    pub fn expected(&mut self, schedule: &str, zone: Option<&str>) -> Option<i64> {
        let key = (schedule.to_owned(), zone.map(str::to_owned));
        let known = self.intervals.0.get_mut(&key);
        let late = Instant::now() >= self.stop;
        match known {
            Some(known) if late || self.now < known.until => {
                known.used = true;
                known.seconds
            }
            None if late => None,
            _ => {
                let seconds = longest(schedule, zone, self.now);
                let known = Known {
                    seconds,
                    until: self.now + GOOD_FOR,
                    used: true,
                };
                self.intervals.0.insert(key, known);
                seconds
            }
        }
    }

    /// Ends the scrape. What it did not ask for is of objects that are gone, and is forgotten.
    pub fn done(self) {
        self.intervals
            .0
            .retain(|_, known| std::mem::take(&mut known.used));
    }
}

fn longest(schedule: &str, zone: Option<&str>, now: Timestamp) -> Option<i64> {
    let zone = time_zone(zone).ok()?;
    let schedule = Schedule::parse("schedule", schedule, &zone, now).ok()?;
    longest_gap(&schedule, now).map(|gap| gap.as_secs())
}

/// Nothing when it is due once only.
fn longest_gap(schedule: &Schedule, now: Timestamp) -> Option<SignedDuration> {
    let mut run = schedule.after(now)?;
    let (closely, end) = (run + CLOSELY, run + YEAR);
    let mut longest: Option<SignedDuration> = None;
    while run < end {
        if run >= closely {
            // As long as there is a run at the end of the longest gap, or in it, nothing before that run is longer.
            let far = run + longest.unwrap_or_default().max(COARSE);
            if let Some(last) = schedule.until(far)
                && last > run
            {
                run = last;
                continue;
            }
        }
        let Some(next) = schedule.after(run) else {
            break;
        };
        longest = longest.max(Some(next.duration_since(run)));
        run = next;
    }
    longest
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const HOUR: i64 = 3600;
    const DAY: i64 = 24 * HOUR;

    fn now() -> Timestamp {
        "2025-08-01T12:00:00Z".parse().unwrap()
    }

    #[rstest]
    #[case::each_minute("* * * * *", None, 60)]
    #[case::hourly("@hourly", None, HOUR)]
    #[case::daily("0 3 * * *", None, DAY)]
    #[case::in_autumn_a_night_is_longer("0 3 * * *", Some("Europe/Berlin"), 25 * HOUR)]
    #[case::over_the_weekend("0 18 * * 1-5", None, 3 * DAY)]
    #[case::over_the_weekend_and_the_night("*/5 9-16 * * 1-5", None, 2 * DAY + 16 * HOUR + 5 * 60)]
    #[case::over_the_night("*/10 6-21 * * *", None, 8 * HOUR + 10 * 60)]
    #[case::twice_a_week("0 3 * * 1,4", None, 4 * DAY)]
    #[case::monthly("0 1 1 * *", None, 31 * DAY)]
    #[case::only_in_eleven_months("* * * 1-11 *", None, 31 * DAY + 60)]
    #[case::yearly("@yearly", None, 365 * DAY)]
    #[case::on_leap_days("0 0 29 2 *", None, (3 * 365 + 366) * DAY)]
    fn the_longest_time_between_runs_is_exact(
        #[case] schedule: &str,
        #[case] zone: Option<&str>,
        #[case] seconds: i64,
    ) {
        assert_eq!(longest(schedule, zone, now()), Some(seconds));
    }

    #[rstest]
    #[case::hourly_but_not_at_night("15 6-22 * * *", Some("America/New_York"))]
    #[case::around_a_change_of_the_clock("30 1,2,3 * * 0", Some("Europe/Berlin"))]
    #[case::odd_days("0 */6 */2 * *", None)]
    #[case::days_or_weekdays("0 4 13 * 5", None)]
    fn it_is_what_looking_at_each_run_gives(#[case] schedule: &str, #[case] zone: Option<&str>) {
        let parsed =
            Schedule::parse("schedule", schedule, &time_zone(zone).unwrap(), now()).unwrap();
        let (mut run, mut most) = (parsed.after(now()).unwrap(), 0);
        while run < now() + YEAR {
            let next = parsed.after(run).unwrap();
            most = most.max(next.as_second() - run.as_second());
            run = next;
        }
        assert_eq!(longest(schedule, zone, now()), Some(most));
    }

    #[rstest]
    #[case::fields("every day", None)]
    #[case::zone("0 3 * * *", Some("Europe/Bielefeld"))]
    #[case::never("0 0 30 2 *", None)]
    fn what_is_no_schedule_has_no_interval(#[case] schedule: &str, #[case] zone: Option<&str>) {
        assert_eq!(
            Intervals::default().ask(now()).expected(schedule, zone),
            None
        );
    }

    #[test]
    fn an_answer_is_kept_until_it_is_old_or_nobody_asks() {
        let mut intervals = Intervals::default();
        let ask = |intervals: &mut Intervals, at| {
            let mut asking = intervals.ask(at);
            let seconds = asking.expected("0 3 * * *", None);
            asking.done();
            seconds
        };
        assert_eq!(ask(&mut intervals, now()), Some(DAY));
        for known in intervals.0.values_mut() {
            known.seconds = Some(1);
        }
        assert_eq!(ask(&mut intervals, now()), Some(1), "it was computed again");
        assert_eq!(ask(&mut intervals, now() + GOOD_FOR), Some(DAY));
        intervals.ask(now()).done();
        assert!(intervals.0.is_empty());
    }

    #[test]
    fn a_scrape_without_time_takes_old_answers_and_leaves_new_ones_for_the_next() {
        let mut intervals = Intervals::default();
        assert_eq!(intervals.ask(now()).expected("@daily", None), Some(DAY));
        let later = now() + GOOD_FOR;
        let mut asking = Asking {
            stop: Instant::now(),
            ..intervals.ask(later)
        };
        assert_eq!(asking.expected("@daily", None), Some(DAY));
        assert_eq!(asking.expected("@hourly", None), None);
        asking.done();
        assert_eq!(intervals.ask(later).expected("@hourly", None), Some(HOUR));
    }
}
