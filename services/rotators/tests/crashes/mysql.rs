//! A MySQL server, and the hand of its user who may do everything.

use async_trait::async_trait;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_engine::port::accounts::Login;
use keywheel_seal::SecretBytes;
use keywheel_testkit::conformance::accounts::Session;
use keywheel_testkit::server::mysql::{MySqlServer, PASSWORD, USER};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use tokio::sync::Mutex;

use crate::support::{self, ADMIN, ADMIN_PASSWORD};
use crate::sweep::Server;

/// What a server keeps where no password is to be.
const NOTHING: &str = "$A$005$THISISACOMBINATIONOFINVALIDSALTANDPASSWORDTHATMUSTNEVERBRBEUSED";
/// Users by their primary passwords, and once more by secondary ones that are others.
const ACCEPTED: &str = "SELECT User FROM mysql.user WHERE User NOT IN ('keywheel', 'rotator') \
     AND account_locked = 'N' AND authentication_string NOT LIKE '%THISISACOMBINATIONOFINVALID%' \
     UNION ALL SELECT User FROM mysql.user WHERE User NOT IN ('keywheel', 'rotator') \
     AND account_locked = 'N' AND JSON_UNQUOTE(JSON_EXTRACT(User_attributes, '$.additional_password')) \
     <> authentication_string";
const LEFT: &str = "SELECT CAST(COUNT(*) AS CHAR) FROM information_schema.PROCESSLIST \
     WHERE USER NOT IN ('keywheel', 'event_scheduler')";

/// A server.
pub(crate) struct MySql {
    root: Mutex<MySqlConnection>,
    server: MySqlServer,
}

impl MySql {
    /// Nothing where this machine has none.
    pub(crate) async fn open() -> Option<Self> {
        let server = MySqlServer::start()?;
        let root = connect(&server, USER, PASSWORD).await;
        Some(Self {
            root: Mutex::new(root),
            server,
        })
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

/// By TCP, where the server speaks TLS: a unix socket has none, without which it takes no password.
async fn connect(server: &MySqlServer, user: &str, password: &str) -> MySqlConnection {
    let options = MySqlConnectOptions::new().host("127.0.0.1");
    let options = options.port(server.port()).username(user);
    options.password(password).connect().await.unwrap()
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
impl Server for MySql {
    /// All of the accounts: at MySQL none is made by a rotation.
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
        for name in accounts {
            self.run(&format!(
                "CREATE USER {name}@'%' IDENTIFIED WITH caching_sha2_password AS '{NOTHING}'"
            ))
            .await;
        }
        resource
    }

    async fn accepted(&self) -> Vec<String> {
        self.run(ACCEPTED).await
    }

    async fn left(&self) -> u64 {
        self.run(LEFT).await.concat().parse().unwrap()
    }

    fn makes_missing(&self) -> bool {
        false
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
