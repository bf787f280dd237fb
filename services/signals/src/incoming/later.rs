//! Reported tokens that were not compared because store-sync did not answer: they are, once it is heard again.
//!
//! Invariants: what waits is in the memory of this process alone, and no token is among it, but its digest and the key
//! that was made for its comparison; at most [`MAX_LATER_TOKENS`] wait, of which the oldest go first; only a word of
//! store-sync's leads to a try, each in vain to ever longer pauses, and the last of [`MAX_LATER_TRIES`] ends it. What
//! came of one is an event that names the one by which the signal was taken, and whose command's id follows from the
//! signal, so it is in the log once. Whoever starts anew knows of none: a letter calls a person all the same, and a
//! repeat of the signal is compared, too.

use std::collections::VecDeque;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use keywheel_core::audit::{Principal, Role};
use keywheel_core::event::Event;
use keywheel_core::id::{EventId, LetterId, SignalSourceId};
use keywheel_core::signal::{self, Signal};
use keywheel_engine::port::bus::{Body, Topic};
use keywheel_engine::port::journal::{RecordedEvent, Verdict};
use keywheel_engine::port::{ErrorKind, PortError};
use tokio_util::sync::CancellationToken;

use super::compare::{Asked, COMPARE_TIMEOUT, matches};
use crate::desk::{Desk, Inner, command_id, letter_of_signal};

/// Most tokens that wait to be compared.
pub const MAX_LATER_TOKENS: usize = 512;
/// How often a comparison is tried at words of store-sync's; after each in vain it waits for twice as many words.
pub const MAX_LATER_TRIES: u32 = 8;
/// Pause before store-sync is listened for again.
const RETRY: Duration = Duration::from_secs(1);

/// Signals of one request whose tokens were not compared.
pub(crate) struct Waiting {
    source: SignalSourceId,
    /// As they were taken; each has the token of its place.
    signals: Vec<Signal>,
    asked: Asked,
    /// What calls a person until they are compared.
    letter: LetterId,
    failed: u32,
    /// Words of store-sync's that pass before the next try.
    passes: u32,
}

/// What waits, oldest first.
#[derive(Default)]
pub(crate) struct Queue(VecDeque<Waiting>);

impl Queue {
    fn tokens(&self) -> usize {
        self.0.iter().map(|one| one.signals.len()).sum()
    }

    fn has(&self, source: SignalSourceId, signal: &Signal) -> bool {
        let id = command_id(source, signal);
        let own = self.0.iter().filter(|one| one.source == source);
        let mut known = own.flat_map(|one| &one.signals);
        known.any(|one| command_id(source, one) == id)
    }

    /// Takes one more; how many go for it.
    fn push(&mut self, waiting: Waiting) -> usize {
        self.0.push_back(waiting);
        let mut gone = 0;
        while self.tokens() > MAX_LATER_TOKENS && self.0.len() > 1 {
            gone += usize::from(self.0.pop_front().is_some());
        }
        gone
    }

    /// Takes out those that are due with a word of store-sync's.
    fn due(&mut self) -> VecDeque<Waiting> {
        for one in &mut self.0 {
            one.passes = one.passes.saturating_sub(1);
        }
        let all = std::mem::take(&mut self.0).into_iter();
        let (due, left) = all.partition(|one| one.passes == 0);
        self.0 = left;
        due
    }

    /// Puts one back that was tried in vain; `false` when it is over with it.
    fn try_again(&mut self, mut waiting: Waiting) -> bool {
        waiting.failed += 1;
        if waiting.failed >= MAX_LATER_TRIES {
            return false;
        }
        waiting.passes = 1 << waiting.failed;
        self.0.push_back(waiting);
        true
    }
}

/// How the log has a signal that comes.
pub(crate) enum Standing {
    /// It was not taken yet.
    New,
    /// It was taken with this event, and its token was compared with nothing.
    NotCompared(u64),
    /// There is nothing more to be known of it.
    Known,
}

