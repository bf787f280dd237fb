//! The host plan: everything one host has to do, projected from the world. Level-triggered: an
//! injector compares it with what is, whatever it missed in between. A host sees only its own.

use std::collections::BTreeSet;

use crate::binding::{self, Binding, OnRevoke, Reload, Selector, Spec, Target};
use crate::host::Host;
use crate::id::{BindingId, ContainerId, DeliveryId, HostId, SecretId};
use crate::lease;
use crate::name::{BindingName, HostName, SecretName};
use crate::rollout::Stage;
use crate::rotation::Rotation;
use crate::secret::Secret;
use crate::time::Timestamp;
use crate::world::World;

/// What one host has to do. It is whole: what a host has in its cache or its containers and the plan
/// does not name, or names as dead, it drops before it takes anything new (rule X5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPlan {
    /// The host.
    pub host: HostId,
    /// Its name, as selectors see it.
    pub host_name: HostName,
    /// Journal number of the last event that changed it; an injector never goes back.
    pub generation: u64,
    /// The bindings that mean this host.
    pub bindings: Vec<PlannedBinding>,
    /// Containers that may restart under a rollout.
    pub leaves: Vec<Leave>,
    /// Versions to be had at hand, and given to nobody yet but canaries.
    pub staged: Vec<Staged>,
    /// What is to be done to containers by order.
    pub orders: Vec<Order>,
}

/// An order about one container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// The container.
    pub container: ContainerId,
    /// Which order it is: a restart is carried out once per number.
    pub number: u64,
    /// What is to be done.
    pub task: Task,
}

/// What is to be done to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Task {
    /// It restarts, once.
    Restart {
        /// Not before this time; `None`: at once, whatever the host's clock says.
        not_before: Option<Timestamp>,
    },
    /// It is given nothing, and this is done to it, also when it begins anew.
    Quarantine {
        /// What is done.
        action: OnRevoke,
    },
}

/// A version that the host is to hold, sealed, for the moment in which it becomes current, or that canaries of
/// it have by now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Staged {
    /// The secret; a binding of the plan names it.
    pub secret: SecretId,
    /// The version.
    pub grant: Grant,
    /// Containers to which it is what the current version is to all others, also when they start.
    pub canaries: Vec<ContainerId>,
}

/// A container may restart, once. Without leave none does whose binding says `rollout`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leave {
    /// The container.
    pub container: ContainerId,
    /// Which leave it is: none is used twice.
    pub number: u64,
    /// Not before this time; `None`: at once, whatever the host's clock says.
    pub not_before: Option<Timestamp>,
}

/// One binding on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedBinding {
    /// The binding.
    pub binding: BindingId,
    /// Its name.
    pub name: BindingName,
    /// The secret.
    pub secret: SecretId,
    /// The secret's name, as placeholders see it.
    pub secret_name: SecretName,
    /// Further secrets that its templates name. What is made of all of them is given only while each has
    /// a version to be had.
    pub also: Vec<PlannedSecret>,
    /// Which containers.
    pub selector: Selector,
    /// In what form.
    pub target: Target,
    /// What happens on change.
    pub reload: Reload,
    /// What containers have to hold; `None`: nothing, copies are withdrawn.
    pub current: Option<Grant>,
    /// Every version up to here is dead.
    pub floor: u64,
    /// Dead versions above the floor.
    pub dead: BTreeSet<u64>,
    /// W3C trace context of what last changed what it gives out. Decides nothing.
    pub traceparent: Option<String>,
    /// Whether each container gets a lease instead: this gives nothing, and says who may want one.
    pub leases: bool,
    /// Versions before the current one that its templates name. One that is not here is filled in as an
    /// empty text.
    pub previous: Vec<PlannedPrevious>,
    /// What befalls a container that loses a revoked value for which there is no other.
    pub on_revoke: OnRevoke,
}

/// A version before the current one, of a secret of a binding on one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedPrevious {
    /// The secret: the binding's own, or a further one.
    pub secret: SecretId,
    /// The version.
    pub grant: Grant,
}

/// A further secret of a binding on one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedSecret {
    /// The secret.
    pub secret: SecretId,
    /// Its name, as templates see it.
    pub name: SecretName,
    /// What containers have to hold of it; `None`: nothing, copies are withdrawn.
    pub current: Option<Grant>,
    /// Every version up to here is dead.
    pub floor: u64,
    /// Dead versions above the floor.
    pub dead: BTreeSet<u64>,
    /// W3C trace context of what last changed it. Decides nothing.
    pub traceparent: Option<String>,
}

/// A version this host may ask store-sync for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grant {
    /// The version.
    pub version: u64,
    /// The grant's id.
    pub delivery: DeliveryId,
}

