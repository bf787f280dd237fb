//! A person steps into a rotation that a container holds up: looks at the plan, waits once more, forces,
//! aborts. The container's program does not catch its signal, so it never acknowledges.

use std::time::Duration;

use anyhow::{Result, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::stage::{PATIENCE, SECRET, Stage, current, find, items};
use keywheel_tests::{manifest, wait};
use serde_json::{Value, json};

/// How long a rotation with a deadline of ten seconds may take to be parked.
const PARKED_WITHIN: Duration = Duration::from_secs(120);
const WHY: &str = "ticket 4711";
/// What `rotate --dry-run` ends with where something is in the way.
const IN_THE_WAY: i32 = 4;

/// A container that runs on version 1 and will acknowledge no other.
fn deaf(stage: &Stage, secret: &str) -> Result<Container> {
    let on = stage.on("deaf");
    let reload = "{ signal: USR1 }";
    let binding = manifest::file_binding("test-file", SECRET, &on, "db_password", reload);
    stage.keywheel.apply(&(secret.to_owned() + &binding))?;
    stage.wait_current(SECRET, 1)?;
    let container = stage.run("deaf", &[], "/bin/app-deaf")?;
    wait::until_true("the container among the consumers", PATIENCE, || {
        let consumers = stage.keywheel.json(&["consumers"])?;
        let known = items(&consumers);
        Ok(known.len() == 1 && find(&consumers, "version").and_then(Value::as_u64) == Some(1))
    })?;
    Ok(container)
}

fn state(stage: &Stage) -> Result<String> {
    let said = stage.keywheel.json(&["rotation", "describe", SECRET])?;
    let state = find(&said, "state").and_then(Value::as_str);
    Ok(state.unwrap_or_default().to_owned())
}

fn wait_state(stage: &Stage, wanted: &str, patience: Duration) -> Result<()> {
    let what = format!("the rotation to be {wanted}");
    wait::until_true(&what, patience, || Ok(state(stage)? == wanted))
}

/// The rotation's events of a type.
fn events_of(stage: &Stage, kind: &str) -> Result<Vec<String>> {
    let name = format!("dev.keywheel.rotation.{kind}.v1");
    let all = stage.keywheel.stream("events")?;
    let texts = all.iter().map(Value::to_string);
    Ok(texts.filter(|text| text.contains(&name)).collect())
}

fn a_look_says_what_would_be_and_begins_nothing(stage: &Stage) -> Result<()> {
    let plan = stage.keywheel.json(&["rotate", SECRET, "--dry-run"])?;
    let moving = find(&plan, "consumers").map(items).unwrap_or_default();
    ensure!(moving.len() == 1, "{plan}");
    ensure!(
        find(&plan, "deadline_seconds").and_then(Value::as_u64) == Some(10),
        "{plan}"
    );
    ensure!(
        plan["restarts"] == 0 && plan["on_deadline"] == "hold" && plan["blockers"] == json!([]),
        "{plan}"
    );
    ensure!(
        events_of(stage, "started")?.len() == 1 && current(&stage.keywheel, SECRET)? == 1,
        "a look begins nothing"
    );
    Ok(())
}

/// In `describe`, in the event and in the list, by the reason.
fn who_is_waited_for_is_named(stage: &Stage, container: &Container) -> Result<()> {
    let parked = stage.keywheel.json(&["rotation", "describe", SECRET])?;
    let next = find(&parked, "next_step").and_then(Value::as_str);
    ensure!(
        next.is_some_and(|next| next.contains("keywheel rotation retry")),
        "{parked}"
    );
    let waits = find(&parked, "waiting_for").map(Value::to_string);
    ensure!(
        waits.is_some_and(|waits| {
            waits.contains(container.name()) && waits.contains("signal_unhandled")
        }),
        "who is waited for, and why: {parked}"
    );
    let named = events_of(stage, "stragglers_named")?;
    ensure!(
        named.len() == 1 && named[0].contains("signal_unhandled"),
        "{named:?}"
    );

    let listed = stage.keywheel.json(&["rotation", "list"])?;
    let is_parked = |one: &&Value| one["state"] == "parked" && one["secret"] == SECRET;
    ensure!(
        items(&listed).into_iter().filter(is_parked).count() == 1,
        "{listed}"
    );
    Ok(())
}

#[test]
fn a_parked_rotation_waits_once_more_and_is_forced_on_the_record() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let secret = manifest::secret(SECRET, &["rotation: { deadline: 10s }"]);
    let container = deaf(&stage, &secret)?;
    let first = stage.value_in(&container)?;
    a_look_says_what_would_be_and_begins_nothing(&stage)?;

    // Without a terminal each consumer has a line of its own while it is waited for.
    let waited = stage.keywheel.cli(&["rotate", SECRET, "--wait"])?;
    let row = format!("  {} on ", container.name());
    let is_row = |line: &str| line.starts_with(&row) && line.contains("test-file: version ");
    ensure!(
        waited.code != 0 && waited.stderr.lines().any(is_row),
        "{}",
        waited.said()
    );
    wait_state(&stage, "parked", PARKED_WITHIN)?;
    who_is_waited_for_is_named(&stage, &container)?;

    let retry = ["rotation", "retry", SECRET, "--reason", WHY];
    stage.keywheel.json(&retry)?;
    ensure!(events_of(&stage, "reopened")?.len() == 1);
    let force = [
        "rotation", "force", SECRET, "--reason", WHY, "--yes", "--wait",
    ];
    stage.keywheel.json(&force)?;
    ensure!(state(&stage)? == "completed");
    let said = events_of(&stage, "intervened")?;
    ensure!(
        said.len() == 2 && said.iter().all(|text| text.contains(WHY)),
        "{said:?}"
    );
    let records = stage.keywheel.stream("audit")?;
    let of = |verb: &str| {
        let texts = records.iter().map(Value::to_string);
        texts
            .filter(|text| text.contains(verb) && text.contains(WHY))
            .count()
    };
    ensure!(of("retry-rotation") == 1 && of("force-rotation") == 1);
    let second = stage.value_in(&container)?;
    ensure!(first != second, "the container has the new value");
    stage.finish(&[first, second], &[&container])
}

#[test]
fn an_aborted_rotation_gives_the_value_before_back() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let container = deaf(&stage, &manifest::secret(SECRET, &[]))?;
    let first = stage.value_in(&container)?;
    stage.keywheel.json(&["rotate", SECRET])?;
    let second = wait::until("the new value", PATIENCE, || {
        let now = stage.value_in(&container)?;
        Ok((now != first).then_some(now))
    })?;
    wait_state(&stage, "distributing", PATIENCE)?;
    let plan = stage.keywheel.cli(&["rotate", SECRET, "--dry-run"])?;
    ensure!(
        plan.code == IN_THE_WAY && plan.said().contains("is still open"),
        "{}",
        plan.said()
    );
    let abort = ["rotation", "abort", SECRET, "--reason", WHY];
    stage.keywheel.json(&abort)?;
    wait::until_true("the value before", PATIENCE, || {
        Ok(stage.value_in(&container)? == first)
    })?;
    // It does not catch the signal of the way back either: nobody but a person ends that wait.
    let force = [
        "rotation", "force", SECRET, "--reason", WHY, "--yes", "--wait",
    ];
    stage.keywheel.json(&force)?;
    ensure!(state(&stage)? == "rolled_back");
    let said = stage.keywheel.json(&["get", "secret", SECRET])?;
    ensure!(
        find(&said, "current").and_then(Value::as_u64) == Some(1),
        "{said}"
    );
    stage.finish(&[first, second], &[&container])
}
