//! Two gateways over one log: each decides with a command bus of its own, one at a time tells the world.
//!
//! The laws of `journal_shared` are about the log; these are about what the gateways make of it: a command is decided
//! once whoever gets it, a slot fires once, no answer rests on an old head, and what was appended is told by somebody.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::audit::{Category, Outcome, Principal, Record, Role};
use keywheel_core::command::{Command, Declaration};
use keywheel_core::decision::Enrolment;
use keywheel_core::effect::Work;
use keywheel_core::event::Event;
use keywheel_core::host::{JoinRequest, TokenRequest};
use keywheel_core::id::{CommandId, HostId, JoinTokenId, RotationId, SecretId, SlotId};
use keywheel_core::name::{HostName, SecretName};
use keywheel_core::schedule::Schedule;
use keywheel_core::secret::{self, Generator, Spec};
use keywheel_core::time::Timestamp;
use keywheel_engine::command_bus::{CommandBus, Commit, Handle, Parts, Submission};
use keywheel_engine::port::bus::{
    Address, Body, Bus, HostKeys, Requests, Source, Subscription, Topic,
};
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::journal::{Journal, MAX_READ, Mark, Turn, Verdict};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::publisher::{Publisher, TURN_SPAN};
use keywheel_engine::state::View;
use tokio::sync::{RwLock, mpsc};
use tokio::task::JoinHandle;

use super::journal::id;
use super::journal_shared::Pair;
use crate::fake::{FakeClock, FakeIds};

/// How long anything may take that is awaited.
const PATIENCE: Duration = Duration::from_secs(120);
/// Secrets that the race applies.
const SECRETS: u64 = 24;

/// One gateway.
struct Gateway {
    journal: Arc<dyn Journal>,
    handle: Handle,
    view: View,
    commits: Option<mpsc::Receiver<Commit>>,
    /// The keys of hosts, as it said them last.
    hosts: Arc<Mutex<Vec<HostKeys>>>,
}

/// Two gateways and the clock that both read.
struct Bench {
    gateways: [Gateway; 2],
    clock: Arc<FakeClock>,
    pair: Pair,
}

/// Runs every case, each on a pair that `fresh` opens on an empty log.
///
/// # Panics
/// When a law is broken.
pub async fn check<F, R>(fresh: F)
where
    F: Fn() -> R,
    R: Future<Output = Pair>,
{
    commands_are_decided_once_whoever_gets_them(start(fresh().await).await).await;
    a_slot_fires_once(start(fresh().await).await).await;
    no_answer_rests_on_an_old_head(start(fresh().await).await).await;
    a_record_alone_rings_at_both(start(fresh().await).await).await;
    hosts_are_known_to_both(start(fresh().await).await).await;
    who_tells_the_world_is_replaced(start(fresh().await).await).await;
    a_turn_taken_back_says_nothing_of_before(start(fresh().await).await).await;
}

async fn start(pair: Pair) -> Bench {
    let clock = Arc::new(FakeClock::default());
    let gateways = [
        gateway(pair.one.clone(), clock.clone(), 1).await,
        gateway(pair.other.clone(), clock.clone(), 2).await,
    ];
    Bench {
        gateways,
        clock,
        pair,
    }
}

async fn gateway(journal: Arc<dyn Journal>, clock: Arc<FakeClock>, source: u64) -> Gateway {
    let parts = Parts {
        journal: journal.clone(),
        clock,
        ids: Arc::new(FakeIds::of_source(source)),
        failpoint: |_| (),
    };
    let started = CommandBus::start(parts).await.unwrap();
    let hosts: Arc<Mutex<Vec<HostKeys>>> = Arc::default();
    let learned = hosts.clone();
    let bus = started.bus.with_enrolment(Enrolment::ByToken);
    let bus = bus.with_hosts(Arc::new(move |world| {
        *learned.lock().unwrap() = HostKeys::of_all(world)
    }));
    tokio::spawn(bus.run());
    Gateway {
        journal,
        handle: started.handle,
        view: started.view,
        commits: Some(started.commits),
        hosts,
    }
}

