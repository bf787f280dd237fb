//! Events of a run of a playbook.

use std::collections::BTreeMap;

use keywheel_core::id::{
    ContainerId, HostId, NotificationId, PlaybookId, RevocationId, RotationId, RunId, SecretId,
};
use keywheel_core::name::PlaybookName;
use keywheel_core::playbook_run;
use keywheel_core::time::Timestamp;

use super::playbook::PlaybookStep;
use crate::mirror::{Text, mirror_enum, mirror_struct, mirror_words};

mirror_enum! {
    /// One thing that a step does something to.
    RunTarget = playbook_run::Target {
        /// A secret.
        Secret {
            /// Which.
            secret: Text<SecretId>,
            /// The version to revoke; absent for all, and for a rotation.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            version: Option<u64>,
        },
        /// A host.
        Host {
            /// Which.
            host: Text<HostId>,
        },
        /// Another playbook.
        Playbook {
            /// Which.
            name: Text<PlaybookName>,
        },
        /// A notification, whose receiver is told something.
        Notification {
            /// Which.
            notification: Text<NotificationId>,
        },
        /// A container.
        Container {
            /// Its host.
            host: Text<HostId>,
            /// Which.
            container: Text<ContainerId>,
            /// Its name, for people.
            name: String,
        },
    }
}

mirror_enum! {
    /// What a step began.
    RunBegun = playbook_run::Begun {
        /// A rotation.
        Rotation {
            /// Which.
            rotation: Text<RotationId>,
        },
        /// A revocation.
        Revocation {
            /// Which.
            revocation: Text<RevocationId>,
        },
        /// The eviction of a host.
        Eviction {
            /// Which.
            host: Text<HostId>,
        },
        /// A run of another playbook.
        Run {
            /// Which.
            run: Text<RunId>,
        },
        /// Nothing: it was as the step wants it already.
        Nothing {},
        /// A message to a receiver.
        Message {
            /// The notification.
            notification: Text<NotificationId>,
        },
        /// The restart of a container.
        Restart {
            /// Its host.
            host: Text<HostId>,
        },
        /// The quarantine of a container.
        Quarantine {
            /// Its host.
            host: Text<HostId>,
        },
    }
}

mirror_enum! {
    /// Why a run began.
    RunCause = playbook_run::Cause {
        /// A person started it, or the step of a run did.
        Person {},
        /// An event of the log.
        Event {
            /// Its number in the log.
            number: u64,
        },
        /// A slot of a schedule.
        Slot {
            /// When it was due.
            scheduled: Text<Timestamp>,
        },
    }
}

mirror_words! {
    /// How a run ended.
    RunOutcome = playbook_run::Outcome {
        /// No step failed, but those that may.
        Completed,
        /// A step failed.
        Failed,
        /// A person gave it up.
        Cancelled,
    }
}

mirror_struct! {
    /// How many of what the steps of a run were to begin came to a good end.
    RunScore = playbook_run::Score {
        /// How many rotations and revocations they were to begin.
        targets: u64,
        /// How many of them were through.
        through: u64,
    }
}

mirror_words! {
    /// What a person may do to a run.
    RunIntervention = playbook_run::Intervention {
        /// Begin nothing more for now.
        Pause,
        /// Go on.
        Resume,
        /// Begin nothing more, ever.
        Cancel,
    }
}

mirror_enum! {
    /// What happened to a run.
    PlaybookRunEvent = playbook_run::Event {
        /// It began.
        Triggered {
            /// The playbook.
            playbook: Text<PlaybookId>,
            /// Its name.
            name: Text<PlaybookName>,
            /// What it was told.
            arguments: BTreeMap<String, String>,
            /// Its steps, with that put in.
            steps: Vec<PlaybookStep>,
            /// Who started it.
            by: String,
            /// Why, in that one's words.
            reason: String,
            /// The run whose step it is; absent for one that a person started.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            parent: Option<Text<RunId>>,
            /// How many runs are above it.
            depth: u32,
            /// Why it began.
            cause: RunCause,
        },
        /// A step began.
        StepStarted {
            /// The step.
            step: String,
            /// What it does something to, in this order.
            targets: Vec<RunTarget>,
            /// When it has to be over.
            until: Text<Timestamp>,
        },
        /// A step did its deed to one of its targets.
        Acted {
            /// The step.
            step: String,
            /// Which of its targets; the first is 0.
            place: u32,
            /// What that began.
            begun: RunBegun,
        },
        /// A step could not do its deed to one of its targets.
        ActRefused {
            /// The step.
            step: String,
            /// Which of its targets; the first is 0.
            place: u32,
            /// Why.
            reason: String,
        },
        /// Somebody approved.
        Approved {
            /// The step.
            step: String,
            /// Who.
            by: String,
            /// Why, in that one's words.
            reason: String,
        },
        /// A step is done.
        StepCompleted {
            /// The step.
            step: String,
            /// What it found, in words.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            note: Option<String>,
        },
        /// A step failed.
        StepFailed {
            /// The step.
            step: String,
            /// Why.
            reason: String,
        },
        /// A step will not begin: what it comes after ended another way.
        StepSkipped {
            /// The step.
            step: String,
        },
        /// A person stepped in.
        Intervened {
            /// How.
            intervention: RunIntervention,
            /// Who.
            by: String,
            /// Why, in that one's words.
            reason: String,
        },
        /// It ended.
        Completed {
            /// How.
            outcome: RunOutcome,
            /// How many of what its steps were to begin were through by then.
            score: RunScore,
        },
        /// A step tells a receiver something: this event is what it is told.
        Notified {
            /// The step.
            step: String,
            /// Which of its targets; the first is 0.
            place: u32,
            /// The notification.
            notification: Text<NotificationId>,
            /// What it is told.
            text: String,
        },
        /// A receiver that is waited for has taken what it was told, or never will; or a host told what came of an
        /// order about a container.
        Answered {
            /// The step.
            step: String,
            /// Which of its targets; the first is 0.
            place: u32,
            /// Why it did not take it, or the order was not carried out; absent when it did, or was.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            failure: Option<String>,
            /// When an order was over; absent for a receiver's answer.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            at: Option<Text<Timestamp>>,
        },
    }
}
