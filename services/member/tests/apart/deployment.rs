//! A deployment as `init` makes it: its bus server, members that keep their credentials fresh, and a
//! gateway that does nothing but answer them.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_bus::Nats;
use keywheel_core::audit::Role;
use keywheel_core::id::DeploymentId;
use keywheel_core::time::Timestamp;
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_engine::port::bus::{Address, Body, Bus, Message, Topic};
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::journal::AuditLeaf;
use keywheel_identity::authority::Authority;
use keywheel_identity::bundle::{Bundle, CA_FILE, CERTIFICATE_FILE, KEY_FILE};
use keywheel_identity::enrol::{Registrar, RenewAsk, answer_renewal};
use keywheel_identity::init::{Home, NewDeployment, NewServer, SERVER_FILE, init};
use keywheel_identity::name::{OperatorName, PeerName};
use keywheel_identity::nats::BusAuthority;
use keywheel_identity::refresh::{refresh, refresh_any};
use keywheel_member::{Begin, Keeper, OverBus, RenewalFault, Source};
use keywheel_schemas::subject::role_word;
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::sign::VerifyingKey;
use keywheel_testkit::server::nats::{NatsServer, TlsFiles};
use keywheel_testkit::server::port::held_port;
use tokio_util::sync::CancellationToken;

/// How long anything may take to come true.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at what has no event.
pub const LOOK: Duration = Duration::from_millis(20);

pub fn now() -> Timestamp {
    SystemClock::new().now()
}

/// The authorities, as a gateway holds them.
pub struct Authorities {
    pub certificates: RwLock<Authority>,
    bus: BusAuthority,
    trust: BTreeMap<Role, VerifyingKey>,
    servers: Vec<String>,
}

impl Authorities {
    fn with<T>(&self, work: impl FnOnce(&Registrar<'_>) -> T) -> T {
        let authority = self.certificates.read().unwrap();
        work(&Registrar {
            authority: &authority,
            bus: &self.bus,
            trust: &self.trust,
            servers: &self.servers,
        })
    }
}

/// The gateway's own authorities as a source.
struct Own(Arc<Authorities>);

#[async_trait]
impl Source for Own {
    async fn renew(&self, directory: &std::path::Path) -> Result<(), RenewalFault> {
        let made = self
            .0
            .with(|registrar| refresh(directory, registrar, now(), &OsEntropy));
        Ok(made.map(drop)?)
    }
}

/// A deployment with one bus server.
pub struct Deployment {
    pub authorities: Arc<Authorities>,
    pub server: NatsServer,
    pub stop: CancellationToken,
    scratch: tempfile::TempDir,
}

impl Drop for Deployment {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn deployment() -> DeploymentId {
    DeploymentId::from_bytes([7; 16])
}

impl Deployment {
    /// Makes it; every member's credentials live so long.
    pub fn start(life: Duration) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let unseal = UnsealKey::generate(&OsEntropy);
        let out = scratch.path().join("deployment");
        let port = held_port();
        let installed = out.join("nats/bus-1");
        let authority = Authority::create(deployment(), now(), &OsEntropy).unwrap();
        let new = NewDeployment {
            deployment: deployment(),
            authority: authority.with_member_lifetime(life),
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
            urls: vec![format!("tls://127.0.0.1:{port}")],
            tls: true,
            unseal: &unseal,
            entropy: &OsEntropy,
            now: now(),
        };
        init(&out, &new).unwrap();
        let home = Home::new(out.join("gateway"));
        let (_, identity) = Bundle::read_speaker(&out.join("gateway")).unwrap();
        let certificates = home.authority(&unseal).unwrap().with_member_lifetime(life);
        let authorities = Authorities {
            certificates: RwLock::new(certificates),
            bus: home.bus(&unseal).unwrap(),
            trust: identity.trust,
            servers: identity.servers,
        };
        let tls = TlsFiles {
            ca: installed.join(CA_FILE),
            certificate: installed.join(CERTIFICATE_FILE),
            key: installed.join(KEY_FILE),
        };
        let server = NatsServer::configured(installed.join(SERVER_FILE), port, Some(tls));
        Self {
            authorities: Arc::new(authorities),
            server,
            stop: CancellationToken::new(),
            scratch,
        }
    }