fn submission(n: u64, command: Command) -> Submission {
    Submission {
        id: CommandId::from_bytes(id(2, n)),
        principal: Principal::User {
            uid: 0,
            name: "root".to_owned(),
        },
        traceparent: None,
        command,
    }
}

fn by(role: Role, n: u64, command: Command) -> Submission {
    Submission {
        principal: Principal::Service(role),
        ..submission(n, command)
    }
}

/// Applies a secret of this name; whoever applies it draws an id of his own.
fn apply(name: u64, drawn: u64, spec: Spec) -> Command {
    Command::Apply(vec![Declaration::Secret {
        id: SecretId::from_bytes(id(1, drawn)),
        rotation: RotationId::from_bytes(id(4, drawn)),
        name: SecretName::parse(&format!("many/{name}")).unwrap(),
        spec,
    }])
}

impl Gateway {
    async fn submit(&self, submission: Submission) -> Verdict {
        self.handle.submit(submission).await.unwrap()
    }
}

impl Bench {
    /// Drops what nobody tells in this case, so that it does not fill up.
    fn nobody_tells(&mut self) {
        self.gateways.iter_mut().for_each(|g| g.commits = None);
    }

    /// Answers every effect with success, through one gateway and the other in turn.
    async fn work(&self, first: u64) {
        let mut n = first;
        loop {
            let gateway = &self.gateways[usize::from(n.is_multiple_of(2))];
            let Some(open) = gateway.journal.open_effects().await.unwrap().pop() else {
                return;
            };
            let Work::Step(work) = open.effect.work else {
                panic!("nothing was revoked");
            };
            let outcome = Command::StepOutcome {
                rotation: work.rotation,
                step: work.step,
                attempt: work.attempt,
                failure: None,
                is_away: false,
                remote: None,
                sessions: None,
            };
            gateway.submit(by(Role::StoreSync, n, outcome)).await;
            n += 1;
        }
    }

    /// Both gateways know the whole log, and it is whole.
    async fn settle(&self) {
        for gateway in &self.gateways {
            gateway.handle.look_at_head().await.unwrap();
        }
        let [one, other] = &self.gateways;
        assert_eq!(one.view.read().world, other.view.read().world);
        let head = one.journal.head().await.unwrap();
        assert_eq!(one.view.read().number, head.number);
        let faults = other.journal.verify().await.unwrap().faults;
        assert_eq!(faults, Vec::<String>::new());
    }
}

async fn commands_are_decided_once_whoever_gets_them(mut bench: Bench) {
    bench.nobody_tells();
    let mut asked = Vec::new();
    for n in 0..SECRETS {
        // The same command through both; and now and then another one that wants the same name.
        for (gateway, drawn) in [(0, n), (1, if n % 3 == 0 { 1000 + n } else { n })] {
            let handle = bench.gateways[gateway].handle.clone();
            let command = submission(drawn, apply(n, drawn, Spec::default()));
            let command_id = command.id;
            asked.push((
                command_id,
                tokio::spawn(async move { handle.submit(command).await.unwrap() }),
            ));
        }
    }
    for (command, answer) in asked {
        let answer = answer.await.unwrap();
        for gateway in &bench.gateways {
            let kept = gateway.journal.verdict(command).await.unwrap();
            assert_eq!(kept.as_ref(), Some(&answer), "{command}");
        }
    }
    bench.settle().await;
    let events = bench.pair.one.read(0, MAX_READ).await.unwrap();
    let registered = events
        .iter()
        .filter(|e| matches!(e.event, Event::Secret(_, secret::Event::Registered { .. })));
    assert_eq!(registered.count() as u64, SECRETS);
    let head = bench.pair.one.head().await.unwrap();
    // Each that was asked left its record, a repeat too.
    assert_eq!(head.audit_size, 2 * SECRETS);
}

