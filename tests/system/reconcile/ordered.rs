//! What a playbook orders about containers: of a service of three one is cut off its network and has no file any more,
//! what it had there is replaced, and the others restart one after the other, while the injector is killed in the midst
//! of that. Then a person lifts the quarantine, and it is a consumer again.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::fleet::Fleet;
use keywheel_tests::incident;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::scratch::unique;
use keywheel_tests::stage::{FILE, SECRET, items, wait_current};
use keywheel_tests::{manifest, wait};
use serde_json::Value;

use super::{PLACEHOLDER, TOKEN, values};
use crate::engine::{Down, PROGRAM, downs, one_after_the_other};

const APP: &str = "ordered";
const PLAYBOOK: &str = "isolate";
/// One is cut off, what it had in a file is replaced, and the others restart.
const ISOLATE: &str = r#"apiVersion: keywheel.dev/v1
kind: Playbook
metadata: { name: isolate }
spec:
  parameters:
    - { name: secret }
    - { name: apart }
    - { name: one }
    - { name: other }
  steps:
    - { name: cut-off, quarantine: { containers: ["${apart}"], action: disconnect } }
    - { name: replace, rotate: { secrets: ["${secret}"] } }
    - { name: converge, wait: {} }
    - { name: begin-anew, restart: { containers: ["${one}", "${other}"] } }
"#;
/// Whether one that restarted runs well its health check says, and that the test.
const RELOAD: &str =
    "{ restart: { healthTimeout: 1h, rollout: { maxParallel: 1, maxUnavailable: 1 } } }";
const CHECK: &str = "test -e /flags/well";
/// Its networks, as the engine has them.
const NETWORKS: &str = "{{range $name, $_ := .NetworkSettings.Networks}}{{$name}} {{end}}";

/// A file, a variable, and the playbook.
fn declare(fleet: &Fleet) -> Result<()> {
    let on = fleet.machine(0)?.on(APP);
    let text = manifest::secret(SECRET, &[])
        + &manifest::secret(TOKEN, &[])
        + &manifest::file_binding("file", SECRET, &on, "db_password", "none")
        + &manifest::env_binding("variable", TOKEN, &on, "API_TOKEN", RELOAD)
        + ISOLATE;
    fleet.keywheel.apply(&text)?;
    for secret in [SECRET, TOKEN] {
        wait_current(&fleet.keywheel, secret, 1)?;
    }
    fleet.keywheel.wait_plans()
}

/// Three containers of one Compose service on a network, who run well while there is a file in this folder.
fn serve(fleet: &Fleet, flags: &Path) -> Result<[Container; 3]> {
    let machine = fleet.machine(0)?;
    let (label, volume) = (
        format!("app={APP}"),
        format!("{}:/flags:ro", flags.display()),
    );
    let flags = [
        "--runtime",
        &machine.runtime,
        "--network",
        "bridge",
        "--label",
        &label,
        "--label",
        "com.docker.compose.service=ordered",
        "-e",
        PLACEHOLDER,
        "-v",
        &volume,
        "--health-cmd",
        CHECK,
        "--health-interval",
        "300ms",
        // However often it fails, nobody is unwell for it.
        "--health-retries",
        "1000000",
    ];
    let program = ["/bin/sh", "-c", PROGRAM];
    let run = || Container::run_with(&machine.image, &flags, &[], &program);
    let all = [run()?, run()?, run()?];
    for one in &all {
        wait::until_true("a healthy consumer", PATIENCE, || {
            let health = one.field("{{.State.Health.Status}}")?;
            Ok(health == "healthy" && held(fleet, TOKEN, one)? == Some(1))
        })?;
        let networks = one.field(NETWORKS)?;
        ensure!(networks == "bridge", "its networks are {networks}");
    }
    Ok(all)
}

/// The version of a secret that a container is known to have, if it is a consumer.
fn held(fleet: &Fleet, secret: &str, container: &Container) -> Result<Option<u64>> {
    let all = fleet.keywheel.json(&["consumers", "--secret", secret])?;
    let mut all = items(&all).into_iter();
    let its = all.find(|one| one["container"] == container.id());
    Ok(its.and_then(|one| one["version"].as_u64()))
}

fn begin(fleet: &Fleet, [apart, one, other]: &[Container; 3]) -> Result<()> {
    let told = [
        ("secret", SECRET),
        ("apart", apart.name()),
        ("one", one.name()),
        ("other", other.name()),
    ];
    let told = told.map(|(name, value)| format!("{name}={value}"));
    let mut words = vec!["playbook", "run", PLAYBOOK];
    words.extend(["--reason", "it leaked", "--yes"]);
    for setting in &told {
        words.extend(["--set", setting]);
    }
    fleet.keywheel.cli(&words)?.ok()?;
    Ok(())
}

/// When the programs of these began.
fn starts(pair: [&Container; 2]) -> Result<[String; 2]> {
    let [one, other] = pair.map(|one| one.field("{{.State.StartedAt}}"));
    Ok([one?, other?])
}

