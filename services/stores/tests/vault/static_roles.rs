//! Static roles of a database engine, at a real PostgreSQL: rotated when we say so and when somebody else
//! does, once, and no version but the current one lets anybody in.

use std::sync::Arc;

use keywheel_core::effect::{Outside as Place, StepWork};
use keywheel_core::id::SecretId;
use keywheel_core::name::StoreName;
use keywheel_core::rotation::Step;
use keywheel_core::secret::Generator;
use keywheel_core::store::{
    Backend, DEFAULT_POLL, DEFAULT_TIMEOUT, NamedStore, RemoteVersion, Source, StoreSpec, VaultAuth,
};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::rotator::{Probed, Rotator as _};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_stores::RemoteRotator;
use keywheel_stores::policy::{Access, Grant, policy};
use keywheel_testkit::conformance::store::{Outside as _, current, kind, plenty, refused, token};
use keywheel_testkit::fake::FakeVault;
use keywheel_testkit::server::fault::Fault;
use keywheel_testkit::server::postgres::{PASSWORD, PostgresServer, USER};

use super::bench::Bench;

/// The account, which the role is about.
const ACCOUNT: &str = "shop_app";
const ROTATE: &str = "shop/db/rotate-role/app";
const SECRET: SecretId = SecretId::from_bytes([1; 16]);

/// An engine with a role, and its database.
pub(crate) struct Shop {
    pub(crate) bench: Bench,
    database: PostgresServer,
}

