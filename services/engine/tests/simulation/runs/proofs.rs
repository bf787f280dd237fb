//! What a run of a playbook may take for dead and for through (P2, P7): what became of each rotation and revocation, by
//! the events alone. Everything else that holds of runs is above.

use std::collections::BTreeSet;

use keywheel_core::id::{RevocationId, RotationId};
use keywheel_core::lease;
use keywheel_core::playbook::Step;
use keywheel_core::playbook_run::{Begun, Outcome};
use keywheel_core::{revocation, rotation};

use super::{Course, Runs};
use crate::invariants::{Broken, Now, hold};
use crate::store::Value;

/// What became of a rotation.
#[derive(Debug, Default)]
pub(super) struct Turned {
    /// Of which secret, and what it brings.
    brings: Option<Value>,
    /// What is to die in the end.
    old: Vec<Value>,
    outcome: Option<rotation::Outcome>,
}

/// What became of a revocation.
#[derive(Debug, Default)]
pub(super) struct Ended {
    values: Vec<Value>,
    is_to_prove: bool,
    is_confirmed: bool,
    is_dead: bool,
    is_unknown: bool,
    is_closed: bool,
}

/// What a proof says of one thing that was taken away.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    Dead,
    NotProbed,
}

impl Runs {
    pub(super) fn see_rotation(&mut self, id: RotationId, event: &rotation::Event) {
        let known = self.rotations.entry(id).or_default();
        match event {
            rotation::Event::Started {
                secret, version, ..
            } => known.brings = Some((*secret, *version)),
            rotation::Event::DistributionStarted { old, .. } => {
                let secret = known.brings.map(|(secret, _)| secret);
                let old = old.iter().copied();
                known.old = secret
                    .into_iter()
                    .flat_map(|id| old.clone().map(move |one| (id, one)))
                    .collect();
            }
            rotation::Event::TurnedBack { .. } => known.old = known.brings.into_iter().collect(),
            rotation::Event::Closed { outcome } => known.outcome = Some(outcome.clone()),
            // A person has a parked one go on.
            rotation::Event::Reopened { .. } | rotation::Event::Intervened { .. } => {
                known.outcome = None;
            }
            _ => {}
        }
    }

    pub(super) fn see_revocation(&mut self, id: RevocationId, event: &revocation::Event) {
        use revocation::Event as Of;
        let known = self.revocations.entry(id).or_default();
        match event {
            Of::Requested {
                secret,
                versions,
                is_to_prove,
                ..
            } => {
                let values = versions.iter().map(|version| (*secret, *version));
                known.values = values.collect();
                known.is_to_prove = *is_to_prove;
            }
            Of::BackendConfirmed => known.is_confirmed = true,
            Of::StillAccepted { .. } => known.is_confirmed = false,
            Of::ProvenDead { .. } => known.is_dead = true,
            Of::NotProvable { .. } => known.is_unknown = true,
            Of::Closed => known.is_closed = true,
            _ => {}
        }
    }

