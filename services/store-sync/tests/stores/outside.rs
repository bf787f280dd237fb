//! A store outside at its real server: the adapter goes by way of a proxy that does wrong, the other
//! hand straight to the server.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_cache::Cache;
use keywheel_core::effect::Outside;
use keywheel_core::id::RotationId;
use keywheel_core::name::StoreName;
use keywheel_core::store::{
    AwsAuth, AwsSpec, Backend, CredentialRef, NamedStore, OldVersions, RemoteVersion, Source,
    StoreSpec, VaultAuth, VaultSpec,
};
use keywheel_engine::port::rotator::Rotator;
use keywheel_engine::port::store::{Connect as _, Credentials, Store};
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_stores::{Connector, RemoteRotator};
use keywheel_testkit::conformance::rotator::Home;
use keywheel_testkit::conformance::rotator::faults::{Fault, Faulty, SLOW};
use keywheel_testkit::conformance::store::{FIELD, kind, plenty};
use keywheel_testkit::fake::FakeClock;
use keywheel_testkit::server::aws::{AwsServer, Maker};
use keywheel_testkit::server::fault::{Fault as Wrong, FaultProxy};
use keywheel_testkit::server::openbao::{OpenBao, ROOT};
use tempfile::TempDir;

use crate::{DEPLOYMENT, clock};

/// Long enough for a busy machine; a slow server is left earlier, at the deadline.
const TIMEOUT: Duration = Duration::from_secs(8);
/// After so long a refused login is tried again.
const HOUR: Duration = Duration::from_secs(3600);
const MOUNT: &str = "team/kv";

