//! Tests of leases whose logins are tried, over a store and a server in memory: what is let in and then refused is
//! proven, and nothing else is.

use std::time::Duration;

use keywheel_core::id::RotationId;
use keywheel_core::name::StoreName;
use keywheel_core::resource::Kind;
use keywheel_core::revocation::Answer;
use keywheel_core::rotation::Step;
use keywheel_core::store::{
    Backend, NamedStore, OldVersions, Source, StoreSpec, VaultAuth, VaultSpec,
};
use keywheel_seal::OsEntropy;
use keywheel_stores::LeaseRotator;
use keywheel_testkit::conformance::store::{kind, plenty};
use keywheel_testkit::fake::{FakeAccounts, FakeStore, FakeVault};

use super::*;
use crate::Connector;

const SECRET: SecretId = SecretId::from_bytes([1; 16]);
/// What the store in memory lends first, and its password.
const LOGIN: &str = "v-1";
const PASSWORD: &[u8] = b"canary-1";

struct World {
    store: Arc<FakeStore>,
    server: FakeAccounts,
    vault: Arc<FakeVault>,
}

struct Files;

#[async_trait]
impl Credentials for Files {
    async fn read(&self, _: &CredentialRef) -> Result<SecretBytes, PortError> {
        Ok(SecretBytes::from(b"-----BEGIN CERTIFICATE-----".to_vec()))
    }
}

fn probe(connection: &str) -> Probe {
    Probe {
        kind: Kind::Postgres,
        connection: connection.to_owned(),
        ca: None,
    }
}

fn outside() -> Outside {
    let backend = Backend::Vault(VaultSpec {
        address: "https://bao:8200".to_owned(),
        namespace: String::new(),
        mount: "kv".to_owned(),
        ca_file: String::new(),
        old_versions: OldVersions::Destroy,
        auth: VaultAuth::Token {
            token: CredentialRef::File("/token".to_owned()),
        },
    });
    let spec = StoreSpec {
        backend,
        poll: Duration::ZERO,
        timeout: Duration::ZERO,
    };
    Outside {
        store: NamedStore {
            name: StoreName::parse("bao").unwrap(),
            spec,
        },
        source: Source {
            path: "database/creds/app".to_owned(),
            field: String::new(),
        },
        known: None,
        fetch: None,
        retire: Vec::new(),
        unstage: None,
        probe: None,
    }
}

fn work(step: Step) -> StepWork {
    StepWork {
        rotation: RotationId::from_bytes([7; 16]),
        secret: SECRET,
        step,
        attempt: 1,
        versions: vec![1],
        generator: None,
        provided: false,
        outside: Some(Box::new(outside())),
        resource: None,
        mark: None,
    }
}

impl World {
    fn new() -> Self {
        Self {
            store: Arc::new(FakeStore::default()),
            server: FakeAccounts::single(),
            vault: Arc::new(FakeVault::default()),
        }
    }

    fn at(&self, connection: &str) -> ProbedRotator {
        let (store, vault) = (Arc::clone(&self.store), Arc::clone(&self.vault));
        let leases = LeaseRotator::new(store, vault).at(&outside());
        let connect = Arc::new(self.server.clone());
        let vault = Arc::clone(&self.vault);
        ProbedRotator::new(
            Arc::new(leases),
            (connect, Arc::new(Files)),
            vault,
            probe(connection),
        )
    }

    fn rotator(&self) -> ProbedRotator {
        self.at("postgres://db.example/shop")
    }

    /// The server has the login that the store lends first.
    fn make_login(&self) {
        self.server
            .change(LOGIN, &SecretBytes::from(PASSWORD.to_vec()));
    }

    /// As its store takes it from the server.
    fn drop_login(&self) {
        self.server
            .change(LOGIN, &SecretBytes::from(b"nobody's".to_vec()));
    }

    /// All steps that make a lease, each twice.
    async fn lent(&self) {
        self.make_login();
        let (rotator, until) = (self.rotator(), plenty());
        for _ in 0..2 {
            rotator.create(&work(Step::Create), &until).await.unwrap();
        }
        for _ in 0..2 {
            rotator.set(&work(Step::Set), &until).await.unwrap();
            rotator.test(&work(Step::Test), &until).await.unwrap();
        }
        rotator.finish(&work(Step::Finish), &until).await.unwrap();
    }

    async fn disabled(&self) {
        let (rotator, at, until) = (self.rotator(), outside(), plenty());
        let disabled = rotator.disable(SECRET, &[1], Some(&at), &until);
        disabled.await.unwrap();
    }
}

/// The classes of what was answered, and what is lacking.
async fn proven(rotator: &ProbedRotator) -> (Vec<Answer>, Option<String>) {
    let proof = rotator.prove(SECRET, &[1], &plenty()).await.unwrap();
    let answers = proof.evidence.iter().map(|one| one.answer).collect();
    (answers, proof.lacking)
}

#[tokio::test]
async fn a_login_that_was_let_in_and_is_refused_is_proven_by_one_login() {
    let world = World::new();
    world.lent().await;
    world.disabled().await;
    world.drop_login();
    let calls = world.server.calls();
    let (answers, lacking) = proven(&world.rotator()).await;
    assert_eq!(answers, [Answer::LeaseGone, Answer::Refused]);
    assert_eq!(lacking, None);
    assert_eq!(world.server.calls(), calls + 1, "one login, and no more");
    let proof = world
        .rotator()
        .prove(SECRET, &[1], &plenty())
        .await
        .unwrap();
    assert_eq!(
        proof.evidence[1].place,
        "account v-1 of postgres at db.example:5432"
    );
    assert!(!format!("{proof:?}").contains("canary"));
}

