//! Kills while something is taken back: a revoked file, a revoked variable, a removed container.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::Options;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage};
use keywheel_tests::{manifest, places, wait};

use crate::walk::{FORGET, STOP, WITHDRAW, armed, count, die_of, of_rotation};

/// A secret of one version in a container of its own; gives the value.
fn give(stage: &Stage, secret: &str, app: &str) -> Result<(Container, String)> {
    let binding = manifest::file_binding(app, secret, &stage.on(app), "db_password", "none");
    stage
        .keywheel
        .apply(&(manifest::secret(secret, &[]) + &binding))?;
    stage.wait_current(secret, 1)?;
    let container = stage.run(app, &[], "/bin/app-idle")?;
    let value = container.read(FILE)?.context("the file did not arrive")?;
    Ok((container, value))
}

#[test]
fn a_revoke_survives_a_kill_at_every_failpoint() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    let mut values = Vec::new();
    let mut names = of_rotation()?;
    names.extend(WITHDRAW.map(str::to_owned));
    for (turn, name) in names.into_iter().enumerate() {
        let secret = format!("test/revoked-{turn}");
        let (container, value) = give(&stage, &secret, &format!("revoked-{turn}"))?;
        stage.keywheel.stop()?;
        stage.keywheel.spawn(&armed(&name, 1))?;
        let ready = stage.keywheel.wait_ready();
        let words = ["revoke", &secret, "--reason", "crash test", "--yes"];
        let accepted = ready.is_ok() && stage.keywheel.cli(&words)?.code == 0;
        let died = stage.keywheel.wait_exit(Duration::from_secs(2)).is_ok();
        ensure!(
            died || !WITHDRAW.contains(&name.as_str()),
            "no revoke reached {name}: it proves nothing"
        );
        stage.keywheel.restart(&Options::default())?;
        if !accepted {
            let _ = stage.keywheel.cli(&words)?;
        }
        wait::until_true(&format!("the file to go ({name})"), PATIENCE, || {
            Ok(container.read(FILE)?.is_none())
        })?;
        wait::until_true(&format!("the removal's fact ({name})"), PATIENCE, || {
            Ok(count(&stage, "assignment.withdrawn", &container)? == 1)
        })?;
        places::assert_container_clean(&[value.clone().into_bytes()], &container)?;
        values.push(value);
    }
    stage.finish(&values, &[])
}

#[test]
fn a_revoked_variable_is_gone_after_a_kill_around_the_stop() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    let mut values = Vec::new();
    for (turn, name) in STOP.into_iter().enumerate() {
        let secret = format!("test/token-{turn}");
        let app = format!("token-{turn}");
        let reload = "{ restart: { settle: 1s } }";
        let binding = manifest::env_binding(&app, &secret, &stage.on(&app), "API_TOKEN", reload);
        stage
            .keywheel
            .apply(&(manifest::secret(&secret, &[]) + &binding))?;
        stage.wait_current(&secret, 1)?;
        let variable = format!("API_TOKEN={{keywheel:{secret}}}");
        let container = stage.run(&app, &["-e", &variable], "/bin/app-env")?;
        values.push(container.variable("API_TOKEN")?.context("no value")?);
        die_of(&mut stage, name, |stage| {
            let words = ["revoke", &secret, "--reason", "crash test", "--yes"];
            stage.keywheel.cli(&words)?.ok()
        })?;
        wait::until_true(&format!("the container to stop ({name})"), PATIENCE, || {
            Ok(container.field("{{.State.Running}}")? == "false")
        })?;
    }
    stage.finish(&values, &[])
}

#[test]
fn a_removed_container_is_missed_once_after_a_kill_while_it_is_forgotten() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.apply_file("removed", "none")?;
    let mut values = Vec::new();
    for name in FORGET {
        let container = stage.run("removed", &[], "/bin/app-idle")?;
        values.push(stage.value_in(&container)?);
        wait::until_true("its delivery", PATIENCE, || {
            Ok(count(&stage, "assignment.swapped", &container)? == 1)
        })?;
        die_of(&mut stage, name, |_| {
            docker::docker(&["rm", "-f", container.id()])?.ok()
        })?;
        wait::until_true(&format!("the farewell ({name})"), PATIENCE, || {
            Ok(count(&stage, "assignment.vanished", &container)? >= 1)
        })?;
        stage.rotate(SECRET)?;
        let times = count(&stage, "assignment.vanished", &container)?;
        ensure!(times == 1, "{name}: {times} farewells");
        let state = stage.keywheel.run_dir().join("state");
        let left = std::fs::read_dir(state)?.count();
        ensure!(left == 0, "{name}: {left} state files are left");
    }
    stage.finish(&values, &[])
}
