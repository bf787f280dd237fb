//! Kills while something is taken back: a revoked file, a revoked variable, a removed container.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage, items};
use keywheel_tests::{manifest, places, wait};
use serde_json::Value;

use crate::walk::{FORGET, REVOKE, STOP, count, count_hits, die_of, died, start_armed, walk};

/// True while some revocation is not closed.
pub(crate) fn is_revoking(keywheel: &Keywheel) -> Result<bool> {
    let said = keywheel.json(&["get", "revocations"])?;
    let state = |row: &&Value| row.get("state").and_then(Value::as_str) != Some("closed");
    Ok(items(&said).iter().any(state))
}

/// Revokes under a failpoint armed for this hit; true when the process died of it. In the end the
/// revocation is carried out.
fn revoke_into(stage: &mut Stage, name: &str, hit: u32) -> Result<bool> {
    count_hits(&stage.keywheel)?;
    let words = ["revoke", SECRET, "--reason", "crash test", "--yes"];
    let accepted = stage.keywheel.cli(&words)?.code == 0;
    let died = died(&mut stage.keywheel, (name, hit), |keywheel| {
        Ok(accepted && !is_revoking(keywheel)?)
    })?;
    if !accepted {
        // It may have been made durable all the same; then there is nothing left to revoke.
        let _ = stage.keywheel.cli(&words)?;
    }
    wait::until_true("the revocation to close", PATIENCE, || {
        Ok(!is_revoking(&stage.keywheel)?)
    })?;
    Ok(died)
}

#[test]
fn a_revoke_survives_a_kill_at_every_failpoint() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.apply_file("revoked", "none")?;
    let container = stage.run("revoked", &[], "/bin/app-idle")?;
    let (mut values, mut tries) = (vec![stage.value_in(&container)?], 0);
    for name in REVOKE {
        walk(name, |hit| {
            if hit == 1 {
                start_armed(&mut stage.keywheel, name, hit)?;
            }
            if tries > 0 {
                stage.rotate(SECRET)?;
                values.push(stage.value_soon_in(&container)?);
            }
            tries += 1;
            let is_dead = revoke_into(&mut stage, name, hit)?;
            ensure!(container.read(FILE)?.is_none(), "the file is still there");
            let told = count(&stage, "assignment.withdrawn", &container)?;
            ensure!(told == tries, "{told} removals were told of {tries}");
            Ok(is_dead)
        })?;
    }
    stage.keywheel.restart(&Options::default())?;
    stage.finish(&values, &[&container])
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
        let value = container.variable("API_TOKEN")?.context("no value")?;
        die_of(&mut stage, name, |stage| {
            let words = ["revoke", &secret, "--reason", "crash test", "--yes"];
            stage.keywheel.cli(&words)?.ok()
        })?;
        wait::until_true(&format!("the container to stop ({name})"), PATIENCE, || {
            Ok(container.field("{{.State.Running}}")? == "false")
        })?;
        places::assert_container_clean(&[value.clone().into_bytes()], &container)?;
        values.push(value);
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
        let value = stage.value_in(&container)?;
        places::assert_container_clean(&[value.clone().into_bytes()], &container)?;
        values.push(value);
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
