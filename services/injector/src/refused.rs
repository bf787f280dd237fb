//! Starts that were refused and come back: of which containers, and when one is tried again.
//!
//! Owns that list and its file; asks nobody. Invariants: at most [`MAX_REFUSED`]: what is another
//! injector's goes first, then what was only found in the engine, then the oldest; what an
//! orchestrator made is never started, and what no restart policy asks for only for
//! [`UNASKED_WITHIN`] (see [`is_wanted`]); a container is started only after the engine said that nothing ran in it since the
//! refusal, and only by the injector that refused it, did not answer for it, or has something for it
//! (an engine may have runtimes of several); what a start was tried with is not tried again until something of it is another, or
//! everything is looked at anew.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keywheel_core::id::{BindingId, ContainerId};
use keywheel_core::time::Timestamp;
use keywheel_engine::port::container_host::ContainerRecord;

use crate::model::Place;

/// Refused starts that are remembered.
pub(crate) const MAX_REFUSED: usize = 1024;
/// The engine writes a refusal down only after the runtime has ended: until then its answer without
/// one means nothing.
pub(crate) const SETTLES: Duration = Duration::from_secs(10);
/// Name of the file in the state directory; no container is called so.
const FILE: &str = "refused.json";
/// Largest file that is read: an id and a time with quotes, brackets and commas each, and room.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// Labels of containers that an orchestrator made: it replaces a task whose start failed by another.
const ORCHESTRATED: [&str; 3] = [
    "com.docker.swarm.task.id",
    "io.kubernetes.container.name",
    "com.hashicorp.nomad.alloc_id",
];
/// How long after its refusal a container comes back that has no restart policy: later, who started
/// it has forgotten it, or runs another.
const UNASKED_WITHIN: Duration = Duration::from_secs(3600);

/// What a container would get if it started now.
pub(crate) type Offer = Vec<(BindingId, u64, Place)>;

/// What becomes of a container after the engine was asked about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Look {
    /// It is not among these, or not any more.
    Out,
    /// It waits.
    Waits,
    /// The engine may not have written it down yet.
    Again,
}

/// A start that was refused.
#[derive(Debug, Default)]
struct Waiting {
    /// The later it was refused, the higher.
    number: u64,
    /// When that was heard of.
    noted: Duration,
    /// When it was refused; `None` when only the engine told, which does not know.
    at: Option<Timestamp>,
    /// The engine's word that it is refused still; asked for anew after every event.
    record: Option<ContainerRecord>,
    /// With what it was started last, in vain.
    tried: Option<Offer>,
    is_starting: bool,
    /// Whether this injector refused it, or did not answer for it.
    is_own: bool,
    /// Under which circumstances nothing was to be done for it.
    idle: Option<Circumstances>,
}

/// What decides, beside the engine's word and what was tried, whether a container is started: the
/// plan's generation, and whether the lease is over.
pub(crate) type Circumstances = (u64, bool);

/// One of them that may be started.
pub(crate) struct Due<'a> {
    pub(crate) record: &'a ContainerRecord,
    /// When it was refused, if this injector refused it.
    pub(crate) at: Option<Timestamp>,
}

/// Whether somebody wants a refused container up: its restart policy says so, or its start was asked
/// for a short time ago, in the engine's words since `booted`.
pub(crate) fn is_wanted(
    record: &ContainerRecord,
    refused_at: Option<Timestamp>,
    now: Timestamp,
    booted: Timestamp,
) -> bool {
    let Some(refused) = &record.refused else {
        return false;
    };
    let labels = &record.facts.labels;
    if ORCHESTRATED.iter().any(|label| labels.contains_key(*label)) {
        return false;
    }
    let found = || refused.after.filter(|after| *after >= booted);
    let is_fresh = |at: Timestamp| now.since(at) < UNASKED_WITHIN;
    refused.has_policy || refused_at.or_else(found).is_some_and(is_fresh)
}

/// See the file.
#[derive(Debug, Default)]
pub(crate) struct RefusedStarts {
    waiting: BTreeMap<ContainerId, Waiting>,
    next: u64,
    is_changed: bool,
}

impl RefusedStarts {
    /// Those of an earlier run, oldest first.
    pub(crate) fn of(saved: Vec<Saved>, now: Duration) -> Self {
        let mut all = Self::default();
        for (id, at) in saved {
            all.note(id, now, at);
        }
        all.is_changed = false;
        all
    }

