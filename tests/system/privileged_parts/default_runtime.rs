//! `keywheel-default` as the default runtime of a Docker daemon: whoever is bound is served, and nobody else
//! notices, with the injector and without it. And `keywheel setup docker` at a terminal, on a daemon that runs.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::apart::{Role, Shape};
use keywheel_tests::docker::{self, Container, Image};
use keywheel_tests::engine::LENIENT;
use keywheel_tests::fleet::Fleet;
use keywheel_tests::manifest::{self, Selector};
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, wait_current};
use keywheel_tests::{terminal, wait};

const TOKEN: &str = "test/api-token";
const PLACEHOLDER: &str = "API_TOKEN={keywheel:test/api-token}";
/// What a container is and sees: flags, and a line of shell.
const LIVES: [(&[&str], &str); 6] = [
    (&["--user", "1000"], "id -u; echo said >&2; exit 3"),
    (&["--read-only"], "touch /x 2>/dev/null; echo $?"),
    (
        &["-e", "A=b", "-w", "/tmp"],
        "echo $A; env | cat; ls -l /proc/self/cwd >/dev/null",
    ),
    (
        &["--tmpfs", "/tmp:size=1m", "-v", "/usr/share:/data:ro"],
        "while read a at kind options more; do echo $at $kind; done </proc/self/mounts",
    ),
    (
        &["--cap-drop", "ALL", "--security-opt", "no-new-privileges"],
        "while read a; do case $a in Cap*|NoNew*|Seccomp*) echo $a;; esac; done </proc/self/status",
    ),
    (&[], "ls /proc/self/fd | cat; ls /run/secrets; kill -9 $$"),
];
/// Of a container that lived, what its engine says.
const ABOUT: &str = "{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}} {{.RestartCount}} \
    {{.HostConfig.Privileged}} {{.Config.Env}} {{len .Mounts}}";

/// A runtime that a person registers.
const ASKED: &str = "keywheel-asked";

fn fleet() -> Result<Fleet> {
    Fleet::set(Shape {
        own_engines: true,
        default_runtime: Some(LENIENT),
        ..Shape::default()
    })
}

/// One life from its start to its end, and everything that was seen of it.
fn life(image: &Image, runtime: &[&str], (flags, line): (&[&str], &str)) -> Result<String> {
    let words = [runtime, flags].concat();
    let container = Container::create(image, &words, &["sh", "-c", line])?;
    let said = container
        .engine()
        .docker(&["start", "-a", container.id()])?;
    let about = container.field(ABOUT)?;
    let name = container.field("{{.Config.Hostname}}")?;
    let seen = format!("{} {:?} {:?} {about}", said.code, said.stdout, said.stderr);
    // The one thing in which two containers of the same kind differ.
    Ok(seen.replace(&name, "HOSTNAME"))
}

/// What happens to one that runs on.
fn long_life(image: &Image, runtime: &[&str]) -> Result<Vec<String>> {
    let checked = ["--health-cmd", "true", "--health-interval", "300ms"];
    let flags = [runtime, &checked[..], &["--restart", "on-failure:2"]].concat();
    let container = Container::run(image, &flags, &["/bin/app-deaf"])?;
    let engine = container.engine();
    wait::until_true("its health", PATIENCE, || {
        Ok(container.field("{{.State.Health.Status}}")? == "healthy")
    })?;
    let mut seen = Vec::new();
    for words in [
        &["exec", container.id(), "sh", "-c", "id -u; exit 5"][..],
        &[
            "exec",
            "-e",
            "X=y",
            "-u",
            "1000",
            container.id(),
            "sh",
            "-c",
            "echo $X; id -u",
        ],
        &["pause", container.id()],
        &["unpause", container.id()],
        &[
            "update",
            "--memory",
            "64m",
            "--memory-swap",
            "64m",
            container.id(),
        ],
        &["restart", "-t", "1", container.id()],
        &["stop", "-t", "5", container.id()],
        &["start", container.id()],
        &["kill", "-s", "KILL", container.id()],
    ] {
        let said = engine.docker(words)?;
        let text = format!("{} {} {:?}", words[0], said.code, said.said());
        seen.push(text.replace(container.id(), "ID"));
    }
    wait::until_true("its end", PATIENCE, || {
        Ok(container.field("{{.State.Running}}")? == "false")
    })?;
    seen.push(container.field(ABOUT)?);
    Ok(seen)
}

