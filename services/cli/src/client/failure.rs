//! Why there is no answer, in words for a person, and what to do about it.

use std::io;
use std::path::Path;

use keywheel_identity::tls::Refusal;
use keywheel_schemas::config::DEFAULT_DATA_DIR;

use crate::address;
use crate::exit::{Exit, Failure};
use crate::http::{Fault, MAX_ANSWER_BYTES, Target};
use crate::up::restored::NOTE;

/// What to read of a daemon's log.
const LOG: &str = "look into the log of keywheel there; what was acknowledged before is kept";

/// The failure behind a fault.
pub(super) fn of(target: &Target, fault: &Fault) -> Failure {
    let there = match target {
        Target::Socket(path) => path.display().to_string(),
        Target::Tls { address, .. } => address.clone(),
    };
    match fault {
        Fault::Connect(error) => unreached(target, &there, error),
        Fault::Untrusted(refusal) => untrusted(&there, refusal),
        Fault::Broken(why) => Failure::new(
            Exit::Unavailable,
            format!("keywheel at {there} stopped answering: {why}"),
            LOG,
        ),
        Fault::Late(patience) => Failure::new(
            Exit::Unavailable,
            format!(
                "keywheel at {there} did not answer within {} s",
                patience.as_secs()
            ),
            "look at `keywheel status` there and at its log",
        ),
        Fault::TooLarge => Failure::new(
            Exit::Unexpected,
            format!("the answer has more than {MAX_ANSWER_BYTES} bytes"),
            "read it in parts with --after and --limit",
        ),
    }
}

fn unreached(target: &Target, there: &str, error: &io::Error) -> Failure {
    if matches!(target, Target::Tls { .. }) {
        return Failure::new(
            Exit::Unavailable,
            format!("cannot connect to {there}: {error}"),
            "check that the gateway runs with `listen.api`, that --address names that port, and that no firewall is between",
        );
    }
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::new(
            Exit::Denied,
            format!("the system does not let this user open {there}"),
            "use sudo, or ask an administrator to add you to the group `keywheel`",
        ),
        io::ErrorKind::NotFound
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::NotADirectory => {
            // Of another socket nobody knows here where its data is.
            let is_default = address::DEFAULT.strip_prefix("unix://") == Some(there);
            let data_dir = is_default.then_some(Path::new(DEFAULT_DATA_DIR));
            unserved(there, data_dir)
        }
        _ => Failure::new(
            Exit::Unavailable,
            format!("cannot connect to {there}: {error}"),
            "check that `keywheel up` runs and that --address names its socket",
        ),
    }
}

/// Nobody serves a socket; where its data was restored and that is not settled yet, that may be why.
fn unserved(there: &str, data_dir: Option<&Path>) -> Failure {
    let what = format!("no keywheel is serving {there}");
    let note = data_dir.map(|data_dir| data_dir.join(NOTE));
    let next = match note.filter(|note| note.exists()) {
        Some(note) => format!(
            "its log was put back ({}), and that is not settled: start it with `keywheel up`, whose log says how far it is; where the log is older than what is known of it, two people accept that, each with `keywheel restore accept --reason TEXT`, before anything is served",
            note.display()
        ),
        None => {
            "start it with `keywheel up`, or name its socket with --address unix:///PATH".to_owned()
        }
    };
    Failure::new(Exit::Unavailable, what, next)
}

fn untrusted(there: &str, refusal: &Refusal) -> Failure {
    let (exit, next) = match refusal {
        Refusal::ByPeer(_) => (
            Exit::Denied,
            "give an operator's credentials of this deployment with --identity; the gateway's audit says who was refused and why",
        ),
        Refusal::Plaintext | Refusal::OldProtocol => (
            Exit::Unavailable,
            "check that --address names the gateway's port for operators (`listen.api`)",
        ),
        Refusal::Expired | Refusal::NotYetValid => (
            Exit::Unavailable,
            "set this machine's clock right; if it is, the gateway has to renew its certificate",
        ),
        _ => (
            Exit::Unavailable,
            "check that --address names a gateway of the deployment whose credentials --identity names",
        ),
    };
    let what = format!("no trusted connection with {there}: {refusal}");
    Failure::new(exit, what, next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_restore_that_is_not_settled_is_told_where_nobody_serves() {
        let folder = tempfile::tempdir().unwrap();
        let next = |data_dir| unserved("/run/k.sock", data_dir).next.unwrap();
        let plain = next(Some(folder.path()));
        assert!(plain.contains("--address unix:///PATH"), "{plain}");
        std::fs::write(folder.path().join(NOTE), "{}").unwrap();
        let told = next(Some(folder.path()));
        for part in ["restored.json", "`keywheel up`", "`keywheel restore accept"] {
            assert!(told.contains(part), "{part}: {told}");
        }
        assert_eq!(next(None), plain);
    }
}
