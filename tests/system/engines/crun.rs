//! Podman with crun, which keeps a copy of its configuration: that copy is among what is searched.

use anyhow::Result;

use crate::machine::alone;
use crate::podman::{follows_and_loses, health, is_refused};

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
