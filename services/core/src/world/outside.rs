//! What lies in stores outside, and what of that changed since when: store-sync asks for the changes
//! after an event's number, so it is told every thing once.

use std::collections::BTreeSet;
use std::time::Duration;

use super::World;
use crate::effect::{AtResource, Outside};
use crate::event::Event;
use crate::id::{SecretId, StoreId};
use crate::name::{SecretName, StoreName};
use crate::resource::{Kind, Resource};
use crate::revocation::{self, Proven, Revocation};
use crate::rotation::{Outcome, Phase, Rotation, Trigger};
use crate::secret::{self, Secret};
use crate::store::{
    self, Backend, CredentialNow, Declared, MAX_NEWS, NamedStore, News, RemoteVersion, SecretNow,
    StoreNow, StoreSpec,
};

/// What changed, in the order in which changes of one event are told: a store before what lies in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Thing {
    Store(StoreId),
    Secret(SecretId),
}

impl World {
    /// A store by name.
    #[must_use]
    pub fn store_named(&self, name: &StoreName) -> Option<&Declared> {
        self.stores.get(self.stores_by_name.get(name)?)
    }

    /// The kind of store in which a secret is to lie; none of one that lies in ours.
    #[must_use]
    pub fn backend_of(&self, spec: &secret::Spec) -> Option<&Backend> {
        let secret::Store::Outside(place) = &spec.store else {
            return None;
        };
        let known = self.store_named(&place.store);
        known.map(|known| &known.store.spec.backend)
    }

    /// Secrets that lie in a store.
    pub fn secrets_in<'w>(&'w self, name: &'w StoreName) -> impl Iterator<Item = &'w Secret> {
        let lies = move |secret: &&Secret| secret.place().is_some_and(|at| at.store == *name);
        self.secrets.values().filter(lies)
    }

    /// Where outside a secret's values lie, with the store as it is declared now.
    #[must_use]
    pub fn outside(&self, secret: &Secret) -> Option<Outside> {
        let place = secret.place()?;
        let named = self.store_named(&place.store)?;
        Some(Outside {
            store: named.store.clone(),
            source: place.source.clone(),
            known: secret.known.clone(),
            fetch: None,
            retire: Vec::new(),
            unstage: None,
            probe: self.probe_of(secret),
        })
    }

    /// The resource whose accounts a secret's versions open, for work on some of them.
    #[must_use]
    pub fn at_resource(&self, secret: &Secret, versions: &[u64]) -> Option<AtResource> {
        let resource = secret.spec.rotator.clone()?;
        // Before its first value the admin's secret may be declared for another server.
        let server = resource.credential_server();
        let is_meant = |admin: &&Secret| admin.spec.credential_for.as_ref() == Some(&server);
        let admin = self.secret_named(&resource.admin).filter(is_meant);
        let admin = admin.map(|admin| CredentialNow {
            name: admin.name.clone(),
            secret: admin.id,
            version: admin.current,
        });
        let worked_on = |version: &u64| versions.contains(version);
        let is_dead = self.dead_at_backend(secret);
        Some(AtResource {
            resource: *resource,
            admin,
            current: secret.current.filter(|current| !worked_on(current)),
            kept: secret
                .kept()
                .filter(|kept| !worked_on(kept) && secret.current != Some(*kept))
                .filter(|kept| !is_dead.contains(kept))
                .collect(),
            unclear: false,
        })
    }

    /// Versions whose value is kept for the proof alone: their server made them unusable, so what they opened is free.
    fn dead_at_backend(&self, secret: &Secret) -> BTreeSet<u64> {
        if secret.kept().all(|kept| secret.is_deliverable(kept)) {
            return BTreeSet::new();
        }
        let open = self.revocations.values();
        let open = open.filter(|open| open.secret == secret.id && open.is_dead_at_backend);
        open.flat_map(|open| open.versions.iter().copied())
            .collect()
    }

    /// Whether a version's value is a revocation's to destroy, after the proof that needs it: nobody else does it.
    #[must_use]
    pub fn awaits_proof(&self, secret: SecretId, version: u64) -> bool {
        let mut open = self.revocations.values();
        open.any(|open| {
            open.secret == secret
                && open.versions.contains(&version)
                && open.proven != Proven::NotAsked
                && !open.is_destroyed
        })
    }

    /// Whether a server may have been told of a version: the rotation that makes it began to, or is
    /// forgotten. A receiver may have made it at `create` already, unless it was given to us.
    #[must_use]
    pub fn may_be_set(&self, secret: SecretId, version: u64) -> bool {
        let open = self.open_rotation(secret);
        let mut rotations = self.ended_rotations(secret).chain(open);
        let making = rotations.find(|rotation| rotation.version == version);
        let declared = self.secrets.get(&secret);
        let resource = declared.and_then(|secret| secret.spec.rotator.as_ref());
        let is_asked_first = resource.is_some_and(|resource| resource.kind == Kind::Webhook);
        making.is_none_or(|rotation| {
            let may_be_made = is_asked_first && rotation.trigger != Trigger::Provided;
            rotation.was_set || may_be_made
        })
    }

