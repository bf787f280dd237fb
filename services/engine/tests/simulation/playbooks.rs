//! Playbooks: what people declare and do about runs, what signals and slots begin, and whom steps tell.
//!
//! The scheduler's part is as `services/scheduler/src/timer/{runs,triggers}.rs` has it, with two of them; that of
//! receivers as `services/signals/src/outgoing/calls.rs` has it: whoever is waited for is told again until its answer
//! is on the log. What runs have to keep is in `runs`; which playbooks there are is in `scores`.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::audit::{Principal, Role};
use keywheel_core::command::{Command, Outward};
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, NotificationId, PlaybookId, RunId};
use keywheel_core::name::{PlaybookName, SecretName};
use keywheel_core::playbook::{Deed, Trigger};
use keywheel_core::playbook_run::{self, Cause, Intervention, Progress, Request, Run};
use keywheel_core::signal::{self, Signal};
use keywheel_core::time::Timestamp;
use keywheel_engine::command_bus::Submission;

use crate::gateway::Answer;
use crate::incidents::PEOPLE;
use crate::invariants::{Broken, hold};
use crate::scene::{Reach, SECRETS, secret_name};
use crate::scores::{
    PLAYBOOKS, RECEIVERS, declare_receiver, declare_source, playbook_name, receiver_name,
    source_name,
};
use crate::sim::{Message, Sim};

/// Moves in a row after which runs go on for ever.
const MOST_MOVES: usize = 2000;
/// An hour, as a schedule has it.
const HOUR: i64 = 3_600_000_000;

/// What is on the way from runs to receivers, and from signals and slots to runs. It follows from the log.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    /// How much of the log was read.
    read: usize,
    /// What receivers are told, by the number of its event.
    letters: BTreeMap<u64, Letter>,
    /// Which event a receiver took for a step's target.
    taken: BTreeMap<(RunId, String, u32), u64>,
    /// Runs that signals and slots are to begin.
    starts: BTreeMap<RunId, Request>,
}

/// One that a receiver is told.
#[derive(Debug, Clone)]
struct Letter {
    run: RunId,
    step: String,
    place: u32,
    notification: NotificationId,
    /// Whether the run waits for it.
    is_call: bool,
    /// Whether it never takes it.
    is_refused: bool,
    is_over: bool,
}

fn identity(principal: &Principal) -> String {
    match principal {
        Principal::User { uid, .. } => format!("unix:{uid}"),
        other => format!("{other:?}"),
    }
}

impl Sim {
    /// Whoever has a say; one has two names.
    fn somebody(&mut self) -> Principal {
        let (uid, name) = PEOPLE[self.random.below(PEOPLE.len())];
        let name = name.to_owned();
        Principal::User { uid, name }
    }

    /// Playbooks are there before anything goes wrong, and one runs.
    pub(crate) fn begin_playbooks(&mut self) -> Result<(), Broken> {
        if !self.wishes.plays {
            return Ok(());
        }
        for n in 0..RECEIVERS {
            self.person(declare_receiver(n));
        }
        self.person(declare_source());
        for n in (0..PLAYBOOKS).rev() {
            let declare = self.some_playbook(n);
            self.person(declare);
        }
        self.settle()
    }

    /// People declare, run, approve, step in; and somebody outside says that something leaked.
    pub(crate) fn somebody_plays(&mut self) -> Result<(), Broken> {
        if !self.wishes.plays {
            return self.deliver_any();
        }
        let n = self.random.below(PLAYBOOKS);
        let often = match self.reach {
            Reach::Whole => &[12, 34, 24, 18, 10, 2, 3, 10][..],
            _ => &[12, 34, 24, 18, 10, 2, 3],
        };
        let command = match self.random.weighted(often) {
            0 => self.some_playbook(n),
            1 => return self.somebody_runs(n),
            2 => return self.somebody_approves(),
            3 => return self.somebody_steps_in(),
            4 => self.some_signal(),
            5 => Command::Playbook(Request::Remove {
                name: playbook_name(n),
            }),
            7 => return self.somebody_lifts(),
            _ => {
                let n = self.random.below(RECEIVERS);
                match self.random.permille(400) {
                    true => Command::Outward(Outward::RemoveNotification(receiver_name(n))),
                    false => declare_receiver(n),
                }
            }
        };
        let command = self.of_person(command);
        self.say(command)
    }

    /// Somebody runs a playbook.
    pub(crate) fn somebody_runs(&mut self, n: usize) -> Result<(), Broken> {
        let principal = self.somebody();
        let told = self.random.permille(600).then(|| {
            let secret = secret_name(self.random.below(SECRETS));
            ("secret".to_owned(), secret.to_string())
        });
        let command = Command::Playbook(Request::Start {
            run: RunId::from_bytes(self.fresh(0x4b)),
            playbook: playbook_name(n),
            arguments: told.into_iter().collect(),
            by: identity(&principal),
            reason: "it leaked".to_owned(),
            cause: Cause::Person,
        });
        let command = self.submission(principal, command);
        self.say(command)
    }

