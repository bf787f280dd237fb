//! The newest presence of every instance, as one gateway heard it.
//!
//! Invariants: only what is newer than what is there is taken, so nothing that was kept and sent
//! again makes an instance look alive; at most [`MAX_INSTANCES`] of a service role and [`MAX_HOSTS`]
//! hosts are kept, and who is full forgets the silent first. Not in the log; gone with the process.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::id::HostId;
use keywheel_core::time::Timestamp;

use super::{FORGOTTEN_AFTER, MAX_HOSTS, MAX_INSTANCES, Presence, Reached, SILENT_AFTER};

/// When something was heard, and what there was then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// By the gateway's wall clock.
    pub at: Timestamp,
    /// By its steady clock.
    pub steady: Duration,
    /// How far the log, the audit, or the host's plan was then: what is reached is behind that.
    pub head: Option<u64>,
}

/// One instance as it was heard last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What it told.
    pub presence: Presence,
    /// When.
    pub heard: Heard,
    /// Since when it has been behind without a pause, by the steady clock.
    pub behind_since: Option<Duration>,
}

impl Row {
    /// Whether it has not been heard for too long.
    #[must_use]
    pub fn is_silent(&self, now: Duration) -> bool {
        now.saturating_sub(self.heard.steady) > SILENT_AFTER
    }

    /// How far it is behind what was there when it was heard.
    #[must_use]
    pub fn lag(&self) -> Option<u64> {
        let (Reached::Event(at) | Reached::AuditRecords(at) | Reached::Plan(at)) =
            self.presence.seen.reached?;
        Some(self.heard.head?.saturating_sub(at))
    }
}

/// An injector is known by its host, whatever run of it speaks.
type Key = (Role, Option<HostId>, [u8; 16]);

/// What one gateway heard.
#[derive(Debug, Default)]
pub struct Table(Mutex<BTreeMap<Key, Row>>);

impl Table {
    /// Takes what was heard; `false` when it is older than what is there, or there is no room.
    pub fn hear(&self, presence: Presence, heard: Heard) -> bool {
        let mut rows = self.rows();
        let key = key_of(&presence);
        let before = rows.get(&key);
        if before.is_some_and(|row| row.presence.sent >= presence.sent) {
            return false;
        }
        let behind_since = before.and_then(|row| row.behind_since);
        if presence.leaving {
            rows.remove(&key);
            return true;
        }
        rows.retain(|_, row| !is_over(row, &presence, heard.steady));
        let role = presence.role;
        if !rows.contains_key(&key) && !make_room(&mut rows, role, heard.steady) {
            return false;
        }
        let mut row = Row {
            presence,
            heard,
            behind_since,
        };
        row.behind_since = match row.lag() {
            None | Some(0) => None,
            Some(_) => row.behind_since.or(Some(heard.steady)),
        };
        rows.insert(key, row);
        true
    }

    /// Everything that is known now, by role and start.
    #[must_use]
    pub fn all(&self, now: Duration) -> Vec<Row> {
        let mut rows = self.rows();
        rows.retain(|_, row| !is_forgotten(row, now));
        let mut all: Vec<Row> = rows.values().cloned().collect();
        all.sort_by_key(|row| (row.presence.role, row.presence.started));
        all
    }

    /// Instances of a role that are heard now.
    #[must_use]
    pub fn heard(&self, role: Role, now: Duration) -> Vec<Row> {
        let rows = self.rows();
        let of_role = rows.range((role, None, [0; 16])..);
        let of_role = of_role.take_while(|(key, _)| key.0 == role);
        let heard = of_role.filter(|(_, row)| !row.is_silent(now));
        heard.map(|(_, row)| row.clone()).collect()
    }

    fn rows(&self) -> MutexGuard<'_, BTreeMap<Key, Row>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn key_of(presence: &Presence) -> Key {
    match presence.host {
        Some(host) => (presence.role, Some(host), [0; 16]),
        None => (presence.role, None, presence.instance),
    }
}

fn is_forgotten(row: &Row, now: Duration) -> bool {
    now.saturating_sub(row.heard.steady) > FORGOTTEN_AFTER
}

/// A run is over when another of its role began after its last word, on the same machine.
fn is_over(row: &Row, newer: &Presence, now: Duration) -> bool {
    let old = &row.presence;
    let is_followed = old.host.is_none()
        && old.role == newer.role
        && old.instance != newer.instance
        && old.machine == newer.machine
        && newer.started > old.sent;
    is_forgotten(row, now) || is_followed
}

/// Whether there is room for one more of a role; the longest silent one goes for it.
fn make_room(rows: &mut BTreeMap<Key, Row>, role: Role, now: Duration) -> bool {
    let limit = match role {
        Role::Injector => MAX_HOSTS,
        _ => MAX_INSTANCES,
    };
    if rows.keys().filter(|key| key.0 == role).count() < limit {
        return true;
    }
    let of_role = rows.iter().filter(|(key, _)| key.0 == role);
    let oldest = of_role.min_by_key(|(_, row)| row.heard.steady);
    let silent = oldest.filter(|(_, row)| row.is_silent(now));
    let Some(key) = silent.map(|(key, _)| *key) else {
        return false;
    };
    rows.remove(&key);
    true
}

#[cfg(test)]
mod tests;
