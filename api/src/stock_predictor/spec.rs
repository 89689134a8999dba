//! `spec`: what users ask for, and the root type that kube derives from it.
//!
//! In: nothing. Out: types and rules. Settings of the predictor itself (`model`, `cache`, `retention`) carry no schema
//! default, so that a default never beats a file on the volume.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Affinity, EnvVar, ResourceRequirements, Toleration};
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::status::StockPredictorStatus;
use super::storage::StorageSpec;
use crate::rule;

/// What users ask for.
#[derive(Clone, Debug, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "stockpredictor.io",
    version = "v1alpha1",
    kind = "StockPredictor",
    plural = "stockpredictors",
    shortname = "sp",
    category = "stockpredictor",
    namespaced,
    status = "StockPredictorStatus",
    derive = "PartialEq",
    // Whoever installed the definition: no Helm release may take it away, and every object of its kind with it.
    annotation("helm.sh/resource-policy", "keep"),
    doc = "A service that forecasts the next session of some stocks with an LSTM, and the volume that keeps its models, price history, caches and predictions.",
    scale(
        spec_replicas_path = ".spec.replicas",
        status_replicas_path = ".status.replicas",
        label_selector_path = ".status.selector"
    ),
    validation = Rule::new(format!("self.metadata.name.matches('{}')", rule::NAME))
        .message("metadata.name must have at most 40 lower-case letters, digits and '-', begin with a letter and end with a letter or digit: the names of the Service and the claim begin with it"),
    printcolumn(name = "Ready", type_ = "string", description = "Whether predictions are served as asked for", json_path = ".status.conditions[?(@.type==\"Ready\")].status"),
    printcolumn(name = "Reason", type_ = "string", description = "Why it is ready or not, in one word", json_path = ".status.conditions[?(@.type==\"Ready\")].reason"),
    printcolumn(name = "Symbols", type_ = "string", description = "The stocks that are forecast", json_path = ".status.symbols"),
    printcolumn(name = "Model", type_ = "string", description = "Name and version of the model that answers now", json_path = ".status.model.folder"),
    printcolumn(name = "Volume", type_ = "string", description = "Phase of the claim", json_path = ".status.volume.phase"),
    printcolumn(name = "Used", type_ = "string", description = "What is used of the volume", json_path = ".status.volume.usage"),
    printcolumn(name = "Since", type_ = "date", description = "How long Ready has had its value", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].lastTransitionTime"),
    printcolumn(name = "Replicas", type_ = "integer", description = "Number of pods that are ready", priority = 1, json_path = ".status.readyReplicas"),
    printcolumn(name = "Capacity", type_ = "string", description = "Capacity of the claim", priority = 1, json_path = ".status.volume.capacity"),
    printcolumn(name = "Message", type_ = "string", description = "Why it is ready or not, and what to do", priority = 1, json_path = ".status.conditions[?(@.type==\"Ready\")].message"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("self.replicas <= 1 || self.storage.accessMode == 'ReadWriteMany'")
        .field_path(".replicas")
        .message("more than one replica needs a volume that many nodes can write: set storage.accessMode to ReadWriteMany, or replicas to 1"),
)]
pub struct StockPredictorSpec {
    /// The ticker symbols to forecast, 1 to 500, each once, such as `NVDA`. Each needs price history on the volume,
    /// under `stock_data/historical/<SYMBOL>/`.
    #[schemars(schema_with = "symbols_schema")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub symbols: Vec<String>,

    /// Number of pods, 0 to 50; more than one only with `ReadWriteMany`. 0 has the same effect as `suspend`. This is
    /// the field that `kubectl scale` and autoscalers set. Default: 1.
    #[serde(default = "one")]
    #[schemars(range(min = 0, max = 50))]
    pub replicas: i32,

    /// Image of the predictor. Absent or empty: the one of the operator's own release, so that an upgrade of the operator
    /// also rolls this predictor; a pinned image is never changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1024))]
    #[x_kube(validation = rule::matches("^[!-~]*$", "write an image reference without spaces, such as registry.example.com/predictor:1.0.0"))]
    pub image: Option<String>,

    /// When the node pulls the image.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_pull_policy: Option<ImagePullPolicy>,

    /// Secrets of this namespace with credentials for the image's registry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    pub image_pull_secrets: Vec<ImagePullSecret>,

    /// Where the predictor keeps its data.
    pub storage: StorageSpec,

    /// Which model answers. Absent: what the files on the volume say, else `nvda_lstm_model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<ModelSpec>,

    /// How long results are kept and reused. Absent members: what the files on the volume say, else the built-in values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheSpec>,

    /// After how long the cleanup removes files. Absent members: what the files on the volume say, else the built-in
    /// values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention: Option<RetentionSpec>,

