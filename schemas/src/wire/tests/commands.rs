//! What workers submit, in each form.

use keywheel_core::command::{Command, ProofTaken};
use keywheel_core::id::{RunId, SlotId};
use keywheel_core::name::{HostName, PlaybookName};
use keywheel_core::playbook_run;
use keywheel_core::revocation::Proof;
use keywheel_core::rotation::{Sessions, Step};

use super::{AT, HOST, REVOCATION, ROTATION, SECRET, report};

fn unproven() -> ProofTaken {
    ProofTaken {
        revocation: REVOCATION,
        attempt: 3,
        proof: Proof::lacking("its value is gone"),
    }
}

pub(super) fn workers_commands() -> Vec<Command> {
    let failure = Some("the store did not answer".to_owned());
    vec![
        Command::Due {
            rotation: ROTATION,
            secret: SECRET,
            slot: SlotId::from_bytes([7; 16]),
            scheduled: AT,
            after: None,
            tzdata: Some("2026a".to_owned()),
        },
        Command::Due {
            rotation: ROTATION,
            secret: SECRET,
            slot: SlotId::from_bytes([7; 16]),
            scheduled: AT,
            after: Some(42),
            tzdata: None,
        },
        Command::EnrolHost {
            host: HOST,
            name: HostName::parse("web-1").unwrap(),
            sealing_key: [9; 32],
        },
        Command::StepOutcome {
            rotation: ROTATION,
            step: Step::Finish,
            attempt: 1,
            failure: None,
            is_away: false,
            remote: None,
            sessions: None,
        },
        Command::StepOutcome {
            rotation: ROTATION,
            step: Step::RollBack,
            attempt: 5,
            failure: failure.clone(),
            is_away: false,
            remote: None,
            sessions: None,
        },
        revoke_outcome(failure),
        Command::StepOutcome {
            rotation: ROTATION,
            step: Step::Drain,
            attempt: 2,
            failure: None,
            is_away: false,
            remote: None,
            sessions: Some(Sessions {
                mark: i64::MAX,
                left: 3,
            }),
        },
        Command::RetryStep { rotation: ROTATION },
        Command::RetryRevoke {
            revocation: REVOCATION,
        },
        Command::DeadlinePassed { rotation: ROTATION },
        Command::LingerEnded { secret: SECRET },
        Command::ProofOutcome(unproven()),
        Command::Playbook(started()),
        Command::Playbook(playbook_run::Request::Due {
            run: RunId::from_bytes([0x0b; 16]),
            step: "approve".to_owned(),
        }),
        Command::Report(report()),
    ]
}

fn started() -> playbook_run::Request {
    playbook_run::Request::Start {
        run: RunId::from_bytes([0x0b; 16]),
        playbook: PlaybookName::parse("leaked").unwrap(),
        arguments: [("secret".to_owned(), "prod/db".to_owned())].into(),
        by: String::new(),
        reason: "event 7".to_owned(),
        cause: playbook_run::Cause::Event { number: 7 },
    }
}

fn revoke_outcome(failure: Option<String>) -> Command {
    Command::RevokeOutcome {
        revocation: REVOCATION,
        attempt: 1,
        failure,
    }
}
