//! MariaDB's accounts on a real server: the laws of the port, with an admin that has exactly what
//! `grants` prints, and what is MariaDB's own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may stop at once"
)]

mod support;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use async_trait::async_trait;
use keywheel_core::effect::AtResource;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_core::rotation::Step;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::accounts::{Accounts, Keep, Login, Mark};
use keywheel_engine::port::rotator::{Probed, Rotator as _};
use keywheel_engine::port::store::{Credentials, LoginRefused};
use keywheel_engine::port::vault::VersionVault as _;
use keywheel_rotators::mariadb::MariaDbAccounts;
use keywheel_rotators::{AccountRotator, form};
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance::accounts::{self, Session};
use keywheel_testkit::conformance::store::{kind, plenty, refused, text, value};
use keywheel_testkit::fake::FakeVault;
use keywheel_testkit::server::mariadb::{MariaDbServer, PASSWORD, USER};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use support::{ADMIN, ADMIN_PASSWORD, Known};

/// A server with an admin that was granted what the rotator says.
struct Shop {
    server: MariaDbServer,
    known: Arc<Known>,
    made: AtomicU32,
}

impl Shop {
    async fn open() -> Self {
        Self::over(MariaDbServer::start()).await
    }

    async fn over(server: MariaDbServer) -> Self {
        let shop = Self {
            server,
            known: Known::admin(),
            made: AtomicU32::new(0),
        };
        for line in shop.hand().grants().lines() {
            if !line.starts_with("--") {
                shop.run(line).await;
            }
        }
        let set = format!("ALTER USER {ADMIN}@'%' IDENTIFIED BY '{ADMIN_PASSWORD}' ACCOUNT UNLOCK");
        shop.run(&set).await;
        shop
    }

    /// Accounts over TCP.
    fn hand(&self) -> MariaDbAccounts {
        self.at(&self.server.url(ADMIN), None)
    }

    fn at(&self, connection: &str, ca: Option<&Path>) -> MariaDbAccounts {
        let resource = Resource {
            ca: ca.map(|ca| ca.display().to_string()),
            ..support::resource(Kind::Mariadb, connection, &["app", "app_b"])
        };
        let credentials = Arc::clone(&self.known) as Arc<dyn Credentials>;
        MariaDbAccounts::new(resource, credentials, Arc::new(OsEntropy)).unwrap()
    }

    async fn connect(&self, user: &str, password: &str) -> MySqlConnection {
        let options = MySqlConnectOptions::new().socket(self.server.socket());
        let options = options.username(user).password(password);
        options.connect().await.unwrap()
    }

    /// Another hand that may do everything; the first column of what it is told.
    async fn run(&self, sql: &str) -> Vec<String> {
        let mut connection = self.connect(USER, PASSWORD).await;
        let rows = sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).fetch_all(&mut connection);
        let rows = rows.await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        rows.iter()
            .map(|row| row.try_get_unchecked::<String, _>(0).unwrap())
            .collect()
    }

    /// What the server keeps of an account.
    async fn kept(&self, name: &str) -> String {
        let sql = format!("SELECT CAST(Priv AS CHAR) FROM mysql.global_priv WHERE User = '{name}'");
        self.run(&sql).await.concat()
    }
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
impl accounts::Resource for Shop {
    fn accounts(&self) -> Arc<dyn Accounts> {
        Arc::new(self.hand())
    }

