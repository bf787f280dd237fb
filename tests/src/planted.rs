//! A value that a test itself provides, for the canary of rule C1 where no
//! value can be read from a container.
//!
//! Invariant: the value follows from the server's scratch directory, so it is
//! no other test's. It reaches the client by stdin and stays in no file of the
//! test.

use std::fmt::Write as _;
use std::fs::{self, File};

use anyhow::{Result, ensure};
use sha2::{Digest as _, Sha256};

use crate::docker::Container;
use crate::keywheel::Keywheel;
use crate::places;
use crate::stage::current;
use crate::wait::{self, PATIENCE};

/// The secret that holds the planted value, unless a test names its own.
pub const PLANTED: &str = "canary/planted";
/// Bytes of the digest that are used; the value is twice as long.
const DIGEST_BYTES: usize = 16;

/// The planted value of this server: 32 bytes.
#[must_use]
pub fn value(keywheel: &Keywheel) -> String {
    let place = keywheel.scratch().path().as_os_str().as_encoded_bytes();
    let digest = Sha256::new_with_prefix("planted").chain_update(place);
    digest
        .finalize()
        .iter()
        .take(DIGEST_BYTES)
        .fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

/// Puts the planted value as the next version of a secret and waits for its rotation's end.
pub fn plant(keywheel: &Keywheel, secret: &str) -> Result<String> {
    let value = put(keywheel, secret, &["--wait"])?;
    ensure!(
        current(keywheel, secret)? >= 1,
        "{secret} did not take the planted value"
    );
    Ok(value)
}

/// Puts the planted value as the next version of a secret that no container is able to take, and waits until it is
/// current.
pub fn put_for_nobody(keywheel: &Keywheel, secret: &str) -> Result<String> {
    let before = current(keywheel, secret)?;
    let value = put(keywheel, secret, &[])?;
    wait::until_true("the planted value is current", PATIENCE, || {
        Ok(current(keywheel, secret)? > before)
    })?;
    Ok(value)
}

fn put(keywheel: &Keywheel, secret: &str, more: &[&str]) -> Result<String> {
    let value = value(keywheel);
    let path = keywheel.scratch().write("planted", &value)?;
    let stdin = File::open(&path)?;
    fs::remove_file(path)?;
    let words = ["secret", "put", secret, "--value-file", "-"];
    let words = [words.as_slice(), more].concat();
    keywheel.hear(keywheel.client(&words)?.stdin(stdin))?.ok()?;
    Ok(value)
}

/// Searches every place for the planted value; fails with the list of hits.
pub fn assert_clean(keywheel: &Keywheel, containers: &[&Container]) -> Result<()> {
    places::assert_clean(&[value(keywheel).into_bytes()], keywheel, containers)
}
