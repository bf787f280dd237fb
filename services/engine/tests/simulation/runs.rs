//! What has to hold of every run of a playbook (P1 to P8).
//!
//! P1 no step begins or ends twice. P2 none begins before those it follows ended as it wants, and none is passed over
//! that could begin. P3 what a step does outside has one token for each of its targets, and is there with the fact
//! that it was done. P4 an approval counts one principal once, and never the one who started the run. P5 what has
//! ended or was cancelled begins nothing any more, and neither do the runs below it. P6 nor does what is paused. P7 a
//! proof is there for all that its run took away, or it is said that none is to be had. P8 (`playbooks`) when
//! everybody behaves every run ends but those that a person paused.
//!
//! Truth by the events in their order, and beside them what the server lets in. The core's own state of a run is
//! compared with it, and asked for nothing else.

use std::collections::{BTreeMap, BTreeSet};

use keywheel_core::event::Event;
use keywheel_core::id::{NotificationId, PlaybookId, RevocationId, RotationId, RunId};
use keywheel_core::playbook::{Deed, Step};
use keywheel_core::playbook_run::{self, Begun, Cause, Intervention, Outcome};
use keywheel_core::world::World;
use keywheel_core::{revocation, rotation};

use crate::invariants::{Broken, Now, hold};

mod proofs;

use proofs::{Ended, Turned};

/// What the events say of runs.
#[derive(Debug, Default)]
pub(crate) struct Runs {
    courses: BTreeMap<RunId, Course>,
    /// What began runs by itself.
    causes: BTreeSet<(PlaybookId, Cause)>,
    /// All that steps ever began.
    begun: BTreeSet<[u8; 16]>,
    /// What begins with what is being appended.
    fresh: BTreeSet<[u8; 16]>,
    rotations: BTreeMap<RotationId, Turned>,
    revocations: BTreeMap<RevocationId, Ended>,
}

/// How far one run is.
#[derive(Debug)]
struct Course {
    by: String,
    parent: Option<RunId>,
    steps: Vec<(Step, Stand)>,
    is_paused: bool,
    is_cancelled: bool,
    outcome: Option<Outcome>,
}

/// How far a step is.
#[derive(Debug, Default)]
struct Stand {
    at: At,
    targets: usize,
    /// What it did, by target: what that began, or nothing where it was refused.
    acts: BTreeMap<u32, Option<Begun>>,
    answers: BTreeMap<u32, bool>,
    approvals: BTreeSet<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum At {
    #[default]
    Pending,
    Open,
    Done,
    Failed,
    Skipped,
}

impl Runs {
    /// What stands in one append counts together.
    pub(crate) fn begin<'e>(&mut self, appended: impl Iterator<Item = &'e Event>) {
        self.fresh.clear();
        for event in appended {
            let id = match event {
                Event::Rotation(id, rotation::Event::Started { .. }) => *id.bytes(),
                Event::Revocation(id, revocation::Event::Requested { .. }) => *id.bytes(),
                Event::PlaybookRun(id, playbook_run::Event::Triggered { .. }) => *id.bytes(),
                _ => continue,
            };
            self.fresh.insert(id);
        }
    }

    /// Looks at one event that was appended.
    pub(crate) fn see(&mut self, event: &Event, now: &Now<'_>) -> Result<(), Broken> {
        match event {
            Event::Rotation(id, event) => {
                self.see_rotation(*id, event);
                Ok(())
            }
            Event::Revocation(id, event) => {
                self.see_revocation(*id, event);
                Ok(())
            }
            Event::PlaybookRun(id, event) => self.see_run(*id, event, now),
            _ => Ok(()),
        }
    }

    fn see_run(
        &mut self,
        id: RunId,
        event: &playbook_run::Event,
        now: &Now<'_>,
    ) -> Result<(), Broken> {
        use playbook_run::Event as Of;
        if let Of::Triggered { .. } = event {
            return self.triggered(id, event);
        }
        let Some(course) = self.courses.get_mut(&id) else {
            let text = format!("{event:?} of run {id}, which did not begin");
            return Err(Broken::new("P1", text));
        };
        match event {
            Of::Acted { step, place, begun } => {
                course.act(step, *place, Some(*begun))?;
                self.is_there(begun)
            }
            Of::Notified {
                step,
                place,
                notification,
                ..
            } => {
                let notification: NotificationId = *notification;
                course.act(step, *place, Some(Begun::Message { notification }))
            }
            Of::ActRefused { step, place, .. } => course.act(step, *place, None),
            Of::StepCompleted { step, note } => {
                course.end(step, At::Done)?;
                self.may_be_done(id, (step, note.as_deref()), now)
            }
            other => course.see(other),
        }
    }

