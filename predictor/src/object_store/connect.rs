//! From a URL and credentials to a client.
//!
//! In come `s3://BUCKET/PREFIX`, variables such as `AWS_ACCESS_KEY_ID` (from the environment or a file) and a CA
//! bundle; out comes a client with time-outs and retries. No credentials get into the label or a message.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as Key;
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};
use url::Url;

use super::Clients;

/// How long a connection may take to be made.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);
/// How long the other side may be silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);
/// How long one request may take: 8 MiB within it are 28 kB/s.
const REQUEST_LIMIT: Duration = Duration::from_mins(5);
/// How often a request is tried again, and for how long.
const RETRIES: usize = 4;
const RETRY_LIMIT: Duration = Duration::from_mins(2);
/// Longest file of credentials or certificates, in bytes.
const MAX_FILE: u64 = 1 << 20;
/// Variables that concern object stores begin so.
const VARIABLES: [&str; 3] = ["AWS_", "GOOGLE_", "AZURE_"];

/// How to reach a store.
#[derive(Clone, Default)]
pub struct Options {
    /// Variables such as `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`.
    pub variables: BTreeMap<String, String>,
    /// A folder of such variables, each a file, or a file of `NAME=VALUE` lines, or one in the form of `~/.aws/credentials`
    /// (its first section). It wins over `variables`.
    pub credentials_file: Option<PathBuf>,
    /// The only certificates to trust, in PEM; the system's if there is none.
    pub ca_bundle: Option<PathBuf>,
    /// Where the store listens, if it isn't the provider's own; wins over the variables.
    pub endpoint: Option<String>,
    /// Namespace of the predictor; with `predictor` the keys lie below `<namespace>/<predictor>/`.
    pub namespace: String,
    /// Name of the predictor; empty outside Kubernetes.
    pub predictor: String,
}

/// Why a store can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URL isn't understood.
    #[error(
        "{url} is no destination: {reason}: write s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX"
    )]
    Url {
        /// The URL without credentials.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// A file can't be read.
    #[error("{path}: {reason}")]
    File {
        /// The file.
        path: String,
        /// What is wrong, with the fix.
        reason: String,
    },
    /// The client refuses the settings.
    #[error("{url}: {source}: check the store's variables (AWS_…) and its endpoint")]
    Settings {
        /// The URL without credentials.
        url: String,
        /// What the client said.
        source: object_store::Error,
    },
    /// The system gives no threads.
    #[error("no threads for requests: {0}: raise the limit of processes")]
    Runtime(#[source] io::Error),
}

impl Options {
    /// The environment's variables, `AWS_CA_BUNDLE` among them.
    pub fn from_environment() -> Self {
        let variables: BTreeMap<_, _> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .filter(|(name, value)| {
                !value.is_empty() && VARIABLES.iter().any(|start| name.starts_with(start))
            })
            .collect();
        Self {
            ca_bundle: variables.get("AWS_CA_BUNDLE").map(PathBuf::from),
            variables,
            ..Self::default()
        }
    }

    /// All variables by their names in lower case.
    fn settings(&self) -> Result<BTreeMap<String, String>, ConnectError> {
        let mut settings: BTreeMap<_, _> = self
            .variables
            .iter()
            .map(|(name, value)| (name.to_ascii_lowercase(), value.clone()))
            .collect();
        if let Some(folder) = self.credentials_file.as_ref().filter(|path| path.is_dir()) {
            settings.extend(read_folder(folder)?);
        } else if let Some(path) = &self.credentials_file {
            settings.extend(
                parse_file(&read_file(path)?).map_err(|line| ConnectError::File {
                    path: path.display().to_string(),
                    reason: format!("line {line} isn't NAME=VALUE"),
                })?,
            );
        }
        if let Some(endpoint) = &self.endpoint {
            settings.insert("aws_endpoint_url".to_owned(), endpoint.clone());
            settings.remove("aws_endpoint_url_s3");
        }
        Ok(settings)
    }
}

/// The label, the prefix of all keys, and the client.
pub fn clients(url: &str, options: &Options) -> Result<(String, Key, Clients), ConnectError> {
    let (parsed, label) = parse_url(url)?;
    let prefix = prefix(&parsed, options).map_err(|reason| ConnectError::Url {
        url: label.clone(),
        reason,
    })?;
    let label = match (options.namespace.as_str(), options.predictor.as_str()) {
        ("", "") => label,
        (namespace, predictor) => format!("{label}/{namespace}/{predictor}"),
    };
    // Which cryptography TLS uses is the program's choice, made once; whoever was first chose the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let settings = options.settings()?;
    let client = client_options(&settings, options.ca_bundle.as_deref())?;
    let clients = build(&parsed, &settings, client).map_err(|source| ConnectError::Settings {
        url: label.clone(),
        source,
    })?;
    Ok((label, prefix, clients))
}

fn build(
    url: &Url,
    settings: &BTreeMap<String, String>,
    client: ClientOptions,
) -> object_store::Result<Clients> {
    // The URL's path is ours; the client needs the bucket alone.
    let bucket = &url[..url::Position::BeforePath];
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(200),
            max_backoff: Duration::from_secs(5),
            base: 2.0,
        },
        max_retries: RETRIES,
        retry_timeout: RETRY_LIMIT,
    };
    match url.scheme() {
        "gs" => {
            let builder = GoogleCloudStorageBuilder::new()
                .with_url(bucket)
                .with_retry(retry)
                .with_client_options(client);
            let with = |builder: GoogleCloudStorageBuilder, key: GoogleConfigKey, value| {
                builder.with_config(key, value)
            };
            Ok(seen(
                configured(builder, settings, "google_", with).build()?,
            ))
        }
        "az" => {
            let builder = MicrosoftAzureBuilder::new()
                .with_url(bucket)
                .with_retry(retry)
                .with_client_options(client);
            let with = |builder: MicrosoftAzureBuilder, key: AzureConfigKey, value| {
                builder.with_config(key, value)
            };
            Ok(seen(configured(builder, settings, "azure_", with).build()?))
        }
        _ => {
            let builder = AmazonS3Builder::new()
                .with_url(bucket)
                .with_retry(retry)
                .with_checksum_algorithm(Checksum::SHA256)
                .with_client_options(client);
            let with = |builder: AmazonS3Builder, key: AmazonS3ConfigKey, value| {
                builder.with_config(key, value)
            };
            Ok(seen(configured(builder, settings, "aws_", with).build()?))
        }
    }
}

