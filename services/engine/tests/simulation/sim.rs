//! One run: a world of machines in virtual time, in which a seed decides what happens next.
//!
//! Everything that is not decided by the core is here: who sends what to whom, what is lost, doubled,
//! late or out of order, who dies and comes back, what clocks say. After every step the invariants hold.

use std::collections::BTreeSet;
use std::time::Duration;

use keywheel_core::audit::{Principal, Role};
use keywheel_core::command::Command;
use keywheel_core::effect::{Effect, Work};
use keywheel_core::id::{CommandId, HostId};
use keywheel_core::plan::HostPlan;
use keywheel_core::rotation::Step;
use keywheel_core::time::Timestamp;
use keywheel_engine::authority::may_submit;
use keywheel_engine::command_bus::Submission;

use crate::container::Wanted;
use crate::gateway::{Answer, Fault, Gateway};
use crate::host::Host;
use crate::invariants::{Broken, Now, Truth, barriers_open_by_reports};
use crate::planted::Planted;
use crate::playbooks::Desk;
use crate::random::Random;
use crate::scene::{CONTAINERS, HOSTS, Reach, Wishes, host_name};
use crate::store::{Quirk, Store, StoreFault, Value};
use crate::words;

/// Where the clocks of a run begin.
const BEGIN: i64 = 1_800_000_000_000_000;
/// How often in a thousand an engine does not do what is ordered.
const REFUSES: u64 = 120;
/// Most messages under way; the oldest is lost then.
const MAX_UNDER_WAY: usize = 64;

/// What is under way. A number says at which host one end is.
#[derive(Debug, Clone)]
pub(crate) enum Message {
    /// To the gateway, from people, timers and store-sync.
    Command(Submission),
    /// To store-sync.
    Work(Effect),
    /// To an injector.
    Plan(usize, HostPlan),
    /// From an injector that asks for its plan.
    AskPlan(usize, HostId),
    /// From an injector.
    Report(usize, Submission),
    /// The gateway's answer to a report.
    Answered(usize, CommandId),
    /// From an injector to store-sync.
    AskValue(usize, HostId, Wanted),
    /// To an injector.
    Value(usize, HostId, Value),
    /// To a receiver of notifications: what the event of a number tells it.
    Tell(u64),
}

pub(crate) struct Sim {
    pub(crate) random: Random,
    pub(crate) gateway: Gateway,
    pub(crate) hosts: Vec<Host>,
    pub(crate) store: Store,
    pub(crate) net: Vec<Message>,
    pub(crate) truth: Truth,
    /// Who follows runs of playbooks.
    pub(crate) desk: Desk,
    /// Since the begin, by a clock that nobody sets.
    pub(crate) now: Duration,
    /// How far the gateway's clock is ahead, in microseconds.
    pub(crate) ahead: i64,
    /// How much goes wrong of what may, in a hundred; 0 while everybody behaves.
    pub(crate) faults: u64,
    /// How much may happen.
    pub(crate) reach: Reach,
    /// What people want for now.
    pub(crate) wishes: Wishes,
    drawn: u64,
    trace: Option<Vec<String>>,
}

impl Sim {
    pub(crate) fn new(seed: u64, reach: Reach, planted: Option<Planted>, is_traced: bool) -> Self {
        let mut store = Store::default();
        store.logins.forgets = planted == Some(Planted::MintsTwice);
        store.forgets = planted == Some(Planted::SetsWhatIsRevoked);
        let mut hosts: Vec<Host> = (0..HOSTS)
            .map(|n| Host::new(n, 0, Duration::ZERO, reach))
            .collect();
        for host in &mut hosts {
            host.orders.is_unwritten = planted == Some(Planted::RestartsTwice);
        }
        Self {
            random: Random::of(seed),
            gateway: Gateway::new(planted, is_traced),
            hosts,
            store,
            net: Vec::new(),
            truth: Truth::default(),
            desk: Desk::default(),
            now: Duration::ZERO,
            ahead: 0,
            faults: 0,
            reach,
            wishes: Wishes::default(),
            drawn: 0,
            trace: is_traced.then(Vec::new),
        }
    }

