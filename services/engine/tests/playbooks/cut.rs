//! The log as one life of the gateway sees it: where that life ends, and bugs that show after it.
//!
//! A life ends in the midst of an append, before it is durable or right after it, when nobody was told yet. Bugs
//! are planted here and in `outside`, so there is no switch for them in the product: an event that a bug would
//! not have written yet is one that the next life does not read.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, SubscriptionId};
use keywheel_core::name::SubscriptionName;
use keywheel_core::playbook_run;
use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::{
    AuditLeaf, Decision, Head, Journal, OpenEffect, RecordedEvent, Verdict, Verification,
};
use keywheel_engine::port::subscriptions::{Subscription, Subscriptions};
use keywheel_testkit::fake::MemoryJournal;

use crate::sweep::read_all;

/// A planted bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Planted {
    /// That a step did its deed is made durable by the append after that of the deed.
    FactBesideDeed,
    /// Who starts again begins the step anew that was open.
    StepAnew,
    /// A store is asked without a token: each time it is asked it makes another credential.
    NoToken,
    /// A message that is sent again is another message.
    MessageAnew,
    /// Who got no answer asks for another run.
    CommandAnew,
}

/// When the gateway dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deaths {
    /// Never.
    Never,
    /// At the place of this number; the first is 0, before the first append, and the next is after it.
    At(u64),
    /// Before each append, and when that is made again after it.
    BeforeAndAfterEach,
}

#[derive(Default)]
struct Passed {
    /// Nobody dies before it is armed.
    deaths: Option<Deaths>,
    places: u64,
    died: u64,
    /// Whether the append under way was lost once.
    was_lost: bool,
}

/// Counts places, and ends lives at them.
#[derive(Default)]
pub(crate) struct Killer {
    passed: Mutex<Passed>,
}

impl Killer {
    /// From now on places count.
    pub(crate) fn arm(&self, deaths: Deaths) {
        self.passed.lock().unwrap().deaths = Some(deaths);
    }

    /// Places that were passed, and lives that ended at one.
    pub(crate) fn told(&self) -> (u64, u64) {
        let passed = self.passed.lock().unwrap();
        (passed.places, passed.died)
    }

    /// Ends the deciding task here if it is to die here, as a kill would: nothing of it goes on.
    fn pass(&self, is_before: bool) {
        let dies = {
            let mut passed = self.passed.lock().unwrap();
            let place = passed.places;
            let dies = match passed.deaths {
                None => return,
                Some(Deaths::Never) => false,
                Some(Deaths::At(at)) => place == at,
                Some(Deaths::BeforeAndAfterEach) => {
                    let dies = !(is_before && passed.was_lost);
                    passed.was_lost = is_before;
                    dies
                }
            };
            passed.places += 1;
            passed.died += u64::from(dies);
            dies
        };
        if dies {
            // No panic: nobody is told, and no backtrace is made a thousand times.
            std::panic::resume_unwind(Box::new("killed, as the test asked for"));
        }
    }
}

/// The log of one deployment, over all lives of its gateway.
#[derive(Clone)]
pub(crate) struct Log {
    pub(crate) journal: Arc<MemoryJournal>,
    pub(crate) killer: Arc<Killer>,
    planted: Option<Planted>,
    /// Events that a bug would not have written.
    lost: Arc<Mutex<BTreeSet<u64>>>,
}

impl Log {
    pub(crate) fn new(planted: Option<Planted>) -> Self {
        Self {
            journal: Arc::new(MemoryJournal::new()),
            killer: Arc::default(),
            planted,
            lost: Arc::default(),
        }
    }

    /// What a bug would have lost with the life that ended.
    pub(crate) async fn note_death(&self) {
        use playbook_run::Event as E;
        let all = read_all(&self.journal).await;
        let lost: Vec<u64> = match self.planted {
            Some(Planted::FactBesideDeed) => {
                let is_fact = |one: &&RecordedEvent| {
                    matches!(&one.event, Event::PlaybookRun(_, E::Acted { .. }))
                };
                let last = all.last().filter(is_fact);
                last.map(|one| one.number).into_iter().collect()
            }
            Some(Planted::StepAnew) => {
                let began = all.iter().filter(|one| match &one.event {
                    Event::PlaybookRun(run, E::StepStarted { step, .. }) => {
                        !all.iter().any(|other| ends(&other.event, (run, step)))
                    }
                    _ => false,
                });
                began.map(|one| one.number).collect()
            }
            _ => Vec::new(),
        };
        self.lost.lock().unwrap().extend(lost);
    }
}

fn ends(event: &Event, (run, step): (&keywheel_core::id::RunId, &str)) -> bool {
    use playbook_run::Event as E;
    match event {
        Event::PlaybookRun(
            own,
            E::StepCompleted { step: name, .. } | E::StepFailed { step: name, .. },
        ) => own == run && name == step,
        _ => false,
    }
}

#[async_trait]
impl Journal for Log {
    async fn append(
        &self,
        first: u64,
        decisions: &[Decision],
    ) -> Result<Vec<RecordedEvent>, PortError> {
        // A repeat of a person's command is a record of its own: whoever died after that each time would never end.
        if decisions.iter().all(|decision| decision.events.is_empty()) {
            return self.journal.append(first, decisions).await;
        }
        self.killer.pass(true);
        let appended = self.journal.append(first, decisions).await?;
        self.killer.pass(false);
        Ok(appended)
    }

    async fn verdict(&self, command: CommandId) -> Result<Option<Verdict>, PortError> {
        self.journal.verdict(command).await
    }

    async fn read(&self, after: u64, limit: usize) -> Result<Vec<RecordedEvent>, PortError> {
        let mut events = self.journal.read(after, limit).await?;
        let lost = self.lost.lock().unwrap();
        for recorded in events.iter_mut().filter(|one| lost.contains(&one.number)) {
            if let Event::PlaybookRun(_, event) = &mut recorded.event {
                // An answer that no step waits for says nothing.
                *event = playbook_run::Event::Answered {
                    step: String::new(),
                    place: 0,
                    failure: None,
                    at: None,
                };
            }
        }
        Ok(events)
    }

    async fn open_effects(&self) -> Result<Vec<OpenEffect>, PortError> {
        self.journal.open_effects().await
    }

    async fn read_audit(&self, from: u64, limit: usize) -> Result<Vec<AuditLeaf>, PortError> {
        self.journal.read_audit(from, limit).await
    }

    async fn head(&self) -> Result<Head, PortError> {
        self.journal.head().await
    }

    async fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<[u8; 32]>, PortError> {
        self.journal.inclusion_proof(index, size).await
    }

    async fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<[u8; 32]>, PortError> {
        self.journal.consistency_proof(old, new).await
    }

    async fn verify(&self) -> Result<Verification, PortError> {
        self.journal.verify().await
    }
}

#[async_trait]
impl Subscriptions for Log {
    async fn subscriptions(&self) -> Result<Vec<Subscription>, PortError> {
        self.journal.subscriptions().await
    }

    async fn subscribe(
        &self,
        name: &SubscriptionName,
        id: SubscriptionId,
        after: u64,
    ) -> Result<Subscription, PortError> {
        self.journal.subscribe(name, id, after).await
    }

    async fn acknowledge(
        &self,
        name: &SubscriptionName,
        id: SubscriptionId,
        number: u64,
    ) -> Result<Subscription, PortError> {
        self.journal.acknowledge(name, id, number).await
    }

    async fn unsubscribe(&self, name: &SubscriptionName) -> Result<(), PortError> {
        self.journal.unsubscribe(name).await
    }
}
