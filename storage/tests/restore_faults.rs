//! A restore that is killed, or fails, before each of its steps: afterwards the tree is old or new, never a mixture.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic")]

mod restore_support;

use restore_support::{
    Fake, Fate, TestVolume, Things, Trap, difference, file, killable, read, request, silence,
    things,
};
use stockpredictor_storage::archive::category::Category;
use stockpredictor_storage::restore::{
    Access, AllowSwitched, Checker, Ending, Journal, NoCheck, Open, RestoreError, Settled, State,
    commit, prepare, run, settle_volume, switch, undo,
};
use uuid::Uuid;

use restore_support::Thing;

fn old_things() -> Things {
    things(&[
        ("ml_models/lstm/v1/model.onnx", file("old weights")),
        ("ml_models/lstm/current", file("v1")),
        ("scalers/s.json", file("old scaler")),
        ("stock_data/historical/NVDA/NVDA.csv", file("old prices")),
        ("stock_data/predictions/analysis/NVDA.jsonl", file("1\n2\n")),
        ("stock_data/predictions/analysis/AAPL.jsonl", file("9\n")),
        ("logs/api.log", file("live line\n")),
        ("logs/deep/worker.log", file("w\n")),
        ("logs/link", Thing::Link("/etc/passwd".to_owned())),
        ("backups/keep.tar.gz", file("archive")),
        ("monitoring/prometheus/db", file("database")),
        ("foreign.txt", file("mine")),
        ("shared/notes.md", file("old notes")),
        ("cleanup_data.sh", file("old script")),
    ])
}

fn snapshot() -> Fake {
    Fake::all(&[
        ("ml_models/lstm/v2/model.onnx", file("new weights")),
        ("ml_models/lstm/current", file("v2")),
        ("ml_cache/model_cache/c", file("cache")),
        ("stock_data/historical/NVDA/NVDA.csv", file("new prices")),
        ("stock_data/predictions/analysis/NVDA.jsonl", file("0\n1\n")),
        ("logs/api.log", file("archived line\n")),
        ("config", Thing::Directory),
        ("shared/notes.md", file("new notes")),
        ("cleanup_data.sh", file("new script")),
        ("backups/evil", file("must not be restored")),
    ])
}

fn new_things() -> Things {
    let mut all = things(&[
        ("ml_models/lstm/v2/model.onnx", file("new weights")),
        ("ml_models/lstm/current", file("v2")),
        ("ml_cache/model_cache/c", file("cache")),
        ("stock_data/historical/NVDA/NVDA.csv", file("new prices")),
        (
            "stock_data/predictions/analysis/NVDA.jsonl",
            file("0\n1\n2\n"),
        ),
        ("stock_data/predictions/analysis/AAPL.jsonl", file("9\n")),
        ("logs/api.log", file("live line\n")),
        ("logs/api.abcdef01.log", file("archived line\n")),
        ("logs/deep/worker.log", file("w\n")),
        ("logs/link", Thing::Link("/etc/passwd".to_owned())),
        ("config", Thing::Directory),
        ("backups/keep.tar.gz", file("archive")),
        ("monitoring/prometheus/db", file("database")),
        ("foreign.txt", file("mine")),
        ("shared/notes.md", file("new notes")),
    ]);
    let script = Thing::File(b"new script".to_vec(), 0o755, 1_700_000_000);
    all.extend(things(&[("cleanup_data.sh", script)]));
    all
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Old,
    New,
}

/// Which of the two states the volume has; anything else fails the test.
fn seen(volume: &TestVolume, when: &str) -> Seen {
    let found = volume.read();
    let (old, new) = (old_things(), new_things());
    if found == old {
        return Seen::Old;
    }
    let differs = difference(&new, &found);
    assert!(
        differs.is_empty(),
        "{when}: neither old {:#?} nor new {differs:#?}",
        difference(&old, &found)
    );
    Seen::New
}

fn settle(volume: &TestVolume) -> Settled {
    settle_volume(&volume.volume(&Open), Access::Write, AllowSwitched::Yes).unwrap()
}

struct Refuses;

impl Checker for Refuses {
    fn check(&self, _root: &std::path::Path) -> Result<(), String> {
        Err("golden predictions differ".to_owned())
    }
}

