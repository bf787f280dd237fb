//! What the tap kept: envelopes are found by the one member that holds them.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// How an envelope begins on the wire, whatever message it travels in.
const BEGIN: &[u8] = b"\"sealed\":\"";

/// All envelopes, once each.
pub(crate) fn envelopes(folder: &Path) -> Result<Vec<Vec<u8>>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let bytes = fs::read(entry?.path())?;
        for at in all_at(&bytes, BEGIN) {
            let text = bytes.get(at + BEGIN.len()..).unwrap_or_default();
            let end = text.iter().position(|byte| *byte == b'"');
            let text = text.get(..end.context("an envelope without an end")?);
            found.push(STANDARD.decode(text.unwrap_or_default())?);
        }
    }
    found.sort();
    found.dedup();
    Ok(found)
}

/// Every place at which these words begin.
pub(crate) fn all_at(bytes: &[u8], words: &[u8]) -> impl Iterator<Item = usize> {
    let windows = bytes.windows(words.len()).enumerate();
    windows.filter_map(move |(at, window)| (window == words).then_some(at))
}
