//! A leak that a scanner tells: the playbook as it is shipped replaces what leaked, also where a store outside makes
//! it or keeps it.

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::aws::{AwsServer, Maker};
use keywheel_testkit::server::postgres::PostgresServer;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::incident::{self, Course, LEAK, LEAKED, Scanner};
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::stage::{PATIENCE, SECRET, Stage, items};
use keywheel_tests::{manifest, wait};
use serde_json::{Value, json};

use crate::aws::{self, KEY};
use crate::leases::{DATABASE, Login};
use crate::scene::{Scene, give};

const PLAYBOOK: &str = "leaked-credential";
const ADMIN: &str = "rotator";
const ADMIN_SECRET: &str = "test/admin";
const ADMIN_PASSWORD: &str = "pw-of-the-admin-2f71";
/// What is at AWS before Keywheel comes.
const BY_HAND: &str = "made-by-hand-77ab";
/// Where it lies there.
const KEPT: &str = "prod/db";
/// What `keywheel rotator grants` prints, for accounts that were there before.
const GRANTED: [&str; 6] = [
    "CREATE ROLE app LOGIN PASSWORD 'made-by-hand-77ab'",
    "CREATE ROLE rotator LOGIN CREATEROLE PASSWORD 'pw-of-the-admin-2f71'",
    "CREATE ROLE app_owner NOLOGIN",
    "GRANT app_owner TO app; ALTER ROLE app SET role TO app_owner",
    "GRANT app_owner TO rotator WITH ADMIN OPTION",
    "GRANT app TO rotator WITH ADMIN OPTION",
];

/// Of a secret that gives leases each container gets another one first, and the server refuses the ones before, which a
/// login with each shows, also by the report. Gives those that they have now.
pub(crate) fn of_leases(
    scene: &Scene,
    server: &PostgresServer,
    scanner: &Scanner,
    (containers, before): ([&Container; 2], &[Login; 2]),
) -> Result<[Login; 2]> {
    let keywheel = &scene.stage.keywheel;
    scanner.declare(keywheel, &[LEAKED])?;
    scanner.tell(keywheel, LEAK, SECRET)?;
    let run = incident::ended(keywheel, PLAYBOOK, SECRET)?;
    incident::check_run(&run, 2)?;
    ensure!(run["score"]["targets"] == 2, "{run}");
    check_proofs(keywheel, &run, before)?;
    for (container, before) in containers.into_iter().zip(before) {
        let now = Login::of(scene, container)?;
        ensure!(now.user != before.user, "{now:?} leaked");
        ensure!(now.is_good(server), "{now:?} is refused");
        ensure!(!before.is_good(server), "{before:?} is let in");
    }
    let [one, other] = containers;
    Ok([Login::of(scene, one)?, Login::of(scene, other)?])
}

/// The report on a run has the proof of each lease that it replaced, and the login of each that was refused.
fn check_proofs(keywheel: &Keywheel, run: &Value, before: &[Login; 2]) -> Result<()> {
    let id = run["run_id"].as_str().context("a run without an id")?;
    let summary = incident::report(keywheel, "playbook-run", id)?;
    let proofs = summary["proofs"].as_array().context("no proofs")?;
    let is_dead = |one: &&Value| {
        let verdict = one["verdict"].as_str().unwrap_or_default();
        verdict.starts_with("proven dead") && one["event"].is_u64()
    };
    let dead = proofs.iter().filter(is_dead).count();
    ensure!(dead == 2 && proofs.len() == 2, "{proofs:?}");
    let logins = summary["logins"].as_array().context("no logins")?;
    for login in before {
        let is_refused = |one: &&Value| {
            let place = one["place"].as_str().unwrap_or_default();
            let answer = one["answer"].as_str().unwrap_or_default();
            place.contains(&login.user) && answer == "wrong_password"
        };
        let refused = logins.iter().filter(is_refused).count();
        ensure!(
            refused == 1,
            "{refused} logins of {}: {logins:?}",
            login.user
        );
    }
    Ok(())
}