    async fn fresh(&self) -> Login {
        let name = format!("app_{}", self.made.fetch_add(1, Ordering::Relaxed));
        let made =
            format!("CREATE USER {name}@'%' IDENTIFIED VIA mysql_native_password USING 'invalid'");
        self.run(&made).await;
        Login::of(name)
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn makes_missing(&self) -> bool {
        true
    }

    async fn session(&self, login: &Login, password: &SecretBytes) -> Box<dyn Session> {
        let password = std::str::from_utf8(password.expose()).unwrap();
        Box::new(Open(self.connect(&login.name, password).await))
    }
}

#[tokio::test]
async fn an_admin_with_no_more_than_was_printed_keeps_the_laws_of_the_port() {
    let shop = Shop::open().await;
    shop.run("SET GLOBAL general_log = ON").await;
    accounts::check(&shop).await;
    let rights = shop.run(&format!("SHOW GRANTS FOR {ADMIN}@'%'")).await;
    assert_eq!(rights.len(), 2, "{rights:?}");
    let file = shop
        .run("SELECT CONCAT(@@datadir, @@general_log_file)")
        .await
        .concat();
    let log = std::fs::read_to_string(file).unwrap();
    assert!(log.contains("ALTER USER"), "the log was on");
    let canary = text("");
    assert!(
        !log.contains(canary.trim_end_matches('-')),
        "a password is in the server's log"
    );
}

#[tokio::test]
async fn two_passwords_at_most_and_the_third_changes_nothing() {
    let shop = Shop::open().await;
    let (hand, until) = (shop.hand(), plenty());
    let login = accounts::Resource::fresh(&shop).await;
    let (one, two, three) = (value("one"), value("two"), value("three"));
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    hand.accept(&login, &two, Keep::Old, &until).await.unwrap();
    let before = shop.kept(&login.name).await;
    hand.accept(&login, &two, Keep::Old, &until).await.unwrap();
    hand.accept(&login, &one, Keep::Old, &until).await.unwrap();
    assert_eq!(
        shop.kept(&login.name).await,
        before,
        "not even the time of its change"
    );
    let third = hand.accept(&login, &three, Keep::Old, &until).await;
    let error = refused(third);
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(
        error.to_string().contains("revoke the older version"),
        "{error}"
    );
    assert_eq!(shop.kept(&login.name).await, before);
    for password in [&one, &two] {
        assert!(hand.admits(&login, password, &until).await.unwrap());
    }
}

#[tokio::test]
async fn a_password_that_a_locked_account_kept_does_not_come_back() {
    let shop = Shop::open().await;
    let (hand, until) = (shop.hand(), plenty());
    let login = accounts::Resource::fresh(&shop).await;
    let (one, two) = (value("one"), value("two"));
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    shop.run(&format!("ALTER USER {}@'%' ACCOUNT LOCK", login.name))
        .await;
    assert!(!hand.admits(&login, &one, &until).await.unwrap());
    hand.accept(&login, &two, Keep::Old, &until).await.unwrap();
    assert!(!hand.admits(&login, &one, &until).await.unwrap());
    assert!(hand.admits(&login, &two, &until).await.unwrap());
}

#[tokio::test]
async fn a_password_that_was_revoked_under_a_lock_by_hand_does_not_come_back() {
    let shop = Shop::open().await;
    let (hand, until) = (shop.hand(), plenty());
    let login = accounts::Resource::fresh(&shop).await;
    let (one, two) = (value("one"), value("two"));
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    hand.accept(&login, &two, Keep::Old, &until).await.unwrap();
    for (dying, left) in [(&one, true), (&two, false)] {
        shop.run(&format!("ALTER USER {login}@'%' ACCOUNT LOCK"))
            .await;
        hand.refuse(&login, Some(dying), &until).await.unwrap();
        assert!(!hand.admits(&login, &two, &until).await.unwrap());
        shop.run(&format!("ALTER USER {login}@'%' ACCOUNT UNLOCK"))
            .await;
        assert!(!hand.admits(&login, dying, &until).await.unwrap());
        assert_eq!(hand.admits(&login, &two, &until).await.unwrap(), left);
    }
}

#[tokio::test]
async fn clients_that_come_back_are_let_in_and_others_of_like_name_are_left_alone() {
    const CLIENTS: u64 = 3;
    let shop = Shop::open().await;
    let (hand, until, one) = (shop.hand(), plenty(), value("one"));
    let login = accounts::Resource::fresh(&shop).await;
    let other = Login::of(login.name.to_uppercase());
    shop.run(&format!("CREATE USER {other}@'%'")).await;
    for login in [&login, &other] {
        hand.accept(login, &one, Keep::Nothing, &until)
            .await
            .unwrap();
    }
    let mut bystander = accounts::Resource::session(&shop, &other, &one).await;
    let (begun, mut waits) = tokio::sync::mpsc::channel(1);
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CLIENTS {
        let options = MySqlConnectOptions::new().socket(shop.server.socket());
        let options = options.username(&login.name).password(&text("one"));
        let begun = begun.clone();
        clients.spawn(async move {
            let mut open = options.connect().await.unwrap();
            begun.send(()).await.unwrap();
            loop {
                let works = sqlx::raw_sql("DO SLEEP(0.01)").execute(&mut open).await;
                if works.is_err() {
                    open = options.connect().await.unwrap();
                }
            }
        });
    }
    for _ in 0..CLIENTS {
        waits.recv().await.unwrap();
    }
    let now = hand.mark(&until).await.unwrap();
    let older = hand.older(&login, &now, &until).await.unwrap();
    assert_eq!(older, Some(CLIENTS), "not the bystander");
    let ended = hand.end_sessions(&login, &until).await.unwrap();
    assert!(
        (CLIENTS..3 * CLIENTS).contains(&ended),
        "{ended}: each once"
    );
    assert!(bystander.works().await);
    clients.shutdown().await;
}

#[tokio::test]
async fn whatever_comes_first_the_new_password_lives_and_the_old_one_dies() {
    let shop = Shop::open().await;
    let (hand, until) = (shop.hand(), plenty());
    let login = accounts::Resource::fresh(&shop).await;
    let mut old = value("old");
    hand.accept(&login, &old, Keep::Nothing, &until)
        .await
        .unwrap();
    for round in 0..8 {
        let new = value(&round.to_string());
        let (set, ended) = tokio::join!(
            hand.accept(&login, &new, Keep::Old, &until),
            hand.refuse(&login, Some(&old), &until)
        );
        set.unwrap();
        ended.unwrap();
        assert!(hand.admits(&login, &new, &until).await.unwrap(), "{round}");
        assert!(!hand.admits(&login, &old, &until).await.unwrap(), "{round}");
        old = new;
    }
}

#[tokio::test]
async fn one_of_us_at_a_time_is_at_an_account_and_nobody_else_puts_off_a_revocation() {
    let shop = Shop::open().await;
    let (hand, until) = (shop.hand(), plenty());
    let login = accounts::Resource::fresh(&shop).await;
    let (one, two) = (value("one"), value("two"));
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    let lock = format!("DO GET_LOCK(CONCAT('keywheel-', SHA1('`{login}`@`%`')), 9)");
    let hold = async |user: &str, password: &str| {
        let mut held = shop.connect(user, password).await;
        let taken = sqlx::raw_sql(AssertSqlSafe(lock.clone())).execute(&mut held);
        taken.await.unwrap();
        held
    };
    let held = hold(ADMIN, ADMIN_PASSWORD).await;
    for waits in [
        hand.accept(&login, &two, Keep::Old, &until).await,
        hand.refuse(&login, Some(&one), &until).await,
    ] {
        let error = refused(waits);
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.to_string().contains("another store-sync"), "{error}");
    }
    assert!(hand.admits(&login, &one, &until).await.unwrap());
    drop(held);
    let _thief = hold(&login.name, &text("one")).await;
    let waits = hand.accept(&login, &two, Keep::Old, &until).await;
    assert_eq!(kind(waits), ErrorKind::Unavailable);
    hand.refuse(&login, Some(&one), &until).await.unwrap();
    assert!(!hand.admits(&login, &one, &until).await.unwrap());
}

