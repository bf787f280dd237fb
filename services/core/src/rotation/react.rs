//! What a rotation's events ask of the shell. Called once per event, in the transaction that
//! appends it; replaying the log never calls it.

use super::{Event, Rotation, Step, Trigger};
use crate::effect::{Effect, StepWork, Work};
use crate::world::World;

/// Derives the effects of one event, given the states after it.
#[must_use]
pub fn react(world: &World, rotation: &Rotation, event: &Event) -> Vec<Effect> {
    let Event::StepStarted { step, attempt } = event else {
        return Vec::new();
    };
    let Some(secret) = world.secrets.get(&rotation.secret) else {
        return Vec::new();
    };
    let versions = match step {
        Step::RevokeOld => retired_by(world, rotation),
        Step::Drain => rotation.old.clone(),
        _ => vec![rotation.version],
    };
    let outside = world.outside(secret).map(|mut outside| {
        if let Trigger::External { remote } = &rotation.trigger {
            outside.fetch = Some(remote.clone());
        }
        if *step == Step::RevokeOld {
            outside.retire = secret.written_before(rotation.version);
        }
        if *step == Step::RollBack && secret.lease_of().is_some() {
            outside.retire = secret.remotes_of(&versions);
        }
        Box::new(outside)
    });
    let resource = world.at_resource(secret, &versions).map(|mut resource| {
        resource.unclear = *step == Step::Set && rotation.cut_over.is_some();
        Box::new(resource)
    });
    vec![Effect {
        work: Work::Step(StepWork {
            rotation: rotation.id,
            secret: rotation.secret,
            step: *step,
            attempt: *attempt,
            versions,
            generator: secret.spec.generator.clone(),
            provided: rotation.trigger == Trigger::Provided,
            outside,
            resource,
            mark: rotation.drain.mark.filter(|_| *step == Step::Drain),
        }),
    }]
}

/// The old versions that a rotation ends itself: the value of what a revocation ends is needed for its proof.
pub(crate) fn retired_by(world: &World, rotation: &Rotation) -> Vec<u64> {
    let old = rotation.old.iter().copied();
    old.filter(|version| !world.awaits_proof(rotation.secret, *version))
        .collect()
}
