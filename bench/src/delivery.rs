//! How long a new or a dead version takes to arrive everywhere on one host, and what it costs to wait
//! for one.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_bench::samples::Samples;
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::docker::Container;
use keywheel_tests::fleet::Fleet;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::manifest;
use keywheel_tests::stage::{SECRET, Stage, find, items, wait_current};
use serde_json::Value;

use crate::{Line, cpu_ms, resident_mb};

/// Containers, rotations, budget.
const SWAPS: [(usize, usize, &str); 4] = [
    (1, 200, "p50 <= 3, p99 <= 15"),
    (10, 60, "-"),
    (100, 30, "p99 <= 100"),
    (300, 10, "-"),
];
/// Rotations of each side, services apart beside the embedded mode.
const TURNS: usize = 200;
/// Containers a revoke has to reach, and the budget.
const REVOKED: [(usize, &str); 2] = [(100, "p99 <= 200"), (300, "-")];
/// After its last work a process has this long to come to rest.
const SETTLE: Duration = Duration::from_secs(5);
/// How often, and how long each time, an idle process is watched.
const IDLE_SPANS: usize = 3;
const IDLE_SPAN: Duration = Duration::from_secs(10);
/// Containers of the host whose injector's memory is looked at.
const HOST: usize = 100;
/// Revokes measured; each needs a new version in all containers.
const REVOKES: usize = 5;

fn crowd(stage: &Stage, count: usize) -> Result<Vec<Container>> {
    (0..count)
        .map(|_| stage.run("bench", &[], "/bin/app-idle"))
        .collect()
}

fn number(value: &Value, key: &str) -> Result<f64> {
    find(value, key)
        .and_then(Value::as_f64)
        .with_context(|| format!("no `{key}` in {value}"))
}

/// Rotates once; adds each consumer's latency and the whole. The slowest consumer.
fn rotate_once(keywheel: &Keywheel, each: &mut Samples, whole: &mut Samples) -> Result<f64> {
    let answer = keywheel.json(&["rotate", SECRET, "--wait"])?;
    let consumers = answer.get("consumers").map(items).unwrap_or_default();
    ensure!(!consumers.is_empty(), "nobody was rotated: {answer}");
    let mut slowest: f64 = 0.0;
    for consumer in consumers {
        let latency = number(consumer, "latency_ms")?;
        each.add(latency);
        slowest = slowest.max(latency);
    }
    whole.add(number(&answer, "requested_to_acknowledged_ms")?);
    Ok(slowest)
}

/// Services apart over NATS with a container on each of two hosts, beside the embedded mode with two
/// containers on one host, in turns.
pub(crate) fn apart() -> Result<Vec<Line>> {
    let embedded = Stage::set()?;
    embedded.apply_file("bench-one", "none")?;
    let fleet = Fleet::set(Shape {
        hosts: 2,
        own_engines: true,
        tls: true,
        ..Shape::default()
    })?;
    let mut text = manifest::secret(SECRET, &[]);
    for machine in &fleet.machines {
        let (name, on) = (format!("file-{}", machine.name), machine.on("bench-two"));
        text += &manifest::file_binding(&name, SECRET, &on, "db_password", "none");
    }
    fleet.keywheel.apply(&text)?;
    wait_current(&fleet.keywheel, SECRET, 1)?;
    fleet.keywheel.wait_plans()?;
    let containers = [
        embedded.run("bench-one", &[], "/bin/app-idle")?,
        embedded.run("bench-one", &[], "/bin/app-idle")?,
        fleet.machine(0)?.run("bench-two", &[], "/bin/app-idle")?,
        fleet.machine(1)?.run("bench-two", &[], "/bin/app-idle")?,
    ];
    let [mut near, mut near_whole, mut far, mut far_whole, mut ratio] =
        [const { Samples::new() }; 5];
    for _ in 0..TURNS {
        let one = rotate_once(&embedded.keywheel, &mut near, &mut near_whole)?;
        ratio.add(rotate_once(&fleet.keywheel, &mut far, &mut far_whole)? / one);
    }
    drop(containers);
    let line = |key: &str, what: &str, samples| Line {
        key: key.to_owned(),
        what: what.to_owned(),
        samples,
        budget: "-",
    };
    Ok(vec![
        line(
            "apart_up_swap",
            "embedded: promote committed -> file swapped",
            near,
        ),
        line("apart_swap", "NATS, two hosts: the same", far),
        line(
            "apart_ratio",
            "ratio of the slower host of each pair",
            ratio,
        ),
        line(
            "apart_up_rotation",
            "embedded: requested -> acknowledged",
            near_whole,
        ),
        line("apart_rotation", "NATS, two hosts: the same", far_whole),
    ])
}