/// What a test does with a volume.
type Work = fn(&TestVolume, &Trap) -> Result<(), RestoreError>;

fn one_shot(volume: &TestVolume, trap: &Trap) -> Result<(), RestoreError> {
    run(
        &volume.volume(trap),
        &snapshot(),
        &request(Uuid::from_u128(1)),
        &NoCheck,
    )
    .map(|_| ())
}

fn refused(volume: &TestVolume, trap: &Trap) -> Result<(), RestoreError> {
    run(
        &volume.volume(trap),
        &snapshot(),
        &request(Uuid::from_u128(1)),
        &Refuses,
    )
    .map(|_| ())
}

fn stepwise(volume: &TestVolume, trap: &Trap) -> Result<(), RestoreError> {
    let (at, id) = (volume.volume(trap), Uuid::from_u128(1));
    prepare(&at, &snapshot(), &request(id))?;
    switch(&at, id, &snapshot(), &NoCheck)?;
    commit(&at, id).map(|_| ())
}

fn there_and_back(volume: &TestVolume, trap: &Trap) -> Result<(), RestoreError> {
    let (at, id) = (volume.volume(trap), Uuid::from_u128(1));
    prepare(&at, &snapshot(), &request(id))?;
    switch(&at, id, &snapshot(), &NoCheck)?;
    undo(&at, id).map(|_| ())
}

fn prepared_and_back(volume: &TestVolume, trap: &Trap) -> Result<(), RestoreError> {
    let (at, id) = (volume.volume(trap), Uuid::from_u128(1));
    prepare(&at, &snapshot(), &request(id))?;
    undo(&at, id).map(|_| ())
}

fn steps_of(work: Work) -> usize {
    let volume = TestVolume::with(&old_things());
    let trap = Trap::none();
    let _ = work(&volume, &trap);
    trap.passed()
}

/// Ends what waits in a stable state, so that the tree can be looked at.
fn end_stable(volume: &TestVolume, when: &str) {
    let Some(journal) = Journal::read(&volume.layout).unwrap() else {
        return;
    };
    let at = volume.volume(&Open);
    match journal.state {
        State::Prepared => undo(&at, journal.id).unwrap(),
        State::Switched => commit(&at, journal.id).unwrap(),
        state => panic!("{when}: {state:?} is not settled"),
    };
}

fn check_end(volume: &TestVolume, when: &str) -> Seen {
    let first = settle_volume(&volume.volume(&Open), Access::Write, AllowSwitched::Yes);
    let waits = matches!(
        first,
        Err(stockpredictor_storage::restore::JournalError::Waiting { .. })
    );
    assert!(first.is_ok() || waits, "{when}: {first:?}");
    end_stable(volume, when);
    let end = seen(volume, when);
    assert_eq!(settle(volume), Settled::default(), "{when}: settled twice");
    assert_eq!(seen(volume, when), end, "{when}: settled twice");
    assert_eq!(volume.state(), Vec::<String>::new(), "{when}");
    end
}

#[test]
fn the_model_of_this_test_is_right() {
    let volume = TestVolume::with(&old_things());
    assert_eq!(seen(&volume, "before"), Seen::Old);
    one_shot(&volume, &Trap::none()).unwrap();
    assert_eq!(seen(&volume, "after"), Seen::New);
    assert_eq!(volume.state(), Vec::<String>::new());
}

#[test]
fn killed_before_any_step_the_volume_is_old_or_new() {
    silence();
    let works: [(&str, Work); 5] = [
        ("one shot", one_shot),
        ("refused", refused),
        ("stepwise", stepwise),
        ("there and back", there_and_back),
        ("prepared and back", prepared_and_back),
    ];
    for (name, work) in works {
        let steps = steps_of(work);
        assert!(steps > 20, "{name}: {steps}");
        let mut ends = Vec::new();
        for step in 0..steps {
            let when = format!("{name}, killed before step {step}");
            let volume = TestVolume::with(&old_things());
            let trap = Trap::at(step, Fate::Dies);
            assert!(killable(|| work(&volume, &trap)).is_none(), "{when}");
            ends.push(check_end(&volume, &when));
        }
        let first_new = ends.iter().position(|end| *end == Seen::New);
        assert_eq!(ends[0], Seen::Old);
        if name == "one shot" {
            // Once the switch has begun there is no way back.
            assert!(
                ends[first_new.unwrap()..]
                    .iter()
                    .all(|end| *end == Seen::New)
            );
        }
    }
}

