//! Lives and names of containers: killed while they are served, made again under the name of another
//! one, renamed, replaced, paused. Each is served by what it is, and leaves nothing.

use std::fs;
use std::path::Path;
use std::process::{Child, Command};
use std::thread;

use anyhow::{Context as _, Result, anyhow, ensure};
use keywheel_tests::audited::{each_change_is_audited_once, times};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::Options;
use keywheel_tests::output::Output;
use keywheel_tests::scratch::unique;
use keywheel_tests::stage::{FILE, PATIENCE};
use keywheel_tests::{places, wait};

use crate::kinds;
use crate::scene::{NAME, SOURCE, Scene};

/// How long an attach stands still, so that it is met in the middle.
const STANDS: &str = "delay:5000";
/// Where it does within a create.
const ATTACH: &str = "injector.before_attach";
/// What the real runtime writes when its create is done, in a directory that is named after the container.
const PID_FILE: &str = "init.pid";
/// The number that the kernel gave last; the next process has the next one that is free.
const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";

#[test]
fn lives_names_and_kinds_of_containers_are_served_and_leave_nothing() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let bindings = ["short", "named", "composed"].map(|app| (app, NAME));
    let mut scene = Scene::set(&[&bindings[..], &kinds::BINDINGS].concat())?;
    stand_still_once(&mut scene)?;
    a_container_killed_while_it_is_served_leaves_nothing(&mut scene).context("killed")?;
    a_name_is_no_identity(&mut scene).context("names")?;
    kinds::every_kind_of_container_is_served(&mut scene).context("kinds")?;
    scene.end(&[])
}

/// From now on the first attach under way, and the first within a create, stand still for a while.
fn stand_still_once(scene: &mut Scene) -> Result<()> {
    let gate = scene.stage.keywheel.scratch().join("gate");
    let failpoints = format!(
        "injector.after_state_write={STANDS};{ATTACH}={STANDS};when={}",
        gate.display()
    );
    scene.stage.keywheel.restart(&Options {
        failpoints: Some(failpoints),
        ..Options::default()
    })?;
    fs::write(&gate, "")?;
    Ok(())
}

fn a_container_killed_while_it_is_served_leaves_nothing(scene: &mut Scene) -> Result<()> {
    let plain = killed_while_it_runs(scene)?;
    let created = killed_within_its_create(scene)?;
    scene.rotate()?;
    for container in [&plain, &created] {
        scene.wait_served(container, FILE)?;
    }
    scene.check(&[&plain, &created])
}

/// Between the injector's note of it and the mount. It is served when it is started again.
fn killed_while_it_runs(scene: &Scene) -> Result<Container> {
    let container = scene.run_plain("short", &[])?;
    let run = scene.stage.keywheel.run_dir();
    let state = run.join("state").join(format!("{}.json", container.id()));
    wait::until_true("the note of its file system", PATIENCE, || {
        Ok(state.exists())
    })?;
    docker::docker(&["kill", container.id()])?.ok()?;
    scene.wait_left(container.id())?;
    docker::docker(&["start", container.id()])?.ok()?;
    scene.wait_served(&container, FILE)?;
    Ok(container)
}

/// Under the runtime, when its first process is there and its files are not. The number of that process is another's
/// when the injector looks it up.
fn killed_within_its_create(scene: &Scene) -> Result<Container> {
    let stage = &scene.stage;
    let flags = ["--runtime", &stage.runtime, "--label", "app=short"];
    let container = Container::create(&stage.image, &flags, &["/bin/app-idle"])?;
    let first = thread::scope(|scope| {
        let start = scope.spawn(|| docker::docker(&["start", container.id()]));
        let look = || first_process(scene, &container);
        let other = wait::until("its first process", PATIENCE, look)
            .and_then(|pid| replaced(pid, || start.is_finished()));
        let said = start.join().map_err(|_| anyhow!("docker start panicked"))?;
        other?.check()?;
        said
    })?;
    ensure!(first.code != 0, "it started although it was killed");
    // It comes back by itself, since nothing is missing; a person who is quicker gets the same.
    docker::docker(&["start", container.id()])?.ok()?;
    ensure!(container.peek(FILE)? == scene.value(), "it has no file");
    Ok(container)
}

/// The process that a create has made, once the injector is asked for its files.
fn first_process(scene: &Scene, container: &Container) -> Result<Option<u32>> {
    if !scene.stage.keywheel.log().contains(ATTACH) {
        return Ok(None);
    }
    let roots = container.engine().state_roots();
    let roots = roots.iter();
    let mut folders = roots.flat_map(|root| places::paths_named(root, container.id()));
    let text = folders.find_map(|place| fs::read_to_string(place.join(PID_FILE)).ok());
    text.map(|text| Ok(text.trim().parse()?)).transpose()
}

