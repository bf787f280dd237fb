//! The commands workers submit over the bus. What people ask for comes through the API instead.

use std::collections::BTreeMap;

use keywheel_core::command::{self, Command};
use keywheel_core::id::{HostId, RevocationId, RotationId, RunId, SecretId, SlotId, StoreId};
use keywheel_core::name::{HostName, PlaybookName};
use keywheel_core::playbook_run::{Cause, Request};
use keywheel_core::store::RemoteVersion;
use keywheel_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::report::Report;
use crate::event::playbook_run::RunCause;
use crate::event::revocation::Proof;
use crate::event::rotation::{Sessions, Step};
use crate::mirror::{Mirror, Text, mirror_struct};

/// A command that no worker may submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a worker's command; people and tools ask for it through the API")]
pub struct NotAWorkersCommand(pub &'static str);

mirror_struct! {
    /// What store-sync saw at a secret's place outside.
    Observation = command::Observation {
        /// The secret.
        secret: Text<SecretId>,
        /// The rotation that takes over what was found, if one is needed.
        rotation: Text<RotationId>,
        /// The version that was known when it looked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        known: Option<Text<RemoteVersion>>,
        /// The version that is current there; absent when nothing is there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        found: Option<Text<RemoteVersion>>,
        /// Whether its value is the current one of ours.
        is_unchanged: bool,
        /// Whether the known lease of a container ended there.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_gone: bool,
    }
}

mirror_struct! {
    /// What came of logins with what was revoked.
    ProofTaken = command::ProofTaken {
        /// The revocation.
        revocation: Text<RevocationId>,
        /// The attempt.
        attempt: u32,
        /// What came of them.
        proof: Proof,
    }
}

/// What a worker may submit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum WorkerCommand {
    /// A schedule's slot is due.
    Due {
        /// The rotation.
        rotation: Text<RotationId>,
        /// The secret.
        secret: Text<SecretId>,
        /// The slot.
        slot: Text<SlotId>,
        /// When it was due, before jitter.
        scheduled: Text<Timestamp>,
        /// Number in the log of the event that leads to it; absent for a slot of the schedule.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<u64>,
        /// Release of the time zone rules by which it was due; absent where no zone was asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tzdata: Option<String>,
    },
    /// Makes a host known, or replaces its key.
    EnrolHost {
        /// The host.
        host: Text<HostId>,
        /// Its name.
        name: Text<HostName>,
        /// Values for it are sealed to this public key.
        sealing_key: Text<[u8; 32]>,
    },
    /// A worker answers a rotation's step.
    StepOutcome {
        /// The rotation.
        rotation: Text<RotationId>,
        /// The step.
        step: Step,
        /// The attempt.
        attempt: u32,
        /// Why it failed, without a value; absent for success.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
        /// Whether the store could not be reached or did not answer in time.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        is_away: bool,
        /// After `finish` the version that is current at the store outside.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        remote: Option<Text<RemoteVersion>>,
        /// After `drain` the sessions that are left; absent when the backend does not tell.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sessions: Option<Sessions>,
    },
    /// store-sync looked at a secret's place outside.
    Observed {
        /// What it saw.
        seen: Observation,
    },
    /// store-sync found that a store answers again, or does not any more.
    StoreContact {
        /// The store.
        store: Text<StoreId>,
        /// Why it does not answer, without a value; absent when it does.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// A worker answers a revocation.
    RevokeOutcome {
        /// The revocation.
        revocation: Text<RevocationId>,
        /// The attempt.
        attempt: u32,
        /// Why it failed, without a value; absent for success.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        failure: Option<String>,
    },
    /// A rotation's failed step is tried again.
    RetryStep {
        /// The rotation.
        rotation: Text<RotationId>,
    },
    /// A revocation's failed attempt is tried again.
    RetryRevoke {
        /// The revocation.
        revocation: Text<RevocationId>,
    },
    /// Waiting for a rotation's consumers ends.
    DeadlinePassed {
        /// The rotation.
        rotation: Text<RotationId>,
    },
    /// An injector says what is.
    Report {
        /// What is.
        report: Report,
    },
    /// The lease of a container that is gone is kept no longer.
    LingerEnded {
        /// The container's hidden secret.
        secret: Text<SecretId>,
    },
    /// A worker tells what came of logins with what was revoked.
    ProofOutcome {
        /// What came of it.
        taken: ProofTaken,
    },
    /// A trigger of a playbook begins a run.
    StartPlaybook {
        /// What.
        start: PlaybookStart,
    },
    /// The time of a playbook run's step is over.
    PlaybookDue {
        /// The run.
        run: Text<RunId>,
        /// The step.
        step: String,
    },
}

/// A run that a trigger begins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlaybookStart {
    /// The run.
    pub run: Text<RunId>,
    /// The playbook.
    pub playbook: Text<PlaybookName>,
    /// What it is told.
    pub arguments: BTreeMap<String, String>,
    /// Why, in words.
    pub reason: String,
    /// What led to it.
    pub cause: RunCause,
}

