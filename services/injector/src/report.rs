//! Getting reports to the gateway: in order, one at a time, repeated until answered.
//!
//! Invariants: facts are spooled as they come; while one report is on its way later ones wait in a bounded
//! queue and then merge. How one is sent is `sender`'s.

mod sender;

use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use keywheel_core::id::{CommandId, ContainerId};
use keywheel_core::report::{
    DeniedStart, Executed, HostReport, MAX_REPORT_ITEMS, MAX_STALE_PLANS, StalePlan, UsageNote,
};
use keywheel_daemon::{chain, failpoint, names};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use self::sender::{deliver, is_own};
use crate::service::Event;
use crate::shared::Shared;
use crate::spool::{Spool, Spooled};

/// First wait before a repeat.
const RETRY_FIRST: Duration = Duration::from_millis(50);
/// Longest wait before a repeat.
const RETRY_MOST: Duration = Duration::from_secs(5);
/// Reports on the disk that wait for their turn; beyond it they merge in memory.
const MAX_QUEUED: usize = 64;
/// Facts kept while the gateway is away; beyond it the oldest go, and the log says so.
pub(crate) const MAX_WAITING_ITEMS: usize = 100_000;

/// Who waits until the disk has a report's refused starts.
pub(crate) type Kept = Vec<oneshot::Sender<()>>;

/// A report, and who waits for it to be on the disk.
type Waiting = (HostReport, Kept);

/// What waits to be sent.
#[derive(Default)]
pub(crate) struct Outbox {
    next: Mutex<Option<Waiting>>,
    wake: Notify,
    /// Reports taken whose facts are not on the disk yet.
    unwritten: AtomicUsize,
}

impl Outbox {
    /// Adds a report to what waits.
    pub(crate) fn push(&self, report: HostReport, kept: Kept) {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        *next = Some(match next.take() {
            Some((waiting, mut all)) => {
                all.extend(kept);
                (merge(waiting, report), all)
            }
            None => (report, kept),
        });
        drop(next);
        self.wake.notify_one();
    }

    /// Whether the disk has every fact that was pushed.
    pub(crate) fn is_written(&self) -> bool {
        let next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        self.unwritten.load(Ordering::SeqCst) == 0
            && !next.as_ref().is_some_and(|(report, _)| has_facts(report))
    }

    /// A report that was taken is on the disk, or has nothing to keep.
    fn wrote(&self, kept: Kept) {
        self.unwritten.fetch_sub(1, Ordering::SeqCst);
        for kept in kept {
            // Who waited may have given up.
            let _ = kept.send(());
        }
    }

    /// The next report of a size the gateway takes; [`Self::wrote`] follows.
    fn take(&self) -> Option<Waiting> {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut report, kept) = next.take()?;
        if report.items.len() > MAX_REPORT_ITEMS {
            let rest = report.items.split_off(MAX_REPORT_ITEMS);
            let mut later = HostReport {
                items: rest,
                ..report.clone()
            };
            // Only the last part may say that everything is told; what else is new goes with the first.
            report.complete = false;
            later.denied.clear();
            later.stale.clear();
            later.executed.clear();
            later.notes.clear();
            *next = Some((later, Kept::new()));
        }
        self.unwritten.fetch_add(1, Ordering::SeqCst);
        Some((report, kept))
    }
}

fn merge(waiting: HostReport, newer: HostReport) -> HostReport {
    let mut items = waiting.items;
    items.extend(newer.items);
    if items.len() > MAX_WAITING_ITEMS {
        let over = items.len() - MAX_WAITING_ITEMS;
        tracing::error!(
            { names::COUNT } = over,
            "facts dropped: the gateway is away for too long"
        );
        items.drain(..over);
    }
    let mut denied = waiting.denied;
    denied.extend(newer.denied);
    bound_denied(&mut denied);
    let mut stale = waiting.stale;
    stale.extend(newer.stale);
    bound_stale(&mut stale);
    let mut executed = waiting.executed;
    executed.extend(newer.executed);
    bound_executed(&mut executed);
    let mut notes = waiting.notes;
    notes.extend(newer.notes);
    bound_notes(&mut notes);
    HostReport {
        items,
        denied,
        stale,
        executed,
        notes,
        ..newer
    }
}

