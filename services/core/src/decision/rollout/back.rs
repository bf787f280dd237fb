//! Who is granted what on a rotation's way back: the version that is current again, and the one that was
//! kept beside it. Whoever had a grant keeps that one.

use super::super::{Context, Rejection};
use crate::event::Event;
use crate::id::{DeliveryId, HostId, SecretId};
use crate::secret::Secret;
use crate::world::World;

/// Grants for every host that lacks them; their ids are drawn from the first number on.
pub(super) fn grants(
    world: &World,
    secret: &Secret,
    back: u64,
    (ctx, first): (&Context, u32),
) -> Result<Vec<Event>, Rejection> {
    let hosts = world.hosts_of(secret.id);
    let kept = secret.retains_on_return(back);
    let current = hosts.iter().map(|host| (*host, back));
    let named = hosts.iter().filter(|host| names(world, secret.id, **host));
    let beside = named.filter_map(|host| Some((*host, kept?)));
    let mut events = Vec::new();
    for (count, (host, version)) in (first..).zip(current.chain(beside)) {
        let delivery = DeliveryId::from_bytes(ctx.id(count));
        let delivered = secret.decide_deliver(host, version, delivery)?;
        events.extend(delivered.map(|event| Event::Secret(secret.id, event)));
    }
    Ok(events)
}

/// Whether a binding that means the host names the version before.
fn names(world: &World, secret: SecretId, host: HostId) -> bool {
    let Some(known) = world.live_host(host) else {
        return false;
    };
    let mut specs = world.bindings.values().filter_map(|one| one.spec.as_ref());
    specs.any(|spec| spec.previous.contains(&secret) && spec.selector.means_host(&known.name))
}
