//! W3C trace contexts: which trace a command, an event, an effect or a plan belongs to, and under which
//! span what follows from it stands.
//!
//! They are for people who look for one rotation's way; nothing is decided by them. Invariant: the span
//! of a rotation and of a revocation is its id's, so whoever goes on with one names the same parent, at
//! any gateway and after any restart; the span itself is told by the gateway that appends the end.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, PoisonError};

use keywheel_core::id::CommandId;

/// Commands whose origin is remembered until their records are told.
pub const MAX_ORIGINS: usize = 4096;

/// A trace and a span in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Context {
    /// The trace.
    pub trace: [u8; 16],
    /// The span that is the parent of what follows.
    pub span: [u8; 8],
    /// Whether the trace is recorded, as whoever began it decided.
    pub is_sampled: bool,
}

impl Context {
    /// A recorded trace's.
    #[must_use]
    pub const fn new(trace: [u8; 16], span: [u8; 8]) -> Self {
        Self {
            trace,
            span,
            is_sampled: true,
        }
    }

    /// Reads a `traceparent`; `None` when it is none.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let version: [u8; 1] = unhex(parts.next()?)?;
        let trace = unhex(parts.next()?)?;
        let span = unhex(parts.next()?)?;
        let [flags] = unhex(parts.next()?)?;
        let is_longer = parts.next().is_some();
        let is_wrong = version == [0xff] || (version == [0] && is_longer);
        if is_wrong || trace == [0; 16] || span == [0; 8] {
            return None;
        }
        Some(Self {
            trace,
            span,
            is_sampled: flags & 1 == 1,
        })
    }

    /// Another span of the same trace.
    #[must_use]
    pub const fn at(self, span: [u8; 8]) -> Self {
        Self { span, ..self }
    }

    /// The trace as people and log lines write it.
    #[must_use]
    pub fn trace_id(&self) -> String {
        hex(&self.trace)
    }
}

/// As a `traceparent`.
impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled);
        write!(f, "00-{}-{}-{flags:02x}", hex(&self.trace), hex(&self.span))
    }
}

/// The span of a rotation or a revocation: the last half of its id.
#[must_use]
pub fn span_of(id: &[u8; 16]) -> [u8; 8] {
    let mut span = [0; 8];
    span.copy_from_slice(&id[8..]);
    // No span is zero; and an id whose half is does not come by.
    if span == [0; 8] { [1; 8] } else { span }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    let is_lower = |digit: &u8| matches!(digit, b'0'..=b'9' | b'a'..=b'f');
    if digits.len() != 2 * N || !digits.iter().all(is_lower) {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok()?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(bytes)
}

/// Where the newest commands of this process came from, so that what is told of their audit records
/// stands below them. A record itself names its trace only, and that must not change.
#[derive(Debug, Default)]
pub struct Origins(Mutex<Newest>);

#[derive(Debug, Default)]
struct Newest {
    of: BTreeMap<String, String>,
    order: VecDeque<String>,
}

impl Origins {
    /// A command leaves records; call it before they are durable.
    pub fn note(&self, command: CommandId, traceparent: &str) {
        let mut newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let command = command.to_string();
        let before = newest.of.insert(command.clone(), traceparent.to_owned());
        if before.is_none() {
            newest.order.push_back(command);
        }
        if newest.order.len() > MAX_ORIGINS
            && let Some(oldest) = newest.order.pop_front()
        {
            newest.of.remove(&oldest);
        }
    }

    /// The `traceparent` of the command that a stored record names: the one word of it that is looked
    /// for here, whatever else it holds.
    #[must_use]
    pub fn of_record(&self, bytes: &[u8]) -> Option<String> {
        const MEMBER: &str = "\"command\":\"";
        let text = std::str::from_utf8(bytes).ok()?;
        let (_, rest) = text.split_once(MEMBER)?;
        let (command, _) = rest.split_once('"')?;
        let newest = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        newest.of.get(command).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_traceparent_is_read_and_written_as_the_w3c_has_it() {
        let context = Context::parse(TEXT).unwrap();
        assert_eq!(context.to_string(), TEXT);
        assert_eq!(context.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert!(context.is_sampled);
        let quiet = Context::parse(&format!("{}00", &TEXT[..TEXT.len() - 2])).unwrap();
        assert!(!quiet.is_sampled);
        // A later version may have more; its first parts are read.
        assert!(Context::parse(&TEXT.replacen("00", "01", 1)).is_some());
        assert!(Context::parse(&format!("{}-x", TEXT.replacen("00", "01", 1))).is_some());
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(Context::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_span_of_an_id_is_never_zero() {
        assert_eq!(span_of(&[7; 16]), [7; 8]);
        assert_ne!(span_of(&[0; 16]), [0; 8]);
    }

    #[test]
    fn the_newest_commands_origins_are_known_by_their_records() {
        let origins = Origins::default();
        let command = |n: usize| CommandId::from_bytes(u128::try_from(n).unwrap().to_be_bytes());
        let record = |n| {
            format!(
                "{{\"a\":\"\\\"command\\\":\\\"\",\"command\":\"{}\"}}",
                command(n)
            )
        };
        let of = |n| origins.of_record(record(n).as_bytes());
        assert_eq!(of(0), None);
        for n in 0..MAX_ORIGINS {
            origins.note(command(n), &n.to_string());
            origins.note(command(n), &n.to_string());
        }
        assert_eq!((of(0), of(7)), (Some("0".to_owned()), Some("7".to_owned())));
        origins.note(command(MAX_ORIGINS), "more");
        assert_eq!((of(0), of(MAX_ORIGINS)), (None, Some("more".to_owned())));
        for nonsense in [&b"\xff"[..], b"", b"\"command\":\"", b"\"command\":\"x\""] {
            assert_eq!(origins.of_record(nonsense), None);
        }
    }
}
