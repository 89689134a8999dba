//! A disk that is full, or refuses writes: predictions are served on, and it is told.

use std::io;
use std::path::Path;
use std::sync::Arc;

use axum::body::Body;
use http::{Request, StatusCode};
use stockpredictor_predictor::serve::writer::Disk;
use stockpredictor_predictor::serve::{api, http as limits};
use tower::ServiceExt;

use super::common::{Service, Volume, eventually, in_process};

struct FullDisk;

impl Disk for FullDisk {
    fn write(&self, _: &Path, _: &[u8]) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn touch(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::StorageFull.into())
    }
}

#[tokio::test]
async fn on_a_full_disk_predictions_are_served_and_the_service_is_degraded() {
    let volume = Volume::new();
    let service = in_process(&volume, FullDisk);
    service.volume.look();
    service.refresh_model();
    let router = limits::with_limits(api::router(Arc::clone(&service)), &service);
    let get = async |path: &str| {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    };
    let (status, body) = get("/api/v1/predict/NVDA").await;
    assert_eq!(status, StatusCode::OK, "{body}");
    service.writer.flush(std::time::Duration::from_secs(5));
    let (status, body) = get("/api/v1/predict/NVDA").await;
    assert!(
        status == StatusCode::OK && body.contains("\"cache\":\"hit\""),
        "memory still caches: {body}"
    );
    assert_eq!(
        get("/readyz").await.0,
        StatusCode::OK,
        "a volume that fills later is no outage"
    );
    let (status, body) = get("/api/v1/health").await;
    assert!(
        status == StatusCode::OK && body.contains("degraded") && body.contains("VolumeFull"),
        "{body}"
    );
    let (_, body) = get("/api/v1/stats").await;
    assert!(body.contains("\"writable\":false"), "{body}");
    let (_, body) = get("/metrics").await;
    assert!(body.contains("stockpredictor_degraded 1"), "{body}");
    assert!(
        body.contains("stockpredictor_write_errors_total 2"),
        "{body}"
    );
}

/// A real file system of 4 MiB, where this machine lets tests mount one.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(folder: &Path) -> Option<Self> {
        let mounted = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=4m", "tmpfs"])
            .arg(folder)
            .output();
        mounted
            .is_ok_and(|done| done.status.success())
            .then(|| Self(folder.to_owned()))
    }

    fn remount(&self, mode: &str) {
        let done = std::process::Command::new("mount")
            .args(["-o", &format!("remount,{mode}")])
            .arg(&self.0)
            .status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("--lazy")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn a_real_full_disk_degrades_and_heals() {
    let folder = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(folder.path()) else {
        eprintln!(
            "SKIPPED: this user may not mount a small file system; the injected error above covers the rest"
        );
        return;
    };
    let done = super::common::predictor()
        .args(["storage", "setup", "--samples", "--tree-only", "--root"])
        .arg(&small.0)
        .output()
        .unwrap();
    assert!(done.status.success());
    let volume = Volume::at(&small.0);
    let service = Service::start(&volume, &[]);
    let filler = small.0.join("filler");
    let _ = std::fs::write(&filler, vec![0; 8 << 20]);
    assert_eq!(service.predict("NVDA")["cache"], "miss");
    assert_eq!(service.predict("NVDA")["cache"], "hit");
    eventually("the service is degraded", || {
        service.stats()["status"] == "degraded"
    });
    let stats = service.stats();
    assert_eq!(stats["problems"][0]["type"], "VolumeFull", "{stats}");
    assert_eq!(service.get("/readyz").status, 200);
    service.stop();
    // A pod that starts on it is as ready as one that was there before.
    let service = Service::start(&volume, &[]);
    assert_eq!(service.get("/readyz").status, 200);
    assert_eq!(service.stats()["problems"][0]["type"], "VolumeFull");
    std::fs::remove_file(filler).unwrap();
    eventually("the service is well again", || {
        service.stats()["status"] == "ok"
    });
    service.stop();
}

#[test]
fn folders_that_were_removed_are_made_again_and_nothing_is_degraded() {
    let volume = Volume::new();
    let service = Service::start(&volume, &[]);
    let folders = ["ml_cache/predictions_cache", "stock_data/predictions"];
    for folder in folders {
        std::fs::remove_dir_all(volume.path(folder)).unwrap();
    }
    assert_eq!(service.predict("NVDA")["cache"], "miss");
    eventually("both files are there", || {
        let daily = volume.path("stock_data/predictions/daily");
        volume.path(folders[0]).exists()
            && volume.cache_files().len() == 1
            && std::fs::read_dir(daily).is_ok_and(|files| files.count() == 1)
    });
    assert_eq!(service.stats()["status"], "ok");
    service.stop();
}

#[test]
fn a_volume_that_is_read_only_at_the_start_keeps_the_service_from_being_ready() {
    let folder = tempfile::tempdir().unwrap();
    let Some(small) = Small::mount(folder.path()) else {
        eprintln!(
            "SKIPPED: this user may not mount a file system; the volume's own tests cover the rest"
        );
        return;
    };
    let done = super::common::predictor()
        .args(["storage", "setup", "--samples", "--tree-only", "--root"])
        .arg(&small.0)
        .output()
        .unwrap();
    assert!(done.status.success());
    small.remount("ro");
    let done = super::common::predictor()
        .args(["storage", "setup", "--root"])
        .arg(&small.0)
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(
        message.contains("chown -R 1001:1001") && message.contains("fsGroup"),
        "{message}"
    );
    let volume = Volume::at(&small.0);
    let service = Service::start(&volume, &[]);
    let ready = service.get("/readyz");
    assert!(
        ready.status == 503 && ready.body.contains("can't be written to"),
        "{ready:?}"
    );
    assert_eq!(service.get("/livez").status, 200);
    assert_eq!(service.stats()["problems"][0]["type"], "VolumeNotWritable");
    small.remount("rw");
    eventually("the service is ready", || {
        service.get("/readyz").status == 200
    });
    service.stop();
}
