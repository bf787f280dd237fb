//! What is reached over sockets: bus servers, the gateway, the container engine.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use keywheel_bus::greeting::{self, Greeting};
use keywheel_core::time::Timestamp;
use keywheel_daemon::{SystemClock, chain};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::container_host::ContainerHost;
use keywheel_engine::presence::Fact;
use keywheel_gateway::views::status::SKEW_LIMIT;
use keywheel_identity::bundle::Bundle;
use keywheel_identity::tls::{Admit, PeerKind, TlsIdentity, explain};
use keywheel_schemas::api::{HealthWord, Status};
use keywheel_schemas::config::Config;
use keywheel_schemas::mirror::TextForm as _;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use crate::address::Address;
use crate::client::Client;
use crate::setup::dockerd;
use crate::wiring::container_engine;

/// The engine of which more is looked at.
const DOCKER: &str = "Docker";
/// From here on a request is refused as one of another time.
const SKEW_REFUSED: Duration = keywheel_bus::envelope::FRESHNESS;
/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// Every bus server that the configuration or the credentials name.
pub(super) async fn bus(config: &Config, directory: &Path) -> Vec<Fact> {
    let Ok((bundle, identity)) = Bundle::read_speaker(directory) else {
        return Vec::new();
    };
    let named = &config.apart.bus_servers;
    let servers = if named.is_empty() {
        &identity.servers
    } else {
        named
    };
    if servers.is_empty() {
        let next = "name the servers as `bus.servers`";
        return vec![Fact::problem("bus", "no bus server is named", next)];
    }
    let mut facts = Vec::with_capacity(servers.len());
    for server in servers {
        facts.push(bus_server(server, &bundle).await);
    }
    facts
}

async fn bus_server(server: &str, bundle: &Bundle) -> Fact {
    let (scheme, authority) = server.split_once("://").unwrap_or(("", server));
    match greeting::listen(authority).await {
        Err(error) => {
            let note = format!("{server}: {}", chain(&error));
            Fact::problem(
                "bus",
                note,
                "start the bus server, or correct `bus.servers` and the firewall",
            )
        }
        Ok((stream, greeting)) => match judge_greeting(server, scheme, &greeting) {
            Some(fault) => fault,
            None if scheme == "tls" => handshake(server, &greeting, stream, bundle).await,
            None => Fact::ok("bus", format!("{server}: NATS {}", greeting.version)),
        },
    }
}

/// What is wrong with a bus server by its greeting.
pub(super) fn judge_greeting(server: &str, scheme: &str, greeting: &Greeting) -> Option<Fact> {
    if let Some(unfit) = &greeting.unfit {
        let next = "run a newer server with the nats.conf that `keywheel init` made";
        return Some(Fact::problem("bus", format!("{server}: {unfit}"), next));
    }
    let wanted = if greeting.wants_tls { "tls" } else { "nats" };
    (scheme != wanted).then(|| {
        let note = match greeting.wants_tls {
            true => format!("{server}: the server wants TLS"),
            false => format!("{server}: the server has no TLS"),
        };
        Fact::problem(
            "bus",
            note,
            format!("write it as {wanted}://… in `bus.servers`"),
        )
    })
}

async fn handshake(server: &str, greeting: &Greeting, stream: TcpStream, bundle: &Bundle) -> Fact {
    let next =
        "compare the authorities: both must be of one `keywheel init`; and look at both clocks";
    let config = || {
        let deployment = bundle.tls.deployment()?;
        let credentials = bundle.tls.credentials(deployment)?;
        let identity = TlsIdentity::new(deployment, credentials, Arc::new(SystemClock::new()));
        identity.client_config(Admit::only([PeerKind::BusServer]))
    };
    let config = match config() {
        Ok(config) => Arc::new(config),
        Err(error) => return Fact::problem("bus", format!("{server}: {}", chain(&error)), next),
    };
    let Ok(name) = ServerName::try_from("bus.keywheel.internal") else {
        return Fact::unknown(
            "bus",
            format!("{server}: no name for the handshake"),
            "report this",
        );
    };
    let shaking = TlsConnector::from(config).connect(name, stream);
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, shaking).await {
        Ok(Ok(_)) => {
            let version = &greeting.version;
            Fact::ok(
                "bus",
                format!("{server}: NATS {version}, TLS with this deployment's certificates"),
            )
        }
        Ok(Err(error)) => {
            let why = explain(&error).map_or_else(|| chain(&error), |refusal| chain(&refusal));
            Fact::problem("bus", format!("{server}: {why}"), next)
        }
        Err(_) => Fact::problem("bus", format!("{server}: the handshake does not end"), next),
    }
}

