//! A gateway's TCP ports, the operator's client and a joining machine, together over real TLS.

use std::path::PathBuf;
use std::time::Duration;

use keywheel_bus::{Identity as Speaker, InProcess, Trust};
use keywheel_core::id::DeploymentId;
use keywheel_core::name::HostName;
use keywheel_daemon::SystemIds;
use keywheel_engine::command_bus::{CommandBus, Parts, Started};
use keywheel_engine::port::failpoint::Points;
use keywheel_engine::port::journal::Journal as _;
use keywheel_gateway::access::Access;
use keywheel_gateway::denials::Denials;
use keywheel_gateway::door::Spans;
use keywheel_gateway::http::{Api, Scans, UnderWay};
use keywheel_gateway::join::JoinServer;
use keywheel_gateway::presence::Presences;
use keywheel_gateway::registry::{Registry, Told};
use keywheel_gateway::remote::RemoteServer;
use keywheel_identity::authority::Authority;
use keywheel_identity::init::{Home, NewDeployment, init, plain};
use keywheel_identity::name::OperatorName;
use keywheel_injector::join::{JoinError, join};
use keywheel_schemas::api::{HostView, IssueTokenAnswer, JoinTokenAnswer, Status, WhoamiView};
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::letters::LetterKey;
use keywheel_seal::sign::SigningKey;
use keywheel_testkit::fake::MemoryJournal;
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::address::Address;
use crate::client::{Client, Proof};

const DEPLOYMENT: DeploymentId = DeploymentId::from_bytes([9; 16]);

struct Deployment {
    dir: TempDir,
    journal: Arc<MemoryJournal>,
    authority: Authority,
    operators: String,
    /// A port that takes tokens.
    programs: String,
    _running: DropGuard,
}

impl Deployment {
    fn path(&self, of: &str) -> PathBuf {
        self.dir.path().join("deployment").join(of)
    }

    fn client(&self, identity: &Path) -> Result<Client, Failure> {
        Client::new(Address::Https(self.operators.clone()), Some(identity))
    }

    fn ada(&self) -> Client {
        self.client(&self.path("operators/ada")).unwrap()
    }

    async fn token(&self, name: &str) -> JoinTokenAnswer {
        let path = format!("/v1/hosts/{name}/join-token");
        self.ada().change(&path, &json!({})).await.unwrap()
    }

    async fn audit(&self) -> String {
        let leaves = self.journal.read_audit(0, 1000).await.unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let lines: Vec<String> = leaves.iter().map(|leaf| text(&leaf.bytes)).collect();
        lines.join("\n")
    }
}

fn new_deployment<'a>(clock: &SystemClock, unseal: &'a UnsealKey) -> NewDeployment<'a> {
    NewDeployment {
        deployment: DEPLOYMENT,
        authority: Authority::create(DEPLOYMENT, clock.now(), &OsEntropy).unwrap(),
        operator: OperatorName::parse("ada").unwrap(),
        addresses: [].into(),
        servers: Vec::new(),
        urls: Vec::new(),
        tls: true,
        unseal,
        entropy: &OsEntropy,
        now: clock.now(),
    }
}

