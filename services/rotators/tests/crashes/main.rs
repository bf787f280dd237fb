//! A rotation at a real server that fails, waits, is cut off or killed at each failpoint of its rotator: exactly
//! one new credential, the old one good for as long as it was promised, and nobody else.
//!
//! One server of each kind, and every strategy there; at those that take longest one for each strategy, all at once.
//! What holds is looked up at the server itself, by real logins and by another hand that may do everything. What is
//! killed is a program that performs one step; a whole deployment is killed by the system suite `crash_points`, with
//! one strategy at each server.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests may stop at once"
)]

mod mariadb;
mod mysql;
mod postgres;
mod redis;
#[path = "../support/redis_client.rs"]
mod redis_client;
#[expect(
    dead_code,
    reason = "rotations that nothing but a lost call disturbs are the suites' of one server"
)]
#[path = "../support/mod.rs"]
mod support;
mod sweep;

use keywheel_core::resource::Strategy;

#[tokio::test]
async fn a_rotation_at_postgres_survives_every_failpoint() {
    if sweep::is_child().await {
        return;
    }
    let (turns, singles) = (
        postgres::Postgres::open().await,
        postgres::Postgres::open().await,
    );
    let own = "a_rotation_at_postgres_survives_every_failpoint";
    let points = sweep::points(&turns, "rotator.postgres.");
    let walk = sweep::walk(&turns, own, &points, &[Strategy::AlternatingUsers]);
    let turns = Box::pin(walk);
    let walk = sweep::walk(&singles, own, &points, &[Strategy::SingleUser]);
    let singles = Box::pin(walk);
    let walked: [sweep::Walked; 2] = tokio::join!(turns, singles).into();
    sweep::judge(&points, walked);
}

#[tokio::test]
async fn a_rotation_at_mariadb_survives_every_failpoint() {
    if sweep::is_child().await {
        return;
    }
    let server = mariadb::MariaDb::open().await;
    let strategies = [
        Strategy::AlternatingUsers,
        Strategy::DualPassword,
        Strategy::SingleUser,
    ];
    let own = "a_rotation_at_mariadb_survives_every_failpoint";
    sweep::check(&server, own, "rotator.mariadb.", &strategies).await;
}

#[tokio::test]
async fn a_rotation_at_mysql_survives_every_failpoint() {
    if sweep::is_child().await {
        return;
    }
    let Some(turns) = mysql::MySql::open().await else {
        return;
    };
    let twins = mysql::MySql::open().await.unwrap();
    let singles = mysql::MySql::open().await.unwrap();
    let own = "a_rotation_at_mysql_survives_every_failpoint";
    let points = sweep::points(&turns, "rotator.mariadb.");
    let walk = sweep::walk(&turns, own, &points, &[Strategy::AlternatingUsers]);
    let turns = Box::pin(walk);
    let walk = sweep::walk(&twins, own, &points, &[Strategy::DualPassword]);
    let twins = Box::pin(walk);
    let walk = sweep::walk(&singles, own, &points, &[Strategy::SingleUser]);
    let singles = Box::pin(walk);
    let walked: [sweep::Walked; 3] = tokio::join!(turns, twins, singles).into();
    sweep::judge(&points, walked);
}

#[tokio::test]
async fn a_rotation_at_redis_survives_every_failpoint() {
    if sweep::is_child().await {
        return;
    }
    let server = redis::Redis::open().await;
    let strategies = [
        Strategy::AlternatingUsers,
        Strategy::DualPassword,
        Strategy::SingleUser,
    ];
    let own = "a_rotation_at_redis_survives_every_failpoint";
    sweep::check(&server, own, "rotator.redis.", &strategies).await;
}
