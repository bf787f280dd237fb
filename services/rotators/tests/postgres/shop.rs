//! A server with a database, and an admin that was granted exactly what `grants` prints.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keywheel_core::name::SecretName;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_core::store::CredentialRef;
use keywheel_engine::port::PortError;
use keywheel_engine::port::accounts::{Accounts, Login};
use keywheel_engine::port::store::Credentials;
use keywheel_postgres::{Address, session};
use keywheel_rotators::postgres::PostgresAccounts;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance::accounts::{self, Session};
use keywheel_testkit::server::postgres::PostgresServer;
use sqlx::PgConnection;

pub(crate) const DATABASE: &str = "shop";
pub(crate) const ADMIN: &str = "rotator";
pub(crate) const ADMIN_PASSWORD: &str = "pw-of-the-admin";

/// The admin's password, as it is known now; files are read.
pub(crate) struct Known(pub(crate) Mutex<String>);

#[async_trait]
impl Credentials for Known {
    async fn read(&self, credential: &CredentialRef) -> Result<SecretBytes, PortError> {
        if let CredentialRef::File(path) = credential {
            return Ok(SecretBytes::from(std::fs::read(path).unwrap()));
        }
        let known = self.0.lock().unwrap();
        Ok(SecretBytes::from(known.clone().into_bytes()))
    }
}

/// A server with an admin that was granted what the rotator says.
pub(crate) struct Shop {
    pub(crate) server: PostgresServer,
    pub(crate) known: Arc<Known>,
    made: AtomicU32,
}

impl Shop {
    pub(crate) fn open() -> Self {
        let server = PostgresServer::logging_statements();
        let _url = server.database(DATABASE);
        Self {
            server,
            known: Arc::new(Known(Mutex::new(ADMIN_PASSWORD.to_owned()))),
            made: AtomicU32::new(0),
        }
    }

    pub(crate) fn resource(&self, strategy: Strategy, accounts: &[&str]) -> Resource {
        let place = self.server.place();
        let (scheme, host) = place.split_once("://").unwrap();
        Resource {
            kind: Kind::Postgres,
            connection: format!("{scheme}://{ADMIN}@{host}/{DATABASE}"),
            accounts: accounts.iter().map(ToString::to_string).collect(),
            admin: SecretName::parse("shop/admin").unwrap(),
            strategy,
            ca: None,
        }
    }

    pub(crate) fn of(&self, resource: &Resource) -> PostgresAccounts {
        let credentials = Arc::clone(&self.known) as Arc<dyn Credentials>;
        PostgresAccounts::new(resource.clone(), credentials, Arc::new(OsEntropy)).unwrap()
    }

    pub(crate) fn psql(&self, sql: &str) -> String {
        self.server.psql(DATABASE, sql)
    }

    /// Makes an account, and a superuser runs what is printed for it; what is there is left out.
    pub(crate) fn grant(&self, resource: &Resource) {
        let account = &resource.accounts[0];
        let there = self.psql("SELECT rolname FROM pg_roles");
        let there: BTreeSet<String> = there
            .lines()
            .map(|name| format!("CREATE ROLE \"{name}\" "))
            .collect();
        let is_new = |line: &&str| !there.iter().any(|made| line.starts_with(made));
        let printed = self.of(resource).grants();
        let printed: Vec<&str> = printed.lines().filter(is_new).collect();
        let _done = self.psql(&format!(
            "CREATE ROLE \"{account}\" LOGIN;\n{}\nALTER ROLE {ADMIN} PASSWORD '{ADMIN_PASSWORD}'",
            printed.join("\n")
        ));
    }
}

/// A client's session.
struct Open(PgConnection);

#[async_trait]
impl Session for Open {
    async fn works(&mut self) -> bool {
        let one = sqlx::query_scalar::<_, i32>("SELECT 1");
        one.fetch_one(&mut self.0).await.is_ok()
    }
}

#[async_trait]
impl accounts::Resource for Shop {
    fn accounts(&self) -> Arc<dyn Accounts> {
        Arc::new(self.of(&self.resource(Strategy::AlternatingUsers, &["app", "app_b"])))
    }

    async fn fresh(&self) -> Login {
        let name = format!("app_{}", self.made.fetch_add(1, Ordering::Relaxed));
        let second = format!("{name}_b");
        self.grant(&self.resource(Strategy::AlternatingUsers, &[&name, &second]));
        Login::of(name)
    }

    fn overlaps(&self) -> bool {
        false
    }

    fn makes_missing(&self) -> bool {
        true
    }

    async fn session(&self, login: &Login, password: &SecretBytes) -> Box<dyn Session> {
        let url = self.server.tcp_url(DATABASE);
        let address = Address::parse(&url, None).unwrap();
        let address = address.for_user(&login.name, password).unwrap();
        Box::new(Open(session::single(&address).await.unwrap()))
    }
}
