//! What the predictor says about itself: `GET /api/v1/stats`, as `contracts/stats.json` has it.
//!
//! In: addresses of pods. Out: parsed answers. Every member is optional, and unknown ones are ignored: an
//! older or newer predictor must not break the operator. A member that is not what it should be counts as absent, and names
//! are cut, so that no answer can spoil the rest or the status. Nothing here decides what an answer means.

use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::http_client;

/// The whole request to one pod, connecting included.
pub const LIMIT: Duration = Duration::from_secs(2);
/// Larger answers are refused; 500 symbols need about 100 KiB.
const MAX_BODY: usize = 1024 * 1024;
/// Longest name, version, state or type, in characters. Messages are quoted by those who use them.
const MAX_WORD: usize = 128;
/// The predictor's port.
pub const PORT: u16 = 8080;

/// The answer.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Stats {
    /// What is wrong, in the predictor's own words.
    #[serde(deserialize_with = "each")]
    pub problems: Vec<Problem>,
    /// The model.
    #[serde(deserialize_with = "lenient")]
    pub model: Model,
    /// The volume.
    #[serde(deserialize_with = "lenient")]
    pub volume: Volume,
    /// Each symbol.
    #[serde(deserialize_with = "each")]
    pub symbols: Vec<Symbol>,
}

/// Something that is wrong.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Problem {
    /// A stable name, such as `VolumeFull`.
    #[serde(rename = "type", deserialize_with = "word")]
    pub kind: String,
    /// What it is and what to do.
    #[serde(deserialize_with = "lenient")]
    pub message: String,
}

/// The model that answers.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Model {
    /// `Loading`, `Loaded`, `ModelMissing` or `ModelRefused`.
    #[serde(deserialize_with = "some_word")]
    pub state: Option<String>,
    /// Its name.
    #[serde(deserialize_with = "some_word")]
    pub name: Option<String>,
    /// Its version.
    #[serde(deserialize_with = "some_word")]
    pub version: Option<String>,
    /// SHA-256 of its network.
    #[serde(deserialize_with = "some_word")]
    pub sha256: Option<String>,
    /// What is wrong with it.
    #[serde(deserialize_with = "lenient")]
    pub message: Option<String>,
    /// A newer version that failed its checks.
    #[serde(deserialize_with = "lenient")]
    pub candidate: Option<Candidate>,
}

/// A model version that failed its checks.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Candidate {
    /// Its version.
    #[serde(deserialize_with = "some_word")]
    pub version: Option<String>,
    /// What is wrong with it.
    #[serde(deserialize_with = "lenient")]
    pub message: Option<String>,
}

/// The volume as the predictor sees it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Volume {
    /// Its identity.
    #[serde(deserialize_with = "some_word")]
    pub id: Option<String>,
    /// Whether it can be written.
    #[serde(deserialize_with = "lenient")]
    pub writable: Option<bool>,
    /// Its size.
    #[serde(deserialize_with = "bytes")]
    pub capacity_bytes: Option<u64>,
    /// What is used.
    #[serde(deserialize_with = "bytes")]
    pub used_bytes: Option<u64>,
    /// Whether backups lie on it.
    #[serde(deserialize_with = "lenient")]
    pub holds_archives: Option<bool>,
}

/// One symbol.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Symbol {
    /// The ticker symbol.
    #[serde(deserialize_with = "word")]
    pub symbol: String,
    /// `Ready`, `NoHistory`, `BrokenHistory` or `ShortHistory`.
    #[serde(deserialize_with = "word")]
    pub state: String,
    /// What is wrong with its history.
    #[serde(deserialize_with = "lenient")]
    pub message: Option<String>,
}

/// A value, or the default of its type when it is something else.
fn lenient<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned + Default,
{
    let value = Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).unwrap_or_default())
}

/// A list, without those of its items that are something else.
fn each<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let items: Vec<Value> = lenient(deserializer)?;
    let read = items.into_iter().map(serde_json::from_value);
    Ok(read.filter_map(Result::ok).collect())
}

/// A short text.
fn word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(some_word(deserializer)?.unwrap_or_default())
}

/// A short text, or nothing.
fn some_word<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text: Option<String> = lenient(deserializer)?;
    Ok(text.map(|text| text.chars().take(MAX_WORD).collect()))
}

/// A number of bytes, however it is written; one below zero says nothing.
fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    let whole = value.as_f64().filter(|number| *number >= 0.0);
    Ok(value.as_u64().or(whole.map(|number| number as u64)))
}

/// Why a pod gave no stats.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer in time.
    #[error(
        "can't reach the predictor at {address}: {source}; may the operator's pod reach it (NetworkPolicy)?"
    )]
    Reach {
        /// The pod's address.
        address: String,
        /// What went wrong.
        source: reqwest::Error,
    },
    /// Not 200.
    #[error("the predictor at {address} answered {status} to a request for its stats")]
    Refused {
        /// The pod's address.
        address: String,
        /// The status code.
        status: u16,
    },
    /// Too large.
    #[error("the predictor at {address} answered more than {MAX_BODY} bytes of stats")]
    TooLarge {
        /// The pod's address.
        address: String,
    },
    /// Not what the contract says.
    #[error(
        "can't read the stats of the predictor at {address}: {source}; does its image belong to this operator's release?"
    )]
    Parse {
        /// The pod's address.
        address: String,
        /// What serde says.
        source: serde_json::Error,
    },
}

/// Asks predictors for their stats.
#[derive(Clone, Debug)]
pub struct Poller {
    client: reqwest::Client,
}

