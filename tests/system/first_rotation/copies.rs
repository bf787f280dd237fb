//! What the engine copies out of a container that holds a value: `cp`, `export`, and an image by `commit` and
//! `save`. `inspect`, `diff` and the engine's own files are searched at the end of every test.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::canary::Canary;
use keywheel_tests::docker::{self, Container, docker};
use keywheel_tests::manifest;
use keywheel_tests::output::Output;
use keywheel_tests::stage::{FILE, Stage};

const TOKEN: &str = "test/api-token";
const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";

/// Everything that a person can copy out of it, and what a container of its image shows.
fn copied(container: &Container, shown: &[&str]) -> Result<Vec<Output>> {
    let mut said = Vec::new();
    let cp = |path: &str| docker(&["cp", &format!("{}:{path}", container.id()), "-"]);
    for path in ["/run/secrets", "/run", "/"] {
        said.push(cp(path)?.ok()?);
    }
    // What is in the container's memory alone is no file of it for the engine, which says so by its name.
    for path in [FILE, "/proc/1/environ"] {
        let output = cp(path)?;
        let is_told = output.code == 0 || output.stderr.contains(path);
        ensure!(is_told, "{}", output.stderr);
        said.push(output);
    }
    said.push(docker(&["export", container.id()])?.ok()?);
    let image = docker(&["commit", container.id()])?.ok()?;
    let image = image.stdout.trim();
    said.push(docker(&["save", image])?.ok()?);
    said.push(docker(&["image", "inspect", image])?.ok()?);
    said.push(docker(&["history", "--no-trunc", image])?.ok()?);
    let read = [&["run", "--rm", "--network", "none", image], shown].concat();
    said.push(docker(&read)?);
    docker(&["image", "rm", "-f", image])?.ok()?;
    Ok(said)
}

fn assert_none(value: &str, said: &[Output]) -> Result<()> {
    let canary = Canary::new(&[value.as_bytes().to_vec()])?;
    for output in said {
        let hits = canary.search(&output.line, output.said().as_bytes());
        assert!(hits.is_empty(), "{hits:?}");
    }
    Ok(())
}

#[test]
fn neither_cp_nor_commit_takes_a_value_out_of_a_container() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    stage.apply_file("copied", "none")?;
    let container = stage.run("copied", &[], "/bin/app-idle")?;
    let value = stage.value_in(&container)?;
    let said = copied(&container, &["cat", FILE])?;
    assert_none(&value, &said)?;
    let shown = said.last().context("nothing was run")?;
    assert!(shown.stderr.contains(FILE), "{}", shown.said());
    stage.finish(&[value], &[&container])
}

#[test]
fn no_copy_has_the_value_of_a_variable() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let reload = "{ restart: { settle: 1s } }";
    let on = stage.on("copied");
    let binding = manifest::env_binding("test-env", TOKEN, &on, "API_TOKEN", reload);
    stage
        .keywheel
        .apply(&(manifest::secret(TOKEN, &[]) + &binding))?;
    stage.wait_current(TOKEN, 1)?;
    let container = stage.run("copied", &["-e", PLACEHOLDER], "/bin/app-env")?;
    let value = container.variable("API_TOKEN")?.context("no value")?;
    let said = copied(&container, &["env"])?;
    assert_none(&value, &said)?;
    // The image has the placeholder, which whoever runs it is not given for.
    let shown = said.last().context("nothing was run")?;
    assert!(shown.stdout.contains(PLACEHOLDER), "{}", shown.said());
    stage.finish(&[value], &[&container])
}
