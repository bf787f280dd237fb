//! A deployment of one machine that people unseal by shares.
//!
//! Shares are secrets: what shows them is not kept with what the client said, and none is an argument. They stay in no
//! file of the test.

use std::fs::{self, File};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::keywheel::Keywheel;
use crate::output::Output;
use crate::stage::items;
use crate::wait::{self, PATIENCE};

/// Makes a data directory that two of three shares unseal, once; gives the shares, which are shown this once.
pub fn init(keywheel: &Keywheel, data: &Path, key: &Path) -> Result<Vec<String>> {
    let (data, key) = (data.display().to_string(), key.display().to_string());
    let words = [
        "init",
        "--single",
        "--out",
        data.as_str(),
        "--unseal-key-file",
        key.as_str(),
        "--unseal",
        "shamir:2/3",
        "-o",
        "json",
    ];
    let made = Output::of(&mut keywheel.client(&words)?)?.ok()?.json()?;
    let shares = items(&made["shares"]);
    let shares: Option<Vec<String>> = shares
        .iter()
        .map(|share| share.as_str().map(str::to_owned))
        .collect();
    let again = Output::of(&mut keywheel.client(&words)?)?;
    ensure!(again.code == 73, "it is made once: {}", again.said());
    shares
        .filter(|shares| shares.len() == 3)
        .context("three shares")
}

/// `keywheel unseal` as a person at a terminal of their own does it.
pub fn give(keywheel: &Keywheel, share: &str) -> Result<Output> {
    give_by(keywheel, keywheel.client(&["unseal", "-o", "json"])?, share)
}

/// The same by a changed client command.
pub fn give_by(keywheel: &Keywheel, mut command: Command, share: &str) -> Result<Output> {
    let file = keywheel.scratch().join("typed");
    fs::write(&file, share)?;
    command.stdin(File::open(&file)?);
    let said = keywheel.hear(&mut command)?;
    fs::remove_file(&file)?;
    Ok(said)
}

/// Waits until `status` says whether it is sealed.
pub fn wait_sealed(keywheel: &Keywheel, sealed: bool) -> Result<()> {
    wait::until_true("status to say so", PATIENCE, || {
        Ok(keywheel.json(&["status"])?["sealed"] == Value::Bool(sealed))
    })
}

/// Unseals it after a start, by two shares given one after the other.
pub fn open(keywheel: &Keywheel, shares: [&str; 2]) -> Result<()> {
    wait_sealed(keywheel, true)?;
    for share in shares {
        give(keywheel, share)?.ok()?;
    }
    wait_sealed(keywheel, false)
}
