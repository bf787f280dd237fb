//! The bus over a NATS server of the test's own, every role with a user of its own.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_nats::HeaderMap;
use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_bus::envelope::{Frame, Receiver};
use keywheel_bus::{ConnectError, Credentials, Nats, NatsOptions};
use keywheel_core::audit::Role;
use keywheel_engine::authority::{ROLES, server_of};
use keywheel_engine::port::bus::{Address, Body, Bus, Topic};
use keywheel_schemas::subject::{Client, Subjects};
use keywheel_seal::SecretBytes;
use keywheel_testkit::conformance::bus::{BusUnderTest, Forgery, HOST};
use keywheel_testkit::server::nats::{NatsServer, Settings, User};
use nkeys::KeyPair;

use super::{ACK_TIMEOUT, DEPLOYMENT, RandomIds, RealClock, forged, identity, trust};

/// The client of a role.
pub fn client(role: Role) -> Client {
    match role {
        Role::Injector => Client::injector(HOST),
        role => Client::service(role),
    }
}

/// A role's user at the server, always the same.
pub fn key_pair(role: Role) -> KeyPair {
    let number = ROLES.iter().position(|other| *other == role).unwrap();
    let seed = [u8::try_from(number).unwrap() + 101; 32];
    KeyPair::new_from_raw(nkeys::KeyPairType::User, seed).unwrap()
}

/// Every role's user with its permissions, and nobody else.
pub fn users() -> Vec<User> {
    let subjects = Subjects::new(DEPLOYMENT);
    ROLES
        .map(|role| {
            let permissions = subjects.permissions(&client(role));
            User {
                public_key: key_pair(role).public_key(),
                publish: permissions.publish,
                subscribe: permissions.subscribe,
                responses: permissions.responses,
            }
        })
        .to_vec()
}

pub fn settings(version: &str) -> Settings {
    Settings {
        users: users(),
        ..Settings::of(version)
    }
}

pub fn options(server: &NatsServer, role: Role) -> NatsOptions {
    let seed = key_pair(role).seed().unwrap();
    NatsOptions {
        credentials: Credentials::NkeySeed(SecretBytes::from(seed.into_bytes())),
        ack_timeout: ACK_TIMEOUT,
        ..NatsOptions::new(vec![server.url()], DEPLOYMENT)
    }
}

pub async fn try_connect(options: NatsOptions, role: Role) -> Result<Nats, ConnectError> {
    let (clock, ids) = (Arc::new(RealClock::new()), Arc::new(RandomIds));
    Nats::connect(options, identity(role), trust(), clock, ids).await
}

pub async fn connect(server: &NatsServer, role: Role) -> Nats {
    try_connect(options(server, role), role).await.unwrap()
}

/// A client of the bus server with a role's credentials and none of our code: an attacker's.
pub async fn raw(server: &NatsServer, role: Role) -> async_nats::Client {
    let inbox = Subjects::new(DEPLOYMENT).inbox(&client(role));
    async_nats::ConnectOptions::with_nkey(key_pair(role).seed().unwrap())
        .custom_inbox_prefix(inbox)
        .connect(server.url())
        .await
        .unwrap()
}

pub fn headers(frame: &Frame) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert("Keywheel-Signature", STANDARD.encode(frame.signature));
    headers
}

pub fn subject_of(topic: &Topic) -> String {
    let subjects = Subjects::new(DEPLOYMENT);
    match topic {
        Topic::Events => subjects.events(),
        Topic::Audit => subjects.audit(),
        Topic::Work(role) => subjects.work(*role),
        Topic::Plan(host) => subjects.plan(*host),
        Topic::Hosts => subjects.hosts(),
        Topic::Presence => subjects.presence(&client(Role::Gateway)),
    }
}

/// One server, every role connected to it.
pub struct NatsUnderTest {
    pub server: NatsServer,
    pub ends: BTreeMap<Role, Nats>,
    raw: BTreeMap<Role, async_nats::Client>,
}

impl NatsUnderTest {
    pub async fn start(version: &str) -> Self {
        let server = NatsServer::start(settings(version));
        let mut ends = BTreeMap::new();
        for role in ROLES {
            ends.insert(role, connect(&server, role).await);
        }
        let mut clients = BTreeMap::new();
        for role in [Role::Gateway, Role::Injector] {
            clients.insert(role, raw(&server, role).await);
        }
        Self {
            server,
            ends,
            raw: clients,
        }
    }
}

#[async_trait]
impl BusUnderTest for NatsUnderTest {
    fn endpoint(&self, role: Role) -> Arc<dyn Bus> {
        self.ends[&role].endpoint()
    }
    async fn forge(&self, forgery: Forgery, topic: &Topic, id: [u8; 16], body: Body) {
        let frame = forged(forgery, Role::Gateway, Receiver::Topic(topic), id, &body);
        let context = async_nats::jetstream::new(self.raw[&Role::Gateway].clone());
        let headers = headers(&frame);
        let sent = context.publish_with_headers(subject_of(topic), headers, frame.document.into());
        sent.await.unwrap().await.unwrap();
    }
    async fn forge_request(&self, forgery: Forgery, to: Address, body: Body) {
        let frame = forged(
            forgery,
            Role::Injector,
            Receiver::Request(to),
            [1; 16],
            &body,
        );
        let subject = Subjects::new(DEPLOYMENT).request(server_of(to), &client(Role::Injector));
        let raw = &self.raw[&Role::Injector];
        let headers = headers(&frame);
        let inbox = raw.new_inbox();
        let payload = frame.document.into();
        raw.publish_with_reply_and_headers(subject, inbox, headers, payload)
            .await
            .unwrap();
    }
    fn refused(&self) -> u64 {
        self.ends.values().map(|end| end.refused().total()).sum()
    }
    fn ack_timeout(&self) -> Duration {
        ACK_TIMEOUT
    }
    async fn shutdown(&self) {
        for end in self.ends.values() {
            end.shutdown().await;
        }
    }
}