    /// What happened, for people.
    pub(crate) fn into_trace(self) -> Vec<String> {
        self.trace.unwrap_or_default()
    }

    pub(crate) fn note(&mut self, line: impl FnOnce() -> String) {
        if let Some(trace) = &mut self.trace {
            let (number, at) = (trace.len() + 1, self.now.as_secs_f64());
            trace.push(format!("{number:>4} {at:>10.3}s  {}", line()));
        }
    }

    /// Sixteen bytes that were never drawn before, of one kind.
    pub(crate) fn fresh(&mut self, kind: u8) -> [u8; 16] {
        self.drawn += 1;
        let mut id = [0; 16];
        id[0] = kind;
        id[8..].copy_from_slice(&self.drawn.to_be_bytes());
        id
    }

    pub(crate) fn command_id(&mut self) -> CommandId {
        CommandId::from_bytes(self.fresh(0xc0))
    }

    /// What a clock says that is right.
    pub(crate) fn time(&self) -> Timestamp {
        Timestamp::from_micros(BEGIN).plus(self.now)
    }

    /// What the gateway's clock says.
    pub(crate) fn gateway_time(&self) -> Timestamp {
        Timestamp::from_micros(self.time().micros().saturating_add(self.ahead))
    }

    /// Whether something goes wrong that may do so often in a thousand.
    pub(crate) fn fails(&mut self, often: u64) -> bool {
        let times = self.faults * often / 100;
        times > 0 && self.random.permille(times)
    }

    /// A person's command, ready to be sent.
    pub(crate) fn of_person(&mut self, command: Command) -> Submission {
        let (uid, name) = (0, "root".to_owned());
        self.submission(Principal::User { uid, name }, command)
    }

    /// A service's command; the table of roles lets it.
    pub(crate) fn of_service(&mut self, role: Role, command: Command) -> Submission {
        self.submission(Principal::Service(role), command)
    }

    pub(crate) fn submission(&mut self, principal: Principal, command: Command) -> Submission {
        Submission {
            id: self.command_id(),
            principal,
            traceparent: None,
            command,
        }
    }

    pub(crate) fn send(&mut self, message: Message) {
        self.net.push(message);
        if self.net.len() > MAX_UNDER_WAY {
            self.net.remove(0);
        }
    }

    /// Gives a command to the gateway, which goes on with runs after that.
    pub(crate) fn submit(&mut self, submission: &Submission) -> Result<Answer, Broken> {
        let answer = self.serve(submission)?;
        if self.wishes.plays {
            self.answered_about_runs(submission, answer);
            self.runs_go_on()?;
        }
        Ok(answer)
    }

    /// Gives a command to the gateway, and looks at all that came of it.
    pub(crate) fn serve(&mut self, submission: &Submission) -> Result<Answer, Broken> {
        self.check_role(submission)?;
        let fault = match &submission.command {
            _ if self.fails(3) => Fault::KilledBefore,
            _ if self.fails(6) => Fault::KilledAfter,
            Command::Report(_) | Command::Revoke { .. } => Fault::None,
            _ if self.fails(6) => Fault::DiskFull,
            _ => Fault::None,
        };
        let (before, at) = (self.gateway.log.len(), self.gateway_time());
        let answer = self.gateway.submit(submission, at, fault);
        self.note(|| words::submitted(&submission.command, fault, &answer));
        let answer = answer?;
        self.look(before, &submission.command)?;
        self.replace_evicted();
        if self.gateway.is_up {
            self.publish(before)?;
        }
        Ok(answer)
    }

    fn check_role(&self, submission: &Submission) -> Result<(), Broken> {
        let (role, host) = match (&submission.principal, &submission.command) {
            (Principal::Service(Role::Injector), Command::Report(report)) => {
                (Role::Injector, Some(report.host))
            }
            (Principal::Service(Role::Injector), Command::EnrolHost { host, .. }) => {
                (Role::Injector, Some(*host))
            }
            (Principal::Service(role), _) => (*role, None),
            _ => (Role::Gateway, None),
        };
        match may_submit(role, host, &submission.command) {
            true => Ok(()),
            false => Err(Broken::new(
                "roles",
                format!("{role:?} may not {:?}", submission.command),
            )),
        }
    }