/// Projects one host's plan; `None` for a host nobody enrolled, and for one that was evicted.
#[must_use]
pub fn plan_host(world: &World, host: HostId) -> Option<HostPlan> {
    let known = world.live_host(host)?;
    let mut bindings = Vec::new();
    for binding in world.bindings.values() {
        let Some(spec) = &binding.spec else { continue };
        let Some(secret) = world.secrets.get(&spec.secret) else {
            continue;
        };
        let further = spec.also.iter().filter_map(|id| world.secrets.get(id));
        if !spec.selector.means_host(&known.name) {
            continue;
        }
        bindings.push(PlannedBinding {
            binding: binding.id,
            name: binding.name.clone(),
            secret: secret.id,
            secret_name: secret.name.clone(),
            also: further.map(|other| planned_secret(other, host)).collect(),
            selector: spec.selector.clone(),
            target: spec.target.clone(),
            reload: spec.reload.clone(),
            current: grant_to(secret, host),
            floor: secret.floor,
            dead: secret.dead.clone(),
            traceparent: None,
            leases: secret.gives_leases(),
            previous: previous_of(world, spec, host),
            on_revoke: spec.on_revoke,
        });
        if secret.gives_leases() {
            let leases = world.leases_of(secret.id);
            let own =
                leases.filter_map(|lease| planned_lease((binding, spec), (secret, lease), host));
            bindings.extend(own);
        }
    }
    let generation = world.host_generation(host);
    Some(HostPlan {
        host,
        host_name: known.name.clone(),
        generation,
        staged: match known.knows_staged {
            true => staged_at(world, host, &bindings),
            false => Vec::new(),
        },
        bindings,
        leaves: leaves_of(world, host),
        orders: orders_of(world, known),
    })
}

fn staged_at(world: &World, host: HostId, bindings: &[PlannedBinding]) -> Vec<Staged> {
    let own = bindings.iter().map(|planned| planned.secret);
    let also = bindings.iter().flat_map(|planned| &planned.also);
    let given: BTreeSet<SecretId> = own.chain(also.map(|planned| planned.secret)).collect();
    let staged = given.into_iter().filter_map(|id| {
        let secret = world.secrets.get(&id)?;
        let version = secret.pending.filter(|v| secret.is_deliverable(*v))?;
        let delivery = *secret.delivered.get(&(host, version))?;
        let grant = Grant { version, delivery };
        let open = world.open_rotation(id);
        // On the way back no host keeps it.
        if open.is_some_and(Rotation::is_canary_return) {
            return None;
        }
        let canaries = open.map(|open| open.ahead_on(host));
        Some(Staged {
            secret: id,
            grant,
            canaries: canaries.unwrap_or_default(),
        })
    });
    staged.collect()
}

fn grant_to(secret: &Secret, host: HostId) -> Option<Grant> {
    grant_of(secret, secret.current, host)
}

fn previous_of(world: &World, spec: &Spec, host: HostId) -> Vec<PlannedPrevious> {
    let secrets = spec.previous.iter().filter_map(|id| world.secrets.get(id));
    let kept = secrets.filter_map(|secret| {
        let grant = grant_of(secret, secret.given_beside(), host)?;
        Some(PlannedPrevious {
            secret: secret.id,
            grant,
        })
    });
    kept.collect()
}

fn grant_of(secret: &Secret, version: Option<u64>, host: HostId) -> Option<Grant> {
    let version = version.filter(|v| secret.is_deliverable(*v))?;
    let delivery = *secret.delivered.get(&(host, version))?;
    Some(Grant { version, delivery })
}

/// The lease of one container under a binding; `None` for a container of another host.
fn planned_lease(
    (binding, spec): (&Binding, &binding::Spec),
    (declared, lease): (&Secret, &Secret),
    host: HostId,
) -> Option<PlannedBinding> {
    let of = lease.lease_of().filter(|of| of.host == host)?;
    // One that is being made is no matter of the host yet.
    lease.current?;
    Some(PlannedBinding {
        binding: lease::binding_of(binding.id, lease.id),
        name: binding.name.clone(),
        secret: lease.id,
        secret_name: declared.name.clone(),
        also: Vec::new(),
        selector: Selector {
            container: Some(of.container.clone()),
            ..spec.selector.clone()
        },
        target: spec.target.clone(),
        reload: spec.reload.clone(),
        current: grant_to(lease, host),
        floor: lease.floor,
        dead: lease.dead.clone(),
        traceparent: None,
        leases: false,
        previous: Vec::new(),
        on_revoke: OnRevoke::Remove,
    })
}

fn planned_secret(secret: &Secret, host: HostId) -> PlannedSecret {
    PlannedSecret {
        secret: secret.id,
        name: secret.name.clone(),
        current: grant_to(secret, host),
        floor: secret.floor,
        dead: secret.dead.clone(),
        traceparent: None,
    }
}

/// Quarantines first: what is cut off is not restarted.
fn orders_of(world: &World, host: &Host) -> Vec<Order> {
    let quarantines = host.quarantines.values().map(|one| Order {
        container: one.subject.container.clone(),
        number: one.number,
        task: Task::Quarantine {
            action: world.action_on(one),
        },
    });
    let restarts = host.restarts.values().map(|one| Order {
        container: one.subject.container.clone(),
        number: one.number,
        task: Task::Restart {
            not_before: one.not_before,
        },
    });
    let all = quarantines.chain(restarts);
    all.filter(|_| host.knows_orders).collect()
}

fn leaves_of(world: &World, host: HostId) -> Vec<Leave> {
    let members = world.rollouts.values().flat_map(|one| &one.members);
    let own = members.filter(|(instance, _)| instance.host == host);
    let leave = own.filter_map(|(instance, member)| match member.stage {
        Stage::Leave { number, not_before } => Some(Leave {
            container: instance.container.clone(),
            number,
            not_before,
        }),
        Stage::Waiting | Stage::Unwell | Stage::Failed(_) => None,
    });
    leave.collect()
}
