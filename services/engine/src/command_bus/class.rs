//! Which requests may be made durable when the disk is full (rule E9). Pure. What a playbook revokes is a revocation.

use keywheel_core::approval;
use keywheel_core::command::Command;
use keywheel_core::decision;
use keywheel_core::token;
use keywheel_core::world::World;

use super::inbox::Request;
use crate::port::journal::Class;

impl Request {
    /// Its class, as the world is.
    pub(super) fn class(&self, world: &World) -> Class {
        match self {
            Self::Record(..) => Class::Record,
            // Nothing of it is kept.
            Self::Look(_) => Class::Revocation,
            Self::Submit(submission, ..) => of(world, &submission.command),
        }
    }
}

/// The class of a command. A host's reports are all of one class: the host repeats them in order, so
/// that one which had to wait would hold up the withdrawals behind it.
pub(super) fn of(world: &World, command: &Command) -> Class {
    match command {
        // Asked before it is decided: a move is over with that.
        Command::Playbook(request) if decision::is_urgent(world, request) => Class::Revocation,
        Command::Revoke { .. }
        | Command::RevokeOutcome { .. }
        | Command::RetryRevoke { .. }
        | Command::ProofOutcome { .. }
        | Command::ForgetRevocation { .. }
        | Command::Replace(_)
        | Command::LingerEnded { .. }
        // What died in a time that the log lost dies again.
        | Command::BuryLost(_)
        | Command::EvictHost { .. }
        | Command::Token(token::Request::Revoke { .. }) => Class::Revocation,
        // As the record of the request that it is counted for, which may be a revocation; and so may be what somebody
        // logs in for.
        Command::Token(
            token::Request::Take { .. } | token::Request::Issue(token::Issue { login: Some(_), .. }),
        ) => Class::Record,
        Command::Report(_) => Class::Fact,
        // What was approved is what it is without that.
        Command::Approval(approval::Request::Perform(wish)) => of(world, &wish.command),
        _ => Class::Work,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use super::*;
    use keywheel_core::event::Event;
    use keywheel_core::id::{HostId, PlaybookId, RevocationId, RotationId, RunId, TokenId};
    use keywheel_core::name::{PlaybookName, SecretName, TokenName};
    use keywheel_core::playbook::{self, Deed, Selection, Spec, Step, Which};
    use keywheel_core::playbook_run::{self, Cause};
    use keywheel_core::report::HostReport;
    use keywheel_core::time::Timestamp;

    fn issue(login: Option<token::Login>) -> token::Issue {
        token::Issue {
            id: TokenId::from_bytes([7; 16]),
            name: TokenName::parse("login-7").unwrap(),
            hash: [7; 32],
            owner: "oidc:ada".to_owned(),
            scope: token::Scope {
                verbs: vec!["list".to_owned()],
                resources: vec!["environment".to_owned()],
            },
            lifetime: Duration::from_secs(900),
            limit: None,
            login,
        }
    }

    #[test]
    fn what_carries_a_revocation_out_comes_before_new_work() {
        let world = World::default();
        let secret = SecretName::parse("prod/db").unwrap();
        let revocation = RevocationId::from_bytes([1; 16]);
        let rotation = RotationId::from_bytes([2; 16]);
        let report = Command::Report(HostReport {
            generation: 1,
            complete: true,
            ..HostReport::empty(HostId::from_bytes([3; 16]))
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
        let token = Command::Token(token::Request::Revoke {
            which: token::Which::Of("certificate:ada".to_owned()),
            by: "unix:0".to_owned(),
            reason: "leaked".to_owned(),
        });
        for command in [revoke, outcome, retry, token] {
            assert_eq!(of(&world, &command), Class::Revocation);
        }
        let used = Command::Token(token::Request::Take {
            token: TokenId::from_bytes([6; 16]),
            uses: 1,
        });
        assert_eq!(of(&world, &used), Class::Record);
        let login = |login| Command::Token(token::Request::Issue(issue(login)));
        let ada = token::Login {
            issuer: "https://id.example.org".to_owned(),
            subject: "4711".to_owned(),
            groups: Vec::new(),
            until: Timestamp::from_micros(1),
        };
        assert_eq!(of(&world, &login(Some(ada))), Class::Record);
        assert_eq!(of(&world, &login(None)), Class::Work);
        assert_eq!(of(&world, &report), Class::Fact);
        assert_eq!(
            of(&world, &Command::Rotate { rotation, secret }),
            Class::Work
        );
        assert_eq!(of(&world, &Command::RetryStep { rotation }), Class::Work);
        let order = [Class::Work, Class::Record, Class::Fact, Class::Revocation];
        assert!(order.is_sorted());
    }

    #[test]
    fn a_run_that_a_person_or_an_event_starts_and_that_revokes_comes_before_new_work_and_a_drill_does_not()
     {
        let playbook = PlaybookName::parse("leaked").unwrap();
        let secrets = || {
            vec![Selection::Secret {
                name: "prod/db".to_owned(),
            }]
        };
        let revoke = Deed::Revoke {
            secrets: secrets(),
            which: Which::Alive,
        };
        let rotate = Deed::Rotate { secrets: secrets() };
        for (deed, class) in [(revoke, Class::Revocation), (rotate, Class::Work)] {
            let step = Step {
                name: "only".to_owned(),
                deed,
                after: Vec::new(),
                deadline: Duration::from_secs(60),
                may_fail: false,
            };
            let declared = playbook::Event::Declared {
                name: playbook.clone(),
                spec: Spec {
                    parameters: Vec::new(),
                    steps: vec![step],
                    triggers: Vec::new(),
                },
            };
            let mut world = World::default();
            world.apply(
                1,
                &Event::Playbook(PlaybookId::from_bytes([4; 16]), declared),
            );
            let start = |cause| {
                Command::Playbook(playbook_run::Request::Start {
                    run: RunId::from_bytes([5; 16]),
                    playbook: playbook.clone(),
                    arguments: BTreeMap::new(),
                    by: "unix:0".to_owned(),
                    reason: "leaked".to_owned(),
                    cause,
                })
            };
            assert_eq!(of(&world, &start(Cause::Person)), class);
            assert_eq!(of(&world, &start(Cause::Event { number: 1 })), class);
            let scheduled = Timestamp::from_micros(1);
            let slot = Cause::Slot { scheduled };
            assert_eq!(of(&world, &start(slot)), Class::Work);
        }
    }
}
