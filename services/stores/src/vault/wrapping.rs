//! Secret ids that came wrapped, for as long as this process runs.
//!
//! A wrapping token opens once, so what was in it outlives the login that opened it: that of a trial
//! before the store is declared, or of a declaration that changed since. Invariants: in memory only,
//! and bounded: what a login uses stays for as long as that is there, and of the others so many; of two that want the same one, one opens it; a secret id is told to nobody but the
//! place that its token was opened at, whoever declares a store with the same credential.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use keywheel_seal::{SecretBytes, digest};

/// Most secret ids that are kept though no login uses them; the one that was wanted longest ago goes, and its
/// wrapping token has to be made anew.
pub const MAX_UNWRAPPED: usize = 64;

/// What one wrapping token wraps, once it was opened. Who holds the lock opens it; who keeps the slot needs it.
pub(super) type Slot = Arc<tokio::sync::Mutex<Option<Arc<SecretBytes>>>>;

/// Where a wrapping token was made.
pub(super) struct Place<'a> {
    /// The server, as it was declared.
    pub(super) server: &'a str,
    /// The namespace.
    pub(super) namespace: &'a str,
    /// The auth method's mount.
    pub(super) mount: &'a str,
}

/// All of them.
#[derive(Default)]
pub struct Wrappings(Mutex<VecDeque<([u8; 32], Slot)>>);

impl Wrappings {
    /// The slot of this wrapping token at this place.
    pub(super) fn slot(&self, at: &Place<'_>, wrapping: &SecretBytes) -> Slot {
        let name = name(at, wrapping);
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = kept.iter().position(|(other, _)| *other == name);
        let slot = known.and_then(|known| kept.remove(known));
        let slot = slot.map_or_else(
            || {
                make_room(&mut kept);
                Slot::default()
            },
            |(_, slot)| slot,
        );
        // The last one wanted is the last one.
        kept.push_back((name, Arc::clone(&slot)));
        slot
    }
}

/// Lets one go that no login uses, if there are as many of those as may be.
fn make_room(kept: &mut VecDeque<([u8; 32], Slot)>) {
    let idle = |(_, slot): &([u8; 32], Slot)| Arc::strong_count(slot) == 1;
    if kept.iter().filter(|one| idle(one)).count() < MAX_UNWRAPPED {
        return;
    }
    // One that could not be opened is worth less than any that was.
    let unopened = |slot: &Slot| slot.try_lock().is_ok_and(|inside| inside.is_none());
    let closed = kept.iter().position(|one| idle(one) && unopened(&one.1));
    if let Some(goes) = closed.or_else(|| kept.iter().position(idle)) {
        kept.remove(goes);
    }
}

fn name(at: &Place<'_>, wrapping: &SecretBytes) -> [u8; 32] {
    let parts = [at.server, at.namespace, at.mount].map(|part| digest::sha256(part.as_bytes()));
    // EXPOSE: its digest tells whether it is another one than last time; it is random, and spent.
    let token = digest::sha256(wrapping.expose());
    let mut all = parts.concat();
    all.extend_from_slice(&token);
    digest::sha256(&all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(server: &str) -> Place<'_> {
        Place {
            server,
            namespace: "team",
            mount: "approle",
        }
    }

    fn token(n: usize) -> SecretBytes {
        SecretBytes::from(format!("hvs.{n}").into_bytes())
    }

    fn fill(slot: &Slot) {
        *slot.try_lock().unwrap() = Some(Arc::new(SecretBytes::from(b"id".to_vec())));
    }

    fn is_open(slot: &Slot) -> bool {
        slot.try_lock().unwrap().is_some()
    }

    #[test]
    fn a_secret_id_is_known_at_its_own_place_only() {
        let all = Wrappings::default();
        fill(&all.slot(&at("bao:8200"), &token(1)));
        assert!(is_open(&all.slot(&at("bao:8200"), &token(1))));
        assert!(!is_open(&all.slot(&at("bao:8200"), &token(2))));
        assert!(!is_open(&all.slot(&at("elsewhere:8200"), &token(1))));
        let other_mount = Place {
            mount: "other",
            ..at("bao:8200")
        };
        assert!(!is_open(&all.slot(&other_mount, &token(1))));
    }

    #[test]
    fn they_are_bounded_and_what_was_opened_stays_longest() {
        let all = Wrappings::default();
        let slot = |n| all.slot(&at("a"), &token(n));
        for n in 0..MAX_UNWRAPPED {
            let slot = slot(n);
            if n != 7 {
                fill(&slot);
            }
        }
        fill(&slot(MAX_UNWRAPPED));
        assert_eq!(all.0.lock().unwrap().len(), MAX_UNWRAPPED);
        assert!(is_open(&slot(0)), "the empty one went");
        fill(&slot(MAX_UNWRAPPED + 1));
        assert_eq!(all.0.lock().unwrap().len(), MAX_UNWRAPPED);
        assert!(is_open(&slot(0)), "it was wanted since");
        assert!(!is_open(&slot(1)), "nobody wanted it for longest");
    }

    #[test]
    fn what_a_login_uses_stays_however_many_others_come() {
        let all = Wrappings::default();
        let slot = |n| all.slot(&at("a"), &token(n));
        let used: Vec<Slot> = (0..=MAX_UNWRAPPED).map(slot).collect();
        used.iter().for_each(fill);
        let many = 3 * MAX_UNWRAPPED;
        (100..100 + many).for_each(|n| fill(&slot(n)));
        assert_eq!(all.0.lock().unwrap().len(), used.len() + MAX_UNWRAPPED);
        assert!((0..used.len()).all(|n| is_open(&slot(n))));
        drop(used);
        (100 + many..100 + 2 * many).for_each(|n| fill(&slot(n)));
        assert!(!is_open(&slot(0)), "no login uses it any more");
    }
}