async fn a_slot_fires_once(mut bench: Bench) {
    bench.nobody_tells();
    let mut spec = Spec {
        generator: Some(Generator::default()),
        ..Spec::default()
    };
    spec.rotation.schedule = Schedule::Interval(Duration::from_secs(3600));
    let scheduled = bench.clock.now().plus(Duration::from_secs(3600));
    bench.gateways[0]
        .submit(submission(1, apply(1, 1, spec)))
        .await;
    bench.work(10).await;
    bench.clock.advance(Duration::from_secs(3600));
    let due = |n: u64, scheduled: Timestamp| {
        let command = Command::Due {
            rotation: RotationId::from_bytes(id(4, n)),
            secret: SecretId::from_bytes(id(1, 1)),
            slot: SlotId::from_bytes(id(6, 1)),
            scheduled,
            after: None,
            tzdata: None,
        };
        by(Role::Scheduler, n, command)
    };
    let [one, other] = &bench.gateways;
    let (a, b) = tokio::join!(
        one.submit(due(100, scheduled)),
        other.submit(due(101, scheduled))
    );
    let fired = [&a, &b].map(|answer| matches!(answer, Verdict::Accepted { .. }));
    assert_eq!(
        fired.iter().filter(|fired| **fired).count(),
        1,
        "{a:?} {b:?}"
    );
    // A scheduler that wakes late asks again, of whichever gateway.
    let late = other.submit(due(102, scheduled)).await;
    assert!(matches!(late, Verdict::Rejected { .. }), "{late:?}");
    assert_eq!(one.submit(due(101, scheduled)).await, b);
    bench.settle().await;
    assert_eq!(
        bench.gateways[0].view.read().world.open_rotations().count(),
        1
    );
}

/// Who follows the audit at one gateway hears of what only the other recorded.
async fn a_record_alone_rings_at_both(mut bench: Bench) {
    bench.nobody_tells();
    let [one, other] = &bench.gateways;
    let mut bell = other.view.bell();
    bell.borrow_and_update();
    one.handle.record(denial()).await.unwrap();
    let rang = tokio::time::timeout(PATIENCE, bell.changed()).await;
    rang.unwrap().unwrap();
    assert_eq!(
        other.journal.read_audit(0, MAX_READ).await.unwrap().len(),
        1
    );
}

fn denial() -> Record {
    Record {
        time: Timestamp::default(),
        category: Category::Administration,
        principal: Principal::User {
            uid: 4242,
            name: "eve".to_owned(),
        },
        verb: "list".to_owned(),
        object: "secrets".to_owned(),
        version: None,
        outcome: Outcome::Denied,
        reason: "not in the group".to_owned(),
        container: None,
        command: CommandId::from_bytes(id(2, 1)),
        trace: String::new(),
    }
}

/// Every command depends on the one before, which the other gateway decided just now.
async fn no_answer_rests_on_an_old_head(mut bench: Bench) {
    bench.nobody_tells();
    let spec = Spec {
        generator: Some(Generator::default()),
        ..Spec::default()
    };
    for n in 0..6_u64 {
        let gateway = |side: bool| &bench.gateways[usize::from(side == n.is_multiple_of(2))];
        let applied = submission(100 * n + 1, apply(n, 100 * n + 1, spec.clone()));
        gateway(true).submit(applied.clone()).await;
        // Nothing to do any more: said only by one who knows that it is there.
        let again = Submission {
            id: CommandId::from_bytes(id(2, 100 * n + 2)),
            ..applied
        };
        let number = gateway(true).journal.head().await.unwrap().number;
        let nothing = gateway(false).submit(again).await;
        assert!(matches!(nothing, Verdict::Accepted { .. }), "{nothing:?}");
        assert_eq!(gateway(true).journal.head().await.unwrap().number, number);
        bench.work(100 * n + 10).await;
        gateway(false).handle.look_at_head().await.unwrap();
        let committed = gateway(false).view.read();
        let name = SecretName::parse(&format!("many/{n}")).unwrap();
        assert_eq!(
            committed.world.secret_named(&name).unwrap().current,
            Some(1)
        );
    }
    bench.settle().await;
}

