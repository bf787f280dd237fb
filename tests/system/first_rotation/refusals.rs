//! Starts that must not happen, and whose reason reaches `docker run`.

use anyhow::Result;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::manifest;
use keywheel_tests::planted::{PLANTED, plant};
use keywheel_tests::stage::{FILE, SECRET, Stage};

#[test]
fn a_placeholder_without_a_binding_is_refused_by_name() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage
        .keywheel
        .apply(&manifest::secret("test/api-token", &[]))?;
    stage.wait_current("test/api-token", 1)?;
    let value = plant(&stage.keywheel, "test/api-token")?;
    let flags = [
        "--runtime",
        &stage.runtime,
        "-e",
        "API_TOKEN={keywheel:test/api-token}",
    ];
    let (container, said) = Container::try_run(&stage.image, &flags, &["/bin/app-env"])?;
    assert!(
        container.is_none(),
        "a placeholder is a request, not a grant"
    );
    assert!(
        said.stderr.contains("test/api-token") && said.stderr.contains("inding"),
        "{}",
        said.stderr
    );
    assert!(!said.said().contains(&value), "the refusal shows the value");
    stage.finish(&[value], &[])
}

#[test]
fn a_placeholder_of_an_unknown_secret_is_refused_by_name() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let value = plant(&stage.keywheel, PLANTED)?;
    let flags = ["--runtime", &stage.runtime, "-e", "X={keywheel:no/such}"];
    let (container, said) = Container::try_run(&stage.image, &flags, &["/bin/app-env"])?;
    assert!(container.is_none());
    assert!(said.stderr.contains("no/such"), "{}", said.stderr);
    stage.finish(&[value], &[])
}

#[test]
fn without_the_injector_the_strict_runtime_refuses_with_the_next_step() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.apply_file("strict", "none")?;
    let value = plant(&stage.keywheel, SECRET)?;
    stage.keywheel.kill9()?;
    let flags = ["--runtime", &stage.runtime, "--label", "app=strict"];
    let (container, said) = Container::try_run(&stage.image, &flags, &["/bin/app-idle"])?;
    assert!(
        container.is_none(),
        "the strict runtime started a container without its injector"
    );
    assert!(
        said.stderr.contains("keywheel up"),
        "no next step: {}",
        said.stderr
    );
    stage
        .keywheel
        .up(&keywheel_tests::keywheel::Options::default())?;
    stage.finish(&[value], &[])
}

#[test]
fn another_image_with_the_same_labels_gets_nothing() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("app", "none")?;
    let value = plant(&stage.keywheel, SECRET)?;
    let other = docker::Image::build()?;
    let flags = ["--runtime", &stage.runtime, "--label", "app=app"];
    let container = Container::run(&other, &flags, &["/bin/app-idle"])?;
    assert_eq!(container.read(FILE)?, None, "labels alone granted a secret");
    stage.finish(&[value], &[&container])
}
