//! The ten commands of `deploy/README.md`, run literally, and what the page promises for later.

#![expect(
    clippy::print_stderr,
    reason = "libtest shows it for failed tests only"
)]

mod machines;
mod page;
mod stage;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker;

use crate::stage::Stage;

/// How many commands the page promises.
const COMMANDS: usize = 10;
/// The first command that needs the hosts' containers.
const APPLY: &str = "sed ";
/// The command that replaces the value once it is there.
const ROTATE: &str = "keywheel rotate ";

#[test]
fn ten_commands_lead_from_nothing_to_two_hosts() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let section = page::section()?;
    let commands = page::commands(&section);
    ensure!(
        commands.len() == COMMANDS,
        "not ten commands: {commands:#?}"
    );
    let stage = Stage::set()?;
    for command in &commands {
        if command.starts_with(APPLY) {
            stage.run_containers()?;
        }
        if command.starts_with(ROTATE) {
            stage.wait_first_version()?;
        }
        eprintln!("{} s: {command}", stage.age());
        let said = stage.shell(command)?.ok()?;
        eprintln!("{}{}", said.stdout, said.stderr);
    }
    eprintln!("{} s: ten commands done", stage.age());
    stage.both_hosts_have(2)?;
    stage.services_are_well()?;
    stage.database_users_may_nothing_else()?;
    stage.secrets_stay_private()?;
    stage.a_bus_server_may_be_lost()?;
    stage.the_gateway_may_be_started_again()?;
    eprintln!("{} s: done", stage.age());
    Ok(())
}

#[test]
fn every_variable_of_a_command_is_documented() -> Result<()> {
    let section = page::section()?;
    let documented = page::documented(&section);
    ensure!(
        documented.len() > COMMANDS,
        "the table is gone: {documented:?}"
    );
    for command in page::commands(&section) {
        for name in page::used(&command) {
            ensure!(documented.contains(&name), "{name} of `{command}`");
        }
    }
    let set = Stage::settings_by_name();
    let unset = documented.iter().find(|name| !set.contains(&name.as_str()));
    ensure!(unset.is_none(), "the test sets no {unset:?}");
    let idle = set
        .iter()
        .find(|name| !documented.iter().any(|d| d == *name));
    idle.map_or(Ok(()), |name| {
        Err(anyhow::anyhow!("{name} is not documented"))
    })
    .context("the table")
}
