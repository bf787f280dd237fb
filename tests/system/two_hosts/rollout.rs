//! One service on both hosts: one container restarts at a time over both, or as many as its bindings say, and a
//! value that none of them starts with goes no further than the first. How it goes on is told meanwhile. All the
//! while a runtime stands still on one of them.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::Container;
use keywheel_tests::fleet::{Fleet, Machine};
use keywheel_tests::output::Output;
use keywheel_tests::stage::{items, wait_current};
use keywheel_tests::{docker, manifest, planted};
use serde_json::Value;

use super::fleet;
use super::hung::Hung;

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

/// On which hosts the service's containers are.
const HOSTS: [usize; 4] = [0, 1, 1, 0];
/// Between two looks at who may restart.
const LOOK: Duration = Duration::from_millis(200);

/// Puts a value and waits for the rotation's end, whatever it is.
fn putting(fleet: &Fleet, value: &str) -> Result<Command> {
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
    let mut command = keywheel.client(&words)?;
    command.stdin(stdin);
    Ok(command)
}

fn put(fleet: &Fleet, value: &str) -> Result<Output> {
    fleet.keywheel.hear(&mut putting(fleet, value)?)
}

/// The same, and how many may restart at once meanwhile, as `consumers` says.
fn put_and_watch(fleet: &Fleet, value: &str) -> Result<(Output, usize)> {
    let mut command = putting(fleet, value)?;
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let (mut child, mut most) = (command.spawn()?, 0_usize);
    while child.try_wait()?.is_none() {
        let said = fleet.keywheel.json(&["consumers"])?;
        let consumers = items(&said).into_iter();
        let words = consumers.filter_map(|consumer| consumer.get("restart")?.as_str());
        most = most.max(words.filter(|word| *word == "may restart").count());
        thread::sleep(LOOK);
    }
    let done = child.wait_with_output()?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let said = Output {
        line: "keywheel secret put --wait".to_owned(),
        code: done.status.code().context("it was killed")?,
        stdout: text(&done.stdout),
        stderr: text(&done.stderr),
    };
    ensure!(!said.said().contains(value), "it says the value");
    Ok((said, most))
}

fn state_of(said: &Output) -> Result<String> {
    let view = said.json()?;
    let state = view.get("state").and_then(Value::as_str);
    Ok(state
        .with_context(|| format!("no state: {view}"))?
        .to_owned())
}

/// A binding for each host, with this rollout.
fn bindings(fleet: &Fleet, rollout: &str) -> String {
    let reload = format!("{{ restart: {{ settle: 1s, rollout: {rollout} }} }}");
    let of = |machine: &Machine| {
        let name = format!("rolled-{}", machine.name);
        let on = machine.on("rolled");
        manifest::env_binding(&name, TOKEN, &on, "API_TOKEN", &reload)
    };
    fleet.machines.iter().map(of).collect()
}

fn run_all(fleet: &Fleet) -> Result<Vec<Container>> {
    let text = manifest::secret(TOKEN, &[]) + &bindings(fleet, "{ monitor: 1s }");
    fleet.keywheel.apply(&text)?;
    wait_current(&fleet.keywheel, TOKEN, 1)?;
    fleet.keywheel.wait_plans()?;
    let on_host = |number: usize| {
        let machine = fleet.machine(number)?;
        let own = ["--runtime", &machine.runtime, "--label", "app=rolled"];
        let flags = [&own[..], FLAGS].concat();
        Container::run(&machine.image, &flags, PROGRAM)
    };
    HOSTS.into_iter().map(on_host).collect()
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
    let mut fleet = fleet()?;
    let containers = run_all(&fleet)?;
    let hung = Hung::begin(&mut fleet, 1)?;
    let first = pids(&containers)?;
    let unique = planted::value(&fleet.keywheel);
    let (fine, bad) = (format!("fine-{unique}"), format!("bad-{unique}"));
    let next = format!("next-{unique}");

    let (said, most) = put_and_watch(&fleet, &fine)?;
    let said = said.ok()?;
    assert_eq!(state_of(&said)?, "completed", "{}", said.stdout);
    assert_eq!(most, 1, "so many may restart at once");
    assert!(is_told_live(&said), "{}", said.stderr);
    hold(&containers, &fine)?;
    let second = pids(&containers)?;
    assert!(first.iter().zip(&second).all(|(old, new)| old != new));
    assert_eq!(most_down(&containers)?, 1, "two were down at once");

    let said = put(&fleet, &bad)?;
    assert_ne!(said.code, 0, "{}", said.stdout);
    assert_eq!(state_of(&said)?, "rolled_back", "{}", said.stdout);
    hold(&containers, &fine)?;
    let third = pids(&containers)?;
    let restarted = second.iter().zip(&third).filter(|(old, new)| old != new);
    assert_eq!(restarted.count(), 1, "more than the first were restarted");
    told(&fleet)?;
    by_twos(&fleet, &containers, &next)?;
    let (late, value) = hung.end(&mut fleet)?;
    let all: Vec<_> = containers.iter().chain([&late]).collect();
    fleet.finish(&[fine, bad, next, value], &all)
}

/// How many of them were down at once, at their last restarts.
fn most_down(containers: &[Container]) -> Result<usize> {
    let down: Vec<(String, String)> = containers
        .iter()
        .map(Container::downtime)
        .collect::<Result<_>>()?;
    let at = |time: &String| {
        let all = down.iter();
        all.filter(|(ended, started)| ended <= time && time < started)
            .count()
    };
    Ok(down.iter().map(|(ended, _)| at(ended)).max().unwrap_or(0))
}

/// Before the end it was said that some had it and others not, and who may restart or who waits: the view shows moments.
fn is_told_live(said: &Output) -> bool {
    let all = HOSTS.len();
    let mut between = (1..all).map(|some| format!("{some} of {all} consumers acknowledged"));
    between.any(|words| said.stderr.contains(&words))
        && ["may restart", "waits for leave"]
            .iter()
            .any(|words| said.stderr.contains(words))
}

/// As many as the bindings say may restart, and be down, at once, and no more.
fn by_twos(fleet: &Fleet, containers: &[Container], value: &str) -> Result<()> {
    let rollout = "{ maxParallel: 2, maxUnavailable: 2, monitor: 1s }";
    fleet.keywheel.apply(&bindings(fleet, rollout))?;
    fleet.keywheel.wait_plans()?;
    let (said, most) = put_and_watch(fleet, value)?;
    let said = said.ok()?;
    ensure!(state_of(&said)? == "completed", "{}", said.stdout);
    ensure!(most == 2, "{most} may restart at once");
    ensure!(most_down(containers)? <= 2, "three were down at once");
    hold(containers, value)
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
    // Each once in the first rotation; of the second one forth and back.
    assert_eq!(count("rollout.leave_given"), HOSTS.len() + 2);
    Ok(())
}
