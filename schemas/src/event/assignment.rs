//! Events of an assignment. Its key travels in the event as `consumer`; the subject is derived from it.

use keywheel_core::assignment;
use keywheel_core::id::{BindingId, ContainerId, HostId, SecretId};
use keywheel_core::time::Timestamp;
use uuid::Uuid;

use crate::mirror::{Text, mirror_enum, mirror_struct};

/// Namespace of derived assignment subjects; never changed, or old subjects could not be found.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b65_7977_6865_656c_8000_6173_7369_676e);

mirror_struct! {
    /// One container instance under one binding.
    Consumer = assignment::Key {
        /// The host.
        host: Text<HostId>,
        /// The container instance.
        container: Text<ContainerId>,
        /// The binding it is served under.
        binding: Text<BindingId>,
        /// Which further secret of the binding it is about; absent: the binding's own.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        also: Option<Text<SecretId>>,
    }
}

/// Derives the uuid (version 5) that stands for an assignment in event subjects.
#[must_use]
pub fn derive_subject(key: &assignment::Key) -> String {
    let mut name = format!("{}/{}/{}", key.host, key.container, key.binding);
    if let Some(secret) = key.also {
        name.push_str(&format!("/{secret}"));
    }
    Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string()
}

mirror_enum! {
    /// What happened to an assignment.
    AssignmentEvent = assignment::Event {
        /// The instance has to run on this version.
        Assigned {
            /// The secret.
            secret: Text<SecretId>,
            /// The version.
            version: u64,
            /// Name of the container, for people.
            container_name: String,
            /// Config digest of its image, for the audit.
            image_digest: String,
        },
        /// The file holds the version, or the env variable of the new first program does.
        Swapped {
            /// The version.
            version: u64,
            /// When, by the host's clock.
            at: Text<Timestamp>,
        },
        /// The consumer was told and caught it, or restarted and is healthy.
        Reloaded {
            /// The version.
            version: u64,
            /// When, by the host's clock.
            at: Text<Timestamp>,
        },
        /// The copy is gone from the container.
        Withdrawn {},
        /// The container is gone.
        Vanished {},
        /// The injector could not or would not serve it.
        Refused {
            /// The version.
            version: u64,
            /// Why, with the next step.
            reason: String,
        },
        /// Its host told to which service the container belongs.
        ServiceNoted {
            /// `PROJECT/SERVICE` under Compose, the service's name under Swarm.
            service: String,
        },
    }
}
