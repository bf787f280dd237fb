//! One case per event and per rejection of an assignment.

use super::*;
use crate::binding::Reload;
use crate::command::{Command, Declaration};
use crate::event;
use crate::report::Fact;
use crate::testing::{
    BINDING, Given, HOST, NOW, SECRET, assigned, consumer, file, item, later, of_consumer,
    reloaded, report, swapped,
};

fn assignment(events: impl IntoIterator<Item = Event>) -> Assignment {
    let mut assignment = Assignment::default();
    events
        .into_iter()
        .for_each(|event| assignment.evolve(&event));
    assignment
}

fn on_version(version: u64) -> Event {
    Event::Swapped { version, at: NOW }
}

fn refused(version: u64, reason: &str) -> Event {
    Event::Refused {
        version,
        reason: reason.to_owned(),
    }
}

fn reported(items: Vec<crate::report::Item>) -> Command {
    Command::Report(report(items, &[1]))
}

#[test]
fn a_start_on_the_current_version_is_assigned_and_swapped() {
    let at = later(2);
    let start = item(2, Fact::Swapped { version: 1, at });
    Given::serving().when(reported(vec![start])).then([
        of_consumer(2, assigned(1)),
        of_consumer(2, Event::Swapped { version: 1, at }),
    ]);
}

#[test]
fn an_assigned_version_has_to_be_shown_anew() {
    let assignment = assignment([assigned(1), on_version(1), assigned(2)]);
    assert_eq!(assignment.progress, Progress::Waiting);
    assert_eq!((assignment.assigned, assignment.holds), (2, 1));
    assert_eq!(
        (assignment.swapped_at, assignment.reloaded_at),
        (None, None)
    );
}

#[test]
fn back_on_what_it_never_left_a_consumer_has_nothing_to_show() {
    let told = Event::Reloaded {
        version: 1,
        at: NOW,
    };
    let on_one = [assigned(1), on_version(1), told, assigned(2)];
    let stayed = assignment(on_one.clone().into_iter().chain([assigned(1)]));
    assert!(stayed.has_reached(1, AckLevel::Reloaded));
    let moved = on_one.into_iter().chain([on_version(2), assigned(1)]);
    let moved = assignment(moved);
    assert_eq!(
        (moved.progress.clone(), moved.holds),
        (Progress::Waiting, 2)
    );
    let swapped_only = assignment([assigned(1), on_version(1), assigned(2), assigned(1)]);
    assert_eq!(swapped_only.progress, Progress::Swapped);
}

#[test]
fn an_assignment_to_another_secret_forgets_what_the_old_one_s_numbers_said() {
    let other = Event::Assigned {
        secret: SecretId::from_bytes([99; 16]),
        version: 1,
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
    };
    let assignment = assignment([assigned(1), on_version(1), other]);
    assert_eq!(assignment.holds, 0);
    assert!(!assignment.has_reached(1, AckLevel::Swapped));
}

#[test]
fn a_swapped_consumer_holds_the_version_but_has_not_reloaded() {
    let assignment = assignment([assigned(1), on_version(1)]);
    assert!(assignment.has_reached(1, AckLevel::Swapped));
    assert!(!assignment.has_reached(1, AckLevel::Reloaded));
    assert!(!assignment.has_reached(2, AckLevel::Swapped));
    assert_eq!(assignment.swapped_at, Some(NOW));
}

#[test]
fn a_reloaded_consumer_has_reached_both_levels() {
    let reloaded = Event::Reloaded {
        version: 1,
        at: NOW,
    };
    let assignment = assignment([assigned(1), reloaded]);
    assert!(assignment.has_reached(1, AckLevel::Swapped));
    assert!(assignment.has_reached(1, AckLevel::Reloaded));
    assert_eq!(assignment.reloaded_at, Some(NOW));
}

#[test]
fn a_withdrawn_consumer_holds_nothing_and_leaves_the_world() {
    let gone = reported(vec![item(1, Fact::Withdrawn)]);
    let after = Given::serving()
        .when(gone)
        .then([of_consumer(1, Event::Withdrawn)]);
    assert!(after.world().assignments.is_empty());
    assert_eq!(after.world().consumers(SECRET).count(), 0);
}

#[test]
fn a_vanished_consumer_leaves_the_world_too() {
    let gone = reported(vec![item(1, Fact::Vanished)]);
    let after = Given::serving()
        .when(gone)
        .then([of_consumer(1, Event::Vanished)]);
    assert_eq!(after.world().consumers(SECRET).count(), 0);
}

#[test]
fn who_ends_and_begins_anew_within_one_report_is_told_of_both_and_has_to_show_it_again() {
    let at = later(2);
    let start = item(1, Fact::Swapped { version: 1, at });
    let anew = reported(vec![item(1, Fact::Vanished), start]);
    let after = Given::serving().when(anew).then([
        of_consumer(1, Event::Vanished),
        of_consumer(1, assigned(1)),
        of_consumer(1, Event::Swapped { version: 1, at }),
    ]);
    let found = &after.world().assignments[&consumer(1)];
    assert!(found.has_reached(1, AckLevel::Swapped));
    assert!(!found.has_reached(1, AckLevel::Reloaded));
}

#[test]
fn a_refused_consumer_stays_with_its_reason() {
    let fact = Fact::Refused {
        version: 1,
        reason: "not under the runtime".to_owned(),
    };
    let command = reported(vec![item(2, fact)]);
    let after = Given::serving().when(command.clone()).then([
        of_consumer(2, assigned(1)),
        of_consumer(2, refused(1, "not under the runtime")),
    ]);
    let state = &after.world().assignments[&consumer(2)];
    assert!(state.is_live() && state.is_unserved());
    after.when(command).then_nothing();
}

