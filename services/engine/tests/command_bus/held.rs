//! Too few sinks take the audit's records: no new work begins, and revocations go on.

use std::collections::BTreeMap;
use std::sync::Mutex;

use async_trait::async_trait;
use keywheel_core::command::Replacing;
use keywheel_core::host::PermitRequest;
use keywheel_core::id::{PlaybookId, RunId, TokenId};
use keywheel_core::name::{BusKey, PlaybookName, TokenName};
use keywheel_core::playbook::{self, After, DEFAULT_DEADLINE, Deed, Selection, Step, Which};
use keywheel_core::playbook_run::{self, Cause};
use keywheel_core::time::Timestamp;
use keywheel_core::token::{self, Issue, Login, Scope};
use keywheel_engine::command_bus::HoldWork;
use keywheel_engine::port::PortError;
use keywheel_engine::port::bus::{Address, Body, Bus, Requests, Source, Subscription, Topic};
use keywheel_engine::port::journal::OpenEffect;
use keywheel_engine::publisher::Publisher;
use tokio::sync::watch;

use super::*;

const WHY: &str = "only 1 of 2 sinks takes records";

/// What holds work back, and a bench that asks it.
async fn held() -> (Arc<Mutex<Option<String>>>, Bench) {
    let why = Arc::new(Mutex::new(None));
    let asked = why.clone();
    let bench = start_with(Arc::default(), 1, |bus| {
        bus.with_hold_back(Arc::new(move || asked.lock().unwrap().clone()))
    });
    (why, bench.await)
}

fn submission(id: u8, principal: Principal, command: Command) -> Submission {
    Submission {
        id: CommandId::from_bytes([id; 16]),
        principal,
        traceparent: None,
        command,
    }
}

fn rotate(n: u8) -> Command {
    Command::Rotate {
        rotation: RotationId::from_bytes([n; 16]),
        secret: name(),
    }
}

fn revoke() -> Command {
    Command::Revoke {
        revocation: RevocationId::from_bytes([9; 16]),
        secret: name(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    }
}

#[tokio::test]
async fn new_work_is_refused_and_the_same_command_is_decided_later() {
    let (why, mut bench) = held().await;
    bench.submit(1, user(), apply()).await;
    bench.work(10).await;
    *why.lock().unwrap() = Some(WHY.to_owned());
    let before = bench.audit().await;
    let asked = submission(30, user(), rotate(30));
    let refused = bench.handle.submit(asked.clone()).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable);
    assert_eq!(refused.text, WHY);
    assert_eq!(bench.audit().await, before, "nothing is remembered of it");
    // What was answered before is answered as before.
    let verdict = bench.submit(1, user(), apply()).await;
    assert!(matches!(verdict, Verdict::Accepted { .. }));
    *why.lock().unwrap() = None;
    let verdict = bench.handle.submit(asked).await.unwrap();
    assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
}

#[tokio::test]
async fn a_service_hears_that_it_comes_again_and_leaves_no_record() {
    let (why, mut bench) = held().await;
    bench.submit(1, user(), apply()).await;
    bench.work(10).await;
    *why.lock().unwrap() = Some(WHY.to_owned());
    let before = bench.audit().await;
    let due = submission(31, Principal::Service(Role::Scheduler), rotate(31));
    let refused = bench.handle.submit(due).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Unavailable);
    assert_eq!(bench.audit().await, before);
}

#[tokio::test]
async fn a_revocation_and_a_record_are_never_held_back() {
    let (why, mut bench) = held().await;
    bench.submit(1, user(), apply()).await;
    bench.work(10).await;
    *why.lock().unwrap() = Some(WHY.to_owned());
    let before = bench.audit().await;
    let revoked = bench.handle.submit(submission(32, user(), revoke())).await;
    assert!(matches!(revoked.unwrap(), Verdict::Accepted { .. }));
    bench.handle.record(denial(33)).await.unwrap();
    assert_eq!(bench.audit().await - before, 2);
}

