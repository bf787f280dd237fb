//! One topic as a state machine: frames in, frames out, acknowledgements, time as an argument.
//!
//! Invariants: sequence numbers only grow; what is kept is bounded in count and bytes, oldest
//! dropped first; within one group a sequence number is in flight at most once. No lock, no clock,
//! no signature is here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use keywheel_engine::port::bus::{TOPIC_CAPACITY, Topic};

use crate::envelope::Frame;
use crate::window::{ID_WINDOW, IdWindow};

/// Bytes a topic keeps for slow consumers.
pub(super) const TOPIC_BYTES: usize = 64 << 20;
/// Messages one group may hold unacknowledged.
pub(super) const MAX_UNACKNOWLEDGED: usize = TOPIC_CAPACITY;
/// Consumer names per topic.
pub(super) const MAX_GROUPS: usize = 64;

/// What is kept for whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Retention {
    /// For every consumer name that is known, until it is done.
    PerGroup,
    /// For all consumers together, until one is done.
    Shared,
    /// The newest, for ever.
    Newest,
}

/// One topic.
pub(super) struct TopicState {
    retention: Retention,
    next_sequence: u64,
    kept: BTreeMap<u64, Kept>,
    kept_bytes: usize,
    seen: IdWindow,
    groups: HashMap<String, Group>,
}

struct Kept {
    id: Option<[u8; 16]>,
    frame: Arc<Frame>,
}

/// Consumers of one name, who share the work.
struct Group {
    /// The first sequence number not handed out yet.
    next: u64,
    in_flight: BTreeMap<u64, Flight>,
    /// The same flights by the time they are due.
    due: BTreeSet<(Duration, u64)>,
    accepted: IdWindow,
}

#[derive(Clone, Copy)]
struct Flight {
    owner: u64,
    due: Duration,
}

/// What a consumer gets.
#[derive(Debug)]
pub(super) enum Taken {
    /// A frame.
    Frame {
        sequence: u64,
        redelivered: bool,
        frame: Arc<Frame>,
    },
    /// Nothing before this time, unless something changes.
    Wait(Option<Duration>),
}

/// A topic has too many consumer names.
#[derive(Debug)]
pub(super) struct TooManyGroups;

impl TopicState {
    pub(super) fn new(topic: &Topic) -> Self {
        let retention = match topic {
            Topic::Events | Topic::Audit | Topic::Presence => Retention::PerGroup,
            Topic::Work(_) => Retention::Shared,
            Topic::Plan(_) | Topic::Hosts => Retention::Newest,
        };
        Self {
            retention,
            next_sequence: 1,
            kept: BTreeMap::new(),
            kept_bytes: 0,
            seen: IdWindow::of(ID_WINDOW),
            groups: HashMap::new(),
        }
    }

