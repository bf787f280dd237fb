//! A rotation over two hosts: files, a restart, who holds what, and the record of use.

use anyhow::{Context as _, Result};
use keywheel_tests::docker::Container;
use keywheel_tests::fleet::Fleet;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::stage::{SECRET, items, wait_current};
use keywheel_tests::{docker, manifest, wait};
use serde_json::Value;

use super::{apply_everywhere, fleet, traces, value_in};

const TOKEN: &str = "test/api-token";
const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";

#[test]
fn a_rotation_is_acknowledged_by_containers_of_both_hosts() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let fleet = fleet()?;
    apply_everywhere(&fleet, "both", "{ signal: HUP }")?;
    let containers = [
        fleet.machine(0)?.run("both", &[], "/bin/app-file")?,
        fleet.machine(1)?.run("both", &[], "/bin/app-file")?,
        fleet.machine(1)?.run("both", &[], "/bin/app-file")?,
    ];
    let before = value_in(&containers[0])?;
    for container in &containers {
        assert_eq!(value_in(container)?, before);
    }
    let answer = fleet.rotate(SECRET)?;
    let consumers = answer.get("consumers").map(items).unwrap_or_default();
    assert_eq!(consumers.len(), 3, "{answer}");
    let after = value_in(&containers[0])?;
    assert_ne!(after, before);
    for container in &containers {
        assert_eq!(value_in(container)?, after);
        // Its program says so a moment after it is signalled.
        wait::until_true("the program to reload", PATIENCE, || {
            Ok(container.logs()?.contains("reloaded"))
        })?;
        let logs = container.logs()?;
        assert!(!logs.contains("TORN"), "{logs}");
    }
    both_are_consumers(&fleet)?;
    both_are_on_record(&fleet, &containers)?;
    traces::start_is_one(&fleet)?;
    traces::rotation_is_one(&fleet, SECRET, containers.len())?;
    let all: Vec<_> = containers.iter().collect();
    fleet.finish(&[before, after], &all)
}

fn both_are_consumers(fleet: &Fleet) -> Result<()> {
    let said = fleet.keywheel.json(&["consumers"])?;
    for machine in &fleet.machines {
        let name = format!("\"{}\"", machine.name);
        let mut rows = items(&said).into_iter();
        let row = rows.find(|row| row.to_string().contains(&name));
        let row = row.with_context(|| format!("no consumer on {name}: {said}"))?;
        assert_eq!(
            row.get("version").and_then(Value::as_u64),
            Some(2),
            "{said}"
        );
    }
    Ok(())
}

/// Each container on each host: given, replaced, reloaded.
fn both_are_on_record(fleet: &Fleet, containers: &[Container]) -> Result<()> {
    let audit = fleet.keywheel.stream("audit")?;
    let hosts = [0, 1, 1].map(|number| fleet.machine(number));
    for (container, machine) in containers.iter().zip(hosts) {
        let host = machine?.name.as_str();
        let is_about = |record: &&Value| {
            let about = |at| record.pointer(at).and_then(Value::as_str);
            about("/container/id") == Some(container.id())
                && about("/container/host") == Some(host)
                && about("/category") == Some("usage")
        };
        let records = audit.iter().filter(is_about);
        let verbs = records.filter_map(|record| record.get("verb")?.as_str());
        // The test itself looks into containers by execs, which are on record, too.
        let verbs: Vec<&str> = verbs.filter(|verb| *verb != "exec").collect();
        // A start with the files in place counts as a reload, too.
        let rotated = verbs.strip_prefix(&["inject", "reload"]);
        let rotated = rotated.or_else(|| verbs.strip_prefix(&["inject"]));
        let rotated = rotated.map(<[&str]>::to_vec);
        assert_eq!(
            rotated,
            Some(vec!["replace", "reload"]),
            "on {host}: {verbs:?}"
        );
    }
    Ok(())
}

#[test]
fn a_variable_changes_by_a_restart_on_its_host() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let fleet = fleet()?;
    let second = fleet.machine(1)?;
    let reload = "{ restart: { settle: 1s } }";
    let binding = manifest::env_binding("env", TOKEN, &second.on("env"), "API_TOKEN", reload);
    fleet
        .keywheel
        .apply(&(manifest::secret(TOKEN, &[]) + &binding))?;
    wait_current(&fleet.keywheel, TOKEN, 1)?;
    fleet.keywheel.wait_plans()?;
    let container = second.run("env", &["-e", PLACEHOLDER], "/bin/app-env")?;
    let (before, first_pid) = (container.variable("API_TOKEN")?, container.pid()?);
    let answer = fleet.rotate(TOKEN)?;
    let (after, second_pid) = (container.variable("API_TOKEN")?, container.pid()?);
    assert_ne!(before, after, "{answer}");
    assert_ne!(first_pid, second_pid, "the container was not restarted");
    assert!(!container.logs()?.contains("placeholder"));
    let values: Vec<String> = [before, after].into_iter().flatten().collect();
    assert_eq!(values.len(), 2);
    fleet.finish(&values, &[&container])
}