    /// One event, or one slot, begins one run.
    fn triggered(&mut self, id: RunId, event: &playbook_run::Event) -> Result<(), Broken> {
        let playbook_run::Event::Triggered {
            playbook,
            steps,
            by,
            parent,
            cause,
            ..
        } = event
        else {
            return Ok(());
        };
        let is_first = *cause == Cause::Person || self.causes.insert((*playbook, *cause));
        hold(is_first, "P3", || format!("{cause:?} began two runs"))?;
        let above = parent.and_then(|parent| self.courses.get(&parent));
        let is_over = above.is_some_and(Course::is_over);
        hold(!is_over, "P5", || format!("{above:?} begins run {id}"))?;
        let steps = steps.iter().map(|step| (step.clone(), Stand::default()));
        let course = Course {
            by: by.clone(),
            parent: *parent,
            steps: steps.collect(),
            is_paused: false,
            is_cancelled: false,
            outcome: None,
        };
        let before = self.courses.insert(id, course);
        hold(before.is_none(), "P1", || format!("run {id} begins twice"))
    }

    /// P3: what a step is said to have begun begins with the fact, and is no other step's.
    fn is_there(&mut self, begun: &Begun) -> Result<(), Broken> {
        let id = match begun {
            Begun::Rotation { rotation } => *rotation.bytes(),
            Begun::Revocation { revocation } => *revocation.bytes(),
            Begun::Run { run } => *run.bytes(),
            _ => return Ok(()),
        };
        let is_one = self.fresh.contains(&id) && self.begun.insert(id);
        hold(is_one, "P3", || {
            format!("{begun:?} did not begin with its step, or for another one")
        })
    }

    /// What is waited for is there when a step is done.
    fn may_be_done(
        &self,
        id: RunId,
        (name, note): (&str, Option<&str>),
        now: &Now<'_>,
    ) -> Result<(), Broken> {
        let Some(course) = self.courses.get(&id) else {
            return Ok(());
        };
        let Some((step, stand)) = course.step(name) else {
            return Ok(());
        };
        match &step.deed {
            Deed::Approve { count, .. } => {
                let counted = stand.approvals.len();
                let is_enough = u32::try_from(counted).unwrap() >= *count;
                hold(is_enough, "P4", || {
                    format!("{counted} of {count} approved step `{name}` of {course:?}")
                })
            }
            Deed::Prove => self.is_proven(course, step, (note.unwrap_or_default(), now)),
            Deed::Wait { span: None } => self.has_converged(course, step),
            Deed::Call { .. } => {
                let is_taken = stand.answers.get(&0) == Some(&true);
                hold(is_taken, "P3", || {
                    format!("no receiver took what step `{name}` of {course:?} says")
                })
            }
            _ => {
                let is_through = stand.acts.len() == stand.targets;
                hold(is_through, "P1", || {
                    format!("step `{name}` of {course:?} is done before it did all")
                })
            }
        }
    }

    /// After an append: what was cancelled has ended with all below it, and the core ends runs as the log does.
    pub(crate) fn are_kept(&self, world: &World) -> Result<(), Broken> {
        for (id, course) in &self.courses {
            let above = course.parent.and_then(|above| self.courses.get(&above));
            let goes_on = course.outcome.is_none()
                && (course.is_cancelled || above.is_some_and(|above| above.is_cancelled));
            hold(!goes_on, "P5", || format!("run {id} goes on: {course:?}"))?;
            let Some(known) = world.runs.get(id) else {
                // One that ended long ago is in the log only.
                hold(course.outcome.is_some(), "P1", || {
                    format!("run {id} is lost")
                })?;
                continue;
            };
            let is_same = known.outcome == course.outcome && known.paused == course.is_paused;
            hold(is_same, "P1", || {
                format!("run {id} is {known:?}, and the log says {course:?}")
            })?;
        }
        Ok(())
    }
}

impl Course {
    fn step(&self, name: &str) -> Option<&(Step, Stand)> {
        self.steps.iter().find(|(step, _)| step.name == name)
    }

    fn stand(&mut self, name: &str) -> Result<&mut Stand, Broken> {
        let mut steps = self.steps.iter_mut();
        let own = steps.find(|(step, _)| step.name == name);
        let unknown = || Broken::new("P1", format!("there is no step `{name}`"));
        own.map(|(_, stand)| stand).ok_or_else(unknown)
    }

    const fn is_over(&self) -> bool {
        self.outcome.is_some() || self.is_cancelled
    }

    /// P5 and P6.
    fn may_begin(&self, what: &str) -> Result<(), Broken> {
        hold(!self.is_over(), "P5", || {
            format!("`{what}` begins, and the run has ended: {self:?}")
        })?;
        hold(!self.is_paused, "P6", || {
            format!("`{what}` begins, and the run is paused: {self:?}")
        })
    }

    /// P2: whether those that a step follows ended as it wants; `None` while one did not.
    fn follows(&self, name: &str) -> Option<bool> {
        let (step, _) = self.step(name)?;
        let mut is_wanted = true;
        let mut is_whole = true;
        for after in &step.after {
            let (before, stand) = self.step(&after.step)?;
            match (stand.at, after.failed) {
                (At::Pending | At::Open, _) => is_whole = false,
                (At::Failed, true) | (At::Done, false) => {}
                (At::Failed, false) if before.may_fail => {}
                _ => is_wanted = false,
            }
        }
        match is_wanted {
            true => is_whole.then_some(true),
            false => Some(false),
        }
    }