/// Applies the variables that the builder knows.
fn configured<Builder, Name: FromStr>(
    builder: Builder,
    settings: &BTreeMap<String, String>,
    start: &str,
    with: impl Fn(Builder, Name, String) -> Builder,
) -> Builder {
    settings
        .iter()
        .filter(|(name, _)| name.starts_with(start))
        .filter_map(|(name, value)| Some((name.parse().ok()?, value.clone())))
        .fold(builder, |builder, (name, value)| with(builder, name, value))
}

fn seen<Client>(client: Client) -> Clients
where
    Client: object_store::ObjectStore
        + object_store::multipart::MultipartStore
        + object_store::list::PaginatedListStore,
{
    let client = Arc::new(client);
    Clients {
        objects: Arc::<Client>::clone(&client),
        parts: Arc::<Client>::clone(&client),
        pages: client,
    }
}

fn client_options(
    settings: &BTreeMap<String, String>,
    ca_bundle: Option<&Path>,
) -> Result<ClientOptions, ConnectError> {
    let mut client = ClientOptions::new()
        .with_connect_timeout(CONNECT_LIMIT)
        .with_read_timeout(SILENCE_LIMIT)
        .with_timeout(REQUEST_LIMIT);
    let is_plain = ["aws_endpoint_url_s3", "aws_endpoint_url", "aws_endpoint"]
        .iter()
        .find_map(|name| settings.get(*name))
        .is_some_and(|endpoint| endpoint.starts_with("http://"));
    if is_plain {
        // Whoever writes http:// wants it; then no certificate is needed, not even the system's.
        client = client
            .with_allow_http(true)
            .with_no_system_certificates(true);
    }
    if let Some(path) = ca_bundle {
        let refused = |reason: &str| ConnectError::File {
            path: path.display().to_string(),
            reason: reason.to_owned(),
        };
        let certificates = Certificate::from_pem_bundle(read_file(path)?.as_bytes())
            .map_err(|_| refused("it holds no certificates in PEM form"))?;
        if certificates.is_empty() {
            return Err(refused("it holds no certificates in PEM form"));
        }
        client = certificates
            .into_iter()
            .fold(client.with_no_system_certificates(true), |client, one| {
                client.with_root_certificate(one)
            });
    }
    Ok(client)
}

