//! Whether a rotation begun now would wait for sessions of the old credential, and why. Pure.
//!
//! Who decides that is `decision::drain_cause`; this file only finds the words.

use std::collections::BTreeSet;

use keywheel_core::decision::{self, DrainCause};
use keywheel_core::resource::Kind;
use keywheel_core::secret::Secret;
use keywheel_core::world::World;

/// Containers that are named; more are counted.
const NAMED: usize = 3;

/// Whether sessions of the old credential are waited for, and why.
pub(super) fn sessions(world: &World, secret: &Secret) -> String {
    let Some(cause) = decision::drain_cause(world, secret) else {
        return not_waited_for(secret).to_owned();
    };
    let why = match cause {
        DrainCause::Asked => "`ack: drained` asks for it".to_owned(),
        DrainCause::Alternating => "its accounts take turns".to_owned(),
        DrainCause::Unreloaded => format!(
            "nobody knows when {} read their files again (no `reload`); `ack: reloaded` would wait for none",
            unreloaded(world, secret)
        ),
    };
    // A receiver of a person's own is not asked.
    let rotator = secret.spec.rotator.as_deref();
    let has_accounts = rotator.is_some_and(|resource| resource.kind != Kind::Webhook);
    if has_accounts {
        return format!(
            "waited for: the old value dies once its sessions from before the last acknowledgement are gone, since {why}"
        );
    }
    let grace = decision::grace(secret, &Vec::from_iter(secret.current)).as_secs();
    match secret.lease_of() {
        Some(_) => format!(
            "cannot be told by the store that lent this login: it lives on for a grace of {grace} s instead, unless its store ends it first, since {why}"
        ),
        None => format!(
            "cannot be told where this value is used: the old one lives on for a grace of {grace} s instead, since {why}"
        ),
    }
}

fn not_waited_for(secret: &Secret) -> &'static str {
    let kept = secret.retains_beside(secret.last_version.saturating_add(1));
    match kept {
        Some(_) => "not waited for: what dies does so once every consumer has acknowledged",
        None => "not waited for: the old value dies once every consumer has acknowledged",
    }
}

/// The containers whose programs read their files again when they like.
fn unreloaded(world: &World, secret: &Secret) -> String {
    let all = decision::unreloaded(world, secret);
    let names = all.map(|(key, state)| match state.container_name.as_str() {
        "" => key.container.short(),
        name => name,
    });
    let names: BTreeSet<&str> = names.collect();
    let first: Vec<&str> = names.iter().take(NAMED).copied().collect();
    let first = first.join(", ");
    match names.len().saturating_sub(NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
