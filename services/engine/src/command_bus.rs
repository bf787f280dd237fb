//! The one way to change anything: submit a command; it is decided, appended and answered.
//!
//! One task owns the draft world and decides in turn; all submits that wait are one transaction
//! (group commit). The answer comes after the append is durable. A command id that was answered
//! before gets the same answer, and a person's repeat leaves a record of its own. When the append fails because the disk is full, nothing happened and
//! the draft is thrown away; the batch's lowest [`Class`] is told so, and what may use the journal's
//! reserve is decided anew without it; any other failure ends [`CommandBus::run`], and with it the process.
//!
//! Several processes may decide over one log, each with a bus of its own. An append that comes second is
//! refused by the journal: then what the others appended is read and folded, and the batch is decided
//! anew. Nothing that was decided on an older head is ever answered, a "nothing to do" neither.

mod class;
mod effects;
mod entitled;
mod follow;
mod held;
mod inbox;
mod runs;

use std::collections::HashMap;
use std::sync::Arc;

use keywheel_core::audit::{self, Principal};
use keywheel_core::command::Command;
use keywheel_core::decision::{self, Context, Enrolment, Refusal};
use keywheel_core::effect::Effect;
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, EventId, HostId};
use keywheel_core::time::Timestamp;
use keywheel_core::world::World;
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;

use crate::auditing::{self, Deed};
use crate::port::bus::HostKeys;
use crate::port::clock::Clock;
use crate::port::ids::Ids;
use crate::port::journal::{Class, Decision, Journal, RecordedEvent, Verdict};
use crate::port::{ErrorKind, PortError};
use crate::replay::read_all;
use crate::state::{Committed, View, ViewWriter, view};
use effects::{answered_effect, react};
pub use entitled::Entitle;
pub use follow::FOLLOW_INTERVAL;
pub use held::{HoldBack, HoldWork};
pub use inbox::{Decided, Handle, MAX_BATCH, MAX_RECORDS, MAX_URGENT, MAX_WAITING};
use inbox::{Inbox, Request, inbox};
use runs::{Runs, is_no_for_now, was_done_by_others};

/// How often a batch is decided anew because others appended first; then its senders come back.
pub const MAX_ROUNDS: u32 = 32;

/// A command with its sender.
#[derive(Debug, Clone)]
pub struct Submission {
    /// Chosen by the sender; a repeat gets the first answer.
    pub id: CommandId,
    /// Who asks.
    pub principal: Principal,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What.
    pub command: Command,
}

/// What was committed together; for whoever tells the rest of the world.
#[derive(Debug)]
pub struct Commit {
    /// The events.
    pub events: Vec<RecordedEvent>,
    /// Work that waits now.
    pub effects: Vec<Effect>,
    /// Hosts whose plans changed.
    pub hosts: Vec<HostId>,
    /// Whether audit records were added.
    pub audited: bool,
}

