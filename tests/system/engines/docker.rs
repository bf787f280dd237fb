//! Docker with crun, by a daemon of the test's own whose runtimes call it.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{Container, Image};
use keywheel_tests::engine::{Daemon, Manner, RUNTIME};
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::{places, stage};

use crate::machine::{alone, ready};
use crate::scene::{APP, PLACEHOLDER, TOKEN, bind, file, options, swaps, variable, withdraws};

const CRUN: &str = "crun";
/// What crun has in a container's state directory, and runc has not.
const STATUS: &str = "status";

#[test]
fn with_crun_a_container_starts_with_its_secrets_follows_and_loses_them() -> Result<()> {
    let name = "docker::with_crun_a_container_starts_with_its_secrets_follows_and_loses_them";
    alone(name, follows_and_loses)
}

fn run(image: &Image, app: &str, program: &str) -> Result<(Option<Container>, String)> {
    let label = format!("app={app}");
    let flags = ["--runtime", RUNTIME, "--label", &label, "-e", PLACEHOLDER];
    let (container, said) = Container::try_run(image, &flags, &[program])?;
    Ok((container, said.said()))
}

fn follows_and_loses() -> Result<()> {
    if !ready(&["dockerd", "docker", CRUN])? {
        return Ok(());
    }
    let mut keywheel = Keywheel::prepare()?;
    let (root, run_dir) = (keywheel.scratch().join("engine"), keywheel.run_dir());
    let manner = Manner {
        real: Some(CRUN),
        ..Manner::default()
    };
    let daemon = Daemon::start(&root, &run_dir.join("injector.sock"), None, manner)?;
    let engine = daemon.engine();
    let address = engine.address().context("it has an address")?;
    keywheel.up(&options(&address))?;
    let image = Image::build_on(&engine)?;
    bind(&keywheel, image.digest())?;
    let (container, said) = run(&image, APP, "/bin/app-idle")?;
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
    let env = container.exec(&["env"])?.ok()?;
    ensure!(env.stdout.contains(PLACEHOLDER), "{}", env.stdout);
    let values = [first, second, token];
    stage::finish(&keywheel, &values, &[&container])?;
    withdraws(&keywheel, pid)?;
    stage::finish(&keywheel, &values, &[&container])
}
