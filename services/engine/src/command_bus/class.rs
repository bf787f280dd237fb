//! Which requests may be made durable when the disk is full (rule E9). Pure.

use keywheel_core::command::Command;

use super::inbox::Request;
use crate::port::journal::Class;

impl Request {
    /// Its class.
    pub(super) fn class(&self) -> Class {
        match self {
            Self::Record(..) => Class::Record,
            // Nothing of it is kept.
            Self::Look(_) => Class::Revocation,
            Self::Submit(submission, _) => of(&submission.command),
        }
    }
}

/// The class of a command. A host's reports are all of one class: the host repeats them in order, so
/// that one which had to wait would hold up the withdrawals behind it.
pub(super) fn of(command: &Command) -> Class {
    match command {
        Command::Revoke { .. }
        | Command::RevokeOutcome { .. }
        | Command::RetryRevoke { .. }
        | Command::ProofOutcome { .. }
        | Command::ForgetRevocation { .. }
        | Command::Replace(_)
        | Command::LingerEnded { .. }
        | Command::EvictHost { .. } => Class::Revocation,
        Command::Report(_) => Class::Fact,
        _ => Class::Work,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use keywheel_core::id::{HostId, RevocationId, RotationId};
    use keywheel_core::name::SecretName;
    use keywheel_core::report::HostReport;

    #[test]
    fn what_carries_a_revocation_out_comes_before_new_work() {
        let secret = SecretName::parse("prod/db").unwrap();
        let revocation = RevocationId::from_bytes([1; 16]);
        let rotation = RotationId::from_bytes([2; 16]);
        let report = Command::Report(HostReport {
            host: HostId::from_bytes([3; 16]),
            generation: 1,
            items: Vec::new(),
            holds: Vec::new(),
            complete: true,
            containers: Vec::new(),
            denied: Vec::new(),
            stale: Vec::new(),
            executed: Vec::new(),
            notes: Vec::new(),
            restarts: Vec::new(),
            staged: Vec::new(),
            knows_staged: false,
            orders: None,
        });
        let revoke = Command::Revoke {
            revocation,
            secret: secret.clone(),
            version: None,
            reason: "leaked".to_owned(),
            is_emergency: false,
        };
        let outcome = Command::RevokeOutcome {
            revocation,
            attempt: 1,
            failure: None,
        };
        let retry = Command::RetryRevoke { revocation };
        for command in [revoke, outcome, retry] {
            assert_eq!(of(&command), Class::Revocation);
        }
        assert_eq!(of(&report), Class::Fact);
        assert_eq!(of(&Command::Rotate { rotation, secret }), Class::Work);
        assert_eq!(of(&Command::RetryStep { rotation }), Class::Work);
        let order = [Class::Work, Class::Record, Class::Fact, Class::Revocation];
        assert!(order.is_sorted());
    }
}
