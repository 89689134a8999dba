//! Ends of stories: what must be the same whatever happened on the way.
//!
//! In: a namespace and what the operator wrote. Out: its objects without times and uids, and how often things were made
//! and deleted.
#![allow(
    dead_code,
    reason = "each test file is a crate of its own and uses a part"
)]

use std::collections::BTreeMap;
use std::future::Future;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::{Value, json};
use stockpredictor_api::{StockPredictor, StorageBackup, StorageRestore};

use crate::common::{Cluster, Object};
use crate::crash::Death;
use crate::lives::{Lives, Trouble};

/// As many stories at once: they wait most of the time.
const AT_ONCE: usize = 12;

/// Everything that may differ between two runs of the same story.
fn plain(value: &mut Value) {
    // The digest covers names and uids, which differ.
    const TIMES: [&str; 17] = [
        "stockpredictor.io/applied-hash",
        "startedAt",
        "finishedAt",
        "started",
        "finished",
        "lastSuccess",
        "duration",
        "downtime",
        "lastTransitionTime",
        "resourceVersion",
        "uid",
        "creationTimestamp",
        "managedFields",
        "generation",
        "observedGeneration",
        "startTime",
        "completionTime",
    ];
    match value {
        Value::Object(members) => {
            members.retain(|key, _| !TIMES.contains(&key.as_str()) && !key.ends_with("Uid"));
            members.values_mut().for_each(plain);
        }
        Value::Array(items) => items.iter_mut().for_each(plain),
        _ => {}
    }
}

/// The end of a story.
#[derive(Debug, PartialEq)]
pub struct End {
    objects: BTreeMap<String, String>,
    /// Creations and deletions that succeeded.
    pub deeds: BTreeMap<String, usize>,
    /// All writes that succeeded.
    pub writes: usize,
}

/// What differs by itself between two runs, as texts to replace.
struct Names(Vec<(String, &'static str)>);

impl Names {
    fn replace(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for (name, stands) in &self.0 {
            text = text.replace(name, stands);
        }
        text
    }
}

impl End {
    /// The end as it is now.
    pub async fn of(cluster: &Cluster, lives: &Lives) -> Self {
        let mut names = Names(vec![]);
        let backups = all::<StorageBackup>(cluster).await;
        for uid in backups.iter().filter_map(ResourceExt::uid) {
            // The names of a backup's Jobs have a part of the digest of its uid.
            let digest = stockpredictor_operator::writer::digest(&Value::from(uid.as_str()));
            names.0.push((uid, "UID"));
            names.0.push((digest.chars().take(6).collect(), "DIGEST"));
        }
        names.0.push((cluster.namespace().to_owned(), "NAMESPACE"));
        let mut objects = BTreeMap::new();
        add(&mut objects, &names, backups);
        add(&mut objects, &names, all::<StorageRestore>(cluster).await);
        add(&mut objects, &names, all::<StockPredictor>(cluster).await);
        add(&mut objects, &names, all::<Deployment>(cluster).await);
        add(&mut objects, &names, all::<CronJob>(cluster).await);
        add(&mut objects, &names, all::<Job>(cluster).await);
        let writes = lives.writes();
        let mut deeds = BTreeMap::new();
        for write in &writes {
            let (method, path) = write.split_once(' ').unwrap();
            if ["POST", "DELETE"].contains(&method) && !path.ends_with("/events") {
                *deeds.entry(names.replace(write)).or_default() += 1;
            }
        }
        Self {
            objects,
            deeds,
            writes: writes.len(),
        }
    }

    /// Fails when the two differ in anything but the number of writes.
    pub fn assert_same(&self, calm: &Self, what: &str) {
        assert_eq!(self.deeds, calm.deeds, "{what}");
        for (name, expected) in &calm.objects {
            let object = self.objects.get(name).map_or("", String::as_str);
            let (left, right) = (object.lines(), expected.lines());
            let differs = left.zip(right).find(|(left, right)| left != right);
            assert!(object == expected, "{what}: {name}: {differs:?}\n{object}");
        }
        assert_eq!(self.objects.len(), calm.objects.len(), "{what}");
    }
}

async fn all<K: Object>(cluster: &Cluster) -> Vec<K> {
    let found = cluster.api::<K>().list(&ListParams::default()).await;
    found.unwrap().items
}

fn add<K: Object>(objects: &mut BTreeMap<String, String>, names: &Names, found: Vec<K>) {
    for object in found {
        let mut value = json!(object);
        plain(&mut value);
        // A Job's labels have the uid that the API server gave it.
        if K::kind(&()) == "Job" {
            let (own, status) = (&value["metadata"], &value["status"]["conditions"]);
            value =
                json!({"name": own["name"], "annotations": own["annotations"], "status": status});
        }
        let text = names.replace(&serde_json::to_string_pretty(&value).unwrap());
        let name = format!("{} {}", K::kind(&()), object.name_any());
        objects.insert(names.replace(&name), text);
    }
}

/// Lets the operator die before and after each of its writes. Each time the end is that of the undisturbed story.
pub async fn survives_death<S, F>(name: &str, least: usize, story: S)
where
    S: Fn(String, Trouble) -> F,
    F: Future<Output = End>,
{
    let calm = story(format!("crash-{name}"), Trouble::none()).await;
    let deeds: usize = calm.deeds.values().sum();
    assert!(deeds >= least, "{:?}", calm.deeds);
    let deaths = (0..calm.writes).flat_map(|number| [Death::Before(number), Death::After(number)]);
    let ends = futures::stream::iter(deaths.map(|death| {
        let text = format!("{death:?}").to_lowercase().replace(['(', ')'], "-");
        let namespace = format!("crash-{name}-{}", text.trim_end_matches('-'));
        let told = story(namespace, Trouble::death(death));
        async move { (death, told.await) }
    }))
    .buffer_unordered(AT_ONCE)
    .collect::<Vec<_>>()
    .await;
    for (death, end) in ends {
        end.assert_same(&calm, &format!("{death:?}"));
    }
}