#[tokio::test]
async fn a_second_account_has_the_roles_and_limits_of_the_first() {
    let shop = Shop::open().await;
    for sql in [
        "CREATE DATABASE shop",
        "CREATE TABLE shop.orders (n INT)",
        "CREATE ROLE shop_app",
        "GRANT SELECT ON shop.* TO shop_app",
        "CREATE USER app@'%' ACCOUNT LOCK",
        "ALTER USER app@'%' WITH MAX_USER_CONNECTIONS 5",
        "GRANT shop_app TO app@'%'",
        "SET DEFAULT ROLE shop_app FOR app@'%'",
        "GRANT shop_app TO rotator@'%' WITH ADMIN OPTION",
    ] {
        shop.run(sql).await;
    }
    let (hand, until, one) = (shop.hand(), plenty(), value("one"));
    let second = Login::of("app_b").like("app");
    hand.accept(&second, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    assert!(
        shop.kept("app_b")
            .await
            .contains("\"max_user_connections\":5")
    );
    let works = async |shop: &Shop| {
        let mut session = shop.connect("app_b", &text("one")).await;
        let read = sqlx::raw_sql("SELECT n FROM shop.orders").execute(&mut session);
        read.await.is_ok()
    };
    assert!(
        works(&shop).await,
        "it acts in the role from its first statement on"
    );
    // A start that was cut off before the role was given.
    shop.run("REVOKE shop_app FROM app_b@'%'").await;
    assert!(!works(&shop).await);
    hand.accept(&second, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    assert!(works(&shop).await);
}

/// `CREATE USER` commits: what comes after it may be lost.
#[tokio::test]
async fn a_second_account_that_was_cut_off_when_it_was_made_gets_its_role_before_it_is_promoted() {
    let shop = Shop::open().await;
    for sql in [
        "CREATE ROLE shop_app",
        "CREATE USER app@'%' IDENTIFIED VIA mysql_native_password USING 'invalid'",
        "GRANT shop_app TO app@'%'",
        "SET DEFAULT ROLE shop_app FOR app@'%'",
        "GRANT shop_app TO rotator@'%' WITH ADMIN OPTION",
    ] {
        shop.run(sql).await;
    }
    let (until, vault) = (plenty(), Arc::new(FakeVault::default()));
    let (create, set) = (support::work(Step::Create, 2), support::work(Step::Set, 2));
    let first = support::work(Step::Create, 1).rotation;
    let current = form::encode(Strategy::AlternatingUsers, "app", &value("one")).unwrap();
    vault
        .insert(create.secret, 1, first, &current)
        .await
        .unwrap();
    let plan = AtResource {
        resource: support::resource(Kind::Mariadb, &shop.server.url(ADMIN), &["app", "app_b"]),
        admin: None,
        current: Some(1),
        kept: Vec::new(),
        unclear: true,
    };
    let (hand, kept) = (Arc::new(shop.hand()), Arc::clone(&vault));
    let rotator = AccountRotator::new(hand, plan, kept, Arc::new(OsEntropy));
    rotator.create(&create, &until).await.unwrap();
    rotator.set(&set, &until).await.unwrap();
    // As it is after the first of the statements that make it.
    shop.run("REVOKE shop_app FROM app_b@'%'").await;
    assert_eq!(rotator.probe(&set, &until).await.unwrap(), Probed::NotDone);
    rotator.set(&set, &until).await.unwrap();
    let roles = shop.run("SELECT Role FROM mysql.roles_mapping WHERE User = 'app_b'");
    assert_eq!(roles.await, ["shop_app"]);
    assert!(
        shop.kept("app_b")
            .await
            .contains("\"default_role\":\"shop_app\"")
    );
}

#[tokio::test]
async fn nobody_is_made_like_one_with_rights_of_its_own_or_changed_that_has_another_way_in() {
    let shop = Shop::open().await;
    for sql in [
        "CREATE USER own@'%'",
        "GRANT SELECT ON mysql.* TO own@'%'",
        "CREATE USER cert@'%' REQUIRE SUBJECT '/CN=cert'",
        "CREATE USER x509@'%' REQUIRE X509",
        "CREATE USER twofold@'%' IDENTIFIED VIA mysql_native_password USING 'invalid' OR unix_socket",
    ] {
        shop.run(sql).await;
    }
    let (hand, until, one) = (shop.hand(), plenty(), value("one"));
    for (sibling, why) in [
        ("own", "rights of its own"),
        ("cert", "a client's certificate"),
        ("x509", "a client's certificate"),
    ] {
        let missing = Login::of("other").like(sibling);
        let error = refused(hand.accept(&missing, &one, Keep::Nothing, &until).await);
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.to_string().contains(why), "{error}");
    }
    assert_eq!(shop.kept("other").await, "");
    let before = shop.kept("x509").await;
    let x509 = Login::of("x509");
    let error = refused(hand.accept(&x509, &one, Keep::Nothing, &until).await);
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("REQUIRE SSL instead"), "{error}");
    assert_eq!(shop.kept("x509").await, before);
    let before = shop.kept("twofold").await;
    let twofold = Login::of("twofold");
    let error = refused(hand.accept(&twofold, &one, Keep::Old, &until).await);
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("unix_socket"), "{error}");
    assert_eq!(shop.kept("twofold").await, before);
    hand.refuse(&twofold, None, &until).await.unwrap();
    assert!(
        !shop.kept("twofold").await.contains("unix_socket"),
        "locked it has no way in"
    );
}

