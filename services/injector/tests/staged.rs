//! A version that is staged: held sealed and given to nobody but canaries, over a crash, and given out without
//! another question once it is current. While it is asked for, nothing that is withdrawn waits for it.
//!
//! Needs root, Docker, a static busybox and a built `keywheel-nsjoin`. Without them it says so and
//! stops, except in CI, where it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    unreachable_pub,
    dead_code
)]

use std::path::Path;
use std::time::Duration;

use keywheel_core::binding::Reload;
use keywheel_core::id::{ContainerId, SecretId};
use keywheel_core::plan::PlannedBinding;
use keywheel_core::report::{Fact, HostReport};
use keywheel_injector::{HostCache, HostSettings};

use crate::support::running::{Running, docker_host};
use crate::support::settings::{options, swapped};
use crate::support::{Container, FakeBus, LIMIT, binding, can_run, docker, file};

const SECRET: u8 = 1;
const CANARY: &str = "canary-7be1-staged";

fn plan(version: u64) -> Vec<PlannedBinding> {
    let current = Some(version);
    vec![binding(SECRET, "staged", file("db"), Reload::None, current)]
}

fn has_staged(version: u64) -> impl Fn(&[HostReport]) -> bool {
    let key = (SecretId::from_bytes([SECRET; 16]), version);
    move |reports| {
        let last = reports.last();
        last.is_some_and(|last| last.staged == [key] && last.knows_staged)
    }
}

/// Values that lie on the disk, sealed.
fn kept(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|name| name.ends_with(".sealed") && name.contains('-'))
        .count()
}