/// A secret over two accounts that take turns, each version of which lies at AWS, too.
fn kept_at_aws(server: &PostgresServer) -> String {
    let place = server.place();
    let host = place.trim_start_matches("postgres://");
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: {SECRET} }}\nspec:\n  store: aws\n  \
         source: {{ path: {KEPT} }}\n  generator: {{ length: 32 }}\n  rotator:\n    type: postgres\n    \
         connection: \"postgres://{ADMIN}@{host}/{DATABASE}\"\n    account: [app, app_b]\n    \
         adminSecret: {ADMIN_SECRET}\n---\n"
    )
}

/// The store, the secret there, and a file for containers of `kept`.
fn declare(stage: &Stage, server: &PostgresServer, kept: &AwsServer) -> Result<()> {
    let keywheel = &stage.keywheel;
    give(keywheel, "keywheel/aws", &kept.url(), KEY)?;
    give(keywheel, ADMIN_SECRET, &server.place(), ADMIN_PASSWORD)?;
    let on = stage.on("kept");
    let all = [
        aws::store(&kept.url(), "{ secret: keywheel/aws }"),
        kept_at_aws(server),
        manifest::file_binding("kept-file", SECRET, &on, "db_password", "{ signal: HUP }"),
    ];
    keywheel.apply(&all.concat())?;
    stage.wait_current(SECRET, 1)?;
    // What was there was taken over; from now on Keywheel makes what is there.
    stage.rotate(SECRET)?;
    stage.wait_current(SECRET, 2)
}

#[test]
fn a_leaked_password_that_aws_keeps_is_replaced_there_and_in_containers_and_proven_dead()
-> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let server = PostgresServer::start();
    let _url = server.database(DATABASE);
    for statement in GRANTED {
        let _done = server.psql(DATABASE, statement);
    }
    let kept = AwsServer::start(Maker::Moto);
    let there = json!({ "username": "app", "password": BY_HAND }).to_string();
    aws::create(&kept, KEPT, &there)?;
    let scanner = Scanner::make()?;
    let stage = Stage::set_with(&scanner.options())?;
    let keywheel = &stage.keywheel;
    declare(&stage, &server, &kept)?;
    scanner.declare(keywheel, &[LEAKED])?;
    let containers = [
        stage.run("kept", &[], "/bin/app-file")?,
        stage.run("kept", &[], "/bin/app-file")?,
    ];
    let [one, other] = &containers;
    let before = Login::read(&stage.value_soon_in(one)?)?;
    ensure!(before.is_good(&server), "{before:?} is refused");
    wait::until_true("both containers to be known", PATIENCE, || {
        let known = keywheel.json(&["consumers", "--secret", SECRET])?;
        let has_it = |one: &&Value| one["version"] == 2;
        Ok(items(&known).into_iter().filter(has_it).count() == 2)
    })?;

    scanner.tell(keywheel, LEAK, SECRET)?;
    let run = incident::ended(keywheel, PLAYBOOK, SECRET)?;
    incident::check_run(&run, 1)?;
    let after = Login::read(&stage.value_in(one)?)?;
    ensure!(
        Login::read(&stage.value_in(other)?)? == after,
        "they differ"
    );
    ensure!(after.user != before.user, "{after:?} leaked");
    ensure!(after.is_good(&server), "{after:?} is refused");
    ensure!(!before.is_good(&server), "{before:?} is let in");
    let there: Value = serde_json::from_str(&aws::read(&kept, KEPT)?)?;
    ensure!(
        there == json!({ "username": after.user, "password": after.password }),
        "something else is at AWS than in the containers"
    );
    Course::of(keywheel, SECRET, (2, 2))?;
    let values = [
        BY_HAND.to_owned(),
        before.password,
        after.password,
        KEY.to_owned(),
        ADMIN_PASSWORD.to_owned(),
    ];
    stage.finish(&values, &[one, other])
}
