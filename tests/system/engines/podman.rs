//! Podman, with runc; what it does with crun, too, takes the runtime's name.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::stage::PATIENCE;
use keywheel_tests::{manifest, wait};

use crate::machine::{Container, Podman, alone, ready};
use crate::scene::{
    APP, CHECK, PLACEHOLDER, TOKEN, bind, file, finish, options, swaps, variable, wait_denied,
    withdraws,
};

fn stage(real: &str) -> Result<(Podman, Keywheel, Options)> {
    let mut keywheel = Keywheel::prepare()?;
    let podman = Podman::start(&keywheel, real)?;
    let options = options(&podman.address());
    keywheel.up(&options)?;
    wait_known(&keywheel)?;
    Ok((podman, keywheel, options))
}

/// Waits until it knows where Podman's storage is: not the usual place, and while a container is created Podman does
/// not say it.
fn wait_known(keywheel: &Keywheel) -> Result<()> {
    wait::until_true("Podman's storage", PATIENCE, || {
        Ok(keywheel.log().contains("Podman's storage found"))
    })
}

#[test]
fn a_container_starts_with_its_secrets_follows_and_loses_them() -> Result<()> {
    let name = "podman::a_container_starts_with_its_secrets_follows_and_loses_them";
    alone(name, || follows_and_loses("runc"))
}

pub(crate) fn follows_and_loses(real: &str) -> Result<()> {
    if !ready(&["podman", real])? {
        return Ok(());
    }
    let (podman, keywheel, _) = stage(real)?;
    bind(&keywheel, podman.digest())?;
    let container = podman.start_container(APP, &["-e", PLACEHOLDER], "/bin/app-idle")?;
    let pid = container.pid()?;
    let first = file(pid)?.context("no file at the start")?;
    let token = variable(pid)?;
    ensure!(
        !token.contains("{keywheel:"),
        "the placeholder was not resolved"
    );
    let second = swaps(&keywheel, pid, &first)?;
    // A person's exec has the placeholder.
    let env = container.exec(&["env"])?.ok()?;
    ensure!(env.stdout.contains(PLACEHOLDER), "{}", env.stdout);
    // While all of them are held.
    let (said, mut places) = (container.told()?, container.places()?);
    let values = [first, second, token];
    finish(&keywheel, &values, &said, &places)?;
    withdraws(&keywheel, pid)?;
    // What its runtime kept went with it.
    places.retain(|place| place.exists());
    finish(&keywheel, &values, &said, &places)
}

#[test]
fn a_placeholder_without_a_binding_is_refused_by_name() -> Result<()> {
    let name = "podman::a_placeholder_without_a_binding_is_refused_by_name";
    alone(name, || is_refused("runc"))
}

pub(crate) fn is_refused(real: &str) -> Result<()> {
    if !ready(&["podman", real])? {
        return Ok(());
    }
    let (podman, mut keywheel, _) = stage(real)?;
    keywheel.apply(&manifest::secret(TOKEN, &[]))?;
    let flags = ["-e", PLACEHOLDER];
    let (container, said) = podman.try_run(APP, &flags, "/bin/app-env")?;
    ensure!(
        container.is_none(),
        "a placeholder is a request, not a grant"
    );
    ensure!(
        said.stderr.contains(TOKEN) && said.stderr.contains("inding"),
        "{}",
        said.stderr
    );
    wait_denied(&keywheel)?;
    // Without the injector nothing starts, and the next step is told.
    keywheel.kill9()?;
    let (container, said) = podman.try_run(APP, &[], "/bin/app-idle")?;
    ensure!(container.is_none(), "it started without the injector");
    ensure!(said.stderr.contains("keywheel up"), "{}", said.stderr);
    Ok(())
}

#[test]
fn a_rotation_restarts_the_container_in_place() -> Result<()> {
    let name = "podman::a_rotation_restarts_the_container_in_place";
    alone(name, || restarts("runc"))
}

pub(crate) fn restarts(real: &str) -> Result<()> {
    if !ready(&["podman", real])? {
        return Ok(());
    }
    let (podman, keywheel, _) = stage(real)?;
    bind(&keywheel, podman.digest())?;
    let container = podman.start_container(APP, &["-e", PLACEHOLDER], "/bin/app-env")?;
    let first = variable(container.pid()?)?;
    let file_before = file(container.pid()?)?.context("no file at the start")?;
    keywheel_tests::stage::rotate(&keywheel, TOKEN)?;
    let second = variable(container.pid()?)?;
    ensure!(first != second, "the variable has the old value");
    let file_after = file(container.pid()?)?.context("no file after the restart")?;
    ensure!(file_before == file_after, "another secret's file changed");
    let (said, places) = (container.told()?, container.places()?);
    finish(&keywheel, &[first, second, file_after], &said, &places)
}

