//! The command bus over the in-memory journal: answers, repeats, a full disk, restarts, audit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod disk;
mod held;
mod late_reports;
mod repeats;
mod runs;

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::audit::{Outcome, Principal, Role};
use keywheel_core::command::{Command, Declaration};
use keywheel_core::decision::RejectionKind;
use keywheel_core::effect::{self, Effect, Work};
use keywheel_core::host;
use keywheel_core::id::{
    CommandId, HostId, JoinTokenId, RevocationId, RotationId, SecretId, SlotId,
};
use keywheel_core::name::{HostName, SecretName};
use keywheel_core::report::HostReport;
use keywheel_core::rotation::Phase;
use keywheel_core::schedule::Schedule;
use keywheel_core::secret::{Generator, Spec};
use keywheel_core::world::KEPT_CLOSED;
use keywheel_engine::command_bus::{
    CommandBus, Commit, Handle, MAX_ROUNDS, Parts, Started, Submission,
};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::journal::{Class, Journal, Verdict};
use keywheel_engine::state::View;
use keywheel_engine::trace::{Context, span_of};
use keywheel_testkit::fake::{FakeClock, FakeIds, MemoryJournal};
use tokio::sync::mpsc;

struct Bench {
    journal: Arc<MemoryJournal>,
    handle: Handle,
    view: View,
    commits: mpsc::Receiver<Commit>,
    clock: Arc<FakeClock>,
}

async fn start(journal: Arc<MemoryJournal>, source: u64) -> Bench {
    start_with(journal, source, |bus| bus).await
}

async fn start_with(
    journal: Arc<MemoryJournal>,
    source: u64,
    with: impl FnOnce(CommandBus) -> CommandBus,
) -> Bench {
    let clock = Arc::new(FakeClock::default());
    let parts = Parts {
        journal: journal.clone(),
        clock: clock.clone(),
        ids: Arc::new(FakeIds::of_source(source)),
        failpoint: |_| (),
    };
    let Started {
        bus,
        handle,
        view,
        commits,
    } = CommandBus::start(parts).await.unwrap();
    tokio::spawn(with(bus).run());
    Bench {
        journal,
        handle,
        view,
        commits,
        clock,
    }
}

fn user() -> Principal {
    Principal::User {
        uid: 0,
        name: "root".to_owned(),
    }
}

fn name() -> SecretName {
    SecretName::parse("prod/db").unwrap()
}

fn generated() -> Spec {
    Spec {
        generator: Some(Generator::default()),
        ..Spec::default()
    }
}

fn apply() -> Command {
    apply_as(generated())
}

fn apply_as(spec: Spec) -> Command {
    Command::Apply(vec![Declaration::Secret {
        id: SecretId::from_bytes([1; 16]),
        rotation: RotationId::from_bytes([2; 16]),
        name: name(),
        spec,
    }])
}

impl Bench {
    async fn submit(&self, id: u8, principal: Principal, command: Command) -> Verdict {
        let id = CommandId::from_bytes([id; 16]);
        let submission = Submission {
            id,
            principal,
            traceparent: None,
            command,
        };
        self.handle.submit(submission).await.unwrap()
    }

    /// Answers every effect with success until none is left.
    async fn work(&mut self, first_id: u8) -> Vec<Effect> {
        let mut done = Vec::new();
        let mut id = first_id;
        loop {
            let mut waiting = self.journal.open_effects().await.unwrap();
            let Some(effect) = waiting.pop().map(|open| open.effect) else {
                return done;
            };
            let outcome = match &effect.work {
                Work::Step(work) => Command::StepOutcome {
                    rotation: work.rotation,
                    step: work.step,
                    attempt: work.attempt,
                    failure: None,
                    is_away: false,
                    remote: None,
                    sessions: None,
                },
                Work::Revoke(work) => Command::RevokeOutcome {
                    revocation: work.revocation,
                    attempt: work.attempt,
                    failure: None,
                },
            };
            self.submit(id, Principal::Service(Role::StoreSync), outcome)
                .await;
            id += 1;
            done.push(effect);
        }
    }