/// A token of one gateway is spent at the other, whose host the first one knows; an eviction by the
/// first counts at the other. Nobody tells anything meanwhile.
async fn hosts_are_known_to_both(mut bench: Bench) {
    bench.nobody_tells();
    let host = HostId::from_bytes(id(7, 1));
    let token = JoinTokenId::from_bytes(id(8, 1));
    let name = HostName::parse("web-1").unwrap();
    let wish = TokenRequest {
        host,
        name: name.clone(),
        token,
        secret_hash: [3; 32],
        expires_at: bench.clock.now().plus(Duration::from_secs(60)),
    };
    let joining = JoinRequest {
        host,
        name,
        token,
        secret_hash: [3; 32],
        signing_key: [4; 32],
        sealing_key: [5; 32],
    };
    let [one, other] = &bench.gateways;
    one.submit(submission(1, Command::IssueJoinToken(wish)))
        .await;
    let joined = other
        .submit(submission(2, Command::JoinHost(joining.clone())))
        .await;
    assert!(matches!(joined, Verdict::Accepted { .. }), "{joined:?}");
    let keys = |evicted| {
        vec![HostKeys {
            host,
            signing_key: [4; 32],
            generation: 1,
            evicted,
        }]
    };
    assert_eq!(*other.hosts.lock().unwrap(), keys(false));
    one.handle.look_at_head().await.unwrap();
    assert_eq!(*one.hosts.lock().unwrap(), keys(false));
    let again = one.submit(submission(3, Command::JoinHost(joining))).await;
    assert!(
        matches!(again, Verdict::Rejected { .. }),
        "spent: {again:?}"
    );
    let reason = "lost".to_owned();
    one.submit(submission(4, Command::EvictHost { host, reason }))
        .await;
    assert_eq!(*one.hosts.lock().unwrap(), keys(true));
    other.handle.look_at_head().await.unwrap();
    assert_eq!(*other.hosts.lock().unwrap(), keys(true));
    bench.settle().await;
}

/// What was told, and by whom.
#[derive(Default)]
struct Told {
    events: BTreeSet<u64>,
    leaves: BTreeSet<u64>,
    work: usize,
    effects: BTreeSet<keywheel_core::effect::Key>,
    /// Copies of an effect that were told as the first after another.
    second_firsts: usize,
    tellers: BTreeSet<usize>,
    /// Until when each has the turn.
    turns: BTreeMap<usize, Duration>,
    /// Whose turn was ended, so that its bus forgot what it keeps.
    ended: BTreeSet<usize>,
}

/// One gateway's end of a bus that keeps everything.
struct KeepingBus {
    who: usize,
    told: Arc<Mutex<Told>>,
    /// Who holds it for writing keeps the teller in the middle of telling.
    gate: Arc<RwLock<()>>,
}

fn no_such_thing() -> PortError {
    PortError::new(ErrorKind::Unavailable, "this bus only takes")
}

#[async_trait]
impl Bus for KeepingBus {
    async fn publish(
        &self,
        _topic: Topic,
        _id: [u8; 16],
        _traceparent: Option<String>,
        body: Body,
    ) -> Result<(), PortError> {
        let _open = self.gate.read().await;
        let mut told = self.told.lock().unwrap();
        told.tellers.insert(self.who);
        match body {
            Body::Event(event) => drop(told.events.insert(event.number)),
            Body::Audit(leaf) => drop(told.leaves.insert(leaf.index)),
            Body::Work { effect, first, .. } => {
                told.work += 1;
                let is_new = told.effects.insert(effect.key());
                told.second_firsts += usize::from(first && !is_new);
            }
            _ => {}
        }
        Ok(())
    }

    async fn subscribe(
        &self,
        _topic: Topic,
        _consumer: &str,
    ) -> Result<Box<dyn Subscription>, PortError> {
        Err(no_such_thing())
    }

    async fn request(
        &self,
        _to: Address,
        _traceparent: Option<String>,
        _body: Body,
        _timeout: Duration,
    ) -> Result<Body, PortError> {
        Err(no_such_thing())
    }

    fn set_turn(&self, ends: Duration) {
        let mut told = self.told.lock().unwrap();
        told.turns.insert(self.who, ends);
        if ends.is_zero() {
            told.ended.insert(self.who);
        }
    }

    fn refuse_stale(&self, _from: Source) {}

    async fn serve(&self, _at: Address) -> Result<Box<dyn Requests>, PortError> {
        Err(no_such_thing())
    }
}

