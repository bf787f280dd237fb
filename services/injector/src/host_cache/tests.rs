//! Tests of what the host keeps: damage, another key, modes, a kill before the rename.

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use keywheel_core::id::{ContainerId, DeploymentId, HostId};
use keywheel_core::name::HostName;
use keywheel_core::plan::Leave;
use keywheel_core::time::Timestamp;
use keywheel_seal::OsEntropy;

use super::*;
use crate::lease::{Lease, Moment};
use crate::options::{HostCache as Kind, LeasePolicy};

const CANARY: &[u8] = b"canary-7f1c-in-the-host-cache";

fn options(folder: &Path) -> HostSettings {
    HostSettings {
        deployment: DeploymentId::from_bytes([1; 16]),
        host: HostId::from_bytes([2; 16]),
        host_name: HostName::parse("web-1").unwrap(),
        run_dir: folder.join("run"),
        spool_dir: folder.join("spool"),
        helper: folder.join("none"),
        runtime_socket: folder.join("socket"),
        runtime_names: Vec::new(),
        reconcile_interval: Duration::from_secs(30),
        fs_kind: None,
        host_cache: Kind::KeyFile(folder.join("cache.key")),
        host_cache_dir: folder.join("data/host-cache"),
        lease: crate::options::HOST_LEASE,
        lease_policy: LeasePolicy::Keep,
        first_use: false,
    }
}

fn open(options: &HostSettings) -> (HostCache, Restored) {
    HostCache::open(options, Arc::new(OsEntropy))
        .unwrap()
        .unwrap()
}

fn plan(generation: u64) -> Arc<HostPlan> {
    Arc::new(HostPlan {
        host: HostId::from_bytes([2; 16]),
        host_name: HostName::parse("web-1").unwrap(),
        generation,
        bindings: Vec::new(),
        leaves: Vec::new(),
        staged: Vec::new(),
        orders: Vec::new(),
    })
}

fn key(secret: u8, version: u64) -> VersionKey {
    (SecretId::from_bytes([secret; 16]), version)
}

fn keep(cache: &HostCache, key: VersionKey) {
    let value = SecretBytes::from(CANARY.to_vec());
    let wanted = || {
        cache.claim(key);
        true
    };
    cache.keep_value(key, &value, wanted).unwrap();
}

fn settle(cache: &HostCache, generation: u64, wanted: &[VersionKey]) {
    let wanted: BTreeSet<VersionKey> = wanted.iter().copied().collect();
    let newest = || Some((plan(generation), wanted.clone()));
    cache.settle(newest).unwrap();
    assert!(!cache.is_behind(&plan(generation)));
    cache.clear(newest).unwrap();
    assert!(!cache.has_unwanted(&wanted));
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder.join("data/host-cache")).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn what_is_kept_comes_back_after_a_restart_and_is_never_plain_on_the_disk() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let (cache, found) = open(&options);
    assert!(found.plan.is_none() && found.values.is_empty() && found.lease.is_none());
    keep(&cache, key(3, 7));
    settle(&cache, 9, &[key(3, 7)]);
    let at = Moment {
        wall: Timestamp::from_micros(5),
        boot: "b".to_owned(),
        uptime: Duration::from_secs(1),
    };
    let mut lease = Lease::default();
    lease.renew(Duration::ZERO);
    let stored = lease.store(Duration::from_secs(3), &at).unwrap();
    cache.keep_lease(&stored).unwrap();
    drop(cache);
    for path in files(folder.path()) {
        let bytes = std::fs::read(&path).unwrap();
        assert!(!bytes.windows(CANARY.len()).any(|part| part == CANARY));
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{}", path.display());
    }
    let mode = std::fs::metadata(&options.host_cache_dir)
        .unwrap()
        .permissions();
    assert_eq!(mode.mode() & 0o777, 0o700);
    let (cache, found) = open(&options);
    assert_eq!(found.plan.as_ref(), Some(&*plan(9)));
    assert_eq!(found.lease, Some(stored));
    assert_eq!(cache.held(), BTreeSet::from([key(3, 7)]));
    let (found_key, sealed) = &found.values[0];
    let value = cache.open_value(*found_key, sealed).unwrap();
    assert!(value.ct_eq(&SecretBytes::from(CANARY.to_vec())));
    assert!(cache.open_value(key(3, 8), sealed).is_none(), "moved");
}

#[test]
fn a_dead_version_leaves_the_disk_with_the_plan_that_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let (cache, _) = open(&options);
    keep(&cache, key(3, 7));
    keep(&cache, key(4, 1));
    assert!(cache.is_behind(&plan(10)) && cache.has_unwanted(&BTreeSet::new()));
    settle(&cache, 10, &[key(4, 1)]);
    assert_eq!(cache.held(), BTreeSet::from([key(4, 1)]));
    let (cache, found) = open(&options);
    assert_eq!(found.values.len(), 1);
    assert_eq!(cache.held(), BTreeSet::from([key(4, 1)]));
    assert_eq!(found.plan.map(|plan| plan.generation), Some(10));
}