/// Keeps the newest refused starts, as many as a report takes.
pub(crate) fn bound_denied(denied: &mut Vec<DeniedStart>) {
    let over = denied.len().saturating_sub(MAX_REPORT_ITEMS);
    if over > 0 {
        tracing::error!(
            { names::COUNT } = over,
            "refused starts dropped: the gateway is away for too long"
        );
        denied.drain(..over);
    }
}

/// Keeps the newest notes of use, as many as a report takes.
pub(crate) fn bound_notes(notes: &mut Vec<UsageNote>) {
    let over = notes.len().saturating_sub(MAX_REPORT_ITEMS);
    if over > 0 {
        tracing::error!(
            { names::COUNT } = over,
            "notes of use dropped: the gateway is away for too long"
        );
        notes.drain(..over);
    }
}

/// Keeps as many notes of execs as a report takes: those of one container become one first, with every
/// count; then the newest stay.
fn bound_executed(executed: &mut Vec<Executed>) {
    if executed.len() <= MAX_REPORT_ITEMS {
        return;
    }
    let mut places: BTreeMap<ContainerId, usize> = BTreeMap::new();
    let mut merged: Vec<Executed> = Vec::new();
    for note in executed.drain(..) {
        let place = places.get(&note.container);
        match place.and_then(|place| merged.get_mut(*place)) {
            Some(first) => first.count = first.count.saturating_add(note.count),
            None => {
                places.insert(note.container.clone(), merged.len());
                merged.push(note);
            }
        }
    }
    *executed = merged;
    let over = executed.len().saturating_sub(MAX_REPORT_ITEMS);
    if over > 0 {
        tracing::error!(
            { names::COUNT } = over,
            "notes of execs dropped: the gateway is away for too long"
        );
        executed.drain(..over);
    }
}

/// Keeps as many notes as a report takes, and every count.
fn bound_stale(stale: &mut Vec<StalePlan>) {
    let over = stale.len().saturating_sub(MAX_STALE_PLANS);
    if over == 0 {
        return;
    }
    let count: u64 = stale.drain(1..=over).map(|note| note.count).sum();
    if let Some(first) = stale.first_mut() {
        first.count = first.count.saturating_add(count);
    }
}

/// A report on its way, and whether it is on the disk.
type Queued = (Spooled, bool);

/// Spools and sends what comes, after the files that wait (their numbers, oldest first), until told to stop; then what is left goes to the
/// disk. Each time the disk has everything, `written` is told.
pub(crate) async fn run(
    shared: Arc<Shared>,
    spool: Spool,
    waiting: Vec<u64>,
    outbox: Arc<Outbox>,
    written: mpsc::Sender<Event>,
    stop: CancellationToken,
) {
    let next = waiting.last().map_or(0, |last| *last) + 1;
    let (queue, queued) = mpsc::channel(MAX_QUEUED);
    let replay = async {
        for number in waiting {
            let of = spool.clone();
            let read = tokio::task::spawn_blocking(move || of.read(number)).await;
            let Ok(Some(spooled)) = read else { continue };
            if is_own(&shared, &spooled) {
                deliver(&shared, &spool, (spooled, true), None).await;
            } else {
                let of = spool.clone();
                // A run that ends before it looks at it again.
                let _ = tokio::task::spawn_blocking(move || of.pass_over(number)).await;
            }
        }
        send_queued(&shared, &spool, queued).await;
    };
    let spooling = async {
        let number = spool_all(&shared, &spool, &outbox, queue, (written, next), &stop).await;
        drain(&shared, &spool, &outbox, number).await;
    };
    tokio::select! {
        () = spooling => {}
        () = async { replay.await; std::future::pending().await } => {}
    }
}

/// What is left at the end, on the disk for the next run.
async fn drain(shared: &Shared, spool: &Spool, outbox: &Outbox, mut number: u64) {
    while let Some((report, mut kept)) = outbox.take() {
        if has_facts(&report) {
            let spooled = spooled(shared, number, report);
            number += 1;
            if !store(spool, &spooled, true).await {
                kept.clear();
            }
        }
        outbox.wrote(kept);
    }
}

fn spooled(shared: &Shared, number: u64, report: HostReport) -> Spooled {
    Spooled {
        number,
        command: CommandId::from_bytes(shared.ids.draw()),
        report,
    }
}