#[test]
fn killed_while_settling_the_next_one_settles() {
    silence();
    let steps = steps_of(one_shot);
    for step in (1..steps).step_by(5) {
        for second in 0.. {
            let when = format!("killed before step {step}, settling before step {second}");
            let volume = TestVolume::with(&old_things());
            let trap = Trap::at(step, Fate::Dies);
            assert!(killable(|| one_shot(&volume, &trap)).is_none());
            let again = Trap::at(second, Fate::Dies);
            let settled = killable(|| {
                settle_volume(&volume.volume(&again), Access::Write, AllowSwitched::Yes).unwrap()
            });
            check_end(&volume, &when);
            if settled.is_some() {
                break;
            }
        }
    }
}

#[test]
fn a_step_that_fails_is_undone() {
    let steps = steps_of(one_shot);
    let mut outcomes = [0, 0];
    for step in 0..steps {
        let when = format!("failed at step {step}");
        let volume = TestVolume::with(&old_things());
        let trap = Trap::at(step, Fate::Fails);
        let asked = request(Uuid::from_u128(1));
        match run(&volume.volume(&trap), &snapshot(), &asked, &NoCheck) {
            Err(error @ RestoreError::Undone { .. }) => {
                assert!(error.to_string().contains("Nothing was changed"));
                assert_eq!(seen(&volume, &when), Seen::Old, "{when}");
                assert_eq!(volume.state(), Vec::<String>::new(), "{when}");
                outcomes[0] += 1;
            }
            Ok(report) => {
                assert_eq!(report.leftovers.len(), 1, "{when}");
                assert_eq!(check_end(&volume, &when), Seen::New, "{when}");
                outcomes[1] += 1;
            }
            Err(other) => panic!("{when}: {other}"),
        }
    }
    assert!(outcomes[0] > 20 && outcomes[1] > 10, "{outcomes:?}");
}

#[test]
fn a_failed_check_brings_the_old_state_back() {
    let volume = TestVolume::with(&old_things());
    let error = refused(&volume, &Trap::none()).unwrap_err();
    assert!(
        error.to_string().contains("golden predictions differ"),
        "{error}"
    );
    assert_eq!(seen(&volume, "after"), Seen::Old);
    assert_eq!(volume.state(), Vec::<String>::new());
}

#[test]
fn a_damaged_backup_leaves_everything_as_it_was() {
    silence();
    let count = snapshot().things.len();
    for number in 0..count {
        let volume = TestVolume::with(&old_things());
        let mut damaged = snapshot();
        damaged.fails_after = Some(number);
        let at = volume.volume(&Open);
        let error = run(&at, &damaged, &request(Uuid::from_u128(1)), &NoCheck).unwrap_err();
        assert!(matches!(error, RestoreError::Undone { .. }), "{error}");
        assert_eq!(seen(&volume, "damaged"), Seen::Old);
        assert_eq!(volume.state(), Vec::<String>::new());

        damaged.dies_after = Some(number);
        let killed = killable(|| run(&at, &damaged, &request(Uuid::from_u128(1)), &NoCheck));
        assert!(killed.is_none());
        let settled = settle(&volume);
        assert_eq!(settled.ended, Some((Uuid::from_u128(1), Ending::Undone)));
        assert_eq!(seen(&volume, "killed"), Seen::Old);
    }
}

#[test]
fn only_the_parts_that_are_wanted_change() {
    let volume = TestVolume::with(&old_things());
    let mut asked = request(Uuid::from_u128(1));
    asked.only = Some(&[Category::Models, Category::Scalers]);
    run(&volume.volume(&Open), &snapshot(), &asked, &NoCheck).unwrap();
    let mut expected = old_things();
    expected.retain(|path, _| !path.is_within(b"ml_models") && !path.is_within(b"scalers"));
    expected.extend(
        snapshot()
            .things
            .into_iter()
            .filter(|(path, _)| path.is_within(b"ml_models")),
    );
    let found = read(volume.layout.root());
    assert_eq!(difference(&expected, &found), Vec::<String>::new());
}
