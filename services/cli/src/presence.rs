//! Presence of the services that this program runs: who each is, its beat, and what its metrics say of it.

use std::path::PathBuf;
use std::sync::Arc;

use keywheel_bus::Nats;
use keywheel_core::audit::Role;
use keywheel_core::id::HostId;
use keywheel_core::time::Timestamp;
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_engine::port::bus::Bus;
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::ids::Ids as _;
use keywheel_engine::presence::{About, Backlog, Beat, BusEnd, Look, WithMemory};
use keywheel_identity::life::issue_and_end_of;
use keywheel_schemas::subject::role_word;
use keywheel_telemetry::Instance;

use crate::wiring::Spawner;

/// One run of this program.
pub(crate) struct Run {
    /// What the machine calls itself.
    pub(crate) machine: String,
    /// Directory of the credentials; `None` where services have none of their own.
    pub(crate) credentials: Option<PathBuf>,
    /// The connection to the bus server; `None` inside one process.
    pub(crate) nats: Option<Nats>,
    /// Time.
    pub(crate) clock: Arc<SystemClock>,
    /// Fresh ids.
    pub(crate) ids: Arc<SystemIds>,
}

impl Run {
    /// Starts the beat of one service.
    pub(crate) fn beat(
        &self,
        (role, host): (Role, Option<HostId>),
        bus: Arc<dyn Bus>,
        look: Arc<dyn Look>,
        spawn: &Spawner,
    ) {
        let about = About {
            role,
            host,
            instance: self.ids.draw(),
            machine: self.machine.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: self.clock.now(),
        };
        let end = self.nats.clone().map(|nats| {
            let end: Arc<dyn Fn() -> BusEnd + Send + Sync> = Arc::new(move || nats.end());
            end
        });
        let directory = self.credentials.clone();
        let credentials: Arc<dyn Fn() -> Option<(Timestamp, Timestamp)> + Send + Sync> =
            Arc::new(move || issue_and_end_of(directory.as_deref()?));
        let shown_life = Arc::clone(&credentials);
        let backlog = self.nats.clone();
        spawn.shown.add(Arc::new(Instance {
            service: role_word(role),
            version: env!("CARGO_PKG_VERSION"),
            started: about.started,
            end: end.clone(),
            backlog: backlog.map(|nats| Arc::new(nats) as Arc<dyn Backlog>),
            credentials: shown_life,
        }));
        let beat = Beat {
            bus,
            clock: self.clock.clone(),
            ids: self.ids.clone(),
            about,
            look: Arc::new(WithMemory::new(look)),
            end,
            certificate_end: Arc::new(move || Some(credentials()?.1)),
        };
        spawn.start("presence", beat.run(spawn.shutdown.token()));
    }
}
