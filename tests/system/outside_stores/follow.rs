//! A value that somebody changes at a store reaches running containers, in a file and in a variable.

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::openbao::OpenBao;
use keywheel_tests::docker;
use keywheel_tests::keywheel::Options;
use keywheel_tests::stage::{SECRET, current};
use keywheel_tests::wait;
use serde_json::{Value, json};

use crate::scene::{PATH, STORE, Scene, TOKEN, apart, events, listed, refreshed, wait_health};

#[test]
fn a_change_at_the_store_reaches_file_and_variable_by_itself_and_at_once_by_refresh() -> Result<()>
{
    follows(&Options::default())
}

#[test]
fn a_change_at_the_store_reaches_file_and_variable_with_services_apart() -> Result<()> {
    follows(&apart())
}

fn follows(options: &Options) -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let scene = Scene::set_with(OpenBao::start(None), options)?;
    let keywheel = &scene.stage.keywheel;
    let [first, second, third] = ["outside-1-4be1", "outside-2-77c0", "outside-3-9d2a"];
    let [one, two] = ["token-1-1f0c", "token-2-c3a8"];
    scene.write(first, one)?;
    scene.apply("follower", "1h")?;
    let container = scene.run("follower")?;
    scene.wait_value(&container, first)?;
    scene.wait_variable(&container, one)?;
    let pid = container.pid()?;

    // In an hour it would be seen; a person's look sees it now. Only one field is another one: the other
    // secret has a new version there, and the same value.
    scene.write(second, one)?;
    let answer = keywheel.json(&["refresh", SECRET, "--wait"])?;
    ensure!(refreshed(&answer, SECRET)? == "changed", "{answer}");
    ensure!(scene.stage.value_in(&container)? == second);
    let answer = keywheel.json(&["refresh", "--wait"])?;
    for secret in [SECRET, TOKEN] {
        ensure!(refreshed(&answer, secret)? == "unchanged", "{answer}");
    }
    ensure!(
        current(keywheel, TOKEN)? == 1 && container.pid()? == pid,
        "an equal value rotates and restarts nothing"
    );
    let noted = events(keywheel, "secret.remote_version_noted")?;
    ensure!(!noted.is_empty(), "the equal version is noted");
    let detected = events(keywheel, "secret.external_change_detected")?;
    ensure!(
        detected.len() == 3,
        "two first values and one change: {detected:?}"
    );

    // And by itself, when it is looked at often.
    keywheel.apply(&scene.store("1s")?)?;
    scene.write(third, two)?;
    scene.wait_value(&container, third)?;
    scene.wait_variable(&container, two)?;
    ensure!(container.pid()? != pid, "a variable changes by a restart");
    looks_right(&scene)?;
    scene.finish(&[first, second, third, one, two], &[&container])
}

/// What people see of a store that works.
fn looks_right(scene: &Scene) -> Result<()> {
    let keywheel = &scene.stage.keywheel;
    scene.wait_metric(&format!("keywheel_store_up{{store=\"{STORE}\"}} 1"))?;
    scene.wait_metric(&format!("keywheel_store_secrets{{store=\"{STORE}\"}} 2"))?;
    scene.wait_metric("keywheel_rotations_total{trigger=\"external\"} 5")?;
    scene.wait_metric("keywheel_sealed 0")?;
    let listed_now = wait_health(keywheel, STORE, &["ok"])?;
    ensure!(listed_now["secrets"] == json!(2), "{listed_now}");
    // It is looked at every second, so that what was seen of it may change between the two answers.
    wait::until_true("the same by both words", wait::PATIENCE, || {
        Ok(keywheel.json(&["get", "stores"])? == json!([listed(keywheel, STORE)?]))
    })?;
    let page = keywheel.json(&["store", "describe", STORE])?;
    let lies = page["secrets"].as_array().context("no secrets")?;
    for (secret, field) in [(SECRET, "password"), (TOKEN, "token")] {
        let found = lies.iter().find(|one| one["name"] == secret);
        let found = found.with_context(|| format!("{secret} is not described: {page}"))?;
        ensure!(found["source"] == json!({ "path": PATH, "field": field }));
        ensure!(
            is_third(&found["known"]) && found["written"] == json!(false),
            "{found}"
        );
    }
    for (words, part) in [
        (
            ["store", "list"].as_slice(),
            "it answers; 2 secrets lie in it",
        ),
        (&["store", "describe", STORE], "somebody else"),
        (&["store", "policy", STORE], "path \"secret/data/app/db\""),
        (&["status"], STORE),
    ] {
        let said = keywheel.cli(words)?.ok()?.stdout;
        ensure!(said.contains(part), "{words:?} does not say {part}: {said}");
    }
    let unknown = keywheel.cli(&["store", "describe", "nobody"])?;
    ensure!(
        unknown.code != 0 && unknown.stderr.contains("store list"),
        "{unknown:?}"
    );
    let in_use = keywheel.cli(&["store", "remove", STORE, "--yes"])?;
    ensure!(
        in_use.code != 0 && in_use.stderr.contains("move it"),
        "{in_use:?}"
    );
    Ok(())
}

/// A version is called by its number and the time at which it was made.
fn is_third(version: &Value) -> bool {
    let number = version.as_str().and_then(|text| text.split_once('@'));
    number.is_some_and(|(number, _)| number == "3")
}
