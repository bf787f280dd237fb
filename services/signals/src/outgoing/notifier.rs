//! Goes through the log for each receiver: one task and one place each, so that none waits for another.
//!
//! Invariants: a place moves on only when its receiver has a message, refused it, or did not want it, so a
//! process that dies repeats one message and loses none; of several gateways one at a time tells a receiver;
//! what was not delivered for [`GIVE_UP_AFTER`] since it happened, of a receiver that fails for
//! [`GIVE_UP_PATIENCE`] by then, is kept as a letter and holds up nothing more. So a gateway that was away for
//! days, or a replay of what is old, gives nothing up because of one failure.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::id::NotificationId;
use keywheel_core::notification::Declared;
use keywheel_engine::port::PortError;
use keywheel_engine::port::deliveries::Letter;
use keywheel_engine::port::journal::RecordedEvent;
use keywheel_engine::port::outside::Trouble;
use keywheel_schemas::condition::Condition;
use keywheel_schemas::event::type_name;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::calls;
use super::message::{Message, is_wanted};
use super::sender::{Sender, Told};
use super::whose::{Memory, Names};
use crate::desk::{Desk, Inner, letter, letter_of_event, notification_owner};
use crate::{AFTER_ADVANCE, AFTER_KEEP, AFTER_SEND, BEFORE_SEND};

/// How long after it happened an event is delivered at the latest; then it is a letter.
pub const GIVE_UP_AFTER: Duration = Duration::from_secs(24 * 3600);
/// For how long a receiver has to fail here before anything is given up.
pub const GIVE_UP_PATIENCE: Duration = Duration::from_secs(600);
/// How long a receiver's turn lasts when it is not renewed: longer than two messages take.
pub const TURN_SPAN: Duration = Duration::from_secs(30);
/// Events that are read at once.
pub const PAGE: usize = 64;
/// Longest pause between two attempts.
pub const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// The pause after a first failure; it doubles, and half of it is drawn.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// How often somebody looks although nobody called: a place may have been moved back at another gateway, and
/// turns end.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// Why nothing is told.
const UNREADABLE: &str =
    "its condition cannot be read by this version; apply the notification again";

/// Tells receivers.
pub struct Notifier {
    inner: Arc<Inner>,
}

impl Notifier {
    /// One over a desk's ports.
    #[must_use]
    pub fn new(desk: &Desk) -> Self {
        Self {
            inner: desk.inner(),
        }
    }

    /// Runs until told to stop: one task for each notification that is declared.
    pub async fn run(self, stop: CancellationToken) {
        let mut tasks: JoinSet<NotificationId> = JoinSet::new();
        let mut running: BTreeMap<NotificationId, tokio::task::Id> = BTreeMap::new();
        let mut bell = self.inner.parts.view.bell();
        loop {
            bell.borrow_and_update();
            for id in self.declared() {
                running.entry(id).or_insert_with(|| {
                    tasks
                        .spawn(follow(self.inner.clone(), id, stop.clone()))
                        .id()
                });
            }
            tokio::select! {
                () = stop.cancelled() => break,
                Some(ended) = tasks.join_next_with_id() => {
                    let task = match ended {
                        Ok((task, _)) => task,
                        Err(error) => {
                            tracing::error!(%error, "a receiver's task broke off; it begins anew");
                            // Others have tasks of their own, and wait for nothing here.
                            tokio::select! {
                                () = stop.cancelled() => {}
                                () = tokio::time::sleep(LOOK_INTERVAL) => {}
                            }
                            error.id()
                        }
                    };
                    running.retain(|_, known| *known != task);
                }
                rang = bell.changed() => if rang.is_err() { break },
            }
        }
        while tasks.join_next().await.is_some() {}
    }

    fn declared(&self) -> Vec<NotificationId> {
        let committed = self.inner.parts.view.read();
        committed.world.notifications.keys().copied().collect()
    }
}

/// What one look at the log came to.
enum Step {
    /// Something was told, or passed over.
    On,
    /// All is told.
    Idle,
    /// Another gateway has the turn.
    Theirs,
    /// The receiver could not be told, or an event of it was given up.
    Later(String),
    /// The notification was removed.
    Gone,
}