impl Shop {
    pub(crate) async fn open() -> Self {
        let (bench, database) = (Bench::start().await, PostgresServer::start());
        let made = database.psql("postgres", &format!("CREATE ROLE {ACCOUNT} LOGIN"));
        assert_eq!(made, "");
        let place = database.place().replace("postgres://", "");
        let config = serde_json::json!({
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": "*",
            "connection_url":
                format!("postgresql://{{{{username}}}}:{{{{password}}}}@{place}/postgres?sslmode=disable"),
            "username": USER,
            "password": PASSWORD,
        });
        let role = serde_json::json!({
            "db_name": "shop", "username": ACCOUNT, "rotation_period": "24h",
        });
        bench.must("POST", "sys/mounts/shop/db", r#"{"type":"database"}"#);
        bench.must("POST", "shop/db/config/shop", &config.to_string());
        bench.must("POST", "shop/db/static-roles/app", &role.to_string());
        Self { bench, database }
    }

    pub(crate) fn at() -> Source {
        Source {
            path: "/shop/db/static-creds/app".to_owned(),
            field: "password".to_owned(),
        }
    }

    pub(crate) fn signs_in(&self, password: &SecretBytes) -> bool {
        let password = std::str::from_utf8(password.expose()).unwrap();
        self.database.signs_in("postgres", ACCOUNT, password)
    }

    /// How often the server was told to rotate, by us.
    pub(crate) fn told(&self) -> usize {
        self.bench.proxy.asked(&format!("POST /v1/{ROTATE} "))
    }

    fn spec(&self) -> StoreSpec {
        let auth = VaultAuth::Token {
            token: self.bench.kept.put("/token", "unused"),
        };
        StoreSpec {
            backend: Backend::Vault(self.bench.spec(auth)),
            poll: DEFAULT_POLL,
            timeout: DEFAULT_TIMEOUT,
        }
    }

    fn work(&self, step: Step, known: &RemoteVersion) -> StepWork {
        StepWork {
            rotation: token(2),
            secret: SECRET,
            step,
            attempt: 1,
            versions: vec![2],
            generator: Some(Generator::default()),
            provided: false,
            outside: Some(Box::new(Place {
                store: NamedStore {
                    name: StoreName::parse("vault").unwrap(),
                    spec: self.spec(),
                },
                source: Self::at(),
                known: Some(known.clone()),
                fetch: None,
                retire: Vec::new(),
                unstage: None,
                probe: None,
            })),
            resource: None,
            mark: None,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_is_rotated_once_whatever_answer_is_lost_and_only_its_current_version_opens() {
    let (shop, at) = (Shop::open().await, Shop::at());
    let (store, until) = (shop.bench.store(), plenty());
    store.check_use(&at, true, &until).await.unwrap();
    let first = current(&shop.bench, &at).await;
    let one = store.fetch(&at, &first, &until).await.unwrap();
    assert!(shop.signs_in(&one));
    let lost = format!("POST /v1/{ROTATE} ");
    shop.bench.proxy.on(&lost, Fault::DropAnswer, 1);
    let made = store.make(&at, Some(&first), &until).await;
    assert_eq!(kind(made), ErrorKind::Unavailable);
    let two = store.make(&at, Some(&first), &until).await.unwrap();
    assert_eq!(shop.told(), 1, "what was made is found");
    assert!(shop.signs_in(&two) && !shop.signs_in(&one));
    let found = store.probe_promote(&at, token(1), &two, Some(&first), &until);
    let second = found.await.unwrap().expect("it is current");
    let promoted = store.promote(&at, token(1), &two, Some(&first), &until);
    assert_eq!(promoted.await.unwrap(), second);
    assert_eq!(current(&shop.bench, &at).await, second);
    assert!(store.is_behind(&second, &first) && !store.is_behind(&first, &second));
    let gone = store.fetch(&at, &first, &until).await;
    assert_eq!(kind(gone), ErrorKind::NotFound);
    store.retire(&at, &first, &until).await.unwrap();
    let left = store.retire(&at, &second, &until).await;
    assert_eq!(kind(left), ErrorKind::Conflict, "it is in use");
    assert_eq!(shop.told(), 1, "what is gone opens nothing");
    assert!(shop.signs_in(&two));
    shop.bench.must("POST", ROTATE, "");
    let third = current(&shop.bench, &at).await;
    assert_ne!(third, second, "what somebody else rotates is seen");
    let promoted = store.promote(&at, token(1), &two, Some(&first), &until);
    assert_eq!(kind(promoted.await), ErrorKind::Conflict);
    let three = store.fetch(&at, &third, &until).await.unwrap();
    assert!(shop.signs_in(&three) && !shop.signs_in(&two));
    let name = Source {
        field: "username".to_owned(),
        ..at.clone()
    };
    assert!(store.makes(&at) && !store.makes(&name));
    store.revoke(&name, &third, &until).await.unwrap();
    assert!(shop.signs_in(&three), "a name is not ended");
    let put = store.promote(&name, token(1), &two, Some(&first), &until);
    assert_eq!(kind(put.await), ErrorKind::Denied, "nor given");
    store.revoke(&at, &third, &until).await.unwrap();
    assert!(!shop.signs_in(&three), "who has it is refused");
    assert_ne!(current(&shop.bench, &at).await, third);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rotation_has_the_server_make_the_value_with_no_more_than_was_printed() {
    let (shop, at) = (Shop::open().await, Shop::at());
    let known = current(&shop.bench, &at).await;
    let grant = Grant {
        source: at.clone(),
        access: Access::Write,
    };
    shop.bench
        .policy("printed", &policy(&shop.spec(), &[grant]));
    let body = r#"{"policies":["printed"],"no_default_policy":true}"#;
    let made = shop.bench.must("POST", "auth/token/create", body);
    let text = made["auth"]["client_token"].as_str().unwrap();
    let store = shop.bench.log_in(VaultAuth::Token {
        token: shop.bench.kept.put("/printed", text),
    });
    let (vault, until) = (Arc::new(FakeVault::default()), plenty());
    let rotator = RemoteRotator::new(store, Arc::clone(&vault) as _, Arc::new(OsEntropy));
    let mut told = None;
    for step in [Step::Create, Step::Set, Step::Test, Step::Finish] {
        let work = shop.work(step, &known);
        for _ in 0..2 {
            if let Probed::Done(found) = rotator.probe(&work, &until).await.unwrap() {
                told = found.or(told);
                continue;
            }
            match step {
                Step::Create => rotator.create(&work, &until).await.unwrap(),
                Step::Set => rotator.set(&work, &until).await.unwrap(),
                Step::Test => rotator.test(&work, &until).await.unwrap(),
                _ => told = rotator.finish(&work, &until).await.unwrap(),
            }
        }
    }
    assert_eq!(shop.told(), 1);
    assert_eq!(told, Some(current(&shop.bench, &at).await));
    let value = SecretBytes::from(vault.value(SECRET, 2).expect("it is kept"));
    assert!(shop.signs_in(&value));
    let given = StepWork {
        provided: true,
        generator: None,
        ..shop.work(Step::Create, &known)
    };
    let error = refused(rotator.create(&given, &until).await);
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("keywheel rotate"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_revocation_ends_what_is_current_there_also_before_it_was_promoted() {
    let (shop, at) = (Shop::open().await, Shop::at());
    let known = current(&shop.bench, &at).await;
    let (vault, until) = (Arc::new(FakeVault::default()), plenty());
    let store = shop.bench.store();
    let rotator = RemoteRotator::new(store, Arc::clone(&vault) as _, Arc::new(OsEntropy));
    let set = shop.work(Step::Set, &known);
    rotator.set(&set, &until).await.unwrap();
    let value = SecretBytes::from(vault.value(SECRET, 2).expect("it is kept"));
    assert!(shop.signs_in(&value));
    let place = set.outside.as_deref();
    let denied = Fault::Status(403, None);
    let rotating = format!("POST /v1/{ROTATE} ");
    shop.bench.proxy.on(&rotating, denied, 1);
    let error = refused(rotator.revoke(SECRET, &[2], place, &until).await);
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("rotate it yourself"), "{error}");
    assert!(
        vault.value(SECRET, 2).is_some(),
        "by it the version is known"
    );
    for _ in 0..2 {
        rotator.revoke(SECRET, &[2], place, &until).await.unwrap();
        assert!(!shop.signs_in(&value));
        assert!(vault.value(SECRET, 2).is_none());
    }
    let third = current(&shop.bench, &at).await;
    let told = shop.told();
    let promoted = Place {
        retire: vec![third.clone()],
        known: Some(third.clone()),
        ..place.unwrap().clone()
    };
    let three = shop.bench.store().fetch(&at, &third, &until).await.unwrap();
    let retired = rotator.retire(SECRET, &[3], Some(&promoted), &until);
    assert_eq!(kind(retired.await), ErrorKind::Conflict);
    assert!(shop.signs_in(&three), "no end of a rotation ends it");
    for _ in 0..2 {
        let revoked = rotator.revoke(SECRET, &[3], Some(&promoted), &until);
        revoked.await.unwrap();
    }
    assert_eq!(shop.told(), told + 1, "once");
    assert!(!shop.signs_in(&three));
}