    /// Whether no server knows anything of a secret: none of its versions was promoted, and each was rolled
    /// back or not set yet.
    #[must_use]
    pub fn is_unused(&self, secret: &Secret) -> bool {
        let was_set = |version: u64| {
            let open = self.open_rotation(secret.id);
            let mut rotations = self.ended_rotations(secret.id).chain(open);
            let making = rotations.find(|rotation| rotation.version == version);
            making.is_none_or(|rotation| rotation.was_set)
        };
        !secret.was_promoted && !secret.kept().any(was_set)
    }

    /// The secret whose accounts at a resource another one names, too.
    #[must_use]
    pub fn shares_account<'w>(
        &'w self,
        name: &SecretName,
        resource: &'w Resource,
    ) -> Option<(&'w Secret, &'w str)> {
        let others = self.secrets.values().filter(|other| other.name != *name);
        let mut shared = others.filter_map(|other| {
            let theirs = other.spec.rotator.as_ref()?;
            Some((other, resource.shared_with(theirs)?))
        });
        shared.next()
    }

    /// Revocations that left it at its store are told that it ended there.
    pub(super) fn note_ended_there(&mut self, secret: SecretId, remote: &RemoteVersion) {
        let known = self.secrets.get(&secret);
        if !known.is_some_and(|known| known.revoked_remotes.contains(remote)) {
            return;
        }
        let revocations = self.revocations.values_mut();
        for revocation in revocations.filter(|one| one.secret == secret) {
            revocation.note_ended_there(remote);
        }
    }

    /// Whether a `finish` is under way of a rotation that a revocation cancelled: what is current
    /// outside may be its write.
    #[must_use]
    pub fn awaits_finish(&self, secret: SecretId) -> bool {
        let mut ended = self.ended_rotations(secret);
        ended.any(|rotation| rotation.late_finish.is_some())
    }

    /// Whether a version outside was written by a rotation that a revocation cancelled; AWS names
    /// a version by the rotation that wrote it.
    #[must_use]
    pub fn is_cancelled_write(&self, secret: SecretId, remote: &RemoteVersion) -> bool {
        let cancelled = Phase::Closed(Outcome::Cancelled);
        let mut ended = self.ended_rotations(secret);
        ended.any(|rotation| rotation.phase == cancelled && rotation.id.to_string() == remote.0)
    }

    /// How long consumers were behind the server in the last cut-over of a secret that was measured.
    #[must_use]
    pub fn last_gap(&self, secret: SecretId) -> Option<Duration> {
        let mut all: Vec<&Rotation> = self.ended_rotations(secret).collect();
        all.extend(self.open_rotation(secret));
        all.iter().rev().find_map(|rotation| rotation.gap)
    }

    fn ended_rotations(&self, secret: SecretId) -> impl Iterator<Item = &Rotation> {
        let ended = self.closed_rotations.get(&secret).into_iter().flatten();
        ended.filter_map(|id| self.rotations.get(id))
    }

    /// A revocation that the store did not confirm yet.
    #[must_use]
    pub fn unconfirmed_revocation(&self, secret: SecretId) -> Option<&Revocation> {
        let mut of_secret = self.revocations.values().filter(|r| r.secret == secret);
        of_secret.find(|open| open.is_begun() && open.backend != revocation::Backend::Confirmed)
    }

    /// What changed about stores after an event, at most about [`MAX_NEWS`] things; `head` is the
    /// number of the last event that is folded.
    #[must_use]
    pub fn store_news(&self, after: u64, head: u64) -> News {
        let stores = self.store_changes.iter();
        let stores = stores.map(|(id, number)| (*number, Thing::Store(*id)));
        let secrets = self.place_changes.iter();
        let secrets = secrets.map(|(id, number)| (*number, Thing::Secret(*id)));
        let new = |(number, _): &(u64, Thing)| *number > after;
        let mut changed: Vec<(u64, Thing)> = stores.chain(secrets).filter(new).collect();
        changed.sort_unstable();
        let mut news = News {
            through: head,
            ..News::default()
        };
        for (count, (number, thing)) in changed.iter().enumerate() {
            let before = count.checked_sub(1).and_then(|last| changed.get(last));
            if let Some((last, _)) = before
                && count >= MAX_NEWS
                && last != number
            {
                news.through = *last;
                news.more = true;
                break;
            }
            match thing {
                Thing::Store(id) => news.stores.push(self.store_now(*id)),
                Thing::Secret(id) => news.secrets.extend(self.secret_now(*id)),
            }
        }
        news
    }

    /// Whether anything about stores changed after an event.
    #[must_use]
    pub fn has_store_news(&self, after: u64) -> bool {
        let mut changes = self
            .store_changes
            .values()
            .chain(self.place_changes.values());
        changes.any(|number| *number > after)
    }

    /// Secrets with a store's credentials, as they are now.
    #[must_use]
    pub fn credentials_now(&self, spec: &StoreSpec) -> Vec<CredentialNow> {
        let now = |name: &SecretName| {
            let secret = self.secret_named(name)?;
            Some(CredentialNow {
                name: name.clone(),
                secret: secret.id,
                version: secret.current,
            })
        };
        spec.credential_secrets()
            .into_iter()
            .filter_map(now)
            .collect()
    }

    fn store_now(&self, id: StoreId) -> StoreNow {
        let known = self.stores.get(&id);
        StoreNow {
            id,
            store: known.map(|known| known.store.clone()),
            is_stale: known.is_some_and(|known| known.is_stale),
            credentials: known
                .map_or_else(Vec::new, |known| self.credentials_now(&known.store.spec)),
        }
    }

    fn secret_now(&self, id: SecretId) -> Option<SecretNow> {
        let secret = self.secrets.get(&id)?;
        let is_looked_at = !secret.gives_leases() && !self.is_lease_over(secret);
        Some(SecretNow {
            secret: id,
            name: secret.name.clone(),
            // Else nothing lies there that could be looked at.
            place: secret.place().filter(|_| is_looked_at).cloned(),
            known: secret.known.clone(),
            current: secret.current,
            is_generated: secret.spec.generator.is_some(),
            is_rotating: self.is_held_up(id),
            is_passed_over: secret.passed_over().is_some(),
            leases: secret.living_leases(),
        })
    }

    pub(super) fn apply_store(&mut self, number: u64, id: StoreId, event: &store::Event) {
        match event {
            store::Event::Declared { name, spec } => {
                self.stores_by_name.insert(name.clone(), id);
                let store = NamedStore {
                    name: name.clone(),
                    spec: spec.clone(),
                };
                let known = Declared {
                    id,
                    store,
                    is_stale: false,
                };
                self.stores.insert(id, known);
            }
            store::Event::Changed { spec } => {
                if let Some(known) = self.stores.get_mut(&id) {
                    let moves = !known.store.spec.backend.is_same_server(&spec.backend);
                    let name = known.store.name.clone();
                    known.evolve(event);
                    if moves {
                        self.forget_places_in(&name, &spec.backend);
                    }
                }
            }
            store::Event::WentStale { .. } | store::Event::Recovered => {
                if let Some(known) = self.stores.get_mut(&id) {
                    known.evolve(event);
                }
            }
            store::Event::Removed => {
                self.stores.remove(&id);
                self.stores_by_name.retain(|_, named| *named != id);
            }
        }
        self.store_changes.insert(id, number);
    }

    fn forget_places_in(&mut self, store: &StoreName, now: &Backend) {
        for secret in self.secrets.values_mut() {
            if secret.place().is_some_and(|at| at.store == *store) {
                secret.forget_place();
                secret.is_only_kept = !now.has_static_roles();
            }
        }
    }

    /// Notes whether a secret lies where values are only kept, so that no path there is a static role's.
    pub(super) fn note_keeper(&mut self, id: SecretId) {
        let secret = self.secrets.get(&id);
        let backend = secret.and_then(|secret| self.backend_of(&secret.spec));
        let is_only_kept = backend.is_some_and(|backend| !backend.has_static_roles());
        if let Some(secret) = self.secrets.get_mut(&id) {
            secret.is_only_kept = is_only_kept;
        }
    }

    /// Notes what an event changes about stores, after it was folded.
    pub(super) fn note_outside(&mut self, number: u64, event: &Event) {
        let id = match event {
            // Which host has it is of no interest to a store.
            Event::Secret(_, secret::Event::Delivered { .. }) => return,
            Event::Secret(id, _) => *id,
            Event::Rotation(id, _) => match self.rotations.get(id) {
                Some(rotation) => rotation.secret,
                None => return,
            },
            _ => return,
        };
        let Some(secret) = self.secrets.get(&id) else {
            return;
        };
        let was_outside = self.place_changes.contains_key(&id);
        if secret.place().is_some() || was_outside {
            self.place_changes.insert(id, number);
        }
        if let Event::Secret(_, secret::Event::VersionPromoted { .. }) = event {
            let uses = |known: &&Declared| {
                let secrets = known.store.spec.credential_secrets();
                secrets.contains(&&secret.name)
            };
            let users: Vec<StoreId> = self.stores.values().filter(uses).map(|s| s.id).collect();
            let users = users.into_iter().map(|id| (id, number));
            self.store_changes.extend(users);
        }
    }
}
