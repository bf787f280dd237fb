//! Work: its order, its repeats, and what a crash leaves.

use super::*;
use crate::MAX_RUNNING;
use crate::effect::derive_command_id;

fn begun(world: &World) -> Vec<(Step, u32)> {
    world.rotator.begun.lock().unwrap().clone()
}

/// Waits until so many steps have begun.
async fn wait_begun(world: &World, count: usize) {
    let waiting = async {
        while begun(world).len() < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, waiting).await;
    assert!(waited.is_ok(), "begun: {:?}", begun(world));
}

#[tokio::test]
async fn every_step_is_performed_and_answered_under_its_own_id() {
    let mut world = World::new().await;
    let (shutdown, task) = world.start();
    for wanted in [Step::Create, Step::Set, Step::Test, Step::Finish] {
        let work = Work::Step(step(wanted, 1));
        let key = Effect { work: work.clone() }.key();
        world.send(work).await;
        let outcome = world.outcome().await;
        assert_eq!(outcome.0, derive_command_id(&key));
        assert_eq!(failure(&outcome), None, "{wanted:?}");
    }
    assert!(world.vault.open_version(SECRET, 1).await.is_ok());
    world.send(Work::Step(step(Step::RevokeOld, 1))).await;
    assert_eq!(failure(&world.outcome().await), None);
    assert!(
        world.vault.open_version(SECRET, 1).await.is_err(),
        "destroyed"
    );
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn rolling_back_and_revoking_destroy_and_may_be_repeated() {
    let mut world = World::new().await;
    let (_shutdown, _task) = world.start();
    let revoke = |attempt| {
        Work::Revoke(RevokeWork {
            revocation: RevocationId::from_bytes([3; 16]),
            secret: SECRET,
            versions: vec![1, 2],
            attempt,
            outside: None,
            resource: None,
            part: Part::Whole,
            is_emergency: false,
        })
    };
    world.send(Work::Step(step(Step::Create, 1))).await;
    world.outcome().await;
    for work in [revoke(1), revoke(2), Work::Step(step(Step::RollBack, 1))] {
        world.send(work).await;
        assert_eq!(failure(&world.outcome().await), None);
        assert!(world.vault.open_version(SECRET, 1).await.is_err());
    }
    world.send(Work::Step(step(Step::Create, 2))).await;
    let reason = failure(&world.outcome().await).unwrap();
    assert!(
        reason.contains("destroyed"),
        "a destroyed version never comes back: {reason}"
    );
}

#[tokio::test]
async fn a_repeated_effect_gives_one_value_and_the_same_command_id() {
    let mut world = World::new().await;
    let (_shutdown, _task) = world.start();
    world.send(Work::Step(step(Step::Create, 1))).await;
    let first = world.outcome().await;
    let value = exposed(&world.vault.open_version(SECRET, 1).await.unwrap());
    world.settled().await;
    world.send(Work::Step(step(Step::Create, 1))).await;
    assert_eq!(world.outcome().await, first);
    assert_eq!(
        exposed(&world.vault.open_version(SECRET, 1).await.unwrap()),
        value
    );
}

#[tokio::test]
async fn copies_that_arrive_while_it_runs_are_not_performed() {
    let mut world = World::new().await;
    world.rotator.hold.forget_permits(1000);
    let (_shutdown, _task) = world.start();
    for _ in 0..3 {
        world.send(Work::Step(step(Step::Create, 1))).await;
    }
    // Behind them, and of another secret: the copies were taken by the time it begins.
    world.send(Work::Step(of_another_secret())).await;
    wait_begun(&world, 2).await;
    world.rotator.hold.add_permits(10);
    for _ in 0..2 {
        world.outcome().await;
    }
    world.assert_no_outcome(Duration::from_millis(100)).await;
    let mut first = begun(&world);
    first.sort_unstable();
    assert_eq!(first, [(Step::Create, 1), (Step::Create, 7)]);
}

/// Its attempt tells it from others.
fn of_another_secret() -> StepWork {
    StepWork {
        secret: SecretId::from_bytes([9; 16]),
        rotation: RotationId::from_bytes([9; 16]),
        ..step(Step::Create, 7)
    }
}

#[tokio::test]
async fn one_secret_goes_in_order_while_others_go_on() {
    let mut world = World::new().await;
    world.rotator.hold.forget_permits(1000);
    let (_shutdown, _task) = world.start();
    world.send(Work::Step(step(Step::Create, 1))).await;
    world.send(Work::Step(step(Step::Create, 2))).await;
    world.send(Work::Step(of_another_secret())).await;
    wait_begun(&world, 2).await;
    world.assert_no_outcome(Duration::from_millis(100)).await;
    let mut first = begun(&world);
    first.sort_unstable();
    assert_eq!(first, [(Step::Create, 1), (Step::Create, 7)]);
    world.rotator.hold.add_permits(10);
    for _ in 0..3 {
        assert_eq!(failure(&world.outcome().await), None);
    }
}

#[tokio::test]
async fn so_many_effects_run_at_once_and_the_rest_wait_for_their_turn() {
    let more = MAX_RUNNING + 3;
    let mut world = World::new().await;
    world.rotator.hold.forget_permits(1000);
    let (_shutdown, _task) = world.start();
    for number in 0..u8::try_from(more).unwrap() {
        let of_its_own = StepWork {
            secret: SecretId::from_bytes([100 + number; 16]),
            rotation: RotationId::from_bytes([100 + number; 16]),
            ..step(Step::Create, 1)
        };
        world.send(Work::Step(of_its_own)).await;
    }
    wait_begun(&world, MAX_RUNNING).await;
    world.assert_no_outcome(Duration::from_millis(100)).await;
    assert_eq!(begun(&world).len(), MAX_RUNNING);
    world.rotator.hold.add_permits(1);
    assert_eq!(failure(&world.outcome().await), None);
    wait_begun(&world, MAX_RUNNING + 1).await;
    world.rotator.hold.add_permits(more);
    for _ in 1..more {
        assert_eq!(failure(&world.outcome().await), None);
    }
}

#[tokio::test]
async fn an_outcome_nobody_answered_is_submitted_again_under_its_id() {
    let mut world = World::new().await;
    world.script.silent.store(2, Ordering::SeqCst);
    let (_shutdown, _task) = world.start();
    world.send(Work::Step(step(Step::Create, 1))).await;
    let first = world.outcome().await;
    assert_eq!(world.outcome().await, first);
    assert_eq!(world.outcome().await, first);
    world.assert_no_outcome(Duration::from_millis(1500)).await;
    assert_eq!(begun(&world).len(), 1, "what was done is not done again");
}

#[tokio::test]
async fn a_crash_between_effect_and_outcome_is_finished_by_the_next_start() {
    let mut world = World::new().await;
    // The first outcome reaches the gateway, whose answer is lost with the crash.
    world.script.silent.store(1, Ordering::SeqCst);
    let (_shutdown, task) = world.start();
    world.send(Work::Step(step(Step::Create, 1))).await;
    let first = world.outcome().await;
    task.abort();
    let _ = task.await;
    let value = exposed(&world.vault.open_version(SECRET, 1).await.unwrap());
    let (_shutdown, _task) = world.start();
    assert_eq!(world.outcome().await, first);
    assert_eq!(
        exposed(&world.vault.open_version(SECRET, 1).await.unwrap()),
        value
    );
    world.assert_no_outcome(Duration::from_millis(1500)).await;
}

#[tokio::test]
async fn a_rejected_outcome_is_done_with() {
    let mut world = World::new().await;
    world.script.rejects.store(true, Ordering::SeqCst);
    let (_shutdown, _task) = world.start();
    world.send(Work::Step(step(Step::Create, 1))).await;
    world.outcome().await;
    world.assert_no_outcome(Duration::from_millis(1500)).await;
}

#[tokio::test]
async fn a_failed_step_says_why() {
    let mut world = World::new().await;
    let (_shutdown, _task) = world.start();
    world.send(Work::Step(step(Step::Finish, 1))).await;
    let reason = failure(&world.outcome().await).unwrap();
    assert!(reason.contains("not in the cache"), "{reason}");
}

#[tokio::test]
async fn a_step_that_hangs_fails_at_its_deadline() {
    let mut world = World::new().await;
    world.rotator.hold.forget_permits(1000);
    let options = StoreSyncOptions {
        step_deadline: Duration::from_millis(50),
        ..options()
    };
    let (_shutdown, _task) = world.start_with(options);
    world.send(Work::Step(step(Step::Create, 1))).await;
    let reason = failure(&world.outcome().await).unwrap();
    assert!(reason.contains("did not finish"), "{reason}");
}

#[tokio::test]
async fn a_step_that_panics_each_time_holds_up_nobody_and_is_done_once_it_does_not() {
    let mut world = World::new().await;
    let poisoned = SecretId::from_bytes([9; 16]);
    *world.rotator.poisoned.lock().unwrap() = Some(poisoned);
    let (_shutdown, task) = world.start();
    let bad = StepWork {
        secret: poisoned,
        rotation: RotationId::from_bytes([9; 16]),
        ..step(Step::Create, 7)
    };
    let key = Effect {
        work: Work::Step(bad.clone()),
    }
    .key();
    world.send(Work::Step(bad)).await;
    wait_begun(&world, 1).await;
    // More than there are places.
    for number in 0..u8::try_from(MAX_RUNNING + 3).unwrap() {
        let other = StepWork {
            secret: SecretId::from_bytes([100 + number; 16]),
            rotation: RotationId::from_bytes([100 + number; 16]),
            ..step(Step::Create, 1)
        };
        world.send(Work::Step(other)).await;
        assert_eq!(failure(&world.outcome().await), None);
    }
    let again = async {
        let is_bad = |begun: &&(Step, u32)| begun.1 == 7;
        while begun(&world).iter().filter(is_bad).count() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, again).await;
    assert!(waited.is_ok(), "it comes again: {:?}", begun(&world));
    assert!(!task.is_finished());
    *world.rotator.poisoned.lock().unwrap() = None;
    let outcome = world.outcome().await;
    assert_eq!(outcome.0, derive_command_id(&key));
    assert_eq!(failure(&outcome), None);
}

#[tokio::test]
async fn what_comes_after_its_deadline_is_left_to_its_next_copy() {
    let mut world = World::new().await;
    let (_shutdown, _task) = world.start();
    let work = Work::Step(step(Step::Create, 1));
    world.send_until(work.clone(), world.clock.now()).await;
    // Behind it, of the same secret: the late one was looked at by then.
    let revoke = RevokeWork {
        revocation: RevocationId::from_bytes([3; 16]),
        secret: SECRET,
        versions: vec![7],
        attempt: 1,
        outside: None,
        resource: None,
        part: Part::Whole,
        is_emergency: false,
    };
    world.send(Work::Revoke(revoke)).await;
    let (_, answered) = world.outcome().await;
    assert!(matches!(answered, Command::RevokeOutcome { .. }));
    assert_eq!(begun(&world), [], "no call was begun");
    world.send(work).await;
    let (_, answered) = world.outcome().await;
    assert!(matches!(
        answered,
        Command::StepOutcome { failure: None, .. }
    ));
    assert_eq!(begun(&world), [(Step::Create, 1)]);
}
