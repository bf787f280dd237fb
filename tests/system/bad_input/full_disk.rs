//! A full disk (a small loop-mounted file system): new work is refused, a revocation is carried out
//! from the reserve, nothing that was acknowledged is lost.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use keywheel_tests::docker;
use keywheel_tests::keywheel::{Keywheel, NOBODY, Options};
use keywheel_tests::output::Output;
use keywheel_tests::scratch::Scratch;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage};
use keywheel_tests::{manifest, wait};
use serde_json::Value;

use crate::refusal::{UNAVAILABLE, assert_nothing_lost, assert_refused, keep_something};

/// Size of the small file system: the reserve, what it needs to come back, and room to fill.
const DISK: &str = "96M";
/// Where programs about disks are.
const SYSTEM_PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";
/// More secrets than fit on it.
const MORE_THAN_FITS: usize = 400;
/// A file that takes the rest of the room.
const FILLER: usize = 128 << 20;
/// Shuts an ext4 file system down (EXT4_IOC_SHUTDOWN, log not flushed): all that follows fails.
const SHUT_DOWN: &str = "
import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587D, struct.pack('I', 2))";
/// The reason of the revocation.
const WHY: &str = "leaked while the disk was full";
/// Exit code for a denied caller.
const DENIED: i32 = 77;

/// A file system of [`DISK`] bytes; it goes with its value.
pub(crate) struct SmallDisk {
    scratch: Scratch,
}

/// Fills what is left of a file system.
fn fill(folder: &Path) {
    let chunk = vec![0u8; 1 << 16];
    for step in 0..(FILLER / chunk.len()) {
        if fs::write(folder.join(format!("filler-{step}")), &chunk).is_err() {
            break;
        }
    }
    for step in 0..64 {
        let _ = fs::write(folder.join(format!("crumb-{step}")), [0u8; 4096]);
    }
}

