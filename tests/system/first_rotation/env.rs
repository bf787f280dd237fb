//! Environment consumers: only under the runtime, restarted in place, once for all that changes together, health
//! gated; the engine only ever knows the placeholder.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::Options;
use keywheel_tests::manifest;
use keywheel_tests::planted::plant;
use keywheel_tests::scratch::Scratch;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage, find, items};
use keywheel_tests::wait;
use serde_json::Value;

use crate::records::{Use, wait_uses};

const TOKEN: &str = "test/api-token";
const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";
/// Another variable of the same container.
const OTHER: &str = "test/other-token";
const OTHER_PLACEHOLDER: &str = "OTHER_TOKEN={keywheel:test/other-token}";
/// So long the first step of a rotation takes once the file `slow` is there: the next rotation begins meanwhile.
const SLOW: &str = "storesync.before_step=delay:5000";

fn apply(stage: &Stage, app: &str) -> Result<()> {
    let reload = "{ restart: { settle: 1s } }";
    let binding = manifest::env_binding("test-env", TOKEN, &stage.on(app), "API_TOKEN", reload);
    stage
        .keywheel
        .apply(&(manifest::secret(TOKEN, &[]) + &binding))?;
    stage.wait_current(TOKEN, 1)
}

/// The other variable's secret and binding.
fn apply_other(stage: &Stage, app: &str, reload: &str) -> Result<()> {
    let on = stage.on(app);
    let binding = manifest::env_binding("test-other", OTHER, &on, "OTHER_TOKEN", reload);
    let text = manifest::secret(OTHER, &[]) + &binding;
    stage.keywheel.apply(&text)?;
    stage.wait_current(OTHER, 1)
}

fn both(container: &Container) -> Result<[String; 2]> {
    let other = container.variable("OTHER_TOKEN")?;
    Ok([
        variable(container)?,
        other.context("OTHER_TOKEN is not there")?,
    ])
}

/// How often its program began.
fn starts(container: &Container) -> Result<usize> {
    Ok(container
        .logs()?
        .lines()
        .filter(|line| *line == "set")
        .count())
}

/// Two secrets of a container that restarts under a rollout change within a second: one restart brings both.
fn one_restart_for_both(
    stage: &Stage,
    container: &Container,
    slow: &Scratch,
) -> Result<[String; 2]> {
    let reload = "{ restart: { settle: 1s, rollout: {} } }";
    let on = stage.on("env");
    let binding = manifest::env_binding("test-env", TOKEN, &on, "API_TOKEN", reload);
    stage.keywheel.apply(&binding)?;
    apply_other(stage, "env", reload)?;
    let (before, begun) = (both(container)?, starts(container)?);
    slow.write("slow", "")?;
    for secret in [TOKEN, OTHER] {
        stage.keywheel.json(&["rotate", secret])?;
    }
    for secret in [TOKEN, OTHER] {
        wait::until_true("the rotation's end", PATIENCE, || {
            let said = stage.keywheel.json(&["rotation", "describe", secret])?;
            Ok(find(&said, "state").and_then(Value::as_str) == Some("completed"))
        })?;
    }
    let after = both(container)?;
    ensure!(before.iter().zip(&after).all(|(old, new)| old != new));
    ensure!(starts(container)? == begun + 1, "not one restart for both");
    Ok(after)
}

fn variable(container: &Container) -> Result<String> {
    container
        .variable("API_TOKEN")?
        .context("API_TOKEN is not in the first process's environment")
}

#[test]
fn an_environment_variable_changes_by_a_restart_in_place() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let slow = Scratch::make()?;
    let stage = Stage::set_with(&Options {
        failpoints: Some(format!("{SLOW};when={}", slow.join("slow").display())),
        ..Options::default()
    })?;
    apply(&stage, "env")?;
    apply_other(&stage, "env", "{ restart: { settle: 1s } }")?;
    let flags = ["-e", PLACEHOLDER, "-e", OTHER_PLACEHOLDER];
    let container = stage.run("env", &flags, "/bin/app-env")?;
    let (first, first_pid) = (variable(&container)?, container.pid()?);
    let answer = stage.rotate(TOKEN)?;
    let (second, second_pid) = (variable(&container)?, container.pid()?);
    assert_ne!(first, second);
    assert_ne!(first_pid, second_pid, "the container was not restarted");
    assert!(!first.contains("keywheel:") && !second.contains("keywheel:"));
    let consumers = answer.get("consumers").map(items).unwrap_or_default();
    assert_eq!(consumers.len(), 1, "{answer}");
    assert!(
        find(&answer, "latency_ms")
            .and_then(Value::as_f64)
            .is_some_and(|ms| ms > 0.0),
        "{answer}"
    );
    assert!(container.inspect()?.to_string().contains(PLACEHOLDER));
    assert!(container.exec(&["env"])?.ok()?.stdout.contains(PLACEHOLDER));
    let both = one_restart_for_both(&stage, &container, &slow)?;
    assert!(!container.logs()?.contains("placeholder"));
    let values = [[first, second], both].concat();
    stage.finish(&values, &[&container])
}