    /// Looks at what was appended.
    fn look(&mut self, before: usize, command: &Command) -> Result<(), Broken> {
        if self.trace.is_some() {
            let appended = self.gateway.log.iter().skip(before);
            let lines: Vec<String> = appended.map(words::appended).collect();
            for line in lines {
                self.note(|| line);
            }
        }
        let world = self.gateway.world();
        let now = Now {
            world,
            hosts: &self.hosts,
            store: &self.store,
            at: self.gateway_time(),
        };
        let appended = self.gateway.log.iter().skip(before);
        self.truth.begin(appended.map(|recorded| &recorded.event));
        let appended = self.gateway.log.iter().skip(before);
        let appended = appended.map(|recorded| &recorded.event);
        self.truth.runs.begin(appended);
        for recorded in self.gateway.log.iter().skip(before) {
            self.truth.see(recorded, (command, &now))?;
            barriers_open_by_reports(world, command, &recorded.event)?;
        }
        if self.gateway.log.len() > before {
            self.truth.stages_are_sane(world)?;
            self.truth.revocations.are_kept(world)?;
            let open = self.gateway.open.values();
            self.truth.revocations.are_left_alone(world, open)?;
            self.truth.runs.are_kept(world)?;
            self.truth.orders.are_kept(world)?;
        }
        Ok(())
    }

    /// A machine whose host was evicted is made anew, and is another host.
    fn replace_evicted(&mut self) {
        for n in 0..self.hosts.len() {
            let known = self.gateway.world().hosts.get(&self.hosts[n].id);
            if known.is_some_and(keywheel_core::host::Host::is_evicted) {
                let before = &self.hosts[n];
                let (weak, is_unwritten) = (before.weak, before.orders.is_unwritten);
                self.hosts[n] = Host::new(n, before.life + 1, self.now, self.reach);
                self.hosts[n].weak = weak;
                self.hosts[n].orders.is_unwritten = is_unwritten;
                self.note(|| format!("machine {n} is made anew"));
                self.ask_plan(n);
            }
        }
    }

    /// A host asks for its plan; one that nobody knows asks to be known first.
    pub(crate) fn ask_plan(&mut self, n: usize) {
        let host = self.hosts[n].id;
        if self.gateway.world().hosts.contains_key(&host) {
            self.send(Message::AskPlan(n, host));
            return;
        }
        let enrol = Command::EnrolHost {
            host,
            name: host_name(n),
            sealing_key: [7; 32],
        };
        let enrol = self.of_service(Role::Injector, enrol);
        self.send(Message::Command(enrol));
    }

    /// Tells the world what was appended after a number.
    fn publish(&mut self, before: usize) -> Result<(), Broken> {
        if self.gateway.log.len() == before {
            return Ok(());
        }
        let first = u64::try_from(before).unwrap() + 1;
        for n in 0..self.hosts.len() {
            let host = self.hosts[n].id;
            if self.gateway.world().host_generation(host) >= first {
                self.tell_plan(n, host)?;
            }
        }
        self.tell_work();
        Ok(())
    }

    fn tell_plan(&mut self, n: usize, host: HostId) -> Result<(), Broken> {
        if let Some(plan) = self.gateway.committed.plan_of(host) {
            self.truth.plan_is_sane(&plan, self.gateway.world())?;
            let away = Some(&self.hosts[n]).filter(|host| host.needs_plan);
            let had = away.and_then(|host| host.plan.as_ref());
            let plan = self.gateway.spoiled(plan, had);
            self.send(Message::Plan(n, plan));
        }
        Ok(())
    }

