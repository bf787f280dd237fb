//! One service on both hosts: one container restarts at a time over both, and a value that none of them
//! starts with goes no further than the first.

use std::fs::{self, File};

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::Container;
use keywheel_tests::fleet::Fleet;
use keywheel_tests::output::Output;
use keywheel_tests::stage::wait_current;
use keywheel_tests::{docker, manifest, planted};
use serde_json::Value;

use super::fleet;

const TOKEN: &str = "test/rolled";
const FLAGS: &[&str] = &[
    "-e",
    "API_TOKEN={keywheel:test/rolled}",
    "--label",
    "com.docker.compose.service=rolled",
];
/// Ends at once with a value that begins so, and else runs on.
const PROGRAM: &[&str] = &[
    "/bin/sh",
    "-c",
    "case \"$API_TOKEN\" in bad-*) exit 3 ;; esac; trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done",
];

/// Puts a value and waits for the rotation's end, whatever it is.
fn put(fleet: &Fleet, value: &str) -> Result<Output> {
    let keywheel = &fleet.keywheel;
    let path = keywheel.scratch().write("rolled", value)?;
    let stdin = File::open(&path)?;
    fs::remove_file(path)?;
    let words = [
        "secret",
        "put",
        TOKEN,
        "--value-file",
        "-",
        "--wait",
        "-o",
        "json",
    ];
    keywheel.hear(keywheel.client(&words)?.stdin(stdin))
}

fn state_of(said: &Output) -> Result<String> {
    let view = said.json()?;
    let state = view.get("state").and_then(Value::as_str);
    Ok(state
        .with_context(|| format!("no state: {view}"))?
        .to_owned())
}

fn run_all(fleet: &Fleet) -> Result<Vec<Container>> {
    let mut text = manifest::secret(TOKEN, &[]);
    for machine in &fleet.machines {
        let name = format!("rolled-{}", machine.name);
        let on = machine.on("rolled");
        let reload = "{ restart: { settle: 1s, rollout: { monitor: 1s } } }";
        text += &manifest::env_binding(&name, TOKEN, &on, "API_TOKEN", reload);
    }
    fleet.keywheel.apply(&text)?;
    wait_current(&fleet.keywheel, TOKEN, 1)?;
    fleet.keywheel.wait_plans()?;
    let on_host = |number: usize| {
        let machine = fleet.machine(number)?;
        let own = ["--runtime", &machine.runtime, "--label", "app=rolled"];
        let flags = [&own[..], FLAGS].concat();
        Container::run(&machine.image, &flags, PROGRAM)
    };
    [0, 1, 1].into_iter().map(on_host).collect()
}

fn pids(containers: &[Container]) -> Result<Vec<u32>> {
    containers.iter().map(Container::pid).collect()
}

fn hold(containers: &[Container], value: &str) -> Result<()> {
    for container in containers {
        let held = container.variable("API_TOKEN")?;
        ensure!(
            held.as_deref() == Some(value),
            "{} holds another value",
            container.name()
        );
    }
    Ok(())
}

#[test]
fn a_service_on_two_hosts_rolls_one_at_a_time_and_turns_back_at_the_first_failure() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let fleet = fleet()?;
    let containers = run_all(&fleet)?;
    let first = pids(&containers)?;
    let unique = planted::value(&fleet.keywheel);
    let (fine, bad) = (format!("fine-{unique}"), format!("bad-{unique}"));

    let said = put(&fleet, &fine)?.ok()?;
    assert_eq!(state_of(&said)?, "completed", "{}", said.stdout);
    hold(&containers, &fine)?;
    let second = pids(&containers)?;
    assert!(first.iter().zip(&second).all(|(old, new)| old != new));
    let mut down: Vec<(String, String)> = containers
        .iter()
        .map(Container::downtime)
        .collect::<Result<_>>()?;
    down.sort();
    for pair in down.windows(2) {
        let [(_, started), (ended, _)] = pair else {
            continue;
        };
        assert!(started < ended, "two were down at once: {down:?}");
    }

    let said = put(&fleet, &bad)?;
    assert_ne!(said.code, 0, "{}", said.stdout);
    assert_eq!(state_of(&said)?, "rolled_back", "{}", said.stdout);
    hold(&containers, &fine)?;
    let third = pids(&containers)?;
    let restarted = second.iter().zip(&third).filter(|(old, new)| old != new);
    assert_eq!(restarted.count(), 1, "more than the first were restarted");
    told(&fleet)?;
    let all: Vec<_> = containers.iter().collect();
    fleet.finish(&[fine, bad], &all)
}

/// The log says what happened to the service.
fn told(fleet: &Fleet) -> Result<()> {
    let events = fleet.keywheel.stream("events")?;
    let count = |kind: &str| {
        let name = format!("dev.keywheel.{kind}.v1");
        let of_kind = |event: &&Value| event.to_string().contains(&name);
        events.iter().filter(of_kind).count()
    };
    assert_eq!(count("rollout.failed"), 1);
    assert_eq!(count("rotation.turned_back"), 1);
    // Three of the first rotation; of the second one forth and back.
    assert_eq!(count("rollout.leave_given"), 5);
    Ok(())
}
