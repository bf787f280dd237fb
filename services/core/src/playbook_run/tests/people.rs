//! Approvals, interventions, and the ways a run says no.

use super::*;
use crate::rotation::MAX_REASON_CHARS;

pub(super) fn approve(by: &str) -> Command {
    approve_at(None, by)
}

fn approve_at(step: Option<&str>, by: &str) -> Command {
    Command::Playbook(Request::Approve {
        run: RUN,
        step: step.map(ToOwned::to_owned),
        by: by.to_owned(),
        is_person: true,
        reason: "seen".to_owned(),
    })
}

fn approved(by: &str) -> event::Event {
    of_run(Event::Approved {
        step: "ask".to_owned(),
        by: by.to_owned(),
        reason: "seen".to_owned(),
    })
}

fn asking(count: u32) -> Given {
    let steps = vec![
        step(
            "ask",
            Deed::Approve {
                count,
                not: Vec::new(),
            },
            &[],
        ),
        step("rotate", rotating(), &["ask"]),
    ];
    settled(running(steps))
}

fn intervene(intervention: Intervention) -> Command {
    Command::Playbook(Request::Intervene {
        run: RUN,
        intervention,
        by: "unix:0".to_owned(),
        reason: "wait a moment".to_owned(),
    })
}

fn intervened(intervention: Intervention) -> event::Event {
    of_run(Event::Intervened {
        intervention,
        by: "unix:0".to_owned(),
        reason: "wait a moment".to_owned(),
    })
}

#[test]
fn two_principals_approve_and_neither_is_the_one_who_started() {
    let given = asking(2);
    let own = Rejection::OwnRun {
        run: RUN,
        by: "unix:0".to_owned(),
    };
    given.clone().when(approve("unix:0")).then_rejected(own);
    let given = given
        .when(approve("certificate:anna"))
        .then([approved("certificate:anna")]);
    let again = Rejection::ApprovedAlready {
        step: "ask".to_owned(),
        by: "certificate:anna".to_owned(),
    };
    given
        .clone()
        .when(approve("certificate:anna"))
        .then_rejected(again);
    let given = settled(given);
    assert_eq!(progress(&given, "ask"), Progress::Open);
    let given = given
        .when(approve_at(Some("ask"), "unix:1000"))
        .then([approved("unix:1000")]);
    let given = settled(given);
    assert_eq!(progress(&given, "rotate"), Progress::Done);
    let nothing = Rejection::Ended(RUN);
    given.when(approve("unix:1001")).then_rejected(nothing);
}

#[test]
fn a_token_approves_nothing_whoever_it_stands_for() {
    let by_token = |by: &str| {
        Command::Playbook(Request::Approve {
            run: RUN,
            step: None,
            by: by.to_owned(),
            is_person: false,
            reason: "seen".to_owned(),
        })
    };
    let given = asking(1);
    let refused = Rejection::NoPerson {
        run: RUN,
        by: "certificate:anna".to_owned(),
    };
    given
        .clone()
        .when(by_token("certificate:anna"))
        .then_rejected(refused);
    given
        .when(approve("certificate:anna"))
        .then([approved("certificate:anna")]);
}

#[test]
fn whom_a_step_leaves_out_does_not_approve_it_nor_does_their_token() {
    let not = vec!["certificate:anna".to_owned(), "unix:1000".to_owned()];
    let steps = vec![
        step("ask", Deed::Approve { count: 1, not }, &[]),
        step("rotate", rotating(), &["ask"]),
    ];
    let given = settled(running(steps));
    for by in ["certificate:anna", "unix:1000"] {
        let left_out = Rejection::LeftOut {
            run: RUN,
            step: "ask".to_owned(),
            by: by.to_owned(),
        };
        given.clone().when(approve(by)).then_rejected(left_out);
        let by_token = Command::Playbook(Request::Approve {
            run: RUN,
            step: None,
            by: by.to_owned(),
            is_person: false,
            reason: "seen".to_owned(),
        });
        let no_person = Rejection::NoPerson {
            run: RUN,
            by: by.to_owned(),
        };
        given.clone().when(by_token).then_rejected(no_person);
    }
    // Who has a similar name is somebody else.
    let given = given.when(approve("unix:100")).then([approved("unix:100")]);
    assert_eq!(progress(&settled(given), "rotate"), Progress::Done);
}