#[tokio::test]
async fn what_is_held_back_holds_up_nothing_beside_it() {
    let (why, mut bench) = held().await;
    bench.submit(1, user(), apply()).await;
    bench.work(10).await;
    *why.lock().unwrap() = Some(WHY.to_owned());
    let (work, revocation) = tokio::join!(
        bench.handle.submit(submission(34, user(), rotate(34))),
        bench.handle.submit(submission(35, user(), revoke())),
    );
    assert!(work.is_err());
    assert!(matches!(revocation.unwrap(), Verdict::Accepted { .. }));
}

fn store_sync() -> Principal {
    Principal::Service(Role::StoreSync)
}

/// A step that went well.
fn outcome(open: &OpenEffect) -> Command {
    let Work::Step(work) = &open.effect.work else {
        panic!("{open:?}")
    };
    Command::StepOutcome {
        rotation: work.rotation,
        step: work.step,
        attempt: work.attempt,
        failure: None,
        is_away: false,
        remote: None,
        sessions: None,
    }
}

#[tokio::test]
async fn what_a_revocation_waits_for_goes_on_and_so_does_what_a_rotation_alone_waits_for_later() {
    let (why, mut bench) = held().await;
    bench.submit(1, user(), apply()).await;
    *why.lock().unwrap() = Some(WHY.to_owned());
    let open = bench.journal.open_effects().await.unwrap();
    let [first] = open.as_slice() else {
        panic!("{open:?}")
    };
    // It was done: its worker is to do it no more, and what follows waits in the log.
    let asked = submission(36, store_sync(), outcome(first));
    let taken = bench.handle.submit(asked).await;
    assert!(matches!(taken, Ok(Verdict::Accepted { .. })), "{taken:?}");
    let open = bench.journal.open_effects().await.unwrap();
    assert!(
        open.len() == 1 && open[0].effect != first.effect,
        "{open:?}"
    );
    *why.lock().unwrap() = None;
    bench.work(40).await;

    *why.lock().unwrap() = Some(WHY.to_owned());
    let revocation = RevocationId::from_bytes([9; 16]);
    let replace = Command::Replace(Replacing {
        revocation,
        rotation: RotationId::from_bytes([37; 16]),
        secret: name(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: true,
    });
    let taken = bench.submit(37, user(), replace).await;
    assert!(matches!(taken, Verdict::Accepted { .. }), "{taken:?}");
    let is_begun = |bench: &Bench| {
        let committed = bench.view.read();
        committed.world.revocations[&revocation].is_begun()
    };
    assert!(!is_begun(&bench), "it waits for its replacement");
    for id in 60..80 {
        if is_begun(&bench) {
            break;
        }
        let open = bench.journal.open_effects().await.unwrap();
        let asked = submission(id, store_sync(), outcome(open.last().unwrap()));
        let taken = bench.handle.submit(asked).await;
        assert!(matches!(taken, Ok(Verdict::Accepted { .. })), "{taken:?}");
    }
    assert!(is_begun(&bench), "it waits for what was held back");
}

/// Makes another version, waits for that, and revokes all there are.
fn renew_and_revoke() -> Command {
    let secrets = || {
        vec![Selection::Secret {
            name: "prod/db".to_owned(),
        }]
    };
    let step = |name: &str, deed, after: &[&str]| Step {
        name: name.to_owned(),
        deed,
        after: after
            .iter()
            .map(|step| After {
                step: (*step).to_owned(),
                failed: false,
            })
            .collect(),
        deadline: DEFAULT_DEADLINE,
        may_fail: false,
    };
    let rotate = Deed::Rotate { secrets: secrets() };
    let revoke = Deed::Revoke {
        secrets: secrets(),
        which: Which::Alive,
    };
    Command::Apply(vec![Declaration::Playbook {
        id: PlaybookId::from_bytes([0x20; 16]),
        name: PlaybookName::parse("leaked").unwrap(),
        spec: playbook::Spec {
            parameters: Vec::new(),
            triggers: Vec::new(),
            steps: vec![
                step("renew", rotate, &[]),
                step("wait", Deed::Wait { span: None }, &["renew"]),
                step("revoke", revoke, &["wait"]),
            ],
        },
    }])
}

#[tokio::test]
async fn a_playbook_that_revokes_in_the_end_is_not_held_up_by_what_it_waits_for() {
    let (why, mut bench) = held().await;
    bench.submit(1, user(), apply()).await;
    bench.work(10).await;
    bench.submit(2, user(), renew_and_revoke()).await;
    *why.lock().unwrap() = Some(WHY.to_owned());
    let begin = Command::Playbook(playbook_run::Request::Start {
        run: RunId::from_bytes([0x21; 16]),
        playbook: PlaybookName::parse("leaked").unwrap(),
        arguments: BTreeMap::new(),
        by: "unix:0".to_owned(),
        reason: "leaked".to_owned(),
        cause: Cause::Person,
    });
    bench.submit(3, user(), begin).await;
    let mut bell = bench.view.bell();
    for id in 60.. {
        let open = loop {
            bell.borrow_and_update();
            if !bench.view.read().world.revocations.is_empty() {
                return;
            }
            match bench.journal.open_effects().await.unwrap().pop() {
                Some(open) => break open,
                None => bell.changed().await.unwrap(),
            }
        };
        let taken = bench
            .handle
            .submit(submission(id, store_sync(), outcome(&open)))
            .await;
        assert!(matches!(taken, Ok(Verdict::Accepted { .. })), "{taken:?}");
    }
}

#[tokio::test]
async fn hosts_stay_within_reach_and_none_is_added() {
    let (why, bench) = held().await;
    let enrol = |byte: u8| Command::EnrolHost {
        host: HostId::from_bytes([byte; 16]),
        name: HostName::parse(&format!("web-{byte}")).unwrap(),
        sealing_key: [1; 32],
    };
    let injector = || Principal::Service(Role::Injector);
    bench.submit(1, injector(), enrol(1)).await;
    *why.lock().unwrap() = Some(WHY.to_owned());
    bench.submit(2, injector(), enrol(1)).await;
    let other = bench.handle.submit(submission(3, injector(), enrol(2)));
    assert!(other.await.is_err());
    let permit = Command::NotePermit(PermitRequest {
        host: HostId::from_bytes([1; 16]),
        key: BusKey::parse(&"U".repeat(56)).unwrap(),
        expires_at: Timestamp::from_micros(i64::MAX),
    });
    // Decided, whatever the answer is.
    let gateway = Principal::Service(Role::Gateway);
    bench.submit(4, gateway, permit).await;
}

#[tokio::test]
async fn who_is_to_revoke_logs_in_and_no_token_is_issued() {
    let (why, bench) = held().await;
    *why.lock().unwrap() = Some(WHY.to_owned());
    let issue = |n: u8, login| {
        let wish = Issue {
            id: TokenId::from_bytes([n; 16]),
            name: TokenName::parse(&format!("login-{n}")).unwrap(),
            hash: [n; 32],
            owner: "oidc:ada".to_owned(),
            scope: Scope {
                verbs: vec!["revoke".to_owned()],
                resources: vec!["environment".to_owned()],
            },
            lifetime: Duration::from_secs(900),
            limit: None,
            login,
        };
        submission(n, user(), Command::Token(token::Request::Issue(wish)))
    };
    let login = Login {
        issuer: "https://id.example.org".to_owned(),
        subject: "4711".to_owned(),
        groups: Vec::new(),
        until: Timestamp::from_micros(i64::MAX),
    };
    let taken = bench.handle.submit(issue(50, Some(login))).await;
    assert!(matches!(taken, Ok(Verdict::Accepted { .. })), "{taken:?}");
    let refused = bench.handle.submit(issue(51, None)).await.unwrap_err();
    assert_eq!(refused.text, WHY);
}

/// What was told.
#[derive(Debug, Default)]
struct Heard {
    work: Vec<effect::Key>,
    leaves: u64,
}

/// A bus that only listens.
struct Ears(watch::Sender<Heard>);

fn unused() -> PortError {
    PortError::new(ErrorKind::Denied, "not in this test")
}

#[async_trait]
impl Bus for Ears {
    async fn publish(
        &self,
        _: Topic,
        _: [u8; 16],
        _: Option<String>,
        body: Body,
    ) -> Result<(), PortError> {
        self.0.send_modify(|heard| match &body {
            Body::Work { effect, .. } => heard.work.push(effect.key()),
            Body::Audit(leaf) => heard.leaves = heard.leaves.max(leaf.index + 1),
            _ => {}
        });
        Ok(())
    }
    async fn subscribe(&self, _: Topic, _: &str) -> Result<Box<dyn Subscription>, PortError> {
        Err(unused())
    }
    async fn request(
        &self,
        _: Address,
        _: Option<String>,
        _: Body,
        _: Duration,
    ) -> Result<Body, PortError> {
        Err(unused())
    }
    fn refuse_stale(&self, _: Source) {}
    async fn serve(&self, _: Address) -> Result<Box<dyn Requests>, PortError> {
        Err(unused())
    }
}

/// Has what is committed told, but for what is held; gives the log, who decides, and what was heard.
fn told(
    why: &Arc<Mutex<Option<String>>>,
    bench: Bench,
) -> (Arc<MemoryJournal>, Handle, watch::Receiver<Heard>) {
    let (told, heard) = watch::channel(Heard::default());
    let asked = why.clone();
    let publisher = Publisher {
        journal: bench.journal.clone(),
        bus: Arc::new(Ears(told)),
        clock: bench.clock.clone(),
        ids: Arc::new(FakeIds::of_source(9)),
        view: bench.view.clone(),
        failpoint: |_| (),
        hold: Some(HoldWork::new(Arc::new(move || {
            asked.lock().unwrap().clone()
        }))),
    };
    tokio::spawn(publisher.run(bench.commits));
    (bench.journal, bench.handle, heard)
}

#[tokio::test]
async fn what_a_step_leads_to_waits_in_the_log_and_its_worker_hears_of_it_once_there_are_sinks() {
    let (why, bench) = held().await;
    let (journal, handle, mut heard) = told(&why, bench);
    let applied = handle.submit(submission(1, user(), apply())).await;
    assert!(matches!(applied, Ok(Verdict::Accepted { .. })));
    heard
        .wait_for(|heard| !heard.work.is_empty())
        .await
        .unwrap();
    *why.lock().unwrap() = Some(WHY.to_owned());
    let first = journal.open_effects().await.unwrap().remove(0);
    let done = submission(2, store_sync(), outcome(&first));
    handle.submit(done).await.unwrap();
    let next = journal.open_effects().await.unwrap().remove(0);
    assert_ne!(next.effect.key(), first.effect.key());
    // Commits are told in their order: once this record is, that commit was.
    handle.record(denial(33)).await.unwrap();
    let size = journal.head().await.unwrap().audit_size;
    heard.wait_for(|heard| heard.leaves == size).await.unwrap();
    let is_first = |told: &effect::Key| *told == first.effect.key();
    assert!(heard.borrow().work.iter().all(is_first), "{next:?}");
    *why.lock().unwrap() = None;
    heard
        .wait_for(|heard| heard.work.contains(&next.effect.key()))
        .await
        .unwrap();
}

#[tokio::test]
async fn work_that_a_revocation_waits_for_is_told_whatever_sinks_there_are() {
    let (why, bench) = held().await;
    let (journal, handle, mut heard) = told(&why, bench);
    handle.submit(submission(1, user(), apply())).await.unwrap();
    for id in 10.. {
        let Some(open) = journal.open_effects().await.unwrap().pop() else {
            break;
        };
        let done = submission(id, store_sync(), outcome(&open));
        handle.submit(done).await.unwrap();
    }
    *why.lock().unwrap() = Some(WHY.to_owned());
    let replace = Command::Replace(Replacing {
        revocation: RevocationId::from_bytes([9; 16]),
        rotation: RotationId::from_bytes([37; 16]),
        secret: name(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: true,
    });
    handle
        .submit(submission(60, user(), replace))
        .await
        .unwrap();
    let open = journal.open_effects().await.unwrap().remove(0).effect.key();
    heard
        .wait_for(|heard| heard.work.contains(&open))
        .await
        .unwrap();
}