/// One credential, wherever it is asked for.
struct Given(&'static str);

#[async_trait]
impl Credentials for Given {
    async fn read(&self, _: &CredentialRef) -> Result<SecretBytes, PortError> {
        Ok(SecretBytes::from(self.0.as_bytes().to_vec()))
    }
}

/// What of a server's protocol the faults have to know.
struct Words {
    /// In the head of the request that makes a value current.
    write: &'static str,
    /// In the head of the request that makes a version unusable.
    revoke: &'static str,
    /// The body that says of both that they were done.
    done: [&'static str; 2],
    /// The answer to a credential that is good no more.
    expired: (u16, &'static str),
}

const OPENBAO: Words = Words {
    write: "PATCH /v1/team/kv/data/",
    revoke: "PUT /v1/team/kv/destroy/",
    done: [
        r#"{"data":{"version":2,"created_time":"2026-11-28T00:00:00Z","destroyed":false}}"#,
        "{}",
    ],
    expired: (403, r#"{"errors":["permission denied"]}"#),
};

const AWS: Words = Words {
    write: "secretsmanager.UpdateSecretVersionStage",
    revoke: "secretsmanager.UpdateSecretVersionStage",
    done: ["{}", "{}"],
    expired: (
        400,
        r#"{"__type":"ExpiredTokenException","message":"it has expired"}"#,
    ),
};

/// A server; it ends with its value.
type Server = Box<dyn std::any::Any + Send + Sync>;

/// A store, its cache, and the way to it.
pub(crate) struct Elsewhere {
    cache: Arc<Cache>,
    rotator: Arc<RemoteRotator>,
    store: Arc<dyn Store>,
    hand: Arc<dyn Store>,
    named: NamedStore,
    proxy: FaultProxy,
    words: Words,
    clock: Arc<FakeClock>,
    places: AtomicU64,
    _server: Server,
    _directory: TempDir,
}

impl Elsewhere {
    pub(crate) async fn openbao() -> Self {
        let server = OpenBao::start(None);
        let engine = r#"{"type":"kv","options":{"version":"2"}}"#;
        server.must("POST", &format!("sys/mounts/{MOUNT}"), &[], engine);
        let proxy = FaultProxy::before(server.address()).await;
        let spec = |address: String| {
            Backend::Vault(VaultSpec {
                address,
                namespace: String::new(),
                mount: MOUNT.to_owned(),
                ca_file: String::new(),
                old_versions: OldVersions::Destroy,
                auth: VaultAuth::Token {
                    token: CredentialRef::File("/token".to_owned()),
                },
            })
        };
        let ways = [proxy.url(), format!("http://{}", server.address())].map(spec);
        Self::at(Box::new(server), proxy, ways, OPENBAO, ROOT).await
    }

    pub(crate) async fn aws(maker: Maker) -> Self {
        let server = AwsServer::start(maker);
        let proxy = FaultProxy::before(server.address()).await;
        let spec = |endpoint: String| {
            Backend::Aws(AwsSpec {
                region: "eu-central-1".to_owned(),
                endpoint,
                auth: AwsAuth::Keys {
                    access_key_id: "AKIAEXAMPLE".to_owned(),
                    secret_access_key: CredentialRef::File("/key".to_owned()),
                    session_token: None,
                },
            })
        };
        let ways = [proxy.url(), server.url()].map(spec);
        Self::at(Box::new(server), proxy, ways, AWS, "secret-key").await
    }

    async fn at(
        server: Server,
        proxy: FaultProxy,
        [by_proxy, straight]: [Backend; 2],
        words: Words,
        credential: &'static str,
    ) -> Self {
        let (clock, directory) = (clock(), tempfile::tempdir().unwrap());
        let name = StoreName::parse("elsewhere").unwrap();
        let connect = |backend: Backend| {
            let spec = StoreSpec {
                backend,
                poll: HOUR,
                timeout: TIMEOUT,
            };
            let connector = Connector::new(Arc::clone(&clock) as _, Arc::new(OsEntropy));
            let made = connector.connect(&name, &spec, Arc::new(Given(credential)));
            (made.unwrap(), spec)
        };
        let (store, spec) = connect(by_proxy);
        let (hand, _) = connect(straight);
        let closed = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(directory.path(), closed).unwrap();
        let path = directory.path().join("cache.db");
        let (key, entropy) = (UnsealKey::generate(&OsEntropy), Arc::new(OsEntropy));
        let cache = Cache::open(&path, DEPLOYMENT, key, entropy, crate::clock());
        let cache = Arc::new(cache.await.unwrap());
        let port: Arc<dyn VersionVault> = Arc::clone(&cache) as _;
        Self {
            rotator: Arc::new(RemoteRotator::new(
                Arc::clone(&store),
                port,
                Arc::new(OsEntropy),
            )),
            store,
            cache,
            hand,
            named: NamedStore { name, spec },
            proxy,
            words,
            clock,
            places: AtomicU64::new(0),
            _server: server,
            _directory: directory,
        }
    }
}

impl Elsewhere {
    /// The store by way of the proxy, its cache, and a place of its own there.
    pub(crate) fn store(&self) -> (Arc<dyn Store>, Arc<dyn VersionVault>, Outside) {
        let place = self.place().unwrap();
        (Arc::clone(&self.store), self.vault(), place)
    }

    /// Whether a value lies there before it is current.
    pub(crate) fn has_stage(&self) -> bool {
        matches!(self.named.spec.backend, Backend::Aws(_))
    }

    /// Whether a version has no label left, or where there are none is gone.
    pub(crate) async fn is_ended(&self, at: &Source, version: &RemoteVersion) -> bool {
        let until = plenty();
        if !self.has_stage() {
            let fetched = self.hand.fetch(at, version, &until).await;
            return kind(fetched) == ErrorKind::NotFound;
        }
        self.proxy.forget();
        self.store.revoke(at, version, &until).await.unwrap();
        self.proxy.asked(self.words.revoke) == 0
    }
}

#[async_trait]
impl Home for Elsewhere {
    fn rotator(&self) -> Arc<dyn Rotator> {
        Arc::clone(&self.rotator) as _
    }

    fn vault(&self) -> Arc<dyn VersionVault> {
        Arc::clone(&self.cache) as _
    }

    fn place(&self) -> Option<Outside> {
        let number = self.places.fetch_add(1, Ordering::Relaxed);
        Some(Outside {
            store: self.named.clone(),
            source: Source {
                path: format!("conformance/{number}"),
                field: FIELD.to_owned(),
            },
            known: None,
            fetch: None,
            retire: Vec::new(),
            unstage: None,
            probe: None,
        })
    }

    async fn there(&self, at: &Source) -> Option<(RemoteVersion, SecretBytes)> {
        let until = plenty();
        let seen = self.hand.look(at, &until).await.unwrap()?;
        let value = self.hand.fetch(at, &seen.version, &until).await;
        Some((seen.version, value.unwrap()))
    }

    async fn write(&self, at: &Source, value: &SecretBytes) {
        let (hand, until) = (&self.hand, plenty());
        let known = hand.look(at, &until).await.unwrap();
        let known = known.map(|seen| seen.version);
        let number = self.places.fetch_add(1, Ordering::Relaxed);
        let token = RotationId::from_bytes((u128::from(number) | 1 << 100).to_be_bytes());
        hand.stage(at, token, value, &until).await.unwrap();
        let made = hand.promote(at, token, value, known.as_ref(), &until);
        made.await.unwrap();
    }
}

#[async_trait]
impl Faulty for Elsewhere {
    async fn begin(&mut self, fault: Fault) {
        let Words {
            write,
            revoke,
            done,
            expired,
        } = &self.words;
        let proxy = &self.proxy;
        let once = |wrong: Wrong| {
            proxy.on(write, wrong.clone(), 1);
            proxy.on(revoke, wrong, 1);
        };
        match fault {
            Fault::Down => self.proxy.refuse().await,
            Fault::Slow => proxy.on("", Wrong::Hang(SLOW), u32::MAX),
            Fault::Busy => {
                proxy.on("", Wrong::Status(429, Some(0)), 1);
                proxy.on("", Wrong::Status(500, None), 1);
                proxy.on("", Wrong::Status(503, Some(0)), u32::MAX);
            }
            Fault::Half => once(Wrong::HalfAnswer),
            Fault::Lost => once(Wrong::DropAnswer),
            Fault::Lie => {
                proxy.on(write, Wrong::Lie(done[0].to_owned()), 1);
                proxy.on(revoke, Wrong::Lie(done[1].to_owned()), 1);
            }
            Fault::Expired => {
                let (status, body) = expired;
                proxy.on("", Wrong::Answer(*status, (*body).to_owned()), u32::MAX);
            }
            // The other hand writes.
            Fault::Newer => {}
        }
    }

    async fn end(&mut self) {
        self.proxy.heal();
        self.clock.advance(HOUR);
        // Twice would find its own listener there.
        self.proxy.refuse().await;
        self.proxy.listen().await;
    }

    fn serves(&self, _: Fault) -> bool {
        true
    }
}