async fn api(journal: Arc<MemoryJournal>, clock: Arc<SystemClock>) -> Api {
    let parts = Parts {
        journal: journal.clone(),
        clock: clock.clone(),
        ids: Arc::new(SystemIds),
        failpoint: |_| (),
    };
    let Started {
        bus,
        handle,
        view,
        mut commits,
    } = CommandBus::start(parts).await.unwrap();
    tokio::spawn(bus.run());
    tokio::spawn(async move { while commits.recv().await.is_some() {} });
    let trust = Trust::new(DEPLOYMENT, []);
    let gateway = Speaker::service(DEPLOYMENT, Role::Gateway, SigningKey::generate(&OsEntropy));
    let bus = InProcess::new(trust, clock.clone(), Arc::new(SystemIds)).endpoint(gateway);
    let outside = keywheel_signals::Desk::new(keywheel_signals::Parts {
        journal: journal.clone(),
        deliveries: journal.clone(),
        view: view.clone(),
        commands: handle.clone(),
        clock: clock.clone(),
        ids: Arc::new(SystemIds),
        entropy: Arc::new(OsEntropy),
        directory: PathBuf::from("/nonexistent"),
        near: Vec::new(),
        points: Points::default(),
        deployment: DEPLOYMENT,
        letter_key: Arc::new(LetterKey::of(&UnsealKey::generate(&OsEntropy))),
        bus: bus.clone(),
    });
    Api {
        commands: handle,
        view,
        deliveries: journal.clone(),
        outside: Arc::new(outside),
        journal,
        bus,
        clock: clock.clone(),
        ids: Arc::new(SystemIds),
        access: Access::of_machine(0),
        deployment: DEPLOYMENT,
        host: HostName::parse("gateway").unwrap(),
        data_dir: "data".to_owned(),
        origin: "keywheel.test".to_owned(),
        public_key: [1; 32],
        check_schedule: |_, _| Ok(()),
        next_fires: |_, _| Vec::new(),
        outlook: |_, _| (Vec::new(), Vec::new()),
        join_tokens: None,
        denials: Arc::new(Denials::default()),
        waits: Arc::default(),
        scans: Scans::default(),
        presences: Presences::new(clock),
        parts: Arc::new(Vec::new),
        admission: Arc::new(keywheel_gateway::admission::Admission::new().unwrap()),
        tokens: Arc::default(),
        backups: None,
        logins: None,
        under_way: UnderWay::default(),
        health_looks: Arc::default(),
    }
}

async fn start() -> Deployment {
    let clock = Arc::new(SystemClock::new());
    let dir = tempfile::tempdir().unwrap();
    let unseal = UnsealKey::generate(&OsEntropy);
    let out = dir.path().join("deployment");
    init(&out, &new_deployment(&clock, &unseal)).unwrap();
    let home = Home::new(out.join("gateway"));
    let authority = home.authority(&unseal).unwrap();
    let (bundle, identity) = Bundle::read_speaker(&out.join("gateway")).unwrap();
    let operators = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let joins = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let told = Told {
        trust: identity.trust,
        servers: vec!["tls://bus.example:4222".to_owned()],
        join_address: joins.local_addr().unwrap().to_string(),
        lifetime: Duration::from_secs(600),
    };
    let registry = Registry::open(home, unseal, told, Arc::new(OsEntropy)).unwrap();
    let registry = Arc::new(registry);
    let journal = Arc::new(MemoryJournal::new());
    let mut api = api(journal.clone(), clock.clone()).await;
    api.join_tokens = Some(registry.clone());
    let credentials = bundle.tls.credentials(DEPLOYMENT).unwrap();
    let tls = TlsIdentity::new(DEPLOYMENT, credentials, clock);
    let stop = CancellationToken::new();
    let port = operators.local_addr().unwrap().to_string();
    let remote = RemoteServer::new(api.clone(), &tls, Spans::default()).unwrap();
    tokio::spawn(remote.run(operators, stop.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let programs = listener.local_addr().unwrap().to_string();
    let remote = RemoteServer::with_tokens(api.clone(), &tls, Spans::default()).unwrap();
    tokio::spawn(remote.run(listener, stop.clone()));
    let join = JoinServer::new(api, registry, &tls, Spans::default()).unwrap();
    tokio::spawn(join.run(joins, stop.clone()));
    Deployment {
        dir,
        journal,
        authority,
        operators: port,
        programs,
        _running: stop.drop_guard(),
    }
}

async fn join_as(token: &str, directory: &Path) -> Result<String, JoinError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
    let joined = join(token, directory, clock, &OsEntropy).await?;
    Ok(joined.name.to_string())
}

#[tokio::test]
async fn an_operator_lets_a_machine_join_once_and_never_into_the_same_place() {
    let deployment = start().await;
    let status: Status = deployment.ada().read("/v1/status").await.unwrap();
    assert_eq!(status.host, "gateway");
    let issued = deployment.token("web-2").await;
    let place = deployment.dir.path().join("machine/credentials");
    assert_eq!(join_as(&issued.token, &place).await.unwrap(), "web-2");
    let (bundle, identity) = Bundle::read_speaker(&place).unwrap();
    assert_eq!(identity.host().unwrap().to_string(), issued.host);
    assert!(bundle.bus.is_some());
    let hosts: Vec<HostView> = deployment.ada().read("/v1/hosts").await.unwrap();
    assert_eq!(hosts[0].name, "web-2");

    // The place is looked at before the token is presented: this one stays good.
    let second = deployment.token("web-3").await;
    let refused = join_as(&second.token, &place).await.unwrap_err();
    assert!(matches!(refused, JoinError::Occupied(_)), "{refused}");
    let elsewhere = deployment.dir.path().join("elsewhere");
    let used = join_as(&issued.token, &elsewhere).await.unwrap_err();
    assert!(used.to_string().contains("it was used before"), "{used}");
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);
    assert_eq!(join_as(&second.token, &elsewhere).await.unwrap(), "web-3");

    let audit = deployment.audit().await;
    assert!(audit.contains("Operator") && audit.contains("\"ada\""));
    assert!(audit.contains("Stranger") && audit.contains("127.0.0.1"));
    let secret = &issued.token[issued.token.len() - 40..];
    assert!(!audit.contains(secret) && !used.to_string().contains(secret));
}

