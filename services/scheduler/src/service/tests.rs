//! The loop against a fake bus: what it reads, submits, and survives.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::decision::RejectionKind;
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, EventId, RevocationId, RotationId, SecretId, SlotId};
use keywheel_core::name::SecretName;
use keywheel_core::schedule::{OnEvent, RotationPolicy, Schedule};
use keywheel_core::secret::{self, Generator, Spec};
use keywheel_core::{revocation, rotation};
use keywheel_engine::late::REPEAT_LIMIT;
use keywheel_engine::port::bus::{Message, Requests, Source};
use keywheel_engine::port::journal::Verdict;
use keywheel_engine::presence::Look as _;
use tokio::sync::{Notify, mpsc};

use super::*;

const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const PATIENCE: Duration = Duration::from_secs(120);

/// A gateway's log, and a record of what was submitted to it.
struct FakeBus {
    log: Mutex<Vec<RecordedEvent>>,
    reads_to_fail: Mutex<u32>,
    answers: Mutex<VecDeque<Body>>,
    submitted: Mutex<Vec<(CommandId, Command)>>,
    on_submit: Notify,
    feed: Mutex<Option<mpsc::Receiver<Incoming>>>,
    stale: AtomicU32,
}

struct FakeSubscription(mpsc::Receiver<Incoming>);

#[async_trait]
impl Subscription for FakeSubscription {
    async fn next(&mut self) -> Option<Incoming> {
        self.0.recv().await
    }
    async fn ack(&mut self, _: u64) -> Result<(), PortError> {
        Ok(())
    }
    async fn nak(&mut self, _: u64, _: Duration) -> Result<(), PortError> {
        Ok(())
    }
}

#[async_trait]
impl Bus for FakeBus {
    async fn publish(
        &self,
        _: Topic,
        _: [u8; 16],
        _: Option<String>,
        _: Body,
    ) -> Result<(), PortError> {
        Ok(())
    }
    async fn subscribe(&self, topic: Topic, _: &str) -> Result<Box<dyn Subscription>, PortError> {
        assert_eq!(topic, Topic::Events);
        let feed = self.feed.lock().unwrap().take();
        feed.map(|feed| Box::new(FakeSubscription(feed)) as Box<dyn Subscription>)
            .ok_or_else(|| PortError::new(ErrorKind::Denied, "no such topic"))
    }
    async fn request(
        &self,
        to: Address,
        _: Option<String>,
        body: Body,
        _: Duration,
    ) -> Result<Body, PortError> {
        assert_eq!(to, Address::Gateway);
        match body {
            Body::ReadEvents { after, limit } => {
                let mut left = self.reads_to_fail.lock().unwrap();
                if *left > 0 {
                    *left -= 1;
                    return Err(PortError::new(ErrorKind::Unavailable, "gateway away"));
                }
                let log = self.log.lock().unwrap();
                let wanted = log.iter().filter(|event| event.number > after);
                Ok(Body::Events(wanted.take(limit).cloned().collect()))
            }
            Body::Submit { id, command } => {
                self.submitted.lock().unwrap().push((id, command));
                self.on_submit.notify_one();
                let answer = self.answers.lock().unwrap().pop_front();
                Ok(answer.unwrap_or(Body::Verdict(Verdict::Accepted { number: 9 })))
            }
            other => panic!("{other:?}"),
        }
    }
    fn refuse_stale(&self, _: Source) {
        self.stale.fetch_add(1, Ordering::SeqCst);
    }
    async fn serve(&self, _: Address) -> Result<Box<dyn Requests>, PortError> {
        Err(PortError::new(ErrorKind::Denied, "not here"))
    }
}

/// A clock that stands where it is put and runs with tokio's.
struct FakeClock {
    offset: Mutex<Timestamp>,
    start: tokio::time::Instant,
}

impl Clock for FakeClock {
    fn now(&self) -> Timestamp {
        self.offset.lock().unwrap().plus(self.start.elapsed())
    }
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }
}

struct FakeIds(std::sync::atomic::AtomicU8);

