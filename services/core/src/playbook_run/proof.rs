//! What a step `prove` waits for: that a login with each credential that steps before it took away was refused. What
//! cannot be tried says why, and holds nothing up.

use std::cell::OnceCell;
use std::collections::BTreeSet;

use super::event::Begun;
use super::moves::{End, Move, end_of_rotation};
use crate::id::{RevocationId, RotationId, SecretId};
use crate::lease;
use crate::revocation::{Backend, NOTHING_TO_ASK, Proven, Revocation};
use crate::rotation::{Outcome, Phase};
use crate::world::World;

/// What is known of one credential.
enum Shown {
    NotYet,
    /// Nothing was to die.
    Nothing,
    Dead,
    NotProbed(String),
    Badly(String),
}

/// Done when of each it is known, and failed when one was given up before that.
pub(super) fn prove<'b>(
    world: &World,
    place: usize,
    begun: impl Iterator<Item = &'b Begun>,
) -> Option<Move> {
    let (mut dead, mut not_probed, mut bad) = (0_usize, Vec::new(), Vec::new());
    let begun: Vec<&Begun> = begun.collect();
    let revoked = Revoked::beside(world, &begun);
    for one in &begun {
        let shown = match one {
            Begun::Rotation { rotation } if revoked.is_all_of(*rotation) => Shown::Nothing,
            Begun::Rotation { rotation } => shown_by_rotation(world, *rotation),
            Begun::Revocation { revocation } => shown(world, *revocation),
            Begun::Eviction { .. }
            | Begun::Run { .. }
            | Begun::Nothing
            | Begun::Message { .. }
            | Begun::Restart { .. }
            | Begun::Quarantine { .. } => Shown::Nothing,
        };
        match shown {
            Shown::NotYet => return None,
            Shown::Nothing => {}
            Shown::Dead => dead += 1,
            Shown::NotProbed(reason) => not_probed.push(reason),
            Shown::Badly(reason) => bad.push(reason),
        }
    }
    if let Some(first) = bad.first() {
        let others = more(bad.len());
        return Some(Move::Fail(place, format!("{first}{others}")));
    }
    let mut note = format!("{dead} proven dead");
    if let Some(first) = not_probed.first() {
        let (count, others) = (not_probed.len(), more(not_probed.len()));
        note.push_str(&format!("; {count} not probed: {first}{others}"));
    }
    Some(Move::Complete(place, Some(note)))
}

/// Whether a login with what it took away was refused, or none can be tried.
pub(super) fn is_shown(world: &World, begun: &Begun) -> bool {
    let shown = match begun {
        Begun::Rotation { rotation } => shown_by_rotation(world, *rotation),
        Begun::Revocation { revocation } => shown(world, *revocation),
        Begun::Eviction { .. }
        | Begun::Run { .. }
        | Begun::Nothing
        | Begun::Message { .. }
        | Begun::Restart { .. }
        | Begun::Quarantine { .. } => Shown::NotYet,
    };
    matches!(shown, Shown::Dead | Shown::NotProbed(_))
}

fn more(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        _ => format!("; and {} more", count - 1),
    }
}

/// What the revocations among things that a run began make unusable, looked up once and only if it is asked for.
pub(super) struct Revoked<'b> {
    world: &'b World,
    begun: &'b [&'b Begun],
    versions: OnceCell<BTreeSet<(SecretId, u64)>>,
}

impl<'b> Revoked<'b> {
    pub(super) const fn beside(world: &'b World, begun: &'b [&'b Begun]) -> Self {
        Self {
            world,
            begun,
            versions: OnceCell::new(),
        }
    }

    /// Whether all that a rotation was parked with is what they made unusable: then their proofs are its own.
    pub(super) fn is_all_of(&self, id: RotationId) -> bool {
        let parked = Phase::Closed(Outcome::Parked);
        let known = self.world.rotations.get(&id);
        let Some(known) = known.filter(|known| known.phase == parked && !known.old.is_empty())
        else {
            return false;
        };
        let all = self.versions.get_or_init(|| self.versions());
        let mut old = known.old.iter();
        old.all(|version| all.contains(&(known.secret, *version)))
    }

    fn versions(&self) -> BTreeSet<(SecretId, u64)> {
        let revocations = self.begun.iter().filter_map(|one| match one {
            Begun::Revocation { revocation } => self.world.revocations.get(revocation),
            _ => None,
        });
        let of = |one: &'b Revocation| {
            one.versions
                .iter()
                .map(move |version| (one.secret, *version))
        };
        revocations.flat_map(of).collect()
    }
}

/// What a rotation replaced.
fn shown_by_rotation(world: &World, id: RotationId) -> Shown {
    let end = lease::end_of(id);
    if world.revocations.contains_key(&end) {
        return shown(world, end);
    }
    match end_of_rotation(world, id) {
        End::NotYet => Shown::NotYet,
        End::Badly(reason) => Shown::Badly(reason),
        End::Well => match world.rotations.get(&id) {
            Some(known) if !known.old.is_empty() => {
                Shown::NotProbed(format!("{}: {NOTHING_TO_ASK}", named(world, known.secret)))
            }
            _ => Shown::Nothing,
        },
    }
}

fn shown(world: &World, id: RevocationId) -> Shown {
    let Some(known) = world.revocations.get(&id) else {
        return Shown::Badly(format!("what came of revocation {id} is in the log only"));
    };
    match &known.proven {
        Proven::Dead(_) => Shown::Dead,
        Proven::Unknown(_, reason) => not_probed(world, known, reason),
        Proven::NotAsked | Proven::Awaited | Proven::Alive(_) if known.is_forgotten() => {
            Shown::Badly(format!(
                "two principals gave revocation {id} up before it was proven"
            ))
        }
        Proven::NotAsked if known.backend == Backend::Confirmed => {
            not_probed(world, known, NOTHING_TO_ASK)
        }
        Proven::NotAsked | Proven::Awaited | Proven::Alive(_) => Shown::NotYet,
    }
}

fn not_probed(world: &World, known: &Revocation, reason: &str) -> Shown {
    Shown::NotProbed(format!("{}: {reason}", named(world, known.secret)))
}

fn named(world: &World, secret: SecretId) -> String {
    let known = world.secrets.get(&secret);
    known.map_or_else(|| secret.to_string(), |known| format!("`{}`", known.name))
}
