//! The conditions of a `StockPredictor` and the reasons they can have.
//!
//! In: nothing. Out: two closed lists, so that metrics, Events, documentation and tests share their names. What a
//! condition says beyond its reason (which file, which limit, what to do) stands in its message.

/// The types of `status.conditions`. Except for `Degraded`, `True` is the good value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConditionType {
    /// The summary: predictions are served as asked for. Its reason and message come from the first condition below
    /// that isn't good.
    Ready,
    /// The desired state was accepted by the API server.
    Reconciled,
    /// The claim is there, is ours to use and has the size asked for.
    VolumeReady,
    /// The pods asked for run and are ready.
    WorkloadAvailable,
    /// The model asked for is loaded.
    ModelReady,
    /// Each symbol has usable price history.
    DataReady,
    /// It serves, but not with everything it should have (a full volume, a refused candidate).
    Degraded,
}

impl ConditionType {
    /// All types, in the order in which `Ready` looks at them.
    pub const ALL: [Self; 7] = [
        Self::Ready,
        Self::Reconciled,
        Self::VolumeReady,
        Self::WorkloadAvailable,
        Self::ModelReady,
        Self::DataReady,
        Self::Degraded,
    ];

    /// The value of `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "Ready",
            Self::Reconciled => "Reconciled",
            Self::VolumeReady => "VolumeReady",
            Self::WorkloadAvailable => "WorkloadAvailable",
            Self::ModelReady => "ModelReady",
            Self::DataReady => "DataReady",
            Self::Degraded => "Degraded",
        }
    }
}

/// Declares the reasons once, so that the list, the names and the documentation cannot drift apart.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// The reasons that a condition can have.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name,)+
        }

        impl Reason {
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
    /// Everything is as asked for.
    AllGood,
    /// Not seen yet, or the predictor can't be asked now.
    Unknown,
    /// It is on its way; nothing to do.
    Progressing,
    /// Stopped on purpose, by `suspend` or by 0 replicas.
    Suspended,
    /// Stopped by a StorageRestore that works on the volume, until that has ended.
    RestoreInProgress,

    /// Reconciled: the API server accepted the desired state.
    Applied,
    /// Reconciled: the API server refused an object, such as a quantity or label that it doesn't allow.
    ApplyRefused,
    /// Reconciled: the API server could not be asked; it is tried again.
    ApplyFailed,
    /// Reconciled: an object with the name of a child exists and isn't ours.
    ChildNotOurs,

    /// VolumeReady: the claim is bound.
    Bound,
    /// VolumeReady: the claim waits for its first pod, or for a volume.
    ClaimPending,
    /// VolumeReady: the claim that `existingClaim` names does not exist.
    ClaimMissing,
    /// VolumeReady: a claim with our name exists that the operator did not create for this object.
    ClaimNotOurs,
    /// VolumeReady: the volume behind the claim is gone.
    ClaimLost,
    /// VolumeReady: the new volume is being filled from the backup that `bootstrapFrom` names; no pod starts before.
    Bootstrapping,
    /// VolumeReady: the new volume could not be filled; it is tried again, and no pod starts before.
    BootstrapFailed,
    /// VolumeReady: the claim is being deleted.
    ClaimTerminating,
    /// VolumeReady: the claim doesn't have the access mode that the spec says.
    AccessModeMismatch,
    /// VolumeReady: the volume is being resized.
    Resizing,
    /// VolumeReady: the storage class can't grow volumes; the old size stays in use.
    ExpansionNotSupported,
    /// VolumeReady: the claim is larger than the spec says, and volumes don't shrink.
    ShrinkRefused,

    /// WorkloadAvailable: the pods asked for are ready.
    Available,
    /// WorkloadAvailable: the image can't be pulled.
    ImagePullFailed,
    /// WorkloadAvailable: no node can take the pod.
    Unschedulable,
    /// WorkloadAvailable: the predictor ends again and again.
    CrashLooping,
    /// WorkloadAvailable: the init step could not set the volume up.
    SetupFailed,
    /// WorkloadAvailable: pods can't be created, such as by a quota or a policy.
    PodsRefused,

    /// ModelReady: the model asked for answers.
    Loaded,
    /// ModelReady: the volume does not have the model.
    ModelMissing,
    /// ModelReady: the model failed its checks.
    ModelRefused,

    /// DataReady: each symbol has price history.
    HistoryPresent,
    /// DataReady: a symbol has no price history.
    HistoryMissing,
    /// DataReady: a symbol's price history can't be used.
    HistoryRefused,

    /// Degraded: nothing is missing.
    NotDegraded,
    /// Degraded: the volume is full; predictions are served, but neither cached nor stored.
    VolumeFull,
    /// Degraded: the volume can't be written.
    VolumeNotWritable,
    /// Degraded: a new model version failed its checks, and the old one still answers.
    CandidateRefused,
    /// Degraded: the predictor reports another problem.
    PredictorProblem,
}
