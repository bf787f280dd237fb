//! Runs of playbooks go on by themselves, also over deaths of the gateway before and after each commit: every
//! step is done, and none twice.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};

use keywheel_core::event::Event;
use keywheel_core::id::{PlaybookId, RunId};
use keywheel_core::name::PlaybookName;
use keywheel_core::playbook::{
    After, DEFAULT_DEADLINE, DEFAULT_HOLD_OFF, Deed, Selection, Spec as Playbook, Step, Trigger,
    Which,
};
use keywheel_core::playbook_run::{self, Cause, Intervention, MAX_OPEN_RUNS, Outcome, Request};
use tokio::task::JoinHandle;

use super::*;

const RUN: RunId = RunId::from_bytes([0x21; 16]);
/// More than a run of this playbook has places to die at.
const MOST_CUTS: i64 = 64;

/// Places that are lived through until one is died at; nobody dies while it is negative.
static LEFT: AtomicI64 = AtomicI64::new(-1);

/// Ends the deciding task in the middle of a commit, as a kill would.
fn die_here(_: &'static str) {
    if LEFT.load(Ordering::SeqCst) >= 0 && LEFT.fetch_sub(1, Ordering::SeqCst) == 0 {
        panic!("killed, as the test asked for");
    }
}

struct Life {
    handle: Handle,
    view: View,
    _task: JoinHandle<()>,
}