    async fn audit(&self) -> usize {
        usize::try_from(self.journal.head().await.unwrap().audit_size).unwrap()
    }
}

#[tokio::test]
async fn applying_a_secret_leads_through_every_step_to_a_current_version() {
    let mut bench = start(Arc::default(), 1).await;
    bench.submit(1, user(), apply()).await;
    let done = bench.work(10).await;
    assert_eq!(done.len(), 4, "create, set, test, finish");
    let committed = bench.view.read();
    let secret = committed.world.secret_named(&name()).unwrap();
    assert_eq!((secret.current, secret.pending), (Some(1), None));
    assert!(committed.world.open_rotations().next().is_none());
}

#[tokio::test]
async fn whoever_is_told_of_a_commit_goes_on_with_the_trace_of_its_command() {
    let mut bench = start(Arc::default(), 1).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned();
    let submission = Submission {
        id: CommandId::from_bytes([1; 16]),
        principal: user(),
        traceparent: Some(trace.clone()),
        command: apply(),
    };
    bench.handle.submit(submission).await.unwrap();
    let commit = bench.commits.recv().await.unwrap();
    assert!(!commit.events.is_empty() && !commit.effects.is_empty());
    for event in &commit.events {
        assert_eq!(event.traceparent.as_ref(), Some(&trace));
    }
    let above = Context::parse(&trace).unwrap();
    let mut ours = Vec::new();
    for effect in &commit.effects {
        let effect::Key::Step(rotation, ..) = effect.key() else {
            panic!("{effect:?}")
        };
        let expected = above.at(span_of(rotation.bytes()));
        let told = bench.view.read().effect_trace(&effect.key());
        assert_eq!(told, Some(expected), "below the rotation's own span");
        ours.push((rotation, expected));
    }
    bench.work(10).await;
    let later = bench.commits.recv().await.unwrap();
    assert_eq!(later.events[0].traceparent, None);
    let committed = bench.view.read();
    for (rotation, expected) in ours {
        // Whatever brings no trace of its own goes on with the rotation's.
        assert_eq!(committed.rotation_trace(rotation), Some(expected));
        let timer = Command::DeadlinePassed { rotation };
        assert_eq!(committed.command_trace(&timer), Some(expected));
    }
}

#[tokio::test]
async fn a_restart_folds_the_same_world_and_emits_nothing_anew() {
    let journal = Arc::new(MemoryJournal::new());
    let mut bench = start(journal.clone(), 1).await;
    bench.submit(1, user(), apply()).await;
    bench.work(10).await;
    let before = bench.view.read().world.clone();
    let mut again = start(journal, 2).await;
    assert_eq!(again.view.read().world, before);
    assert!(
        again.commits.try_recv().is_err(),
        "replay told the world something"
    );
    assert!(again.journal.open_effects().await.unwrap().is_empty());
}

#[tokio::test]
async fn an_effect_stays_open_over_a_restart_until_it_is_answered() {
    let journal = Arc::new(MemoryJournal::new());
    let bench = start(journal.clone(), 1).await;
    bench.submit(1, user(), apply()).await;
    assert_eq!(journal.open_effects().await.unwrap().len(), 1);
    drop(bench);
    let mut again = start(journal.clone(), 2).await;
    assert_eq!(journal.open_effects().await.unwrap().len(), 1);
    assert_eq!(again.work(10).await.len(), 4);
}

#[tokio::test]
async fn a_rejected_command_is_on_record_with_its_reason() {
    let bench = start(Arc::default(), 1).await;
    let rotate = Command::Rotate {
        rotation: RotationId::from_bytes([9; 16]),
        secret: name(),
    };
    let verdict = bench.submit(1, user(), rotate).await;
    assert!(matches!(
        verdict,
        Verdict::Rejected {
            kind: RejectionKind::NotFound,
            ..
        }
    ));
    assert_eq!(bench.audit().await, 1);
    let leaf = bench.journal.read_audit(0, 1).await.unwrap().remove(0);
    let text = String::from_utf8_lossy(&leaf.bytes).into_owned();
    assert!(text.contains("prod/db"), "{text}");
}

