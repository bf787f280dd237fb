//! MySQL's accounts on a real server: the laws of the port, with an admin that has exactly what `grants` prints, and
//! what is MySQL's own. Where the machine has no such server, each says that it did not run.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may stop at once"
)]

mod support;

use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keywheel_core::resource::{Kind, Resource};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::accounts::{Accounts, Keep, Keeps, Login, Mark};
use keywheel_engine::port::store::{Credentials, LoginRefused};
use keywheel_rotators::mariadb::MariaDbAccounts;
use keywheel_seal::{OsEntropy, SecretBytes};
use keywheel_testkit::conformance::accounts::{self, Session};
use keywheel_testkit::conformance::store::{kind, plenty, refused, text, value};
use keywheel_testkit::server::mysql::{MySqlServer, PASSWORD, USER};
use sha1::{Digest as _, Sha1};
use sqlx::mysql::{MySqlConnectOptions, MySqlConnection};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Row as _};
use support::{ADMIN, ADMIN_PASSWORD, Known};

/// What a server keeps where no password is to be.
const NOTHING: &str = "$A$005$THISISACOMBINATIONOFINVALIDSALTANDPASSWORDTHATMUSTNEVERBRBEUSED";
/// Salts that a server drew: some have signs that need care in a statement.
const DRAWN: u32 = 12;
/// Bytes of the longest password that a server lets anybody in with.
const LONGEST: usize = 256;

/// A server with an admin that was granted what the rotator says.
struct Shop {
    server: MySqlServer,
    known: Arc<Known>,
    made: AtomicU32,
}

impl Shop {
    /// Nothing where this machine has no MySQL.
    async fn open() -> Option<Self> {
        Some(Self::over(MySqlServer::start()?).await)
    }

