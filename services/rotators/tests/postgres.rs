//! PostgreSQL's accounts on a real server: the laws of the port, with an admin that has exactly what
//! `grants` prints, and a rotation over two accounts that alternate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may stop at once"
)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keywheel_core::effect::{AtResource, StepWork};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::name::SecretName;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_core::rotation::Step;
use keywheel_core::secret::Generator;
use keywheel_core::store::CredentialRef;
use keywheel_engine::port::accounts::{Accounts, Keep, Login};
use keywheel_engine::port::rotator::Rotator as _;
use keywheel_engine::port::store::{Credentials, LoginRefused};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_postgres::{Address, session};
use keywheel_rotators::postgres::PostgresAccounts;
use keywheel_rotators::{AccountRotator, form};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance::accounts::{self, Session};
use keywheel_testkit::conformance::store::{kind, plenty, refused, value};
use keywheel_testkit::fake::FakeVault;
use keywheel_testkit::server::postgres::PostgresServer;
use sqlx::PgConnection;

const DATABASE: &str = "shop";
const ADMIN: &str = "rotator";
const ADMIN_PASSWORD: &str = "pw-of-the-admin";
/// How often it is looked whether a session is gone; each look takes several logins.
const MAX_TRIES: u32 = 2000;
const SECRET: SecretId = SecretId::from_bytes([1; 16]);

/// The admin's password, as it is known now.
struct Known(Mutex<String>);

#[async_trait]
impl Credentials for Known {
    async fn read(&self, _: &CredentialRef) -> Result<SecretBytes, PortError> {
        let known = self.0.lock().unwrap();
        Ok(SecretBytes::from(known.clone().into_bytes()))
    }
}

/// A server with an admin that was granted what the rotator says.
struct Shop {
    server: PostgresServer,
    known: Arc<Known>,
    made: AtomicU32,
}

impl Shop {
    fn open() -> Self {
        let server = PostgresServer::start();
        let _url = server.database(DATABASE);
        Self {
            server,
            known: Arc::new(Known(Mutex::new(ADMIN_PASSWORD.to_owned()))),
            made: AtomicU32::new(0),
        }
    }

