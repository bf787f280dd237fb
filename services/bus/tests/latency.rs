//! How long a message takes from `publish` to `next`, signing and verifying included.
#![allow(
    clippy::unwrap_used,
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a measurement"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use keywheel_bus::{Identity, InProcess, Trust};
use keywheel_core::audit::Role;
use keywheel_core::id::HostId;
use keywheel_core::name::HostName;
use keywheel_core::plan::HostPlan;
use keywheel_engine::port::bus::{Address, Body, Topic};
use keywheel_seal::OsEntropy;
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::fake::{FakeClock, FakeIds};

const ROUNDS: u64 = 2000;
const HOST: HostId = HostId::from_bytes([1; 16]);
/// The budget; an unoptimised build has none.
const LIMIT: Duration = Duration::from_micros(if cfg!(debug_assertions) { 20_000 } else { 100 });

fn plan(generation: u64) -> HostPlan {
    HostPlan {
        host: HOST,
        host_name: HostName::parse("one").unwrap(),
        generation,
        bindings: Vec::new(),
    }
}

fn report(what: &str, mut spans: Vec<Duration>) -> Duration {
    spans.sort_unstable();
    let (half, most) = (spans[spans.len() / 2], spans[spans.len() * 99 / 100]);
    println!("{what}: p50 {half:?}, p99 {most:?} of {}", spans.len());
    half
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_arrives_within_the_budget() {
    let gateway = Identity::new(Role::Gateway, SigningKey::generate(&OsEntropy));
    let injector = Identity::new(Role::Injector, SigningKey::generate(&OsEntropy));
    let trust = Trust::new([
        (Role::Gateway, gateway.verifying_key()),
        (Role::Injector, injector.verifying_key()),
    ]);
    let hub = InProcess::new(
        trust,
        Arc::new(FakeClock::default()),
        Arc::new(FakeIds::new()),
    );
    let (gateway, injector) = (hub.endpoint(gateway), hub.endpoint(injector));

    let mut plans = injector
        .subscribe(Topic::Plan(HOST), "injector")
        .await
        .unwrap();
    let (started, mut starts) = tokio::sync::mpsc::channel(1);
    let (done, mut dones) = tokio::sync::mpsc::channel(1);
    let reader = tokio::spawn(async move {
        let mut spans = Vec::new();
        for _ in 0..ROUNDS {
            let incoming = plans.next().await.unwrap();
            let arrived = Instant::now();
            plans.ack(incoming.sequence).await.unwrap();
            let begun: Instant = starts.recv().await.unwrap();
            spans.push(arrived.duration_since(begun));
            done.send(()).await.unwrap();
        }
        spans
    });
    for generation in 0..ROUNDS {
        let body = Body::Plan(plan(generation));
        started.send(Instant::now()).await.unwrap();
        let id = u128::from(generation).to_be_bytes();
        gateway
            .publish(Topic::Plan(HOST), id, None, body)
            .await
            .unwrap();
        dones.recv().await.unwrap();
    }
    let half = report("publish to next", reader.await.unwrap());
    assert!(half < LIMIT, "{half:?}");

    let mut requests = gateway.serve(Address::Gateway).await.unwrap();
    let server = tokio::spawn(async move {
        for generation in 0..ROUNDS {
            let request = requests.next().await.unwrap();
            request.answer(Body::Plan(plan(generation))).await.unwrap();
        }
    });
    let mut spans = Vec::new();
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let ask = Body::ReadPlan { host: HOST };
        injector
            .request(Address::Gateway, None, ask, Duration::from_secs(5))
            .await
            .unwrap();
        spans.push(begun.elapsed());
    }
    server.await.unwrap();
    let half = report("request to answer", spans);
    assert!(half < LIMIT * 3, "{half:?}");
}
