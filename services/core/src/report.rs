//! What an injector says about its host.

use crate::id::{BindingId, ContainerId, HostId, SecretId};
use crate::rollout::Due;
use crate::time::Timestamp;

/// Most items, containers, refused starts and notes of execs in one report; an injector with more items sends
/// several.
pub const MAX_REPORT_ITEMS: usize = 10_000;
/// Most notes of stale plans in one report; further ones are added to the first.
pub const MAX_STALE_PLANS: usize = 100;

/// Longest name of a service that is noted; a longer one is as none.
pub const MAX_SERVICE_BYTES: usize = 255;

/// What is on a host, after reconciling towards a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostReport {
    /// The host.
    pub host: HostId,
    /// The plan generation that was reconciled.
    pub generation: u64,
    /// What changed since the last report.
    pub items: Vec<Item>,
    /// Every version this host still holds: in containers, in its cache, or being opened.
    pub holds: Vec<(SecretId, u64)>,
    /// Whether everything on the host was looked at, so that what `holds` lacks is gone.
    pub complete: bool,
    /// Every container of the host that exists as a consumer could; in a complete report, what is
    /// not among them has vanished. At most [`MAX_REPORT_ITEMS`].
    pub containers: Vec<ContainerId>,
    /// Starts that were refused since the last report. No assignment comes of them. At most
    /// [`MAX_REPORT_ITEMS`].
    pub denied: Vec<DeniedStart>,
    /// Plans that came long after a newer one, since the last report, and were not acted on. At most
    /// [`MAX_STALE_PLANS`].
    pub stale: Vec<StalePlan>,
    /// Programs that were run in consumers beside their own, since the last report. At most
    /// [`MAX_REPORT_ITEMS`].
    pub executed: Vec<Executed>,
    /// What containers had of secrets beside what items say, since the last report. At most
    /// [`MAX_REPORT_ITEMS`].
    pub notes: Vec<UsageNote>,
    /// Containers under a rollout that have to restart, are on their way, or did not run well since; in a
    /// complete report nothing is to be done about any other. At most [`MAX_REPORT_ITEMS`].
    pub restarts: Vec<RestartWish>,
    /// Of the versions that its plan names as staged those that it has at hand: it asks nobody for them any
    /// more. At most [`MAX_REPORT_ITEMS`].
    pub staged: Vec<(SecretId, u64)>,
    /// Whether it takes versions that are staged, and gives them to canaries. An injector that does not know
    /// them refuses a whole plan that names one.
    pub knows_staged: bool,
    /// What came of the orders in its plan, as far as anything did; `None` in what an injector says that knows no
    /// orders: it would refuse a whole plan with one. At most [`MAX_REPORT_ITEMS`].
    pub orders: Option<Vec<OrderTold>>,
}

impl HostReport {
    /// What a host says that has nothing to say: no plan reconciled, not everything looked at, and of an injector
    /// that knows neither staged versions nor orders.
    pub const fn empty(host: HostId) -> Self {
        Self {
            host,
            generation: 0,
            items: Vec::new(),
            holds: Vec::new(),
            complete: false,
            containers: Vec::new(),
            denied: Vec::new(),
            stale: Vec::new(),
            executed: Vec::new(),
            notes: Vec::new(),
            restarts: Vec::new(),
            staged: Vec::new(),
            knows_staged: false,
            orders: None,
        }
    }
}

/// What came of an order about a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderTold {
    /// The container.
    pub container: ContainerId,
    /// The order's number.
    pub number: u64,
    /// What came of it.
    pub state: OrderState,
}

/// See [`OrderTold`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderState {
    /// It restarted and runs well; or it is cut off, paused or stopped, and has nothing any more.
    Done,
    /// The container is gone, or does not run and was not to be brought up.
    Gone,
    /// It did not run well after its restart; or it could not be cut off, paused or stopped, which is tried again.
    Failed {
        /// Why, with the next step.
        reason: String,
    },
}

