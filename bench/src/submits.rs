//! Commands a second through the bus, inside one process beside over NATS, in turns.
//!
//! A command is a host's report of one refused start: one decision, one audit record, one durable
//! append, and nothing that grows with the number of hosts.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use keywheel_bench::deployment::{
    Gateway, clock, connect, enrol, gateway_identity, host_id, host_identity, submit, trust,
};
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_bus::InProcess;
use keywheel_core::command::Command;
use keywheel_core::id::ContainerId;
use keywheel_core::report::{DeniedStart, HostReport};
use keywheel_daemon::SystemIds;
use keywheel_engine::port::bus::Bus;
use keywheel_testkit::server::nats::{NatsServer, Settings, VERSIONS};
use keywheel_tests::scratch::Scratch;

use crate::Line;

/// Hosts that submit at once, each one command after the other.
const CLIENTS: u32 = 64;
/// Commands of each client in one round.
const COMMANDS: u32 = 25;
/// Rounds of each side.
const ROUNDS: usize = 10;

/// A gateway and the ends of its hosts.
struct Side {
    /// Runs with it.
    _gateway: Gateway,
    hosts: Vec<Arc<dyn Bus>>,
    rates: Samples,
    latencies: Samples,
}

impl Side {
    async fn make(gateway: Arc<dyn Bus>, hosts: Vec<Arc<dyn Bus>>, journal: &Path) -> Result<Self> {
        let gateway = Gateway::start(gateway, journal).await?;
        for (end, number) in hosts.iter().zip(1..) {
            enrol(end, number).await?;
        }
        Ok(Self {
            _gateway: gateway,
            hosts,
            rates: Samples::default(),
            latencies: Samples::default(),
        })
    }

    async fn in_process(journal: &Path) -> Result<Self> {
        let hub = InProcess::new(trust(CLIENTS)?, clock(), Arc::new(SystemIds));
        let hosts = (1..=CLIENTS).map(|number| Ok(hub.endpoint(host_identity(number)?)));
        let hosts = hosts.collect::<Result<_>>()?;
        Self::make(hub.endpoint(gateway_identity()?), hosts, journal).await
    }

    async fn over_nats(url: &str, journal: &Path) -> Result<Self> {
        let trust = trust(CLIENTS)?;
        let gateway = connect(url, gateway_identity()?, &trust).await?.endpoint();
        let mut hosts = Vec::new();
        for number in 1..=CLIENTS {
            let end = connect(url, host_identity(number)?, &trust).await?;
            hosts.push(end.endpoint());
        }
        Self::make(gateway, hosts, journal).await
    }

    /// Commands a second of one round.
    async fn round(&mut self) -> Result<f64> {
        let begun = now();
        let clients: Vec<_> = (self.hosts.iter().cloned().zip(1..))
            .map(|(end, number)| tokio::spawn(client(end, number)))
            .collect();
        for client in clients {
            for span in client.await?? {
                self.latencies.add(span);
            }
        }
        let rate = f64::from(CLIENTS * COMMANDS) / begun.elapsed().as_secs_f64();
        self.rates.add(rate);
        Ok(rate)
    }
}

fn command(number: u32) -> Result<Command> {
    Ok(Command::Report(HostReport {
        denied: vec![DeniedStart {
            container: ContainerId::parse(&format!("{number:064x}"))?,
            container_name: "bench".to_owned(),
            image_digest: format!("sha256:{number:064x}"),
            secret: "bench/secret".to_owned(),
            reason: "a benchmark".to_owned(),
        }],
        ..HostReport::empty(host_id(number))
    }))
}

async fn client(end: Arc<dyn Bus>, number: u32) -> Result<Vec<f64>> {
    let mut spans = Vec::new();
    for _ in 0..COMMANDS {
        let command = command(number)?;
        let begun = now();
        submit(&end, command).await?;
        spans.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(spans)
}

async fn measure(scratch: &Scratch, url: &str) -> Result<Vec<Line>> {
    let mut inside = Side::in_process(&scratch.join("inside.sqlite")).await?;
    let mut nats = Side::over_nats(url, &scratch.join("nats.sqlite")).await?;
    let mut ratio = Samples::default();
    for _ in 0..ROUNDS {
        let one = inside.round().await?;
        ratio.add(one / nats.round().await?);
    }
    let line = |key: &str, what: &str, samples| Line {
        key: key.to_owned(),
        what: what.to_owned(),
        samples,
        budget: "-",
    };
    Ok(vec![
        line(
            "submit_in_process_per_s",
            "commands a second, one process",
            inside.rates,
        ),
        line(
            "submit_nats_per_s",
            "commands a second, over NATS",
            nats.rates,
        ),
        line(
            "submit_ratio",
            "in one process over NATS, of each pair",
            ratio,
        ),
        line(
            "submit_in_process",
            "one command, one process, 64 at once",
            inside.latencies,
        ),
        line(
            "submit_nats",
            "one command, over NATS, 64 at once",
            nats.latencies,
        ),
    ])
}

/// Throughput of submit.
pub(crate) fn submits() -> Result<Vec<Line>> {
    let scratch = Scratch::make()?;
    let version = VERSIONS.last().context("no NATS version")?;
    let server = NatsServer::start(Settings::of(version));
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?
        .block_on(measure(&scratch, &server.url()))
}
