//! The bus alone, for whoever changes it: how long a message takes from `publish` to `next` and a
//! question to its answer, signing and verifying included.
//!
//! It says figures and judges none. The last line of stdout is one JSON object.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    reason = "a table for a person is what it is for"
)]

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_bus::{Identity, InProcess, Trust};
use keywheel_core::audit::Role;
use keywheel_core::id::{DeploymentId, HostId};
use keywheel_core::name::HostName;
use keywheel_core::plan::HostPlan;
use keywheel_engine::port::bus::{Address, Body, Bus, Topic};
use keywheel_seal::OsEntropy;
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::fake::{FakeClock, FakeIds};
use tokio::sync::mpsc;

/// Messages, and questions.
const ROUNDS: u64 = 2000;
/// The host all of them are about.
const HOST: HostId = HostId::from_bytes([1; 16]);
/// How long an answer may take before the run is given up.
const PATIENCE: Duration = Duration::from_secs(5);

fn plan(generation: u64) -> Result<Body> {
    Ok(Body::Plan(HostPlan {
        host: HOST,
        host_name: HostName::parse("one")?,
        generation,
        bindings: Vec::new(),
        leaves: Vec::new(),
        staged: Vec::new(),
        orders: Vec::new(),
    }))
}

async fn messages(gateway: &Arc<dyn Bus>, injector: &Arc<dyn Bus>) -> Result<Samples> {
    let mut plans = injector.subscribe(Topic::Plan(HOST), "injector").await?;
    let (arrived, mut arrivals) = mpsc::channel(1);
    let reader = tokio::spawn(async move {
        while let Some(incoming) = plans.next().await {
            let at = now();
            plans.ack(incoming.sequence).await?;
            if arrived.send(at).await.is_err() {
                break;
            }
        }
        anyhow::Ok(())
    });
    let mut spans = Samples::default();
    for generation in 0..ROUNDS {
        let id = u128::from(generation).to_be_bytes();
        let body = plan(generation)?;
        let begun = now();
        gateway.publish(Topic::Plan(HOST), id, None, body).await?;
        let at = arrivals.recv().await.context("the reader ended")?;
        spans.add_span(at.duration_since(begun));
    }
    reader.abort();
    Ok(spans)
}

async fn questions(gateway: &Arc<dyn Bus>, injector: &Arc<dyn Bus>) -> Result<Samples> {
    let mut requests = gateway.serve(Address::Gateway).await?;
    let server = tokio::spawn(async move {
        for generation in 0..ROUNDS {
            let request = requests.next().await.context("no more questions")?;
            request.answer(plan(generation)?).await?;
        }
        anyhow::Ok(())
    });
    let mut spans = Samples::default();
    for _ in 0..ROUNDS {
        let ask = Body::ReadPlan { host: HOST };
        let begun = now();
        injector
            .request(Address::Gateway, None, ask, PATIENCE)
            .await?;
        spans.add_span(begun.elapsed());
    }
    server.await.map_err(|error| anyhow!(error))??;
    Ok(spans)
}

#[tokio::main]
async fn main() -> Result<()> {
    let deployment = DeploymentId::default();
    let key = || SigningKey::generate(&OsEntropy);
    let gateway = Identity::service(deployment, Role::Gateway, key());
    let injector = Identity::injector(deployment, HOST, key());
    let trust = Trust::new(deployment, [(Role::Gateway, gateway.verifying_key())]);
    trust.set_hosts([(HOST, injector.verifying_key())].into());
    let clock = Arc::new(FakeClock::default());
    let hub = InProcess::new(trust, clock, Arc::new(FakeIds::new()));
    let (gateway, injector) = (hub.endpoint(gateway), hub.endpoint(injector));
    let messages = messages(&gateway, &injector).await?;
    let questions = questions(&gateway, &injector).await?;
    for (what, spans) in [
        ("publish to next", &messages),
        ("question to answer", &questions),
    ] {
        let (half, most) = (spans.p50() * 1e3, spans.p99() * 1e3);
        println!("{what:<22} p50 {half:.1} us, p99 {most:.1} us");
    }
    println!(
        "{}",
        serde_json::json!({
            "publish_to_next_ms": {"p50": messages.p50(), "p99": messages.p99()},
            "question_to_answer_ms": {"p50": questions.p50(), "p99": questions.p99()},
        })
    );
    Ok(())
}