impl Inner {
    fn later(&self) -> MutexGuard<'_, Queue> {
        self.later.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the log has a signal.
    pub(crate) async fn standing(
        &self,
        source: SignalSourceId,
        signal: &Signal,
    ) -> Result<Standing, PortError> {
        let journal = &self.parts.journal;
        let number = match journal.verdict(command_id(source, signal)).await? {
            None => return Ok(Standing::New),
            Some(Verdict::Rejected { .. }) => return Ok(Standing::Known),
            Some(Verdict::Accepted { number }) => number,
        };
        let late = late(signal, number);
        if journal.verdict(command_id(source, &late)).await?.is_some() {
            return Ok(Standing::Known);
        }
        let read = journal.read(number.saturating_sub(1), 1).await?;
        let is_open = |recorded: &RecordedEvent| {
            recorded.number == number && is_not_compared(&recorded.event)
        };
        Ok(match read.iter().any(is_open) {
            true => Standing::NotCompared(number),
            false => Standing::Known,
        })
    }

    /// Keeps what was not compared until store-sync is heard.
    pub(crate) fn compare_later(&self, source: SignalSourceId, signals: Vec<Signal>, asked: Asked) {
        let Some(first) = signals.first() else {
            return;
        };
        let letter = letter_of_signal(source, first);
        let mut later = self.later();
        // A repeat is no second one.
        if signals.iter().all(|signal| later.has(source, signal)) {
            return;
        }
        let gone = later.push(Waiting {
            source,
            signals,
            asked,
            letter,
            failed: 0,
            passes: 0,
        });
        drop(later);
        if gone > 0 {
            tracing::warn!(
                gone,
                "too many reported tokens wait to be compared; the oldest are compared no more"
            );
        }
    }

    /// Tries what is due, now that store-sync was heard. What one asks in vain the others do not ask now.
    async fn compare_due(&self) {
        let mut due = self.later().due();
        while let Some(waiting) = due.pop_front() {
            if let Err(error) = self.compare_one(&waiting).await {
                tracing::debug!(%error, "reported tokens are not compared yet");
                return self.put_back(waiting, due);
            }
        }
    }

    fn put_back(&self, failed: Waiting, others: VecDeque<Waiting>) {
        let mut later = self.later();
        later.0.extend(others);
        let is_kept = later.try_again(failed);
        drop(later);
        if !is_kept {
            tracing::warn!(
                "a reported token is compared no more, since store-sync is there and does not compare it; its letter stays"
            );
        }
    }

    /// Compares, and tells what came of it.
    async fn compare_one(&self, waiting: &Waiting) -> Result<(), PortError> {
        let mut found = Vec::new();
        let asking = tokio::time::timeout(COMPARE_TIMEOUT, self.ask(&waiting.asked, &mut found));
        let is_whole = asking.await.map_err(|_| {
            let text = "store-sync did not compare in time";
            PortError::new(ErrorKind::Unavailable, text)
        })??;
        let mut is_all = true;
        for (n, signal) in waiting.signals.iter().enumerate() {
            let own = matches(&found, n);
            if !is_whole && own.is_empty() {
                is_all = false;
                continue;
            }
            let number = match self.standing(waiting.source, signal).await? {
                Standing::NotCompared(number) => number,
                Standing::Known => continue,
                Standing::New => {
                    let text = "the signal is not in the log yet";
                    return Err(PortError::new(ErrorKind::Unavailable, text));
                }
            };
            let told = Signal {
                compared: Some(is_whole),
                matched: Some(own),
                ..late(signal, number)
            };
            let gateway = Principal::Service(Role::Gateway);
            self.take(&gateway, waiting.source, told).await?;
        }
        if is_all {
            self.end_letter(waiting.letter).await;
        }
        Ok(())
    }

    /// A person is called no more; one who still is finds that nothing is left to do.
    pub(crate) async fn end_letter(&self, letter: LetterId) {
        if let Err(error) = self.parts.deliveries.discard(letter).await {
            tracing::warn!(%error, "the letter of a signal that is compared by now stays");
        }
    }
}

