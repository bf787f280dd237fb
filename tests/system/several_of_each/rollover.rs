//! Another root for a whole cluster, from `begin` to the old one refused, while its secret rotates.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::apart::Role;
use keywheel_tests::output::Output;
use keywheel_tests::process::Process;
use keywheel_tests::scratch::binary;
use keywheel_tests::{stage, wait};

use crate::SECRET;
use crate::deployment::{Deployment, PATIENCE};
use crate::recorded::{self, Recorded};

/// Bus servers of the cluster.
const BUS_SERVERS: usize = 3;
/// How a certificate begins in a file of them.
const CERTIFICATE: &str = "BEGIN CERTIFICATE";

/// Rolls over to another root; gives how often the secret was rotated meanwhile.
pub(crate) fn roll_over(
    all: &mut Deployment,
    members: &[PathBuf],
    life: Duration,
) -> Result<usize> {
    let deployment = all.keywheel.scratch().join("deployment");
    let first = stage::current(&all.keywheel, SECRET)?;
    let old_root = fs::read_to_string(deployment.join("gateway/ca.pem"))?;
    let old = keep_old(all)?;
    let mut rotated = 0;
    let mut meanwhile = |all: &Deployment, what: &str, is: &dyn Fn() -> Result<bool>| {
        wait::until_true(what, PATIENCE, || {
            all.json(rotated % 2, &["rotate", SECRET, "--wait"])?;
            rotated += 1;
            is()
        })
    };
    let roots = || -> Result<Vec<String>> {
        let read = |directory: &PathBuf| Ok(fs::read_to_string(directory.join("ca.pem"))?);
        members.iter().map(read).collect()
    };

    ca(all, &["begin"])?.ok()?;
    tell_other_gateway(&deployment)?;
    let has_both = |text: &String| text.matches(CERTIFICATE).count() == 2;
    meanwhile(all, "both roots at everyone", &|| {
        Ok(roots()?.iter().all(has_both))
    })?;
    refresh_bus_servers(all)?;
    recorded::are(all, ("begin-ca-rollover", "ca"), &[Recorded::begin()])?;
    let refreshed = ("refresh-credentials", "bus-server");
    recorded::are(all, refreshed, &of_bus_servers(1))?;

    let life = format!("{}s", life.as_secs());
    let finish = ["finish", "--drop-long-lived", "--lifetime", &life];
    let tries = Cell::new(0);
    let finished = |all: &Deployment| {
        let ended = ca(all, &finish)?;
        tries.set(tries.get() + 1);
        Ok(ended.code == 0)
    };
    meanwhile(all, "the end of the last old certificate", &|| {
        finished(all)
    })?;
    tell_other_gateway(&deployment)?;
    let is_new = |text: &String| text.matches(CERTIFICATE).count() == 1 && *text != old_root;
    meanwhile(all, "the new root alone at everyone", &|| {
        Ok(roots()?.iter().all(is_new))
    })?;
    refresh_bus_servers(all)?;
    let ended = recorded::finish(tries.get());
    recorded::are(all, ("finish-ca-rollover", "ca"), &ended)?;
    recorded::are(all, refreshed, &of_bus_servers(2))?;
    // What was asked for before is not on record once more.
    recorded::are(all, ("begin-ca-rollover", "ca"), &[Recorded::begin()])?;
    recorded::is_refused_while_open(all, &deployment.join("gateway"))?;
    is_refused(all, &old, &deployment.join("gateway/ca.pem"))?;
    meanwhile(all, "a rotation under the new root", &|| Ok(true))?;
    let last = stage::current(&all.keywheel, SECRET)?;
    let made = usize::try_from(last - first)?;
    // One whose answer was lost made its version, too.
    ensure!(made >= rotated, "{rotated} rotations, {made} versions");
    Ok(rotated)
}

/// A verb of `keywheel ca`, at the first gateway's directory.
fn ca(all: &Deployment, words: &[&str]) -> Result<Output> {
    Output::of(at_home(
        all,
        Command::new(binary("keywheel")?).arg("ca").args(words),
    ))
}

