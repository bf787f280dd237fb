//! The password of an account at a real PostgreSQL that lies at a store outside, too: an incident kills it at the
//! server, takes back what was half-made at the store, and leaves there only what the store cannot be without; the
//! next rotation ends that.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::effect::{AtResource, Outside, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::name::SecretName;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_core::revocation::Answer;
use keywheel_core::rotation::Step;
use keywheel_core::secret::Generator;
use keywheel_core::store::{CredentialRef, RemoteVersion};
use keywheel_engine::port::PortError;
use keywheel_engine::port::accounts::Accounts as _;
use keywheel_engine::port::rotator::{Probed, Rotator as _};
use keywheel_engine::port::store::{Credentials, Store};
use keywheel_engine::port::vault::VersionVault;
use keywheel_rotators::AccountRotator;
use keywheel_rotators::postgres::PostgresAccounts;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_stores::KeptRotator;
use keywheel_testkit::conformance::store::plenty;
use keywheel_testkit::server::postgres::PostgresServer;

use crate::outside::Elsewhere;

const SECRET: SecretId = SecretId::from_bytes([0x41; 16]);
const DATABASE: &str = "shop";
const ADMIN: &str = "rotator";
const ADMIN_PASSWORD: &str = "pw-of-the-admin";
/// How many of the accounts may sign in.
const OPEN: &str =
    "SELECT count(*) FROM pg_authid WHERE rolname IN ('app', 'app_b') AND rolcanlogin";

struct Admin;

#[async_trait]
impl Credentials for Admin {
    async fn read(&self, _: &CredentialRef) -> Result<SecretBytes, PortError> {
        Ok(SecretBytes::from(ADMIN_PASSWORD.as_bytes().to_vec()))
    }
}

/// A server with two accounts that alternate, and a store in which their passwords lie.
struct Shop {
    server: PostgresServer,
    resource: Resource,
    store: Arc<dyn Store>,
    vault: Arc<dyn VersionVault>,
    place: Outside,
}

impl Shop {
    fn open(elsewhere: &Elsewhere) -> Self {
        let server = PostgresServer::start();
        let _url = server.database(DATABASE);
        let place = server.place();
        let (scheme, host) = place.split_once("://").unwrap();
        let resource = Resource {
            kind: Kind::Postgres,
            connection: format!("{scheme}://{ADMIN}@{host}/{DATABASE}"),
            accounts: vec!["app".to_owned(), "app_b".to_owned()],
            admin: SecretName::parse("shop/admin").unwrap(),
            strategy: Strategy::AlternatingUsers,
            ca: None,
        };
        let (store, vault, place) = elsewhere.store();
        let shop = Self {
            server,
            resource,
            store,
            vault,
            place,
        };
        let _done = shop.psql(&format!(
            "CREATE ROLE \"app\" LOGIN;\n{}\nALTER ROLE {ADMIN} PASSWORD '{ADMIN_PASSWORD}'",
            shop.accounts().grants()
        ));
        shop
    }

    fn psql(&self, sql: &str) -> String {
        self.server.psql(DATABASE, sql)
    }

    fn accounts(&self) -> PostgresAccounts {
        let (resource, entropy) = (self.resource.clone(), Arc::new(OsEntropy));
        PostgresAccounts::new(resource, Arc::new(Admin), entropy).unwrap()
    }

    /// As it is decided for work while this version is current.
    fn rotator(&self, current: Option<u64>) -> KeptRotator {
        let plan = AtResource {
            resource: self.resource.clone(),
            admin: None,
            current,
            kept: Vec::new(),
            unclear: false,
        };
        let vault = Arc::clone(&self.vault);
        let accounts: Arc<PostgresAccounts> = Arc::new(self.accounts());
        let accounts = AccountRotator::new(accounts, plan, vault, Arc::new(OsEntropy));
        let (store, vault) = (Arc::clone(&self.store), Arc::clone(&self.vault));
        KeptRotator::new(Arc::new(accounts), store, vault)
    }

    fn work(&self, step: Step, version: u8, known: Option<&RemoteVersion>) -> StepWork {
        StepWork {
            rotation: token(version),
            secret: SECRET,
            step,
            attempt: 1,
            versions: vec![version.into()],
            generator: Some(Generator::default()),
            provided: false,
            outside: Some(Box::new(Outside {
                known: known.cloned(),
                ..self.place.clone()
            })),
            resource: None,
            mark: None,
        }
    }