/// The gateway: reached, its clock, its version, and whether it finds problems itself.
pub(super) async fn gateway(address: &Address, operator: Option<&Path>) -> Vec<Fact> {
    let clock = SystemClock::new();
    let asked = match Client::new(address.clone(), operator) {
        Ok(client) => client.read::<Status>("/v1/status").await,
        Err(failure) => Err(failure),
    };
    match asked {
        Err(failure) => {
            let next = failure
                .next
                .unwrap_or_else(|| "look at the gateway's log".to_owned());
            vec![Fact::problem("gateway", failure.what, next)]
        }
        Ok(status) => judge_gateway(&status, clock.now()),
    }
}

/// Judges a gateway's answer.
pub(super) fn judge_gateway(status: &Status, now: Timestamp) -> Vec<Fact> {
    let own = env!("CARGO_PKG_VERSION");
    let mut facts = vec![match status.state {
        HealthWord::Problem => Fact::warning(
            "gateway",
            format!(
                "{} answers and has problems of its own to tell",
                status.host
            ),
            "keywheel status",
        ),
        _ => Fact::ok("gateway", format!("{} answers", status.host)),
    }];
    facts.push(match status.version == own {
        true => Fact::ok("version", format!("both sides are {own}")),
        false => Fact::warning(
            "version",
            format!("the gateway is {}, this client {own}", status.version),
            "bring both to one version",
        ),
    });
    if let Ok(theirs) = Timestamp::parse_text(&status.time) {
        facts.push(clocks(theirs, now));
    }
    facts
}

fn clocks(theirs: Timestamp, now: Timestamp) -> Fact {
    let apart = now.since(theirs).max(theirs.since(now));
    let note = format!(
        "the gateway's clock is {} s apart from this one",
        apart.as_secs()
    );
    let next = "set both by one time server";
    match apart {
        _ if apart > SKEW_REFUSED => {
            Fact::problem("clock", format!("{note}: requests are refused"), next)
        }
        _ if apart > SKEW_LIMIT => Fact::warning("clock", note, next),
        _ => Fact::ok("clock", "it agrees with the gateway's"),
    }
}

/// The engine of this machine: Docker and our runtimes in it, or whether another one answers.
pub(super) async fn docker() -> Vec<Fact> {
    if let Ok(engine) = container_engine()
        && engine.name() != DOCKER
    {
        return other(&*engine).await;
    }
    match dockerd::socket() {
        Ok(socket) => docker_at(socket).await,
        Err(failure) => {
            let next = failure.next.unwrap_or_default();
            vec![Fact::problem("docker", failure.what, next)]
        }
    }
}

/// Podman or containerd, which tell nothing of their runtimes.
async fn other(engine: &dyn ContainerHost) -> Vec<Fact> {
    let name = engine.name();
    match engine.ping().await {
        Ok(()) => vec![Fact::ok("engine", format!("{name} answers"))],
        Err(error) => {
            let next =
                format!("start {name}, or name its socket with DOCKER_HOST; run doctor as root");
            vec![Fact::problem("engine", error.text, next)]
        }
    }
}

/// Docker at a socket.
pub(super) async fn docker_at(socket: PathBuf) -> Vec<Fact> {
    let shown = socket.display();
    let Ok(runtimes) = dockerd::runtimes(&socket).await else {
        let note = format!("it does not answer on {shown}");
        let next = "start Docker, or name its socket with DOCKER_HOST; run doctor as root";
        return vec![Fact::problem("docker", note, next)];
    };
    let ours = runtimes
        .keys()
        .filter(|name| name.starts_with("keywheel"))
        .count();
    let registered = match ours {
        0 => Fact::warning(
            "runtime",
            "Docker lists no keywheel runtime: files come a moment after a start, and variables not at all",
            "keywheel setup docker",
        ),
        _ => Fact::ok("runtime", "registered in Docker"),
    };
    vec![
        Fact::ok("docker", format!("it answers on {shown}")),
        registered,
    ]
}
