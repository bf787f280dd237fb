//! Starts that were refused and come back: of which containers, and when one is tried again.
//!
//! Owns that list and its file; asks nobody. Invariants: at most [`MAX_REFUSED`], the oldest goes
//! first; a container is started only after the engine said that nothing ran in it since the
//! refusal, and only by the injector that refused it, did not answer for it, or has something for it
//! (an engine may have runtimes of several); what a start was tried with is not tried again until something of it is another, or
//! everything is looked at anew.

use std::collections::BTreeMap;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use keywheel_core::id::{BindingId, ContainerId};
use keywheel_engine::port::container_host::ContainerRecord;

use crate::model::Place;

/// Refused starts that are remembered.
pub(crate) const MAX_REFUSED: usize = 1024;
/// The engine writes a refusal down only after the runtime has ended: until then its answer without
/// one means nothing.
pub(crate) const SETTLES: Duration = Duration::from_secs(10);
/// Name of the file in the state directory; no container is called so.
const FILE: &str = "refused.json";
/// Largest file that is read: an id with quotes and comma each, and room.
const MAX_FILE_BYTES: u64 = 1 << 20;

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
    /// The engine's word that it is refused still; asked for anew after every event.
    record: Option<ContainerRecord>,
    /// With what it was started last, in vain.
    tried: Option<Offer>,
    is_starting: bool,
    /// Whether this injector refused it, or did not answer for it.
    is_own: bool,
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
    pub(crate) fn of(ids: Vec<ContainerId>, now: Duration) -> Self {
        let mut all = Self::default();
        for id in ids {
            all.note(id, now);
        }
        all.is_changed = false;
        all
    }

    /// A start was refused just now.
    pub(crate) fn note(&mut self, id: ContainerId, now: Duration) {
        self.next += 1;
        let number = self.next;
        let waiting = self.waiting.entry(id).or_default();
        (waiting.number, waiting.noted, waiting.record) = (number, now, None);
        waiting.is_own = true;
        self.is_changed = true;
        self.bound();
    }

    /// The engine knows of a refused start; whether it is this injector's to answer for.
    pub(crate) fn found(&mut self, record: ContainerRecord, is_own: bool, now: Duration) {
        let id = record.facts.id.clone();
        let is_known = self.waiting.contains_key(&id);
        if !is_known {
            self.note(id.clone(), now);
        }
        if let Some(waiting) = self.waiting.get_mut(&id) {
            waiting.record = Some(record);
            waiting.is_own = is_own || (is_known && waiting.is_own);
        }
    }

    fn bound(&mut self) {
        if self.waiting.len() <= MAX_REFUSED {
            return;
        }
        let oldest = self.waiting.iter().min_by_key(|(_, one)| one.number);
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

    /// Those that may be started, longest refused first.
    pub(crate) fn due(&self) -> Vec<ContainerRecord> {
        let ready = self.waiting.values().filter(|one| !one.is_starting);
        let mut ready: Vec<(u64, &ContainerRecord)> = ready
            .filter_map(|one| Some((one.number, one.record.as_ref()?)))
            .collect();
        ready.sort_unstable_by_key(|(number, _)| *number);
        ready
            .into_iter()
            .map(|(_, record)| record.clone())
            .collect()
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

    /// Everything is looked at anew.
    pub(crate) fn again(&mut self) {
        for waiting in self.waiting.values_mut() {
            (waiting.tried, waiting.record) = (None, None);
        }
    }

    /// Those of which the engine did not say that they are refused still.
    pub(crate) fn unvouched(&self) -> Vec<ContainerId> {
        let unvouched = self.waiting.iter().filter(|(_, one)| one.record.is_none());
        unvouched.map(|(id, _)| id.clone()).collect()
    }

    /// Those of this injector for the file, oldest first, when that changed.
    pub(crate) fn take_changed(&mut self) -> Option<Vec<ContainerId>> {
        if !std::mem::take(&mut self.is_changed) {
            return None;
        }
        let own = self.waiting.iter().filter(|(_, one)| one.is_own);
        let mut all: Vec<(u64, &ContainerId)> = own.map(|(id, one)| (one.number, id)).collect();
        all.sort_unstable();
        Some(all.into_iter().map(|(_, id)| id.clone()).collect())
    }
}

/// Writes the file, whole or not at all. Blocks.
pub(crate) fn save(folder: &Path, ids: &[ContainerId]) -> io::Result<()> {
    let ids: Vec<&str> = ids.iter().map(ContainerId::as_str).collect();
    let temp = folder.join(format!(".{FILE}.tmp"));
    std::fs::write(&temp, serde_json::to_vec(&ids)?)?;
    std::fs::rename(temp, path(folder))
}

/// What an earlier run wrote, oldest first; a file that is not understood counts as empty, since the
/// engine knows its refused starts as well. Blocks.
pub(crate) fn load(folder: &Path) -> Vec<ContainerId> {
    let mut text = Vec::new();
    let read = std::fs::File::open(path(folder))
        .and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut text));
    if read.is_err() {
        return Vec::new();
    }
    let Ok(ids) = serde_json::from_slice::<Vec<String>>(&text) else {
        tracing::warn!("file of refused starts not understood");
        return Vec::new();
    };
    let known = ids.iter().filter_map(|id| ContainerId::parse(id).ok());
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
        }
    }

    fn offer(version: u64) -> Offer {
        let name = EnvName::parse("DB").unwrap();
        let place = Place::Env { name };
        vec![(BindingId::from_bytes([1; 16]), version, place)]
    }

    fn due(all: &RefusedStarts) -> Vec<ContainerId> {
        all.due().into_iter().map(|one| one.facts.id).collect()
    }

    #[test]
    fn it_is_started_only_after_the_engine_vouched_for_the_refusal() {
        let mut all = RefusedStarts::default();
        all.note(id(1), NOW);
        assert!(all.due().is_empty());
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
            assert!(all.due().is_empty() && !all.has(&id(1)));
        }
        // One that runs is out at once.
        let mut all = RefusedStarts::default();
        all.note(id(1), NOW);
        assert_eq!(all.look(&id(1), Some(&ran), NOW), Look::Out);
    }

    #[test]
    fn a_start_in_vain_is_not_repeated_with_the_same() {
        let mut all = RefusedStarts::default();
        all.found(record(1, false, true), true, NOW);
        assert!(all.may_try(&id(1), &offer(1)));
        all.begin(&id(1), offer(1));
        assert!(all.due().is_empty(), "under way");
        // The runtime refuses it again, and the engine says so.
        all.note(id(1), NOW);
        all.end(&id(1), NOW);
        assert!(all.due().is_empty(), "not asked yet");
        all.look(&id(1), Some(&record(1, false, true)), NOW);
        assert_eq!(due(&all), [id(1)]);
        assert!(!all.may_try(&id(1), &offer(1)) && all.may_try(&id(1), &offer(2)));
        assert!(all.unvouched().is_empty());
        all.again();
        assert!(all.may_try(&id(1), &offer(1)), "looked at anew");
        assert!(all.due().is_empty(), "and asked about anew");
        assert_eq!(all.unvouched(), [id(1)]);
    }

    #[test]
    fn what_another_injector_answers_for_is_started_only_with_something_of_ours() {
        let mut all = RefusedStarts::default();
        all.found(record(1, false, true), false, NOW);
        assert!(!all.may_try(&id(1), &Offer::new()) && all.may_try(&id(1), &offer(1)));
        assert_eq!(all.take_changed(), Some(Vec::new()), "not remembered");
        all.found(record(1, false, true), true, NOW);
        assert!(all.may_try(&id(1), &Offer::new()));
        all.found(record(1, false, true), false, NOW);
        assert!(all.may_try(&id(1), &Offer::new()), "once known it stays");
    }

    #[test]
    fn the_oldest_gives_way_at_the_limit() {
        let mut all = RefusedStarts::default();
        for number in 0..MAX_REFUSED {
            all.note(id(number), NOW);
        }
        // Refused again, it is the newest.
        all.note(id(0), NOW);
        assert!((0..MAX_REFUSED).all(|number| all.has(&id(number))));
        all.note(id(MAX_REFUSED), NOW);
        assert!(!all.has(&id(1)) && all.has(&id(0)) && all.has(&id(MAX_REFUSED)));
        assert_eq!(all.take_changed().map(|ids| ids.len()), Some(MAX_REFUSED));
        assert_eq!(all.take_changed(), None);
    }

    #[test]
    fn what_was_saved_is_loaded_in_order_and_nonsense_is_nothing() {
        let folder = tempfile::tempdir().unwrap();
        assert!(load(folder.path()).is_empty());
        let mut all = RefusedStarts::default();
        for number in [7, 3, 5] {
            all.note(id(number), NOW);
        }
        save(folder.path(), &all.take_changed().unwrap()).unwrap();
        let loaded = load(folder.path());
        assert_eq!(loaded, [id(7), id(3), id(5)]);
        let mut again = RefusedStarts::of(loaded, NOW);
        assert_eq!(again.take_changed(), None);
        assert!([3, 5, 7].iter().all(|number| again.has(&id(*number))));
        assert!(crate::state::load_all(folder.path()).unwrap().is_empty());
        for text in ["", "{", "[7]", "[\"short\"]"] {
            std::fs::write(path(folder.path()), text).unwrap();
            assert!(load(folder.path()).is_empty(), "{text}");
        }
        let many: Vec<ContainerId> = (0..=MAX_REFUSED).map(id).collect();
        save(folder.path(), &many).unwrap();
        assert_eq!(load(folder.path()).len(), MAX_REFUSED);
    }
}
