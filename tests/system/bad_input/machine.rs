//! The machine itself in trouble: Docker away, disk full.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Result;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::output::Output;
use keywheel_tests::{manifest, wait};

use crate::refusal::{
    UNAVAILABLE, assert_nothing_lost, assert_refused, keep_something, with_something,
};

/// Size of the small file system.
const DISK: &str = "24M";
/// More secrets than fit on it.
const MORE_THAN_FITS: usize = 400;
/// A file that takes the rest of the room.
const FILLER: usize = 64 << 20;

#[test]
fn docker_away_is_told_and_everything_else_works() -> Result<()> {
    let mut keywheel = Keywheel::prepare()?;
    let environment = vec![(
        "DOCKER_HOST".to_owned(),
        "unix:///nonexistent/docker.sock".to_owned(),
    )];
    keywheel.up(&Options {
        environment,
        ..Options::default()
    })?;
    let status = keywheel.cli(&["status"])?.said();
    assert!(
        status.contains("/nonexistent/docker.sock"),
        "status does not name the engine's socket: {status}"
    );
    keep_something(&keywheel)?;
    assert_nothing_lost(&keywheel)
}

#[test]
fn setup_without_docker_tells_the_next_step() -> Result<()> {
    let keywheel = with_something()?;
    let words = [
        "setup",
        "docker",
        "--yes",
        "--runtime-name",
        "keywheel-test-none",
    ];
    let said = keywheel.hear(
        keywheel
            .client(&words)?
            .env("DOCKER_HOST", "unix:///nonexistent/docker.sock"),
    )?;
    assert_refused(&said, UNAVAILABLE, &["docker"]);
    let table = fs::read_to_string("/etc/docker/daemon.json").unwrap_or_default();
    assert!(
        !table.contains("keywheel-test-none"),
        "a refused setup changed daemon.json"
    );
    assert_nothing_lost(&keywheel)
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

fn small_disk(keywheel: &Keywheel) -> Result<std::path::PathBuf> {
    let image = keywheel.scratch().join("disk.img");
    let mount = keywheel.scratch().join("disk");
    fs::create_dir(&mount)?;
    for command in [
        Command::new("truncate").args(["-s", DISK]).arg(&image),
        Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(&image)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin"),
        Command::new("mount")
            .args(["-o", "loop"])
            .arg(&image)
            .arg(&mount),
    ] {
        Output::of(command)?.ok()?;
    }
    Ok(mount)
}

#[test]
fn a_full_disk_refuses_new_work_and_loses_nothing() -> Result<()> {
    let mut keywheel = Keywheel::prepare()?;
    let mount = small_disk(&keywheel)?;
    let options = Options {
        data_dir: Some(mount.join("data")),
        ..Options::default()
    };
    keywheel.up(&options)?;
    keep_something(&keywheel)?;
    fill(&mount);
    let mut acknowledged = Vec::new();
    let mut refusal = None;
    for number in 0..MORE_THAN_FITS {
        let name = format!("test/full-{number}");
        let said = keywheel.cli(&["secret", "put", &name])?;
        if said.code != 0 {
            refusal = Some(said);
            break;
        }
        acknowledged.push(name);
    }
    let refusal = refusal.ok_or_else(|| anyhow::anyhow!("the disk never got full"))?;
    assert_refused(&refusal, UNAVAILABLE, &["disk"]);
    empty(&mount)?;
    if keywheel.exited()?.is_some() {
        keywheel.up(&options)?;
    }
    wait::until_true("work after room was made", Duration::from_secs(20), || {
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
