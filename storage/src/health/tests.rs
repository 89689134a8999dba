use super::*;
use crate::setup;
use std::collections::BTreeMap;

const MOUNTS: &str = "1 0 8:1 / / rw - overlay overlay rw\n\
    2 1 8:2 / /app/persistent_data rw,relatime shared:1 - ext4 /dev/sdb rw\n\
    3 1 8:3 / /mnt/with\\040space rw - xfs /dev/sdc rw\n\
    nonsense\n\
    4 1 0:9 / /tmp rw - tmpfs tmpfs rw\n";

#[test]
fn the_mount_of_a_path_is_the_longest_one_above_it() {
    let table = [
        ("/app/persistent_data", "/app/persistent_data", "ext4"),
        ("/app/persistent_data/logs", "/app/persistent_data", "ext4"),
        ("/app/persistent_data2", "/", "overlay"),
        ("/mnt/with space/x", "/mnt/with space", "xfs"),
    ];
    for (path, point, kind) in table {
        let found = mount_of(MOUNTS, Path::new(path)).unwrap();
        assert_eq!(
            (found.point.to_str(), found.kind.as_str()),
            (Some(point), kind)
        );
    }
    assert_eq!(mount_of("", Path::new("/")), None);
}

#[test]
fn a_folder_of_the_container_is_a_warning_and_a_volume_is_good() {
    let judge = |path: &str, in_container| {
        let path = Path::new(path);
        judge_mount(path, mount_of(MOUNTS, path), false, in_container)
    };
    assert_eq!(judge("/app/persistent_data", true).state, State::Ok);
    assert_eq!(judge("/app/persistent_data/below", true).state, State::Ok);
    let folder = judge("/app/data", true);
    assert_eq!(folder.state, State::Warning);
    assert!(folder.message.contains("only") || folder.message.contains("Only"));
    assert_eq!(judge("/app/data", false).state, State::Ok);
    assert_eq!(judge("/tmp", true).state, State::Warning);
}

#[test]
fn room_warns_from_80_and_fails_from_95_percent() {
    let state = |used, free| {
        let space = Space {
            capacity: 1000,
            used,
            free,
            inodes: 0,
            inodes_free: 0,
        };
        let checks = room(&space);
        assert_eq!(checks.len(), 1, "without inodes nothing is said of them");
        checks[0].state
    };
    assert_eq!(state(799, 201), State::Ok);
    assert_eq!(state(800, 200), State::Warning);
    assert_eq!(state(949, 51), State::Warning);
    assert_eq!(state(950, 50), State::Failed);
    assert_eq!(state(0, 0), State::Ok);
    // Reserved for root: 900 of 1000 are used, but of 950 that users have.
    assert_eq!(state(903, 47), State::Failed);
}

fn states(layout: &Layout) -> BTreeMap<&'static str, State> {
    let checks = run(layout, &Surroundings::default());
    checks
        .iter()
        .map(|check| (check.name, check.state))
        .collect()
}

#[test]
fn a_volume_passes_and_nothing_is_left_on_it() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    setup::run(&layout, &setup::Request::default()).unwrap();
    let count = || fs::read_dir(layout.state()).unwrap().count();
    let before = count();
    let states = states(&layout);
    for name in [
        "setup",
        "directories",
        "permissions",
        "write",
        "read",
        "fsync",
        "rename",
        "locks",
        "mount",
    ] {
        assert_eq!(states[name], State::Ok, "{name}");
    }
    assert_eq!(count(), before);
}

#[test]
fn what_is_wrong_is_told_with_the_way_to_put_it_right() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path());
    setup::run(&layout, &setup::Request::default()).unwrap();
    fs::remove_dir(layout.join("scalers/feature_scalers")).unwrap();
    fs::set_permissions(layout.join("logs"), fs::Permissions::from_mode(0o777)).unwrap();
    let found = states(&layout);
    assert_eq!(found["directories"], State::Failed);
    assert_eq!(found["permissions"], State::Failed);
    fs::remove_dir_all(layout.state()).unwrap();
    let found = states(&layout);
    assert_eq!(found["setup"], State::Failed);
    assert_eq!(found["write"], State::Failed);
    assert!(!found.contains_key("read"), "it can't be tried");
    for check in run(&layout, &Surroundings::default()) {
        assert_eq!(check.state == State::Ok, check.fix.is_none(), "{check:?}");
    }
    let nowhere = Layout::new(folder.path().join("nowhere"));
    let checks = run(&nowhere, &Surroundings::default());
    assert_eq!((checks.len(), checks[0].state), (1, State::Failed));
}
