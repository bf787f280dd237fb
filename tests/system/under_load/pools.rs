//! Files: one application with a pool at each of three databases, under constant load, while each of their
//! secrets rotates twenty times; it reads its files again when it is told to.

use std::thread::{self, ScopedJoinHandle};

use anyhow::{Result, anyhow, ensure};
use keywheel_tests::stage::Stage;
use keywheel_tests::{docker, manifest};
use serde_json::Value;

use crate::app::App;
use crate::database::{self, Database, Login};
use crate::{order, unreloaded};

const ROTATIONS: u64 = 20;
const APP: &str = "pools";
/// Far fewer than it has done by then.
const LEAST_QUERIES: u64 = 200;

/// Where a database's file is in the container.
fn path(database: &Database) -> String {
    format!("/run/secrets/{}", database.kind)
}

fn binding(stage: &Stage, database: &Database, reload: &str) -> String {
    let (kind, on) = (database.kind, stage.on(APP));
    let template = database.template();
    manifest::told_template_binding(kind, database.secret, &on, kind, &template, reload)
}

fn login(app: &App, database: &Database) -> Result<Login> {
    Login::of(&app.file(&path(database))?)
}

/// Twenty rotations of one secret; gives every password.
fn rotate(stage: &Stage, app: &App, database: &Database) -> Result<Vec<String>> {
    let kind = database.kind;
    let mut before = login(app, database)?;
    ensure!(database.admits(&before)?, "{kind} refuses its first login");
    let mut passwords = vec![before.password.clone()];
    for turn in 1..=ROTATIONS {
        let said = stage.rotate(database.secret)?;
        ensure!(said["state"] == "completed", "{kind}, turn {turn}: {said}");
        let after = login(app, database)?;
        ensure!(
            after.password != before.password,
            "{kind}, turn {turn}: the password is the same"
        );
        let has_changed_user = after.user != before.user;
        ensure!(
            has_changed_user == database.alternates(),
            "{kind}, turn {turn}: user {} after {}",
            after.user,
            before.user
        );
        ensure!(
            database.admits(&after)?,
            "{kind}, turn {turn}: the new login is refused"
        );
        ensure!(
            !database.admits(&before)?,
            "{kind}, turn {turn}: the old login is still let in"
        );
        app.wait_generation(kind, turn + 1)?;
        passwords.push(after.password.clone());
        before = after;
    }
    Ok(passwords)
}

/// All databases at once, each with its own rotations one after the other.
fn rotate_all(stage: &Stage, app: &App, databases: &[Database]) -> Result<Vec<String>> {
    let rotated: Result<Vec<Vec<String>>> = thread::scope(|scope| {
        let begin = |database| scope.spawn(move || rotate(stage, app, database));
        let begun: Vec<_> = databases.iter().map(begin).collect();
        let end = |begun: ScopedJoinHandle<'_, Result<Vec<String>>>| {
            begun.join().map_err(|_| anyhow!("a rotation panicked"))?
        };
        begun.into_iter().map(end).collect()
    });
    Ok(rotated?.concat())
}

/// No query failed, no login failed with the newest secret, every generation of the login was used, and what
/// was done is at the server.
fn check_counts(app: &App, database: &Database) -> Result<()> {
    let kind = database.kind;
    let stats = app.stats_of(kind)?;
    let queries = stats["queries"].as_u64().unwrap_or_default();
    ensure!(
        stats["failed"] == 0 && stats["locked_out"] == 0 && stats["cut"] == 0,
        "{kind}: {stats}"
    );
    ensure!(queries >= LEAST_QUERIES, "{kind}: {stats}");
    let by_login = stats["by_login"].as_array();
    let by_login: Vec<&Value> = by_login.into_iter().flatten().collect();
    let generations = usize::try_from(ROTATIONS)? + 1;
    ensure!(by_login.len() == generations, "{kind}: {stats}");
    let users = by_login.windows(2).filter(|pair| match pair {
        [one, next] => one["user"] != next["user"],
        _ => false,
    });
    let wanted = match database.alternates() {
        true => generations - 1,
        false => 0,
    };
    ensure!(users.count() == wanted, "{kind}: {stats}");
    let written = database.written()?;
    ensure!(
        written >= queries,
        "{kind}: {written} were written, {queries} acknowledged"
    );
    Ok(())
}

#[expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]
#[test]
fn twenty_rotations_at_each_of_three_databases_fail_no_query_and_leave_no_old_login() -> Result<()>
{
    if !docker::ready()? {
        return Ok(());
    }
    let databases = [Database::postgres(), Database::mariadb(), Database::redis()];
    let stage = Stage::set()?;
    for database in &databases {
        let binding = binding(&stage, database, "{ signal: HUP }");
        database.adopt(&stage, &binding)?;
    }
    let word = |database: &Database| database.word(&format!("file:{}", path(database)));
    let words: Vec<String> = databases.iter().map(word).collect();
    let none = "-";
    let words: Vec<&str> = std::iter::once(none)
        .chain(words.iter().map(String::as_str))
        .collect();
    let label = format!("app={APP}");
    let app = App::run(&stage, APP, &["--label", &label], &words)?;
    for database in &databases {
        app.wait_generation(database.kind, 1)?;
    }

    let mut passwords = rotate_all(&stage, &app, &databases)?;
    eprintln!("{}", app.stats()?);
    for database in &databases {
        check_counts(&app, database)?;
    }
    let expected = databases.len() * usize::try_from(ROTATIONS)?;
    let checked = order::check(&stage.keywheel)?;
    ensure!(checked == expected, "{checked} of {expected} rotations");
    // Where two accounts take turns, the pool's connections to the old one were waited for.
    let drained = order::drained(&stage.keywheel)?;
    let alternating = databases.iter().filter(|database| database.alternates());
    let expected = alternating.count() * usize::try_from(ROTATIONS)?;
    ensure!(drained >= expected, "{drained} of {expected} were drained");
    // Not told any more, its pool goes on with the old password until that is refused, and reads the file again then.
    let [.., redis] = &databases;
    let unreloaded = (binding(&stage, redis, "none"), path(redis));
    let last = unreloaded::outlived(&stage, &app, redis, (&unreloaded.0, &unreloaded.1))?;
    passwords.push(last);
    app.wait_generation(redis.kind, ROTATIONS + 2)?;
    let stats = app.stats_of(redis.kind)?;
    ensure!(stats["failed"] == 0, "{stats}");
    passwords.push(database::admin_password());
    for database in &databases {
        let log = database.log();
        ensure!(
            !passwords.iter().any(|password| log.contains(password)),
            "a password is in the log of {}",
            database.kind
        );
    }
    stage.finish(&passwords, &[&app.container])
}
