//! Why a write did not happen, and what follows from it.
//!
//! In: what the client returns. Out: whether somebody has to act, a category for metrics, and a sentence.

use kube::Resource;

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The API server, or the way to it.
    #[error("can't {verb} {kind} {name}: {}", explain(source))]
    Request {
        /// What was tried.
        verb: &'static str,
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
        /// What came back.
        source: Box<kube::Error>,
    },
    /// An object with the name of a child that nobody gave to us.
    #[error(
        "{kind} {name} exists and doesn't belong to this object; delete or rename it, and the operator makes its own"
    )]
    NotOurs {
        /// Kind of the object.
        kind: String,
        /// Name of the object.
        name: String,
    },
    /// An object that doesn't become JSON.
    #[error("can't write {kind} as JSON: {source}")]
    Encode {
        /// Kind of the object.
        kind: String,
        /// What serde says.
        source: serde_json::Error,
    },
}

impl Error {
    /// True when trying again changes nothing: somebody has to change something first.
    pub fn refused(&self) -> bool {
        match self {
            Self::Request { source, .. } => {
                matches!(code(source), Some(400..=408 | 413 | 415 | 422))
            }
            Self::NotOurs { .. } | Self::Encode { .. } => true,
        }
    }

    /// True when the namespace is going: nothing can be created in it any more, and what is there goes by itself.
    pub fn namespace_ends(&self) -> bool {
        let Self::Request { source, .. } = self else {
            return false;
        };
        let kube::Error::Api(status) = &**source else {
            return false;
        };
        let causes = status.details.iter().flat_map(|details| &details.causes);
        causes
            .into_iter()
            .any(|cause| cause.reason == "NamespaceTerminating")
    }

    /// True when it is about an object of kind `K`.
    pub fn concerns<K: Resource<DynamicType = ()>>(&self) -> bool {
        match self {
            Self::Request { kind, .. } | Self::NotOurs { kind, .. } | Self::Encode { kind, .. } => {
                *kind == K::kind(&())
            }
        }
    }

    /// A word of a small set, for metrics.
    pub fn category(&self) -> &'static str {
        match self {
            Self::NotOurs { .. } => "not_ours",
            Self::Encode { .. } => "internal",
            Self::Request { source, .. } => category(source),
        }
    }
}

/// The category of what the client returned.
pub fn category(error: &kube::Error) -> &'static str {
    match code(error) {
        Some(401 | 403) => "forbidden",
        Some(404 | 410) => "not_found",
        Some(408 | 504) => "timeout",
        Some(409) => "conflict",
        Some(429) => "throttled",
        Some(400..=499) => "refused",
        Some(500..=599) => "server",
        _ => "connection",
    }
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

/// What the API server said, without the rest of the answer.
pub fn explain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}
