//! Canaries: containers that have a version before it is promoted. Whose health check begins to fail then is told
//! of, although nothing restarted it.
//!
//! Owns no state: which containers are canaries is the plan's. One that was not well before it had the version is
//! not judged by it.

use keywheel_core::id::ContainerId;
use keywheel_engine::port::container_host::Health;

use super::Reconciler;
use super::pass::Due;
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
        let is_ahead = |(secret, version): VersionKey| {
            let mut staged = plan.staged.iter();
            staged.any(|one| {
                let is_it = one.secret == secret && one.grant.version == version;
                is_it && one.canaries.contains(id)
            })
        };
        // A file may be made of two secrets, both of them ahead.
        let mut ahead: Vec<Due> = Vec::new();
        for (binding, holding) in &tracked.holdings {
            let found = holding.held().filter(|one| is_ahead(*one));
            ahead.extend(found.map(|(secret, version)| (*binding, secret, version)));
        }
        for (binding, secret, version) in ahead {
            self.refuse(id, binding, secret, version, UNHEALTHY.to_owned());
        }
    }
}
