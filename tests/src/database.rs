//! A database server of a test's own, its accounts, and the secret that opens them: made as a person makes
//! them, with no more rights than `keywheel rotator grants` prints.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::mariadb::{self, MariaDbServer};
use keywheel_testkit::server::postgres::{self, PostgresServer};
use keywheel_testkit::server::redis::{self, RedisServer};

use crate::keywheel::Keywheel;
use crate::stage::{PATIENCE, Stage};
use crate::testapp::ask;

mod kept;

/// The login that changes the others, and its password.
const ADMIN: &str = "rotator";
const ADMIN_PASSWORD: &str = "pw-of-the-admin-2f71";

/// The server's process.
enum Server {
    Postgres(PostgresServer),
    MariaDb(MariaDbServer),
    Redis(RedisServer),
}

/// A server with one secret.
pub struct Database {
    server: Server,
    /// Its kind, as manifests and the application say it.
    pub kind: &'static str,
    /// The secret.
    pub secret: &'static str,
    /// `HOST:PORT`.
    address: String,
    /// The database in it that the application uses; empty where there is none.
    name: &'static str,
    accounts: &'static [&'static str],
    /// Who may do everything there.
    root: [&'static str; 2],
    /// What a person makes before there is an admin, and for the application once there is one.
    made_before: &'static [&'static str],
    made_after: &'static [&'static str],
    /// Counts what the application wrote.
    count: &'static str,
}

/// What signs in. No `Debug`: a failed test prints no password.
#[derive(PartialEq, Eq)]
pub struct Login {
    /// Who.
    pub user: String,
    /// With what.
    pub password: String,
}

impl Login {
    /// Reads what the application reads: a line for the user, and one for the password.
    pub fn of(text: &str) -> Result<Self> {
        let mut lines = text.lines();
        let mut line = || lines.next().map(str::to_owned).context("a line is missing");
        Ok(Self {
            user: line()?,
            password: line()?,
        })
    }
}

impl Database {
    /// PostgreSQL, where two accounts take turns.
    #[must_use]
    pub fn postgres() -> Self {
        Self::of_postgres(PostgresServer::start())
    }

    /// The same, for so many sessions.
    #[must_use]
    pub fn postgres_for(sessions: u32) -> Self {
        Self::of_postgres(PostgresServer::with_connections(sessions))
    }

    fn of_postgres(server: PostgresServer) -> Self {
        let _url = server.database("shop");
        let place = server.place();
        Self {
            kind: "postgres",
            secret: "test/postgres",
            address: place.trim_start_matches("postgres://").to_owned(),
            name: "shop",
            accounts: &["app", "app_b"],
            root: [postgres::USER, postgres::PASSWORD],
            made_before: &["CREATE ROLE app LOGIN"],
            made_after: &[
                "ALTER ROLE rotator PASSWORD 'pw-of-the-admin-2f71'",
                "CREATE UNLOGGED TABLE orders (n int)",
                "ALTER TABLE orders OWNER TO app_owner",
            ],
            count: "SELECT count(*) FROM orders",
            server: Server::Postgres(server),
        }
    }

    /// MariaDB, where one account accepts two passwords.
    #[must_use]
    pub fn mariadb() -> Self {
        let server = MariaDbServer::start();
        Self {
            kind: "mariadb",
            secret: "test/mariadb",
            address: format!("127.0.0.1:{}", server.port()),
            name: "shop",
            accounts: &["app"],
            root: [mariadb::USER, mariadb::PASSWORD],
            made_before: &[
                "CREATE DATABASE shop",
                "CREATE TABLE shop.orders (n INT) ENGINE=MEMORY",
                "CREATE USER app@'%' IDENTIFIED VIA mysql_native_password USING 'invalid'",
                "GRANT INSERT ON shop.* TO app@'%'",
            ],
            made_after: &[
                "ALTER USER rotator@'%' IDENTIFIED BY 'pw-of-the-admin-2f71' ACCOUNT UNLOCK",
            ],
            count: "SELECT COUNT(*) FROM shop.orders",
            server: Server::MariaDb(server),
        }
    }

