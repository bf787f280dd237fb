//! The words between the runtime wrapper and the injector: one JSON line each way.
//!
//! Invariant: values are encoded straight into a buffer that is overwritten when dropped and never
//! moves while it grows.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use zeroize::Zeroizing;

/// Longest line in either direction.
pub const MAX_LINE_BYTES: usize = 4 << 20;
/// Longest variable that the kernel hands to a program, name included, less room for name and `=`.
pub const MAX_ENV_VALUE_BYTES: usize = 128 * 1024 - 256;

/// A question.
#[derive(Debug, Deserialize)]
pub(crate) struct Question {
    pub(crate) v: u32,
    pub(crate) op: String,
    pub(crate) id: String,
    #[serde(default)]
    pub(crate) env: Vec<String>,
    #[serde(default)]
    pub(crate) mounts: Vec<String>,
    /// What an exec runs: compared, never kept or told.
    #[serde(default)]
    pub(crate) args: Vec<String>,
    #[serde(default = "yes")]
    pub(crate) strict: bool,
    /// Whether who asks keeps the connection until its private bundle is gone.
    #[serde(default)]
    pub(crate) holds: bool,
    #[serde(default)]
    pub(crate) pid: i32,
    /// When the runtime was called; like the next two for its trace only, in microseconds.
    #[serde(default)]
    pub(crate) begun: i64,
    /// When it called the real runtime.
    #[serde(default)]
    pub(crate) called: i64,
    /// When that came back.
    #[serde(default)]
    pub(crate) returned: i64,
}

fn yes() -> bool {
    true
}

/// A "no": what and why, and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) error: String,
    pub(crate) next: String,
}

impl Refusal {
    pub(crate) fn new(error: impl Into<String>, next: impl Into<String>) -> Self {
        Self {
            error: error.into(),
            next: next.into(),
        }
    }
}

/// What goes into a container.
#[derive(Default)]
pub(crate) struct Resolved {
    /// Full values by variable.
    pub(crate) env: BTreeMap<String, Zeroizing<Vec<u8>>>,
    pub(crate) dirs: Vec<String>,
    pub(crate) bundle_dir: String,
}

/// The line for a "no".
pub(crate) fn refusal_line(refusal: &Refusal) -> Vec<u8> {
    let mut line = serde_json::json!({ "ok": false, "error": refusal.error, "next": refusal.next })
        .to_string();
    line.push('\n');
    line.into_bytes()
}

/// The line for what goes into a container; `None` when it would be over [`MAX_LINE_BYTES`].
pub(crate) fn resolved_line(resolved: &Resolved) -> Option<Zeroizing<Vec<u8>>> {
    let frame = 256
        + resolved
            .dirs
            .iter()
            .map(|dir| dir.len() * 6 + 4)
            .sum::<usize>()
        + resolved.bundle_dir.len() * 6;
    let values: usize = resolved
        .env
        .iter()
        .map(|(name, value)| name.len() * 6 + 8 + value.len().div_ceil(3) * 4)
        .sum();
    if frame + values > MAX_LINE_BYTES {
        return None;
    }
    let mut line = Zeroizing::new(Vec::with_capacity(frame + values));
    line.extend_from_slice(b"{\"ok\":true,\"env\":{");
    for (index, (name, value)) in resolved.env.iter().enumerate() {
        if index > 0 {
            line.push(b',');
        }
        line.extend_from_slice(serde_json::to_string(name).ok()?.as_bytes());
        line.extend_from_slice(b":\"");
        let start = line.len();
        line.resize(start + value.len().div_ceil(3) * 4, 0);
        STANDARD
            .encode_slice(value.as_slice(), line.get_mut(start..)?)
            .ok()?;
        line.push(b'"');
    }
    line.extend_from_slice(b"},\"dirs\":");
    line.extend_from_slice(serde_json::to_string(&resolved.dirs).ok()?.as_bytes());
    line.extend_from_slice(b",\"bundle_dir\":");
    line.extend_from_slice(serde_json::to_string(&resolved.bundle_dir).ok()?.as_bytes());
    line.extend_from_slice(b"}\n");
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolved_line_is_json_with_base64_values_and_never_grows_its_buffer() {
        let value = Zeroizing::new(b"s3cr\0et\xff".to_vec());
        let resolved = Resolved {
            env: BTreeMap::from([
                ("A".to_owned(), Zeroizing::new(Vec::new())),
                ("DB".to_owned(), value),
            ]),
            dirs: vec!["/run/secrets".to_owned()],
            bundle_dir: "/run/keywheel/bundles/x".to_owned(),
        };
        let line = resolved_line(&resolved).unwrap();
        assert!(line.ends_with(b"\n"));
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(json["env"]["DB"], STANDARD.encode(b"s3cr\0et\xff"));
        assert_eq!(json["env"]["A"], "");
        assert_eq!(json["dirs"][0], "/run/secrets");
        assert_eq!(json["bundle_dir"], "/run/keywheel/bundles/x");
    }

    #[test]
    fn a_line_over_the_limit_is_none() {
        let big = |bytes| Resolved {
            env: BTreeMap::from([("A".to_owned(), Zeroizing::new(vec![0; bytes]))]),
            ..Resolved::default()
        };
        assert!(resolved_line(&big(MAX_LINE_BYTES / 4 * 3 - 1024)).is_some());
        assert!(resolved_line(&big(MAX_LINE_BYTES / 4 * 3)).is_none());
    }

    #[test]
    fn a_refusal_names_the_next_step() {
        let line = refusal_line(&Refusal::new("no \"x\"", "bind it"));
        let json: serde_json::Value = serde_json::from_slice(&line).unwrap();
        assert_eq!(
            (json["ok"].as_bool(), json["next"].as_str()),
            (Some(false), Some("bind it"))
        );
    }
}
