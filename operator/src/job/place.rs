//! A place of archives, as a pod sees it: the document's view, and the volumes and mounts that it needs.
//!
//! In: a place of a spec. Out: [`Mounted`]. Secrets are mounted as files and optional: a missing one is the failure of
//! its destination, which the job explains, and not of the whole pod.

use k8s_openapi::api::core::v1::{
    KeyToPath, PersistentVolumeClaimVolumeSource, SecretVolumeSource, Volume, VolumeMount,
};
use stockpredictor_api::{ArchiveRetention, Place, SecretKeyReference};

use super::document;

/// The folder of the archives on the predictor's volume.
pub const BACKUPS: &str = "backups";
/// Where claims of destinations are mounted.
const CLAIMS: &str = "/destinations";
/// Where secrets of destinations are mounted.
const SECRETS: &str = "/etc/stockpredictor/destinations";
/// Where the identity is mounted.
const IDENTITY: &str = "/etc/stockpredictor/identity";

/// Volumes and where they are mounted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mounts {
    /// For the pod.
    pub volumes: Vec<Volume>,
    /// For the container.
    pub mounts: Vec<VolumeMount>,
}

impl Mounts {
    /// Adds others.
    pub fn extend(&mut self, other: Self) {
        self.volumes.extend(other.volumes);
        self.mounts.extend(other.mounts);
    }

    fn secret(&mut self, name: String, secret: &str, items: Option<Vec<KeyToPath>>, path: &str) {
        self.volumes.push(Volume {
            name: name.clone(),
            secret: Some(SecretVolumeSource {
                secret_name: Some(secret.to_owned()),
                items,
                optional: Some(true),
                // The group reads, and nobody else.
                default_mode: Some(0o440),
            }),
            ..Volume::default()
        });
        self.mounts.push(VolumeMount {
            name,
            mount_path: path.to_owned(),
            read_only: Some(true),
            ..VolumeMount::default()
        });
    }
}

/// A place in a pod.
#[derive(Clone, Debug, PartialEq)]
pub struct Mounted {
    /// For the job's document.
    pub place: document::Place,
    /// What the pod needs for it.
    pub mounts: Mounts,
    /// Whether it lies on the predictor's own volume, which then has to be mounted.
    pub on_volume: bool,
}

/// The place `name`. One that names nothing is the volume: the schema rules it out.
pub fn mount(
    name: &str,
    place: &Place,
    retention: Option<&ArchiveRetention>,
    read_only: bool,
) -> Mounted {
    let mut mounts = Mounts::default();
    let mut entry = document::Place {
        name: name.to_owned(),
        retention: retention.map(document::Retention::from),
        ..document::Place::default()
    };
    if let Some(claim) = &place.claim {
        let volume = format!("claim-{name}");
        let at = format!("{CLAIMS}/{name}");
        mounts.volumes.push(Volume {
            name: volume.clone(),
            persistent_volume_claim: Some(PersistentVolumeClaimVolumeSource {
                claim_name: claim.name.clone(),
                read_only: None,
            }),
            ..Volume::default()
        });
        mounts.mounts.push(VolumeMount {
            name: volume,
            mount_path: at.clone(),
            read_only: read_only.then_some(true),
            ..VolumeMount::default()
        });
        entry.path = Some(match &claim.path {
            Some(path) => format!("{at}/{path}"),
            None => at,
        });
    } else if let Some(store) = &place.object_store {
        entry.url = Some(store.url.clone());
        entry.endpoint.clone_from(&store.endpoint);
        if let Some(secret) = &store.credentials_secret {
            let at = format!("{SECRETS}/{name}/credentials");
            mounts.secret(format!("credentials-{name}"), &secret.name, None, &at);
            entry.credentials = Some(at);
        }
        if let Some(secret) = &store.ca_secret {
            let at = format!("{SECRETS}/{name}/ca");
            mounts.secret(format!("ca-{name}"), &secret.name, Some(only(secret)), &at);
            entry.ca = Some(format!("{at}/{}", secret.key));
        }
    } else {
        entry.path = Some(BACKUPS.to_owned());
    }
    Mounted {
        on_volume: place.claim.is_none() && place.object_store.is_none(),
        place: entry,
        mounts,
    }
}

/// The file with an age identity, and what the pod needs for it.
pub fn mount_identity(secret: &SecretKeyReference) -> (String, Mounts) {
    let mut mounts = Mounts::default();
    mounts.secret(
        "identity".into(),
        &secret.name,
        Some(only(secret)),
        IDENTITY,
    );
    (format!("{IDENTITY}/{}", secret.key), mounts)
}

fn only(secret: &SecretKeyReference) -> Vec<KeyToPath> {
    vec![KeyToPath {
        key: secret.key.clone(),
        path: secret.key.clone(),
        mode: None,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn mounted(place: &Value) -> Mounted {
        let place = serde_json::from_value(place.clone()).unwrap();
        mount("here", &place, None, false)
    }

    #[test]
    fn the_volumes_own_folder_needs_nothing_of_its_own() {
        let mounted = mounted(&json!({"volume": {}}));
        assert!(mounted.on_volume && mounted.mounts == Mounts::default());
        assert_eq!(mounted.place.path.as_deref(), Some("backups"));
    }

    #[test]
    fn a_claim_is_mounted_whole_and_its_folder_is_the_jobs_matter() {
        let mounted = mounted(&json!({"claim": {"name": "nas", "path": "a/b"}}));
        assert!(!mounted.on_volume);
        assert_eq!(
            mounted.place.path.as_deref(),
            Some("/destinations/here/a/b")
        );
        assert_eq!(
            json!(mounted.mounts.mounts),
            json!([{"name": "claim-here", "mountPath": "/destinations/here"}])
        );
    }

    #[test]
    fn secrets_are_files_that_may_be_missing_and_never_in_the_document() {
        let store = json!({
            "url": "s3://bucket/x", "endpoint": "https://e:9000",
            "credentialsSecret": {"name": "keys"}, "caSecret": {"name": "ca", "key": "ca.crt"},
        });
        let mounted = mounted(&json!({"objectStore": store}));
        assert_eq!(
            serde_json::to_value(&mounted.place).unwrap(),
            json!({
                "name": "here", "url": "s3://bucket/x", "endpoint": "https://e:9000",
                "credentials": "/etc/stockpredictor/destinations/here/credentials",
                "ca": "/etc/stockpredictor/destinations/here/ca/ca.crt",
            })
        );
        for volume in &mounted.mounts.volumes {
            assert_eq!(volume.secret.as_ref().unwrap().optional, Some(true));
        }
        assert!(
            mounted
                .mounts
                .mounts
                .iter()
                .all(|mount| mount.read_only == Some(true))
        );
    }
}