impl Ids for FakeIds {
    fn draw(&self) -> [u8; 16] {
        [self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed); 16]
    }
}

struct Rig {
    bus: Arc<FakeBus>,
    clock: Arc<FakeClock>,
    feed: mpsc::Sender<Incoming>,
    shutdown: Shutdown,
}

impl Rig {
    fn new(log: Vec<RecordedEvent>) -> Self {
        let (feed, receiver) = mpsc::channel(16);
        let bus = FakeBus {
            log: Mutex::new(log),
            reads_to_fail: Mutex::new(0),
            answers: Mutex::new(VecDeque::new()),
            submitted: Mutex::new(Vec::new()),
            on_submit: Notify::new(),
            feed: Mutex::new(Some(receiver)),
            stale: AtomicU32::new(0),
        };
        let clock = FakeClock {
            offset: Mutex::new(at(1000)),
            start: tokio::time::Instant::now(),
        };
        Self {
            bus: Arc::new(bus),
            clock: Arc::new(clock),
            feed,
            shutdown: Shutdown::new(),
        }
    }

    fn start(&self) -> tokio::task::JoinHandle<Result<(), Error>> {
        let (bus, clock) = (Arc::clone(&self.bus), Arc::clone(&self.clock));
        let ids = Arc::new(FakeIds(std::sync::atomic::AtomicU8::new(1)));
        let scheduler = Scheduler::new(bus, clock, ids, Options::default());
        self.shutdown.spawn(scheduler.run(self.shutdown.clone()))
    }