    /// Tells store-sync of everything that nobody answered and that is not under way.
    pub(crate) fn tell_work(&mut self) {
        if !self.gateway.is_up {
            return;
        }
        let under_way = self.net.iter().filter_map(|message| match message {
            Message::Work(effect) => Some(effect.key()),
            _ => None,
        });
        let under_way: BTreeSet<_> = under_way.collect();
        let open = self.gateway.open.iter();
        let missing = open.filter(|(key, _)| !under_way.contains(*key));
        let missing: Vec<Effect> = missing.map(|(_, effect)| effect.clone()).collect();
        for effect in missing {
            self.send(Message::Work(effect));
        }
    }

    /// Takes one message off the net, and does what it leads to.
    pub(crate) fn deliver(&mut self, at: usize) -> Result<(), Broken> {
        let message = self.net.remove(at);
        let is_cut = host_of(&message).is_some_and(|n| self.hosts[n].is_cut);
        if is_cut && self.random.permille(500) {
            self.net.push(message);
            return Ok(());
        }
        if is_cut || self.fails(40) {
            self.note(|| format!("lost: {}", words::message(&message)));
            return Ok(());
        }
        // An attempt at a report may come long after its answer: from another gateway that was halted.
        let is_once = matches!(message, Message::Answered(..) | Message::AskPlan(..));
        if !is_once && self.fails(60) {
            self.send(message.clone());
        }
        self.take(message)
    }

    fn take(&mut self, message: Message) -> Result<(), Broken> {
        match message {
            Message::Command(submission) => self.submit(&submission).map(|_| ()),
            Message::Work(effect) => {
                self.truth.revocations.may_perform(&effect)?;
                self.perform(&effect);
                Ok(())
            }
            Message::Plan(n, plan) => {
                let (generation, now) = (plan.generation, self.now);
                let is_taken = self.hosts[n].take(plan, now);
                self.note(|| format!("host {n}: plan {generation}, taken: {is_taken}"));
                Ok(())
            }
            Message::AskPlan(n, host) if self.gateway.is_up => self.tell_plan(n, host),
            Message::AskPlan(..) => Ok(()),
            Message::Report(n, submission) => {
                let id = submission.id;
                if self.submit(&submission)? != Answer::Lost {
                    self.send(Message::Answered(n, id));
                }
                Ok(())
            }
            Message::Answered(n, id) => {
                self.answered(n, id);
                Ok(())
            }
            Message::AskValue(n, host, wanted) => self.seal(n, host, wanted),
            Message::Tell(number) => self.tell(number),
            Message::Value(n, host, value) => {
                if self.hosts[n].id == host {
                    let is_taken = self.hosts[n].receive(value);
                    let (secret, version) = value;
                    self.note(|| {
                        words::short(&format!(
                            "host {n}: {secret} v{version} came, taken: {is_taken}"
                        ))
                    });
                }
                Ok(())
            }
        }
    }

    fn answered(&mut self, n: usize, id: CommandId) {
        let host = &mut self.hosts[n];
        let is_first = host.reports.front().is_some_and(|(first, _)| *first == id);
        if !host.is_up || !is_first {
            return;
        }
        host.reports.pop_front();
        self.report(n);
    }

    /// Sends a host's next report, unless it is on its way.
    pub(crate) fn report(&mut self, n: usize) {
        let host = &self.hosts[n];
        let Some((id, report)) = host.reports.front().cloned() else {
            return;
        };
        let is_under_way =
            |message: &Message| matches!(message, Message::Report(_, one) if one.id == id);
        if !host.is_up || host.needs_plan || self.net.iter().any(is_under_way) {
            return;
        }
        let report = Submission {
            id,
            principal: Principal::Service(Role::Injector),
            traceparent: None,
            command: Command::Report(report),
        };
        self.hosts[n].said = Some(id);
        self.send(Message::Report(n, report));
    }

    /// store-sync seals a value for a host whose grant still holds at the log's head.
    fn seal(&mut self, n: usize, host: HostId, wanted: Wanted) -> Result<(), Broken> {
        let (secret, version) = wanted.value;
        let known = self.gateway.world().secrets.get(&secret);
        let granted = known.and_then(|known| known.delivered.get(&(host, version)));
        let is_granted = self.gateway.is_up && granted == Some(&wanted.delivery);
        if is_granted && self.store.values.contains(&wanted.value) {
            self.truth.may_be_sealed(&wanted)?;
            self.send(Message::Value(n, host, wanted.value));
        }
        Ok(())
    }

