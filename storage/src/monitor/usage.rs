//! How the volume grows: a small history of samples, and a line through them.
//!
//! In come samples of `.stockpredictor/usage.jsonl`; out come bytes a day and the days until the volume is full. One
//! sample an hour at most, for 90 days, so the file stays below half a megabyte.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::atomic;
use crate::layout::Layout;

/// The file below the state directory.
const FILE: &str = "usage.jsonl";
/// Samples are at least so far apart.
const EVERY: SignedDuration = SignedDuration::from_hours(1);
/// Samples are kept for so long.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 90);
/// Below so much time nothing is said about growth.
const ENOUGH: SignedDuration = SignedDuration::from_hours(24);
/// Largest file that is read.
const MAX_BYTES: u64 = 1024 * 1024;
/// Most samples.
const MAX_SAMPLES: usize = 24 * 90 + 1;
const SECONDS_A_DAY: f64 = 86_400.0;

/// The volume at one time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    /// When.
    pub time: Timestamp,
    /// Bytes of all files.
    pub bytes: u64,
    /// All files.
    pub files: u64,
}

/// How the volume grows.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Growth {
    /// Bytes a day; negative while it shrinks.
    pub bytes_per_day: f64,
    /// Days until nothing can be written; absent while it doesn't grow.
    pub full_in_days: Option<f64>,
    /// Days that the samples span.
    pub observed_days: f64,
}

/// The samples that were kept; none where the file is absent. Lines that aren't samples are left out.
pub fn read(layout: &Layout) -> io::Result<Vec<Sample>> {
    let file = match File::open(layout.state().join(FILE)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut samples = Vec::new();
    for line in BufReader::new(file.take(MAX_BYTES)).split(b'\n') {
        if let Ok(sample) = serde_json::from_slice(&line?) {
            samples.push(sample);
        }
    }
    Ok(samples)
}

/// Samples with one more, where it is due, and without those that are too old. Sorted by time.
pub fn with(mut samples: Vec<Sample>, now: Sample) -> (Vec<Sample>, bool) {
    // A clock that went back leaves samples of the future, which would stop all later ones.
    samples.retain(|sample| {
        let age = now.time.duration_since(sample.time);
        age >= SignedDuration::ZERO && age <= KEPT
    });
    samples.sort_by_key(|sample| sample.time);
    let surplus = samples.len().saturating_sub(MAX_SAMPLES - 1);
    samples.drain(..surplus);
    let last = samples.last();
    let is_due = last.is_none_or(|last| now.time.duration_since(last.time) >= EVERY);
    if is_due {
        samples.push(now);
    }
    (samples, is_due)
}

/// Replaces the file.
pub fn write(layout: &Layout, samples: &[Sample]) -> io::Result<()> {
    let mut text = Vec::new();
    for sample in samples {
        serde_json::to_writer(&mut text, sample).map_err(io::Error::other)?;
        text.push(b'\n');
    }
    atomic::write_cache(&layout.state().join(FILE), &text)
}

/// The line of least squares through the samples; `None` below one day.
pub fn growth(samples: &[Sample], free: u64) -> Option<Growth> {
    let (first, last) = (samples.first()?, samples.last()?);
    let span = last.time.duration_since(first.time);
    if span < ENOUGH {
        return None;
    }
    let count = samples.len() as f64;
    let day =
        |sample: &Sample| sample.time.duration_since(first.time).as_secs_f64() / SECONDS_A_DAY;
    let mean_day = samples.iter().map(day).sum::<f64>() / count;
    let mean_bytes = samples.iter().map(|one| one.bytes as f64).sum::<f64>() / count;
    let (mut product, mut square) = (0.0, 0.0);
    for sample in samples {
        let distance = day(sample) - mean_day;
        product += distance * (sample.bytes as f64 - mean_bytes);
        square += distance * distance;
    }
    // The span is at least a day, so the squares are not zero.
    let bytes_per_day = product / square;
    Some(Growth {
        bytes_per_day,
        // Less than a byte a day is no growth but rounding.
        full_in_days: (bytes_per_day >= 1.0).then(|| free as f64 / bytes_per_day),
        observed_days: span.as_secs_f64() / SECONDS_A_DAY,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(hour: i64, bytes: u64) -> Sample {
        Sample {
            time: Timestamp::from_second(1_700_000_000 + hour * 3600).unwrap(),
            bytes,
            files: 1,
        }
    }

    #[test]
    fn growth_is_the_slope_and_unknown_below_a_day() {
        let samples: Vec<_> = (0..=48)
            .map(|hour| sample(hour, 1000 + 24 * hour as u64))
            .collect();
        assert_eq!(growth(&samples[..24], 1), None);
        let found = growth(&samples, 5760).unwrap();
        assert!((found.bytes_per_day - 576.0).abs() < 1e-6, "{found:?}");
        assert!(
            (found.full_in_days.unwrap() - 10.0).abs() < 1e-6,
            "{found:?}"
        );
        let shrinking = growth(&[sample(0, 100), sample(24, 50)], 1000).unwrap();
        assert_eq!(
            (shrinking.bytes_per_day, shrinking.full_in_days),
            (-50.0, None)
        );
        let flat = growth(&[sample(0, 100), sample(24, 100)], 1000).unwrap();
        assert_eq!(flat.full_in_days, None);
        assert_eq!(growth(&[], 1), None);
    }

    #[test]
    fn one_sample_an_hour_is_kept_for_90_days() {
        let mut samples = Vec::new();
        for half_hour in 0..=(24 * 2 * 100) {
            let time = sample(0, 0).time + SignedDuration::from_mins(30 * half_hour);
            let now = Sample {
                time,
                ..sample(0, 5)
            };
            (samples, _) = with(samples, now);
        }
        assert_eq!(samples.len(), MAX_SAMPLES);
        let span = samples[MAX_SAMPLES - 1]
            .time
            .duration_since(samples[0].time);
        assert_eq!(span, KEPT);
        let (samples, is_new) = with(vec![sample(0, 1), sample(500, 9)], sample(1, 2));
        assert_eq!((samples, is_new), (vec![sample(0, 1), sample(1, 2)], true));
    }

    #[test]
    fn samples_are_read_as_they_were_written_and_damage_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        assert_eq!(read(&layout).unwrap(), []);
        std::fs::create_dir(layout.state()).unwrap();
        write(&layout, &[sample(0, 1), sample(1, 2)]).unwrap();
        let path = layout.state().join(FILE);
        let mut text = std::fs::read(&path).unwrap();
        text.extend(b"{\"time\":\n\xff\n");
        std::fs::write(&path, text).unwrap();
        assert_eq!(read(&layout).unwrap(), [sample(0, 1), sample(1, 2)]);
    }
}
