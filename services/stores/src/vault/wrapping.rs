//! Secret ids that came wrapped, for as long as this process runs.
//!
//! A wrapping token opens once, so what was in it outlives the login that opened it: that of a trial
//! before the store is declared, or of a declaration that changed since. Invariants: in memory only,
//! and bounded; of two that want the same one, one opens it; a secret id is told to nobody but the
//! place that its token was opened at, whoever declares a store with the same credential.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use keywheel_seal::{SecretBytes, digest};

/// Most secret ids that are kept; the first one goes, and its wrapping token has to be made anew.
pub const MAX_UNWRAPPED: usize = 64;

/// What one wrapping token wraps, once it was opened. Who holds the lock opens it.
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
        if let Some((_, slot)) = kept.iter().find(|(other, _)| *other == name) {
            return Arc::clone(slot);
        }
        if kept.len() >= MAX_UNWRAPPED {
            // One that could not be opened is worth less than any that was.
            let unopened = |slot: &Slot| slot.try_lock().is_ok_and(|inside| inside.is_none());
            let goes = kept.iter().position(|(_, slot)| unopened(slot));
            kept.remove(goes.unwrap_or(0));
        }
        let slot = Slot::default();
        kept.push_back((name, Arc::clone(&slot)));
        slot
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
        for n in 0..MAX_UNWRAPPED {
            let slot = all.slot(&at("a"), &token(n));
            if n != 7 {
                fill(&slot);
            }
        }
        all.slot(&at("a"), &token(MAX_UNWRAPPED));
        assert_eq!(all.0.lock().unwrap().len(), MAX_UNWRAPPED);
        assert!(
            is_open(&all.slot(&at("a"), &token(0))),
            "the empty one went"
        );
        fill(&all.slot(&at("a"), &token(MAX_UNWRAPPED)));
        all.slot(&at("a"), &token(MAX_UNWRAPPED + 1));
        assert_eq!(all.0.lock().unwrap().len(), MAX_UNWRAPPED);
        assert!(
            !is_open(&all.slot(&at("a"), &token(0))),
            "the first one went"
        );
    }
}