#[tokio::test]
async fn a_join_token_is_spent_durably_though_whoever_came_with_it_is_refused() {
    let bench = start(Arc::default(), 1).await;
    let (host, token) = (
        HostId::from_bytes([5; 16]),
        JoinTokenId::from_bytes([6; 16]),
    );
    let name = HostName::parse("web-1").unwrap();
    let wish = host::TokenRequest {
        host,
        name: name.clone(),
        token,
        secret_hash: [7; 32],
        expires_at: bench.clock.now().plus(host::JOIN_TOKEN_LIFETIME),
    };
    bench.submit(1, user(), Command::IssueJoinToken(wish)).await;
    let joining = Command::JoinHost(host::JoinRequest {
        host,
        name,
        token,
        secret_hash: [8; 32],
        signing_key: [1; 32],
        sealing_key: [2; 32],
    });
    let injector = Principal::Service(Role::Injector);
    let verdict = bench.submit(2, injector.clone(), joining.clone()).await;
    assert!(matches!(verdict, Verdict::Rejected { .. }), "{verdict:?}");
    assert_eq!(bench.view.read().number, 2, "issued and spent");
    assert_eq!(bench.submit(2, injector, joining).await, verdict);
    let leaf = bench.journal.read_audit(1, 1).await.unwrap().remove(0);
    let text = String::from_utf8_lossy(&leaf.bytes).into_owned();
    assert!(text.contains("Denied") || text.contains("denied"), "{text}");
    let again = start(Arc::clone(&bench.journal), 2).await;
    assert!(again.view.read().world.join_tokens.is_empty());
}

#[tokio::test]
async fn a_host_s_reports_say_when_it_was_last_heard_of_without_an_event() {
    let bench = start(Arc::default(), 1).await;
    let host = HostId::from_bytes([5; 16]);
    let told = |generation, complete| {
        Command::Report(HostReport {
            generation,
            complete,
            ..HostReport::empty(host)
        })
    };
    let injector = || Principal::Service(Role::Injector);
    bench.submit(1, injector(), told(1, true)).await;
    assert_eq!(bench.view.contact(host), None, "strangers take no room");
    let enrol = Command::EnrolHost {
        host,
        name: HostName::parse("web-1").unwrap(),
        sealing_key: [1; 32],
    };
    bench.submit(2, injector(), enrol).await;
    bench.submit(3, injector(), told(4, true)).await;
    bench.submit(4, injector(), told(5, false)).await;
    let contact = bench.view.contact(host).unwrap();
    assert_eq!(
        contact.acknowledged,
        Some(4),
        "a part is no acknowledgement"
    );
    assert_eq!(contact.at, bench.clock.now());
    assert_eq!(
        bench.view.read().number,
        1,
        "only the enrolment is an event"
    );
}

/// Of a person who may not.
fn denial(byte: u8) -> keywheel_core::audit::Record {
    keywheel_core::audit::Record {
        time: keywheel_core::time::Timestamp::from_micros(1),
        category: keywheel_core::audit::Category::Administration,
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
        command: CommandId::from_bytes([byte; 16]),
        trace: String::new(),
    }
}

#[tokio::test]
async fn a_denied_request_is_on_record_though_it_is_no_command() {
    let bench = start(Arc::default(), 1).await;
    bench.handle.record(denial(3)).await.unwrap();
    assert_eq!(bench.audit().await, 1);
    assert_eq!(bench.view.read().number, 0, "a denial is no event");
}

