//! What holds after every step of a random history, and what holds at its end.

use super::*;

impl Model {
    /// I2 and I3.
    pub(super) fn invariant_versions_only_grow_and_the_dead_stay_dead(&mut self, event: &Event) {
        let Event::Secret(id, event) = event else {
            return;
        };
        match event {
            secret::Event::VersionStaged { version, .. } => {
                let before = self.staged.insert(*id, *version).unwrap_or(0);
                assert!(*version > before, "version {version} after {before}");
            }
            secret::Event::Delivered { version, .. }
            | secret::Event::VersionPromoted { version } => {
                assert!(
                    !self.dead.contains(&(*id, *version)),
                    "dead version {version} came back"
                );
            }
            secret::Event::VersionRevoked { version } => {
                assert!(
                    self.dead.insert((*id, *version)),
                    "version {version} died twice"
                );
            }
            secret::Event::VersionDestroyed { version } => {
                assert!(
                    self.dead.contains(&(*id, *version)),
                    "version {version} destroyed alive"
                );
            }
            _ => {}
        }
    }

    /// I1.
    pub(super) fn invariant_one_open_rotation_and_sane_stages(&self) {
        for (id, secret) in &self.world.secrets {
            let open = self
                .world
                .rotations
                .values()
                .filter(|r| r.secret == *id && r.is_open());
            let open: Vec<_> = open.collect();
            assert!(open.len() <= 1, "{} open rotations", open.len());
            assert_eq!(
                open.first().map(|r| r.id),
                self.world.open_rotation(*id).map(|r| r.id)
            );
            for version in [secret.pending, secret.current, secret.previous]
                .into_iter()
                .flatten()
            {
                assert!(
                    secret.is_deliverable(version),
                    "dead version {version} has a stage"
                );
                assert!(!self.dead.contains(&(*id, version)));
            }
            for version in 1..=secret.last_version {
                let dead = self.dead.contains(&(*id, version));
                assert_eq!(secret.is_deliverable(version), !dead, "version {version}");
            }
        }
    }

    /// I3 at the host, and that a host sees only its own.
    pub(super) fn invariant_plans_hold_only_what_was_granted(&self) {
        for (id, host) in &self.world.hosts {
            if host.is_evicted() {
                self.invariant_evicted_is_out(*id);
                continue;
            }
            let plan = plan_host(&self.world, *id).unwrap();
            for binding in &plan.bindings {
                assert!(binding.selector.means_host(&host.name));
            }
            for one in &plan.staged {
                let (secret, version) = (&self.world.secrets[&one.secret], one.grant.version);
                assert_eq!(secret.pending, Some(version));
                assert!(!self.dead.contains(&(one.secret, version)));
                assert_eq!(
                    secret.delivered.get(&(*id, version)),
                    Some(&one.grant.delivery)
                );
            }
            // Whoever a binding means and a current version exists for has it granted.
            for binding in plan.bindings {
                self.invariant_the_version_before_lives_and_ends_in_no_rotation(*id, &binding);
                let own = (binding.secret, binding.current);
                let further = binding.also.iter().map(|one| (one.secret, one.current));
                for (secret, current) in std::iter::once(own).chain(further) {
                    let known = &self.world.secrets[&secret];
                    assert_eq!(current.map(|grant| grant.version), known.current);
                    if let Some(grant) = current {
                        assert!(!self.dead.contains(&(secret, grant.version)));
                        let granted = known.delivered.get(&(*id, grant.version));
                        assert_eq!(granted, Some(&grant.delivery));
                    }
                }
            }
        }
    }

    /// I3 of the version before: it is planned for whoever names it while it is kept, and no barrier waits for a
    /// version that a plan still asks to hold.
    fn invariant_the_version_before_lives_and_ends_in_no_rotation(
        &self,
        host: HostId,
        planned: &PlannedBinding,
    ) {
        let spec = self.world.bindings[&planned.binding].spec.as_ref().unwrap();
        let named = spec.previous.iter().map(|id| &self.world.secrets[id]);
        let kept = named.filter_map(|secret| Some((secret.id, secret.given_beside()?)));
        let given = planned.previous.iter();
        let given = given.map(|one| (one.secret, one.grant.version));
        assert!(kept.eq(given), "{:?}", planned.previous);
        for one in &planned.previous {
            let (secret, version) = (&self.world.secrets[&one.secret], one.grant.version);
            assert!(!self.dead.contains(&(one.secret, version)));
            assert!(secret.current.is_some_and(|current| version < current));
            let granted = secret.delivered.get(&(host, version));
            assert_eq!(granted, Some(&one.grant.delivery));
            let open = self.world.open_rotation(one.secret);
            assert!(open.is_none_or(|open| !open.old.contains(&version)));
        }
    }

    /// An evicted host has no plan, no grant and no consumer, and nothing waits for it.
    pub(super) fn invariant_evicted_is_out(&self, id: HostId) {
        assert_eq!(plan_host(&self.world, id), None);
        for secret in self.world.secrets.values() {
            assert!(secret.delivered.keys().all(|(host, _)| *host != id));
        }
        assert!(self.world.assignments.keys().all(|key| key.host != id));
        for open in self.world.open_rotations() {
            assert!(!open.barrier.contains(&id));
            assert!(open.waiting.iter().all(|key| key.host != id));
        }
        let mut open = self.world.revocations.values().filter(|open| !open.closed);
        assert!(open.all(|open| !open.waiting.contains(&id)));
    }

    /// I9: except by a revocation, a roll-back or force, a version dies only when no consumer holds it.
    pub(super) fn invariant_retired_versions_are_held_by_nobody(
        &self,
        command: &Command,
        events: &[Event],
    ) {
        let is_exempt = matches!(
            command,
            Command::Revoke { .. }
                | Command::StepOutcome {
                    step: Step::RollBack,
                    ..
                }
        );
        let forced = |event: &Event| matches!(event, Event::Rotation(_, rotation::Event::Forced));
        if is_exempt || events.iter().any(forced) {
            return;
        }
        for event in events {
            let Event::Secret(id, secret::Event::VersionRevoked { version }) = event else {
                continue;
            };
            for (key, state) in self.world.consumers(*id) {
                assert!(
                    state.holds != *version || self.excused.contains(key),
                    "{key:?} still holds version {version}"
                );
            }
        }
    }

    /// A host counts as rid of old versions only by a complete report of that plan or a later one.
    pub(super) fn invariant_barriers_open_by_complete_reports(
        &self,
        command: &Command,
        events: &[Event],
    ) {
        for event in events {
            let Event::Rotation(id, rotation::Event::HostBarrierAcknowledged { host }) = event
            else {
                continue;
            };
            let Command::Report(report) = command else {
                panic!("{command:?} opened a barrier");
            };
            let open = &self.world.rotations[id];
            assert!(report.host == *host && report.complete);
            assert!(report.generation >= open.generation);
            for version in &open.old {
                assert!(!report.holds.contains(&(open.secret, *version)));
            }
        }
    }

    pub(super) fn invariant_replay_gives_the_same_world(&self) {
        let mut replayed = World::default();
        for (number, event) in (1..).zip(&self.log) {
            replayed.apply(number, event);
        }
        assert_eq!(replayed, self.world);
    }

    /// I7.
    pub(super) fn invariant_everything_ends_once_everybody_behaves(&mut self) {
        self.heal();
        let open: Vec<_> = self.world.open_rotations().collect();
        assert!(open.is_empty(), "{open:?}");
        let open: Vec<_> = self
            .world
            .revocations
            .values()
            .filter(|r| !r.closed)
            .collect();
        assert!(open.is_empty(), "{open:?}");
    }
}
