//! Dynamic credentials of a real OpenBao at a real PostgreSQL, with the policy that we print and nothing more.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::store::{Backend, DEFAULT_POLL, DEFAULT_TIMEOUT, Source, StoreSpec, VaultAuth};
use keywheel_engine::port::leases::{Extended, Leases};
use keywheel_engine::port::store::Store;
use keywheel_seal::SecretBytes;
use keywheel_stores::policy::{Access, Grant, policy};
use keywheel_testkit::conformance::leases::{Lender, check};
use keywheel_testkit::conformance::store::plenty;
use keywheel_testkit::server::postgres::{PASSWORD, PostgresServer, USER};

use crate::bench::Bench;

const DATABASE: &str = "shop";
/// One that goes with the role's time, as PostgreSQL says it.
const CREATION: &str =
    "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";

/// A server that lends logins of another one.
pub(crate) struct Bank {
    pub(crate) bench: Bench,
    postgres: PostgresServer,
    store: Arc<dyn Store>,
    pub(crate) token: String,
}

pub(crate) fn role(name: &str) -> Source {
    Source {
        path: format!("database/creds/{name}"),
        field: String::new(),
    }
}

impl Bank {
    /// With a role `app`, and one `short` whose leases cannot be renewed beyond their first time.
    pub(crate) async fn open() -> Self {
        let (bench, postgres) = (Bench::start().await, PostgresServer::start());
        let _url = postgres.database(DATABASE);
        bench.must("POST", "sys/mounts/database", r#"{"type":"database"}"#);
        let place = postgres.place();
        let host = place.trim_start_matches("postgres://");
        let config = serde_json::json!({
            "plugin_name": "postgresql-database-plugin",
            "allowed_roles": "app,short",
            "connection_url":
                format!("postgresql://{{{{username}}}}:{{{{password}}}}@{host}/{DATABASE}?sslmode=disable"),
            "username": USER,
            "password": PASSWORD,
        });
        bench.must("POST", "database/config/shop", &config.to_string());
        for (name, whole, most) in [("app", "1h", "24h"), ("short", "90s", "90s")] {
            let role = serde_json::json!({
                "db_name": "shop",
                "creation_statements": [CREATION],
                "default_ttl": whole,
                "max_ttl": most,
            });
            bench.must("POST", &format!("database/roles/{name}"), &role.to_string());
        }
        let (store, token) = log_in(&bench);
        Self {
            bench,
            postgres,
            store,
            token,
        }
    }

    /// How many logins the database has of it.
    pub(crate) fn logins(&self) -> String {
        let sql = "select count(*) from pg_roles where rolname like 'v-%'";
        self.postgres.psql(DATABASE, sql).trim().to_owned()
    }
}

/// With a token that has the printed policy alone.
fn log_in(bench: &Bench) -> (Arc<dyn Store>, String) {
    let placeholder = VaultAuth::Token {
        token: bench.kept.put("/none", "none"),
    };
    let spec = StoreSpec {
        backend: Backend::Vault(bench.spec(placeholder)),
        poll: DEFAULT_POLL,
        timeout: DEFAULT_TIMEOUT,
    };
    let grants = ["app", "short"].map(|name| Grant {
        source: role(name),
        access: Access::Read,
    });
    bench.policy("printed", &policy(&spec, &grants));
    let body = r#"{"policies":["printed"],"no_default_policy":true}"#;
    let made = bench.must("POST", "auth/token/create", body);
    let token = made["auth"]["client_token"].as_str().unwrap().to_owned();
    let auth = VaultAuth::Token {
        token: bench.kept.put("/token", token.as_str()),
    };
    (bench.log_in(auth), token)
}

#[async_trait]
impl Lender for Bank {
    fn leases(&self) -> &dyn Leases {
        self.store.leases().unwrap()
    }

    fn role(&self) -> Source {
        role("app")
    }

    async fn admits(&self, value: &SecretBytes) -> bool {
        // EXPOSE: signs in as a container would that got it.
        let login: serde_json::Value = serde_json::from_slice(value.expose()).unwrap();
        let (user, password) = (&login["username"], &login["password"]);
        let (user, password) = (user.as_str().unwrap(), password.as_str().unwrap());
        self.postgres.signs_in(DATABASE, user, password)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_server_keeps_the_laws_with_the_printed_policy_alone() {
    let bank = Bank::open().await;
    bank.store.check(&plenty()).await.unwrap();
    for name in ["app", "short"] {
        let checked = bank.store.check_use(&role(name), false, &plenty()).await;
        checked.unwrap();
    }
    check(&bank).await;
    assert_eq!(bank.logins(), "0", "every login is gone from the database");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_outlives_the_login_that_minted_it_and_is_ended_by_another() {
    let bank = Bank::open().await;
    let (app, until) = (role("app"), plenty());
    let minted = bank.leases().mint(&app, &until).await.unwrap();
    let body = serde_json::json!({ "token": bank.token }).to_string();
    bank.bench.must("POST", "auth/token/revoke", &body);
    assert!(
        bank.admits(&minted.value).await,
        "it hangs on no login of ours"
    );
    let (store, _) = log_in(&bank.bench);
    let leases = store.leases().unwrap();
    let extended = leases.extend(&app, &minted.lease, &until).await.unwrap();
    assert!(!extended.gives_way(), "{extended:?}");
    leases.end(&app, &minted.lease, &until).await.unwrap();
    assert!(!bank.admits(&minted.value).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_somebody_ended_there_is_gone() {
    let bank = Bank::open().await;
    let (short, until) = (role("short"), plenty());
    let minted = bank.leases().mint(&short, &until).await.unwrap();
    let extended = bank.leases().extend(&short, &minted.lease, &until).await;
    let Ok(Extended::For { granted, whole }) = extended else {
        panic!("{extended:?}");
    };
    assert_eq!(whole.as_secs(), 90);
    assert!(granted <= whole);
    bank.bench
        .must("PUT", "sys/leases/revoke-prefix/database/creds/short", "");
    let extended = bank.leases().extend(&short, &minted.lease, &until).await;
    assert_eq!(extended.unwrap(), Extended::Gone);
    assert!(!bank.admits(&minted.value).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_not_told_as_ended_before_the_database_refuses_its_login() {
    let mut bank = Bank::open().await;
    let (app, until) = (role("app"), plenty());
    let minted = bank.leases().mint(&app, &until).await.unwrap();
    bank.leases()
        .extend(&app, &minted.lease, &until)
        .await
        .unwrap();
    bank.postgres.kill();
    let error = bank.leases().end(&app, &minted.lease, &until).await;
    assert!(error.is_err(), "nobody told the database");
    bank.postgres.restart();
    assert!(bank.admits(&minted.value).await, "it is let in still");
    bank.leases()
        .end(&app, &minted.lease, &until)
        .await
        .unwrap();
    assert!(!bank.admits(&minted.value).await);
    let again = bank.leases().end(&app, &minted.lease, &until).await;
    again.unwrap();
}