#[tokio::test]
async fn a_program_with_a_token_needs_no_credentials_but_the_roots() {
    let deployment = start().await;
    let wish = json!({ "name": "ci", "verbs": ["list"], "resources": ["environment"], "lifetime_seconds": 60 });
    let ada = deployment.ada();
    let issued: IssueTokenAnswer = ada.change("/v1/tokens", &wish).await.unwrap();
    let (file, roots) = (
        deployment.dir.path().join("token"),
        deployment.path("operators/ada/ca.pem"),
    );
    std::fs::write(&file, format!("{}\n", issued.token)).unwrap();
    let proof = Proof {
        token_file: Some(&file),
        ca_file: Some(&roots),
        ..Proof::default()
    };
    let address = || Address::Https(deployment.programs.clone());
    let program = Client::with(address(), proof).unwrap();
    assert!(!format!("{program:?}").contains(&issued.token[4..]));
    let told: WhoamiView = program.read("/v1/whoami").await.unwrap();
    assert_eq!(
        (told.principal.as_str(), told.proof.as_str()),
        ("certificate:ada", "token")
    );
    // Roots of another deployment: the token is not even sent.
    let now = SystemClock::new().now();
    let foreign = Authority::create(DEPLOYMENT, now, &OsEntropy).unwrap();
    let other = deployment.dir.path().join("other.pem");
    std::fs::write(&other, foreign.roots_pem()).unwrap();
    let misled = Proof {
        ca_file: Some(&other),
        ..proof
    };
    let before = deployment.audit().await.len();
    let misled = Client::with(address(), misled).unwrap();
    let failure = misled.read::<WhoamiView>("/v1/whoami").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable, "{failure}");
    assert!(!deployment.audit().await[before..].contains("\"ci\""));
    let bare = Proof {
        ca_file: None,
        ..proof
    };
    let failure = Client::with(address(), bare).unwrap_err();
    assert!(
        failure.to_string().contains("--gateway-ca-file"),
        "{failure}"
    );
}