    /// Takes a frame; one whose id is remembered is left out. A forged frame has no id here.
    pub(super) fn publish(&mut self, id: Option<[u8; 16]>, frame: Arc<Frame>) {
        if id.is_some_and(|id| self.seen.insert(id, 0).is_some()) {
            return;
        }
        let sequence = self.next_sequence;
        self.next_sequence += 1;
        if self.retention == Retention::PerGroup && self.groups.is_empty() {
            return;
        }
        if self.retention == Retention::Newest {
            self.kept.clear();
            self.kept_bytes = 0;
        }
        self.kept_bytes += frame.size();
        self.kept.insert(sequence, Kept { id, frame });
        while self.kept.len() > TOPIC_CAPACITY || self.kept_bytes > TOPIC_BYTES {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        let Some((_, kept)) = self.kept.pop_first() else {
            return;
        };
        self.kept_bytes -= kept.frame.size();
        // Work that nobody saw must not count as sent when it is sent again.
        if let (Retention::Shared, Some(id)) = (self.retention, kept.id) {
            self.seen.forget(id);
        }
    }

    /// Makes a consumer known and returns its group's name.
    pub(super) fn join(&mut self, consumer: &str) -> Result<String, TooManyGroups> {
        let name = match self.retention {
            Retention::Shared => String::new(),
            Retention::PerGroup | Retention::Newest => consumer.to_owned(),
        };
        let first = match self.retention {
            Retention::Shared => 1,
            Retention::PerGroup => self.next_sequence,
            Retention::Newest => {
                // A host that comes back sees the newest plan again.
                self.groups.remove(&name);
                self.kept
                    .keys()
                    .next()
                    .copied()
                    .unwrap_or(self.next_sequence)
            }
        };
        if !self.groups.contains_key(&name) {
            if self.groups.len() >= MAX_GROUPS {
                return Err(TooManyGroups);
            }
            self.groups.insert(name.clone(), Group::from(first));
        }
        Ok(name)
    }

    /// Hands out what is due again, else what is new.
    pub(super) fn take(
        &mut self,
        group: &str,
        owner: u64,
        now: Duration,
        ack_timeout: Duration,
    ) -> Taken {
        let Some(group) = self.groups.get_mut(group) else {
            return Taken::Wait(None);
        };
        while let Some((_, sequence)) = group.due.first().copied().filter(|(due, _)| *due <= now) {
            group.land(sequence);
            let Some(kept) = self.kept.get(&sequence) else {
                continue;
            };
            group.fly(sequence, owner, now + ack_timeout);
            let frame = Arc::clone(&kept.frame);
            return Taken::Frame {
                sequence,
                redelivered: true,
                frame,
            };
        }
        let fresh = self.kept.range(group.next..).next();
        let room = group.in_flight.len() < MAX_UNACKNOWLEDGED;
        let Some((sequence, kept)) = fresh.filter(|_| room) else {
            return Taken::Wait(group.due.first().map(|(due, _)| due.saturating_sub(now)));
        };
        group.next = sequence + 1;
        group.fly(*sequence, owner, now + ack_timeout);
        Taken::Frame {
            sequence: *sequence,
            redelivered: false,
            frame: Arc::clone(&kept.frame),
        }
    }

    /// Whether a verified message is new to the group; a copy at another place is not.
    pub(super) fn admit(&mut self, group: &str, sequence: u64, id: [u8; 16]) -> bool {
        let Some(group) = self.groups.get_mut(group) else {
            return false;
        };
        group
            .accepted
            .insert(id, sequence)
            .is_none_or(|first| first == sequence)
    }

    /// A consumer is done with it.
    pub(super) fn ack(&mut self, group: &str, sequence: u64) {
        if let Some(group) = self.groups.get_mut(group) {
            group.land(sequence);
        }
        match self.retention {
            Retention::Newest => {}
            Retention::Shared => self.discard(sequence),
            Retention::PerGroup => self.discard_read(),
        }
    }

    /// A consumer is not done with it.
    pub(super) fn nak(&mut self, group: &str, sequence: u64, due: Duration) {
        let Some(group) = self.groups.get_mut(group) else {
            return;
        };
        if let Some(flight) = group.land(sequence) {
            group.fly(sequence, flight.owner, due);
        }
    }

    /// A consumer is gone; what it held is due at once.
    pub(super) fn leave(&mut self, group: &str, owner: u64) {
        let Some(group) = self.groups.get_mut(group) else {
            return;
        };
        let held: Vec<u64> = group
            .in_flight
            .iter()
            .filter(|(_, flight)| flight.owner == owner)
            .map(|(sequence, _)| *sequence)
            .collect();
        for sequence in held {
            group.land(sequence);
            group.fly(sequence, owner, Duration::ZERO);
        }
    }

    fn discard(&mut self, sequence: u64) {
        if let Some(kept) = self.kept.remove(&sequence) {
            self.kept_bytes -= kept.frame.size();
        }
    }

    fn discard_read(&mut self) {
        let floor = self.groups.values().map(Group::floor).min().unwrap_or(0);
        while self
            .kept
            .first_key_value()
            .is_some_and(|(sequence, _)| *sequence < floor)
        {
            let Some((_, kept)) = self.kept.pop_first() else {
                return;
            };
            self.kept_bytes -= kept.frame.size();
        }
    }
}

impl Group {
    fn from(next: u64) -> Self {
        Self {
            next,
            in_flight: BTreeMap::new(),
            due: BTreeSet::new(),
            accepted: IdWindow::of(ID_WINDOW),
        }
    }

    fn fly(&mut self, sequence: u64, owner: u64, due: Duration) {
        self.in_flight.insert(sequence, Flight { owner, due });
        self.due.insert((due, sequence));
    }

    fn land(&mut self, sequence: u64) -> Option<Flight> {
        let flight = self.in_flight.remove(&sequence)?;
        self.due.remove(&(flight.due, sequence));
        Some(flight)
    }

    /// Everything below is done.
    fn floor(&self) -> u64 {
        self.in_flight.keys().next().copied().unwrap_or(self.next)
    }
}

#[cfg(test)]
mod tests;
