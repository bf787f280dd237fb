//! The rotation's state, its decisions and the fold of its events.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Drain, Event, Intervention, MAX_STEP_ATTEMPTS, Outcome, Rejection, Step, Trigger};
use crate::assignment;
use crate::id::{HostId, RotationId, SecretId};
use crate::time::Timestamp;

/// Why a step failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure<'a> {
    /// In words, without a value.
    pub reason: &'a str,
    /// Whether the store was not there to answer.
    pub is_away: bool,
}

/// Where a rotation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// A worker performs a step.
    Performing {
        /// The step.
        step: Step,
        /// First is 1.
        attempt: u32,
    },
    /// A step failed and waits to be tried again.
    Retrying {
        /// The step.
        step: Step,
        /// The attempt that failed.
        attempt: u32,
        /// Why.
        reason: String,
    },
    /// Consumers move.
    Distributing,
    /// Sessions of what dies are waited for, or a grace where the backend does not tell them.
    Draining {
        /// The attempt at asking that was answered last.
        attempt: u32,
    },
    /// It ended.
    Closed(Outcome),
    /// Before a cut-over hosts take the version, and give it to nobody yet.
    Staging,
    /// Canaries have the version, nobody else, and it is not promoted.
    Canary,
}

/// One rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotation {
    /// Its id, and the token of its steps.
    pub id: RotationId,
    /// The secret.
    pub secret: SecretId,
    /// The version it makes.
    pub version: u64,
    /// Why it began.
    pub trigger: Trigger,
    /// Where it stands.
    pub phase: Phase,
    /// Whether `set` was ever begun: before it no server accepts anything of its version.
    pub was_set: bool,
    /// Consumers that did not acknowledge yet.
    pub waiting: BTreeSet<assignment::Key>,
    /// Consumers that did.
    pub acknowledged: BTreeSet<assignment::Key>,
    /// Hosts that may still hold an older version.
    pub barrier: BTreeSet<HostId>,
    /// Versions that die at the end.
    pub old: Vec<u64>,
    /// When waiting for consumers ends, and then that for sessions; `None` once sessions are waited for beyond
    /// it. A grace has an end of its own.
    pub deadline: Option<Timestamp>,
    /// Plan generation from which a host's report counts for the barrier.
    pub generation: u64,
    /// The attempt at `finish` that was under way when the rotation was cancelled: until it is
    /// answered, nobody knows what is current at the store.
    pub late_finish: Option<u32>,
    /// Why a consumer did not run well with what it brings.
    pub halted: Option<String>,
    /// The version before, once consumers move back to it.
    pub returning: Option<u64>,
    /// Why a person gave it up.
    pub aborted: Option<String>,
    /// Whether it ends without those who did not acknowledge.
    pub forced: bool,
    /// Those, then.
    pub left_behind: BTreeSet<assignment::Key>,
    /// What is known of the sessions of what dies.
    pub drain: Drain,
    /// Hosts that are to have the version before `set`, and did not say so yet.
    pub staging: BTreeSet<HostId>,
    /// Since when the server may refuse the version before, which consumers have.
    pub cut_over: Option<Timestamp>,
    /// How long it took from then until the last consumer had come over.
    pub gap: Option<Duration>,
    /// Who has the version before it is promoted, or had it and goes back.
    pub canaries: BTreeSet<assignment::Key>,
}

impl Rotation {
    /// The state after `Started`.
    #[must_use]
    pub fn started(id: RotationId, secret: SecretId, version: u64, trigger: Trigger) -> Self {
        Self {
            id,
            secret,
            version,
            trigger,
            phase: Phase::Performing {
                step: Step::Create,
                attempt: 0,
            },
            was_set: false,
            waiting: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
            barrier: BTreeSet::new(),
            old: Vec::new(),
            deadline: None,
            generation: 0,
            late_finish: None,
            halted: None,
            returning: None,
            aborted: None,
            forced: false,
            left_behind: BTreeSet::new(),
            drain: Drain::default(),
            staging: BTreeSet::new(),
            cut_over: None,
            gap: None,
            canaries: BTreeSet::new(),
        }
    }

