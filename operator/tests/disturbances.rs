//! Stories of backups and restores on a real API server in bad times: the operator dies at each of its writes, requests fail, and
//! the API server is away. The end is always the same, and nothing is made or deleted twice.
//!
//! Ignored by default, because they need the binaries that e2e/cluster/tools.sh builds; `make test` runs them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests may fail by panicking, as the tests themselves do"
)]

#[path = "common/backup_story.rs"]
mod backup_story;
mod common;
#[path = "common/crash.rs"]
mod crash;
#[path = "common/faults.rs"]
mod faults;
#[path = "common/lives.rs"]
mod lives;
#[path = "common/restore_story.rs"]
mod restore_story;
#[path = "common/story.rs"]
mod story;
#[path = "common/world.rs"]
mod world;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use common::Cluster;
use lives::{Middle, Trouble};
use story::{End, survives_death};
use tokio::sync::Barrier;

/// How long the API server is away.
const OUTAGE: Duration = Duration::from_mins(1);
/// Seeds of faults. A new one is another arrangement of them.
const SEEDS: [u64; 6] = [1, 2, 3, 4, 5, 6];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a kube-apiserver: make test"]
async fn the_operator_may_die_at_each_write_of_a_restore() {
    survives_death("whole", 4, restore_story::whole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a kube-apiserver: make test"]
async fn the_operator_may_die_at_each_write_of_a_restore_that_goes_back() {
    survives_death("back", 4, restore_story::back).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a kube-apiserver: make test"]
async fn the_operator_may_die_at_each_write_of_backups() {
    // Four Jobs, of which two go by the limits of history, and the schedule of restore tests.
    survives_death("backups", 7, backup_story::story).await;
}

/// The story, undisturbed and with the faults of each seed.
async fn survives_faults<S, F>(name: &str, span: usize, story: S)
where
    S: Fn(String, Trouble) -> F,
    F: Future<Output = End>,
{
    let calm = story(format!("faults-{name}"), Trouble::none());
    let stories = SEEDS.map(|seed| {
        let trouble = Trouble::between(move |client| {
            faults::faulty(client, faults::chosen(seed, span / 10, span))
        });
        let told = story(format!("faults-{name}-{seed}"), trouble);
        async move { (seed, told.await) }
    });
    let (calm, ends) = futures::future::join(calm, futures::future::join_all(stories)).await;
    for (seed, end) in ends {
        let faults = faults::chosen(seed, span / 10, span);
        end.assert_same(&calm, &format!("seed {seed}: {faults:?}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a kube-apiserver: make test"]
async fn errors_at_requests_change_nothing_about_the_end_of_a_restore() {
    survives_faults("whole", 250, restore_story::whole).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a kube-apiserver: make test"]
async fn errors_at_requests_change_nothing_about_the_end_of_backups() {
    survives_faults("backups", 80, backup_story::story).await;
}

/// An API server that doesn't answer: `before` when both stories are in their middle, `after` a minute later.
fn outage(
    together: &Arc<Barrier>,
    before: impl Fn() + Send + Sync + 'static,
    after: impl Fn() + Send + Sync + 'static,
) -> Middle {
    let (together, before, after) = (together.clone(), Arc::new(before), Arc::new(after));
    Arc::new(move || {
        let (together, before, after) = (together.clone(), before.clone(), after.clone());
        Box::pin(async move {
            let leads = together.wait().await.is_leader();
            if leads {
                before();
                tokio::time::sleep(OUTAGE).await;
                after();
            }
            together.wait().await;
        })
    })
}

/// Both stories, undisturbed and with this in their middle.
async fn survives_outage(names: [&str; 4], trouble: impl AsyncFn(&Cluster) -> Trouble) {
    let clusters = Cluster::alone(&names).await;
    let [calm_restore, calm_backup, restore, backup] = clusters.as_slice() else {
        panic!("four namespaces")
    };
    let (calm_restored, calm_saved) = tokio::join!(
        restore_story::told(calm_restore, false, Trouble::none()),
        backup_story::told(calm_backup, Trouble::none()),
    );
    let (of_restore, of_backup) = (trouble(restore).await, trouble(backup).await);
    let (restored, saved) = tokio::join!(
        restore_story::told(restore, false, of_restore),
        backup_story::told(backup, of_backup),
    );
    restored.assert_same(&calm_restored, "the restore");
    saved.assert_same(&calm_saved, "the backups");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a kube-apiserver: make test"]
async fn an_api_server_that_is_silent_for_a_minute_changes_nothing_about_the_end() {
    let together = Arc::new(Barrier::new(2));
    let names = [
        "silent-calm-restore",
        "silent-calm-backup",
        "silent-restore",
        "silent-backup",
    ];
    survives_outage(names, async |cluster| {
        let (stops, goes_on) = (cluster.clone(), cluster.clone());
        let middle = outage(
            &together,
            move || stops.signal("STOP"),
            move || goes_on.signal("CONT"),
        );
        Trouble {
            middle: Some(middle),
            clients: Some(cluster.clients_of_the_program().await),
            ..Trouble::none()
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
#[ignore = "needs a kube-apiserver: make test"]
async fn an_api_server_that_refuses_connections_for_a_minute_changes_nothing_about_the_end() {
    let (together, away) = (Arc::new(Barrier::new(2)), Arc::new(AtomicBool::new(false)));
    let names = [
        "away-calm-restore",
        "away-calm-backup",
        "away-restore",
        "away-backup",
    ];
    survives_outage(names, async |_| {
        let (goes, comes, gone) = (away.clone(), away.clone(), away.clone());
        let middle = outage(
            &together,
            move || goes.store(true, Ordering::SeqCst),
            move || comes.store(false, Ordering::SeqCst),
        );
        let between = move |client| faults::refusing(client, gone.clone());
        Trouble {
            middle: Some(middle),
            ..Trouble::between(between)
        }
    })
    .await;
}