    fn resource(&self, strategy: Strategy, accounts: &[&str]) -> Resource {
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

    fn of(&self, resource: &Resource) -> PostgresAccounts {
        let credentials = Arc::clone(&self.known) as Arc<dyn Credentials>;
        PostgresAccounts::new(resource.clone(), credentials, Arc::new(OsEntropy)).unwrap()
    }

    fn psql(&self, sql: &str) -> String {
        self.server.psql(DATABASE, sql)
    }

    /// Makes an account, and a superuser runs what is printed for it; what is there is left out.
    fn grant(&self, resource: &Resource) {
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

#[tokio::test]
async fn an_admin_with_no_more_than_was_printed_keeps_the_laws_of_the_port() {
    let shop = Shop::open();
    accounts::check(&shop).await;
    let rights = shop.psql(&format!(
        "SELECT rolsuper, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = '{ADMIN}'"
    ));
    assert_eq!(rights, "f|f|f|f");
    let log = shop.server.log();
    assert!(!log.contains("canary"), "a password is in the server's log");
    assert!(!log.contains(ADMIN_PASSWORD));
}

#[tokio::test]
async fn a_second_account_has_the_settings_and_the_roles_of_the_first() {
    let shop = Shop::open();
    let resource = shop.resource(Strategy::AlternatingUsers, &["app", "it's \"b\""]);
    shop.grant(&resource);
    let _done = shop.psql(
        "ALTER ROLE app CONNECTION LIMIT 9; ALTER ROLE app SET statement_timeout TO '7s'; \
         ALTER ROLE app IN DATABASE shop SET search_path TO \"$user\", public; \
         CREATE TABLE orders (n int); ALTER TABLE orders OWNER TO app_owner",
    );
    let hand = shop.of(&resource);
    let second = Login::of("it's \"b\"").like("app");
    let (one, until) = (value("one"), plenty());
    hand.accept(&second, &one, Keep::Nothing, &until).await.unwrap();
    let settings = |name: &str| {
        shop.psql(&format!(
            "SELECT r.rolconnlimit, coalesce(d.datname, '-'), s.setconfig FROM pg_roles r \
             JOIN pg_db_role_setting s ON s.setrole = r.oid LEFT JOIN pg_database d ON d.oid = s.setdatabase \
             WHERE r.rolname = $name${name}$name$ ORDER BY 2"
        ))
    };
    assert_eq!(settings("it's \"b\""), settings("app"));
    assert!(settings("app").contains("search_path"));
    let url = shop.server.tcp_url(DATABASE);
    let address = Address::parse(&url, None).unwrap();
    let address = address.for_user(&second.name, &one).unwrap();
    let mut session = session::single(&address).await.unwrap();
    let altered = sqlx::raw_sql("ALTER TABLE public.orders ADD COLUMN m int").execute(&mut session);
    altered.await.expect("it acts as the owner role");
}

#[tokio::test]
async fn nobody_is_made_like_a_superuser_or_like_one_without_a_role() {
    let shop = Shop::open();
    let resource = shop.resource(Strategy::SingleUser, &["app"]);
    shop.grant(&resource);
    let _done = shop.psql("CREATE ROLE boss LOGIN SUPERUSER");
    let (hand, one, until) = (shop.of(&resource), value("one"), plenty());
    for (sibling, why) in [("boss", "superuser"), ("app", "a member of no role")] {
        let missing = Login::of("other").like(sibling);
        let made = hand.accept(&missing, &one, Keep::Nothing, &until).await;
        let error = refused(made);
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.to_string().contains(why), "{error}");
    }
    assert!(!hand.admits(&Login::of("other"), &one, &until).await.unwrap());
}

#[tokio::test]
async fn a_refused_admin_and_a_missing_right_are_told_apart_and_named() {
    let shop = Shop::open();
    let resource = shop.resource(Strategy::SingleUser, &["app"]);
    shop.grant(&resource);
    let (hand, one, until) = (shop.of(&resource), value("one"), plenty());
    let login = Login::of("app");
    let _done = shop.psql(&format!("ALTER ROLE {ADMIN} NOCREATEROLE"));
    let set = hand.accept(&login, &one, Keep::Nothing, &until).await;
    let error = refused(set);
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("rotator grants"), "{error}");
    assert!(!LoginRefused::is_beneath(&error));
    *shop.known.0.lock().unwrap() = "another".to_owned();
    let marked = hand.mark(&until).await;
    let error = refused(marked);
    assert!(LoginRefused::is_beneath(&error), "work waits for it");
    assert!(error.to_string().contains("shop/admin"), "{error}");
    assert!(!format!("{error:?}").contains("another"));
}

#[tokio::test]
async fn a_server_that_is_away_is_waited_for_and_is_no_refusal() {
    let mut shop = Shop::open();
    let resource = shop.resource(Strategy::SingleUser, &["app"]);
    shop.grant(&resource);
    let (hand, one, until) = (shop.of(&resource), value("one"), plenty());
    let login = Login::of("app");
    hand.accept(&login, &one, Keep::Nothing, &until).await.unwrap();
    shop.server.kill();
    let admitted = hand.admits(&login, &one, &until).await;
    assert_eq!(kind(admitted), ErrorKind::Unavailable);
    let locked = hand.refuse(&login, None, &until).await;
    assert_eq!(kind(locked), ErrorKind::Unavailable);
    shop.server.restart();
    assert!(hand.admits(&login, &one, &until).await.unwrap());
}

#[tokio::test]
async fn sessions_that_the_admin_may_not_see_are_not_guessed() {
    let shop = Shop::open();
    let resource = shop.resource(Strategy::SingleUser, &["app"]);
    shop.grant(&resource);
    let (hand, one, until) = (shop.of(&resource), value("one"), plenty());
    let login = Login::of("app");
    hand.accept(&login, &one, Keep::Nothing, &until).await.unwrap();
    let _session = accounts::Resource::session(&shop, &login, &one).await;
    let now = hand.mark(&until).await.unwrap();
    assert_eq!(hand.older(&login, &now, &until).await.unwrap(), Some(1));
    let _done = shop.psql(&format!("REVOKE app FROM {ADMIN}"));
    assert_eq!(hand.older(&login, &now, &until).await.unwrap(), None);
}

#[test]
fn an_address_with_a_password_or_a_parameter_is_refused() {
    let known = || Arc::new(Known(Mutex::new(String::new()))) as Arc<dyn Credentials>;
    for connection in [
        "postgres://admin:canary-5d0e@db.example/shop",
        "postgres://admin@db.example/shop?sslmode=disable",
        "postgres://admin@db.example/shop?sslkey=/etc/shadow",
        "postgres://admin@db.example",
        "mysql://admin@db.example/shop",
    ] {
        let resource = Resource {
            kind: Kind::Postgres,
            connection: connection.to_owned(),
            accounts: vec!["app".to_owned()],
            admin: SecretName::parse("shop/admin").unwrap(),
            strategy: Strategy::SingleUser,
            ca: None,
        };
        let made = PostgresAccounts::new(resource, known(), Arc::new(OsEntropy));
        assert_eq!(kind(made.map(drop)), ErrorKind::Denied, "{connection}");
    }
}

/// One secret whose two accounts alternate.
struct Alternating<'s> {
    shop: &'s Shop,
    vault: Arc<FakeVault>,
    resource: Resource,
}

