//! What waits on the bus server for a store-sync and an injector, as it says itself, and what is said last.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::time::Duration;

use keywheel_bus::Nats;
use keywheel_core::audit::Role;
use keywheel_engine::port::bus::{Incoming, Subscription, Topic};
use keywheel_engine::presence::Backlog as _;
use keywheel_testkit::conformance::bus::{HOST, presence, work};
use keywheel_testkit::server::nats::{NatsServer, VERSIONS};

use crate::support::nats::{connect, options, settings, try_connect};
use crate::support::{SOON, id, plan};

async fn next(subscription: &mut dyn Subscription) -> Incoming {
    let waited = tokio::time::timeout(SOON, subscription.next()).await;
    waited.expect("a message in time").expect("a bus that runs")
}

/// Waits until that waits: the server counts a message for its readers a moment after it confirmed it.
async fn until_waits(bus: &Nats, wanted: &[(&str, u64)]) {
    let waiting = async {
        while bus.backlog().await != wanted {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(SOON, waiting).await;
    let is = bus.backlog().await;
    waited.unwrap_or_else(|_| panic!("{is:?} never became {wanted:?}"));
}

/// Also with nobody who takes it: the number is the bus server's and not the reader's.
#[tokio::test]
async fn what_waits_for_a_reader_is_told_until_it_is_acknowledged() {
    let server = NatsServer::start(settings(VERSIONS[2]));
    let gateway = connect(&server, Role::Gateway).await;
    let store_sync = connect(&server, Role::StoreSync).await;
    let injector = connect(&server, Role::Injector).await;
    let topic = Topic::Work(Role::StoreSync);
    assert_eq!(store_sync.backlog().await, [], "it reads nothing yet");
    let endpoint = store_sync.endpoint();
    let mut effects = endpoint.subscribe(topic.clone(), "work").await.unwrap();
    assert_eq!(store_sync.backlog().await, [("work", 0)]);
    let teller = gateway.endpoint();
    for attempt in 1..=3 {
        let sent = teller.publish(topic.clone(), id(attempt.into()), None, work(attempt));
        sent.await.unwrap();
    }
    until_waits(&store_sync, &[("work", 3)]).await;
    let first = next(&mut *effects).await;
    assert_eq!(store_sync.backlog().await, [("work", 3)], "taken, not done");
    effects.ack(first.sequence).await.unwrap();
    until_waits(&store_sync, &[("work", 2)]).await;

    let topic = Topic::Plan(HOST);
    let endpoint = injector.endpoint();
    let plans = endpoint.subscribe(topic.clone(), "injector").await;
    let plans = plans.unwrap();
    let sent = teller.publish(topic, id(9), None, plan(HOST, 1));
    sent.await.unwrap();
    until_waits(&injector, &[("plan", 1)]).await;
    drop(plans);
    assert_eq!(injector.backlog().await, [], "nobody reads any more");
    gateway.shutdown().await;
    assert_eq!(gateway.backlog().await, []);
}

/// A program that says its last word and ends: nothing of it goes on once `shutdown` has returned.
#[tokio::test]
async fn what_is_said_right_before_the_end_is_heard() {
    let server = NatsServer::start(settings(VERSIONS[2]));
    let gateway = connect(&server, Role::Gateway).await;
    let endpoint = gateway.endpoint();
    let mut heard = endpoint.subscribe(Topic::Presence, "one").await.unwrap();
    for number in 1..=20 {
        let options = options(&server, Role::Injector);
        let program = std::thread::spawn(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            runtime.enable_all().build().unwrap().block_on(async {
                let injector = try_connect(options, Role::Injector).await.unwrap();
                let said = presence(Role::Injector, Some(HOST), number);
                let told = injector.endpoint();
                let told = told.publish(Topic::Presence, id(number.into()), None, said);
                told.await.unwrap();
                injector.shutdown().await;
            });
        });
        program.join().unwrap();
        assert_eq!(next(&mut *heard).await.message.id, id(number.into()));
    }
}
