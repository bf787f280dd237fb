//! The gateway by itself: the journal, the bus, the unix socket of its machine.

use std::fs::File;
use std::sync::Arc;

use keywheel_core::audit::Role;
use keywheel_core::decision::Enrolment;
use keywheel_engine::port::bus::Bus;
use keywheel_engine::port::journal::Journal;
use keywheel_gateway::access::Access;
use keywheel_gateway::denials::Denials;
use keywheel_gateway::http;
use keywheel_gateway::server::{Server, Spans};
use keywheel_journal::{JournalOptions, SqliteJournal};
use keywheel_schemas::api::Feature;

use super::bus::Telling;
use super::{Opened, claim};
use crate::up::{Error, features};
use crate::wiring::{Ends, GatewayPorts, Spawner, listen, start_gateway};

/// Starts it; the lock of its directory is held as long as it runs.
pub(super) async fn start(opened: &Opened, spawn: &Spawner) -> Result<File, Error> {
    let lock = claim(&opened.config)?;
    let journal = open_journal(opened).await?;
    let bus: Arc<dyn Bus> = Arc::new(Telling {
        inner: opened.nats.endpoint(),
        trust: opened.trust.clone(),
    });
    let listener = listen(&opened.config)?;
    let ports = GatewayPorts {
        journal: journal.clone(),
        bus: bus.clone(),
        clock: opened.clock.clone(),
        ids: opened.ids.clone(),
        enrolment: Enrolment::ByToken,
    };
    let ends = start_gateway(&ports, spawn).await?;
    let deciding = serve(opened, spawn, ends, ports, listener);
    spawn.tasks.spawn(deciding);
    Ok(lock)
}

async fn open_journal(opened: &Opened) -> Result<Arc<dyn Journal>, Error> {
    let deployment = opened.deployment();
    let options = JournalOptions {
        deployment,
        source: format!("keywheel/{deployment}/gateway"),
        signing_key: opened.signing_key()?,
        origin: origin(opened),
    };
    let path = opened.config.data_dir.join("journal.db");
    Ok(Arc::new(SqliteJournal::open(&path, options).await?))
}

/// Origin line of the audit's checkpoints.
fn origin(opened: &Opened) -> String {
    format!("keywheel.dev/audit/{}", opened.deployment())
}

fn serve(
    opened: &Opened,
    spawn: &Spawner,
    ends: Ends,
    ports: GatewayPorts,
    listener: tokio::net::UnixListener,
) -> impl Future<Output = ()> + use<> {
    let public_key = opened.identity.trust.get(&Role::Gateway);
    let nats = opened.nats.clone();
    let api = http::Api {
        commands: ends.handle.clone(),
        view: ends.view.clone(),
        journal: ports.journal,
        bus: ports.bus,
        clock: ports.clock,
        ids: ports.ids,
        access: Access::of_machine(rustix::process::geteuid().as_raw()),
        deployment: opened.deployment(),
        host: opened.host_name.clone(),
        data_dir: opened.config.data_dir.display().to_string(),
        origin: origin(opened),
        public_key: public_key.map(|key| key.to_bytes()).unwrap_or_default(),
        check_schedule: keywheel_scheduler::schedule::check,
        next_fires: features::next_fires,
        copy_fault: Arc::new(|| None),
        join_tokens: None,
        denials: Arc::new(Denials::default()),
        features: Arc::new(move || vec![bus_feature(&nats.health())]),
    };
    let server = Server::new(api, Spans::default());
    let token = spawn.shutdown.token();
    async move {
        // Its last records need the command bus, which goes on until then.
        let _deciding = ends.deciding;
        server.run(listener, token).await;
    }
}

/// The bus, as `status` shows it.
fn bus_feature(health: &keywheel_bus::NatsHealth) -> Feature {
    let (state, note) = match &health.problem {
        Some(problem) => ("missing", problem.clone()),
        None if health.connected => ("ok", format!("NATS {}", health.server_version)),
        None => (
            "missing",
            "not connected; start a bus server, or correct `bus.servers`".to_owned(),
        ),
    };
    Feature {
        name: "bus".to_owned(),
        state: state.to_owned(),
        note,
    }
}
