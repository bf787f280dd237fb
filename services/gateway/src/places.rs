//! How many connections a listener serves at once, and for whom.
//!
//! Invariants: strangers and operators have places of their own, so that no number of strangers
//! keeps an operator out; one user never has all places of its kind, and no network of IPv6 has those of strangers; a
//! place is free again when its connection ends, however it ends.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use keywheel_identity::name::OperatorName;

/// Most connections at once.
pub const MAX_CONNECTIONS: usize = 512;
/// Of these, places for users who may use no verb: enough to be told no.
pub const MAX_STRANGERS: usize = 128;
/// Most connections of one user who may use no verb.
pub const MAX_PER_STRANGER: usize = 16;
/// Most connections of strangers from one network of IPv6: a machine has as many addresses there as it likes.
pub const MAX_PER_NETWORK: usize = MAX_STRANGERS / 2;
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

impl Holder {
    const fn network(&self) -> Option<Ipv6Addr> {
        match self {
            Self::Address(address) => network_of(*address),
            Self::User(_) | Self::Operator(_) => None,
        }
    }
}

/// The network of an address of IPv6, by its first 64 bits: so much a machine's link has at least.
pub(crate) const fn network_of(address: IpAddr) -> Option<Ipv6Addr> {
    match address {
        IpAddr::V4(_) => None,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Some(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
    }
}

/// Who holds how many. Bounded by the number of places.
#[derive(Debug, Default)]
struct Held {
    by_standing: HashMap<Standing, usize>,
    by_user: HashMap<(Standing, Holder), usize>,
    by_network: HashMap<Ipv6Addr, usize>,
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
        let network = holder.network();
        let beside = network.and_then(|network| held.by_network.get(&network).copied());
        let beside = beside.unwrap_or(0);
        if all >= in_all || own >= per_user || beside >= MAX_PER_NETWORK {
            return None;
        }
        if let Some(network) = network {
            held.by_network.insert(network, beside + 1);
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
        if let Some(network) = self.holder.network() {
            let left = held.by_network.get(&network).copied().unwrap_or(0);
            match left.saturating_sub(1) {
                0 => held.by_network.remove(&network),
                left => held.by_network.insert(network, left),
            };
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
    fn one_machine_with_a_network_of_addresses_leaves_places_to_others() {
        let places = Places::default();
        let address = |network: u16, host: u16| {
            let all = Ipv6Addr::new(0x2001, 0xdb8, 0, network, 0, 0, 0, host);
            Holder::Address(IpAddr::V6(all))
        };
        let take = |network, host| places.take(Standing::Stranger, address(network, host));
        let mut taken: Vec<Place> = (0..1000).filter_map(|host| take(1, host)).collect();
        assert_eq!(taken.len(), MAX_PER_NETWORK);
        let other = take(2, 1).unwrap();
        let old = Holder::Address(IpAddr::from([192, 0, 2, 1]));
        assert!(places.take(Standing::Stranger, old).is_some());
        taken.pop();
        taken.extend(take(1, 2000));
        assert_eq!(taken.len(), MAX_PER_NETWORK, "one that ended is free again");
        drop((taken, other));
        assert!(places.held().by_network.is_empty(), "none is remembered");
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
