//! File consumers: swapped in place, never torn, there before the first
//! instruction, back after a restart.

use anyhow::{Result, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::reader::Reader;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage, find, items};
use keywheel_tests::{manifest, wait};
use serde_json::Value;

use crate::uses::used;

/// Rotations under the readers' eyes.
const ROTATIONS: u64 = 20;
/// Length of a generated value in these tests.
const LENGTH: usize = 32;
/// Bytes of the largest value there may be.
const LARGEST: usize = 1 << 20;

#[test]
fn a_secret_swaps_in_a_running_container_and_no_reader_sees_a_torn_value() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("reader", "{ signal: HUP }")?;
    let container = stage.run("reader", &[], "/bin/app-file")?;
    let before = stage.value_in(&container)?;
    assert_eq!(before.len(), LENGTH);
    let reader = Reader::begin(&container, FILE)?;
    for turn in 0..ROTATIONS {
        let answer = stage.rotate(SECRET)?;
        check_answer(&answer, &container, turn + 2)?;
        // Two signals in a row may be one for the program, so it is waited for.
        wait::until_true("the program to reload", PATIENCE, || {
            Ok(container.reloads()? as u64 > turn)
        })?;
    }
    let after = stage.value_in(&container)?;
    let seen = reader.end()?;
    assert_ne!(before, after);
    assert!(
        seen.reads > ROTATIONS,
        "the reader hardly read: {}",
        seen.reads
    );
    seen.check(LENGTH, ROTATIONS + 1)?;
    assert_eq!(
        container.reloads()? as u64,
        ROTATIONS,
        "told once a version"
    );
    assert!(!container.logs()?.contains("TORN"));
    // Its program opened each version, which is noted only where a person asked for it.
    assert_eq!(used(&stage, &container)?, [0u64; 0], "first uses are noted");
    stage.finish(&seen.plaintexts(), &[&container])
}

fn check_answer(answer: &Value, container: &Container, version: u64) -> Result<()> {
    for field in [
        "rotation_id",
        "secret",
        "version",
        "state",
        "consumers",
        "timings",
    ] {
        ensure!(
            answer.get(field).is_some(),
            "the answer lacks `{field}`: {answer}"
        );
    }
    assert_eq!(
        answer.get("version").and_then(Value::as_u64),
        Some(version),
        "{answer}"
    );
    let consumers = answer.get("consumers").map(items).unwrap_or_default();
    assert_eq!(consumers.len(), 1, "{answer}");
    let consumer = consumers.into_iter().next().unwrap_or(&Value::Null);
    let named = consumer
        .get("container")
        .and_then(Value::as_str)
        .unwrap_or_default();
    assert!(
        container.id().starts_with(named) || named == container.name(),
        "{consumer}"
    );
    for field in ["host", "state"] {
        ensure!(
            consumer.get(field).is_some_and(Value::is_string),
            "a consumer lacks `{field}`: {consumer}"
        );
    }
    for (place, field) in [
        (consumer, "latency_ms"),
        (answer, "promoted_to_swapped_ms"),
        (answer, "requested_to_acknowledged_ms"),
    ] {
        let milliseconds = find(place, field).and_then(Value::as_f64).unwrap_or(-1.0);
        ensure!(
            (0.0..PATIENCE.as_secs_f64() * 1e3).contains(&milliseconds),
            "`{field}` is {milliseconds}: {answer}"
        );
    }
    Ok(())
}

#[test]
fn the_file_is_there_before_the_first_instruction() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("first", "none")?;
    let holder = stage.run("first", &[], "/bin/app-idle")?;
    let value = stage.value_in(&holder)?;
    let mut containers = vec![holder];
    for _ in 0..5 {
        let label = ["--runtime", &stage.runtime, "--label", "app=first"];
        let container = Container::run(&stage.image, &label, &["/bin/test", "-s", FILE])?;
        let code = docker::docker(&["wait", container.id()])?.ok()?.stdout;
        assert_eq!(
            code.trim(),
            "0",
            "the file was not there when the program began"
        );
        containers.push(container);
    }
    let borrowed: Vec<&Container> = containers.iter().collect();
    stage.finish(&[value], &borrowed)
}

#[test]
fn a_restarted_container_gets_the_current_version_again() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("again", "none")?;
    let container = stage.run("again", &[], "/bin/app-idle")?;
    let first = stage.value_in(&container)?;
    docker::docker(&["restart", container.id()])?.ok()?;
    assert_eq!(
        stage.value_in(&container)?,
        first,
        "a restart alone changes no version"
    );
    stage.rotate(SECRET)?;
    docker::docker(&["stop", container.id()])?.ok()?;
    docker::docker(&["start", container.id()])?.ok()?;
    let second = stage.value_in(&container)?;
    assert_ne!(second, first);
    stage.finish(&[first, second], &[&container])
}

