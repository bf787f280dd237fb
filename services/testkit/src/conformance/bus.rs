//! The bus's laws, run against any transport: `run` makes a fresh one for every case.
//!
//! A transport under test also lets the suite go behind its back (`forge`), because what matters
//! most is what a consumer does with a message that nobody may have sent.

mod presence;

pub use presence::presence;
mod requests;

use std::collections::BTreeSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::audit::Role;
use keywheel_core::effect::{Effect, Part, RevokeWork, Work};
use keywheel_core::id::{HostId, RevocationId, SecretId};
use keywheel_core::name::HostName;
use keywheel_core::plan::HostPlan;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::bus::{
    Address, Body, Bus, HostKeys, Incoming, Source, Subscription, TOPIC_CAPACITY, Topic,
};
use keywheel_engine::port::journal::AuditLeaf;

/// Long enough for anything that is going to happen, also on a machine that stands still meanwhile.
const SOON: Duration = Duration::from_secs(120);
/// How long to watch that nothing happens.
const QUIET: Duration = Duration::from_millis(60);
/// The host of the injector under test.
pub const HOST: HostId = HostId::from_bytes([9; 16]);
const WORK: Topic = Topic::Work(Role::StoreSync);

/// How a message is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgery {
    /// The signature's bytes are zeros.
    Unsigned,
    /// Signed by a key nobody trusts.
    Stranger,
    /// Signed by a trusted role that may not send this.
    WrongRole,
    /// Signed by the right role for another receiver.
    OtherReceiver,
    /// One byte changed after signing.
    Changed,
    /// Not a message at all.
    Garbage,
    /// Over the size limit.
    TooLarge,
    /// Signed by another host's key, in the name of the right host. Of the gateway's messages: signed
    /// by a host.
    OtherHost,
    /// A true copy of a message that was sent before, under its id.
    Replay,
}

const FORGERIES: [Forgery; 9] = [
    Forgery::Unsigned,
    Forgery::Stranger,
    Forgery::WrongRole,
    Forgery::OtherReceiver,
    Forgery::Changed,
    Forgery::Garbage,
    Forgery::TooLarge,
    Forgery::OtherHost,
    Forgery::Replay,
];

/// A transport under test, with a trusted key per service role and one for [`HOST`].
#[async_trait]
pub trait BusUnderTest: Send + Sync {
    /// A role's end of it.
    fn endpoint(&self, role: Role) -> Arc<dyn Bus>;
    /// Puts a forged message of the gateway into a topic, past every check of a sender.
    async fn forge(&self, forgery: Forgery, topic: &Topic, id: [u8; 16], body: Body);
    /// Puts a forged request of the injector before the servers of an address, likewise.
    async fn forge_request(&self, forgery: Forgery, to: Address, body: Body);
    /// How many messages were dropped by a receiver's check.
    fn refused(&self) -> u64;
    /// After what time an unacknowledged message comes again.
    fn ack_timeout(&self) -> Duration;
    /// Ends it.
    async fn shutdown(&self);
}

/// Runs every case, each on a transport of its own.
///
/// # Panics
/// When a law is broken.
pub async fn run<F, M, T>(make: F)
where
    F: Fn() -> M,
    M: Future<Output = T>,
    T: BusUnderTest,
{
    a_topic_is_in_order_and_begins_with_the_subscription(&make().await).await;
    an_unacknowledged_message_comes_again_and_an_acknowledged_one_does_not(&make().await).await;
    a_refused_message_comes_again_after_the_delay(&make().await).await;
    a_message_is_given_once_per_id(&make().await).await;
    every_consumer_name_has_its_own_copy_and_keeps_its_place(&make().await).await;
    a_slow_consumer_sees_a_hole_and_a_bounded_rest(&make().await).await;
    work_waits_for_a_worker_and_goes_to_one(&make().await).await;
    a_late_host_sees_the_newest_plan(&make().await).await;
    the_newest_hosts_are_seen_by_who_comes_late(&make().await).await;
    presence::every_listener_hears_everyone(&make().await).await;
    presence::nobody_is_present_for_another_and_only_gateways_listen(&make().await).await;
    a_forged_message_is_counted_and_never_handed_on(&make().await).await;
    what_a_reader_finds_stale_is_counted(&make().await).await;
    requests::a_forged_request_is_counted_and_never_handed_on(&make().await).await;
    requests::a_request_is_handed_on_once(&make().await).await;
    a_role_cannot_send_what_it_may_not(&make().await).await;
    a_role_cannot_read_what_it_may_not(&make().await).await;
    a_message_over_the_limit_is_not_sent(&make().await).await;
    requests::requests_get_their_own_answers(&make().await).await;
    requests::silence_is_unavailable(&make().await).await;
    shutdown_ends_everything(&make().await).await;
}