    /// A start was refused at that time. That of a start of ours is no new wish of anybody's.
    pub(crate) fn note(&mut self, id: ContainerId, now: Duration, at: Timestamp) {
        self.next += 1;
        let number = self.next;
        let waiting = self.waiting.entry(id).or_default();
        (waiting.number, waiting.noted, waiting.record) = (number, now, None);
        if !waiting.is_starting || waiting.at.is_none() {
            waiting.at = Some(at);
        }
        waiting.is_own = true;
        self.is_changed = true;
        self.bound();
    }

    /// The engine knows of a refused start; whether it is this injector's to answer for.
    pub(crate) fn found(&mut self, record: ContainerRecord, is_own: bool, now: Duration) {
        let id = record.facts.id.clone();
        let waiting = self.waiting.entry(id).or_insert_with(|| Waiting {
            noted: now,
            ..Waiting::default()
        });
        waiting.record = Some(record);
        self.is_changed |= is_own && !waiting.is_own;
        waiting.is_own |= is_own;
        waiting.idle = None;
        self.bound();
    }

    fn bound(&mut self) {
        if self.waiting.len() <= MAX_REFUSED {
            return;
        }
        // What was only found has number 0.
        let oldest = self
            .waiting
            .iter()
            .min_by_key(|(_, one)| (one.is_own, one.number));
        if let Some(id) = oldest.map(|(id, _)| id.clone()) {
            tracing::warn!(
                container = id.short(),
                "too many refused starts: the oldest is not started by itself any more"
            );
            self.waiting.remove(&id);
        }
    }

    /// What the engine says of a container, or that it is gone.
    pub(crate) fn look(
        &mut self,
        id: &ContainerId,
        record: Option<&ContainerRecord>,
        now: Duration,
    ) -> Look {
        let Some(waiting) = self.waiting.get_mut(id) else {
            return Look::Out;
        };
        match record {
            Some(record) if record.refused.is_some() => {
                waiting.record = Some(record.clone());
                waiting.idle = None;
                Look::Waits
            }
            Some(record) if !record.running && now.saturating_sub(waiting.noted) < SETTLES => {
                Look::Again
            }
            // It runs, ran and was stopped, or is gone.
            _ => {
                self.waiting.remove(id);
                self.is_changed = true;
                Look::Out
            }
        }
    }

    /// Whether it is among them.
    pub(crate) fn has(&self, id: &ContainerId) -> bool {
        self.waiting.contains_key(id)
    }

    /// Those that may be started, longest refused first, but those that were left alone under these
    /// circumstances.
    pub(crate) fn due(&self, now: Circumstances) -> Vec<Due<'_>> {
        let ready = self.waiting.values().filter(|one| !one.is_starting);
        let ready = ready.filter(|one| one.idle != Some(now));
        let mut ready: Vec<(u64, Due<'_>)> = ready
            .filter_map(|one| {
                let (record, at) = (one.record.as_ref()?, one.at);
                Some((one.number, Due { record, at }))
            })
            .collect();
        ready.sort_by_key(|(number, _)| *number);
        ready.into_iter().map(|(_, due)| due).collect()
    }

    /// Nothing is to be done for it under these circumstances.
    pub(crate) fn leave(&mut self, id: &ContainerId, now: Circumstances) {
        if let Some(waiting) = self.waiting.get_mut(id) {
            waiting.idle = Some(now);
        }
    }

    /// Whether it is to be started with this: it was not before, and it is ours to start.
    pub(crate) fn may_try(&self, id: &ContainerId, offer: &Offer) -> bool {
        let is_new = |one: &Waiting| one.tried.as_ref() != Some(offer);
        let is_ours = |one: &Waiting| one.is_own || !offer.is_empty();
        self.waiting
            .get(id)
            .is_some_and(|one| is_new(one) && is_ours(one))
    }

    /// Its start begins.
    pub(crate) fn begin(&mut self, id: &ContainerId, offer: Offer) {
        if let Some(waiting) = self.waiting.get_mut(id) {
            waiting.tried = Some(offer);
            waiting.is_starting = true;
        }
    }

    /// Its start is over; what came of it the engine has to say.
    pub(crate) fn end(&mut self, id: &ContainerId, now: Duration) {
        if let Some(waiting) = self.waiting.get_mut(id) {
            (waiting.is_starting, waiting.record, waiting.noted) = (false, None, now);
        }
    }

