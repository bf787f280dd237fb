//! Servers whose accounts rotate: made as a person makes them, with what `keywheel rotator grants` prints,
//! and what they accept, asked by another hand.

use std::fs::{self, File};
use std::io::ErrorKind;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::mariadb::{self, MariaDbServer};
use keywheel_testkit::server::postgres::{self, PostgresServer};
use keywheel_testkit::server::redis::{self, RedisServer};
use keywheel_tests::docker::Container;
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::manifest;
use keywheel_tests::stage::Stage;

use keywheel_tests::testapp::ask;

/// The login that changes the others, and its password.
const ADMIN: &str = "rotator";
pub(crate) const ADMIN_PASSWORD: &str = "pw-of-the-admin-2f71";
const DATABASE: &str = "shop";
/// Accounts at PostgreSQL and MariaDB that some password opens, a comma between them; neither the admin
/// nor the one who may do everything.
const ACCEPTED_AT_POSTGRES: &str = "SELECT coalesce(string_agg(rolname, ','), '') FROM pg_authid \
     WHERE rolcanlogin AND rolpassword IS NOT NULL AND NOT rolsuper AND rolname <> 'rotator'";
const ACCEPTED_AT_MARIADB: &str = "SELECT COALESCE(GROUP_CONCAT(User), '') FROM mysql.global_priv \
     WHERE User NOT IN ('keywheel', 'rotator') AND Priv LIKE '%\"authentication_string\":\"*%' \
     AND Priv NOT LIKE '%\"account_locked\":true%'";
/// Sessions and locks there that are of anybody but who asks.
const LEFT_AT_POSTGRES: &str = "SELECT (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory') + \
     (SELECT count(*) FROM pg_stat_activity WHERE usename <> current_user)";
const LEFT_AT_MARIADB: &str = "SELECT COUNT(*) FROM information_schema.PROCESSLIST \
     WHERE USER NOT IN ('keywheel', 'system user', 'event_scheduler')";

/// The server's process.
#[expect(dead_code, reason = "most are only held until they are dropped")]
enum Process {
    Postgres(PostgresServer),
    MariaDb(MariaDbServer),
    Redis(RedisServer),
}

/// A server with one secret.
pub(crate) struct Server {
    process: Process,
    /// Its kind, as manifests and failpoints say it.
    pub(crate) kind: &'static str,
    /// The secret.
    pub(crate) secret: &'static str,
    /// `HOST:PORT`.
    address: String,
    accounts: &'static [&'static str],
    /// Who may do everything there.
    root: [&'static str; 2],
    /// What a person makes before there is an admin, and once there is one.
    made_before: &'static [&'static str],
    made_after: &'static [&'static str],
}

/// What signs in. No `Debug`: a failed test prints no password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Login {
    pub(crate) user: String,
    pub(crate) password: String,
}

impl Server {
    /// PostgreSQL, where two accounts take turns.
    pub(crate) fn postgres() -> Self {
        let server = PostgresServer::start();
        let _url = server.database(DATABASE);
        let place = server.place();
        Self {
            kind: "postgres",
            secret: "test/postgres",
            address: place.trim_start_matches("postgres://").to_owned(),
            accounts: &["app", "app_b"],
            root: [postgres::USER, postgres::PASSWORD],
            made_before: &["CREATE ROLE app LOGIN"],
            made_after: &[
                "ALTER ROLE rotator PASSWORD 'pw-of-the-admin-2f71'",
                "CREATE UNLOGGED TABLE orders (n int)",
                "ALTER TABLE orders OWNER TO app_owner",
            ],
            process: Process::Postgres(server),
        }
    }

    /// MariaDB, where two accounts take turns that have their rights by a role.
    pub(crate) fn mariadb() -> Self {
        let server = MariaDbServer::start();
        Self {
            kind: "mariadb",
            secret: "test/mariadb",
            address: format!("127.0.0.1:{}", server.port()),
            accounts: &["app", "app_b"],
            root: [mariadb::USER, mariadb::PASSWORD],
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
            process: Process::MariaDb(server),
        }
    }

    /// Redis, where one user has two passwords.
    pub(crate) fn redis() -> Self {
        let server = RedisServer::start();
        Self {
            kind: "redis",
            secret: "test/redis",
            address: format!("127.0.0.1:{}", server.port()),
            accounts: &["app"],
            root: [redis::USER, redis::PASSWORD],
            made_before: &["ACL SETUSER app on resetchannels -@all +incr ~orders"],
            made_after: &["ACL SETUSER rotator >pw-of-the-admin-2f71", "ACL SAVE"],
            process: Process::Redis(server),
        }
    }

