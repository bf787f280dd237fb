//! What a secret's versions are called at the store outside, and which of those names is known there.
//!
//! Invariant: of what lies outside only what is known here is replaced or ended there. It owns no state; the
//! fold of the secret's events asks here.

use super::{KEPT_REMOTES, Remote, Secret};
use crate::store::RemoteVersion;

impl Secret {
    /// Versions outside that Keywheel wrote for versions before this one, but not for the one that is kept
    /// beside it.
    #[must_use]
    pub fn written_before(&self, version: u64) -> Vec<RemoteVersion> {
        let kept = match self.current {
            Some(current) if current < version => self.retains_beside(version),
            _ => self.retained,
        };
        let old = |remote: &&Remote| {
            remote.written && remote.version < version && kept != Some(remote.version)
        };
        let remotes = self.remotes.iter().filter(old);
        remotes.map(|remote| remote.remote.clone()).collect()
    }

    /// Versions outside that hold one of these, whoever wrote them, but not the one that is current
    /// there: a store cannot be without one. A server that makes its values makes the next one instead, and
    /// leases stand beside each other.
    #[must_use]
    pub fn remotes_of(&self, versions: &[u64]) -> Vec<RemoteVersion> {
        let stays = self.stays();
        let holds =
            |remote: &&Remote| versions.contains(&remote.version) && stays != Some(&remote.remote);
        let remotes = self.remotes.iter().filter(holds);
        remotes.map(|remote| remote.remote.clone()).collect()
    }

    /// Which of these the store outside goes on to give to whoever reads there.
    #[must_use]
    pub fn stays_current_outside(&self, versions: &[u64]) -> Option<&RemoteVersion> {
        let stays = self.stays()?;
        let mut there = self.remotes.iter();
        let is_one =
            |remote: &Remote| versions.contains(&remote.version) && remote.remote == *stays;
        there.any(is_one).then_some(stays)
    }

    /// The version outside that no revocation ends there.
    fn stays(&self) -> Option<&RemoteVersion> {
        let known = self.known.as_ref();
        known.filter(|_| !self.is_made_there() && self.lease_of().is_none())
    }

    /// The version outside that is known and was to be taken over until a person aborted that. It is taken
    /// over only when a person asks for it.
    #[must_use]
    pub fn passed_over(&self) -> Option<&RemoteVersion> {
        let known = self.known.as_ref()?;
        let remote = self.remotes.iter().find(|kept| kept.remote == *known)?;
        let is_passed_over = !remote.written
            && !self.is_deliverable(remote.version)
            && !self.revoked_remotes.contains(known);
        is_passed_over.then_some(known)
    }

    /// Leases of versions that are alive: each of them is kept alive at its store.
    #[must_use]
    pub fn living_leases(&self) -> Vec<RemoteVersion> {
        let is_living = |remote: &&Remote| self.is_deliverable(remote.version);
        let of = self.lease_of();
        let remotes = of.into_iter().flat_map(|_| &self.remotes);
        let living = remotes.filter(is_living);
        living.map(|remote| remote.remote.clone()).collect()
    }

    /// What another place held is no version of this one.
    pub(crate) fn forget_place(&mut self) {
        self.known = None;
        self.remotes.clear();
        self.revoked_remotes.clear();
    }

    /// Remembers where outside versions lie that an incident revoked.
    pub(crate) fn note_revoked(&mut self, versions: &[u64]) {
        let there = self.remotes.iter();
        let there = there.filter(|remote| versions.contains(&remote.version));
        for remote in there {
            if !self.revoked_remotes.contains(&remote.remote) {
                self.revoked_remotes.push_back(remote.remote.clone());
            }
        }
        while self.revoked_remotes.len() > KEPT_REMOTES {
            self.revoked_remotes.pop_front();
        }
    }

    /// Remembers which version outside holds one of ours. A lease that is being made stands beside the one that is
    /// in use, which stays the known one until the other is promoted.
    pub(super) fn note_remote(&mut self, version: u64, remote: &RemoteVersion, written: bool) {
        let other = self.current.filter(|current| *current != version);
        if self.lease_of().is_none() || other.is_none() {
            self.known = Some(remote.clone());
        }
        let before = self.remotes.iter().position(|kept| kept.remote == *remote);
        let before = before.map(|at| self.remotes.remove(at));
        self.remotes.push(Remote {
            remote: remote.clone(),
            version,
            written: written || before.is_some_and(|before| before.written),
        });
        if self.remotes.len() > KEPT_REMOTES {
            let foreign = self.remotes.iter().position(|kept| !kept.written);
            self.remotes.remove(foreign.unwrap_or(0));
        }
    }

    /// The lease of the version that is in use is the known one, also after a return to the version before.
    pub(super) fn know_lease_of(&mut self, version: u64) {
        if self.lease_of().is_none() {
            return;
        }
        let mut latest = self.remotes.iter().rev();
        let own = latest.find(|remote| remote.version == version);
        if let Some(own) = own {
            self.known = Some(own.remote.clone());
        }
    }
}
