//! Which steps are probed before they are performed, and what a probe finds at a store outside.

use super::*;

/// How long a write has that is going to be late: on a busy machine, too, it has begun by then.
const BEGUN_BY_THEN: Duration = Duration::from_secs(5);

fn at_one(step: Step, attempt: u32) -> StepWork {
    let outside = Outside {
        store: named("one"),
        source: source(),
        known: Some(remote("1")),
        fetch: None,
        retire: Vec::new(),
        unstage: None,
        probe: None,
    };
    StepWork {
        outside: Some(Box::new(outside)),
        ..super::super::step(step, attempt)
    }
}

async fn until(what: impl Fn() -> bool) {
    let waiting = async {
        while !what() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, waiting).await.unwrap();
}

/// What was told about a step: the version outside, or why it failed.
async fn told(world: &mut World) -> Result<Option<RemoteVersion>, (String, bool)> {
    match world.outcome().await.1 {
        Command::StepOutcome {
            failure: Some(reason),
            is_away,
            ..
        } => Err((reason, is_away)),
        Command::StepOutcome { remote, .. } => Ok(remote),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_first_attempt_is_not_probed_and_costs_no_request_more() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    store.write("db", &[("password", "old")]);
    let (shutdown, task) = world.start();
    for (step, requests) in [
        (Step::Create, 0),
        (Step::Set, 1),
        (Step::Test, 0),
        (Step::Finish, 1),
    ] {
        let before = store.calls();
        world.send(Work::Step(at_one(step, 1))).await;
        let made = (step == Step::Finish).then(|| remote("2"));
        assert_eq!(told(&mut world).await, Ok(made), "{step:?}");
        assert_eq!(store.calls() - before, requests, "{step:?}");
    }
    // The repeat of what was done: one request, which changes nothing.
    for again in [1, 2] {
        let before = store.calls();
        world.resend(Work::Step(at_one(Step::Finish, again))).await;
        assert_eq!(told(&mut world).await, Ok(Some(remote("2"))));
        assert_eq!(store.calls() - before, 1);
    }
    assert_eq!((store.writes(), store.versions("db")), (1, 2));
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn another_copy_another_attempt_and_another_delivery_are_probed() {
    let mut world = World::new().await;
    // Of the first outcome: the work is given back, and comes as redelivered.
    world.script.silent.store(1, Ordering::SeqCst);
    let (shutdown, task) = world.start();
    let probed = |world: &World| world.rotator.probed.lock().unwrap().clone();
    world
        .send(Work::Step(super::super::step(Step::Create, 1)))
        .await;
    assert_eq!(told(&mut world).await, Ok(None));
    assert_eq!(probed(&world), []);
    assert_eq!(told(&mut world).await, Ok(None));
    assert_eq!(probed(&world), [(Step::Create, 1)], "redelivered");
    world
        .resend(Work::Step(super::super::step(Step::Create, 1)))
        .await;
    assert_eq!(told(&mut world).await, Ok(None));
    assert_eq!(probed(&world).len(), 2, "sent again");
    world
        .send(Work::Step(super::super::step(Step::Create, 2)))
        .await;
    assert_eq!(told(&mut world).await, Ok(None));
    assert_eq!(probed(&world)[2], (Step::Create, 2), "tried again");
    let begun = world.rotator.begun.lock().unwrap().clone();
    assert_eq!(
        begun,
        [(Step::Create, 1)],
        "what was done is not done again"
    );
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn a_late_write_that_took_effect_after_its_deadline_is_found_by_the_next_probe() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    store.write("db", &[("password", "old")]);
    let (shutdown, task) = world.start();
    world.send(Work::Step(at_one(Step::Create, 1))).await;
    assert_eq!(told(&mut world).await, Ok(None));
    store.delay(true);
    let deadline = world.clock.now().plus(BEGUN_BY_THEN);
    world
        .send_until(Work::Step(at_one(Step::Finish, 1)), deadline)
        .await;
    until(|| store.under_way() == 1).await;
    until(|| world.clock.now() > deadline).await;
    world.assert_no_outcome(Duration::from_millis(100)).await;
    store.delay(false);
    store.land();
    assert_eq!(
        store.versions("db"),
        2,
        "theirs, and ours of the late write"
    );
    world.resend(Work::Step(at_one(Step::Finish, 1))).await;
    assert_eq!(told(&mut world).await, Ok(Some(remote("2"))));
    assert_eq!((store.writes(), store.versions("db")), (1, 2));
    shutdown.request();
    task.await.unwrap();
}

/// The late write arrives between the probe of the next attempt and its own write.
#[tokio::test]
async fn a_write_that_is_late_even_for_the_probe_makes_one_version_too() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    store.write("db", &[("password", "old")]);
    let (shutdown, task) = world.start();
    world.send(Work::Step(at_one(Step::Create, 1))).await;
    assert_eq!(told(&mut world).await, Ok(None));
    store.delay(true);
    let soon = world.clock.now().plus(BEGUN_BY_THEN);
    let finish = |attempt| Work::Step(at_one(Step::Finish, attempt));
    world.send_until(finish(1), soon).await;
    until(|| store.under_way() == 1 && world.clock.now() > soon).await;
    // The probe finds nothing, and the second write goes the way of the first.
    world.resend(finish(1)).await;
    until(|| store.under_way() == 2).await;
    store.delay(false);
    store.land();
    assert_eq!((store.writes(), store.versions("db")), (1, 2));
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn nothing_is_written_when_a_probe_gets_no_answer() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    store.write("db", &[("password", "old")]);
    let (shutdown, task) = world.start();
    world.send(Work::Step(at_one(Step::Create, 1))).await;
    assert_eq!(told(&mut world).await, Ok(None));
    // Of the probe, and of nothing after it.
    store.lose_answers(1);
    world.resend(Work::Step(at_one(Step::Finish, 1))).await;
    let (reason, is_away) = told(&mut world).await.unwrap_err();
    assert!(is_away && reason.contains("lost"), "{reason}");
    assert_eq!((store.writes(), store.versions("db")), (0, 1));
    world.send(Work::Step(at_one(Step::Finish, 2))).await;
    assert_eq!(told(&mut world).await, Ok(Some(remote("2"))));
    assert_eq!(store.writes(), 1);
    shutdown.request();
    task.await.unwrap();
}
