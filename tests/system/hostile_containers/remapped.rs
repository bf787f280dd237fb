//! A Docker daemon that maps the users of its containers to others (`userns-remap`): files are there with the
//! owner and mode that the container is to see, are replaced and withdrawn as anywhere else.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::apart::Shape;
use keywheel_tests::docker::{self, Container};
use keywheel_tests::fleet::Fleet;
use keywheel_tests::manifest;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, wait_current};
use keywheel_tests::wait;

use crate::kinds::{OWNED, USER};
use crate::scene::NAME;

/// A user that every machine has and that runs nothing.
const REMAPPED: &str = "daemon";
/// Ids that nobody else was given.
const RANGE: &str = "daemon:1000000000:65536";
/// Where a daemon looks for the ids that a user may give to others.
const FILES: [&str; 2] = ["/etc/subuid", "/etc/subgid"];
/// Owner and group of the file in the container that runs as this user.
const OWNER: u32 = 1234;

/// Ids for the daemon's containers, until they are taken back. Daemons that run already read them no more.
struct SubordinateIds {
    files: Vec<Kept>,
}

/// A file with our line, and whether it was there before.
struct Kept {
    path: PathBuf,
    was_there: bool,
}

impl SubordinateIds {
    fn grant() -> Result<Self> {
        let mut granted = Self { files: Vec::new() };
        for path in FILES.map(Path::new) {
            let was_there = path.exists();
            let text = fs::read_to_string(path).unwrap_or_default();
            granted.files.push(Kept {
                path: path.to_owned(),
                was_there,
            });
            // Of a run that was killed.
            if text.lines().any(|line| line == RANGE) {
                continue;
            }
            let separator = match text.is_empty() || text.ends_with('\n') {
                true => "",
                false => "\n",
            };
            let mut file = OpenOptions::new().create(true).append(true).open(path)?;
            file.write_all(format!("{separator}{RANGE}\n").as_bytes())?;
        }
        Ok(granted)
    }
}

impl Kept {
    fn take_back(&self) -> Result<()> {
        let text = fs::read_to_string(&self.path)?;
        let others = text.lines().filter(|line| *line != RANGE);
        let rest: String = others.map(|line| format!("{line}\n")).collect();
        match rest.is_empty() && !self.was_there {
            true => Ok(fs::remove_file(&self.path)?),
            false => Ok(fs::write(&self.path, rest)?),
        }
    }
}

impl Drop for SubordinateIds {
    #[expect(
        clippy::print_stderr,
        reason = "libtest shows it for failed tests only"
    )]
    fn drop(&mut self) {
        for kept in &self.files {
            if let Err(error) = kept.take_back() {
                eprintln!(
                    "harness: {RANGE} stays in {}: {error:#}",
                    kept.path.display()
                );
            }
        }
    }
}

/// The id on the host that root in a container is.
fn outside(container: &Container, map: &str) -> Result<u32> {
    let ranges = fs::read_to_string(format!("/proc/{}/{map}", container.pid()?))?;
    let range = ranges.lines().find_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("0")).then(|| words.next()).flatten()
    });
    Ok(range.context("root is nobody")?.parse()?)
}

/// A container's program reads the value, sees itself as the owner, and is on the host who it was mapped to.
fn is_its_own(container: &Container, owner: u32, value: &str) -> Result<()> {
    let read = container.read(FILE)?;
    ensure!(read.as_deref() == Some(value), "it reads no current value");
    let about = container.shell("stat -L -c '%a %u %g' /run/secrets/db_password")?;
    let expected = format!("400 {owner} {owner}");
    ensure!(about.stdout.trim() == expected, "{}", about.stdout);
    let roots = [
        outside(container, "uid_map")?,
        outside(container, "gid_map")?,
    ];
    ensure!(roots.iter().all(|id| *id != 0), "its users are the host's");
    let file = fs::metadata(format!("/proc/{}/root{FILE}", container.pid()?))?;
    let expected = roots.map(|root| root + owner);
    ensure!([file.uid(), file.gid()] == expected, "{file:?}");
    Ok(())
}

#[test]
fn a_daemon_that_remaps_users_is_served_as_any_other() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let _ids = SubordinateIds::grant()?;
    let fleet = Fleet::set(Shape {
        own_engines: true,
        userns_remap: Some(REMAPPED),
        ..Shape::default()
    })?;
    let machine = fleet.machine(0)?;
    let mut text = manifest::secret(SECRET, &[]);
    for (app, file) in [("root", NAME), ("owned", OWNED)] {
        text += &manifest::file_binding(app, SECRET, &machine.on(app), file, "none");
    }
    fleet.keywheel.apply(&text)?;
    wait_current(&fleet.keywheel, SECRET, 1)?;
    fleet.keywheel.wait_plans()?;
    let root = machine.run("root", &[], "/bin/app-idle")?;
    let owned = machine.run("owned", &USER, "/bin/app-idle")?;
    let first = root.peek(FILE)?;
    // Without the runtime, by the start event.
    let label = ["--label", "app=root"];
    let plain = Container::run(&machine.image, &label, &["/bin/app-idle"])?;
    wait::until_true("the file", PATIENCE, || Ok(plain.peek(FILE)? == first))?;
    let all = [(&root, 0), (&owned, OWNER), (&plain, 0)];
    for (container, owner) in all {
        is_its_own(container, owner, &first).context(container.name().to_owned())?;
    }

    fleet.rotate(SECRET)?;
    let second = root.peek(FILE)?;
    ensure!(first != second, "it was not replaced");
    for (container, owner) in all {
        is_its_own(container, owner, &second).context(container.name().to_owned())?;
    }

    let words = ["revoke", SECRET, "--reason", "test", "--yes", "--wait"];
    fleet.keywheel.json(&words)?;
    for (container, _) in all {
        ensure!(container.read(FILE)?.is_none(), "a revoked file is left");
    }
    fleet.finish(&[first, second], &all.map(|(container, _)| container))
}
