//! Root in a container against the mount of its secrets: with the usual rights nothing works; with all
//! of them it harms itself alone, and what it hides from itself is refused instead of counted.

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::docker::{self, Container};
use keywheel_tests::keywheel::Options;
use keywheel_tests::stage::{FILE, PATIENCE};
use keywheel_tests::{manifest, wait};

use crate::scene::{NAME, Scene};

/// What root tries with the rights that Docker gives it. All of it has to fail.
const TRIED: [&str; 16] = [
    "mount -o remount,rw /run/secrets",
    "mount -o remount,bind,rw /run/secrets",
    "mount -t tmpfs cover /run/secrets",
    "mount -t tmpfs cover /run",
    "mount --bind /tmp /run/secrets",
    "umount /run/secrets",
    "umount -l /run/secrets",
    "echo x > /run/secrets/db_password",
    "touch /run/secrets/new",
    "busybox rm /run/secrets/db_password",
    "busybox chmod 777 /run/secrets",
    "ln -s $BAIT/db_password /run/secrets/link",
    "busybox mkfifo /run/secrets/fifo",
    "busybox mknod /run/secrets/device c 1 3",
    "busybox mkdir /run/secrets/directory",
    "busybox dd if=/dev/zero of=/run/secrets/fill bs=1024 count=1",
];

/// What a privileged container does to itself, and what becomes of it.
struct Harm {
    does: &'static str,
    /// Words of the refusal; none when it gets the next value all the same.
    refused: Option<&'static str>,
    /// After this the next try serves it; none when only a restart helps.
    undo: Option<&'static str>,
    /// Whether the value of before is where it was meanwhile.
    keeps: bool,
}

const fn served(does: &'static str) -> Harm {
    Harm {
        does,
        refused: None,
        undo: None,
        keeps: false,
    }
}

/// The right to mount. Not all of `--privileged`: that wants rights which a machine may not have.
const RIGHTS: [&str; 6] = [
    "--cap-add",
    "SYS_ADMIN",
    "--security-opt",
    "seccomp=unconfined",
    "--security-opt",
    "apparmor=unconfined",
];
/// Another secret than the one under attack.
const OTHER: &str = "test/other";
/// A file below a directory that its container may rename, and where it is.
const MOVABLE: &str = "db_password, directory: /area/a/secrets";
const MOVED: &str = "/area/a/secrets/db_password";
const FULL: &str = "the secret file system is full";

const HARMS: [Harm; 9] = [
    Harm {
        does: "mount -o remount,bind,rw /run/secrets && \
               busybox dd if=/dev/zero of=/run/secrets/fill bs=1048576 count=32; true",
        refused: Some(FULL),
        undo: Some("busybox rm -f /run/secrets/fill"),
        keeps: true,
    },
    Harm {
        does: "mount -o remount,bind,rw /run/secrets || exit 1; i=0; \
               while [ $i -lt 1100 ] && echo -n > /run/secrets/f$i; do i=$((i+1)); done; true",
        refused: Some(FULL),
        undo: Some("busybox rm -f /run/secrets/f*"),
        keeps: true,
    },
    // What stands in the place of a file is taken away, with what is in it and not where that leads.
    served(
        "mount -o remount,bind,rw /run/secrets && busybox rm /run/secrets/db_password && \
         busybox mkdir /run/secrets/db_password && \
         ln -s $BAIT/db_password $BAIT/secrets /run/secrets/db_password",
    ),
    Harm {
        does: "mount -t tmpfs cover /run/secrets",
        refused: Some("is covered by another mount"),
        undo: Some("umount /run/secrets"),
        keeps: false,
    },
    Harm {
        does: "mount -t tmpfs cover /run",
        refused: Some("is covered by another mount"),
        undo: Some("umount /run"),
        keeps: false,
    },
    Harm {
        does: "umount /run/secrets",
        refused: Some("was unmounted"),
        undo: None,
        keeps: false,
    },
    served(
        "mount -o remount,bind,rw /run/secrets && busybox rm /run/secrets/db_password && \
         ln -s $BAIT/db_password /run/secrets/db_password && i=0 && \
         while [ $i -lt 40 ]; do ln -s $BAIT/db_password /run/secrets/.kw-$i; i=$((i+1)); done",
    ),
    served(
        "mount -o remount,bind,rw /run/secrets && busybox rm /run/secrets/db_password && \
         busybox mkfifo /run/secrets/db_password",
    ),
    // Nothing can be started inside after this one.
    served("mount -t tmpfs cover /proc"),
];

