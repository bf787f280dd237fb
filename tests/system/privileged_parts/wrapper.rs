//! The runtime wrapper killed, and standing still, at each of its steps: no container is wedged, no mount is
//! half made, no plaintext is left, and the next start works.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use keywheel_tests::apart::Shape;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::fleet::Fleet;
use keywheel_tests::output::Output;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, wait_current};
use keywheel_tests::{manifest, places, wait};

const TOKEN: &str = "test/api-token";
const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";
/// The steps of a create, in their order.
const CREATE: [&str; 7] = [
    "runtime.before_resolve",
    "runtime.after_resolve",
    "runtime.after_bundle",
    "runtime.after_config",
    "runtime.after_create",
    "runtime.after_remove",
    "runtime.after_attach",
];
/// Those of a health check's exec.
const EXEC: [&str; 2] = ["runtime.before_exec_answer", "runtime.after_exec_answer"];
/// Passes only with a value, and prints nothing.
const CHECK: &str = r#"case "$API_TOKEN" in ''|'{keywheel:'*) exit 1 ;; esac"#;
/// How secret file systems are called in mount tables.
const SOURCE: &str = "keywheel-secrets";
/// What procfs makes of the wrapper's name.
const COMM: &str = "keywheel-runtim";

/// One host with an engine of its own, a file and a variable for each label.
fn fleet() -> Result<Fleet> {
    let mut fleet = Fleet::set(Shape {
        own_engines: true,
        ..Shape::default()
    })?;
    let on = fleet.machine(0)?.on("ended");
    let reload = "{ restart: { settle: 1s } }";
    let text = manifest::secret(SECRET, &[])
        + &manifest::secret(TOKEN, &[])
        + &manifest::file_binding("file", SECRET, &on, "db_password", "none")
        + &manifest::env_binding("variable", TOKEN, &on, "API_TOKEN", reload);
    fleet.keywheel.apply(&text)?;
    for secret in [SECRET, TOKEN] {
        wait_current(&fleet.keywheel, secret, 1)?;
    }
    fleet.keywheel.wait_plans()?;
    // It is there from the start, so that a test can arm it.
    ensure!(!fleet.apart()?.daemon(0)?.failpoints().exists());
    Ok(fleet)
}

fn create(fleet: &Fleet) -> Result<Container> {
    let machine = fleet.machine(0)?;
    let flags = [
        "--runtime",
        &machine.runtime,
        "--label",
        "app=ended",
        "-e",
        PLACEHOLDER,
    ];
    Container::create(&machine.image, &flags, &["/bin/app-env"])
}

fn start(container: &Container) -> Result<Output> {
    container.engine().docker(&["start", container.id()])
}

fn arm(fleet: &mut Fleet, name: &str, action: &str) -> Result<()> {
    let file = fleet.apart()?.daemon(0)?.failpoints();
    Ok(fs::write(file, format!("{name}={action}\n"))?)
}

/// Both values, which are there before the first instruction.
fn values(container: &Container) -> Result<[String; 2]> {
    // The engine says that it started a moment before its program takes the place of the runtime's.
    let variable = wait::until("its program with a value", PATIENCE, || {
        container.variable("API_TOKEN")
    })?;
    ensure!(!variable.contains("keywheel"), "a placeholder was started");
    Ok([container.peek(FILE)?, variable])
}

/// Nothing that the create had is left on the host.
fn nothing_is_left(run: &Path) -> Result<()> {
    wait::until_true("the private bundle to go", PATIENCE, || {
        Ok(fs::read_dir(run.join("bundles"))?.next().is_none())
    })?;
    let table = fs::read_to_string("/proc/self/mounts")?;
    ensure!(!table.contains(SOURCE), "a mount is left: {table}");
    Ok(())
}

/// After a create that ended at a step: the container does not run, and the next start is a whole one.
fn next_start_works(fleet: &mut Fleet, container: &Container) -> Result<Vec<String>> {
    ensure!(
        container.field("{{.State.Running}}")? == "false",
        "it runs although its create ended"
    );
    let run = fleet.apart()?.run_dir(0);
    nothing_is_left(&run)?;
    start(container)?.ok().context("the next start")?;
    nothing_is_left(&run)?;
    let values = values(container)?;
    let bytes = values.each_ref().map(|value| value.clone().into_bytes());
    places::assert_container_clean(&bytes, container)?;
    Ok(values.into())
}

