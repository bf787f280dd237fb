//! Who asks for the status right after it was sealed or unsealed is told so.

use keywheel_engine::port::bus::Subscription;
use keywheel_engine::presence::{About, BEAT_INTERVAL, Beat, WithMemory};
use tokio_util::sync::CancellationToken;

use super::*;

/// What the next word says of the seal; it comes before a beat would.
async fn told(heard: &mut dyn Subscription) -> Health {
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
    fact.unwrap().health
}

#[tokio::test]
async fn that_it_was_sealed_or_unsealed_is_told_before_the_next_beat() {
    let world = World::new().await;
    let sealed = Sealed::with(None);
    let (handle, shutdown, task) = world.start_under(&sealed.seal);
    let heard = world.gateway.subscribe(Topic::Presence, "one").await;
    let mut heard = heard.unwrap();
    let beat = Beat {
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
    };
    let stop = CancellationToken::new();
    let telling = tokio::spawn(beat.run(stop.clone()));
    assert_eq!(told(&mut *heard).await, Health::Problem, "it starts sealed");
    sealed.offer(&bytes(b"")).await.unwrap();
    assert_eq!(told(&mut *heard).await, Health::Ok);
    assert!(world.state(Body::Seal).await.sealed);
    assert_eq!(told(&mut *heard).await, Health::Problem);
    stop.cancel();
    telling.await.unwrap().unwrap();
    shutdown.request();
    task.await.unwrap();
}
