//! What is known of a restore, in the terms that its next step is decided by.
//!
//! In: nothing. Out: types. They hold no objects, so that every combination can be written down in a test.

use stockpredictor_api::{OnFailure, RestorePhase, TimeLimits};

use super::plan::Note;

/// The Jobs of a restore. Each has one name, so that there never are two of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum JobKind {
    /// Chooses and checks.
    Preflight,
    /// Unpacks beside the data.
    Prepare,
    /// Exchanges old and new.
    Switch,
    /// Removes the old data.
    Commit,
    /// Brings the old data back.
    Undo,
    /// Fills a new claim.
    Fill,
}

impl JobKind {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Preflight,
        Self::Prepare,
        Self::Switch,
        Self::Commit,
        Self::Undo,
        Self::Fill,
    ];

    /// As in job documents and names.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preflight => "preflight",
            Self::Prepare => "prepare",
            Self::Switch => "switch",
            Self::Commit => "commit",
            Self::Undo => "undo",
            Self::Fill => "fill",
        }
    }
}

/// How a Job is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum JobState {
    /// There is none.
    #[default]
    Absent,
    /// It has not ended.
    Running {
        /// Why its pod does not start, if it doesn't.
        trouble: Option<String>,
        /// When it began, in seconds.
        since: i64,
    },
    /// It is being deleted.
    Ending,
    /// It did what it should.
    Succeeded {
        /// Whether its message names the backup that was chosen.
        chosen: bool,
    },
    /// It did not.
    Failed {
        /// Why.
        note: Note,
        /// When, in seconds.
        since: i64,
        /// What it read in the journal.
        journal: Option<String>,
    },
}

/// The Jobs, by kind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jobs(Vec<(JobKind, JobState)>);

impl Jobs {
    /// From what was found.
    pub fn new(found: Vec<(JobKind, JobState)>) -> Self {
        Self(found)
    }

    /// The state of one.
    pub fn get(&self, kind: JobKind) -> &JobState {
        const ABSENT: &JobState = &JobState::Absent;
        self.0
            .iter()
            .find(|(found, _)| *found == kind)
            .map_or(ABSENT, |(_, state)| state)
    }

    /// Those that are there and not on their way out.
    pub fn present(&self) -> impl Iterator<Item = JobKind> {
        self.0
            .iter()
            .filter(|(_, state)| !matches!(state, JobState::Absent | JobState::Ending))
            .map(|(kind, _)| *kind)
    }

    /// Those that run.
    pub fn unfinished(&self) -> impl Iterator<Item = JobKind> {
        self.0
            .iter()
            .filter(|(_, state)| matches!(state, JobState::Running { .. }))
            .map(|(kind, _)| *kind)
    }
}

/// The claim that is restored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ClaimFact {
    /// It may be used.
    #[default]
    Usable,
    /// There is none of the name: a new one may be made.
    Missing,
    /// One of the name exists that this restore did not make.
    Foreign,
    /// The one that the restore began with isn't there any more.
    Gone(String),
}

/// How a predictor runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Running {
    /// Every pod is ready, and its model reproduces its golden predictions.
    Ready,
    /// Its model is refused: waiting does not help.
    Refused(String),
    /// Not yet, and why.
    NotYet(String),
}

/// The predictor whose volume is restored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PredictorFact {
    /// There is none, or another one of the same name.
    Gone,
    /// It is there.
    There {
        /// Whether it should run when no restore holds it.
        wanted: bool,
        /// Whether its Deployment is stopped for this restore, and its status says so.
        held: bool,
        /// How it runs.
        running: Running,
    },
}

impl PredictorFact {
    /// Whether it should run when no restore holds it.
    pub fn wanted(&self) -> bool {
        matches!(self, Self::There { wanted: true, .. })
    }
}

/// Everything that the next step depends on.
#[derive(Clone, Debug)]
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a fact by itself, and the tables vary them one by one"
)]
pub struct Facts {
    /// Now, in seconds.
    pub now: i64,
    /// The persisted phase; nothing at first sight.
    pub phase: Option<RestorePhase>,
    /// When it began, in seconds.
    pub since: i64,
    /// Whether the object is being deleted.
    pub deleted: bool,
    /// Whether our finalizer is on it.
    pub finalizer: bool,
    /// Whether it ends after the checks.
    pub dry_run: bool,
    /// Whether it fills a new claim.
    pub new_claim: bool,
    /// Whether the volume is for one pod.
    pub one_pod: bool,
    /// Whether the backup lies on that volume, so that the checks can't reach it before the predictor is stopped.
    pub blind: bool,
    /// What a failure after the switch leads to.
    pub on_failure: OnFailure,
    /// How long phases may take.
    pub limits: TimeLimits,
    /// What a person decided about one that is held.
    pub decision: Option<String>,
    /// What the journal said last.
    pub journal: Option<String>,
    /// What is missing of what the spec refers to.
    pub problem: Option<Note>,
    /// Another restore of the same claim that comes first.
    pub ahead: Option<String>,
    /// The claim.
    pub claim: ClaimFact,
    /// Whether the new claim says that it is filled.
    pub filled: bool,
    /// The predictor.
    pub predictor: PredictorFact,
    /// Other predictors of the claim that aren't stopped for this restore.
    pub twins: Vec<String>,
    /// Pods that use the claim and haven't ended.
    pub users: Vec<String>,
    /// The Jobs.
    pub jobs: Jobs,
}

impl Facts {
    /// The phase.
    pub fn phase(&self) -> RestorePhase {
        self.phase.unwrap_or_default()
    }

    /// For how many seconds the phase has lasted.
    pub fn elapsed(&self) -> i64 {
        self.now - self.since
    }

    /// The limit of the phase, as written; nothing where it has to be waited for.
    pub fn limit_text(&self) -> &str {
        match self.phase() {
            RestorePhase::Pending | RestorePhase::Preflight => &self.limits.preflight,
            RestorePhase::Holding => &self.limits.hold,
            RestorePhase::Preparing | RestorePhase::Filling => &self.limits.prepare,
            RestorePhase::Switching => &self.limits.switch,
            RestorePhase::Starting | RestorePhase::Restarting => &self.limits.start,
            _ => "",
        }
    }

    /// The limit of the phase, in seconds.
    pub fn limit(&self) -> Option<i64> {
        seconds(self.limit_text())
    }
}

/// Seconds in a duration such as `30m`.
pub fn seconds(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let unit = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}