fn leaf(index: u64) -> Body {
    Body::Audit(AuditLeaf {
        index,
        bytes: Arc::from(format!("{{\"n\":{index}}}").as_bytes()),
    })
}

fn id(number: u64) -> [u8; 16] {
    u128::from(number).to_be_bytes()
}

fn index_of(incoming: &Incoming) -> u64 {
    match &incoming.message.body {
        Body::Audit(leaf) => leaf.index,
        other => panic!("an audit record was expected, not {other:?}"),
    }
}

/// An effect of this attempt.
#[must_use]
pub fn work(attempt: u32) -> Body {
    let revoke = RevokeWork {
        revocation: RevocationId::from_bytes([1; 16]),
        secret: SecretId::from_bytes([2; 16]),
        versions: vec![1],
        attempt,
        outside: None,
        resource: None,
        part: Part::Whole,
        is_emergency: false,
    };
    Body::Work {
        effect: Effect {
            work: Work::Revoke(revoke),
        },
        deadline: Timestamp::from_micros(7),
        first: true,
    }
}

fn attempt_of(incoming: &Incoming) -> u32 {
    match &incoming.message.body {
        Body::Work { effect, .. } => match &effect.work {
            Work::Revoke(revoke) => revoke.attempt,
            Work::Step(step) => step.attempt,
        },
        other => panic!("work was expected, not {other:?}"),
    }
}

fn plan(generation: u64) -> Body {
    Body::Plan(HostPlan {
        host: HOST,
        host_name: HostName::parse("one").unwrap(),
        generation,
        bindings: Vec::new(),
        leaves: Vec::new(),
        staged: Vec::new(),
        orders: Vec::new(),
    })
}

async fn next(subscription: &mut dyn Subscription) -> Incoming {
    let waited = tokio::time::timeout(SOON, subscription.next()).await;
    waited.expect("a message in time").expect("a bus that runs")
}

