//! Work on accounts: it goes to the resource that it names, and to the cache that containers are served from.

use keywheel_core::resource::Strategy;
use keywheel_core::revocation::Answer;
use keywheel_core::rotation::Sessions;

use super::*;

fn work(wanted: Step, version: u8) -> StepWork {
    StepWork {
        rotation: RotationId::from_bytes([version; 16]),
        versions: vec![version.into()],
        resource: at_the_shop((version > 1).then(|| u64::from(version) - 1)),
        ..step(wanted, 1)
    }
}

async fn made(world: &mut World, version: u8) -> SecretBytes {
    for wanted in [Step::Create, Step::Set, Step::Test, Step::Finish] {
        world.send(Work::Step(work(wanted, version))).await;
        assert_eq!(failure(&world.outcome().await), None, "{wanted:?}");
    }
    let made = world.vault.open_version(SECRET, version.into()).await;
    made.unwrap()
}

#[tokio::test]
async fn what_containers_get_is_what_the_server_accepts_and_the_old_one_dies() {
    let mut world = World::new().await;
    world.accounts.make("app");
    let (shutdown, task) = world.start();
    let first = made(&mut world, 1).await;
    assert!(world.accounts.accepts("app", &first));
    let second = made(&mut world, 2).await;
    assert!(world.accounts.accepts("app", &second));
    assert!(!world.accounts.accepts("app", &first));
    let retire = StepWork {
        versions: vec![1],
        ..work(Step::RevokeOld, 2)
    };
    world.send(Work::Step(retire)).await;
    assert_eq!(failure(&world.outcome().await), None);
    assert!(world.vault.open_version(SECRET, 1).await.is_err());
    let held = world.accounts.session("app", &second).unwrap();
    world
        .send(Work::Revoke(RevokeWork {
            revocation: RevocationId::from_bytes([3; 16]),
            secret: SECRET,
            versions: vec![2],
            attempt: 1,
            outside: None,
            resource: at_the_shop(None),
            part: Part::Whole,
            is_emergency: false,
        }))
        .await;
    assert_eq!(failure(&world.outcome().await), None);
    assert!(!world.accounts.accepts("app", &second));
    assert!(!world.accounts.is_open(held), "its sessions end");
    let none = world.rotator.begun.lock().unwrap().is_empty();
    assert!(none, "nothing of it is the local store's");
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn an_account_that_was_made_by_halves_is_finished_by_the_next_attempt() {
    let mut world = World::new().await;
    world.accounts.make("app");
    let (shutdown, task) = world.start();
    let alternating = |wanted: Step, version: u8, attempt: u32| {
        let mut work = work(wanted, version);
        work.attempt = attempt;
        if let Some(at) = &mut work.resource {
            at.resource.accounts.push("app_b".to_owned());
            at.resource.strategy = Strategy::AlternatingUsers;
        }
        Work::Step(work)
    };
    for wanted in [Step::Create, Step::Set] {
        world.send(alternating(wanted, 1, 1)).await;
        assert_eq!(failure(&world.outcome().await), None, "{wanted:?}");
    }
    world.send(alternating(Step::Create, 2, 1)).await;
    assert_eq!(failure(&world.outcome().await), None);
    world.accounts.halve_the_making();
    world.send(alternating(Step::Set, 2, 1)).await;
    assert!(failure(&world.outcome().await).is_some());
    assert!(!world.accounts.has_its_rights("app_b"));
    world.send(alternating(Step::Set, 2, 2)).await;
    assert_eq!(failure(&world.outcome().await), None);
    assert!(world.accounts.has_its_rights("app_b"));
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn an_account_that_is_not_there_is_told_with_its_name() {
    let mut world = World::new().await;
    let (shutdown, task) = world.start();
    world.send(Work::Step(work(Step::Create, 1))).await;
    assert_eq!(failure(&world.outcome().await), None);
    world.send(Work::Step(work(Step::Set, 1))).await;
    let reason = failure(&world.outcome().await).unwrap();
    assert!(reason.contains("account app is not there"), "{reason}");
    shutdown.request();
    task.await.unwrap();
}

/// What an answer to a question for sessions says.
fn sessions(outcome: Outcome) -> Option<Sessions> {
    match outcome.1 {
        Command::StepOutcome {
            step: Step::Drain,
            failure: None,
            sessions,
            ..
        } => sessions,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn sessions_are_told_by_the_server_that_has_them_and_else_said_to_be_untold() {
    let mut world = World::new().await;
    world.accounts.make("app");
    let (shutdown, task) = world.start();
    let first = made(&mut world, 1).await;
    let held = world.accounts.session("app", &first).unwrap();
    let _second = made(&mut world, 2).await;
    let asks = |attempt, mark| StepWork {
        versions: vec![1],
        attempt,
        mark,
        ..work(Step::Drain, 2)
    };
    world.send(Work::Step(asks(1, None))).await;
    let line = sessions(world.outcome().await).unwrap();
    assert_eq!(line.left, 1);
    world.accounts.close(held);
    world.send(Work::Step(asks(2, Some(line.mark)))).await;
    let told = sessions(world.outcome().await);
    assert_eq!(told, Some(Sessions { left: 0, ..line }));
    let nowhere = StepWork {
        resource: None,
        ..asks(3, None)
    };
    world.send(Work::Step(nowhere)).await;
    assert_eq!(sessions(world.outcome().await), None);
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn a_revocation_goes_part_after_part_and_the_value_stays_until_the_proof() {
    let mut world = World::new().await;
    world.accounts.make("app");
    let (shutdown, task) = world.start();
    let first = made(&mut world, 1).await;
    let part = |part, attempt| {
        Work::Revoke(RevokeWork {
            revocation: RevocationId::from_bytes([3; 16]),
            secret: SECRET,
            versions: vec![1],
            attempt,
            outside: None,
            resource: at_the_shop(None).filter(|_| part != Part::Destroy),
            part,
            is_emergency: false,
        })
    };
    world.send(part(Part::Disable, 1)).await;
    assert_eq!(failure(&world.outcome().await), None);
    assert!(!world.accounts.accepts("app", &first));
    assert!(world.vault.open_version(SECRET, 1).await.is_ok());
    world.send(part(Part::Prove, 2)).await;
    let (_, told) = world.outcome().await;
    let Command::ProofOutcome(taken) = told else {
        panic!("{told:?}");
    };
    assert_eq!(taken.attempt, 2);
    let answers: Vec<_> = taken.proof.evidence.iter().map(|one| one.answer).collect();
    assert_eq!(
        (answers, taken.proof.lacking),
        (vec![Answer::Refused], None)
    );
    world.send(part(Part::Destroy, 3)).await;
    assert_eq!(failure(&world.outcome().await), None);
    assert!(world.vault.open_version(SECRET, 1).await.is_err());
    // What opens no account says that there is no login, and is no failure.
    world
        .send(Work::Revoke(RevokeWork {
            revocation: RevocationId::from_bytes([4; 16]),
            secret: SECRET,
            versions: vec![1],
            attempt: 1,
            outside: None,
            resource: None,
            part: Part::Prove,
            is_emergency: false,
        }))
        .await;
    let (_, told) = world.outcome().await;
    assert!(
        matches!(&told, Command::ProofOutcome(taken) if taken.proof.lacking.is_some()),
        "{told:?}"
    );
    shutdown.request();
    task.await.unwrap();
}