    async fn over(server: MySqlServer) -> Self {
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

    /// The resource with this account, which accepts two passwords.
    fn twin(&self, login: &Login) -> Resource {
        support::resource(
            Kind::Mariadb,
            &self.server.url(ADMIN),
            &[login.name.as_str()],
        )
    }

    async fn connect(&self, user: &str, password: &str) -> MySqlConnection {
        let options = MySqlConnectOptions::new().host("127.0.0.1");
        let options = options.port(self.server.port()).username(user);
        options.password(password).connect().await.unwrap()
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
        let sql = format!(
            "SELECT CONCAT(plugin, ' ', account_locked, ' ', authentication_string, ' ', \
             COALESCE(CAST(User_attributes AS CHAR), '')) FROM mysql.user WHERE User = '{name}'"
        );
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
        self.run(&format!(
            "CREATE USER {name}@'%' IDENTIFIED WITH caching_sha2_password AS '{NOTHING}'"
        ))
        .await;
        Login::of(name)
    }

    fn overlaps(&self) -> bool {
        true
    }

    fn makes_missing(&self) -> bool {
        false
    }

    async fn session(&self, login: &Login, password: &SecretBytes) -> Box<dyn Session> {
        let password = std::str::from_utf8(password.expose()).unwrap();
        Box::new(Open(self.connect(&login.name, password).await))
    }
}

#[tokio::test]
async fn an_admin_with_no_more_than_was_printed_keeps_the_laws_of_the_port() {
    let Some(shop) = Shop::open().await else {
        return;
    };
    shop.run("SET GLOBAL general_log = ON").await;
    accounts::check(&shop).await;
    let rights = shop.run(&format!("SHOW GRANTS FOR {ADMIN}@'%'")).await;
    assert_eq!(rights.len(), 4, "{rights:?}");
    let file = shop.run("SELECT @@general_log_file").await.concat();
    let log = std::fs::read_to_string(file).unwrap();
    for said in ["RETAIN CURRENT PASSWORD", "DISCARD OLD PASSWORD"] {
        assert!(log.contains(said), "the log was on");
    }
    let canary = text("");
    assert!(
        !log.contains(canary.trim_end_matches('-')),
        "a password is in the server's log"
    );
}

#[tokio::test]
async fn what_the_server_made_of_a_password_is_known_again_and_comes_back_when_a_new_one_is_rolled_back()
 {
    let Some(shop) = Shop::open().await else {
        return;
    };
    let (hand, until) = (shop.hand(), plenty());
    let (one, two) = (value("one"), value("two"));
    for n in 0..DRAWN {
        let login = Login::of(format!("drawn_{n}"));
        let made = format!("CREATE USER {login}@'%' IDENTIFIED BY '{}'", text("one"));
        shop.run(&made).await;
        let keeps = hand.keeps(&login, &one, &until).await.unwrap();
        assert_eq!(keeps, Keeps::Yes, "{}", shop.kept(&login.name).await);
        hand.accept(&login, &two, Keep::Old, &until).await.unwrap();
        for password in [&one, &two] {
            assert!(hand.admits(&login, password, &until).await.unwrap());
            let keeps = hand.keeps(&login, password, &until).await.unwrap();
            assert_eq!(keeps, Keeps::Yes, "{}", shop.kept(&login.name).await);
        }
        hand.refuse(&login, Some(&two), &until).await.unwrap();
        assert!(hand.admits(&login, &one, &until).await.unwrap());
        assert!(!hand.admits(&login, &two, &until).await.unwrap());
    }
}

#[tokio::test]
async fn a_new_password_has_the_rounds_of_the_server_and_no_third_one_changes_anything() {
    let Some(shop) = Shop::open().await else {
        return;
    };
    let (hand, until) = (shop.hand(), plenty());
    let login = accounts::Resource::fresh(&shop).await;
    let (one, two, three) = (value("one"), value("two"), value("three"));
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    let rounds = shop.run("SELECT CAST(@@caching_sha2_password_digest_rounds AS CHAR)");
    let rounds: u32 = rounds.await.concat().parse().unwrap();
    let begin = format!(" $A${:03X}$", rounds / 1000);
    let kept = shop.kept(&login.name).await;
    assert!(kept.contains(&begin), "{kept} has not {rounds} rounds");
    hand.accept(&login, &two, Keep::Old, &until).await.unwrap();
    let before = shop.kept(&login.name).await;
    for there in [&two, &one] {
        hand.accept(&login, there, Keep::Old, &until).await.unwrap();
    }
    let error = refused(hand.accept(&login, &three, Keep::Old, &until).await);
    assert_eq!(error.kind, ErrorKind::Conflict);
    assert!(
        error.to_string().contains("revoke the older version"),
        "{error}"
    );
    assert_eq!(shop.kept(&login.name).await, before);
}

/// The server takes what is kept of any password, and lets nobody in with a long one.
#[tokio::test]
async fn a_password_is_taken_up_to_the_length_that_a_login_takes() {
    let Some(shop) = Shop::open().await else {
        return;
    };
    let (hand, until) = (shop.hand(), plenty());
    let login = accounts::Resource::fresh(&shop).await;
    let of = |length: usize| SecretBytes::from(vec![b'x'; length]);
    hand.accept(&login, &of(LONGEST), Keep::Nothing, &until)
        .await
        .unwrap();
    assert!(hand.admits(&login, &of(LONGEST), &until).await.unwrap());
    let before = shop.kept(&login.name).await;
    for keep in [Keep::Old, Keep::Nothing] {
        let error = refused(hand.accept(&login, &of(LONGEST + 1), keep, &until).await);
        assert_eq!(error.kind, ErrorKind::Denied);
        assert!(error.to_string().contains("256 bytes at most"), "{error}");
    }
    assert_eq!(shop.kept(&login.name).await, before);
}

#[tokio::test]
async fn what_a_locked_account_kept_does_not_come_back() {
    let Some(shop) = Shop::open().await else {
        return;
    };
    let (hand, until) = (shop.hand(), plenty());
    let login = accounts::Resource::fresh(&shop).await;
    let (one, two) = (value("one"), value("two"));
    let lock = format!("ALTER USER {login}@'%' ACCOUNT LOCK");
    let unlock = format!("ALTER USER {login}@'%' ACCOUNT UNLOCK");
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    shop.run(&lock).await;
    assert!(!hand.admits(&login, &one, &until).await.unwrap());
    hand.accept(&login, &two, Keep::Old, &until).await.unwrap();
    assert!(!hand.admits(&login, &one, &until).await.unwrap());
    assert!(hand.admits(&login, &two, &until).await.unwrap());
    // Revoked under a lock by hand.
    hand.accept(&login, &one, Keep::Old, &until).await.unwrap();
    for (dying, left) in [(&two, true), (&one, false)] {
        shop.run(&lock).await;
        hand.refuse(&login, Some(dying), &until).await.unwrap();
        assert!(!hand.admits(&login, &one, &until).await.unwrap());
        shop.run(&unlock).await;
        assert!(!hand.admits(&login, dying, &until).await.unwrap());
        assert_eq!(hand.admits(&login, &one, &until).await.unwrap(), left);
    }
}

#[tokio::test]
async fn who_has_another_way_in_or_a_certificate_is_left_alone() {
    let Some(shop) = Shop::open().await else {
        return;
    };
    for sql in [
        "CREATE USER older@'%' IDENTIFIED WITH sha256_password BY 'x'",
        "CREATE USER x509@'%' REQUIRE X509",
        "CREATE USER bare@'%'",
    ] {
        shop.run(sql).await;
    }
    let (hand, until, one) = (shop.hand(), plenty(), value("one"));
    for (name, why) in [
        ("older", "lets in by sha256_password"),
        ("x509", "REQUIRE SSL instead"),
    ] {
        let (login, before) = (Login::of(name), shop.kept(name).await);
        for keep in [Keep::Old, Keep::Nothing] {
            let error = refused(hand.accept(&login, &one, keep, &until).await);
            assert_eq!(error.kind, ErrorKind::Denied);
            assert!(error.to_string().contains(why), "{error}");
        }
        assert_eq!(shop.kept(name).await, before);
    }
    hand.refuse(&Login::of("older"), None, &until)
        .await
        .unwrap();
    let kept = shop.kept("older").await;
    assert!(kept.starts_with("sha256_password Y "), "{kept}");
    // Nobody is let in with nothing once there is a password.
    let bare = Login::of("bare");
    hand.accept(&bare, &one, Keep::Old, &until).await.unwrap();
    let kept = shop.kept("bare").await;
    assert!(!kept.contains("additional_password"), "{kept}");
    assert!(hand.admits(&bare, &one, &until).await.unwrap());
}

/// The admin may end sessions by `CONNECTION_ADMIN`, which MySQL's `read_only` does not hold up.
#[tokio::test]
async fn a_read_only_server_a_missing_right_and_a_refused_admin_are_told_apart_and_named() {
    let Some(shop) = Shop::open().await else {
        return;
    };
    let login = accounts::Resource::fresh(&shop).await;
    let (hand, until, one) = (shop.hand(), plenty(), value("one"));
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    let before = shop.kept(&login.name).await;
    for mode in ["read_only", "super_read_only"] {
        shop.run(&format!("SET GLOBAL {mode} = ON")).await;
        for refusal in [
            hand.accept(&login, &value("two"), Keep::Old, &until).await,
            hand.refuse(&login, Some(&one), &until).await,
            hand.refuse(&login, None, &until).await,
        ] {
            let error = refused(refusal);
            assert_eq!(error.kind, ErrorKind::Denied);
            assert!(error.to_string().contains("name the primary"), "{error}");
        }
        assert_eq!(shop.kept(&login.name).await, before, "{mode}");
        shop.run("SET GLOBAL super_read_only = OFF").await;
        shop.run("SET GLOBAL read_only = OFF").await;
    }
    shop.run(&format!("REVOKE CREATE USER ON *.* FROM {ADMIN}@'%'"))
        .await;
    let error = refused(hand.refuse(&login, Some(&one), &until).await);
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("rotator grants"), "{error}");
    assert!(!LoginRefused::is_beneath(&error));
    *shop.known.0.lock().unwrap() = "another".to_owned();
    let error = refused(hand.mark(&until).await);
    assert!(LoginRefused::is_beneath(&error), "work waits for it");
    assert!(error.to_string().contains("shop/admin"), "{error}");
}