/// Promote committed to new file in place, for 1 to 300 containers.
pub(crate) fn swap() -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (count, rotations, budget) in SWAPS {
        let stage = Stage::set()?;
        stage.apply_file("bench", "none")?;
        let containers = crowd(&stage, count)?;
        let (mut each, mut whole) = (Samples::default(), Samples::default());
        for _ in 0..rotations {
            let answer = stage.rotate(SECRET)?;
            let consumers = answer.get("consumers").map(items).unwrap_or_default();
            ensure!(
                consumers.len() == count,
                "{} of {count} consumers answered",
                consumers.len()
            );
            for consumer in consumers {
                each.add(number(consumer, "latency_ms")?);
            }
            whole.add(number(&answer, "requested_to_acknowledged_ms")?);
        }
        lines.push(Line {
            key: format!("swap_{count}"),
            what: format!("promote committed -> file swapped, {count} containers"),
            samples: each,
            budget,
        });
        lines.push(Line {
            key: format!("rotation_{count}"),
            what: format!("requested -> all acknowledged, {count} containers"),
            samples: whole,
            budget: "-",
        });
        drop(containers);
    }
    Ok(lines)
}

/// Emergency revoke requested to gone from every container.
pub(crate) fn revoke() -> Result<Vec<Line>> {
    let measured = |(count, budget)| revoke_from(count, budget);
    REVOKED.into_iter().map(measured).collect()
}

fn revoke_from(count: usize, budget: &'static str) -> Result<Line> {
    let stage = Stage::set()?;
    stage.apply_file("bench", "none")?;
    let containers = crowd(&stage, count)?;
    let mut samples = Samples::default();
    for turn in 0..REVOKES {
        if turn > 0 {
            stage.rotate(SECRET)?;
        }
        let words = ["revoke", SECRET, "--emergency", "--reason", "benchmark"];
        let words = [&words[..], &["--yes", "--wait"]].concat();
        samples.add(number(&stage.keywheel.json(&words)?, "withdrawn_ms")?);
    }
    drop(containers);
    Ok(Line {
        key: format!("revoke_{count}"),
        what: format!("emergency revoke -> gone from {count} containers"),
        samples,
        budget,
    })
}

fn memory_line(key: &str, what: &str, pid: Option<u32>, budget: &'static str) -> Result<Line> {
    let mut samples = Samples::default();
    samples.add(resident_mb(pid.context("it does not run")?)?);
    Ok(Line {
        key: key.to_owned(),
        what: what.to_owned(),
        samples,
        budget,
    })
}

/// Processor milliseconds that a process takes in a second in which nobody asks anything of it.
fn idle_line(key: &str, what: &str, pid: Option<u32>) -> Result<Line> {
    let pid = pid.context("it does not run")?;
    let mut samples = Samples::default();
    thread::sleep(SETTLE);
    for _ in 0..IDLE_SPANS {
        let before = cpu_ms(pid)?;
        thread::sleep(IDLE_SPAN);
        samples.add((cpu_ms(pid)? - before) / IDLE_SPAN.as_secs_f64());
    }
    Ok(Line {
        key: key.to_owned(),
        what: what.to_owned(),
        samples,
        budget: "-",
    })
}

/// Resident memory and idle processor time of `up`, and of an injector that runs alone for a whole host.
pub(crate) fn memory() -> Result<Vec<Line>> {
    let keywheel = Keywheel::start()?;
    let idle = memory_line(
        "memory_up_idle_mb",
        "memory of an idle up, MB",
        keywheel.pid(),
        "<= 40",
    )?;
    let idle_cpu = idle_line(
        "cpu_up_idle",
        "processor of an idle up, ms a second",
        keywheel.pid(),
    )?;
    drop(keywheel);
    let mut stage = Stage::set_with(&Options {
        shape: Some(Shape::default()),
        ..Options::default()
    })?;
    stage.apply_file("bench", "none")?;
    let containers = crowd(&stage, HOST)?;
    stage.rotate(SECRET)?;
    let injector = stage.keywheel.apart()?.process(Role::Injector, 0)?.pid();
    let alone = memory_line(
        "memory_injector_mb",
        &format!("memory of an injector, {HOST} containers, MB"),
        injector,
        "<= 15",
    )?;
    let alone_cpu = idle_line(
        "cpu_injector_idle",
        &format!("processor of an idle injector, {HOST} containers, ms a second"),
        injector,
    )?;
    drop(containers);
    Ok(vec![idle, idle_cpu, alone, alone_cpu])
}
