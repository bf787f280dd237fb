//! The host plan on the wire.

use std::collections::BTreeSet;

use keywheel_core::id::{BindingId, ContainerId, DeliveryId, HostId, SecretId};
use keywheel_core::name::{BindingName, HostName, SecretName};
use keywheel_core::plan;
use keywheel_core::time::Timestamp;

use crate::event::binding::{OnRevoke, Reload, Selector, Target};
use crate::mirror::{Text, mirror_enum, mirror_struct};

mirror_struct! {
    /// A version a host may ask store-sync for.
    Grant = plan::Grant {
        /// The version.
        version: u64,
        /// The grant's id.
        delivery: Text<DeliveryId>,
    }
}

mirror_struct! {
    /// A further secret of a binding on one host.
    PlannedSecret = plan::PlannedSecret {
        /// The secret.
        secret: Text<SecretId>,
        /// Its name, as templates see it.
        name: Text<SecretName>,
        /// What containers have to hold of it; absent: copies are withdrawn.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<Grant>,
        /// Every version up to here is dead.
        floor: u64,
        /// Dead versions above the floor.
        dead: BTreeSet<u64>,
        /// W3C trace context of what last changed it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceparent: Option<String>,
    }
}

mirror_struct! {
    /// A version before the current one, of a secret of a binding.
    PlannedPrevious = plan::PlannedPrevious {
        /// The secret: the binding's own, or a further one.
        secret: Text<SecretId>,
        /// The version.
        grant: Grant,
    }
}

mirror_struct! {
    /// One binding on one host.
    PlannedBinding = plan::PlannedBinding {
        /// The binding.
        binding: Text<BindingId>,
        /// Its name.
        name: Text<BindingName>,
        /// The secret.
        secret: Text<SecretId>,
        /// The secret's name, as placeholders see it.
        secret_name: Text<SecretName>,
        /// Further secrets that its templates name; seldom any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        also: Vec<PlannedSecret>,
        /// Which containers.
        selector: Selector,
        /// In what form.
        target: Target,
        /// What happens on change.
        reload: Reload,
        /// What containers have to hold; absent: copies are withdrawn.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        current: Option<Grant>,
        /// Every version up to here is dead.
        floor: u64,
        /// Dead versions above the floor.
        dead: BTreeSet<u64>,
        /// W3C trace context of what last changed what it gives out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        traceparent: Option<String>,
        /// Whether each container gets a lease instead.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        leases: bool,
        /// Versions before the current one that its templates name; seldom any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        previous: Vec<PlannedPrevious>,
        /// What befalls a container that loses a revoked value; absent: its file goes.
        #[serde(default, skip_serializing_if = "OnRevoke::is_remove")]
        on_revoke: OnRevoke,
    }
}

mirror_struct! {
    /// A container may restart, once.
    Leave = plan::Leave {
        /// The container.
        container: Text<ContainerId>,
        /// Which leave it is.
        number: u64,
        /// Not before this time; absent: at once.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        not_before: Option<Text<Timestamp>>,
    }
}

mirror_struct! {
    /// A version that the host is to hold, sealed, for the moment in which it becomes current, or that canaries
    /// of it have by now.
    Staged = plan::Staged {
        /// The secret.
        secret: Text<SecretId>,
        /// The version.
        grant: Grant,
        /// Containers that get it in the place of the current version; seldom any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        canaries: Vec<Text<ContainerId>>,
    }
}

mirror_enum! {
    /// What is to be done to a container.
    Task = plan::Task {
        /// It restarts, once.
        Restart {
            /// Not before this time; absent: at once.
            #[serde(default, skip_serializing_if = "Option::is_none")]
            not_before: Option<Text<Timestamp>>,
        },
        /// It is given nothing, and this is done to it.
        Quarantine {
            /// What is done.
            action: OnRevoke,
        },
    }
}

mirror_struct! {
    /// An order about one container.
    Order = plan::Order {
        /// The container.
        container: Text<ContainerId>,
        /// Which order it is.
        number: u64,
        /// What is to be done.
        task: Task,
    }
}

mirror_struct! {
    /// What one host has to do.
    Plan = plan::HostPlan {
        /// The host.
        host: Text<HostId>,
        /// Its name, as selectors see it.
        host_name: Text<HostName>,
        /// Journal number of the last event that changed it.
        generation: u64,
        /// The bindings that mean this host.
        bindings: Vec<PlannedBinding>,
        /// Containers that may restart under a rollout; seldom any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        leaves: Vec<Leave>,
        /// Versions to be had at hand, and given to nobody yet but canaries; seldom any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        staged: Vec<Staged>,
        /// What is to be done to containers by order; seldom any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        orders: Vec<Order>,
    }
}
