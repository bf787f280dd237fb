//! How much goes on at once in tasks of its own, which do not end with the connection of who asked.
//!
//! Invariants: one person has so many of a kind and all have so many, and no more, however often they ask and leave;
//! each kind has places of its own, so that no revocation and no `seal` waits for others' work; whoever comes beyond is
//! told when to come again, before anything is begun; a place is free again when what has it is over and on record, or
//! is given up.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keywheel_core::audit::Principal;

use super::{COME_AGAIN_AFTER, Failure};
use crate::admission::identity;
use crate::deeds::Deed;
use crate::places::{MAX_CONNECTIONS, MAX_PER_OPERATOR};

/// Most of one kind that go on for one person: as many as they have connections, so who waits for answers does not
/// come to it.
pub const MAX_OF_A_PERSON: usize = MAX_PER_OPERATOR;
/// Most of one kind that go on for all together.
pub const MAX_OF_A_KIND: usize = MAX_CONNECTIONS;

/// What has places of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    /// Revocations that are begun one after the other.
    Revoke,
    Seal,
    Unseal,
    /// A letter may be the signal of a leak.
    RetryLetter,
    Login,
    Logout,
    Put,
    /// Every other deed.
    Other,
}

impl Kind {
    /// Where a deed has its place.
    pub(super) const fn of(deed: Deed) -> Self {
        match deed {
            Deed::Seal => Self::Seal,
            Deed::Unseal => Self::Unseal,
            Deed::RetryLetter => Self::RetryLetter,
            Deed::RotateKek
            | Deed::Refresh
            | Deed::TryStore
            | Deed::TestNotification
            | Deed::ReplayNotification
            | Deed::DiscardLetter
            | Deed::Subscribe
            | Deed::Acknowledge
            | Deed::Unsubscribe
            | Deed::Backup => Self::Other,
        }
    }
}

/// Who has how many. Bounded by the number of places.
#[derive(Debug, Default)]
struct Held {
    by_kind: BTreeMap<Kind, usize>,
    by_person: BTreeMap<(Kind, String), usize>,
}

/// What goes on in tasks of its own. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct UnderWay(Arc<Mutex<Held>>);

/// A place, free again when the last clone of it is dropped.
#[derive(Debug, Clone)]
pub(super) struct Place {
    _taken: Arc<Taken>,
}

#[derive(Debug)]
struct Taken {
    under_way: UnderWay,
    kind: Kind,
    person: String,
}

impl UnderWay {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for what is about to go on for somebody; a person is one, by whatever they come.
    pub(super) fn place(&self, kind: Kind, principal: &Principal) -> Result<Place, Failure> {
        let person = identity(principal);
        let mut held = self.held();
        let all = held.by_kind.get(&kind).copied().unwrap_or(0);
        let key = (kind, person.clone());
        let own = held.by_person.get(&key).copied().unwrap_or(0);
        if own >= MAX_OF_A_PERSON {
            return Err(busy(MAX_OF_A_PERSON, &format!(" for `{person}`")));
        }
        if all >= MAX_OF_A_KIND {
            return Err(busy(MAX_OF_A_KIND, ""));
        }
        held.by_kind.insert(kind, all + 1);
        held.by_person.insert(key, own + 1);
        drop(held);
        Ok(Place {
            _taken: Arc::new(Taken {
                under_way: self.clone(),
                kind,
                person,
            }),
        })
    }
}

fn busy(most: usize, whose: &str) -> Failure {
    let text = format!(
        "{most} of the kind are under way already{whose}, and nothing was begun; they go on also where nobody waits for them, so wait for an answer before you ask for more, and come again in {COME_AGAIN_AFTER} seconds"
    );
    Failure::busy(text, COME_AGAIN_AFTER)
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut held = self.under_way.held();
        if let Some(all) = held.by_kind.get_mut(&self.kind) {
            *all = all.saturating_sub(1);
        }
        let key = (self.kind, self.person.clone());
        let own = held.by_person.get(&key).copied().unwrap_or(0);
        if own <= 1 {
            held.by_person.remove(&key);
        } else {
            held.by_person.insert(key, own - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [Kind; 8] = [
        Kind::Revoke,
        Kind::Seal,
        Kind::Unseal,
        Kind::RetryLetter,
        Kind::Login,
        Kind::Logout,
        Kind::Put,
        Kind::Other,
    ];

    fn person(uid: u32) -> Principal {
        let name = String::new();
        Principal::User { uid, name }
    }

    fn take_all(under_way: &UnderWay, kind: Kind, principal: &Principal) -> Vec<Place> {
        std::iter::from_fn(|| under_way.place(kind, principal).ok()).collect()
    }

    #[test]
    fn a_person_has_so_many_of_each_kind_by_whatever_they_come_and_gets_one_back() {
        let under_way = UnderWay::default();
        let mut held = Vec::new();
        for kind in KINDS {
            let mut taken = take_all(&under_way, kind, &person(7));
            assert_eq!(taken.len(), MAX_OF_A_PERSON, "{kind:?}");
            let token = Principal::Token {
                name: "ci".to_owned(),
                owner: identity(&person(7)),
            };
            let no = under_way.place(kind, &token).unwrap_err();
            assert!(no.detail().contains("unix:7"), "{no:?}");
            assert!(under_way.place(kind, &person(8)).is_ok(), "{kind:?}");
            // A clone is the same place.
            let last = taken.pop().unwrap();
            drop(last.clone());
            assert!(under_way.place(kind, &person(7)).is_err());
            drop(last);
            taken.extend(take_all(&under_way, kind, &token));
            assert_eq!(taken.len(), MAX_OF_A_PERSON, "{kind:?}");
            held.extend(taken);
        }
        drop(held);
        assert!(
            under_way.held().by_person.is_empty(),
            "nobody is remembered"
        );
    }

    #[test]
    fn all_together_have_so_many_of_a_kind_and_every_other_kind_its_own() {
        for full in KINDS {
            let under_way = UnderWay::default();
            let taken: Vec<Place> = (0..20)
                .flat_map(|uid| take_all(&under_way, full, &person(uid)))
                .collect();
            assert_eq!(taken.len(), MAX_OF_A_KIND, "{full:?}");
            for kind in KINDS {
                let place = under_way.place(kind, &person(99));
                assert_eq!(place.is_ok(), kind != full, "{kind:?} beside {full:?}");
            }
        }
    }

    #[test]
    fn what_goes_on_without_sinks_waits_for_no_other_work() {
        for deed in Deed::ALL {
            let is_urgent = deed.goes_on_without_sinks() && deed != Deed::Backup;
            assert_eq!(Kind::of(deed) != Kind::Other, is_urgent, "{deed:?}");
        }
    }
}
