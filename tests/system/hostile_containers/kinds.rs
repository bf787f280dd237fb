//! Every kind of container is served: a root that is read-only, a program that is not root, no
//! capabilities at all, an image of one file. Where the directory cannot be made, that is said.

use anyhow::{Result, ensure};
use keywheel_tests::docker::{Container, Image};
use keywheel_tests::manifest::{self, Selector};
use keywheel_tests::stage::{FILE, SECRET};

use crate::scene::{NAME, Scene};

/// For a program that runs as this user.
pub(crate) const OWNED: &str = "db_password, uid: 1234, gid: 1234";
/// A user and a group that no image has.
pub(crate) const USER: [&str; 2] = ["--user", "1234:1234"];
/// Nothing that a container could be without.
const CONFINED: [&str; 5] = [
    "--read-only",
    "--cap-drop",
    "ALL",
    "--security-opt",
    "no-new-privileges",
];

/// What it is bound under.
pub(crate) const BINDINGS: [(&str, &str); 2] = [("confined", NAME), ("owned", OWNED)];

/// Under the runtime and without it.
pub(crate) fn every_kind_of_container_is_served(scene: &mut Scene) -> Result<()> {
    let bare = Image::bare()?;
    bind_bare(scene, &bare)?;
    let stage = &scene.stage;
    let owned = [&USER[..], &CONFINED].concat();
    let wrapped = [
        stage.run("confined", &CONFINED, "/bin/app-idle")?,
        stage.run("owned", &USER, "/bin/app-idle")?,
        stage.run("owned", &owned, "/bin/app-idle")?,
        run_bare(&bare, &["--runtime", &stage.runtime])?,
        run_bare(&bare, &["--runtime", &stage.runtime, "--read-only"])?,
    ];
    for container in &wrapped {
        // It was there before the first instruction.
        ensure!(
            container.peek(FILE)? == scene.value(),
            "{} started without its file",
            container.name()
        );
    }
    // The start event serves what has the directory, or a root that it can be made in.
    let plain = [
        scene.run_plain("confined", &CONFINED)?,
        scene.run_plain("owned", &owned)?,
        run_bare(&bare, &[])?,
    ];
    for container in &plain {
        scene.wait_served(container, FILE)?;
    }
    let without = run_bare(&bare, &["--read-only"])?;
    scene.wait_refused(&without, "cannot make the directory")?;
    scene.rotate()?;
    for container in wrapped.iter().chain(&plain) {
        scene.wait_served(container, FILE)?;
    }
    for container in [&wrapped[1], &wrapped[2], &plain[1]] {
        is_its_own(scene, container)?;
    }
    scene.check(&[&wrapped[2], &wrapped[4], &plain[2], &without])
}

/// Its program reads the file, and nobody else's may.
fn is_its_own(scene: &Scene, container: &Container) -> Result<()> {
    let read = container.read(FILE)?;
    ensure!(read.as_deref() == Some(scene.value()), "it reads no value");
    let about = container.shell("stat -L -c '%a %u %g' /run/secrets/db_password")?;
    ensure!(about.stdout.trim() == "400 1234 1234", "{}", about.stdout);
    Ok(())
}

fn bind_bare(scene: &Scene, bare: &Image) -> Result<()> {
    let on = Selector {
        host: &scene.stage.host,
        image: bare.digest(),
        app: "bare",
    };
    let binding = manifest::file_binding("bare", SECRET, &on, NAME, "none");
    scene.stage.keywheel.apply(&binding)?;
    scene.stage.keywheel.wait_plans()
}

fn run_bare(bare: &Image, flags: &[&str]) -> Result<Container> {
    let words = [&["--label", "app=bare"], flags].concat();
    Container::run(bare, &words, &["/busybox", "sleep", "600"])
}
