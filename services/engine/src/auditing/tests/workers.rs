//! What store-sync and the scheduler come back with, and what came of it.

use keywheel_core::command::{Observation, ProofTaken};
use keywheel_core::id::{RunId, SlotId, StoreId};
use keywheel_core::revocation::Proof;
use keywheel_core::rotation::Step;

use super::*;

pub(super) fn commands() -> Vec<(&'static [&'static str], Command)> {
    let (rotation, revocation, attempt) = (ROTATION, REVOCATION, 1);
    let due = Command::Due {
        rotation,
        secret: SECRET,
        slot: SlotId::default(),
        scheduled: Timestamp::default(),
        after: None,
        tzdata: None,
    };
    let stepped = Command::StepOutcome {
        rotation,
        step: Step::Create,
        attempt,
        failure: None,
        is_away: false,
        remote: None,
        sessions: None,
    };
    let revoked = Command::RevokeOutcome {
        revocation,
        attempt,
        failure: None,
    };
    let proven = Command::ProofOutcome(ProofTaken {
        revocation,
        attempt,
        proof: Proof::default(),
    });
    let seen = Observation {
        secret: SECRET,
        rotation,
        known: None,
        found: None,
        is_unchanged: false,
        is_gone: false,
    };
    let contact = Command::StoreContact {
        store: StoreId::from_bytes([0x77; 16]),
        failure: None,
    };
    vec![
        (&["rotate-by-schedule"], due),
        (&["create-version"], stepped),
        (&["observe"], Command::Observed(seen)),
        (&["note-store"], contact),
        (&["revoke-at-store"], revoked),
        (&["prove-dead"], proven),
        (&["retry-step"], Command::RetryStep { rotation }),
        (&["retry-revoke"], Command::RetryRevoke { revocation }),
        (&["deadline"], Command::DeadlinePassed { rotation }),
        (&["end-lease"], Command::LingerEnded { secret: SECRET }),
        (&["judge-bindings"], Command::JudgeBindings),
        (
            &["advance-playbook"],
            Command::Playbook(playbook_run::Request::Advance {
                run: RunId::default(),
            }),
        ),
    ]
}

#[test]
fn the_record_of_a_deadline_says_what_came_of_it() {
    let principal = Principal::Service(Role::Scheduler);
    let deadline = Timestamp::default();
    let outcome = rotation::Outcome::Parked;
    for (event, words) in [
        (rotation::Event::Forced, "forced"),
        (rotation::Event::Closed { outcome }, "held"),
        (rotation::Event::DeadlineMoved { deadline }, "put off"),
        (
            rotation::Event::StepCompleted { step: Step::Drain },
            "the grace is over",
        ),
        (
            rotation::Event::StagingEnded {
                missing: Vec::new(),
            },
            "the server is told",
        ),
        (rotation::Event::CanaryPassed, "the canaries ran well"),
        (
            rotation::Event::TurnedBack {
                version: 1,
                consumers: Vec::new(),
                hosts: Vec::new(),
                deadline,
            },
            "the canaries did not show in time",
        ),
    ] {
        let command = Command::DeadlinePassed { rotation: ROTATION };
        let decided = Ok(vec![
            Event::Rotation(ROTATION, rotation::Event::DeadlinePassed),
            Event::Rotation(ROTATION, event),
        ]);
        let left = records(&World::default(), &deed(&principal), &command, &decided);
        let [record] = left.as_slice() else {
            panic!("{words}: {left:?}");
        };
        let reason = &record.reason;
        assert!(
            reason.starts_with(&format!("role-table: {words}")),
            "{reason}"
        );
    }
}
