//! In which order reports are sent, over attempts that nobody answers and a kill of the injector.

use std::path::Path;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keywheel_core::id::{CommandId, HostId};
use keywheel_core::plan::HostPlan;
use keywheel_core::report::HostReport;
use keywheel_engine::port::bus::{Bus, Requests, Source, Subscription, Topic};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::OsEntropy;
use keywheel_testkit::fake::{FakeClock, FakeContainerHost, FakeIds};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::HostSettings;
use crate::metrics;
use crate::report::{Kept, Outbox, run};
use crate::spool::tests as spooled;

/// How long what has to come may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// A gateway that remembers what it was sent, answered or not.
#[derive(Default)]
struct Gateway(Mutex<Script>);

#[derive(Default)]
struct Script {
    answers: bool,
    attempts: Vec<(CommandId, HostReport)>,
}

impl Gateway {
    fn answer(&self, answers: bool) {
        self.0.lock().unwrap().answers = answers;
    }

    fn attempts(&self) -> Vec<(CommandId, HostReport)> {
        self.0.lock().unwrap().attempts.clone()
    }

    async fn wait_attempts(&self, count: usize) -> Vec<(CommandId, HostReport)> {
        until("attempts", || self.attempts().len() >= count).await;
        self.attempts()
    }
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, wait).await.is_ok(), "{what}");
}

fn away<T>() -> Result<T, PortError> {
    Err(PortError::new(ErrorKind::Unavailable, "nobody answers"))
}

#[async_trait]
impl Bus for Gateway {
    async fn publish(
        &self,
        _: Topic,
        _: [u8; 16],
        _: Option<String>,
        _: Body,
    ) -> Result<(), PortError> {
        Ok(())
    }
    async fn subscribe(&self, _: Topic, _: &str) -> Result<Box<dyn Subscription>, PortError> {
        away()
    }
    async fn request(
        &self,
        _: Address,
        _: Option<String>,
        body: Body,
        _: Duration,
    ) -> Result<Body, PortError> {
        match body {
            Body::ReadPlan { host } => Ok(Body::Plan(plan(host))),
            Body::Submit {
                id,
                command: Command::Report(report),
            } => {
                let mut script = self.0.lock().unwrap();
                script.attempts.push((id, report));
                match script.answers {
                    true => Ok(Body::Verdict(Verdict::Accepted { number: 1 })),
                    false => away(),
                }
            }
            _ => away(),
        }
    }
    fn refuse_stale(&self, _: Source) {}
    async fn serve(&self, _: Address) -> Result<Box<dyn Requests>, PortError> {
        away()
    }
}

fn plan(host: HostId) -> HostPlan {
    HostPlan {
        host,
        host_name: keywheel_core::name::HostName::parse("web-1").unwrap(),
        generation: 1,
        bindings: Vec::new(),
        leaves: Vec::new(),
        staged: Vec::new(),
        orders: Vec::new(),
    }
}

/// One without facts.
fn quiet(generation: u64) -> HostReport {
    let mut report = spooled::report(generation, Vec::new());
    report.denied.clear();
    report.stale.clear();
    report.executed.clear();
    report.notes.clear();
    assert!(!has_facts(&report));
    report
}

fn numbered(number: u64) -> Spooled {
    Spooled {
        number,
        command: CommandId::from_bytes([u8::try_from(number).unwrap(); 16]),
        report: quiet(number),
    }
}

/// One run of a host's injector, as far as its reports go.
fn shared(gateway: &Arc<Gateway>, run: u64) -> Arc<Shared> {
    let clock = Arc::new(FakeClock::default());
    let options = HostSettings {
        host: quiet(1).host,
        ..metrics::tests::shared(&clock).options.clone()
    };
    let containers = Arc::new(FakeContainerHost::default());
    let (ids, entropy) = (Arc::new(FakeIds::of_source(run)), Arc::new(OsEntropy));
    let bus: Arc<dyn Bus> = gateway.clone();
    Arc::new(Shared::new(
        options, bus, containers, clock, ids, entropy, None,
    ))
}

/// The same, that sends until it is killed.
fn begin(gateway: &Arc<Gateway>, number: u64, folder: &Path) -> (Arc<Outbox>, JoinHandle<()>) {
    let shared = shared(gateway, number);
    shared.contact.enrolled();
    let spool = Spool::open(folder).unwrap();
    let waiting = spool.waiting().unwrap();
    let outbox: Arc<Outbox> = Arc::default();
    let (written, stop) = (mpsc::channel(1).0, CancellationToken::new());
    let sending = run(shared, spool, waiting, outbox.clone(), written, stop);
    (outbox, tokio::spawn(sending))
}

