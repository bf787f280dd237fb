//! Deadlines of playbook runs' steps.

use keywheel_core::playbook_run::{self, Outcome, Request};

use super::*;

const RUN: RunId = RunId::from_bytes([0x21; 16]);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

fn begun(step: &str, until: i64) -> Event {
    Event::PlaybookRun(
        RUN,
        playbook_run::Event::StepStarted {
            step: step.to_owned(),
            targets: Vec::new(),
            until: at(until),
        },
    )
}

fn over(step: &str) -> Event {
    Event::PlaybookRun(
        RUN,
        playbook_run::Event::StepCompleted {
            step: step.to_owned(),
            note: None,
        },
    )
}

fn due(step: &str) -> Command {
    Command::Playbook(Request::Due {
        run: RUN,
        step: step.to_owned(),
    })
}

#[test]
fn the_step_that_is_due_first_fires_and_then_the_other() {
    let mut timers = Timers::new();
    timers.apply(at(0), &begun("late", 90));
    timers.apply(at(0), &begun("soon", 60));
    assert_eq!(timers.pop(at(59)), None);
    let fired = timers.pop(at(60)).unwrap();
    assert_eq!(
        (fired.key, &fired.command),
        (Key::Playbook(RUN), &due("soon"))
    );
    // Refused by a gateway whose clock lags, it comes again.
    timers.refused(&fired, at(60));
    let fired = timers.pop(at(61)).unwrap();
    assert_eq!(fired.command, due("soon"));
    assert!(timers.unanswered(&fired, at(61), DEADLINE_RETRY));
    timers.apply(at(61), &over("soon"));
    assert_eq!(timers.pop(at(89)), None);
    let fired = timers.pop(at(90)).unwrap();
    assert_eq!(fired.command, due("late"));
    let ended = playbook_run::Event::Completed {
        outcome: Outcome::Failed,
        score: playbook_run::Score::default(),
    };
    timers.apply(at(90), &Event::PlaybookRun(RUN, ended));
    assert!(timers.is_empty());
    assert!(!timers.unanswered(&fired, at(90), DEADLINE_RETRY));
}