/// Ports and hooks of the command bus.
pub struct Parts {
    /// The log of record.
    pub journal: Arc<dyn Journal>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Fresh ids.
    pub ids: Arc<dyn Ids>,
    /// Called between the decision and its durability, and right after; before and after each move of a run, too. Names
    /// of failpoints.
    pub failpoint: fn(&'static str),
}

/// Is shown what this process appended, once it is durable and folded: for lines and spans about it.
pub type Witness = Arc<dyn Fn(&Committed, &[RecordedEvent]) + Send + Sync>;

/// Takes what is known of hosts, as of the log's head.
pub type LearnHosts = Arc<dyn Fn(&World) + Send + Sync>;

/// The deciding task.
pub struct CommandBus {
    parts: Parts,
    inbox: Inbox,
    commits: mpsc::Sender<Commit>,
    draft: World,
    next: u64,
    /// Audit leaves that were handed on, as far as the bell told.
    audit_size: u64,
    /// Whether other processes append too.
    shared: bool,
    writer: ViewWriter,
    enrolment: Enrolment,
    learn_hosts: Option<LearnHosts>,
    witness: Option<Witness>,
    hold_back: Option<HoldBack>,
    entitle: Option<Entitle>,
}

/// What starting gives: the task to run, and its three outer ends.
pub struct Started {
    /// Run this.
    pub bus: CommandBus,
    /// Submit here.
    pub handle: Handle,
    /// Read here.
    pub view: View,
    /// Tell the world from here; a slow reader slows commits down, and nothing is lost.
    pub commits: mpsc::Receiver<Commit>,
}

impl CommandBus {
    /// Folds the whole log and gets ready to decide.
    ///
    /// # Errors
    /// When the log cannot be read.
    pub async fn start(parts: Parts) -> Result<Started, PortError> {
        let (writer, view) = view();
        let number = read_all(&parts.journal, |events| writer.replay(events)).await?;
        let shared = parts.journal.bell().is_some();
        let audit_size = parts.journal.head().await?.audit_size;
        let (handle, inbox) = inbox(shared);
        let (commit_sender, commits) = mpsc::channel(MAX_BATCH);
        let draft = writer.draft();
        let bus = Self {
            parts,
            inbox,
            commits: commit_sender,
            draft,
            next: number + 1,
            audit_size,
            shared,
            writer,
            enrolment: Enrolment::default(),
            learn_hosts: None,
            witness: None,
            hold_back: None,
            entitle: None,
        };
        Ok(Started {
            bus,
            handle,
            view,
            commits,
        })
    }

    /// Says how hosts become known here; by default there is only the gateway's own machine.
    #[must_use]
    pub fn with_enrolment(mut self, enrolment: Enrolment) -> Self {
        self.enrolment = enrolment;
        self
    }

    /// Says what is known of hosts: now, and at each fold after which another key speaks for one, or
    /// none, whoever appended that. What is appended here is said before it is answered.
    #[must_use]
    pub fn with_hosts(mut self, learn: LearnHosts) -> Self {
        learn(&self.draft);
        self.learn_hosts = Some(learn);
        self
    }

    /// Shows what is appended here, and nothing that others append.
    #[must_use]
    pub fn with_witness(mut self, witness: Witness) -> Self {
        self.witness = Some(witness);
        self
    }

    /// Decides until every handle is gone, and keeps up with what others append. Returns an error only
    /// when what the disk holds is unknown; the process must end then and verify at its next start.
    ///
    /// # Errors
    /// When an append failed for another reason than a full disk, a lost server or another appender.
    pub async fn run(mut self) -> Result<(), PortError> {
        let mut bell = self.parts.journal.bell();
        let mut look = tokio::time::interval(FOLLOW_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            // What people and services ask for waits for one move of a run at most.
            let runs = self.advance_run().await?;
            tokio::select! {
                biased;
                batch = self.inbox.next_batch() => match batch {
                    Some(batch) => self.serve(batch).await?,
                    None => return Ok(()),
                },
                () = follow::rung(&mut bell) => {
                    let heard = bell.as_mut().map(|bell| *bell.borrow_and_update());
                    self.keep_up(heard).await?;
                }
                _ = look.tick(), if self.shared || runs == Runs::Stuck => {
                    if self.shared {
                        let heard = self.parts.journal.head().await.ok().map(|head| head.mark());
                        self.keep_up(heard).await?;
                    }
                }
                () = std::future::ready(()), if runs == Runs::Moved => {}
            }
        }
    }

    /// Serves a batch, and each of its requests by itself when the log has no place for one of them.
    async fn serve(&mut self, batch: Vec<Request>) -> Result<(), PortError> {
        for alone in self.serve_together(batch).await? {
            // What has no place by itself is refused.
            self.serve_together(vec![alone]).await?;
        }
        Ok(())
    }

