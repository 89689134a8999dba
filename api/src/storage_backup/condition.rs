//! The conditions of a `StorageBackup` and the reasons that the operator gives by itself.
//!
//! In: nothing. Out: two closed lists. Words of the runs, such as `DestinationsFailed`, are reasons too: they are those of
//! `contracts/jobs.json`, and a person can act on them.

/// The types of `status.conditions`. `True` is the good value of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BackupCondition {
    /// The summary. Its reason and message come from the first condition below that isn't good.
    Ready,
    /// Runs are made as the schedule says.
    Scheduled,
    /// The last run succeeded, and the one that is due can start.
    LastBackupSucceeded,
    /// Each destination could be written in the last run.
    DestinationsReachable,
    /// The newest backup reached the level asked for, isn't suspect, and the last restore test succeeded.
    Verified,
    /// The newest backup is as new as `objectives.rpo` asks for.
    ObjectivesMet,
}

impl BackupCondition {
    /// All types, in the order in which `Ready` looks at them.
    pub const ALL: [Self; 6] = [
        Self::Ready,
        Self::Scheduled,
        Self::LastBackupSucceeded,
        Self::DestinationsReachable,
        Self::Verified,
        Self::ObjectivesMet,
    ];

    /// The value of `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Scheduled => "Scheduled",
            Self::LastBackupSucceeded => "LastBackupSucceeded",
            Self::DestinationsReachable => "DestinationsReachable",
            Self::Verified => "Verified",
            Self::ObjectivesMet => "ObjectivesMet",
        }
    }

    /// What `True` means, for the documentation.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::Ready => "Backups are as asked for.",
            Self::Scheduled => "Runs are made as the schedule says.",
            Self::LastBackupSucceeded => {
                "The last run succeeded, and the one that is due can start."
            }
            Self::DestinationsReachable => "Each destination could be written in the last run.",
            Self::Verified => {
                "The newest backup reached the level asked for, isn't suspect, and the last restore test succeeded."
            }
            Self::ObjectivesMet => "The newest backup is as new as `objectives.rpo` asks for.",
        }
    }
}

/// Declares the reasons once, so that the list, the names and the documentation cannot drift apart.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The reasons that the operator gives by itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum BackupReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl BackupReason {
            /// All reasons.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// The value of `reason`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => stringify!($name),)+ }
            }

            /// What it means, for the documentation.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($doc,)+),)+ }
            }
        }
    };
}

reasons! {
    /// Ready: everything is as asked for.
    AllGood,
    /// There is no backup yet.
    NoBackupYet,

    /// Scheduled: the CronJob is there.
    Active,
    /// Scheduled: there is no schedule; runs are made by `trigger`.
    ManualOnly,
    /// Scheduled: stopped on purpose, by `suspend`.
    Suspended,
    /// Scheduled: stopped while a StorageRestore works on the volume.
    HeldByRestore,
    /// Scheduled: a schedule or the time zone can't be read; the last good ones stay in force.
    InvalidSchedule,
    /// Scheduled: the spec can't become a run; the last good one stays in force.
    InvalidSpec,
    /// Scheduled: the StockPredictor that `predictorRef` names isn't there.
    PredictorMissing,
    /// Scheduled: the StockPredictor itself can't be used.
    PredictorInvalid,
    /// Scheduled: a volume for one pod (`ReadWriteOncePod`) can't be backed up while the predictor has it.
    VolumeForOnePod,
    /// Scheduled: the API server refused an object.
    ApplyRefused,
    /// Scheduled: the API server could not be asked; it is tried again.
    ApplyFailed,
    /// Scheduled: an object with the name of a child exists and isn't ours.
    ChildNotOurs,

    /// LastBackupSucceeded: the last run succeeded.
    Completed,
    /// LastBackupSucceeded: the last run succeeded, but not at every destination or not without a warning.
    CompletedWithWarnings,
    /// LastBackupSucceeded: the first run works.
    Running,
    /// LastBackupSucceeded: the run's pod waits for a node.
    Unschedulable,
    /// LastBackupSucceeded: the image of the run's pod can't be pulled.
    ImagePullFailed,
    /// LastBackupSucceeded: the run's pod can't be created, such as by a quota or a policy.
    PodsRefused,
    /// LastBackupSucceeded: a volume or Secret can't be mounted into the run's pod.
    MountFailed,
    /// LastBackupSucceeded: the run took longer than `activeDeadlineSeconds`.
    DeadlineExceeded,
    /// LastBackupSucceeded: the run needed more memory than its limit.
    OOMKilled,
    /// LastBackupSucceeded: the node evicted the run's pod.
    Evicted,
    /// LastBackupSucceeded: the run's pod was taken away, such as by a drain.
    Disrupted,
    /// LastBackupSucceeded: the run ended without saying why.
    Failed,

    /// DestinationsReachable: the last run wrote to each destination.
    AllReachable,
    /// DestinationsReachable: the last run could not write to a destination.
    DestinationFailed,

    /// Verified: the bytes of the newest backup are those that were written.
    Stored,
    /// Verified: every file of the newest backup can be read.
    Readable,
    /// Verified: a backup was restored and its golden predictions were repeated.
    Proven,
    /// Verified: the newest backup was not verified.
    NotVerified,
    /// Verified: much is missing in the newest backup that the one before it had.
    Suspect,
    /// Verified: the suspect is accepted; the next run takes it up.
    SuspectAccepted,
    /// Verified: the last restore test failed.
    RestoreTestFailed,

    /// ObjectivesMet: there is a backup that is new enough.
    WithinObjectives,
    /// ObjectivesMet: none are set.
    NoObjectives,
    /// ObjectivesMet: the newest backup is older than `objectives.rpo`.
    RpoMissed,
}