    /// Whether to put sample price history on the volume when it is new, for examples and trials. A volume that has data
    /// is never touched. Default: false.
    #[serde(default)]
    pub samples: bool,

    /// Environment variables of the predictor, at most 64. They win over every other setting except the
    /// operator's own flags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64))]
    #[x_kube(merge_strategy = ListMerge::Map(vec!["name".into()]))]
    #[x_kube(validation = rule::variables()[0].clone())]
    #[x_kube(validation = rule::variables()[1].clone())]
    pub env: Vec<EnvVar>,

    /// CPU and memory of the predictor. The CPU limit also sets how many predictions are computed at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resources: Option<ResourceRequirements>,

    /// Labels that a node must have to run the predictor.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    pub node_selector: BTreeMap<String, String>,

    /// Taints of nodes that the predictor tolerates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 32))]
    pub tolerations: Vec<Toleration>,

    /// Rules on which nodes and beside which pods the predictor runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub affinity: Option<Affinity>,

    /// Further annotations of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = rule::no_reserved_keys())]
    pub pod_annotations: BTreeMap<String, String>,

    /// Further labels of the pods.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(extend("maxProperties" = 32))]
    #[x_kube(validation = rule::no_reserved_keys())]
    pub pod_labels: BTreeMap<String, String>,

    /// Names of further namespaces whose pods may reach the predictor on port 8080. Its own namespace, the operator and
    /// the namespaces that the chart names always may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "namespaces_schema")]
    #[x_kube(merge_strategy = ListMerge::Set)]
    pub allow_from: Vec<String>,

    /// Whether the predictor is stopped: no pod runs, and the volume with all data stays. Default: false.
    #[serde(default)]
    pub suspend: bool,
}

/// When the node pulls the image. Default: `IfNotPresent` for an image that `spec.image` names, and the operator's own
/// setting for the operator's image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ImagePullPolicy {
    /// At every start.
    Always,
    /// When the node does not have it.
    IfNotPresent,
    /// Not at all: the node must have it.
    Never,
}

impl ImagePullPolicy {
    /// The name that a container uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// A secret of the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ImagePullSecret {
    /// Name of the secret.
    #[schemars(length(min = 1, max = 253))]
    #[x_kube(validation = rule::matches(rule::SUBDOMAIN, "use the name of a secret as `kubectl get secrets` prints it"))]
    pub name: String,
}

/// Which model answers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct ModelSpec {
    /// Name of the model: a folder below `ml_models/` on the volume. Absent: what the files on the volume say, else
    /// `nvda_lstm_model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rule::segment())]
    pub name: Option<String>,

    /// A version to pin: a folder below the model's. Absent: the one that the file `current` in the model's folder names,
    /// so that a new version on the volume is taken up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 63))]
    #[x_kube(validation = rule::segment())]
    pub version: Option<String>,
}

/// How long results are kept and reused.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct CacheSpec {
    /// How long a prediction is reused, such as `30m`. Built-in: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub prediction_ttl: Option<String>,

    /// How long fetched prices are reused. Built-in: `30m`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub stock_data_ttl: Option<String>,

    /// How long daily prices are reused. Built-in: `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub daily_ttl: Option<String>,

    /// How often the cleanup runs. Built-in: `6h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub cleanup_interval: Option<String>,

    /// How many predictions are cached, 1 to 1000000; the least recently used one goes first. Built-in: 1000.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub max_entries: Option<i32>,
}

/// After how long the cleanup removes files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionSpec {
    /// Age of cache files, such as `24h`. Built-in: `24h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub cache: Option<String>,

    /// Age of stored predictions. Built-in: `7d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub predictions: Option<String>,

    /// Age of log files. Built-in: `30d`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 16))]
    #[x_kube(validation = rule::duration())]
    pub logs: Option<String>,
}

fn one() -> i32 {
    1
}

/// The rule stands at the items, so that the answer names the symbol that is wrong.
fn symbols_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let rule = rule::matches(
        rule::SYMBOL,
        "write a symbol in upper case, with at most 10 letters, digits, '.' and '-', beginning with a letter, such as NVDA or BRK.B",
    );
    schemars::json_schema!({
        "type": "array", "minItems": 1, "maxItems": 500,
        "items": {"type": "string", "maxLength": 10, "x-kubernetes-validations": [rule]},
    })
}

fn namespaces_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    let rule = rule::matches(
        rule::NAMESPACE,
        "use the name of a namespace as `kubectl get namespaces` prints it",
    );
    schemars::json_schema!({
        "type": "array", "maxItems": 64,
        "items": {"type": "string", "maxLength": 63, "x-kubernetes-validations": [rule]},
    })
}