    /// Serves a batch; each round without the lowest class of the one before, whose room ran out, or on
    /// a head that others moved. Gives back those that have to be served one by one.
    async fn serve_together(&mut self, mut batch: Vec<Request>) -> Result<Vec<Request>, PortError> {
        let mut rounds = 0;
        while !batch.is_empty() {
            if rounds == MAX_ROUNDS {
                let text = "other gateways were always first; try again in a moment";
                refuse(batch, &PortError::new(ErrorKind::Unavailable, text));
                break;
            }
            rounds += 1;
            batch = match self.serve_once(batch).await? {
                Again::Together(batch) => batch,
                Again::OneByOne(batch) => return Ok(batch),
            };
        }
        Ok(Vec::new())
    }

    /// Gives back what deserves another round.
    async fn serve_once(&mut self, batch: Vec<Request>) -> Result<Again, PortError> {
        let first = self.next;
        let mut decisions: Vec<Decision> = Vec::new();
        let mut answers = Vec::new();
        let mut decided: HashMap<CommandId, Verdict> = HashMap::new();
        for request in batch {
            let decision = match &request {
                Request::Look(_) => Ok(None),
                Request::Record(record, own, _) => {
                    let record = (**record).clone();
                    Ok(Some(self.records_only(*own, record.time, vec![record])))
                }
                Request::Submit(submission, by, _) => {
                    let beside = decided.get(&submission.id).cloned();
                    let is_durable = beside.is_none();
                    let known = match beside {
                        Some(verdict) => Ok(Some(verdict)),
                        None => self.parts.journal.verdict(submission.id).await,
                    };
                    match known {
                        Ok(None) => match self.held_back(submission) {
                            None => self
                                .decide(submission)
                                .map(|decision| admitted(decision, by)),
                            Some(held) => Err(held),
                        },
                        Ok(Some(known)) => {
                            let record = admitted(self.repeat(submission, &known), by);
                            let answer = Decided::before(known);
                            if is_durable && record.is_none() {
                                request.answer(Ok(answer));
                            } else {
                                // It waits for the batch: for its record, or for the first of the two.
                                decisions.extend(record);
                                answers.push((request, answer));
                            }
                            continue;
                        }
                        Err(error) => Err(error),
                    }
                }
            };
            let decision = match decision {
                Ok(decision) => decision,
                Err(not_now) => {
                    request.answer(Err(not_now));
                    continue;
                }
            };
            let number = self.next - 1;
            let verdict = decision
                .as_ref()
                .map_or(Verdict::Accepted { number }, |d| d.verdict.clone());
            if let Some(decision) = decision {
                decided.insert(decision.command, verdict.clone());
                decisions.push(decision);
            }
            answers.push((request, Decided::now(verdict)));
        }
        self.commit(first, decisions, answers).await
    }

    /// Gives back what deserves another round.
    async fn commit(
        &mut self,
        first: u64,
        decisions: Vec<Decision>,
        answers: Vec<(Request, Decided)>,
    ) -> Result<Again, PortError> {
        (self.parts.failpoint)("gateway.before_commit");
        // An empty append still says whether the head is where these answers saw it.
        let appended = match decisions.is_empty() && !self.shared {
            true => Ok(Vec::new()),
            false => self.parts.journal.append(first, &decisions).await,
        };
        let events = match appended {
            Ok(events) => events,
            Err(error) if error.kind == ErrorKind::Unavailable => {
                self.go_back();
                let lowest = decisions.iter().map(|decision| decision.class).min();
                let lowest = lowest.unwrap_or(Class::Revocation);
                let requests = answers.into_iter().map(|(request, _)| request);
                let (again, refused): (Vec<_>, Vec<_>) =
                    requests.partition(|request| request.class(&self.draft) > lowest);
                refuse(refused, &error);
                return Ok(Again::Together(again));
            }
            Err(error) if error.kind == ErrorKind::Conflict => {
                let requests = answers.into_iter().map(|(request, _)| request).collect();
                return self.after_conflict(first, requests, error).await;
            }
            Err(error) => return Err(error),
        };
        (self.parts.failpoint)("gateway.after_commit");
        let hosts = self.make_committed(&events);
        let seen = self.witness.is_some().then(|| events.clone());
        let audited = decisions.iter().any(|decision| !decision.audit.is_empty());
        let effects = decisions
            .into_iter()
            .flat_map(|decision| decision.effects)
            .collect();
        let commit = Commit {
            events,
            effects,
            hosts,
            audited,
        };
        self.hand_on(commit).await;
        // The world is told before anybody writes about it.
        if let (Some(witness), Some(seen)) = (&self.witness, seen) {
            self.writer.show_all(&|committed| witness(committed, &seen));
        }
        for (request, decided) in answers {
            request.answer(Ok(decided));
        }
        Ok(Again::Together(Vec::new()))
    }

