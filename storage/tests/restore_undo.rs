//! Undoing a switched restore: the old state comes back, and with it what was logged meanwhile, whenever it is killed.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod restore_support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;

use restore_support::{Fake, Fate, TestVolume, Trap, file, killable, request, silence, things};
use stockpredictor_storage::restore::{
    Access, AllowSwitched, Journal, NoCheck, Open, commit, prepare, settle, settle_volume, switch,
    undo,
};
use uuid::Uuid;

use restore_support::Thing;

const ID: Uuid = Uuid::from_u128(1);
const OUTCOMES: &str = "stock_data/predictions/analysis";

/// Path and content of each file; directories have none.
type Files = BTreeMap<String, Option<String>>;

fn files(volume: &TestVolume) -> Files {
    let text = |thing: Thing| match thing {
        Thing::File(content, ..) => Some(String::from_utf8(content).unwrap()),
        Thing::Link(target) => Some(format!("-> {target}")),
        Thing::Directory => None,
    };
    let found = volume.read().into_iter();
    found
        .map(|(path, thing)| (path.to_string(), text(thing)))
        .collect()
}

fn expected(base: &Files, changes: &[(&str, &str)]) -> Files {
    let mut all = base.clone();
    for (path, content) in changes {
        let mut parent = *path;
        while let Some((above, _)) = parent.rsplit_once('/') {
            all.entry(above.to_owned()).or_insert(None);
            parent = above;
        }
        all.insert((*path).to_owned(), Some((*content).to_owned()));
    }
    all
}

fn append(volume: &TestVolume, path: &str, text: &str) {
    let path = volume.layout.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    let mut options = fs::File::options();
    let mut file = options.append(true).create(true).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn old() -> TestVolume {
    TestVolume::with(&things(&[
        ("config/a", file("old")),
        ("logs/api.log", file("live\n")),
        ("logs/deep/w.log", file("w\n")),
        (&format!("{OUTCOMES}/NVDA.jsonl"), file("1\n2\n")),
        (&format!("{OUTCOMES}/AAPL.jsonl"), file("9\n")),
    ]))
}

fn backup() -> Fake {
    Fake::all(&[
        ("config/a", file("new")),
        ("logs/api.log", file("archived\n")),
        ("logs/only.log", file("b\n")),
        ("logs/quiet.log", file("q\n")),
        (&format!("{OUTCOMES}/NVDA.jsonl"), file("0\n1\n")),
        (&format!("{OUTCOMES}/TSLA.jsonl"), file("5\n")),
    ])
}

fn switched(volume: &TestVolume, backup: &Fake) {
    let at = volume.volume(&Open);
    prepare(&at, backup, &request(ID)).unwrap();
    switch(&at, ID, backup, &NoCheck).unwrap();
}

/// What a service does between the switch and the undo.
fn serve(volume: &TestVolume) {
    append(volume, "logs/api.log", "since\n");
    append(volume, "logs/only.log", "since\n");
    append(volume, "logs/new/fresh.log", "since\n");
    append(volume, "logs/new/inner/fresh.log", "since\n");
    let log = |name: &str| volume.layout.join("logs/deep").join(name);
    fs::rename(log("w.log"), log("w.1.log")).unwrap();
    append(volume, "logs/deep/w.log", "rotated\n");
    for (symbol, line) in [
        ("NVDA", "3\n"),
        ("AAPL", "10\n"),
        ("TSLA", "6\n"),
        ("GOOG", "7\n"),
    ] {
        append(volume, &format!("{OUTCOMES}/{symbol}.jsonl"), line);
    }
    append(volume, "config/a", "changed since");
}

/// What it wrote, in the old state.
const KEPT: [(&str, &str); 9] = [
    ("logs/api.log", "live\nsince\n"),
    ("logs/only.log", "b\nsince\n"),
    ("logs/new/fresh.log", "since\n"),
    ("logs/new/inner/fresh.log", "since\n"),
    ("logs/deep/w.abcdef01.log", "rotated\n"),
    ("stock_data/predictions/analysis/NVDA.jsonl", "1\n2\n3\n"),
    ("stock_data/predictions/analysis/AAPL.jsonl", "9\n10\n"),
    ("stock_data/predictions/analysis/TSLA.jsonl", "6\n"),
    ("stock_data/predictions/analysis/GOOG.jsonl", "7\n"),
];

#[test]
fn an_undo_keeps_the_lines_that_were_written_since_the_switch() {
    let volume = old();
    let before = files(&volume);
    switched(&volume, &backup());
    undo(&volume.volume(&Open), ID).unwrap();
    assert_eq!(files(&volume), before, "nothing was written");

    switched(&volume, &backup());
    serve(&volume);
    undo(&volume.volume(&Open), ID).unwrap();
    assert_eq!(files(&volume), expected(&before, &KEPT));
    assert_eq!(volume.state(), Vec::<String>::new());
}

#[test]
fn an_undo_that_is_killed_or_fails_at_any_step_loses_no_line_and_doubles_none() {
    silence();
    for fate in [Fate::Dies, Fate::Fails] {
        let mut again = [0, 0];
        for step in 0.. {
            let when = format!("{fate:?} before step {step}");
            let volume = old();
            let before = files(&volume);
            switched(&volume, &backup());
            serve(&volume);
            let trap = Trap::at(step, fate);
            let done = killable(|| undo(&volume.volume(&trap), ID));
            if trap.passed() <= step {
                assert!(step > 30, "{when}");
                assert!(again[0] > 10 && again[1] > 5, "{fate:?}: {again:?}");
                break;
            }
            // What can't be removed is no failure of the undo.
            let is_done = matches!(&done, Some(Ok(_)));
            assert!(!is_done || fate == Fate::Fails, "{when}");
            let at = volume.volume(&Open);
            settle_volume(&at, Access::Write, AllowSwitched::Yes).unwrap();
            let mut end = expected(&before, &KEPT);
            let waits = Journal::read(&volume.layout).unwrap().is_some();
            again[usize::from(waits)] += 1;
            if waits {
                // The service goes on until someone undoes it again.
                append(&volume, &format!("{OUTCOMES}/NVDA.jsonl"), "4\n");
                append(&volume, "logs/new/fresh.log", "later\n");
                undo(&at, ID).unwrap();
                let later = [
                    ("logs/new/fresh.log", "since\nlater\n"),
                    ("stock_data/predictions/analysis/NVDA.jsonl", "1\n2\n3\n4\n"),
                ];
                end = expected(&end, &later);
            }
            assert_eq!(files(&volume), end, "{when}");
            assert_eq!(volume.state(), Vec::<String>::new(), "{when}");
        }
    }
}

#[test]
fn what_an_undo_that_failed_made_goes_when_the_restore_is_kept() {
    let volume = old();
    switched(&volume, &backup());
    serve(&volume);
    let new = files(&volume);
    let trap = Trap::at(7, Fate::Fails);
    undo(&volume.volume(&trap), ID).unwrap_err();
    commit(&volume.volume(&Open), ID).unwrap();
    let mut expected = new;
    expected.retain(|path, _| !path.starts_with(".restore-"));
    assert_eq!(files(&volume), expected);
}

/// What it is, the backup, what is written since the switch, and what the old state gets of it.
type Case<'a> = (&'a str, Fake, Texts<'a>, Texts<'a>);
type Texts<'a> = &'a [(&'a str, &'a str)];