#[tokio::test]
async fn sessions_of_another_server_process_or_that_are_hidden_are_not_guessed() {
    let Some(mut shop) = Shop::open().await else {
        return;
    };
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
    for gone in [
        kind(hand.admits(&login, &one, &until).await),
        kind(hand.refuse(&login, None, &until).await),
    ] {
        assert_eq!(gone, ErrorKind::Unavailable);
    }
    shop.server.restart();
    assert!(hand.admits(&login, &one, &until).await.unwrap());
    let near = shop.at(&shop.server.socket_url(ADMIN), None);
    assert!(near.admits(&login, &one, &until).await.unwrap());
}

/// Over loopback TLS is taken where it is offered, and a password of MySQL's is not sent without.
#[tokio::test]
async fn a_server_without_tls_is_told_so() {
    let Some(server) = MySqlServer::without_tls() else {
        return;
    };
    let resource = support::resource(Kind::Mariadb, &server.url(USER), &["app"]);
    let known = Known(Mutex::new(PASSWORD.to_owned()));
    let hand = MariaDbAccounts::new(resource, Arc::new(known), Arc::new(OsEntropy)).unwrap();
    let error = refused(hand.mark(&plenty()).await);
    assert_eq!(error.kind, ErrorKind::Denied);
    assert!(error.to_string().contains("needs TLS"), "{error}");
}

