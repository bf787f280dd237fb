//! `rotation: { canary: … }` of a `kind: Secret`: who gets a new version before it is promoted, and where that
//! cannot be.
//!
//! Invariant: it is refused where the version before is not good beside the new one, for then nobody could keep
//! it meanwhile, or get it back.

use keywheel_core::schedule::{CANARIES, CANARY_WATCH, Canary, MAX_CANARIES};
use keywheel_core::secret::{Spec, Store};

use super::reader::{Faults, Fields};
use super::{MAX_CANARY_WATCH, MIN_CANARY_WATCH};

/// Every field.
const KNOWN: [&str; 2] = ["consumers", "for"];
/// Fewest containers: with none there is no canary.
const FEWEST: u32 = 1;

/// The wish, among the fields of `rotation`.
pub(super) fn read(rotation: &Fields<'_>, faults: &mut Faults) -> Option<Canary> {
    let node = rotation.find("canary")?;
    let fields = Fields::of(node, "canary", &KNOWN, faults)?;
    let consumers = fields.number("consumers", FEWEST, MAX_CANARIES, faults);
    let watch = fields.span("for", MIN_CANARY_WATCH, MAX_CANARY_WATCH, faults);
    Some(Canary {
        consumers: consumers.unwrap_or(CANARIES),
        watch: watch.unwrap_or(CANARY_WATCH),
    })
}

/// Refuses the wish where it cannot work.
pub(super) fn refuse(fields: &Fields<'_>, spec: &Spec, faults: &mut Faults) {
    if spec.rotation.canary.is_none() {
        return;
    }
    let Some(why) = why_not(spec) else { return };
    let message = format!("`canary` cannot work here: {why}");
    faults.add(fields.position_of("rotation"), message);
}

/// Why nobody can have a new version before all others; `None` where somebody can.
fn why_not(spec: &Spec) -> Option<&'static str> {
    let rotator = spec.rotator.as_deref();
    if rotator.is_some_and(|resource| !resource.strategy.overlaps()) {
        return Some(
            "with `strategy: singleUser` the new password ends the old one for all containers at once; leave `canary` out, or give the account a strategy with an overlap (`alternatingUsers`, `dualPassword`)",
        );
    }
    if let Store::Outside(place) = &spec.store {
        if place.source.static_role().is_some() {
            return Some(
                "the server of a static role makes the value itself, and ends the one before for all containers at once; leave `canary` out",
            );
        }
        if spec.generator.is_none() {
            return Some(
                "without a `generator` the value is changed at the store, where it is in use as soon as Keywheel sees it; add `generator: {}` if Keywheel is to make it, or leave `canary` out",
            );
        }
    }
    if spec.credential_for.is_some() {
        return Some("no container gets a credential of Keywheel's own; leave `canary` out");
    }
    spec.rotation.keep_previous.then_some(
        "with `previous: keep` files have the version before beside the current one, and a canary's would lack it; leave `canary` or `previous` out",
    )
}