async fn live(journal: Arc<MemoryJournal>, source: u64, failpoint: fn(&'static str)) -> Life {
    let parts = Parts {
        journal,
        clock: Arc::new(FakeClock::default()),
        ids: Arc::new(FakeIds::of_source(source)),
        failpoint,
    };
    let Started {
        bus,
        handle,
        view,
        mut commits,
    } = CommandBus::start(parts).await.unwrap();
    let task = tokio::spawn(async move {
        bus.run().await.unwrap();
    });
    // A bus that nobody hears waits for its reader after a while.
    tokio::spawn(async move { while commits.recv().await.is_some() {} });
    Life {
        handle,
        view,
        _task: task,
    }
}

impl Life {
    /// How the run ended; `None` when the gateway died before.
    async fn end(&self) -> Option<Outcome> {
        let mut bell = self.view.bell();
        loop {
            bell.borrow_and_update();
            let run = self.view.read().world.runs.get(&RUN).map(|run| run.outcome);
            if let Some(Some(outcome)) = run {
                return Some(outcome);
            }
            bell.changed().await.ok()?;
        }
    }

    async fn submit(&self, id: u8, command: Command) -> Option<Verdict> {
        let submission = Submission {
            id: CommandId::from_bytes([id; 16]),
            principal: user(),
            traceparent: None,
            command,
        };
        self.handle.submit(submission).await.ok()
    }
}

fn step(name: &str, deed: Deed, after: &[&str]) -> Step {
    let after = after.iter().map(|step| After {
        step: (*step).to_owned(),
        failed: false,
    });
    Step {
        name: name.to_owned(),
        deed,
        after: after.collect(),
        deadline: DEFAULT_DEADLINE,
        may_fail: false,
    }
}

fn playbook() -> Command {
    playbook_with(Vec::new())
}

fn playbook_with(triggers: Vec<Trigger>) -> Command {
    let secrets = |name: &str| {
        vec![Selection::Secret {
            name: name.to_owned(),
        }]
    };
    let revoke = Deed::Revoke {
        secrets: secrets("prod/other"),
        which: Which::Alive,
    };
    let rotate = Deed::Rotate {
        secrets: secrets("prod/db"),
    };
    Command::Apply(vec![Declaration::Playbook {
        id: PlaybookId::from_bytes([0x20; 16]),
        name: PlaybookName::parse("leaked").unwrap(),
        spec: Playbook {
            parameters: Vec::new(),
            triggers,
            steps: vec![
                step("rotate", rotate, &[]),
                step("revoke", revoke, &["rotate"]),
            ],
        },
    }])
}

fn begin() -> Command {
    Command::Playbook(Request::Start {
        run: RUN,
        playbook: PlaybookName::parse("leaked").unwrap(),
        arguments: BTreeMap::new(),
        by: "unix:0".to_owned(),
        reason: "leaked".to_owned(),
        cause: Cause::Person,
    })
}

/// Two secrets with a version each, and the playbook.
async fn prepared() -> Arc<MemoryJournal> {
    let journal = Arc::new(MemoryJournal::new());
    let mut bench = start(journal.clone(), 1).await;
    bench.submit(1, user(), apply()).await;
    let other = Command::Apply(vec![Declaration::Secret {
        id: SecretId::from_bytes([3; 16]),
        rotation: RotationId::from_bytes([4; 16]),
        name: SecretName::parse("prod/other").unwrap(),
        spec: generated(),
    }]);
    bench.submit(2, user(), other).await;
    bench.work(10).await;
    bench.submit(3, user(), playbook()).await;
    journal
}

/// What the log says of the run, and what waits to be done for it.
async fn check(journal: &MemoryJournal, cut: i64) {
    use playbook_run::Event as E;
    let events = journal.read(0, 1000).await.unwrap();
    let count = |is: &dyn Fn(&playbook_run::Event) -> bool| {
        let of_run = events.iter().filter(|recorded| match &recorded.event {
            Event::PlaybookRun(_, event) => is(event),
            _ => false,
        });
        of_run.count()
    };
    let started = count(&|event| matches!(event, E::StepStarted { .. }));
    let acted = count(&|event| matches!(event, E::Acted { .. }));
    let done = count(&|event| matches!(event, E::StepCompleted { .. }));
    let others = count(&|event| matches!(event, E::ActRefused { .. } | E::StepFailed { .. }));
    assert_eq!((started, acted, done, others), (2, 2, 2, 0), "cut at {cut}");
    let begun = |event: &Event| match event {
        Event::Rotation(_, keywheel_core::rotation::Event::Started { .. }) => 1,
        Event::Revocation(_, keywheel_core::revocation::Event::Requested { .. }) => 100,
        _ => 0,
    };
    let begun: i32 = events.iter().map(|recorded| begun(&recorded.event)).sum();
    // Each secret's first rotation, and what the playbook did.
    assert_eq!(begun, 103, "cut at {cut}");
    assert_eq!(
        journal.open_effects().await.unwrap().len(),
        2,
        "cut at {cut}"
    );
}

#[tokio::test]
async fn killed_before_and_after_every_commit_a_run_does_each_step_once() {
    let mut source = 100;
    for cut in 0..MOST_CUTS {
        let journal = prepared().await;
        source += 2;
        let life = live(journal.clone(), source, die_here).await;
        LEFT.store(cut, Ordering::SeqCst);
        let accepted = life.submit(50, begin()).await;
        let mut end = match accepted {
            Some(_) => life.end().await,
            None => None,
        };
        let is_lived_through = LEFT.swap(-1, Ordering::SeqCst) >= 0;
        if end.is_none() {
            let life = live(journal.clone(), source + 1, |_| ()).await;
            // Whoever got no answer asks again under the same id.
            life.submit(50, begin()).await.unwrap();
            end = life.end().await;
        }
        assert_eq!(end, Some(Outcome::Completed), "cut at {cut}");
        check(&journal, cut).await;
        if is_lived_through {
            assert!(
                cut >= 16,
                "eight commits have two places each, and not {cut}"
            );
            return;
        }
    }
    panic!("it was never lived through");
}

#[tokio::test]
async fn what_a_run_begins_stands_in_the_trace_of_the_command_that_started_it() {
    let journal = prepared().await;
    let life = live(journal.clone(), 7, |_| ()).await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let submission = Submission {
        id: CommandId::from_bytes([50; 16]),
        principal: user(),
        traceparent: Some(trace.to_owned()),
        command: begin(),
    };
    life.handle.submit(submission).await.unwrap();
    assert_eq!(life.end().await, Some(Outcome::Completed));
    let committed = life.view.read();
    let rotation = committed.world.open_rotations().next().unwrap().id;
    let above = Context::parse(trace).unwrap();
    let told = committed.rotation_trace(rotation).unwrap();
    assert_eq!(told.trace_id(), above.trace_id());
    assert_eq!(committed.run_trace(RUN), None, "it has ended");
}

fn on_eviction() -> Trigger {
    Trigger::Event {
        event: "dev.keywheel.host.evicted.v1".to_owned(),
        when: None,
        hold_off: DEFAULT_HOLD_OFF,
        arguments: BTreeMap::new(),
    }
}

/// A playbook that waits for a person, and that an event may begin.
fn asking() -> Command {
    Command::Apply(vec![Declaration::Playbook {
        id: PlaybookId::from_bytes([0x20; 16]),
        name: PlaybookName::parse("leaked").unwrap(),
        spec: Playbook {
            parameters: Vec::new(),
            triggers: vec![on_eviction()],
            steps: vec![step(
                "ask",
                Deed::Approve {
                    count: 1,
                    not: Vec::new(),
                },
                &[],
            )],
        },
    }])
}

fn begin_one(run: RunId, cause: Cause) -> Command {
    Command::Playbook(Request::Start {
        run,
        playbook: PlaybookName::parse("leaked").unwrap(),
        arguments: BTreeMap::new(),
        by: "unix:0".to_owned(),
        reason: "leaked".to_owned(),
        cause,
    })
}

#[tokio::test]
async fn a_trigger_that_meets_as_many_runs_as_may_be_open_is_asked_again_and_begins_one_then() {
    let journal = Arc::new(MemoryJournal::new());
    let life = live(journal.clone(), 7, |_| ()).await;
    life.submit(1, asking()).await.unwrap();
    let run = |n: usize| RunId::from_bytes([u8::try_from(n).unwrap(); 16]);
    for n in 1..=MAX_OPEN_RUNS {
        let id = u8::try_from(100 + n).unwrap();
        let begun = life.submit(id, begin_one(run(n), Cause::Person)).await;
        assert!(matches!(begun, Some(Verdict::Accepted { .. })), "{begun:?}");
    }
    let too_many = life.submit(50, begin_one(run(200), Cause::Person)).await;
    assert!(
        matches!(too_many, Some(Verdict::Rejected { .. })),
        "a person is told so: {too_many:?}"
    );
    let of_event = || Submission {
        id: CommandId::from_bytes([51; 16]),
        principal: Principal::Service(Role::Scheduler),
        traceparent: None,
        command: begin_one(run(201), Cause::Event { number: 7 }),
    };
    for _again in 0..2 {
        let refused = life.handle.submit(of_event()).await.unwrap_err();
        assert_eq!(refused.kind, ErrorKind::Unavailable, "{refused}");
    }
    let cancel = Command::Playbook(Request::Intervene {
        run: run(1),
        intervention: Intervention::Cancel,
        by: "unix:0".to_owned(),
        reason: "over".to_owned(),
    });
    life.submit(52, cancel).await.unwrap();
    let begun = life.handle.submit(of_event()).await.unwrap();
    assert!(matches!(begun, Verdict::Accepted { .. }), "{begun:?}");
    let committed = life.view.read();
    assert!(committed.world.runs[&run(201)].is_open());
}

#[tokio::test]
async fn on_a_full_disk_a_trigger_s_run_begins_and_revokes_though_a_step_before_rotates() {
    let journal = prepared().await;
    let life = live(journal.clone(), 7, |_| ()).await;
    life.submit(49, playbook_with(vec![on_eviction()]))
        .await
        .unwrap();
    journal.fill_below(Some(Class::Revocation));
    let work = Command::Rotate {
        rotation: RotationId::from_bytes([77; 16]),
        secret: name(),
    };
    assert!(
        life.submit(50, work).await.is_none(),
        "there is room for work"
    );
    let of_event = Submission {
        id: CommandId::from_bytes([51; 16]),
        principal: Principal::Service(Role::Scheduler),
        traceparent: None,
        command: begin_one(RUN, Cause::Event { number: 7 }),
    };
    let begun = life.handle.submit(of_event).await.unwrap();
    assert!(matches!(begun, Verdict::Accepted { .. }), "{begun:?}");
    let mut bell = life.view.bell();
    loop {
        bell.borrow_and_update();
        if !life.view.read().world.revocations.is_empty() {
            break;
        }
        bell.changed().await.unwrap();
    }
    // With room, what no revocation waits for ends, too.
    journal.fill_below(None);
    assert_eq!(life.end().await, Some(Outcome::Completed));
    check(&journal, -1).await;
}
