//! Passwords of accounts that lie at a store outside, too: each step is the server's and the store's.

use keywheel_core::revocation::Answer;

use super::*;

fn place(fetch: Option<RemoteVersion>) -> Option<Box<Outside>> {
    Some(Box::new(Outside {
        store: named("one"),
        source: source(),
        known: None,
        fetch,
        retire: Vec::new(),
        unstage: None,
        probe: None,
    }))
}

fn work(wanted: Step, fetch: Option<RemoteVersion>) -> Work {
    Work::Step(StepWork {
        outside: place(fetch),
        resource: at_the_shop(None),
        ..super::super::step(wanted, 1)
    })
}

async fn told(world: &mut World, work: Work) -> (Option<String>, Option<RemoteVersion>) {
    world.send(work).await;
    match world.outcome().await.1 {
        Command::StepOutcome {
            failure, remote, ..
        } => (failure, remote),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn the_server_accepts_what_the_store_has_and_a_revocation_is_proven_at_the_server() {
    let mut world = World::new().await;
    world.accounts.make("app");
    let (shutdown, task) = world.start();
    for wanted in [Step::Create, Step::Set, Step::Test] {
        assert_eq!(told(&mut world, work(wanted, None)).await, (None, None));
    }
    let (failure_of_it, made) = told(&mut world, work(Step::Finish, None)).await;
    assert_eq!(failure_of_it, None);
    assert!(made.is_some(), "it is current there");
    let value = world.vault.open_version(SECRET, 1).await.unwrap();
    let store = world.fakes.store("one");
    let there = || store.fields("db");
    assert_eq!(there().get("password"), Some(&exposed(&value)));
    assert!(world.accounts.accepts("app", &value));
    let part = |part, attempt| {
        Work::Revoke(RevokeWork {
            revocation: RevocationId::from_bytes([3; 16]),
            secret: SECRET,
            versions: vec![1],
            attempt,
            outside: place(None).filter(|_| part != Part::Destroy),
            resource: at_the_shop(None).filter(|_| part != Part::Destroy),
            part,
            is_emergency: true,
        })
    };
    world.send(part(Part::Disable, 1)).await;
    assert_eq!(failure(&world.outcome().await), None);
    assert!(!world.accounts.accepts("app", &value));
    assert_eq!(there().len(), 1, "a store is not without a current one");
    world.send(part(Part::Prove, 2)).await;
    let (_, proven) = world.outcome().await;
    let Command::ProofOutcome(taken) = proven else {
        panic!("{proven:?}");
    };
    let answers: Vec<_> = taken.proof.evidence.iter().map(|one| one.answer).collect();
    assert_eq!(
        (answers, taken.proof.lacking),
        (vec![Answer::Refused], None)
    );
    world.send(part(Part::Destroy, 3)).await;
    assert_eq!(failure(&world.outcome().await), None);
    assert!(world.vault.open_version(SECRET, 1).await.is_err());
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn what_somebody_else_put_there_is_taken_when_it_is_let_in_and_never_set() {
    for is_good in [true, false] {
        let mut world = World::new().await;
        let theirs = SecretBytes::from(b"theirs".to_vec());
        world.accounts.make("app");
        if is_good {
            world.accounts.change("app", &theirs);
        }
        let store = world.fakes.store("one");
        store.write("db", &[("password", "theirs")]);
        let changes = world.accounts.changes();
        let (shutdown, task) = world.start();
        let seen = || Some(remote("1"));
        for wanted in [Step::Create, Step::Set] {
            assert_eq!(told(&mut world, work(wanted, seen())).await, (None, None));
        }
        let (refused, _) = told(&mut world, work(Step::Test, seen())).await;
        assert_eq!(refused.is_none(), is_good, "{refused:?}");
        if is_good {
            let finished = told(&mut world, work(Step::Finish, seen())).await;
            assert_eq!(finished, (None, seen()));
        } else {
            let back = told(&mut world, work(Step::RollBack, seen())).await;
            assert_eq!(back, (None, None));
            assert!(world.vault.open_version(SECRET, 1).await.is_err());
        }
        assert_eq!(
            world.accounts.changes(),
            changes,
            "the server is told nothing"
        );
        assert_eq!(store.writes(), 0, "nor is the store");
        shutdown.request();
        task.await.unwrap();
    }
}
