//! Suite two_hosts: see README.md beside this file.
#![forbid(unsafe_code)]

mod evict;
mod hung;
mod rollout;
mod rotate;
mod traces;

use anyhow::{Context as _, Result};
use keywheel_tests::apart::Shape;
use keywheel_tests::docker::Container;
use keywheel_tests::fleet::Fleet;
use keywheel_tests::manifest;
use keywheel_tests::stage::{FILE, SECRET, wait_current};

/// Two hosts with an engine each, behind a network, and a cluster of three bus servers.
fn fleet() -> Result<Fleet> {
    Fleet::set(Shape {
        bus: 3,
        hosts: 2,
        own_engines: true,
        lan: true,
        collector: true,
        ..Shape::default()
    })
}

/// The usual secret, bound to containers of this label on every host.
fn apply_everywhere(fleet: &Fleet, app: &str, reload: &str) -> Result<()> {
    let mut text = manifest::secret(SECRET, &[]);
    for machine in &fleet.machines {
        let name = format!("file-{}", machine.name);
        let on = machine.on(app);
        text += &manifest::file_binding(&name, SECRET, &on, "db_password", reload);
    }
    fleet.keywheel.apply(&text)?;
    wait_current(&fleet.keywheel, SECRET, 1)?;
    fleet.keywheel.wait_plans()
}

/// The value as a container sees it.
fn value_in(container: &Container) -> Result<String> {
    let value = container.read(FILE)?;
    value.context("the file is not in the container")
}
