//! The machine itself in trouble: Docker away. A full disk is `full_disk.rs`'s.

use std::fs;

use anyhow::Result;
use keywheel_tests::keywheel::{Keywheel, Options};

use crate::refusal::{
    UNAVAILABLE, assert_nothing_lost, assert_refused, keep_something, with_something,
};

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
    let status = keywheel.cli(&["status"])?.said();
    assert!(
        status.contains("/nonexistent/docker.sock"),
        "status does not name the engine's socket: {status}"
    );
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
