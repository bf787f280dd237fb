//! Decisions about what people declare: secrets and bindings.

use super::{Context, Rejection, rotate, secret_or_reject};
use crate::binding::{self, Binding, Reload, Selector, Target};
use crate::event::Event;
use crate::id::{BindingId, DeliveryId, HostId, RotationId, SecretId};
use crate::name::{BindingName, SecretName};
use crate::rotation::Trigger;
use crate::secret::{self, Secret};
use crate::world::World;

/// What a manifest says about a binding.
pub(super) struct BindingWish<'a> {
    secret: &'a SecretName,
    selector: &'a Selector,
    target: &'a Target,
    reload: &'a Reload,
}

impl<'a> BindingWish<'a> {
    pub(super) const fn new(
        secret: &'a SecretName,
        selector: &'a Selector,
        target: &'a Target,
        reload: &'a Reload,
    ) -> Self {
        Self {
            secret,
            selector,
            target,
            reload,
        }
    }
}

pub(super) fn apply_secret(
    world: &World,
    id: SecretId,
    rotation: RotationId,
    name: &SecretName,
    spec: &secret::Spec,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    if let Some(known) = world.secret_named(name) {
        let changed = known.spec != *spec;
        let event = secret::Event::SpecChanged { spec: spec.clone() };
        return Ok(if changed {
            vec![Event::Secret(known.id, event)]
        } else {
            Vec::new()
        });
    }
    let registered = secret::Event::Registered {
        name: name.clone(),
        spec: spec.clone(),
    };
    let mut events = vec![Event::Secret(id, registered)];
    if spec.generator.is_some() {
        let fresh = Secret::registered(id, name.clone(), spec.clone());
        events.extend(rotate::start(
            world,
            &fresh,
            rotation,
            Trigger::Initial,
            ctx,
        )?);
    }
    Ok(events)
}

pub(super) fn apply_binding(
    world: &World,
    id: BindingId,
    name: &BindingName,
    wish: &BindingWish<'_>,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let secret = secret_or_reject(world, wish.secret)?;
    let spec = binding::Spec {
        secret: secret.id,
        selector: wish.selector.clone(),
        target: wish.target.clone(),
        reload: wish.reload.clone(),
    };
    refuse_taken_target(world, name, &spec)?;
    let fresh = Binding::new(id, name.clone());
    let binding = world.binding_named(name).unwrap_or(&fresh);
    let Some(event) = binding.decide_bind(&spec)? else {
        return Ok(Vec::new());
    };
    let mut events = vec![Event::Binding(binding.id, event)];
    let hosts = world
        .live_hosts()
        .filter(|host| spec.selector.means_host(&host.name));
    events.extend(deliver(secret, hosts.map(|host| host.id), ctx)?);
    Ok(events)
}

fn refuse_taken_target(
    world: &World,
    name: &BindingName,
    spec: &binding::Spec,
) -> Result<(), Rejection> {
    let place = |target: &Target| match target {
        Target::File {
            directory, name, ..
        } => format!("{directory}/{name}"),
        Target::Env { name } => name.as_str().to_owned(),
    };
    for other in world.bindings.values().filter(|other| other.name != *name) {
        let Some(taken) = &other.spec else { continue };
        if taken.selector == spec.selector && place(&taken.target) == place(&spec.target) {
            return Err(Rejection::TargetTaken {
                binding: name.clone(),
                other: other.name.clone(),
            });
        }
    }
    Ok(())
}

pub(super) fn unbind(world: &World, name: &BindingName) -> Result<Vec<Event>, Rejection> {
    let Some(binding) = world.binding_named(name) else {
        return Err(Rejection::BindingUnknown(name.clone()));
    };
    Ok(vec![Event::Binding(binding.id, binding.decide_unbind()?)])
}

/// Grants the current version, if there is one, to hosts that lack it.
fn deliver(
    secret: &Secret,
    hosts: impl Iterator<Item = HostId>,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    let Some(version) = secret.current else {
        return Ok(Vec::new());
    };
    let mut events = Vec::new();
    for (count, host) in (1000..).zip(hosts) {
        let delivery = DeliveryId::from_bytes(ctx.id(count));
        let event = secret.decide_deliver(host, version, delivery)?;
        events.extend(event.map(|event| Event::Secret(secret.id, event)));
    }
    Ok(events)
}