async fn kill(sending: JoinHandle<()>) {
    sending.abort();
    let _ = sending.await;
}

#[tokio::test]
async fn a_report_that_was_sent_is_answered_before_the_next_is_sent_also_by_the_next_run() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let gateway: Arc<Gateway> = Arc::default();
    let (outbox, sending) = begin(&gateway, 1, folder.path());
    outbox.push(quiet(1), Kept::new());
    gateway.wait_attempts(1).await;
    // Which says more, and is newer.
    outbox.push(quiet(2), Kept::new());
    let attempts = gateway.wait_attempts(4).await;
    let (first, said) = attempts[0].clone();
    assert_eq!(said, quiet(1));
    let is_first = |attempt: &(CommandId, HostReport)| *attempt == (first, quiet(1));
    assert!(attempts.iter().all(is_first), "{attempts:?}");
    kill(sending).await;

    let before = gateway.attempts();
    assert!(before.iter().all(is_first), "{before:?}");
    assert_eq!(spool.waiting().unwrap().len(), 1, "what was sent");
    gateway.answer(true);
    let (outbox, sending) = begin(&gateway, 2, folder.path());
    outbox.push(quiet(3), Kept::new());
    let after = gateway.wait_attempts(before.len() + 2).await;
    let after = &after[before.len()..];
    assert!(is_first(&after[0]), "{after:?}");
    assert_eq!((after.len(), &after[1].1), (2, &quiet(3)));
    assert_ne!(after[1].0, first);
    let is_empty = || spool.waiting().unwrap().is_empty();
    until("what was answered leaves the disk", is_empty).await;
    kill(sending).await;
}

#[tokio::test]
async fn what_was_never_sent_gives_way() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let gateway: Arc<Gateway> = Arc::default();
    // The gateway has not taken the host yet.
    let shared = shared(&gateway, 1);
    let (queue, mut queued) = mpsc::channel(1);
    queue.send((numbered(2), false)).await.unwrap();
    // What a write left that failed after the file had its name.
    spool.write(&numbered(1)).unwrap();
    let next = deliver(&shared, &spool, (numbered(1), false), Some(&mut queued)).await;
    assert_eq!(next.map(|(next, _)| next.number), Some(2));
    assert!(gateway.attempts().is_empty());
    assert!(
        spool.waiting().unwrap().is_empty(),
        "it would come after the newer one"
    );
}

#[tokio::test]
async fn what_the_disk_does_not_take_is_not_sent() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(&folder.path().join("spool")).unwrap();
    std::fs::remove_dir(folder.path().join("spool")).unwrap();
    let gateway: Arc<Gateway> = Arc::default();
    gateway.answer(true);
    let shared = shared(&gateway, 1);
    shared.contact.enrolled();
    let (queue, mut queued) = mpsc::channel(1);
    queue.send((numbered(2), false)).await.unwrap();
    let next = deliver(&shared, &spool, (numbered(1), false), Some(&mut queued)).await;
    assert_eq!(next.map(|(next, _)| next.number), Some(2));
    assert!(gateway.attempts().is_empty());
    std::fs::create_dir(folder.path().join("spool")).unwrap();
    assert!(
        deliver(&shared, &spool, (numbered(2), false), None)
            .await
            .is_none()
    );
    let sent: Vec<HostReport> = gateway.attempts().into_iter().map(|one| one.1).collect();
    assert_eq!(sent, [quiet(2)]);
}

#[tokio::test]
async fn what_waits_of_the_host_that_the_machine_was_before_holds_up_nothing_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let spool = Spool::open(folder.path()).unwrap();
    let mut before = numbered(1);
    before.report.host = HostId::from_bytes([0xbf; 16]);
    spool.write(&before).unwrap();
    spool.write(&numbered(2)).unwrap();
    let gateway: Arc<Gateway> = Arc::default();
    gateway.answer(true);
    let (_outbox, sending) = begin(&gateway, 1, folder.path());
    let is_left = || spool.waiting().unwrap().is_empty();
    until("the host's own is told", is_left).await;
    kill(sending).await;
    let left = folder.path().read_dir().unwrap().flatten();
    let left: Vec<_> = left.map(|entry| entry.file_name()).collect();
    assert_eq!(left.len(), 1, "{left:?}");
    assert!(
        left[0].to_string_lossy().ends_with(".passed-over"),
        "{left:?}"
    );
    let sent: Vec<HostReport> = gateway.attempts().into_iter().map(|one| one.1).collect();
    assert_eq!(sent, [quiet(2)]);
}
