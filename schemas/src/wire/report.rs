//! The host report on the wire.

use keywheel_core::id::{BindingId, ContainerId, HostId, SecretId};
use keywheel_core::report;
use keywheel_core::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::event::rollout::Due;
use crate::mirror::{Mirror, Text, mirror_enum, mirror_struct};

mirror_enum! {
    /// A fact about a container.
    Fact = report::Fact {
        /// File replaced and read back, or first program started with the value.
        Swapped {
            /// The version.
            version: u64,
            /// When, by the host's clock.
            at: Text<Timestamp>,
        },
        /// Caught signal delivered, or restarted and healthy.
        Reloaded {
            /// The version.
            version: u64,
            /// When, by the host's clock.
            at: Text<Timestamp>,
        },
        /// The copy was removed.
        Withdrawn {},
        /// The container is gone.
        Vanished {},
        /// It was not served.
        Refused {
            /// The version.
            version: u64,
            /// Why, with the next step.
            reason: String,
        },
        /// It starts or runs, and has no lease of this secret yet.
        Wanted {},
        /// It was removed from its engine, and had a lease.
        Removed {},
    }
}

mirror_struct! {
    /// One fact about one container instance under one binding.
    Item = report::Item {
        /// The container.
        container: Text<ContainerId>,
        /// Its name, for people.
        container_name: String,
        /// Config digest of its image.
        image_digest: String,
        /// The binding it is served under.
        binding: Text<BindingId>,
        /// The secret.
        secret: Text<SecretId>,
        /// The fact.
        fact: Fact,
        /// The service it belongs to; absent when it belongs to none.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        service: String,
    }
}

/// A version a host still holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// The secret.
    pub secret: Text<SecretId>,
    /// The version.
    pub version: u64,
}

impl Mirror for Held {
    type Core = (SecretId, u64);
    fn of(core: &Self::Core) -> Self {
        Self {
            secret: Text(core.0),
            version: core.1,
        }
    }
    fn into_core(self) -> Self::Core {
        (self.secret.0, self.version)
    }
}

mirror_struct! {
    /// A container that was not allowed to start.
    DeniedStart = report::DeniedStart {
        /// The container.
        container: Text<ContainerId>,
        /// Its name, for people.
        container_name: String,
        /// Config digest of its image.
        image_digest: String,
        /// The secret as it was asked for; empty when none is known.
        secret: String,
        /// Why, with the next step.
        reason: String,
    }
}

mirror_struct! {
    /// Plans that came long after a newer one, and were not acted on.
    StalePlan = report::StalePlan {
        /// Generation of the first of them.
        generation: u64,
        /// Generation of the plan that the host had by then.
        held: u64,
        /// When the first came, by the host's clock.
        at: Text<Timestamp>,
        /// How many came.
        count: u64,
    }
}

mirror_struct! {
    /// Programs that somebody ran in a consumer beside its own; what was run is not said.
    Executed = report::Executed {
        /// The container.
        container: Text<ContainerId>,
        /// Its name, for people.
        container_name: String,
        /// Config digest of its image.
        image_digest: String,
        /// The engine's id of the first of them; empty when it told none.
        exec: String,
        /// When the first began, by the host's clock.
        at: Text<Timestamp>,
        /// How many.
        count: u64,
    }
}

mirror_enum! {
    /// How far a restart is.
    RestartState = report::RestartState {
        /// It waits for leave.
        Due {},
        /// It restarts, or started and does not count as running well yet.
        UnderWay {},
        /// It did not run well.
        Failed {
            /// Why, with the next step.
            reason: String,
        },
    }
}

mirror_struct! {
    /// A container under a rollout about which something is to be done.
    RestartWish = report::RestartWish {
        /// The container.
        container: Text<ContainerId>,
        /// Its name, for people.
        container_name: String,
        /// Config digest of its image.
        image_digest: String,
        /// Its Compose service; empty outside Compose.
        service: String,
        /// What it restarts or restarted for.
        due: Vec<Due>,
        /// How far it is.
        state: RestartState,
    }
}

mirror_enum! {
    /// What is noted of a container and a version.
    UsageKind = report::UsageKind {
        /// It got one that its host had, while the gateway did not answer.
        ServedFromCache {},
        /// A program opened the file for the first time since it was put there.
        FirstUse {},
        /// A file of it got one beside the current one, as the version before.
        GivenBeside {},
    }
}

mirror_struct! {
    /// A use of a secret that changes nothing, for the audit alone.
    UsageNote = report::UsageNote {
        /// What is noted.
        kind: UsageKind,
        /// The container.
        container: Text<ContainerId>,
        /// Its name, for people.
        container_name: String,
        /// Config digest of its image.
        image_digest: String,
        /// The binding it was served under.
        binding: Text<BindingId>,
        /// The secret.
        secret: Text<SecretId>,
        /// The version.
        version: u64,
        /// When, by the host's clock.
        at: Text<Timestamp>,
    }
}

mirror_enum! {
    /// What came of an order.
    OrderState = report::OrderState {
        /// It restarted and runs well; or it is cut off, paused or stopped, and has nothing any more.
        Done {},
        /// The container is gone, or does not run and was not to be brought up.
        Gone {},
        /// It did not run well after its restart; or it could not be cut off, paused or stopped, which is tried again.
        Failed {
            /// Why, with the next step.
            reason: String,
        },
    }
}

mirror_struct! {
    /// What came of an order about a container.
    OrderTold = report::OrderTold {
        /// The container.
        container: Text<ContainerId>,
        /// The order's number.
        number: u64,
        /// What came of it.
        state: OrderState,
    }
}

mirror_struct! {
    /// What is on a host.
    Report = report::HostReport {
        /// The host.
        host: Text<HostId>,
        /// The plan generation that was reconciled.
        generation: u64,
        /// What changed since the last report.
        items: Vec<Item>,
        /// Every version this host still holds.
        holds: Vec<Held>,
        /// Whether everything on the host was looked at.
        complete: bool,
        /// Every container of the host; in a complete report, what is not among them has vanished.
        containers: Vec<Text<ContainerId>>,
        /// Starts that were refused since the last report.
        denied: Vec<DeniedStart>,
        /// Plans that came long after a newer one; seldom any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        stale: Vec<StalePlan>,
        /// Programs that were run in consumers beside their own.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        executed: Vec<Executed>,
        /// Uses that change nothing; seldom any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        notes: Vec<UsageNote>,
        /// Containers under a rollout about which something is to be done; seldom any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        restarts: Vec<RestartWish>,
        /// Of the versions that its plan names as staged those that it has at hand; seldom any.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        staged: Vec<Held>,
        /// Whether it takes versions that are staged; absent in what older injectors say.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        knows_staged: bool,
        /// What came of the orders in its plan; absent in what older injectors say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        orders: Option<Vec<OrderTold>>,
    }
}
