//! Reload commands, from the binding and from a container's label.

use anyhow::Result;
use keywheel_tests::docker;
use keywheel_tests::stage::{PATIENCE, SECRET, Stage};
use keywheel_tests::wait;

/// What a command leaves: a line that is no value.
const TOLD: &str = "/tmp/told";

#[test]
fn a_reload_command_acknowledges_by_its_exit_code_and_nothing_of_it_is_kept() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    // What it prints is the value itself: the canary finds it wherever output would be kept.
    let script = format!("cat /run/secrets/db_password; echo told >> {TOLD}");
    let reload = format!("{{ command: [/bin/sh, -c, \"{script}\"], timeout: 60s }}");
    stage.apply_file("command", &reload)?;
    let container = stage.run("command", &["--tmpfs", "/tmp"], "/bin/app-idle")?;
    let first = stage.value_in(&container)?;
    stage.rotate(SECRET)?;
    let told = container.read(TOLD)?.unwrap_or_default();
    assert_eq!(told.trim(), "told", "the command ran once a version");
    let second = stage.value_in(&container)?;
    assert_ne!(first, second);
    // One that fails is told as the consumer's state, with its exit code.
    stage.apply_file("command", "{ command: [/bin/sh, -c, \"exit 7\"] }")?;
    stage.keywheel.json(&["rotate", SECRET])?;
    wait::until_true("the exit code among the consumers", PATIENCE, || {
        let said = stage.keywheel.json(&["consumers"])?.to_string();
        Ok(said.contains("reload_failed") && said.contains("exit code 7"))
    })?;
    let third = stage.value_in(&container)?;
    stage.finish(&[first, second, third], &[&container])
}

#[test]
fn a_label_says_how_to_reload_where_the_binding_lets_it() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("label", "label")?;
    let label = "dev.keywheel.reload={ signal: HUP }";
    let container = stage.run("label", &["--label", label], "/bin/app-file")?;
    let first = stage.value_in(&container)?;
    stage.rotate(SECRET)?;
    wait::until_true("the program to reload", PATIENCE, || {
        Ok(container.reloads()? > 0)
    })?;
    let second = stage.value_in(&container)?;
    assert_ne!(first, second);
    stage.finish(&[first, second], &[&container])
}
