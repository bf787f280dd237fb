//! How a password ends: also where no login tells whether it is still good, where sessions do not end,
//! and where somebody else is at work on the account.

use std::path::Path;
use std::process::Command;

use keywheel_core::resource::Strategy;
use keywheel_core::revocation::Answer;
use keywheel_engine::port::accounts::{Accounts as _, Keep, Login};
use keywheel_engine::port::rotator::TellsNothing;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_rotators::postgres::PostgresAccounts;
use keywheel_testkit::conformance::accounts;
use keywheel_testkit::conformance::store::{kind, plenty, refused, text, value};

use crate::shop::{ADMIN, ADMIN_PASSWORD, DATABASE, Shop};

/// What the server keeps of the account.
const STATE: &str = "SELECT rolcanlogin, rolpassword IS NULL FROM pg_authid WHERE rolname = 'app'";
const ROUNDS: usize = 8;
/// How often it is looked whether the server has read its settings again.
const MAX_TRIES: u32 = 2000;

/// A server with one account that accepts `one`.
async fn begun() -> (Shop, PostgresAccounts, Login) {
    let shop = Shop::open();
    let resource = shop.resource(Strategy::SingleUser, &["app"]);
    shop.grant(&resource);
    let (hand, login) = (shop.of(&resource), Login::of("app"));
    set(&hand, &login, "one").await;
    (shop, hand, login)
}

async fn set(hand: &PostgresAccounts, login: &Login, name: &str) {
    hand.accept(login, &value(name), Keep::Nothing, &plenty())
        .await
        .unwrap();
}

async fn refuse(hand: &PostgresAccounts, login: &Login, name: &str) {
    hand.refuse(login, Some(&value(name)), &plenty())
        .await
        .unwrap();
}

async fn admits(hand: &PostgresAccounts, login: &Login, name: &str) -> bool {
    hand.admits(login, &value(name), &plenty()).await.unwrap()
}

#[tokio::test]
async fn an_account_whose_connections_are_used_up_is_locked_all_the_same() {
    let (shop, hand, login) = begun().await;
    let _done = shop.psql("ALTER ROLE app CONNECTION LIMIT 1");
    let mut thief = accounts::Resource::session(&shop, &login, &value("one")).await;
    let until = plenty();
    let asked = hand.admits(&login, &value("one"), &until).await;
    assert_eq!(kind(asked), ErrorKind::Unavailable, "no login tells");
    refuse(&hand, &login, "one").await;
    assert_eq!(shop.psql(STATE), "f|t");
    assert_eq!(hand.end_sessions(&login, &until).await.unwrap(), 1);
    assert!(!thief.works().await);
    assert!(!admits(&hand, &login, "one").await);
}

#[tokio::test]
async fn an_account_that_is_kept_out_by_something_else_is_locked_all_the_same() {
    let (shop, hand, login) = begun().await;
    let _done = shop.psql(&format!(
        "REVOKE CONNECT ON DATABASE {DATABASE} FROM PUBLIC; \
         GRANT CONNECT ON DATABASE {DATABASE} TO {ADMIN}"
    ));
    let asked = hand.admits(&login, &value("one"), &plenty()).await;
    assert_eq!(kind(asked), ErrorKind::Denied);
    // The server says so only to who has the right password.
    assert_eq!(
        answer(&hand, &login, "one").await.unwrap(),
        Answer::Accepted
    );
    assert_ne!(
        answer(&hand, &login, "two").await.unwrap(),
        Answer::Accepted
    );
    refuse(&hand, &login, "one").await;
    assert_eq!(shop.psql(STATE), "f|t");

    let _done = shop.psql(&format!("GRANT CONNECT ON DATABASE {DATABASE} TO PUBLIC"));
    set(&hand, &login, "two").await;
    let file = shop.server.socket_directory().join("data/pg_hba.conf");
    let before = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, format!("host all app all reject\n{before}")).unwrap();
    reload(&shop, &hand, &login, false).await;
    let error = answer(&hand, &login, "two").await.unwrap_err();
    assert!(TellsNothing::is_beneath(&error), "{error}");
    refuse(&hand, &login, "two").await;
    assert_eq!(shop.psql(STATE), "f|t");
    std::fs::write(&file, before).unwrap();
    reload(&shop, &hand, &login, true).await;
    assert!(!admits(&hand, &login, "two").await);
}

async fn answer(hand: &PostgresAccounts, login: &Login, name: &str) -> Result<Answer, PortError> {
    hand.answer(login, &value(name), &plenty()).await
}

/// The server reads `pg_hba.conf` again; until it says or does not say that it keeps the account out.
async fn reload(shop: &Shop, hand: &PostgresAccounts, login: &Login, answers: bool) {
    let _done = shop.psql("SELECT pg_reload_conf()");
    for _ in 0..MAX_TRIES {
        let asked = hand.admits(login, &value("never"), &plenty()).await;
        if asked.is_ok() == answers {
            return;
        }
    }
    panic!("the server does not read its settings");
}