/// Waits until everything in the log was told.
async fn all_is_told(bench: &Bench, told: &Mutex<Told>) {
    let head = bench.pair.one.head().await.unwrap();
    let whole = async {
        loop {
            {
                let told = told.lock().unwrap();
                let events = told.events.len() as u64 == head.number;
                if events && told.leaves.len() as u64 == head.audit_size {
                    return;
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, whole).await;
    assert!(waited.is_ok(), "not everything up to {head:?} was told");
}

/// One gateway tells the world from here on.
fn publish(
    bench: &mut Bench,
    who: usize,
    told: &Arc<Mutex<Told>>,
    gate: &Arc<RwLock<()>>,
) -> JoinHandle<Result<(), PortError>> {
    let gateway = &mut bench.gateways[who];
    let publisher = Publisher {
        journal: gateway.journal.clone(),
        bus: Arc::new(KeepingBus {
            who,
            told: told.clone(),
            gate: gate.clone(),
        }),
        clock: bench.clock.clone(),
        ids: Arc::new(FakeIds::of_source(10 + who as u64)),
        view: gateway.view.clone(),
        failpoint: |_| (),
        hold: None,
    };
    let commits = gateway.commits.take().unwrap();
    tokio::spawn(publisher.run(commits))
}

async fn a_turn_taken_back_says_nothing_of_before(mut bench: Bench) {
    let told: Arc<Mutex<Told>> = Arc::default();
    let gate: Arc<RwLock<()>> = Arc::default();
    let publisher = publish(&mut bench, 0, &told, &gate);
    let applied = submission(1, apply(1, 1, Spec::default()));
    bench.gateways[0].submit(applied).await;
    all_is_told(&bench, &told).await;
    assert!(told.lock().unwrap().ended.is_empty());
    // It stands still; the other has the turn meanwhile, and tells more.
    let still = gate.write_owned().await;
    let more = submission(2, apply(2, 2, Spec::default()));
    bench.gateways[0].submit(more).await;
    let other = bench.pair.other.clone();
    while other.turn(None, TURN_SPAN).await.unwrap() == Turn::Theirs {
        (bench.pair.end_turns)(TURN_SPAN);
    }
    let (number, audit_size) = (1000, 1000);
    let more = Some(Mark { number, audit_size });
    other.turn(more, TURN_SPAN).await.unwrap();
    (bench.pair.end_turns)(TURN_SPAN);
    drop(still);
    let forgotten = async {
        while !told.lock().unwrap().ended.contains(&0) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, forgotten).await;
    assert!(waited.is_ok(), "what was kept before is said again");
    publisher.abort();
    bench.settle().await;
}

async fn who_tells_the_world_is_replaced(mut bench: Bench) {
    let told: Arc<Mutex<Told>> = Arc::default();
    let publishers = [0, 1].map(|who| publish(&mut bench, who, &told, &Arc::default()));
    let spec = Spec {
        generator: Some(Generator::default()),
        ..Spec::default()
    };
    for n in 0..6_u64 {
        let applied = submission(n, apply(n, n, spec.clone()));
        bench.gateways[usize::from(n % 2 == 1)]
            .submit(applied)
            .await;
    }
    all_is_told(&bench, &told).await;
    let first = told.lock().unwrap().tellers.clone();
    assert_eq!(first.len(), 1, "both told");
    assert!(
        told.lock().unwrap().work >= 6,
        "work of the other's commands is not told"
    );
    {
        let told = told.lock().unwrap();
        for (who, ends) in &told.turns {
            assert_eq!(!ends.is_zero(), first.contains(who), "{who}");
        }
        assert!(!told.turns.is_empty());
    }
    // Whoever told is gone, in the middle of things.
    publishers[first.into_iter().next().unwrap()].abort();
    for n in 6..12 {
        let applied = submission(n, apply(n, n, spec.clone()));
        bench.gateways[usize::from(n % 2 == 1)]
            .submit(applied)
            .await;
    }
    (bench.pair.end_turns)(TURN_SPAN);
    all_is_told(&bench, &told).await;
    assert_eq!(told.lock().unwrap().tellers.len(), 2);
    assert_eq!(told.lock().unwrap().second_firsts, 0);
    bench.settle().await;
    publishers
        .into_iter()
        .for_each(|publisher| publisher.abort());
}