    fn act(&mut self, name: &str, place: u32, begun: Option<Begun>) -> Result<(), Broken> {
        self.may_begin(name)?;
        let stand = self.stand(name)?;
        let is_open = stand.at == At::Open && usize::try_from(place).unwrap() < stand.targets;
        hold(is_open, "P2", || {
            format!("step `{name}` acts on {place}, and is {stand:?}")
        })?;
        let before = stand.acts.insert(place, begun);
        hold(before.is_none(), "P3", || {
            format!("step `{name}` acts on {place} twice: {before:?}, {begun:?}")
        })
    }

    /// P1.
    fn end(&mut self, name: &str, at: At) -> Result<(), Broken> {
        hold(self.outcome.is_none(), "P5", || {
            format!("step `{name}` ends after its run: {self:?}")
        })?;
        let stand = self.stand(name)?;
        hold(stand.at == At::Open, "P1", || {
            format!("step `{name}` ends, and is {stand:?}")
        })?;
        stand.at = at;
        Ok(())
    }

    fn see(&mut self, event: &playbook_run::Event) -> Result<(), Broken> {
        use playbook_run::Event as Of;
        match event {
            Of::StepStarted { step, targets, .. } => {
                self.start(step)?;
                self.stand(step)?.targets = targets.len();
                Ok(())
            }
            Of::StepFailed { step, .. } => {
                if self.stand(step)?.at == At::Pending {
                    // What it means is not there.
                    self.start(step)?;
                }
                self.end(step, At::Failed)
            }
            Of::StepSkipped { step } => {
                self.may_begin(step)?;
                let is_passed_over = self.follows(step) == Some(false);
                hold(is_passed_over, "P2", || {
                    format!("step `{step}` is passed over in {self:?}")
                })?;
                let stand = self.stand(step)?;
                hold(stand.at == At::Pending, "P1", || {
                    format!("step `{step}` is passed over, and is {stand:?}")
                })?;
                stand.at = At::Skipped;
                Ok(())
            }
            Of::Approved { step, by, .. } => self.approved(step, by),
            Of::Answered {
                step,
                place,
                failure,
                ..
            } => {
                let before = self.stand(step)?.answers.insert(*place, failure.is_none());
                hold(before.is_none(), "P3", || {
                    format!("step `{step}` is answered twice: {self:?}")
                })
            }
            Of::Intervened { intervention, .. } => {
                match intervention {
                    Intervention::Pause => self.is_paused = true,
                    Intervention::Resume => self.is_paused = false,
                    Intervention::Cancel => self.is_cancelled = true,
                }
                Ok(())
            }
            Of::Completed { outcome, .. } => self.completed(*outcome),
            _ => Ok(()),
        }
    }

    fn start(&mut self, name: &str) -> Result<(), Broken> {
        self.may_begin(name)?;
        let follows = self.follows(name);
        hold(follows == Some(true), "P2", || {
            format!("step `{name}` begins too early in {self:?}")
        })?;
        let stand = self.stand(name)?;
        hold(stand.at == At::Pending, "P1", || {
            format!("step `{name}` begins twice: {stand:?}")
        })?;
        stand.at = At::Open;
        Ok(())
    }

    /// P4.
    fn approved(&mut self, name: &str, by: &str) -> Result<(), Broken> {
        hold(self.by != by, "P4", || {
            format!("{by} approves what it started: {self:?}")
        })?;
        let stand = self.stand(name)?;
        let is_first = stand.at == At::Open && stand.approvals.insert(by.to_owned());
        hold(is_first, "P4", || {
            format!("{by} approves step `{name}` again, or nobody asked: {stand:?}")
        })
    }

    /// P1: a run ends once, and as its steps did.
    fn completed(&mut self, outcome: Outcome) -> Result<(), Broken> {
        let has_failed = |(step, stand): &(Step, Stand)| stand.at == At::Failed && !step.may_fail;
        let mut steps = self.steps.iter();
        let is_whole = steps.all(|(_, stand)| !matches!(stand.at, At::Pending | At::Open));
        let right = match self.steps.iter().any(has_failed) {
            _ if self.is_cancelled => Outcome::Cancelled,
            true => Outcome::Failed,
            false => Outcome::Completed,
        };
        let is_right = outcome == right && (is_whole || self.is_cancelled);
        hold(is_right && self.outcome.is_none(), "P1", || {
            format!("it ends as {outcome:?}: {self:?}")
        })?;
        self.outcome = Some(outcome);
        Ok(())
    }

    /// What steps before one began: all of it, or what came after the wait before it.
    fn begun_before(&self, step: &Step, is_all: bool) -> Vec<&Begun> {
        let mut next: Vec<&str> = step.after.iter().map(|after| &*after.step).collect();
        let (mut seen, mut begun) = (BTreeSet::new(), Vec::new());
        while let Some(name) = next.pop() {
            let Some((before, stand)) = self.step(name).filter(|_| seen.insert(name)) else {
                continue;
            };
            if !is_all && matches!(before.deed, Deed::Wait { span: None }) {
                continue;
            }
            begun.extend(stand.acts.values().flatten());
            next.extend(before.after.iter().map(|after| &*after.step));
        }
        begun
    }
}
