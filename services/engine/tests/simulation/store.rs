//! The side of the store: which credentials a server accepts, and which values store-sync has.
//!
//! It performs what effects say, each idempotent. What was made unusable stays so, whatever comes late:
//! that is what the real stores do (`services/stores`, `services/rotators`). It decides nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keywheel_core::effect::{Effect, Part, RevokeWork, StepWork, Work};
use keywheel_core::id::SecretId;
use keywheel_core::revocation::{Answer, Evidence, Proof};
use keywheel_core::rotation::{Sessions, Step};
use keywheel_core::store::RemoteVersion;
use keywheel_core::time::Timestamp;

use crate::leases::Logins;

/// A version of a secret.
pub(crate) type Value = (SecretId, u64);

/// Of so many questions for sessions one finds a server that does not tell them for once.
const UNTOLD_EVERY: u32 = 4;
/// A version's sessions are fewer.
const MOST_SESSIONS: u64 = 3;

/// What goes wrong with one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StoreFault {
    /// Nothing.
    None,
    /// The server says no.
    Refuses,
    /// The server does not answer, before it did anything.
    Away,
    /// The server did it and did not answer.
    Silent,
    /// The server says that it did it, and did not.
    Lies,
    /// store-sync is killed in the midst of it.
    Halfway,
}

/// What is odd about sessions when they are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Quirk {
    /// Nothing.
    None,
    /// The server does not tell them.
    Untold,
    /// One was opened anew.
    Reopened,
}

/// Why a call failed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Failure {
    pub(crate) reason: &'static str,
    pub(crate) is_away: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Store {
    /// What the server accepts.
    pub(crate) accepted: BTreeSet<Value>,
    /// How many sessions are open with what; they outlive the acknowledgements.
    pub(crate) sessions: BTreeMap<Value, u64>,
    /// Of what it once told that no session is open: who used it is through.
    quiet: BTreeSet<Value>,
    /// What can be opened.
    pub(crate) values: BTreeSet<Value>,
    /// What never comes back.
    pub(crate) gone: BTreeSet<Value>,
    /// Whether the server is away for a while.
    pub(crate) is_away: bool,
    /// Whether that is a long one.
    pub(crate) is_away_long: bool,
    /// Logins by lease.
    pub(crate) logins: Logins,
    /// Planted: what is gone may be set again.
    pub(crate) forgets: bool,
}

impl Store {
    /// Does what an effect says.
    pub(crate) fn perform(
        &mut self,
        effect: &Effect,
        fault: StoreFault,
        now: Duration,
    ) -> Result<(), Failure> {
        match fault {
            _ if self.is_away => return Err(away()),
            StoreFault::Away => return Err(away()),
            StoreFault::Refuses => return Err(refuses("the server says no")),
            StoreFault::None | StoreFault::Silent | StoreFault::Lies | StoreFault::Halfway => {}
        }
        match &effect.work {
            // Nothing lies outside but logins.
            Work::Step(work) if work.outside.is_some() => self.lease_step(work, fault, now)?,
            Work::Step(work) => self.step(work, fault)?,
            Work::Revoke(work) if work.part == Part::Prove => {}
            Work::Revoke(work) if work.part == Part::Disable && work.outside.is_none() => {
                self.disable(work.secret, &work.versions, fault == StoreFault::Lies);
            }
            Work::Revoke(work) if work.part == Part::Destroy => {
                self.destroy(work.secret, &work.versions);
            }
            Work::Revoke(work) => {
                let outside = work.outside.iter();
                let retire: Vec<RemoteVersion> =
                    outside.flat_map(|one| one.retire.clone()).collect();
                self.end_logins(work.secret, &work.versions, &retire);
            }
        }
        match fault {
            StoreFault::Silent => Err(away()),
            _ => Ok(()),
        }
    }

    /// store-sync has the server told of none of them again, and keeps their values for the proof. The server refuses
    /// them from now on, or only says so.
    fn disable(&mut self, secret: SecretId, versions: &[u64], is_lie: bool) {
        for value in versions.iter().map(|version| (secret, *version)) {
            self.gone.insert(value);
            if !is_lie {
                self.accepted.remove(&value);
                self.sessions.remove(&value);
            }
        }
    }