#[test]
fn lines_find_a_place_where_the_old_state_has_something_else() {
    let nvda = format!("{OUTCOMES}/NVDA.jsonl");
    let tsla = format!("{OUTCOMES}/TSLA.jsonl");
    let long = "x".repeat(2 << 20);
    let odd = format!("{long}\n");
    let whole = format!("0\n1\n{odd}");
    let aside = format!("{OUTCOMES}/NVDA.abcdef01.jsonl");
    let table: [Case<'_>; 5] = [
        (
            "no logs at all",
            Fake::all(&[("config/a", file("new"))]),
            &[("logs/a.log", "since\n"), (&nvda, "3\n"), (&tsla, "4\n")],
            &[(&nvda, "3\n"), (&tsla, "4\n")],
        ),
        (
            "a file where the directory was made",
            Fake::all(&[("logs/a/b.log", file("b\n"))]),
            &[("logs/a/c.log", "since\n")],
            &[("logs/a-c.log", "since\n")],
        ),
        (
            "a link of the same name",
            Fake::all(&[("logs/b.log", file("b\n"))]),
            &[("logs/link", "since\n")],
            &[("logs/link.abcdef01", "since\n")],
        ),
        (
            "lines that are too long to be compared",
            Fake::all(&[(&nvda, file("0\n"))]),
            &[(&nvda, &odd)],
            // The whole file, with what the backup had.
            &[(&aside, &whole)],
        ),
        (
            "a last line without its end",
            Fake::all(&[(&nvda, file("0\n{\"half"))]),
            &[(&nvda, "\":1}\n2\n")],
            &[(&nvda, "{\"half\":1}\n2\n")],
        ),
    ];
    for (case, backup, writes, kept) in table {
        let volume = TestVolume::with(&things(&[("config/a", file("old"))]));
        let has = |what: &str| case == what;
        if has("a file where the directory was made") {
            append(&volume, "logs/a", "file\n");
        }
        if has("a link of the same name") {
            append(&volume, "logs/x", "x\n");
            symlink("x", volume.layout.join("logs/link")).unwrap();
        }
        if has("lines that are too long to be compared") {
            append(&volume, &nvda, "1\n");
        }
        let before = files(&volume);
        switched(&volume, &backup);
        if has("a file where the directory was made") {
            fs::remove_file(volume.layout.join("logs/a")).unwrap();
        }
        if has("a link of the same name") {
            fs::remove_file(volume.layout.join("logs/link")).unwrap();
        }
        for (path, text) in writes {
            append(&volume, path, text);
        }
        let live = files(&volume);
        undo(&volume.volume(&Open), ID).unwrap();
        let mut expected = expected(&before, kept);
        if has("no logs at all") {
            // What the restore did not touch stays as it is.
            let logs = live
                .into_iter()
                .filter(|(path, _)| path.starts_with("logs"));
            expected.extend(logs);
        }
        // The long lines are no help in a message.
        assert!(files(&volume) == expected, "{case}");
        settle(&volume.layout, Access::Write, AllowSwitched::No).unwrap();
    }
}
