//! The loop: events in, commands out, and sleep until the next timer.
//!
//! Nothing is polled: it wakes for an event, a timer, an answer, or after [`Options::max_sleep`],
//! because a machine that was suspended or whose clock was set must not oversleep. A hole in the
//! events is filled by reading the gateway's log; the log is also read from its start once, and once more for
//! names when a first secret has a rule on events.

mod backwards;
mod submit;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::time::Timestamp;
use keywheel_daemon::{Shutdown, chain, names};
use keywheel_engine::late::Late;
use keywheel_engine::port::bus::{Address, Body, Bus, Incoming, Source, Subscription, Topic};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_engine::port::journal::RecordedEvent;
use keywheel_engine::port::{ErrorKind, PortError};
use tokio::task::JoinSet;

use crate::presence::Handle;
use crate::schedule::tzdata;
use crate::timer::{Key, Timers, retry_delay};
use backwards::Backwards;
use submit::{Answer, Submitted, submit};

/// Name under which events are consumed.
const CONSUMER: &str = "scheduler";
/// Events asked for at once.
const BACKFILL_BATCH: usize = 1000;
/// Commands under way at once.
pub(crate) const MAX_SUBMITS: usize = 32;

/// How often it is looked whether the rules for time zones are others: less than the longest sleep, so that each
/// waking after one looks.
const ZONES_LOOK: Duration = Duration::from_secs(30);

/// How the scheduler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// How long the gateway may take for an answer.
    pub request_timeout: Duration,
    /// Longest sleep, whatever the next timer.
    pub max_sleep: Duration,
}

impl Default for Options {
    /// Ten seconds for an answer; a minute of sleep.
    fn default() -> Self {
        Self {
            request_timeout: Duration::from_secs(10),
            max_sleep: Duration::from_secs(60),
        }
    }
}

/// Why the scheduler ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Events cannot be had.
    #[error("the scheduler cannot subscribe to events")]
    Subscribe(#[source] PortError),
    /// The bus went away before anyone asked to stop.
    #[error("the bus closed while the scheduler was running")]
    BusClosed,
}

/// The scheduler.
pub struct Scheduler {
    bus: Arc<dyn Bus>,
    clock: Arc<dyn Clock>,
    ids: Arc<dyn Ids>,
    options: Options,
    timers: Timers,
    seen: u64,
    late: Late,
    /// The furthest place in the topic that was handed on.
    place: u64,
    submits: JoinSet<Submitted>,
    backwards: Backwards,
    zones: Zones,
    /// Conditions on events that are not asked, as last told.
    surplus: usize,
    /// Timers whose command was not answered, and how often in a row.
    silences: BTreeMap<Key, u32>,
    handle: Handle,
}

/// Which rules for time zones slots are computed by, and when that was looked at.
struct Zones {
    read: fn() -> String,
    known: String,
    looked_at: Option<Duration>,
}

impl Default for Zones {
    fn default() -> Self {
        Self {
            read: tzdata::tzdata,
            known: String::new(),
            looked_at: None,
        }
    }
}

impl Zones {
    /// Looks again when it is time; whether others are there than those that slots were computed by.
    fn look(&mut self, steady: Duration) -> bool {
        let is_fresh = |at: Duration| steady.saturating_sub(at) < ZONES_LOOK;
        if self.looked_at.is_some_and(is_fresh) {
            return false;
        }
        self.looked_at = Some(steady);
        let now = (self.read)();
        let before = std::mem::replace(&mut self.known, now);
        !before.is_empty() && before != self.known
    }
}

/// Why the loop woke.
enum Wake {
    Stop,
    Event(Option<Incoming>),
    Answer(Submitted),
    Time,
}

impl Scheduler {
    /// A scheduler that has read nothing yet.
    #[must_use]
    pub fn new(
        bus: Arc<dyn Bus>,
        clock: Arc<dyn Clock>,
        ids: Arc<dyn Ids>,
        options: Options,
    ) -> Self {
        Self {
            bus,
            clock,
            ids,
            options,
            timers: Timers::new(),
            seen: 0,
            late: Late::default(),
            place: 0,
            submits: JoinSet::new(),
            backwards: Backwards::default(),
            zones: Zones::default(),
            surplus: 0,
            silences: BTreeMap::new(),
            handle: Handle::default(),
        }
    }

