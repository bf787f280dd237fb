//! Kills while a container comes to its files: within its create, and when it runs already. A start
//! is refused or works; one that was refused works when it is tried again.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage};
use keywheel_tests::{manifest, places, wait};

use crate::walk::{ATTACH, CREATE, check_deliveries, die_of, registered};

const TOKEN: &str = "test/api-token";

/// A file and a variable for the label `create`.
fn bind_both(stage: &Stage) -> Result<()> {
    stage.apply_file("create", "none")?;
    let on = stage.on("create");
    let reload = "{ restart: { settle: 1s } }";
    let binding = manifest::env_binding("test-env", TOKEN, &on, "API_TOKEN", reload);
    stage
        .keywheel
        .apply(&(manifest::secret(TOKEN, &[]) + &binding))?;
    stage.wait_current(TOKEN, 1)
}

/// What is in place before the first instruction: both values.
fn values(stage: &Stage, container: &Container) -> Result<[String; 2]> {
    let variable = container.variable("API_TOKEN")?.context("no value")?;
    ensure!(!variable.contains("keywheel"), "a placeholder was started");
    Ok([stage.value_in(container)?, variable])
}

/// The container shows nothing of what it was given; its like end with the loop that made them.
fn assert_clean(given: &[String], container: &Container) -> Result<()> {
    let bytes: Vec<Vec<u8>> = given
        .iter()
        .map(|value| value.clone().into_bytes())
        .collect();
    places::assert_container_clean(&bytes, container)
}

fn is_empty(folder: &Path) -> Result<bool> {
    Ok(std::fs::read_dir(folder)?.next().is_none())
}

#[test]
fn a_create_survives_a_kill_at_every_failpoint() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    registered()?;
    let mut stage = Stage::set()?;
    bind_both(&stage)?;
    let mut plaintexts = Vec::new();
    for name in CREATE {
        let variable = format!("API_TOKEN={{keywheel:{TOKEN}}}");
        let flags = [
            "--runtime",
            &stage.runtime.clone(),
            "--label",
            "app=create",
            "-e",
            &variable,
        ];
        let container = Container::create(&stage.image, &flags, &["/bin/app-env"])?;
        let first = die_of(&mut stage, name, |_| {
            docker::docker(&["start", container.id()])
        })?;
        ensure!(
            first.code == 0 || first.stderr.contains("keywheel"),
            "{name}: refused without a reason: {}",
            first.stderr
        );
        // It runs with everything, at once or when the injector is back.
        let what = format!("the container to run ({name})");
        wait::until_true(&what, PATIENCE, || {
            Ok(container.field("{{.State.Running}}")? == "true")
        })?;
        let mut given = values(&stage, &container)
            .with_context(|| name.to_owned())?
            .to_vec();
        ensure!(
            is_empty(&stage.keywheel.run_dir().join("bundles"))?,
            "{name}: a private bundle is left"
        );
        // And it is served on: the file at once, the variable by a restart.
        stage.rotate(SECRET)?;
        check_deliveries(&stage, &container, SECRET, "assignment.swapped")
            .with_context(|| name.to_owned())?;
        given.extend(values(&stage, &container).with_context(|| name.to_owned())?);
        assert_clean(&given, &container).with_context(|| name.to_owned())?;
        plaintexts.extend(given);
    }
    stage.finish(&plaintexts, &[])
}

#[test]
fn a_first_file_survives_a_kill_at_every_failpoint() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.apply_file("running", "none")?;
    let mut plaintexts = Vec::new();
    for name in ATTACH {
        let container = die_of(&mut stage, name, |stage| {
            let flags = ["--label", "app=running"];
            Container::run(&stage.image, &flags, &["/bin/app-idle"])
        })?;
        let value = wait::until(&format!("the file ({name})"), PATIENCE, || {
            container.read(FILE)
        })?;
        check_deliveries(&stage, &container, SECRET, "assignment.swapped")
            .with_context(|| name.to_owned())?;
        stage.rotate(SECRET)?;
        check_deliveries(&stage, &container, SECRET, "assignment.swapped")
            .with_context(|| name.to_owned())?;
        let given = [value, stage.value_in(&container)?];
        assert_clean(&given, &container).with_context(|| name.to_owned())?;
        plaintexts.extend(given);
    }
    stage.finish(&plaintexts, &[])
}