fn empty(folder: &Path) -> Result<()> {
    for entry in fs::read_dir(folder)?.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with("filler-") || name.starts_with("crumb-") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl SmallDisk {
    pub(crate) fn make() -> Result<Self> {
        let scratch = Scratch::make()?;
        let image = scratch.join("disk.img");
        fs::create_dir(scratch.join("disk"))?;
        for command in [
            Command::new("truncate").args(["-s", DISK]).arg(&image),
            Command::new("mkfs.ext4")
                .args(["-q", "-F", "-m", "0"])
                .arg(&image)
                .env("PATH", SYSTEM_PATH),
        ] {
            Output::of(command)?.ok()?;
        }
        let disk = Self { scratch };
        disk.mount()?;
        Ok(disk)
    }

    fn mount(&self) -> Result<()> {
        let mut mount = Command::new("mount");
        mount
            .args(["-o", "loop"])
            .arg(self.scratch.join("disk.img"));
        Output::of(mount.arg(self.folder()))?.ok()?;
        Ok(())
    }

    /// From now on every access fails with an I/O error, as that of a disk that broke.
    pub(crate) fn break_down(&self) -> Result<()> {
        Output::of(
            Command::new("python3")
                .args(["-c", SHUT_DOWN])
                .arg(self.folder()),
        )?
        .ok()?;
        Ok(())
    }

    /// A disk that works again, with what reached it before.
    pub(crate) fn mend(&self) -> Result<()> {
        // What was just started beside this test, or by a server that was killed, has what was open here until it runs;
        // what copied the machine's mounts just then has the disk itself, and whoever mounts it again gets the broken one.
        wait::until_true("nobody at a broken disk", PATIENCE, || {
            if self.is_mounted()? {
                Output::of(Command::new("umount").arg(self.folder()))?.ok()?;
            }
            let mut device = Command::new("losetup");
            device
                .arg("--associated")
                .arg(self.scratch.join("disk.img"))
                .env("PATH", SYSTEM_PATH);
            Ok(Output::of(&mut device)?.ok()?.stdout.trim().is_empty())
        })?;
        self.mount()
    }

    fn is_mounted(&self) -> Result<bool> {
        let mounts = fs::read_to_string("/proc/self/mounts")?;
        let folder = self.folder().display().to_string();
        Ok(mounts.split(' ').any(|word| word == folder))
    }

    fn folder(&self) -> PathBuf {
        self.scratch.join("disk")
    }

    /// A server whose data directory is on it.
    pub(crate) fn options(&self) -> Options {
        Options {
            data_dir: Some(self.folder().join("data")),
            ..Options::default()
        }
    }
}

/// Puts secrets until one is refused; returns what was acknowledged, and the refusal.
fn put_until_refused(keywheel: &Keywheel) -> Result<(Vec<String>, Output)> {
    let mut acknowledged = Vec::new();
    for number in 0..MORE_THAN_FITS {
        let name = format!("test/full-{number}");
        let said = keywheel.cli(&["secret", "put", &name])?;
        if said.code != 0 {
            return Ok((acknowledged, said));
        }
        acknowledged.push(name);
    }
    Err(anyhow::anyhow!("the disk never got full"))
}

/// Whether `status` warns that the reserve is in use.
fn warns_of_reserve(keywheel: &Keywheel) -> Result<bool> {
    let status = keywheel.json(&["status"])?;
    let warnings = status.get("warnings").map(Value::to_string);
    Ok(warnings.unwrap_or_default().contains("reserve in use"))
}

#[test]
fn on_a_full_disk_a_revocation_is_carried_out_and_on_record() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let disk = SmallDisk::make()?;
    let stage = Stage::set_with(&disk.options())?;
    let keywheel = &stage.keywheel;
    stage.apply_file("full", "none")?;
    keep_something(keywheel)?;
    let container = stage.run("full", &[], "/bin/app-idle")?;
    let value = stage.value_in(&container)?;
    fill(&disk.folder());
    let (acknowledged, refusal) = put_until_refused(keywheel)?;
    assert_refused(&refusal, UNAVAILABLE, &["disk"]);
    let rotate = ["rotate", SECRET];
    assert_refused(
        &keywheel.cli(&rotate)?,
        UNAVAILABLE,
        &["disk", "free space"],
    );

    let revoke = ["revoke", SECRET, "--reason", WHY, "--yes", "--wait"];
    keywheel.json(&revoke)?;
    assert_eq!(container.read(FILE)?, None, "the file is still there");
    assert!(warns_of_reserve(keywheel)?, "status tells of no reserve");
    assert_refused(
        &keywheel.cli(&rotate)?,
        UNAVAILABLE,
        &["disk", "free space"],
    );
    let denied = keywheel.hear(&mut keywheel.stranger(&["secret", "list"])?)?;
    assert_eq!(denied.code, DENIED, "{}", denied.said());
    let audit = Value::from(keywheel.stream("audit")?).to_string();
    for words in [WHY, "revoke-at-store", "remove", "denied", NOBODY] {
        assert!(audit.contains(words), "`{words}` is not on the record");
    }

    empty(&disk.folder())?;
    wait::until_true("the reserve to be whole", PATIENCE, || {
        Ok(!warns_of_reserve(keywheel)?)
    })?;
    keywheel.json(&["rotate", SECRET, "--wait"])?;
    let list = keywheel.json(&["secret", "list"])?.to_string();
    for name in &acknowledged {
        assert!(list.contains(name.as_str()), "{name} is lost");
    }
    assert_nothing_lost(keywheel)?;
    stage.finish(&[value], &[&container])
}

#[test]
fn a_full_disk_refuses_new_work_and_loses_nothing() -> Result<()> {
    let disk = SmallDisk::make()?;
    let options = disk.options();
    let mut keywheel = Keywheel::prepare()?;
    keywheel.up(&options)?;
    keep_something(&keywheel)?;
    fill(&disk.folder());
    let (acknowledged, refusal) = put_until_refused(&keywheel)?;
    assert_refused(&refusal, UNAVAILABLE, &["disk"]);
    empty(&disk.folder())?;
    assert_eq!(keywheel.exited()?, None, "a full disk ended `up`");
    wait::until_true("work after room was made", PATIENCE, || {
        Ok(keywheel
            .try_apply(&manifest::secret("test/after", &[]))?
            .code
            == 0)
    })?;
    let list = keywheel.json(&["secret", "list"])?.to_string();
    for name in &acknowledged {
        assert!(
            list.contains(name.as_str()),
            "{name} was acknowledged and is lost"
        );
    }
    assert_nothing_lost(&keywheel)?;
    keywheel.restart(&options)?;
    assert_nothing_lost(&keywheel)?;
    keywheel.kill9()
}
