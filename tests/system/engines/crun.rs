//! Podman with crun, which keeps a copy of its configuration: that copy is among what is searched.

use anyhow::{Context as _, Result, ensure};

use crate::machine::{alone, ready};
use crate::podman::{follows_and_loses, health, is_refused, stage};
use crate::scene::{APP, PLACEHOLDER, bind, file, finish, variable};

const CRUN: &str = "crun";

#[test]
fn a_container_starts_with_its_secrets_follows_and_loses_them() -> Result<()> {
    let name = "crun::a_container_starts_with_its_secrets_follows_and_loses_them";
    alone(name, || follows_and_loses(CRUN))
}

#[test]
fn a_placeholder_without_a_binding_is_refused_by_name() -> Result<()> {
    let name = "crun::a_placeholder_without_a_binding_is_refused_by_name";
    alone(name, || is_refused(CRUN))
}

#[test]
fn the_health_check_sees_the_value_and_no_other_exec_does() -> Result<()> {
    let name = "crun::the_health_check_sees_the_value_and_no_other_exec_does";
    alone(name, || health(CRUN))
}

#[test]
fn what_a_killed_create_left_can_be_removed_and_the_next_start_works() -> Result<()> {
    let name = "crun::what_a_killed_create_left_can_be_removed_and_the_next_start_works";
    alone(name, survives_a_kill)
}

/// Between crun's create and our copy in place of its own crun could not delete the container.
fn survives_a_kill() -> Result<()> {
    if !ready(&["podman", CRUN])? {
        return Ok(());
    }
    let (podman, keywheel, _) = stage(CRUN)?;
    bind(&keywheel, podman.digest())?;
    podman.kill_next_create("runtime.after_create")?;
    let (container, said) = podman.try_run(APP, &["-e", PLACEHOLDER], "/bin/app-idle")?;
    ensure!(container.is_none(), "the runtime was not killed: {said:?}");
    ensure!(podman.is_create_killed(), "the step was not reached");
    let container = podman.start_container(APP, &["-e", PLACEHOLDER], "/bin/app-idle")?;
    let pid = container.pid()?;
    let values = [file(pid)?.context("no file at the start")?, variable(pid)?];
    let (said, places) = (container.told()?, container.places()?);
    finish(&keywheel, &values, &said, &places)
}
