//! Two commands at once on one volume, in every pairing: they wait or refuse, and nothing breaks.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::common::{MODEL, content, json, predictor, run, volume};

/// Commands with their arguments; `put` gets a tar.
const COMMANDS: [(&str, &[&str]); 11] = [
    ("setup", &[]),
    ("test", &[]),
    ("backup", &[]),
    ("backup", &["--mode", "incremental"]),
    ("list", &[]),
    ("verify", &["--all"]),
    ("restore", &["latest", "--yes"]),
    ("monitor", &[]),
    ("cleanup", &[]),
    ("put", &["config/notes"]),
    ("ls", &["ml_models"]),
];

/// What a command may say that comes at the wrong moment.
const REFUSALS: [&str; 7] = [
    "is there already and stays as it is",
    "wait until it is done",
    "is running",
    "stop the service",
    "is in use",
    "try again",
    "run it again",
];

/// A volume with something in every part, a backup, and a change since.
fn prepared(folder: &Path) -> PathBuf {
    let (made, root) = volume();
    let target = folder.join("fixture");
    fs::rename(&root, &target).unwrap();
    drop(made);
    for number in 0..200 {
        fs::write(
            target.join(format!("ml_cache/{number}")),
            vec![b'x'; 20_000],
        )
        .unwrap();
    }
    let done = run("backup", &target, &[]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    fs::write(target.join("config/ml_config.json"), "{\"later\": 1}").unwrap();
    target
}

fn copy(from: &Path, to: &Path) {
    let done = Command::new("cp").arg("-a").arg(from).arg(to).status();
    assert!(done.unwrap().success());
}

fn start(root: &Path, (command, arguments): (&str, &[&str]), tar: &Path) -> Child {
    let input = if command == "put" {
        Stdio::from(fs::File::open(tar).unwrap())
    } else {
        Stdio::null()
    };
    predictor(command, root)
        .args(arguments)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The exit code and everything that it said.
fn end(mut child: Child) -> (Option<i32>, String) {
    let mut out = child.stdout.take().unwrap();
    let reader = std::thread::spawn(move || {
        let mut text = String::new();
        out.read_to_string(&mut text).unwrap();
        text
    });
    let mut text = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    let code = child.wait().unwrap().code();
    (code, reader.join().unwrap() + &text)
}

#[test]
fn every_pairing_waits_or_refuses_and_breaks_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let fixture = prepared(folder.path());
    let tar = folder.path().join("put.tar");
    let notes = folder.path().join("notes");
    fs::write(&notes, "put").unwrap();
    let done = Command::new("tar")
        .arg("-cf")
        .arg(&tar)
        .arg("-C")
        .arg(folder.path())
        .arg("notes")
        .status();
    assert!(done.unwrap().success());
    let before = content(&fixture);
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, first) in COMMANDS.iter().enumerate() {
        for second in &COMMANDS[index..] {
            let root = folder.path().join("volume");
            copy(&fixture, &root);
            let children = [*first, *second].map(|command| start(&root, command, &tar));
            for (child, command) in children.into_iter().zip([first, second]) {
                let (code, said) = end(child);
                let what = format!("{command:?} of {first:?} with {second:?}: {code:?}: {said}");
                match code {
                    Some(0 | 3) => *outcomes.entry("done").or_default() += 1,
                    Some(1) => {
                        assert!(REFUSALS.iter().any(|one| said.contains(one)), "{what}");
                        *outcomes.entry("refused").or_default() += 1;
                    }
                    _ => panic!("{what}"),
                }
            }
            check(&root, &before, &format!("{first:?} with {second:?}"));
            fs::remove_dir_all(&root).unwrap();
        }
    }
    assert_eq!(outcomes.values().sum::<usize>(), 2 * 66, "{outcomes:?}");
}

/// Every archive is whole, no command left anything behind, and each file has its old, its new or its put content.
fn check(root: &Path, before: &BTreeMap<PathBuf, Vec<u8>>, what: &str) {
    let verified = run("verify", root, &["--all", "--output", "json"]);
    assert!(
        matches!(verified.status.code(), Some(0 | 3)),
        "{what}: {verified:?}"
    );
    let archives = json(&verified)["archives"].as_array().unwrap().len();
    assert!((1..=3).contains(&archives), "{what}: {archives}");
    for entry in fs::read_dir(root).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(!name.starts_with(".restore-"), "{what}: {name}");
    }
    let after = content(root);
    let config = Path::new("config/ml_config.json");
    for (path, old) in before {
        if path == config {
            continue;
        }
        assert_eq!(after.get(path), Some(old), "{what}: {}", path.display());
    }
    let shipped = run("setup", root, &[]);
    assert_eq!(shipped.status.code(), Some(0), "{what}: {shipped:?}");
    assert!(root.join(MODEL).join("current").is_file(), "{what}");
    assert!(after.contains_key(config), "{what}");
}