#[test]
fn a_step_that_would_leave_nobody_out_asks_nobody_and_fails() {
    let asking = |not: &str| Deed::Approve {
        count: 1,
        not: vec![not.to_owned()],
    };
    let ask = step("ask", asking("${secret}"), &[]);
    let declared = Given::serving().and(declare(spec(vec![ask])));
    let told = |who: &str| BTreeMap::from([("secret".to_owned(), who.to_owned())]);
    for who in [
        "anna",
        "scheduler",
        "unix:007",
        "unix:anna",
        "oidc:",
        "oidc: anna",
        "oidc:anna,oidc:bob",
        "Certificate:anna",
        "certificate:Anna",
        "certificate:anna ",
    ] {
        let given = settled(declared.clone().and(start_with(told(who))));
        assert_eq!(progress(&given, "ask"), Progress::Failed, "{who}");
        assert_eq!(outcome(&given), Some(Outcome::Failed), "{who}");
    }
    for who in ["unix:0", "certificate:ann-a_1.x@example", "oidc:Anna+1|x"] {
        let given = settled(declared.clone().and(start_with(told(who))));
        assert_eq!(progress(&given, "ask"), Progress::Open, "{who}");
    }
    let given = settled(declared.and(start_with(told("oidc:anna"))));
    assert_eq!(progress(&given, "ask"), Progress::Open);
    let left_out = Rejection::LeftOut {
        run: RUN,
        step: "ask".to_owned(),
        by: "oidc:anna".to_owned(),
    };
    given.when(approve("oidc:anna")).then_rejected(left_out);
}

#[test]
fn an_approval_that_comes_too_late_fails_its_step() {
    let given = asking(2).and(approve("certificate:anna"));
    let given = given.at(later(60)).when(due("ask"));
    let given = given.then([of_run(Event::StepFailed {
        step: "ask".to_owned(),
        reason: "1 of 2 principals approved before its deadline".to_owned(),
    })]);
    assert_eq!(progress(&settled(given), "rotate"), Progress::Skipped);
}

#[test]
fn only_a_step_that_waits_is_approved_and_one_of_several_is_named() {
    let steps = vec![
        step(
            "ask",
            Deed::Approve {
                count: 1,
                not: Vec::new(),
            },
            &[],
        ),
        step(
            "too",
            Deed::Approve {
                count: 1,
                not: Vec::new(),
            },
            &[],
        ),
    ];
    let given = settled(running(steps));
    let which = Rejection::WhichStep {
        run: RUN,
        steps: "ask, too".to_owned(),
    };
    given
        .clone()
        .when(approve("certificate:anna"))
        .then_rejected(which);
    let nothing = Rejection::NothingToApprove {
        run: RUN,
        step: Some("rotate".to_owned()),
    };
    let wrong = approve_at(Some("rotate"), "certificate:anna");
    given.when(wrong).then_rejected(nothing);
}

#[test]
fn a_paused_run_begins_nothing_until_it_is_resumed() {
    let given = running(vec![step("rotate", rotating(), &[])]);
    let given = given
        .when(intervene(Intervention::Pause))
        .then([intervened(Intervention::Pause)]);
    assert_eq!(next_run(given.world()), None);
    let given = given.when(advance()).then_nothing();
    let paused = |paused| Rejection::PausedAlready { run: RUN, paused };
    given
        .clone()
        .when(intervene(Intervention::Pause))
        .then_rejected(paused(true));
    let given = given
        .when(intervene(Intervention::Resume))
        .then([intervened(Intervention::Resume)]);
    given
        .clone()
        .when(intervene(Intervention::Resume))
        .then_rejected(paused(false));
    assert_eq!(outcome(&settled(given)), Some(Outcome::Completed));
}

#[test]
fn a_cancelled_run_ends_and_what_it_began_goes_on() {
    let steps = vec![
        step("rotate", rotating(), &[]),
        step("converge", converging(), &["rotate"]),
    ];
    let given = settled(running(steps));
    let given = given.when(intervene(Intervention::Cancel)).then([
        intervened(Intervention::Cancel),
        of_run(Event::Completed {
            outcome: Outcome::Cancelled,
            score: Score {
                targets: 1,
                through: 0,
            },
        }),
    ]);
    assert!(given.world().open_rotation(SECRET).is_some());
    assert_eq!(given.world().open_runs().count(), 0);
    given
        .when(intervene(Intervention::Pause))
        .then_rejected(Rejection::Ended(RUN));
}

