//! The truth tables: what follows from each phase and each thing that can be seen in it.

use rstest::rstest;
use stockpredictor_api::OnFailure;

use super::super::facts::{JobState, Jobs, PredictorFact, Running, seconds};
use super::*;
use RestorePhase::*;

fn facts(phase: RestorePhase) -> Facts {
    Facts {
        now: 1_000,
        phase: Some(phase),
        since: 990,
        deleted: false,
        finalizer: !matches!(phase, Pending | Preflight | Filling),
        dry_run: false,
        new_claim: false,
        one_pod: false,
        blind: false,
        on_failure: OnFailure::RollBack,
        limits: stockpredictor_api::TimeLimits::default(),
        decision: None,
        journal: None,
        problem: None,
        ahead: None,
        claim: ClaimFact::Usable,
        filled: true,
        predictor: predictor(true, true, Running::NotYet("it starts".into())),
        twins: vec![],
        users: vec![],
        jobs: Jobs::default(),
    }
}

fn predictor(wanted: bool, held: bool, running: Running) -> PredictorFact {
    PredictorFact::There {
        wanted,
        held,
        running,
    }
}

fn with(phase: RestorePhase, change: impl Fn(&mut Facts)) -> Facts {
    let mut facts = facts(phase);
    change(&mut facts);
    facts
}

fn job(kind: JobKind, state: JobState) -> Jobs {
    Jobs::new(vec![(kind, state)])
}

fn runs() -> JobState {
    JobState::Running {
        trouble: None,
        since: 0,
    }
}

fn done() -> JobState {
    JobState::Succeeded { chosen: true }
}

fn failed(journal: Option<&str>) -> JobState {
    JobState::Failed {
        note: Note::new("NoSpace", "no room"),
        since: 900,
        journal: journal.map(str::to_owned),
    }
}

/// The step in short: its name, phase or kind, and reason.
fn short(step: &Step) -> String {
    match step {
        Step::Wait(note) => format!("wait {}", note.reason),
        Step::Enter(phase, None) => format!("enter {}", phase.as_str()),
        Step::Enter(phase, Some(note)) => format!("enter {} {}", phase.as_str(), note.reason),
        Step::Create(kind) => format!("create {}", kind.as_str()),
        Step::Delete(kind) => format!("delete {}", kind.as_str()),
        Step::MarkFilled => "filled".into(),
        Step::SetFinalizer => "finalizer".into(),
        Step::CreateClaim => "claim".into(),
        Step::ReleaseFinalizer => "release".into(),
        Step::Nothing => "nothing".into(),
    }
}

fn check(facts: &Facts, expected: &str) {
    assert_eq!(short(&plan(facts)), expected, "{facts:#?}");
}

#[rstest]
#[case::first_sight(with(Pending, |f| f.phase = None), "enter Pending")]
#[case::its_turn(facts(Pending), "enter Preflight")]
#[case::not_its_turn(with(Pending, |f| f.ahead = Some("other".into())), "wait WaitsForRestore")]
#[case::not_its_turn_for_long(with(Pending, |f| { f.ahead = Some("other".into()); f.since = -90_000; }), "wait WaitsForRestore")]
#[case::refers_to_nothing(with(Pending, |f| f.problem = Some(Note::new("ReferenceMissing", "no"))), "wait ReferenceMissing")]
#[case::refers_to_nothing_for_long(
    with(Pending, |f| { f.problem = Some(Note::new("ReferenceMissing", "no")); f.since = -900; }), "enter Failed ReferenceMissing")]
#[case::sees_nothing(with(Pending, |f| f.blind = true), "finalizer")]
#[case::sees_nothing_and_goes_on(with(Pending, |f| { f.blind = true; f.finalizer = true; }), "enter Holding")]
fn before_it_begins(#[case] facts: Facts, #[case] step: &str) {
    check(&facts, step);
}

