//! What is looked at beside the log: after every step, after the gateway started again, and whether all is at rest.
//!
//! What has to hold is in `invariants` and beside; here is when it is asked.

use keywheel_core::plan::plan_host;

use crate::container::Wanted;
use crate::host::Host;
use crate::invariants::{Broken, restarts_are_few};
use crate::sim::Sim;

impl Sim {
    /// I8, after every step, and what canaries and logins have to keep.
    pub(crate) fn check(&mut self) -> Result<(), Broken> {
        restarts_are_few(&self.hosts)?;
        self.store.expire(self.now);
        self.store.logins.none_is_made_twice()?;
        self.truth.revocations.hosts_heed_them(&self.hosts)?;
        let revocations = &self.truth.revocations;
        self.truth
            .orders
            .hosts_heed_them(&self.hosts, revocations)?;
        self.truth.copies_are_accepted(&self.hosts, &self.store)
    }

    /// X4: who only read the log takes nothing for alive that died, and plans nothing of it.
    pub(crate) fn nothing_is_back(&self) -> Result<(), Broken> {
        let world = self.gateway.world();
        self.truth.stages_are_sane(world)?;
        self.truth.revocations.are_kept(world)?;
        self.truth.runs.are_kept(world)?;
        for host in &self.hosts {
            if let Some(plan) = plan_host(world, host.id) {
                self.truth.plan_is_sane(&plan, world)?;
            }
        }
        Ok(())
    }

    /// Whether nothing is left to be done but by runs of playbooks.
    pub(crate) fn is_calm(&self) -> bool {
        let world = self.gateway.world();
        let is_through = |host: &Host| {
            let mut containers = host.containers.values();
            host.reports.is_empty()
                && host.plan == plan_host(world, host.id)
                && containers.all(|one| {
                    let is_there = |wanted: &Wanted| {
                        let copy = one.copies.get(&wanted.binding);
                        copy.is_some_and(|copy| {
                            copy.there == wanted.value && copy.used == wanted.value
                        })
                    };
                    let wanted = host.wanted_by(&one.id);
                    let is_well = one.trial.is_none() || wanted.is_empty();
                    is_well && wanted.iter().all(is_there)
                })
        };
        self.net.is_empty()
            && self.gateway.open.is_empty()
            && world.open_rotations().next().is_none()
            && world.revocations.values().all(|one| one.closed)
            && self.hosts.iter().all(is_through)
            && self.logins_are_settled()
    }
}