#[tokio::test]
async fn a_password_does_not_come_back_when_a_lock_by_hand_ends() {
    let (shop, hand, login) = begun().await;
    let _done = shop.psql("ALTER ROLE app NOLOGIN");
    refuse(&hand, &login, "never").await;
    assert_eq!(shop.psql(STATE), "f|f", "it has another password");
    refuse(&hand, &login, "one").await;
    let _done = shop.psql("ALTER ROLE app LOGIN");
    assert!(!admits(&hand, &login, "one").await);

    set(&hand, &login, "two").await;
    let _done = shop.psql("ALTER ROLE app VALID UNTIL '2001-01-01'");
    refuse(&hand, &login, "two").await;
    let _done = shop.psql("ALTER ROLE app LOGIN VALID UNTIL 'infinity'");
    assert!(!admits(&hand, &login, "two").await);
}

fn signal(pids: &[String], name: &str) {
    let told = Command::new("kill").arg(name).args(pids).status();
    assert!(told.unwrap().success());
}

#[tokio::test]
async fn sessions_that_do_not_end_are_told_and_keep_no_other_one_alive() {
    let (shop, hand, login) = begun().await;
    let one = value("one");
    let mut stuck = Vec::new();
    for _ in 0..3 {
        stuck.push(accounts::Resource::session(&shop, &login, &one).await);
    }
    let pids = shop.psql("SELECT pid FROM pg_stat_activity WHERE usename = 'app'");
    let pids: Vec<String> = pids.lines().map(str::to_owned).collect();
    assert_eq!(pids.len(), 3);
    let mut other = accounts::Resource::session(&shop, &login, &one).await;
    signal(&pids, "-STOP");
    let ended = hand.end_sessions(&login, &plenty()).await;
    let lives = other.works().await;
    signal(&pids, "-CONT");
    assert!(!lives, "all are told at once");
    let error = refused(ended);
    assert_eq!(error.kind, ErrorKind::Unavailable, "{error:?}");
    assert!(error.to_string().contains("are still there"), "{error}");
    hand.end_sessions(&login, &plenty()).await.unwrap();
    for session in &mut stuck {
        assert!(!session.works().await);
    }
    assert_eq!(hand.end_sessions(&login, &plenty()).await.unwrap(), 0);
}

#[tokio::test]
async fn whatever_comes_first_the_new_password_lives_and_the_old_one_dies() {
    let (_shop, hand, login) = begun().await;
    let mut old = "one".to_owned();
    for round in 0..ROUNDS {
        let new = format!("new{round}");
        tokio::join!(set(&hand, &login, &new), refuse(&hand, &login, &old));
        assert!(admits(&hand, &login, &new).await, "{round}");
        assert!(!admits(&hand, &login, &old).await, "{round}");
        old = new;
    }
}

#[tokio::test]
async fn one_of_us_at_a_time_is_at_an_account_and_nobody_else_puts_off_a_revocation() {
    let (shop, hand, login) = begun().await;
    let lock = "SELECT pg_advisory_lock(('x' || left(encode(sha256('keywheel account app'), 'hex'), 16))::bit(64)::bigint)";
    let until = plenty();
    let held = hold(&shop, ADMIN, ADMIN_PASSWORD, lock).await;
    let (two, one) = (value("two"), value("one"));
    for waits in [
        hand.accept(&login, &two, Keep::Nothing, &until).await,
        hand.refuse(&login, Some(&one), &until).await,
    ] {
        let error = refused(waits);
        assert_eq!(error.kind, ErrorKind::Unavailable);
        assert!(error.to_string().contains("another store-sync"), "{error}");
    }
    assert!(admits(&hand, &login, "one").await && !admits(&hand, &login, "two").await);
    drop(held);
    // The server notices the end of a session on its own.
    let mut tries = 0;
    while shop.psql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") != "0" {
        tries += 1;
        assert!(tries < MAX_TRIES);
    }
    let _thief = hold(&shop, "app", &text("one"), lock).await;
    let waits = hand.accept(&login, &two, Keep::Nothing, &until).await;
    assert_eq!(kind(waits), ErrorKind::Unavailable);
    refuse(&hand, &login, "one").await;
    assert!(!admits(&hand, &login, "one").await);
}

/// A session that ran this and is kept.
async fn hold(shop: &Shop, user: &str, password: &str, sql: &'static str) -> sqlx::PgConnection {
    let address = keywheel_postgres::Address::parse(&shop.server.tcp_url(DATABASE), None).unwrap();
    let password = keywheel_seal::SecretBytes::from(password.as_bytes().to_vec());
    let address = address.for_user(user, &password).unwrap();
    let mut session = keywheel_postgres::session::single(&address).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut session).await.unwrap();
    session
}

#[tokio::test]
async fn an_authority_that_is_named_is_asked_for_on_this_machine_too() {
    let shop = Shop::open();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let files = tempfile::tempdir().unwrap();
    let ca = files.path().join("ca.pem");
    std::fs::write(&ca, made.cert.pem()).unwrap();
    let mut resource = shop.resource(Strategy::SingleUser, &["app"]);
    shop.grant(&resource);
    shop.of(&resource).mark(&plenty()).await.unwrap();
    resource.ca = Some(Path::display(&ca).to_string());
    let error = refused(shop.of(&resource).mark(&plenty()).await);
    assert_eq!(error.kind, ErrorKind::Denied, "it speaks no TLS: {error:?}");
}
