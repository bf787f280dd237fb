//! TLS of the bus server, and three servers as one bus.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::id::{DeploymentId, HostId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock;
use keywheel_identity::authority::Authority;
use keywheel_identity::bundle::Bundle;
use keywheel_identity::init::{Home, NewDeployment, NewServer, SERVER_FILE, init};
use keywheel_identity::name::{OperatorName, PeerName};
use keywheel_identity::nats::{CLAIMS_INBOX, CLAIMS_SUBJECT, UserKey};
use keywheel_identity::tls::{Admit, PeerKind, TlsIdentity, join_client_config};
use keywheel_schemas::subject::{Client as Who, Subjects};
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::UnsealKey;
use keywheel_testkit::server::port::held_port;
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::client::Client;
use crate::deployment::{HOUR, now};
use crate::server::Server;

struct Real;

impl Clock for Real {
    fn now(&self) -> Timestamp {
        now()
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn deployment() -> DeploymentId {
    DeploymentId::from_bytes([7; 16])
}

/// What `init` makes, for this many servers on loopback.
struct Made {
    scratch: tempfile::TempDir,
    unseal: UnsealKey,
    ports: Vec<u16>,
}

impl Made {
    fn new(servers: usize) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let unseal = UnsealKey::generate(&OsEntropy);
        let out = scratch.path().join("deployment");
        let ports: Vec<u16> = (0..servers).map(|_| held_port()).collect();
        let listen = |port: u16| format!("127.0.0.1:{port}").parse().unwrap();
        let servers = ports.iter().enumerate().map(|(index, port)| {
            let cluster = (ports.len() > 1).then(held_port);
            let name = format!("bus-{index}");
            NewServer {
                listen: listen(*port),
                cluster: cluster.map(listen),
                route: cluster.map(|port| format!("127.0.0.1:{port}")),
                addresses: vec!["127.0.0.1".into()],
                store: scratch.path().join(format!("store-{index}")),
                max_store_bytes: 64 << 20,
                installed: out.join("nats").join(&name),
                name,
            }
        });
        let new = NewDeployment {
            deployment: deployment(),
            authority: Authority::create(deployment(), now(), &OsEntropy).unwrap(),
            operator: OperatorName::parse("ada").unwrap(),
            addresses: BTreeMap::new(),
            servers: servers.collect(),
            urls: vec![format!("tls://127.0.0.1:{}", ports[0])],
            tls: true,
            unseal: &unseal,
            entropy: &OsEntropy,
            now: now(),
        };
        init(&out, &new).unwrap();
        Self {
            scratch,
            unseal,
            ports,
        }
    }

    fn path(&self, part: &str) -> PathBuf {
        self.scratch.path().join("deployment").join(part)
    }

    fn home(&self) -> Home {
        Home::new(self.path("gateway"))
    }

    fn start(&self) -> Vec<Server> {
        let start = |(index, port): (usize, &u16)| {
            let config = self
                .path("nats")
                .join(format!("bus-{index}"))
                .join(SERVER_FILE);
            Server::start(&config, *port)
        };
        self.ports.iter().enumerate().map(start).collect()
    }

    fn gateway_tls(&self) -> ClientConfig {
        let (bundle, _) = Bundle::read_speaker(&self.path("gateway")).unwrap();
        let credentials = bundle.tls.credentials(deployment()).unwrap();
        bus_client(TlsIdentity::new(deployment(), credentials, Arc::new(Real)))
    }

    /// A host's permit.
    fn permit(&self, byte: u8) -> (UserKey, String) {
        let bus = self.home().bus(&self.unseal).unwrap();
        let key = UserKey::generate();
        let who = Who::injector(HostId::from_bytes([byte; 16]));
        let permit = bus.permit(&who, &key.public_key(), now(), now().plus(HOUR));
        (key, permit.unwrap())
    }

    /// A member's good certificate, shown over TLS 1.2.
    fn old_protocol(&self, authority: &Authority) -> ClientConfig {
        let name = PeerName::Host(HostId::from_bytes([1; 16]));
        let issued = authority.issue(&name, &[], now(), &OsEntropy).unwrap();
        let chain = issued.certificate.chain_pem.as_bytes();
        let chain = CertificateDer::pem_slice_iter(chain).map(Result::unwrap);
        // EXPOSE: a test's own key.
        let key = PrivateKeyDer::from_pem_slice(issued.key_pem.expose()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_protocol_versions(&[&rustls::version::TLS12])
            .unwrap()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_client_auth_cert(chain.collect(), key)
            .unwrap()
    }

    /// A host's TLS, by this authority.
    fn host_tls(&self, authority: &Authority, byte: u8, at: Timestamp) -> ClientConfig {
        let name = PeerName::Host(HostId::from_bytes([byte; 16]));
        let issued = authority.issue(&name, &[], at, &OsEntropy).unwrap();
        let roots = self.home().authority(&self.unseal).unwrap().roots_pem();
        let chain = &issued.certificate.chain_pem;
        let credentials = keywheel_identity::tls::TlsCredentials::from_pem(
            deployment(),
            chain,
            &issued.key_pem,
            &roots,
        );
        bus_client(TlsIdentity::new(
            deployment(),
            credentials.unwrap(),
            Arc::new(Real),
        ))
    }
}

fn bus_client(identity: Arc<TlsIdentity>) -> ClientConfig {
    identity
        .client_config(Admit::only([PeerKind::BusServer]))
        .unwrap()
}

#[test]
fn what_init_makes_serves_members_over_tls_and_refuses_everyone_else() {
    let made = Made::new(1);
    let _servers = made.start();
    let port = made.ports[0];
    let authority = made.home().authority(&made.unseal).unwrap();
    let (key, permit) = made.permit(1);
    let connect = |config| Client::connect_tls(port, config, &key, &permit);
    let good = made.host_tls(&authority, 1, now());
    let mut member = connect(good.clone()).unwrap();
    let inbox = Subjects::new(deployment()).inbox(&Who::injector(HostId::from_bytes([1; 16])));
    member.subscribe(&format!("{inbox}.>")).unwrap();

    assert!(Client::connect(port, &key, &permit).is_err(), "plaintext");
    let bare = join_client_config(deployment(), authority.pin(), Arc::new(Real)).unwrap();
    assert!(connect(bare).is_err(), "no client certificate");
    let stranger = Authority::create(deployment(), now(), &OsEntropy).unwrap();
    assert!(
        connect(made.host_tls(&stranger, 1, now())).is_err(),
        "another authority"
    );
    let day = 24 * 3_600_000_000;
    let past = Timestamp::from_micros(now().micros() - 2 * day);
    let future = Timestamp::from_micros(now().micros() + day);
    assert!(
        connect(made.host_tls(&authority, 1, past)).is_err(),
        "expired"
    );
    assert!(
        connect(made.host_tls(&authority, 1, future)).is_err(),
        "not valid yet"
    );
    let old = connect(made.old_protocol(&authority)).err().unwrap();
    assert!(old.contains("ProtocolVersion"), "TLS 1.2: {old}");
    assert!(connect(good).is_ok());
}

#[test]
fn a_client_refuses_a_bus_server_that_is_something_else() {
    let made = Made::new(1);
    let scheduler = Bundle::read(&made.path("scheduler")).unwrap();
    let config = made.path("nats/bus-0").join(SERVER_FILE);
    let text = std::fs::read_to_string(&config).unwrap();
    Bundle {
        identity: None,
        ..scheduler
    }
    .write(&made.path("nats/bus-0"))
    .unwrap();
    std::fs::write(&config, text).unwrap();
    let _servers = made.start();
    let (key, permit) = made.permit(1);
    let error = Client::connect_tls(made.ports[0], made.gateway_tls(), &key, &permit);
    let error = error.err().unwrap();
    assert!(
        error.contains("WrongPeer") && error.contains("Scheduler"),
        "{error}"
    );
}

#[test]
fn three_servers_are_one_bus_and_an_eviction_reaches_them_all() {
    let made = Made::new(3);
    let _servers = made.start();
    let authority = made.home().authority(&made.unseal).unwrap();
    let (key, permit) = made.permit(1);
    let tls = made.host_tls(&authority, 1, now());
    let connect = |port| Client::connect_tls(port, tls.clone(), &key, &permit);
    let mut members: Vec<Client> = made
        .ports
        .iter()
        .map(|port| connect(*port).unwrap())
        .collect();
    let inbox = format!("{CLAIMS_INBOX}.1");
    let bus = made.home().bus(&made.unseal).unwrap();
    let user = UserKey::generate();
    let system = bus
        .system_permit(&user.public_key(), now(), now().plus(HOUR))
        .unwrap();
    let told = |claim: &str| {
        let mut claims =
            Client::connect_tls(made.ports[0], made.gateway_tls(), &user, &system).unwrap();
        claims.subscribe(&inbox).unwrap();
        claims.ask(CLAIMS_SUBJECT, &inbox, claim).unwrap()
    };
    let mut revocations = made.home().revocations().unwrap();
    revocations.revoke(&key.public_key(), now()).unwrap();
    wait_for_routes(&made);
    let claim = bus.account_claim(&mut revocations, now()).unwrap();
    let answer = told(&claim);
    assert_eq!(answer["data"]["code"], 200, "{answer}");
    for member in &mut members {
        let last = member.until_closed();
        assert!(
            last.contains("Revoked") || last.contains("closed"),
            "{last}"
        );
    }
    for port in &made.ports {
        assert!(connect(*port).is_err());
    }
}

/// A message said at one server is heard at the others once they know each other.
fn wait_for_routes(made: &Made) {
    let subjects = Subjects::new(deployment());
    let bus = made.home().bus(&made.unseal).unwrap();
    let authority = made.home().authority(&made.unseal).unwrap();
    let client = |role, port: u16| {
        let key = UserKey::generate();
        let permit = bus.permit(
            &Who::service(role),
            &key.public_key(),
            now(),
            now().plus(HOUR),
        );
        let tls = made.host_tls(&authority, 9, now());
        Client::connect_tls(port, tls, &key, &permit.unwrap()).unwrap()
    };
    for port in &made.ports[1..] {
        let mut listener = client(Role::Gateway, *port);
        listener
            .subscribe(&subjects.requests(Role::Gateway))
            .unwrap();
        let mut speaker = client(Role::Scheduler, made.ports[0]);
        let subject = subjects.request(Role::Gateway, &Who::service(Role::Scheduler));
        let heard = (0..1200).any(|_| {
            speaker.publish(&subject, "x").unwrap();
            std::thread::sleep(Duration::from_millis(100));
            listener.has_heard()
        });
        assert!(heard, "the servers do not form a cluster");
    }
}
