//! What begins runs of playbooks besides people: events of the log, and slots of schedules.
//!
//! Invariants: what waits follows from the log alone, so every scheduler waits for the same and a replay begins
//! nothing that was begun; events that tell a run the same within a trigger's hold-off are one run; a slot
//! that was missed is passed over, since a drill belongs to its hour.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::id::PlaybookId;
use keywheel_core::name::PlaybookName;
use keywheel_core::playbook::{self, EVENT_DATA, EVENT_WORDS, Trigger, parameters_of, put_in};
use keywheel_core::playbook_run::{self, Cause, Request};
use keywheel_core::schedule::Schedule;
use keywheel_core::time::Timestamp;
use keywheel_schemas::condition::{Condition, Facts};
use keywheel_schemas::event::text_at;

use super::queue::Queue;
use super::{Key, MISSED_GRACE};
use crate::schedule::{next_after, run_of};

/// Most events of one playbook that wait for their runs, and most that are remembered for their hold-off: more
/// in so short a time are one incident that people look after.
const MAX_WAITING_STARTS: usize = 256;

/// What a run is told.
type Arguments = BTreeMap<String, String>;

/// What an event says that a run may be told.
pub(super) struct Said<'e> {
    /// Name of its secret; empty for none.
    pub(super) secret: &'e str,
    /// Name of its host; empty for none.
    pub(super) host: &'e str,
    /// The event.
    pub(super) event: &'e Event,
}

impl Said<'_> {
    /// What a text names of the event; empty where the event does not say it.
    fn words_of(&self, text: &str) -> BTreeMap<String, String> {
        let [secret, host] = EVENT_WORDS;
        let word = |name: &str| {
            if name == secret {
                self.secret.to_owned()
            } else if name == host {
                self.host.to_owned()
            } else {
                self.part(name).unwrap_or_default()
            }
        };
        let named = parameters_of(text).unwrap_or_default().into_iter();
        named.map(|name| (name.to_owned(), word(name))).collect()
    }

    /// A text in its data, like `event.data.fields.secret` of a signal.
    fn part(&self, name: &str) -> Option<String> {
        text_at(self.event, name.strip_prefix(EVENT_DATA)?)
    }
}

/// Playbooks that have triggers.
#[derive(Debug, Clone, Default)]
pub(super) struct Triggers {
    playbooks: BTreeMap<PlaybookId, Watched>,
}

#[derive(Debug, Clone)]
struct Watched {
    name: PlaybookName,
    events: Vec<OnEvent>,
    slots: Vec<(Schedule, Arguments)>,
    /// Slots count from here.
    since: Timestamp,
    /// Events that wait for their runs, by number.
    waiting: BTreeMap<u64, (Timestamp, Arguments)>,
    /// When runs that were told this began last.
    served: BTreeMap<Arguments, Timestamp>,
}

#[derive(Debug, Clone)]
struct OnEvent {
    event: String,
    when: Option<Condition>,
    hold_off: Duration,
    arguments: Arguments,
}

impl Triggers {
    /// Whether some trigger asks for events of a type.
    pub(super) fn has(&self, type_name: &str) -> bool {
        let mut all = self.playbooks.values().flat_map(|known| &known.events);
        all.any(|trigger| trigger.event == type_name)
    }

    /// Whether some trigger asks for events at all.
    pub(super) fn ask(&self) -> bool {
        self.playbooks
            .values()
            .any(|known| !known.events.is_empty())
    }

    /// Folds an event of a playbook; total.
    pub(super) fn apply(
        &mut self,
        time: Timestamp,
        id: PlaybookId,
        event: &playbook::Event,
        queue: &mut Queue,
    ) {
        match event {
            playbook::Event::Declared { name, spec } => {
                self.playbooks
                    .insert(id, Watched::of(name.clone(), spec, time));
            }
            playbook::Event::Changed { spec } => {
                if let Some(known) = self.playbooks.get_mut(&id) {
                    let served = std::mem::take(&mut known.served);
                    // What came before is begun by what is declared now, or refused.
                    let waiting = std::mem::take(&mut known.waiting);
                    *known = Watched::of(known.name.clone(), spec, time);
                    (known.served, known.waiting) = (served, waiting);
                }
            }
            playbook::Event::Removed => {
                self.playbooks.remove(&id);
            }
        }
        self.arm(id, queue);
    }

