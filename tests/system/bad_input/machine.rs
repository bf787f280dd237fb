//! The machine itself in trouble: Docker away. A full disk is `full_disk.rs`'s.

use std::fs;
use std::time::Duration;

use anyhow::Result;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::wait;

use crate::refusal::{
    UNAVAILABLE, assert_nothing_lost, assert_refused, keep_something, with_something,
};

/// How long a first word may take.
const SOON: Duration = wait::PATIENCE;
/// Exit code of `status --check` with a problem.
const PARTIAL: i32 = 4;
/// What to do about an engine that is away.
const NEXT_STEP: &str = "start it (`systemctl start docker`";

#[test]
fn docker_away_is_told_and_everything_else_works() -> Result<()> {
    let mut keywheel = Keywheel::prepare()?;
    let environment = vec![(
        "DOCKER_HOST".to_owned(),
        "unix:///nonexistent/docker.sock".to_owned(),
    )];
    keywheel.up(&Options {
        environment,
        ..Options::default()
    })?;
    // The injector says so with its first word, which may come after the first status.
    wait::until_true("the engine's socket in status", SOON, || {
        let status = keywheel.cli(&["status"])?.said();
        Ok(status.contains("/nonexistent/docker.sock") && status.contains(NEXT_STEP))
    })?;
    let checked = keywheel.cli(&["status", "--check"])?;
    assert_eq!(checked.code, PARTIAL, "{}", checked.said());
    keep_something(&keywheel)?;
    assert_nothing_lost(&keywheel)
}

#[test]
fn setup_without_docker_tells_the_next_step() -> Result<()> {
    let keywheel = with_something()?;
    let words = [
        "setup",
        "docker",
        "--yes",
        "--runtime-name",
        "keywheel-test-none",
    ];
    let said = keywheel.hear(
        keywheel
            .client(&words)?
            .env("DOCKER_HOST", "unix:///nonexistent/docker.sock"),
    )?;
    assert_refused(&said, UNAVAILABLE, &["docker"]);
    let table = fs::read_to_string("/etc/docker/daemon.json").unwrap_or_default();
    assert!(
        !table.contains("keywheel-test-none"),
        "a refused setup changed daemon.json"
    );
    assert_nothing_lost(&keywheel)
}
