//! Where a file of records begins and ends: its first and its last whole line, and what is half written after that.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};

use serde::Deserialize;

/// Longest line that is read back.
const MAX_LINE_BYTES: u64 = 1 << 20;

/// How a line begins, by what stands first in it: our own form, or OCSF's.
const BEGINNINGS: [&[u8]; 4] = [
    br#"{"sequence":"#,
    br#"{"class_uid":"#,
    br#"{"category_uid":"#,
    br#"{"activity_id":"#,
];

/// What one line says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Tail {
    /// Its record's number.
    pub(super) sequence: u64,
    /// Its record's leaf hash.
    pub(super) leaf: Option<[u8; 32]>,
}

/// What was found.
#[derive(Debug)]
pub(super) struct Ends {
    /// Bytes of whole lines.
    pub(super) size: u64,
    /// Bytes behind them.
    pub(super) half_written: u64,
    pub(super) first: Option<Tail>,
    pub(super) last: Option<Tail>,
}

/// Reads both ends of a file.
pub(super) fn read(file: &mut File) -> io::Result<Ends> {
    let length = file.metadata()?.len();
    let from = length.saturating_sub(MAX_LINE_BYTES * 2);
    let end = part(file, from, length - from)?;
    let whole = end.iter().rposition(|byte| *byte == b'\n').map(|at| at + 1);
    let half_written = end.len() - whole.unwrap_or(0);
    if whole.is_none() && from > 0 {
        return Err(strange("its last line is too long"));
    }
    let size = length - half_written as u64;
    if size == 0 {
        if !is_half_line(&end) {
            return Err(strange("what is in it is no record"));
        }
        let (first, last) = (None, None);
        return Ok(Ends {
            size,
            half_written: half_written as u64,
            first,
            last,
        });
    }
    let lines = end.get(..whole.unwrap_or(0)).unwrap_or_default();
    let last = lines.strip_suffix(b"\n").unwrap_or(lines);
    let last = last.rsplit(|byte| *byte == b'\n').next().unwrap_or(last);
    let begin = part(file, 0, size.min(MAX_LINE_BYTES))?;
    let first = begin.split(|byte| *byte == b'\n').next();
    Ok(Ends {
        size,
        half_written: half_written as u64,
        first: Some(parse(first.unwrap_or_default())?),
        last: Some(parse(last)?),
    })
}

/// Whether a crash can have left this of a first line: its beginning, or the zeros that a file system puts there.
fn is_half_line(bytes: &[u8]) -> bool {
    let begins = |line: &&[u8]| line.iter().zip(bytes).all(|(one, other)| one == other);
    bytes.iter().all(|byte| *byte == 0) || BEGINNINGS.iter().any(begins)
}

fn part(file: &mut File, from: u64, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The native form, or OCSF's.
#[derive(Deserialize)]
struct Said {
    sequence: Option<u64>,
    leaf: Option<String>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    sequence: Option<u64>,
    uid: Option<String>,
}

fn parse(line: &[u8]) -> io::Result<Tail> {
    let said: Said = serde_json::from_slice(line).map_err(|_| strange("a line is no record"))?;
    let (sequence, leaf) = match said.metadata {
        Some(metadata) => (metadata.sequence, metadata.uid),
        None => (said.sequence, said.leaf),
    };
    let sequence = sequence.ok_or_else(|| strange("a line has no number"))?;
    Ok(Tail {
        sequence,
        leaf: leaf.as_deref().and_then(hash),
    })
}

fn hash(text: &str) -> Option<[u8; 32]> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes = pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok())
        .collect::<Option<Vec<u8>>>()?;
    <[u8; 32]>::try_from(bytes).ok().filter(|_| rest.is_empty())
}

fn strange(text: &str) -> io::Error {
    let text = format!("{text}; move the file elsewhere, and it is written anew");
    io::Error::new(io::ErrorKind::InvalidData, text)
}
