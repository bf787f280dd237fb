//! Kills while a playbook runs: the one for a leaked credential, as it is shipped.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::stage::{PATIENCE, SECRET, Stage, current, find, items};
use keywheel_tests::{docker, manifest, wait};
use serde_json::Value;

use crate::walk::{count_hits, died, start_armed, walk};

pub(crate) const PLAYBOOK: &str = include_str!("../../../deploy/playbooks/leaked-credential.yaml");
/// After a commit everything is durable and nothing is told; that before one changes nothing is tried where no
/// process has to be started for it (`services/engine/tests/command_bus/runs.rs`).
const PLACE: &str = "gateway.after_commit";

/// The runs that have not ended.
pub(crate) fn open_runs(keywheel: &Keywheel) -> Result<usize> {
    let said = keywheel.json(&["playbook", "runs"])?;
    let is_open = |run: &&Value| run.get("state").and_then(Value::as_str) == Some("running");
    Ok(items(&said).into_iter().filter(is_open).count())
}

/// How many events of a kind runs have.
fn count(keywheel: &Keywheel, kind: &str) -> Result<usize> {
    let events = Value::from(keywheel.stream("events")?);
    let kind = format!("dev.keywheel.playbook_run.{kind}.v1");
    let is_meant = |event: &&Value| event.get("type").and_then(Value::as_str) == Some(&*kind);
    Ok(items(&events).into_iter().filter(is_meant).count())
}

/// Runs it under a failpoint armed for this hit; true when the process died of it. In the end it is through.
fn run_into(stage: &mut Stage, hit: u32) -> Result<bool> {
    let setting = format!("secret={SECRET}");
    let words = ["playbook", "run", "leaked-credential", "--set", &setting];
    let words = [&words[..], &["--reason", "crash test", "--yes"]].concat();
    let before = count(&stage.keywheel, "triggered")?;
    count_hits(&stage.keywheel)?;
    let accepted = stage.keywheel.cli(&words)?.code == 0;
    let died = died(&mut stage.keywheel, (PLACE, hit), |keywheel| {
        Ok(accepted && open_runs(keywheel)? == 0)
    })?;
    // It may have been made durable all the same; then there is no second one to begin.
    if count(&stage.keywheel, "triggered")? == before {
        stage.keywheel.cli(&words)?.ok()?;
    }
    wait::until_true("the run to end", PATIENCE, || {
        Ok(open_runs(&stage.keywheel)? == 0)
    })?;
    Ok(died)
}

/// Every run is completed, and began one rotation.
fn check(stage: &Stage, runs: usize) -> Result<()> {
    let said = stage.keywheel.json(&["playbook", "runs"])?;
    for run in items(&said) {
        let state = find(run, "state").and_then(Value::as_str);
        ensure!(state == Some("completed"), "a run did not complete: {run}");
    }
    let begun = count(&stage.keywheel, "triggered")?;
    ensure!(begun == runs, "{begun} runs were begun of {runs}");
    let acted = count(&stage.keywheel, "acted")?;
    ensure!(acted == runs, "{acted} rotations were begun by {runs} runs");
    let now = usize::try_from(current(&stage.keywheel, SECRET)?).context("a version")?;
    ensure!(
        now == runs + 1,
        "version {now} is current after {runs} runs"
    );
    Ok(())
}

#[test]
fn a_playbook_goes_on_in_the_step_it_was_in_after_a_kill_behind_each_commit() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.keywheel.apply(&manifest::secret(SECRET, &[]))?;
    stage.keywheel.apply(PLAYBOOK)?;
    stage.wait_current(SECRET, 1)?;
    let mut runs = 0;
    walk(PLACE, |hit| {
        if hit == 1 {
            start_armed(&mut stage.keywheel, PLACE, hit)?;
        }
        runs += 1;
        let is_dead = run_into(&mut stage, hit)?;
        check(&stage, runs)?;
        Ok(is_dead)
    })?;
    stage.keywheel.json(&["journal", "verify"])?;
    Ok(())
}
