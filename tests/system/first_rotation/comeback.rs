//! Starts that were refused come back by themselves once they can be served; whom a person stopped
//! stays stopped.

use anyhow::{Context as _, Result};
use keywheel_tests::docker::{self, Container, docker};
use keywheel_tests::keywheel::Options;
use keywheel_tests::stage::{PATIENCE, Stage};
use keywheel_tests::{manifest, wait};

use crate::records::wait_refused;

const TOKEN: &str = "test/api-token";
const RELOAD: &str = "{ restart: { settle: 1s } }";
const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";

/// A container that was made and not started.
fn create(stage: &Stage, app: &str, flags: &[&str], program: &str) -> Result<Container> {
    let label = format!("app={app}");
    let words = [&["--runtime", &stage.runtime, "--label", &label], flags].concat();
    Container::create(&stage.image, &words, &[program])
}

fn is_running(container: &Container) -> Result<bool> {
    Ok(container.field("{{.State.Running}}")? == "true")
}

/// A person starts it, and is refused with these words.
fn start_in_vain(container: &Container, why: &str) -> Result<()> {
    let said = docker(&["start", container.id()])?;
    assert_ne!(said.code, 0, "it started: {}", said.said());
    assert!(said.stderr.contains(why), "{}", said.stderr);
    assert!(!is_running(container)?);
    Ok(())
}

fn comes_back(container: &Container) -> Result<()> {
    wait::until_true("the refused start to come back", PATIENCE, || {
        is_running(container)
    })
}

#[test]
fn a_start_refused_for_want_of_a_binding_comes_with_the_binding() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.keywheel.apply(&manifest::secret(TOKEN, &[]))?;
    stage.wait_current(TOKEN, 1)?;
    let container = create(&stage, "later", &["-e", PLACEHOLDER], "/bin/app-env")?;
    start_in_vain(&container, "no binding grants secret")?;
    wait_refused(&stage, &container, (TOKEN, "no binding grants secret"))?;
    let binding = manifest::env_binding("test-env", TOKEN, &stage.on("later"), "API_TOKEN", RELOAD);
    stage.keywheel.apply(&binding)?;
    comes_back(&container)?;
    let value = container.variable("API_TOKEN")?;
    let value = value.context("API_TOKEN is not in the first process's environment")?;
    assert!(!value.contains("keywheel:"), "it started unresolved");
    stage.finish(&[value], &[&container])
}

#[test]
fn a_start_refused_without_an_injector_comes_with_it_and_who_was_stopped_since_does_not()
-> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.apply_file("late", "none")?;
    let first = create(&stage, "late", &[], "/bin/app-idle")?;
    let second = create(&stage, "late", &[], "/bin/app-idle")?;
    stage.keywheel.kill9()?;
    start_in_vain(&first, "keywheel up")?;
    stage.keywheel.up(&Options::default())?;
    comes_back(&first)?;
    let value = stage.value_in(&first)?;

    // A person stops it; the next refused start tells when the injector has looked at both.
    docker(&["stop", "-t", "1", first.id()])?.ok()?;
    stage.keywheel.kill9()?;
    start_in_vain(&second, "keywheel up")?;
    stage.keywheel.up(&Options::default())?;
    comes_back(&second)?;
    assert_eq!(stage.value_in(&second)?, value);
    assert!(!is_running(&first)?, "a person stopped it");
    stage.finish(&[value], &[&first, &second])
}
