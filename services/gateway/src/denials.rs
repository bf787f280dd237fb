//! How often who was denied: the first attempts one by one, the rest as one record per window.
//!
//! Users are told apart by uid, strangers at a TCP port by address, people with a certificate by its name,
//! programs by whose token they bring, members on the bus by role and host. Pure but for a lock. Invariants: what is not recorded by itself is counted, with the first and
//! the last of it; what is counted is kept until its record is durable; the number of tallies and of
//! single records in a window is bounded, whatever strangers do. A process that dies in the middle
//! of a window loses that window's count, and never the first attempts.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use keywheel_core::audit::{Principal, Role};
use keywheel_core::id::HostId;
use keywheel_core::time::Timestamp;

/// Counts are written, and start again, this often.
pub const WINDOW: Duration = Duration::from_secs(60);
/// Denials of one user, or refusals of one member on the bus, that are recorded one by one in a window.
pub const RECORDED_PER_UID: u32 = 10;
/// Denials of all users together that are recorded one by one in a window.
pub const RECORDED_IN_ALL: u32 = 100;
/// Users counted by themselves; all further ones are counted together.
pub const MAX_TALLIES: usize = 256;
/// Longest description of an attempt, in characters.
const MAX_WHAT_CHARS: usize = 100;

/// One attempt of someone who may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When.
    pub time: Timestamp,
    /// What: verb and object.
    pub what: String,
}

impl Attempt {
    /// An attempt, its words cut to a bound.
    #[must_use]
    pub fn new(time: Timestamp, what: &str) -> Self {
        let what = what.trim().chars().take(MAX_WHAT_CHARS).collect();
        Self { time, what }
    }
}

/// Whose attempt it is.
#[derive(Debug, Clone, Copy)]
pub struct Asker<'a> {
    /// Who, as records say it.
    pub principal: &'a Principal,
    /// The host that a member on the bus speaks for: injectors are one principal.
    pub host: Option<HostId>,
}

impl<'a> From<&'a Principal> for Asker<'a> {
    fn from(principal: &'a Principal) -> Self {
        Self {
            principal,
            host: None,
        }
    }
}

/// What is done with a denial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// It gets a record of its own.
    Record,
    /// It is counted.
    Count,
}

/// Denials that were counted, for one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    /// Who; a name of no user when many are counted together.
    pub principal: Principal,
    /// The host that they spoke for, if they are a member on the bus.
    pub host: Option<HostId>,
    /// How many.
    pub count: u64,
    /// The first of them.
    pub first: Attempt,
    /// The last of them.
    pub last: Attempt,
}

impl Counted {
    fn asker(&self) -> Asker<'_> {
        Asker {
            principal: &self.principal,
            host: self.host,
        }
    }

    fn add(&mut self, attempt: Attempt) {
        self.count = self.count.saturating_add(1);
        self.last = attempt;
    }

    /// The record's words: how many, from when to when, and what the first and the last wanted.
    #[must_use]
    pub fn reason(&self) -> String {
        format!(
            "{} more requests denied; first at {}: {}; last at {}: {}",
            self.count,
            instant(self.first.time),
            self.first.what,
            instant(self.last.time),
            self.last.what
        )
    }
}

/// A moment as records tell it in words.
pub(crate) fn instant(time: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(time.micros())
        .map_or_else(|_| time.to_string(), |instant| instant.to_string())
}

#[derive(Default)]
struct Tally {
    recorded: u32,
    counted: Option<Counted>,
}

#[derive(Default)]
struct Window {
    recorded: u32,
    by_who: BTreeMap<Who, Tally>,
    others: Option<Counted>,
}

/// The meter.
#[derive(Default)]
pub struct Denials {
    window: Mutex<Window>,
    total: AtomicU64,
}

