//! Which secrets watch for which events, by type and condition.
//!
//! Invariants: a condition is read once, however many secrets have it; one that holds for events of a single
//! secret is asked of no other's; of all that are asked of the same events the first [`MAX_CONDITIONS`]
//! count, in the order in which they came, and the next when one of them goes.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::id::SecretId;
use keywheel_core::schedule::OnEvent;
use keywheel_schemas::condition::{Condition, Facts};

/// Most conditions that are asked of one type of event, and as many besides of those that name the event's
/// secret: an event costs no more, however many secrets have rules.
pub const MAX_CONDITIONS: usize = 256;

#[derive(Debug, Clone, Default)]
pub(super) struct Watches {
    by_type: BTreeMap<Box<str>, Kind>,
    /// By number, in the order in which their conditions came.
    watches: BTreeMap<u64, Watch>,
    last: u64,
    surplus: usize,
}

/// The conditions on one type of event, by number.
#[derive(Debug, Clone, Default)]
struct Kind {
    /// By text; that of none is empty.
    by_text: BTreeMap<Box<str>, u64>,
    of_any: BTreeSet<u64>,
    /// Those that hold for events of one secret only, by its name.
    of_one: BTreeMap<Box<str>, BTreeSet<u64>>,
}

#[derive(Debug, Clone)]
struct Watch {
    ask: Ask,
    secrets: BTreeSet<SecretId>,
}

#[derive(Debug, Clone)]
enum Ask {
    Nothing,
    Whether(Box<Condition>),
    /// A condition that this build cannot read.
    Never,
}

impl Ask {
    fn of(when: Option<&str>) -> Self {
        match when.map(Condition::parse) {
            None => Self::Nothing,
            Some(Ok(condition)) => Self::Whether(Box::new(condition)),
            Some(Err(_)) => Self::Never,
        }
    }

    fn holds(&self, facts: &Facts, held: bool) -> bool {
        match self {
            Self::Nothing => true,
            Self::Whether(condition) => condition.holds(facts, held),
            Self::Never => false,
        }
    }

    fn only_secret(&self) -> Option<&str> {
        match self {
            Self::Whether(condition) => condition.only_secret(),
            Self::Nothing | Self::Never => None,
        }
    }

    fn asks_held(&self) -> bool {
        matches!(self, Self::Whether(condition) if condition.asks_held())
    }
}

impl Kind {
    fn place(&mut self, only: Option<&str>) -> &mut BTreeSet<u64> {
        match only {
            Some(name) => self.of_one.entry(name.into()).or_default(),
            None => &mut self.of_any,
        }
    }
}

impl Watch {
    /// Those of its secrets for which an event holds, of which its host was given some.
    fn meant(&self, facts: &Facts, given: Option<&BTreeSet<SecretId>>) -> Vec<SecretId> {
        let apart = self.ask.holds(facts, false);
        let Some(given) = given.filter(|_| self.ask.asks_held()) else {
            return match apart {
                true => self.secrets.iter().copied().collect(),
                false => Vec::new(),
            };
        };
        match (apart, self.ask.holds(facts, true)) {
            (true, true) => self.secrets.iter().copied().collect(),
            (true, false) => self.secrets.difference(given).copied().collect(),
            (false, true) => {
                let watches = |secret: &&SecretId| self.secrets.contains(*secret);
                given.iter().filter(watches).copied().collect()
            }
            (false, false) => Vec::new(),
        }
    }
}

fn text(rule: &OnEvent) -> &str {
    rule.when.as_deref().unwrap_or_default()
}

impl Watches {
    pub(super) fn is_empty(&self) -> bool {
        self.watches.is_empty()
    }

    /// Whether anybody watches for events of a type.
    pub(super) fn has(&self, type_name: &str) -> bool {
        self.by_type.contains_key(type_name)
    }

    /// How many conditions are asked of no event, since too many came before them.
    pub(super) fn surplus(&self) -> usize {
        self.surplus
    }

    /// The number of a rule's condition, while a secret has it.
    pub(super) fn number(&self, rule: &OnEvent) -> Option<u64> {
        let kind = self.by_type.get(rule.event.as_str())?;
        kind.by_text.get(text(rule)).copied()
    }

    pub(super) fn add(&mut self, secret: SecretId, rule: &OnEvent) {
        let number = match self.number(rule) {
            Some(number) => number,
            None => self.number_anew(rule),
        };
        if let Some(watch) = self.watches.get_mut(&number) {
            watch.secrets.insert(secret);
        }
    }

    fn number_anew(&mut self, rule: &OnEvent) -> u64 {
        self.last = self.last.saturating_add(1);
        let ask = Ask::of(rule.when.as_deref());
        let kind = self.by_type.entry(rule.event.as_str().into()).or_default();
        kind.by_text.insert(text(rule).into(), self.last);
        let place = kind.place(ask.only_secret());
        place.insert(self.last);
        if place.len() > MAX_CONDITIONS {
            self.surplus = self.surplus.saturating_add(1);
        }
        let secrets = BTreeSet::new();
        self.watches.insert(self.last, Watch { ask, secrets });
        self.last
    }

    pub(super) fn remove(&mut self, secret: SecretId, rule: &OnEvent) {
        let Some(number) = self.number(rule) else {
            return;
        };
        let Some(watch) = self.watches.get_mut(&number) else {
            return;
        };
        watch.secrets.remove(&secret);
        if !watch.secrets.is_empty() {
            return;
        }
        let only: Option<Box<str>> = watch.ask.only_secret().map(Into::into);
        self.watches.remove(&number);
        let Some(kind) = self.by_type.get_mut(rule.event.as_str()) else {
            return;
        };
        kind.by_text.remove(text(rule));
        let place = kind.place(only.as_deref());
        if place.len() > MAX_CONDITIONS {
            self.surplus = self.surplus.saturating_sub(1);
        }
        place.remove(&number);
        let is_empty = place.is_empty();
        if let Some(name) = only.filter(|_| is_empty) {
            kind.of_one.remove(&name);
        }
        if kind.by_text.is_empty() {
            self.by_type.remove(rule.event.as_str());
        }
    }

    /// The secrets that an event means, each with the number of the condition by which it does; `name` is
    /// that of the event's secret.
    pub(super) fn meant(
        &self,
        (type_name, name): (&str, &str),
        facts: &Facts,
        given: Option<&BTreeSet<SecretId>>,
    ) -> Vec<(SecretId, u64)> {
        let Some(kind) = self.by_type.get(type_name) else {
            return Vec::new();
        };
        let places = [Some(&kind.of_any), kind.of_one.get(name)];
        let places = places.into_iter().flatten();
        let numbers = places.flat_map(|place| place.iter().take(MAX_CONDITIONS));
        let mut meant = Vec::new();
        for number in numbers {
            let Some(watch) = self.watches.get(number) else {
                continue;
            };
            let secrets = watch.meant(facts, given).into_iter();
            meant.extend(secrets.map(|secret| (secret, *number)));
        }
        meant
    }
}