    /// Makes the bus server's certificate fresh, as a person would, and has it taken up.
    pub fn refresh_bus_server(&self) {
        let directory = self.directory("nats/bus-1");
        let refreshed = self
            .authorities
            .with(|registrar| refresh_any(&directory, registrar, now(), &OsEntropy));
        refreshed.unwrap();
        self.server.reload();
    }

    /// The roots that a member trusts.
    pub fn roots(&self, role: Role) -> String {
        let (bundle, _) = Bundle::read_speaker(&self.directory(role_word(role))).unwrap();
        bundle.tls.roots_pem
    }

    pub fn directory(&self, part: &str) -> PathBuf {
        self.scratch.path().join("deployment").join(part)
    }

    /// When a member's certificate ends.
    pub fn ends(&self, role: Role) -> Timestamp {
        let (bundle, _) = Bundle::read_speaker(&self.directory(role_word(role))).unwrap();
        bundle.tls.life().unwrap().1
    }

    /// Connects a member that keeps its credentials fresh.
    pub async fn member(&self, role: Role) -> Nats {
        let directory = self.directory(role_word(role));
        let (bundle, identity) = Bundle::read_speaker(&directory).unwrap();
        let (clock, trust) = (
            Arc::new(SystemClock::new()),
            keywheel_member::trust(&identity),
        );
        let nats = keywheel_member::connect(
            &[],
            false,
            (&bundle, &identity),
            &trust,
            (clock.clone(), Arc::new(SystemIds)),
        );
        let nats = nats.await.unwrap();
        let source: Arc<dyn Source> = match role {
            Role::Gateway => Arc::new(Own(self.authorities.clone())),
            _ => Arc::new(OverBus {
                bus: nats.endpoint(),
                clock: clock.clone(),
                entropy: Arc::new(OsEntropy),
                sealing: None,
                port: None,
            }),
        };
        let keeper = Keeper {
            directory,
            source,
            nats: nats.clone(),
            clock,
            begin: Begin::WhenDue,
            when_ended: String::new(),
            taken: Box::new(|_, _| Ok(())),
        };
        tokio::spawn(keeper.run(self.stop.clone()));
        nats
    }

    /// Connects the gateway, which answers.
    pub async fn gateway(&self) -> Nats {
        let nats = self.member(Role::Gateway).await;
        let (bus, authorities) = (nats.endpoint(), self.authorities.clone());
        let mut requests = bus.serve(Address::Gateway).await.unwrap();
        tokio::spawn(async move {
            while let Some(request) = requests.next().await {
                let authorities = authorities.clone();
                tokio::spawn(async move {
                    let answer = answer(&authorities, request.message());
                    let _gone = request.answer(answer).await;
                });
            }
        });
        nats
    }
}

fn answer(authorities: &Authorities, message: &Message) -> Body {
    let Body::Renew(ask) = &message.body else {
        return Body::AuditLeaves(Vec::new());
    };
    let ask: RenewAsk = serde_json::from_slice(ask).unwrap();
    let name = PeerName::Service(message.sender);
    let made =
        authorities.with(|registrar| answer_renewal(registrar, &name, &ask, now(), &OsEntropy));
    Body::Renewed(serde_json::to_vec(&made.unwrap()).unwrap())
}

/// Puts the audit record of this number on the bus.
pub async fn publish(bus: &Arc<dyn Bus>, index: u64) {
    let leaf = Body::Audit(AuditLeaf {
        index,
        bytes: format!("{{\"n\":{index}}}").into_bytes().into(),
    });
    let id = u128::from(index + 1).to_be_bytes();
    bus.publish(Topic::Audit, id, None, leaf).await.unwrap();
}

/// Waits until something is true.
pub async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    let waiting = async {
        while !is_true() {
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    assert!(waited.is_ok(), "not within {PATIENCE:?}: {what}");
}