    /// Everything is asked about anew.
    pub(crate) fn again(&mut self) {
        for waiting in self.waiting.values_mut() {
            (waiting.record, waiting.idle) = (None, None);
        }
    }

    /// Whether something was started in vain.
    pub(crate) fn has_tried(&self) -> bool {
        self.waiting.values().any(|one| one.tried.is_some())
    }

    /// Everything may be tried anew.
    pub(crate) fn retry(&mut self) {
        for waiting in self.waiting.values_mut() {
            (waiting.tried, waiting.idle) = (None, None);
        }
    }

    /// Those of which the engine did not say that they are refused still.
    pub(crate) fn unvouched(&self) -> Vec<ContainerId> {
        let unvouched = self.waiting.iter().filter(|(_, one)| one.record.is_none());
        unvouched.map(|(id, _)| id.clone()).collect()
    }

    /// Those of this injector for the file, oldest first, when that changed.
    pub(crate) fn take_changed(&mut self) -> Option<Vec<Saved>> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        let own = self.waiting.iter().filter(|(_, one)| one.is_own);
        // Found ones are found again.
        let noted = own.filter_map(|(id, one)| Some((one.number, id, one.at?)));
        let mut all: Vec<(u64, &ContainerId, Timestamp)> = noted.collect();
        all.sort_unstable_by_key(|(number, _, _)| *number);
        let saved = all.into_iter().map(|(_, id, at)| (id.clone(), at));
        Some(saved.collect())
    }

    /// The file could not be written: it is written again.
    pub(crate) const fn not_saved(&mut self) {
        self.is_changed = true;
    }
}

/// A refused start as the file has it, and when it was.
pub(crate) type Saved = (ContainerId, Timestamp);

/// Writes the file, whole or not at all. Blocks.
pub(crate) fn save(folder: &Path, saved: &[Saved]) -> io::Result<()> {
    let row = |(id, at): &Saved| (id.as_str().to_owned(), at.micros());
    let rows: Vec<(String, i64)> = saved.iter().map(row).collect();
    let temp = folder.join(format!(".{FILE}.tmp"));
    std::fs::write(&temp, serde_json::to_vec(&rows)?)?;
    std::fs::rename(temp, path(folder))
}

/// What an earlier run wrote, oldest first; a file that is not understood counts as empty, since the
/// engine knows its refused starts as well. Blocks.
pub(crate) fn load(folder: &Path) -> Vec<Saved> {
    let mut text = Vec::new();
    let read = std::fs::File::open(path(folder))
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let Ok(rows) = serde_json::from_slice::<Vec<(String, i64)>>(&text) else {
        tracing::warn!("file of refused starts not understood");
        return Vec::new();
    };
    let known = rows.iter().filter_map(|(id, at)| {
        let id = ContainerId::parse(id).ok()?;
        Some((id, Timestamp::from_micros(*at)))
    });
    known.take(MAX_REFUSED).collect()
}

