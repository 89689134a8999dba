//! Passes run at once: never more than the limit, over all scopes together, and as many as it when there is work.
//!
//! The API server is a function that is slow, and counts the requests that it holds. The steps of a pass follow each other,
//! so that is the number of passes.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use rstest::rstest;
use serde_json::{Value, json};
use stockpredictor_api::ImagePullPolicy;
use stockpredictor_operator::health::Health;
use stockpredictor_operator::metrics::Metrics;
use stockpredictor_operator::stock_predictor::controller::{Shared, control};
use stockpredictor_operator::stock_predictor::stats::Poller;
use stockpredictor_operator::stock_predictor::validate::Defaults;
use stockpredictor_operator::watch::Scope;
use tokio::sync::{Semaphore, oneshot};

/// Objects a namespace.
const OBJECTS: usize = 20;
/// How long the server takes.
const SLOW: Duration = Duration::from_millis(50);

/// What the server counts.
#[derive(Default)]
struct Count {
    now: AtomicUsize,
    most: AtomicUsize,
    told: Mutex<BTreeSet<String>>,
}

/// The objects of a namespace.
fn list(namespace: &str) -> Value {
    let items: Vec<_> = (0..OBJECTS)
        .map(|number| {
            json!({
                "apiVersion": "stockpredictor.io/v1alpha1", "kind": "StockPredictor",
                "metadata": {"name": format!("p{number}"), "namespace": namespace, "uid": format!("{namespace}-{number}"), "generation": 1},
                "spec": {"symbols": ["NVDA"], "suspend": true, "storage": {"size": "1Gi"}},
            })
        })
        .collect();
    json!({"metadata": {"resourceVersion": "1"}, "items": items})
}

/// `late` is how long the lists of everything but the objects themselves take.
async fn answer(request: Request<Body>, count: Arc<Count>, late: Duration) -> (u16, Value) {
    let (parts, body) = request.into_parts();
    if parts.uri.query().unwrap_or_default().contains("watch=") {
        std::future::pending::<()>().await;
    }
    // Namespace, plural, and for one object its name and perhaps its subresource.
    let path = parts.uri.path().to_owned();
    let (_, rest) = path.split_once("/namespaces/").unwrap();
    let segments: Vec<_> = rest.split('/').collect();
    if let ("GET", [namespace, plural]) = (parts.method.as_str(), segments.as_slice()) {
        let empty = json!({"metadata": {"resourceVersion": "1"}, "items": []});
        let objects = *plural == "stockpredictors";
        if objects {
            return (200, list(namespace));
        }
        tokio::time::sleep(late).await;
        return (200, empty);
    }
    let now = count.now.fetch_add(1, Ordering::SeqCst) + 1;
    count.most.fetch_max(now, Ordering::SeqCst);
    tokio::time::sleep(SLOW).await;
    count.now.fetch_sub(1, Ordering::SeqCst);
    let body = body.collect_bytes().await.unwrap();
    match (parts.method.as_str(), segments.as_slice()) {
        ("GET", [namespace, "stockpredictors", name, ..]) => {
            let objects = list(namespace);
            let items = objects["items"].as_array().unwrap();
            let found = items.iter().find(|item| item["metadata"]["name"] == *name);
            return (200, found.unwrap().clone());
        }
        ("GET", _) => {
            let missing = json!({"kind": "Status", "status": "Failure", "code": 404, "reason": "NotFound", "message": "no"});
            return (404, missing);
        }
        (_, [.., "status"]) => {
            count.told.lock().unwrap().insert(path.clone());
        }
        _ => {}
    }
    (201, serde_json::from_slice(&body).unwrap_or_default())
}

#[rstest]
#[case::caches_are_filled_first(Duration::ZERO)]
#[case::passes_wait_for_caches(Duration::from_secs(5))]
#[tokio::test(start_paused = true)]
async fn as_many_passes_run_at_once_as_the_limit_says_and_each_object_gets_one(
    #[case] late: Duration,
) {
    const LIMIT: u16 = 3;
    let count = Arc::new(Count::default());
    let counted = count.clone();
    let service = tower::service_fn(move |request: Request<Body>| {
        let count = counted.clone();
        async move {
            let (code, body) = answer(request, count, late).await;
            let body = Body::from(body.to_string().into_bytes());
            Response::builder().status(code).body(body)
        }
    });
    let client = Client::new(service, "default");
    let shared = Shared {
        client: client.clone(),
        watch_client: client,
        defaults: Defaults {
            image: "registry.example.com/predictor:1".into(),
            pull_policy: ImagePullPolicy::IfNotPresent,
            allow_from: vec![],
            operator_namespace: "stockpredictor".into(),
        },
        pod: None,
        health: Health::default(),
        metrics: Metrics::new(),
        permits: Arc::new(Semaphore::new(LIMIT.into())),
        poller: Poller::new().unwrap(),
    };
    let mut running = vec![];
    for namespace in ["alpha", "beta"] {
        let (stop, stopped) = oneshot::channel::<()>();
        let until = async move {
            let _ = stopped.await;
        };
        let scope = Scope::Namespace(namespace.into());
        let task = tokio::spawn(control(shared.clone(), scope, LIMIT, until));
        running.push((stop, task));
    }
    // Time is not real here: this is as long as the passes need, and not the wait of a test.
    tokio::time::timeout(Duration::from_mins(5), async {
        while count.told.lock().unwrap().len() < 2 * OBJECTS {
            tokio::time::sleep(SLOW).await;
        }
    })
    .await
    .unwrap();
    assert_eq!(count.most.load(Ordering::SeqCst), usize::from(LIMIT));
    for (stop, task) in running {
        drop(stop);
        task.abort();
    }
}
