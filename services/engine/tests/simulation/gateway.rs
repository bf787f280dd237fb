//! The gateway: the core decides, the engine's fold and audit follow, and an append is all or nothing.
//!
//! One command at a time and without a runtime, so that a step costs microseconds. That the engine's
//! command bus does the same with the same commands is `bus`'s to show. A crash loses all but the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use keywheel_core::assignment;
use keywheel_core::audit::{Category, Principal, Record, Role};
use keywheel_core::command::{Command, ProofTaken};
use keywheel_core::decision::{Context, Enrolment, Refusal, Rejection, decide, next_run};
use keywheel_core::effect::{self, Effect};
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, EventId};
use keywheel_core::plan::HostPlan;
use keywheel_core::playbook_run::Request;
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use keywheel_core::{revocation, rotation};
use keywheel_engine::auditing::{self, Deed};
use keywheel_engine::command_bus::Submission;
use keywheel_engine::port::ids::Ids as _;
use keywheel_engine::port::journal::RecordedEvent;
use keywheel_engine::state::Committed;
use keywheel_testkit::fake::FakeIds;

use crate::invariants::Broken;
use crate::planted::Planted;

/// What goes wrong while a command is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing.
    None,
    /// The disk is full for new work.
    DiskFull,
    /// The process is killed before the append.
    KilledBefore,
    /// The process is killed when the append is durable, before anybody is told.
    KilledAfter,
}

/// What the sender hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    /// Nothing.
    Lost,
    /// It is done.
    Accepted,
    /// It is refused.
    Refused,
}

/// A command that was served, and when.
pub(crate) struct Served {
    pub(crate) at: Timestamp,
    pub(crate) submission: Submission,
}

pub(crate) struct Gateway {
    /// The engine's fold: what the process has in memory.
    pub(crate) committed: Committed,
    /// What somebody knows who only reads the log.
    read: Committed,
    /// What is on the disk.
    pub(crate) log: Vec<RecordedEvent>,
    /// Effects on the disk that nobody answered.
    pub(crate) open: BTreeMap<effect::Key, Effect>,
    /// All that was ever asked for.
    asked: BTreeSet<effect::Key>,
    /// Answers on the disk.
    answers: BTreeMap<CommandId, bool>,
    /// Everything that was decided or repeated, in order, if it is kept.
    pub(crate) served: Vec<Served>,
    keeps: bool,
    /// Whether it was killed, or its disk was full: then its runs went on later than its commands.
    pub(crate) was_cut: bool,
    /// Whether no run went on since it was started again.
    is_fresh: bool,
    /// Ids of events that are on the disk.
    ids_seen: BTreeSet<EventId>,
    pub(crate) is_up: bool,
    ids: FakeIds,
    planted: Option<Planted>,
    no_bytes: Arc<[u8]>,
}

impl Gateway {
    pub(crate) fn new(planted: Option<Planted>, keeps: bool) -> Self {
        Self {
            committed: Committed::default(),
            read: Committed::default(),
            log: Vec::new(),
            open: BTreeMap::new(),
            asked: BTreeSet::new(),
            answers: BTreeMap::new(),
            served: Vec::new(),
            keeps,
            was_cut: false,
            is_fresh: false,
            ids_seen: BTreeSet::new(),
            is_up: true,
            ids: FakeIds::new(),
            planted,
            no_bytes: Arc::from(Vec::new()),
        }
    }

    /// The plan that a host would be told with a planted bug; one that was away had another.
    pub(crate) fn spoiled(&self, mut plan: HostPlan, had: Option<&HostPlan>) -> HostPlan {
        if let Some(planted) = self.planted {
            planted.spoil_plan(&mut plan, had);
        }
        plan
    }

    pub(crate) const fn world(&self) -> &World {
        &self.committed.world
    }

