//! What takes several people, with a daemon that dies between the last word and the deed; the shipped playbook that
//! follows broken glass; and a set that takes from a running container what it may not `read`. Part of the disaster
//! drill, which has a second person and a container at hand.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::stage::{FILE, PATIENCE, items};
use keywheel_tests::{docker, shares, wait};
use serde_json::Value;

use crate::disaster::{Group, QUIET_FILE, second_person};

const REVIEW: &str = include_str!("../../../deploy/playbooks/break-glass-review.yaml");
const ALL: &str = "@id(\"all\")\npermit (principal, action, resource);\n";
const MORE: &str = "@id(\"everything\")\npermit (principal, action, resource);\n";
/// The same, but for one secret, which no service may have.
const TAKES: &str = "@id(\"everything\")\npermit (principal, action, resource);\n@id(\"not-quiet\")\nforbid (principal, action == Action::\"read\", resource == Secret::\"test/quiet\");\n";
const WHY: &str = "nobody else is awake";

/// The id of the one request that a list has.
fn only(keywheel: &Keywheel, which: &str) -> Result<String> {
    let all = keywheel.json(&["approval", "list", which])?;
    let all = all.as_array().context("no list")?;
    ensure!(all.len() == 1, "{which}: {all:#?}");
    let id = all[0].get("approval_id").and_then(Value::as_str);
    Ok(id.context("no id")?.to_owned())
}

fn version(keywheel: &Keywheel) -> Result<Option<u64>> {
    let shown = keywheel.json(&["policy", "show"])?;
    Ok(shown.get("version").and_then(Value::as_u64))
}

fn is_told(keywheel: &Keywheel) -> Result<bool> {
    let status = keywheel.json(&["status"])?.to_string();
    Ok(status.contains("broke the glass"))
}

/// Does what waits for another person, with that person.
fn with_two(keywheel: &Keywheel, group: &Group, words: &[&str]) -> Result<()> {
    let waits = keywheel.cli(words)?;
    ensure!(waits.code == 6, "it did not wait: {}", waits.said());
    let id = only(keywheel, "--waiting")?;
    let approve = ["approval", "approve", &id, "--reason", "seen"];
    second_person(keywheel, group, &approve)?.ok()?;
    keywheel.cli(words)?.ok()?;
    Ok(())
}

/// The run of the playbook that follows broken glass.
fn run_of_review(keywheel: &Keywheel) -> Result<Option<Value>> {
    let runs = keywheel.json(&["playbook", "runs"])?;
    let is_meant =
        |run: &&Value| run.get("playbook").and_then(Value::as_str) == Some("break-glass-review");
    let mut meant = items(&runs).into_iter().filter(is_meant);
    let run = meant.next().cloned();
    ensure!(meant.next().is_none(), "it runs twice: {runs}");
    Ok(run)
}

/// It began by itself, was told who broke the glass, and waits for somebody else; with their word it is through.
fn review_is_followed(keywheel: &Keywheel, group: &Group) -> Result<()> {
    let run = wait::until("the playbook to begin", PATIENCE, || {
        run_of_review(keywheel)
    })?;
    let state = |run: &Value| run.get("state").and_then(Value::as_str).map(str::to_owned);
    ensure!(state(&run).as_deref() == Some("running"), "{run}");
    ensure!(
        run.pointer("/arguments/who").and_then(Value::as_str) == Some("unix:0"),
        "it was told nobody: {run}"
    );
    let id = run.get("run_id").and_then(Value::as_str);
    let id = id.context("no id")?;
    let approve = ["playbook", "approve", id, "--reason", "reviewed"];
    wait::until_true("the run to wait for somebody else", PATIENCE, || {
        let own = keywheel.cli(&approve)?;
        ensure!(own.code != 0, "who broke it reviews it: {}", own.said());
        Ok(own.said().contains("whom it leaves out"))
    })?;
    second_person(keywheel, group, &approve)?.ok()?;
    wait::until_true("the run to be through", PATIENCE, || {
        let run = run_of_review(keywheel)?;
        Ok(run.as_ref().and_then(state).as_deref() == Some("completed"))
    })?;
    // Of the request itself nobody said what they found yet.
    ensure!(is_told(keywheel)?, "a run alone ends the problem");
    Ok(())
}