    /// MariaDB, where two accounts take turns that have their rights by a role; no application writes there.
    #[must_use]
    pub fn mariadb_alternating() -> Self {
        Self {
            name: "",
            accounts: &["app", "app_b"],
            made_before: &[
                "CREATE ROLE shop_app",
                "CREATE USER app@'%' IDENTIFIED VIA mysql_native_password USING 'invalid'",
                "GRANT shop_app TO app@'%'",
                "SET DEFAULT ROLE shop_app FOR app@'%'",
            ],
            made_after: &[
                "ALTER USER rotator@'%' IDENTIFIED BY 'pw-of-the-admin-2f71' ACCOUNT UNLOCK",
                "GRANT shop_app TO rotator@'%' WITH ADMIN OPTION",
            ],
            count: "SELECT 0",
            ..Self::mariadb()
        }
    }

    /// Redis, where one user has two passwords.
    #[must_use]
    pub fn redis() -> Self {
        let server = RedisServer::start();
        Self {
            kind: "redis",
            secret: "test/redis",
            address: format!("127.0.0.1:{}", server.port()),
            name: "",
            accounts: &["app"],
            root: [redis::USER, redis::PASSWORD],
            made_before: &["ACL SETUSER app on resetchannels -@all +incr ~orders"],
            made_after: &["ACL SETUSER rotator >pw-of-the-admin-2f71", "ACL SAVE"],
            count: "GET orders",
            server: Server::Redis(server),
        }
    }

    /// Its admin, its accounts, its secret with a binding, and the first version.
    pub fn adopt(&self, stage: &Stage, binding: &str) -> Result<()> {
        let keywheel = &stage.keywheel;
        self.run(self.made_before)?;
        self.give_admin(keywheel)?;
        keywheel.apply(&self.manifest(""))?;
        let grants = ["rotator", "grants", self.secret];
        let grants = keywheel.cli(&grants)?.ok()?.stdout;
        let is_statement = |line: &&str| !line.starts_with("--") && !line.starts_with('#');
        let grants: Vec<&str> = grants.lines().filter(is_statement).collect();
        ensure!(!grants.is_empty(), "nothing is granted at {}", self.kind);
        self.run(&grants)?;
        self.run(self.made_after)?;
        // Now that the admin can do it, Keywheel makes values.
        keywheel.apply(&(self.manifest("  generator: {}\n") + binding))?;
        stage.rotate(self.secret)?;
        stage.wait_current(self.secret, 1)
    }

    /// From now on one consumer gets each version before it is promoted.
    pub fn have_canary(&self, keywheel: &Keywheel) -> Result<()> {
        let more = "  generator: {}\n  rotation: { canary: { for: 1s } }\n";
        keywheel.apply(&self.manifest(more))?;
        Ok(())
    }

    /// What a file has for the application: a line for the user, and one for the password.
    #[must_use]
    pub fn template(&self) -> String {
        let secret = self.secret;
        match self.alternates() {
            true => format!(
                "{{{{ secret(\"{secret}\").username }}}}\n{{{{ secret(\"{secret}\").password }}}}\n"
            ),
            false => format!("app\n{{{{ secret(\"{secret}\") }}}}\n"),
        }
    }

    /// Ends the server as a power cut would.
    pub fn kill(&mut self) {
        match &mut self.server {
            Server::Postgres(server) => server.kill(),
            Server::MariaDb(server) => server.kill(),
            Server::Redis(server) => server.kill(),
        }
    }

    /// Starts it again at the same place.
    pub fn restart(&mut self) {
        match &mut self.server {
            Server::Postgres(server) => server.restart(),
            Server::MariaDb(server) => server.restart(),
            Server::Redis(server) => server.restart(),
        }
    }

