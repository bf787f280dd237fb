//! Kills between what is asked for and what came of it, where that is no event: before it is done, and when it is done.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker;
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::stage::{PATIENCE, Stage, items};
use keywheel_tests::wait;
use serde_json::Value;

use crate::walk::{DEED, die_of};

/// How the reason of an intent begins.
const ASKED: &str = "asked for";
/// How that of one begins of which the outcome is lost.
const UNKNOWN: &str = "not known whether it was done";

/// Reasons of all records of a verb, of which there is one command.
fn reasons(keywheel: &Keywheel, verb: &str) -> Result<Vec<String>> {
    let found = keywheel.json(&["audit", "list", "--after", "0", "--verb", verb])?;
    let all = items(&found);
    let first = all.first().context("nothing is on record")?;
    let reason = |record: &&Value| {
        ensure!(record["command"] == first["command"], "{found}");
        let text = record["reason"].as_str().context("a record without one")?;
        Ok(text.to_owned())
    };
    all.iter().map(reason).collect()
}

#[test]
fn what_a_kill_leaves_open_between_intent_and_outcome_is_closed_by_the_next_start() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.apply_file("deeds", "none")?;
    let container = stage.run("deeds", &[], "/bin/app-idle")?;
    let value = stage.value_in(&container)?;
    let file = stage.keywheel.scratch().join("never").display().to_string();
    let [before, after] = DEED;
    let asked = [
        (before, vec!["refresh"]),
        (after, vec!["backup", "--out", &file]),
    ];
    for (name, words) in &asked {
        let verb = words[0];
        let lost = die_of(&mut stage, name, |stage| stage.keywheel.cli(words))?;
        ensure!(lost.code != 0, "{verb} was answered by who was killed");
        let left = reasons(&stage.keywheel, verb)?;
        ensure!(
            left.len() == 1 && left[0].starts_with(ASKED),
            "{verb}: {left:?}"
        );
    }
    for (_, words) in asked {
        let verb = words[0];
        let closed = wait::until("an outcome", PATIENCE, || {
            let all = reasons(&stage.keywheel, verb)?;
            Ok((all.len() > 1).then_some(all))
        })?;
        ensure!(
            closed.len() == 2 && closed[1].starts_with(UNKNOWN),
            "{verb}: {closed:?}"
        );
    }
    ensure!(stage.value_in(&container)? == value);
    stage.finish(&[value], &[&container])
}
