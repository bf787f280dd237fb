//! A PostgreSQL server, and its superuser's hand.

use async_trait::async_trait;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_engine::port::accounts::Login;
use keywheel_postgres::{Address, session};
use keywheel_seal::SecretBytes;
use keywheel_testkit::conformance::accounts::Session;
use keywheel_testkit::server::postgres::PostgresServer;
use sqlx::PgConnection;
use tokio::sync::Mutex;

use crate::support::{self, ADMIN, ADMIN_PASSWORD};
use crate::sweep::Server;

const DATABASE: &str = "shop";
const ACCEPTED: &str = "SELECT rolname::text FROM pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL \
     AND NOT rolsuper AND rolname <> 'rotator'";
const LEFT: &str = "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') + \
     (SELECT count(*) FROM pg_stat_activity WHERE usename <> current_user)";
const ADMINS: &str = "SELECT rolname FROM pg_roles WHERE rolname = 'rotator'";

/// A server.
pub(crate) struct Postgres {
    root: Mutex<PgConnection>,
    server: PostgresServer,
}

impl Postgres {
    pub(crate) async fn open() -> Self {
        let server = PostgresServer::start();
        let address = Address::parse(&server.database(DATABASE), None).unwrap();
        let root = session::single(&address).await.unwrap();
        Self {
            root: Mutex::new(root),
            server,
        }
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
impl Server for Postgres {
    async fn prepare(&self, strategy: Strategy, accounts: &[&str]) -> Resource {
        let place = self.server.place();
        let (scheme, host) = place.split_once("://").unwrap();
        let connection = format!("{scheme}://{ADMIN}@{host}/{DATABASE}");
        let resource = Resource {
            strategy,
            ..support::resource(Kind::Postgres, &connection, accounts)
        };
        let account = &resource.accounts[0];
        let _made = self
            .server
            .psql(DATABASE, &format!("CREATE ROLE \"{account}\" LOGIN"));
        let is_admin_there = self.server.psql(DATABASE, ADMINS) == ADMIN;
        let makes_admin = format!("CREATE ROLE \"{ADMIN}\" ");
        let printed = keywheel_rotators::grants(&resource).unwrap();
        let lines = printed.lines();
        let lines = lines.filter(|line| !(is_admin_there && line.starts_with(&makes_admin)));
        let statements = lines.collect::<Vec<_>>().join("\n");
        let password = format!("ALTER ROLE \"{ADMIN}\" PASSWORD '{ADMIN_PASSWORD}'");
        let _done = self
            .server
            .psql(DATABASE, &format!("{statements}\n{password}"));
        resource
    }

    async fn accepted(&self) -> Vec<String> {
        let mut root = self.root.lock().await;
        let names = sqlx::query_scalar::<_, String>(ACCEPTED);
        names.fetch_all(&mut *root).await.unwrap()
    }

    async fn left(&self) -> u64 {
        let mut root = self.root.lock().await;
        let count = sqlx::query_scalar::<_, i64>(LEFT);
        u64::try_from(count.fetch_one(&mut *root).await.unwrap()).unwrap()
    }

    async fn drop_account(&self, name: &str) {
        let _gone = self
            .server
            .psql(DATABASE, &format!("DROP ROLE IF EXISTS \"{name}\""));
    }

    async fn session(&self, login: &Login, password: &SecretBytes) -> Box<dyn Session> {
        let address = Address::parse(&self.server.tcp_url(DATABASE), None).unwrap();
        let address = address.for_user(&login.name, password).unwrap();
        Box::new(Open(session::single(&address).await.unwrap()))
    }
}