impl PlaybookStart {
    fn into_command(self) -> Command {
        Command::Playbook(Request::Start {
            run: self.run.0,
            playbook: self.playbook.0,
            arguments: self.arguments,
            by: String::new(),
            reason: self.reason,
            cause: self.cause.into_core(),
        })
    }
}

impl WorkerCommand {
    /// Takes a command a worker may submit.
    ///
    /// # Errors
    /// For every other command.
    pub fn of(command: &Command) -> Result<Self, NotAWorkersCommand> {
        Ok(match command {
            Command::Due {
                rotation,
                secret,
                slot,
                scheduled,
                after,
                tzdata,
            } => Self::Due {
                rotation: Text(*rotation),
                secret: Text(*secret),
                slot: Text(*slot),
                scheduled: Text(*scheduled),
                after: *after,
                tzdata: tzdata.clone(),
            },
            Command::EnrolHost {
                host,
                name,
                sealing_key,
            } => Self::EnrolHost {
                host: Text(*host),
                name: Text(name.clone()),
                sealing_key: Text(*sealing_key),
            },
            Command::StepOutcome {
                rotation,
                step,
                attempt,
                failure,
                is_away,
                remote,
                sessions,
            } => Self::StepOutcome {
                rotation: Text(*rotation),
                step: Step::of(step),
                attempt: *attempt,
                failure: failure.clone(),
                is_away: *is_away,
                remote: Option::of(remote),
                sessions: Option::of(sessions),
            },
            Command::Observed(seen) => Self::Observed {
                seen: Observation::of(seen),
            },
            Command::StoreContact { store, failure } => Self::StoreContact {
                store: Text(*store),
                failure: failure.clone(),
            },
            Command::RevokeOutcome {
                revocation,
                attempt,
                failure,
            } => Self::RevokeOutcome {
                revocation: Text(*revocation),
                attempt: *attempt,
                failure: failure.clone(),
            },
            Command::Report(report) => Self::Report {
                report: Report::of(report),
            },
            Command::ProofOutcome(taken) => Self::ProofOutcome {
                taken: ProofTaken::of(taken),
            },
            other => return Self::of_time(other).ok_or(NotAWorkersCommand(person_s(other))),
        })
    }

    /// A command that says no more than whose time has come.
    fn of_time(command: &Command) -> Option<Self> {
        Some(match command {
            Command::RetryStep { rotation } => Self::RetryStep {
                rotation: Text(*rotation),
            },
            Command::RetryRevoke { revocation } => Self::RetryRevoke {
                revocation: Text(*revocation),
            },
            Command::DeadlinePassed { rotation } => Self::DeadlinePassed {
                rotation: Text(*rotation),
            },
            Command::LingerEnded { secret } => Self::LingerEnded {
                secret: Text(*secret),
            },
            Command::Playbook(Request::Start {
                run,
                playbook,
                arguments,
                reason,
                cause,
                ..
            }) if *cause != Cause::Person => Self::StartPlaybook {
                start: PlaybookStart {
                    run: Text(*run),
                    playbook: Text(playbook.clone()),
                    arguments: arguments.clone(),
                    reason: reason.clone(),
                    cause: RunCause::of(cause),
                },
            },
            Command::Playbook(Request::Due { run, step }) => Self::PlaybookDue {
                run: Text(*run),
                step: step.clone(),
            },
            _ => return None,
        })
    }