#[tokio::test]
async fn an_account_of_one_host_is_told_apart_by_its_name() {
    let shop = Shop::open().await;
    for host in ["%", "10.0.0.%"] {
        let invalid = "IDENTIFIED VIA mysql_native_password USING 'invalid'";
        shop.run(&format!("CREATE USER app@'{host}' {invalid}"))
            .await;
    }
    let (hand, until, one) = (shop.hand(), plenty(), value("one"));
    let far = Login::of("app@10.0.0.%");
    hand.accept(&far, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    assert!(!hand.admits(&Login::of("app"), &one, &until).await.unwrap());
    let changed =
        shop.run("SELECT Host FROM mysql.global_priv WHERE User = 'app' AND Priv LIKE '%\"*%'");
    assert_eq!(changed.await, ["10.0.0.%"]);
}

#[tokio::test]
async fn a_refused_admin_and_a_missing_right_are_told_apart_and_named() {
    let shop = Shop::open().await;
    let login = accounts::Resource::fresh(&shop).await;
    let (hand, until, one) = (shop.hand(), plenty(), value("one"));
    shop.run("SET GLOBAL read_only = 1").await;
    let error = refused(hand.accept(&login, &one, Keep::Nothing, &until).await);
    assert!(error.to_string().contains("by a setting"), "{error}");
    shop.run("SET GLOBAL read_only = 0").await;
    shop.run(&format!("REVOKE CREATE USER ON *.* FROM {ADMIN}@'%'"))
        .await;
    let error = refused(hand.accept(&login, &one, Keep::Nothing, &until).await);
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("rotator grants"), "{error}");
    assert!(!LoginRefused::is_beneath(&error));
    *shop.known.0.lock().unwrap() = "another".to_owned();
    let error = refused(hand.mark(&until).await);
    assert!(LoginRefused::is_beneath(&error), "work waits for it");
    assert!(error.to_string().contains("shop/admin"), "{error}");
    assert!(!format!("{error:?}").contains("another"));
}

