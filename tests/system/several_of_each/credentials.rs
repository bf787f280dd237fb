//! Credentials that live for seconds, over a cluster of three bus servers with TLS and two gateways: all
//! renew; a host that was away for longer comes back without a person; another root; an eviction.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::docker::{self, Image};
use keywheel_tests::stage::{self, find, items};
use keywheel_tests::wait;
use serde_json::Value;

use crate::deployment::{Deployment, HOST, PATIENCE};
use crate::rollover::roll_over;
use crate::{SECRET, serve, value_in};

/// A short life; half of it, after which they are renewed, is more than a busy machine stands still for.
const LIFE: Duration = Duration::from_secs(20);
const SETTING: &str = "KEYWHEEL_CREDENTIALS_LIFETIME";
/// Whose credentials are looked at, beside the host's.
const SERVICES: [&str; 6] = [
    "gateway",
    "gateway-2",
    "scheduler",
    "scheduler-2",
    "store-sync",
    "audit-sink",
];
/// What an injector says when its connection ends.
const GONE: &str = "bus server gone";

#[test]
fn credentials_renew_come_back_roll_over_and_are_taken() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let shape = Shape {
        bus: 3,
        tls: true,
        ..Shape::default()
    };
    let life = format!("{}s", LIFE.as_secs());
    let mut all = Deployment::start(shape, &[(SETTING, &life)])?;
    let runtime = all.keywheel.register_runtime()?;
    let image = Image::build()?;
    let container = serve(&all, &image, &runtime)?;
    let first = value_in(&container)?;

    let directories = directories(&mut all)?;
    let before = certificates(&directories)?;
    let host = identity(&all, HOST)?;
    all.process(Role::Injector, 0)?.pause()?;
    std::thread::sleep(LIFE + Duration::from_secs(1));
    all.json(1, &["rotate", SECRET])?;
    all.process(Role::Injector, 0)?.resume()?;
    let second = wait::until("the new value on the host that was away", PATIENCE, || {
        Ok(value_in(&container).ok().filter(|value| *value != first))
    })?;
    ensure!(
        identity(&all, HOST)? == host,
        "it came back as another host"
    );
    let returned = all.json(0, &["audit", "list", "--after", "0", "--limit", "1000000"])?;
    let at_port = |record: &&Value| record.to_string().contains("at the join port");
    ensure!(items(&returned).iter().any(at_port), "no return on record");
    wait::until_true("everyone's renewal", PATIENCE, || {
        let after = certificates(&directories)?;
        Ok(before
            .iter()
            .zip(&after)
            .all(|(before, after)| before != after))
    })?;

    let rotated = roll_over(&mut all, &directories, LIFE)?;
    ensure!(rotated >= 4, "{rotated} rotations meanwhile");
    let third = value_in(&container)?;
    ensure!(third != second, "not rotated under the new root");

    let lost = all.process(Role::Injector, 0)?.log().matches(GONE).count();
    all.json(1, &["host", "evict", HOST, "--reason", "stolen", "--yes"])?;
    let injector = all.process(Role::Injector, 0)?;
    wait::until_true("the bus servers to let the host go", PATIENCE, || {
        Ok(injector.log().matches(GONE).count() > lost)
    })?;
    all.json(0, &["rotate", SECRET, "--wait"])?;
    ensure!(
        value_in(&container)? == third,
        "an evicted host got a value"
    );
    stage::finish(&all.keywheel, &[first, second, third], &[&container])
}

/// Everybody's directory of credentials.
fn directories(all: &mut Deployment) -> Result<Vec<PathBuf>> {
    let deployment = all.keywheel.scratch().join("deployment");
    let mut directories: Vec<_> = SERVICES.map(|part| deployment.join(part)).to_vec();
    directories.push(all.keywheel.apart()?.host_identity(0));
    Ok(directories)
}

/// Everybody's certificate.
fn certificates(directories: &[PathBuf]) -> Result<Vec<String>> {
    let read = |directory: &PathBuf| Ok(fs::read_to_string(directory.join("tls.pem"))?);
    directories.iter().map(read).collect()
}

/// A host's id.
fn identity(all: &Deployment, name: &str) -> Result<String> {
    let said = all.json(1, &["host", "describe", name])?;
    let id = find(&said, "id").and_then(Value::as_str);
    Ok(id.context("a host without an id")?.to_owned())
}
