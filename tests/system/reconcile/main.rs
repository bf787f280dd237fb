//! Suite reconcile: see README.md beside this file.
#![forbid(unsafe_code)]

mod crash_loop;
mod engine;
mod missed;
mod reboot;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::Container;
use keywheel_tests::fleet::{Fleet, Machine};
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::manifest;
use keywheel_tests::stage::{FILE, SECRET, items, wait_current};
use serde_json::Value;

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

/// No change of a container is on record twice: of what happened to its copy of one secret no two records
/// that follow each other are the same.
pub(crate) fn each_change_is_audited_once(keywheel: &Keywheel, ids: &[&str]) -> Result<()> {
    let audit = Value::from(keywheel.stream("audit")?);
    let mut last: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for row in items(&audit) {
        let text = |key: &str| row.get(key).map(Value::to_string).unwrap_or_default();
        let container = row
            .get("container")
            .map(Value::to_string)
            .unwrap_or_default();
        let id = ids.iter().find(|id| container.contains(**id));
        // An exec and a refusal change nothing.
        let is_change = text("category").contains("usage")
            && !["exec", "refuse"]
                .iter()
                .any(|verb| text("verb").contains(verb));
        let Some(id) = id.filter(|_| is_change) else {
            continue;
        };
        let change = format!("{} {}", text("verb"), text("version"));
        let before = last.insert(((*id).to_owned(), text("object")), change.clone());
        ensure!(
            before.as_ref() != Some(&change),
            "audited twice in a row: {row}"
        );
        *seen.entry((*id).to_owned()).or_default() += 1;
    }
    ensure!(seen.len() == ids.len(), "not all are on record: {seen:?}");
    Ok(())
}