#[test]
fn a_run_says_why_and_is_told_what_it_has_to_know() {
    let steps = vec![step("rotate", rotating(), &[])];
    let mut wish = spec(steps);
    wish.parameters[0].default = None;
    let given = Given::serving().and(declare(wish));
    let missing = playbook::Rejection::ArgumentMissing {
        playbook: name(),
        parameter: "secret".to_owned(),
    };
    given.clone().when(start()).then_rejected(missing);
    let unknown = playbook::Rejection::ArgumentUnknown {
        playbook: name(),
        parameter: "host".to_owned(),
    };
    let told = BTreeMap::from([("host".to_owned(), "web-1".to_owned())]);
    given.clone().when(start_with(told)).then_rejected(unknown);
    let because = |reason: &str| {
        Command::Playbook(Request::Start {
            run: RUN,
            playbook: name(),
            arguments: BTreeMap::from([("secret".to_owned(), "prod/db".to_owned())]),
            by: "unix:0".to_owned(),
            reason: reason.to_owned(),
            cause: Cause::Person,
        })
    };
    given
        .clone()
        .when(because(" "))
        .then_rejected(Rejection::ReasonMissing);
    let long = "x".repeat(MAX_REASON_CHARS + 1);
    given
        .clone()
        .when(because(&long))
        .then_rejected(Rejection::ReasonTooLong(MAX_REASON_CHARS));
    let nobody = playbook::Rejection::Unknown(name());
    Given::nothing().when(start()).then_rejected(nobody);
    let _begun = given.and(because(&"x".repeat(MAX_REASON_CHARS)));
    let no_run = Command::Playbook(Request::Advance { run: RUN });
    Given::nothing()
        .when(no_run)
        .then_rejected(Rejection::Unknown(RUN));
}

#[test]
fn a_run_s_own_words_give_way_where_a_step_s_would_be_too_long_with_them() {
    let revoke = Deed::Revoke {
        secrets: the_secret(),
        which: Which::Alive,
    };
    let given = Given::serving().and(declare(spec(vec![step("revoke", revoke, &[])])));
    let given = settled(given.and(Command::Playbook(Request::Start {
        run: RUN,
        playbook: name(),
        arguments: BTreeMap::new(),
        by: "unix:0".to_owned(),
        reason: "x".repeat(MAX_REASON_CHARS),
        cause: Cause::Person,
    })));
    assert_eq!(outcome(&given), Some(Outcome::Completed));
    let mut revocations = given.world().revocations.values();
    let reason = &revocations.next().unwrap().reason;
    assert_eq!(reason.chars().count(), MAX_REASON_CHARS);
    assert!(reason.starts_with("xxx") && reason.ends_with("started by unix:0)"));
}

#[test]
fn a_run_whose_texts_no_event_takes_is_refused() {
    let texts = |count: usize| {
        let path = Selection::Prefix {
            path: "${secret}".repeat(count),
        };
        let rotate = Deed::Rotate {
            secrets: vec![path],
        };
        let told = BTreeMap::from([("secret".to_owned(), "x".repeat(128))]);
        let given = Given::serving().and(declare(spec(vec![step("rotate", rotate, &[])])));
        given.when(start_with(told))
    };
    let most = MAX_RUN_TEXT_BYTES / 128;
    texts(most + 1).then_rejected(Rejection::TooLarge {
        playbook: name(),
        bytes: MAX_RUN_TEXT_BYTES + 128,
        limit: MAX_RUN_TEXT_BYTES,
    });
    let begun = Given::serving().and(declare(spec(vec![step("ask", Deed::Prove, &[])])));
    assert_eq!(begun.and(start()).world().open_runs().count(), 1);
}