    /// Folds what is durable now; gives the hosts whose plans it changed.
    fn make_committed(&self, events: &[RecordedEvent]) -> Vec<HostId> {
        let hosts = self.writer.apply(events, self.parts.clock.now());
        let changes_keys = |event: &RecordedEvent| HostKeys::are_changed_by(&event.event);
        if let Some(learn) = &self.learn_hosts
            && events.iter().any(changes_keys)
        {
            self.writer.show(&**learn);
        }
        self.writer.ring();
        hosts
    }

    /// Others were first: their events are folded, and all of the batch is decided anew. Where nobody
    /// was, something in the batch has a name that the log has already: an id that its sender drew
    /// twice. Whose it is shows when each is served by itself; that one is refused.
    async fn after_conflict(
        &mut self,
        first: u64,
        requests: Vec<Request>,
        conflict: PortError,
    ) -> Result<Again, PortError> {
        let moved = match self.shared {
            true => self.follow().await.map(|()| self.next != first),
            false => self
                .parts
                .journal
                .head()
                .await
                .map(|head| head.number + 1 != first),
        };
        match moved {
            Ok(true) if self.shared => Ok(Again::Together(requests)),
            // Somebody else appends to a log of ours.
            Ok(true) => Err(conflict),
            Ok(false) => {
                self.go_back();
                if let Some(known) = self.on_record(&requests).await {
                    let answer =
                        |request: Request| request.answer(Ok(Decided::before(known.clone())));
                    requests.into_iter().for_each(answer);
                    return Ok(Again::Together(Vec::new()));
                }
                Ok(match requests.len() {
                    // Who was first may only not be seen yet.
                    1 if self.shared => Again::Together(requests),
                    1 => {
                        let text =
                            "it names something that was there before; ask again with fresh ids";
                        let taken = PortError::caused(ErrorKind::Conflict, text, conflict);
                        refuse(requests, &taken);
                        Again::Together(Vec::new())
                    }
                    _ => Again::OneByOne(requests),
                })
            }
            Err(error) if error.kind == ErrorKind::Unavailable => {
                refuse(requests, &error);
                Ok(Again::Together(Vec::new()))
            }
            Err(error) => Err(error),
        }
    }

    /// What a person's repeat leaves: records, under an id of their own, and nothing else. A service
    /// repeats until it is answered, which is no deed. It has the class of its command, so that a full
    /// disk refuses it with the command's like.
    fn repeat(&self, submission: &Submission, known: &Verdict) -> Option<Decision> {
        let is_person = matches!(
            submission.principal,
            Principal::User { .. }
                | Principal::Operator { .. }
                | Principal::Token { .. }
                | Principal::Login { .. }
        );
        if !is_person {
            return None;
        }
        let deed = Deed {
            principal: &submission.principal,
            id: submission.id,
            time: self.parts.clock.now(),
            traceparent: submission.traceparent.as_deref(),
        };
        let is_accepted = matches!(known, Verdict::Accepted { .. });
        let records =
            auditing::repeat_records(&self.draft, &deed, &submission.command, is_accepted);
        let own = CommandId::from_bytes(self.parts.ids.draw());
        Some(Decision {
            class: class::of(&self.draft, &submission.command),
            ..self.records_only(own, deed.time, records)
        })
    }

    fn records_only(
        &self,
        command: CommandId,
        time: Timestamp,
        audit: Vec<audit::Record>,
    ) -> Decision {
        Decision {
            command,
            class: Class::Record,
            time,
            traceparent: None,
            events: Vec::new(),
            effects: Vec::new(),
            closes: Vec::new(),
            verdict: Verdict::Accepted {
                number: self.next - 1,
            },
            audit,
        }
    }