    /// store-sync does what an effect says, and tells what came of it.
    fn perform(&mut self, effect: &Effect) {
        let fault = match () {
            () if self.fails(100) => StoreFault::Refuses,
            () if self.fails(60) => StoreFault::Away,
            () if self.fails(60) => StoreFault::Silent,
            () if self.fails(20) => StoreFault::Lies,
            () if self.may_lie(effect) && self.fails(200) => StoreFault::Lies,
            () => StoreFault::None,
        };
        let fault = self.halfway(effect, fault);
        self.store.expire(self.now);
        let done = self.store.perform(effect, fault, self.now);
        let failure = done.err();
        self.note(|| words::performed(effect, fault, failure));
        if fault == StoreFault::Halfway || self.fails(60) {
            self.store.logins.forget();
            self.note(|| "store-sync is killed before it tells".to_owned());
            return;
        }
        let reason = failure.map(|failure| failure.reason.to_owned());
        let sessions = match &effect.work {
            Work::Step(work) if work.step == Step::Drain && failure.is_none() => {
                let quirk = match () {
                    () if self.reach == Reach::First => Quirk::None,
                    () if self.random.permille(120) => Quirk::Untold,
                    () if self.random.permille(120) => Quirk::Reopened,
                    () => Quirk::None,
                };
                self.store.count(work, quirk)
            }
            _ => None,
        };
        let outcome = match &effect.work {
            Work::Step(work) => Command::StepOutcome {
                rotation: work.rotation,
                step: work.step,
                attempt: work.attempt,
                failure: reason,
                is_away: failure.is_some_and(|failure| failure.is_away),
                remote: match failure {
                    None => self.store.login_of(work),
                    Some(_) => None,
                },
                sessions,
            },
            Work::Revoke(work) => self.revoke_outcome(work, failure),
        };
        let outcome = self.of_service(Role::StoreSync, outcome);
        self.send(Message::Command(outcome));
    }

    /// A host does what its plan says, as far as it can, and says what is.
    pub(crate) fn pass(&mut self, n: usize) -> Result<(), Broken> {
        let (at, id) = (self.time(), self.command_id());
        if self.hosts[n].has_orders() {
            self.hosts[n].orders.refuses = self.fails(REFUSES);
        }
        if self.hosts[n].pass(at, id) {
            self.note(|| format!("host {n}: a pass"));
            if self.reach >= Reach::Incidents {
                self.truth.revocations.no_file_is_dead(&self.hosts[n])?;
            }
        }
        let host = self.hosts[n].id;
        for wanted in self.hosts[n].ask() {
            self.send(Message::AskValue(n, host, wanted));
        }
        self.report(n);
        Ok(())
    }

    /// A container starts at a free place, or starts again at a taken one.
    pub(crate) fn start(&mut self, n: usize, place: usize) {
        let place = place % CONTAINERS;
        self.drawn += 1;
        let fresh = (self.drawn, self.random.permille(850));
        let (times, id) = ((self.now, self.time()), self.command_id());
        let started = self.hosts[n].start(place, fresh, times, id);
        self.note(|| words::started(n, place, &started));
        self.report(n);
    }

    /// Making a login has a midst, in which store-sync may be killed.
    fn halfway(&mut self, effect: &Effect, fault: StoreFault) -> StoreFault {
        let is_made = matches!(&effect.work, Work::Step(work)
            if work.step == Step::Create && work.outside.is_some());
        match is_made && self.fails(60) {
            true => StoreFault::Halfway,
            false => fault,
        }
    }
}

/// Which host a message comes from or goes to.
const fn host_of(message: &Message) -> Option<usize> {
    match message {
        Message::Command(_) | Message::Work(_) | Message::Tell(_) => None,
        Message::Plan(n, _)
        | Message::AskPlan(n, _)
        | Message::Report(n, _)
        | Message::Answered(n, _)
        | Message::AskValue(n, ..)
        | Message::Value(n, ..) => Some(*n),
    }
}
