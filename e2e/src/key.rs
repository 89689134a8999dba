//! A key pair of a test, and the Secret with its private half.

use age::secrecy::ExposeSecret;
use age::x25519::Identity;
use anyhow::Result;
use serde_json::{Value, json};

use crate::Sandbox;

/// A recipient whose identity lies in a Secret.
pub struct Key {
    /// For `encryption.recipients`.
    pub recipient: String,
    name: String,
}

impl Key {
    /// Makes a pair, and the Secret `name` in the sandbox's namespace.
    pub async fn create(sandbox: &Sandbox, name: &str) -> Result<Self> {
        let identity = Identity::generate();
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": name},
            "stringData": {"identity.txt": identity.to_string().expose_secret()},
        });
        sandbox.apply(&secret.to_string()).await?;
        Ok(Self {
            recipient: identity.to_public().to_string(),
            name: name.to_owned(),
        })
    }

    /// For `identitySecret`.
    pub fn secret(&self) -> Value {
        json!({"name": self.name, "key": "identity.txt"})
    }
}
