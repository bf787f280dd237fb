//! A gateway with a deployment's credentials for tests, its ports on loopback, and clients of all kinds.

use std::path::PathBuf;
use std::time::Duration;

use keywheel_core::host::refused_keys;
use keywheel_core::id::{HostId, JoinTokenId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::clock::Clock as _;
use keywheel_identity::authority::Authority;
use keywheel_identity::bundle::Bundle;
use keywheel_identity::enrol::{JoinAnswer, Joining};
use keywheel_identity::init::{Home, NewDeployment, init, plain};
use keywheel_identity::name::{OperatorName, PeerName};
use keywheel_identity::tls::{
    Admit, Binding, PeerKind, TlsIdentity, binding, join_client_config, return_client_config,
    token_client_config,
};
use keywheel_identity::token::JoinToken;
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::UnsealKey;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::door::Spans;
use crate::http::TokenMaker as _;
use crate::join::{self, JoinServer};
use crate::registry::{Registry, Told};
use crate::remote::RemoteServer;

const BEGIN: Duration = Duration::from_secs(1_800_000_000);
/// Life of the credentials that are given out.
pub(crate) const LIFETIME: Duration = Duration::from_secs(600);
const PATIENCE: Duration = Duration::from_secs(120);

/// A deployment: a gateway that serves both ports, and whoever may come.
pub(crate) struct Members {
    pub(crate) bench: Bench,
    pub(crate) registry: Arc<Registry>,
    pub(crate) authority: Authority,
    operators_port: String,
    tokens_port: String,
    join_port: String,
    stop: CancellationToken,
    dir: TempDir,
}

fn deployment() -> DeploymentId {
    DeploymentId::from_bytes([9; 16])
}

pub(crate) fn ada() -> PeerName {
    PeerName::Operator(OperatorName::parse("ada").unwrap())
}

pub(crate) fn gateways() -> Admit {
    Admit::only([PeerKind::Service(Role::Gateway)])
}

/// An HTTP request that asks for the connection's end.
pub(crate) fn http(line: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nhost: k\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    [head.as_bytes(), body].concat()
}

impl Members {
    pub(crate) async fn start(spans: Spans) -> Self {
        let mut bench = Bench::start().await;
        bench.clock.advance(BEGIN);
        let now = bench.clock.now();
        let dir = tempfile::tempdir().unwrap();
        let out = dir.path().join("deployment");
        let unseal = UnsealKey::generate(&OsEntropy);
        let new = NewDeployment {
            deployment: deployment(),
            authority: Authority::create(deployment(), now, &OsEntropy).unwrap(),
            operator: OperatorName::parse("ada").unwrap(),
            addresses: [(Role::Scheduler, vec!["scheduler.example".to_owned()])].into(),
            servers: Vec::new(),
            urls: Vec::new(),
            tls: true,
            unseal: &unseal,
            entropy: &OsEntropy,
            now,
        };
        init(&out, &new).unwrap();
        let home = Home::new(out.join("gateway"));
        let authority = home.authority(&unseal).unwrap();
        let (bundle, identity) = Bundle::read_speaker(&out.join("gateway")).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let joins = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let told = Told {
            trust: identity.trust,
            servers: vec!["tls://bus.example:4222".to_owned()],
            join_address: joins.local_addr().unwrap().to_string(),
            lifetime: LIFETIME,
        };
        let registry = Registry::open(home, unseal, told, Arc::new(OsEntropy)).unwrap();
        let registry = Arc::new(registry);
        bench.api.join_tokens = Some(registry.clone());
        let credentials = bundle.tls.credentials(deployment()).unwrap();
        let tls = TlsIdentity::new(deployment(), credentials, bench.clock.clone());
        let stop = CancellationToken::new();
        let operators_port = listener.local_addr().unwrap().to_string();
        let join_port = joins.local_addr().unwrap().to_string();
        let remote = RemoteServer::new(bench.api.clone(), &tls, spans).unwrap();
        tokio::spawn(remote.run(listener, stop.clone()));
        let tokens = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tokens_port = tokens.local_addr().unwrap().to_string();
        let remote = RemoteServer::with_tokens(bench.api.clone(), &tls, spans).unwrap();
        tokio::spawn(remote.run(tokens, stop.clone()));
        let join = JoinServer::new(bench.api.clone(), registry.clone(), &tls, spans).unwrap();
        tokio::spawn(join.run(joins, stop.clone()));
        Self {
            bench,
            registry,
            authority,
            operators_port,
            tokens_port,
            join_port,
            stop,
            dir,
        }
    }

    /// Evicts a host in the log; what that refuses is nobody told yet.
    pub(crate) async fn evict(&self, host: HostId) {
        let submission = Submission {
            id: CommandId::from_bytes(self.bench.api.ids.draw()),
            principal: Principal::Operator {
                name: "ada".to_owned(),
            },
            traceparent: None,
            command: Command::EvictHost {
                host,
                reason: "stolen".to_owned(),
            },
        };
        self.bench.api.commands.submit(submission).await.unwrap();
    }

    /// Refuses every key of evicted hosts on the bus; gives how many are new.
    pub(crate) fn refuse(&self) -> usize {
        let keys = refused_keys(&self.bench.api.view.read().world);
        self.registry.refuse(&keys, self.now()).unwrap()
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.bench.clock.now()
    }

    /// What `init` wrote for someone.
    pub(crate) fn credentials_of(&self, who: &str) -> PathBuf {
        self.dir.path().join("deployment").join(who)
    }

    /// A client with fresh credentials of this name, issued by this authority.
    pub(crate) fn client(&self, authority: &Authority, name: &PeerName) -> ClientConfig {
        let now = self.now();
        let bundle = plain(authority, name, &[], now, &OsEntropy).unwrap();
        self.client_of(&bundle)
    }

    pub(crate) fn client_of(&self, bundle: &Bundle) -> ClientConfig {
        let credentials = bundle.tls.credentials(deployment()).unwrap();
        let identity = TlsIdentity::new(deployment(), credentials, self.bench.clock.clone());
        identity.client_config(gateways()).unwrap()
    }

    /// An authority of the same deployment's id that is another one.
    pub(crate) fn foreign(&self) -> Authority {
        Authority::create(deployment(), self.now(), &OsEntropy).unwrap()
    }

    pub(crate) async fn dial_operators(&self) -> TcpStream {
        TcpStream::connect(&self.operators_port).await.unwrap()
    }

    pub(crate) async fn dial_join(&self) -> TcpStream {
        TcpStream::connect(&self.join_port).await.unwrap()
    }

    /// Asks at the operators' port; all that is answered, or why nothing is.
    pub(crate) async fn ask(&self, client: ClientConfig, request: &[u8]) -> Result<String, String> {
        exchange(self.dial_operators().await, client, request).await
    }

    /// The same at a port that takes tokens.
    pub(crate) async fn ask_with_tokens(
        &self,
        client: ClientConfig,
        request: &[u8],
    ) -> Result<String, String> {
        let stream = TcpStream::connect(&self.tokens_port).await.unwrap();
        exchange(stream, client, request).await
    }

    /// A connection with that port that stays open.
    pub(crate) async fn shake_tokens(&self, client: ClientConfig) -> TlsStream<TcpStream> {
        let stream = TcpStream::connect(&self.tokens_port).await.unwrap();
        shake(stream, client).await.unwrap()
    }

    /// A client that shows no certificate, and knows a gateway by the deployment's roots alone.
    pub(crate) fn bare_client(&self) -> ClientConfig {
        let clock = self.bench.clock.clone();
        token_client_config(&self.authority.roots_pem(), clock).unwrap()
    }

    /// Posts a body at the join port.
    pub(crate) async fn post(&self, token: &JoinToken, body: &[u8]) -> Result<String, String> {
        let line = format!("POST {}", join::PATH);
        self.ask_join(token, &line, body).await
    }

    /// Asks for anything there.
    pub(crate) async fn ask_join(
        &self,
        token: &JoinToken,
        line: &str,
        body: &[u8],
    ) -> Result<String, String> {
        let clock = self.bench.clock.clone();
        let client = join_client_config(token.deployment, token.pin, clock).unwrap();
        exchange(self.dial_join().await, client, &http(line, body)).await
    }

    /// Posts at the join port as a host does whose credentials have ended; `make` sees what the
    /// connection is bound to.
    pub(crate) async fn come_back(
        &self,
        bundle: &Bundle,
        make: impl FnOnce(&Binding) -> Vec<u8>,
    ) -> Result<String, String> {
        let clock = self.bench.clock.clone();
        let client = return_client_config(deployment(), &bundle.tls.roots_pem, clock).unwrap();
        let stream = shake(self.dial_join().await, client).await?;
        let asked = make(&binding(stream.get_ref().1).unwrap());
        let request = http(&format!("POST {}", join::RETURN_PATH), &asked);
        converse(stream, &request).await
    }

    /// A token that is open, for a name.
    pub(crate) async fn token(&self, name: &str) -> JoinToken {
        let ids = &self.bench.api.ids;
        let (host, token) = (
            HostId::from_bytes(ids.draw()),
            JoinTokenId::from_bytes(ids.draw()),
        );
        let name = HostName::parse(name).unwrap();
        let made = self.registry.make(host, token, &name, self.now()).unwrap();
        let submission = Submission {
            id: CommandId::from_bytes(ids.draw()),
            principal: Principal::Operator {
                name: "ada".to_owned(),
            },
            traceparent: None,
            command: Command::IssueJoinToken(made.request),
        };
        self.bench.api.commands.submit(submission).await.unwrap();
        // EXPOSE: a test hands the token to its machine.
        let text = String::from_utf8(made.text.expose().to_vec()).unwrap();
        JoinToken::parse(&text).unwrap()
    }

    /// A machine that joins.
    pub(crate) async fn join(&self, name: &str) -> Bundle {
        let token = self.token(name).await;
        let joining = Joining::begin(&token, &OsEntropy).unwrap();
        let body = serde_json::to_vec(&joining.ask(&token)).unwrap();
        let said = self.post(&token, &body).await.unwrap();
        joining.accept(&answer(&said), self.now()).unwrap()
    }

    /// Audit records that have all of these words, whatever their case.
    pub(crate) async fn records(&self, words: &[&str]) -> Vec<String> {
        let mut audit = self.bench.audit().await;
        audit.retain(|record| {
            let record = record.to_lowercase();
            words.iter().all(|word| record.contains(word))
        });
        audit
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The answer to who joined.
pub(crate) fn answer(said: &str) -> JoinAnswer {
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    serde_json::from_str(body(said)).unwrap()
}

pub(crate) fn body(said: &str) -> &str {
    said.split_once("\r\n\r\n").unwrap().1
}

/// All there is until the other side closes.
pub(crate) async fn rest(mut stream: impl tokio::io::AsyncRead + Unpin) -> Result<String, String> {
    let mut bytes = Vec::new();
    let reading = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes));
    let read = reading.await.expect("the other side closes");
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match read {
        // Closed without TLS's goodbye after an answer: an end like any other.
        Err(error) if text.is_empty() => Err(keywheel_identity::tls::explain(&error)
            .map_or_else(|| error.to_string(), |refusal| refusal.to_string())),
        _ => Ok(text),
    }
}

async fn exchange(
    stream: TcpStream,
    client: ClientConfig,
    request: &[u8],
) -> Result<String, String> {
    converse(shake(stream, client).await?, request).await
}

async fn shake(stream: TcpStream, client: ClientConfig) -> Result<TlsStream<TcpStream>, String> {
    let why = |error: std::io::Error| {
        keywheel_identity::tls::explain(&error)
            .map_or_else(|| error.to_string(), |refusal| refusal.to_string())
    };
    let name = ServerName::try_from("gateway.example").unwrap();
    let connector = TlsConnector::from(Arc::new(client));
    connector.connect(name, stream).await.map_err(why)
}

async fn converse(mut stream: TlsStream<TcpStream>, request: &[u8]) -> Result<String, String> {
    // Who is refused may be cut off while it writes; the reason is read.
    let _cut = stream.write_all(request).await;
    rest(stream).await
}
