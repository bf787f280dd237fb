//! Plans of an earlier time, from a topic and as an answer, over a real bus server: refused aloud,
//! on record, and without effect (row 14).
//!
//! Needs root and a built `keywheel-nsjoin`. Without them it says so and stops, except in CI, where
//! it fails.
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
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use keywheel_bus::{Identity, Nats, NatsOptions, Trust};
use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::plan::HostPlan;
use keywheel_core::report::{HostReport, StalePlan};
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_engine::late::REPEAT_LIMIT;
use keywheel_engine::port::bus::{Address, Body, Topic};
use keywheel_engine::port::journal::Verdict;
use keywheel_injector::HostSettings;
use keywheel_seal::OsEntropy;
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::fake::FakeContainerHost;
use keywheel_testkit::server::nats::{NatsServer, Settings, VERSIONS};

use crate::support::running::{Ahead, Running};
use crate::support::settings::options;
use crate::support::{LIMIT, can_run, deployment, host, host_name};

fn plan(generation: u64) -> HostPlan {
    HostPlan {
        host: host(),
        host_name: host_name(),
        generation,
        bindings: Vec::new(),
        leaves: Vec::new(),
        staged: Vec::new(),
        orders: Vec::new(),
    }
}

/// What the gateway of this test answers, and what it was told.
#[derive(Default)]
struct Gateway {
    generation: AtomicU64,
    reports: Mutex<Vec<HostReport>>,
}

impl Gateway {
    fn answer(&self, asked: &Body) -> Body {
        match asked {
            Body::ReadPlan { .. } => Body::Plan(plan(self.generation.load(Ordering::SeqCst))),
            Body::Submit { command, .. } => {
                if let Command::Report(report) = command {
                    self.reports.lock().unwrap().push(report.clone());
                }
                Body::Verdict(Verdict::Accepted { number: 1 })
            }
            _ => Body::Done,
        }
    }

    fn notes(&self) -> Vec<StalePlan> {
        let reports = self.reports.lock().unwrap();
        reports
            .iter()
            .flat_map(|report| report.stale.clone())
            .collect()
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(LIMIT, wait).await.is_ok(), "{what}");
}

/// A gateway's and a host's end of one bus server.
async fn ends(server: &NatsServer) -> [Nats; 2] {
    let [gateway, injector] = [(); 2].map(|()| SigningKey::generate(&OsEntropy));
    let keys = (gateway.verifying_key(), injector.verifying_key());
    let identities = [
        Identity::service(deployment(), Role::Gateway, gateway),
        Identity::injector(deployment(), host(), injector),
    ];
    let mut ends = Vec::new();
    for identity in identities {
        let trust = Trust::new(deployment(), [(Role::Gateway, keys.0.clone())]);
        trust.set_hosts([(host(), keys.1.clone())].into());
        let options = NatsOptions::new(vec![server.url()], deployment());
        let (clock, ids) = (Arc::new(SystemClock::new()), Arc::new(SystemIds));
        let end = Nats::connect(options, identity, trust, clock, ids).await;
        ends.push(end.unwrap());
    }
    ends.try_into().ok().unwrap()
}

/// Answers what is asked of the gateway.
async fn answer(gateway: &Nats, script: Arc<Gateway>) {
    let mut requests = gateway.endpoint().serve(Address::Gateway).await.unwrap();
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let answer = script.answer(&request.message().body);
            // Who asked may have given up.
            let _ = request.answer(answer).await;
        }
    });
}

/// An injector at this end, whose clock runs ahead.
fn serving(folder: &Path, injector: &Nats, seconds: &Arc<AtomicU64>) -> Running {
    let settings = HostSettings {
        reconcile_interval: Duration::from_millis(300),
        ..options(folder)
    };
    let containers = Arc::new(FakeContainerHost::default());
    Running::start_at(
        settings,
        injector.endpoint(),
        containers,
        Ahead::by(seconds),
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_of_an_earlier_time_is_refused_aloud_and_on_record_and_changes_nothing() {
    if !can_run() {
        return;
    }
    let server = NatsServer::start(Settings::of(VERSIONS[2]));
    let [gateway, injector] = ends(&server).await;
    let script = Arc::new(Gateway::default());
    script.generation.store(7, Ordering::SeqCst);
    answer(&gateway, Arc::clone(&script)).await;
    let folder = tempfile::tempdir().unwrap();
    let ahead: Arc<AtomicU64> = Arc::default();
    let running = serving(folder.path(), &injector, &ahead);
    let holds = |generation| running.handle.status().generation == Some(generation);
    until("the plan", || holds(7)).await;

    let tell = |number: u8, generation| {
        let body = Body::Plan(plan(generation));
        let end = gateway.endpoint();
        async move {
            end.publish(Topic::Plan(host()), [number; 16], None, body)
                .await
        }
    };
    // Within the time of repeats it is one; what follows is read after it.
    tell(1, 5).await.unwrap();
    tell(2, 8).await.unwrap();
    script.generation.store(8, Ordering::SeqCst);
    until("the next plan", || holds(8)).await;
    assert_eq!(injector.refused().total(), 0, "a repeat is no alarm");

    ahead.store(REPEAT_LIMIT.as_secs() + 60, Ordering::SeqCst);
    tell(3, 5).await.unwrap();
    until("the alarm", || injector.refused().stale == 1).await;
    until("the note", || !script.notes().is_empty()).await;
    let note = script.notes()[0];
    assert_eq!((note.generation, note.held, note.count), (5, 8, 1));

    // As an answer it is refused, too; within a minute it is counted into the next note.
    script.generation.store(6, Ordering::SeqCst);
    until("the next alarms", || injector.refused().stale >= 3).await;
    script.generation.store(9, Ordering::SeqCst);
    until("the newest plan", || holds(9)).await;
    assert_eq!(script.notes().len(), 1, "one note in a window");
    ahead.fetch_add(60, Ordering::SeqCst);
    until("the second note", || script.notes().len() == 2).await;
    let note = script.notes()[1];
    assert_eq!((note.generation, note.held), (6, 8));
    let counted = injector.refused().stale;
    assert_eq!(note.count + 1, counted, "every one is counted");

    // Its own delivery goes on as always.
    tell(4, 10).await.unwrap();
    until("a plan after all this", || holds(10)).await;
    running.end().await;
}