/// Nobody who is not bound can tell the two runtimes apart.
fn is_as_under_runc(image: &Image) -> Result<()> {
    let runc = ["--runtime", "runc"];
    for one in LIVES {
        let (plain, ours) = (life(image, &runc, one)?, life(image, &[], one)?);
        ensure!(plain == ours, "{one:?}: {plain} under runc, here {ours}");
    }
    let (plain, ours) = (long_life(image, &runc)?, long_life(image, &[])?);
    ensure!(plain == ours, "{plain:#?} under runc, here {ours:#?}");
    Ok(())
}

fn apply(fleet: &Fleet, on: &Selector<'_>) -> Result<()> {
    let reload = "{ restart: { settle: 1s } }";
    let text = manifest::secret(SECRET, &[])
        + &manifest::secret(TOKEN, &[])
        + &manifest::file_binding("file", SECRET, on, "db_password", "none")
        + &manifest::env_binding("variable", TOKEN, on, "API_TOKEN", reload);
    fleet.keywheel.apply(&text)?;
    for secret in [SECRET, TOKEN] {
        wait_current(&fleet.keywheel, secret, 1)?;
    }
    fleet.keywheel.wait_plans()
}

/// A person registers a runtime and takes it out again: the change is shown and asked about, no is an answer,
/// the daemon takes it over without a touch of who runs, and the file is in the end what it was to the byte.
fn setup_asks_first(fleet: &mut Fleet, running: &Container) -> Result<()> {
    let file = fleet.apart()?.daemon(0)?.config_file();
    // As a person may have written it.
    let before = fs::read_to_string(&file)?;
    let before = before.replacen('{', "{\n\t\"shutdown-timeout\" : 15 ,", 1);
    fs::write(&file, &before)?;
    let engine = running.engine();
    let address = engine.address().context("an engine of its own")?;
    let life = || running.field("{{.State.Pid}} {{.State.StartedAt}} {{.RestartCount}}");
    let is_listed = || -> Result<bool> {
        let said = engine.docker(&["info", "-f", "{{json .Runtimes}}"])?.ok()?;
        Ok(said.stdout.contains(ASKED))
    };
    let setup = |more: &[&str], line: &str| {
        let words = [&["setup", "docker", "--runtime-name", ASKED][..], more].concat();
        let mut command = fleet.keywheel.client(&words)?;
        command.env("DOCKER_HOST", &address);
        terminal::answer(fleet.keywheel.scratch(), &command, line)
    };
    let alive = life()?;
    let said = setup(&[], "n")?;
    let is_shown = said.stdout.contains('+') && said.stdout.contains(ASKED);
    ensure!(
        said.code != 0 && is_shown && said.stdout.contains("[y/N]"),
        "{}",
        said.said()
    );
    ensure!(fs::read_to_string(&file)? == before && !is_listed()?);
    setup(&[], "y")?.ok()?;
    ensure!(fs::read_to_string(&file)? != before && is_listed()?);
    ensure!(life()? == alive, "a container was touched");
    setup(&["--undo"], "n")?;
    ensure!(is_listed()?, "it was undone without leave");
    setup(&["--undo"], "y")?.ok()?;
    ensure!(fs::read_to_string(&file)? == before && !is_listed()?);
    ensure!(life()? == alive, "a container was touched");
    Ok(())
}

#[test]
fn as_dockers_default_it_changes_nothing_but_for_who_is_bound() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut fleet = fleet()?;
    let machine = fleet.machine(0)?;
    apply(&fleet, &machine.on("bound"))?;
    is_as_under_runc(&machine.image)?;
    let flags = ["--label", "app=bound", "-e", PLACEHOLDER];
    let bound = Container::run(&machine.image, &flags, &["/bin/app-env"])?;
    ensure!(bound.field("{{.HostConfig.Runtime}}")? == LENIENT);
    let variable = || bound.variable("API_TOKEN")?.context("no variable");
    let first = [bound.peek(FILE)?, variable()?];
    for secret in [SECRET, TOKEN] {
        fleet.rotate(secret)?;
    }
    let second = [bound.peek(FILE)?, variable()?];
    ensure!(first[0] != second[0] && first[1] != second[1]);
    setup_asks_first(&mut fleet, &bound)?;
    fleet.process(Role::Injector, 0)?.stop()?;
    let machine = fleet.machine(0)?;
    is_as_under_runc(&machine.image).context("without the injector")?;
    let (refused, said) = Container::try_run(&machine.image, &flags, &["/bin/app-env"])?;
    ensure!(refused.is_none(), "a placeholder was started");
    ensure!(said.stderr.contains("next: "), "{}", said.stderr);
    fleet.process(Role::Injector, 0)?.start()?;
    let values = [first, second].concat();
    fleet.finish(&values, &[&bound])
}