    /// Serves one command as the command bus does.
    pub(crate) fn submit(
        &mut self,
        submission: &Submission,
        now: Timestamp,
        fault: Fault,
    ) -> Result<Answer, Broken> {
        self.was_cut |= !self.is_up || fault != Fault::None;
        if !self.is_up || fault == Fault::DiskFull {
            return Ok(Answer::Lost);
        }
        if fault == Fault::KilledBefore {
            self.is_up = false;
            return Ok(Answer::Lost);
        }
        // The bus has runs go on by itself.
        if self.keeps && !is_advance(&submission.command) {
            self.served.push(Served {
                at: now,
                submission: submission.clone(),
            });
        }
        let is_accepted = match self.answers.get(&submission.id) {
            Some(first) => {
                if is_person(&submission.principal) {
                    // The record of the repeat has an id of its own.
                    self.ids.draw();
                }
                *first
            }
            None => self.decide(submission, now)?,
        };
        if fault == Fault::KilledAfter {
            self.is_up = false;
            return Ok(Answer::Lost);
        }
        Ok(match is_accepted {
            true => Answer::Accepted,
            false => Answer::Refused,
        })
    }

    /// What the next run that has something to do is told, as the command bus tells it.
    pub(crate) fn next_of_runs(&mut self) -> Option<Submission> {
        let run = next_run(self.world()).filter(|_| self.is_up)?.id;
        Some(Submission {
            id: CommandId::from_bytes(self.ids.draw()),
            principal: Principal::Service(Role::Gateway),
            traceparent: None,
            command: Command::Playbook(Request::Advance { run }),
        })
    }

    fn decide(&mut self, submission: &Submission, now: Timestamp) -> Result<bool, Broken> {
        let ctx = Context {
            now,
            seed: self.ids.draw(),
            enrolment: Enrolment::Local,
        };
        let world = &self.committed.world;
        let mut decided = decide(world, &submission.command, &ctx);
        if let Err(refusal) = &decided
            && matches!(
                refusal.reason,
                Rejection::Rotation(rotation::Rejection::SlotEarly { .. })
            )
        {
            return Ok(false);
        }
        if let (Some(planted), Ok(events)) = (self.planted, &mut decided) {
            planted.spoil(world, &submission.command, events);
            if self.is_fresh && is_advance(&submission.command) {
                planted.spoil_after_crash(world, events);
            }
        }
        self.is_fresh &= !is_advance(&submission.command);
        let world = &self.committed.world;
        if let (Some(planted), Err(refusal)) = (self.planted, &decided)
            && let Some(events) = planted.let_pass(&submission.command, refusal)
        {
            decided = Ok(events);
        }
        let deed = Deed {
            principal: &submission.principal,
            id: submission.id,
            time: now,
            traceparent: None,
        };
        let records = auditing::records(world, &deed, &submission.command, &decided);
        check_records(submission, &decided, &records)?;
        let is_accepted = decided.is_ok();
        let (Ok(events) | Err(Refusal { events, .. })) = decided;
        let is_report = matches!(submission.command, Command::Report(_));
        if events.is_empty() && records.is_empty() && !is_report {
            // A service's command that changed nothing is not remembered; a report is.
            return Ok(is_accepted);
        }
        self.append(events, now)?;
        if let Some(key) = answered(&submission.command) {
            self.open.remove(&key);
        }
        self.answers.insert(submission.id, is_accepted);
        Ok(is_accepted)
    }

    fn append(&mut self, events: Vec<Event>, now: Timestamp) -> Result<(), Broken> {
        for event in events {
            let recorded = RecordedEvent {
                number: u64::try_from(self.log.len()).unwrap() + 1,
                id: EventId::from_bytes(self.ids.draw()),
                time: now,
                traceparent: None,
                event,
                bytes: Arc::clone(&self.no_bytes),
                hash: [0; 32],
                signature: [0; 64],
            };
            fold(&mut self.committed, &recorded, self.planted);
            if let Some(planted) = self.planted {
                planted.spoil_memory(&mut self.committed.world, &recorded.event);
            }
            for effect in react(&self.committed.world, &recorded.event) {
                if !self.asked.insert(effect.key()) {
                    let text = format!("effect {:?} was asked for before", effect.key());
                    return Err(Broken::new("I4", text));
                }
                self.open.insert(effect.key(), effect);
            }
            self.log.push(recorded);
        }
        self.reads_as_it_was_decided()
    }