#[rstest]
#[case::begins(with(Preflight, |_| ()), "create preflight")]
#[case::lost_its_source(with(Preflight, |f| f.problem = Some(Note::new("ReferenceMissing", "no"))), "enter Failed ReferenceMissing")]
#[case::runs(with(Preflight, |f| f.jobs = job(JobKind::Preflight, runs())), "wait InProgress")]
#[case::stuck(with(Preflight, |f| f.jobs = job(JobKind::Preflight, JobState::Running { trouble: Some("no node".into()), since: 900 })), "wait JobNotStarted")]
#[case::late(with(Preflight, |f| { f.jobs = job(JobKind::Preflight, runs()); f.since = -900; }), "enter Failed TimedOut")]
#[case::refused(with(Preflight, |f| f.jobs = job(JobKind::Preflight, failed(None))), "enter Failed NoSpace")]
#[case::no_report(with(Preflight, |f| f.jobs = job(JobKind::Preflight, JobState::Succeeded { chosen: false })), "enter Failed JobFailed")]
#[case::dry_run(with(Preflight, |f| { f.jobs = job(JobKind::Preflight, done()); f.dry_run = true; }), "enter Planned")]
#[case::new_claim(with(Preflight, |f| { f.jobs = job(JobKind::Preflight, done()); f.new_claim = true; }), "enter Filling")]
#[case::before_the_hold(with(Preflight, |f| f.jobs = job(JobKind::Preflight, done())), "finalizer")]
#[case::good(with(Preflight, |f| { f.jobs = job(JobKind::Preflight, done()); f.finalizer = true; }), "enter Holding")]
fn nothing_is_stopped_before_the_checks_are_done(#[case] facts: Facts, #[case] step: &str) {
    check(&facts, step);
}

#[rstest]
#[case::not_held(with(Holding, |f| f.predictor = predictor(true, false, Running::Ready)), "wait WaitsForPods")]
#[case::pods_left(with(Holding, |f| f.users = vec!["nvda-1".into()]), "wait WaitsForPods")]
#[case::another_predictor_of_the_claim(with(Holding, |f| f.twins = vec!["tsla".into()]), "wait WaitsForPods")]
#[case::not_held_for_long(with(Holding, |f| { f.predictor = predictor(true, false, Running::Ready); f.since = 0; }), "enter Failed TimedOut")]
#[case::pods_left_for_long(with(Holding, |f| { f.users = vec!["nvda-1".into()]; f.since = 0; }), "enter Failed TimedOut")]
#[case::predictor_gone(with(Holding, |f| f.predictor = PredictorFact::Gone), "enter Failed ReferenceMissing")]
#[case::claim_gone(with(Holding, |f| f.claim = ClaimFact::Gone("gone".into())), "enter Failed ClaimNotUsable")]
#[case::free(facts(Holding), "enter Preparing")]
fn the_volume_is_waited_for(#[case] facts: Facts, #[case] step: &str) {
    check(&facts, step);
}

#[rstest]
#[case::begins(facts(Preparing), "create prepare")]
#[case::taken_again(with(Preparing, |f| f.users = vec!["x".into()]), "wait WaitsForPods")]
#[case::taken_for_long(with(Preparing, |f| { f.users = vec!["x".into()]; f.since = -9_000; }), "enter RollingBack TimedOut")]
#[case::runs(with(Preparing, |f| f.jobs = job(JobKind::Prepare, runs())), "wait InProgress")]
#[case::late(with(Preparing, |f| { f.jobs = job(JobKind::Prepare, runs()); f.since = -9_000; }), "enter RollingBack TimedOut")]
#[case::failed(with(Preparing, |f| f.jobs = job(JobKind::Prepare, failed(None))), "enter RollingBack NoSpace")]
#[case::failed_and_hold(
    with(Preparing, |f| { f.jobs = job(JobKind::Prepare, failed(None)); f.on_failure = OnFailure::Hold; }), "enter RollingBack NoSpace")]
#[case::deleted_by_somebody(with(Preparing, |f| f.jobs = job(JobKind::Prepare, JobState::Ending)), "enter RollingBack JobFailed")]
#[case::predictor_gone(with(Preparing, |f| f.predictor = PredictorFact::Gone), "enter RollingBack ReferenceMissing")]
#[case::done(with(Preparing, |f| f.jobs = job(JobKind::Prepare, JobState::Succeeded { chosen: false })), "enter Switching")]
fn before_the_switch_a_failure_always_leads_back(#[case] facts: Facts, #[case] step: &str) {
    check(&facts, step);
}

