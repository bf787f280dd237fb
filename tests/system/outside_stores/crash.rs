//! The process is killed while a static role has been rotated at its server and nobody kept the password, and
//! while a login has been made that nobody has on record: each ends with one new credential.

use std::fs;

use anyhow::{Result, ensure};
use keywheel_testkit::server::postgres::PostgresServer;
use keywheel_tests::docker::Container;
use keywheel_tests::keywheel::Options;
use keywheel_tests::stage::{PATIENCE, SECRET, current};
use keywheel_tests::wait;

use crate::leases::Login;
use crate::role;
use crate::scene::Scene;

/// Where each stands still until the kill.
const POINTS: [&str; 2] = ["store.role.after_rotate", "store.lease.after_mint"];
/// Longer than anything here.
const STILL: &str = "delay:60000";

/// What both containers have afterwards.
pub(crate) struct After {
    pub(crate) login: Login,
    pub(crate) password: String,
}

/// The login before lives on, for nobody knows when the program in its container reads its file again; that is shown,
/// and a person may end it.
fn gave_way(scene: &Scene, server: &PostgresServer, (lease, before): (&str, &Login)) -> Result<()> {
    let keywheel = &scene.stage.keywheel;
    wait::until_true("the login before to be kept", PATIENCE, || {
        let said = keywheel.json(&["rotation", "describe", lease])?;
        Ok(said.to_string().contains("unless its store ends it first"))
    })?;
    ensure!(before.is_good(server), "it is refused with the swap");
    let force = ["rotation", "force", lease, "--reason", "drill", "--yes"];
    keywheel.cli(&force)?.ok()?;
    wait::until_true("the login before to be refused", PATIENCE, || {
        Ok(!before.is_good(server))
    })
}

/// Both rotate, are killed there, and end after the next start.
pub(crate) fn check(
    scene: &mut Scene,
    server: &PostgresServer,
    leased: &Container,
    fixed: &Container,
) -> Result<After> {
    let before = Login::of(scene, leased)?;
    let lease = format!("{SECRET}/lease.{}", leased.id());
    let keywheel = &mut scene.stage.keywheel;
    let counts = keywheel.scratch().join("stores-count");
    let mut failpoints = POINTS.map(|name| format!("{name}={STILL}")).to_vec();
    failpoints.push(format!("when={}", counts.display()));
    keywheel.restart(&Options {
        failpoints: Some(failpoints.join(";")),
        ..Options::default()
    })?;
    fs::write(&counts, "")?;
    for secret in [role::ROLE_SECRET, lease.as_str()] {
        // The rotation before may come to its end only now.
        wait::until_true(&format!("a rotation of {secret}"), PATIENCE, || {
            Ok(keywheel.cli(&["rotate", secret])?.code == 0)
        })?;
    }
    for point in POINTS {
        wait::until_true(&format!("{point} to be reached"), PATIENCE, || {
            let log = keywheel.log();
            let mut lines = log.lines().filter(|line| line.contains("failpoint fired"));
            Ok(lines.any(|line| line.contains(point)))
        })?;
    }
    // What came before has ended, and what stands still is not current yet.
    let version = current(keywheel, role::ROLE_SECRET)?;
    keywheel.kill9()?;
    fs::remove_file(counts)?;
    let told = role::told(scene)?;
    ensure!(before.is_good(server), "the old login is refused early");
    scene.stage.keywheel.up(&Options::default())?;
    scene.stage.wait_current(role::ROLE_SECRET, version + 1)?;
    // The password that the server had made is the one that is taken.
    scene.wait_value(fixed, &told)?;
    ensure!(role::told(scene)? == told, "it was rotated once more");
    let login = wait::until("another login", PATIENCE, || {
        let login = Login::of(scene, leased)?;
        Ok((login != before && login.is_good(server)).then_some(login))
    })?;
    gave_way(scene, server, (&lease, &before))?;
    let now = current(&scene.stage.keywheel, role::ROLE_SECRET)?;
    ensure!(now == version + 1, "version {version} became {now}");
    Ok(After {
        login,
        password: told,
    })
}
