//! Docker with crun, by a daemon of the test's own whose runtimes call it. Its containers' words go to a systemd
//! journal, with what the engine knows of their variables, and so do ours.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{Container, Image};
use keywheel_tests::engine::{Daemon, Manner, RUNTIME};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::output::Output;
use keywheel_tests::stage::PATIENCE;
use keywheel_tests::{places, stage, wait};

use crate::journal::Journal;
use crate::machine::{alone, ready};
use crate::scene::{
    APP, CHECK, PLACEHOLDER, TOKEN, bind, file, finish, options, swaps, variable, withdraws,
};

const CRUN: &str = "crun";
/// What crun has in a container's state directory, and runc has not.
const STATUS: &str = "status";
/// The health check, without which no restart counts as done.
const CHECKED: [&str; 4] = ["--health-cmd", CHECK, "--health-interval", "500ms"];
/// What the engine tells the journal with every line of a container.
const LOGGED: [&str; 6] = [
    "--log-driver",
    "journald",
    "--log-opt",
    "env=API_TOKEN",
    "--log-opt",
    "labels=app",
];

#[test]
fn with_crun_a_container_starts_with_its_secrets_follows_and_loses_them() -> Result<()> {
    let name = "docker::with_crun_a_container_starts_with_its_secrets_follows_and_loses_them";
    alone(name, follows_and_loses)
}

fn run(image: &Image, app: &str, program: &str) -> Result<(Option<Container>, String)> {
    let label = format!("app={app}");
    let flags = ["--runtime", RUNTIME, "--label", &label, "-e", PLACEHOLDER];
    let flags = [&flags[..], &CHECKED, &LOGGED].concat();
    let (container, said) = Container::try_run(image, &flags, &[program])?;
    Ok((container, said.said()))
}

fn follows_and_loses() -> Result<()> {
    if !ready(&["dockerd", "docker", CRUN])? {
        return Ok(());
    }
    let journal = Journal::start()?;
    let mut keywheel = Keywheel::prepare()?;
    let (root, run_dir) = (keywheel.scratch().join("engine"), keywheel.run_dir());
    let manner = Manner {
        real: Some(CRUN),
        ..Manner::default()
    };
    let daemon = Daemon::start(&root, &run_dir.join("injector.sock"), None, manner)?;
    let engine = daemon.engine();
    let address = engine.address().context("it has an address")?;
    keywheel.up(&Options {
        flags: ["--log-format", "journald"].map(str::to_owned).into(),
        ..options(&address)
    })?;
    let image = Image::build_on(&engine)?;
    bind(&keywheel, image.digest())?;
    let (container, said) = run(&image, APP, "/bin/app-env")?;
    let container = container.context(said)?;
    let states = places::paths_named(&daemon.exec_root(), container.id());
    ensure!(
        states.iter().any(|path| path.join(STATUS).is_file()),
        "crun did not run it: {states:?}"
    );
    let pid = container.pid()?;
    let first = file(pid)?.context("no file at the start")?;
    let token = variable(pid)?;
    ensure!(
        !token.contains("{keywheel:"),
        "the placeholder was not resolved"
    );
    let second = swaps(&keywheel, pid, &first)?;
    let (refused, said) = run(&image, "other", "/bin/app-env")?;
    ensure!(refused.is_none(), "a placeholder is a request, not a grant");
    ensure!(said.contains(TOKEN) && said.contains("inding"), "{said}");
    let after = restarts_in_place(&keywheel, &container, &second)?;
    ensure!(token != after, "the variable has the old value");
    let pid = container.pid()?;
    let values = [first, second, token, after];
    stage::finish(&keywheel, &values, &[&container])?;
    withdraws(&keywheel, pid)?;
    let mut searched = states;
    searched.extend([Journal::files(), root.join("docker.log")]);
    // What crun kept went with its program.
    searched.retain(|place| place.exists());
    let told = journal_of(&journal, &container)?;
    finish(&keywheel, &values, &[told], &searched)
}

fn wait_healthy(container: &Container) -> Result<()> {
    wait::until_true("the container to be healthy", PATIENCE, || {
        Ok(container.field("{{.State.Health.Status}}")? == "healthy")
    })
}

/// A rotation restarts it, which is gated on the health check and so on the new value; nobody else's exec sees it, and
/// the file is back. The variable.
fn restarts_in_place(keywheel: &Keywheel, container: &Container, kept: &str) -> Result<String> {
    wait_healthy(container)?;
    let before = container.pid()?;
    stage::rotate(keywheel, TOKEN)?;
    let pid = container.pid()?;
    ensure!(pid != before, "it was not restarted");
    wait_healthy(container)?;
    let env = container.exec(&["env"])?.ok()?;
    ensure!(env.stdout.contains(PLACEHOLDER), "{}", env.stdout);
    let other = container.exec(&["sh", "-c", "echo \"$API_TOKEN\""])?.ok()?;
    ensure!(
        other.stdout.contains("{keywheel:"),
        "a person's exec has the value"
    );
    ensure!(
        file(pid)?.as_deref() == Some(kept),
        "another file after the restart"
    );
    variable(pid)
}

/// All that the journal was told: the container's words, each with the variable as the engine knows it, and ours.
fn journal_of(journal: &Journal, container: &Container) -> Result<Output> {
    let told = journal.told()?;
    let id = format!("CONTAINER_ID_FULL={}", container.id());
    let ours = "SYSLOG_IDENTIFIER=keywheel";
    for field in [id.as_str(), PLACEHOLDER, "MESSAGE=set", ours] {
        let is_there = told.stdout.lines().any(|line| line == field);
        ensure!(is_there, "the journal has no {field}");
    }
    Ok(told)
}
