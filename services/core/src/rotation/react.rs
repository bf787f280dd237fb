//! What a rotation's events ask of the shell. Called once per event, in the transaction that
//! appends it; replaying the log never calls it.

use super::{Event, Rotation, Step, Trigger};
use crate::effect::{Effect, StepWork, Work};
use crate::secret::Secret;

/// Derives the effects of one event, given the states after it.
#[must_use]
pub fn react(rotation: &Rotation, secret: &Secret, event: &Event) -> Vec<Effect> {
    let Event::StepStarted { step, attempt } = event else {
        return Vec::new();
    };
    let versions = match step {
        Step::RevokeOld => rotation.old.clone(),
        _ => vec![rotation.version],
    };
    vec![Effect {
        work: Work::Step(StepWork {
            rotation: rotation.id,
            secret: rotation.secret,
            step: *step,
            attempt: *attempt,
            versions,
            generator: secret.spec.generator.clone(),
            provided: rotation.trigger == Trigger::Provided,
            outside: None,
        }),
    }]
}