#[tokio::test]
async fn one_of_us_at_a_time_is_at_an_account_and_nobody_else_puts_off_a_revocation() {
    let Some(shop) = Shop::open().await else {
        return;
    };
    let (hand, until) = (shop.hand(), plenty());
    let login = accounts::Resource::fresh(&shop).await;
    let (one, two) = (value("one"), value("two"));
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
    // The server of 9.7 has no SHA1() of its own.
    let digest = Sha1::digest(format!("`{login}`@`%`"));
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let lock = format!("DO GET_LOCK('keywheel-{digest}', 9)");
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
async fn with_an_authority_named_the_server_has_to_prove_its_name() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (made.cert.pem(), made.signing_key.serialize_pem());
    let Some(server) = MySqlServer::with_tls(&certificate, &key) else {
        return;
    };
    let shop = Shop::over(server).await;
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, &certificate).unwrap();
    let (until, port) = (plenty(), shop.server.port());
    let named = shop.at(&format!("mysql://{ADMIN}@localhost:{port}"), Some(&ca));
    named.mark(&until).await.unwrap();
    let login = accounts::Resource::fresh(&shop).await;
    shop.run(&format!("ALTER USER {login}@'%' REQUIRE SSL"))
        .await;
    named
        .accept(&login, &value("one"), Keep::Nothing, &until)
        .await
        .unwrap();
    assert!(named.admits(&login, &value("one"), &until).await.unwrap());
    let other = shop.at(&format!("mysql://{ADMIN}@127.0.0.1:{port}"), Some(&ca));
    let error = refused(other.mark(&until).await);
    assert_eq!(error.kind, ErrorKind::Denied, "{error:?}");
    assert!(error.to_string().contains("caFile"), "{error}");
}

#[tokio::test]
async fn the_two_passwords_of_an_account_take_turns_whatever_call_is_lost() {
    let Some(shop) = Shop::open().await else {
        return;
    };
    let login = accounts::Resource::fresh(&shop).await;
    let hand = Arc::new(shop.hand());
    support::whatever_call_is_lost_one_password_is_good_in_the_end(hand, &shop.twin(&login)).await;
    let login = accounts::Resource::fresh(&shop).await;
    support::two_passwords_take_turns(Arc::new(shop.hand()), &shop.twin(&login)).await;
    let login = accounts::Resource::fresh(&shop).await;
    support::sessions_of_an_old_version_are_told(&shop, &shop.twin(&login)).await;
    let login = accounts::Resource::fresh(&shop).await;
    support::an_unclear_cut_over_is_looked_at(Arc::new(shop.hand()), &shop.twin(&login)).await;
}