impl Denials {
    fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of a denial and says whether it gets a record of its own; otherwise it is counted.
    pub fn note<'a>(&self, asker: impl Into<Asker<'a>>, attempt: Attempt) -> Ruling {
        let asker = asker.into();
        self.total.fetch_add(1, Ordering::Relaxed);
        let mut window = self.window();
        let may_record = window.recorded < RECORDED_IN_ALL;
        let tally = who(asker).and_then(|who| window.tally(who));
        if let Some(tally) = tally.filter(|tally| may_record && tally.recorded < RECORDED_PER_UID) {
            tally.recorded += 1;
            window.recorded += 1;
            return Ruling::Record;
        }
        window.count(asker, attempt);
        Ruling::Count
    }

    /// Whether so many of somebody's attempts were denied in this window that further ones are only counted.
    pub fn is_over(&self, principal: &Principal) -> bool {
        let window = self.window();
        let own = who(principal.into()).and_then(|who| window.by_who.get(&who));
        own.is_some_and(|tally| tally.recorded >= RECORDED_PER_UID)
    }

    /// Counts a denial that gets no record of its own, whatever came before it.
    pub fn count(&self, principal: &Principal, attempt: Attempt) {
        self.total.fetch_add(1, Ordering::Relaxed);
        self.window().count(principal.into(), attempt);
    }

    /// Counts a denial that was noted, and whose own record is not durable.
    pub fn put_back<'a>(&self, asker: impl Into<Asker<'a>>, attempt: Attempt) {
        self.window().count(asker.into(), attempt);
    }

    /// How many there were since the start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Ends the window: gives what was counted in it, and starts the next.
    pub fn turn(&self) -> Vec<Counted> {
        let ended = std::mem::take(&mut *self.window());
        let counted = ended.by_who.into_values().filter_map(|t| t.counted);
        counted.chain(ended.others).collect()
    }

    /// Takes back what could not be made durable; it is part of the window that runs.
    pub fn restore(&self, earlier: Counted) {
        let mut window = self.window();
        let slot = window.slot(earlier.asker());
        *slot = Some(match slot.take() {
            None => earlier,
            Some(later) => Counted {
                principal: later.principal,
                host: later.host,
                count: earlier.count.saturating_add(later.count),
                first: earlier.first,
                last: later.last,
            },
        });
    }
}

impl Window {
    fn tally(&mut self, who: Who) -> Option<&mut Tally> {
        if self.by_who.len() >= MAX_TALLIES && !self.by_who.contains_key(&who) {
            return None;
        }
        Some(self.by_who.entry(who).or_default())
    }

    fn slot(&mut self, asker: Asker<'_>) -> &mut Option<Counted> {
        let known = who(asker)
            .filter(|who| self.by_who.len() < MAX_TALLIES || self.by_who.contains_key(who));
        match known {
            Some(who) => &mut self.by_who.entry(who).or_default().counted,
            None => &mut self.others,
        }
    }

    fn count(&mut self, asker: Asker<'_>, attempt: Attempt) {
        let is_full = who(asker).is_none_or(|who| self.tally(who).is_none());
        let slot = self.slot(asker);
        if let Some(counted) = slot {
            return counted.add(attempt);
        }
        let (principal, host) = match is_full {
            true => (others(), None),
            false => (asker.principal.clone(), asker.host),
        };
        *slot = Some(Counted {
            principal,
            host,
            count: 1,
            first: attempt.clone(),
            last: attempt,
        });
    }
}

/// Uid of nobody; stands for many users.
const MANY: u32 = u32::MAX;

fn others() -> Principal {
    Principal::User {
        uid: MANY,
        name: "(many users)".to_owned(),
    }
}

/// Who is counted by itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    User(u32),
    Address(String),
    Operator(String),
    /// Of a person: many tokens are no more attempts.
    Token(String),
    /// Of a person: many logins are no more attempts.
    Login(String),
    /// On the bus.
    Member(Role, Option<HostId>),
}

