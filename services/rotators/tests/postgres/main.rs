//! PostgreSQL's accounts on a real server: the laws of the port, with an admin that has exactly what
//! `grants` prints, and a rotation over two accounts that alternate.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may stop at once"
)]

mod ends;
mod policy;
mod shop;
mod turns;
mod unclear;

use std::sync::{Arc, Mutex};

use keywheel_core::name::SecretName;
use keywheel_core::resource::{Kind, Resource, Strategy};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::accounts::{Accounts as _, Keep, Login};
use keywheel_engine::port::store::{Credentials, LoginRefused};
use keywheel_postgres::{Address, session};
use keywheel_rotators::postgres::PostgresAccounts;
use keywheel_seal::OsEntropy;
use keywheel_testkit::conformance::accounts;
use keywheel_testkit::conformance::store::{kind, plenty, refused, text, value};

use shop::{ADMIN, ADMIN_PASSWORD, DATABASE, Known, Shop};

#[tokio::test]
async fn an_admin_with_no_more_than_was_printed_keeps_the_laws_of_the_port() {
    let shop = Shop::open();
    accounts::check(&shop).await;
    let rights = shop.psql(&format!(
        "SELECT rolsuper, rolcreatedb, rolreplication, rolbypassrls FROM pg_roles WHERE rolname = '{ADMIN}'"
    ));
    assert_eq!(rights, "f|f|f|f");
    let log = shop.server.log();
    for statement in ["ALTER ROLE ", "CREATE ROLE ", "PASSWORD NULL"] {
        assert!(log.contains(statement), "the log is on: {statement}");
    }
    let canary = text("");
    let canary = canary.trim_end_matches('-');
    assert!(!log.contains(canary), "a password is in the server's log");
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
    hand.accept(&second, &one, Keep::Nothing, &until)
        .await
        .unwrap();
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
    assert!(
        !hand
            .admits(&Login::of("other"), &one, &until)
            .await
            .unwrap()
    );
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
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
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
    hand.accept(&login, &one, Keep::Nothing, &until)
        .await
        .unwrap();
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
        "postgres://ad%0amin@db.example/shop",
        "postgres://ad\nmin@db.example/shop",
    ] {
        let resource = Resource {
            kind: Kind::Postgres,
            connection: connection.to_owned(),
            accounts: vec!["app".to_owned()],
            admin: SecretName::parse("shop/admin").unwrap(),
            strategy: Strategy::SingleUser,
            ca: None,
        };
        let printed = keywheel_rotators::grants(&resource);
        assert_eq!(kind(printed), ErrorKind::Denied, "{connection}");
        let made = PostgresAccounts::new(resource, known(), Arc::new(OsEntropy));
        assert_eq!(kind(made.map(drop)), ErrorKind::Denied, "{connection}");
    }
    let hidden = Resource {
        kind: Kind::Postgres,
        connection: "postgres://admin@db.example/shop".to_owned(),
        accounts: vec!["app\nDROP DATABASE shop; --".to_owned()],
        admin: SecretName::parse("shop/admin").unwrap(),
        strategy: Strategy::SingleUser,
        ca: None,
    };
    let printed = keywheel_rotators::grants(&hidden);
    assert_eq!(kind(printed), ErrorKind::Denied, "it would be run");
}