async fn wait_kept(folder: &Path, count: usize) {
    let wait = async {
        while kept(folder) != count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(LIMIT, wait).await;
    assert!(waited.is_ok(), "{} values are kept", kept(folder));
}

/// Whether a text is in any file below a folder.
fn is_below(folder: &Path, text: &str) -> bool {
    let entries = std::fs::read_dir(folder).unwrap();
    entries.map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return is_below(&path, text);
        }
        let bytes = std::fs::read(&path).unwrap_or_default();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_staged_version_is_held_sealed_and_given_out_without_being_asked_for_again() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("data/host-cache");
    let settings = || HostSettings {
        spool_dir: folder.path().join("data/spool"),
        host_cache: HostCache::KeyFile(folder.path().join("cache.key")),
        host_cache_dir: cache.clone(),
        ..options(folder.path())
    };
    let bus = FakeBus::new();
    let start = || Running::start(settings(), bus.clone(), docker_host(None));
    for (version, value) in [(1, "one"), (2, CANARY), (3, "three")] {
        bus.put(SECRET, version, value.as_bytes());
    }
    bus.publish(plan(1));
    let mut injector = start();
    let container = Container::start("staged", &[], "exec /bin/busybox sleep 600");
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;

    bus.publish_staged(plan(1), &[(SECRET, 2)]);
    bus.wait("that it is at hand", has_staged(2)).await;
    assert_eq!(container.cat("db"), (true, "one".into()), "given to nobody");
    wait_kept(&cache, 2).await;
    assert!(!is_below(&folder.path().join("data"), CANARY));
    injector.abandon().await;
    bus.clear();

    // It is told anew, and not asked for: it lies in the host's cache.
    let asked = bus.opened();
    let injector = start();
    bus.wait("that it is at hand after a crash", has_staged(2))
        .await;
    bus.publish(plan(2));
    bus.wait_facts("swapped to 2", 1, swapped(2)).await;
    assert_eq!(container.cat("db"), (true, CANARY.into()));
    assert_eq!(bus.opened(), asked, "no bytes are asked for");

    // What the plan names no more is dropped, here and on the disk.
    bus.publish_staged(plan(2), &[(SECRET, 3)]);
    bus.wait("that the next one is at hand", has_staged(3))
        .await;
    let generation = bus.publish(plan(2));
    let is_dropped = |report: &HostReport| {
        let is_held = report.holds.iter().any(|(_, version)| *version == 3);
        report.generation == generation && report.staged.is_empty() && !is_held
    };
    bus.wait("that it is dropped", |reports| {
        reports.iter().any(is_dropped)
    })
    .await;
    wait_kept(&cache, 1).await;
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_has_it_before_all_others_also_after_a_restart_and_goes_back_without_it() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let plan = |version| {
        let file = file("db");
        vec![binding(
            SECRET,
            "canaries",
            file,
            Reload::None,
            Some(version),
        )]
    };
    let bus = FakeBus::new();
    for (version, value) in [(1, "one"), (2, CANARY)] {
        bus.put(SECRET, version, value.as_bytes());
    }
    bus.publish(plan(1));
    let injector = Running::start(options(folder.path()), bus.clone(), docker_host(None));
    let sleeps = "exec /bin/busybox sleep 600";
    let check = [
        "--health-cmd",
        "[ ! -e /tmp/ill ]",
        "--health-interval",
        "200ms",
        "--health-retries",
        "1",
    ];
    let ahead = Container::start("canaries", &check, sleeps);
    let other = Container::start("canaries", &[], sleeps);
    bus.wait_facts("both at 1", 2, swapped(1)).await;

    let id = ContainerId::parse(&ahead.0).unwrap();
    bus.publish_canaries(plan(1), (SECRET, 2), &[id]);
    bus.wait_facts("one at 2", 1, swapped(2)).await;
    assert_eq!(ahead.cat("db"), (true, CANARY.into()));
    assert_eq!(other.cat("db"), (true, "one".into()), "nobody else has it");

    bus.clear();
    docker(&["restart", "-t", "1", &ahead.0]);
    bus.wait_facts("at 2 again", 1, swapped(2)).await;
    assert_eq!(ahead.cat("db"), (true, CANARY.into()));

    // Nothing restarted it, so only its health check tells.
    let is_told = |fact: &Fact| matches!(fact, Fact::Refused { version: 2, reason } if reason.starts_with("its health check fails"));
    assert!(ahead.exec("echo > /tmp/ill").0);
    bus.wait_facts("that it is ill", 1, is_told).await;
    bus.publish(plan(1));
    bus.wait_facts("back at 1", 1, swapped(1)).await;
    assert_eq!(ahead.cat("db"), (true, "one".into()));
    assert_eq!(other.cat("db"), (true, "one".into()));
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_withdrawn_is_off_the_disk_when_that_is_told_while_another_value_is_waited_for() {
    const LABEL: &str = "withdrawn-held";
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let cache = folder.path().join("data/host-cache");
    let settings = HostSettings {
        host_cache: HostCache::KeyFile(folder.path().join("cache.key")),
        host_cache_dir: cache.clone(),
        ..options(folder.path())
    };
    let bus = FakeBus::new();
    bus.put(SECRET, 1, b"one");
    bus.put(SECRET + 1, 1, b"another");
    let bound = |current| vec![binding(SECRET, LABEL, file("db"), Reload::None, current)];
    bus.publish(bound(Some(1)));
    let injector = Running::start(settings, bus.clone(), docker_host(None));
    let _container = Container::start(LABEL, &[], "exec /bin/busybox sleep 600");
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;
    wait_kept(&cache, 1).await;

    bus.hold_values(true);
    bus.publish_staged(bound(None), &[(SECRET + 1, 1)]);
    let is_told = |report: &&HostReport| {
        let mut items = report.items.iter();
        items.any(|item| matches!(item.fact, Fact::Withdrawn))
    };
    bus.wait("that it is withdrawn", |reports| {
        reports.iter().any(|report| is_told(&report))
    })
    .await;
    let reports = bus.reports();
    let first = reports.iter().find(is_told).unwrap();
    let key = (SecretId::from_bytes([SECRET; 16]), 1);
    assert!(!first.holds.contains(&key), "{first:?}");
    bus.hold_values(false);
    injector.end_in(folder.path()).await;
}
