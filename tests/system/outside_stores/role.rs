//! A static role: OpenBao makes its account's password, when Keywheel says so and when somebody else does, and
//! a container has it.

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::postgres::PostgresServer;
use keywheel_tests::docker::Container;
use keywheel_tests::manifest;
use keywheel_tests::stage::{FILE, PATIENCE};
use keywheel_tests::wait;
use serde_json::{Value, json};

use crate::scene::{STORE, Scene, secret};

pub(crate) const ROLE_SECRET: &str = "test/role";
const ACCOUNT: &str = "shop_app";
/// The role at the engine `database`.
const ROLE: &str = "fixed";

/// What opens the account now, as its server tells.
pub(crate) fn told(scene: &Scene) -> Result<String> {
    let path = format!("database/static-creds/{ROLE}");
    let answer: Value = serde_json::from_str(&scene.bao.must("GET", &path, &[], ""))?;
    let password = answer["data"]["password"].as_str();
    Ok(password.context("no password")?.to_owned())
}

/// One account after the other has another password, and its container the one that is good. Gives the
/// container and the passwords.
pub(crate) fn check(
    scene: &Scene,
    server: &PostgresServer,
    database: &str,
) -> Result<(Container, Vec<String>)> {
    let (stage, keywheel) = (&scene.stage, &scene.stage.keywheel);
    let _made = server.psql(database, &format!("CREATE ROLE {ACCOUNT} LOGIN"));
    let role = json!({ "db_name": "shop", "username": ACCOUNT, "rotation_period": "24h" });
    let path = format!("database/static-roles/{ROLE}");
    scene.bao.must("POST", &path, &[], &role.to_string());
    let place = format!("/database/static-creds/{ROLE}");
    let made = secret(ROLE_SECRET, STORE, &place, "password", "  generator: {}\n");
    let (on, reload) = (stage.on("role"), "{ signal: HUP }");
    let file = manifest::file_binding("role-file", ROLE_SECRET, &on, "db_password", reload);
    keywheel.apply(&(made + &file))?;
    stage.wait_current(ROLE_SECRET, 1)?;
    let container = stage.run("role", &[], "/bin/app-file")?;
    let signs_in = |password: &str| server.signs_in(database, ACCOUNT, password);
    let taken_over = stage.value_soon_in(&container)?;
    ensure!(signs_in(&taken_over), "what was there is refused");

    // Keywheel has it rotated, once.
    stage.rotate(ROLE_SECRET)?;
    let ours = stage.value_in(&container)?;
    ensure!(ours == told(scene)?, "the container has another password");
    ensure!(signs_in(&ours) && !signs_in(&taken_over));

    // Somebody else has it rotated, and the container follows.
    let path = format!("database/rotate-role/{ROLE}");
    scene.bao.must("POST", &path, &[], "");
    let theirs = told(scene)?;
    scene.wait_value(&container, &theirs)?;
    ensure!(signs_in(&theirs) && !signs_in(&ours));

    // An incident: the server makes another one, which the container gets.
    let revoked = [
        "revoke",
        ROLE_SECRET,
        "--reason",
        "drill",
        "--yes",
        "--wait",
    ];
    keywheel.cli(&revoked)?.ok()?;
    ensure!(!signs_in(&theirs), "the revoked password is let in");
    let last = wait::until("another password", PATIENCE, || {
        let now = told(scene)?;
        let held = container.read(FILE)?;
        Ok((held.as_ref() == Some(&now)).then_some(now))
    })?;
    ensure!(last != theirs && signs_in(&last));
    Ok((container, vec![taken_over, ours, theirs, last]))
}
