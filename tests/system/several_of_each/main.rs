//! Suite several_of_each: see README.md beside this file.
#![forbid(unsafe_code)]

mod credentials;
mod deployment;
mod recorded;
mod rollover;
mod steps;

use std::time::Duration;

use anyhow::{Result, ensure};
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::docker::{self, Container, Image};
use keywheel_tests::stage::{self, FILE};
use keywheel_tests::{manifest, wait};
use serde_json::Value;

use deployment::{Deployment, HOST, PATIENCE};

/// The secret that the container holds.
const SECRET: &str = "test/db-password";
/// Store-syncs: two that stay, one that dies, one that is paused.
const STORE_SYNCS: usize = 4;
/// The one that dies in the middle of its first step.
const DYING: usize = 2;
/// The one that is paused in the middle of its first step.
const PAUSED: usize = 3;
/// Values that are looked for in the database server's files.
const DATABASE_CANARIES: usize = 2;
/// Longer than an effect's deadline, so that the paused one wakes after it.
const PAST_THE_DEADLINE: Duration = Duration::from_secs(50);

#[test]
fn one_of_each_may_die_or_sleep_and_nobody_operates() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let shape = Shape {
        store_syncs: STORE_SYNCS,
        ..Shape::default()
    };
    let mut all = Deployment::start(shape, &[])?;
    for number in [DYING, PAUSED] {
        all.process(Role::StoreSync, number)?.stop()?;
    }
    let runtime = all.keywheel.register_runtime()?;
    let image = Image::build()?;
    let container = serve(&all, &image, &runtime)?;
    let mut plaintexts = vec![value_in(&container)?];
    plaintexts.extend(steps::provided_values(&all, 1)?);
    steps::many_commands_at_once(&all)?;
    steps::schedule(&all, Some("*/5 * * * * *"))?;

    let begun = wait::now();
    interrupt_steps(&mut all)?;
    plaintexts.push(gateway_dies(&mut all, &container)?);
    steps::gateway_sleeps(&all)?;
    steps::slots_fired_once(&all)?;
    steps::schedule(&all, None)?;
    steps::late_secrets_have_a_version(&all)?;
    std::thread::sleep(PAST_THE_DEADLINE.saturating_sub(begun.elapsed()));
    paused_one_changes_nothing(&mut all)?;

    plaintexts.extend(steps::provided_values(&all, 2)?);
    finish(&mut all, &container, &plaintexts)
}

/// A container that reads its file; bound through one gateway, looked at through the other.
fn serve(all: &Deployment, image: &Image, runtime: &str) -> Result<Container> {
    let on = manifest::Selector {
        host: HOST,
        image: image.digest(),
        app: "reader",
    };
    let binding = manifest::file_binding("test-file", SECRET, &on, "db_password", "none");
    all.apply(0, &(manifest::secret(SECRET, &[]) + &binding))?
        .ok()?;
    steps::wait_version(all, 1, SECRET, 1)?;
    let flags = ["--runtime", runtime, "--label", "app=reader"];
    Container::run(image, &flags, &["/bin/app-file"])
}

fn value_in(container: &Container) -> Result<String> {
    wait::until("the file in the container", PATIENCE, || {
        container.read(FILE)
    })
}

/// One store-sync dies in the middle of a step, another one is paused in the middle of its own.
fn interrupt_steps(all: &mut Deployment) -> Result<()> {
    let paused = format!(
        "storesync.before_step=delay:{}",
        PAST_THE_DEADLINE.as_millis()
    );
    all.begin_anew(Role::StoreSync, DYING, "storesync.before_step=kill")?;
    all.begin_anew(Role::StoreSync, PAUSED, &paused)?;
    for number in [DYING, PAUSED] {
        let process = all.process(Role::StoreSync, number)?;
        process.wait_said("store-sync serves")?;
    }
    steps::late_secrets(all)?;
    all.wait_for(Role::StoreSync, PAUSED, "failpoint fired")?;
    all.process(Role::StoreSync, PAUSED)?.pause()?;
    let dying = all.process(Role::StoreSync, DYING)?;
    wait::until_true("a store-sync to die", PATIENCE, || Ok(!dying.is_running()?))
}

/// The first gateway has the turn to tell, and dies right after it started a rotation.
fn gateway_dies(all: &mut Deployment, container: &Container) -> Result<String> {
    let before = value_in(container)?;
    all.json(0, &["rotate", SECRET])?;
    all.process(Role::Gateway, 0)?.kill9()?;
    steps::wait_version(all, 1, SECRET, 2)?;
    let after = wait::until("the new value in the container", PATIENCE, || {
        Ok(container.read(FILE)?.filter(|value| *value != before))
    })?;
    all.process(Role::Gateway, 0)?.start()?;
    all.wait_ready(0)?;
    steps::same_head(all)?;
    Ok(after)
}

fn paused_one_changes_nothing(all: &mut Deployment) -> Result<()> {
    steps::wait_quiet(all)?;
    let before = steps::head(all, 1)?;
    all.process(Role::StoreSync, PAUSED)?.resume()?;
    all.wait_for(Role::StoreSync, PAUSED, "deadline passed, effect left open")?;
    let after = steps::head(all, 1)?;
    ensure!(before == after, "{before} events, then {after}");
    Ok(())
}

/// The log and the audit are whole at both gateways, and no value is where it must not be.
fn finish(all: &mut Deployment, container: &Container, plaintexts: &[String]) -> Result<()> {
    all.json(1, &["journal", "verify"])?;
    let audit = all.json(1, &["audit", "verify"])?;
    let verified = audit.get("verified") == Some(&Value::Bool(true));
    ensure!(verified, "the audit does not verify: {audit}");
    let logs = container.logs()?;
    ensure!(!logs.contains("TORN"), "{logs}");
    // A generated one and a provided one: each look is a long one.
    for plaintext in plaintexts.iter().take(DATABASE_CANARIES) {
        let database = all.keywheel.apart()?.database()?;
        ensure!(
            !database.files_contain(plaintext.as_bytes()),
            "plaintext in the database server's files, rule C1"
        );
    }
    stage::finish(&all.keywheel, plaintexts, &[container])
}
