//! Execs of people into consumers, for the audit: that there were some, never what they ran.
//!
//! Invariant: the first of a container is told at once, and what follows within [`NOTE_WINDOW`] is
//! counted into the next note, so that whoever looks every second floods nothing; every exec that was
//! heard of is counted in some note, the last ones when the injector stops.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::binding::ContainerFacts;
use keywheel_core::id::ContainerId;
use keywheel_core::report::{Executed, MAX_REPORT_ITEMS};
use keywheel_core::time::Timestamp;

/// One note of a container at most in this time.
pub(crate) const NOTE_WINDOW: Duration = Duration::from_secs(60);

/// What is known of one container.
#[derive(Debug, Default)]
struct Of {
    /// When a note was given out last.
    noted: Option<Duration>,
    waiting: Option<Executed>,
}

impl Of {
    /// From when on a note may be given out.
    fn free_at(&self) -> Duration {
        self.noted
            .map_or(Duration::ZERO, |noted| noted + NOTE_WINDOW)
    }
}

/// See the file. No more containers at once than one report takes: what is run in others is in the log
/// alone.
#[derive(Debug, Default)]
pub(crate) struct Execs(BTreeMap<ContainerId, Of>);

impl Execs {
    /// Somebody ran something.
    pub(crate) fn came(&mut self, facts: &ContainerFacts, exec: String, at: Timestamp) {
        if self.0.len() >= MAX_REPORT_ITEMS && !self.0.contains_key(&facts.id) {
            tracing::error!(
                container = facts.id.short(),
                "exec not noted: too many containers have some"
            );
            return;
        }
        let of = self.0.entry(facts.id.clone()).or_default();
        let note = of.waiting.get_or_insert_with(|| Executed {
            container: facts.id.clone(),
            container_name: facts.name.clone(),
            image_digest: facts.image_digest.clone(),
            exec,
            at,
            count: 0,
        });
        note.count = note.count.saturating_add(1);
    }

    /// The end is near: every note is due.
    pub(crate) fn flush(&mut self) {
        for of in self.0.values_mut() {
            of.noted = None;
        }
    }

    /// The notes that are due. Forgets containers that nobody ran anything in for long.
    pub(crate) fn notes(&mut self, now: Duration) -> Vec<Executed> {
        let mut notes = Vec::new();
        for of in self.0.values_mut().filter(|of| of.free_at() <= now) {
            if let Some(note) = of.waiting.take() {
                of.noted = Some(now);
                notes.push(note);
            }
        }
        self.0.retain(|_, of| of.free_at() > now);
        notes
    }

    /// When the next note is due that waits.
    pub(crate) fn next(&self) -> Option<Duration> {
        let waiting = self.0.values().filter(|of| of.waiting.is_some());
        waiting.map(Of::free_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(500);
    const AT: Timestamp = Timestamp::from_micros(7);

    fn facts(number: usize) -> ContainerFacts {
        ContainerFacts {
            id: ContainerId::parse(&format!("{number:064x}")).unwrap(),
            name: "web".to_owned(),
            image_digest: "sha256:1".to_owned(),
            image_name: "app".to_owned(),
            labels: BTreeMap::new(),
            user: None,
        }
    }

    fn told(notes: &[Executed]) -> Vec<(&str, u64)> {
        let told = notes.iter().map(|note| (note.exec.as_str(), note.count));
        told.collect()
    }

    #[test]
    fn the_first_is_told_at_once_and_a_flood_is_counted_into_one_note_a_window() {
        let mut execs = Execs::default();
        execs.came(&facts(1), "a".to_owned(), AT);
        assert_eq!(execs.next(), Some(Duration::ZERO));
        assert_eq!(told(&execs.notes(NOW)), [("a", 1)]);
        assert_eq!(execs.next(), None);
        for exec in ["b", "c", "d"] {
            execs.came(&facts(1), exec.to_owned(), AT);
        }
        // Another container is told of at once.
        execs.came(&facts(2), "e".to_owned(), AT);
        assert_eq!(told(&execs.notes(NOW)), [("e", 1)]);
        assert_eq!(execs.next(), Some(NOW + NOTE_WINDOW));
        let almost = NOW + NOTE_WINDOW - Duration::from_nanos(1);
        assert!(execs.notes(almost).is_empty());
        let notes = execs.notes(NOW + NOTE_WINDOW);
        assert_eq!(told(&notes), [("b", 3)]);
        assert_eq!((notes[0].container_name.as_str(), notes[0].at), ("web", AT));
        assert_eq!(execs.next(), None);
        execs.notes(NOW + NOTE_WINDOW * 2);
        assert!(execs.0.is_empty(), "forgotten");
    }

    #[test]
    fn at_the_end_every_note_is_due() {
        let mut execs = Execs::default();
        execs.came(&facts(1), "a".to_owned(), AT);
        execs.notes(NOW);
        execs.came(&facts(1), "b".to_owned(), AT);
        assert!(execs.notes(NOW).is_empty());
        execs.flush();
        assert_eq!(told(&execs.notes(NOW)), [("b", 1)]);
    }

    #[test]
    fn one_container_more_than_a_report_takes_waits_for_room() {
        let mut execs = Execs::default();
        for number in 0..=MAX_REPORT_ITEMS {
            execs.came(&facts(number), String::new(), AT);
        }
        execs.came(&facts(0), String::new(), AT);
        let notes = execs.notes(NOW);
        assert_eq!((notes.len(), notes[0].count), (MAX_REPORT_ITEMS, 2));
        execs.notes(NOW + NOTE_WINDOW);
        execs.came(&facts(MAX_REPORT_ITEMS), String::new(), AT);
        assert_eq!(execs.notes(NOW + NOTE_WINDOW).len(), 1);
    }
}