/// A process of nobody's container, in a mount namespace of its own.
struct Bystander(Child);

impl Bystander {
    fn begin() -> Result<Self> {
        let mut command = Command::new("unshare");
        Ok(Self(command.args(["-m", "sleep", "600"]).spawn()?))
    }

    /// It runs, and nothing was mounted into it.
    fn check(mut self) -> Result<()> {
        ensure!(self.0.try_wait()?.is_none(), "it was ended");
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", self.0.id()))?;
        ensure!(!mounts.contains(SOURCE), "it was given a container's files");
        Ok(())
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills a process, and has another one with its number, while what it was made for is under way.
fn replaced(pid: u32, is_over: impl Fn() -> bool) -> Result<Bystander> {
    Output::of(Command::new("kill").args(["-KILL", &pid.to_string()]))?.ok()?;
    let before = pid.checked_sub(1).context("no process has the number 0")?;
    let other = wait::until("another process with its number", PATIENCE, || {
        if Path::new(&format!("/proc/{pid}")).exists() {
            return Ok(None);
        }
        fs::write(LAST_PID, before.to_string())?;
        let other = Bystander::begin()?;
        Ok((other.0.id() == pid).then_some(other))
    })?;
    ensure!(!is_over(), "the start ended before: it proves nothing");
    Ok(other)
}

/// Labels as Compose sets them, for one replica.
const COMPOSED: [&str; 6] = [
    "--label",
    "com.docker.compose.project=shop",
    "--label",
    "com.docker.compose.service=web",
    "--label",
    "com.docker.compose.container-number=1",
];

fn a_name_is_no_identity(scene: &mut Scene) -> Result<()> {
    let named = same_name_again(scene)?;
    let replaced = replaced_by_compose(scene)?;
    a_paused_container_is_served_meanwhile(scene, &named)?;
    once_each(scene, [&named, &replaced])?;
    scene.check(&[&named, &replaced])
}

/// Neither a new name nor a pause nor who was replaced is a change of what a container holds: it was given its secret
/// when it was started, once, and every rotation since is on record once.
fn once_each(scene: &Scene, containers: [&Container; 2]) -> Result<()> {
    let keywheel = &scene.stage.keywheel;
    let ids = containers.map(Container::id);
    each_change_is_audited_once(keywheel, &ids)?;
    for id in ids {
        let given = times(keywheel, id, "inject")?;
        ensure!(given == 1, "{id} was given its secret {given} times");
    }
    Ok(())
}

fn a_paused_container_is_served_meanwhile(scene: &mut Scene, container: &Container) -> Result<()> {
    docker::docker(&["pause", container.id()])?.ok()?;
    scene.rotate()?;
    let seen = container.peek(FILE)?;
    docker::docker(&["unpause", container.id()])?.ok()?;
    ensure!(seen == scene.value(), "it was left out while it was paused");
    let read = container.read(FILE)?;
    ensure!(read.as_deref() == Some(scene.value()), "it reads no value");
    Ok(())
}

/// Removed and made again under its name, then without its label, then renamed.
fn same_name_again(scene: &mut Scene) -> Result<Container> {
    let name = unique("kwt-again");
    let label = ["--name", &name];
    let first = scene.stage.run("named", &label, "/bin/app-idle")?;
    scene.wait_served(&first, FILE)?;
    let old = first.id().to_owned();
    drop(first);
    let stranger = scene.stage.run("nobody", &label, "/bin/app-idle")?;
    ensure!(
        stranger.read(FILE)?.is_none(),
        "a name alone was granted a secret"
    );
    drop(stranger);
    let second = scene.stage.run("named", &label, "/bin/app-idle")?;
    ensure!(second.id() != old, "it is the same container");
    scene.wait_left(&old)?;
    scene.rotate()?;
    scene.wait_served(&second, FILE)?;
    docker::docker(&["rename", second.id(), &unique("kwt-renamed")])?.ok()?;
    scene.rotate()?;
    scene.wait_served(&second, FILE)?;
    Ok(second)
}

/// The next one is there before the one that it replaces goes.
fn replaced_by_compose(scene: &mut Scene) -> Result<Container> {
    let old = scene.stage.run("composed", &COMPOSED, "/bin/app-idle")?;
    let next = scene.stage.run("composed", &COMPOSED, "/bin/app-idle")?;
    scene.rotate()?;
    for container in [&old, &next] {
        scene.wait_served(container, FILE)?;
    }
    let id = old.id().to_owned();
    drop(old);
    scene.wait_left(&id)?;
    scene.rotate()?;
    scene.wait_served(&next, FILE)?;
    Ok(next)
}
