//! The side of the store: which credentials a server accepts, and how many it made under which token.
//!
//! Like the real ones it performs each effect as often as it is asked to, and does nothing again that it did
//! under the same token. It fails never: what stores and servers do wrong is the simulation's.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::command::{Command, ProofTaken};
use keywheel_core::effect::{Effect, Part, RevokeWork, StepWork, Work};
use keywheel_core::id::{RotationId, SecretId};
use keywheel_core::revocation::{Answer, Evidence, Proof};
use keywheel_core::rotation::{Sessions, Step};
use keywheel_core::time::Timestamp;

/// A version of a secret.
type Value = (SecretId, u64);

#[derive(Debug, Default)]
pub(crate) struct Store {
    /// Credentials that were made, by token.
    pub(crate) made: BTreeMap<RotationId, u64>,
    /// What the server accepts.
    pub(crate) accepted: BTreeSet<Value>,
    /// What can be opened.
    pub(crate) values: BTreeSet<Value>,
}

impl Store {
    /// Performs an effect, and answers it. With a bug it looks at no token.
    pub(crate) fn perform(&mut self, effect: &Effect, now: Timestamp, looks: bool) -> Command {
        match &effect.work {
            Work::Step(work) => {
                self.step(work, looks);
                let sessions = (work.step == Step::Drain).then_some(Sessions { mark: 1, left: 0 });
                Command::StepOutcome {
                    rotation: work.rotation,
                    step: work.step,
                    attempt: work.attempt,
                    failure: None,
                    is_away: false,
                    remote: None,
                    sessions,
                }
            }
            Work::Revoke(work) if work.part == Part::Prove => Command::ProofOutcome(ProofTaken {
                revocation: work.revocation,
                attempt: work.attempt,
                proof: self.prove(work, now),
            }),
            Work::Revoke(work) => {
                for value in work.versions.iter().map(|version| (work.secret, *version)) {
                    if work.part != Part::Destroy {
                        self.accepted.remove(&value);
                    }
                    if work.part != Part::Disable {
                        self.values.remove(&value);
                    }
                }
                Command::RevokeOutcome {
                    revocation: work.revocation,
                    attempt: work.attempt,
                    failure: None,
                }
            }
        }
    }

    fn step(&mut self, work: &StepWork, looks: bool) {
        for value in work.versions.iter().map(|version| (work.secret, *version)) {
            match work.step {
                Step::Create => {
                    let made = self.made.entry(work.rotation).or_default();
                    if *made == 0 || !looks {
                        *made += 1;
                    }
                    self.values.insert(value);
                }
                Step::Set => {
                    self.accepted.insert(value);
                }
                Step::Test | Step::Finish | Step::Drain => {}
                Step::RevokeOld | Step::RollBack => {
                    self.accepted.remove(&value);
                    self.values.remove(&value);
                }
            }
        }
    }

    fn prove(&self, work: &RevokeWork, at: Timestamp) -> Proof {
        let ask = |version: &u64| Evidence {
            version: *version,
            at,
            place: "the server".to_owned(),
            answer: match self.accepted.contains(&(work.secret, *version)) {
                true => Answer::Accepted,
                false => Answer::WrongPassword,
            },
        };
        Proof {
            evidence: work.versions.iter().map(ask).collect(),
            lacking: None,
        }
    }
}
