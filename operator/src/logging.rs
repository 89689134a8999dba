//! Logs: one JSON document a line on standard output, each with the object that it is about.
//!
//! In: a filter such as `info,kube=debug`. Out: the process's subscriber. The fields `kind`, `namespace` and `object` (its name) come
//! from the span that the driver opens around each reconcile.

use tracing_subscriber::EnvFilter;

/// What can go wrong with the logs.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The filter isn't one.
    #[error(
        "can't read the log filter {filter:?}: {source}; use a level such as info, or info,kube=debug"
    )]
    ParseFilter {
        /// What was given.
        filter: String,
        /// What is wrong with it.
        source: tracing_subscriber::filter::ParseError,
    },
}

/// Installs the subscriber of the process. A second call changes nothing.
///
/// # Errors
/// When the filter can't be read.
pub fn init(filter: &str) -> Result<(), Error> {
    let filter = EnvFilter::builder()
        .parse(filter)
        .map_err(|source| Error::ParseFilter {
            filter: filter.to_owned(),
            source,
        })?;
    let subscriber = tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(std::io::stdout)
        .finish();
    // Tests may have installed one already.
    let _ = tracing::subscriber::set_global_default(subscriber);
    Ok(())
}