/// The URL and its form without credentials.
fn parse_url(text: &str) -> Result<(Url, String), ConnectError> {
    // What isn't understood may have a password anywhere; only its scheme is repeated.
    let scheme = text
        .split_once("://")
        .map_or("the text", |(scheme, _)| scheme);
    let refused = |reason: &str| ConnectError::Url {
        url: format!("{}://…", scheme.chars().take(20).collect::<String>()),
        reason: reason.to_owned(),
    };
    let url = Url::parse(text).map_err(|_| refused("it is no URL"))?;
    if !["s3", "gs", "az"].contains(&url.scheme()) {
        return Err(refused("no store is known for it"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refused(
            "credentials belong into variables or a file, because URLs are shown",
        ));
    }
    if url.query().is_some() || url.fragment().is_some() || url.port().is_some() {
        return Err(refused("a bucket and a prefix are all that it may have"));
    }
    let Some(bucket) = url.host_str().filter(|bucket| !bucket.is_empty()) else {
        return Err(refused("it names no bucket"));
    };
    let path = url.path().trim_matches('/');
    let label = match path {
        "" => format!("{}://{bucket}", url.scheme()),
        path => format!("{}://{bucket}/{path}", url.scheme()),
    };
    Ok((url, label))
}

fn prefix(url: &Url, options: &Options) -> Result<Key, String> {
    let below = [&options.namespace, &options.predictor];
    if options.namespace.is_empty() != options.predictor.is_empty() {
        return Err("a namespace and a predictor belong together".to_owned());
    }
    if below.iter().any(|part| part.contains('/')) {
        return Err("a namespace or predictor has no slash".to_owned());
    }
    let start = Key::from_url_path(url.path().trim_matches('/'))
        .map_err(|_| "its prefix has empty or relative parts".to_owned())?;
    let parts = below.iter().filter(|part| !part.is_empty());
    Ok(parts.fold(start, |key, part| key.join(part.as_str())))
}

fn read_file(path: &Path) -> Result<String, ConnectError> {
    let read = || -> io::Result<String> {
        let mut text = String::new();
        File::open(path)?.take(MAX_FILE).read_to_string(&mut text)?;
        Ok(text)
    };
    read().map_err(|error| ConnectError::File {
        path: path.display().to_string(),
        reason: format!("{error}: give a file that user 1001 can read"),
    })
}

/// A mounted Secret: each file's name is a variable, its content the value. Kubelet's own links begin with dots.
fn read_folder(folder: &Path) -> Result<BTreeMap<String, String>, ConnectError> {
    let refused = |reason: String| ConnectError::File {
        path: folder.display().to_string(),
        reason,
    };
    let entries = std::fs::read_dir(folder).map_err(|error| refused(error.to_string()))?;
    let mut settings = BTreeMap::new();
    for entry in entries {
        let path = entry.map_err(|error| refused(error.to_string()))?.path();
        let name = path.file_name().and_then(|name| name.to_str());
        let Some(name) = name.filter(|name| VARIABLES.iter().any(|start| name.starts_with(start)))
        else {
            continue;
        };
        let value = read_file(&path)?;
        settings.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    if settings.is_empty() {
        return Err(refused(
            "no file in it is called as a variable: the Secret needs keys such as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
                .to_owned(),
        ));
    }
    Ok(settings)
}

/// `NAME=VALUE` lines, also with sections, spaces and comments; the number of a line that is none of these.
fn parse_file(text: &str) -> Result<BTreeMap<String, String>, usize> {
    let mut settings = BTreeMap::new();
    let mut sections = 0;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.starts_with('[') && line.ends_with(']') {
            sections += 1;
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or(index + 1)?;
        if sections <= 1 {
            let value = value.trim().trim_matches('"');
            settings.insert(name.trim().to_ascii_lowercase(), value.to_owned());
        }
    }
    Ok(settings)
}

#[cfg(test)]
mod tests;