    /// An open run, most often; now and then any.
    fn some_run(&mut self, waits: impl Fn(&Run) -> bool) -> Option<RunId> {
        let is_any = self.random.permille(100);
        let known = self.gateway.world().runs.values();
        let known = known.filter(|run| is_any || (run.is_open() && waits(run)));
        let known: Vec<RunId> = known.map(|run| run.id).collect();
        known.get(self.random.below(known.len())).copied()
    }

    fn somebody_approves(&mut self) -> Result<(), Broken> {
        let Some(run) = self.some_run(|run| waiting_for_people(run).next().is_some()) else {
            return Ok(());
        };
        let known = self.gateway.world().runs.get(&run);
        let step = known.and_then(|run| waiting_for_people(run).next().map(ToOwned::to_owned));
        let principal = self.somebody();
        let command = Command::Playbook(Request::Approve {
            run,
            step: step.filter(|_| self.random.permille(800)),
            by: identity(&principal),
            is_person: true,
            reason: "seen".to_owned(),
        });
        let command = self.submission(principal, command);
        self.say(command)
    }

    fn somebody_steps_in(&mut self) -> Result<(), Broken> {
        let Some(run) = self.some_run(|_| true) else {
            return Ok(());
        };
        let known = self.gateway.world().runs.get(&run);
        let often = match known.is_some_and(|run| run.paused) {
            true => [5, 70, 25],
            false => [55, 5, 40],
        };
        let kinds = [
            Intervention::Pause,
            Intervention::Resume,
            Intervention::Cancel,
        ];
        let intervention = kinds[self.random.weighted(&often)];
        self.step_in(run, intervention)
    }

    fn step_in(&mut self, run: RunId, intervention: Intervention) -> Result<(), Broken> {
        let principal = self.somebody();
        let command = Command::Playbook(Request::Intervene {
            run,
            intervention,
            by: identity(&principal),
            reason: "wait a moment".to_owned(),
        });
        let command = self.submission(principal, command);
        self.say(command)
    }

    /// Somebody lifts a quarantine.
    fn somebody_lifts(&mut self) -> Result<(), Broken> {
        let known = self.gateway.world().quarantines();
        let known: Vec<String> = known
            .map(|(_, one)| one.subject.container.to_string())
            .collect();
        match known.get(self.random.below(known.len())) {
            Some(container) => self.lift(container),
            None => Ok(()),
        }
    }

    fn lift(&mut self, container: &str) -> Result<(), Broken> {
        let principal = self.somebody();
        let command = Command::Playbook(Request::Lift {
            container: container.to_owned(),
            by: identity(&principal),
            reason: "false alarm".to_owned(),
        });
        let command = self.submission(principal, command);
        self.say(command)
    }

    fn some_signal(&mut self) -> Command {
        let secret: SecretName = secret_name(self.random.below(SECRETS));
        let id = self.fresh(0x16);
        Command::Outward(Outward::TakeSignal(Signal {
            via: source_name(),
            source: "scanner".to_owned(),
            id: format!("{id:?}"),
            kind: "leaked".to_owned(),
            subject: secret.to_string(),
            fields: BTreeMap::new(),
            compared: None,
            matched: None,
            first: None,
        }))
    }

    /// What goes on without people: receivers are told, times are over, signals and slots begin runs.
    pub(crate) fn playbooks_go_on(&mut self) -> Result<(), Broken> {
        if !self.wishes.plays {
            return self.deliver_any();
        }
        match self.random.weighted(&[30, 25, 25, 10, 10]) {
            0 => self.tell_receivers(),
            1 => self.steps_are_due(false),
            2 => self.begin_runs(),
            3 => self.slots_are_due(),
            _ => {
                self.wait_for_a_step();
                self.steps_are_due(true);
            }
        }
        Ok(())
    }

    /// Runs do what they do next, as far as the gateway comes before it hears of something else.
    pub(crate) fn runs_go_on(&mut self) -> Result<(), Broken> {
        if !self.wishes.plays {
            return Ok(());
        }
        match self.wishes.is_eager {
            true => self.runs_rest(),
            false => {
                for _ in 0..self.random.up_to(3) {
                    self.advance_run()?;
                }
                Ok(())
            }
        }
    }

    /// They go on until they wait, or the gateway is down.
    pub(crate) fn runs_rest(&mut self) -> Result<(), Broken> {
        for _ in 0..MOST_MOVES {
            if !self.advance_run()? {
                return Ok(());
            }
        }
        Err(Broken::new("P8", "runs go on without end".to_owned()))
    }

