//! The operator of a story: it may die and come back, and what lies between it and the API server may be bad.
//!
//! In: a cluster and what goes wrong. Out: what the operator's lives wrote. Writes are counted where they reach the API
//! server, so one whose answer is lost counts.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part"
)]

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::BoxFuture;
use kube::Client;
use tokio::task::JoinHandle;

use crate::common::{Cluster, Operator};
use crate::crash::{Death, Life};

/// Something between the operator and the API server.
pub type Between = Arc<dyn Fn(Client) -> Client + Send + Sync>;
/// Something that happens in the middle of a story.
pub type Middle = Arc<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// What goes wrong.
#[derive(Clone)]
pub struct Trouble {
    /// When the operator dies.
    pub death: Death,
    /// What its requests, those of watches too, have to get through.
    pub between: Between,
    /// What happens while a Job works. A story waits for it.
    pub middle: Option<Middle>,
    /// Its clients for requests and for watches, if they aren't the test's.
    pub clients: Option<(Client, Client)>,
}

impl Trouble {
    /// Nothing.
    pub fn none() -> Self {
        Self::death(Death::Never)
    }

    /// The operator dies once.
    pub fn death(death: Death) -> Self {
        Self {
            death,
            between: Arc::new(|client| client),
            middle: None,
            clients: None,
        }
    }

    /// Requests have to get through this.
    pub fn between(between: impl Fn(Client) -> Client + Send + Sync + 'static) -> Self {
        Self {
            between: Arc::new(between),
            ..Self::none()
        }
    }

    /// Lets the middle of the story happen.
    pub async fn middle(&self) {
        if let Some(middle) = &self.middle {
            middle().await;
        }
    }
}

/// How an operator is started: with a client for requests and one for watches.
pub type Start = fn(&Cluster, Client, Client) -> Operator;

/// The lives of an operator.
pub struct Lives {
    all: Arc<Mutex<Vec<Life>>>,
    operator: Arc<Mutex<Option<Operator>>>,
    task: JoinHandle<()>,
}

impl Lives {
    /// Starts it, and once more when it died.
    pub fn begin(cluster: &Cluster, trouble: &Trouble, start: Start) -> Self {
        let (requests, watches) = trouble
            .clients
            .clone()
            .unwrap_or_else(|| (cluster.client(), cluster.client()));
        let first = Life::new(requests.clone(), trouble.death);
        let between = trouble.between.clone();
        let born = start(
            cluster,
            between(first.client.clone()),
            between(watches.clone()),
        );
        let all = Arc::new(Mutex::new(vec![first.clone()]));
        let operator = Arc::new(Mutex::new(Some(born)));
        let (lives, running, cluster) = (all.clone(), operator.clone(), cluster.clone());
        let task = tokio::spawn(async move {
            first.death().await;
            kill(&running);
            let second = Life::new(requests, Death::Never);
            lives.lock().unwrap().push(second.clone());
            let born = start(&cluster, between(second.client), between(watches));
            *running.lock().unwrap() = Some(born);
        });
        Self {
            all,
            operator,
            task,
        }
    }

    /// Method and path of every write that succeeded.
    pub fn writes(&self) -> Vec<String> {
        let all = self.all.lock().unwrap();
        all.iter().flat_map(Life::writes).collect()
    }
}

impl Drop for Lives {
    fn drop(&mut self) {
        self.task.abort();
        kill(&self.operator);
    }
}

fn kill(operator: &Mutex<Option<Operator>>) {
    let running = operator
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take();
    if let Some(operator) = running {
        operator.kill();
    }
}