#[test]
fn a_restart_by_a_person_resolves_the_placeholder_again() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    apply(&stage, "env")?;
    stage.apply_file("env", "none")?;
    let container = stage.run("env", &["-e", PLACEHOLDER], "/bin/app-env")?;
    let (first, file) = (variable(&container)?, stage.value_in(&container)?);
    docker::docker(&["restart", container.id()])?.ok()?;
    assert_eq!(variable(&container)?, first);
    assert_eq!(stage.value_in(&container)?, file);
    // Whatever becomes of its secrets is on record.
    stage.rotate(TOKEN)?;
    let second = variable(&container)?;
    stage.rotate(SECRET)?;
    let other_file = stage.value_in(&container)?;
    let revoke = ["revoke", SECRET, "--reason", "test", "--yes", "--wait"];
    stage.keywheel.json(&revoke)?;
    docker::docker(&["stop", container.id()])?.ok()?;
    wait_uses(&stage, &container, &USES)?;
    stage.finish(&[first, second, file, other_file], &[&container])
}

/// What becomes of a container's secrets: both given, the variable's by a restart, the file swapped and withdrawn, and
/// the container stopped.
const USES: [Use; 6] = [
    ("inject", TOKEN, "test-env", 1),
    ("inject", SECRET, "test-file", 1),
    ("restart", TOKEN, "test-env", 2),
    ("replace", SECRET, "test-file", 2),
    ("remove", SECRET, "test-file", 2),
    ("vanish", TOKEN, "test-env", 2),
];

#[test]
fn outside_the_runtime_it_is_refused_with_the_next_step() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    apply(&stage, "env")?;
    let container = Container::run(
        &stage.image,
        &["--label", "app=env", "-e", PLACEHOLDER],
        &["/bin/app-env"],
    )?;
    wait::until_true(
        "the refusal and its next step",
        keywheel_tests::stage::PATIENCE,
        || {
            let said = stage.keywheel.json(&["consumers"])?.to_string();
            Ok(said.contains("refused") && said.contains("--runtime"))
        },
    )?;
    assert_eq!(
        container.variable("API_TOKEN")?.as_deref(),
        PLACEHOLDER.strip_prefix("API_TOKEN=")
    );
    assert_eq!(container.field("{{.State.Running}}")?, "true");
    let value = plant(&stage.keywheel, TOKEN)?;
    stage.finish(&[value], &[&container])
}

#[test]
fn a_variable_that_names_the_secrets_file_needs_no_restart() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("path", "{ signal: HUP }")?;
    let placeholder = format!("DB_PASSWORD_FILE={{keywheel:file:{SECRET}}}");
    let container = stage.run("path", &["-e", &placeholder], "/bin/app-file")?;
    assert_eq!(
        container.variable("DB_PASSWORD_FILE")?.as_deref(),
        Some(FILE)
    );
    let (first, pid) = (stage.value_in(&container)?, container.pid()?);
    stage.rotate(SECRET)?;
    let second = stage.value_in(&container)?;
    assert_ne!(first, second);
    assert_eq!(container.pid()?, pid, "it was restarted");
    // Where no binding gives the file, it is refused with the next step.
    let label = ["--runtime", &stage.runtime, "--label", "app=path"];
    let flags = [&label[..], &["-e", "OTHER_FILE={keywheel:file:test/other}"]].concat();
    let (refused, said) = Container::try_run(&stage.image, &flags, &["/bin/app-idle"])?;
    assert!(refused.is_none(), "a placeholder is a request, not a grant");
    assert!(
        said.stderr.contains("as a file") && said.stderr.contains("next: apply a Binding"),
        "{}",
        said.stderr
    );
    stage.finish(&[first, second], &[&container])
}
