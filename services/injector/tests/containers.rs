//! The injector against real containers of the local Docker engine, with the bus played by the test.
//!
//! Needs root, Docker, a static busybox and a built `keywheel-nsjoin`. Without them it says so and
//! stops, except in CI, where it fails.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    clippy::await_holding_lock,
    unreachable_pub,
    dead_code
)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::binding::{Reload, Rollout};
use keywheel_core::id::ContainerId;
use keywheel_core::plan::Leave;
use keywheel_core::report::{Fact, HostReport, RestartState};
use keywheel_daemon::SystemClock;
use keywheel_injector::HostSettings;

use crate::support::running::{Running, docker_host, wait_remembered};
use crate::support::settings::{options, reloaded, swapped};
use crate::support::{Container, FakeBus, binding, can_run, env, file, helper};

pub(super) fn start(folder: &Path, bus: &Arc<FakeBus>) -> Running {
    Running::start(options(folder), bus.clone(), docker_host(None))
}

fn count(bus: &FakeBus, like: impl Fn(&Fact) -> bool) -> usize {
    bus.facts().iter().filter(|(_, fact)| like(fact)).count()
}

pub(super) const IDLE: &str = "exec /bin/busybox sleep 600";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_is_served_on_start_swapped_and_withdrawn() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    let plan = |version| vec![binding(1, "file", file("db"), Reload::None, version)];
    bus.put(1, 1, b"one");
    bus.put(1, 2, b"two");
    bus.publish(plan(Some(1)));
    let injector = start(folder.path(), &bus);
    bus.wait("a complete report", |reports| {
        reports.iter().any(|report| report.complete)
    })
    .await;

    // Served on its start event, without the wrapper.
    let container = Container::start("file", &[], IDLE);
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;
    assert_eq!(container.cat("db"), (true, "one".into()));
    assert_eq!(count(&bus, reloaded(1)), 0, "no reload is asked for");

    let opened = bus.opened();
    let generation = bus.publish(plan(Some(2)));
    bus.wait_facts("swapped to 2", 1, swapped(2)).await;
    assert_eq!(container.cat("db"), (true, "two".into()));
    assert_eq!(bus.opened(), opened + 1);
    let holds_old = |report: &keywheel_core::report::HostReport| {
        report.holds.iter().any(|(_, version)| *version == 1)
    };
    bus.wait("the barrier", |reports| {
        reports
            .iter()
            .any(|report| report.generation == generation && report.complete && !holds_old(report))
    })
    .await;

    // A late plan of an older generation changes nothing.
    bus.replay(generation - 1, plan(Some(1)));
    // Another image's secret is not served.
    let stranger = Container::start("other", &[], IDLE);
    let revoked = bus.publish(plan(None));
    bus.wait_facts("withdrawn", 1, |fact| *fact == Fact::Withdrawn)
        .await;
    assert!(!container.cat("db").0);
    assert!(!stranger.exec("/bin/busybox test -d /run/secrets").0);
    bus.wait("nothing is held", |reports| {
        reports.iter().any(|report| {
            report.generation == revoked && report.complete && report.holds.is_empty()
        })
    })
    .await;
    assert_eq!(count(&bus, swapped(1)), 1);
    assert!(injector.handle.status().is_complete);
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caught_signal_is_delivered_and_an_uncaught_one_is_not_sent() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    for version in 1..=2 {
        bus.put(2, version, format!("v{version}").as_bytes());
        bus.put(3, version, format!("v{version}").as_bytes());
    }
    let plan = |version| {
        let reload = Reload::Signal(1);
        vec![
            binding(2, "hup", file("db"), reload.clone(), Some(version)),
            binding(3, "deaf", file("db"), reload, Some(version)),
        ]
    };
    bus.publish(plan(1));
    let injector = start(folder.path(), &bus);
    let script = "trap 'echo told $(/bin/busybox cat /run/secrets/db)' HUP; while :; do /bin/busybox sleep 0.05; done";
    let told = Container::start("hup", &[], script);
    let deaf = Container::start("deaf", &[], IDLE);
    bus.wait_facts("reloaded 1", 1, reloaded(1)).await;
    bus.wait_facts("both swapped", 2, swapped(1)).await;
    bus.publish(plan(2));
    bus.wait_facts("reloaded 2", 1, reloaded(2)).await;
    bus.wait_facts("both swapped", 2, swapped(2)).await;
    bus.wait_facts("unhandled", 1, |fact| {
        matches!(fact, Fact::Refused { reason, .. } if reason.starts_with("signal_unhandled"))
    })
    .await;
    assert!(
        bus.facts()
            .iter()
            .all(|(id, fact)| !matches!(fact, Fact::Reloaded { .. }) || *id == told.0)
    );
    bus.wait("the program to be told", |_| {
        crate::support::docker(&["logs", &told.0]).contains("told v2")
    })
    .await;
    assert_eq!(
        crate::support::docker(&["inspect", "-f", "{{.State.Running}}", &deaf.0]),
        "true"
    );
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restarted_injector_gets_its_files_back_and_does_not_write_them_again() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    let plan = |version| vec![binding(4, "again", file("db"), Reload::None, Some(version))];
    for version in 1..=3 {
        bus.put(4, version, format!("v{version}").as_bytes());
    }
    bus.publish(plan(1));
    let mut injector = start(folder.path(), &bus);
    let container = Container::start("again", &[], IDLE);
    let stopped = Container::start("again", &[], IDLE);
    bus.wait_facts("swapped to 1", 2, swapped(1)).await;
    let written = container
        .exec("/bin/busybox stat -c %i:%y /run/secrets/db")
        .1;
    for one in [&container, &stopped] {
        wait_remembered(folder.path(), &one.0, &[1]).await;
    }
    injector.abandon().await;
    crate::support::docker(&["kill", &stopped.0]);
    bus.clear();

    let mut injector = start(folder.path(), &bus);
    bus.wait_facts("said again", 1, swapped(1)).await;
    bus.wait_facts("the stopped one is gone", 1, |fact| *fact == Fact::Vanished)
        .await;
    assert_eq!(
        container
            .exec("/bin/busybox stat -c %i:%y /run/secrets/db")
            .1,
        written
    );
    bus.publish(plan(2));
    bus.wait_facts("swapped to 2", 1, swapped(2)).await;
    assert_eq!(container.cat("db"), (true, "v2".into()));
    assert_eq!(
        container
            .exec("/bin/busybox grep -c run/secrets /proc/mounts")
            .1,
        "1"
    );

    // A plan that changed while it was away.
    injector.abandon().await;
    bus.publish(plan(3));
    bus.clear();
    let injector = start(folder.path(), &bus);
    bus.wait_facts("swapped to 3", 1, swapped(3)).await;
    assert_eq!(container.cat("db"), (true, "v3".into()));
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_never_sees_a_torn_file_and_reports_survive_a_gateway_that_is_away() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    let value = |version: u64| format!("{version:032}").into_bytes();
    let plan = |version| vec![binding(5, "torn", file("db"), Reload::None, Some(version))];
    bus.put(5, 1, &value(1));
    bus.publish(plan(1));
    let injector = start(folder.path(), &bus);
    let script = "until [ -e /run/secrets/db ]; do :; done; while :; do v=$(/bin/busybox cat /run/secrets/db) || exit 9; \
        [ ${#v} = 32 ] || exit 8; [ $v = 00000000000000000000000000000060 ] && exit 0; done";
    let container = Container::start("torn", &[], script);
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;
    for version in 2..=60 {
        bus.put(5, version, &value(version));
        if version == 30 {
            bus.refuse_reports(true);
        }
        bus.publish(plan(version));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(crate::support::docker(&["wait", &container.0]), "0");
    let waiting = || {
        let spool = std::fs::read_dir(folder.path().join("spool"));
        spool.unwrap().count()
    };
    bus.wait("facts on the disk", |_| waiting() > 0).await;
    bus.refuse_reports(false);
    bus.wait_facts("the last swap", 1, swapped(60)).await;
    bus.wait_facts("its end", 1, |fact| *fact == Fact::Vanished)
        .await;
    // What is on its way when it ends would stay there for the next run.
    bus.wait("an empty disk", |_| waiting() == 0).await;
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_served_is_refused_with_the_next_step() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    bus.put(6, 1, b"x");
    bus.put(7, 1, b"y");
    let restart = Reload::Restart {
        settle: Duration::ZERO,
        health_timeout: Duration::ZERO,
        rollout: None,
    };
    bus.publish(vec![
        binding(6, "env", env("TOKEN"), restart, Some(1)),
        binding(7, "mounted", file("db"), Reload::None, Some(1)),
    ]);
    let injector = start(folder.path(), &bus);
    let _env = Container::start("env", &["-e", "TOKEN={keywheel:test/secret-6}"], IDLE);
    let _mounted = Container::start("mounted", &["--tmpfs", "/run/secrets"], IDLE);
    let refused = |words: &'static str| move |fact: &Fact| matches!(fact, Fact::Refused { version: 1, reason } if reason.contains(words));
    bus.wait_facts("the variable", 1, refused("--runtime keywheel"))
        .await;
    bus.wait_facts("the mount", 1, refused("/run/secrets is already mounted"))
        .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(
        count(&bus, |fact| matches!(fact, Fact::Refused { .. })),
        2,
        "each is said once"
    );
    injector.end_in(folder.path()).await;
}

