//! Whole passes over objects that are being deleted: when the claim goes, and when it stays.

use k8s_openapi::api::core::v1::PersistentVolumeClaim;

use super::*;

const CLAIM: &str = "persistentvolumeclaims/nvda";
const LET_GO: &str = "PATCH stockpredictors/nvda";

/// What the API server has, beside the object `nvda`.
struct World {
    object: Value,
    deployment: Option<Value>,
    settings: Option<Value>,
    claim: Option<Value>,
    pods: Vec<Value>,
    others: Vec<Value>,
    backups: Vec<Value>,
    restores: Vec<Value>,
    jobs: Vec<Value>,
}

/// An object with the policy `Delete` that is being deleted; its Deployment is gone, its claim is there.
fn ended() -> World {
    let mut object = json!(fixture::predictor(
        &json!({"storage": {"deletionPolicy": "Delete"}})
    ));
    object["metadata"]["finalizers"] = json!([labels::CLAIM_FINALIZER]);
    object["metadata"]["deletionTimestamp"] = json!("2024-01-02T00:00:00Z");
    World {
        object,
        deployment: None,
        settings: Some(child(fixture::UID)),
        claim: Some(json!({"metadata": {
            "name": "nvda", "namespace": "default", "uid": "c-1", "resourceVersion": "41", "labels": labels::child("nvda"),
            "annotations": {labels::CREATED_BY: "stockpredictor-operator"}}})),
        pods: vec![],
        others: vec![],
        backups: vec![],
        restores: vec![],
        jobs: vec![],
    }
}

/// A child of ours that `owner` owns.
fn child(owner: &str) -> Value {
    json!({"metadata": {
        "name": "nvda", "namespace": "default", "uid": "d-1", "resourceVersion": "42", "labels": labels::child("nvda"),
        "ownerReferences": [{"apiVersion": "v1", "kind": "StockPredictor", "name": "nvda", "uid": owner}]}})
}

fn pod(name: &str, labels: &Value, claim: &str, phase: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "spec": {"containers": [], "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}]},
        "status": {"phase": phase},
    })
}

fn user(name: &str, claim: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": "default", "uid": format!("uid-of-{name}")},
        // Not readable, and counted all the same.
        "spec": {"symbols": 7, "storage": {"existingClaim": claim}},
    })
}

/// Answers by `world`, which `turn` changes before each answer.
fn serve(
    mut world: World,
    turn: impl Fn(&Asked, &mut World) + Send + 'static,
) -> impl Fn(&Asked) -> Option<(u16, Value)> + Send + 'static {
    let got = |found: &Option<Value>| {
        found
            .as_ref()
            .map_or_else(|| refusal(404, "not found"), |body| (200, body.clone()))
    };
    let state = std::sync::Mutex::new({
        world.others.push(world.object.clone());
        world
    });
    move |asked| {
        let mut world = state.lock().unwrap();
        turn(asked, &mut world);
        let path = asked.path.rsplit_once("/default/")?.1;
        Some(match (asked.method.as_str(), path) {
            ("GET", "stockpredictors/nvda") | ("PATCH", _) => (200, world.object.clone()),
            ("GET", "deployments/nvda") => got(&world.deployment),
            ("GET", "configmaps/nvda") => got(&world.settings),
            ("GET", CLAIM) => got(&world.claim),
            ("GET", "pods") => (200, json!({"metadata": {}, "items": world.pods})),
            ("GET", "stockpredictors") => (200, json!({"metadata": {}, "items": world.others})),
            ("GET", "storagebackups") => (200, json!({"metadata": {}, "items": world.backups})),
            ("GET", "storagerestores") => (200, json!({"metadata": {}, "items": world.restores})),
            ("GET", "jobs") => (200, json!({"metadata": {}, "items": world.jobs})),
            ("POST" | "DELETE", _) => (201, asked.body.clone()),
            _ => refusal(404, "not found"),
        })
    }
}