    /// Decides on the draft. `None` when there is nothing to make durable: a service's command that
    /// changed nothing. A report is remembered all the same: another gateway may come to a copy of it when
    /// its host told of more since, and decided then it would take that back.
    ///
    /// # Errors
    /// When a slot comes early, by this clock, or a trigger's run would be one too many: an answer that is kept would
    /// hold for its command for ever, so nothing is, and the scheduler asks again.
    fn decide(&mut self, submission: &Submission) -> Result<Option<Decision>, PortError> {
        let now = self.parts.clock.now();
        let ctx = Context {
            now,
            seed: self.parts.ids.draw(),
            enrolment: self.enrolment,
        };
        let class = class::of(&self.draft, &submission.command);
        let outcome = decision::decide(&self.draft, &submission.command, &ctx);
        let outcome = outcome.map(|events| self.entitled(&submission.command, events, &ctx));
        if let Err(refusal) = &outcome
            && is_no_for_now(&submission.command, &refusal.reason)
        {
            let text = refusal.reason.to_string();
            return Err(PortError::new(ErrorKind::Unavailable, text));
        }
        if let (Command::Report(report), Ok(_)) = (&submission.command, &outcome) {
            self.writer.note_report(report, now);
        }
        let deed = Deed {
            principal: &submission.principal,
            id: submission.id,
            time: now,
            traceparent: submission.traceparent.as_deref(),
        };
        let is_idle = matches!(&outcome, Ok(events) if events.is_empty());
        if is_idle && was_done_by_others(&submission.command) {
            return Ok(None);
        }
        let audit = auditing::records(&self.draft, &deed, &submission.command, &outcome);
        if let Some(traceparent) = submission
            .traceparent
            .as_deref()
            .filter(|_| !audit.is_empty())
        {
            self.writer.origins.note(submission.id, traceparent);
        }
        let closes = answered_effect(&submission.command).into_iter().collect();
        let (events, verdict) = match outcome {
            Ok(events) => (events, None),
            Err(Refusal { reason, events }) => {
                let text = reason.to_string();
                let kind = reason.kind();
                (events, Some(Verdict::Rejected { kind, text }))
            }
        };
        let is_report = matches!(submission.command, Command::Report(_));
        if events.is_empty() && audit.is_empty() && !is_report {
            return Ok(None);
        }
        let effects = self.fold(&events, now);
        Ok(Some(Decision {
            command: submission.id,
            class,
            time: now,
            traceparent: submission.traceparent.clone(),
            events: events
                .into_iter()
                .map(|e| (EventId::from_bytes(self.parts.ids.draw()), e))
                .collect(),
            effects,
            closes,
            audit,
            verdict: verdict.unwrap_or(Verdict::Accepted {
                number: self.next - 1,
            }),
        }))
    }

    /// Folds a decision's events into the draft and lets the process managers react to each.
    fn fold(&mut self, events: &[Event], at: Timestamp) -> Vec<Effect> {
        let mut effects = Vec::new();
        for event in events {
            self.draft.note_time(at);
            self.draft.apply(self.next, event);
            self.next += 1;
            effects.extend(react(&self.draft, event));
        }
        effects
    }
}

/// A decision whose records name the policies that let it in, if any did.
fn admitted(decision: Option<Decision>, by: &Option<String>) -> Option<Decision> {
    let mut decision = decision?;
    match by {
        Some(by) => auditing::note_admission(&mut decision.audit, by),
        None => auditing::note_own_words(&mut decision.audit),
    }
    Some(decision)
}

/// What deserves another round.
enum Again {
    Together(Vec<Request>),
    /// Something in it has no place in the log.
    OneByOne(Vec<Request>),
}

/// Tells every sender the same failure.
fn refuse(requests: Vec<Request>, error: &PortError) {
    for request in requests {
        request.answer(Err(PortError::new(error.kind, error.text.clone())));
    }
}
