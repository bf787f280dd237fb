//! Events of a service's rollout. The service travels in the event; the subject is derived from it.

use keywheel_core::id::{BindingId, ContainerId, HostId, SecretId};
use keywheel_core::rollout;
use keywheel_core::time::Timestamp;
use uuid::Uuid;

use crate::mirror::{Text, mirror_enum, mirror_struct};

/// Namespace of derived rollout subjects; never changed, or old subjects could not be found.
const NAMESPACE: Uuid = Uuid::from_u128(0x6b65_7977_6865_656c_8000_726f_6c6c_6f75);

mirror_struct! {
    /// What restarts together.
    Service = rollout::Service {
        /// Config digest of the image; empty for a Compose service.
        image_digest: String,
        /// The Compose service; empty outside Compose.
        name: String,
    }
}

mirror_struct! {
    /// One container of a service.
    Instance = rollout::Instance {
        /// The host.
        host: Text<HostId>,
        /// The container.
        container: Text<ContainerId>,
    }
}

mirror_struct! {
    /// A version that a restart brings, and under which binding.
    Due = rollout::Due {
        /// The binding.
        binding: Text<BindingId>,
        /// The secret.
        secret: Text<SecretId>,
        /// The version.
        version: u64,
    }
}

/// Derives the uuid (version 5) that stands for a service in event subjects.
#[must_use]
pub fn derive_subject(service: &rollout::Service) -> String {
    // The digest's length stands before it, so that no two services have one name.
    let digest = &service.image_digest;
    let name = format!("{}/{digest}/{}", digest.len(), service.name);
    Uuid::new_v5(&NAMESPACE, name.as_bytes()).to_string()
}

mirror_enum! {
    /// What happened to a rollout.
    RolloutEvent = rollout::Event {
        /// A container has to restart and waits for leave.
        Asked {
            /// The container.
            instance: Instance,
            /// Its name, for people.
            container_name: String,
            /// What it restarts for.
            due: Vec<Due>,
        },
        /// It may restart, once.
        LeaveGiven {
            /// The container.
            instance: Instance,
            /// Not before this time; absent: at once.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            not_before: Option<Text<Timestamp>>,
        },
        /// It started on its own and does not count as running well yet.
        Unwell {
            /// The container.
            instance: Instance,
            /// Its name, for people.
            container_name: String,
        },
        /// It did not run well after its restart.
        Failed {
            /// The container.
            instance: Instance,
            /// Its name, for people.
            container_name: String,
            /// What it was restarted for.
            due: Vec<Due>,
            /// Why, with the next step.
            reason: String,
        },
        /// It runs well, has nothing to restart for any more, or is gone.
        Settled {
            /// The container.
            instance: Instance,
            /// When this was decided.
            at: Text<Timestamp>,
        },
    }
}
