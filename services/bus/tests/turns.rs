//! Several gateways and one bus server that loses what it had: who says what again.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::time::Duration;

use async_nats::jetstream;
use keywheel_core::audit::Role;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::bus::{Body, Bus, Incoming, Subscription, Topic};
use keywheel_schemas::subject::Subjects;
use keywheel_testkit::conformance::bus::HOST;
use keywheel_testkit::server::nats::{NatsServer, User, VERSIONS};
use nkeys::KeyPair;

use crate::support::nats::{connect, settings};
use crate::support::{DEPLOYMENT, SOON, id, index_of, leaf, plan};

async fn next(subscription: &mut dyn Subscription) -> Incoming {
    let waited = tokio::time::timeout(SOON, subscription.next()).await;
    waited.expect("a message in time").expect("a bus that runs")
}

async fn send(bus: &dyn Bus, numbers: std::ops::Range<u64>) {
    for number in numbers {
        let sent = || bus.publish(Topic::Audit, id(number), None, leaf(number));
        while let Err(error) = sent().await {
            assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// An idle gateway makes the lost streams anew: it says nothing of its own, and whoever has the turn
/// says its newest again though it made nothing.
#[tokio::test]
async fn a_lost_stream_is_filled_by_whoever_has_the_turn_and_by_nobody_else() {
    let operator = KeyPair::new_user();
    let mut settings = settings(VERSIONS[2]);
    settings.users.push(User {
        public_key: operator.public_key(),
        publish: vec![">".to_owned()],
        subscribe: vec![">".to_owned()],
        responses: false,
    });
    let mut server = NatsServer::start(settings);
    let idle = connect(&server, Role::Gateway).await;
    let teller = connect(&server, Role::Gateway).await;
    let sink = connect(&server, Role::AuditSink).await;
    let (before, bus) = (idle.endpoint(), teller.endpoint());
    let mut audit = sink
        .endpoint()
        .subscribe(Topic::Audit, "sink")
        .await
        .unwrap();
    let topic = Topic::Plan(HOST);
    send(&*before, 1..4).await;
    let older = before.publish(topic.clone(), id(101), None, plan(HOST, 1));
    older.await.unwrap();
    before.set_turn(Duration::ZERO);
    bus.set_turn(Duration::MAX);
    send(&*bus, 4..7).await;
    let newer = bus.publish(topic.clone(), id(102), None, plan(HOST, 2));
    newer.await.unwrap();
    for number in 1..7 {
        let incoming = next(&mut *audit).await;
        assert_eq!(index_of(&incoming), number);
        audit.ack(incoming.sequence).await.unwrap();
    }
    let seed = operator.seed().unwrap();
    let client = async_nats::ConnectOptions::with_nkey(seed).connect(server.url());
    let context = jetstream::new(client.await.unwrap());
    let subjects = Subjects::new(DEPLOYMENT);
    for stream in [subjects.audit_stream(), subjects.plan_stream()] {
        context.delete_stream(stream).await.unwrap();
    }
    // One more gateway makes them, which never had the turn.
    let maker = connect(&server, Role::Gateway).await;
    // A look comes after every connect.
    server.restart();
    let incoming = next(&mut *audit).await;
    assert_eq!(index_of(&incoming), 6, "the newest of all");
    audit.ack(incoming.sequence).await.unwrap();
    send(&*bus, 7..8).await;
    let after = next(&mut *audit).await;
    assert_eq!(
        (index_of(&after), after.sequence),
        (7, incoming.sequence + 1),
        "nothing older was said in between"
    );
    let injector = connect(&server, Role::Injector).await;
    let end = injector.endpoint();
    let mut plans = end.subscribe(topic, "injector").await.unwrap();
    let Body::Plan(newest) = next(&mut *plans).await.message.body else {
        panic!("a plan was expected")
    };
    assert_eq!(newest.generation, 2);
    assert_eq!(maker.refused().total(), 0);
}
