//! What a person can do about a rotation, where something is left to a person. Pure.

use keywheel_core::rotation::{Outcome, Phase, Rotation, Step};
use keywheel_core::secret::Secret;
use keywheel_core::world::World;

/// The next step; `None` while it goes on by itself, and once nothing is left to do.
pub(super) fn step(world: &World, rotation: &Rotation) -> Option<String> {
    let secret = world.secrets.get(&rotation.secret)?;
    match &rotation.phase {
        Phase::Closed(Outcome::Parked) => Some(parked(world, rotation, secret)),
        Phase::Closed(Outcome::RolledBack) if is_newest(rotation, secret) => Some(format!(
            "once what failed is mended, `keywheel rotate {}` tries again with a new value",
            secret.name
        )),
        Phase::Retrying {
            step: Step::Create | Step::Set | Step::Test,
            ..
        } => Some(format!(
            "it is tried again by itself; `keywheel rotation retry {0} --reason …` does it now, `keywheel rotation abort {0} --reason …` gives it up",
            rotation.id
        )),
        Phase::Retrying { .. } => Some(format!(
            "it is tried again by itself; `keywheel rotation retry {} --reason …` does it now",
            rotation.id
        )),
        Phase::Distributing if rotation.halted.is_some() && rotation.returning.is_none() => {
            Some(halted(secret))
        }
        _ => None,
    }
}

fn is_newest(rotation: &Rotation, secret: &Secret) -> bool {
    secret.last_version == rotation.version
}

fn halted(secret: &Secret) -> String {
    format!(
        "mend what `keywheel consumers --secret {0}` names, then `keywheel rotate {0}`",
        secret.name
    )
}

fn parked(world: &World, rotation: &Rotation, secret: &Secret) -> String {
    let name = &secret.name;
    if let Some(open) = world.open_rotation(secret.id) {
        return format!(
            "nothing: rotation {0} came after it and ends it too; `keywheel describe rotation {0}` shows how that one stands",
            open.id
        );
    }
    if !is_newest(rotation, secret) {
        return format!(
            "nothing for this one, others came after it; `keywheel describe secret {name}` shows what is in use"
        );
    }
    if secret.current != Some(rotation.wanted()) {
        return format!(
            "what it would end with is not in use any more: `keywheel rotate {name}` makes a new value"
        );
    }
    match (rotation.returning, secret.place()) {
        (Some(back), Some(place)) => format!(
            "containers have version {back} again, store `{0}` has version {1}: `keywheel rotate {name}` makes a value for both, or put the right one at the store and say `keywheel refresh {name}`",
            place.store, rotation.version
        ),
        (None, _) if rotation.halted.is_some() => halted(secret),
        (Some(_), None) => format!(
            "mend what is named above, then `keywheel rotation retry {0} --reason …` waits once more; `keywheel rotation force {0} --reason …` revokes version {1} without those who still have it",
            rotation.id, rotation.version
        ),
        (None, _) => format!(
            "mend what is named above, then `keywheel rotation retry {0} --reason …` waits once more; `keywheel rotation force {0} --reason …` revokes the old version without them, `keywheel rotation abort {0} --reason …` goes back to it",
            rotation.id
        ),
    }
}