impl Alternating<'_> {
    fn rotator(&self, current: Option<u64>, kept: &[u64]) -> AccountRotator {
        let plan = AtResource {
            resource: self.resource.clone(),
            admin: None,
            current,
            kept: kept.to_vec(),
        };
        let accounts = Arc::new(self.shop.of(&self.resource));
        AccountRotator::new(accounts, plan, Arc::clone(&self.vault) as _, Arc::new(OsEntropy))
    }

    /// A version is made and proven; gives its account and its password.
    async fn make(&self, version: u64, current: Option<u64>) -> form::Opened {
        let rotator = self.rotator(current, &[]);
        let mut work = StepWork {
            rotation: RotationId::from_bytes([u8::try_from(version).unwrap(); 16]),
            secret: SECRET,
            step: Step::Create,
            attempt: 1,
            versions: vec![version],
            generator: Some(Generator::default()),
            provided: false,
            outside: None,
            resource: None,
        };
        let until = plenty();
        rotator.create(&work, &until).await.unwrap();
        work.step = Step::Set;
        rotator.set(&work, &until).await.unwrap();
        work.step = Step::Test;
        rotator.test(&work, &until).await.unwrap();
        work.step = Step::Finish;
        rotator.finish(&work, &until).await.unwrap();
        let value = self.vault.value(SECRET, version).unwrap();
        let value = SecretBytes::from(value);
        form::decode(Strategy::AlternatingUsers, &value).unwrap()
    }

    async fn admits(&self, opened: &form::Opened) -> bool {
        let login = Login::of(opened.account.clone().unwrap());
        let hand = self.shop.of(&self.resource);
        hand.admits(&login, &opened.password, &plenty()).await.unwrap()
    }
}

#[tokio::test]
async fn two_accounts_take_turns_and_the_old_one_is_locked_with_each() {
    let shop = Shop::open();
    let resource = shop.resource(Strategy::AlternatingUsers, &["app", "app_b"]);
    shop.grant(&resource);
    let secret = Alternating {
        shop: &shop,
        vault: Arc::default(),
        resource,
    };
    let mut before = secret.make(1, None).await;
    for version in 2..=4 {
        let after = secret.make(version, Some(version - 1)).await;
        assert_ne!(before.account, after.account);
        assert!(secret.admits(&before).await && secret.admits(&after).await);
        let rotator = secret.rotator(Some(version), &[version - 1]);
        for _ in 0..2 {
            let retired = rotator.retire(SECRET, &[version - 1], None, &plenty());
            retired.await.unwrap();
        }
        assert!(!secret.admits(&before).await && secret.admits(&after).await);
        before = after;
    }
    let locked = shop.psql(
        "SELECT rolname FROM pg_authid WHERE rolname LIKE 'app%' AND rolcanlogin AND rolpassword IS NOT NULL",
    );
    assert_eq!(locked, before.account.unwrap());
}

#[tokio::test]
async fn a_standby_account_is_not_reused_while_a_session_of_it_is_open() {
    let shop = Shop::open();
    let resource = shop.resource(Strategy::AlternatingUsers, &["app", "app_b"]);
    shop.grant(&resource);
    let secret = Alternating {
        shop: &shop,
        vault: Arc::default(),
        resource,
    };
    let first = secret.make(1, None).await;
    let login = Login::of(first.account.clone().unwrap());
    let held = accounts::Resource::session(&shop, &login, &first.password).await;
    secret.make(2, Some(1)).await;
    let rotator = secret.rotator(Some(2), &[1]);
    rotator.retire(SECRET, &[1], None, &plenty()).await.unwrap();
    let work = StepWork {
        rotation: RotationId::from_bytes([3; 16]),
        secret: SECRET,
        step: Step::Set,
        attempt: 1,
        versions: vec![3],
        generator: Some(Generator::default()),
        provided: false,
        outside: None,
        resource: None,
    };
    let rotator = secret.rotator(Some(2), &[]);
    rotator.create(&work, &plenty()).await.unwrap();
    let set = rotator.set(&work, &plenty()).await;
    let error = refused(set);
    assert_eq!(error.kind, ErrorKind::Unavailable, "it is waited for");
    assert!(error.to_string().contains("1 sessions"), "{error}");
    drop(held);
    // The server notices the end of a session on its own.
    let mut tries = 0;
    while let Err(error) = rotator.set(&work, &plenty()).await {
        tries += 1;
        assert!(tries < MAX_TRIES, "{error}");
    }
    rotator.test(&work, &plenty()).await.unwrap();
}

#[tokio::test]
async fn a_revoked_version_is_refused_and_its_sessions_end() {
    let shop = Shop::open();
    let resource = shop.resource(Strategy::AlternatingUsers, &["app", "app_b"]);
    shop.grant(&resource);
    let secret = Alternating {
        shop: &shop,
        vault: Arc::default(),
        resource,
    };
    let leaked = secret.make(1, None).await;
    let login = Login::of(leaked.account.clone().unwrap());
    let mut thief = accounts::Resource::session(&shop, &login, &leaked.password).await;
    let rotator = secret.rotator(None, &[1]);
    rotator.revoke(SECRET, &[1], None, &plenty()).await.unwrap();
    assert!(!thief.works().await);
    assert!(!secret.admits(&leaked).await);
    assert!(secret.vault.value(SECRET, 1).is_none());
}