/// A set takes from a running container what it may not have, and nothing else; another one gives it back.
fn read_is_taken_and_given_back(
    keywheel: &Keywheel,
    group: &Group,
    container: &docker::Container,
) -> Result<()> {
    let file = keywheel.scratch().join("all.cedar");
    let path = file.display().to_string();
    let before = container.read(QUIET_FILE)?.context("no value before")?;
    fs::write(&file, TAKES)?;
    let apply = ["policy", "apply", &path];
    let refused = keywheel.cli(&apply)?;
    ensure!(
        refused.code == 2
            && refused
                .said()
                .contains("binding `quiet` gives nothing any more"),
        "it takes unsaid: {}",
        refused.said()
    );
    with_two(keywheel, group, &["policy", "apply", &path, "--withhold"])?;
    wait::until_true("the file to be withdrawn", PATIENCE, || {
        Ok(container.read(QUIET_FILE)?.is_none())
    })?;
    ensure!(container.read(FILE)?.is_some(), "another one went with it");
    let told = keywheel.json(&["get", "bindings"])?.to_string();
    ensure!(told.contains("not-quiet"), "it is not told: {told}");
    fs::write(&file, MORE)?;
    with_two(keywheel, group, &apply)?;
    let again = wait::until("the file to be given back", PATIENCE, || {
        container.read(QUIET_FILE)
    })?;
    ensure!(again == before, "another value came back");
    let audit = Value::from(keywheel.stream("audit")?).to_string();
    for verb in ["\"withhold\"", "\"give-back\""] {
        ensure!(audit.contains(verb), "{verb} is not on record");
    }
    Ok(())
}

/// A set of policies takes two, is put in force once, and in an emergency by one, who is reviewed by the other.
pub(crate) fn policies_take_two(
    keywheel: &mut Keywheel,
    container: &docker::Container,
    given: &[String],
) -> Result<()> {
    let people = ("KEYWHEEL_DUAL_CONTROL_POLICY_CHANGE", "2");
    let options = Options {
        environment: vec![(people.0.to_owned(), people.1.to_owned())],
        ..Options::default()
    };
    keywheel.restart(&options)?;
    let group = Group::ensure()?;
    let file = keywheel.scratch().join("all.cedar");
    fs::write(&file, ALL)?;
    let file = file.display().to_string();
    let apply = ["policy", "apply", &file];
    let waits = keywheel.cli(&apply)?;
    ensure!(waits.code == 6, "it did not wait: {}", waits.said());
    ensure!(version(keywheel)? == Some(0), "it was done all the same");
    let id = only(keywheel, "--waiting")?;
    let approve = ["approval", "approve", &id, "--reason", "seen"];
    let own = keywheel.cli(&approve)?;
    ensure!(own.code == 2, "one person counts twice: {}", own.said());
    second_person(keywheel, &group, &approve)?.ok()?;
    keywheel.kill9()?;
    keywheel.up(&options)?;
    shares::open(keywheel, [&given[0], &given[1]])?;
    for _ in 0..2 {
        keywheel.cli(&apply)?.ok()?;
    }
    ensure!(
        version(keywheel)? == Some(1),
        "it was done twice, or not at all"
    );

    keywheel.apply(REVIEW)?;
    fs::write(&file, MORE)?;
    let apply = ["--break-glass", WHY, "policy", "apply", &file];
    keywheel.cli(&apply)?.ok()?;
    ensure!(version(keywheel)? == Some(2), "broken glass does not go on");
    ensure!(is_told(keywheel)?, "broken glass is not loud");
    review_is_followed(keywheel, &group)?;
    let id = only(keywheel, "--unreviewed")?;
    let review = ["approval", "review", &id, "--reason", "it stays"];
    let own = keywheel.cli(&review)?;
    ensure!(own.code == 2, "who broke it reviews it: {}", own.said());
    second_person(keywheel, &group, &review)?.ok()?;
    ensure!(!is_told(keywheel)?, "what was reviewed is told still");
    read_is_taken_and_given_back(keywheel, &group, container)
}
