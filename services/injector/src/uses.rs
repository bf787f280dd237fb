//! First uses of secret files, for the audit, where a person asked for them (`injector.first_use`).
//!
//! Invariants: each version of a file, or of files that change together, in each incarnation of a container is noted
//! once at most, as long as this injector runs; a file is watched once it is in place, so what a program opens in the first moment after may be
//! missed, and nothing waits for a watch. Opens by this injector are told apart by nothing but their time: it reads
//! a file back before it is watched.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keywheel_core::id::{BindingId, ContainerId, SecretId};
use keywheel_core::report::{UsageKind, UsageNote};
use keywheel_core::time::Timestamp;
use keywheel_daemon::{chain, names};
use keywheel_sys::first_use::{FirstUses, Seen};
use keywheel_sys::secretfs::SecretDir;
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;

use crate::model::{Containers, Place, Tracked};
use crate::service::Event;

/// Files that are watched.
pub(crate) struct Uses {
    queue: Arc<AsyncFd<FirstUses>>,
    /// What each watch is about, with the first watch of those that go with it: the files of a set are used as one.
    of: BTreeMap<i32, (i32, UsageNote)>,
    /// Version and incarnation that each file was watched with last.
    watched: BTreeMap<ContainerId, BTreeMap<BindingId, (u64, u64)>>,
    /// Those of which it was said that they are not watched.
    untold: BTreeSet<(ContainerId, BindingId)>,
}

impl Uses {
    /// Begins to listen; without the kernel's means it is said, and nothing is noted.
    #[expect(
        deprecated,
        reason = "the way in its place is `unsafe`, for owners that give another descriptor each time or close it; this one owns one as long as it lives"
    )]
    pub(crate) fn begin(events: mpsc::Sender<Event>) -> Option<Self> {
        let queue = FirstUses::new().map_err(|error| chain(&error));
        let queue = queue.and_then(|queue| AsyncFd::new(queue).map_err(|error| chain(&error)));
        match queue {
            Ok(queue) => {
                let queue = Arc::new(queue);
                tokio::spawn(listen(Arc::clone(&queue), events));
                Some(Self {
                    queue,
                    of: BTreeMap::new(),
                    watched: BTreeMap::new(),
                    untold: BTreeSet::new(),
                })
            }
            Err(error) => {
                tracing::warn!(
                    { names::ERROR } = error,
                    "first uses of files are not noted: this kernel tells of none"
                );
                None
            }
        }
    }

    /// Watches every file that came since the last time.
    pub(crate) fn watch(&mut self, containers: &Containers) {
        self.watched.retain(|id, _| containers.contains_key(id));
        self.untold.retain(|(id, _)| containers.contains_key(id));
        for (id, tracked) in containers {
            for (binding, holding) in tracked.holdings.iter() {
                let (Place::File { directory, name }, Some(version)) =
                    (&holding.place, holding.version)
                else {
                    continue;
                };
                let Some(dir) = tracked.dirs.get(directory) else {
                    continue;
                };
                let given = (*binding, holding.secret, version);
                let is_set = holding.form.as_ref().is_some_and(|form| form.is_set());
                let place = (dir.as_ref(), name.as_str(), is_set);
                self.watch_one((id, tracked, holding.mark()), given, place);
            }
        }
    }

    fn watch_one(
        &mut self,
        (id, tracked, mark): (&ContainerId, &Tracked, u64),
        (binding, secret, version): (BindingId, SecretId, u64),
        (dir, name, is_set): (&SecretDir, &str, bool),
    ) {
        let now = (mark, tracked.ticks);
        let watched = self.watched.entry(id.clone()).or_default();
        if watched.insert(binding, now) == Some(now) {
            return;
        }
        let queue = self.queue.get_ref();
        let watches = if is_set {
            queue.watch_set(dir, name)
        } else {
            queue.watch(dir, name).map(|watch| vec![watch])
        };
        match watches {
            Ok(watches) => {
                let note = UsageNote {
                    kind: UsageKind::FirstUse,
                    container: id.clone(),
                    container_name: tracked.record.facts.name.clone(),
                    image_digest: tracked.record.facts.image_digest.clone(),
                    binding,
                    secret,
                    version,
                    at: Timestamp::default(),
                };
                let first = watches.first().copied().unwrap_or_default();
                let each = watches.into_iter();
                self.of
                    .extend(each.map(|watch| (watch, (first, note.clone()))));
            }
            // Most often the kernel's limit of watches; the file is there all the same.
            Err(error) => {
                watched.remove(&binding);
                if self.untold.insert((id.clone(), binding)) {
                    tracing::warn!(
                        { names::CONTAINER } = id.short(),
                        { names::ERROR } = chain(&error),
                        "first use of a file is not noted for now; it is tried again"
                    );
                }
            }
        }
    }

    /// What was used first.
    pub(crate) fn take(&mut self, seen: &[Seen], at: Timestamp) -> Vec<UsageNote> {
        let mut notes = Vec::new();
        for one in seen {
            match one {
                Seen::Opened(watch) => {
                    let Some((first, note)) = self.of.remove(watch) else {
                        continue;
                    };
                    self.of.retain(|_, (other, _)| *other != first);
                    notes.push(UsageNote { at, ..note });
                }
                Seen::Over(watch) => self.look_again(*watch),
            }
        }
        notes
    }

    /// A file went without having been opened: where another of the same version took its place, that one counts.
    fn look_again(&mut self, watch: i32) {
        let Some((_, note)) = self.of.remove(&watch) else {
            return;
        };
        if let Some(watched) = self.watched.get_mut(&note.container)
            && watched
                .get(&note.binding)
                .is_some_and(|(version, _)| *version == note.version)
        {
            watched.remove(&note.binding);
        }
    }
}

/// Hands on what the kernel tells, until nobody listens.
async fn listen(queue: Arc<AsyncFd<FirstUses>>, events: mpsc::Sender<Event>) {
    loop {
        let seen = {
            let Ok(mut ready) = queue.readable().await else {
                return;
            };
            let seen = queue.get_ref().take();
            ready.clear_ready();
            seen
        };
        match seen {
            Ok(seen) => {
                if events.send(Event::Used(seen)).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::warn!(
                    { names::ERROR } = chain(&error),
                    "first uses of files are noted no more; restart the injector"
                );
                return;
            }
        }
    }
}
