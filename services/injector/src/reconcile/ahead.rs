//! Canaries: containers that have a version before it is promoted. Whose health check begins to fail then is told
//! of, although nothing restarted it.
//!
//! Owns no state: which containers are canaries is the plan's. One that was not well before it had the version is
//! not judged by it.

use keywheel_core::id::ContainerId;
use keywheel_core::plan::HostPlan;
use keywheel_engine::port::container_host::Health;

use super::Reconciler;
use super::pass::Due;
use crate::model::Tracked;
use crate::shared::VersionKey;

/// Why a canary does not run well.
const UNHEALTHY: &str = "its health check fails since it has the new version, before all others; look at `docker inspect` and the container's log";

impl Reconciler {
    /// What the engine says of a canary's health, after what it said before.
    pub(super) fn judge_ahead(&mut self, id: &ContainerId, before: Health) {
        let (Some(plan), Some(tracked)) = (self.shared.plan(), self.containers.get(id)) else {
            return;
        };
        if before == Health::Unhealthy || tracked.record.health != Health::Unhealthy {
            return;
        }
        let ahead = ahead_in(&plan, id, tracked);
        for (binding, secret, version) in ahead {
            self.refuse(id, binding, secret, version, UNHEALTHY.to_owned());
        }
    }
}

/// What a canary holds before all others; a file may be made of two such secrets.
fn ahead_in(plan: &HostPlan, id: &ContainerId, tracked: &Tracked) -> Vec<Due> {
    let is_ahead = |(secret, version): VersionKey| {
        let mut staged = plan.staged.iter();
        staged.any(|one| {
            let is_it = one.secret == secret && one.grant.version == version;
            is_it && one.canaries.contains(id)
        })
    };
    let mut ahead = Vec::new();
    for (binding, holding) in tracked.holdings.iter() {
        let found = holding.held().filter(|one| is_ahead(*one));
        ahead.extend(found.map(|(secret, version)| (*binding, secret, version)));
    }
    ahead
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keywheel_core::binding::Reload;
    use keywheel_core::id::{DeliveryId, SecretId};
    use keywheel_core::plan::{Grant, Staged};

    use super::*;
    use crate::decide::place_of;
    use crate::decide::tests::{binding, file, plan, tracked};
    use crate::model::{Ack, Holding};

    const OWN: SecretId = SecretId::from_bytes([1; 16]);
    const OTHER: SecretId = SecretId::from_bytes([9; 16]);

    #[test]
    fn a_canary_is_judged_by_each_secret_of_which_it_has_the_next_version() {
        let planned = binding(1, file("db"), Reload::None, Some(3));
        let (binding, place) = (planned.binding, place_of(&planned.target));
        let mut one = tracked("runc", &[]);
        let held = Holding {
            secret: OWN,
            place,
            attr: None,
            form: None,
            version: Some(4),
            further: BTreeMap::from([(OTHER, 2)]),
            previous: BTreeMap::new(),
            news: Vec::new(),
            content: 1,
            ack: Ack::Done,
            remembered: None,
            kept: None,
        };
        one.put(binding, held);
        let id = one.record.facts.id.clone();
        let other = ContainerId::parse(&"e".repeat(64)).unwrap();
        let staged = |secret, version, container: &ContainerId| Staged {
            secret,
            grant: Grant {
                version,
                delivery: DeliveryId::from_bytes([0; 16]),
            },
            canaries: vec![container.clone()],
        };
        let mut plan = plan(vec![planned]);
        let mut ahead = |staged| {
            plan.staged = staged;
            ahead_in(&plan, &id, &one)
        };
        let both = vec![staged(OWN, 4, &id), staged(OTHER, 2, &id)];
        assert_eq!(ahead(both), [(binding, OWN, 4), (binding, OTHER, 2)]);
        let elsewhere = vec![staged(OWN, 4, &other), staged(OTHER, 2, &id)];
        assert_eq!(ahead(elsewhere), [(binding, OTHER, 2)]);
        assert!(ahead(vec![staged(OWN, 5, &id)]).is_empty(), "not had yet");
    }
}
