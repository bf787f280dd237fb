//! Several files of one secret, one file of two secrets, and one of two versions of a secret, in real containers.
//!
//! Needs root, Docker, a static busybox and a built `keywheel-nsjoin`. Without them it says so and
//! stops, except in CI, where it fails.

use keywheel_core::binding::Reload;
use keywheel_core::id::{DeliveryId, SecretId};
use keywheel_core::name::SecretName;
use keywheel_core::plan::{Grant, PlannedBinding, PlannedPrevious, PlannedSecret};
use keywheel_core::report::{Fact, HostReport};

use crate::containers::{IDLE, start};
use crate::support::settings::swapped;
use crate::support::{Container, FakeBus, binding, can_run, file, files};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_one_secret_change_together_and_give_way_to_a_file_and_back() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    let set = files(
        "db",
        &[
            ("password", "{{ secret(\"test/secret-16\").password }}"),
            ("user", "{{ secret(\"test/secret-16\").user }}"),
        ],
    );
    let plan = |target, version| vec![binding(16, "set", target, Reload::None, version)];
    for version in 1..=4 {
        let value = format!(r#"{{"user":"u{version}","password":"p{version}"}}"#);
        bus.put(16, version, value.as_bytes());
    }
    bus.publish(plan(set.clone(), Some(1)));
    let mut injector = start(folder.path(), &bus);
    let container = Container::start("set", &[], IDLE);
    let both = || {
        let (user, password) = (container.cat("db/user"), container.cat("db/password"));
        (user.1, password.1)
    };
    let about = |path: &str| {
        let line = format!("/bin/busybox stat -c '%a %u %g %i' /run/secrets/{path}");
        container.exec(&line).1
    };
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;
    assert_eq!(both(), ("u1".into(), "p1".into()));
    assert!(about("db").starts_with("755 0 0 ") && about("db/user").starts_with("440 7 8 "));

    // Got back after a crash, compared, and not written again.
    let before = (about("db"), about("db/user"));
    injector.abandon().await;
    bus.clear();
    let injector = start(folder.path(), &bus);
    bus.wait_facts("said again", 1, swapped(1)).await;
    assert_eq!((about("db"), about("db/user")), before);
    bus.publish(plan(set.clone(), Some(2)));
    bus.wait_facts("swapped to 2", 1, swapped(2)).await;
    assert_eq!(both(), ("u2".into(), "p2".into()));

    // A file in the place of the directory, and a directory in that of the file.
    bus.publish(plan(file("db"), Some(3)));
    bus.wait_facts("swapped to 3", 1, swapped(3)).await;
    assert_eq!(container.cat("db").1, r#"{"user":"u3","password":"p3"}"#);
    bus.publish(plan(set.clone(), Some(4)));
    bus.wait_facts("swapped to 4", 1, swapped(4)).await;
    assert_eq!(both(), ("u4".into(), "p4".into()));
    bus.publish(plan(set, None));
    bus.wait_facts("withdrawn", 1, |fact| *fact == Fact::Withdrawn)
        .await;
    let left = container.exec("/bin/busybox ls -A /run/secrets");
    assert_eq!(left, (true, String::new()), "nothing is left");
    injector.end_in(folder.path()).await;
}

/// A file of secret 17 at version 1 and secret 18 at this one.
fn of_two(version: Option<u64>) -> Vec<PlannedBinding> {
    let mut target = file("db");
    if let keywheel_core::binding::Target::File { template, .. } = &mut target {
        let text = "{{ secret(\"test/secret-17\") }}:{{ secret(\"test/secret-18\").key }}";
        *template = Some(text.to_owned());
    }
    let mut planned = binding(17, "two", target, Reload::None, Some(1));
    planned.also.push(PlannedSecret {
        secret: SecretId::from_bytes([18; 16]),
        name: SecretName::parse("test/secret-18").unwrap(),
        current: version.map(|version| Grant {
            version,
            delivery: DeliveryId::from_bytes([18; 16]),
        }),
        floor: 0,
        dead: std::collections::BTreeSet::new(),
        traceparent: None,
    });
    vec![planned]
}

/// Whether a fact like this was told of a secret.
fn is_told(reports: &[HostReport], secret: u8, like: impl Fn(&Fact) -> bool) -> bool {
    let secret = SecretId::from_bytes([secret; 16]);
    let mut items = reports.iter().flat_map(|report| &report.items);
    items.any(|item| item.secret == secret && like(&item.fact))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_two_secrets_is_told_of_each_and_goes_when_one_of_them_does() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    bus.put(17, 1, b"own");
    bus.put(18, 1, br#"{"key":"k1"}"#);
    bus.put(18, 2, br#"{"key":"k2"}"#);
    bus.publish(of_two(Some(1)));
    let mut injector = start(folder.path(), &bus);
    let container = Container::start("two", &[], IDLE);
    let both = |reports: &[HostReport]| {
        is_told(reports, 17, swapped(1)) && is_told(reports, 18, swapped(1))
    };
    bus.wait("both are in place", both).await;
    assert_eq!(container.cat("db"), (true, "own:k1".into()));

    // Got back after a crash, compared, and not written again.
    let inode = || container.exec("/bin/busybox stat -c %i /run/secrets/db").1;
    let before = inode();
    injector.abandon().await;
    bus.clear();
    let injector = start(folder.path(), &bus);
    bus.wait("both are said again", both).await;
    assert_eq!(inode(), before);

    bus.publish(of_two(Some(2)));
    bus.wait("the other one", |reports| is_told(reports, 18, swapped(2)))
        .await;
    assert_eq!(container.cat("db"), (true, "own:k2".into()));

    bus.publish(of_two(None));
    let is_gone = |fact: &Fact| *fact == Fact::Withdrawn;
    bus.wait("both are gone", |reports| {
        is_told(reports, 17, is_gone) && is_told(reports, 18, is_gone)
    })
    .await;
    bus.wait("nothing is held", |reports| {
        let last = reports.last();
        last.is_some_and(|last| last.complete && last.holds.is_empty())
    })
    .await;
    assert!(!container.cat("db").0);
    injector.end_in(folder.path()).await;
}

/// A file of secret 19: the current version, and the one before it.
fn with_previous(current: u64, previous: Option<u64>) -> PlannedBinding {
    let mut target = file("keys");
    if let keywheel_core::binding::Target::File { template, .. } = &mut target {
        let name = "test/secret-19";
        let text = format!(
            "{{{{ secret(\"{name}\") }}}},{{{{ secret(\"{name}\", version=\"previous\") }}}}"
        );
        *template = Some(text);
    }
    let mut planned = binding(19, "previous", target, Reload::None, Some(current));
    let previous = previous.map(|version| PlannedPrevious {
        secret: planned.secret,
        grant: Grant {
            version,
            delivery: DeliveryId::from_bytes([19; 16]),
        },
    });
    planned.previous = previous.into_iter().collect();
    planned
}

/// Whether the last report says that the host was looked at, and holds exactly these versions of secret 19.
fn holds_all(versions: &[u64]) -> impl Fn(&[HostReport]) -> bool {
    let secret = SecretId::from_bytes([19; 16]);
    let all = versions.iter().map(|version| (secret, *version));
    let all: Vec<(SecretId, u64)> = all.collect();
    move |reports| {
        let last = reports.last();
        last.is_some_and(|last| last.complete && last.holds == all)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_version_before_is_held_over_a_crash_until_no_file_has_it_any_more() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    bus.put(19, 1, b"one");
    bus.put(19, 2, b"two");
    bus.publish(vec![with_previous(1, None)]);
    let mut injector = start(folder.path(), &bus);
    let container = Container::start("previous", &[], IDLE);
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;
    assert_eq!(container.cat("keys"), (true, "one,".into()));
    bus.publish(vec![with_previous(2, Some(1))]);
    bus.wait_facts("swapped to 2", 1, swapped(2)).await;
    assert_eq!(container.cat("keys"), (true, "two,one".into()));
    bus.wait("both are held", holds_all(&[1, 2])).await;

    // Got back after a crash, compared, and not written again.
    let inode = || {
        container
            .exec("/bin/busybox stat -c %i /run/secrets/keys")
            .1
    };
    let before = inode();
    injector.abandon().await;
    bus.clear();
    let injector = start(folder.path(), &bus);
    bus.wait("both are held again", holds_all(&[1, 2])).await;
    assert_eq!(inode(), before);

    // Dead: the file is made again without it, and only then the host says that it is gone.
    let mut revoked = with_previous(2, None);
    revoked.floor = 1;
    bus.publish(vec![revoked]);
    bus.wait("one is held", holds_all(&[2])).await;
    assert_eq!(container.cat("keys"), (true, "two,".into()));
    injector.end_in(folder.path()).await;
}
