//! What the fires of a secret's policy count from, as the log tells it. Pure.
//!
//! Invariants: a version that becomes current again is as old as it was, for it counts from its first
//! promotion; what is kept is bounded by the versions that are alive.

use keywheel_core::time::Timestamp;

/// The instants of one secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Anchors {
    registered: Timestamp,
    /// When versions that are alive were current for the first time.
    first: Vec<(u64, Timestamp)>,
    promoted: Option<Timestamp>,
    moved: Option<Timestamp>,
    stopped: Option<Timestamp>,
    served: Timestamp,
}

impl Anchors {
    /// Those of a secret that was declared then.
    #[must_use]
    pub const fn registered_at(time: Timestamp) -> Self {
        Self {
            registered: time,
            first: Vec::new(),
            promoted: None,
            moved: None,
            stopped: None,
            served: time,
        }
    }

    /// When it was declared.
    #[must_use]
    pub const fn registered(&self) -> Timestamp {
        self.registered
    }

    /// When its current version was promoted for the first time; a later version may have been current
    /// and given up, or revoked, since.
    #[must_use]
    pub const fn promoted(&self) -> Option<Timestamp> {
        self.promoted
    }

    /// From when its version's age counts: its first promotion, or else the declaration.
    #[must_use]
    pub fn born(&self) -> Timestamp {
        self.promoted.unwrap_or(self.registered)
    }

    /// When a version was promoted last, be it again, or else the declaration.
    #[must_use]
    pub fn moved(&self) -> Timestamp {
        self.moved.unwrap_or(self.registered)
    }

    /// When a run was last aborted or turned back, unless a new version was promoted since.
    #[must_use]
    pub const fn stopped(&self) -> Option<Timestamp> {
        self.stopped
    }

    /// Slots up to here are served.
    #[must_use]
    pub const fn served(&self) -> Timestamp {
        self.served
    }

    /// A version is current now. One that was before is no younger for that.
    pub fn promote(&mut self, time: Timestamp, version: u64) {
        let known = self.first.iter().find(|(of, _)| *of == version);
        let known = known.map(|(_, first)| *first);
        if known.is_none() {
            self.first.push((version, time));
        }
        self.stopped = known.map(|_| time);
        self.promoted = Some(known.unwrap_or(time));
        self.moved = Some(time);
    }

    /// A version is dead, so it never is current again.
    pub fn revoke(&mut self, version: u64) {
        self.first.retain(|(of, _)| *of != version);
    }

    /// A person gave a run up.
    pub fn stop(&mut self, time: Timestamp) {
        self.stopped = Some(time);
    }

    /// Slots up to an instant are served.
    pub fn serve(&mut self, time: Timestamp) {
        self.served = self.served.max(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    #[test]
    fn a_version_that_is_current_again_is_as_old_as_it_was() {
        let mut anchors = Anchors::registered_at(at(1));
        assert_eq!((anchors.born(), anchors.moved()), (at(1), at(1)));
        anchors.promote(at(10), 1);
        anchors.promote(at(60), 2);
        assert_eq!(
            (anchors.promoted(), anchors.stopped()),
            (Some(at(60)), None)
        );
        anchors.promote(at(61), 1);
        assert_eq!((anchors.born(), anchors.moved()), (at(10), at(61)));
        assert_eq!(anchors.stopped(), Some(at(61)));
        anchors.revoke(2);
        anchors.promote(at(90), 3);
        assert_eq!((anchors.born(), anchors.stopped()), (at(90), None));
    }

    #[test]
    fn what_is_dead_is_not_kept_and_what_was_served_stays_so() {
        let mut anchors = Anchors::registered_at(at(1));
        for version in 1..100 {
            anchors.promote(at(10), version);
            anchors.revoke(version - 1);
        }
        assert_eq!(anchors.first, [(99, at(10))]);
        anchors.serve(at(20));
        anchors.serve(at(5));
        assert_eq!(anchors.served(), at(20));
        anchors.stop(at(30));
        assert_eq!((anchors.stopped(), anchors.born()), (Some(at(30)), at(10)));
    }
}
