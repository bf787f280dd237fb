//! Events of a rotation.

use keywheel_core::id::{HostId, RunId, SecretId, SlotId};
use keywheel_core::rotation;
use keywheel_core::store::RemoteVersion;
use keywheel_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::assignment::Consumer;
use crate::mirror::{Mirror, Text, mirror_enum, mirror_struct, mirror_words};

mirror_words! {
    /// A step the shell performs and answers.
    Step = rotation::Step {
        /// Make the new value and keep it as pending.
        Create,
        /// Make the backend accept it.
        Set,
        /// Show that the backend accepts it.
        Test,
        /// Make it current at the store.
        Finish,
        /// Make the old version unusable and destroy its data key.
        RevokeOld,
        /// Take back what was made of the new version.
        RollBack,
        /// Ask the backend for sessions of the old credential from before the last acknowledgement.
        Drain,
    }
}

mirror_words! {
    /// How a rotation ended.
    Outcome = rotation::Outcome {
        /// Every consumer runs on the new version and the old one is dead.
        Completed,
        /// Consumers run on the version before, and the new one is dead.
        RolledBack,
        /// Consumers were too slow; the old version stays alive and a person decides.
        Parked,
        /// A revocation took over.
        Cancelled,
    }
}

mirror_words! {
    /// What a person may do to a rotation.
    Intervention = rotation::Intervention {
        /// Give it up: consumers keep, or get back, the version before.
        Abort,
        /// Try a failed step again, or wait for consumers once more.
        Retry,
        /// Wait for consumers no more: what they were to give up dies.
        Force,
    }
}

mirror_struct! {
    /// A consumer that did not acknowledge when waiting ended.
    Straggler = rotation::Straggler {
        /// The consumer.
        consumer: Consumer,
        /// What it lacks, without a value.
        reason: String,
    }
}

mirror_struct! {
    /// What a backend says of the sessions of the credentials that are to die.
    Sessions = rotation::Sessions {
        /// Where it draws the line; it means something only to that backend.
        mark: Text<i64>,
        /// How many are open from before it.
        left: u64,
    }
}

/// Why a rotation began.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Trigger {
    /// The secret was registered and has no version yet.
    Initial {},
    /// A person or tool asked.
    OnDemand {},
    /// A person provided the value.
    Provided {},
    /// Somebody changed the value at the store outside.
    External {
        /// The version there that is taken over.
        remote: Text<RemoteVersion>,
    },
    /// A schedule fired.
    Slot {
        /// The slot, accepted once.
        slot: Text<SlotId>,
        /// When it was due, before jitter.
        scheduled: Text<Timestamp>,
        /// Release of the time zone rules by which it was due; absent where no zone was asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        tzdata: Option<String>,
    },
    /// A step of a playbook's run asked; what it replaces dies by a revocation of its own.
    Playbook {
        /// The run.
        run: Text<RunId>,
    },
}

impl Mirror for Trigger {
    type Core = rotation::Trigger;
    fn of(core: &Self::Core) -> Self {
        match core {
            rotation::Trigger::Initial => Self::Initial {},
            rotation::Trigger::OnDemand => Self::OnDemand {},
            rotation::Trigger::Provided => Self::Provided {},
            rotation::Trigger::External { remote } => Self::External {
                remote: Text(remote.clone()),
            },
            rotation::Trigger::Slot {
                slot,
                scheduled,
                tzdata,
            } => Self::Slot {
                slot: Text(*slot),
                scheduled: Text(*scheduled),
                tzdata: tzdata.clone(),
            },
            rotation::Trigger::Playbook { run } => Self::Playbook { run: Text(*run) },
        }
    }
    fn into_core(self) -> Self::Core {
        match self {
            Self::Initial {} => rotation::Trigger::Initial,
            Self::OnDemand {} => rotation::Trigger::OnDemand,
            Self::Provided {} => rotation::Trigger::Provided,
            Self::External { remote } => rotation::Trigger::External { remote: remote.0 },
            Self::Slot {
                slot,
                scheduled,
                tzdata,
            } => rotation::Trigger::Slot {
                slot: slot.0,
                scheduled: scheduled.0,
                tzdata,
            },
            Self::Playbook { run } => rotation::Trigger::Playbook { run: run.0 },
        }
    }
}