    /// The version that consumers have to run on.
    #[must_use]
    pub fn wanted(&self) -> u64 {
        self.returning.unwrap_or(self.version)
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Closed(_))
    }

    /// Whether something else took its place before its end.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.phase == Phase::Closed(Outcome::Cancelled)
    }

    /// Whether it takes over what is outside, and writes nothing there.
    #[must_use]
    pub const fn takes_over(&self) -> bool {
        matches!(self.trigger, Trigger::External { .. })
    }

    /// Whether consumers and hosts have all acknowledged.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.phase == Phase::Distributing && self.waiting.is_empty() && self.barrier.is_empty()
    }

    /// Takes the outcome of the open step.
    ///
    /// # Errors
    /// When the rotation does not wait for exactly this step and attempt.
    pub fn decide_outcome(
        &self,
        step: Step,
        attempt: u32,
        failure: Option<Failure<'_>>,
    ) -> Result<Vec<Event>, Rejection> {
        if step == Step::Finish && self.late_finish == Some(attempt) {
            return Ok(vec![after_cancellation(attempt, failure)]);
        }
        if self.phase != (Phase::Performing { step, attempt }) {
            return Err(Rejection::StepNotOpen {
                rotation: self.id,
                step,
                attempt,
            });
        }
        let Some(failure) = failure else {
            return Ok(self.after_success(step));
        };
        let failed = Event::StepFailed {
            step,
            attempt,
            reason: failure.reason.to_owned(),
        };
        let last = attempt >= MAX_STEP_ATTEMPTS && !failure.is_away;
        let rolls_back = is_before_promotion(step) || step == Step::Finish;
        if (last && rolls_back) || self.is_given_up_at(step) {
            return Ok(vec![
                failed,
                Event::StepStarted {
                    step: Step::RollBack,
                    attempt: 1,
                },
            ]);
        }
        Ok(vec![failed])
    }

    fn after_success(&self, step: Step) -> Vec<Event> {
        let done = Event::StepCompleted { step };
        let next = |step| Event::StepStarted { step, attempt: 1 };
        if self.is_given_up_at(step) {
            return vec![done, next(Step::RollBack)];
        }
        match step {
            Step::Create => vec![done, next(Step::Set)],
            Step::Set => vec![done, next(Step::Test)],
            Step::Test => vec![done, next(Step::Finish)],
            // The promotion is the secret's; `decision` adds it and the distribution. What the answer to
            // `Drain` leads to is `decision`'s, too.
            Step::Finish | Step::Drain => vec![done],
            Step::RevokeOld => vec![
                done,
                Event::Closed {
                    outcome: Outcome::Completed,
                },
            ],
            Step::RollBack => vec![
                done,
                Event::Closed {
                    outcome: Outcome::RolledBack,
                },
            ],
        }
    }

    /// Whether a person gave it up before this step was answered.
    #[must_use]
    pub fn is_given_up_at(&self, step: Step) -> bool {
        self.aborted.is_some() && is_before_promotion(step)
    }

    /// Tries a failed step again.
    ///
    /// # Errors
    /// When no failed step waits.
    pub fn decide_retry(&self) -> Result<Event, Rejection> {
        match self.phase {
            Phase::Retrying { step, attempt, .. } => Ok(Event::StepStarted {
                step,
                attempt: attempt.saturating_add(1),
            }),
            Phase::Draining { .. } => Ok(self.ask_for_sessions()),
            _ => Err(Rejection::NoDeadline(self.id)),
        }
    }

    /// Ends the wait for consumers, or for sessions.
    ///
    /// # Errors
    /// When the rotation does not wait, or the deadline lies ahead.
    pub fn decide_deadline(&self, now: Timestamp) -> Result<Event, Rejection> {
        let passed = self.waits_until().is_some_and(|deadline| now >= deadline);
        let waits = self.phase == Phase::Distributing || self.is_draining();
        if !waits || !passed {
            return Err(Rejection::NoDeadline(self.id));
        }
        Ok(Event::DeadlinePassed)
    }

    fn close(&mut self, outcome: &Outcome) {
        if let Phase::Performing {
            step: Step::Finish,
            attempt,
        } = self.phase
        {
            self.late_finish = Some(attempt);
        }
        self.phase = Phase::Closed(outcome.clone());
    }

    fn distribute(
        &mut self,
        (consumers, hosts, old): (&[assignment::Key], &[HostId], &[u64]),
        deadline: Timestamp,
    ) {
        self.phase = Phase::Distributing;
        self.canaries.clear();
        self.old = old.to_vec();
        self.wait_for(consumers, hosts, deadline);
    }

    pub(super) fn wait_for(
        &mut self,
        consumers: &[assignment::Key],
        hosts: &[HostId],
        deadline: Timestamp,
    ) {
        self.waiting = consumers.iter().cloned().collect();
        self.acknowledged.clear();
        self.barrier = hosts.iter().copied().collect();
        self.deadline = Some(deadline);
    }

    /// Folds one event; total.
    pub fn evolve(&mut self, event: &Event) {
        self.drain.evolve(event);
        match event {
            Event::Started {
                secret,
                version,
                trigger,
            } => {
                self.secret = *secret;
                self.version = *version;
                self.trigger = trigger.clone();
            }
            Event::StepStarted { step, attempt } => {
                self.was_set |= *step == Step::Set;
                self.phase = Phase::Performing {
                    step: *step,
                    attempt: *attempt,
                };
            }
            Event::StepCompleted { .. } | Event::StepFailed { .. } if !self.is_open() => {
                self.late_finish = None;
            }
            Event::StepFailed {
                step,
                attempt,
                reason,
            } => {
                self.phase = Phase::Retrying {
                    step: *step,
                    attempt: *attempt,
                    reason: reason.clone(),
                };
            }
            Event::DistributionStarted {
                consumers,
                hosts,
                old,
                deadline,
            } => self.distribute((consumers, hosts, old), *deadline),
            Event::DeadlineMoved { deadline } => self.deadline = Some(*deadline),
            Event::ConsumerAcknowledged { consumer } => {
                self.waiting.remove(consumer);
                self.acknowledged.insert(consumer.clone());
            }
            Event::HostBarrierAcknowledged { host } => {
                self.barrier.remove(host);
            }
            Event::Closed { outcome } => self.close(outcome),
            Event::Halted { .. }
            | Event::TurnedBack { .. }
            | Event::Intervened { .. }
            | Event::Reopened { .. }
            | Event::Forced
            | Event::SessionsLeft { .. }
            | Event::SessionsUntold { .. }
            | Event::DeadlinePassed => self.evolve_otherwise(event),
            Event::HostReleased { .. }
            | Event::StagingStarted { .. }
            | Event::HostStaged { .. }
            | Event::StagingEnded { .. }
            | Event::CutOver { .. }
            | Event::GapMeasured { .. } => self.evolve_cut_over(event),
            Event::CanaryStarted { .. }
            | Event::CanaryWatched { .. }
            | Event::CanaryPassed
            | Event::CanarySkipped { .. } => self.evolve_canary(event),
            Event::StepCompleted { .. } | Event::StragglersNamed { .. } => {}
        }
    }

    /// What a failure, a person, a way back, the deadline's policy or the backend's sessions make of it.
    fn evolve_otherwise(&mut self, event: &Event) {
        match event {
            Event::Halted { reason, .. } => self.halted = Some(reason.clone()),
            Event::Intervened {
                intervention: Intervention::Abort,
                reason,
            } => self.aborted = Some(reason.clone()),
            Event::TurnedBack {
                version,
                consumers,
                hosts,
                deadline,
            } => {
                self.phase = Phase::Distributing;
                self.returning = Some(*version);
                self.old = vec![self.version];
                self.wait_for(consumers, hosts, *deadline);
            }
            Event::Reopened {
                consumers,
                hosts,
                deadline,
                ..
            } => {
                self.phase = Phase::Distributing;
                self.forced = false;
                self.left_behind.clear();
                self.wait_for(consumers, hosts, *deadline);
            }
            Event::Forced => {
                self.forced = true;
                self.left_behind = std::mem::take(&mut self.waiting);
                self.barrier.clear();
            }
            Event::SessionsLeft { attempt, .. } => {
                self.phase = Phase::Draining { attempt: *attempt };
            }
            Event::SessionsUntold { attempt, .. } => {
                self.phase = Phase::Draining { attempt: *attempt };
            }
            // Nobody is waited for by time any more: sessions end by themselves, whoever has what is not promoted
            // gives it up, or a person ends the wait.
            Event::DeadlinePassed if self.is_draining() || self.is_canary_return() => {
                self.deadline = None;
            }
            _ => {}
        }
    }
}

/// Whether a step leaves what is current as it is.
pub(crate) const fn is_before_promotion(step: Step) -> bool {
    matches!(step, Step::Create | Step::Set | Step::Test)
}

/// What is known of a `finish` that was answered only after a revocation had cancelled its rotation.
fn after_cancellation(attempt: u32, failure: Option<Failure<'_>>) -> Event {
    let step = Step::Finish;
    match failure {
        None => Event::StepCompleted { step },
        Some(failure) => Event::StepFailed {
            step,
            attempt,
            reason: failure.reason.to_owned(),
        },
    }
}