/// Kills the injector when one of the two was restarted and does not run well yet, so that the other one waits for it.
fn kill_between(fleet: &mut Fleet, pair: [&Container; 2], before: &[String; 2]) -> Result<()> {
    wait::until_true("a first restart", PATIENCE, || Ok(starts(pair)? != *before))?;
    let injector = fleet.process(Role::Injector, 0)?;
    injector.kill9()?;
    let now = starts(pair)?;
    let restarted = now.iter().zip(before).filter(|(now, before)| now != before);
    ensure!(
        restarted.count() == 1,
        "both restarted before it was killed"
    );
    injector.start()
}

/// Each of them restarted once, and no two at the same time.
fn in_turn(pair: [&Container; 2]) -> Result<()> {
    let all = pair.into_iter().map(downs);
    let all: Vec<Vec<Down>> = all.collect::<Result<_>>()?;
    let is_once = all.iter().all(|downs| downs.len() == 1);
    ensure!(is_once, "one did not restart once: {all:?}");
    one_after_the_other(all.iter().flatten().collect())
}

/// It runs on, without a file and without a network, and is no consumer.
fn is_apart(fleet: &Fleet, apart: &Container) -> Result<()> {
    apart.shell(&format!("test ! -e {FILE}"))?;
    let networks = apart.field(NETWORKS)?;
    ensure!(networks.is_empty(), "its networks are {networks}");
    ensure!(downs(apart)?.is_empty(), "it was restarted");
    let all = fleet.keywheel.json(&["playbook", "quarantines"])?;
    let listed = items(&all);
    let [its] = listed.as_slice() else {
        bail!("there is another one in quarantine, or none: {all}");
    };
    let is_it = its["id"] == apart.id() && its["action"] == "disconnect";
    ensure!(is_it && its["state"] == "done", "{all}");
    for secret in [SECRET, TOKEN] {
        let version = held(fleet, secret, apart)?;
        ensure!(version.is_none(), "it is known to have {version:?}");
    }
    Ok(())
}

/// The report on the run says of each what was done to it.
fn is_reported(fleet: &Fleet, run: &Value, [apart, one, other]: &[Container; 3]) -> Result<()> {
    let id = run["run_id"].as_str().context("a run without an id")?;
    let summary = incident::report(&fleet.keywheel, "playbook-run", id)?;
    let steps = summary["steps"].as_array().context("no steps")?;
    let expected = [
        ("cut-off", apart, "quarantine done"),
        ("begin-anew", one, "restart done"),
        ("begin-anew", other, "restart done"),
    ];
    for (step, container, outcome) in expected {
        let named = format!("container {} on ", container.name());
        let of_step = steps.iter().filter(|one| one["name"] == step);
        let mut targets = of_step.flat_map(|one| one["targets"].as_array().into_iter().flatten());
        let is_told = targets.any(|target| {
            let text = target["target"].as_str().unwrap_or_default();
            text.starts_with(&named) && target["outcome"] == outcome
        });
        ensure!(is_told, "no `{outcome}` of {named}: {steps:?}");
    }
    Ok(())
}

/// A person lifts it: it has its file again, what it has in its variable counts, and nothing restarts it for that.
fn lift(fleet: &Fleet, apart: &Container, current: &[String; 2]) -> Result<()> {
    let words = ["playbook", "lift", apart.name(), "--reason", "it is clean"];
    fleet.keywheel.cli(&words)?.ok()?;
    wait::until_true("its file", PATIENCE, || Ok(values(apart)? == *current))?;
    wait::until_true("it to be a consumer again", PATIENCE, || {
        let versions = [held(fleet, SECRET, apart)?, held(fleet, TOKEN, apart)?];
        Ok(versions == [Some(2), Some(1)])
    })?;
    ensure!(downs(apart)?.is_empty(), "it was restarted");
    let left = fleet.keywheel.json(&["playbook", "quarantines"])?;
    ensure!(items(&left).is_empty(), "{left}");
    Ok(())
}

#[test]
fn a_playbook_cuts_one_off_and_restarts_the_others_over_a_kill_until_a_person_lifts_that()
-> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut fleet = Fleet::set(Shape::default())?;
    declare(&fleet)?;
    let flags = fleet.keywheel.scratch().join(&unique("flags"));
    fs::create_dir(&flags)?;
    let well = flags.join("well");
    fs::write(&well, "")?;
    let containers = serve(&fleet, &flags)?;
    let [apart, one, other] = &containers;
    let first = values(apart)?;
    ensure!(values(one)? == first && values(other)? == first);

    // Who begins anew from now on runs well when the test says so.
    fs::remove_file(&well)?;
    let before = starts([one, other])?;
    begin(&fleet, &containers)?;
    kill_between(&mut fleet, [one, other], &before)?;
    fs::write(&well, "")?;
    let run = incident::ended(&fleet.keywheel, PLAYBOOK, apart.name())?;
    ensure!(run["state"] == "completed", "{run}");
    in_turn([one, other])?;
    let second = values(one)?;
    ensure!(values(other)? == second, "they have two values");
    ensure!(second[0] != first[0] && second[1] == first[1]);
    is_apart(&fleet, apart)?;
    is_reported(&fleet, &run, &containers)?;

    lift(&fleet, apart, &second)?;
    let said = fleet.rotate(TOKEN)?;
    ensure!(said["state"] == "completed", "{said}");
    let third = values(apart)?;
    ensure!(third[1] != second[1], "its variable is what it was");
    ensure!(values(one)? == third && values(other)? == third);
    let all = containers.each_ref();
    fleet.finish(&[first, second, third].concat(), &all)
}