/// Prints the latencies; `bench` judges them, on a release build and a quiet machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn swaps_and_withdrawals_reach_many_containers() {
    const MANY: usize = 30;
    const LAST: u64 = 6;
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    let plan = |version| vec![binding(8, "many", file("db"), Reload::None, version)];
    bus.put(8, 1, b"v1");
    bus.publish(plan(Some(1)));
    let injector = start(folder.path(), &bus);
    let containers: Vec<Container> = (0..MANY)
        .map(|_| Container::start("many", &[], IDLE))
        .collect();
    bus.wait_facts("all served", MANY, swapped(1)).await;
    let clock = SystemClock::new();
    let mut latencies = Vec::new();
    for version in 2..=LAST {
        bus.put(8, version, format!("v{version}").as_bytes());
        let published = keywheel_engine::port::clock::Clock::now(&clock);
        bus.publish(plan(Some(version)));
        bus.wait_facts("all swapped", MANY, swapped(version)).await;
        let last = bus.facts().into_iter().filter_map(|(_, fact)| match fact {
            Fact::Swapped { version: found, at } if found == version => Some(at.since(published)),
            _ => None,
        });
        latencies.push(last.max().unwrap());
    }
    latencies.sort_unstable();
    let begun = std::time::Instant::now();
    bus.publish(plan(None));
    bus.wait_facts("all withdrawn", MANY, |fact| *fact == Fact::Withdrawn)
        .await;
    let revoked = begun.elapsed();
    eprintln!(
        "{MANY} containers: slowest swap p50 {:?}, worst {:?}; withdrawn and reported after {revoked:?}",
        latencies[latencies.len() / 2],
        latencies[latencies.len() - 1]
    );
    assert!(containers.iter().all(|container| !container.cat("db").0));
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_ends_well_acknowledges_and_one_that_fails_or_hangs_is_told() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    let plan = |version| {
        // Only the one that hangs runs into its limit, however slow the machine is.
        let run = |script: &str, limit| Reload::Command {
            argv: ["/bin/busybox", "sh", "-c", script]
                .map(str::to_owned)
                .into(),
            timeout: Duration::from_secs(limit),
        };
        let script = "/bin/busybox cat /run/secrets/db >> /tmp/told";
        let all = [
            ("well", run(script, 120)),
            ("fails", run("exit 3", 120)),
            ("hangs", run("exec /bin/busybox sleep 600", 2)),
            ("label", Reload::Label),
        ];
        (11..)
            .zip(all)
            .map(|(number, (label, reload))| {
                binding(number, label, file("db"), reload, Some(version))
            })
            .collect::<Vec<_>>()
    };
    for number in 11..=14 {
        bus.put(number, 1, b"one,");
        bus.put(number, 2, b"two,");
    }
    bus.publish(plan(1));
    let injector = start(folder.path(), &bus);
    let well = Container::start("well", &[], IDLE);
    bus.wait_facts("told of 1", 1, reloaded(1)).await;
    bus.publish(plan(2));
    bus.wait_facts("told of 2", 1, reloaded(2)).await;
    assert_eq!(well.exec("/bin/busybox cat /tmp/told").1, "one,two,");

    let label = "dev.keywheel.reload={ command: [/bin/busybox, touch, /tmp/by-label] }";
    let by_label = Container::start("label", &["--label", label], IDLE);
    let _bare = Container::start("label", &[], IDLE);
    let _fails = Container::start("fails", &[], IDLE);
    let _hangs = Container::start("hangs", &[], IDLE);
    let refused = |part: &'static str| move |fact: &Fact| matches!(fact, Fact::Refused { version: 2, reason } if reason.contains(part));
    bus.wait_facts("it failed", 1, refused("exit code 3")).await;
    bus.wait_facts("it hangs", 1, refused("longer than 2 s"))
        .await;
    bus.wait_facts("no label", 1, refused("reload_unknown"))
        .await;
    bus.wait_facts("told by label", 2, reloaded(2)).await;
    assert!(by_label.exec("/bin/busybox test -e /tmp/by-label").0);
    injector.end_in(folder.path()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_template_is_filled_in_again_with_every_version_and_a_fault_is_told() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    let plan = |version| {
        let mut target = file("db");
        if let keywheel_core::binding::Target::File { template, .. } = &mut target {
            *template = Some("{{ secret(\"test/secret-15\").user }}!".to_owned());
        }
        vec![binding(15, "form", target, Reload::None, Some(version))]
    };
    bus.put(15, 1, br#"{"user":"one","password":"canary-73d"}"#);
    bus.put(15, 2, br#"{"user":"two","password":"canary-73d"}"#);
    bus.put(15, 3, b"canary-73d");
    bus.publish(plan(1));
    let injector = start(folder.path(), &bus);
    let container = Container::start("form", &[], IDLE);
    bus.wait_facts("swapped to 1", 1, swapped(1)).await;
    assert_eq!(container.cat("db"), (true, "one!".into()));
    bus.publish(plan(2));
    bus.wait_facts("swapped to 2", 1, swapped(2)).await;
    assert_eq!(container.cat("db"), (true, "two!".into()));
    // A value that the template does not fit: the one before stays, and why is told.
    bus.publish(plan(3));
    let is_told = |fact: &Fact| {
        matches!(fact, Fact::Refused { version: 3, reason }
            if reason.starts_with("template_failed: line 1") && !reason.contains("canary"))
    };
    bus.wait_facts("the fault", 1, is_told).await;
    assert_eq!(container.cat("db"), (true, "two!".into()));
    injector.end_in(folder.path()).await;
}

/// How far the one container under a rollout is, by the last report.
fn standing(reports: &[HostReport]) -> Option<&RestartState> {
    let first = reports.last()?.restarts.first()?;
    Some(&first.state)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_wrapper_a_restart_is_done_once_and_has_failed_only_without_its_file() {
    if !can_run() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let bus = FakeBus::new();
    for version in 1..=4 {
        bus.put(9, version, format!("v{version}").as_bytes());
    }
    let plan = |version, rollout| {
        let reload = Reload::Restart {
            settle: Duration::from_secs(1),
            health_timeout: Duration::from_secs(5),
            rollout,
        };
        vec![binding(9, "bare", file("db"), reload, Some(version))]
    };
    let nsjoin = folder.path().join("nsjoin");
    std::fs::copy(helper(), &nsjoin).unwrap();
    let settings = HostSettings {
        helper: nsjoin.clone(),
        ..options(folder.path())
    };
    bus.publish(plan(1, None));
    let injector = Running::start(settings, bus.clone(), docker_host(None));
    let container = Container::start("bare", &[], &format!("echo >> /starts; {IDLE}"));
    bus.wait_facts("it runs well", 1, reloaded(1)).await;
    let starts = || container.exec("/bin/busybox wc -l < /starts").1;

    bus.publish(plan(2, None));
    bus.wait_facts("restarted without leave", 1, reloaded(2))
        .await;
    assert_eq!((starts(), container.cat("db").1), ("2".into(), "v2".into()));

    let rollout = Some(Rollout::default());
    let is_due = |reports: &[HostReport]| standing(reports) == Some(&RestartState::Due);
    let is_failed =
        |reports: &[HostReport]| matches!(standing(reports), Some(RestartState::Failed { .. }));
    let leave = |number| {
        vec![Leave {
            container: ContainerId::parse(&container.0).unwrap(),
            number,
            not_before: None,
        }]
    };
    bus.publish(plan(3, rollout));
    bus.wait("it asks", is_due).await;
    bus.publish_with(plan(3, rollout), leave(1));
    bus.wait_facts("restarted with leave", 1, reloaded(3)).await;
    assert_eq!((starts(), container.cat("db").1), ("3".into(), "v3".into()));
    let reports = bus.reports();
    assert!((1..=reports.len()).all(|count| !is_failed(&reports[..count])));

    // Its next start gets no file: that ends its leave.
    std::fs::remove_file(&nsjoin).unwrap();
    bus.publish(plan(4, rollout));
    bus.wait("it asks again", is_due).await;
    bus.publish_with(plan(4, rollout), leave(2));
    bus.wait("it failed", is_failed).await;
    injector.end_in(folder.path()).await;
}
