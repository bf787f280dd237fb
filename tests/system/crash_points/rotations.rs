//! Kills within a rotation: of a file at every hit of every failpoint, of a variable around its
//! container's restart.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::manifest;
use keywheel_tests::reader::Reader;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage, current, items};
use keywheel_tests::wait;
use serde_json::Value;

use crate::walk::{RESTART, armed, check_deliveries, of_rotation};

/// Hits of one failpoint that are tried, at most.
const MOST_HITS: u32 = 16;
/// A rotation that has not died by then did not reach the failpoint.
const SETTLED: Duration = Duration::from_secs(20);
const LENGTH: usize = 32;

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

fn wait_closed(keywheel: &Keywheel) -> Result<()> {
    wait::until_true("no open rotation", PATIENCE, || {
        Ok(!rotation_open(keywheel)?)
    })
}

/// Rotates under an armed failpoint; true when the process died of it. Before and after, a
/// server without failpoints runs and nothing is open.
fn rotate_into(stage: &mut Stage, secret: &str, name: &str, hit: u32) -> Result<bool> {
    let before_version = current(&stage.keywheel, secret)?;
    stage.keywheel.kill9()?;
    stage.keywheel.spawn(&armed(name, hit))?;
    let ready = stage.keywheel.wait_ready();
    let accepted = ready.is_ok() && stage.keywheel.cli(&["rotate", secret])?.code == 0;
    let died = wait::until("death or a closed rotation", SETTLED, || {
        if stage.keywheel.exited()?.is_some() {
            return Ok(Some(true));
        }
        let done = accepted
            && !rotation_open(&stage.keywheel)?
            && current(&stage.keywheel, secret)? > before_version;
        Ok(done.then_some(false))
    })
    .with_context(|| format!("{name}@{hit}"))?;
    stage.keywheel.kill9()?;
    stage
        .keywheel
        .up(&Options::default())
        .with_context(|| format!("restart after {name}@{hit}"))?;
    wait_closed(&stage.keywheel).with_context(|| format!("after {name}@{hit}"))?;
    let after = current(&stage.keywheel, secret)?;
    ensure!(
        !accepted || after > before_version,
        "{name}@{hit}: an acknowledged rotation was lost"
    );
    Ok(died)
}

/// Walks one failpoint hit by hit; returns how often a rotation reached it.
fn walk(stage: &mut Stage, secret: &str, name: &str) -> Result<u32> {
    for hit in 1..=MOST_HITS {
        if !rotate_into(stage, secret, name, hit)? {
            return Ok(hit - 1);
        }
    }
    Ok(MOST_HITS)
}

#[test]
fn a_file_rotation_survives_a_kill_at_every_failpoint() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.apply_file("crash", "{ signal: HUP }")?;
    let container = stage.run("crash", &[], "/bin/app-file")?;
    let mut plaintexts = vec![stage.value_in(&container)?];
    let reader = Reader::begin(&container, FILE)?;
    for name in of_rotation()? {
        let reached = walk(&mut stage, SECRET, &name)?;
        eprintln!("{name}: reached {reached} times");
        ensure!(reached > 0, "no rotation reached {name}: it proves nothing");
        check_deliveries(&stage, &container, SECRET, "assignment.swapped")?;
    }
    plaintexts.push(stage.value_in(&container)?);
    let seen = reader.end()?;
    assert_eq!(seen.missing, 0, "the file was missing for a moment");
    assert!(
        seen.contents.iter().all(|content| content.len() == LENGTH),
        "a torn or empty value was read"
    );
    assert!(
        seen.contents.len() as u64 <= current(&stage.keywheel, SECRET)?,
        "a mixed value was read"
    );
    assert!(!container.logs()?.contains("TORN"));
    stage.finish(&plaintexts, &[&container])
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
    stage.finish(&values, &[&container])
}
