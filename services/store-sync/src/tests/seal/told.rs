//! Who asks for the status right after it was sealed or unsealed, or took a share, is told so.

use keywheel_engine::port::bus::Subscription;
use keywheel_engine::presence::{About, BEAT_INTERVAL, Beat, WithMemory};
use tokio_util::sync::CancellationToken;

use super::*;

/// What the next word says of the seal; it comes before a beat would.
async fn told(heard: &mut dyn Subscription) -> (Health, String) {
    let next = tokio::time::timeout(BEAT_INTERVAL / 2, heard.next()).await;
    let next = next
        .expect("nothing was told before the next beat")
        .unwrap();
    heard.ack(next.sequence).await.unwrap();
    let Body::Presence(said) = next.message.body else {
        panic!("presence was expected, not {:?}", next.message.body);
    };
    let facts = said.seen.facts;
    let fact = facts.into_iter().find(|fact| fact.name == SEAL_FACT);
    let fact = fact.unwrap();
    (fact.health, fact.note)
}

/// A store-sync's beat.
fn beat(world: &World, handle: crate::Handle) -> Beat {
    Beat {
        bus: world.hub.endpoint(identity(&world.keys, Role::StoreSync)),
        clock: world.clock.clone(),
        ids: Arc::new(SystemIds),
        about: About {
            role: Role::StoreSync,
            host: None,
            instance: [1; 16],
            machine: "here".to_owned(),
            version: "1".to_owned(),
            started: world.clock.now(),
        },
        look: Arc::new(WithMemory::new(Arc::new(handle))),
        end: None,
        certificate_end: Arc::new(|| None),
    }
}

#[tokio::test]
async fn that_it_was_sealed_or_unsealed_is_told_before_the_next_beat() {
    let world = World::new().await;
    let sealed = Sealed::with(None);
    let (handle, shutdown, task) = world.start_under(&sealed.seal);
    let heard = world.gateway.subscribe(Topic::Presence, "one").await;
    let mut heard = heard.unwrap();
    let stop = CancellationToken::new();
    let telling = tokio::spawn(beat(&world, handle).run(stop.clone()));
    let first = told(&mut *heard).await.0;
    assert_eq!(first, Health::Problem, "it starts sealed");
    sealed.offer(&bytes(b"")).await.unwrap();
    assert_eq!(told(&mut *heard).await.0, Health::Ok);
    assert!(world.state(Body::Seal).await.sealed);
    assert_eq!(told(&mut *heard).await.0, Health::Problem);
    stop.cancel();
    telling.await.unwrap().unwrap();
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn each_share_that_was_taken_is_told_before_the_next_beat() {
    let world = World::new().await;
    let (sealed, shares) = Sealed::by_shares(3, 3);
    let (handle, shutdown, task) = world.start_under(&sealed.seal);
    let heard = world.gateway.subscribe(Topic::Presence, "one").await;
    let mut heard = heard.unwrap();
    let stop = CancellationToken::new();
    let telling = tokio::spawn(beat(&world, handle).run(stop.clone()));
    let (_, begun) = told(&mut *heard).await;
    assert!(begun.contains("0 of 3 shares are there"), "{begun}");
    for (have, share) in (1..).zip(&shares[..2]) {
        world.give(share).await;
        let (health, note) = told(&mut *heard).await;
        assert_eq!(health, Health::Problem);
        let progress = format!("{have} of 3 shares are there");
        assert!(note.contains(&progress), "{note}");
    }
    // Whoever seals what is sealed has them forgotten.
    assert!(world.state(Body::Seal).await.sealed);
    let (_, again) = told(&mut *heard).await;
    assert!(again.contains("0 of 3 shares are there"), "{again}");
    for (have, share) in (1..).zip(&shares[..2]) {
        world.give(share).await;
        let (_, note) = told(&mut *heard).await;
        let progress = format!("{have} of 3 shares are there");
        assert!(note.contains(&progress), "{note}");
    }
    world.give(&shares[2]).await;
    assert_eq!(told(&mut *heard).await.0, Health::Ok);
    stop.cancel();
    telling.await.unwrap().unwrap();
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn what_was_refused_changes_nothing_and_is_told_to_nobody() {
    let (sealed, shares) = Sealed::by_shares(2, 2);
    let bell = sealed.seal.told();
    sealed.offer(&bytes(b"wrong")).await.unwrap_err();
    assert!(!bell.has_changed().unwrap());
    sealed.offer(&shares[0]).await.unwrap();
    assert!(bell.has_changed().unwrap());
    let bell = sealed.seal.told();
    sealed.offer(&shares[0]).await.unwrap_err();
    assert!(!bell.has_changed().unwrap());
    assert_eq!(sealed.have().await, 1);
}