    /// Their values go, and no server is asked.
    fn destroy(&mut self, secret: SecretId, versions: &[u64]) {
        for value in versions.iter().map(|version| (secret, *version)) {
            self.values.remove(&value);
            self.gone.insert(value);
        }
    }

    /// One of them cannot be opened any more.
    pub(crate) fn lose(&mut self, work: &RevokeWork) {
        if let Some(version) = work.versions.first() {
            self.values.remove(&(work.secret, *version));
        }
    }

    /// A login with each version whose value is kept.
    pub(crate) fn prove(&self, work: &RevokeWork, at: Timestamp) -> Proof {
        if work.outside.is_some() {
            return Proof::lacking("its store says that the lease is gone");
        }
        let ask = |version: &u64| Evidence {
            version: *version,
            at,
            place: "the server".to_owned(),
            answer: match self.accepted.contains(&(work.secret, *version)) {
                true => Answer::Accepted,
                false => Answer::WrongPassword,
            },
        };
        let is_kept = |version: &&u64| self.values.contains(&(work.secret, **version));
        let lost = work.versions.iter().any(|version| !is_kept(&version));
        Proof {
            evidence: work.versions.iter().filter(is_kept).map(ask).collect(),
            lacking: lost.then(|| "its value is gone".to_owned()),
        }
    }

    fn step(&mut self, work: &StepWork, fault: StoreFault) -> Result<(), Failure> {
        for value in work.versions.iter().map(|version| (work.secret, *version)) {
            match work.step {
                Step::Create if self.gone.contains(&value) => return Err(refuses("it is revoked")),
                Step::Create => {
                    self.values.insert(value);
                }
                Step::Set if self.gone.contains(&value) && !self.forgets => {
                    return Err(refuses("it is revoked"));
                }
                Step::Set if !self.values.contains(&value) => return Err(refuses("no value")),
                Step::Set if fault == StoreFault::Lies => {}
                Step::Set => {
                    self.accepted.insert(value);
                    let open = value.1 % MOST_SESSIONS;
                    self.sessions.entry(value).or_insert(open);
                }
                Step::Test | Step::Finish if !self.accepted.contains(&value) => {
                    return Err(refuses("the server does not accept it"));
                }
                Step::Test | Step::Finish | Step::Drain => {}
                Step::RevokeOld | Step::RollBack => self.end(work.secret, &[value.1]),
            }
        }
        Ok(())
    }

    /// What the server says of the sessions of what is to die; after that one of each ends. Once it has told
    /// of some it may not tell them for once: that ends no wait. It may also tell none from the start, and a
    /// pool may open one anew with what it had, as long as any is open.
    pub(crate) fn count(&mut self, work: &StepWork, quirk: Quirk) -> Option<Sessions> {
        let is_untold = work.mark.is_some() && work.attempt.is_multiple_of(UNTOLD_EVERY);
        if is_untold || quirk == Quirk::Untold {
            return None;
        }
        let mut left = 0;
        for value in work.versions.iter().map(|version| (work.secret, *version)) {
            if let Some(open) = self.sessions.get_mut(&value) {
                if quirk == Quirk::Reopened && !self.quiet.contains(&value) {
                    *open += 1;
                }
                left += *open;
                if *open == 0 {
                    self.quiet.insert(value);
                }
                *open = open.saturating_sub(1);
            }
        }
        Some(Sessions {
            mark: work.mark.unwrap_or(1),
            left,
        })
    }

    pub(crate) fn end(&mut self, secret: SecretId, versions: &[u64]) {
        for version in versions {
            let value = (secret, *version);
            self.accepted.remove(&value);
            self.sessions.remove(&value);
            self.values.remove(&value);
            self.gone.insert(value);
        }
    }
}

pub(crate) const fn away() -> Failure {
    Failure {
        reason: "the server does not answer",
        is_away: true,
    }
}

pub(crate) const fn refuses(reason: &'static str) -> Failure {
    Failure {
        reason,
        is_away: false,
    }
}