    fn advance_run(&mut self) -> Result<bool, Broken> {
        let Some(advance) = self.gateway.next_of_runs() else {
            return Ok(false);
        };
        self.serve(&advance)?;
        Ok(true)
    }

    /// What was said is on the log, or will never be.
    pub(crate) fn answered_about_runs(&mut self, submission: &Submission, answer: Answer) {
        self.read_log();
        if answer == Answer::Lost {
            return;
        }
        match &submission.command {
            Command::Playbook(Request::Start { run, .. }) => {
                self.desk.starts.remove(run);
            }
            Command::Playbook(Request::Answer {
                run, step, place, ..
            }) => {
                let mut letters = self.desk.letters.values_mut();
                let is_it =
                    |one: &&mut Letter| (one.run, &one.step, one.place) == (*run, step, *place);
                if let Some(letter) = letters.find(is_it) {
                    letter.is_over = true;
                }
            }
            _ => {}
        }
    }

    /// Schedulers and those who tell receivers read the log.
    fn read_log(&mut self) {
        for recorded in self.gateway.log.iter().skip(self.desk.read) {
            match &recorded.event {
                Event::PlaybookRun(
                    run,
                    playbook_run::Event::Notified {
                        step,
                        place,
                        notification,
                        ..
                    },
                ) => {
                    let known = self.gateway.committed.world.runs.get(run);
                    let state = known.and_then(|known| known.step(step));
                    let letter = Letter {
                        run: *run,
                        step: step.clone(),
                        place: *place,
                        notification: *notification,
                        is_call: state
                            .is_some_and(|one| matches!(one.step.deed, Deed::Call { .. })),
                        is_refused: false,
                        is_over: false,
                    };
                    self.desk.letters.insert(recorded.number, letter);
                }
                Event::Signal(_, signal::Event::Received { subject, .. }) => {
                    let number = recorded.number;
                    let told = BTreeMap::from([("secret".to_owned(), subject.clone())]);
                    let known = self.gateway.committed.world.playbooks.values();
                    let watching = known.filter(|known| {
                        let mut triggers = known.spec.triggers.iter();
                        triggers.any(|one| matches!(one, Trigger::Event { .. }))
                    });
                    let starts = watching.map(|known| {
                        start_of((known.id, &known.name), Cause::Event { number }, &told)
                    });
                    self.desk.starts.extend(starts);
                }
                _ => {}
            }
        }
        self.desk.read = self.gateway.log.len();
    }

    /// Both schedulers see a playbook's hour.
    fn slots_are_due(&mut self) {
        let hour = self.time().micros() / HOUR;
        let scheduled = Timestamp::from_micros(hour * HOUR);
        let known = self.gateway.world().playbooks.values();
        let watching = known.filter(|known| {
            let mut triggers = known.spec.triggers.iter();
            triggers.any(|one| matches!(one, Trigger::Schedule { .. }))
        });
        let none = BTreeMap::new();
        let starts = watching
            .map(|known| start_of((known.id, &known.name), Cause::Slot { scheduled }, &none));
        let starts: Vec<(RunId, Request)> = starts.collect();
        self.desk.starts.extend(starts);
        self.begin_runs();
    }

    /// Two schedulers ask until they are answered.
    pub(crate) fn begin_runs(&mut self) {
        let starts: Vec<(RunId, Request)> = self.desk.starts.clone().into_iter().collect();
        for (run, request) in starts {
            let mut id = *run.bytes();
            id[0] ^= 0xff;
            for _ in 0..2 {
                let mut start =
                    self.of_service(Role::Scheduler, Command::Playbook(request.clone()));
                start.id = CommandId::from_bytes(id);
                self.send(Message::Command(start));
            }
        }
    }

    /// The scheduler says whose time is over; it may be wrong about that.
    pub(crate) fn steps_are_due(&mut self, only_late: bool) {
        let now = self.gateway_time();
        let open = self.gateway.world().open_runs();
        let due = open.flat_map(|run| {
            let open = run.steps.iter().filter(move |state| {
                let is_late = state.until.is_some_and(|until| until <= now);
                state.progress == Progress::Open && (is_late || !only_late)
            });
            open.map(move |state| (run.id, state.step.name.clone()))
        });
        let due: Vec<(RunId, String)> = due.collect();
        for (run, step) in due {
            self.timer(Command::Playbook(Request::Due { run, step }));
        }
    }

    /// Until the first of the steps that are under way has to be over; nobody waits for what is paused.
    pub(crate) fn wait_for_a_step(&mut self) {
        let open = self.gateway.world().open_runs().filter(|run| !run.paused);
        let steps = open.flat_map(|run| run.steps.iter());
        let open = steps.filter(|state| state.progress == Progress::Open);
        if let Some(first) = open.filter_map(|state| state.until).min() {
            let left = first.micros().saturating_sub(self.gateway_time().micros());
            self.now += Duration::from_micros(u64::try_from(left).unwrap_or(0));
        }
    }

