//! Wires who speaks with others outside: notifications out, signals in. No behaviour of its own.

use std::sync::Arc;

use keywheel_core::id::DeploymentId;
use keywheel_engine::port::bus::Bus;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::deliveries::Deliveries;
use keywheel_engine::port::failpoint::Points;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::journal::Journal;
use keywheel_schemas::config::Config;
use keywheel_seal::OsEntropy;
use keywheel_seal::letters::LetterKey;
use keywheel_signals::{Desk, Intake, Later, Notifier, Parts, Sweeper};
use tokio::net::TcpListener;

use crate::up::{Error, Kind};
use crate::wiring::{Ends, Spawner};

/// What it is made of, beside the ends of the command bus.
pub(crate) struct OutsidePorts {
    pub(crate) journal: Arc<dyn Journal>,
    pub(crate) deliveries: Arc<dyn Deliveries>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<dyn Ids>,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) deployment: DeploymentId,
    pub(crate) letter_key: Arc<LetterKey>,
}

/// Starts it; what is given back answers the API.
pub(crate) async fn start(
    config: &Config,
    ends: &Ends,
    ports: OutsidePorts,
    spawn: &Spawner,
) -> Result<Desk, Error> {
    let desk = Desk::new(Parts {
        journal: ports.journal,
        deliveries: ports.deliveries,
        view: ends.view.clone(),
        commands: ends.handle.clone(),
        clock: ports.clock,
        ids: ports.ids,
        entropy: Arc::new(OsEntropy),
        directory: config.signals.credentials_dir.clone(),
        near: config.signals.allow.clone(),
        points: Points::default(),
        deployment: ports.deployment,
        letter_key: ports.letter_key,
        bus: ports.bus,
    });
    let token = spawn.shutdown.token();
    spawn.tasks.spawn(Notifier::new(&desk).run(token.clone()));
    spawn.tasks.spawn(Sweeper::new(&desk).run(token.clone()));
    spawn.tasks.spawn(Later::new(&desk).run(token.clone()));
    if let Some(address) = config.signals.listen {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Error::new(
                Kind::CannotCreate,
                format!("cannot take signals at {address}: {error}"),
                "give an address of this machine that is free as `signals.listen`",
            )
        })?;
        if let Ok(address) = listener.local_addr() {
            tracing::info!(%address, "taking signals");
        }
        spawn.tasks.spawn(Intake::new(&desk).run(listener, token));
    }
    Ok(desk)
}

#[cfg(test)]
mod tests;