/// What is noted of a container and a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UsageKind {
    /// It got one that its host had, while the gateway did not answer: by the last plan that was heard,
    /// within the lease.
    ServedFromCache,
    /// A program opened the file for the first time since it was put there.
    FirstUse,
    /// A file of it got one beside the current one, as the version before.
    GivenBeside,
}

/// A use of a secret that changes nothing, for the audit alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsageNote {
    /// What is noted.
    pub kind: UsageKind,
    /// The container.
    pub container: ContainerId,
    /// Its name, for people.
    pub container_name: String,
    /// Config digest of its image.
    pub image_digest: String,
    /// The binding it was served under.
    pub binding: BindingId,
    /// The secret.
    pub secret: SecretId,
    /// The version.
    pub version: u64,
    /// When, by the host's clock.
    pub at: Timestamp,
}

/// A container under a rollout about which something is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestartWish {
    /// The container.
    pub container: ContainerId,
    /// Its name, for people.
    pub container_name: String,
    /// Config digest of its image.
    pub image_digest: String,
    /// Its Compose service; empty outside Compose.
    pub service: String,
    /// What it restarts or restarted for.
    pub due: Vec<Due>,
    /// How far it is.
    pub state: RestartState,
}

/// How far a restart is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestartState {
    /// It waits for leave.
    Due,
    /// It restarts, or started and does not count as running well yet.
    UnderWay,
    /// It did not run well.
    Failed {
        /// Why, with the next step.
        reason: String,
    },
}

/// Somebody ran programs in a consumer beside its own, other than its health check. What was run is
/// not said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executed {
    /// The container.
    pub container: ContainerId,
    /// Its name, for people.
    pub container_name: String,
    /// Config digest of its image.
    pub image_digest: String,
    /// The engine's id of the first of them; empty when it told none.
    pub exec: String,
    /// When the first began, by the host's clock.
    pub at: Timestamp,
    /// How many.
    pub count: u64,
}

/// Plans that came long after a newer one: replayed, held back, or of a gateway or journal that is
/// behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StalePlan {
    /// Generation of the first of them.
    pub generation: u64,
    /// Generation of the plan that the host had by then.
    pub held: u64,
    /// When the first came, by the host's clock.
    pub at: Timestamp,
    /// How many came.
    pub count: u64,
}

/// A container that was not allowed to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeniedStart {
    /// The container.
    pub container: ContainerId,
    /// Its name, for people.
    pub container_name: String,
    /// Config digest of its image.
    pub image_digest: String,
    /// The secret as it was asked for; empty when none is known.
    pub secret: String,
    /// Why, with the next step.
    pub reason: String,
}

/// One fact about one container instance under one binding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The container.
    pub container: ContainerId,
    /// Its name, for people.
    pub container_name: String,
    /// Config digest of its image.
    pub image_digest: String,
    /// The binding it is served under.
    pub binding: BindingId,
    /// The secret.
    pub secret: SecretId,
    /// The fact.
    pub fact: Fact,
    /// The service it belongs to: `PROJECT/SERVICE` under Compose, the service's name under Swarm, else empty.
    pub service: String,
}

/// A fact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// File replaced and read back, or first program started with the value.
    Swapped {
        /// The version.
        version: u64,
        /// When, by the host's clock.
        at: Timestamp,
    },
    /// Caught signal delivered, reload command ended well, or restarted and healthy.
    Reloaded {
        /// The version.
        version: u64,
        /// When, by the host's clock.
        at: Timestamp,
    },
    /// The copy was removed.
    Withdrawn,
    /// The container is gone.
    Vanished,
    /// It was not served.
    Refused {
        /// The version.
        version: u64,
        /// Why, with the next step.
        reason: String,
    },
    /// It starts or runs, and has no lease of this secret yet.
    Wanted,
    /// It was removed from its engine, and had a lease.
    Removed,
}