mirror_enum! {
    /// What happened to a rotation.
    RotationEvent = rotation::Event {
        /// It began.
        Started {
            /// The secret.
            secret: Text<SecretId>,
            /// The version it makes.
            version: u64,
            /// Why.
            trigger: Trigger,
        },
        /// A step is to be performed: the intent.
        StepStarted {
            /// The step.
            step: Step,
            /// First is 1.
            attempt: u32,
        },
        /// The step is done.
        StepCompleted {
            /// The step.
            step: Step,
        },
        /// The step failed.
        StepFailed {
            /// The step.
            step: Step,
            /// Which attempt.
            attempt: u32,
            /// Why, without a value.
            reason: String,
        },
        /// Consumers have to move; an empty list is done at once.
        DistributionStarted {
            /// Everyone who has to acknowledge.
            consumers: Vec<Consumer>,
            /// Every host that held an older version.
            hosts: Vec<Text<HostId>>,
            /// Versions that die at the end.
            old: Vec<u64>,
            /// When waiting ends.
            deadline: Text<Timestamp>,
        },
        /// A consumer showed that it runs on the new version, or is gone.
        ConsumerAcknowledged {
            /// The consumer.
            consumer: Consumer,
        },
        /// A host showed that it holds no older version.
        HostBarrierAcknowledged {
            /// The host.
            host: Text<HostId>,
        },
        /// A host was evicted, or before a cut-over is given the secret no more: nothing waits for it.
        HostReleased {
            /// The host.
            host: Text<HostId>,
        },
        /// Consumers were given leave to restart, or have to wait for it, or sessions are waited for from now on,
        /// so waiting ends later.
        DeadlineMoved {
            /// When waiting ends.
            deadline: Text<Timestamp>,
        },
        /// A consumer did not run well with what the rotation brings.
        Halted {
            /// The consumer.
            consumer: Consumer,
            /// Why, with the next step.
            reason: String,
        },
        /// The version before is current again, or is still current where only canaries had another one;
        /// consumers have to move back to it.
        TurnedBack {
            /// That version.
            version: u64,
            /// Everyone who has to acknowledge it.
            consumers: Vec<Consumer>,
            /// Every host that may hold the version of this rotation.
            hosts: Vec<Text<HostId>>,
            /// When waiting ends.
            deadline: Text<Timestamp>,
        },
        /// Waiting ended before everyone acknowledged.
        DeadlinePassed {},
        /// Who did not acknowledge by then, and which hosts may hold what was to die.
        StragglersNamed {
            /// The consumers.
            consumers: Vec<Straggler>,
            /// The hosts.
            hosts: Vec<Text<HostId>>,
        },
        /// Nobody is waited for any more: what was to die at the end dies now.
        Forced {},
        /// A person stepped in.
        Intervened {
            /// How.
            intervention: Intervention,
            /// Why, in a person's words.
            reason: String,
        },
        /// A parked one waits for consumers again.
        Reopened {
            /// The secret.
            secret: Text<SecretId>,
            /// Everyone who has to acknowledge.
            consumers: Vec<Consumer>,
            /// Every host that may hold what dies at the end.
            hosts: Vec<Text<HostId>>,
            /// When waiting ends.
            deadline: Text<Timestamp>,
        },
        /// It ended.
        Closed {
            /// How.
            outcome: Outcome,
        },
        /// Sessions of what dies at the end are open from before the last acknowledgement.
        SessionsLeft {
            /// Which attempt at asking found them.
            attempt: u32,
            /// Where the backend draws the line; it means something only to that backend.
            mark: Text<i64>,
            /// How many.
            sessions: u64,
            /// Since when they are waited for.
            since: Text<Timestamp>,
        },
        /// The backend does not tell its sessions: the old credential lives on for a grace instead.
        SessionsUntold {
            /// Which attempt at asking said so.
            attempt: u32,
            /// When the grace ends.
            until: Text<Timestamp>,
        },
        /// A cut-over: hosts take the version beforehand, and give it to nobody yet.
        StagingStarted {
            /// Every host with consumers.
            hosts: Vec<Text<HostId>>,
            /// When nobody is waited for any more.
            deadline: Text<Timestamp>,
        },
        /// A host has the version at hand.
        HostStaged {
            /// The host.
            host: Text<HostId>,
        },
        /// Hosts are waited for no more; `set` is next.
        StagingEnded {
            /// Those that did not say in time that they have it.
            missing: Vec<Text<HostId>>,
        },
        /// From here on the server may refuse the version before, which consumers still have.
        CutOver {
            /// When that was first known to be so.
            at: Text<Timestamp>,
        },
        /// The last consumer came over.
        GapMeasured {
            /// When the version before was refused.
            since: Text<Timestamp>,
            /// When nobody needed it any more.
            until: Text<Timestamp>,
        },
        /// A few containers get the version before it is promoted.
        CanaryStarted {
            /// Who they are.
            consumers: Vec<Consumer>,
            /// Their hosts.
            hosts: Vec<Text<HostId>>,
            /// When they have to have acknowledged.
            deadline: Text<Timestamp>,
        },
        /// All of them acknowledged, and are watched.
        CanaryWatched {
            /// Until then.
            until: Text<Timestamp>,
        },
        /// They ran well with it for as long as was asked; it is promoted next.
        CanaryPassed {},
        /// Nobody gets the version before it is promoted, or is watched any longer.
        CanarySkipped {
            /// Why.
            reason: String,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_names_its_time_zone_rules_or_is_written_as_ever() {
        for release in [None, Some("2026a")] {
            let slot = rotation::Trigger::Slot {
                slot: SlotId::from_bytes([7; 16]),
                scheduled: Timestamp::default(),
                tzdata: release.map(str::to_owned),
            };
            let written = serde_json::to_value(Trigger::of(&slot)).unwrap();
            let named = written.get("tzdata");
            assert_eq!(named.and_then(serde_json::Value::as_str), release);
            assert_eq!(named.is_some(), release.is_some());
            let read: Trigger = serde_json::from_value(written).unwrap();
            assert_eq!(read.into_core(), slot);
        }
    }
}