    /// A look at it while it runs.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle.clone()
    }

    fn note(&mut self) {
        self.late.took(self.seen, self.clock.monotonic());
        let (timers, unanswered) = (self.timers.len(), self.silences.len());
        let surplus = self.timers.surplus_conditions();
        if surplus > self.surplus {
            // Whoever looks at this scheduler is told what to do.
            tracing::error!(
                { names::COUNT } = surplus,
                "conditions on events are too many and not asked"
            );
        }
        self.surplus = surplus;
        self.handle.set(self.seen, timers, unanswered);
        self.handle.set_surplus(surplus);
        let told = self.backwards.told(self.clock.monotonic());
        self.handle.set_clock(self.backwards.times(), told);
    }

    /// Runs until asked to stop.
    ///
    /// # Errors
    /// When events cannot be subscribed to, or the bus closes early.
    pub async fn run(mut self, shutdown: Shutdown) -> Result<(), Error> {
        let subscription = self.bus.subscribe(Topic::Events, CONSUMER).await;
        let mut events = subscription.map_err(Error::Subscribe)?;
        if !self.catch_up(&shutdown).await {
            return Ok(());
        }
        tracing::info!(
            { names::NUMBER } = self.seen,
            { names::COUNT } = self.timers.len(),
            "scheduler ready"
        );
        loop {
            self.look_at_zones();
            self.fire();
            self.note();
            match self.wait(&mut events, &shutdown).await {
                Wake::Stop => return Ok(()),
                Wake::Event(None) if shutdown.is_requested() => return Ok(()),
                Wake::Event(None) => return Err(Error::BusClosed),
                Wake::Event(Some(incoming)) => {
                    let sequence = incoming.sequence;
                    if !self.take(incoming, &shutdown).await {
                        return Ok(());
                    }
                    if let Err(error) = events.ack(sequence).await {
                        tracing::warn!({ names::ERROR } = %chain(&error), "event not acknowledged");
                    }
                }
                Wake::Answer(submitted) => self.answered(&submitted),
                Wake::Time => {}
            }
        }
    }

    async fn wait(&mut self, events: &mut Box<dyn Subscription>, shutdown: &Shutdown) -> Wake {
        let now = self.now();
        let sleep = self
            .timers
            .next_due()
            .map_or(self.options.max_sleep, |due| due.since(now));
        // A timer that is due already waits for a free submit, not for time.
        let is_full = self.submits.len() >= MAX_SUBMITS;
        let sleep = if is_full {
            self.options.max_sleep
        } else {
            sleep.min(self.options.max_sleep)
        };
        tokio::select! {
            () = shutdown.requested() => Wake::Stop,
            incoming = events.next() => Wake::Event(incoming),
            Some(joined) = self.submits.join_next() => joined.map_or(Wake::Time, Wake::Answer),
            () = tokio::time::sleep(sleep) => Wake::Time,
        }
    }

    /// Reads the wall clock and says so when it was set back.
    fn now(&mut self) -> Timestamp {
        let (wall, steady) = (self.clock.now(), self.clock.monotonic());
        if let Some(back) = self.backwards.read(wall, steady) {
            tracing::warn!(
                { names::MILLIS } = back.as_millis(),
                "the wall clock was set back; slots served before do not fire again"
            );
        }
        wall
    }

    /// Computes every slot anew where the machine has other rules for time zones than before (rule TM1).
    fn look_at_zones(&mut self) {
        if self.zones.look(self.clock.monotonic()) {
            tzdata::read_anew();
            self.timers.unsettle_all();
            self.timers.settle();
            tracing::info!(
                { names::REASON } = %self.zones.known,
                "the rules for time zones changed; slots are computed anew"
            );
        }
        self.timers.set_zones(&self.zones.known);
        self.handle.set_zones(&self.zones.known);
    }

    /// Submits what is due, as many at once as allowed.
    fn fire(&mut self) {
        let now = self.now();
        while self.submits.len() < MAX_SUBMITS
            && let Some(fired) = self.timers.pop(now)
        {
            let (bus, ids) = (Arc::clone(&self.bus), Arc::clone(&self.ids));
            self.submits
                .spawn(submit(bus, fired, ids, self.options.request_timeout));
        }
    }

    /// Notes an answer. Silence is also a gateway that is away, and one whose clock says that the
    /// slot is still to come: the same command comes again, ever more slowly.
    fn answered(&mut self, submitted: &Submitted) {
        let now = self.now();
        let key = submitted.fired.key;
        match &submitted.answer {
            Answer::Accepted => {
                self.silences.remove(&key);
            }
            Answer::Refused(reason) => {
                tracing::info!(?key, { names::REASON } = %reason, "timer's command refused");
                self.silences.remove(&key);
                self.timers.refused(&submitted.fired, now);
            }
            Answer::Silence(reason) => {
                let silences = self.silences.entry(key).or_default();
                *silences = silences.saturating_add(1);
                tracing::warn!(?key, { names::REASON } = %reason, { names::ATTEMPT } = *silences, "timer's command not answered; it is tried again");
                let delay = retry_delay(*silences);
                if !self.timers.unanswered(&submitted.fired, now, delay) {
                    self.silences.remove(&key);
                }
            }
        }
    }

    /// Folds one event; fills a hole before it. One that was folded is a repeat, or refused as stale.
    /// `false` when asked to stop meanwhile.
    async fn take(&mut self, incoming: Incoming, shutdown: &Shutdown) -> bool {
        // The bus server's own repeat of what was handed on: the answer to it was lost.
        let is_again = incoming.redelivered && incoming.sequence <= self.place;
        self.place = self.place.max(incoming.sequence);
        let Body::Event(event) = incoming.message.body else {
            return true;
        };
        if !is_again && self.late.is_stale(event.number, self.clock.monotonic()) {
            self.bus.refuse_stale(Source::Topic(Topic::Events));
            return true;
        }
        if event.number > self.seen.saturating_add(1) && !self.catch_up(shutdown).await {
            return false;
        }
        self.fold(&event);
        if self.timers.lacks_names() && !self.catch_up(shutdown).await {
            return false;
        }
        self.timers.settle();
        true
    }

    fn fold(&mut self, event: &RecordedEvent) {
        if event.number > self.seen {
            self.timers
                .fold((event.number, event.id), event.time, &event.event);
            self.seen = event.number;
        }
    }

    /// Reads the gateway's log to its end, however long the gateway is away. `false` when asked to
    /// stop meanwhile.
    async fn catch_up(&mut self, shutdown: &Shutdown) -> bool {
        let mut failures = 0;
        loop {
            let read = tokio::select! {
                () = shutdown.requested() => return false,
                read = self.read_events() => read,
            };
            match read {
                Ok(0) => {
                    self.timers.settle();
                    return true;
                }
                Ok(_) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::warn!({ names::ERROR } = %chain(&error), { names::ATTEMPT } = failures, "log not read; trying again");
                    tokio::select! {
                        () = shutdown.requested() => return false,
                        () = tokio::time::sleep(retry_delay(failures)) => {}
                    }
                }
            }
        }
    }

    /// Folds the next events of the log; gives how many there were.
    async fn read_events(&mut self) -> Result<usize, PortError> {
        if self.timers.lacks_names() {
            self.learn().await?;
        }
        let timeout = self.options.request_timeout;
        let events = read_after(&*self.bus, self.seen, timeout).await?;
        for event in &events {
            self.fold(event);
            if self.timers.lacks_names() {
                break;
            }
        }
        Ok(events.len())
    }

    /// Reads the log again up to what was folded, for the names that the first rule on events asks for.
    async fn learn(&mut self) -> Result<(), PortError> {
        let timeout = self.options.request_timeout;
        let mut read = 0;
        while read < self.seen {
            let events = read_after(&*self.bus, read, timeout).await?;
            let Some(last) = events.last() else {
                return Err(PortError::new(
                    ErrorKind::Unavailable,
                    "the gateway's log ends before what was read of it",
                ));
            };
            read = last.number;
            let seen = self.seen;
            for event in events.iter().take_while(|event| event.number <= seen) {
                self.timers.learn(&event.event);
            }
        }
        self.timers.learned();
        Ok(())
    }
}

/// Reads the gateway's log after an event.
async fn read_after(
    bus: &dyn Bus,
    after: u64,
    timeout: Duration,
) -> Result<Vec<RecordedEvent>, PortError> {
    let ask = Body::ReadEvents {
        after,
        limit: BACKFILL_BATCH,
    };
    match bus.request(Address::Gateway, None, ask, timeout).await? {
        Body::Events(events) => Ok(events),
        Body::Failed { kind, text } => Err(PortError::new(kind, text)),
        _ => Err(PortError::new(
            ErrorKind::Corrupt,
            "the gateway answered something other than events",
        )),
    }
}