/// The same message again. One whose acknowledgement was late on a busy machine may come before it.
async fn again(subscription: &mut dyn Subscription, first: &Incoming) -> Incoming {
    loop {
        let incoming = next(subscription).await;
        subscription.ack(incoming.sequence).await.unwrap();
        assert!(incoming.redelivered, "{incoming:?}");
        if incoming.sequence == first.sequence {
            return incoming;
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a test measures real time")]
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

async fn assert_quiet(subscription: &mut dyn Subscription, span: Duration) {
    if let Ok(incoming) = tokio::time::timeout(span, subscription.next()).await {
        panic!("nothing was expected, not {incoming:?}");
    }
}

async fn send(bus: &dyn Bus, numbers: std::ops::Range<u64>) {
    for number in numbers {
        bus.publish(Topic::Audit, id(number), None, leaf(number))
            .await
            .unwrap();
    }
}

async fn a_topic_is_in_order_and_begins_with_the_subscription(under: &dyn BusUnderTest) {
    let gateway = under.endpoint(Role::Gateway);
    send(&*gateway, 1..4).await;
    let sink = under.endpoint(Role::AuditSink);
    let mut audit = sink.subscribe(Topic::Audit, "sink").await.unwrap();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    gateway
        .publish(Topic::Audit, id(4), Some(trace.to_owned()), leaf(4))
        .await
        .unwrap();
    send(&*gateway, 5..100).await;
    let first = next(&mut *audit).await;
    assert_eq!(index_of(&first), 4, "what was sent before is not seen");
    assert_eq!(first.message.id, id(4));
    assert_eq!(first.message.sender, Role::Gateway);
    assert_eq!(first.message.traceparent.as_deref(), Some(trace));
    assert_eq!(first.message.host, None);
    assert!(!first.redelivered);
    audit.ack(first.sequence).await.unwrap();
    let mut sequence = first.sequence;
    for number in 5..100 {
        let incoming = next(&mut *audit).await;
        assert_eq!(index_of(&incoming), number);
        assert_eq!(incoming.sequence, sequence + 1, "no hole");
        sequence = incoming.sequence;
        audit.ack(incoming.sequence).await.unwrap();
    }
    assert_eq!(under.refused(), 0);
}

async fn an_unacknowledged_message_comes_again_and_an_acknowledged_one_does_not(
    under: &dyn BusUnderTest,
) {
    let sink = under.endpoint(Role::AuditSink);
    let mut audit = sink.subscribe(Topic::Audit, "sink").await.unwrap();
    send(&*under.endpoint(Role::Gateway), 1..3).await;
    let begun = now();
    let first = next(&mut *audit).await;
    let second = next(&mut *audit).await;
    audit.ack(second.sequence).await.unwrap();
    let again = again(&mut *audit, &first).await;
    assert!(begun.elapsed() >= under.ack_timeout() / 2, "too early");
    assert_eq!(index_of(&again), 1);
    assert_quiet(&mut *audit, under.ack_timeout() * 2).await;
}

async fn a_refused_message_comes_again_after_the_delay(under: &dyn BusUnderTest) {
    let sink = under.endpoint(Role::AuditSink);
    let mut audit = sink.subscribe(Topic::Audit, "sink").await.unwrap();
    send(&*under.endpoint(Role::Gateway), 1..3).await;
    let first = next(&mut *audit).await;
    let (begun, delay) = (now(), under.ack_timeout() / 2);
    audit.nak(first.sequence, delay).await.unwrap();
    let second = next(&mut *audit).await;
    assert_eq!(index_of(&second), 2, "the others do not wait for it");
    audit.ack(second.sequence).await.unwrap();
    let mut again = next(&mut *audit).await;
    // As in `again`: the second one's acknowledgement may have been late.
    while again.sequence == second.sequence {
        audit.ack(again.sequence).await.unwrap();
        again = next(&mut *audit).await;
    }
    assert!(begun.elapsed() >= delay / 2, "too early");
    assert_eq!((index_of(&again), again.redelivered), (1, true));
    audit.nak(again.sequence, Duration::ZERO).await.unwrap();
    let once_more = next(&mut *audit).await;
    assert_eq!(index_of(&once_more), 1);
    audit.ack(once_more.sequence).await.unwrap();
    assert_quiet(&mut *audit, under.ack_timeout() * 2).await;
}

async fn a_message_is_given_once_per_id(under: &dyn BusUnderTest) {
    let sink = under.endpoint(Role::AuditSink);
    let gateway = under.endpoint(Role::Gateway);
    let mut audit = sink.subscribe(Topic::Audit, "sink").await.unwrap();
    for number in [1, 1, 2, 1, 2] {
        send(&*gateway, number..number + 1).await;
    }
    let first = next(&mut *audit).await;
    audit.ack(first.sequence).await.unwrap();
    send(&*gateway, 1..2).await;
    let second = next(&mut *audit).await;
    audit.ack(second.sequence).await.unwrap();
    assert_eq!((index_of(&first), index_of(&second)), (1, 2));
    assert_eq!(
        second.sequence,
        first.sequence + 1,
        "a repeat makes no hole"
    );
    assert_quiet(&mut *audit, QUIET).await;
}

async fn every_consumer_name_has_its_own_copy_and_keeps_its_place(under: &dyn BusUnderTest) {
    let sink = under.endpoint(Role::AuditSink);
    let mut one = sink.subscribe(Topic::Audit, "one").await.unwrap();
    let mut two = sink.subscribe(Topic::Audit, "two").await.unwrap();
    let gateway = under.endpoint(Role::Gateway);
    send(&*gateway, 1..4).await;
    for subscription in [&mut one, &mut two] {
        let incoming = next(&mut **subscription).await;
        assert_eq!(index_of(&incoming), 1);
        subscription.ack(incoming.sequence).await.unwrap();
    }
    let unfinished = next(&mut *one).await;
    assert_eq!(index_of(&unfinished), 2);
    drop(one);
    send(&*gateway, 4..5).await;
    let mut one = sink.subscribe(Topic::Audit, "one").await.unwrap();
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        let incoming = next(&mut *one).await;
        // What the transport had fetched beside it may count as handed out too.
        assert!(
            incoming.redelivered || index_of(&incoming) != 2,
            "{incoming:?}"
        );
        one.ack(incoming.sequence).await.unwrap();
        seen.insert(index_of(&incoming));
    }
    assert_eq!(seen, BTreeSet::from([2, 3, 4]));
    assert_quiet(&mut *one, QUIET).await;
}

async fn a_slow_consumer_sees_a_hole_and_a_bounded_rest(under: &dyn BusUnderTest) {
    let sink = under.endpoint(Role::AuditSink);
    let mut audit = sink.subscribe(Topic::Audit, "sink").await.unwrap();
    let gateway = under.endpoint(Role::Gateway);
    send(&*gateway, 0..1).await;
    let first = next(&mut *audit).await;
    audit.ack(first.sequence).await.unwrap();
    let capacity = u64::try_from(TOPIC_CAPACITY).unwrap();
    send(&*gateway, 1..capacity + 6).await;
    let mut kept = 0;
    let mut last = first.sequence;
    loop {
        let incoming = next(&mut *audit).await;
        let hole = incoming.sequence - last - 1;
        assert_eq!(
            hole,
            if kept == 0 { 5 } else { 0 },
            "the oldest are dropped, in one hole"
        );
        assert_eq!(index_of(&incoming), incoming.sequence - first.sequence);
        last = incoming.sequence;
        audit.ack(incoming.sequence).await.unwrap();
        kept += 1;
        if index_of(&incoming) == capacity + 5 {
            break;
        }
    }
    assert_eq!(kept, capacity);
}

async fn work_waits_for_a_worker_and_goes_to_one(under: &dyn BusUnderTest) {
    let gateway = under.endpoint(Role::Gateway);
    for attempt in 1..21 {
        gateway
            .publish(WORK, id(attempt.into()), None, work(attempt))
            .await
            .unwrap();
    }
    let worker = under.endpoint(Role::StoreSync);
    let mut one = worker.subscribe(WORK, "one").await.unwrap();
    let mut two = worker.subscribe(WORK, "two").await.unwrap();
    for attempt in 21..41 {
        gateway
            .publish(WORK, id(attempt.into()), None, work(attempt))
            .await
            .unwrap();
    }
    let mut done = Vec::new();
    for _ in 0..20 {
        for subscription in [&mut one, &mut two] {
            let incoming = next(&mut **subscription).await;
            done.push(attempt_of(&incoming));
            subscription.ack(incoming.sequence).await.unwrap();
        }
    }
    done.sort_unstable();
    assert_eq!(done, (1..41).collect::<Vec<_>>(), "each once, none lost");
    assert_quiet(&mut *one, QUIET).await;
    assert_quiet(&mut *two, QUIET).await;
}

async fn a_late_host_sees_the_newest_plan(under: &dyn BusUnderTest) {
    let gateway = under.endpoint(Role::Gateway);
    let topic = Topic::Plan(HOST);
    for generation in 1..4 {
        gateway
            .publish(topic.clone(), id(generation), None, plan(generation))
            .await
            .unwrap();
    }
    let injector = under.endpoint(Role::Injector);
    for round in 0..2 {
        let mut plans = injector.subscribe(topic.clone(), "injector").await.unwrap();
        let newest = next(&mut *plans).await;
        let Body::Plan(plan) = &newest.message.body else {
            panic!("a plan was expected")
        };
        assert_eq!(plan.generation, 3, "round {round}");
        plans.ack(newest.sequence).await.unwrap();
        assert_quiet(&mut *plans, QUIET).await;
    }
}

async fn a_role_cannot_read_what_it_may_not(under: &dyn BusUnderTest) {
    let topics = [
        (Topic::Events, Role::Scheduler),
        (Topic::Audit, Role::AuditSink),
        (WORK, Role::StoreSync),
        (Topic::Plan(HOST), Role::Injector),
        (Topic::Hosts, Role::StoreSync),
    ];
    for (topic, reader) in topics {
        for role in [
            Role::Gateway,
            Role::Scheduler,
            Role::AuditSink,
            Role::Injector,
        ] {
            let end = under.endpoint(role);
            let opened = end.subscribe(topic.clone(), "reader").await;
            assert_eq!(opened.is_ok(), role == reader, "{role:?} {topic:?}");
            if let Err(error) = opened {
                assert_eq!(error.kind, ErrorKind::Denied, "{role:?} {topic:?}: {error}");
            }
        }
    }
    let other = Topic::Plan(HostId::from_bytes([1; 16]));
    let opened = under
        .endpoint(Role::Injector)
        .subscribe(other, "reader")
        .await;
    assert_eq!(
        opened.err().map(|error| error.kind),
        Some(ErrorKind::Denied)
    );
}

async fn the_newest_hosts_are_seen_by_who_comes_late(under: &dyn BusUnderTest) {
    let gateway = under.endpoint(Role::Gateway);
    let store_sync = under.endpoint(Role::StoreSync);
    let list = |number| {
        Body::Hosts(vec![HostKeys {
            host: HOST,
            signing_key: [number; 32],
            generation: number.into(),
            evicted: false,
        }])
    };
    let first_key = |incoming: &Incoming| match &incoming.message.body {
        Body::Hosts(hosts) => hosts[0].signing_key[0],
        other => panic!("hosts were expected, not {other:?}"),
    };
    for number in 1..4 {
        gateway
            .publish(Topic::Hosts, id(number.into()), None, list(number))
            .await
            .unwrap();
    }
    let mut hosts = store_sync
        .subscribe(Topic::Hosts, "store-sync")
        .await
        .unwrap();
    let newest = next(&mut *hosts).await;
    assert_eq!(first_key(&newest), 3);
    hosts.ack(newest.sequence).await.unwrap();
    gateway
        .publish(Topic::Hosts, id(4), None, list(4))
        .await
        .unwrap();
    let newer = next(&mut *hosts).await;
    assert_eq!(first_key(&newer), 4);
    hosts.ack(newer.sequence).await.unwrap();
    assert_quiet(&mut *hosts, QUIET).await;
}

async fn a_forged_message_is_counted_and_never_handed_on(under: &dyn BusUnderTest) {
    let sink = under.endpoint(Role::AuditSink);
    let gateway = under.endpoint(Role::Gateway);
    let mut audit = sink.subscribe(Topic::Audit, "sink").await.unwrap();
    let mut good = 1;
    send(&*gateway, good..good + 1).await;
    let first = next(&mut *audit).await;
    audit.ack(first.sequence).await.unwrap();
    for forgery in FORGERIES {
        let before = under.refused();
        // A replay is a true copy of message 1; every other forgery has an id of its own.
        let (forged_id, body) = match forgery {
            Forgery::Replay => (id(1), leaf(1)),
            _ => (id(5000 + good), leaf(6666)),
        };
        under.forge(forgery, &Topic::Audit, forged_id, body).await;
        good += 1;
        send(&*gateway, good..good + 1).await;
        let incoming = next(&mut *audit).await;
        assert_eq!(index_of(&incoming), good, "{forgery:?} was handed on");
        audit.ack(incoming.sequence).await.unwrap();
        assert_eq!(under.refused(), before + 1, "{forgery:?} was not counted");
    }
    assert_quiet(&mut *audit, under.ack_timeout() * 2).await;
}

async fn what_a_reader_finds_stale_is_counted(under: &dyn BusUnderTest) {
    let injector = under.endpoint(Role::Injector);
    injector.refuse_stale(Source::Topic(Topic::Plan(HOST)));
    assert_eq!(under.refused(), 1);
    injector.refuse_stale(Source::Answer(Address::Gateway));
    assert_eq!(under.refused(), 2);
}

async fn a_role_cannot_send_what_it_may_not(under: &dyn BusUnderTest) {
    let gateway = under.endpoint(Role::Gateway);
    let mut requests = gateway.serve(Address::Gateway).await.unwrap();
    let sink = under.endpoint(Role::AuditSink);
    let sent = sink.publish(Topic::Audit, id(1), None, leaf(1)).await;
    assert_eq!(sent.unwrap_err().kind, ErrorKind::Denied);
    let asked = sink
        .request(Address::Gateway, None, Body::ReadPlan { host: HOST }, SOON)
        .await;
    assert_eq!(asked.unwrap_err().kind, ErrorKind::Denied);
    let waited = tokio::time::timeout(QUIET, requests.next()).await;
    assert!(waited.is_err(), "it was handed on");
}

async fn a_message_over_the_limit_is_not_sent(under: &dyn BusUnderTest) {
    let text = format!("\"{}\"", "a".repeat(9 << 20));
    let huge = Body::Audit(AuditLeaf {
        index: 1,
        bytes: Arc::from(text.as_bytes()),
    });
    let sent = under
        .endpoint(Role::Gateway)
        .publish(Topic::Audit, id(1), None, huge)
        .await;
    assert_eq!(sent.unwrap_err().kind, ErrorKind::Denied);
}

async fn shutdown_ends_everything(under: &dyn BusUnderTest) {
    let gateway = under.endpoint(Role::Gateway);
    let sink = under.endpoint(Role::AuditSink);
    let mut audit = sink.subscribe(Topic::Audit, "sink").await.unwrap();
    let mut requests = gateway.serve(Address::Gateway).await.unwrap();
    let body = Body::ReadAudit { from: 0, limit: 1 };
    let stop = async {
        tokio::time::sleep(QUIET).await;
        under.shutdown().await;
    };
    let ended = async { tokio::join!(audit.next(), requests.next(), stop) };
    let (message, request, ()) = tokio::time::timeout(SOON, ended).await.expect("an end");
    assert!(message.is_none() && request.is_none());
    let sent = gateway.publish(Topic::Audit, id(1), None, leaf(1)).await;
    assert_eq!(sent.unwrap_err().kind, ErrorKind::Unavailable);
    let asked = sink.request(Address::Gateway, None, body, SOON).await;
    assert_eq!(asked.unwrap_err().kind, ErrorKind::Unavailable);
    assert!(sink.subscribe(Topic::Audit, "late").await.is_err());
    assert!(gateway.serve(Address::StoreSync).await.is_err());
}