fn hold(f: &mut Facts) {
    f.on_failure = OnFailure::Hold;
}

#[rstest]
#[case::begins(facts(Switching), "create switch")]
#[case::runs(with(Switching, |f| f.jobs = job(JobKind::Switch, runs())), "wait InProgress")]
#[case::late(with(Switching, |f| { f.jobs = job(JobKind::Switch, runs()); f.since = -9_000; }), "enter RollingBack TimedOut")]
#[case::late_and_hold(with(Switching, |f| { f.jobs = job(JobKind::Switch, runs()); f.since = -9_000; hold(f); }), "enter RollingBack TimedOut")]
#[case::failed(with(Switching, |f| f.jobs = job(JobKind::Switch, failed(Some("switched")))), "enter RollingBack NoSpace")]
#[case::failed_and_hold(with(Switching, |f| { f.jobs = job(JobKind::Switch, failed(Some("switched"))); hold(f); }), "enter Held NoSpace")]
#[case::failed_in_silence_and_hold(with(Switching, |f| { f.jobs = job(JobKind::Switch, failed(None)); hold(f); }), "enter RollingBack NoSpace")]
#[case::undone_and_hold(with(Switching, |f| { f.jobs = job(JobKind::Switch, failed(Some("undone"))); hold(f); }), "enter RollingBack NoSpace")]
#[case::done(with(Switching, |f| f.jobs = job(JobKind::Switch, done())), "enter Starting")]
#[case::done_but_suspended(
    with(Switching, |f| { f.jobs = job(JobKind::Switch, done()); f.predictor = predictor(false, true, Running::NotYet(String::new())); }),
    "enter Committing")]
#[case::starts(facts(Starting), "wait InProgress")]
#[case::ready(with(Starting, |f| f.predictor = predictor(true, false, Running::Ready)), "enter Committing")]
#[case::suspended_meanwhile(with(Starting, |f| f.predictor = predictor(false, false, Running::NotYet(String::new()))), "enter Committing")]
#[case::model_refused(with(Starting, |f| f.predictor = predictor(true, false, Running::Refused("bad".into()))), "enter RollingBack NotReady")]
#[case::model_refused_and_hold(
    with(Starting, |f| { f.predictor = predictor(true, false, Running::Refused("bad".into())); hold(f); }), "enter Held NotReady")]
#[case::never_ready(with(Starting, |f| f.since = 0), "enter RollingBack NotReady")]
#[case::never_ready_and_hold(with(Starting, |f| { f.since = 0; hold(f); }), "enter Held NotReady")]
#[case::predictor_gone(with(Starting, |f| f.predictor = PredictorFact::Gone), "enter RollingBack ReferenceMissing")]
fn after_the_switch_only_a_proof_keeps_the_new_data(#[case] facts: Facts, #[case] step: &str) {
    check(&facts, step);
}

#[rstest]
#[case::begins(with(Committing, |f| f.predictor = predictor(true, false, Running::Ready)), "create commit")]
#[case::one_pod_runs(
    with(Committing, |f| { f.one_pod = true; f.predictor = predictor(true, false, Running::Ready); }), "wait WaitsForPods")]
#[case::one_pod_stopped(with(Committing, |f| f.one_pod = true), "create commit")]
#[case::runs(with(Committing, |f| f.jobs = job(JobKind::Commit, runs())), "wait InProgress")]
#[case::late_does_not_matter(with(Committing, |f| { f.jobs = job(JobKind::Commit, runs()); f.since = -90_000; }), "wait InProgress")]
#[case::failed(with(Committing, |f| f.jobs = job(JobKind::Commit, failed(None))), "wait NoSpace")]
#[case::failed_long_ago(with(Committing, |f| { f.jobs = job(JobKind::Commit, failed(None)); f.now = 1_200; }), "delete commit")]
#[case::deleted_object_is_finished(with(Committing, |f| f.deleted = true), "create commit")]
#[case::done(with(Committing, |f| f.jobs = job(JobKind::Commit, done())), "enter Completed")]
#[case::the_end(facts(Completed), "release")]
#[case::the_end_of_all(with(Completed, |f| f.finalizer = false), "nothing")]
fn past_the_proof_there_is_no_way_back(#[case] facts: Facts, #[case] step: &str) {
    check(&facts, step);
}

