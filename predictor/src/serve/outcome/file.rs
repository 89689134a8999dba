//! One symbol's outcomes on the volume: a line of JSON each, only ever appended.
//!
//! In come lines to add, out come the targets that have one, and recent errors. A line that a crash cut off is no JSON:
//! it counts as not written, and the next line begins after it. Memory is bounded, however long the file is.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

use jiff::civil::Date;
use rustix::fs::{Mode, OFlags};
use serde::Deserialize;
use stockpredictor_storage::atomic;

use super::{Errors, Outcome};

/// Longest line that is read.
const MAX_LINE: u64 = 64 * 1024;

/// The part of a line that says which session it is for.
#[derive(Deserialize)]
struct Dated {
    target_date: Date,
}

/// Tells `each` about the target of every outcome; gives the errors of those from `since` to `today`.
///
/// Of several lines for one session the first counts.
pub fn read(
    path: &Path,
    since: Date,
    today: Date,
    each: &mut dyn FnMut(Date),
) -> io::Result<BTreeMap<Date, Errors>> {
    let mut recent = BTreeMap::new();
    let file = match open(path, OFlags::RDONLY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(recent),
        opened => opened?,
    };
    let mut lines = BufReader::new(file);
    let mut line = Vec::new();
    loop {
        line.clear();
        if lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            return Ok(recent);
        }
        let Ok(Dated { target_date }) = serde_json::from_slice(&line) else {
            continue;
        };
        each(target_date);
        if (since..=today).contains(&target_date)
            && let Ok(outcome) = serde_json::from_slice::<Outcome>(&line)
            && let Some(errors) = outcome.errors()
        {
            recent.entry(target_date).or_insert(errors);
        }
    }
}

/// Adds whole lines, durably: all of them or, after an error, none.
pub fn append(path: &Path, lines: &[u8]) -> io::Result<()> {
    let mut file = match open(path, OFlags::RDWR | OFlags::APPEND) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                atomic::create_directory(folder)?;
            }
            return atomic::write_durable(path, lines);
        }
        opened => opened?,
    };
    let length = file.metadata()?.len();
    let mut text = Vec::with_capacity(lines.len() + 1);
    if is_cut_off(&file, length)? {
        text.push(b'\n');
    }
    text.extend_from_slice(lines);
    let written = file.write_all(&text).and_then(|()| file.sync_data());
    if written.is_err() {
        // On a full disk a part may have been written. The first error is what the caller has to know.
        let _ = file.set_len(length);
    }
    written
}

fn is_cut_off(file: &File, length: u64) -> io::Result<bool> {
    let Some(end) = length.checked_sub(1) else {
        return Ok(false);
    };
    let mut last = [0];
    file.read_exact_at(&mut last, end)?;
    Ok(last != *b"\n")
}

/// Opens a regular file; a link could lead anywhere, a pipe would wait for ever.
fn open(path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::open(path, flags, Mode::empty())?);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::other("it is no regular file"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::forecast;
    use super::*;
    use jiff::civil::date;
    use std::fs;

    fn line(target: Date) -> Vec<u8> {
        let outcome = Outcome {
            forecast: forecast(date(2024, 1, 1), target, 100.0, 101.0),
            actual: 102.0,
            random_walk: 100.0,
        };
        let mut line = serde_json::to_vec(&outcome).unwrap();
        line.push(b'\n');
        line
    }

    fn targets(path: &Path) -> Vec<Date> {
        let mut found = Vec::new();
        let (since, today) = (date(2024, 1, 3), date(2024, 1, 9));
        let recent = read(path, since, today, &mut |target| found.push(target)).unwrap();
        assert!(recent.keys().all(|target| (since..=today).contains(target)));
        found
    }

    #[test]
    fn a_line_that_a_crash_cut_off_at_any_byte_is_neither_lost_nor_counted_twice() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("analysis/NVDA.jsonl");
        let [first, second, third] = [2, 3, 4].map(|day| date(2024, 1, day));
        let whole = line(second);
        for cut in 0..=whole.len() {
            let _ = fs::remove_file(&path);
            append(&path, &line(first)).unwrap();
            let mut text = fs::read(&path).unwrap();
            text.extend_from_slice(&whole[..cut]);
            fs::write(&path, text).unwrap();
            let known = targets(&path);
            if !known.contains(&second) {
                append(&path, &whole).unwrap();
            }
            append(&path, &line(third)).unwrap();
            assert_eq!(
                targets(&path),
                [first, second, third],
                "cut after {cut} bytes"
            );
        }
    }

    #[test]
    fn only_recent_whole_outcomes_have_errors_and_the_first_of_a_session_counts() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("NVDA.jsonl");
        let [old, recent] = [date(2024, 1, 2), date(2024, 1, 5)];
        append(&path, &line(old)).unwrap();
        append(
            &path,
            b"nonsense\n{\"target_date\":\"2024-01-04\",\"actual\":1}\n",
        )
        .unwrap();
        append(&path, &line(recent)).unwrap();
        let again = String::from_utf8(line(recent)).unwrap();
        append(&path, again.replace("102.0", "150.0").as_bytes()).unwrap();
        append(&path, &vec![b'x'; 200_000]).unwrap();
        let today = date(2024, 1, 9);
        let mut count = 0;
        let found = read(&path, date(2024, 1, 3), today, &mut |_| count += 1).unwrap();
        assert_eq!(count, 4);
        assert_eq!(found.keys().collect::<Vec<_>>(), [&recent]);
        assert!(
            (found[&recent].random_walk - 0.02).abs() < 1e-12,
            "{found:?}"
        );
    }

    #[test]
    fn nothing_is_written_over_a_link_or_into_a_directory() {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("outside");
        fs::write(&outside, "").unwrap();
        let link = folder.path().join("NVDA.jsonl");
        std::os::unix::fs::symlink(&outside, &link).unwrap();
        assert!(append(&link, b"x\n").is_err());
        assert_eq!(fs::read(&outside).unwrap(), b"");
        fs::remove_file(&link).unwrap();
        fs::create_dir(&link).unwrap();
        assert!(append(&link, b"x\n").is_err());
    }
}
