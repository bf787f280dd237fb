//! How a store is, as one fact with the next step.
//!
//! A store that does not answer is stale: containers keep what they have, and starts are served from
//! the cache. That is a warning at once, and a problem when it lasts.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::id::SecretId;
use keywheel_core::time::Timestamp;
use keywheel_engine::presence::{Fact, Health as Grade};
use keywheel_schemas::mirror::TextForm;

use super::registry::Live;

/// Most facts about stores that one store-sync tells.
pub const MAX_STORE_FACTS: usize = 24;
/// After so many polls without an answer what is known of a store counts as a problem.
pub const STALE_AFTER_POLLS: u32 = 3;
/// Most characters of a store's name in the name of its fact.
const MAX_NAME_CHARS: usize = 58;
/// Longest reason in a fact, in characters.
const MAX_REASON_CHARS: usize = 300;

/// What is known about how a store answers.
#[derive(Debug, Default)]
pub(super) struct Health {
    /// The last cycle in which it answered.
    pub(super) answered: Option<Timestamp>,
    /// Since when it does not, and why.
    pub(super) silent: Option<(Timestamp, String)>,
    /// Secrets that cannot be looked at though it answers.
    pub(super) faults: BTreeMap<SecretId, (String, String)>,
    /// What the gateway knows from this store-sync: whether it is silent.
    pub(super) told: Option<bool>,
}

impl Health {
    pub(super) fn answers(&mut self, now: Timestamp) {
        self.answered = Some(now);
        self.silent = None;
    }

    /// It does not answer, since the first time that this was noted.
    pub(super) fn is_silent(&mut self, now: Timestamp, reason: &str) {
        let since = self.silent.as_ref().map_or(now, |(since, _)| *since);
        let reason = reason.chars().take(MAX_REASON_CHARS).collect();
        self.silent = Some((since, reason));
    }
}

pub(super) fn fact(live: &Live, secrets: usize, now: Timestamp) -> Fact {
    let store = &live.named.name;
    let short: String = store.as_str().chars().take(MAX_NAME_CHARS).collect();
    let name = format!("store {short}");
    let health = &live.health;
    if let Err(error) = &live.store {
        let next = "correct its manifest and apply it again";
        return Fact::problem(&name, format!("it cannot be set up: {error}"), next);
    }
    if let Some((since, reason)) = &health.silent {
        return silent(&name, live, (*since, reason), now);
    }
    let Some(answered) = health.answered else {
        let note = format!("not looked at yet; {secrets} secrets lie in it");
        return Fact::unknown(&name, note, "it is looked at within its poll interval");
    };
    if let Some((secret, reason)) = health.faults.values().next() {
        let count = health.faults.len();
        let note = format!("{count} of {secrets} secrets cannot be read; `{secret}`: {reason}");
        let next = format!(
            "mend that at the store, or correct the secret's `source`; then `keywheel refresh {secret}`"
        );
        return Fact::warning(&name, note, next);
    }
    let ago = now.since(answered).as_secs();
    let note = format!("it answers; {secrets} secrets lie in it, looked at {ago} s ago");
    Fact::ok(&name, note)
}

fn silent(name: &str, live: &Live, (since, reason): (Timestamp, &str), now: Timestamp) -> Fact {
    let last = live.health.answered.map_or_else(
        || "never looked at".to_owned(),
        |at| format!("stale since {}", at.text()),
    );
    let note = format!("{last}; containers keep what they have: {reason}");
    let next = format!(
        "mend what is named; it is asked again by itself, and `keywheel refresh` asks at once (`keywheel store describe {}` shows what lies there)",
        live.named.name
    );
    let limit = live.named.spec.poll.saturating_mul(STALE_AFTER_POLLS);
    match now.since(since) > limit.max(Duration::from_secs(1)) {
        true => Fact::problem(name, note, next),
        false => Fact::warning(name, note, next),
    }
}

/// The worst ones, and how many more there are.
pub(super) fn bounded(mut facts: Vec<Fact>) -> Vec<Fact> {
    facts.sort_by_key(|fact| std::cmp::Reverse(fact.health));
    if facts.len() <= MAX_STORE_FACTS {
        return facts;
    }
    let left = facts.len() - (MAX_STORE_FACTS - 1);
    let worst = facts.get(MAX_STORE_FACTS - 1).map(|fact| fact.health);
    facts.truncate(MAX_STORE_FACTS - 1);
    let note = format!("{left} more stores are not listed, none of them worse than these");
    facts.push(match worst {
        Some(Grade::Ok) | None => Fact::ok("stores", note),
        Some(_) => Fact::warning("stores", note, "mend those that are listed first"),
    });
    facts
}
