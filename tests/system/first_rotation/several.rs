//! What takes several people, with a daemon that dies between the last word and the deed. Part of the disaster drill,
//! which has a second person at hand.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::keywheel::{Keywheel, Options};
use serde_json::Value;

use crate::disaster::{Group, second_person};

const ALL: &str = "@id(\"all\")\npermit (principal, action, resource);\n";
const MORE: &str = "@id(\"everything\")\npermit (principal, action, resource);\n";
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

/// A set of policies takes two, is put in force once, and in an emergency by one, who is reviewed by the other.
pub(crate) fn policies_take_two(keywheel: &mut Keywheel) -> Result<()> {
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
    for _ in 0..2 {
        keywheel.cli(&apply)?.ok()?;
    }
    ensure!(
        version(keywheel)? == Some(1),
        "it was done twice, or not at all"
    );

    fs::write(&file, MORE)?;
    let apply = ["--break-glass", WHY, "policy", "apply", &file];
    keywheel.cli(&apply)?.ok()?;
    ensure!(version(keywheel)? == Some(2), "broken glass does not go on");
    ensure!(is_told(keywheel)?, "broken glass is not loud");
    let id = only(keywheel, "--unreviewed")?;
    let review = ["approval", "review", &id, "--reason", "it stays"];
    let own = keywheel.cli(&review)?;
    ensure!(own.code == 2, "who broke it reviews it: {}", own.said());
    second_person(keywheel, &group, &review)?.ok()?;
    ensure!(!is_told(keywheel)?, "what was reviewed is told still");
    Ok(())
}