    /// I5 and I6, after every append: who only read the log knows what the gateway decides on, and the log
    /// goes on where it ended.
    fn reads_as_it_was_decided(&mut self) -> Result<(), Broken> {
        let before = usize::try_from(self.read.number).unwrap();
        for recorded in &self.log[before..] {
            if recorded.number != self.read.number + 1 || !self.ids_seen.insert(recorded.id) {
                let text = format!("#{} after #{}", recorded.number, self.read.number);
                return Err(Broken::new("I6", text));
            }
            fold(&mut self.read, recorded, self.planted);
        }
        if let Some(difference) = self.read.world.difference(&self.committed.world) {
            let text = format!("the log gives another world: {difference}");
            return Err(Broken::new("I5", text));
        }
        if self.read.number != self.committed.number || self.read.tally != self.committed.tally {
            return Err(Broken::new("I5", "the log gives other numbers".to_owned()));
        }
        Ok(())
    }

    /// Starts again from the disk; what it knows then is what it knew.
    pub(crate) fn restart(&mut self) -> Result<(), Broken> {
        let mut read = Committed::default();
        for recorded in &self.log {
            fold(&mut read, recorded, self.planted);
        }
        if read.world != self.committed.world {
            return Err(Broken::new("I5", "the log gives another world".to_owned()));
        }
        if read.number != self.committed.number || read.tally != self.committed.tally {
            return Err(Broken::new("I5", "the log gives other numbers".to_owned()));
        }
        self.committed = read;
        self.is_up = true;
        self.is_fresh = true;
        Ok(())
    }
}

fn fold(committed: &mut Committed, recorded: &RecordedEvent, planted: Option<Planted>) {
    committed.apply(recorded, recorded.time);
    if let Some(planted) = planted {
        planted.spoil_fold(&mut committed.world, &recorded.event);
    }
}

/// Whether it is a run's next move.
const fn is_advance(command: &Command) -> bool {
    matches!(command, Command::Playbook(Request::Advance { .. }))
}

const fn is_person(principal: &Principal) -> bool {
    matches!(
        principal,
        Principal::User { .. } | Principal::Operator { .. }
    )
}

/// What an event asks of workers.
fn react(world: &World, event: &Event) -> Vec<Effect> {
    match event {
        Event::Rotation(id, event) => match world.rotations.get(id) {
            Some(open) => rotation::react(world, open, event),
            None => Vec::new(),
        },
        Event::Revocation(id, event) => match world.revocations.get(id) {
            Some(open) => revocation::react(world, open, event),
            None => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// The effect that a command answers.
const fn answered(command: &Command) -> Option<effect::Key> {
    match command {
        Command::StepOutcome {
            rotation,
            step,
            attempt,
            ..
        } => Some(effect::Key::Step(*rotation, *step, *attempt)),
        Command::RevokeOutcome {
            revocation,
            attempt,
            ..
        }
        | Command::ProofOutcome(ProofTaken {
            revocation,
            attempt,
            ..
        }) => Some(effect::Key::Revoke(*revocation, *attempt)),
        _ => None,
    }
}

/// I4: a record for what a person asked, for whatever was refused, and for each use of a secret.
fn check_records(
    submission: &Submission,
    decided: &Result<Vec<Event>, Refusal>,
    records: &[Record],
) -> Result<(), Broken> {
    let needs_one = is_person(&submission.principal) || decided.is_err();
    if needs_one && records.is_empty() {
        let text = format!("no record of {:?}", submission.command);
        return Err(Broken::new("I4", text));
    }
    let is_use = |event: &&Event| {
        matches!(event, Event::Assignment(_, fact)
        if !matches!(
            fact,
            assignment::Event::Assigned { .. } | assignment::Event::ServiceNoted { .. }
        ))
    };
    let uses = decided.iter().flatten().filter(is_use).count();
    let is_usage = |record: &&Record| record.category == Category::Usage;
    let noted = records.iter().filter(is_usage).count();
    if uses != noted {
        let text = format!(
            "{uses} uses and {noted} records of {:?}",
            submission.command
        );
        return Err(Broken::new("I4", text));
    }
    Ok(())
}