/// Goes through the log for one receiver, as long as it is declared.
async fn follow(inner: Arc<Inner>, id: NotificationId, stop: CancellationToken) -> NotificationId {
    let mut run = Run {
        sender: Sender::new(inner.clone()),
        inner,
        id,
        condition: (String::new(), None),
        memory: Memory::default(),
        failing_since: None,
    };
    let mut bell = run.inner.parts.view.bell();
    let mut failures = 0;
    loop {
        bell.borrow_and_update();
        let step = tokio::select! {
            () = stop.cancelled() => return id,
            step = run.step() => step,
        };
        let pause = match step {
            Ok(Step::On) => {
                failures = 0;
                continue;
            }
            Ok(Step::Gone) => {
                run.rest();
                let forgotten = run.inner.parts.deliveries.forget(id).await;
                if let Err(error) = forgotten {
                    tracing::warn!(notification = %id, %error, "place of a removed notification stays");
                }
                return id;
            }
            Ok(Step::Idle) => {
                failures = 0;
                run.rest();
                tokio::select! {
                    () = stop.cancelled() => return id,
                    () = run.inner.called.notified() => {}
                    _ = tokio::time::timeout(LOOK_INTERVAL, bell.changed()) => {}
                }
                continue;
            }
            Ok(Step::Theirs) => {
                failures = 0;
                run.failing_since = None;
                run.rest();
                LOOK_INTERVAL
            }
            Ok(Step::Later(reason)) => {
                failures += 1;
                run.note(reason, failures);
                run.pause(failures)
            }
            Err(error) => {
                failures += 1;
                tracing::warn!(notification = %id, %error, "cannot go on through the log now");
                run.pause(failures)
            }
        };
        tokio::select! {
            () = stop.cancelled() => return id,
            () = run.inner.called.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// One receiver.
struct Run {
    inner: Arc<Inner>,
    id: NotificationId,
    sender: Sender,
    /// The text that was read last, and what it is.
    condition: (String, Option<Condition>),
    /// Whose the runs and consumers are that it read of.
    memory: Memory,
    /// Since when, by the monotonic clock, it took no message that was tried.
    failing_since: Option<Duration>,
}

/// How an event of the log ended for a receiver.
enum Ended {
    /// It has it.
    Told,
    /// It does not take it; a letter keeps that.
    Refused,
    /// It was given up; a letter keeps that.
    GivenUp(String),
    /// It is tried again.
    Later(String),
}

impl Run {
    async fn step(&mut self) -> Result<Step, PortError> {
        let inner = Arc::clone(&self.inner);
        let (declared, head) = {
            let committed = inner.parts.view.read();
            let declared = committed.world.notifications.get(&self.id).cloned();
            (declared, committed.number)
        };
        let Some(declared) = declared else {
            return Ok(Step::Gone);
        };
        if !self.reads_condition(&declared) {
            return Ok(Step::Later(UNREADABLE.to_owned()));
        }
        let deliveries = &inner.parts.deliveries;
        let claimed = inner.parts.clock.monotonic();
        let place = deliveries.claim(self.id, declared.since, TURN_SPAN).await?;
        let Some(mut place) = place else {
            return Ok(Step::Theirs);
        };
        let page = inner.parts.journal.read(place, PAGE).await?;
        // Names are known of what is folded here.
        let known = page.iter().filter(|event| event.number <= head);
        let mut passed = place;
        for event in known {
            self.memory.note(&event.event);
            let names = self.names(event);
            if self.wants(&declared, &names, event) {
                let ended = self.tell(&declared, &names, event).await?;
                if let Ended::Later(reason) = ended {
                    if passed > place {
                        deliveries.advance(self.id, place, passed).await?;
                    }
                    return Ok(Step::Later(reason));
                }
                if !deliveries.advance(self.id, place, event.number).await? {
                    // Somebody moved it, or has the turn by now.
                    return Ok(Step::On);
                }
                inner.parts.points.pass(AFTER_ADVANCE).await?;
                if let Ended::GivenUp(reason) = ended {
                    // The next one would fail as well: it has its pause first.
                    return Ok(Step::Later(reason));
                }
                place = event.number;
                self.well();
            }
            passed = event.number;
            let elapsed = inner.parts.clock.monotonic().saturating_sub(claimed);
            if elapsed > TURN_SPAN / 2 {
                break;
            }
        }
        if passed > place {
            deliveries.advance(self.id, place, passed).await?;
        }
        let is_ahead = |event: &RecordedEvent| event.number > head;
        match page.iter().all(is_ahead) {
            true => Ok(Step::Idle),
            false => Ok(Step::On),
        }
    }

    fn names(&self, event: &RecordedEvent) -> Names {
        let committed = self.inner.parts.view.read();
        Names::of(&committed.world, &self.memory, &event.event)
    }

    /// Reads a condition that is another one by now. What an older or newer build took and this one cannot read, it
    /// waits for: nothing is passed over.
    fn reads_condition(&mut self, declared: &Declared) -> bool {
        let when = &declared.spec.when;
        if self.condition.0 != *when {
            self.condition = (when.clone(), Condition::parse(when).ok());
        }
        when.is_empty() || self.condition.1.is_some()
    }

    fn wants(&self, declared: &Declared, names: &Names, event: &RecordedEvent) -> bool {
        if calls::is_told(self.id, &event.event) {
            return true;
        }
        let when = &declared.spec.when;
        let condition = self.condition.1.as_ref().filter(|_| !when.is_empty());
        let all = match (condition, &names.secret) {
            (Some(_), None) => self.inner.secret_names(),
            _ => Vec::new(),
        };
        is_wanted(condition, names, &all, event)
    }

    /// Tells one event, or gives it up.
    async fn tell(
        &mut self,
        declared: &Declared,
        names: &Names,
        event: &RecordedEvent,
    ) -> Result<Ended, PortError> {
        let message = Message::of(names, event);
        let points = self.inner.parts.points.clone();
        points.pass(BEFORE_SEND).await?;
        let told = self.sender.send(&declared.spec.receiver, &message).await;
        points.pass(AFTER_SEND).await?;
        let (ended, reason) = match told {
            Told::Done => {
                calls::answer(&self.inner, self.id, event, None).await?;
                return Ok(Ended::Told);
            }
            Told::Later(reason) | Told::Unheard(reason) => match self.is_given_up(event) {
                None => return Ok(Ended::Later(reason)),
                Some(hours) => {
                    let text = format!("given up after {hours} hours: {reason}");
                    (Ended::GivenUp(reason), text)
                }
            },
            Told::Refused(reason) => (Ended::Refused, reason),
        };
        let kept = given_up(declared, event, (self.inner.parts.clock.now(), &reason));
        tracing::warn!(notification = %declared.name, event = event.number, reason, "an event was not delivered; it is a letter now");
        self.inner.keep(&kept).await?;
        points.pass(AFTER_KEEP).await?;
        calls::answer(&self.inner, self.id, event, Some(reason)).await?;
        Ok(ended)
    }

    /// How many hours old an event is that could not be told just now, where that is enough.
    fn is_given_up(&mut self, event: &RecordedEvent) -> Option<u64> {
        let clock = &self.inner.parts.clock;
        let (age, now) = (clock.now().since(event.time), clock.monotonic());
        let failing = now.saturating_sub(*self.failing_since.get_or_insert(now));
        (age >= GIVE_UP_AFTER && failing >= GIVE_UP_PATIENCE).then_some(age.as_secs() / 3600)
    }

    fn note(&self, reason: String, attempts: u32) {
        let mut troubles = self.inner.troubles();
        let now = self.inner.parts.clock.now();
        let trouble = troubles.entry(self.id).or_insert_with(|| {
            tracing::warn!(notification = %self.id, reason, "a receiver cannot be told now; it is tried again");
            Trouble {
                reason: String::new(),
                since: now,
                attempts,
            }
        });
        trouble.reason = reason;
        trouble.attempts = attempts;
    }

    /// It took a message, or answered that it does not want it.
    fn well(&mut self) {
        self.failing_since = None;
        if self.inner.troubles().remove(&self.id).is_some() {
            tracing::info!(notification = %self.id, "a receiver is told again");
        }
    }

    /// Nothing waits for it here.
    fn rest(&self) {
        self.inner.troubles().remove(&self.id);
    }

    /// Doubles up to the longest; half of it is drawn, so that many do not come at once.
    fn pause(&self, failures: u32) -> Duration {
        let mut drawn = [0; 1];
        self.inner.parts.entropy.fill(&mut drawn);
        pause_after(failures, drawn[0])
    }
}

fn pause_after(failures: u32, drawn: u8) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    let most = FIRST_PAUSE
        .saturating_mul(1 << doublings)
        .min(LONGEST_PAUSE);
    most / 2 + most.saturating_mul(u32::from(drawn)) / 512
}

/// The letter of an event that was not delivered; its body is the event's number.
fn given_up(
    declared: &Declared,
    event: &RecordedEvent,
    (now, reason): (keywheel_core::time::Timestamp, &str),
) -> Letter {
    let heading = format!("event {}, {}", event.number, type_name(&event.event));
    Letter {
        body: event.number.to_string().into_bytes(),
        ..letter(
            letter_of_event(declared.id, event.id),
            notification_owner(&declared.name),
            (now, heading, reason),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_to_a_bound_and_differ() {
        assert_eq!(pause_after(1, 0), FIRST_PAUSE / 2);
        assert!(pause_after(1, 255) < FIRST_PAUSE);
        assert!(pause_after(4, 0) >= pause_after(3, 0) * 2);
        for failures in [20, u32::MAX] {
            assert_eq!(pause_after(failures, 0), LONGEST_PAUSE / 2);
            assert!(pause_after(failures, 255) <= LONGEST_PAUSE);
        }
    }

    #[test]
    fn a_turn_lasts_longer_than_what_is_done_in_it() {
        use super::super::sender::SEND_TIMEOUT;
        assert!(TURN_SPAN / 2 + SEND_TIMEOUT < TURN_SPAN);
    }
}