#[tokio::test]
async fn who_is_no_operator_here_is_told_and_is_on_record() {
    let deployment = start().await;
    let mine = deployment.client(&deployment.path("scheduler"));
    let failure = mine.unwrap_err();
    assert_eq!(failure.exit, Exit::Config);
    assert!(
        failure
            .what
            .contains("service scheduler, not of an operator"),
        "{failure}"
    );
    let none = Client::new(Address::Https(deployment.operators.clone()), None);
    let failure = none.unwrap_err();
    assert!(failure.to_string().contains("--identity"), "{failure}");
    let missing = deployment.client(&deployment.path("nobody")).unwrap_err();
    assert_eq!(missing.exit, Exit::NoInput);

    // Of another authority: each side finds the other out; ours does first.
    let now = SystemClock::new().now();
    let foreign = Authority::create(DEPLOYMENT, now, &OsEntropy).unwrap();
    let eve = PeerName::Operator(OperatorName::parse("eve").unwrap());
    let mut bundle = plain(&foreign, &eve, &[], now, &OsEntropy).unwrap();
    let place = deployment.dir.path().join("eve");
    bundle.write(&place).unwrap();
    let client = deployment.client(&place).unwrap();
    let failure = client.read::<Status>("/v1/status").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    assert!(failure.what.contains("does not trust"), "{failure}");
    // It trusts our gateway all the same, which says no.
    bundle.tls.roots_pem = deployment.authority.roots_pem();
    bundle.write(&place).unwrap();
    let client = deployment.client(&place).unwrap();
    let failure = client.read::<Status>("/v1/status").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Denied, "{failure}");
    assert!(
        failure.what.contains("an authority it does not trust"),
        "{failure}"
    );
    assert!(deployment.audit().await.contains("does not trust"));
}

#[tokio::test]
async fn an_expired_operator_hears_it_before_anything_is_sent() {
    let deployment = start().await;
    let early = keywheel_core::time::Timestamp::from_micros(1_000_000_000_000_000);
    let name = PeerName::Operator(OperatorName::parse("ada").unwrap());
    let old = plain(&deployment.authority, &name, &[], early, &OsEntropy).unwrap();
    let place = deployment.dir.path().join("old");
    old.write(&place).unwrap();
    let failure = deployment.client(&place).unwrap_err();
    assert_eq!(failure.exit, Exit::Config);
    assert!(failure.what.contains("expired at 2001"), "{failure}");
    assert!(deployment.audit().await.is_empty());
}

#[tokio::test]
async fn a_port_that_speaks_no_tls_or_is_no_gateways_is_told_apart() {
    let deployment = start().await;
    let plain_port = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = plain_port.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = plain_port.accept().await {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            let _ = stream.read(&mut [0; 1024]).await;
        }
    });
    let ada = deployment.path("operators/ada");
    let client = Client::new(Address::Https(at), Some(&ada)).unwrap();
    let failure = client.read::<Status>("/v1/status").await.unwrap_err();
    assert_eq!(failure.exit, Exit::Unavailable);
    assert!(failure.to_string().contains("listen.api"), "{failure}");
    let nobody = Client::new(Address::Https("127.0.0.1:1".to_owned()), Some(&ada)).unwrap();
    let failure = nobody.read::<Status>("/v1/status").await.unwrap_err();
    assert!(failure.to_string().contains("firewall"), "{failure}");
}

#[tokio::test]
async fn a_machine_trusts_only_the_gateway_that_its_token_names() {
    let (ours, other) = (start().await, start().await);
    let token = ours.token("web-2").await.token;
    let mut parsed = keywheel_identity::token::JoinToken::parse(&token).unwrap();
    let leads_to = other.token("web-2").await.token;
    parsed.address = keywheel_identity::token::JoinToken::parse(&leads_to)
        .unwrap()
        .address;
    let text = String::from_utf8(parsed.text().expose().to_vec()).unwrap();
    let place = ours.dir.path().join("machine");
    let failure = join_as(&text, &place).await.unwrap_err();
    assert!(matches!(failure, JoinError::Tls { .. }), "{failure}");
    assert!(
        failure.to_string().contains("another deployment"),
        "{failure}"
    );
    parsed.address = "127.0.0.1:1".to_owned();
    let text = String::from_utf8(parsed.text().expose().to_vec()).unwrap();
    let failure = join_as(&text, &place).await.unwrap_err();
    assert!(
        matches!(failure, JoinError::Unreachable { .. }),
        "{failure}"
    );
    let failure = join_as("kwjoin1.x", &place).await.unwrap_err();
    assert!(matches!(failure, JoinError::Token(_)), "{failure}");
    assert_eq!(join_as(&token, &place).await.unwrap(), "web-2");
}
