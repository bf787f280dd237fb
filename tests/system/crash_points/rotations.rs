//! Kills within a rotation: of a file at every hit of every failpoint, of a variable around its
//! container's restart.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::audited::each_change_is_audited_once;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::manifest;
use keywheel_tests::reader::Reader;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage, current, items};
use keywheel_tests::wait;
use serde_json::Value;

use crate::walk::{
    RESTART, SETTLED, START, armed, check_deliveries, count_hits, died, of_rotation, start_armed,
    walk,
};

const LENGTH: usize = 32;
/// Rotations that nothing disturbs.
const PLAIN_ROTATIONS: usize = 3;

/// True while some rotation is not closed.
fn rotation_open(keywheel: &Keywheel) -> Result<bool> {
    let said = keywheel.json(&["get", "rotations"])?;
    let closed = ["completed", "rolled_back", "parked", "cancelled"];
    Ok(items(&said).into_iter().any(|rotation| {
        let state = rotation
            .get("state")
            .and_then(Value::as_str)
            .unwrap_or_default();
        !closed.contains(&state)
    }))
}

/// Waits until none is.
pub(crate) fn wait_closed(keywheel: &Keywheel) -> Result<()> {
    wait::until_true("no open rotation", PATIENCE, || {
        Ok(!rotation_open(keywheel)?)
    })
}

/// Rotates under a failpoint armed for this hit; true when the process died of it. Before and after,
/// nothing is open.
fn rotate_into(stage: &mut Stage, secret: &str, name: &str, hit: u32) -> Result<bool> {
    let before_version = current(&stage.keywheel, secret)?;
    if hit == 1 {
        start_armed(&mut stage.keywheel, name, hit)?;
    }
    count_hits(&stage.keywheel)?;
    let accepted = stage.keywheel.cli(&["rotate", secret])?.code == 0;
    let died = died(&mut stage.keywheel, (name, hit), |keywheel| {
        Ok(accepted && !rotation_open(keywheel)? && current(keywheel, secret)? > before_version)
    })?;
    wait_closed(&stage.keywheel)?;
    let after = current(&stage.keywheel, secret)?;
    ensure!(
        !accepted || after > before_version,
        "an acknowledged rotation was lost"
    );
    Ok(died)
}

/// Dies within the start itself, while nothing else is asked of it.
fn die_at_start(stage: &mut Stage, name: &str) -> Result<()> {
    stage.keywheel.kill9()?;
    stage.keywheel.spawn(&armed(name, 1))?;
    stage
        .keywheel
        .wait_exit(SETTLED)
        .with_context(|| format!("no start reached {name}"))?;
    stage.keywheel.up(&Options::default())
}

/// Rotates as usual: the value is written once and the program told once.
fn check_plain_rotation(stage: &Stage, container: &Container) -> Result<()> {
    let before = container.reloads()?;
    for turn in 1..=PLAIN_ROTATIONS {
        stage.rotate(SECRET)?;
        wait::until_true("the program to reload", PATIENCE, || {
            Ok(container.reloads()? >= before + turn)
        })?;
    }
    assert_eq!(container.reloads()? - before, PLAIN_ROTATIONS);
    Ok(())
}

#[test]
fn a_file_rotation_survives_a_kill_at_every_failpoint() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.apply_file("crash", "{ signal: HUP }")?;
    let container = stage.run("crash", &[], "/bin/app-file")?;
    let reader = Reader::begin(&container, FILE)?;
    for name in START {
        die_at_start(&mut stage, name)?;
        check_deliveries(&stage, &container, SECRET, "assignment.swapped")?;
    }
    for name in of_rotation()? {
        walk(&name, |hit| {
            let told = container.reloads()?;
            let is_dead = rotate_into(&mut stage, SECRET, &name, hit)?;
            check_deliveries(&stage, &container, SECRET, "assignment.swapped")?;
            // The signal cannot be sent and written down in one step: a kill repeats it, once.
            let told = container.reloads()? - told;
            ensure!(told <= 2, "the program was told {told} times");
            Ok(is_dead)
        })?;
    }
    stage.keywheel.restart(&Options::default())?;
    check_plain_rotation(&stage, &container)?;
    let seen = reader.end()?;
    seen.check(LENGTH, current(&stage.keywheel, SECRET)?)?;
    assert!(!container.logs()?.contains("TORN"));
    each_change_is_audited_once(&stage.keywheel, &[container.id()])?;
    stage.finish(&seen.plaintexts(), &[&container])
}

#[test]
fn an_env_rotation_survives_a_kill_around_the_restart() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let token = "test/api-token";
    let mut stage = Stage::set()?;
    let reload = "{ restart: { settle: 1s } }";
    let binding = manifest::env_binding("test-env", token, &stage.on("env"), "API_TOKEN", reload);
    stage
        .keywheel
        .apply(&(manifest::secret(token, &[]) + &binding))?;
    stage.wait_current(token, 1)?;
    let container = stage.run(
        "env",
        &["-e", "API_TOKEN={keywheel:test/api-token}"],
        "/bin/app-env",
    )?;
    let mut values = vec![container.variable("API_TOKEN")?.context("no value")?];
    for name in RESTART {
        let died = rotate_into(&mut stage, token, name, 1)?;
        ensure!(died, "no rotation reached {name}");
        let value = container
            .variable("API_TOKEN")?
            .context("no value after the crash")?;
        ensure!(
            !values.contains(&value),
            "{name}: the container still runs on the old value"
        );
        values.push(value);
        check_deliveries(&stage, &container, token, "assignment.reloaded")?;
    }
    each_change_is_audited_once(&stage.keywheel, &[container.id()])?;
    stage.finish(&values, &[&container])
}
