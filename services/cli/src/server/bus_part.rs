//! The bus over NATS as the gateway sees it, for `keywheel status`: connection, server, streams, and
//! whether what the server acknowledged is on its disk.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keywheel_bus::monitor::{self, Durability};
use keywheel_bus::{NatsHealth, SERVER_FLOOR};
use keywheel_engine::port::PortError;
use keywheel_engine::presence::Fact;
use keywheel_gateway::views::status::Part;
use keywheel_schemas::api::ComponentKind;
use tokio_util::sync::CancellationToken;

use crate::parts::refusals;

/// How often the bus servers' monitoring ports are read.
const LOOK_INTERVAL: Duration = Duration::from_secs(60);

/// What the bus servers' monitoring ports said last.
#[derive(Clone, Default)]
pub(super) struct Monitors(Arc<Mutex<Vec<Fact>>>);

impl Monitors {
    /// Reads them from time to time, until told to stop.
    pub(super) async fn run(
        self,
        addresses: Vec<String>,
        stop: CancellationToken,
    ) -> Result<(), PortError> {
        loop {
            let mut facts = Vec::with_capacity(addresses.len());
            for address in &addresses {
                facts.push(durability(address, monitor::read(address).await));
            }
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = facts;
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = tokio::time::sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    /// The bus as it is now.
    pub(super) fn part(&self, health: &NatsHealth) -> Part {
        let mut facts = vec![
            connection(health),
            streams(health),
            refusals(&health.refused),
        ];
        if let Some(refusal) = &health.last_refusal {
            let next = "compare its configuration with what `keywheel init` made";
            let note = format!("the bus server refused something: {refusal}");
            facts.push(Fact::warning("permissions", note, next));
        }
        let read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if read.is_empty() {
            facts.push(unknown("no monitoring port is named"));
        }
        facts.extend(read.iter().cloned());
        Part {
            kind: ComponentKind::Bus,
            name: "NATS".to_owned(),
            version: Some(health.server_version.clone()).filter(|version| !version.is_empty()),
            facts,
        }
    }
}

fn connection(health: &NatsHealth) -> Fact {
    let connects = health.connects;
    if health.connected {
        return Fact::ok(
            "connection",
            format!("connected; {connects} connects since the start"),
        );
    }
    let note = format!("not connected; {connects} connects since the start");
    let next =
        "start a bus server, or correct `bus.servers`; running containers keep what they have";
    Fact::problem("connection", note, next)
}

fn streams(health: &NatsHealth) -> Fact {
    let (major, minor, patch) = SERVER_FLOOR;
    match &health.problem {
        Some(problem) => {
            let next =
                "correct the bus server's configuration, or move the stream away: it is made anew";
            Fact::problem(
                "streams",
                format!("{problem}; nothing is sent meanwhile"),
                next,
            )
        }
        None if health.connected => {
            let note =
                format!("as they were asked for; the server is {major}.{minor}.{patch} or newer");
            Fact::ok("streams", note)
        }
        None => Fact::unknown("streams", "not known without a connection", "connect first"),
    }
}

fn unknown(why: &str) -> Fact {
    let note =
        format!("whether acknowledged messages are on the server's disk is not known: {why}");
    let next = "give the bus server `http: 127.0.0.1:8222` and name it as `bus.monitors`; nothing depends on it, the journal has everything";
    Fact::unknown("sync_always", note, next)
}

fn durability(address: &str, read: Result<Durability, monitor::MonitorError>) -> Fact {
    match read {
        Ok(found) if found.sync_always => Fact::ok(
            "sync_always",
            format!(
                "{} writes to its disk before it acknowledges",
                found.server_name
            ),
        ),
        Ok(found) => Fact::warning(
            "sync_always",
            format!(
                "{} acknowledges before it writes to its disk",
                found.server_name
            ),
            "set `sync_interval: always` in its `jetstream` block, as `keywheel init` writes it",
        ),
        Err(error) => unknown(&format!("{address}: {error}")),
    }
}
