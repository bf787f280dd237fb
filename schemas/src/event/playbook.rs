//! Events of a playbook, and the shapes of what a person declared.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::name::{NotificationName, PlaybookName};
use keywheel_core::playbook;

use super::binding::OnRevoke;
use crate::mirror::{Text, mirror_enum, mirror_struct, mirror_words};

mirror_struct! {
    /// What a run has to be told, or may be.
    PlaybookParameter = playbook::Parameter {
        /// Its name.
        name: String,
        /// What it is when a run is not told; absent when a run has to be told.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        default: Option<String>,
    }
}

mirror_enum! {
    /// Which secrets a step means.
    PlaybookSelection = playbook::Selection {
        /// One, by name.
        Secret {
            /// The name.
            name: String,
        },
        /// All whose names begin with a path.
        Prefix {
            /// The path.
            path: String,
        },
        /// All that a host may hold.
        HeldBy {
            /// The host, by name or id.
            host: String,
        },
        /// All that lie in a store.
        Store {
            /// The store, by name.
            name: String,
        },
        /// What a container has, or is to have.
        Container {
            /// The container, by its name, or its id or the beginning of that.
            name: String,
        },
        /// The same of every container of an image.
        Image {
            /// The image's config digest.
            digest: String,
        },
        /// The same of every container of a service.
        Service {
            /// `PROJECT/SERVICE`, or `SERVICE` for that of every project.
            name: String,
        },
    }
}

mirror_words! {
    /// Which versions of a secret a step revokes.
    RevokedVersions = playbook::Which {
        /// All that are alive.
        Alive,
        /// Those that are alive and older than the current one.
        Old,
    }
}

mirror_enum! {
    /// What a step does.
    PlaybookDeed = playbook::Deed {
        /// Begins a rotation of each secret.
        Rotate {
            /// Which secrets.
            secrets: Vec<PlaybookSelection>,
        },
        /// Revokes versions of each secret.
        Revoke {
            /// Which secrets.
            secrets: Vec<PlaybookSelection>,
            /// Which of their versions.
            which: RevokedVersions,
        },
        /// Evicts a host.
        Evict {
            /// The host, by name or id.
            host: String,
        },
        /// Waits until all that steps before it began has ended well, or for a time.
        Wait {
            /// The time; absent for what steps before it began.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            span: Option<Text<Duration>>,
        },
        /// Waits for people.
        Approve {
            /// How many different principals.
            count: u32,
            /// Who is none of them.
            #[serde(default, skip_serializing_if = "Vec::is_empty")]
            not: Vec<String>,
        },
        /// Runs another playbook and waits for its end.
        Run {
            /// Which.
            playbook: Text<PlaybookName>,
            /// What it is told.
            arguments: BTreeMap<String, String>,
        },
        /// Waits until no host has what steps before it replace or revoke.
        Withdrawn {},
        /// Waits until a login with each credential that steps before it took away was refused, or cannot be tried.
        Prove {},
        /// Tells receivers of notifications something.
        Notify {
            /// The notifications.
            notifications: Vec<Text<NotificationName>>,
            /// What they are told.
            text: String,
        },
        /// Tells one receiver something, and waits until it has taken it.
        Call {
            /// The notification.
            notification: Text<NotificationName>,
            /// What it is told.
            text: String,
        },
        /// Restarts containers, as many at a time as their services let.
        Restart {
            /// Which: those named, those that have the secrets named, or those on the host.
            containers: Vec<PlaybookSelection>,
        },
        /// Cuts containers off, pauses or stops them, and gives them nothing until a person lifts that.
        Quarantine {
            /// Which, as of a restart.
            containers: Vec<PlaybookSelection>,
            /// What is done to them.
            action: OnRevoke,
        },
    }
}

mirror_struct! {
    /// What has to be over before a step begins.
    PlaybookAfter = playbook::After {
        /// The step.
        step: String,
        /// Whether it has to have failed.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        failed: bool,
    }
}

mirror_struct! {
    /// One step.
    PlaybookStep = playbook::Step {
        /// Its name.
        name: String,
        /// What it does.
        deed: PlaybookDeed,
        /// What has to be over before it begins.
        after: Vec<PlaybookAfter>,
        /// How long it may take.
        deadline: Text<Duration>,
        /// Whether the run goes on as if it was done when it fails.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        may_fail: bool,
    }
}

mirror_enum! {
    /// What begins a run besides a person.
    PlaybookTrigger = playbook::Trigger {
        /// An event of the log.
        Event {
            /// Its type.
            event: String,
            /// What has to hold for it, in CEL; absent for every one.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            when: Option<String>,
            /// For how long another event that tells the same begins no other run.
            hold_off: Text<Duration>,
            /// What a run is told.
            arguments: BTreeMap<String, String>,
        },
        /// A cron line.
        Schedule {
            /// The line.
            expression: String,
            /// Its time zone.
            timezone: String,
            /// What a run is told.
            arguments: BTreeMap<String, String>,
        },
    }
}

mirror_struct! {
    /// What a person declared, whole.
    PlaybookSpec = playbook::Spec {
        /// What a run is told.
        parameters: Vec<PlaybookParameter>,
        /// What it does.
        steps: Vec<PlaybookStep>,
        /// What begins a run besides a person.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        triggers: Vec<PlaybookTrigger>,
    }
}

mirror_enum! {
    /// What happened to a playbook.
    PlaybookEvent = playbook::Event {
        /// It may be run from now on.
        Declared {
            /// Its name, for ever.
            name: Text<PlaybookName>,
            /// What a person declared.
            spec: PlaybookSpec,
        },
        /// A later manifest says something else.
        Changed {
            /// The new declaration, whole.
            spec: PlaybookSpec,
        },
        /// It may not be run any more.
        Removed {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mirror::Mirror as _;

    #[test]
    fn whom_an_approval_leaves_out_is_kept_and_where_it_is_nobody_nothing_is_said() {
        for (not, text) in [
            (Vec::new(), r#"{"approve":{"count":1}}"#),
            (
                vec!["oidc:anna".to_owned()],
                r#"{"approve":{"count":1,"not":["oidc:anna"]}}"#,
            ),
        ] {
            let deed = playbook::Deed::Approve { count: 1, not };
            let written = serde_json::to_string(&PlaybookDeed::of(&deed)).unwrap();
            assert_eq!(written, text);
            let read: PlaybookDeed = serde_json::from_str(text).unwrap();
            assert_eq!(read.into_core(), deed);
        }
    }
}