    /// Whoever did not take what they are told is told again.
    pub(crate) fn tell_receivers(&mut self) {
        let open = self.desk.letters.iter().filter(|(_, one)| !one.is_over);
        let is_under_way = |number: u64| {
            let mut net = self.net.iter();
            net.any(|message| matches!(message, Message::Tell(one) if *one == number))
        };
        let missing = open.map(|(number, _)| *number);
        let missing: Vec<u64> = missing.filter(|number| !is_under_way(*number)).collect();
        for number in missing {
            self.send(Message::Tell(number));
        }
    }

    /// P3: a receiver is told, and knows what it took before by the number of the event.
    pub(crate) fn tell(&mut self, number: u64) -> Result<(), Broken> {
        let Some(mut letter) = self.desk.letters.get(&number).cloned() else {
            return Ok(());
        };
        let is_declared = self
            .gateway
            .world()
            .notifications
            .contains_key(&letter.notification);
        let is_away = self.fails(200);
        if letter.is_over || is_away {
            return Ok(());
        }
        letter.is_refused |= self.fails(200);
        letter.is_over = !letter.is_call || !is_declared;
        self.desk.letters.insert(number, letter.clone());
        if !letter.is_refused && is_declared {
            let target = (letter.run, letter.step.clone(), letter.place);
            let first = *self.desk.taken.entry(target).or_insert(number);
            hold(first == number, "P3", || {
                format!("a receiver took #{first} and #{number} for {letter:?}")
            })?;
        }
        let is_killed = self.fails(100);
        if letter.is_over || is_killed {
            return Ok(());
        }
        let mut id = [0xa5; 16];
        id[8..].copy_from_slice(&number.to_be_bytes());
        let refused = "it never takes that";
        let answer = Command::Playbook(Request::Answer {
            run: letter.run,
            step: letter.step,
            place: letter.place,
            failure: letter.is_refused.then(|| refused.to_owned()),
        });
        let mut answer = self.of_service(Role::Gateway, answer);
        answer.id = CommandId::from_bytes(id);
        self.send(Message::Command(answer));
        Ok(())
    }

    /// When everybody behaves, people go on with some of what they paused, and may approve what waits for them.
    pub(crate) fn people_care(&mut self) -> Result<(), Broken> {
        self.wishes.approve = self.random.permille(600);
        let paused = self.gateway.world().open_runs().filter(|run| run.paused);
        let paused: Vec<RunId> = paused.map(|run| run.id).collect();
        for run in paused {
            if self.random.permille(700) {
                self.step_in(run, Intervention::Resume)?;
            }
        }
        let apart = self.gateway.world().quarantines();
        let apart: Vec<String> = apart
            .map(|(_, one)| one.subject.container.to_string())
            .collect();
        for container in apart {
            if self.random.permille(400) {
                self.lift(&container)?;
            }
        }
        Ok(())
    }

    /// One round of that.
    pub(crate) fn care_for_runs(&mut self) -> Result<(), Broken> {
        if !self.wishes.plays {
            return Ok(());
        }
        self.runs_rest()?;
        self.tell_receivers();
        self.begin_runs();
        self.steps_are_due(true);
        if self.wishes.approve {
            self.somebody_approves()?;
        }
        Ok(())
    }

    /// P8: whether every run ended that nobody paused.
    pub(crate) fn runs_are_over(&self) -> bool {
        let mut open = self.gateway.world().open_runs();
        let is_told = |letter: &Letter| letter.is_over;
        open.all(|run| run.paused)
            && self.desk.letters.values().all(is_told)
            && self.desk.starts.is_empty()
    }
}

/// Steps that wait for an approval.
fn waiting_for_people(run: &Run) -> impl Iterator<Item = &str> {
    let open = run.steps.iter().filter(|state| {
        state.progress == Progress::Open && matches!(state.step.deed, Deed::Approve { .. })
    });
    open.map(|state| state.step.name.as_str())
}

/// What every scheduler asks for, for the same cause.
fn start_of(
    (id, name): (PlaybookId, &PlaybookName),
    cause: Cause,
    told: &BTreeMap<String, String>,
) -> (RunId, Request) {
    let at = match cause {
        Cause::Event { number } => number.to_be_bytes(),
        Cause::Slot { scheduled } => scheduled.micros().to_be_bytes(),
        Cause::Person => [0; 8],
    };
    let mut run = *id.bytes();
    run[8..].copy_from_slice(&at);
    run[1] = u8::from(matches!(cause, Cause::Slot { .. }));
    let run = RunId::from_bytes(run);
    let request = Request::Start {
        run,
        playbook: name.clone(),
        arguments: told.clone(),
        by: String::new(),
        reason: "it was due".to_owned(),
        cause,
    };
    (run, request)
}
