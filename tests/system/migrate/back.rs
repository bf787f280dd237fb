//! What goes wrong after the stop puts the old container back: a new one that does not run, one that its
//! health check refuses, a person's Ctrl-C.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::output::Output;
use keywheel_tests::stage::{PATIENCE, Stage};
use keywheel_tests::wait;

use crate::scene::{
    Left, SECRET, VARIABLE, Volume, WISH, finish, migrate, migrated, run, value, variable,
};

/// Ends at its second start and at no other: the first is the old one's, the second the new one's.
const SECOND_START_ENDS: &str = "n=$(cat /keep/n 2>/dev/null || echo 0); n=$((n+1)); echo $n >/keep/n; \
    [ $n -eq 2 ] && exit 3; trap 'exit 0' TERM; while :; do sleep 3600 & wait $!; done";
/// Healthy until the file is there.
const UNLESS_REFUSED: &str = "test ! -e /keep/refuse";

/// The old one runs as it did, under its name, with its own variable, and nothing else is left.
fn assert_back(stage: &Stage, old: &Container, left: &Left) -> Result<()> {
    let now = Container::named(&stage.image, old.name())?;
    assert_eq!(now.id(), old.id(), "another container has its name");
    assert_eq!(now.field("{{.State.Running}}")?, "true");
    assert_eq!(variable(&now)?, value(&stage.keywheel));
    assert_eq!(left.beside()?, "", "something is left");
    let bindings = stage.keywheel.json(&["get", "bindings"])?;
    assert_eq!(bindings, serde_json::json!([]), "a binding is left");
    // With `now` the container goes.
    Ok(())
}

#[test]
fn a_new_one_that_ends_is_taken_away_and_the_next_try_may_use_what_was_taken() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let volume = Volume(keywheel_tests::scratch::unique("kwt-volume"));
    let keep = format!("{}:/keep", volume.0);
    let flags = ["--network", "none", "--label", "app=back", "-v", &keep];
    let old = run(&stage, &flags, &["/bin/sh", "-c", SECOND_START_ENDS])?;
    let left = Left::of(&old);
    wait::until_true("its first start", PATIENCE, || {
        Ok(old.read("/keep/n")?.is_some_and(|n| n.trim() == "1"))
    })?;
    let said = migrate(&stage, old.name(), &[])?;
    assert_eq!(said.code, 4, "{}", said.said());
    let told = [
        "ended with code 3",
        "is back",
        "--use-current test/api-token",
    ];
    for part in told {
        ensure!(said.stderr.contains(part), "{part}: {}", said.stderr);
    }
    let value = value(&stage.keywheel);
    ensure!(!said.said().contains(&value), "the value was shown");
    let id = old.id().to_owned();
    assert_eq!(old.field("{{.State.Running}}")?, "true");
    assert_eq!(old.field("{{.Id}}")?, id);
    ensure!(old.inspect()?.to_string().contains(&value), "not as it was");
    assert_eq!(left.beside()?, "", "something is left");

    let again = migrated(&stage, &old, &["--use-current", SECRET])?;
    assert_eq!(variable(&again)?, value);
    finish(&stage, &[value], &again)
}

#[test]
fn a_new_one_that_its_health_check_refuses_is_taken_away() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let bound = stage.keywheel.scratch().join("keep");
    std::fs::create_dir(&bound)?;
    let keep = format!("{}:/keep", bound.display());
    let flags = [
        &["--network", "none", "--label", "app=back", "-v", &keep][..],
        &["--health-cmd", UNLESS_REFUSED, "--health-interval", "1s"],
        &["--health-retries", "1"],
    ]
    .concat();
    let old = run(&stage, &flags, &["/bin/app-env"])?;
    let left = Left::of(&old);
    wait::until_true("the old one to be healthy", PATIENCE, || {
        Ok(old.field("{{.State.Health.Status}}")? == "healthy")
    })?;
    // From now on every check fails; the old one's word is not asked for.
    std::fs::write(bound.join("refuse"), "")?;
    let said = migrate(&stage, old.name(), &[])?;
    assert_eq!(said.code, 4, "{}", said.said());
    ensure!(said.stderr.contains("unhealthy"), "{}", said.stderr);
    assert_back(&stage, &old, &left)
}

#[test]
fn who_interrupts_a_migration_gets_the_old_one_back() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let stage = Stage::set()?;
    let flags = ["--network", "none", "--label", "app=back"];
    let old = run(&stage, &flags, &["/bin/app-env"])?;
    let left = Left::of(&old);
    let words = [
        &["migrate", old.name(), "--env", WISH, "--yes"][..],
        &["--runtime", &stage.runtime, "--settle", "10m"],
    ]
    .concat();
    let mut client = stage.keywheel.client(&words)?;
    let client = client.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = client.spawn()?;
    let runs = || -> Result<bool> {
        let said = docker::docker(&["inspect", "-f", RUNS, old.name()])?;
        Ok(said.stdout.trim() == format!("{} true", stage.runtime))
    };
    let waited = wait::until_true("the new one to run", PATIENCE, runs);
    let pid = child.id().to_string();
    Output::of(Command::new("kill").args(["-INT", &pid]))?.ok()?;
    let ended = child.wait()?;
    let mut said = String::new();
    let mut stderr = child.stderr.take().context("no stderr")?;
    std::io::Read::read_to_string(&mut stderr, &mut said)?;
    waited.with_context(|| said.clone())?;
    assert_eq!(ended.code(), Some(4), "{said}");
    ensure!(
        said.contains("interrupted") && said.contains("is back"),
        "{said}"
    );
    ensure!(said.contains(VARIABLE), "the plan was not shown: {said}");
    assert_back(&stage, &old, &left)
}

/// Runtime and state of a container.
const RUNS: &str = "{{.HostConfig.Runtime}} {{.State.Running}}";
