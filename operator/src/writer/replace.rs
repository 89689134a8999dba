//! The way out when server-side apply can't repair a child: a replacement of the whole object.
//!
//! Apply adds what we want beside what others set. Where two fields exclude each other (`value` and `valueFrom`, the
//! strategy `Recreate` and `rollingUpdate`, two ports of one name) the sum is invalid and stays so, whatever is applied.
//!
//! In: the document to write, and the live object if there is one. Out: the object as the API server has it then; a
//! replaced one keeps its identity. Forbidden here: anything that would delete.

use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::{Map, Value, json};

use super::{Child, Error, FIELD_MANAGER, encode, kind, request};

/// What the API server gave to a Service. It can't change, so it is kept.
const ALLOCATED: [&str; 4] = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];

/// Creates the object, if there is none of its name.
///
/// # Errors
/// When the API server refuses it, or when somebody was faster (409).
pub(super) async fn create<K: Child>(
    api: &Api<K>,
    name: &str,
    document: &Value,
) -> Result<K, Error> {
    api.create(&as_ours(), &decode(document.clone())?)
        .await
        .map_err(|error| request::<K>("create", name, error))
}

/// Applies the document.
///
/// # Errors
/// When the API server refuses it or can't be reached.
pub(super) async fn apply<K: Child>(api: &Api<K>, name: &str, document: &Value) -> kube::Result<K> {
    let parameters = PatchParams::apply(FIELD_MANAGER).force();
    api.patch(name, &parameters, &Patch::Apply(document)).await
}

/// True when what would come out is no valid object.
pub(super) fn is_invalid(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 422)
}

/// Puts the document in the place of `live`, to which it could not be applied because of `refused`.
///
/// # Errors
/// With `refused`, when it is the document that is invalid, or when a field differs that can't change; otherwise when the
/// API server refuses or can't be reached, or `live` was changed in between (409).
pub(super) async fn replace<K: Child>(
    api: &Api<K>,
    name: &str,
    document: &Value,
    live: &K,
    refused: kube::Error,
) -> Result<K, Error> {
    let new = decode(replacement(document, &encode::<K, _>(live)?))?;
    match api.replace(name, &as_ours(), &new).await {
        Ok(_) => {}
        Err(error) if is_invalid(&error) => return Err(request::<K>("apply", name, refused)),
        Err(error) => return Err(request::<K>("replace", name, error)),
    }
    tracing::info!(child = kind::<K>(), child_name = name, because = %refused, "replaced");
    // From now on the fields belong to an apply again, so that the next one can drop them.
    let applied = apply(api, name, document)
        .await
        .map_err(|error| request::<K>("apply", name, error))?;
    let metadata = applied.meta();
    let Some(fields) = without_note(&encode::<K, _>(&applied)?) else {
        return Ok(applied);
    };
    let patch = json!({"metadata": {
        "uid": metadata.uid, "resourceVersion": metadata.resource_version, "managedFields": fields,
    }});
    let parameters = PatchParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PatchParams::default()
    };
    api.patch(name, &parameters, &Patch::Merge(&patch))
        .await
        .map_err(|error| request::<K>("apply", name, error))
}

fn as_ours() -> PostParams {
    PostParams {
        field_manager: Some(FIELD_MANAGER.into()),
        ..PostParams::default()
    }
}

fn decode<K: Child>(document: Value) -> Result<K, Error> {
    serde_json::from_value(document).map_err(|source| Error::Encode {
        kind: kind::<K>(),
        source,
    })
}

/// `document` in the place of `live`: the same object, with labels, annotations, finalizers and owners of others.
fn replacement(document: &Value, live: &Value) -> Value {
    let mut new = document.clone();
    let before = &live["metadata"];
    for key in ["uid", "resourceVersion", "finalizers"] {
        if !before[key].is_null() {
            new["metadata"][key] = before[key].clone();
        }
    }
    for key in ["labels", "annotations"] {
        let mut members = members(&before[key]);
        members.extend(self::members(&document["metadata"][key]));
        new["metadata"][key] = Value::Object(members);
    }
    let mut owners = items(&document["metadata"]["ownerReferences"]);
    let others = items(&before["ownerReferences"])
        .into_iter()
        .filter(|owner| {
            !owners.iter().any(|ours| ours["uid"] == owner["uid"]) && owner["controller"] != true
        });
    let others: Vec<_> = others.collect();
    owners.extend(others);
    if !owners.is_empty() {
        new["metadata"]["ownerReferences"] = Value::Array(owners);
    }
    for key in ALLOCATED {
        let allocated = &live["spec"][key];
        if !allocated.is_null() && allocated != "" && new["spec"].is_object() {
            new["spec"][key] = allocated.clone();
        }
    }
    new
}

