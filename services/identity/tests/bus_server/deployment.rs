//! A deployment with one bus server, and clients of every kind.

use std::path::PathBuf;
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::id::{DeploymentId, HostId};
use keywheel_core::time::Timestamp;
use keywheel_identity::nats::{BusAuthority, BusServer, Revocations, UserKey, server_config};
use keywheel_schemas::subject::{Client as Who, Subjects};
use keywheel_testkit::server::port::held_port;

use crate::client::Client;
use crate::server::{Server, VERSIONS};

pub const HOUR: Duration = Duration::from_secs(3600);

pub struct Deployment {
    pub bus: BusAuthority,
    pub revocations: Revocations,
    pub subjects: Subjects,
    pub port: u16,
    pub server: Server,
    _scratch: tempfile::TempDir,
}

#[expect(
    clippy::disallowed_methods,
    reason = "the real server reads the real clock"
)]
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp::from_micros(i64::try_from(since.unwrap().as_micros()).unwrap())
}

pub fn host(byte: u8) -> Who {
    Who::injector(HostId::from_bytes([byte; 16]))
}

pub fn host_id(who: &Who) -> HostId {
    who.host.unwrap()
}

pub fn service(role: Role) -> Who {
    Who::service(role)
}

impl Deployment {
    pub fn start() -> Self {
        Self::start_version(VERSIONS[VERSIONS.len() - 1])
    }

    pub fn start_version(version: &str) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let deployment = DeploymentId::from_bytes([7; 16]);
        let bus = BusAuthority::create(deployment);
        let mut revocations = Revocations::default();
        let port = held_port();
        let settings = plain(scratch.path().join("store"), port);
        let text = server_config(&bus, &mut revocations, &settings, now()).unwrap();
        let config = scratch.path().join("nats.conf");
        std::fs::write(&config, text).unwrap();
        let server = Server::start_version(version, &config, port);
        Self {
            bus,
            revocations,
            subjects: Subjects::new(deployment),
            port,
            server,
            _scratch: scratch,
        }
    }

    /// A key with a permit that lives this long.
    pub fn permit(&self, who: &Who, life: Duration) -> (UserKey, String) {
        let key = UserKey::generate();
        let end = now().plus(life);
        let permit = self.bus.permit(who, &key.public_key(), now(), end);
        (key, permit.unwrap())
    }

    pub fn client(&self, who: &Who) -> Client {
        let (key, permit) = self.permit(who, HOUR);
        Client::connect(self.port, &key, &permit).unwrap()
    }

    pub fn claims(&self) -> Client {
        let key = UserKey::generate();
        let permit = self
            .bus
            .system_permit(&key.public_key(), now(), now().plus(HOUR));
        Client::connect(self.port, &key, &permit.unwrap()).unwrap()
    }
}

pub fn plain(store: PathBuf, port: u16) -> BusServer {
    BusServer {
        name: "bus-1".into(),
        listen: format!("127.0.0.1:{port}").parse().unwrap(),
        store,
        max_store_bytes: 64 << 20,
        tls: None,
        cluster: None,
    }
}