    /// Folds an event of a run: what led to it waits no more.
    pub(super) fn begun(
        &mut self,
        time: Timestamp,
        event: &playbook_run::Event,
        queue: &mut Queue,
    ) {
        let playbook_run::Event::Triggered {
            playbook, cause, ..
        } = event
        else {
            return;
        };
        let Some(known) = self.playbooks.get_mut(playbook) else {
            return;
        };
        match cause {
            Cause::Person => return,
            Cause::Event { number } => known.serve(*number, time),
            Cause::Slot { scheduled } => known.since = known.since.max(*scheduled),
        }
        self.arm(*playbook, queue);
    }

    /// Notes what an event leads to; what a later word of a signal tells a run that its `first` one told, it does not
    /// begin again.
    pub(super) fn observe(
        &mut self,
        (number, time, type_name): (u64, Timestamp, &str),
        said: (&Facts, &Said<'_>),
        first: Option<&(Facts, Said<'_>)>,
        queue: &mut Queue,
    ) {
        let mut touched = Vec::new();
        for (id, known) in &mut self.playbooks {
            let before = first.and_then(|(facts, said)| known.told_by(type_name, facts, said));
            if known.observe((number, time, type_name), said, before.as_ref()) {
                touched.push(*id);
            }
        }
        for id in touched {
            self.arm(id, queue);
        }
    }

    fn arm(&self, id: PlaybookId, queue: &mut Queue) {
        match self.playbooks.get(&id).and_then(Watched::next) {
            Some(due) => queue.set(Key::PlaybookStart(id), due),
            None => queue.clear(Key::PlaybookStart(id)),
        }
    }

    /// The run that is due; a slot that was missed is passed over.
    pub(super) fn fire(
        &mut self,
        id: PlaybookId,
        now: Timestamp,
        queue: &mut Queue,
    ) -> Option<Command> {
        let known = self.playbooks.get_mut(&id)?;
        if let Some((number, (_, arguments))) = known.waiting.first_key_value() {
            let cause = Cause::Event { number: *number };
            let reason = format!("event {number} of the log");
            return Some(known.start(id, cause, arguments.clone(), reason));
        }
        let (scheduled, arguments) = known.next_slot()?;
        if now.since(scheduled) > MISSED_GRACE {
            known.since = now;
            self.arm(id, queue);
            return None;
        }
        let reason = "by its schedule".to_owned();
        Some(known.start(id, Cause::Slot { scheduled }, arguments, reason))
    }

    /// A run was refused, for good: what led to it waits no more.
    pub(super) fn refused(&mut self, id: PlaybookId, command: &Command, queue: &mut Queue) {
        if let (Some(known), Some(cause)) = (self.playbooks.get_mut(&id), cause_of(command)) {
            match cause {
                Cause::Event { number } => {
                    known.waiting.remove(&number);
                }
                Cause::Slot { scheduled } => known.since = known.since.max(scheduled),
                Cause::Person => {}
            }
        }
        self.arm(id, queue);
    }

    /// Whether what a command begins still waits.
    pub(super) fn waits(&self, id: PlaybookId, command: &Command) -> bool {
        let (Some(known), Some(cause)) = (self.playbooks.get(&id), cause_of(command)) else {
            return false;
        };
        match cause {
            Cause::Event { number } => known.waiting.contains_key(&number),
            Cause::Slot { scheduled } => known.since < scheduled,
            Cause::Person => false,
        }
    }
}

fn cause_of(command: &Command) -> Option<Cause> {
    match command {
        Command::Playbook(Request::Start { cause, .. }) => Some(*cause),
        _ => None,
    }
}

impl OnEvent {
    /// What a run is told, and for how long nothing else that tells the same begins one; `None` of an event about no
    /// secret, or no host, or without that part, which has nothing to tell.
    fn told(&self, said: &Said<'_>) -> Option<(Duration, Arguments)> {
        let told = self.arguments.iter();
        let told: Arguments = told
            .map(|(name, value)| (name.clone(), put_in(value, &said.words_of(value))))
            .collect();
        let is_silent = told.values().any(String::is_empty);
        (!is_silent).then_some((self.hold_off, told))
    }
}

impl Watched {
    fn of(name: PlaybookName, spec: &playbook::Spec, since: Timestamp) -> Self {
        let mut watched = Self {
            name,
            events: Vec::new(),
            slots: Vec::new(),
            since,
            waiting: BTreeMap::new(),
            served: BTreeMap::new(),
        };
        for trigger in &spec.triggers {
            match trigger {
                Trigger::Event {
                    event,
                    when,
                    hold_off,
                    arguments,
                } => watched
                    .events
                    .extend(when_read(when.as_deref()).map(|when| OnEvent {
                        event: event.clone(),
                        when,
                        hold_off: *hold_off,
                        arguments: arguments.clone(),
                    })),
                Trigger::Schedule {
                    expression,
                    timezone,
                    arguments,
                } => {
                    let schedule = Schedule::Cron {
                        expression: expression.clone(),
                        timezone: timezone.clone(),
                    };
                    watched.slots.push((schedule, arguments.clone()));
                }
            }
        }
        watched
    }

    /// What a run is told by the first trigger whose condition holds and that has something to tell.
    fn told_by(
        &self,
        type_name: &str,
        facts: &Facts,
        said: &Said<'_>,
    ) -> Option<(Duration, Arguments)> {
        let is_meant = |trigger: &&OnEvent| {
            let holds = |when: &Condition| when.holds(facts, false);
            trigger.event == type_name && trigger.when.as_ref().is_none_or(holds)
        };
        let mut meant = self.events.iter().filter(is_meant);
        meant.find_map(|trigger| trigger.told(said))
    }

    /// Whether something waits that did not before, nor by what was told already.
    fn observe(
        &mut self,
        (number, time, type_name): (u64, Timestamp, &str),
        (facts, said): (&Facts, &Said<'_>),
        before: Option<&(Duration, Arguments)>,
    ) -> bool {
        let Some((hold_off, told)) = self.told_by(type_name, facts, said) else {
            return false;
        };
        if before.is_some_and(|(_, before)| *before == told) {
            return false;
        }
        let is_served = |at: &Timestamp| time < at.plus(hold_off);
        let waits = self.waiting.values().any(|(_, waiting)| *waiting == told);
        let is_again = waits || self.served.get(&told).is_some_and(is_served);
        if is_again || self.waiting.len() >= MAX_WAITING_STARTS {
            return false;
        }
        self.waiting.insert(number, (time, told));
        true
    }

    /// A run of an event began.
    fn serve(&mut self, number: u64, time: Timestamp) {
        let Some((_, told)) = self.waiting.remove(&number) else {
            return;
        };
        if self.served.len() >= MAX_WAITING_STARTS {
            let oldest = self.served.iter().min_by_key(|(_, at)| **at);
            if let Some(oldest) = oldest.map(|(told, _)| told.clone()) {
                self.served.remove(&oldest);
            }
        }
        self.served.insert(told, time);
    }

    fn next(&self) -> Option<Timestamp> {
        let waiting = self.waiting.first_key_value();
        let event = waiting.map(|(_, (time, _))| *time);
        event.or_else(|| self.next_slot().map(|(at, _)| at))
    }

    fn next_slot(&self) -> Option<(Timestamp, Arguments)> {
        let slots = self.slots.iter().filter_map(|(schedule, told)| {
            let at = next_after(schedule, self.since, self.since)?;
            Some((at, told))
        });
        let (at, told) = slots.min_by_key(|(at, _)| *at)?;
        Some((at, told.clone()))
    }

    fn start(&self, id: PlaybookId, cause: Cause, arguments: Arguments, reason: String) -> Command {
        Command::Playbook(Request::Start {
            run: run_of(id, cause),
            playbook: self.name.clone(),
            arguments,
            by: String::new(),
            reason,
            cause,
        })
    }
}

/// A trigger's condition; `None` for one that this build cannot read, whose trigger begins nothing.
fn when_read(when: Option<&str>) -> Option<Option<Condition>> {
    match when {
        None => Some(None),
        Some(text) => Condition::parse(text).ok().map(Some),
    }
}