    /// Its admin, its accounts, its secret with a file in containers of this label, and the first version.
    pub(crate) fn adopt(&self, stage: &Stage, app: &str) -> Result<()> {
        let keywheel = &stage.keywheel;
        self.run(self.made_before)?;
        self.give_admin(keywheel)?;
        keywheel.apply(&self.manifest(""))?;
        let grants = ["rotator", "grants", self.secret];
        let grants = keywheel.cli(&grants)?.ok()?.stdout;
        let is_statement = |line: &&str| !line.starts_with("--") && !line.starts_with('#');
        let grants: Vec<&str> = grants.lines().filter(is_statement).collect();
        self.run(&grants)?;
        self.run(self.made_after)?;
        let binding = self.binding(stage, app);
        keywheel.apply(&(self.manifest("  generator: {}\n") + &binding))?;
        stage.rotate(self.secret)?;
        stage.wait_current(self.secret, 1)
    }

    /// What a container signs in with now, as its process sees it; nothing when it has none.
    pub(crate) fn held_by(&self, container: &Container) -> Result<Option<Login>> {
        let path = format!("/proc/{}/root/run/secrets/{}", container.pid()?, self.kind);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {path}")),
        };
        let mut lines = text.lines();
        let mut line = || lines.next().map(str::to_owned).context("a line is missing");
        Ok(Some(Login {
            user: line()?,
            password: line()?,
        }))
    }

    /// How the test application names it, with where its login is in a container.
    pub(crate) fn word(&self) -> String {
        let kind = self.kind;
        format!("{kind}={}=file:/run/secrets/{kind}", self.place())
    }

    /// Whether the server lets this login in.
    pub(crate) fn admits(&self, login: &Login) -> Result<bool> {
        let words = [login.user.as_str(), login.password.as_str()];
        Ok(ask(self.kind, &self.place(), words, &[])?.is_some())
    }

    /// The accounts that a password opens, each as often as there are such passwords.
    pub(crate) fn accepted(&self) -> Result<Vec<String>> {
        let list = match &self.process {
            Process::Postgres(_) => self.run(&[ACCEPTED_AT_POSTGRES])?.concat(),
            Process::MariaDb(_) => self.run(&[ACCEPTED_AT_MARIADB])?.concat(),
            Process::Redis(server) => {
                return accepted_at_redis(&fs::read_to_string(server.users())?);
            }
        };
        let names = list.split(',').filter(|name| !name.is_empty());
        Ok(names.map(str::to_owned).collect())
    }

    /// Whether no session and no lock of anybody else is there.
    pub(crate) fn is_quiet(&self) -> Result<bool> {
        Ok(match &self.process {
            Process::Postgres(_) => self.run(&[LEFT_AT_POSTGRES])?.concat() == "0",
            Process::MariaDb(_) => self.run(&[LEFT_AT_MARIADB])?.concat() == "0",
            Process::Redis(_) => {
                let sessions = self.run(&["CLIENT LIST"])?;
                let mut sessions = sessions.iter().filter(|line| !line.is_empty());
                sessions.all(|line| line.contains(" user=keywheel "))
            }
        })
    }

    /// The account that is not this one is gone, where two take turns.
    pub(crate) fn drop_standby(&self, in_use: &str) -> Result<()> {
        let mut names = self.accounts.iter();
        let Some(standby) = names.find(|name| **name != in_use) else {
            return Ok(());
        };
        let statement = match &self.process {
            Process::Postgres(_) => format!("DROP ROLE IF EXISTS {standby}"),
            Process::MariaDb(_) => format!("DROP USER IF EXISTS {standby}@'%'"),
            Process::Redis(_) => format!("ACL DELUSER {standby}"),
        };
        self.run(&[&statement]).map(drop)
    }

    fn place(&self) -> String {
        match &self.process {
            Process::Postgres(_) => format!("{}/{DATABASE}", self.address),
            Process::MariaDb(_) | Process::Redis(_) => format!("{}/", self.address),
        }
    }

    /// As the one who may do everything.
    fn run(&self, statements: &[&str]) -> Result<Vec<String>> {
        let said = ask(self.kind, &self.place(), self.root, statements)?;
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

    /// A line for the user, and one for the password; the container is told.
    fn binding(&self, stage: &Stage, app: &str) -> String {
        let (kind, secret) = (self.kind, self.secret);
        let template = match self.accounts {
            [one] => format!("{one}\n{{{{ secret(\"{secret}\") }}}}\n"),
            _ => format!(
                "{{{{ secret(\"{secret}\").username }}}}\n{{{{ secret(\"{secret}\").password }}}}\n"
            ),
        };
        let (on, reload) = (stage.on(app), "{ signal: HUP }");
        manifest::told_template_binding(kind, secret, &on, kind, &template, reload)
    }
}

/// Reads the file in which Redis keeps its users.
fn accepted_at_redis(kept: &str) -> Result<Vec<String>> {
    let mut accepted = Vec::new();
    for line in kept.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [_, name, rules @ ..] = words.as_slice() else {
            continue;
        };
        let is_other = [redis::USER, ADMIN, "default"].contains(name);
        if !is_other && rules.contains(&"on") {
            let hashes = rules.iter().filter(|word| word.starts_with('#'));
            accepted.extend(hashes.map(|_| (*name).to_owned()));
        }
    }
    ensure!(!kept.is_empty(), "Redis keeps no users");
    Ok(accepted)
}
