//! One host with 300 containers: what a swap, the injector's memory and its return after a kill cost there;
//! and a hundred containers that start at once.

use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, ensure};
use keywheel_bench::engine_api::{self, now};
use keywheel_bench::samples::Samples;
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::docker::{Container, docker};
use keywheel_tests::keywheel::Options;
use keywheel_tests::stage::{FILE, SECRET, Stage, find, items};
use serde_json::Value;

use crate::{Line, resident_mb};

/// Containers of the host.
const CROWD: usize = 300;
/// Rotations in all of them.
const ROTATIONS: usize = 20;
/// Kills of the injector.
const KILLS: usize = 5;
/// What every container has, with a secret or without.
const DIRECTORY: &str = "/run/secrets";
/// Containers that start at once, and how often.
const BURST: usize = 100;
const BURSTS: usize = 3;

fn line(key: &str, what: &str, samples: Samples, budget: &'static str) -> Line {
    Line {
        key: key.to_owned(),
        what: what.to_owned(),
        samples,
        budget,
    }
}

/// The host's injector runs by itself, so that its memory is its own and it can be killed alone.
fn apart() -> Result<Stage> {
    let stage = Stage::set_with(&Options {
        shape: Some(Shape::default()),
        ..Options::default()
    })?;
    stage.apply_file("crowd", "none")?;
    Ok(stage)
}

/// Latencies of all consumers of one rotation.
fn rotate(stage: &Stage, each: &mut Samples) -> Result<()> {
    let answer = stage.rotate(SECRET)?;
    let consumers = answer.get("consumers").map(items).unwrap_or_default();
    ensure!(
        consumers.len() == CROWD,
        "{} of {CROWD} consumers answered",
        consumers.len()
    );
    for consumer in consumers {
        let latency = find(consumer, "latency_ms").and_then(Value::as_f64);
        each.add(latency.context("no latency_ms")?);
    }
    Ok(())
}

/// Kills the injector, rotates, and starts it: the span from that start until all have the version.
fn come_back(stage: &mut Stage) -> Result<Duration> {
    let injector = stage.keywheel.apart()?.process(Role::Injector, 0)?;
    injector.kill9()?;
    // It is under way, and cannot end, before the injector is there again.
    let version = stage.keywheel.json(&["rotate", SECRET])?;
    let rotation = find(&version, "rotation_id").and_then(Value::as_str);
    rotation.context("no rotation_id")?;
    let begun = now();
    stage
        .keywheel
        .apart()?
        .process(Role::Injector, 0)?
        .start()?;
    // The next rotation begins only when this one has ended, which takes everybody's word.
    loop {
        let said = stage.keywheel.cli(&["rotate", SECRET])?;
        if said.code == 0 {
            return Ok(begun.elapsed());
        }
        thread::sleep(keywheel_tests::wait::INTERVAL);
    }
}

/// Swaps, memory and a return with 300 containers.
pub(crate) fn crowd() -> Result<Vec<Line>> {
    let mut stage = apart()?;
    let containers = (0..CROWD)
        .map(|_| stage.run("crowd", &[], "/bin/app-idle"))
        .collect::<Result<Vec<Container>>>()?;
    let mut each = Samples::default();
    for _ in 0..ROTATIONS {
        rotate(&stage, &mut each)?;
    }
    let injector = stage.keywheel.apart()?.process(Role::Injector, 0)?.pid();
    let mut memory = Samples::default();
    memory.add(resident_mb(injector.context("no injector runs")?)?);
    let mut back = Samples::default();
    for _ in 0..KILLS {
        back.add_span(come_back(&mut stage)?);
        // The rotation that said so ends before the next kill.
        rotate_to_the_end(&stage)?;
    }
    drop(containers);
    Ok(vec![
        line(
            &format!("apart_swap_{CROWD}"),
            &format!("NATS: promote committed -> file swapped, {CROWD} containers"),
            each,
            "-",
        ),
        line(
            "memory_injector_crowd_mb",
            &format!("memory of an injector, {CROWD} containers, MB"),
            memory,
            "-",
        ),
        line(
            "reconcile_after_kill",
            &format!("injector starts -> {CROWD} containers have what they missed"),
            back,
            "-",
        ),
    ])
}

fn rotate_to_the_end(stage: &Stage) -> Result<()> {
    loop {
        let said = stage.keywheel.cli(&["rotate", SECRET, "--wait"])?;
        if said.code == 0 {
            return Ok(());
        }
        thread::sleep(keywheel_tests::wait::INTERVAL);
    }
}

/// A hundred containers whose only instruction looks for its file, beside as many under plain `runc` that have
/// none, in turns.
pub(crate) fn burst() -> Result<Vec<Line>> {
    let stage = Stage::set()?;
    stage.apply_file("burst", "none")?;
    let ours = ["--runtime", stage.runtime.as_str(), "--label", "app=burst"];
    let [
        mut each,
        mut whole,
        mut plain_each,
        mut plain_whole,
        mut over,
    ] = [const { Samples::new() }; 5];
    for _ in 0..BURSTS {
        let plain = start_at_once(&stage, &[], "-d", &mut plain_each)?;
        let span = start_at_once(&stage, &ours, "-s", &mut each)?;
        plain_whole.add_span(plain);
        whole.add_span(span);
        over.add(span.as_secs_f64() / plain.as_secs_f64());
    }
    let plain = format!("plain runc: one of {BURST} starts at once");
    let plain_all = format!("plain runc: all {BURST} started");
    let one = format!("one of {BURST} starts at once, each with its file");
    let all = format!("all {BURST} started, served before the first instruction");
    Ok(vec![
        line("burst_plain_start", &plain, plain_each, "-"),
        line("burst_plain_whole", &plain_all, plain_whole, "-"),
        line("burst_start", &one, each, "-"),
        line("burst_whole", &all, whole, "-"),
        line("burst_ratio", "ratio of each pair of all", over, "-"),
    ])
}

/// Starts all at once, and adds the span of each; the one of all. The only instruction of each is to test what
/// lies where the file is to be, or its directory, and it has to end well.
fn start_at_once(
    stage: &Stage,
    flags: &[&str],
    test: &str,
    each: &mut Samples,
) -> Result<Duration> {
    let path = match test {
        "-d" => DIRECTORY,
        _ => FILE,
    };
    let containers = (0..BURST)
        .map(|_| Container::create(&stage.image, flags, &["/bin/test", test, path]))
        .collect::<Result<Vec<Container>>>()?;
    let begun = now();
    let spans = thread::scope(|scope| {
        let starts: Vec<_> = containers
            .iter()
            .map(|container| scope.spawn(|| engine_api::start(container.id())))
            .collect();
        let ends = starts
            .into_iter()
            .map(|start| start.join().map_err(|_| anyhow!("a start panicked"))?);
        ends.collect::<Result<Vec<_>>>()
    })?;
    let whole = begun.elapsed();
    spans.into_iter().for_each(|span| each.add_span(span));
    for container in &containers {
        let code = docker(&["wait", container.id()])?.ok()?.stdout;
        ensure!(
            code.trim() == "0",
            "{} began without {path}",
            container.name()
        );
    }
    Ok(whole)
}
