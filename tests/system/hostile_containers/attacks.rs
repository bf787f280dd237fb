//! Root in a container with the usual rights, against the names and directories of its secrets: links,
//! odd files and renames, before a file system is attached and while secrets rotate.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{self, Container, Image};
use keywheel_tests::manifest::{self, Selector};
use keywheel_tests::programs;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET};
use keywheel_tests::wait;

use crate::scene::{NAME, Scene};

/// What is done to the directory or to the file's name before the injector comes, and whether it gets
/// its file all the same.
struct Attack {
    app: &'static str,
    line: &'static str,
    is_served: bool,
}

/// The directory, or one above it, leads elsewhere or is none: refused.
const fn at_directory(app: &'static str, line: &'static str) -> Attack {
    Attack {
        app,
        line,
        is_served: false,
    }
}

/// Something is at the file's name: it is covered, never opened.
const fn at_name(app: &'static str, line: &'static str) -> Attack {
    Attack {
        app,
        line,
        is_served: true,
    }
}

const ATTACKS: [Attack; 11] = [
    at_directory(
        "directory-link",
        "busybox rmdir /run/secrets; ln -s $BAIT/secrets /run/secrets",
    ),
    at_directory(
        "directory-climbs",
        "busybox rmdir /run/secrets; ln -s ../../../../../..$BAIT/secrets /run/secrets",
    ),
    at_directory(
        "directory-magic",
        "busybox rmdir /run/secrets; ln -s /proc/1/cwd /run/secrets",
    ),
    at_directory(
        "directory-dangles",
        "busybox rmdir /run/secrets; ln -s $BAIT/made /run/secrets",
    ),
    at_directory("parent-link", "busybox rm -r /run; ln -s $BAIT /run"),
    at_directory(
        "directory-fifo",
        "busybox rmdir /run/secrets; busybox mkfifo /run/secrets",
    ),
    at_directory(
        "directory-device",
        "busybox rmdir /run/secrets; busybox mknod /run/secrets c 1 3",
    ),
    at_name(
        "name-link",
        "ln -s $BAIT/db_password /run/secrets/db_password",
    ),
    at_name("name-fifo", "busybox mkfifo /run/secrets/db_password"),
    at_name(
        "name-device",
        "busybox mknod /run/secrets/db_password c 1 3",
    ),
    at_name("name-directory", "busybox mkdir /run/secrets/db_password"),
];

#[test]
fn attacks_on_names_and_directories_reach_nothing_of_the_host() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut scene = Scene::set(&[("storm", STORMY)])?;
    planted_links_and_odd_files_reach_nothing(&mut scene).context("planted")?;
    a_storm_of_renames_stops_no_rotation(&mut scene).context("storm")?;
    scene.end(&[])
}

fn planted_links_and_odd_files_reach_nothing(scene: &mut Scene) -> Result<()> {
    let bait = scene.bait();
    let mut planted = Vec::new();
    for attack in &ATTACKS {
        // Nothing is bound to it yet, so it has all the time it wants.
        let container = scene.run_plain(attack.app, &["-e", &bait])?;
        container.shell(attack.line)?;
        planted.push((attack, container));
    }
    scene.bind(&ATTACKS.map(|attack| (attack.app, NAME)))?;
    for (attack, container) in &planted {
        judge(scene, attack, container)?;
    }
    scene.rotate()?;
    let served = planted.iter().filter(|(attack, _)| attack.is_served);
    for (_, container) in served.clone() {
        scene.wait_served(container, FILE)?;
    }
    // What was planted lasts over a restart, and is met at the start event.
    let again = || planted.iter().step_by(4);
    for (_, container) in again() {
        container.restart()?.ok()?;
    }
    for (attack, container) in again() {
        judge(scene, attack, container)?;
    }
    if let Some((_, container)) = planted.first() {
        is_refused_as_an_image(scene, &Image::of(container)?)?;
    }
    scene.rotate()?;
    let served: Vec<&Container> = served.map(|(_, container)| container).collect();
    scene.check(&served)
}

fn judge(scene: &Scene, attack: &Attack, container: &Container) -> Result<()> {
    if attack.is_served {
        return scene.wait_served(container, FILE);
    }
    scene.wait_refused(container, "cannot open the directory")
}

/// Under the runtime an image with a link in the directory's place starts nothing.
fn is_refused_as_an_image(scene: &Scene, image: &Image) -> Result<()> {
    let stage = &scene.stage;
    let on = Selector {
        host: &stage.host,
        image: image.digest(),
        app: "image",
    };
    let binding = manifest::file_binding("image", SECRET, &on, NAME, "none");
    stage.keywheel.apply(&binding)?;
    stage.keywheel.wait_plans()?;
    let flags = ["--runtime", &stage.runtime, "--label", "app=image"];
    let (container, said) = Container::try_run(image, &flags, &["/bin/app-idle"])?;
    ensure!(
        container.is_none(),
        "it started with a link in its directory's place"
    );
    ensure!(!said.stderr.trim().is_empty(), "refused without a word");
    Ok(())
}

/// Where the storm's secrets are: below a directory that the container may rename.
const STORMY: &str = "db_password, directory: /area/a/secrets";
/// What swaps that directory for links to the host's files and back, for ever (`tests/programs/storm.rs`): where it is
/// in the container, in which directory, how many renames are the least, and what ends it.
const STORM: &str = "/bin/storm";
const AREA: &str = "/area";
const RENAMES: u64 = 500_000;
const END: &str = "/tmp/end";
/// Rotations in the storm.
const ROTATIONS: u32 = 6;

fn a_storm_of_renames_stops_no_rotation(scene: &mut Scene) -> Result<()> {
    let program = programs::build("storm", scene.stage.keywheel.scratch())?;
    let mount = format!("{}:{STORM}:ro", program.display());
    let bait = scene.bait();
    let bait = bait.strip_prefix("BAIT=").context("no place of the bait")?;
    let least = RENAMES.to_string();
    let usual = ["--label", "app=storm", "--tmpfs", AREA, "-v", &mount];
    let words = [STORM, AREA, bait, &least, END];
    // One has its file system before its first instruction, the other one is met in the middle of it.
    let runtime = ["--runtime", &scene.stage.runtime];
    let flags = [&runtime[..], &usual].concat();
    let first = Container::run(&scene.stage.image, &flags, &words)?;
    let late = Container::run(&scene.stage.image, &usual, &words)?;
    for _ in 0..ROTATIONS {
        scene.rotate()?;
        let value = scene.value();
        wait::until_true("the value in the storm", PATIENCE, || {
            let look = "cat /area/[ab]/secrets/db_password 2>/dev/null";
            Ok(first.exec(&["sh", "-c", look])?.stdout == value)
        })?;
        docker::docker(&["restart", "-t", "0", late.id()])?.ok()?;
    }
    scene.check(&[&first, &late])?;
    for container in [&first, &late] {
        nothing_is_strange(container)?;
    }
    Ok(())
}

/// Ends a storm: so many renames, and each file, directory and mount of its own container is where it was.
fn nothing_is_strange(container: &Container) -> Result<()> {
    container.exec(&["touch", END])?.ok()?;
    wait::until_true("the storm's end", PATIENCE, || {
        Ok(container.field("{{.State.Running}}")? == "false")
    })?;
    let said = container.logs()?;
    let mut lines = said.lines();
    let line = lines.rfind(|line| line.contains("tries="));
    let line = line.context("it said nothing")?;
    ensure!(programs::count(line, "tries")? >= RENAMES, "{said}");
    ensure!(programs::count(line, "strange")? == 0, "{said}");
    Ok(())
}