/// The managed fields of `live` without what the replacement noted there; nothing when it noted nothing.
///
/// The API server notes a replacement beside our applies, as of another manager. With two notes of one field, the next
/// apply that doesn't name it any more would leave it where it is.
fn without_note(live: &Value) -> Option<Value> {
    let before = items(&live["metadata"]["managedFields"]);
    let ours = |entry: &Value| {
        entry["manager"] == FIELD_MANAGER
            && entry["operation"] == "Update"
            && entry["subresource"].as_str().is_none_or(str::is_empty)
    };
    let after: Vec<_> = before
        .iter()
        .filter(|entry| !ours(entry))
        .cloned()
        .collect();
    (after.len() < before.len()).then_some(Value::Array(after))
}

fn members(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap_or_default()
}

fn items(value: &Value) -> Vec<Value> {
    value.as_array().cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::super::{Owner, Writer};
    use super::*;
    use crate::mock::{refusal, server};
    use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim};

    const OWNER: Owner<'static> = Owner {
        namespace: "default",
        name: "nvda",
        uid: "1",
    };

    #[test]
    fn the_object_keeps_its_identity_and_what_others_attached_to_it() {
        let document = json!({
            "metadata": {"name": "nvda", "labels": {"app": "a"}, "annotations": {"hash": "2"},
                "ownerReferences": [{"uid": "1", "controller": true}]},
            "spec": {"ports": [{"port": 8080}]},
        });
        let live = json!({
            "metadata": {"name": "nvda", "uid": "u", "resourceVersion": "7", "finalizers": ["f"],
                "labels": {"app": "b", "team": "quant"}, "annotations": {"hash": "1", "revision": "3"},
                "ownerReferences": [{"uid": "1"}, {"uid": "2"}, {"uid": "3", "controller": true}]},
            "spec": {"ports": [{"port": 9090}], "clusterIP": "10.0.0.1", "externalName": "x", "ipFamilyPolicy": ""},
            "status": {"a": "b"},
        });
        let expected = json!({
            "metadata": {"name": "nvda", "uid": "u", "resourceVersion": "7", "finalizers": ["f"],
                "labels": {"app": "a", "team": "quant"}, "annotations": {"hash": "2", "revision": "3"},
                "ownerReferences": [{"uid": "1", "controller": true}, {"uid": "2"}]},
            "spec": {"ports": [{"port": 8080}], "clusterIP": "10.0.0.1"},
        });
        assert_eq!(replacement(&document, &live), expected);
    }

    #[test]
    fn only_the_note_of_the_replacement_goes() {
        let entry = |manager, operation| json!({"manager": manager, "operation": operation});
        let status =
            json!({"manager": FIELD_MANAGER, "operation": "Update", "subresource": "status"});
        let kept = [
            entry(FIELD_MANAGER, "Apply"),
            entry("kubectl", "Update"),
            status,
        ];
        let mut live = json!({"metadata": {"managedFields": kept}});
        assert_eq!(without_note(&live), None);
        let entries = live["metadata"]["managedFields"].as_array_mut().unwrap();
        entries.push(entry(FIELD_MANAGER, "Update"));
        assert_eq!(without_note(&live), Some(json!(kept)));
    }

    #[tokio::test]
    async fn a_claim_that_somebody_made_in_this_moment_is_not_taken_over() {
        let (client, log) = server(|asked| {
            Some(match asked.method.as_str() {
                "GET" => refusal(404, "not found"),
                "POST" => refusal(409, "already exists"),
                _ => (200, asked.body.clone()),
            })
        });
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"name": "nvda"}})).unwrap();
        let error = Writer::new(client)
            .apply(OWNER, &claim, None)
            .await
            .unwrap_err();
        assert_eq!((error.category(), error.refused()), ("conflict", false));
        assert_eq!(log.writes(), ["POST persistentvolumeclaims"]);
    }

    #[tokio::test]
    async fn an_invalid_document_is_refused_in_the_words_of_the_apply() {
        let live = json!({"metadata": {"name": "nvda", "ownerReferences": [
            {"apiVersion": "v1", "kind": "StockPredictor", "name": "nvda", "uid": OWNER.uid}]}});
        let (client, log) = server(move |asked| {
            Some(match asked.method.as_str() {
                "GET" => (200, live.clone()),
                "PATCH" => refusal(422, "bad apply"),
                _ => refusal(422, "bad update"),
            })
        });
        let map: ConfigMap =
            serde_json::from_value(json!({"metadata": {"name": "nvda"}, "data": {"a": "b"}}))
                .unwrap();
        let error = Writer::new(client)
            .apply(OWNER, &map, None)
            .await
            .unwrap_err();
        assert_eq!(error.to_string(), "can't apply ConfigMap nvda: bad apply");
        assert_eq!(
            log.writes(),
            ["PATCH configmaps/nvda", "PUT configmaps/nvda"]
        );
    }
}