/// Every bus server's certificates, made fresh so often.
fn of_bus_servers(rounds: usize) -> Vec<Recorded> {
    let one = (1..=BUS_SERVERS).map(|number| Recorded::refresh(&format!("/bus-{number}")));
    let one: Vec<Recorded> = one.collect();
    one.repeat(rounds)
}

fn at_home<'a>(all: &Deployment, command: &'a mut Command) -> &'a mut Command {
    let root = all.keywheel.scratch().path();
    let gateway = root.join("deployment/gateway");
    let command = command.arg("--gateway-dir").arg(gateway);
    let key = root.join("key/gateway.key");
    command.arg("--unseal-key-file").arg(key)
}

/// What an operator brings there by hand.
fn tell_other_gateway(deployment: &Path) -> Result<()> {
    let file = "authority.json";
    let next = deployment.join("gateway-2/next");
    fs::copy(deployment.join("gateway").join(file), &next)?;
    Ok(fs::rename(&next, deployment.join("gateway-2").join(file))?)
}

fn refresh(all: &Deployment, directories: &[PathBuf]) -> Result<()> {
    let mut command = Command::new(binary("keywheel")?);
    let command = at_home(all, command.args(["credentials", "refresh"]));
    Output::of(command.args(directories))?.ok()?;
    Ok(())
}

/// Fresh certificates for the bus servers, which read them without a connection lost.
fn refresh_bus_servers(all: &mut Deployment) -> Result<()> {
    let nats = all.keywheel.scratch().join("deployment/nats");
    let directory = |number: usize| nats.join(format!("bus-{number}"));
    let directories: Vec<PathBuf> = (1..=BUS_SERVERS).map(directory).collect();
    refresh(all, &directories)?;
    for number in 0..BUS_SERVERS {
        let server = all.process(Role::Bus, number)?;
        let reloads = |server: &Process| {
            server
                .log()
                .matches("Reloaded server configuration")
                .count()
        };
        let before = reloads(server);
        let pid = server.pid().context("a bus server does not run")?;
        Output::of(Command::new("kill").args(["-HUP", &pid.to_string()]))?.ok()?;
        wait::until_true("a bus server to read its files", PATIENCE, || {
            Ok(reloads(server) > before)
        })?;
    }
    Ok(())
}

/// A scheduler's credentials of the old root that live a day.
fn keep_old(all: &Deployment) -> Result<PathBuf> {
    let scratch = all.keywheel.scratch();
    let old = scratch.join("scheduler-old");
    // It may renew them in this very moment.
    wait::until_true("a whole copy of credentials", PATIENCE, || {
        let _none_yet = fs::remove_dir_all(&old);
        let mut copy = Command::new("cp");
        copy.arg("-a").arg(scratch.join("deployment/scheduler"));
        Ok(Output::of(copy.arg(&old))?.ok().is_ok())
    })?;
    refresh(all, std::slice::from_ref(&old))?;
    Ok(old)
}

/// Also when it trusts the new root: no bus server lets it in.
fn is_refused(all: &Deployment, old: &Path, new_root: &Path) -> Result<()> {
    let scratch = all.keywheel.scratch();
    let roots = fs::read_to_string(new_root)?;
    fs::write(old.join("ca.pem"), roots)?;
    let text = format!(
        "identity_dir = \"{}\"\ndata_dir = \"{}\"\n",
        old.display(),
        scratch.join("scheduler-old-data").display()
    );
    let config = scratch.write("scheduler-old.toml", text)?;
    let config = config.display().to_string();
    let words = ["server", "scheduler", "--config", &config];
    let log = scratch.join("scheduler-old.log");
    let mut process = Process::new("scheduler-old", log, &binary("keywheel")?, &words);
    process.start()?;
    let ended = wait::until("a scheduler of the old root to end", PATIENCE, || {
        process.exited()
    })?;
    let said = process.log();
    ensure!(ended != "exit status: 0", "{ended}: {said}");
    ensure!(said.contains("UnknownCA"), "{ended}: {said}");
    Ok(())
}