#[test]
fn what_could_not_be_removed_stays_held() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = open(&options(folder.path()));
    keep(&cache, key(3, 7));
    // A directory in its place: it cannot be unlinked, also not by root.
    let path = cache.path(&stem_of(key(3, 7)));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let result = cache.clear(|| Some((plan(2), BTreeSet::new())));
    assert!(result.is_err());
    assert_eq!(cache.held(), BTreeSet::from([key(3, 7)]));
}

#[test]
fn a_value_that_is_not_wanted_any_more_is_not_written() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = open(&options(folder.path()));
    let value = SecretBytes::from(CANARY.to_vec());
    cache.keep_value(key(3, 7), &value, || false).unwrap();
    assert!(cache.held().is_empty() && files(folder.path()).is_empty());
}

#[test]
fn damaged_cut_swapped_and_strange_files_count_as_absent() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let (cache, _) = open(&options);
    for version in 1..=4 {
        keep(&cache, key(3, version));
    }
    settle(&cache, 5, &[1, 2, 3, 4].map(|version| key(3, version)));
    let path = |version| cache.path(&stem_of(key(3, version)));
    let mut bytes = std::fs::read(path(1)).unwrap();
    bytes[60] ^= 1;
    std::fs::write(path(1), bytes).unwrap();
    std::fs::write(path(2), b"").unwrap();
    std::fs::copy(path(4), path(3)).unwrap();
    std::fs::write(cache.path(PLANS[0]), b"nonsense").unwrap();
    std::fs::write(cache.path("strange"), b"x").unwrap();
    let long = std::fs::File::create(cache.path(&stem_of(key(3, 5)))).unwrap();
    long.set_len(1 << 30).unwrap();
    let (cache, found) = open(&options);
    let left: Vec<VersionKey> = found.values.iter().map(|(key, _)| *key).collect();
    assert_eq!(left, [key(3, 4)]);
    assert!(found.plan.is_none());
    assert_eq!(cache.held(), BTreeSet::from([key(3, 4)]));
    assert_eq!(files(folder.path()).len(), 1);
}

#[test]
fn under_another_key_or_on_another_host_nothing_opens() {
    let folder = tempfile::tempdir().unwrap();
    let first = options(folder.path());
    let (cache, _) = open(&first);
    keep(&cache, key(3, 7));
    settle(&cache, 5, &[key(3, 7)]);
    let copy = |to: &HostSettings| {
        std::fs::create_dir_all(&to.host_cache_dir).unwrap();
        for path in files(folder.path()) {
            std::fs::copy(&path, to.host_cache_dir.join(path.file_name().unwrap())).unwrap();
        }
    };
    let mut host = options(folder.path());
    host.host = HostId::from_bytes([9; 16]);
    host.host_cache_dir = folder.path().join("other/host-cache");
    copy(&host);
    let mut rekeyed = options(folder.path());
    rekeyed.host_cache_dir = folder.path().join("third/host-cache");
    rekeyed.host_cache = Kind::KeyFile(folder.path().join("other.key"));
    copy(&rekeyed);
    std::fs::write(folder.path().join("other.key"), [7; 32]).unwrap();
    let owner = std::fs::Permissions::from_mode(0o600);
    std::fs::set_permissions(folder.path().join("other.key"), owner).unwrap();
    for other in [host, rekeyed] {
        let (cache, found) = open(&other);
        assert!(found.plan.is_none() && found.values.is_empty());
        assert!(cache.held().is_empty());
    }
}

#[test]
fn a_write_that_was_killed_before_its_rename_leaves_the_file_of_before() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let (cache, _) = open(&options);
    keep(&cache, key(3, 7));
    settle(&cache, 5, &[key(3, 7)]);
    let half = std::fs::read(cache.path(PLANS[0])).unwrap();
    std::fs::write(options.host_cache_dir.join(TEMP_NAME), &half[..20]).unwrap();
    let (cache, found) = open(&options);
    assert_eq!(found.plan.map(|plan| plan.generation), Some(5));
    assert_eq!(found.values.len(), 1);
    assert!(!options.host_cache_dir.join(TEMP_NAME).exists());
    settle(&cache, 6, &[key(3, 7)]);
    assert_eq!(open(&options).1.plan.map(|plan| plan.generation), Some(6));
}

/// A plan of another size than those of [`plan`].
fn longer(generation: u64) -> Arc<HostPlan> {
    let mut longer = (*plan(generation)).clone();
    let container = ContainerId::parse(&"c".repeat(64)).unwrap();
    longer.leaves = vec![
        Leave {
            container,
            number: 1,
            not_before: None,
        };
        100
    ];
    Arc::new(longer)
}

fn inode(cache: &HostCache, record: &str) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(cache.path(record)).unwrap().ino()
}

