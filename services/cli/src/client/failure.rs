//! Why there is no answer, in words for a person, and what to do about it.

use std::io;

use keywheel_identity::tls::Refusal;

use crate::exit::{Exit, Failure};
use crate::http::{Fault, MAX_ANSWER_BYTES, Target};

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
        | io::ErrorKind::NotADirectory => Failure::new(
            Exit::Unavailable,
            format!("no keywheel is serving {there}"),
            "start it with `keywheel up`, or name its socket with --address unix:///PATH",
        ),
        _ => Failure::new(
            Exit::Unavailable,
            format!("cannot connect to {there}: {error}"),
            "check that `keywheel up` runs and that --address names its socket",
        ),
    }
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
