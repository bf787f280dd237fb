//! In what two folds of one log differ, for whoever checks that there is no such thing (rule E8).

use std::collections::{BTreeMap, BTreeSet};

use super::World;

impl World {
    /// The first thing that is not the same in another world, in words; `None` when all is.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Option<String> {
        if self == other {
            return None;
        }
        let secret = || first(&self.secrets, &other.secrets, |id| format!("secret {id}"));
        let binding = || {
            first(&self.bindings, &other.bindings, |id| {
                format!("binding {id}")
            })
        };
        let assignment = || {
            first(&self.assignments, &other.assignments, |key| {
                format!("the assignment of container {}", key.container)
            })
        };
        let host = || first(&self.hosts, &other.hosts, |id| format!("host {id}"));
        let token = || {
            first(&self.join_tokens, &other.join_tokens, |id| {
                format!("join token {id}")
            })
        };
        let rotation = || {
            first(&self.rotations, &other.rotations, |id| {
                format!("rotation {id}")
            })
        };
        let revocation = || {
            first(&self.revocations, &other.revocations, |id| {
                format!("revocation {id}")
            })
        };
        let store = || first(&self.stores, &other.stores, |id| format!("store {id}"));
        let rollout = || {
            first(&self.rollouts, &other.rollouts, |service| {
                format!("the rollout of service `{}`", service.name)
            })
        };
        let notification = || {
            first(&self.notifications, &other.notifications, |id| {
                format!("notification {id}")
            })
        };
        let source = || {
            first(&self.signal_sources, &other.signal_sources, |id| {
                format!("the source of signals {id}")
            })
        };
        let playbook = || {
            first(&self.playbooks, &other.playbooks, |id| {
                format!("playbook {id}")
            })
        };
        let run = || first(&self.runs, &other.runs, |id| format!("playbook run {id}"));
        let found = secret()
            .or_else(binding)
            .or_else(assignment)
            .or_else(host)
            .or_else(token)
            .or_else(rotation)
            .or_else(revocation)
            .or_else(store)
            .or_else(rollout)
            .or_else(notification)
            .or_else(source)
            .or_else(playbook)
            .or_else(run)
            .or_else(|| self.other_people(other));
        Some(found.unwrap_or_else(|| "an index".to_owned()))
    }

    /// What differs of what people may do.
    fn other_people(&self, other: &Self) -> Option<String> {
        if self.policies != other.policies {
            return Some("the policies".to_owned());
        }
        if self.approvals != other.approvals {
            return Some("a request that takes several people".to_owned());
        }
        (self.tokens != other.tokens).then(|| "a token of a person's".to_owned())
    }
}

fn first<K: Ord, V: PartialEq>(
    one: &BTreeMap<K, V>,
    other: &BTreeMap<K, V>,
    words: impl Fn(&K) -> String,
) -> Option<String> {
    let keys: BTreeSet<&K> = one.keys().chain(other.keys()).collect();
    let differs = |key: &&K| one.get(key) != other.get(key);
    keys.into_iter().find(differs).map(words)
}

#[cfg(test)]
mod tests {
    use crate::testing::{Given, SECOND, SECRET, THIRD, rotate};

    #[test]
    fn the_first_thing_that_differs_is_named() {
        let one = Given::serving().and(rotate(SECOND));
        let other = Given::serving().and(rotate(THIRD));
        assert_eq!(one.world().difference(one.clone().world()), None);
        let difference = one.world().difference(other.world());
        assert_eq!(difference, Some(format!("rotation {SECOND}")));
        let earlier = Given::first_version();
        let difference = earlier.world().difference(Given::nothing().world());
        assert_eq!(difference, Some(format!("secret {SECRET}")));
    }

    #[test]
    fn a_difference_only_in_an_index_is_one_too() {
        let given = Given::serving();
        let mut other = given.world().clone();
        other.host_generations.clear();
        assert_eq!(
            given.world().difference(&other),
            Some("an index".to_owned())
        );
    }
}