    async fn submits(&self, count: usize) -> Vec<(CommandId, Command)> {
        let enough = async {
            loop {
                let submitted = self.bus.submitted.lock().unwrap().clone();
                if submitted.len() >= count {
                    return submitted;
                }
                self.bus.on_submit.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, enough).await.unwrap()
    }
}

fn at(seconds: u64) -> Timestamp {
    Timestamp::default().plus(Duration::from_secs(seconds))
}

fn recorded(number: u64, time: u64, event: Event) -> RecordedEvent {
    RecordedEvent {
        number,
        id: EventId::default(),
        time: at(time),
        traceparent: None,
        event,
        bytes: Arc::from(Vec::new()),
        hash: [0; 32],
        signature: [0; 64],
    }
}

fn incoming(event: RecordedEvent) -> Incoming {
    let message = Message {
        id: [0; 16],
        sender: Role::Gateway,
        host: None,
        traceparent: None,
        body: Body::Event(event),
    };
    Incoming {
        sequence: 1,
        redelivered: false,
        message,
    }
}

fn registered(every: u64) -> Event {
    rotating(Schedule::Interval(Duration::from_secs(every)))
}

fn rotating(schedule: Schedule) -> Event {
    let rotation = RotationPolicy {
        schedule,
        ..RotationPolicy::default()
    };
    let spec = Spec {
        generator: Some(Generator::default()),
        rotation,
        ..Spec::default()
    };
    Event::Secret(
        SECRET,
        secret::Event::Registered {
            name: SecretName::parse("db").unwrap(),
            spec,
        },
    )
}

fn failed(revocation: u8) -> Event {
    let failed = revocation::Event::BackendFailed {
        attempt: 1,
        reason: "store down".to_owned(),
    };
    Event::Revocation(RevocationId::from_bytes([revocation; 16]), failed)
}

#[tokio::test]
async fn a_slot_found_in_the_log_is_submitted_when_due() {
    let rig = Rig::new(vec![recorded(1, 991, registered(10))]);
    let run = rig.start();
    let submits = rig.submits(1).await;
    assert!(
        matches!(submits[0].1, Command::Due { secret: SECRET, scheduled, .. } if scheduled == at(1001))
    );
    assert!(rig.shutdown.drain(PATIENCE).await);
    assert!(run.await.unwrap().is_ok());
}

/// One secret that follows another, which has just rotated.
fn followed() -> Vec<RecordedEvent> {
    let ahead = SecretId::from_bytes([7; 16]);
    let run = RotationId::from_bytes([8; 16]);
    let named = |id, name: &str, on_event| {
        let spec = Spec {
            generator: Some(Generator::default()),
            rotation: RotationPolicy {
                on_event,
                ..RotationPolicy::default()
            },
            ..Spec::default()
        };
        let name = SecretName::parse(name).unwrap();
        Event::Secret(id, secret::Event::Registered { name, spec })
    };
    let rule = OnEvent {
        event: "dev.keywheel.rotation.closed.v1".to_owned(),
        when: Some("event.secret == \"ca\" && event.data.outcome == \"completed\"".to_owned()),
        hold_off: Some(Duration::from_secs(1)),
    };
    let started = rotation::Event::Started {
        secret: ahead,
        version: 2,
        trigger: rotation::Trigger::OnDemand,
    };
    let closed = rotation::Event::Closed {
        outcome: rotation::Outcome::Completed,
    };
    vec![
        recorded(1, 100, named(ahead, "ca", Vec::new())),
        recorded(2, 101, named(SECRET, "db", vec![rule])),
        recorded(3, 900, Event::Rotation(run, started)),
        recorded(4, 901, Event::Rotation(run, closed)),
    ]
}

#[tokio::test]
async fn what_an_event_in_the_log_leads_to_is_submitted_under_one_id_by_every_scheduler() {
    let mut ids = Vec::new();
    for _ in 0..2 {
        let rig = Rig::new(followed());
        rig.start();
        let submits = rig.submits(1).await;
        let (id, command) = &submits[0];
        assert!(
            matches!(command, Command::Due { secret: SECRET, scheduled, .. } if *scheduled == at(901))
        );
        ids.push(*id);
        assert!(rig.shutdown.drain(PATIENCE).await);
    }
    assert_eq!(ids[0], ids[1]);
}

#[tokio::test]
async fn what_was_refused_is_asked_for_anew_under_another_id() {
    let rig = Rig::new(followed());
    let refusal = Verdict::Rejected {
        kind: RejectionKind::Conflict,
        text: "a rotation is open".to_owned(),
    };
    let answer = Body::Verdict(refusal);
    rig.bus.answers.lock().unwrap().push_back(answer);
    rig.start();
    let submits = rig.submits(2).await;
    let [(id, command), (again, same), ..] = submits.as_slice() else {
        panic!("{submits:?}");
    };
    assert_eq!(command, same);
    assert_ne!(id, again);
    assert!(rig.shutdown.drain(PATIENCE).await);
}

#[tokio::test]
async fn a_live_event_sets_a_timer_and_a_hole_is_filled_from_the_log() {
    let rig = Rig::new(Vec::new());
    rig.start();
    let log = [
        recorded(1, 990, failed(1)),
        recorded(2, 990, failed(2)),
        recorded(3, 990, failed(3)),
    ];
    rig.bus.log.lock().unwrap().extend(log.clone());
    let [.., last] = log;
    rig.feed.send(incoming(last)).await.unwrap();
    let submits = rig.submits(3).await;
    assert!(
        submits
            .iter()
            .all(|(_, command)| matches!(command, Command::RetryRevoke { .. }))
    );
    rig.shutdown.drain(PATIENCE).await;
    assert_eq!(rig.bus.submitted.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_comes_again_changes_nothing_and_long_after_is_refused_as_stale() {
    let rig = Rig::new(vec![
        recorded(1, 980, failed(1)),
        recorded(2, 980, failed(2)),
    ]);
    rig.start();
    rig.submits(2).await;
    let stale = || rig.bus.stale.load(Ordering::SeqCst);
    let again = || recorded(1, 980, failed(1));
    rig.feed.send(incoming(again())).await.unwrap();
    tokio::time::sleep(REPEAT_LIMIT - Duration::from_secs(1)).await;
    rig.feed.send(incoming(again())).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(stale(), 0, "a repeat");
    for count in 1..4 {
        rig.feed.send(incoming(again())).await.unwrap();
        let newest = recorded(2, 980, failed(2));
        rig.feed.send(incoming(newest)).await.unwrap();
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(stale(), count, "the newest is none");
    }
    // Nor is what the bus server repeats after a partition: it was handed on at that very place.
    let repeated = Incoming {
        redelivered: true,
        ..incoming(again())
    };
    rig.feed.send(repeated).await.unwrap();
    // What comes after them is folded as always.
    let after = recorded(3, 980, failed(3));
    rig.bus.log.lock().unwrap().push(after.clone());
    rig.feed.send(incoming(after)).await.unwrap();
    assert_eq!(rig.submits(3).await.len(), 3);
    assert_eq!(stale(), 3, "what was repeated is none");
    rig.shutdown.drain(PATIENCE).await;
}

#[tokio::test]
async fn a_gateway_that_is_away_at_the_start_is_waited_for() {
    let rig = Rig::new(vec![recorded(1, 980, failed(1))]);
    *rig.bus.reads_to_fail.lock().unwrap() = 1;
    rig.start();
    assert_eq!(rig.submits(1).await.len(), 1);
    rig.shutdown.drain(PATIENCE).await;
}

#[tokio::test]
async fn silence_leads_to_the_same_slot_under_the_same_command_id() {
    let rig = Rig::new(vec![recorded(1, 980, registered(15))]);
    let away = Body::Failed {
        kind: ErrorKind::Unavailable,
        text: "away".to_owned(),
    };
    rig.bus.answers.lock().unwrap().push_back(away);
    rig.start();
    let submits = rig.submits(2).await;
    assert_eq!(submits[0], submits[1]);
    rig.shutdown.drain(PATIENCE).await;
}

#[tokio::test]
async fn a_slot_that_is_early_by_the_gateways_clock_comes_again_ever_more_slowly() {
    let rig = Rig::new(vec![recorded(1, 980, registered(15))]);
    let early = || Body::Failed {
        kind: ErrorKind::Unavailable,
        text: "this slot of secret `db` is still to come".to_owned(),
    };
    let times = 2;
    rig.bus
        .answers
        .lock()
        .unwrap()
        .extend(std::iter::repeat_with(early).take(times));
    let begun = tokio::time::Instant::now();
    rig.start();
    let submits = rig.submits(times + 1).await;
    assert!(submits.iter().all(|submit| *submit == submits[0]));
    let waits = retry_delay(1) + retry_delay(2);
    assert!(begun.elapsed() >= waits, "{:?}", begun.elapsed());
    rig.shutdown.drain(PATIENCE).await;
}

#[tokio::test]
async fn a_refused_slot_is_not_submitted_again() {
    let rig = Rig::new(vec![recorded(1, 980, registered(15))]);
    let refused = Verdict::Rejected {
        kind: RejectionKind::Conflict,
        text: "still open".to_owned(),
    };
    rig.bus
        .answers
        .lock()
        .unwrap()
        .push_back(Body::Verdict(refused));
    rig.start();
    rig.submits(1).await;
    tokio::time::sleep(Duration::from_millis(1300)).await;
    assert_eq!(rig.bus.submitted.lock().unwrap().len(), 1);
    rig.shutdown.drain(PATIENCE).await;
}

#[tokio::test]
async fn a_bus_that_closes_early_is_an_error_and_a_refused_subscription_too() {
    let Rig {
        bus,
        clock,
        feed,
        shutdown,
    } = Rig::new(Vec::new());
    let rig = Rig {
        bus,
        clock,
        feed: mpsc::channel(1).0,
        shutdown,
    };
    let run = rig.start();
    drop(feed);
    assert!(matches!(run.await.unwrap(), Err(Error::BusClosed)));
    assert!(matches!(
        rig.start().await.unwrap(),
        Err(Error::Subscribe(_))
    ));
}

#[tokio::test]
async fn more_timers_than_submits_at_once_are_all_served() {
    let count = u8::try_from(MAX_SUBMITS * 2).unwrap();
    let log = (1..=count)
        .map(|n| recorded(u64::from(n), 900, failed(n)))
        .collect();
    let rig = Rig::new(log);
    rig.start();
    assert_eq!(rig.submits(MAX_SUBMITS * 2).await.len(), MAX_SUBMITS * 2);
    rig.shutdown.drain(PATIENCE).await;
}

/// What a served slot leaves in the log: its rotation, the promotion, and the end.
fn served(slot: SlotId, scheduled: Timestamp) -> Vec<RecordedEvent> {
    let run = RotationId::from_bytes([8; 16]);
    let started = rotation::Event::Started {
        secret: SECRET,
        version: 1,
        trigger: rotation::Trigger::Slot {
            slot,
            scheduled,
            tzdata: None,
        },
    };
    let closed = rotation::Event::Closed {
        outcome: rotation::Outcome::Completed,
    };
    let promoted = secret::Event::VersionPromoted { version: 1 };
    vec![
        recorded(2, 1001, Event::Rotation(run, started)),
        recorded(3, 1001, Event::Secret(SECRET, promoted)),
        recorded(4, 1001, Event::Rotation(run, closed)),
    ]
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_is_set_back_is_told_and_no_slot_fires_again() {
    let rig = Rig::new(vec![recorded(1, 991, registered(10))]);
    let ids = Arc::new(FakeIds(std::sync::atomic::AtomicU8::new(1)));
    let (bus, clock) = (Arc::clone(&rig.bus), Arc::clone(&rig.clock));
    let scheduler = Scheduler::new(bus, clock, ids, Options::default());
    let handle = scheduler.handle();
    rig.shutdown.spawn(scheduler.run(rig.shutdown.clone()));
    let first = rig.submits(1).await.remove(0).1;
    let Command::Due {
        slot, scheduled, ..
    } = first
    else {
        panic!("{first:?}");
    };
    assert_eq!(scheduled, at(1001));
    // Before the slot that was served, and then through it once more.
    *rig.clock.offset.lock().unwrap() = at(950);
    for event in served(slot, scheduled) {
        rig.bus.log.lock().unwrap().push(event.clone());
        rig.feed.send(incoming(event)).await.unwrap();
    }
    let next = rig.submits(2).await.remove(1).1;
    assert!(
        matches!(next, Command::Due { scheduled, .. } if scheduled == at(1011)),
        "{next:?}"
    );
    let facts = handle.look().await.facts;
    let clock = facts.iter().find(|fact| fact.name == "clock").unwrap();
    assert!(clock.note.contains("set back by 50 s"), "{clock:?}");
    rig.shutdown.drain(PATIENCE).await;
}

#[tokio::test(start_paused = true)]
async fn a_slot_names_the_rules_for_time_zones_that_it_was_computed_by() {
    let every_minute = Schedule::Cron {
        expression: "* * * * *".to_owned(),
        timezone: "UTC".to_owned(),
    };
    let rig = Rig::new(vec![recorded(1, 991, rotating(every_minute))]);
    let run = rig.start();
    let (_, due) = rig.submits(1).await.remove(0);
    let Command::Due { tzdata: named, .. } = &due else {
        panic!("{due:?}");
    };
    assert_eq!(*named, Some(tzdata::tzdata()));
    assert!(rig.shutdown.drain(PATIENCE).await);
    assert!(run.await.unwrap().is_ok());
}

#[test]
fn other_rules_for_time_zones_are_noticed_once() {
    let release = || match RELEASE.load(Ordering::SeqCst) {
        0 => "2026a".to_owned(),
        _ => "2026b".to_owned(),
    };
    let mut zones = Zones {
        read: release,
        ..Zones::default()
    };
    // Who sleeps longest is not late for the next look by a moment.
    assert!(ZONES_LOOK < Options::default().max_sleep);
    let looks = |n: u32| ZONES_LOOK * n;
    assert!(!zones.look(looks(0)), "the first are no others");
    assert!(!zones.look(looks(1)));
    RELEASE.store(1, Ordering::SeqCst);
    let soon = looks(2).saturating_sub(Duration::from_secs(1));
    assert!(!zones.look(soon), "it is not looked all the time");
    assert!(zones.look(looks(2)) && zones.known == "2026b");
    assert!(!zones.look(looks(3)), "once for each change");
}

static RELEASE: AtomicU32 = AtomicU32::new(0);