#[test]
fn the_health_check_sees_the_value_and_no_other_exec_does() -> Result<()> {
    let name = "podman::the_health_check_sees_the_value_and_no_other_exec_does";
    alone(name, || health("runc"))
}

pub(crate) fn health(real: &str) -> Result<()> {
    if !ready(&["podman", real])? {
        return Ok(());
    }
    let (podman, mut keywheel, options) = stage(real)?;
    bind(&keywheel, podman.digest())?;
    // Its timers are a service manager's, and none runs here.
    let flags = [
        "-e",
        PLACEHOLDER,
        "--health-cmd",
        CHECK,
        "--health-interval",
        "disable",
    ];
    let container = podman.start_container(APP, &flags, "/bin/app-env")?;
    // Podman holds the container's lock over the check, so the injector may have looked at it only after the first.
    wait::until_true("the health check to pass", PATIENCE, || {
        Ok(container.check_health()? == 0)
    })?;
    let words = ["sh", "-c", "echo \"$API_TOKEN\""];
    let said = container.exec(&words)?.ok()?;
    ensure!(
        said.stdout.contains("{keywheel:"),
        "a person's exec has the value"
    );
    // Without the injector it runs with the placeholder, and with it again as before.
    keywheel.kill9()?;
    ensure!(
        container.check_health()? != 0,
        "a value came without the injector"
    );
    keywheel.up(&options)?;
    wait::until_true("the health check to pass again", PATIENCE, || {
        Ok(container.check_health()? == 0)
    })?;
    let value = variable(container.pid()?)?;
    let (said, places) = (container.told()?, container.places()?);
    finish(&keywheel, &[value], &said, &places)
}

#[test]
fn setup_writes_files_of_its_own_says_so_and_takes_them_out_again() -> Result<()> {
    let name = "podman::setup_writes_files_of_its_own_says_so_and_takes_them_out_again";
    alone(name, setup)
}

/// So many programs are registered.
fn programs(podman: &Podman) -> Result<usize> {
    Ok(std::fs::read_dir(podman.programs())?.count())
}

fn setup() -> Result<()> {
    if !ready(&["podman", "runc"])? {
        return Ok(());
    }
    let keywheel = Keywheel::prepare()?;
    let podman = Podman::start(&keywheel, "runc")?;
    let again = podman.setup(&keywheel, &["--real-runtime", "runc"])?;
    ensure!(again.said().contains("nothing to do"), "{}", again.said());
    let more = ["--real-runtime", "runc", "--make-default"];
    let before = std::fs::read_to_string(podman.configuration())?;
    let refused = podman.asked_setup(&keywheel, &more, "n")?;
    ensure!(
        refused.code != 0 && refused.stdout.contains("+ runtime = "),
        "{}",
        refused.said()
    );
    ensure!(
        refused.stdout.contains("[y/N]")
            && std::fs::read_to_string(podman.configuration())? == before,
        "it was written without leave"
    );
    let default = podman.setup(&keywheel, &more)?;
    ensure!(
        default.said().contains("+ runtime = "),
        "{}",
        default.said()
    );
    ensure!(programs(&podman)? == 2, "not a program for each runtime");
    let running = starts_leniently(&podman)?;
    let pid = running.pid()?;
    let undone = podman.setup(&keywheel, &["--undo"])?;
    ensure!(undone.said().contains("removed"), "{}", undone.said());
    ensure!(
        !std::path::Path::new(&podman.configuration()).exists(),
        "the file is still there"
    );
    ensure!(programs(&podman)? == 0, "a program is still there");
    let program = format!("/proc/{pid}");
    let program = std::path::Path::new(&program);
    ensure!(program.exists(), "it ended with its registration");
    // The client that takes the test's own things away reads it.
    podman.setup(&keywheel, &["--real-runtime", "runc"])?;
    ensure!(running.pid()? == pid, "it was restarted");
    Ok(())
}

/// No injector runs: the lenient runtime starts whoever has no placeholder, and nobody who has one.
fn starts_leniently(podman: &Podman) -> Result<Container<'_>> {
    let lenient = podman.lenient();
    let runtime = ["--runtime", lenient.as_str()];
    let flags = [&runtime[..], &["-e", PLACEHOLDER]].concat();
    let (refused, said) = podman.try_run(APP, &flags, "/bin/app-env")?;
    ensure!(refused.is_none(), "a placeholder was started");
    ensure!(said.stderr.contains("next: "), "{}", said.stderr);
    podman.start_container(APP, &runtime, "/bin/app-idle")
}
