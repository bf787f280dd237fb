//! What a sink was told of the audit, compared with an export: the way to see that a whole journal was put back.
//!
//! An older journal with its own checkpoint is sound in itself. Whoever kept its records elsewhere has more of them, or
//! others. Pure; of a sink's file one line is read at a time.

use serde::Deserialize;
use serde_json::value::RawValue;

use crate::merkle::{self, Hash};

/// One record, as a sink has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    /// Its number.
    pub sequence: u64,
    /// Its leaf hash.
    pub leaf: Hash,
}

/// How a sink and an export differ.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkFault {
    /// It is none of the forms that sinks are told.
    #[error("line {line} of the sink is no audit record: {why}")]
    Form {
        /// The line; the first is 1.
        line: u64,
        /// Why.
        why: &'static str,
    },
    /// The record of a line is not the one whose hash is told with it.
    #[error(
        "audit record {index} of the sink was edited there: it does not give its own leaf hash"
    )]
    Edited {
        /// The record.
        index: u64,
    },
    /// Lines are missing or in another order.
    #[error("audit record {index} is missing at the sink, or stands at another place there")]
    Gap {
        /// The record that was expected.
        index: u64,
    },
    /// Both have it, and it is not the same.
    #[error("audit record {index} is another one at the sink: the log or the sink was changed")]
    Different {
        /// The record.
        index: u64,
    },
    /// The sink has what the log has not.
    #[error(
        "audit record {index} is at the sink and not in the log: the log was cut or put back, or this export of it is older"
    )]
    Missing {
        /// The first such record.
        index: u64,
    },
}

impl SinkFault {
    /// The first bad record, where one is named.
    #[must_use]
    pub const fn index(&self) -> Option<u64> {
        match self {
            Self::Form { .. } => None,
            Self::Edited { index }
            | Self::Gap { index }
            | Self::Different { index }
            | Self::Missing { index } => Some(*index),
        }
    }
}

/// Compares a sink with a log, line by line.
#[derive(Debug)]
pub struct Comparison<'a> {
    leaves: &'a [Hash],
    line: u64,
    begins: Option<u64>,
    next: Option<u64>,
}

impl<'a> Comparison<'a> {
    /// With a log of these leaf hashes.
    #[must_use]
    pub const fn with(leaves: &'a [Hash]) -> Self {
        Self {
            leaves,
            line: 0,
            begins: None,
            next: None,
        }
    }

    /// The next line of the sink. A record that comes again, since it was told twice, has to be the same.
    ///
    /// # Errors
    /// With how they differ.
    pub fn line(&mut self, line: &[u8]) -> Result<(), SinkFault> {
        self.line += 1;
        let told = read(line, self.line)?;
        let index = told.sequence;
        if let Some(next) = self.next.filter(|next| index > *next) {
            return Err(SinkFault::Gap { index: next });
        }
        self.begins = Some(self.begins.map_or(index, |first| first.min(index)));
        let next = index.saturating_add(1);
        self.next = Some(self.next.map_or(next, |known| known.max(next)));
        let kept = usize::try_from(index)
            .ok()
            .and_then(|at| self.leaves.get(at));
        match kept {
            None => Err(SinkFault::Missing { index }),
            Some(kept) if *kept != told.leaf => Err(SinkFault::Different { index }),
            Some(_) => Ok(()),
        }
    }

    /// The first record that was compared; of those before it nothing is shown.
    #[must_use]
    pub const fn begins(&self) -> Option<u64> {
        self.begins
    }

    /// Lines that were compared.
    #[must_use]
    pub const fn lines(&self) -> u64 {
        self.line
    }
}

/// The native form, or OCSF's.
#[derive(Deserialize)]
struct Line<'a> {
    sequence: Option<u64>,
    leaf: Option<String>,
    #[serde(borrow)]
    record: Option<&'a RawValue>,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct Metadata {
    sequence: u64,
    uid: String,
}

fn read(line: &[u8], number: u64) -> Result<Told, SinkFault> {
    let strange = |why| SinkFault::Form { line: number, why };
    let parsed: Line<'_> = serde_json::from_slice(line)
        .map_err(|_| strange("it is not JSON of the native form or OCSF"))?;
    let (sequence, leaf) = match parsed.metadata {
        Some(metadata) => (Some(metadata.sequence), Some(metadata.uid)),
        None => (parsed.sequence, parsed.leaf),
    };
    let sequence = sequence.ok_or_else(|| strange("it has no number"))?;
    let leaf = leaf.as_deref().and_then(hash);
    let leaf = leaf.ok_or_else(|| strange("it has no leaf hash"))?;
    let is_own = parsed
        .record
        .is_none_or(|record| merkle::leaf_hash(record.get().as_bytes()) == leaf);
    match is_own {
        true => Ok(Told { sequence, leaf }),
        false => Err(SinkFault::Edited { index: sequence }),
    }
}

