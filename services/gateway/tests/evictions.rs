//! Evictions at a real bus server: who is evicted is disconnected, and cannot come back, not even to a
//! server that lost what it was told.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may stop at once"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use keywheel_bus::{ConnectError, Identity as Speaker, MemberFiles, Nats, NatsOptions, Trust};
use keywheel_core::audit::Role;
use keywheel_core::host::RefusedKey;
use keywheel_core::id::{DeploymentId, HostId, JoinTokenId};
use keywheel_core::name::HostName;
use keywheel_core::time::Timestamp;
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_engine::port::clock::Clock as _;
use keywheel_gateway::claims::{BusDesk, Claims, Told as Known};
use keywheel_gateway::http::TokenMaker as _;
use keywheel_gateway::registry::{Registry, Told};
use keywheel_identity::authority::Authority;
use keywheel_identity::bundle::{Bundle, CA_FILE, CERTIFICATE_FILE, Identity, KEY_FILE};
use keywheel_identity::enrol::Joining;
use keywheel_identity::init::{Home, NewDeployment, NewServer, SERVER_FILE, init};
use keywheel_identity::name::OperatorName;
use keywheel_identity::token::JoinToken;
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::server::nats::{NatsServer, TlsFiles};
use keywheel_testkit::server::port::held_port;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(180);
const LOOK: Duration = Duration::from_millis(50);
const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([7; 16]);
const EVICTED: HostId = HostId::from_bytes([1; 16]);
const OTHER: HostId = HostId::from_bytes([2; 16]);

fn now() -> Timestamp {
    SystemClock::new().now()
}

struct Deployment {
    scratch: tempfile::TempDir,
    server: NatsServer,
    registry: Arc<Registry>,
    servers: Vec<String>,
}

impl Deployment {
    fn start() -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let (out, port) = (scratch.path().join("deployment"), held_port());
        let unseal = UnsealKey::generate(&OsEntropy);
        let installed = out.join("nats/bus-1");
        let servers = vec![format!("tls://127.0.0.1:{port}")];
        let new = NewDeployment {
            deployment: DEPLOYMENT,
            authority: Authority::create(DEPLOYMENT, now(), &OsEntropy).unwrap(),
            operator: OperatorName::parse("ada").unwrap(),
            addresses: BTreeMap::new(),
            servers: vec![NewServer {
                name: "bus-1".into(),
                listen: format!("127.0.0.1:{port}").parse().unwrap(),
                cluster: None,
                route: None,
                addresses: vec!["127.0.0.1".into()],
                store: scratch.path().join("store"),
                max_store_bytes: 1 << 30,
                installed: installed.clone(),
            }],
            urls: servers.clone(),
            tls: true,
            unseal: &unseal,
            entropy: &OsEntropy,
            now: now(),
        };
        init(&out, &new).unwrap();
        let tls = TlsFiles {
            ca: installed.join(CA_FILE),
            certificate: installed.join(CERTIFICATE_FILE),
            key: installed.join(KEY_FILE),
        };
        let server = NatsServer::configured(installed.join(SERVER_FILE), port, Some(tls));
        let (_, identity) = Bundle::read_speaker(&out.join("gateway")).unwrap();
        let told = Told {
            trust: identity.trust,
            servers: servers.clone(),
            join_address: "127.0.0.1:1".to_owned(),
            lifetime: PATIENCE * 10,
        };
        let home = Home::new(out.join("gateway"));
        let registry = Registry::open(home, unseal, told, Arc::new(OsEntropy)).unwrap();
        Self {
            scratch,
            server,
            registry: Arc::new(registry),
            servers,
        }
    }

    fn gateway_dir(&self) -> PathBuf {
        self.scratch.path().join("deployment/gateway")
    }

    /// Credentials as the gateway gives them to a host that joins.
    fn join(&self, host: HostId, name: &str) -> (Bundle, Identity, RefusedKey) {
        let name = HostName::parse(name).unwrap();
        let id = JoinTokenId::from_bytes(*host.bytes());
        let token = self.registry.make(host, id, &name, now()).unwrap();
        // EXPOSE: a test's own token.
        let token = std::str::from_utf8(token.text.expose()).unwrap();
        let token = JoinToken::parse(token).unwrap();
        let joining = Joining::begin(&token, &OsEntropy).unwrap();
        let checked = joining.ask(&token).check().unwrap();
        let permit = self.registry.permit_of(checked.bus_key(), now());
        let (key, expires_at) = permit.unwrap();
        let answer = self.registry.answer_join(&checked, now()).unwrap();
        let mut bundle = joining.accept(&answer, now()).unwrap();
        let identity = bundle.identity.take().unwrap();
        (bundle, identity, RefusedKey { key, expires_at })
    }

    async fn connect(&self, bundle: &Bundle, identity: &Identity) -> Result<Nats, ConnectError> {
        let files = MemberFiles {
            roots: &bundle.tls.roots_pem,
            certificate: &bundle.tls.chain_pem,
            key: &bundle.tls.key_pem,
            permit: bundle.bus.as_ref(),
        };
        let options = NatsOptions::of_member(self.servers.clone(), DEPLOYMENT, &files);
        let key = SigningKey::from_seed_bytes(&identity.signing.seed()).unwrap();
        let speaker = match identity.host() {
            Some(host) => Speaker::injector(DEPLOYMENT, host, key),
            None => Speaker::service(DEPLOYMENT, Role::Gateway, key),
        };
        let trust = Trust::new(DEPLOYMENT, []);
        let (clock, ids) = (Arc::new(SystemClock::new()), Arc::new(SystemIds));
        Nats::connect(options, speaker, trust, clock, ids).await
    }
}

