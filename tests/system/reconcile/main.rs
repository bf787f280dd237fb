//! Suite reconcile: see README.md beside this file.
#![forbid(unsafe_code)]

mod crash_loop;
mod engine;
mod missed;
mod ordered;
mod reboot;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::Container;
use keywheel_tests::fleet::{Fleet, Machine};
use keywheel_tests::manifest;
use keywheel_tests::stage::{FILE, SECRET, wait_current};

pub(crate) use keywheel_tests::audited::each_change_is_audited_once;

pub(crate) const TOKEN: &str = "test/api-token";
pub(crate) const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";
/// Who starts again whenever its engine does.
pub(crate) const ALWAYS: [&str; 2] = ["--restart", "always"];

/// A file and a variable for the label.
pub(crate) fn bind(fleet: &Fleet, machine: &Machine, app: &str) -> Result<()> {
    let on = machine.on(app);
    let reload = "{ restart: { settle: 1s } }";
    let text = manifest::secret(SECRET, &[])
        + &manifest::secret(TOKEN, &[])
        + &manifest::file_binding("file", SECRET, &on, "db_password", "none")
        + &manifest::env_binding("variable", TOKEN, &on, "API_TOKEN", reload);
    fleet.keywheel.apply(&text)?;
    for secret in [SECRET, TOKEN] {
        wait_current(&fleet.keywheel, secret, 1)?;
    }
    fleet.keywheel.wait_plans()
}

/// Both values of a container; an error while it has none.
pub(crate) fn values(container: &Container) -> Result<[String; 2]> {
    let variable = container.variable("API_TOKEN")?.context("no variable")?;
    ensure!(!variable.contains("keywheel"), "a placeholder was started");
    Ok([container.peek(FILE)?, variable])
}