#[test]
fn a_container_outside_the_runtime_is_served_when_it_starts() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("plain", "none")?;
    let container = Container::run(&stage.image, &["--label", "app=plain"], &["/bin/app-idle"])?;
    let first = wait::until("the file in a plain container", PATIENCE, || {
        container.read(FILE)
    })?;
    stage.rotate(SECRET)?;
    let second = stage.value_in(&container)?;
    assert_ne!(first, second);
    stage.finish(&[first, second], &[&container])
}

#[test]
fn several_bindings_of_one_secret_are_one_rotation() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let one = manifest::file_binding("one", SECRET, &stage.on("one"), "db_password", "none");
    let two = manifest::file_binding(
        "two",
        SECRET,
        &stage.on("two"),
        "db_password",
        "{ signal: HUP }",
    );
    stage
        .keywheel
        .apply(&(manifest::secret(SECRET, &[]) + &one + &two))?;
    stage.wait_current(SECRET, 1)?;
    let first = stage.run("one", &[], "/bin/app-idle")?;
    let second = stage.run("two", &[], "/bin/app-idle")?;
    let answer = stage.rotate(SECRET)?;
    assert_eq!(
        answer.get("consumers").map(items).unwrap_or_default().len(),
        2,
        "{answer}"
    );
    let value = stage.value_in(&first)?;
    assert_eq!(value, stage.value_in(&second)?);
    stage.finish(&[value], &[&first, &second])
}

#[test]
fn a_program_that_does_not_catch_the_signal_is_neither_killed_nor_counted() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("deaf", "{ signal: USR1 }")?;
    let container = stage.run("deaf", &[], "/bin/app-deaf")?;
    let first = stage.value_in(&container)?;
    stage.keywheel.json(&["rotate", SECRET])?;
    let consumers = wait::until("signal_unhandled among the consumers", PATIENCE, || {
        let said = stage.keywheel.json(&["consumers"])?.to_string();
        Ok(said.contains("signal_unhandled").then_some(said))
    })?;
    assert!(consumers.contains("signal_unhandled"));
    assert_eq!(
        container.field("{{.State.Running}}")?,
        "true",
        "the uncaught signal was sent"
    );
    let second = stage.value_in(&container)?;
    stage.finish(&[first, second], &[&container])
}

#[test]
fn a_given_value_arrives_byte_by_byte() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    // No text, and a part that is: where the whole would leak, the canary finds that part. As large as one may be.
    let text = "line one \"quoted\" \\ €\nline two without an end";
    let mut value = [
        b"\0\xff\xfe\n\r\n\x80".as_slice(),
        text.as_bytes(),
        b"\0\xc3",
    ]
    .concat();
    value.resize(LARGEST, 0xfe);
    let path = stage.keywheel.scratch().write("value", &value)?;
    stage
        .keywheel
        .cli(&[
            "secret",
            "put",
            SECRET,
            "--value-file",
            &path.display().to_string(),
        ])?
        .ok()?;
    std::fs::remove_file(path)?;
    let binding = manifest::file_binding(
        "test-file",
        SECRET,
        &stage.on("given"),
        "db_password",
        "none",
    );
    stage.keywheel.apply(&binding)?;
    stage.wait_current(SECRET, 1)?;
    let container = stage.run("given", &[], "/bin/app-idle")?;
    let inside = format!("/proc/{}/root{FILE}", container.pid()?);
    assert!(std::fs::read(inside)? == value, "it is another one");
    stage.finish(&[text.to_owned()], &[&container])
}

#[test]
fn the_directory_is_read_only_and_the_file_has_its_owner_and_mode() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("mode", "none")?;
    let container = stage.run("mode", &[], "/bin/app-idle")?;
    let about = container
        .exec(&["stat", "-L", "-c", "%a %u %g", FILE])?
        .ok()?;
    assert_eq!(about.stdout.trim(), "400 0 0");
    for words in [["touch", "/run/secrets/other"], ["touch", FILE]] {
        assert_ne!(
            container.exec(&words)?.code,
            0,
            "the container wrote below /run/secrets"
        );
    }
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    assert!(
        !mounts.contains(container.id()) || !mounts.contains("run/secrets"),
        "visible in the host's mounts"
    );
    let value = stage.value_in(&container)?;
    stage.finish(&[value], &[&container])
}
