//! Labels of the metrics. None takes unbounded values.
//!
//! In come values of the settings, the router and the model; out come label sets.

use prometheus_client::encoding::EncodeLabelSet;

/// A request's labels: a route of the router, and a class as in `5xx`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Request {
    pub route: String,
    pub status: String,
}

/// A route of the router.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Route {
    pub route: String,
}

/// A symbol of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Symbol {
    pub symbol: String,
}

/// A symbol of the settings, and what forecast its price.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Forecast {
    pub symbol: String,
    pub forecast: &'static str,
}

/// The model in use.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Model {
    pub name: String,
    pub version: String,
    pub sha256: String,
}

/// How a cleanup went.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Outcome {
    pub result: &'static str,
}

/// A directory of the guide.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Directory {
    pub directory: &'static str,
}

/// The program's release.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Release {
    pub version: &'static str,
}

/// The volume.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Volume {
    pub volume_id: String,
}
