//! Which keys have permits, and which of them are refused although their permits live.
//!
//! Invariants: a client's every key with a live permit is known to the gateway that issued it, so an
//! eviction misses none; a claim made from here is newer than any before it; what has expired by
//! itself is forgotten, so the lists stay as small as the deployment. Kept by the gateway, in a file.

use std::collections::BTreeMap;

use keywheel_core::time::Timestamp;
use keywheel_schemas::subject::Client;
use serde::{Deserialize, Serialize};

use super::{NatsError, check_user, claims};
use crate::authority::MEMBER_LIFETIME_MOST;

/// Issued and revoked keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocations {
    /// When the last claim was made, in seconds: claims only replace older ones.
    last_claim: i64,
    /// Public key and second: what was issued up to then is refused.
    revoked: BTreeMap<String, i64>,
    /// Words of a client, its keys, and the second in which each one's permit ends.
    #[serde(default)]
    issued: BTreeMap<String, BTreeMap<String, i64>>,
}

impl Revocations {
    /// Notes that a client's key has a permit now.
    pub fn note_issued(&mut self, client: &Client, public_key: &str, now: Timestamp) {
        let now = claims::seconds(now);
        for keys in self.issued.values_mut() {
            keys.retain(|_, end| *end > now);
        }
        self.issued.retain(|_, keys| !keys.is_empty());
        let keys = self.issued.entry(client.words()).or_default();
        keys.insert(public_key.to_owned(), now.saturating_add(longest()));
    }

    /// Refuses every key of a client that has a permit: an eviction. How many they were.
    pub fn revoke_client(&mut self, client: &Client, now: Timestamp) -> usize {
        let keys = self.issued.remove(&client.words()).unwrap_or_default();
        self.forget(claims::seconds(now));
        for key in keys.keys() {
            self.revoked.insert(key.clone(), claims::seconds(now));
        }
        keys.len()
    }

    /// Refuses a key whose permit ends by itself at `end`, whenever it was issued; whether that is new.
    pub fn refuse(&mut self, public_key: &str, end: Timestamp, now: Timestamp) -> bool {
        let (end, now) = (claims::seconds(end), claims::seconds(now));
        self.forget(now);
        if end <= now || self.revoked.get(public_key) >= Some(&end) {
            return false;
        }
        self.revoked.insert(public_key.to_owned(), end);
        true
    }

    /// Refuses one key's permits issued up to now.
    ///
    /// # Errors
    /// When the key is not a user's.
    pub fn revoke(&mut self, public_key: &str, now: Timestamp) -> Result<(), NatsError> {
        check_user(public_key)?;
        let now = claims::seconds(now);
        self.forget(now);
        self.revoked.insert(public_key.to_owned(), now);
        Ok(())
    }

    /// Whether a key is refused.
    #[must_use]
    pub fn contains(&self, public_key: &str) -> bool {
        self.revoked.contains_key(public_key)
    }

    /// Whether none is refused.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.revoked.is_empty()
    }

    pub(super) const fn revoked(&self) -> &BTreeMap<String, i64> {
        &self.revoked
    }

    /// The second of the next claim: now, and after every claim before.
    pub(super) fn next_claim(&mut self, now: Timestamp) -> i64 {
        self.last_claim = claims::seconds(now).max(self.last_claim.saturating_add(1));
        self.last_claim
    }

    /// What another gateway's claim of that second revokes, too.
    pub(super) fn take_over(&mut self, claimed: i64, revoked: BTreeMap<String, i64>) {
        self.last_claim = self.last_claim.max(claimed);
        for (key, at) in revoked {
            let known = self.revoked.entry(key).or_insert(at);
            *known = (*known).max(at);
        }
    }

    /// Drops what no permit can be left of.
    fn forget(&mut self, now: i64) {
        self.revoked
            .retain(|_, at| at.saturating_add(2 * longest()) > now);
    }
}

/// The longest life of a permit, in seconds.
fn longest() -> i64 {
    i64::try_from(MEMBER_LIFETIME_MOST.as_secs()).unwrap_or(i64::MAX)
}
