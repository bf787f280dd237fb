//! What a NATS server does to us when it dies, forgets, changes or was never fit: nothing is lost,
//! nothing wrong is taken, and the words say what to do.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test"
)]

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream;
use futures_util::StreamExt as _;
use keywheel_bus::envelope::Receiver;
use keywheel_bus::{ConnectError, MIN_MAX_PAYLOAD, Nats, NatsOptions, Unfit};
use keywheel_core::audit::Role;
use keywheel_core::id::HostId;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::bus::{Body, Bus, Incoming, Subscription, Topic};
use keywheel_engine::port::clock::Clock as _;
use keywheel_schemas::subject::Subjects;
use keywheel_seal::OsEntropy;
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::conformance::bus::{Forgery, HOST, work as effect_of};
use keywheel_testkit::server::nats::{NatsServer, Settings, TOO_OLD, VERSIONS};

use crate::support::nats::{connect, headers, options, raw, settings, subject_of, try_connect};
use crate::support::{
    DEPLOYMENT, RandomIds, RealClock, SOON, forged, id, index_of, leaf, plan, trust,
};

const NEWEST: &str = VERSIONS[2];

async fn next(subscription: &mut dyn Subscription) -> Incoming {
    let waited = tokio::time::timeout(SOON, subscription.next()).await;
    waited.expect("a message in time").expect("a bus that runs")
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let clock = RealClock::new();
    while !holds() {
        assert!(clock.monotonic() < SOON, "{what}: not within {SOON:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
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

async fn refusal(settings: Settings) -> ConnectError {
    let server = NatsServer::start(settings);
    let refused = try_connect(options(&server, Role::Gateway), Role::Gateway).await;
    refused.err().expect("a refusal")
}

#[tokio::test]
async fn a_server_that_is_not_fit_is_refused_with_what_to_do() {
    let old = refusal(settings(TOO_OLD)).await;
    assert!(matches!(&old, ConnectError::Unfit(Unfit::TooOld { found }) if found == TOO_OLD));
    assert!(old.to_string().contains("2.12.7"), "{old}");

    let small = refusal(Settings {
        max_payload: MIN_MAX_PAYLOAD - 1,
        ..settings(NEWEST)
    });
    let small = small.await;
    assert!(matches!(
        small,
        ConnectError::Unfit(Unfit::PayloadTooSmall { .. })
    ));
    assert!(
        small
            .to_string()
            .contains(&format!("max_payload: {MIN_MAX_PAYLOAD}")),
        "{small}"
    );

    let forgetful = refusal(Settings {
        jetstream: false,
        ..settings(NEWEST)
    });
    let forgetful = forgetful.await;
    assert!(matches!(forgetful, ConnectError::Unfit(Unfit::NoJetStream)));

    let mut strangers = settings(NEWEST);
    strangers.users.truncate(0);
    strangers.users.push(Default::default());
    strangers.users[0].public_key = nkeys::KeyPair::new_user().public_key();
    let unknown = refusal(strangers).await;
    assert!(
        matches!(unknown, ConnectError::Unreachable { .. }),
        "{unknown}"
    );
    assert!(
        unknown.to_string().to_lowercase().contains("authorization"),
        "{unknown}"
    );
}

#[tokio::test]
async fn a_stream_with_another_setting_is_refused_by_its_name() {
    let server = NatsServer::start(Settings::of(NEWEST));
    let context = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let subjects = Subjects::new(DEPLOYMENT);
    let other = jetstream::stream::Config {
        name: subjects.audit_stream(),
        subjects: vec![subjects.audit()],
        storage: jetstream::stream::StorageType::Memory,
        ..Default::default()
    };
    context.create_stream(other).await.unwrap();
    let options = NatsOptions::new(vec![server.url()], DEPLOYMENT);
    let error = try_connect(options, Role::Gateway).await.err().unwrap();
    let ConnectError::Unfit(Unfit::StreamDiffers { stream, field, .. }) = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (stream.as_str(), *field),
        (subjects.audit_stream().as_str(), "storage")
    );
    assert!(error.to_string().contains("Memory"), "{error}");
}

#[tokio::test]
async fn a_stream_changed_while_we_run_stops_what_is_sent_and_health_says_why() {
    let mut server = NatsServer::start(Settings::of(NEWEST));
    let options = NatsOptions::new(vec![server.url()], DEPLOYMENT);
    let gateway = try_connect(options, Role::Gateway).await.unwrap();
    assert_eq!(gateway.health().problem, None);
    let context = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let stream = Subjects::new(DEPLOYMENT).event_stream();
    let mut config = context
        .get_stream(&stream)
        .await
        .unwrap()
        .cached_info()
        .config
        .clone();
    config.max_messages = 7;
    context.update_stream(config.clone()).await.unwrap();
    // A look comes every minute and after every connect.
    server.restart();
    until("a problem in health", || gateway.health().problem.is_some()).await;
    let problem = gateway.health().problem.unwrap();
    assert!(
        problem.contains(&stream) && problem.contains("max_msgs"),
        "{problem}"
    );
    let sent = gateway
        .endpoint()
        .publish(Topic::Audit, id(1), None, leaf(1))
        .await;
    assert!(sent.unwrap_err().text.contains("max_msgs"));
    let context = jetstream::new(async_nats::connect(server.url()).await.unwrap());
    config.max_messages = 4096;
    context.update_stream(config).await.unwrap();
    server.restart();
    until("a problem that is gone", || {
        gateway.health().problem.is_none()
    })
    .await;
}

#[tokio::test]
async fn a_killed_server_that_comes_back_has_lost_nothing_that_was_stored() {
    for version in VERSIONS {
        let mut server = NatsServer::start(settings(version));
        let gateway = connect(&server, Role::Gateway).await;
        let sink = connect(&server, Role::AuditSink).await;
        let bus = gateway.endpoint();
        let mut audit = sink
            .endpoint()
            .subscribe(Topic::Audit, "sink")
            .await
            .unwrap();
        send(&*bus, 1..11).await;
        for number in 1..4 {
            let incoming = next(&mut *audit).await;
            assert_eq!(index_of(&incoming), number);
            audit.ack(incoming.sequence).await.unwrap();
        }
        // The last acknowledgement may be on its way: what it was for is given again then.
        server.kill();
        until("a connection that is gone", || !gateway.health().connected).await;
        let sent = bus.publish(Topic::Audit, id(11), None, leaf(11)).await;
        assert_eq!(sent.unwrap_err().kind, ErrorKind::Unavailable);
        server.restart();
        send(&*bus, 11..14).await;
        let mut seen = std::collections::BTreeSet::new();
        // What was handed out before the kill is given again when its time is over, behind newer ones.
        while !(4..14).all(|number| seen.contains(&number)) {
            let incoming = next(&mut *audit).await;
            seen.insert(index_of(&incoming));
            audit.ack(incoming.sequence).await.unwrap();
        }
        until(version, || gateway.health().connects >= 2).await;
        assert_eq!(sink.refused().total(), 0);
    }
}

#[tokio::test]
async fn a_wiped_store_shows_a_hole_and_the_newest_of_every_topic() {
    let mut server = NatsServer::start(settings(NEWEST));
    let gateway = connect(&server, Role::Gateway).await;
    let sink = connect(&server, Role::AuditSink).await;
    let injector = connect(&server, Role::Injector).await;
    let bus = gateway.endpoint();
    let mut audit = sink
        .endpoint()
        .subscribe(Topic::Audit, "sink")
        .await
        .unwrap();
    send(&*bus, 1..6).await;
    let topic = Topic::Plan(HOST);
    for generation in 1..4 {
        bus.publish(
            topic.clone(),
            id(100 + generation),
            None,
            plan(HOST, generation),
        )
        .await
        .unwrap();
    }
    let mut last = 0;
    for number in 1..6 {
        let incoming = next(&mut *audit).await;
        assert_eq!((index_of(&incoming), incoming.sequence), (number, last + 1));
        last = incoming.sequence;
        audit.ack(last).await.unwrap();
    }
    send(&*bus, 6..11).await;
    server.kill();
    server.wipe();
    server.restart();
    // Nobody publishes anything: what the consumer misses is known without that.
    let incoming = next(&mut *audit).await;
    assert_eq!(index_of(&incoming), 10, "the newest is said again");
    assert!(incoming.sequence > last + 1, "a hole before it");
    audit.ack(incoming.sequence).await.unwrap();
    send(&*bus, 11..12).await;
    let after = next(&mut *audit).await;
    assert_eq!(
        (index_of(&after), after.sequence),
        (11, incoming.sequence + 1)
    );

    let mut plans = injector
        .endpoint()
        .subscribe(topic, "injector")
        .await
        .unwrap();
    let Body::Plan(newest) = next(&mut *plans).await.message.body else {
        panic!("a plan was expected")
    };
    assert_eq!(newest.generation, 3);
    assert_eq!(
        sink.refused().total(),
        0,
        "a message said again is no forgery"
    );
}

#[tokio::test]
async fn a_service_may_begin_before_its_server() {
    let mut server = NatsServer::start(settings(NEWEST));
    server.kill();
    let offline = NatsOptions {
        begin_offline: true,
        ..options(&server, Role::Injector)
    };
    let injector = try_connect(offline, Role::Injector).await.unwrap();
    assert!(!injector.health().connected);
    let at_once = NatsOptions {
        start_timeout: Duration::ZERO,
        ..options(&server, Role::Gateway)
    };
    let online = try_connect(at_once, Role::Gateway).await;
    assert!(matches!(
        online,
        Err(ConnectError::Unreachable {
            is_absent: true,
            ..
        })
    ));
    let patient = options(&server, Role::Scheduler);
    let early = tokio::spawn(try_connect(patient, Role::Scheduler));

    let end = injector.endpoint();
    let waiting = tokio::spawn(async move { end.subscribe(Topic::Plan(HOST), "injector").await });
    server.restart();
    let scheduler = early.await.unwrap().unwrap();
    until("a start that waited for its server", || {
        scheduler.health().connected
    })
    .await;
    let gateway = connect(&server, Role::Gateway).await;
    let mut plans = waiting.await.unwrap().unwrap();
    gateway
        .endpoint()
        .publish(Topic::Plan(HOST), id(1), None, plan(HOST, 5))
        .await
        .unwrap();
    let incoming = next(&mut *plans).await;
    assert!(matches!(incoming.message.body, Body::Plan(plan) if plan.generation == 5));
}

#[tokio::test]
async fn a_flood_of_forgeries_delays_nobody_and_stays_with_nobody() {
    const FLOOD: u64 = 500;
    let server = NatsServer::start(settings(NEWEST));
    let gateway = connect(&server, Role::Gateway).await;
    let sink = connect(&server, Role::AuditSink).await;
    let mut audit = sink
        .endpoint()
        .subscribe(Topic::Audit, "sink")
        .await
        .unwrap();
    let context = jetstream::new(raw(&server, Role::Gateway).await);
    let to = Receiver::Topic(&Topic::Audit);
    for number in 0..FLOOD {
        let frame = forged(
            Forgery::Stranger,
            Role::Gateway,
            to,
            id(9000 + number),
            &leaf(666),
        );
        let headers = headers(&frame);
        let sent =
            context.publish_with_headers(subject_of(&Topic::Audit), headers, frame.document.into());
        sent.await.unwrap().await.unwrap();
    }
    send(&*gateway.endpoint(), 1..2).await;
    let incoming = next(&mut *audit).await;
    assert_eq!(index_of(&incoming), 1);
    audit.ack(incoming.sequence).await.unwrap();
    assert_eq!(sink.refused().forged, FLOOD);
    assert_eq!(sink.refused().total(), FLOOD);
    // None of them comes again.
    let quiet = tokio::time::timeout(crate::support::ACK_TIMEOUT * 3, audit.next()).await;
    assert!(quiet.is_err());
    assert_eq!(sink.refused().total(), FLOOD);
}

#[tokio::test]
async fn stolen_credentials_reach_nothing_of_others() {
    let server = NatsServer::start(settings(NEWEST));
    let gateway = connect(&server, Role::Gateway).await;
    let subjects = Subjects::new(DEPLOYMENT);
    let other = HostId::from_bytes([1; 16]);
    let topic = Topic::Plan(other);
    gateway
        .endpoint()
        .publish(topic, id(1), None, plan(other, 1))
        .await
        .unwrap();
    let thief = raw(&server, Role::Injector).await;
    let mut context = jetstream::new(thief.clone());
    context.set_timeout(Duration::from_secs(1));
    let config = jetstream::consumer::pull::Config {
        name: Some("thief".to_owned()),
        filter_subject: subjects.plan(other),
        ..Default::default()
    };
    let made = context
        .create_consumer_on_stream(config, subjects.plan_stream())
        .await;
    assert!(made.is_err(), "a consumer for another host's plan");
    for subject in [subjects.events(), subjects.plan(other), subjects.hosts()] {
        let sent = context.publish(subject.clone(), "forged".into()).await;
        assert!(sent.unwrap().await.is_err(), "{subject} is the gateway's");
    }
    let mut listening = thief.subscribe(subjects.plan(other)).await.unwrap();
    thief.flush().await.unwrap();
    gateway
        .endpoint()
        .publish(Topic::Plan(other), id(2), None, plan(other, 2))
        .await
        .unwrap();
    let heard = tokio::time::timeout(crate::support::ACK_TIMEOUT, listening.next()).await;
    assert!(!matches!(heard, Ok(Some(_))), "another host's plan is read");
    // What is answered is waited for longer than what is not.
    context.set_timeout(SOON);
    let stream = context.get_stream(subjects.plan_stream()).await.unwrap();
    assert_eq!(
        stream.cached_info().state.messages,
        1,
        "the gateway's newest"
    );
}

/// A gateway that waits for no answer for long: at its start a busy machine may take longer, and is tried again.
async fn hurried_gateway(options: impl Fn() -> NatsOptions) -> Nats {
    let clock = RealClock::new();
    loop {
        match try_connect(options(), Role::Gateway).await {
            Ok(gateway) => return gateway,
            Err(refused) => assert!(clock.monotonic() < SOON, "{refused}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_hangs_delays_one_message_and_not_every_one() {
    let server = NatsServer::start(settings(NEWEST));
    let patience = Duration::from_millis(700);
    let hurried = || NatsOptions {
        server_timeout: patience,
        ..options(&server, Role::Gateway)
    };
    let gateway = hurried_gateway(hurried).await;
    let sink = connect(&server, Role::AuditSink).await;
    let mut audit = sink
        .endpoint()
        .subscribe(Topic::Audit, "sink")
        .await
        .unwrap();
    let bus = gateway.endpoint();
    server.pause();
    let clock = RealClock::new();
    for number in 1..100 {
        let sent = bus
            .publish(Topic::Audit, id(number), None, leaf(number))
            .await;
        assert_eq!(sent.unwrap_err().kind, ErrorKind::Unavailable);
    }
    // Far from that of every one, also on a machine that stood still meanwhile.
    assert!(clock.monotonic() < patience * 30, "{:?}", clock.monotonic());
    server.resume();
    // The first one was on its way; the newest is said again without anybody asking.
    let mut seen = Vec::new();
    while seen.last() != Some(&99) {
        let incoming = next(&mut *audit).await;
        // One that is acknowledged late comes again.
        if !seen.contains(&index_of(&incoming)) {
            seen.push(index_of(&incoming));
        }
        audit.ack(incoming.sequence).await.unwrap();
    }
    assert!(seen.len() <= 3, "{seen:?}");
    send(&*bus, 100..101).await;
    loop {
        let incoming = next(&mut *audit).await;
        if index_of(&incoming) == 100 {
            break;
        }
        assert!(incoming.redelivered, "{incoming:?}");
    }
}

#[tokio::test]
async fn two_of_a_role_each_get_what_each_must_know_and_share_the_work() {
    let server = NatsServer::start(settings(NEWEST));
    let gateway = connect(&server, Role::Gateway).await.endpoint();
    let instance = |name: &str, role| NatsOptions {
        instance: Some(name.to_owned()),
        ..options(&server, role)
    };
    let mut readers = Vec::new();
    for name in ["one", "two"] {
        let store_sync = try_connect(instance(name, Role::StoreSync), Role::StoreSync).await;
        let sink = try_connect(instance(name, Role::AuditSink), Role::AuditSink).await;
        let (store_sync, sink) = (store_sync.unwrap(), sink.unwrap());
        let hosts = store_sync
            .endpoint()
            .subscribe(Topic::Hosts, "store-sync")
            .await;
        let audit = sink.endpoint().subscribe(Topic::Audit, "sink").await;
        readers.push((store_sync, sink, hosts.unwrap(), audit.unwrap()));
    }
    send(&*gateway, 1..3).await;
    let list = Body::Hosts(Vec::new());
    gateway
        .publish(Topic::Hosts, id(1), None, list)
        .await
        .unwrap();
    for (_, _, hosts, audit) in &mut readers {
        let list = next(&mut **hosts).await;
        assert!(matches!(list.message.body, Body::Hosts(_)));
        hosts.ack(list.sequence).await.unwrap();
        for number in 1..3 {
            let record = next(&mut **audit).await;
            assert_eq!(index_of(&record), number);
            audit.ack(record.sequence).await.unwrap();
        }
    }
}

/// A host's connection, with its own key and no user: the server of these tests asks nobody.
async fn host_end(server: &NatsServer, host: HostId, key: SigningKey) -> Nats {
    let identity = keywheel_bus::Identity::injector(DEPLOYMENT, host, key);
    let options = NatsOptions::new(vec![server.url()], DEPLOYMENT);
    let (clock, ids) = (Arc::new(RealClock::new()), Arc::new(RandomIds));
    Nats::connect(options, identity, trust(), clock, ids)
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_hosts_come_back_at_once() {
    const HOSTS: u8 = 200;
    let mut server = NatsServer::start(Settings::of(NEWEST));
    let options = NatsOptions::new(vec![server.url()], DEPLOYMENT);
    let gateway = try_connect(options, Role::Gateway).await.unwrap();
    let mut hosts = Vec::new();
    for number in 0..HOSTS {
        let host = HostId::from_bytes([number + 1; 16]);
        let end = host_end(&server, host, SigningKey::generate(&OsEntropy)).await;
        let plans = end
            .endpoint()
            .subscribe(Topic::Plan(host), "injector")
            .await
            .unwrap();
        hosts.push((host, end, plans));
    }
    server.restart();
    let bus = gateway.endpoint();
    for (number, (host, _, _)) in hosts.iter().enumerate() {
        let message = id(u64::try_from(number).unwrap() + 1);
        while bus
            .publish(Topic::Plan(*host), message, None, plan(*host, 2))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    for (host, end, plans) in &mut hosts {
        let waited = tokio::time::timeout(SOON, plans.next()).await;
        let Ok(Some(incoming)) = waited else {
            panic!("{host}: {:?}; {:?}", end.health(), gateway.health());
        };
        assert!(matches!(incoming.message.body, Body::Plan(plan) if plan.host == *host));
        plans.ack(incoming.sequence).await.unwrap();
        until("a connection in health", || end.health().connected).await;
    }
}

/// The bus server drops no copy after its window, and none that comes under another id of its own: the
/// reader does, also one that kept nothing of an earlier run (row 12).
#[tokio::test]
async fn a_delivery_repeated_a_hundred_times_after_the_dedup_window_is_handed_on_once() {
    const REPEATS: u64 = 100;
    let server = NatsServer::start(settings(NEWEST));
    let gateway = connect(&server, Role::Gateway).await;
    let bus = gateway.endpoint();
    let work = Topic::Work(Role::StoreSync);
    let context = jetstream::new(raw(&server, Role::Gateway).await);
    // Signed by the gateway: what was captured, and comes without the header that the server looks at.
    let sent = effect_of(1);
    let copy = forged(
        Forgery::Replay,
        Role::Gateway,
        Receiver::Topic(&work),
        id(1),
        &sent,
    );
    let repeat = || async {
        for _ in 0..REPEATS {
            let payload = copy.document.clone().into();
            let sent = context.publish_with_headers(subject_of(&work), headers(&copy), payload);
            sent.await.unwrap().await.unwrap();
        }
    };
    for number in [2, 3] {
        // A new process each time: nothing is remembered.
        let store_sync = connect(&server, Role::StoreSync).await;
        let end = store_sync.endpoint();
        let mut effects = end.subscribe(work.clone(), "store-sync").await.unwrap();
        repeat().await;
        let other = effect_of(u32::try_from(number).unwrap());
        bus.publish(work.clone(), id(number), None, other)
            .await
            .unwrap();
        let mut attempts = Vec::new();
        while attempts.len() < 2 {
            let incoming = next(&mut *effects).await;
            attempts.push(crate::support::attempt_of(&incoming));
            effects.ack(incoming.sequence).await.unwrap();
        }
        assert_eq!(attempts, [1, number], "each once, in order");
        assert_eq!(store_sync.refused().replayed, REPEATS - 1);
        assert_eq!(store_sync.refused().total(), REPEATS - 1);
        drop(effects);
        store_sync.shutdown().await;
    }
}