/// Facts go to the disk as they come, however long the gateway is away. Ends with the next number.
async fn spool_all(
    shared: &Shared,
    spool: &Spool,
    outbox: &Outbox,
    queue: mpsc::Sender<Queued>,
    (written, mut number): (mpsc::Sender<Event>, u64),
    stop: &CancellationToken,
) -> u64 {
    loop {
        // Merges while the queue is full.
        let place = tokio::select! {
            () = stop.cancelled() => return number,
            place = queue.reserve() => place,
        };
        let Ok(place) = place else { return number };
        let (report, mut kept) = loop {
            match outbox.take() {
                Some(waiting) => break waiting,
                None => tokio::select! {
                    () = stop.cancelled() => return number,
                    () = outbox.wake.notified() => {}
                },
            }
        };
        let spooled = spooled(shared, number, report);
        number += 1;
        let has_facts = has_facts(&spooled.report);
        if has_facts && !store(spool, &spooled, stop.is_cancelled()).await {
            kept.clear();
        }
        outbox.wrote(kept);
        if outbox.is_written() {
            // A full queue of events makes a pass of its own.
            let _ = written.try_send(Event::Written);
        }
        place.send((spooled, has_facts));
    }
}

/// Whether something in it may not be lost.
fn has_facts(report: &HostReport) -> bool {
    let has_notes =
        !report.stale.is_empty() || !report.executed.is_empty() || !report.notes.is_empty();
    !report.items.is_empty() || !report.denied.is_empty() || has_notes
}

async fn send_queued(shared: &Shared, spool: &Spool, mut queued: mpsc::Receiver<Queued>) {
    let mut next = None;
    loop {
        let one = match next.take() {
            Some(one) => one,
            None => match queued.recv().await {
                Some(one) => one,
                None => return,
            },
        };
        next = deliver(shared, spool, one, Some(&mut queued)).await;
    }
}

/// Writes until it is on the disk, the last ones once: facts are not sent before. `false` when it
/// is not there.
async fn store(spool: &Spool, spooled: &Spooled, is_last: bool) -> bool {
    let mut wait = RETRY_FIRST;
    loop {
        if let Err(error) = failpoint::hit_async("injector.before_spool").await {
            tracing::error!({ names::ERROR } = chain(&error), "report not spooled");
        }
        match write(spool, spooled).await {
            Some(Ok(())) => return true,
            Some(Err(error)) => {
                tracing::error!({ names::ERROR } = chain(&error), "report not spooled")
            }
            None => return false,
        }
        if is_last {
            return false;
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MOST);
    }
}

