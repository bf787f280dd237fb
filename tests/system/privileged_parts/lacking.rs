//! An injector on a kernel, or under a filter, that does not know calls it needs: what cannot be done is refused by
//! the call's name, `status` says it, and everything else goes on.

use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result, bail, ensure};
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::fleet::Fleet;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, items, wait_current};
use keywheel_tests::{manifest, wait};
use serde_json::Value;

/// Takes calls away from what it becomes.
const WITHOUT: &str = env!("CARGO_BIN_EXE_keywheel-without");
/// The mount interface: without it not even the private memory of a create is there.
const MOUNTS: &str = "open_tree,move_mount,mount_setattr";
/// What files alone need.
const FILES: &str = "openat2";
/// How every refusal and every fact about it begins.
const LACKS: &str = "the kernel does not know";
const TOKEN: &str = "test/api-token";
const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";

fn fleet() -> Result<Fleet> {
    let fleet = Fleet::set(Shape::default())?;
    let machine = fleet.machine(0)?;
    let restart = "{ restart: { settle: 1s } }";
    let text = manifest::secret(SECRET, &[])
        + &manifest::secret(TOKEN, &[])
        + &manifest::file_binding("file", SECRET, &machine.on("file"), "db_password", "none")
        + &manifest::env_binding(
            "variable",
            TOKEN,
            &machine.on("variable"),
            "API_TOKEN",
            restart,
        );
    fleet.keywheel.apply(&text)?;
    for secret in [SECRET, TOKEN] {
        wait_current(&fleet.keywheel, secret, 1)?;
    }
    fleet.keywheel.wait_plans()?;
    Ok(fleet)
}

/// Starts the injector anew without some calls, or with all of them; how it ended when it does not serve.
fn starts_without(fleet: &mut Fleet, calls: Option<&str>) -> Result<Option<String>> {
    let socket = fleet.apart()?.run_dir(0).join("injector.sock");
    let process = fleet.process(Role::Injector, 0)?;
    process.stop()?;
    let prefix = calls.map(|calls| vec![WITHOUT.to_owned(), calls.to_owned()]);
    process.set_prefix(prefix.unwrap_or_default());
    process.start()?;
    wait::until("the injector to serve, or to end", PATIENCE, || {
        let ended = process.exited()?;
        let serves = UnixStream::connect(&socket).is_ok();
        Ok((ended.is_some() || serves).then_some(ended))
    })
}

fn wait_status(fleet: &Fleet, words: &str) -> Result<()> {
    wait::until_true(&format!("`{words}` in status"), PATIENCE, || {
        let status = fleet.keywheel.json(&["status"])?.to_string();
        Ok(status.contains(words))
    })
}

/// Under the runtime; what was said when it was refused.
fn try_run(fleet: &Fleet, app: &str) -> Result<Result<Container, String>> {
    let machine = fleet.machine(0)?;
    let label = format!("app={app}");
    let runtime = ["--runtime", &machine.runtime, "--label", &label];
    let flags = match app {
        "variable" => [&runtime[..], &["-e", PLACEHOLDER]].concat(),
        _ => runtime.to_vec(),
    };
    let (container, said) = Container::try_run(&machine.image, &flags, &["/bin/app-env"])?;
    Ok(container.ok_or(said.stderr))
}

/// As soon as the injector has its plan again.
fn run_soon(fleet: &Fleet, app: &str) -> Result<Container> {
    wait::until(&format!("a start of `{app}`"), PATIENCE, || {
        Ok(try_run(fleet, app)?.ok())
    })
}

fn wait_refused(fleet: &Fleet, container: &Container) -> Result<()> {
    let what = format!("the refusal of {} by the call's name", container.name());
    wait::until_true(&what, PATIENCE, || {
        let said = fleet.keywheel.json(&["consumers"])?;
        let text = |row: &Value, key: &str| row.get(key)?.as_str().map(str::to_owned);
        let is_its = |row: &&Value| text(row, "container").as_deref() == Some(container.id());
        let row = items(&said).into_iter().find(is_its);
        let reason = row.and_then(|row| text(row, "reason")).unwrap_or_default();
        Ok(reason.contains(LACKS) && reason.contains(FILES))
    })
}

#[test]
fn what_the_kernel_lacks_is_named_and_only_what_needs_it_is_refused() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut fleet = fleet()?;
    let served = run_soon(&fleet, "file")?;
    let first = served.peek(FILE)?;
    without_mounts_nothing_is_served(&mut fleet, &served)?;
    ensure!(served.peek(FILE)? == first, "it lost its file");

    let ended = starts_without(&mut fleet, Some(FILES))?;
    ensure!(
        ended.is_none(),
        "it ended for what files alone need: {ended:?}"
    );
    wait_status(&fleet, "openat2: files are refused, variables are served")?;
    let variable = run_soon(&fleet, "variable")?;
    let token = variable.variable("API_TOKEN")?.context("no variable")?;
    ensure!(!token.contains("keywheel"), "a placeholder was started");
    match try_run(&fleet, "file")? {
        Ok(_) => bail!("it started without its file"),
        Err(said) => ensure!(said.contains(LACKS) && said.contains(FILES), "{said}"),
    }
    let machine = fleet.machine(0)?;
    let flags = ["--label", "app=file"];
    let plain = Container::run(&machine.image, &flags, &["/bin/app-idle"])?;
    // The one that has a file already is no consumer of the next version, either.
    wait::until_true("the rotation before to end", PATIENCE, || {
        Ok(fleet.keywheel.cli(&["rotate", SECRET])?.code == 0)
    })?;
    for container in [&plain, &served] {
        wait_refused(&fleet, container)?;
    }
    ensure!(served.peek(FILE)? == first, "it lost its file");
    ensure!(plain.peek(FILE).is_err(), "a file came all the same");

    let ended = starts_without(&mut fleet, None)?;
    ensure!(
        ended.is_none(),
        "it ended with every call there is: {ended:?}"
    );
    wait::until_true("both to be served", PATIENCE, || {
        let has_new = |one: &Container| one.peek(FILE).is_ok_and(|value| value != first);
        Ok(has_new(&served) && has_new(&plain))
    })?;
    wait::until_true("nothing of it in status", PATIENCE, || {
        let status = fleet.keywheel.json(&["status"])?.to_string();
        Ok(!status.contains(LACKS))
    })?;
    let values = [first, served.peek(FILE)?, token];
    fleet.finish(&values, &[&served, &plain, &variable])
}

/// The injector does not start, and its host's row says why; who has a file keeps it, and who starts is refused.
fn without_mounts_nothing_is_served(fleet: &mut Fleet, served: &Container) -> Result<()> {
    let ended = starts_without(fleet, Some(MOUNTS))?;
    ensure!(ended.is_some(), "it serves without the mount interface");
    let log = fleet.process(Role::Injector, 0)?.tail();
    ensure!(log.contains("move_mount, mount_setattr"), "{log}");
    wait_status(fleet, "move_mount, mount_setattr, without which")?;
    ensure!(served.field("{{.State.Running}}")? == "true", "it ended");
    match try_run(fleet, "file")? {
        Ok(_) => bail!("it started without an injector"),
        Err(said) => ensure!(said.contains("next: "), "{said}"),
    }
    Ok(())
}