/// One pass over the object as the cache has it, with `pods` in the cache.
async fn pass(
    world: World,
    pods: &[Value],
    turn: impl Fn(&Asked, &mut World) + Send + 'static,
) -> (Result<Duration, Error>, Log) {
    let object: StockPredictor = serde_json::from_value(world.object.clone()).unwrap();
    let cached: Vec<_> = pods
        .iter()
        .map(|pod| ("/pods/".to_owned(), pod.clone()))
        .collect();
    let (client, log) = server(serve(world, turn));
    let context = context(&client, &cached);
    let outcome = Box::pin(reconcile(&object, &context)).await;
    (outcome, log)
}

fn nothing(_: &Asked, _: &mut World) {}

fn deletions(log: &Log) -> Vec<String> {
    let writes = log.writes().into_iter();
    writes.filter(|write| write.starts_with("DELETE")).collect()
}

fn note(log: &Log) -> String {
    let event = log
        .asked()
        .into_iter()
        .find(|asked| asked.path.ends_with("/events"))
        .unwrap();
    assert_eq!(event.body["reason"], "ClaimKept");
    event.body["note"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn the_finalizer_comes_before_the_claim() {
    let object = fixture::predictor(&json!({"storage": {"deletionPolicy": "Delete"}}));
    let (client, log) = server(accepting(&object));
    reconcile(&object, &context(&client, &[])).await.unwrap();
    assert_eq!(log.writes()[0], LET_GO);
}

#[tokio::test]
async fn a_deleted_object_stops_its_pods_and_says_whom_it_waits_for() {
    let mut world = ended();
    world.deployment = Some(child(fixture::UID));
    let pods: Vec<_> = (1..=6)
        .map(|number| {
            let name = format!("nvda-{number}");
            pod(
                &name,
                &json!(labels::pod("nvda", "nvda")),
                "nvda",
                "Running",
            )
        })
        .collect();
    let (outcome, log) = pass(world, &pods, nothing).await;
    assert_eq!(outcome.unwrap(), ENDING);
    assert_eq!(
        log.writes(),
        [
            "DELETE deployments/nvda",
            "PATCH stockpredictors/nvda/status"
        ]
    );
    let status = applied(&log).1;
    assert_eq!(
        status["conditions"][0]["message"],
        "being deleted; its claim goes once these pods have ended: nvda-1, nvda-2, nvda-3, nvda-4, nvda-5 and 1 more"
    );

    let mut world = ended();
    world.object["status"] = status;
    let (outcome, log) = pass(world, &pods, nothing).await;
    assert_eq!(
        (outcome.unwrap(), log.writes()),
        (ENDING, vec![]),
        "it is said once"
    );
}

#[tokio::test]
async fn a_pod_that_the_cache_does_not_know_yet_is_waited_for() {
    let mut world = ended();
    world.pods = vec![pod(
        "nvda-1",
        &json!(labels::child("nvda")),
        "nvda",
        "Running",
    )];
    let (outcome, log) = pass(world, &[], nothing).await;
    assert_eq!(outcome.unwrap(), ENDING);
    assert_eq!(deletions(&log), [""; 0]);
}

#[tokio::test]
async fn after_the_last_pod_the_very_claim_that_was_looked_at_goes() {
    let (outcome, log) = pass(ended(), &[], nothing).await;
    outcome.unwrap();
    assert_eq!(log.writes(), [format!("DELETE {CLAIM}"), LET_GO.to_owned()]);
    let asked = log.asked();
    let deletion = asked.iter().find(|asked| asked.method == "DELETE").unwrap();
    assert_eq!(
        deletion.body["preconditions"],
        json!({"uid": "c-1", "resourceVersion": "41"})
    );
    assert_eq!(
        asked.last().unwrap().body["metadata"]["finalizers"],
        json!([])
    );
}

/// The cache says `Delete`; the API server says otherwise, from the start or from the moment `when` is read.
#[rstest]
#[case::the_cache_lags("stockpredictors/nvda")]
#[case::changed_at_the_last_moment(CLAIM)]
#[tokio::test]
async fn a_policy_that_became_retain_keeps_the_claim(#[case] when: &'static str) {
    let (outcome, log) = pass(ended(), &[], move |asked, world| {
        if asked.path.ends_with(when) {
            world.object["spec"]["storage"]["deletionPolicy"] = json!("Retain");
            world.object["metadata"]["resourceVersion"] = json!("8");
        }
    })
    .await;
    outcome.unwrap();
    assert_eq!(log.writes(), [LET_GO]);
    let last = log.asked().pop().unwrap();
    assert_eq!(last.body["metadata"]["resourceVersion"], "8");
}

#[rstest]
#[case::another_object_of_the_name(json!({"metadata": {"uid": "other"}}))]
#[case::already_let_go(json!({"metadata": {"finalizers": null}}))]
#[tokio::test]
async fn an_object_that_is_gone_by_now_costs_nothing(#[case] change: Value) {
    let (outcome, log) = pass(ended(), &[], move |_, world| {
        fixture::merge(&mut world.object, &change);
    })
    .await;
    outcome.unwrap();
    assert_eq!(log.writes(), [""; 0]);
}

#[tokio::test]
async fn a_claim_that_changed_after_it_was_looked_at_is_looked_at_again() {
    let object: StockPredictor = serde_json::from_value(ended().object).unwrap();
    let answer = serve(ended(), nothing);
    let (client, log) = server(move |asked| match asked.method.as_str() {
        "DELETE" => Some(refusal(409, "the resource version doesn't match")),
        _ => answer(asked),
    });
    let error = reconcile(&object, &context(&client, &[]))
        .await
        .unwrap_err();
    assert_eq!(error.category(), "conflict");
    assert!(
        !log.writes().contains(&LET_GO.to_owned()),
        "the finalizer stays"
    );
}

#[tokio::test]
async fn children_that_are_to_outlive_the_object_do_and_so_does_the_claim() {
    let mut world = ended();
    world.object["metadata"]["finalizers"] = json!(["orphan", labels::CLAIM_FINALIZER]);
    world.deployment = Some(child(fixture::UID));
    let (outcome, log) = pass(world, &[], nothing).await;
    outcome.unwrap();
    assert_eq!(log.writes(), [LET_GO]);
    let last = log.asked().pop().unwrap();
    assert_eq!(last.body["metadata"]["finalizers"], json!(["orphan"]));
}

/// The garbage collector was faster than the operator: `orphan` is gone already.
#[rstest]
#[case::pods_run(true)]
#[case::without_a_deployment(false)]
#[tokio::test]
async fn children_without_an_owner_keep_the_claim_and_hang_nothing(#[case] deployment: bool) {
    let mut world = ended();
    world.deployment = deployment.then(|| child("other"));
    world.settings = Some(child("other"));
    let running = pod("nvda-1", &json!(labels::child("nvda")), "nvda", "Running");
    let (outcome, log) = pass(world, &[running], nothing).await;
    assert_eq!(outcome.unwrap(), STOPPED);
    assert_eq!(log.writes(), [LET_GO, "POST events"]);
    assert!(note(&log).contains("--cascade=orphan"));
}

#[tokio::test]
async fn a_deployment_without_our_labels_is_stopped_when_it_has_our_owner_reference() {
    let mut world = ended();
    let mut deployment = child(fixture::UID);
    deployment["metadata"]["labels"] = Value::Null;
    world.deployment = Some(deployment);
    let (outcome, log) = pass(world, &[], nothing).await;
    outcome.unwrap();
    assert_eq!(deletions(&log)[0], "DELETE deployments/nvda");
}

#[rstest]
#[case::another_object_names_it(vec![], vec![user("user", "nvda")], Some("user"))]
#[case::another_object_names_another(vec![], vec![user("user", "mine")], None)]
#[case::a_marked_pod(vec![pod("user-1", &json!(labels::pod("user", "nvda")), "other", "Running")], vec![], Some("user-1"))]
#[case::a_marked_pod_that_failed(vec![pod("user-1", &json!(labels::pod("user", "nvda")), "nvda", "Failed")], vec![], None)]
#[case::a_marked_pod_that_succeeded(vec![pod("user-1", &json!(labels::pod("user", "nvda")), "nvda", "Succeeded")], vec![], None)]
#[case::a_pod_that_mounts_it(vec![pod("backup", &json!({}), "nvda", "Running")], vec![], Some("backup"))]
#[case::a_pod_that_mounted_it(vec![pod("backup", &json!({}), "nvda", "Succeeded")], vec![], None)]
#[case::a_pod_of_another_claim(vec![pod("tsla-1", &json!(labels::pod("tsla", "tsla")), "tsla", "Running")], vec![], None)]
#[tokio::test]
async fn a_claim_that_others_use_stays(
    #[case] pods: Vec<Value>,
    #[case] others: Vec<Value>,
    #[case] user: Option<&str>,
) {
    let mut world = ended();
    (world.pods, world.others) = (pods, others);
    let (outcome, log) = pass(world, &[], nothing).await;
    outcome.unwrap();
    match user {
        Some(user) => {
            assert_eq!(log.writes(), [LET_GO, "POST events"]);
            assert!(note(&log).contains(user), "{}", note(&log));
        }
        None => assert_eq!(deletions(&log), [format!("DELETE {CLAIM}")]),
    }
}

fn stored(predictor: &str, place: &Value, archives: i64) -> Value {
    let mut destination = json!({"name": "x"});
    destination
        .as_object_mut()
        .unwrap()
        .extend(place.as_object().unwrap().clone());
    json!({
        "metadata": {"name": "daily", "namespace": "default"},
        "spec": {"predictorRef": {"name": predictor}, "destinations": [destination]},
        "status": {"destinations": [{"name": "x", "archives": archives}]},
    })
}

fn restore(predictor: &str, phase: &str) -> Value {
    json!({
        "metadata": {"name": "back", "namespace": "default"},
        "spec": {"source": {}, "target": {"inPlace": {"predictorRef": {"name": predictor}}}},
        "status": {"phase": phase},
    })
}

#[rstest]
#[case::archives(vec![stored("nvda", &json!({"volume": {}}), 2)], vec![], Some("StorageBackup daily"))]
#[case::no_archives(vec![stored("nvda", &json!({"volume": {}}), 0)], vec![], None)]
#[case::archives_elsewhere(vec![stored("nvda", &json!({"claim": {"name": "nas"}}), 2)], vec![], None)]
#[case::archives_of_another(vec![stored("tsla", &json!({"volume": {}}), 2)], vec![], None)]
#[case::a_restore(vec![], vec![restore("nvda", "Held")], Some("StorageRestore back"))]
#[case::a_restore_that_is_over(vec![], vec![restore("nvda", "RolledBack")], None)]
#[case::a_restore_of_another(vec![], vec![restore("tsla", "Held")], None)]
#[tokio::test]
async fn a_claim_with_archives_or_a_restore_stays(
    #[case] backups: Vec<Value>,
    #[case] restores: Vec<Value>,
    #[case] why: Option<&str>,
) {
    let mut world = ended();
    (world.backups, world.restores) = (backups, restores);
    let (outcome, log) = pass(world, &[], nothing).await;
    outcome.unwrap();
    match why {
        Some(why) => {
            assert_eq!(log.writes(), [LET_GO, "POST events"]);
            assert!(note(&log).contains(why), "{}", note(&log));
        }
        None => assert_eq!(deletions(&log), [format!("DELETE {CLAIM}")]),
    }
}

#[rstest]
#[case::archives_without_their_storage_backup(json!({"holdsArchives": true}), true)]
#[case::none(json!({"holdsArchives": false}), false)]
#[case::not_told(json!({}), false)]
#[tokio::test]
async fn a_claim_stays_also_for_archives_whose_object_is_gone(
    #[case] volume: Value,
    #[case] stays: bool,
) {
    let mut world = ended();
    world.object["status"] = json!({"volume": volume});
    let (outcome, log) = pass(world, &[], nothing).await;
    outcome.unwrap();
    if stays {
        assert_eq!(log.writes(), [LET_GO, "POST events"]);
        assert!(note(&log).contains("archives lie on it"), "{}", note(&log));
    } else {
        assert_eq!(deletions(&log), [format!("DELETE {CLAIM}")]);
    }
}

#[tokio::test]
async fn a_claim_that_a_run_marked_stays() {
    let mut world = ended();
    if let Some(claim) = &mut world.claim {
        claim["metadata"]["annotations"]["stockpredictor.io/holds-archives"] = json!("true");
    }
    let (outcome, log) = pass(world, &[], nothing).await;
    outcome.unwrap();
    assert_eq!(log.writes(), [LET_GO, "POST events"]);
    assert!(note(&log).contains("holds-archives"), "{}", note(&log));
}

#[tokio::test]
async fn finished_jobs_do_not_keep_a_claim_that_goes() {
    let job = |name: &str, claim: &str, over: bool| {
        let conditions =
            json!([{"type": "Complete", "status": if over { "True" } else { "False" }}]);
        json!({
            "metadata": {"name": name, "namespace": "default", "uid": name, "resourceVersion": "1"},
            "spec": {"template": {"metadata": {"labels": {labels::CLAIM_LABEL: labels::claim_value(claim)}}, "spec": {"containers": []}}},
            "status": {"conditions": conditions},
        })
    };
    let mut world = ended();
    world.jobs = vec![
        job("ended", "nvda", true),
        job("works", "nvda", false),
        job("others", "tsla", true),
    ];
    let (outcome, log) = pass(world, &[], nothing).await;
    outcome.unwrap();
    assert_eq!(
        deletions(&log),
        [format!("DELETE {CLAIM}"), "DELETE jobs/ended".into()]
    );
}

#[tokio::test]
async fn a_claim_that_was_found_stays_and_this_is_told() {
    let mut world = ended();
    world.claim.as_mut().unwrap()["metadata"]["annotations"] = Value::Null;
    let (outcome, log) = pass(world, &[], nothing).await;
    outcome.unwrap();
    assert_eq!(log.writes(), [LET_GO, "POST events"]);
    assert!(note(&log).contains("did not create it"));
}

#[tokio::test]
async fn an_object_that_cannot_be_read_can_be_deleted_and_its_claim_stays() {
    let broken = json!({
        "metadata": {
            "name": "nvda", "namespace": "default", "uid": fixture::UID, "resourceVersion": "9",
            "deletionTimestamp": "2024-01-02T00:00:00Z", "finalizers": ["other/one", labels::CLAIM_FINALIZER],
        },
        "spec": {"symbols": 7, "storage": {"deletionPolicy": "Delete"}},
    });
    let guarded: DeserializeGuard<StockPredictor> = serde_json::from_value(broken.clone()).unwrap();
    let (client, log) = server(move |_| Some((200, broken.clone())));
    crate::controller::one(&guarded, &context(&client, &[]))
        .await
        .unwrap();
    let asked = log.asked();
    assert_eq!(log.writes(), [LET_GO]);
    assert_eq!(
        asked[0].body["metadata"],
        json!({"uid": fixture::UID, "resourceVersion": "9", "finalizers": ["other/one"]})
    );
}

#[test]
fn the_claim_of_these_tests_is_one_that_the_operator_may_delete() {
    let claim: PersistentVolumeClaim = serde_json::from_value(ended().claim.unwrap()).unwrap();
    assert!(claim::deletable(&claim, "nvda"));
}