fn path(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

#[cfg(test)]
mod tests {
    use keywheel_core::binding::ContainerFacts;
    use keywheel_core::name::EnvName;
    use keywheel_engine::port::container_host::{Health, StartRefusal};

    use super::*;

    const NOW: Duration = Duration::from_secs(100);
    const AT: Timestamp = Timestamp::from_micros(5_000_000_000);
    const BOOTED: Timestamp = Timestamp::from_micros(1_000_000_000);
    /// Circumstances.
    const THEN: Circumstances = (1, false);

    fn id(number: usize) -> ContainerId {
        ContainerId::parse(&format!("{number:064x}")).unwrap()
    }

    fn record(number: usize, running: bool, refused: bool) -> ContainerRecord {
        ContainerRecord {
            facts: ContainerFacts {
                id: id(number),
                name: "web".to_owned(),
                image_digest: "sha256:1".to_owned(),
                image_name: "app".to_owned(),
                labels: BTreeMap::new(),
                user: None,
            },
            pid: 0,
            running,
            paused: false,
            started_at: String::new(),
            runtime: "keywheel".to_owned(),
            health: Health::None,
            placeholders: Vec::new(),
            refused: refused.then(StartRefusal::default),
            health_command: Vec::new(),
            user: String::new(),
        }
    }

    fn offer(version: u64) -> Offer {
        let name = EnvName::parse("DB").unwrap();
        let place = Place::Env { name };
        vec![(BindingId::from_bytes([1; 16]), version, place)]
    }

    fn due(all: &RefusedStarts) -> Vec<ContainerId> {
        let due = all.due(THEN).into_iter();
        due.map(|one| one.record.facts.id.clone()).collect()
    }

    #[test]
    fn it_is_started_only_after_the_engine_vouched_for_the_refusal() {
        let mut all = RefusedStarts::default();
        all.note(id(1), NOW, AT);
        assert!(due(&all).is_empty());
        let down = record(1, false, false);
        let almost = NOW + SETTLES - Duration::from_nanos(1);
        assert_eq!(all.look(&id(1), Some(&down), almost), Look::Again);
        let refused = record(1, false, true);
        assert_eq!(all.look(&id(1), Some(&refused), almost), Look::Waits);
        assert_eq!(due(&all), [id(1)]);
        assert_eq!(all.look(&id(2), Some(&refused), NOW), Look::Out, "unknown");
    }

    #[test]
    fn who_ran_since_or_is_gone_is_left_alone() {
        let (ran, stopped) = (record(1, true, false), record(1, false, false));
        for since in [Some(&ran), Some(&stopped), None] {
            let mut all = RefusedStarts::default();
            all.found(record(1, false, true), true, NOW);
            assert_eq!(due(&all), [id(1)]);
            assert_eq!(all.look(&id(1), since, NOW + SETTLES), Look::Out);
            assert!(due(&all).is_empty() && !all.has(&id(1)));
        }
        // One that runs is out at once.
        let mut all = RefusedStarts::default();
        all.note(id(1), NOW, AT);
        assert_eq!(all.look(&id(1), Some(&ran), NOW), Look::Out);
    }

    #[test]
    fn a_start_in_vain_is_not_repeated_with_the_same() {
        let mut all = RefusedStarts::default();
        all.found(record(1, false, true), true, NOW);
        assert!(all.may_try(&id(1), &offer(1)));
        all.begin(&id(1), offer(1));
        assert!(due(&all).is_empty(), "under way");
        // The runtime refuses it again, and the engine says so.
        all.note(id(1), NOW, AT);
        all.end(&id(1), NOW);
        assert!(due(&all).is_empty(), "not asked yet");
        all.look(&id(1), Some(&record(1, false, true)), NOW);
        assert_eq!(due(&all), [id(1)]);
        assert!(!all.may_try(&id(1), &offer(1)) && all.may_try(&id(1), &offer(2)));
        assert!(all.unvouched().is_empty() && all.has_tried());
        all.again();
        assert!(due(&all).is_empty(), "asked about anew");
        assert!(!all.may_try(&id(1), &offer(1)), "and not tried anew");
        all.retry();
        assert!(all.may_try(&id(1), &offer(1)) && !all.has_tried());
        assert_eq!(all.unvouched(), [id(1)]);
    }

    #[test]
    fn what_another_injector_answers_for_is_started_only_with_something_of_ours() {
        let mut all = RefusedStarts::default();
        all.found(record(1, false, true), false, NOW);
        assert!(!all.may_try(&id(1), &Offer::new()) && all.may_try(&id(1), &offer(1)));
        assert_eq!(all.take_changed(), None, "not remembered");
        all.found(record(1, false, true), true, NOW);
        assert!(all.may_try(&id(1), &Offer::new()));
        all.found(record(1, false, true), false, NOW);
        assert!(all.may_try(&id(1), &Offer::new()), "once known it stays");
    }

    #[test]
    fn the_oldest_gives_way_at_the_limit() {
        let mut all = RefusedStarts::default();
        for number in 0..MAX_REFUSED {
            all.note(id(number), NOW, AT);
        }
        // Refused again, it is the newest.
        all.note(id(0), NOW, AT);
        assert!((0..MAX_REFUSED).all(|number| all.has(&id(number))));
        all.note(id(MAX_REFUSED), NOW, AT);
        assert!(!all.has(&id(1)) && all.has(&id(0)) && all.has(&id(MAX_REFUSED)));
        // What was only found, and what is another's before that, goes before what was noted.
        let (found, foreign) = (MAX_REFUSED + 1, MAX_REFUSED + 2);
        all.found(record(found, false, true), true, NOW);
        assert!(!all.has(&id(found)) && all.has(&id(2)));
        let mut all = RefusedStarts::default();
        all.found(record(foreign, false, true), false, NOW);
        all.found(record(found, false, true), true, NOW);
        for number in 0..MAX_REFUSED - 1 {
            all.note(id(number), NOW, AT);
        }
        assert!(!all.has(&id(foreign)) && all.has(&id(found)));
        all.note(id(MAX_REFUSED), NOW, AT);
        assert!(!all.has(&id(found)) && all.has(&id(0)));
        assert_eq!(all.take_changed().map(|ids| ids.len()), Some(MAX_REFUSED));
        assert_eq!(all.take_changed(), None);
    }

    #[test]
    fn what_was_saved_is_loaded_in_order_and_nonsense_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load(folder.path()).is_empty());
        let mut all = RefusedStarts::default();
        for number in [7, 3, 5] {
            all.note(id(number), NOW, AT);
        }
        save(folder.path(), &all.take_changed().unwrap()).unwrap();
        let loaded = load(folder.path());
        assert_eq!(loaded, [(id(7), AT), (id(3), AT), (id(5), AT)]);
        let mut again = RefusedStarts::of(loaded, NOW);
        assert_eq!(again.take_changed(), None);
        again.not_saved();
        assert_eq!(again.take_changed().map(|saved| saved.len()), Some(3));
        assert!([3, 5, 7].iter().all(|number| again.has(&id(*number))));
        assert!(crate::state::load_all(folder.path()).unwrap().is_empty());
        for text in ["", "{", "[7]", "[[\"short\",7]]"] {
            std::fs::write(path(folder.path()), text).unwrap();
            assert!(load(folder.path()).is_empty(), "{text}");
        }
        let many: Vec<Saved> = (0..=MAX_REFUSED).map(|number| (id(number), AT)).collect();
        save(folder.path(), &many).unwrap();
        assert_eq!(load(folder.path()).len(), MAX_REFUSED);
    }

    #[test]
    fn only_what_somebody_wants_is_started() {
        let with = |has_policy: bool, after: Option<Timestamp>| {
            let mut one = record(1, false, true);
            one.refused = Some(StartRefusal {
                has_policy,
                after,
                ..StartRefusal::default()
            });
            one
        };
        let wanted = |one: &ContainerRecord, at| is_wanted(one, at, AT, BOOTED);
        assert!(wanted(&with(true, None), None));
        assert!(!wanted(&with(false, None), None) && wanted(&with(false, None), Some(AT)));
        let hour = 3_600_000_000;
        let old = Timestamp::from_micros(AT.micros() - hour);
        let young = Timestamp::from_micros(AT.micros() - hour + 1);
        assert!(!wanted(&with(false, None), Some(old)) && wanted(&with(false, None), Some(young)));
        assert!(wanted(&with(false, Some(young)), None), "found");
        let booted = |at| is_wanted(&with(false, Some(young)), None, AT, at);
        assert!(booted(young) && !booted(AT), "of an earlier boot");
        assert!(!wanted(&record(1, false, false), Some(AT)), "not refused");
        for label in ORCHESTRATED {
            let mut task = with(true, None);
            task.facts.labels.insert(label.to_owned(), "x".to_owned());
            assert!(!wanted(&task, Some(AT)), "{label}");
        }
    }

    #[test]
    fn a_start_of_ours_that_is_refused_is_no_new_wish() {
        let mut all = RefusedStarts::default();
        all.note(id(1), NOW, BOOTED);
        all.look(&id(1), Some(&record(1, false, true)), NOW);
        all.begin(&id(1), offer(1));
        all.note(id(1), NOW, AT);
        all.end(&id(1), NOW);
        assert_eq!(all.take_changed(), Some(vec![(id(1), BOOTED)]));
        all.note(id(1), NOW, AT);
        assert_eq!(all.take_changed(), Some(vec![(id(1), AT)]));
    }

    #[test]
    fn what_was_left_alone_is_looked_at_again_under_other_circumstances() {
        let mut all = RefusedStarts::default();
        all.found(record(1, false, true), true, NOW);
        all.leave(&id(1), THEN);
        assert!(due(&all).is_empty() && all.due((2, false)).len() == 1);
        assert_eq!(all.due((1, true)).len(), 1);
        all.retry();
        assert_eq!(due(&all), [id(1)]);
    }
}