#[test]
fn of_several_runs_the_one_that_did_least_goes_on_first() {
    let steps = vec![
        step("rotate", rotating(), &[]),
        step(
            "ask",
            Deed::Approve {
                count: 1,
                not: Vec::new(),
            },
            &["rotate"],
        ),
    ];
    let given = running(steps).and(advance()).and(advance());
    assert_eq!(next_run(given.world()).map(|run| run.id), Some(RUN));
    let late = RunId::from_bytes([0xff; 16]);
    assert!(late > RUN, "it would be the last one by its id");
    let given = given.and(Command::Playbook(Request::Start {
        run: late,
        playbook: name(),
        arguments: BTreeMap::new(),
        by: "unix:0".to_owned(),
        reason: "leaked".to_owned(),
        cause: Cause::Person,
    }));
    assert_eq!(next_run(given.world()).map(|run| run.id), Some(late));
}

#[test]
fn the_limit_of_open_runs_holds_and_those_that_ended_are_kept_for_a_while() {
    let steps = vec![step(
        "ask",
        Deed::Approve {
            count: 1,
            not: Vec::new(),
        },
        &[],
    )];
    let mut given = Given::serving().and(declare(spec(steps)));
    let run = |n: usize| RunId::from_bytes([u8::try_from(n).unwrap(); 16]);
    let begin = |n: usize| {
        Command::Playbook(Request::Start {
            run: run(n),
            playbook: name(),
            arguments: BTreeMap::new(),
            by: "unix:0".to_owned(),
            reason: "drill".to_owned(),
            cause: Cause::Person,
        })
    };
    for n in 0..MAX_OPEN_RUNS {
        given = given.and(begin(n));
    }
    let limit = MAX_OPEN_RUNS;
    given
        .clone()
        .when(begin(MAX_OPEN_RUNS))
        .then_rejected(Rejection::TooMany { limit });
    for n in 0..MAX_OPEN_RUNS {
        given = given.and(Command::Playbook(Request::Intervene {
            run: run(n),
            intervention: Intervention::Cancel,
            by: "unix:0".to_owned(),
            reason: "over".to_owned(),
        }));
    }
    assert_eq!(given.world().runs.len(), KEPT_CLOSED_RUNS);
}

#[test]
fn a_trigger_begins_what_it_names_and_nothing_else() {
    let told = BTreeMap::from([("secret".to_owned(), "prod/db".to_owned())]);
    let mut wish = spec(vec![step("rotate", rotating(), &[])]);
    wish.triggers.push(playbook::Trigger::Event {
        event: "dev.keywheel.host.evicted.v1".to_owned(),
        when: None,
        hold_off: playbook::DEFAULT_HOLD_OFF,
        arguments: BTreeMap::from([("secret".to_owned(), "${event.secret}".to_owned())]),
    });
    let given = Given::serving().and(declare(wish));
    let caused = |cause, arguments: &BTreeMap<String, String>| {
        Command::Playbook(Request::Start {
            run: RUN,
            playbook: name(),
            arguments: arguments.clone(),
            by: "unix:0".to_owned(),
            reason: "event 7".to_owned(),
            cause,
        })
    };
    let event = Cause::Event { number: 7 };
    let slot = Cause::Slot {
        scheduled: later(0),
    };
    for other in [caused(slot, &told), caused(event, &BTreeMap::new())] {
        let refused = Rejection::NotTriggered(name());
        given.clone().when(other).then_rejected(refused);
    }
    let given = given.and(caused(event, &told));
    let run = &given.world().runs[&RUN];
    // Whoever the sender says it is.
    assert_eq!((run.by.as_str(), run.cause), (SCHEDULER, event));
}

#[test]
fn what_a_trigger_says_itself_is_told_as_it_was_declared() {
    let told = |value: &str| BTreeMap::from([("secret".to_owned(), value.to_owned())]);
    let mut wish = spec(vec![step("rotate", rotating(), &[])]);
    wish.triggers.push(playbook::Trigger::Schedule {
        expression: "0 3 * * *".to_owned(),
        timezone: "UTC".to_owned(),
        arguments: told("prod/db"),
    });
    let given = Given::serving().and(declare(wish));
    let slot = |arguments| {
        Command::Playbook(Request::Start {
            run: RUN,
            playbook: name(),
            arguments,
            by: String::new(),
            reason: "by its schedule".to_owned(),
            cause: Cause::Slot {
                scheduled: later(0),
            },
        })
    };
    let refused = Rejection::NotTriggered(name());
    given
        .clone()
        .when(slot(told("prod/other")))
        .then_rejected(refused);
    let given = given.and(slot(told("prod/db")));
    assert_eq!(given.world().runs[&RUN].arguments, told("prod/db"));
}
