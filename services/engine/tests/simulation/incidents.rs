//! What people do in an incident: they revoke whatever they can name, throw hosts out, and give up what a server
//! never confirms; and what of it goes wrong at that server.
//!
//! Scopes are the core's; that each secret is revoked by a command of its own is the gateway's part
//! (`services/gateway/src/http/revocations.rs`). It holds nobody to anything: `revocations` does.

use keywheel_core::audit::Principal;
use keywheel_core::command::{Command, ProofTaken};
use keywheel_core::decision::scope::{Hit, Scope, hits};
use keywheel_core::effect::{Effect, Part, RevokeWork, Work};
use keywheel_core::id::{ContainerId, RevocationId, RotationId};
use keywheel_core::name::SecretName;
use keywheel_core::revocation::{Backend, Revocation};

use crate::container::IMAGE;
use crate::invariants::Broken;
use crate::scene::{FOLDER, HOSTS, Reach, SECRETS, secret_name, store_name};
use crate::sim::Sim;
use crate::store::Failure;

/// Whoever has a say, by uid and name. One has two names.
pub(crate) const PEOPLE: [(u32, &str); 4] =
    [(0, "root"), (0, "toor"), (1000, "ann"), (1001, "bob")];

impl Sim {
    /// Somebody revokes what they can name, whatever is under way; some do it in the midst of a rotation that they
    /// began themselves.
    pub(crate) fn incident(&mut self) -> Result<(), Broken> {
        if self.random.permille(300) {
            let secret = secret_name(self.random.below(SECRETS));
            let rotation = RotationId::from_bytes(self.fresh(0xa0));
            let command = self.of_person(Command::Rotate { rotation, secret });
            self.say(command)?;
        }
        let is_emergency = self.random.permille(400);
        let hit = match self.random.permille(200) {
            true => self.throw_out()?,
            false => {
                let scope = self.some_scope();
                self.note(|| format!("a person revokes by {scope:?}, emergency: {is_emergency}"));
                hits(self.gateway.world(), &scope)
            }
        };
        for (secret, version) in self.wanted_of(&hit, is_emergency) {
            let command = Command::Revoke {
                revocation: RevocationId::from_bytes(self.fresh(0xb0)),
                secret,
                version,
                reason: "leaked".to_owned(),
                is_emergency,
            };
            let command = self.of_person(command);
            self.say(command)?;
        }
        Ok(())
    }

    fn some_scope(&mut self) -> Scope {
        let one = secret_name(self.random.below(SECRETS));
        match self.random.weighted(&[25, 20, 15, 25, 15]) {
            0 => Scope::Prefix(FOLDER.to_owned()),
            1 => Scope::Prefix(one.as_str().to_owned()),
            2 => Scope::Store(store_name()),
            3 => {
                let host = &self.hosts[self.random.below(HOSTS)];
                let containers = host.containers.values();
                let containers: Vec<&ContainerId> = containers.map(|one| &one.id).collect();
                let some = containers.get(self.random.below(containers.len()));
                some.map_or(Scope::Secret(one, None), |id| {
                    Scope::Container(id.to_string())
                })
            }
            _ => Scope::Image(IMAGE.to_owned()),
        }
    }

    /// A host is evicted, and whatever it may hold is revoked after that.
    fn throw_out(&mut self) -> Result<Vec<Hit>, Broken> {
        let host = self.hosts[self.random.below(HOSTS)].id;
        let held = self.gateway.world().secrets.values().map(|secret| {
            let is_held = |version: &u64| secret.delivered.contains_key(&(host, *version));
            Hit {
                secret: secret.id,
                versions: secret.alive().into_iter().filter(is_held).collect(),
                is_whole: false,
            }
        });
        let held: Vec<Hit> = held.filter(|hit| !hit.versions.is_empty()).collect();
        let command = self.of_person(Command::EvictHost {
            host,
            reason: "stolen".to_owned(),
        });
        self.say(command)?;
        Ok(held)
    }

    /// In an emergency all of a secret dies, whatever of it was named; else the newest version goes first.
    fn wanted_of(&self, hit: &[Hit], is_emergency: bool) -> Vec<(SecretName, Option<u64>)> {
        let secrets = &self.gateway.world().secrets;
        let mut wanted = Vec::new();
        for one in hit {
            let Some(secret) = secrets.get(&one.secret) else {
                continue;
            };
            let versions = match is_emergency || one.is_whole {
                true => vec![None],
                false => one.versions.iter().rev().copied().map(Some).collect(),
            };
            let named = versions.into_iter();
            wanted.extend(named.map(|version| (secret.name.clone(), version)));
        }
        wanted
    }

    /// Somebody would have a revocation's server asked no more; some others agree, and some repeat themselves.
    pub(crate) fn give_up(&mut self) -> Result<(), Broken> {
        let is_any = self.random.permille(100);
        let waits = |one: &&Revocation| {
            is_any || (!one.closed && matches!(one.backend, Backend::Failed { .. }))
        };
        let known = self.gateway.world().revocations.values().filter(waits);
        let known: Vec<RevocationId> = known.map(|one| one.id).collect();
        let Some(revocation) = known.get(self.random.below(known.len())).copied() else {
            return Ok(());
        };
        let words = if self.random.permille(500) { 2 } else { 1 };
        for _ in 0..words {
            let (uid, name) = PEOPLE[self.random.below(PEOPLE.len())];
            let name = name.to_owned();
            let by = Principal::User { uid, name };
            let command = Command::ForgetRevocation {
                revocation,
                by: by.clone(),
                reason: "the server is gone for good".to_owned(),
            };
            let command = self.submission(by, command);
            self.say(command)?;
        }
        Ok(())
    }

    /// Whether a server may say more often that it did this.
    pub(crate) fn may_lie(&self, effect: &Effect) -> bool {
        let is_disabling = matches!(&effect.work, Work::Revoke(work) if work.part == Part::Disable);
        self.reach >= Reach::Incidents && is_disabling
    }

    /// What store-sync tells of its part of a revocation. It may say of logins that it is done and nothing of what
    /// was answered, and find that a value cannot be opened any more.
    pub(crate) fn revoke_outcome(
        &mut self,
        work: &RevokeWork,
        failure: Option<Failure>,
    ) -> Command {
        let is_known = self.reach >= Reach::Incidents && work.part == Part::Prove;
        if is_known && self.fails(80) {
            self.store.lose(work);
        }
        let tells_nothing = is_known && self.fails(60);
        if work.part == Part::Prove && failure.is_none() && !tells_nothing {
            return Command::ProofOutcome(ProofTaken {
                revocation: work.revocation,
                attempt: work.attempt,
                proof: self.store.prove(work, self.time()),
            });
        }
        Command::RevokeOutcome {
            revocation: work.revocation,
            attempt: work.attempt,
            failure: failure.map(|failure| failure.reason.to_owned()),
        }
    }
}
