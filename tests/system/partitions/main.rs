//! Suite partitions: see README.md beside this file.
#![forbid(unsafe_code)]

mod crashes;
mod leak;
mod silence;

use anyhow::{Context as _, Result};
use keywheel_tests::apart::Shape;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::fleet::{Fleet, Machine};
use keywheel_tests::lan::Drops;
use keywheel_tests::manifest;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::stage::{FILE, items, wait_current};
use keywheel_tests::wait;
use serde_json::Value;

/// On the host that is never cut off.
const NEAR: &str = "test/near";
/// On the host that is cut off.
const FAR: &str = "test/far";
/// Revoked before the cut.
const DEAD: &str = "test/dead";
/// Revoked during the cut.
const LATE: &str = "test/late";
/// The host that is never cut off.
const NEAR_HOST: usize = 0;
/// The host that is cut off.
const CUT: usize = 1;

/// A secret of its own for one container on one host.
fn serve(fleet: &Fleet, machine: &Machine, secret: &str) -> Result<Container> {
    let app = secret.rsplit('/').next().unwrap_or_default();
    let on = machine.on(app);
    let binding = manifest::file_binding(app, secret, &on, "db_password", "none");
    fleet
        .keywheel
        .apply(&(manifest::secret(secret, &[]) + &binding))?;
    wait_current(&fleet.keywheel, secret, 1)?;
    fleet.keywheel.wait_plans()?;
    let container = machine.run(app, &[], "/bin/app-idle")?;
    value(&container)?;
    Ok(container)
}

fn value(container: &Container) -> Result<String> {
    let value = container.read(FILE)?;
    value.context("the file is not in the container")
}

/// What a restarted container was served; nothing when its start was refused.
fn served_after_restart(container: &Container) -> Result<Option<String>> {
    match container.restart()?.code {
        0 => container.read(FILE),
        _ => Ok(None),
    }
}

fn revoke(fleet: &Fleet, secret: &str, more: &[&str]) -> Result<Value> {
    let words = ["revoke", secret, "--reason", "leaked", "--yes"];
    fleet.keywheel.json(&[&words, more].concat())
}

#[test]
fn hosts_go_on_alone_and_come_back() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut fleet = Fleet::set(Shape {
        hosts: 2,
        own_engines: true,
        lan: true,
        ..Shape::default()
    })?;
    let near = serve(&fleet, fleet.machine(NEAR_HOST)?, NEAR)?;
    let far = serve(&fleet, fleet.machine(CUT)?, FAR)?;
    let dead = serve(&fleet, fleet.machine(CUT)?, DEAD)?;
    let late = serve(&fleet, fleet.machine(CUT)?, LATE)?;
    let mut values = Vec::new();
    for container in [&near, &far, &dead, &late] {
        values.push(value(container)?);
    }
    revoke(&fleet, DEAD, &["--wait"])?;
    fleet.apart()?.lan()?.cut(CUT, Drops::All)?;
    let mut away = silence::begin(&fleet, [&far, &dead, &late])?;
    values.push(crashes::all(&mut fleet, &near)?);
    silence::alone(&mut away, &far)?;
    fleet.apart()?.lan()?.heal(CUT)?;
    values.push(silence::end(&fleet, &away, [&far, &dead, &late])?);
    fleet.finish(&values, &[&near, &far, &dead, &late])
}

/// The host's row of the list.
fn row(fleet: &Fleet, host: usize) -> Result<Value> {
    let said = fleet.keywheel.json(&["host", "list"])?;
    let name = &fleet.machine(host)?.name;
    let mut rows = items(&said).into_iter();
    let found = rows.find(|row| row.get("name").and_then(Value::as_str) == Some(name));
    found
        .cloned()
        .with_context(|| format!("no host {name}: {said}"))
}

/// Waits until a host has carried out its newest plan.
fn wait_current_plan(fleet: &Fleet, host: usize) -> Result<()> {
    wait::until_true("a host to follow its plan", PATIENCE, || {
        let row = row(fleet, host)?;
        Ok(row.get("lag").and_then(Value::as_u64) == Some(0))
    })
}