/// A signal as it is told of once more.
fn late(signal: &Signal, number: u64) -> Signal {
    Signal {
        first: Some(number),
        ..signal.clone()
    }
}

/// Whether it is a signal whose token was compared with nothing.
fn is_not_compared(event: &Event) -> bool {
    let Event::Signal(
        _,
        signal::Event::Received {
            compared, matched, ..
        },
    ) = event
    else {
        return false;
    };
    *compared == Some(false) && matched.is_none()
}

/// Compares what waits, whenever store-sync is heard.
pub struct Later {
    inner: Arc<Inner>,
}

impl Later {
    /// One over a desk's ports.
    #[must_use]
    pub fn new(desk: &Desk) -> Self {
        Self {
            inner: desk.inner(),
        }
    }

    /// Runs until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        // Each process hears everything, so each run has a name of its own.
        let consumer = format!(
            "signals-{}",
            EventId::from_bytes(self.inner.parts.ids.draw())
        );
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                heard = self.listen(&consumer) => {
                    if let Err(error) = heard {
                        tracing::warn!(%error, "what waits to be compared does not hear store-sync; trying again");
                    }
                }
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn listen(&self, consumer: &str) -> Result<(), PortError> {
        let bus = &self.inner.parts.bus;
        let mut heard = bus.subscribe(Topic::Presence, consumer).await?;
        while let Some(incoming) = heard.next().await {
            heard.ack(incoming.sequence).await?;
            let is_there = match &incoming.message.body {
                Body::Presence(said) => said.role == Role::StoreSync && !said.leaving,
                _ => false,
            };
            if is_there {
                self.inner.compare_due().await;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use keywheel_core::name::SignalSourceName;

    use super::*;

    const SOURCE: SignalSourceId = SignalSourceId::from_bytes([4; 16]);

    fn signal(id: usize) -> Signal {
        Signal {
            via: SignalSourceName::parse("pager").unwrap(),
            source: "s".to_owned(),
            id: id.to_string(),
            kind: "leak".to_owned(),
            subject: String::new(),
            fields: BTreeMap::new(),
            compared: Some(false),
            matched: None,
            first: None,
        }
    }

    fn waiting(ids: std::ops::Range<usize>) -> Waiting {
        Waiting {
            source: SOURCE,
            asked: Asked::default(),
            letter: LetterId::from_bytes([1; 16]),
            signals: ids.map(signal).collect(),
            failed: 0,
            passes: 0,
        }
    }

    #[test]
    fn so_many_tokens_wait_and_the_oldest_go_first() {
        let mut queue = Queue::default();
        assert_eq!(queue.push(waiting(0..100)), 0);
        assert_eq!(queue.push(waiting(100..MAX_LATER_TOKENS)), 0);
        assert_eq!(queue.tokens(), MAX_LATER_TOKENS);
        assert!(queue.has(SOURCE, &signal(7)));
        assert_eq!(queue.push(waiting(900..901)), 1);
        assert!(!queue.has(SOURCE, &signal(7)) && queue.has(SOURCE, &signal(900)));
        assert!(!queue.has(SignalSourceId::from_bytes([5; 16]), &signal(900)));
    }

    #[test]
    fn each_try_in_vain_waits_for_twice_as_many_words_and_the_last_ends_it() {
        let mut queue = Queue::default();
        queue.push(waiting(0..1));
        let mut words = Vec::new();
        loop {
            let mut heard = 1;
            let one = loop {
                if let Some(one) = queue.due().pop_front() {
                    break one;
                }
                heard += 1;
            };
            words.push(heard);
            if !queue.try_again(one) {
                break;
            }
        }
        assert_eq!(words, [1, 2, 4, 8, 16, 32, 64, 128]);
        assert_eq!(words.len(), usize::try_from(MAX_LATER_TRIES).unwrap());
        assert!(queue.due().is_empty(), "nothing waits any more");
    }
}
