//! Sessions on a real server: what is refused, who makes the tables, who is cut.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may stop at once"
)]

use keywheel_postgres::fault::{Fault, sort};
use keywheel_postgres::{Address, Error, session};
use keywheel_seal::SecretBytes;
use keywheel_testkit::server::postgres::{PASSWORD, PostgresServer};

const SCHEMA: &str = "keywheel_test";
const FIRST: &str = "CREATE TABLE one (n INT PRIMARY KEY); INSERT INTO one VALUES (1)";
const SECOND: &str = "CREATE TABLE two (n INT)";

fn address(url: &str) -> Address {
    Address::parse(url, None).unwrap()
}

#[tokio::test]
async fn many_open_an_empty_database_at_once_and_one_makes_the_tables() {
    let server = PostgresServer::start();
    let at = address(&server.database("many"));
    let opened = (0..6).map(|_| session::open(&at, SCHEMA, &[FIRST]));
    let pools = futures_util::future::join_all(opened).await;
    let mut pools: Vec<_> = pools.into_iter().map(Result::unwrap).collect();
    let pool = pools.pop().unwrap();
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM one")
        .fetch_one(&pool)
        .await
        .unwrap();
    assert_eq!(count, 1);
    session::open(&at, SCHEMA, &[FIRST, SECOND]).await.unwrap();
    let newer = session::open(&at, SCHEMA, &[FIRST]).await.unwrap_err();
    assert!(
        matches!(
            newer,
            Error::UnknownFormat {
                found: 2,
                known: 1,
                ..
            }
        ),
        "{newer}"
    );
    let taken = sqlx::query("INSERT INTO one VALUES (1)")
        .execute(&pool)
        .await;
    assert_eq!(sort(&taken.unwrap_err()), Fault::Taken);
}

#[tokio::test]
async fn a_server_that_forgets_is_refused_and_so_is_a_wrong_password() {
    let server = PostgresServer::start();
    let url = server.database("fit");
    let wrong = SecretBytes::from(b"wrong".to_vec());
    let right = SecretBytes::from(PASSWORD.as_bytes().to_vec());
    let tcp = |password| Address::parse(&server.tcp_url("fit"), Some(password)).unwrap();
    let refused = session::open(&tcp(&wrong), SCHEMA, &[]).await.unwrap_err();
    assert!(matches!(refused, Error::Refused { .. }), "{refused}");
    session::open(&tcp(&right), SCHEMA, &[]).await.unwrap();
    let _done = server.psql("fit", "ALTER SYSTEM SET full_page_writes = off");
    let _done = server.psql("fit", "SELECT pg_reload_conf()");
    let unfit = loop {
        // The server reads its configuration a moment after it was told to.
        if let Err(unfit) = session::open(&address(&url), SCHEMA, &[]).await {
            break unfit;
        }
    };
    assert!(
        unfit.to_string().contains("full_page_writes is off"),
        "{unfit}"
    );
}

#[tokio::test]
async fn a_session_that_goes_quiet_in_a_transaction_is_cut_and_lets_go() {
    let server = PostgresServer::start();
    let at = address(&server.database("quiet"));
    let pool = session::open(&at, SCHEMA, &[FIRST]).await.unwrap();
    let mut paused = pool.begin().await.unwrap();
    let lock = "SELECT n FROM one FOR UPDATE";
    sqlx::query(lock).execute(&mut *paused).await.unwrap();
    let other = session::open(&at, SCHEMA, &[FIRST]).await.unwrap();
    sqlx::query(lock).execute(&other).await.unwrap();
    let late = sqlx::query("INSERT INTO one VALUES (2)")
        .execute(&mut *paused)
        .await;
    assert_eq!(sort(&late.unwrap_err()), Fault::Gone);
}

#[tokio::test]
async fn a_server_that_is_away_is_named() {
    let mut server = PostgresServer::start();
    let at = address(&server.database("away"));
    server.kill();
    let gone = session::open(&at, SCHEMA, &[]).await.unwrap_err();
    assert!(matches!(gone, Error::Gone { .. }), "{gone}");
    assert!(gone.to_string().contains("away at"), "{gone}");
}
