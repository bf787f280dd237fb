//! Kills before and after every move of one run: the shipped playbook for a leaked credential replaces a login to
//! PostgreSQL in a container that uses it all the while.
//!
//! A life ends before the run's next move, the next one after it, and so on to the run's end: between two moves
//! the rotation and the revocation go on in whichever life there is.

use anyhow::{Context as _, Result, bail, ensure};
use keywheel_tests::database::{self, Database};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::stage::{PATIENCE, Stage, current, find, items};
use keywheel_tests::{docker, wait};
use serde_json::Value;

use crate::app::App;
use crate::playbooks::{PLAYBOOK, open_runs};
use crate::servers;
use crate::walk::{MOVE, armed};

const APP: &str = "leak";
const NAME: &str = "leaked-credential";
const KIND: &str = "dev.keywheel.playbook_run.";
/// More than this run has moves; what comes after that does not end.
const MOST_MOVES: usize = 40;

/// Begins the run in a life that dies before its first move.
fn begin(stage: &mut Stage, secret: &str) -> Result<()> {
    let [before, _] = MOVE;
    stage.keywheel.restart(&armed(before, 1))?;
    let setting = format!("secret={secret}");
    let words = ["playbook", "run", NAME, "--set", &setting];
    let words = [&words[..], &["--reason", "crash test", "--yes"]].concat();
    // Its answer may die with it; what is asked for is durable before the first move.
    let _said = stage.keywheel.cli(&words)?;
    let status = stage.keywheel.wait_exit(PATIENCE)?;
    ensure!(status.contains('9'), "{before}: ended otherwise: {status}");
    Ok(())
}

/// A life that makes the move before which the last one ended, and dies of it.
fn die_after(keywheel: &mut Keywheel) -> Result<()> {
    let [_, after] = MOVE;
    keywheel.spawn(&armed(after, 1))?;
    let status = keywheel.wait_exit(PATIENCE)?;
    ensure!(status.contains('9'), "{after}: ended otherwise: {status}");
    Ok(())
}

/// A life that dies before the next move; false when there is none, because the run ended.
fn die_before(keywheel: &mut Keywheel) -> Result<bool> {
    let [before, _] = MOVE;
    keywheel.spawn(&armed(before, 1))?;
    let what = "death before a move, or the end of the run";
    let status = wait::until(what, PATIENCE, || {
        if let Some(status) = keywheel.exited()? {
            return Ok(Some(Some(status)));
        }
        Ok((open_runs(keywheel)? == 0).then_some(None))
    })?;
    let Some(status) = status else {
        return Ok(false);
    };
    ensure!(status.contains('9'), "{before}: ended otherwise: {status}");
    Ok(true)
}

/// Dies after and before each move that is left, the last life having died before one; how many lives ended so.
fn live_through(keywheel: &mut Keywheel) -> Result<usize> {
    for moves in 0..MOST_MOVES {
        let context = || format!("after {moves} moves");
        die_after(keywheel).with_context(context)?;
        if !die_before(keywheel).with_context(context)? {
            return Ok(2 * moves + 1);
        }
    }
    bail!("the run did not end within {MOST_MOVES} moves")
}

/// What the log says of the only run, as `KIND STEP`, in its order.
fn told(keywheel: &Keywheel) -> Result<Vec<String>> {
    let events = Value::from(keywheel.stream("events")?);
    let word = |event: &Value| {
        let kind = event.get("type")?.as_str()?.strip_prefix(KIND)?;
        let kind = kind.trim_end_matches(".v1");
        let step = find(event, "step").and_then(Value::as_str);
        // The run's own events name its steps as a list, if at all.
        Some(format!("{kind} {}", step.unwrap_or_default()))
    };
    Ok(items(&events).into_iter().filter_map(word).collect())
}

/// Each step began, acted and ended as it does when nobody dies, and each move was died for twice.
fn check_run(keywheel: &Keywheel, deaths: usize) -> Result<()> {
    let told = told(keywheel)?;
    let expected = [
        ("step_started", "replace"),
        ("acted", "replace"),
        ("step_completed", "replace"),
        ("step_started", "converge"),
        ("step_completed", "converge"),
        ("step_started", "prove"),
        ("step_completed", "prove"),
    ];
    let ran = |line: &&String| expected.iter().any(|(kind, _)| line.starts_with(kind));
    let steps: Vec<&String> = told.iter().filter(ran).collect();
    let wanted: Vec<String> = expected.iter().map(|(a, b)| format!("{a} {b}")).collect();
    ensure!(steps.iter().copied().eq(&wanted), "{told:?}");
    let mut once = told.clone();
    once.sort();
    once.dedup();
    ensure!(once.len() == told.len(), "something twice: {told:?}");
    // All but the begin of the run is a move.
    let moves = told.len() - 1;
    ensure!(deaths == 2 * moves, "{deaths} deaths, {moves} moves");
    let runs = keywheel.json(&["playbook", "runs"])?;
    let run = items(&runs).into_iter().next().context("no run")?;
    let state = find(run, "state").and_then(Value::as_str);
    ensure!(state == Some("completed"), "{run}");
    Ok(())
}

#[test]
fn killed_before_and_after_every_move_a_leak_is_replaced_once_and_no_query_fails() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let server = Database::postgres();
    let mut stage = Stage::set()?;
    servers::adopt(&server, &stage, APP)?;
    stage.keywheel.apply(PLAYBOOK)?;
    let label = format!("app={APP}");
    let word = servers::word(&server);
    let app = App::run(&stage, APP, &["--label", &label], &["-", &word])?;
    app.wait_generation(server.kind, 1)?;
    let held = || servers::held_by(&server, &app.container)?.context("no login");
    let before = held()?;
    ensure!(server.admits(&before)?, "the first login is refused");

    begin(&mut stage, server.secret)?;
    let deaths = 1 + live_through(&mut stage.keywheel)?;
    stage.keywheel.restart(&Options::default())?;

    check_run(&stage.keywheel, deaths)?;
    ensure!(current(&stage.keywheel, server.secret)? == 2, "not once");
    let words = ["describe", "revocation", server.secret];
    let revocation = stage.keywheel.json(&words)?;
    let proof = revocation.pointer("/states/proof").and_then(Value::as_str);
    ensure!(proof == Some("proven_dead"), "{revocation}");
    app.wait_generation(server.kind, 2)?;
    let after = held()?;
    ensure!(server.admits(&after)?, "the new login is refused");
    ensure!(!server.admits(&before)?, "the old login is let in");
    let accepted = server.accepted()?;
    ensure!(accepted == [after.user.as_str()], "let in: {accepted:?}");
    let stats = app.stats_of(server.kind)?;
    let queries = stats["queries"].as_u64().unwrap_or_default();
    ensure!(
        queries > 0 && stats["failed"] == 0 && stats["locked_out"] == 0,
        "{stats}"
    );
    let passwords = [before.password, after.password, database::admin_password()];
    stage.finish(&passwords, &[&app.container])
}
