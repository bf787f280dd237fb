//! One case per event and per rejection of a host.

mod join;
mod permits;

use super::*;
use crate::binding::Reload;
use crate::command::Command;
use crate::id::RotationId;
use crate::plan::plan_host;
use crate::secret;
use crate::testing::{
    Given, HOST, OTHER_HOST, anywhere, apply_binding, drawn, enrol, file, host_name, of_host,
    of_secret, on_host, report,
};

fn key_replaced() -> Command {
    Command::EnrolHost {
        host: HOST,
        name: host_name(),
        sealing_key: [7; 32],
    }
}

#[test]
fn an_enrolled_host_is_known_and_enrolling_it_again_changes_nothing() {
    let enrolled = of_host(Event::Enrolled {
        name: host_name(),
        sealing_key: [9; 32],
        signing_key: None,
    });
    let given = Given::nothing().when(enrol(HOST)).then([enrolled]);
    assert_eq!(
        given.world().host_named(&host_name()).map(|host| host.id),
        Some(HOST)
    );
    given.when(enrol(HOST)).then_nothing();
}

#[test]
fn a_host_that_comes_late_is_granted_what_bindings_give_it() {
    let bound = apply_binding(on_host(host_name()), file(), Reload::None);
    let given = Given::first_version().and(bound).when(enrol(HOST));
    let after = given.then([
        of_host(Event::Enrolled {
            name: host_name(),
            sealing_key: [9; 32],
            signing_key: None,
        }),
        of_secret(secret::Event::Delivered {
            host: HOST,
            version: 1,
            delivery: drawn(1000),
        }),
    ]);
    let plan = plan_host(after.world(), HOST).unwrap();
    assert_eq!(plan.bindings[0].current.map(|grant| grant.version), Some(1));
}

#[test]
fn a_replaced_key_is_taken_and_raises_the_plan_s_generation() {
    let given = Given::nothing().and(enrol(HOST));
    let before = given.world().host_generation(HOST);
    let replaced = of_host(Event::KeyReplaced {
        sealing_key: [7; 32],
        signing_key: None,
        generation: 0,
    });
    let given = given.when(key_replaced()).then([replaced]);
    assert_eq!(given.world().hosts[&HOST].sealing_key, [7; 32]);
    assert!(given.world().host_generation(HOST) > before);
}

#[test]
fn a_report_of_a_host_nobody_enrolled_is_refused() {
    let stranger = Command::Report(report(Vec::new(), &[]));
    let rejection = Rejection::NotEnrolled(HOST);
    Given::first_version()
        .when(stranger)
        .then_rejected(rejection);
}

#[test]
fn a_name_is_enrolled_under_one_id_only() {
    let namesake = Command::EnrolHost {
        host: OTHER_HOST,
        name: host_name(),
        sealing_key: [1; 32],
    };
    let given = Given::nothing().and(enrol(HOST));
    given
        .when(namesake)
        .then_rejected(Rejection::NameTaken(host_name()));
}

#[test]
fn a_host_without_a_binding_is_granted_nothing() {
    let given = Given::first_version().and(enrol(HOST));
    assert!(given.secret().delivered.is_empty());
    let bound = given.and(apply_binding(anywhere(), file(), Reload::None));
    assert_eq!(bound.secret().delivered.len(), 1);
    assert!(
        bound
            .world()
            .rotations
            .contains_key(&RotationId::from_bytes([5; 16]))
    );
}
