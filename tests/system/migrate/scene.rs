//! What the tests of this suite share: a container with a plaintext variable, the verb, and what goes
//! at the end whatever happened.

use std::fs::File;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::canary::Canary;
use keywheel_tests::docker::{Container, docker};
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::output::Output;
use keywheel_tests::planted;
use keywheel_tests::stage::{PATIENCE, Stage};
use keywheel_tests::wait;
use serde_json::Value;

/// The secret that takes the value.
pub(crate) const SECRET: &str = "test/api-token";
/// The variable that has it.
pub(crate) const VARIABLE: &str = "API_TOKEN";
/// What the new container's engine knows of it.
pub(crate) const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";
/// The wish on the command line.
pub(crate) const WISH: &str = "API_TOKEN=test/api-token";

/// Where the machine's engine keeps what it knows of containers, also of those before.
const ENGINE_KEEPS: &str = "/var/lib/docker/containers";

/// Names that a migration may leave when a test fails in its middle.
#[derive(Debug)]
pub(crate) struct Left(String);

impl Left {
    /// Of a container.
    pub(crate) fn of(container: &Container) -> Self {
        Self(container.name().to_owned())
    }

    /// Names of containers that are there and should not be.
    pub(crate) fn beside(&self) -> Result<String> {
        let filter = format!("name=^/{}-", self.0);
        let words = ["ps", "-aq", "--filter", &filter];
        Ok(docker(&words)?.ok()?.stdout.trim().to_owned())
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        for end in ["", "-being-migrated", "-before-migrate"] {
            let _ = docker(&["rm", "-f", &format!("{}{end}", self.0)]);
        }
    }
}

/// A network of the machine's engine; it goes with its value, after its containers.
#[derive(Debug)]
pub(crate) struct Network(pub(crate) String);

impl Network {
    /// Makes one.
    pub(crate) fn make(name: String, flags: &[&str]) -> Result<Self> {
        let words = [&["network", "create"][..], flags, &[name.as_str()]].concat();
        docker(&words)?.ok()?;
        Ok(Self(name))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        let _ = docker(&["network", "rm", &self.0]);
    }
}

/// A volume of the machine's engine.
#[derive(Debug)]
pub(crate) struct Volume(pub(crate) String);

impl Drop for Volume {
    fn drop(&mut self) {
        let _ = docker(&["volume", "rm", "-f", &self.0]);
    }
}

/// The value that the container has in the clear, of this server alone.
pub(crate) fn value(keywheel: &Keywheel) -> String {
    planted::value(keywheel)
}

/// A container with the plaintext, under the engine's usual runtime.
pub(crate) fn run(stage: &Stage, flags: &[&str], program: &[&str]) -> Result<Container> {
    let value = value(&stage.keywheel);
    let variables = [(VARIABLE, value.as_str()), ("LEVEL", "info")];
    Container::run_with(&stage.image, flags, &variables, program)
}

/// Migrates, whatever comes.
pub(crate) fn migrate(stage: &Stage, container: &str, more: &[&str]) -> Result<Output> {
    let words = [
        &[
            "migrate", container, "--env", WISH, "--yes", "--settle", "1s",
        ][..],
        &["--runtime", &stage.runtime, "-o", "json"],
        more,
    ]
    .concat();
    stage.keywheel.cli(&words)
}

/// Migrates, and gives the new container.
pub(crate) fn migrated(stage: &Stage, old: &Container, more: &[&str]) -> Result<Container> {
    let answer = migrate(stage, old.name(), more)?.ok()?.json()?;
    let new = Container::named(&stage.image, old.name())?;
    ensure!(
        answer.get("after").and_then(Value::as_str) == Some(new.id()),
        "{answer}"
    );
    Ok(new)
}

/// Gives the secret another value, and waits until its containers have it.
pub(crate) fn put(stage: &Stage, value: &str) -> Result<()> {
    let path = stage.keywheel.scratch().write("next-value", value)?;
    let stdin = File::open(&path)?;
    std::fs::remove_file(path)?;
    let words = ["secret", "put", SECRET, "--value-file", "-", "--wait"];
    let mut client = stage.keywheel.client(&words)?;
    stage.keywheel.hear(client.stdin(stdin))?.ok()?;
    Ok(())
}

/// The value in the first process's environment.
pub(crate) fn variable(container: &Container) -> Result<String> {
    let found = container.variable(VARIABLE)?;
    found.context("API_TOKEN is not in the first process's environment")
}

/// The end of a test: what the engine said before there was anything of ours is forgotten, the container
/// is asked for once more, and everything is searched.
pub(crate) fn finish(stage: &Stage, plaintexts: &[String], container: &Container) -> Result<()> {
    if let Some(tap) = stage.keywheel.engine_tap() {
        tap.forget()?;
    }
    docker(&["restart", "-t", "1", container.id()])?.ok()?;
    let now = variable(container)?;
    ensure!(
        plaintexts.last() == Some(&now),
        "another value after a restart"
    );
    stage.keywheel.wait_plans()?;
    wait::until_true("the injector to look at it again", PATIENCE, || {
        let tap = stage.keywheel.engine_tap();
        let said = tap.map(|tap| std::fs::read(tap.record())).transpose()?;
        let id = container.id().as_bytes();
        Ok(said.is_none_or(|said| said.windows(id.len()).any(|part| part == id)))
    })?;
    let bytes: Vec<Vec<u8>> = plaintexts.iter().map(|text| text.clone().into()).collect();
    let kept = Canary::new(&bytes)?.search_tree(Path::new(ENGINE_KEEPS))?;
    ensure!(kept.is_empty(), "the engine kept it: {kept:#?}");
    stage.finish(plaintexts, &[container])
}