#[tokio::test]
async fn sessions_of_another_server_process_or_that_are_hidden_are_not_guessed() {
    let mut shop = Shop::open().await;
    let login = accounts::Resource::fresh(&shop).await;
    let (hand, until, one) = (shop.hand(), plenty(), value("one"));
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    let _session = accounts::Resource::session(&shop, &login, &one).await;
    let now = hand.mark(&until).await.unwrap();
    assert_eq!(hand.older(&login, &now, &until).await.unwrap(), Some(1));
    let other = Mark(now.0 - (1 << 32));
    assert_eq!(hand.older(&login, &other, &until).await.unwrap(), None);
    shop.run(&format!("REVOKE PROCESS ON *.* FROM {ADMIN}@'%'"))
        .await;
    assert_eq!(hand.older(&login, &now, &until).await.unwrap(), None);
    let blind = refused(hand.end_sessions(&login, &until).await);
    assert_eq!(blind.kind, ErrorKind::Denied, "none seen is not none there");
    shop.server.kill();
    assert_eq!(
        kind(hand.admits(&login, &one, &until).await),
        ErrorKind::Unavailable
    );
    assert_eq!(
        kind(hand.refuse(&login, None, &until).await),
        ErrorKind::Unavailable
    );
    shop.server.restart();
    assert!(hand.admits(&login, &one, &until).await.unwrap());
    let near = shop.at(&shop.server.socket_url(ADMIN), None);
    assert!(near.admits(&login, &one, &until).await.unwrap());
}