    /// The steps up to this one, each twice.
    async fn step_to(
        &self,
        last: Step,
        version: u8,
        (current, known): (Option<u64>, Option<&RemoteVersion>),
    ) -> Option<RemoteVersion> {
        let (rotator, until) = (self.rotator(current), plenty());
        for step in [Step::Create, Step::Set, Step::Test, Step::Finish] {
            let work = self.work(step, version, known);
            for _ in 0..2 {
                match step {
                    Step::Create => rotator.create(&work, &until).await.unwrap(),
                    Step::Set => rotator.set(&work, &until).await.unwrap(),
                    Step::Test => rotator.test(&work, &until).await.unwrap(),
                    _ => {
                        if let Probed::Done(made) = rotator.probe(&work, &until).await.unwrap() {
                            return made;
                        }
                        rotator.finish(&work, &until).await.unwrap();
                    }
                }
            }
            if step == last {
                return None;
            }
        }
        None
    }

    async fn is_staged(&self, version: u8) -> bool {
        let (at, until) = (&self.place.source, plenty());
        self.store
            .probe_stage(at, token(version), &until)
            .await
            .unwrap()
    }

    async fn current_there(&self) -> Option<RemoteVersion> {
        let seen = self
            .store
            .look(&self.place.source, &plenty())
            .await
            .unwrap();
        seen.map(|seen| seen.version)
    }
}

const fn token(version: u8) -> RotationId {
    RotationId::from_bytes([version; 16])
}

/// Revokes the current version and the one that a rotation has half made, as `--emergency` does.
pub(crate) async fn an_incident_kills_it_at_the_server_and_clears_the_store(elsewhere: &Elsewhere) {
    let shop = Shop::open(elsewhere);
    let until = plenty();
    let first = shop.step_to(Step::Finish, 1, (None, None)).await;
    let first = first.expect("it is current there");
    assert_eq!(shop.current_there().await.as_ref(), Some(&first));
    let _none = shop.step_to(Step::Set, 2, (Some(1), Some(&first))).await;
    assert_eq!(shop.is_staged(2).await, elsewhere.has_stage());
    assert_eq!(shop.psql(OPEN), "2", "both accept their passwords");
    let at = Outside {
        known: Some(first.clone()),
        unstage: Some(token(2)),
        ..shop.place.clone()
    };
    let rotator = shop.rotator(None);
    let alive = rotator.prove(SECRET, &[1, 2], &until).await.unwrap();
    let answers = |answer: Answer, proof: &keywheel_core::revocation::Proof| {
        let same = proof.evidence.iter().filter(|one| one.answer == answer);
        same.count()
    };
    assert_eq!(answers(Answer::Accepted, &alive), 2, "{alive:?}");
    for _ in 0..2 {
        let disabled = rotator.disable(SECRET, &[1, 2], Some(&at), &until);
        disabled.await.unwrap();
    }
    assert_eq!(shop.psql(OPEN), "0");
    assert!(!shop.is_staged(2).await);
    assert_eq!(
        shop.current_there().await.as_ref(),
        Some(&first),
        "no store is without one"
    );
    let dead = rotator.prove(SECRET, &[1, 2], &until).await.unwrap();
    assert_eq!(
        (dead.evidence.len(), answers(Answer::Accepted, &dead)),
        (2, 0),
        "{dead:?}"
    );
    for version in [1, 2] {
        shop.vault.destroy(SECRET, version).await.unwrap();
    }
    // A fresh one takes its place, and what was left there ends.
    let third = shop.step_to(Step::Finish, 3, (None, Some(&first))).await;
    assert_eq!(shop.current_there().await, third);
    assert!(third.is_some_and(|third| third != first));
    let at = Outside {
        known: None,
        retire: vec![first.clone()],
        ..shop.place.clone()
    };
    let rotator = shop.rotator(Some(3));
    let retired = rotator.retire(SECRET, &[], Some(&at), &until);
    retired.await.unwrap();
    assert!(elsewhere.is_ended(&at.source, &first).await);
}
