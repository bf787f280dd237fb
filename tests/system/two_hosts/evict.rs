//! Revocation on both hosts, and a host that is trusted with nothing any more.

use anyhow::{Context as _, Result};
use keywheel_tests::docker;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::stage::{FILE, SECRET, find, items};
use keywheel_tests::wait;
use serde_json::Value;

use super::{apply_everywhere, fleet, traces, value_in};

#[test]
fn a_revocation_withdraws_on_both_hosts() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let fleet = fleet()?;
    apply_everywhere(&fleet, "gone", "none")?;
    let containers = [
        fleet.machine(0)?.run("gone", &[], "/bin/app-idle")?,
        fleet.machine(1)?.run("gone", &[], "/bin/app-idle")?,
    ];
    let value = value_in(&containers[0])?;
    let words = ["revoke", SECRET, "--reason", "leaked", "--yes", "--wait"];
    let answer = fleet.keywheel.json(&words)?;
    let withdrawn = find(&answer, "withdrawn_ms").and_then(Value::as_f64);
    assert!(withdrawn.is_some(), "{answer}");
    traces::revocation_is_one(&fleet)?;
    for container in &containers {
        assert_eq!(container.read(FILE)?, None, "the file is still there");
        assert_eq!(container.field("{{.State.Running}}")?, "true");
        let restarted = container.restart()?;
        let served = match restarted.code {
            0 => container.read(FILE)?,
            _ => None,
        };
        assert_eq!(served, None, "a dead version was served to a restart");
    }
    let all: Vec<_> = containers.iter().collect();
    fleet.finish(&[value], &all)
}

#[test]
fn an_evicted_host_gets_nothing_and_nothing_waits_for_it() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let fleet = fleet()?;
    apply_everywhere(&fleet, "stays", "none")?;
    let kept = fleet.machine(0)?.run("stays", &[], "/bin/app-idle")?;
    let lost = fleet.machine(1)?.run("stays", &[], "/bin/app-idle")?;
    let before = value_in(&lost)?;
    let name = fleet.machine(1)?.name.clone();
    let host = fleet.host(&name)?;
    let id = host.get("id").and_then(Value::as_str).context("no id")?;
    let words = ["host", "evict", &name, "--reason", "stolen", "--yes"];
    let answer = fleet.keywheel.json(&words)?;
    assert!(
        answer.to_string().contains(SECRET),
        "what it held is not named: {answer}"
    );
    let rotated = fleet.rotate(SECRET)?;
    let consumers = rotated.get("consumers").map(items).unwrap_or_default();
    assert_eq!(consumers.len(), 1, "{rotated}");
    let after = value_in(&kept)?;
    assert_ne!(after, before);
    assert_ne!(
        value_in(&lost).ok().as_ref(),
        Some(&after),
        "an evicted host got a new value"
    );
    if let Ok(container) = fleet.machine(1)?.run("stays", &[], "/bin/app-idle") {
        assert_ne!(container.read(FILE)?.as_ref(), Some(&after));
    }
    let state = fleet.host(id)?;
    assert_eq!(
        state.get("state").and_then(Value::as_str),
        Some("evicted"),
        "{state}"
    );
    wait::until_true("no consumer on the evicted host", PATIENCE, || {
        let said = fleet.keywheel.json(&["consumers"])?;
        Ok(!said.to_string().contains(lost.id()))
    })?;
    fleet.finish(&[before, after], &[&kept, &lost])
}
