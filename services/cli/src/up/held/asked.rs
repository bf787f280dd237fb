//! What was asked for while an older log waited to be accepted, by whom and how often: for records once that is settled.
//!
//! Pure. Invariants: how many askers and verbs are told apart is bounded, whatever is asked, and what is not told apart
//! is counted all the same. A process that dies before it is settled loses its count.

use std::collections::BTreeMap;

use keywheel_core::time::Timestamp;
use keywheel_gateway::access::Peer;
use keywheel_schemas::mirror::TextForm as _;

/// Users who are counted by themselves; all further ones are counted together.
const MAX_ASKERS: usize = 16;
/// Verbs of each that are.
const MAX_VERBS: usize = 8;
/// Uid of nobody; stands for many users.
pub(super) const MANY: u32 = u32::MAX;

/// What one asked for, or many together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tally {
    verbs: BTreeMap<String, u64>,
    /// Of all further verbs.
    others: u64,
    first: Timestamp,
    last: Timestamp,
}

impl Tally {
    const fn begun(now: Timestamp) -> Self {
        Self {
            verbs: BTreeMap::new(),
            others: 0,
            first: now,
            last: now,
        }
    }

    fn add(&mut self, verb: &str, now: Timestamp) {
        self.last = now;
        let is_own = self.verbs.len() < MAX_VERBS || self.verbs.contains_key(verb);
        let count = match is_own {
            true => self.verbs.entry(verb.to_owned()).or_default(),
            false => &mut self.others,
        };
        *count = count.saturating_add(1);
    }

    /// The record's words: how many, of which verbs, from when to when.
    pub(super) fn words(&self) -> String {
        let own = self.verbs.iter();
        let own = own.map(|(verb, count)| format!("{verb} {count}"));
        let others = (self.others > 0).then(|| format!("other verbs {}", self.others));
        let told: Vec<String> = own.chain(others).collect();
        let counts = self.verbs.values().copied();
        format!(
            "nothing was served while the older log waited to be accepted; {} requests: {}; first at {}, last at {}",
            counts.fold(self.others, u64::saturating_add),
            told.join(", "),
            self.first.text(),
            self.last.text()
        )
    }
}

/// The count.
#[derive(Debug, Default)]
pub(super) struct Asked {
    by_uid: BTreeMap<u32, (Peer, Tally)>,
    /// Of all further users.
    others: Option<Tally>,
}

impl Asked {
    /// Counts a request.
    pub(super) fn note(&mut self, peer: &Peer, verb: &str, now: Timestamp) {
        self.tally(peer, now).add(verb, now);
    }

    fn tally(&mut self, peer: &Peer, now: Timestamp) -> &mut Tally {
        let own = match peer {
            Peer::User { uid, .. } if *uid != MANY => Some(*uid),
            Peer::User { .. } | Peer::Operator(_) | Peer::Stranger(_) => None,
        };
        let is_full = self.by_uid.len() >= MAX_ASKERS;
        match own.filter(|uid| !is_full || self.by_uid.contains_key(uid)) {
            Some(uid) => {
                let slot = self.by_uid.entry(uid);
                &mut slot.or_insert_with(|| (peer.clone(), Tally::begun(now))).1
            }
            None => self.others.get_or_insert_with(|| Tally::begun(now)),
        }
    }

    /// Gives what was counted, and begins anew; many together have no peer.
    pub(super) fn take(&mut self) -> Vec<(Option<Peer>, Tally)> {
        let taken = std::mem::take(self);
        let own = taken.by_uid.into_values();
        let own = own.map(|(peer, tally)| (Some(peer), tally));
        let others = taken.others.map(|tally| (None, tally));
        own.chain(others).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn user(uid: u32) -> Peer {
        Peer::User { uid, gid: uid }
    }

    fn at(second: u64) -> Timestamp {
        Timestamp::default().plus(Duration::from_secs(second))
    }

    #[test]
    fn who_asked_for_what_how_often_and_from_when_to_when_is_counted_once() {
        let mut asked = Asked::default();
        for (second, uid, verb) in [
            (1, 1001, "list"),
            (2, 1001, "rotate"),
            (3, 7, "put"),
            (4, 1001, "list"),
        ] {
            asked.note(&user(uid), verb, at(second));
        }
        let taken = asked.take();
        let words: Vec<String> = taken.iter().map(|(_, tally)| tally.words()).collect();
        assert_eq!(taken[0].0, Some(user(7)));
        assert_eq!(taken[1].0, Some(user(1001)));
        assert!(words[0].contains("; 1 requests: put 1; "), "{words:?}");
        assert!(
            words[1].contains("; 3 requests: list 2, rotate 1; "),
            "{words:?}"
        );
        let span = format!("first at {}, last at {}", at(1).text(), at(4).text());
        assert!(words[1].ends_with(&span), "{words:?}");
        assert_eq!(asked.take(), []);
    }

    #[test]
    fn a_flood_is_bounded_and_counted_whole() {
        let mut asked = Asked::default();
        for uid in 0..100 {
            for verb in 0..100 {
                asked.note(&user(uid), &format!("verb-{verb}"), at(verb));
            }
        }
        // Whom the kernel does not name is one of many.
        asked.note(&user(MANY), "list", at(100));
        let taken = asked.take();
        assert_eq!(taken.len(), MAX_ASKERS + 1);
        for (_, tally) in &taken {
            assert_eq!(tally.verbs.len(), MAX_VERBS);
        }
        let own = taken[0].1.words();
        assert!(own.contains("; 100 requests: verb-0 1, "), "{own}");
        assert!(own.contains(", other verbs 92; "), "{own}");
        let (nobody, others) = &taken[MAX_ASKERS];
        assert_eq!(nobody, &None);
        assert!(others.words().contains("; 8401 requests: "), "{others:?}");
    }
}
