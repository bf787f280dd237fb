//! What a fake cache keeps in a file, so that several programs of one test share it: versions, what was
//! destroyed, and provided values. One line each, in the clear; the file is replaced as a whole.

use std::fmt::Write as _;
use std::path::Path;

use keywheel_core::id::{RotationId, SecretId};

use super::Kept;

const VERSION: &str = "version";
const DESTROYED: &str = "destroyed";
const STASHED: &str = "stashed";

/// What the file has takes the place of what is in memory.
pub(super) fn read(file: &Path, kept: &mut Kept) {
    let text = std::fs::read_to_string(file).unwrap();
    kept.versions.clear();
    kept.destroyed.clear();
    kept.stash.clear();
    for line in text.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        match words.as_slice() {
            [VERSION, secret, version, token, value] => {
                let row = (token_of(token), bytes(value));
                kept.versions.insert(place(secret, version), row);
            }
            [DESTROYED, secret, version] => {
                kept.destroyed.insert(place(secret, version));
            }
            [STASHED, token, value] => {
                kept.stash.insert(token_of(token), bytes(value));
            }
            _ => panic!("{line} is no line of a fake cache"),
        }
    }
}

/// A program that is killed leaves all of it, or what was there before.
pub(super) fn write(file: &Path, kept: &Kept) {
    let mut text = String::new();
    for ((secret, version), (token, value)) in &kept.versions {
        let value = hex(value);
        writeln!(text, "{VERSION} {secret} {version} {token} {value}").unwrap();
    }
    for (secret, version) in &kept.destroyed {
        writeln!(text, "{DESTROYED} {secret} {version}").unwrap();
    }
    for (token, value) in &kept.stash {
        writeln!(text, "{STASHED} {token} {}", hex(value)).unwrap();
    }
    let new = file.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, file).unwrap();
}

fn place(secret: &str, version: &str) -> (SecretId, u64) {
    (SecretId::parse(secret).unwrap(), version.parse().unwrap())
}

fn token_of(text: &str) -> RotationId {
    RotationId::parse(text).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(2 * bytes.len());
    for byte in bytes {
        write!(text, "{byte:02x}").unwrap();
    }
    text
}

fn bytes(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2);
    pairs
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}