/// An asker's own tally, if it can have one.
fn who(asker: Asker<'_>) -> Option<Who> {
    match asker.principal {
        Principal::User { uid, .. } if *uid != MANY => Some(Who::User(*uid)),
        Principal::Stranger { address } => Some(Who::Address(address.clone())),
        Principal::Operator { name } => Some(Who::Operator(name.clone())),
        Principal::Token { owner, .. } => Some(Who::Token(owner.clone())),
        Principal::Login { name } => Some(Who::Login(name.clone())),
        Principal::Service(role) => Some(Who::Member(*role, asker.host)),
        Principal::User { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(uid: u32) -> Principal {
        Principal::User {
            uid,
            name: format!("user-{uid}"),
        }
    }

    fn attempt(second: u64) -> Attempt {
        let time = Timestamp::default().plus(Duration::from_secs(second));
        Attempt::new(time, &format!("list secrets {second}"))
    }

    #[test]
    fn the_first_are_recorded_and_the_rest_is_one_count_with_first_and_last() {
        let denials = Denials::default();
        let rulings: Vec<Ruling> = (0..1000)
            .map(|n| denials.note(&user(1), attempt(n)))
            .collect();
        let recorded = rulings.iter().filter(|r| **r == Ruling::Record).count();
        assert_eq!(recorded, RECORDED_PER_UID as usize);
        assert!(rulings[..recorded].iter().all(|r| *r == Ruling::Record));
        let first = u64::from(RECORDED_PER_UID);
        let counted = Counted {
            principal: user(1),
            host: None,
            count: 1000 - first,
            first: attempt(first),
            last: attempt(999),
        };
        assert_eq!(
            counted.reason(),
            "990 more requests denied; first at 1970-01-01T00:00:10Z: list secrets 10; last at 1970-01-01T00:16:39Z: list secrets 999"
        );
        assert_eq!(denials.turn(), [counted]);
        assert_eq!(denials.turn(), []);
        assert_eq!(denials.note(&user(1), attempt(1)), Ruling::Record);
    }

    #[test]
    fn one_users_flood_takes_no_other_users_records() {
        let denials = Denials::default();
        for n in 0..1000 {
            denials.note(&user(1), attempt(n));
        }
        assert_eq!(denials.note(&user(2), attempt(1)), Ruling::Record);
    }

    #[test]
    fn many_users_are_bounded_in_records_and_tallies_and_all_are_counted() {
        let denials = Denials::default();
        let users = u32::try_from(MAX_TALLIES).unwrap() + 50;
        let mut recorded = 0_u64;
        let attempts = 2;
        for uid in 0..users {
            for n in 0..attempts {
                recorded += u64::from(denials.note(&user(uid), attempt(n)) == Ruling::Record);
            }
        }
        assert_eq!(recorded, u64::from(RECORDED_IN_ALL));
        let counted = denials.turn();
        assert!(counted.len() <= MAX_TALLIES + 1, "{}", counted.len());
        let all: u64 = counted.iter().map(|counted| counted.count).sum();
        assert_eq!(all + recorded, u64::from(users) * attempts);
        assert_eq!(denials.total(), u64::from(users) * attempts);
        assert_eq!(counted.last().unwrap().principal, others());
    }

    #[test]
    fn what_could_not_be_written_keeps_its_first_and_joins_the_next_count() {
        let denials = Denials::default();
        denials.count(&user(1), attempt(1));
        denials.count(&user(1), attempt(2));
        let lost = denials.turn().remove(0);
        denials.put_back(&user(1), attempt(3));
        denials.restore(lost.clone());
        let joined = denials.turn().remove(0);
        assert_eq!((joined.count, joined.first), (3, attempt(1)));
        assert_eq!(joined.last, attempt(3));
        denials.restore(lost.clone());
        assert_eq!(denials.turn(), [lost]);
    }

    #[test]
    fn strangers_are_told_apart_by_address() {
        let denials = Denials::default();
        let of = |address: &str| Principal::Stranger {
            address: address.to_owned(),
        };
        for n in 0..u64::from(RECORDED_PER_UID) {
            let ruling = denials.note(&of("192.0.2.1"), attempt(n));
            assert_eq!(ruling, Ruling::Record);
        }
        assert_eq!(denials.note(&of("192.0.2.1"), attempt(1)), Ruling::Count);
        assert_eq!(denials.note(&of("192.0.2.2"), attempt(1)), Ruling::Record);
        assert_eq!(denials.turn()[0].principal, of("192.0.2.1"));
    }

    #[test]
    fn people_with_a_certificate_and_programs_have_records_of_their_own() {
        let denials = Denials::default();
        let operator = Principal::Operator {
            name: "ada".to_owned(),
        };
        let token = |name: &str| Principal::Token {
            name: name.to_owned(),
            owner: "certificate:ada".to_owned(),
        };
        for n in 0..u64::from(RECORDED_PER_UID) {
            assert_eq!(denials.note(&operator, attempt(n)), Ruling::Record);
            assert_eq!(denials.note(&token("ci"), attempt(n)), Ruling::Record);
        }
        assert_eq!(denials.note(&operator, attempt(1)), Ruling::Count);
        // Another token of hers is no way around.
        assert_eq!(denials.note(&token("more"), attempt(1)), Ruling::Count);
    }

    #[test]
    fn members_on_the_bus_are_told_apart_by_role_and_host() {
        let denials = Denials::default();
        let [injector, scheduler] = [Role::Injector, Role::Scheduler].map(Principal::Service);
        let of = |principal, host: Option<u8>| Asker {
            principal,
            host: host.map(|host| HostId::from_bytes([host; 16])),
        };
        for n in 0..u64::from(RECORDED_PER_UID) {
            let ruling = denials.note(of(&injector, Some(1)), attempt(n));
            assert_eq!(ruling, Ruling::Record);
        }
        let flood = of(&injector, Some(1));
        assert_eq!(denials.note(flood, attempt(20)), Ruling::Count);
        for other in [of(&injector, Some(2)), of(&scheduler, None)] {
            assert_eq!(denials.note(other, attempt(20)), Ruling::Record);
        }
        let counted = denials.turn().remove(0);
        assert_eq!((&counted.principal, counted.host), (&injector, flood.host));
        // What could not be written joins what this host wants next, and nobody else's.
        denials.restore(counted);
        denials.put_back(of(&injector, Some(2)), attempt(30));
        denials.put_back(flood, attempt(40));
        let counts: Vec<_> = denials.turn().iter().map(|c| (c.host, c.count)).collect();
        assert_eq!(counts, [(flood.host, 2), (of(&injector, Some(2)).host, 1)]);
    }

    #[test]
    fn what_was_wanted_is_cut_to_a_bound() {
        let attempt = Attempt::new(Timestamp::default(), &"x".repeat(5000));
        assert_eq!(attempt.what.len(), MAX_WHAT_CHARS);
    }
}