async fn until(what: &str, mut is_true: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !is_true().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "not within {PATIENCE:?}: {what}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_evicted_host_is_disconnected_and_cannot_come_back() {
    let mut deployment = Deployment::start();
    let (bundle, identity) = Bundle::read_speaker(&deployment.gateway_dir()).unwrap();
    let gateway = deployment.connect(&bundle, &identity).await.unwrap();
    let evicted = deployment.join(EVICTED, "web-1");
    let other = deployment.join(OTHER, "web-2");
    let host = deployment.connect(&evicted.0, &evicted.1).await.unwrap();
    let stays = deployment.connect(&other.0, &other.1).await.unwrap();
    let told = Known::default();
    let claims = Claims {
        registry: deployment.registry.clone(),
        desk: Arc::new(BusDesk {
            directory: deployment.gateway_dir(),
            servers: deployment.servers.clone(),
        }),
        clock: Arc::new(SystemClock::new()),
        connects: gateway.connects(),
        told: told.clone(),
    };
    let stop = CancellationToken::new();
    let running = tokio::spawn(claims.run(stop.clone()));

    assert!(host.health().connected);
    let refused = std::slice::from_ref(&evicted.2);
    deployment.registry.refuse(refused, now()).unwrap();
    until("the host to be disconnected", async || {
        !host.health().connected
    })
    .await;
    until("nothing to be open", async || told.open().is_none()).await;
    let is_refused = async |deployment: &Deployment| {
        let again = deployment.connect(&evicted.0, &evicted.1).await;
        matches!(again, Err(ConnectError::Unreachable { .. }))
    };
    assert!(is_refused(&deployment).await);
    assert!(stays.health().connected && gateway.health().connected);

    // A bus server that lost everything knows only its first configuration, until it is told again.
    deployment.server.kill();
    std::fs::remove_dir_all(deployment.scratch.path().join("store")).unwrap();
    deployment.server.restart();
    until("the host to be refused again", async || {
        is_refused(&deployment).await && told.open().is_none() && gateway.health().connected
    })
    .await;
    until("the other host to come back", async || {
        stays.health().connected
    })
    .await;
    until("the host to stay out", async || !host.health().connected).await;

    stop.cancel();
    running.await.unwrap();
}
