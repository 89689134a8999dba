//! The conditions of a `StorageRestore` and the reasons that its `Ready` can have.
//!
//! In: nothing. Out: two closed lists. Words of the restore's Jobs, such as `NoSpace`, are reasons too: they are those of
//! `contracts/jobs.json`, and a person can act on them.

/// The types of `status.conditions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RestoreCondition {
    /// The summary: the restored data is in place and proven; of a dry run: the plan is there.
    Ready,
    /// A backup was chosen, and its key, chain, hashes and the space for it are good.
    Checked,
    /// The predictor is stopped for this restore.
    PredictorHeld,
}

impl RestoreCondition {
    /// All types.
    pub const ALL: [Self; 3] = [Self::Ready, Self::Checked, Self::PredictorHeld];

    /// The value of `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Checked => "Checked",
            Self::PredictorHeld => "PredictorHeld",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The reasons that the operator gives by itself.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RestoreReason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl RestoreReason {
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
    /// The restored data is in place and proven.
    Restored,
    /// The checks of a dry run are done; the plan is in the status.
    Planned,
    /// It is on its way; nothing to do.
    InProgress,
    /// It waits for another restore of the same claim.
    WaitsForRestore,
    /// It waits for the pods that use the volume to end.
    WaitsForPods,
    /// The predictor, StorageBackup or destination that the spec names isn't there.
    ReferenceMissing,
    /// The claim isn't there, or can't be used.
    ClaimNotUsable,
    /// The name of the new claim is taken.
    ClaimExists,
    /// A phase took longer than its limit.
    TimedOut,
    /// The predictor did not become ready with the restored data.
    NotReady,
    /// A Job ended without saying why.
    JobFailed,
    /// A Job's pod can't start.
    JobNotStarted,
    /// The old data is being brought back.
    RollingBack,
    /// The old data is in place again, and the predictor runs with it.
    RolledBack,
    /// It failed after the switch and is left to a person.
    Held,
    /// The object was deleted before the restore was complete.
    Deleted,
}
