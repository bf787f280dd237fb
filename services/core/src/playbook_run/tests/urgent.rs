//! What of a run is refused last where there is hardly any room.

use super::people::approve;
use super::*;
use crate::decision::{MAX_URGENT_TEXT_BYTES, is_urgent, next_urgent_run};
use crate::name::NotificationName;

fn revoking() -> Deed {
    Deed::Revoke {
        secrets: the_secret(),
        which: Which::Alive,
    }
}

fn of(given: &Given, command: &Command) -> bool {
    match command {
        Command::Playbook(request) => is_urgent(given.world(), request),
        _ => false,
    }
}

fn on_event(arguments: BTreeMap<String, String>) -> playbook::Trigger {
    playbook::Trigger::Event {
        event: "dev.keywheel.host.evicted.v1".to_owned(),
        when: None,
        hold_off: playbook::DEFAULT_HOLD_OFF,
        arguments,
    }
}

fn nightly() -> playbook::Trigger {
    playbook::Trigger::Schedule {
        expression: "0 3 * * *".to_owned(),
        timezone: "UTC".to_owned(),
        arguments: BTreeMap::new(),
    }
}

fn slot() -> Cause {
    Cause::Slot {
        scheduled: later(0),
    }
}

fn caused(cause: Cause, arguments: BTreeMap<String, String>) -> Command {
    Command::Playbook(Request::Start {
        run: RUN,
        playbook: name(),
        arguments,
        by: String::new(),
        reason: "event 7".to_owned(),
        cause,
    })
}

/// Whether each move of the run is one of those, until it has nothing to do.
fn moves(given: Given) -> (Vec<bool>, Given) {
    let (mut given, mut urgent) = (given, Vec::new());
    while next_run(given.world()).is_some() {
        let is_one = of(&given, &advance());
        assert_eq!(next_urgent_run(given.world()).is_some(), is_one);
        urgent.push(is_one);
        given = given.and(advance());
    }
    (urgent, given)
}

#[test]
fn what_revokes_in_a_run_and_leads_there_is_refused_last_and_what_comes_after_is_not() {
    let steps = vec![
        step(
            "ask",
            Deed::Approve {
                count: 1,
                not: Vec::new(),
            },
            &[],
        ),
        step("rotate", rotating(), &["ask"]),
        step("revoke", revoking(), &["rotate"]),
        step("after", converging(), &["revoke"]),
    ];
    let given = Given::serving().and(declare(spec(steps)));
    assert!(of(&given, &start()));
    // `ask` begins.
    let (urgent, given) = moves(given.and(start()));
    assert_eq!(urgent, [true]);
    assert!(of(&given, &approve("certificate:anna")) && of(&given, &due("ask")));
    // `ask` is over; `rotate` and `revoke` begin, act and are over; then `after` begins.
    let (urgent, given) = moves(given.and(approve("certificate:anna")));
    assert_eq!(
        urgent[..8],
        [true, true, true, true, true, true, true, false]
    );
    assert!(urgent[8..].iter().all(|urgent| !urgent), "{urgent:?}");
    assert!(!of(&given, &due("after")), "nothing is left to revoke");
}

#[test]
fn of_a_drill_by_its_schedule_only_what_strikes_and_that_a_step_is_over_is_refused_last() {
    let mut wish = spec(vec![
        step("rotate", rotating(), &[]),
        step("revoke", revoking(), &["rotate"]),
    ]);
    wish.triggers = vec![nightly()];
    let given = Given::serving().and(declare(wish));
    let begin = caused(slot(), BTreeMap::new());
    assert!(!of(&given, &begin));
    let (urgent, _) = moves(given.and(begin));
    // `rotate` begins, acts and is over; then `revoke` does.
    assert_eq!(urgent[..6], [false, false, true, true, true, true]);
}

#[test]
fn another_playbook_is_begun_when_there_is_room_whatever_comes_after_it() {
    let run = Deed::Run {
        playbook: PlaybookName::parse("contain").unwrap(),
        arguments: BTreeMap::new(),
    };
    let steps = vec![
        step("below", run, &[]),
        step("revoke", revoking(), &["below"]),
    ];
    let given = Given::serving().and(declare(spec(steps))).and(start());
    assert!(
        of(&given, &advance()),
        "it begins, so that its time may pass"
    );
    let given = given.and(advance());
    assert!(!of(&given, &advance()));
    assert!(of(&given, &due("below")));
}

#[test]
fn a_trigger_s_start_is_refused_last_where_its_playbook_strikes_and_is_small() {
    let told = || BTreeMap::from([("secret".to_owned(), "prod/db".to_owned())]);
    let event = Cause::Event { number: 7 };
    let of_event = BTreeMap::from([("secret".to_owned(), "${event.secret}".to_owned())]);
    let declared = |steps: Vec<Step>| {
        let mut wish = spec(steps);
        wish.triggers = vec![on_event(of_event.clone())];
        Given::serving().and(declare(wish))
    };
    let given = declared(vec![step("revoke", revoking(), &[])]);
    assert!(of(&given, &caused(event, told())));
    let unknown = BTreeMap::from([("other".to_owned(), "prod/db".to_owned())]);
    assert!(!of(&given, &caused(event, unknown)), "it is refused anyway");
    let given = declared(vec![step("rotate", rotating(), &[])]);
    assert!(!of(&given, &caused(event, told())));
    // As much text as fits, and a byte more.
    let telling = |bytes: usize| {
        let revoke = Deed::Revoke {
            secrets: vec![Selection::Secret {
                name: "prod/db".to_owned(),
            }],
            which: Which::Alive,
        };
        let mut steps = vec![step("revoke", revoke, &[])];
        let mut left = bytes - steps[0].text_bytes();
        while left > 0 {
            let tell = Deed::Notify {
                notifications: vec![NotificationName::parse("soc").unwrap()],
                text: "x".repeat(left.min(playbook::MAX_MESSAGE_BYTES)),
            };
            steps.push(step(&format!("tell-{left}"), tell, &[]));
            left -= left.min(playbook::MAX_MESSAGE_BYTES);
        }
        declared(steps)
    };
    let last = MAX_URGENT_TEXT_BYTES;
    for (bytes, is_small) in [(last, true), (last + 1, false)] {
        let given = telling(bytes);
        assert_eq!(of(&given, &caused(event, told())), is_small, "{bytes}");
    }
}
