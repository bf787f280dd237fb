//! The canary of rule C1: plaintexts in every encoding in which they might
//! leak, searched in bytes and in file trees.
//!
//! It finds a value also inside longer base64 text, at any alignment. It does
//! not look into compressed files: nothing of ours compresses.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::io::{ErrorKind, Read};
use std::path::Path;

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

/// A shorter plaintext would be found by chance.
const SHORTEST: usize = 12;
/// How much of a stream is looked at in one go.
const CHUNK: usize = 1 << 20;
/// How many pairs of bytes there are.
const PAIRS: usize = 1 << 16;

/// One place where a plaintext was found. It never holds the plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Where.
    pub place: String,
    /// In which encoding.
    pub encoding: &'static str,
}

/// Plaintexts to look for.
#[derive(Debug)]
pub struct Canary {
    /// By their first two bytes.
    needles: BTreeMap<[u8; 2], Vec<(&'static str, Vec<u8>)>>,
    /// For each pair of bytes, whether one begins so: nearly all bytes of all places are looked up here alone.
    begins: Vec<bool>,
    longest: usize,
}

impl Canary {
    /// Looks for these plaintexts.
    pub fn new(plaintexts: &[Vec<u8>]) -> Result<Self> {
        let mut canary = Self {
            needles: BTreeMap::new(),
            begins: vec![false; PAIRS],
            longest: 0,
        };
        for plaintext in plaintexts {
            ensure!(
                plaintext.len() >= SHORTEST,
                "a canary of {} bytes is too short",
                plaintext.len()
            );
            for (encoding, needle) in encodings(plaintext) {
                canary.longest = canary.longest.max(needle.len());
                if let Some(first) = needle.first_chunk::<2>() {
                    let pair = usize::from(u16::from_be_bytes(*first));
                    if let Some(begins) = canary.begins.get_mut(pair) {
                        *begins = true;
                    }
                    canary
                        .needles
                        .entry(*first)
                        .or_default()
                        .push((encoding, needle));
                }
            }
        }
        ensure!(
            canary.longest > 0,
            "a canary without a plaintext finds nothing"
        );
        Ok(canary)
    }

    /// Looks through bytes.
    #[must_use]
    pub fn search(&self, place: &str, bytes: &[u8]) -> Vec<Hit> {
        let mut hits: Vec<Hit> = Vec::new();
        // This loop sees some gigabytes in a run of all suites, without optimisation: it is plain on purpose.
        let begins = self.begins.as_slice();
        let (mut pair, mut end) = (0, 0);
        for byte in bytes {
            end += 1;
            pair = ((pair << 8) | usize::from(*byte)) & (PAIRS - 1);
            if begins[pair] && end > 1 {
                let rest = bytes.get(end - 2..).unwrap_or_default();
                self.compare(place, rest, &mut hits);
            }
        }
        hits
    }

    /// Adds what is at the beginning of these bytes.
    fn compare(&self, place: &str, bytes: &[u8], hits: &mut Vec<Hit>) {
        let needles = bytes
            .first_chunk::<2>()
            .and_then(|first| self.needles.get(first));
        let needles = needles.into_iter().flatten();
        for (encoding, _) in needles.filter(|(_, needle)| bytes.starts_with(needle)) {
            let hit = Hit {
                place: place.to_owned(),
                encoding,
            };
            if !hits.contains(&hit) {
                hits.push(hit);
            }
        }
    }

    /// Looks through a stream without holding the whole of it.
    pub fn search_stream(&self, place: &str, mut stream: impl Read) -> Result<Vec<Hit>> {
        let mut hits = Vec::new();
        let mut window: Vec<u8> = Vec::with_capacity(CHUNK + self.longest);
        loop {
            let mut chunk = Vec::new();
            stream.by_ref().take(CHUNK as u64).read_to_end(&mut chunk)?;
            if chunk.is_empty() {
                return Ok(hits);
            }
            window.extend_from_slice(&chunk);
            for hit in self.search(place, &window) {
                if !hits.contains(&hit) {
                    hits.push(hit);
                }
            }
            let keep = window.len().saturating_sub(self.longest);
            window.drain(..keep);
        }
    }