#[test]
fn a_plan_takes_the_room_of_the_one_before_the_last_and_the_newest_counts() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let (cache, _) = open(&options);
    settle(&cache, 5, &[]);
    settle(&cache, 6, &[]);
    let before = PLANS.map(|record| inode(&cache, record));
    settle(&cache, 7, &[]);
    assert_eq!(PLANS.map(|record| inode(&cache, record)), before);
    for generation in 8..=11 {
        // Each is told of by another run.
        let (cache, found) = open(&options);
        assert_eq!(found.plan, Some((*plan(generation - 1)).clone()));
        settle(&cache, generation, &[]);
    }
    cache_longer_and_back(&options);
}

/// A plan that needs other room is written whole, and found all the same.
fn cache_longer_and_back(options: &HostSettings) {
    for next in [longer(12), longer(13), plan(14), longer(15), plan(16)] {
        let (cache, _) = open(options);
        let told = Arc::clone(&next);
        cache.settle(|| Some((told, BTreeSet::new()))).unwrap();
        assert_eq!(open(options).1.plan, Some((*next).clone()));
    }
}

#[test]
fn a_plan_is_behind_also_while_something_else_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let (cache, _) = open(&options(folder.path()));
    settle(&cache, 5, &[]);
    let _writes = lock(&cache.disk);
    assert!(!cache.is_behind(&plan(5)) && cache.is_behind(&plan(6)));
}

#[test]
fn a_plan_that_stayed_half_written_leaves_the_one_before() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let (cache, _) = open(&options);
    for generation in 5..=7 {
        settle(&cache, generation, &[]);
    }
    // The seventh lies where the fifth did.
    let path = cache.path(PLANS[0]);
    let mut torn = std::fs::read(&path).unwrap();
    torn[3000..].fill(0);
    std::fs::write(&path, torn).unwrap();
    let (cache, found) = open(&options);
    assert_eq!(found.plan, Some((*plan(6)).clone()));
    assert!(!path.exists());
    settle(&cache, 8, &[]);
    assert!(path.exists());
    assert_eq!(open(&options).1.plan, Some((*plan(8)).clone()));
}

#[test]
fn where_a_plan_cannot_be_kept_its_dead_versions_are_gone_all_the_same() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let (cache, _) = open(&options);
    for version in 7..=8 {
        keep(&cache, key(3, version));
    }
    settle(&cache, 5, &[key(3, 7), key(3, 8)]);
    // A directory in the place of the next plan.
    std::fs::create_dir(cache.path(PLANS[1])).unwrap();
    let kept = cache.settle(|| Some((plan(6), BTreeSet::from([key(3, 8)]))));
    assert!(kept.is_err() && cache.is_behind(&plan(6)));
    assert!(!cache.path(&stem_of(key(3, 7))).exists());
    assert_eq!(cache.held(), BTreeSet::from([key(3, 8)]));
    std::fs::remove_dir(cache.path(PLANS[1])).unwrap();
    settle(&cache, 6, &[key(3, 8)]);
    assert_eq!(open(&options).1.plan, Some((*plan(6)).clone()));
}

#[test]
fn the_plan_of_an_earlier_build_counts_and_no_such_build_finds_it_again() {
    let folder = tempfile::tempdir().unwrap();
    let options = options(folder.path());
    let (cache, _) = open(&options);
    let keep_lone = |cache: &HostCache, generation| {
        let bytes = plan_to_json(&plan(generation));
        cache.write_record(LONE_PLAN, bytes).unwrap();
    };
    keep_lone(&cache, 5);
    // The second time a crash left it where a newer one is.
    for newest in [5, 6] {
        let (cache, found) = open(&options);
        assert_eq!(found.plan, Some((*plan(newest)).clone()));
        assert!(!cache.path(LONE_PLAN).exists() && !cache.is_behind(&plan(newest)));
        assert_eq!(open(&options).1.plan, found.plan);
        settle(&cache, newest + 1, &[]);
        keep_lone(&cache, 5);
    }
    let (cache, found) = open(&options);
    assert_eq!(found.plan, Some((*plan(7)).clone()));
    assert!(!cache.path(LONE_PLAN).exists());
}

#[test]
fn off_keeps_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.host_cache = Kind::Off;
    assert!(
        HostCache::open(&options, Arc::new(OsEntropy))
            .unwrap()
            .is_none()
    );
    assert!(!options.host_cache_dir.exists());
}

#[test]
fn the_keyring_gives_the_same_key_to_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let mut options = options(folder.path());
    options.host_cache = Kind::Keyring;
    // A name of its own, so that nothing else on this machine uses the key.
    let mut id = [0; 16];
    OsEntropy.fill(&mut id);
    options.host = HostId::from_bytes(id);
    let Some((cache, _)) = HostCache::open(&options, Arc::new(OsEntropy)).unwrap() else {
        return;
    };
    keep(&cache, key(3, 7));
    drop(cache);
    let values = open(&options).1.values.len();
    let name = key::keyring_name(options.deployment, options.host);
    keywheel_sys::keyring::remove(&name).unwrap();
    let after_reboot = open(&options).1.values.len();
    keywheel_sys::keyring::remove(&name).unwrap();
    assert_eq!((values, after_reboot), (1, 0));
}
