//! The store's server is killed: nothing stops, everybody sees since when, and its return restarts
//! only what changed.

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::openbao::OpenBao;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::stage::{SECRET, current};
use keywheel_tests::{stage, wait};

use crate::scene::{STORE, Scene, TOKEN, events, refreshed, variable, wait_health};

#[test]
fn a_killed_store_stops_nothing_and_comes_back_without_a_restart_storm() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut scene = Scene::set(OpenBao::start_kept())?;
    let [first, second] = ["outage-1-6a1d", "outage-2-b07f"];
    let [one, two] = ["outage-token-1-55e2", "outage-token-2-8c90"];
    scene.write(first, one)?;
    scene.apply("outage", "1s")?;
    let container = scene.run("outage")?;
    scene.wait_value(&container, first)?;
    scene.wait_variable(&container, one)?;
    let pid = container.pid()?;

    scene.bao.kill();
    scene.wait_metric(&format!("keywheel_store_up{{store=\"{STORE}\"}} 0"))?;
    wait_contact(&scene, "store.went_stale", 1)?;
    let started = scene.run("outage")?;
    ensure!(
        scene.stage.value_in(&started)? == first,
        "a start is served"
    );
    ensure!(variable(&started)? == one, "also with a variable");
    is_told(&scene)?;
    ensure!(scene.stage.value_in(&container)? == first && container.pid()? == pid);

    // It comes back sealed, and then with another value in one of the two fields.
    scene.bao.start_again();
    let sealed = scene.stage.keywheel.cli(&["refresh", SECRET])?;
    ensure!(
        sealed.code == 4 && sealed.stdout.contains("seal"),
        "{sealed:?}"
    );
    scene.bao.unseal();
    scene.write(second, one)?;
    scene.wait_value(&container, second)?;
    scene.wait_value(&started, second)?;
    wait_contact(&scene, "store.recovered", 1)?;
    scene.wait_metric(&format!("keywheel_store_up{{store=\"{STORE}\"}} 1"))?;
    let answer = scene.stage.keywheel.json(&["refresh", "--wait"])?;
    ensure!(refreshed(&answer, TOKEN)? == "unchanged", "{answer}");
    unmoved(&scene, 1, &container, pid)?;

    // Once more, and with a new value for the variable: one restart each.
    scene.bao.kill();
    wait_contact(&scene, "store.went_stale", 2)?;
    scene.bao.start_again();
    scene.bao.unseal();
    scene.write(second, two)?;
    scene.stage.keywheel.json(&["refresh", "--wait"])?;
    scene.wait_variable(&container, two)?;
    scene.wait_variable(&started, two)?;
    wait_contact(&scene, "store.recovered", 2)?;
    scene.stage.keywheel.json(&["refresh", "--wait"])?;
    ensure!(current(&scene.stage.keywheel, TOKEN)? == 2);
    ensure!(current(&scene.stage.keywheel, SECRET)? == 2);
    scene.wait_metric("keywheel_consumer_restarts_total{cause=\"external\"} 2")?;
    scene.finish(&[first, second, one, two], &[&container, &started])
}

/// Nothing rotated for the secret whose value is the old one, and nothing was restarted for it.
fn unmoved(scene: &Scene, version: u64, container: &Container, pid: u32) -> Result<()> {
    let now = current(&scene.stage.keywheel, TOKEN)?;
    ensure!(now == version, "an equal value rotated: {now}");
    ensure!(
        container.pid()? == pid,
        "an equal value restarted its consumer"
    );
    Ok(())
}

/// The log says it so often.
fn wait_contact(scene: &Scene, kind: &str, times: usize) -> Result<()> {
    wait::until_true(kind, stage::PATIENCE, || {
        Ok(events(&scene.stage.keywheel, kind)?.len() == times)
    })
}

/// Status and the list of stores say since when, why, and what to do.
fn is_told(scene: &Scene) -> Result<()> {
    let keywheel = &scene.stage.keywheel;
    let away = wait_health(keywheel, STORE, &["warning", "problem"])?;
    let note = away["note"].as_str().context("no note")?;
    ensure!(
        note.contains("stale since") && note.contains("containers keep"),
        "{note}"
    );
    let next = away["next"].as_str().context("no next step")?;
    ensure!(next.contains("keywheel refresh"), "{next}");
    for words in [["status"].as_slice(), &["store", "list"]] {
        let said = keywheel.cli(words)?.stdout;
        ensure!(
            said.contains("stale since") && said.contains("keywheel refresh"),
            "{said}"
        );
    }
    let event = events(keywheel, "store.went_stale")?.remove(0).to_string();
    ensure!(event.contains("reason"), "{event}");
    let looked = keywheel.cli(&["refresh", SECRET])?;
    ensure!(looked.code == 4, "{looked:?}");
    Ok(())
}
