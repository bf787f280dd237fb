//! How many connections a listener serves at once, and for whom.
//!
//! Invariants: strangers and operators have places of their own, so that no number of strangers
//! keeps an operator out; one user never has all places of its kind; a place is free again when its
//! connection ends, however it ends.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keywheel_identity::name::OperatorName;

/// Most connections at once.
pub const MAX_CONNECTIONS: usize = 512;
/// Of these, places for users who may use no verb: enough to be told no.
pub const MAX_STRANGERS: usize = 128;
/// Most connections of one user who may use no verb.
pub const MAX_PER_STRANGER: usize = 16;
/// Most connections of one user who may; event streams hold one each.
pub const MAX_PER_OPERATOR: usize = 128;

/// Whose connection it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Standing {
    /// Root, the daemon's user, or in the group.
    Operator,
    /// Anyone else.
    Stranger,
}

impl Standing {
    const fn limits(self) -> (usize, usize) {
        match self {
            Self::Operator => (MAX_CONNECTIONS - MAX_STRANGERS, MAX_PER_OPERATOR),
            Self::Stranger => (MAX_STRANGERS, MAX_PER_STRANGER),
        }
    }
}

/// Who holds a place.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Holder {
    /// A user of this machine.
    User(u32),
    /// A person with a certificate.
    Operator(OperatorName),
    /// Whoever connects from there.
    Address(IpAddr),
}

/// Who holds how many. Bounded by the number of places.
#[derive(Debug, Default)]
struct Held {
    by_standing: HashMap<Standing, usize>,
    by_user: HashMap<(Standing, Holder), usize>,
}

/// All places. Clones are one.
#[derive(Debug, Clone, Default)]
pub struct Places {
    held: Arc<Mutex<Held>>,
}

/// One place; free again when dropped.
#[derive(Debug)]
pub struct Place {
    places: Places,
    standing: Standing,
    holder: Holder,
}

impl Places {
    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection, if one is free for this user.
    #[must_use]
    pub fn take(&self, standing: Standing, holder: Holder) -> Option<Place> {
        let mut held = self.held();
        let (in_all, per_user) = standing.limits();
        let all = held.by_standing.get(&standing).copied().unwrap_or(0);
        let key = (standing, holder.clone());
        let own = held.by_user.get(&key).copied().unwrap_or(0);
        if all >= in_all || own >= per_user {
            return None;
        }
        held.by_standing.insert(standing, all + 1);
        held.by_user.insert(key, own + 1);
        drop(held);
        Some(Place {
            places: self.clone(),
            standing,
            holder,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.places.held();
        if let Some(all) = held.by_standing.get_mut(&self.standing) {
            *all = all.saturating_sub(1);
        }
        let user = (self.standing, self.holder.clone());
        let own = held.by_user.get(&user).copied().unwrap_or(0);
        if own <= 1 {
            held.by_user.remove(&user);
        } else {
            held.by_user.insert(user, own - 1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take_all(places: &Places, standing: Standing, uid: u32) -> Vec<Place> {
        std::iter::from_fn(|| places.take(standing, Holder::User(uid))).collect()
    }

    #[test]
    fn one_user_has_so_many_and_gets_one_back_when_one_ends() {
        for (standing, limit) in [
            (Standing::Stranger, MAX_PER_STRANGER),
            (Standing::Operator, MAX_PER_OPERATOR),
        ] {
            let places = Places::default();
            let mut taken = take_all(&places, standing, 7);
            assert_eq!(taken.len(), limit);
            assert!(
                places.take(standing, Holder::User(8)).is_some(),
                "another has a place"
            );
            taken.pop();
            taken.extend(places.take(standing, Holder::User(7)));
            assert_eq!(taken.len(), limit);
        }
    }

    #[test]
    fn all_strangers_together_leave_every_place_of_operators() {
        let places = Places::default();
        let strangers: Vec<Place> = (1000..2000)
            .flat_map(|uid| take_all(&places, Standing::Stranger, uid))
            .collect();
        assert_eq!(strangers.len(), MAX_STRANGERS);
        let operators: Vec<Place> = (0..100)
            .flat_map(|uid| take_all(&places, Standing::Operator, uid))
            .collect();
        assert_eq!(strangers.len() + operators.len(), MAX_CONNECTIONS);
        drop((strangers, operators));
        assert!(places.held().by_user.is_empty(), "nobody is remembered");
    }
}