    /// How the application names it, with where its login comes from.
    #[must_use]
    pub fn word(&self, source: &str) -> String {
        format!("{}={}={source}", self.kind, self.place())
    }

    /// Whether two accounts take turns.
    #[must_use]
    pub fn alternates(&self) -> bool {
        self.accounts.len() > 1
    }

    /// Whether the server lets this login in.
    pub fn admits(&self, login: &Login) -> Result<bool> {
        let words = [login.user.as_str(), login.password.as_str()];
        Ok(ask(self.kind, &self.place(), words, &[])?.is_some())
    }

    /// A session at Redis that is open as long as what this gives.
    pub fn hold(&self, login: &Login) -> Result<TcpStream> {
        let mut session = TcpStream::connect(&self.address)?;
        session.set_read_timeout(Some(PATIENCE))?;
        let words = ["AUTH", login.user.as_str(), login.password.as_str()];
        let words = words.map(|word| format!("${}\r\n{word}\r\n", word.len()));
        let request = format!("*{}\r\n{}", words.len(), words.concat());
        session.write_all(request.as_bytes())?;
        let mut answer = [0; 5];
        session.read_exact(&mut answer)?;
        ensure!(&answer == b"+OK\r\n", "{} refuses a session", self.kind);
        Ok(session)
    }

    /// How often the application wrote something.
    pub fn written(&self) -> Result<u64> {
        let said = self.run(&[self.count])?;
        let count = said.first().context("no answer")?;
        // Nobody wrote anything yet.
        if count.is_empty() {
            return Ok(0);
        }
        Ok(count.parse()?)
    }

    /// What the server wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        match &self.server {
            Server::Postgres(server) => server.log(),
            Server::MariaDb(server) => server.log(),
            Server::Redis(server) => server.log(),
        }
    }

    fn place(&self) -> String {
        format!("{}/{}", self.address, self.name)
    }

    /// As the one who may do everything.
    fn run(&self, statements: &[&str]) -> Result<Vec<String>> {
        // At MariaDB the application's database is one of the things that are made.
        let place = match &self.server {
            Server::MariaDb(_) => format!("{}/", self.address),
            Server::Postgres(_) | Server::Redis(_) => self.place(),
        };
        let said = ask(self.kind, &place, self.root, statements)?;
        said.with_context(|| format!("{} refuses its own root", self.kind))
    }

    /// The admin's password is a secret of ours, for this server alone.
    fn give_admin(&self, keywheel: &Keywheel) -> Result<()> {
        let (admin, kind, address) = (self.admin_secret(), self.kind, &self.address);
        keywheel.apply(&format!(
            "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {admin} }}\nspec: {{ credentialFor: \"{kind}://{address}\" }}\n"
        ))?;
        let path = keywheel.scratch().write("admin", ADMIN_PASSWORD)?;
        let stdin = File::open(&path)?;
        fs::remove_file(path)?;
        let words = ["secret", "put", &admin, "--value-file", "-", "--wait"];
        keywheel.hear(keywheel.client(&words)?.stdin(stdin))?.ok()?;
        Ok(())
    }

    fn admin_secret(&self) -> String {
        format!("{}-admin", self.secret)
    }

    fn manifest(&self, more: &str) -> String {
        let (name, kind, accounts) = (self.secret, self.kind, self.accounts.join(", "));
        let (place, admin) = (self.place(), self.admin_secret());
        let place = place.trim_end_matches('/');
        format!(
            "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {name} }}\nspec:\n  rotator:\n    \
             type: {kind}\n    connection: \"{kind}://{ADMIN}@{place}\"\n    account: [{accounts}]\n    \
             adminSecret: {admin}\n{more}---\n"
        )
    }
}

/// What no place but the server and Keywheel's cache may have, beside the versions.
#[must_use]
pub fn admin_password() -> String {
    ADMIN_PASSWORD.to_owned()
}
