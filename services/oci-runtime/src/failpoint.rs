//! Named steps at which a test ends this program, both halves, or stops the filtered one in its tracks.
//!
//! Armed by a file that `--keywheel-failpoints` names and that holds one entry, `NAME=kill` or `NAME=stop`. An entry
//! fires once: the file goes first. Without the flag, which nobody but a test gives, nothing is read.

use std::path::Path;

use rustix::process::{Signal, getpid, getppid, kill_process};

use crate::args::Invocation;

/// Every step there is, those of a create in their order and then those of an exec.
pub(crate) const FAILPOINTS: [&str; 9] = [
    "runtime.before_resolve",
    "runtime.after_resolve",
    "runtime.after_bundle",
    "runtime.after_config",
    "runtime.after_create",
    "runtime.after_remove",
    "runtime.after_attach",
    "runtime.before_exec_answer",
    "runtime.after_exec_answer",
];
/// Longest entry.
const MAX_ENTRY: u64 = 128;

/// Passes a step.
pub(crate) fn reach(invocation: &Invocation, name: &'static str) {
    debug_assert!(FAILPOINTS.contains(&name), "{name} is in no list");
    let Some(path) = &invocation.failpoints else {
        return;
    };
    let Some(signal) = taken(path, name) else {
        return;
    };
    // Whatever comes of it, a program that was not ended goes on.
    if let Some(outer) = getppid().filter(|_| signal == Signal::KILL) {
        let _ = kill_process(outer, signal);
    }
    let _ = kill_process(getpid(), signal);
}

/// What the file says of this step; it is gone then.
fn taken(path: &Path, name: &str) -> Option<Signal> {
    let is_short = std::fs::metadata(path).ok()?.len() <= MAX_ENTRY;
    let text = std::fs::read_to_string(path).ok().filter(|_| is_short)?;
    let (wanted, action) = text.trim().split_once('=')?;
    let signal = match action {
        "kill" => Signal::KILL,
        "stop" => Signal::STOP,
        _ => return None,
    };
    (wanted == name && std::fs::remove_file(path).is_ok()).then_some(signal)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_fires_once_and_at_its_own_step_only() {
        let name = format!("keywheel-failpoint-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        assert_eq!(taken(&path, "runtime.after_config"), None);
        for nonsense in ["", "runtime.after_config", "runtime.after_config=wait"] {
            std::fs::write(&path, nonsense).unwrap();
            assert_eq!(taken(&path, "runtime.after_config"), None, "{nonsense}");
        }
        std::fs::write(&path, "runtime.after_config=stop\n").unwrap();
        assert_eq!(taken(&path, "runtime.after_bundle"), None);
        assert_eq!(taken(&path, "runtime.after_config"), Some(Signal::STOP));
        assert_eq!(taken(&path, "runtime.after_config"), None);
        let long = format!("runtime.after_config=kill{}", " ".repeat(200));
        std::fs::write(&path, long).unwrap();
        assert_eq!(taken(&path, "runtime.after_config"), None);
        std::fs::remove_file(&path).unwrap();
    }
}