#[tokio::test]
async fn a_login_that_lives_on_though_its_store_says_that_it_is_gone_is_let_in() {
    let world = World::new();
    world.lent().await;
    world.disabled().await;
    let (answers, lacking) = proven(&world.rotator()).await;
    assert_eq!(answers, [Answer::LeaseGone, Answer::Accepted]);
    assert_eq!(lacking, None);
    // Somebody takes it from the server by hand: then it is.
    world.drop_login();
    let (answers, _) = proven(&world.rotator()).await;
    assert_eq!(answers, [Answer::LeaseGone, Answer::Refused]);
}

#[tokio::test]
async fn a_login_that_its_server_does_not_know_is_given_to_no_container_and_proves_nothing() {
    let world = World::new();
    let (rotator, until) = (world.rotator(), plenty());
    rotator.create(&work(Step::Create), &until).await.unwrap();
    let refused = rotator.test(&work(Step::Test), &until).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Denied);
    assert!(refused.text.contains("`probe`"), "{refused}");
    assert!(!format!("{refused:?}").contains("canary"));
    world.disabled().await;
    let calls = world.server.calls();
    let (answers, lacking) = proven(&rotator).await;
    assert_eq!(answers, [Answer::LeaseGone]);
    assert!(lacking.unwrap().contains("was not tried"));
    assert_eq!(world.server.calls(), calls, "it goes to no server");
}

#[tokio::test]
async fn a_server_that_was_named_later_hears_of_no_login_from_before() {
    let world = World::new();
    world.lent().await;
    world.disabled().await;
    world.drop_login();
    let calls = world.server.calls();
    let (_, lacking) = proven(&world.at("postgres://elsewhere.example/shop")).await;
    assert!(lacking.unwrap().contains("elsewhere.example:5432"));
    assert_eq!(world.server.calls(), calls);
    // The same one, however it is written, and whatever database of it.
    let (answers, lacking) = proven(&world.at("postgresql://DB.example:5432/stock")).await;
    assert_eq!((answers.len(), lacking), (2, None));
}

#[tokio::test]
async fn a_server_that_is_away_holds_up_the_proof_and_no_end_of_a_lease() {
    let world = World::new();
    world.lent().await;
    let away = || PortError::new(ErrorKind::Unavailable, "nobody answers");
    world.server.fail_next(away());
    world.disabled().await;
    assert_eq!(world.store.lender.alive(), []);
    let asked = world.rotator();
    let unanswered = asked.prove(SECRET, &[1], &plenty()).await;
    assert_eq!(kind(unanswered), ErrorKind::Unavailable);
    world.drop_login();
    let (answers, _) = proven(&world.rotator()).await;
    assert_eq!(answers, [Answer::LeaseGone, Answer::Refused]);
    world.server.fail_next(away());
    let (rotator, at, until) = (world.rotator(), outside(), plenty());
    let ended = rotator.revoke(SECRET, &[1], Some(&at), &until);
    ended.await.unwrap();
    assert_eq!(world.vault.value(SECRET, 1), None);
}

#[tokio::test]
async fn a_login_that_is_not_tried_in_time_is_tried_again_and_given_to_nobody_until_then() {
    let world = World::new();
    world.make_login();
    let (rotator, until) = (world.rotator(), plenty());
    rotator.create(&work(Step::Create), &until).await.unwrap();
    world
        .server
        .fail_next(PortError::new(ErrorKind::Unavailable, "nobody answers"));
    let tested = rotator.test(&work(Step::Test), &until).await;
    assert_eq!(kind(tested), ErrorKind::Unavailable);
    rotator.test(&work(Step::Test), &until).await.unwrap();
}

#[tokio::test]
async fn a_value_that_is_gone_or_damaged_is_said_to_be_lacking() {
    let world = World::new();
    world.lent().await;
    world.disabled().await;
    world.vault.damage(SECRET, 1);
    let (_, lacking) = proven(&world.rotator()).await;
    assert!(lacking.unwrap().contains("damaged"));
    world.vault.lose(SECRET, 1);
    let (answers, lacking) = proven(&world.rotator()).await;
    assert!(lacking.unwrap().contains("gone"));
    assert_eq!(answers, [Answer::LeaseGone]);
}

#[tokio::test]
async fn nobody_asks_for_an_admin_s_password_and_its_lack_tells_nothing_of_the_login() {
    let files = FilesOnly(Arc::new(Files));
    let file = CredentialRef::File("/ca.pem".to_owned());
    assert!(files.read(&file).await.is_ok());
    let secret = CredentialRef::Secret(SecretName::parse("shop/admin").unwrap());
    let lacking = files.read(&secret).await.map(drop).unwrap_err();
    assert!(TellsNothing::is_beneath(&lacking));
}

#[test]
fn every_kind_of_server_takes_the_connection() {
    let connector = Connector::new(Arc::new(OsEntropy));
    for (kind, connection) in [
        (Kind::Postgres, "postgres://db.example/shop"),
        (Kind::Postgres, "postgresql://%2Frun%2Fpostgresql/shop"),
        (Kind::Mariadb, "mysql://db.example"),
        (Kind::Redis, "rediss://db.example:7000"),
    ] {
        let named = Probe {
            kind,
            ..probe(connection)
        };
        let resource = resource_of(&named).unwrap();
        assert_eq!(resource.to_string(), named.to_string());
        let made = connector.connect(&resource, Arc::new(Files));
        assert!(made.is_ok(), "{connection}: {:?}", made.err());
    }
}
