//! Podman with crun, which keeps a copy of its configuration: that copy is among what is searched.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::Image;
use keywheel_tests::output::Output;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::scratch::{Scratch, binary, unique};
use keywheel_tests::wait;
use serde_json::{Value, json};

use crate::machine::{alone, ready};
use crate::podman::{follows_and_loses, health, is_refused, restarts};

const CRUN: &str = "crun";

#[test]
fn a_container_starts_with_its_secrets_follows_and_loses_them() -> Result<()> {
    let name = "crun::a_container_starts_with_its_secrets_follows_and_loses_them";
    alone(name, || follows_and_loses(CRUN))
}

#[test]
fn a_placeholder_without_a_binding_is_refused_by_name() -> Result<()> {
    let name = "crun::a_placeholder_without_a_binding_is_refused_by_name";
    alone(name, || is_refused(CRUN))
}

#[test]
fn a_rotation_restarts_the_container_in_place() -> Result<()> {
    let name = "crun::a_rotation_restarts_the_container_in_place";
    alone(name, || restarts(CRUN))
}

#[test]
fn the_health_check_sees_the_value_and_no_other_exec_does() -> Result<()> {
    let name = "crun::the_health_check_sees_the_value_and_no_other_exec_does";
    alone(name, || health(CRUN))
}

#[test]
fn a_container_of_a_killed_create_is_deleted_by_us_though_crun_cannot() -> Result<()> {
    let name = "crun::a_container_of_a_killed_create_is_deleted_by_us_though_crun_cannot";
    alone(name, deletes_what_a_kill_left)
}

/// The bundle of a program that waits.
fn bundle(at: &Path) -> Result<()> {
    fs::create_dir(at)?;
    Output::of(Command::new(CRUN).arg("spec").current_dir(at))?.ok()?;
    let path = at.join("config.json");
    let mut config: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let process = config.get_mut("process").and_then(Value::as_object_mut);
    let process = process.context("crun's example has no process")?;
    process.insert("args".to_owned(), json!(["/bin/busybox", "sleep", "600"]));
    process.insert("terminal".to_owned(), json!(false));
    process.remove("rlimits");
    fs::write(path, config.to_string())?;
    let tree = Image::tree()?;
    let mut copy = Command::new("cp");
    copy.arg("-a").arg(tree.join("root")).arg(at.join("rootfs"));
    Output::of(&mut copy)?.ok()?;
    Ok(())
}

/// crun made the container, and we were killed before its empty copy was replaced.
fn deletes_what_a_kill_left() -> Result<()> {
    if !ready(&[CRUN])? {
        return Ok(());
    }
    let scratch = Scratch::make()?;
    let (state, at) = (scratch.join("state"), scratch.join("bundle"));
    bundle(&at)?;
    let call = |program: &Path, words: &[&str]| {
        let mut command = Command::new(program);
        if program != Path::new(CRUN) {
            command.args(["--keywheel-real-runtime", CRUN]);
        }
        command.arg("--root").arg(&state).args(words);
        Output::of(&mut command)
    };
    let pid = scratch.join("pid");
    let (place, pid_file) = (at.display().to_string(), pid.display().to_string());
    // Its control group is named so: not one that a killed run left.
    let id = unique("keywheel-test");
    let create = ["create", "--bundle", &place, "--pid-file", &pid_file, &id];
    // Its program holds what the call was given: not a pipe that somebody reads to its end.
    let mut made = Command::new(CRUN);
    made.args(["--cgroup-manager=cgroupfs", "--root"])
        .arg(&state);
    made.args(create);
    let log = fs::File::create(scratch.join("log"))?;
    made.stdin(std::process::Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    ensure!(
        made.status()?.success(),
        "{}",
        fs::read_to_string(scratch.join("log"))?
    );
    let program = format!("/proc/{}", fs::read_to_string(&pid)?.trim());
    let kept = state.join(&id);
    fs::write(kept.join("config.json"), "")?;
    let words = ["delete", "--force", &id];
    let alone = call(Path::new(CRUN), &words)?;
    ensure!(
        alone.code != 0 && Path::new(&program).exists(),
        "crun can: {}",
        alone.said()
    );
    call(&binary("keywheel-runtime")?, &words)?.ok()?;
    ensure!(!kept.exists(), "its state is still there");
    wait::until_true("the end of its program", PATIENCE, || {
        Ok(!Path::new(&program).exists())
    })
}
