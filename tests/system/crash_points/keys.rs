//! Kills while keys are replaced: of the server around every step by which data keys are wrapped anew, and of
//! `keywheel reseal` all over the time that it takes. What holds at every row is the cache's own suite's to show.

use std::fs;
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Result, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::output::Output;
use keywheel_tests::stage::{PATIENCE, SECRET, Stage};
use keywheel_tests::wait;
use serde_json::Value;

use crate::walk::{REKEY, count_hits, died, start_armed, walk};

/// Reseals that are killed.
const RESEALS: u32 = 8;
/// The sealed root key of a cache that was resealed.
const SEAL_FILE: &str = "seal.json";
/// How a start ends whose key does not fit what is there.
const CONFIG: &str = "exit status: 78";
/// Steps of replacing the key of one version: the versions, what else is sealed, and the end.
const STEPS: u32 = 3;

/// Rows under a key that goes; none when there is one key alone.
fn rows_left(keywheel: &Keywheel) -> Result<Option<u64>> {
    let seal = keywheel.json(&["unseal"])?;
    ensure!(seal["sealed"] == false, "{seal}");
    Ok(seal.get("kek_rows_left").and_then(Value::as_u64))
}

/// Replaces the key under a failpoint armed for this hit; true when the process died of it. It ends in any case.
fn rekey_into(stage: &mut Stage, name: &str, hit: u32) -> Result<bool> {
    if hit == 1 {
        start_armed(&mut stage.keywheel, name, hit)?;
    }
    count_hits(&stage.keywheel)?;
    // It may die while it answers.
    wait::until_true("the key to be replaced, or death", PATIENCE, || {
        let is_taken = stage.keywheel.cli(&["rotate-kek"])?.code == 0;
        Ok(is_taken || stage.keywheel.exited()?.is_some())
    })?;
    let died = died(&mut stage.keywheel, (name, hit), |keywheel| {
        Ok(rows_left(keywheel)?.is_none())
    })?;
    wait::until_true("one key alone", PATIENCE, || {
        Ok(rows_left(&stage.keywheel)?.is_none())
    })?;
    Ok(died)
}

/// `keywheel reseal` to the same key file, which seals a fresh root key.
fn reseal(keywheel: &Keywheel) -> Result<Command> {
    let (data, key) = (keywheel.data_dir().display(), keywheel.unseal_key());
    let (data, key) = (data.to_string(), key.display().to_string());
    let words = [
        "reseal",
        "--to",
        "key-file",
        "--data-dir",
        data.as_str(),
        "--unseal-key-file",
        key.as_str(),
    ];
    keywheel.client(&words)
}

/// Kills reseals at moments spread over the time that one takes. Each next one opens what the one before left.
fn kill_reseals(keywheel: &Keywheel) -> Result<()> {
    let mut whole = PATIENCE;
    for _ in 0..2 {
        let begun = wait::now();
        Output::of(&mut reseal(keywheel)?)?.ok()?;
        whole = whole.min(begun.elapsed());
    }
    let mut killed = 0;
    for moment in 0..RESEALS {
        let mut command = reseal(keywheel)?;
        let command = command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn()?;
        thread::sleep(whole * moment / RESEALS);
        child.kill()?;
        killed += u32::from(!child.wait()?.success());
    }
    ensure!(killed > 1, "{killed} were killed before their end");
    Ok(())
}

/// The last reseal comes to its end; what opened the cache before it opens nothing any more.
fn reseal_for_good(stage: &mut Stage, container: &Container, value: &str) -> Result<()> {
    let file = stage.keywheel.data_dir().join(SEAL_FILE);
    let first = fs::read(&file)?;
    Output::of(&mut reseal(&stage.keywheel)?)?.ok()?;
    let last = fs::read(&file)?;
    ensure!(first != last, "it was resealed by the same root key");
    fs::write(&file, first)?;
    stage.keywheel.spawn(&Options::default())?;
    let ended = stage.keywheel.wait_exit(PATIENCE)?;
    ensure!(ended.ends_with(CONFIG), "{ended}: {}", stage.keywheel.log());
    fs::write(&file, last)?;
    stage.keywheel.up(&Options::default())?;
    ensure!(stage.value_in(container)? == value);
    Ok(())
}

#[test]
fn keys_are_replaced_whatever_is_killed_and_open_everything_to_the_end() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.apply_file("keys", "none")?;
    let container = stage.run("keys", &[], "/bin/app-idle")?;
    let first = stage.value_in(&container)?;
    // Before a step is after the one before it: only before the first is there something else.
    let [before, after] = REKEY;
    ensure!(
        rekey_into(&mut stage, before, 1)?,
        "{before} is not reached"
    );
    ensure!(stage.value_in(&container)? == first);
    let hits = walk(after, |hit| {
        let died = rekey_into(&mut stage, after, hit)?;
        ensure!(stage.value_in(&container)? == first);
        Ok(died)
    })?;
    ensure!(hits >= STEPS, "{after} was reached {hits} times only");
    stage.keywheel.stop()?;
    kill_reseals(&stage.keywheel)?;
    // What the last kill left is sorted out by a start, too.
    stage.keywheel.up(&Options::default())?;
    ensure!(stage.value_in(&container)? == first);
    stage.keywheel.stop()?;
    reseal_for_good(&mut stage, &container, &first)?;
    stage.rotate(SECRET)?;
    let second = stage.value_in(&container)?;
    ensure!(second != first, "the rotation changed nothing");
    container.restart()?.ok()?;
    ensure!(stage.value_soon_in(&container)? == second);
    stage.finish(&[first, second], &[&container])
}
