//! What a binding gives no more, and how it is known that it is gone.

use super::several::{OTHER, bind, both_exist, of_other, other_name, other_swapped, says};
use crate::assignment;
use crate::binding::Reload;
use crate::command::Command;
use crate::report::{Fact, HostReport, Item};
use crate::rotation::{ACK_DEADLINE, Step};
use crate::schedule::{CANARY_WATCH, Canary, RotationPolicy};
use crate::secret::Spec;
use crate::testing::{
    Given, HOST, NOW, SECOND, SECRET, apply_binding, apply_secret, assigned, binding_name, done,
    file, generated, of_consumer, on_host, other_host_name, report, revoke, rotate, secret_name,
    swapped,
};

fn withdrawn() -> crate::event::Event {
    of_consumer(1, assignment::Event::Withdrawn)
}

fn holds_nothing() -> Command {
    Command::Report(report(Vec::new(), &[]))
}

/// Consumer 1 holds version 1, and its binding gives another secret by now.
fn moved_on() -> Given {
    both_exist()
        .and(bind(secret_name(), &[]))
        .and(says(vec![swapped(1, 1)], &[1], &[]))
        .and(bind(other_name(), &[]))
}

#[test]
fn what_is_given_no_more_and_not_held_is_gone_though_nobody_told() {
    moved_on().when(holds_nothing()).then([withdrawn()]);
    moved_on()
        .when(says(Vec::new(), &[1], &[]))
        .then_nothing()
        .when(Command::Report(HostReport {
            complete: false,
            containers: Vec::new(),
            ..report(Vec::new(), &[])
        }))
        .then_nothing();
}

#[test]
fn a_report_on_an_older_plan_says_nothing_of_what_is_given_no_more() {
    let given = moved_on();
    let generation = given.world().host_generation(HOST) - 1;
    let older = HostReport {
        generation,
        ..report(Vec::new(), &[])
    };
    given.when(Command::Report(older)).then_nothing();
}

#[test]
fn what_a_host_is_given_no_more_and_does_not_hold_is_gone() {
    let elsewhere = apply_binding(on_host(other_host_name()), file(), Reload::None);
    let given = Given::serving().and(elsewhere);
    given.when(holds_nothing()).then([withdrawn()]);
}

#[test]
fn what_has_no_value_to_give_and_is_not_held_is_gone() {
    let given = Given::serving().and(revoke(None));
    given.when(holds_nothing()).then_among_others([withdrawn()]);
}

#[test]
fn what_is_given_still_stays_while_its_container_restarts() {
    Given::serving().when(holds_nothing()).then_nothing();
}

#[test]
fn a_late_copy_takes_the_place_of_what_its_binding_gives_no_more() {
    let given = moved_on().and(Command::Unbind {
        name: binding_name(),
    });
    // Another container still holds what this one held.
    let given = given.and(says(vec![other_swapped(1, 1)], &[1], &[1]));
    let count = |given: &Given, secret| given.world().consumers(secret).count();
    assert_eq!((count(&given, SECRET), count(&given, OTHER)), (0, 1));
    let gone = vec![of_other(1, Fact::Withdrawn)];
    let given = given.and(says(gone, &[1], &[]));
    assert_eq!((count(&given, SECRET), count(&given, OTHER)), (0, 0));
}

#[test]
fn of_a_file_of_two_secrets_the_second_does_not_take_the_first_one_s_place() {
    let given = both_exist()
        .and(bind(secret_name(), &[other_name()]))
        .and(Command::Unbind {
            name: binding_name(),
        });
    let both = vec![swapped(1, 1), other_swapped(1, 1)];
    let given = given.and(says(both, &[1], &[1]));
    assert_eq!(given.world().consumers(SECRET).count(), 1);
}

/// What a host says whose injector takes versions ahead of their promotion.
fn told(items: Vec<Item>, holds: &[u64]) -> Command {
    Command::Report(HostReport {
        knows_staged: true,
        ..report(items, holds)
    })
}

/// Consumer 1 was to go back to version 1 when it was told of late that it took version 2; then its binding gives
/// another secret.
fn moved_on_after_its_way_back_began() -> Given {
    let canary = Canary {
        consumers: 1,
        watch: CANARY_WATCH,
    };
    let spec = Spec {
        rotation: RotationPolicy {
            canary: Some(canary),
            ..RotationPolicy::default()
        },
        ..generated()
    };
    let serving = both_exist()
        .and(apply_secret(spec))
        .and(bind(secret_name(), &[]))
        .and(told(vec![swapped(1, 1)], &[1]))
        .and(rotate(SECOND));
    [Step::Create, Step::Set, Step::Test]
        .into_iter()
        .fold(serving, |given, step| given.and(done(SECOND, step)))
        .at(NOW.plus(ACK_DEADLINE))
        .and(Command::DeadlinePassed { rotation: SECOND })
        .and(told(vec![swapped(1, 2)], &[1, 2]))
        .and(bind(other_name(), &[]))
}

#[test]
fn who_went_back_has_what_it_went_back_to_though_its_binding_gives_another_secret() {
    let back = told(vec![swapped(1, 1)], &[1]);
    let swapped = assignment::Event::Swapped {
        version: 1,
        at: NOW,
    };
    let given = moved_on_after_its_way_back_began();
    let given = given
        .when(back)
        .then_among_others([of_consumer(1, assigned(1)), of_consumer(1, swapped)]);
    let holds: Vec<u64> = given
        .world()
        .assignments
        .values()
        .map(|one| one.holds)
        .collect();
    assert_eq!(holds, [1]);
    // It has it still, so nothing of it is withdrawn.
    given.when(told(Vec::new(), &[1])).then_nothing();
}