    /// Gives the core's command.
    #[must_use]
    pub fn into_core(self) -> Command {
        match self {
            Self::Due {
                rotation,
                secret,
                slot,
                scheduled,
                after,
                tzdata,
            } => Command::Due {
                rotation: rotation.0,
                secret: secret.0,
                slot: slot.0,
                scheduled: scheduled.0,
                after,
                tzdata,
            },
            Self::EnrolHost {
                host,
                name,
                sealing_key,
            } => Command::EnrolHost {
                host: host.0,
                name: name.0,
                sealing_key: sealing_key.0,
            },
            Self::StepOutcome {
                rotation,
                step,
                attempt,
                failure,
                is_away,
                remote,
                sessions,
            } => Command::StepOutcome {
                rotation: rotation.0,
                step: step.into_core(),
                attempt,
                failure,
                is_away,
                remote: remote.into_core(),
                sessions: sessions.into_core(),
            },
            Self::Observed { seen } => Command::Observed(seen.into_core()),
            Self::StoreContact { store, failure } => Command::StoreContact {
                store: store.0,
                failure,
            },
            Self::RevokeOutcome {
                revocation,
                attempt,
                failure,
            } => Command::RevokeOutcome {
                revocation: revocation.0,
                attempt,
                failure,
            },
            Self::RetryStep { rotation: id } => Command::RetryStep { rotation: id.0 },
            Self::RetryRevoke { revocation } => Command::RetryRevoke {
                revocation: revocation.0,
            },
            Self::DeadlinePassed { rotation: id } => Command::DeadlinePassed { rotation: id.0 },
            Self::LingerEnded { secret } => Command::LingerEnded { secret: secret.0 },
            Self::ProofOutcome { taken } => Command::ProofOutcome(taken.into_core()),
            Self::StartPlaybook { start } => start.into_command(),
            Self::PlaybookDue { run, step } => step_due(run.0, step),
            Self::Report { report } => Command::Report(report.into_core()),
        }
    }
}

fn step_due(run: RunId, step: String) -> Command {
    Command::Playbook(Request::Due { run, step })
}

/// What a person's command is called; a worker's has its own shape.
const fn person_s(command: &Command) -> &'static str {
    match command {
        Command::Apply(_) => "apply",
        Command::Unbind { .. } => "unbind",
        Command::RemoveStore { .. } => "remove store",
        Command::Put { .. } => "put",
        Command::Rotate { .. } => "rotate",
        Command::Intervene { .. } => "intervene",
        Command::Revoke { .. } => "revoke",
        Command::IssueJoinToken(_) => "issue join token",
        Command::JoinHost(_) => "join host",
        Command::RotateHostKey(_) => "rotate host key",
        Command::NotePermit(_) => "note permit",
        Command::EvictHost { .. } => "evict host",
        Command::ForgetRevocation { .. } => "forget revocation",
        Command::Outward(_) => "outward",
        Command::Replace(_) => "revoke and replace",
        Command::BuryLost(_) => "bury lost versions",
        Command::JudgeBindings => "judge bindings",
        Command::Playbook(Request::Due { .. }) => "worker's",
        Command::Playbook(_) => "playbook",
        Command::ApplyPolicies(_) => "apply policies",
        Command::Token(_) => "token",
        Command::Approval(_) => "approval",
        Command::Due { .. }
        | Command::EnrolHost { .. }
        | Command::StepOutcome { .. }
        | Command::Observed(_)
        | Command::StoreContact { .. }
        | Command::RevokeOutcome { .. }
        | Command::ProofOutcome { .. }
        | Command::RetryStep { .. }
        | Command::RetryRevoke { .. }
        | Command::DeadlinePassed { .. }
        | Command::LingerEnded { .. }
        | Command::Report(_) => "worker's",
    }
}
