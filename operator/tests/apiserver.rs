//! The controller on a real API server: server-side apply, drift, silence, adoption and deletion as they really are.
//!
//! There is no controller manager and no kubelet: Deployments make no pods, and claims are bound by the tests. Ignored by
//! default, because they need the binaries that e2e/cluster/tools.sh builds; `make test` runs them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

mod common;

use std::time::{Duration, Instant};

use common::{Cluster, SETTLED, SOON};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, PersistentVolumeClaim, Service, ServiceAccount};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::ResourceExt;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use stockpredictor_api::StockPredictor;

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn one_object_becomes_its_children_and_then_there_is_silence_even_over_a_restart() {
    let cluster = Cluster::new("children").await;
    let operator = cluster.operator();
    cluster.create("nvda", &json!({})).await;
    let status = cluster.status("nvda").await;
    assert_eq!(status["observedGeneration"], 1);
    assert_eq!(
        status["selector"],
        "app.kubernetes.io/instance=nvda,app.kubernetes.io/name=stockpredictor"
    );
    assert_eq!(status["symbols"], "NVDA,TSLA");

    assert!(cluster.has::<ServiceAccount>("nvda").await);
    assert!(cluster.has::<ConfigMap>("nvda").await);
    assert!(cluster.has::<Service>("nvda").await);
    assert!(cluster.has::<NetworkPolicy>("nvda").await);
    assert!(cluster.has::<Deployment>("nvda").await);
    assert!(!cluster.has::<PodDisruptionBudget>("nvda").await);
    let claim = cluster.get::<PersistentVolumeClaim>("nvda").await;
    assert!(claim.owner_references().is_empty(), "a claim has no owner");

    let before = cluster.settled().await;
    cluster.unchanged(&before, SETTLED).await;
    operator.stop().await;
    let operator = cluster.operator();
    cluster.unchanged(&before, SETTLED).await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn drift_is_repaired_and_what_is_not_ours_stays() {
    let cluster = Cluster::new("drift").await;
    let operator = cluster.operator();
    cluster.create("nvda", &json!({})).await;
    cluster.settled().await;

    // A field of ours beside a label of somebody else's.
    let change = json!({
        "metadata": {"labels": {"team": "quant"}},
        "spec": {"ports": [{"name": "http", "port": 8080, "targetPort": 9999}]},
    });
    cluster.patch::<Service>("nvda", &change).await;
    cluster
        .until::<Service>("nvda", "the target port is put back", |service| {
            service["spec"]["ports"][0]["targetPort"] == "http"
        })
        .await;
    let service = cluster.get::<Service>("nvda").await;
    assert_eq!(service.labels()["team"], "quant");

    // A container of somebody else's, a label of ours.
    let sidecar = json!({
        "metadata": {"labels": {"app.kubernetes.io/managed-by": "nobody"}},
        "spec": {"replicas": 5, "template": {"spec": {"containers": [{"name": "sidecar", "image": "s"}]}}},
    });
    let deployments = cluster.api::<Deployment>();
    let strategic = Patch::Strategic(sidecar);
    deployments
        .patch("nvda", &PatchParams::default(), &strategic)
        .await
        .unwrap();
    let deployment = cluster
        .until::<Deployment>("nvda", "replicas and label are put back", |deployment| {
            deployment["spec"]["replicas"] == 1
                && deployment["metadata"]["labels"]["app.kubernetes.io/managed-by"]
                    == "stockpredictor-operator"
        })
        .await;
    let containers = deployment["spec"]["template"]["spec"]["containers"]
        .as_array()
        .unwrap();
    assert!(
        containers
            .iter()
            .any(|container| container["name"] == "sidecar"),
        "{containers:?}"
    );

    // What is deleted comes back, by the event alone: a stopped predictor isn't looked at for ten minutes.
    cluster.create("quiet", &json!({"suspend": true})).await;
    cluster
        .condition("quiet", "Ready", "False", "Suspended")
        .await;
    cluster.settled().await;
    let uid = cluster.get::<ConfigMap>("quiet").await.uid().unwrap();
    cluster
        .api::<ConfigMap>()
        .delete("quiet", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .until::<ConfigMap>("quiet", "the ConfigMap comes back", |map| {
            map["metadata"]["uid"] != uid.as_str()
        })
        .await;
    let before = cluster.settled().await;
    cluster.unchanged(&before, SETTLED).await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn what_was_opened_inside_of_a_value_that_is_replaced_as_a_whole_is_closed_again() {
    let cluster = Cluster::new("atomic").await;
    let operator = cluster.operator();
    // Everything that users may write and the API server fills with defaults or drops parts of.
    let selector = json!({"matchLabels": {}, "matchExpressions": [{"key": "a", "operator": "Exists", "values": []}]});
    let term = json!({"topologyKey": "zone", "labelSelector": selector, "namespaceSelector": {}, "namespaces": []});
    let everything = json!({
        "env": [
            {"name": "A", "value": ""},
            {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "D", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": false}}},
            {"name": "E", "valueFrom": {"configMapKeyRef": {"name": "s", "key": "k"}}},
        ],
        "resources": {"limits": {"cpu": "0.5", "memory": "0.5Gi"}, "requests": {}},
        "nodeSelector": {"disk": ""},
        "podLabels": {"empty": ""},
        "tolerations": [
            {"key": "", "operator": "Exists", "effect": "", "value": ""},
            {"key": "gpu", "operator": "", "value": "a", "effect": "NoExecute", "tolerationSeconds": 5},
        ],
        "affinity": {
            "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
                {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["fast"]}], "matchFields": []}]}},
            "podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []},
            "podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]},
        },
    });
    cluster.create("nvda", &everything).await;
    let before = cluster.settled().await;
    cluster.unchanged(&before, SETTLED).await;

    let extra = json!({"spec": {"selector": {"nobody": "matches"}}});
    cluster.patch::<Service>("nvda", &extra).await;
    cluster
        .until::<Service>("nvda", "the selector is ours", |service| {
            service["spec"]["selector"]["nobody"].is_null()
        })
        .await;
    let policy = json!(cluster.get::<NetworkPolicy>("nvda").await);
    let mut open = policy["spec"]["ingress"].clone();
    open[0]["from"][0]["namespaceSelector"] = json!({});
    let mut everyone = policy["spec"]["ingress"].clone();
    everyone[0]["from"][0] = json!({"ipBlock": {"cidr": "0.0.0.0/0"}});
    let narrowed = json!({"podSelector": {"matchLabels": {"nobody": "matches"}}});
    for change in [
        json!({"ingress": open}),
        json!({"ingress": everyone}),
        narrowed,
    ] {
        cluster
            .patch::<NetworkPolicy>("nvda", &json!({"spec": change}))
            .await;
        cluster
            .until::<NetworkPolicy>("nvda", "the policy is ours", |now| {
                now["spec"] == policy["spec"]
            })
            .await;
    }
    let before = cluster.settled().await;
    cluster.unchanged(&before, SETTLED).await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn drift_that_no_apply_repairs_is_replaced_in_place() {
    let cluster = Cluster::new("replaced").await;
    let operator = cluster.operator();
    let env = json!([{"name": "A", "value": "1"}]);
    cluster.create("nvda", &json!({"env": env})).await;
    let many = json!({"replicas": 3, "storage": {"accessMode": "ReadWriteMany"}});
    cluster.create("many", &many).await;
    cluster.settled().await;
    let service = cluster.get::<Service>("nvda").await;
    let uid = cluster.get::<Deployment>("nvda").await.uid();

    let kind = json!({"metadata": {"labels": {"team": "quant"}}, "spec": {"strategy": {"type": "RollingUpdate"}}});
    cluster.patch::<Deployment>("nvda", &kind).await;
    cluster
        .until::<Deployment>("nvda", "the strategy is put back", |now| {
            now["spec"]["strategy"] == json!({"type": "Recreate"})
        })
        .await;
    let pod = json!({"spec": {"template": {"spec": {
        "containers": [{"name": "predictor", "env": [{"name": "POD_NAME", "value": "foo", "valueFrom": null}]}],
        "volumes": [{"name": "tmp", "hostPath": {"path": "/"}, "emptyDir": null}],
    }}}});
    cluster
        .api::<Deployment>()
        .patch("nvda", &PatchParams::default(), &Patch::Strategic(pod))
        .await
        .unwrap();
    let deployment = cluster
        .until::<Deployment>("nvda", "variable and volume are put back", |now| {
            let pod = &now["spec"]["template"]["spec"];
            pod["containers"][0]["env"][0]["valueFrom"]["fieldRef"].is_object()
                && pod["volumes"][2]["emptyDir"].is_object()
        })
        .await;
    assert_eq!(deployment["metadata"]["uid"], json!(uid));
    assert_eq!(deployment["metadata"]["labels"]["team"], "quant");

    let ports = json!({"spec": {"ports": [{"name": "http", "port": 9090, "targetPort": "http"}]}});
    cluster.patch::<Service>("nvda", &ports).await;
    let now = cluster
        .until::<Service>("nvda", "the port is put back", |now| {
            now["spec"]["ports"][0]["port"] == 8080
        })
        .await;
    assert_eq!(now["spec"], json!(service)["spec"]);
    let minimum = json!({"spec": {"minAvailable": 1, "maxUnavailable": null}});
    cluster.patch::<PodDisruptionBudget>("many", &minimum).await;
    cluster
        .until::<PodDisruptionBudget>("many", "the budget is put back", |now| {
            now["spec"]["maxUnavailable"] == 1 && now["spec"]["minAvailable"].is_null()
        })
        .await;

    // A label of ours on a child does not lead away from its owner.
    let stray = json!({"metadata": {"labels": {"app.kubernetes.io/instance": "zzz"}}});
    cluster.patch::<Service>("nvda", &stray).await;
    cluster
        .until::<Service>("nvda", "the label is put back", |now| {
            now["metadata"]["labels"]["app.kubernetes.io/instance"] == "nvda"
        })
        .await;
    for name in ["nvda", "many"] {
        cluster
            .condition(name, "Reconciled", "True", "Applied")
            .await;
    }
    let before = cluster.settled().await;
    cluster.unchanged(&before, SETTLED).await;

    // What was replaced can still be dropped.
    cluster
        .patch::<StockPredictor>("nvda", &json!({"spec": {"env": null}}))
        .await;
    cluster
        .until::<Deployment>("nvda", "the variable is gone", |now| {
            let env = now["spec"]["template"]["spec"]["containers"][0]["env"].as_array();
            env.is_some_and(|env| env.iter().all(|variable| variable["name"] != "A"))
        })
        .await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_field_that_is_not_wanted_any_more_goes() {
    let cluster = Cluster::new("dropped").await;
    let operator = cluster.operator();
    let env = json!([{"name": "A", "value": ""}, {"name": "B", "value": "2"}]);
    let limits = json!({"cpu": 2, "memory": "0.5Gi"});
    cluster
        .create(
            "nvda",
            &json!({"env": env, "resources": {"limits": limits}, "nodeSelector": {"disk": "fast"}}),
        )
        .await;
    let before = cluster.settled().await;
    cluster.unchanged(&before, SETTLED).await;

    let change = json!({"spec": {"env": [{"name": "B", "value": "2"}], "nodeSelector": null}});
    cluster.patch::<StockPredictor>("nvda", &change).await;
    cluster
        .until::<Deployment>(
            "nvda",
            "variable and node selector are gone",
            |deployment| {
                let pod = &deployment["spec"]["template"]["spec"];
                let env = pod["containers"][0]["env"].as_array().unwrap();
                !env.iter().any(|variable| variable["name"] == "A")
                    && env.iter().any(|variable| variable["name"] == "B")
                    && pod["nodeSelector"].is_null()
            },
        )
        .await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_budget_exists_above_one_replica_only() {
    let cluster = Cluster::new("budget").await;
    let operator = cluster.operator();
    cluster
        .create(
            "nvda",
            &json!({"replicas": 3, "storage": {"accessMode": "ReadWriteMany"}}),
        )
        .await;
    cluster
        .until::<PodDisruptionBudget>("nvda", "a budget", |_| true)
        .await;
    cluster
        .patch::<StockPredictor>("nvda", &json!({"spec": {"replicas": 1}}))
        .await;
    cluster.gone::<PodDisruptionBudget>("nvda").await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn fifty_suspended_objects_are_silent_even_over_a_restart() {
    let cluster = Cluster::new("silent").await;
    let operator = cluster.operator();
    for number in 0..50 {
        cluster
            .create(&format!("quiet-{number:02}"), &json!({"suspend": true}))
            .await;
    }
    for number in 0..50 {
        cluster
            .condition(&format!("quiet-{number:02}"), "Ready", "False", "Suspended")
            .await;
    }
    let before = cluster.settled().await;
    assert!(before.len() >= 50 * 7, "only {} objects", before.len());
    cluster.unchanged(&before, Duration::from_secs(20)).await;
    operator.stop().await;
    let operator = cluster.operator();
    cluster.unchanged(&before, Duration::from_secs(10)).await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_kept_claim_is_taken_up_again_and_a_foreign_one_is_not() {
    let cluster = Cluster::new("adopt").await;
    let operator = cluster.operator();
    cluster.create("nvda", &json!({})).await;
    cluster.settled().await;
    let kept = cluster.get::<PersistentVolumeClaim>("nvda").await;
    cluster.delete("nvda").await;
    let still = cluster.get::<PersistentVolumeClaim>("nvda").await;
    assert_eq!(
        (still.uid(), still.metadata.deletion_timestamp),
        (kept.uid(), None)
    );

    // Smaller than what was kept: it does not shrink, and says so.
    cluster
        .create("nvda", &json!({"storage": {"size": "512Mi"}}))
        .await;
    let message = cluster
        .condition("nvda", "VolumeReady", "False", "ShrinkRefused")
        .await;
    assert!(message.contains("stays at 1Gi"), "{message}");
    let again = cluster.get::<PersistentVolumeClaim>("nvda").await;
    assert_eq!(again.uid(), kept.uid());

    let foreign: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "tsla"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }))
    .unwrap();
    let foreign = cluster
        .api::<PersistentVolumeClaim>()
        .create(&PostParams::default(), &foreign)
        .await
        .unwrap();
    cluster.create("tsla", &json!({})).await;
    let message = cluster
        .condition("tsla", "VolumeReady", "False", "ClaimNotOurs")
        .await;
    assert!(message.contains("existingClaim"), "{message}");
    let untouched = cluster.get::<PersistentVolumeClaim>("tsla").await;
    assert_eq!(untouched.resource_version(), foreign.resource_version());
    assert!(
        !cluster.has::<Deployment>("tsla").await,
        "pods would use a foreign claim"
    );
    cluster.event("tsla", "ClaimNotOurs").await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_child_with_our_name_that_belongs_to_somebody_else_is_left_alone() {
    let cluster = Cluster::new("notours").await;
    let operator = cluster.operator();
    let foreign: ConfigMap =
        serde_json::from_value(json!({"metadata": {"name": "nvda"}, "data": {"a": "b"}})).unwrap();
    cluster
        .api::<ConfigMap>()
        .create(&PostParams::default(), &foreign)
        .await
        .unwrap();
    cluster.create("nvda", &json!({})).await;
    let message = cluster
        .condition("nvda", "Reconciled", "False", "ChildNotOurs")
        .await;
    assert!(message.contains("ConfigMap nvda"), "{message}");
    assert_eq!(cluster.get::<ConfigMap>("nvda").await.data, foreign.data);

    cluster
        .api::<ConfigMap>()
        .delete("nvda", &DeleteParams::default())
        .await
        .unwrap();
    cluster
        .condition("nvda", "Reconciled", "True", "Applied")
        .await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn the_policy_delete_takes_the_created_claim_and_retain_keeps_it() {
    let cluster = Cluster::new("policy").await;
    let operator = cluster.operator();
    let delete = json!({"storage": {"deletionPolicy": "Delete"}});
    for name in ["gone", "switched", "found"] {
        cluster.create(name, &delete).await;
        cluster
            .until::<StockPredictor>(name, "a finalizer", |object| {
                object["metadata"]["finalizers"] == json!(["stockpredictor.io/claim"])
            })
            .await;
    }
    cluster.create("kept", &json!({})).await;
    cluster.settled().await;

    // A claim that the operator found, rather than created, is not its to delete.
    let unmarked = json!({"metadata": {"annotations": {"stockpredictor.io/created-by": null}}});
    cluster
        .patch::<PersistentVolumeClaim>("found", &unmarked)
        .await;
    let retain = json!({"spec": {"storage": {"deletionPolicy": "Retain"}}});
    cluster.patch::<StockPredictor>("switched", &retain).await;
    cluster
        .until::<StockPredictor>("switched", "no finalizer", |object| {
            object["metadata"]["finalizers"].is_null()
        })
        .await;

    for name in ["gone", "switched", "found", "kept"] {
        cluster.delete(name).await;
    }
    for (name, goes) in [
        ("gone", true),
        ("switched", false),
        ("found", false),
        ("kept", false),
    ] {
        // Without a controller manager a claim that is deleted stays marked.
        let claim = cluster
            .api::<PersistentVolumeClaim>()
            .get_opt(name)
            .await
            .unwrap();
        let gone = claim.is_none_or(|claim| claim.metadata.deletion_timestamp.is_some());
        assert_eq!(gone, goes, "the claim {name}");
    }
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn a_claim_grows_when_its_class_can_and_says_so_when_it_cannot() {
    let cluster = Cluster::new("growth").await;
    for (class, expands) in [("grows", true), ("fixed", false)] {
        cluster.class(class, expands).await;
    }
    let operator = cluster.operator();
    for class in ["grows", "fixed"] {
        cluster
            .create(class, &json!({"storage": {"storageClassName": class}}))
            .await;
        cluster
            .until::<PersistentVolumeClaim>(class, "a claim", |_| true)
            .await;
        cluster.bind(class, "1Gi").await;
        cluster
            .condition(class, "VolumeReady", "True", "Bound")
            .await;
        cluster
            .patch::<StockPredictor>(class, &json!({"spec": {"storage": {"size": "2Gi"}}}))
            .await;
    }
    cluster
        .until::<PersistentVolumeClaim>("grows", "the request grows", |claim| {
            requested(claim) == "2Gi"
        })
        .await;
    cluster
        .condition("grows", "VolumeReady", "Unknown", "Resizing")
        .await;
    cluster.bind("grows", "2Gi").await;
    cluster
        .condition("grows", "VolumeReady", "True", "Bound")
        .await;

    let message = cluster
        .condition("fixed", "VolumeReady", "False", "ExpansionNotSupported")
        .await;
    assert!(message.contains("allowVolumeExpansion"), "{message}");
    let claim = cluster.get::<PersistentVolumeClaim>("fixed").await;
    assert_eq!(requested(&json!(claim)), "1Gi");
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn the_users_claim_is_waited_for_and_never_written() {
    let cluster = Cluster::new("existing").await;
    let operator = cluster.operator();
    let existing = json!({"storage": {"size": null, "existingClaim": "mine"}});
    cluster.create("nvda", &existing).await;
    let message = cluster
        .condition("nvda", "VolumeReady", "False", "ClaimMissing")
        .await;
    assert!(message.contains("mine"), "{message}");
    assert!(!cluster.has::<Deployment>("nvda").await);

    let claim: PersistentVolumeClaim = serde_json::from_value(json!({
        "metadata": {"name": "mine"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }))
    .unwrap();
    let claim = cluster
        .api::<PersistentVolumeClaim>()
        .create(&PostParams::default(), &claim)
        .await
        .unwrap();
    cluster
        .until::<Deployment>("nvda", "a Deployment", |_| true)
        .await;
    let many =
        json!({"storage": {"size": null, "existingClaim": "mine", "accessMode": "ReadWriteMany"}});
    cluster.create("many", &many).await;
    let message = cluster
        .condition("many", "VolumeReady", "False", "AccessModeMismatch")
        .await;
    assert!(message.contains("ReadWriteOnce"), "{message}");
    let after = cluster.get::<PersistentVolumeClaim>("mine").await;
    assert_eq!(after.resource_version(), claim.resource_version());
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn what_the_api_server_refuses_becomes_a_condition_and_heals() {
    let cluster = Cluster::new("refused").await;
    let operator = cluster.operator();
    // A valid object with a label that a pod template can't have.
    cluster
        .create("nvda", &json!({"podLabels": {"team": "not a label"}}))
        .await;
    let message = cluster
        .condition("nvda", "Reconciled", "False", "ApplyRefused")
        .await;
    assert!(
        message.contains("Deployment nvda") && message.contains("not a label"),
        "{message}"
    );
    cluster
        .condition("nvda", "Ready", "False", "ApplyRefused")
        .await;
    cluster.event("nvda", "ApplyRefused").await;
    assert!(
        cluster.has::<Service>("nvda").await,
        "the other children exist"
    );
    cluster
        .patch::<StockPredictor>("nvda", &json!({"spec": {"podLabels": {"team": "quant"}}}))
        .await;
    cluster
        .condition("nvda", "Reconciled", "True", "Applied")
        .await;
    operator.stop().await;
}

#[tokio::test]
#[ignore = "needs a kube-apiserver: make test"]
async fn readiness_waits_for_the_definitions_by_name() {
    let cluster = Cluster::without_definitions("nocrd").await;
    let operator = cluster.operator();
    common::eventually(SOON, "readiness names the definition", async || {
        let waiting = operator.health.ready(Instant::now()).waiting_for;
        let found = waiting.iter().any(|name| {
            name.contains("stockpredictors.stockpredictor.io is not installed")
                && name.contains("operator crd")
        });
        found.then_some(()).ok_or(format!("{waiting:?}"))
    })
    .await;
    cluster.install_definitions();
    ready(&operator).await;

    // Taken away while the operator runs: the watch is refused from then on, and the cache stands still.
    cluster.remove_definitions().await;
    common::eventually(SOON * 3, "readiness goes with the definition", async || {
        let waiting = operator.health.ready(Instant::now()).waiting_for;
        let found = waiting
            .iter()
            .any(|name| name.contains("stockpredictors.stockpredictor.io is not installed"));
        found.then_some(()).ok_or(format!("{waiting:?}"))
    })
    .await;
    cluster.install_definitions();
    ready(&operator).await;
    operator.stop().await;
}

async fn ready(operator: &common::Operator) {
    common::eventually(SOON * 2, "ready", async || {
        let verdict = operator.health.ready(Instant::now());
        verdict.ok.then_some(()).ok_or(format!("{verdict:?}"))
    })
    .await;
}

fn requested(claim: &Value) -> &str {
    claim["spec"]["resources"]["requests"]["storage"]
        .as_str()
        .unwrap_or_default()
}