#[test]
fn root_inside_changes_nothing_and_what_privilege_hides_is_refused() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let bindings = [("rights", NAME), ("privileged", NAME), ("moved", MOVABLE)];
    let mut scene = Scene::set(&bindings)?;
    let bait = scene.bait();
    let usual = scene.stage.run("rights", &["-e", &bait], "/bin/app-idle")?;
    nothing_works(&scene, &usual)?;
    let moved = scene.run_plain("moved", &["--tmpfs", "/area"])?;
    scene.wait_served(&moved, MOVED)?;
    let mut harmed = Vec::new();
    for harm in &HARMS {
        let flags = [&RIGHTS[..], &["-e", &bait]].concat();
        let container = scene.stage.run("privileged", &flags, "/bin/app-idle")?;
        scene.wait_served(&container, FILE)?;
        container.shell(harm.does)?;
        harmed.push((harm, container));
    }
    let before = scene.value().to_owned();
    scene.begin_rotation()?;
    scene.wait_served(&usual, FILE)?;
    for (harm, container) in &harmed {
        judge(&scene, harm, container, &before)?;
    }
    moved.shell("busybox mv /area/a /area/b")?;
    a_restart_of_the_injector_holds_up_nobody_else(&mut scene)?;
    scene.wait_refused(&moved, "or were moved")?;
    moved.shell("busybox mv /area/b /area/a")?;
    let last = undone(harmed)?;
    for container in &last {
        scene.wait_served(container, FILE)?;
    }
    scene.rotate_again()?;
    scene.wait_served(&moved, MOVED)?;
    let containers: Vec<&Container> = last.iter().chain([&usual]).collect();
    for container in &containers {
        scene.wait_served(container, FILE)?;
    }
    scene.end(&containers)
}

/// While some hide their files from it, and one took them elsewhere.
fn a_restart_of_the_injector_holds_up_nobody_else(scene: &mut Scene) -> Result<()> {
    scene.stage.keywheel.restart(&Options::default())?;
    let on = scene.stage.on("witness");
    let binding = manifest::file_binding("other", OTHER, &on, "other", "none");
    scene
        .stage
        .keywheel
        .apply(&(manifest::secret(OTHER, &[]) + &binding))?;
    let read = || scene.witness.peek("/run/secrets/other");
    let first = wait::until("the other file", PATIENCE, || read().map(Some))?;
    // It ends when the host has said, for all of its containers, that none holds the old version.
    scene.stage.rotate(OTHER)?;
    let second = read()?;
    ensure!(first != second, "the witness was not reached");
    scene.keep(first);
    scene.keep(second);
    Ok(())
}

/// Those that are served again once what they did is undone; the others go.
fn undone(harmed: Vec<(&Harm, Container)>) -> Result<Vec<Container>> {
    let mut last = Vec::new();
    for (harm, container) in harmed {
        match (harm.refused, harm.undo) {
            (None, _) => last.push(container),
            // It goes, and with it what it was waited for.
            (Some(_), None) => drop(container),
            (Some(_), Some(undo)) => {
                container.shell(undo)?;
                last.push(container);
            }
        }
    }
    Ok(last)
}

fn nothing_works(scene: &Scene, container: &Container) -> Result<()> {
    for line in TRIED {
        let said = container.exec(&["sh", "-c", line])?;
        ensure!(said.code != 0, "`{line}` worked");
    }
    scene.wait_served(container, FILE)
}

fn judge(scene: &Scene, harm: &Harm, container: &Container, before: &str) -> Result<()> {
    let context = || format!("after `{}`", harm.does);
    let Some(words) = harm.refused else {
        return scene.wait_served(container, FILE).with_context(context);
    };
    scene.wait_refused(container, words).with_context(context)?;
    if harm.keeps {
        let kept = container.peek(FILE).with_context(context)?;
        ensure!(kept == before, "the value of before is not intact");
    }
    Ok(())
}
