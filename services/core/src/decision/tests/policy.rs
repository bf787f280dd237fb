//! Sets of policies: whole, counted, never over one that somebody else put in force meanwhile.

use crate::command::Command;
use crate::decision::{Context, Enrolment, Rejection, decide};
use crate::event::Event;
use crate::id::PolicySetId;
use crate::policy::{self, Group, KEPT_POLICY_SETS, MAX_POLICY_SET_BYTES, Policies, Request};
use crate::time::Timestamp;
use crate::world::World;

const SET: PolicySetId = PolicySetId::from_bytes([1; 16]);
const OTHER: PolicySetId = PolicySetId::from_bytes([2; 16]);

fn text(text: &str) -> Policies {
    Policies {
        text: text.to_owned(),
        groups: vec![Group {
            name: "payments".to_owned(),
            members: vec!["certificate:ada".to_owned()],
        }],
    }
}

fn wish(id: PolicySetId, expected: Option<u64>, policies: Policies) -> Command {
    Command::ApplyPolicies(Request {
        id,
        expected,
        policies,
        by: "unix:0".to_owned(),
    })
}

fn events(world: &World, command: &Command) -> Result<Vec<Event>, Rejection> {
    let ctx = Context {
        now: Timestamp::default(),
        seed: [7; 16],
        enrolment: Enrolment::Local,
    };
    decide(world, command, &ctx).map_err(|refusal| refusal.reason)
}

fn applied(version: u64, policies: Policies) -> Event {
    let by = "unix:0".to_owned();
    Event::Policy(
        SET,
        policy::Event::Applied {
            version,
            policies,
            by,
        },
    )
}

fn after(all: &[Event]) -> World {
    let mut world = World::default();
    for (number, event) in (1..).zip(all) {
        world.apply(number, event);
    }
    world
}

#[test]
fn sets_are_counted_and_belong_to_one_aggregate_whoever_drew_an_id() {
    let world = World::default();
    assert!(world.policies().is_none());
    let first = events(&world, &wish(SET, Some(0), text("a"))).unwrap();
    assert_eq!(first, [applied(1, text("a"))]);
    let world = after(&first);
    let second = events(&world, &wish(OTHER, Some(1), text("b"))).unwrap();
    assert_eq!(second, [applied(2, text("b"))]);
    let world = after(&[first, second].concat());
    let in_force = world.policies().unwrap();
    assert_eq!((in_force.version, in_force.number), (2, 2));
    assert_eq!(in_force.policies, text("b"));
    assert_eq!(in_force.by, "unix:0");
}

#[test]
fn a_set_that_is_in_force_already_changes_nothing() {
    let world = after(&[applied(1, text("a"))]);
    assert_eq!(
        events(&world, &wish(OTHER, None, text("a"))),
        Ok(Vec::new())
    );
    let other_groups = Policies {
        groups: Vec::new(),
        ..text("a")
    };
    assert_eq!(
        events(&world, &wish(OTHER, None, other_groups))
            .unwrap()
            .len(),
        1
    );
}

#[test]
fn a_set_is_not_put_over_one_that_its_sender_has_not_seen() {
    let world = after(&[applied(1, text("a")), applied(2, text("b"))]);
    let refused = events(&world, &wish(SET, Some(1), text("c"))).unwrap_err();
    let moved = policy::Rejection::Moved {
        expected: 1,
        found: 2,
    };
    assert_eq!(refused, moved.into());
    let refused = events(&World::default(), &wish(SET, Some(1), text("c"))).unwrap_err();
    assert!(refused.to_string().contains("version 0"), "{refused}");
    // Who does not say what they saw means whatever there is.
    assert!(events(&world, &wish(SET, None, text("c"))).is_ok());
}

#[test]
fn a_set_that_no_event_would_hold_is_refused() {
    let large = |bytes: usize| Policies {
        text: "x".repeat(bytes - text("").size()),
        ..text("")
    };
    let world = World::default();
    assert!(events(&world, &wish(SET, None, large(MAX_POLICY_SET_BYTES))).is_ok());
    let refused = events(&world, &wish(SET, None, large(MAX_POLICY_SET_BYTES + 1)));
    let too_large = policy::Rejection::TooLarge(MAX_POLICY_SET_BYTES + 1);
    assert_eq!(refused, Err(too_large.into()));
}

#[test]
fn so_many_sets_before_the_one_in_force_are_kept() {
    let all: Vec<Event> = (1..=40).map(|n| applied(n, text(&n.to_string()))).collect();
    let world = after(&all);
    let kept: Vec<u64> = world.policies_kept().map(|set| set.version).collect();
    let first = 40 - u64::try_from(KEPT_POLICY_SETS).unwrap();
    assert_eq!(kept, Vec::from_iter(first..=40));
    let other = after(all.get(..39).unwrap());
    assert_eq!(world.difference(&other).unwrap(), "the policies");
}