#[tokio::test]
async fn what_came_of_a_deed_is_on_record_under_an_id_of_its_own_beside_its_intent() {
    let bench = start(Arc::default(), 1).await;
    bench.handle.record(denial(3)).await.unwrap();
    let own = CommandId::from_bytes([4; 16]);
    bench.handle.record_as(own, denial(3)).await.unwrap();
    assert_eq!(bench.audit().await, 2);
}

#[tokio::test]
async fn revoking_cancels_the_rotation_under_way_and_its_late_outcome_counts_no_more() {
    let mut bench = start(Arc::default(), 1).await;
    bench.submit(1, user(), apply()).await;
    let revoke = Command::Revoke {
        revocation: RevocationId::from_bytes([7; 16]),
        secret: name(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    };
    bench.submit(2, user(), revoke).await;
    let late = bench.work(10).await;
    assert!(
        late.iter()
            .any(|effect| matches!(effect.work, Work::Revoke(_)))
    );
    let committed = bench.view.read();
    let rotation = committed
        .world
        .rotations
        .get(&RotationId::from_bytes([2; 16]))
        .unwrap();
    assert!(matches!(rotation.phase, Phase::Closed(_)));
    let secret = committed.world.secret_named(&name()).unwrap();
    assert_eq!((secret.current, secret.alive()), (None, Vec::new()));
    assert!(
        committed
            .world
            .revocations
            .values()
            .all(|revocation| revocation.closed)
    );
}

#[tokio::test]
async fn a_slot_that_comes_early_leaves_nothing_and_the_same_command_counts_when_it_is_due() {
    let mut bench = start(Arc::default(), 1).await;
    let id = SecretId::from_bytes([1; 16]);
    let mut spec = generated();
    spec.rotation.schedule = Schedule::Interval(Duration::from_secs(3600));
    let scheduled = bench.clock.now().plus(Duration::from_secs(3600));
    let apply = apply_as(spec);
    bench.submit(1, user(), apply).await;
    bench.work(10).await;
    let audited = bench.audit().await;
    let due = Submission {
        id: CommandId::from_bytes([9; 16]),
        principal: Principal::Service(Role::Scheduler),
        traceparent: None,
        command: Command::Due {
            rotation: RotationId::from_bytes([9; 16]),
            secret: id,
            slot: SlotId::from_bytes([9; 16]),
            scheduled,
            after: None,
            tzdata: None,
        },
    };
    let early = bench.handle.submit(due.clone()).await.unwrap_err();
    assert_eq!(early.kind, ErrorKind::Unavailable);
    assert!(early.text.contains("still to come"), "{early}");
    assert_eq!(bench.audit().await, audited);
    bench.clock.advance(Duration::from_secs(3600));
    let verdict = bench.handle.submit(due).await.unwrap();
    assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
    assert_eq!(bench.view.read().world.open_rotations().count(), 1);
}

#[tokio::test]
async fn a_hundred_waiting_commands_are_few_transactions() {
    const FEW: u64 = 10;
    let bench = start(Arc::default(), 1).await;
    let before = bench.journal.appends();
    let mut waiting = Vec::new();
    for n in 0..100_u8 {
        let submission = Submission {
            id: CommandId::from_bytes([n + 1; 16]),
            principal: user(),
            traceparent: None,
            command: Command::Apply(vec![Declaration::Secret {
                id: SecretId::from_bytes([n + 1; 16]),
                rotation: RotationId::from_bytes([n + 1; 16]),
                name: SecretName::parse(&format!("many/{n}")).unwrap(),
                spec: Spec::default(),
            }]),
        };
        let handle = bench.handle.clone();
        waiting.push(tokio::spawn(async move { handle.submit(submission).await }));
    }
    for answer in waiting {
        assert!(matches!(
            answer.await.unwrap().unwrap(),
            Verdict::Accepted { .. }
        ));
    }
    assert_eq!(bench.view.read().world.secrets.len(), 100);
    assert_eq!(bench.audit().await, 100);
    let appends = bench.journal.appends() - before;
    assert!((1..=FEW).contains(&appends), "{appends} transactions");
}