#[rstest]
#[case::the_job_under_way_is_stopped(with(RollingBack, |f| f.jobs = job(JobKind::Prepare, runs())), "delete prepare")]
#[case::and_waited_for(with(RollingBack, |f| f.jobs = job(JobKind::Switch, JobState::Ending)), "wait InProgress")]
#[case::predictor_runs(with(RollingBack, |f| f.predictor = predictor(true, false, Running::Ready)), "wait WaitsForPods")]
#[case::predictor_runs_for_long(
    with(RollingBack, |f| { f.predictor = predictor(true, false, Running::Ready); f.since = -90_000; }), "wait WaitsForPods")]
#[case::pods_left(with(RollingBack, |f| f.users = vec!["x".into()]), "wait WaitsForPods")]
#[case::free(facts(RollingBack), "create undo")]
#[case::free_after_a_failure(with(RollingBack, |f| f.jobs = job(JobKind::Prepare, failed(None))), "create undo")]
#[case::predictor_gone(with(RollingBack, |f| f.predictor = PredictorFact::Gone), "create undo")]
#[case::claim_gone(with(RollingBack, |f| f.claim = ClaimFact::Gone("gone".into())), "enter RolledBack")]
#[case::runs(with(RollingBack, |f| f.jobs = job(JobKind::Undo, runs())), "wait InProgress")]
#[case::failed(with(RollingBack, |f| f.jobs = job(JobKind::Undo, failed(None))), "wait NoSpace")]
#[case::failed_long_ago(with(RollingBack, |f| { f.jobs = job(JobKind::Undo, failed(None)); f.now = 1_200; }), "delete undo")]
#[case::done(with(RollingBack, |f| f.jobs = job(JobKind::Undo, done())), "enter Restarting")]
#[case::done_and_gone(
    with(RollingBack, |f| { f.jobs = job(JobKind::Undo, done()); f.predictor = PredictorFact::Gone; }), "enter RolledBack")]
#[case::restarts(facts(Restarting), "wait InProgress")]
#[case::ready_again(with(Restarting, |f| f.predictor = predictor(true, false, Running::Ready)), "enter RolledBack")]
#[case::not_ready_before_either(with(Restarting, |f| f.since = 0), "enter RolledBack")]
#[case::the_end(facts(RolledBack), "release")]
fn the_way_back_ends_with_the_old_data(#[case] facts: Facts, #[case] step: &str) {
    check(&facts, step);
}

#[rstest]
#[case::waits(facts(Held), "wait Held")]
#[case::back(with(Held, |f| f.decision = Some("RollBack".into())), "enter RollingBack")]
#[case::forward(with(Held, |f| { f.decision = Some("Commit".into()); f.journal = Some("switched".into()); }), "enter Committing")]
#[case::forward_without_new_data(with(Held, |f| f.decision = Some("Commit".into())), "wait Held")]
#[case::nonsense(with(Held, |f| f.decision = Some("commit".into())), "wait Held")]
#[case::job_that_cannot_start_for_long(
    with(Committing, |f| f.jobs = job(JobKind::Commit, JobState::Running { trouble: Some("no image".into()), since: 1_000 - RETRY })), "delete commit")]
#[case::job_that_cannot_start_yet(
    with(Committing, |f| f.jobs = job(JobKind::Commit, JobState::Running { trouble: Some("no image".into()), since: 999 })), "wait JobNotStarted")]
fn a_person_decides_about_what_is_held(#[case] facts: Facts, #[case] step: &str) {
    check(&facts, step);
}