    /// P7: of each it is known, what is said to be dead is refused, and the step's words count right.
    pub(super) fn is_proven(
        &self,
        course: &Course,
        step: &Step,
        (note, now): (&str, &Now<'_>),
    ) -> Result<(), Broken> {
        let (mut dead, mut not_probed) = (0, 0);
        let before = course.begun_before(step, true);
        for begun in &before {
            let shown = match begun {
                Begun::Rotation { rotation } if self.is_revoked_beside(*rotation, &before) => {
                    Some(Shown::Nothing)
                }
                Begun::Rotation { rotation } => self.shown_by_rotation(*rotation),
                Begun::Revocation { revocation } => self.shown(*revocation),
                _ => Some(Shown::Nothing),
            };
            match shown {
                Some(Shown::Nothing) => {}
                Some(Shown::Dead) => dead += 1,
                Some(Shown::NotProbed) => not_probed += 1,
                None => {
                    let text = format!("nobody knows of {begun:?}, and {course:?} is proven");
                    return Err(Broken::new("P7", text));
                }
            }
            let values = self.values_of(begun).iter();
            let let_in = values.filter(|_| shown == Some(Shown::Dead));
            let let_in = let_in
                .copied()
                .find(|value| now.store.accepted.contains(value));
            hold(let_in.is_none(), "P7", || {
                format!("{begun:?} is proven dead, and the server lets {let_in:?} in")
            })?;
        }
        let is_said = match not_probed {
            0 => note == format!("{dead} proven dead"),
            some => note.starts_with(&format!("{dead} proven dead; {some} not probed: ")),
        };
        hold(is_said, "P7", || {
            format!("{dead} are dead and {not_probed} not probed, and it says `{note}`")
        })
    }

    /// What was asked about a thing that was to die; `None` while that is not known.
    fn shown(&self, id: RevocationId) -> Option<Shown> {
        let known = self.revocations.get(&id)?;
        match known {
            known if known.is_dead => Some(Shown::Dead),
            known if known.is_unknown => Some(Shown::NotProbed),
            known if !known.is_to_prove && known.is_confirmed => Some(Shown::NotProbed),
            _ => None,
        }
    }

    fn shown_by_rotation(&self, id: RotationId) -> Option<Shown> {
        let end = lease::end_of(id);
        if self.revocations.contains_key(&end) {
            return self.shown(end);
        }
        let known = self.rotations.get(&id)?;
        let is_completed = known.outcome == Some(rotation::Outcome::Completed);
        is_completed.then_some(match !known.old.is_empty() {
            true => Shown::NotProbed,
            false => Shown::Nothing,
        })
    }

    fn values_of(&self, begun: &Begun) -> &[Value] {
        let known = match begun {
            Begun::Rotation { rotation } => self.revocations.get(&lease::end_of(*rotation)),
            Begun::Revocation { revocation } => self.revocations.get(revocation),
            _ => None,
        };
        known.map_or(&[], |known| &known.values)
    }

    /// A wait for what steps before it began ends when all of it did.
    pub(super) fn has_converged(&self, course: &Course, step: &Step) -> Result<(), Broken> {
        let is_closed =
            |id: &RevocationId| self.revocations.get(id).is_some_and(|one| one.is_closed);
        let is_over = |begun: &&Begun| match begun {
            Begun::Revocation { revocation } => is_closed(revocation),
            Begun::Rotation { rotation } => {
                let end = lease::end_of(*rotation);
                let known = self.rotations.get(rotation);
                known.is_some_and(|one| one.outcome == Some(rotation::Outcome::Completed))
                    && (!self.revocations.contains_key(&end) || is_closed(&end))
            }
            Begun::Run { run } => {
                let below = self.courses.get(run);
                below.is_some_and(|below| below.outcome == Some(Outcome::Completed))
            }
            _ => true,
        };
        let begun = course.begun_before(step, false);
        let is_revoked = |one: &&Begun| match one {
            Begun::Rotation { rotation } => self.is_revoked_beside(*rotation, &begun),
            _ => false,
        };
        let mut open = begun.iter().copied();
        let open = open.find(|one| !is_over(one) && !is_revoked(one));
        hold(open.is_none(), "P2", || {
            format!("{open:?} goes on, and {course:?} waits no more")
        })
    }

    /// Whether all that a rotation was parked with is what revocations beside it make unusable: then it is they that
    /// are waited for and proven.
    fn is_revoked_beside(&self, id: RotationId, beside: &[&Begun]) -> bool {
        let Some(known) = self.rotations.get(&id) else {
            return false;
        };
        let is_parked = known.outcome == Some(rotation::Outcome::Parked) && !known.old.is_empty();
        let revocations = beside.iter().filter_map(|one| match one {
            Begun::Revocation { revocation } => self.revocations.get(revocation),
            _ => None,
        });
        let revoked: BTreeSet<Value> = revocations
            .flat_map(|one| one.values.iter().copied())
            .collect();
        is_parked && known.old.iter().all(|value| revoked.contains(value))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use keywheel_core::id::SecretId;
    use keywheel_core::playbook::{After, Deed};
    use keywheel_core::rotation::Trigger;
    use keywheel_core::time::Timestamp;

    use super::super::Stand;
    use super::*;

    const SECRET: SecretId = SecretId::from_bytes([1; 16]);
    const ROTATION: RotationId = RotationId::from_bytes([2; 16]);
    const REVOCATION: RevocationId = RevocationId::from_bytes([3; 16]);

    fn step(name: &str, deed: Deed, after: &[&str], begun: Option<Begun>) -> (Step, Stand) {
        let after = after.iter().map(|step| After {
            step: (*step).to_owned(),
            failed: false,
        });
        let step = Step {
            name: name.to_owned(),
            deed,
            after: after.collect(),
            deadline: Duration::from_secs(60),
            may_fail: false,
        };
        let acts = begun.map(|begun| (0, Some(begun)));
        let stand = Stand {
            acts: acts.into_iter().collect::<BTreeMap<_, _>>(),
            ..Stand::default()
        };
        (step, stand)
    }

    /// A step waits for a rotation that is parked with one version, and for a revocation of others.
    fn waiting(old: u64, revoked: &[u64]) -> (Runs, Course) {
        let mut runs = Runs::default();
        let started = rotation::Event::Started {
            secret: SECRET,
            version: old + 1,
            trigger: Trigger::Initial,
        };
        let distributed = rotation::Event::DistributionStarted {
            consumers: Vec::new(),
            hosts: Vec::new(),
            old: vec![old],
            deadline: Timestamp::default(),
        };
        let parked = rotation::Event::Closed {
            outcome: rotation::Outcome::Parked,
        };
        for event in [started, distributed, parked] {
            runs.see_rotation(ROTATION, &event);
        }
        let requested = revocation::Event::Requested {
            secret: SECRET,
            versions: revoked.to_vec(),
            hosts: Vec::new(),
            reason: "leaked".to_owned(),
            is_to_prove: false,
            is_emergency: false,
        };
        for event in [requested, revocation::Event::Closed] {
            runs.see_revocation(REVOCATION, &event);
        }
        let (rotation, revocation) = (ROTATION, REVOCATION);
        let course = Course {
            by: "unix:0".to_owned(),
            parent: None,
            steps: vec![
                step(
                    "rotate",
                    Deed::Prove,
                    &[],
                    Some(Begun::Rotation { rotation }),
                ),
                step(
                    "revoke",
                    Deed::Prove,
                    &["rotate"],
                    Some(Begun::Revocation { revocation }),
                ),
                step("wait", Deed::Wait { span: None }, &["revoke"], None),
            ],
            is_paused: false,
            is_cancelled: false,
            outcome: None,
        };
        (runs, course)
    }

    /// What no seed met: the core lets such a wait end, and the model has to know why.
    #[test]
    fn a_parked_rotation_is_over_for_a_wait_once_all_it_left_is_revoked_beside_it() {
        for (revoked, is_over) in [
            (&[4][..], true),
            (&[3, 4], true),
            (&[3], false),
            (&[], false),
        ] {
            let (runs, course) = waiting(4, revoked);
            let (wait, _) = &course.steps[2];
            let found = runs.has_converged(&course, wait);
            assert_eq!(found.is_ok(), is_over, "{revoked:?}: {found:?}");
        }
    }

    #[test]
    fn what_was_turned_back_left_what_it_brought() {
        let (mut runs, course) = waiting(4, &[4]);
        let turned = rotation::Event::TurnedBack {
            version: 4,
            consumers: Vec::new(),
            hosts: Vec::new(),
            deadline: Timestamp::default(),
        };
        runs.see_rotation(ROTATION, &turned);
        let (wait, _) = &course.steps[2];
        assert!(runs.has_converged(&course, wait).is_err());
    }
}