impl Poller {
    /// A poller with the limits of this module.
    ///
    /// # Errors
    /// When the HTTP client can't be made.
    pub fn new() -> Result<Self, reqwest::Error> {
        let client = http_client::builder()
            .timeout(LIMIT)
            .redirect(reqwest::redirect::Policy::none())
            // A pod's address is reused by others: no connection is kept.
            .pool_max_idle_per_host(0)
            .build()?;
        Ok(Self { client })
    }

    /// Asks the predictor at `address` (host and port).
    ///
    /// # Errors
    /// When there is no readable answer within [`LIMIT`].
    pub async fn ask(&self, address: &str) -> Result<Stats, Error> {
        let reach = |source| Error::Reach {
            address: address.to_owned(),
            source,
        };
        let mut response = self
            .client
            .get(format!("http://{address}/api/v1/stats"))
            .send()
            .await
            .map_err(reach)?;
        if !response.status().is_success() {
            return Err(Error::Refused {
                address: address.to_owned(),
                status: response.status().as_u16(),
            });
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(reach)? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(Error::TooLarge {
                    address: address.to_owned(),
                });
            }
            body.extend_from_slice(&chunk);
        }
        serde_json::from_slice(&body).map_err(|source| Error::Parse {
            address: address.to_owned(),
            source,
        })
    }
}

/// The address of a pod as part of a URL: IPv6 needs brackets.
pub fn address(ip: &str) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{PORT}")
    } else {
        format!("{ip}:{PORT}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use wiremock::{Mock, MockServer, ResponseTemplate, matchers::path};

    const CONTRACT: &str = include_str!("../../../contracts/stats.json");

    async fn answer(template: ResponseTemplate) -> Result<Stats, Error> {
        let server = MockServer::start().await;
        Mock::given(path("/api/v1/stats"))
            .respond_with(template)
            .mount(&server)
            .await;
        Poller::new()
            .unwrap()
            .ask(&server.address().to_string())
            .await
    }

    #[tokio::test]
    async fn the_contract_is_understood() {
        let stats = answer(ResponseTemplate::new(200).set_body_string(CONTRACT))
            .await
            .unwrap();
        assert_eq!(stats.model.state.as_deref(), Some("Loaded"));
        assert_eq!(
            stats.model.candidate.unwrap().version.as_deref(),
            Some("2024-03-28")
        );
        assert_eq!(stats.problems[0].kind, "VolumeFull");
        assert_eq!(
            (stats.volume.used_bytes, stats.volume.writable),
            (Some(10_737_418_240), Some(false))
        );
        assert_eq!(
            stats
                .symbols
                .iter()
                .map(|s| s.state.as_str())
                .collect::<Vec<_>>(),
            ["Ready", "NoHistory"]
        );
    }

    #[tokio::test]
    async fn an_answer_of_another_release_is_understood_in_part() {
        let stats =
            answer(ResponseTemplate::new(200).set_body_string(r#"{"version": 9, "new": [1]}"#))
                .await
                .unwrap();
        assert_eq!(stats, Stats::default());
    }

    #[test]
    fn what_is_not_as_it_should_be_spoils_nothing_else() {
        let odd = r#"{
            "problems": null, "model": {"state": "Loaded", "name": 7, "candidate": null, "sha256": null},
            "volume": {"id": "v", "writable": "yes", "capacity_bytes": -1, "used_bytes": 1.5e3},
            "symbols": [{"symbol": "NVDA", "state": "Ready", "message": null}, 7, {"symbol": null}]
        }"#;
        let stats: Stats = serde_json::from_str(odd).unwrap();
        assert_eq!(stats.problems, []);
        assert_eq!(
            (stats.model.state.as_deref(), stats.model.name),
            (Some("Loaded"), None)
        );
        let volume = stats.volume;
        assert_eq!((volume.id.as_deref(), volume.writable), (Some("v"), None));
        assert_eq!(
            (volume.capacity_bytes, volume.used_bytes),
            (None, Some(1500))
        );
        let names: Vec<_> = stats.symbols.iter().map(|s| s.symbol.as_str()).collect();
        assert_eq!(names, ["NVDA", ""]);
        let nothing = r#"{"problems": {}, "model": null, "volume": [], "symbols": "none"}"#;
        let stats: Stats = serde_json::from_str(nothing).unwrap();
        assert_eq!(stats, Stats::default());
    }

    #[tokio::test]
    async fn a_slow_predictor_is_given_up() {
        let began = std::time::Instant::now();
        let slow = ResponseTemplate::new(200)
            .set_body_string("{}")
            .set_delay(LIMIT * 3);
        assert!(matches!(answer(slow).await, Err(Error::Reach { .. })));
        assert!(began.elapsed() < LIMIT * 2);
    }

    #[tokio::test]
    async fn what_is_no_answer_is_an_error() {
        let large = ResponseTemplate::new(200).set_body_bytes(vec![b' '; MAX_BODY + 1]);
        assert!(matches!(answer(large).await, Err(Error::TooLarge { .. })));
        assert!(matches!(
            answer(ResponseTemplate::new(500)).await,
            Err(Error::Refused { status: 500, .. })
        ));
        assert!(matches!(
            answer(ResponseTemplate::new(200).set_body_string("<html>")).await,
            Err(Error::Parse { .. })
        ));
    }

    #[test]
    fn an_ipv6_address_gets_brackets() {
        assert_eq!(address("fd00::1"), "[fd00::1]:8080");
        assert_eq!(address("10.0.0.1"), "10.0.0.1:8080");
    }
}