/// The wrapper that stands still over a container.
fn standing(container: &Container) -> Result<Option<u32>> {
    for entry in fs::read_dir("/proc")?.flatten() {
        let name = entry.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        let read = |file: &str| fs::read_to_string(entry.path().join(file)).unwrap_or_default();
        let stat = read("stat");
        let is_its = stat.contains(COMM) && read("cmdline").contains(container.id());
        if is_its && stat.contains(") T ") {
            return Ok(Some(pid));
        }
    }
    Ok(None)
}

#[test]
fn a_create_survives_the_death_of_the_runtime_at_every_step() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut fleet = fleet()?;
    let mut plaintexts = Vec::new();
    for name in CREATE {
        let container = create(&fleet)?;
        arm(&mut fleet, name, "kill")?;
        let first = start(&container)?;
        let is_armed = fleet.apart()?.daemon(0)?.failpoints().exists();
        ensure!(!is_armed, "{name} was not reached: it proves nothing");
        ensure!(first.code != 0, "{name}: it started: {}", first.said());
        plaintexts.extend(next_start_works(&mut fleet, &container).context(name)?);
    }
    fleet.finish(&plaintexts, &[])
}

#[test]
fn a_create_that_stands_still_wedges_nobody_at_any_step() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut fleet = fleet()?;
    let mut plaintexts = Vec::new();
    for name in CREATE {
        let container = create(&fleet)?;
        arm(&mut fleet, name, "stop")?;
        let first = thread::scope(|scope| {
            let starting = scope.spawn(|| start(&container));
            let pid = wait::until("a runtime that stands still", PATIENCE, || {
                standing(&container)
            });
            // Somebody else comes and goes meanwhile.
            let other = match &pid {
                Ok(_) => served_meanwhile(&fleet),
                Err(_) => Ok(()),
            };
            if let Ok(pid) = &pid {
                Output::of(Command::new("kill").args(["-KILL", &pid.to_string()]))?.ok()?;
            }
            let first = starting
                .join()
                .map_err(|_| anyhow!("docker start panicked"))?;
            pid?;
            other?;
            first
        });
        let first = first.context(name)?;
        ensure!(first.code != 0, "{name}: it started: {}", first.said());
        plaintexts.extend(next_start_works(&mut fleet, &container).context(name)?);
    }
    fleet.finish(&plaintexts, &[])
}

fn served_meanwhile(fleet: &Fleet) -> Result<()> {
    let other = create(fleet)?;
    start(&other)?.ok().context("another start meanwhile")?;
    values(&other).map(drop)
}

#[test]
fn a_health_check_survives_the_death_of_the_runtime_at_every_step() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut fleet = fleet()?;
    let machine = fleet.machine(0)?;
    let often = ["--health-interval", "300ms", "--health-retries", "1000"];
    let flags = ["-e", PLACEHOLDER, "--health-cmd", CHECK];
    let flags = [&flags[..], &often].concat();
    let container = machine.run("ended", &flags, "/bin/app-env")?;
    let passes = || -> Result<bool> {
        let said = container.field("{{.State.Health.Status}} {{.State.Health.FailingStreak}}")?;
        Ok(said == "healthy 0")
    };
    for name in EXEC {
        wait::until_true("a check that passes", PATIENCE, passes)?;
        arm(&mut fleet, name, "kill")?;
        let file = fleet.apart()?.daemon(0)?.failpoints();
        wait::until_true(&format!("{name} to be reached"), PATIENCE, || {
            Ok(!file.exists())
        })?;
        wait::until_true("a check that passes again", PATIENCE, passes)
            .with_context(|| format!("after {name}"))?;
        ensure!(container.field("{{.State.Running}}")? == "true", "{name}");
    }
    let values = values(&container)?;
    fleet.finish(&values, &[&container])
}