#[rstest]
#[case::never_seen(with(Pending, |f| f.phase = None), "nothing")]
#[case::pending(facts(Pending), "nothing")]
#[case::checks(with(Preflight, |f| f.jobs = job(JobKind::Preflight, runs())), "nothing")]
#[case::checks_and_finalizer(with(Preflight, |f| f.finalizer = true), "release")]
#[case::filling(facts(Filling), "nothing")]
#[case::holding(facts(Holding), "enter Failed Deleted")]
#[case::preparing(with(Preparing, |f| f.jobs = job(JobKind::Prepare, runs())), "enter RollingBack Deleted")]
#[case::switching(facts(Switching), "enter RollingBack Deleted")]
#[case::starting(facts(Starting), "enter RollingBack Deleted")]
#[case::held(facts(Held), "enter RollingBack Deleted")]
#[case::rolling_back(facts(RollingBack), "create undo")]
#[case::restarting(facts(Restarting), "enter RolledBack")]
#[case::over(facts(Failed), "release")]
#[case::over_without_its_claim(
    with(RolledBack, |f| { f.jobs = job(JobKind::Prepare, done()); f.claim = ClaimFact::Gone("it is being deleted".into()); }), "delete prepare")]
fn a_deletion_rolls_back_first(#[case] mut facts: Facts, #[case] step: &str) {
    facts.deleted = true;
    check(&facts, step);
}

#[rstest]
#[case::no_claim(with(Filling, |f| f.claim = ClaimFact::Missing), "claim")]
#[case::name_taken(with(Filling, |f| f.claim = ClaimFact::Foreign), "enter Failed ClaimExists")]
#[case::claim(facts(Filling), "create fill")]
#[case::runs(with(Filling, |f| f.jobs = job(JobKind::Fill, runs())), "wait InProgress")]
#[case::failed(with(Filling, |f| f.jobs = job(JobKind::Fill, failed(None))), "enter Failed NoSpace")]
#[case::late(with(Filling, |f| { f.jobs = job(JobKind::Fill, runs()); f.since = -9_000; }), "enter Failed TimedOut")]
#[case::done(with(Filling, |f| { f.jobs = job(JobKind::Fill, done()); f.filled = false; }), "filled")]
#[case::done_and_said_so(with(Filling, |f| f.jobs = job(JobKind::Fill, done())), "enter Completed")]
#[case::late_job_is_stopped(with(Failed, |f| f.jobs = job(JobKind::Fill, runs())), "delete fill")]
fn a_new_claim_is_filled(#[case] mut facts: Facts, #[case] step: &str) {
    facts.new_claim = true;
    facts.finalizer = false;
    check(&facts, step);
}

#[test]
fn whatever_is_seen_the_data_is_never_touched_while_somebody_uses_it() {
    let phases = [Holding, Preparing, Switching, RollingBack];
    for (phase, kind) in phases
        .iter()
        .flat_map(|phase| JobKind::ALL.map(|kind| (*phase, kind)))
    {
        for state in [
            JobState::Absent,
            runs(),
            JobState::Ending,
            done(),
            failed(None),
        ] {
            let name = || vec!["x".to_owned()];
            for (held, twins, users) in [
                (false, vec![], vec![]),
                (true, name(), vec![]),
                (true, vec![], name()),
            ] {
                let facts = with(phase, |f| {
                    f.predictor = predictor(true, held, Running::Ready);
                    f.twins.clone_from(&twins);
                    f.users.clone_from(&users);
                    f.jobs = job(kind, state.clone());
                });
                let step = plan(&facts);
                assert!(!matches!(step, Step::Create(_)), "{step:?} in {facts:#?}");
            }
        }
    }
}

#[test]
fn what_has_a_limit_does_not_wait_for_ever() {
    for phase in [
        Preflight, Holding, Preparing, Switching, Starting, Filling, Restarting,
    ] {
        for kind in JobKind::ALL {
            let facts = with(phase, |f| {
                f.since = -1_000_000;
                f.users = vec!["x".into()];
                f.jobs = job(kind, runs());
            });
            // Preflight and filling begin late rather than never: their Jobs have the limit.
            let step = plan(&facts);
            assert!(
                matches!(
                    step,
                    Step::Enter(..) | Step::Create(JobKind::Preflight | JobKind::Fill)
                ),
                "{step:?} in {facts:#?}"
            );
        }
    }
}

#[rstest]
#[case("90s", Some(90))]
#[case("30m", Some(1_800))]
#[case("2h", Some(7_200))]
#[case("1d", Some(86_400))]
#[case("", None)]
#[case("1w", None)]
fn durations_are_read(#[case] text: &str, #[case] expected: Option<i64>) {
    assert_eq!(seconds(text), expected);
}