fn hash(text: &str) -> Option<Hash> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let bytes: Option<Vec<u8>> = pairs
        .iter()
        .map(|[high, low]| u8::try_from(digit(*high)? << 4 | digit(*low)?).ok())
        .collect();
    Hash::try_from(bytes?).ok().filter(|_| rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(n: u64) -> String {
        format!("{{\"n\":{n}}}")
    }

    fn hexadecimal(hash: &Hash) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn native(n: u64) -> String {
        let record = record(n);
        let leaf = hexadecimal(&merkle::leaf_hash(record.as_bytes()));
        format!(r#"{{"sequence":{n},"leaf":"{leaf}","record":{record}}}"#)
    }

    fn ocsf(n: u64) -> String {
        let leaf = hexadecimal(&merkle::leaf_hash(record(n).as_bytes()));
        format!(r#"{{"class_uid":6003,"metadata":{{"sequence":{n},"uid":"{leaf}"}}}}"#)
    }

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count)
            .map(|n| merkle::leaf_hash(record(n).as_bytes()))
            .collect()
    }

    fn compare(leaves: &[Hash], lines: &[String]) -> Result<u64, SinkFault> {
        let mut comparison = Comparison::with(leaves);
        for line in lines {
            comparison.line(line.as_bytes())?;
        }
        Ok(comparison.lines())
    }

    #[test]
    fn a_sink_that_has_the_same_or_less_agrees_in_either_form() {
        let log = leaves(9);
        for form in [native, ocsf] {
            assert_eq!(compare(&log, &(0..9).map(form).collect::<Vec<_>>()), Ok(9));
            // Told twice around a crash, from the middle on since old files were removed.
            let some: Vec<_> = [4, 5, 4, 5, 6].map(form).to_vec();
            assert_eq!(compare(&log, &some), Ok(5));
        }
        assert_eq!(compare(&log, &[]), Ok(0));
    }

    #[test]
    fn a_log_that_was_put_back_lacks_what_the_sink_has() {
        for size in 0..9 {
            let found = compare(&leaves(size), &(0..9).map(native).collect::<Vec<_>>());
            assert_eq!(found, Err(SinkFault::Missing { index: size }));
        }
    }

    #[test]
    fn a_log_that_was_written_anew_has_another_record() {
        let mut log = leaves(9);
        log[6] = [0; 32];
        for form in [native, ocsf] {
            let found = compare(&log, &(0..9).map(form).collect::<Vec<_>>());
            assert_eq!(found, Err(SinkFault::Different { index: 6 }));
        }
    }

    #[test]
    fn what_was_changed_at_the_sink_is_told_apart() {
        let log = leaves(9);
        let lines: Vec<String> = (0..9).map(native).collect();
        let with = |change: fn(&mut Vec<String>)| {
            let mut lines = lines.clone();
            change(&mut lines);
            compare(&log, &lines).unwrap_err()
        };
        let edited = with(|lines| lines[3] = lines[3].replace("\"n\":3", "\"n\":4"));
        assert_eq!(edited, SinkFault::Edited { index: 3 });
        assert_eq!(
            with(|lines| drop(lines.remove(3))),
            SinkFault::Gap { index: 3 }
        );
        assert_eq!(with(|lines| lines.swap(3, 5)), SinkFault::Gap { index: 3 });
        let form = with(|lines| lines[3].clear());
        assert!(matches!(form, SinkFault::Form { line: 4, .. }));
        assert_eq!(form.index(), None);
        let short = with(|lines| lines[3] = r#"{"sequence":3,"leaf":"00"}"#.to_owned());
        assert!(matches!(short, SinkFault::Form { line: 4, .. }));
    }

    #[test]
    fn no_line_makes_its_reader_panic() {
        let log = leaves(4);
        for line in [native(2), ocsf(2)] {
            keywheel_testkit::hostile(line.as_bytes(), |bytes| {
                let found = Comparison::with(&log).line(bytes);
                // Whatever agrees says the same number and the same hash.
                if found.is_ok() {
                    let told = read(bytes, 1).unwrap();
                    assert_eq!(log[usize::try_from(told.sequence).unwrap()], told.leaf);
                }
            });
        }
    }
}
