//! Logins that a real OpenBao lends of a real PostgreSQL, tried there with the real cache: one that was revoked is
//! refused, which shows that it is dead; one that the server has still, whatever OpenBao says, is let in, and nothing is
//! shown.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use async_trait::async_trait;
use keywheel_cache::Cache;
use keywheel_core::effect::{Outside, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::name::StoreName;
use keywheel_core::resource::{Kind, Probe};
use keywheel_core::revocation::{Answer, Proof};
use keywheel_core::rotation::Step;
use keywheel_core::store::{
    Backend, CredentialRef, DEFAULT_POLL, DEFAULT_TIMEOUT, NamedStore, OldVersions, Source,
    StoreSpec, VaultAuth, VaultSpec,
};
use keywheel_engine::port::rotator::Rotator as _;
use keywheel_engine::port::store::{Connect as _, Credentials};
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_rotators::ProbedRotator;
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_stores::policy::{Access, Grant, policy};
use keywheel_stores::{Connector, LeaseRotator};
use keywheel_testkit::conformance::store::{kind, plenty};
use keywheel_testkit::server::openbao::OpenBao;
use keywheel_testkit::server::postgres::{PASSWORD, PostgresServer, USER};
use tempfile::TempDir;

use crate::{DEPLOYMENT, clock};

const SECRET: SecretId = SecretId::from_bytes([0x4e; 16]);
const DATABASE: &str = "shop";
const CREATION: &str =
    r#"CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'"#;
/// The logins that the database has.
const LOGINS: &str = "SELECT rolname FROM pg_roles WHERE rolname LIKE 'v-%'";

struct Token(String);

#[async_trait]
impl Credentials for Token {
    async fn read(&self, _: &CredentialRef) -> Result<SecretBytes, PortError> {
        Ok(SecretBytes::from(self.0.as_bytes().to_vec()))
    }
}

/// A server that lends logins of another one: `app` ends them there, `left` forgets to.
struct Bank {
    bao: OpenBao,
    postgres: PostgresServer,
    vault: Arc<dyn VersionVault>,
    token: String,
    _directory: TempDir,
}

fn spec(bao: &OpenBao) -> StoreSpec {
    StoreSpec {
        backend: Backend::Vault(VaultSpec {
            address: format!("http://{}", bao.address()),
            namespace: String::new(),
            mount: "secret".to_owned(),
            ca_file: String::new(),
            old_versions: OldVersions::Destroy,
            auth: VaultAuth::Token {
                token: CredentialRef::File("/token".to_owned()),
            },
        }),
        poll: DEFAULT_POLL,
        timeout: DEFAULT_TIMEOUT,
    }
}

fn role(name: &str) -> Source {
    Source {
        path: format!("database/creds/{name}"),
        field: String::new(),
    }
}

/// A token with the policy that is printed for both roles, and nothing more.
fn token(bao: &OpenBao) -> String {
    let grants = ["app", "left"].map(|name| Grant {
        source: role(name),
        access: Access::Read,
    });
    let printed = policy(&spec(bao), &grants);
    let body = format!("{{\"policy\":{printed:?}}}");
    bao.must("PUT", "sys/policies/acl/printed", &[], &body);
    let body = r#"{"policies":["printed"],"no_default_policy":true}"#;
    let made = bao.must("POST", "auth/token/create", &[], body);
    let (_, rest) = made.split_once(r#""client_token":""#).unwrap();
    rest.split('"').next().unwrap().to_owned()
}

impl Bank {
    async fn open() -> Self {
        let (bao, postgres) = (OpenBao::start(None), PostgresServer::start());
        let _url = postgres.database(DATABASE);
        bao.must("POST", "sys/mounts/database", &[], r#"{"type":"database"}"#);
        let place = postgres.place();
        let host = place.trim_start_matches("postgres://");
        let config = format!(
            r#"{{"plugin_name":"postgresql-database-plugin","allowed_roles":"app,left","connection_url":"postgresql://{{{{username}}}}:{{{{password}}}}@{host}/{DATABASE}?sslmode=disable","username":"{USER}","password":"{PASSWORD}"}}"#
        );
        bao.must("POST", "database/config/shop", &[], &config);
        for (name, ending) in [
            ("app", ""),
            ("left", r#","revocation_statements":["SELECT 1"]"#),
        ] {
            let role = format!(
                r#"{{"db_name":"shop","creation_statements":["{CREATION}"],"default_ttl":"1h","max_ttl":"24h"{ending}}}"#
            );
            bao.must("POST", &format!("database/roles/{name}"), &[], &role);
        }
        let directory = tempfile::tempdir().unwrap();
        let closed = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(directory.path(), closed).unwrap();
        let (key, entropy) = (UnsealKey::generate(&OsEntropy), Arc::new(OsEntropy));
        let path = directory.path().join("cache.db");
        let cache = Cache::open(&path, DEPLOYMENT, key, entropy, clock());
        let vault: Arc<dyn VersionVault> = Arc::new(cache.await.unwrap());
        Self {
            token: token(&bao),
            bao,
            postgres,
            vault,
            _directory: directory,
        }
    }

    fn outside(&self, name: &str) -> Outside {
        Outside {
            store: NamedStore {
                name: StoreName::parse("bao").unwrap(),
                spec: spec(&self.bao),
            },
            source: role(name),
            known: None,
            fetch: None,
            retire: Vec::new(),
            unstage: None,
            probe: None,
        }
    }

    /// As store-sync makes it where a server is named.
    fn rotator(&self, name: &str, place: &str) -> ProbedRotator {
        let outside = self.outside(name);
        let (named, spec) = (&outside.store.name, &outside.store.spec);
        let connector = Connector::new(clock(), Arc::new(OsEntropy));
        let given = Arc::new(Token(self.token.clone()));
        let store = connector.connect(named, spec, given).unwrap();
        let leases = LeaseRotator::new(store, Arc::clone(&self.vault)).at(&outside);
        let connect = Arc::new(keywheel_rotators::Connector::new(Arc::new(OsEntropy)));
        let probe = Probe {
            kind: Kind::Postgres,
            connection: format!("{place}/{DATABASE}"),
            ca: None,
        };
        let nobody = Arc::new(Token(String::new()));
        let vault = Arc::clone(&self.vault);
        ProbedRotator::new(Arc::new(leases), (connect, nobody), vault, probe)
    }

    fn work(&self, name: &str, step: Step, version: u8) -> StepWork {
        StepWork {
            rotation: RotationId::from_bytes([version; 16]),
            secret: SECRET,
            step,
            attempt: 1,
            versions: vec![version.into()],
            generator: None,
            provided: false,
            outside: Some(Box::new(self.outside(name))),
            resource: None,
            mark: None,
        }
    }

    /// A login is lent, let in by its server, and ended by OpenBao.
    async fn lent_and_ended(&self, name: &str, version: u8) -> ProbedRotator {
        let (rotator, until) = (self.rotator(name, &self.postgres.place()), plenty());
        let work = |step| self.work(name, step, version);
        rotator.create(&work(Step::Create), &until).await.unwrap();
        for _ in 0..2 {
            rotator.test(&work(Step::Test), &until).await.unwrap();
        }
        let alive = proven(&rotator, version).await;
        assert_eq!(answers(&alive), [Answer::LeaseAlive, Answer::Accepted]);
        self.disable(&rotator, name, version).await;
        assert!(self.vault.has(SECRET, version.into()).await.unwrap());
        rotator
    }

    async fn disable(&self, rotator: &ProbedRotator, name: &str, version: u8) {
        let (versions, at, until) = ([u64::from(version)], self.outside(name), plenty());
        for _ in 0..2 {
            let disabled = rotator.disable(SECRET, &versions, Some(&at), &until);
            disabled.await.unwrap();
        }
    }
}

async fn proven(rotator: &ProbedRotator, version: u8) -> Proof {
    let proof = rotator
        .prove(SECRET, &[u64::from(version)], &plenty())
        .await;
    proof.unwrap_or_else(|error| panic!("{error}: {:?}", error.source))
}

fn answers(proof: &Proof) -> Vec<Answer> {
    proof.evidence.iter().map(|one| one.answer).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revoked_login_is_refused_by_its_server_and_one_that_its_store_left_there_is_let_in() {
    let mut bank = Bank::open().await;
    let rotator = bank.lent_and_ended("app", 1).await;
    let dead = proven(&rotator, 1).await;
    assert_eq!(answers(&dead), [Answer::LeaseGone, Answer::WrongPassword]);
    assert_eq!(dead.lacking, None);
    let port = bank.postgres.place();
    let port = port.trim_start_matches("postgres://");
    assert!(
        dead.evidence[1]
            .place
            .ends_with(&format!("postgres at {port}"))
    );
    // Its store says that it is gone, and the server has it still.
    let left_there = bank.lent_and_ended("left", 2).await;
    let alive = proven(&left_there, 2).await;
    assert_eq!(answers(&alive), [Answer::LeaseGone, Answer::Accepted]);
    bank.disable(&left_there, "left", 2).await;
    let alive = proven(&left_there, 2).await;
    assert_eq!(answers(&alive), [Answer::LeaseGone, Answer::Accepted]);
    let left = bank.postgres.psql(DATABASE, LOGINS);
    let drop = format!("DROP ROLE \"{}\"", left.trim());
    let _done = bank.postgres.psql(DATABASE, &drop);
    let dropped = proven(&left_there, 2).await;
    assert_eq!(
        answers(&dropped),
        [Answer::LeaseGone, Answer::WrongPassword]
    );
    // A server that is away proves nothing, and is asked again.
    bank.postgres.kill();
    let unanswered = rotator.prove(SECRET, &[1], &plenty()).await;
    assert_eq!(kind(unanswered), ErrorKind::Unavailable);
    bank.postgres.restart();
    assert_eq!(answers(&proven(&rotator, 1).await), answers(&dead));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_of_another_server_than_the_one_that_is_named_is_given_to_nobody_and_proves_nothing()
 {
    let (bank, elsewhere) = (Bank::open().await, PostgresServer::start());
    let _url = elsewhere.database(DATABASE);
    let (rotator, until) = (bank.rotator("app", &elsewhere.place()), plenty());
    let work = |step| bank.work("app", step, 1);
    rotator.create(&work(Step::Create), &until).await.unwrap();
    let refused = rotator.test(&work(Step::Test), &until).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
    assert!(refused.text.contains("`probe`"), "{refused}");
    bank.disable(&rotator, "app", 1).await;
    let unknown = proven(&rotator, 1).await;
    assert_eq!(answers(&unknown), [Answer::LeaseGone]);
    assert!(unknown.lacking.unwrap().contains("was not tried"));
    // Nor at its own server, if that is named afterwards.
    let named = bank.rotator("app", &bank.postgres.place());
    let unknown = proven(&named, 1).await;
    assert_eq!(answers(&unknown), [Answer::LeaseGone]);
    assert!(unknown.lacking.is_some());
}