/// Writes once; `None` when the program ends meanwhile.
async fn write(spool: &Spool, spooled: &Spooled) -> Option<io::Result<()>> {
    let (spool, one) = (spool.clone(), spooled.clone());
    let written = tokio::task::spawn_blocking(move || spool.write(&one)).await;
    written.ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spool::tests::report;
    use keywheel_core::report::Fact;
    use keywheel_core::time::Timestamp;

    #[test]
    fn waiting_reports_become_one_with_all_facts_in_order_and_the_newest_state() {
        let outbox = Outbox::default();
        outbox.push(report(1, vec![Fact::Withdrawn]), Kept::new());
        outbox.push(report(2, vec![Fact::Vanished]), Kept::new());
        let (taken, _) = outbox.take().unwrap();
        assert_eq!(taken.generation, 2);
        let facts: Vec<Fact> = taken.items.into_iter().map(|item| item.fact).collect();
        assert_eq!(facts, [Fact::Withdrawn, Fact::Vanished]);
        assert!(outbox.take().is_none());
    }

    #[test]
    fn a_report_over_the_limit_goes_in_parts_and_only_the_last_is_complete() {
        let outbox = Outbox::default();
        outbox.push(
            report(1, vec![Fact::Vanished; MAX_REPORT_ITEMS + 1]),
            Kept::new(),
        );
        let (first, _) = outbox.take().unwrap();
        assert_eq!(
            (first.items.len(), first.complete),
            (MAX_REPORT_ITEMS, false)
        );
        let (last, _) = outbox.take().unwrap();
        assert_eq!((last.items.len(), last.complete), (1, true));
    }

    #[test]
    fn refused_starts_add_up_are_bounded_and_are_facts() {
        let mut merged = merge(report(1, Vec::new()), report(2, Vec::new()));
        assert_eq!(merged.denied.len(), 2);
        merged.denied = vec![merged.denied[0].clone(); MAX_REPORT_ITEMS];
        let merged = merge(merged, report(3, Vec::new()));
        assert_eq!(merged.denied.len(), MAX_REPORT_ITEMS);
        assert!(has_facts(&merged));
    }

    #[test]
    fn notes_of_stale_plans_are_facts_and_bounded_and_every_count_stays() {
        let note = |generation| StalePlan {
            generation,
            held: 1000,
            at: Timestamp::default(),
            count: 2,
        };
        let mut told = report(1, Vec::new());
        told.denied.clear();
        told.stale.clear();
        told.executed.clear();
        told.notes.clear();
        assert!(!has_facts(&told));
        told.stale = (0..100).map(note).collect();
        assert!(has_facts(&told));
        assert_eq!(told.stale.len(), MAX_STALE_PLANS);
        bound_stale(&mut told.stale);
        assert_eq!(told.stale.len(), MAX_STALE_PLANS, "at the limit");
        let mut newer = report(2, Vec::new());
        newer.stale = vec![note(100), note(101)];
        let merged = merge(told, newer).stale;
        assert_eq!((merged.len(), merged[0].generation), (MAX_STALE_PLANS, 0));
        assert_eq!((merged[0].count, merged[1].generation), (6, 3));
        assert_eq!(merged.last(), Some(&note(101)));
        let mut none = Vec::new();
        bound_stale(&mut none);
        assert!(none.is_empty());
    }

    #[test]
    fn notes_of_execs_are_facts_and_bounded() {
        let mut told = report(1, Vec::new());
        told.denied.clear();
        told.stale.clear();
        told.notes.clear();
        assert!(has_facts(&told));
        let of = |number: usize, count: u64| Executed {
            container: ContainerId::parse(&format!("{number:064x}")).unwrap(),
            count,
            ..report(1, Vec::new()).executed[0].clone()
        };
        told.executed = (0..MAX_REPORT_ITEMS).map(|number| of(number, 2)).collect();
        let mut newer = report(2, Vec::new());
        // One more of a container that has a note, and one of another.
        newer.executed = vec![of(5, 3), of(MAX_REPORT_ITEMS, 7)];
        let merged = merge(told, newer).executed;
        assert_eq!(merged.len(), MAX_REPORT_ITEMS);
        assert_eq!(merged.last().map(|note| note.count), Some(7));
        // The oldest went; the fifth is one place further ahead.
        assert_eq!((merged[0].count, merged[4].count), (2, 5));
    }

    #[test]
    fn notes_of_use_are_facts_and_the_newest_stay() {
        let mut told = report(1, Vec::new());
        told.denied.clear();
        told.stale.clear();
        told.executed.clear();
        assert!(has_facts(&told));
        let of = |version: u64| UsageNote {
            version,
            ..report(1, Vec::new()).notes[0].clone()
        };
        told.notes = (0..10_000).map(of).collect();
        assert_eq!(told.notes.len(), MAX_REPORT_ITEMS);
        let mut newer = report(2, Vec::new());
        newer.notes = vec![of(10_000)];
        let merged = merge(told, newer).notes;
        assert_eq!(merged.len(), MAX_REPORT_ITEMS);
        assert_eq!((merged[0].version, merged[9_999].version), (1, 10_000));
    }

    #[test]
    fn what_is_pushed_counts_as_written_only_once_the_disk_has_it() {
        let outbox = Outbox::default();
        assert!(outbox.is_written());
        let (kept, mut is_kept) = oneshot::channel();
        outbox.push(report(1, vec![Fact::Withdrawn]), vec![kept]);
        outbox.push(report(2, Vec::new()), Kept::new());
        assert!(!outbox.is_written());
        let (_, kept) = outbox.take().unwrap();
        assert!(!outbox.is_written());
        assert!(is_kept.try_recv().is_err());
        outbox.wrote(kept);
        assert!(outbox.is_written());
        assert_eq!(is_kept.try_recv(), Ok(()));
    }

    #[test]
    fn facts_are_bounded() {
        let merged = merge(
            report(1, vec![Fact::Withdrawn; MAX_WAITING_ITEMS]),
            report(2, vec![Fact::Vanished]),
        );
        assert_eq!(merged.items.len(), MAX_WAITING_ITEMS);
        assert_eq!(
            merged.items.last().map(|item| &item.fact),
            Some(&Fact::Vanished)
        );
    }
}
