//! A MariaDB server, and the hand of its user who may do everything.

use async_trait::async_trait;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_engine::port::accounts::Login;
use keywheel_seal::SecretBytes;
use keywheel_testkit::conformance::accounts::Session;
use keywheel_testkit::server::mariadb::{MariaDbServer, PASSWORD, USER};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use tokio::sync::Mutex;

use crate::support::{self, ADMIN, ADMIN_PASSWORD};
use crate::sweep::Server;

/// A user's name, a space, and what the server keeps of it.
const KEPT: &str = "SELECT CONCAT(User, ' ', CAST(Priv AS CHAR)) FROM mysql.global_priv \
     WHERE User NOT IN ('keywheel', 'rotator')";
const LEFT: &str = "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.PROCESSLIST \
     WHERE USER NOT IN ('keywheel', 'system user', 'event_scheduler')";
/// What stands before the hash of a password that is accepted.
const HASH: &str = "\"authentication_string\":\"*";
const LOCKED: &str = "\"account_locked\":true";

/// A server.
pub(crate) struct MariaDb {
    root: Mutex<MySqlConnection>,
    server: MariaDbServer,
}

impl MariaDb {
    pub(crate) async fn open() -> Self {
        let server = MariaDbServer::start();
        let root = connect(&server, USER, PASSWORD).await;
        Self {
            root: Mutex::new(root),
            server,
        }
    }

    /// The first column of what it is told.
    async fn run(&self, sql: &str) -> Vec<String> {
        let mut root = self.root.lock().await;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut *root);
        let rows = rows.await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.iter()
            .map(|row| row.try_get_unchecked::<String, _>(0).unwrap())
            .collect()
    }
}

async fn connect(server: &MariaDbServer, user: &str, password: &str) -> MySqlConnection {
    let options = MySqlConnectOptions::new().socket(server.socket());
    let options = options.username(user).password(password);
    options.connect().await.unwrap()
}

/// A client's session.
struct Open(MySqlConnection);

#[async_trait]
impl Session for Open {
    async fn works(&mut self) -> bool {
        sqlx::raw_sql("SELECT 1").execute(&mut self.0).await.is_ok()
    }
}

#[async_trait]
impl Server for MariaDb {
    async fn prepare(&self, strategy: Strategy, accounts: &[&str]) -> Resource {
        let resource = Resource {
            strategy,
            ..support::resource(Kind::Mariadb, &self.server.url(ADMIN), accounts)
        };
        let printed = keywheel_rotators::grants(&resource).unwrap();
        for line in printed.lines().filter(|line| !line.starts_with("--")) {
            self.run(line).await;
        }
        self.run(&format!(
            "ALTER USER {ADMIN}@'%' IDENTIFIED BY '{ADMIN_PASSWORD}' ACCOUNT UNLOCK"
        ))
        .await;
        let name = &resource.accounts[0];
        self.run(&format!(
            "CREATE USER {name}@'%' IDENTIFIED VIA mysql_native_password USING 'invalid'"
        ))
        .await;
        if strategy == Strategy::AlternatingUsers {
            for sql in [
                "CREATE ROLE shop_app".to_owned(),
                format!("GRANT shop_app TO {name}@'%'"),
                format!("SET DEFAULT ROLE shop_app FOR {name}@'%'"),
                format!("GRANT shop_app TO {ADMIN}@'%' WITH ADMIN OPTION"),
            ] {
                self.run(&sql).await;
            }
        }
        resource
    }

    async fn accepted(&self) -> Vec<String> {
        let kept = self.run(KEPT).await;
        let kept = kept.iter().filter(|kept| !kept.contains(LOCKED));
        let names = kept.filter_map(|kept| Some((kept.split_once(' ')?.0, kept)));
        let each = names.flat_map(|(name, kept)| kept.matches(HASH).map(move |_| name.to_owned()));
        each.collect()
    }

    async fn left(&self) -> u64 {
        self.run(LEFT).await.concat().parse().unwrap()
    }

    async fn drop_account(&self, name: &str) {
        self.run(&format!("DROP USER IF EXISTS {name}@'%'")).await;
    }

    async fn session(&self, login: &Login, password: &SecretBytes) -> Box<dyn Session> {
        // EXPOSE: a client signs in with it.
        let password = std::str::from_utf8(password.expose()).unwrap();
        Box::new(Open(connect(&self.server, &login.name, password).await))
    }
}
