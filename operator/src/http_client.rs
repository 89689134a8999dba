//! HTTP clients for what isn't the API server: the predictor's stats, and probes.
//!
//! In comes nothing, out goes a builder. No proxy: everything asked for is in the cluster or on this machine.

/// A client to be finished by the caller.
pub fn builder() -> reqwest::ClientBuilder {
    // reqwest wants a process-wide choice of cryptography even for plain HTTP; it is the one that kube brings. An error
    // means that the choice was made before.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy()
}