#[tokio::test]
async fn with_an_authority_named_the_server_has_to_prove_its_name() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let shop = Shop::over(MariaDbServer::with_tls(&certificate, &key)).await;
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, &certificate).unwrap();
    let (until, port) = (plenty(), shop.server.port());
    let named = shop.at(&format!("mariadb://{ADMIN}@localhost:{port}"), Some(&ca));
    named.mark(&until).await.unwrap();
    let login = accounts::Resource::fresh(&shop).await;
    shop.run(&format!("ALTER USER {login}@'%' REQUIRE SSL"))
        .await;
    named
        .accept(&login, &value("one"), Keep::Nothing, &until)
        .await
        .unwrap();
    assert!(named.admits(&login, &value("one"), &until).await.unwrap());
    let other = shop.at(&format!("mariadb://{ADMIN}@127.0.0.1:{port}"), Some(&ca));
    let error = refused(other.mark(&until).await);
    assert_eq!(error.kind, ErrorKind::Denied, "{error:?}");
    assert!(error.to_string().contains("caFile"), "{error}");
    let strange = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&ca, strange.cert.pem()).unwrap();
    let error = refused(named.mark(&until).await);
    assert_eq!(
        error.kind,
        ErrorKind::Denied,
        "the file is read each time: {error:?}"
    );
}

#[tokio::test]
async fn the_two_passwords_of_an_account_take_turns_whatever_call_is_lost() {
    let shop = Shop::open().await;
    let login = accounts::Resource::fresh(&shop).await;
    let resource = support::resource(
        Kind::Mariadb,
        &shop.server.url(ADMIN),
        &[login.name.as_str()],
    );
    let hand = Arc::new(shop.hand());
    support::whatever_call_is_lost_one_password_is_good_in_the_end(hand, &resource).await;
    let login = accounts::Resource::fresh(&shop).await;
    let url = shop.server.url(ADMIN);
    let resource = support::resource(Kind::Mariadb, &url, &[login.name.as_str()]);
    support::two_passwords_take_turns(Arc::new(shop.hand()), &resource).await;
    let login = accounts::Resource::fresh(&shop).await;
    let resource = support::resource(Kind::Mariadb, &url, &[login.name.as_str()]);
    support::sessions_of_an_old_version_are_told(&shop, &resource).await;
}

#[tokio::test]
async fn a_cut_over_whose_answer_is_lost_is_looked_at() {
    let shop = Shop::open().await;
    let login = accounts::Resource::fresh(&shop).await;
    let url = shop.server.url(ADMIN);
    let resource = support::resource(Kind::Mariadb, &url, &[login.name.as_str()]);
    support::an_unclear_cut_over_is_looked_at(Arc::new(shop.hand()), &resource).await;
}