#[test]
fn only_a_refusal_before_the_first_copy_leaves_a_consumer_unserved() {
    assert!(assignment([assigned(1), refused(1, "x")]).is_unserved());
    assert!(!assignment([assigned(1), on_version(1), refused(1, "x")]).is_unserved());
    assert!(!assignment([assigned(1)]).is_unserved());
}

#[test]
fn a_repeated_fact_gives_no_event() {
    let key = consumer(1);
    let reloaded = Event::Reloaded {
        version: 1,
        at: NOW,
    };
    let swapped = assignment([assigned(1), on_version(1)]);
    assert_eq!(swapped.decide_report(&key, on_version(1)), Ok(None));
    assert_eq!(swapped.decide_report(&key, assigned(1)), Ok(None));
    assert_eq!(
        swapped.decide_report(&key, reloaded.clone()),
        Ok(Some(reloaded.clone()))
    );
    let done = assignment([assigned(1), reloaded.clone()]);
    assert_eq!(done.decide_report(&key, reloaded), Ok(None));
    assert_eq!(done.decide_report(&key, on_version(1)), Ok(None));
    let refused_once = assignment([assigned(1), refused(1, "x")]);
    assert_eq!(refused_once.decide_report(&key, refused(1, "x")), Ok(None));
    assert_eq!(
        refused_once.decide_report(&key, refused(1, "y")),
        Ok(Some(refused(1, "y")))
    );
    let withdrawn = assignment([assigned(1), Event::Withdrawn]);
    assert_eq!(withdrawn.decide_report(&key, Event::Withdrawn), Ok(None));
    let vanished = assignment([assigned(1), Event::Vanished]);
    assert_eq!(vanished.decide_report(&key, Event::Vanished), Ok(None));
}

#[test]
fn a_fact_about_something_never_assigned_is_refused_and_passed_over_in_a_report() {
    let rejection = Rejection::NotAssigned(consumer(7).container.short().to_owned());
    let state = Assignment::default();
    assert_eq!(
        state.decide_report(&consumer(7), Event::Vanished),
        Err(rejection)
    );
    let stranger = reported(vec![item(7, Fact::Vanished)]);
    Given::serving().when(stranger).then_nothing();
}

#[test]
fn a_report_about_a_version_that_is_not_current_is_passed_over() {
    Given::serving()
        .when(reported(vec![swapped(2, 9)]))
        .then_nothing();
}

#[test]
fn a_report_under_a_binding_that_grants_nothing_there_is_passed_over() {
    let unbound = Given::serving().and(Command::Unbind {
        name: crate::testing::binding_name(),
    });
    let refused = Fact::Refused {
        version: 1,
        reason: "no room".to_owned(),
    };
    unbound
        .when(reported(vec![item(2, refused)]))
        .then_nothing();
    let mut unknown = swapped(2, 1);
    unknown.binding = crate::id::BindingId::from_bytes([66; 16]);
    Given::serving()
        .when(reported(vec![unknown]))
        .then_nothing();
    let mut unknown = swapped(2, 1);
    unknown.secret = SecretId::from_bytes([66; 16]);
    Given::serving()
        .when(reported(vec![unknown]))
        .then_nothing();
}

#[test]
fn a_consumer_whose_binding_means_another_secret_moves_to_that_one() {
    let (other_id, rotation) = (
        SecretId::from_bytes([50; 16]),
        crate::id::RotationId::from_bytes([51; 16]),
    );
    let other = crate::name::SecretName::parse("prod/other").unwrap();
    let given = Given::serving()
        .and(Command::Apply(vec![Declaration::Secret {
            id: other_id,
            rotation,
            name: other.clone(),
            spec: crate::testing::generated(),
        }]))
        .finished(rotation)
        .and(Command::Apply(vec![Declaration::Binding {
            id: BINDING,
            name: crate::testing::binding_name(),
            secret: other,
            also: std::collections::BTreeSet::new(),
            previous: std::collections::BTreeSet::new(),
            selector: crate::testing::anywhere(),
            target: file(),
            reload: Reload::None,
            on_revoke: crate::binding::OnRevoke::Remove,
        }]));
    let mut moved = reloaded(1, 1);
    moved.secret = other_id;
    let after = given.and(reported(vec![moved]));
    assert_eq!(after.world().consumers(SECRET).count(), 0);
    assert_eq!(after.world().consumers(other_id).count(), 1);
    assert!(after.log().iter().any(|event| matches!(
        event,
        event::Event::Assignment(key, Event::Assigned { secret, .. }) if key.host == HOST && *secret == other_id
    )));
}

#[test]
fn a_hosts_first_key_is_before_its_others_and_after_those_of_the_host_before() {
    let last = |host: u8| Key {
        host: HostId::from_bytes([host; 16]),
        container: ContainerId::parse(&"f".repeat(64)).unwrap(),
        binding: BindingId::from_bytes([255; 16]),
        also: Some(SECRET),
    };
    let least = Key {
        container: ContainerId::parse(&"0".repeat(64)).unwrap(),
        binding: BindingId::from_bytes([0; 16]),
        also: None,
        ..last(5)
    };
    let first = Key::first_at(HostId::from_bytes([5; 16]));
    assert!(last(4) < first && first <= least && least < last(5));
}