    /// Looks through names and contents of a file tree. Links are not followed;
    /// a container's `rootfs` is left to `docker export`.
    pub fn search_tree(&self, top: &Path) -> Result<Vec<Hit>> {
        let mut hits = self.search("a file's name", top.as_os_str().as_encoded_bytes());
        let Ok(about) = fs::symlink_metadata(top) else {
            return Ok(hits);
        };
        if about.is_file() {
            // A file may vanish between the listing and the look.
            if let Ok(file) = fs::File::open(top) {
                hits.extend(self.search_stream(&top.display().to_string(), file)?);
            }
        } else if about.is_dir() && !top.ends_with("rootfs") {
            let entries = match fs::read_dir(top) {
                // So may a directory.
                Err(error) if error.kind() == ErrorKind::NotFound => return Ok(hits),
                entries => entries?,
            };
            for entry in entries.flatten() {
                hits.extend(self.search_tree(&entry.path())?);
            }
        }
        Ok(hits)
    }
}

fn encodings(plaintext: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut all = vec![
        ("raw", plaintext.to_vec()),
        ("hex", hex(plaintext, false).into_bytes()),
        ("hex upper case", hex(plaintext, true).into_bytes()),
        ("percent", percent(plaintext, false).into_bytes()),
        (
            "percent of every byte",
            percent(plaintext, true).into_bytes(),
        ),
        (
            "utf-16 le",
            plaintext.iter().flat_map(|byte| [*byte, 0]).collect(),
        ),
        (
            "utf-16 be",
            plaintext.iter().flat_map(|byte| [0, *byte]).collect(),
        ),
    ];
    if let Ok(text) = std::str::from_utf8(plaintext) {
        let escaped = serde_json::Value::from(text).to_string();
        all.push(("json", escaped.trim_matches('"').as_bytes().to_vec()));
    }
    for alignment in 0..3 {
        all.push((
            "base64",
            inside_base64(plaintext, alignment, |bytes| STANDARD_NO_PAD.encode(bytes)),
        ));
        all.push((
            "base64 url",
            inside_base64(plaintext, alignment, |bytes| URL_SAFE_NO_PAD.encode(bytes)),
        ));
    }
    all
}

/// The characters of base64 that this plaintext alone decides, when `alignment`
/// other bytes stand before it.
fn inside_base64(plaintext: &[u8], alignment: usize, encode: impl Fn(&[u8]) -> String) -> Vec<u8> {
    let mut bytes = vec![0u8; alignment];
    bytes.extend_from_slice(plaintext);
    let text = encode(&bytes);
    let from = (alignment * 8).div_ceil(6);
    let to = bytes.len() * 8 / 6;
    text.as_bytes().get(from..to).unwrap_or_default().to_vec()
}

fn hex(bytes: &[u8], upper: bool) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = if upper {
            write!(text, "{byte:02X}")
        } else {
            write!(text, "{byte:02x}")
        };
        text
    })
}

fn percent(bytes: &[u8], every: bool) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let plain = byte.is_ascii_alphanumeric() || b"-._~".contains(byte);
        if plain && !every {
            text.push(char::from(*byte));
        } else {
            let _ = write!(text, "%{byte:02X}");
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::STANDARD;

    use super::*;
    use crate::scratch::Scratch;

    const PLAINTEXT: &[u8] = b"Tr0ub4dor&3 \"quoted\" value";

    fn canary() -> Result<Canary> {
        Canary::new(&[PLAINTEXT.to_vec()])
    }

    fn found(bytes: &[u8]) -> Result<Vec<&'static str>> {
        Ok(canary()?
            .search("x", bytes)
            .into_iter()
            .map(|hit| hit.encoding)
            .collect())
    }

    #[test]
    fn every_encoding_is_found() -> Result<()> {
        for (encoding, needle) in encodings(PLAINTEXT) {
            let around = [b"before ".as_slice(), &needle, b" after"].concat();
            assert!(found(&around)?.contains(&encoding), "{encoding}");
        }
        Ok(())
    }

    #[test]
    fn base64_of_something_longer_is_found_at_every_alignment() -> Result<()> {
        for before in ["", "a", "ab", "abc"] {
            let longer = [before.as_bytes(), PLAINTEXT, b"tail"].concat();
            assert!(
                found(STANDARD.encode(longer).as_bytes())?.contains(&"base64"),
                "{before:?}"
            );
        }
        Ok(())
    }

    #[test]
    fn other_bytes_are_no_hit() -> Result<()> {
        assert!(found(b"Tr0ub4dor&3 \"quoted\" valu and so on")?.is_empty());
        Ok(())
    }

    #[test]
    fn a_plaintext_across_two_chunks_is_found() -> Result<()> {
        let mut bytes = vec![b'.'; CHUNK - 5];
        bytes.extend_from_slice(PLAINTEXT);
        let hits = canary()?.search_stream("x", bytes.as_slice())?;
        assert_eq!(hits.len(), 1, "{hits:?}");
        Ok(())
    }

    #[test]
    fn trees_are_searched_by_content_and_name() -> Result<()> {
        let scratch = Scratch::make()?;
        fs::create_dir(scratch.join("deep"))?;
        scratch.write("deep/file", [b"x".as_slice(), PLAINTEXT].concat())?;
        assert!(!canary()?.search_tree(scratch.path())?.is_empty());
        fs::remove_file(scratch.join("deep/file"))?;
        assert!(canary()?.search_tree(scratch.path())?.is_empty());
        scratch.write("Tr0ub4dor&3 \"quoted\" value", "x")?;
        assert!(!canary()?.search_tree(scratch.path())?.is_empty());
        Ok(())
    }

    #[test]
    fn a_short_plaintext_is_refused() {
        assert!(Canary::new(&[b"short".to_vec()]).is_err());
        assert!(Canary::new(&[]).is_err());
    }
}
