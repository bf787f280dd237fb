//! How long a new or a dead version takes to arrive everywhere on one host.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use keywheel_bench::samples::Samples;
use keywheel_tests::docker::Container;
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::stage::{SECRET, Stage, find, items};
use serde_json::Value;

use crate::Line;

/// Containers, rotations, budget.
const SWAPS: [(usize, usize, &str); 3] = [
    (1, 200, "p50 <= 3, p99 <= 15"),
    (10, 60, "-"),
    (100, 30, "p99 <= 100"),
];
/// Containers a revoke has to reach.
const REVOKED: usize = 100;
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

/// Promote committed to new file in place, for 1, 10 and 100 containers.
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

/// Revoke requested to gone from every container.
pub(crate) fn revoke() -> Result<Vec<Line>> {
    let stage = Stage::set()?;
    stage.apply_file("bench", "none")?;
    let containers = crowd(&stage, REVOKED)?;
    let mut samples = Samples::default();
    for turn in 0..REVOKES {
        if turn > 0 {
            stage.rotate(SECRET)?;
        }
        let words = ["revoke", SECRET, "--reason", "benchmark", "--yes", "--wait"];
        samples.add(number(&stage.keywheel.json(&words)?, "withdrawn_ms")?);
    }
    drop(containers);
    Ok(vec![Line {
        key: format!("revoke_{REVOKED}"),
        what: format!("revoke requested -> gone from {REVOKED} containers"),
        samples,
        budget: "p99 <= 200",
    }])
}

/// Resident memory of an idle `up`, in megabytes.
pub(crate) fn memory() -> Result<Vec<Line>> {
    let keywheel = Keywheel::start()?;
    let pid = keywheel.pid().context("up does not run")?;
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .context("no VmRSS")?;
    let kilobytes: f64 = kilobytes
        .split_whitespace()
        .next()
        .context("no number")?
        .parse()?;
    let mut samples = Samples::default();
    samples.add(kilobytes / 1024.0);
    Ok(vec![Line {
        key: "memory_up_idle_mb".to_owned(),
        what: "memory of an idle up, MB".to_owned(),
        samples,
        budget: "<= 40",
    }])
}
