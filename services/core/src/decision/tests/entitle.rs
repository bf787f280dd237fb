//! What policies take from bindings and give back, whoever judges; a replay asks nobody.

use super::*;
use crate::binding::Denial;
use crate::event::Event;
use crate::id::PolicySetId;
use crate::policy::{self, Policies};
use crate::secret;

fn denial(reason: &str) -> Denial {
    Denial {
        service: "payments".to_owned(),
        secret: SECRET,
        reason: reason.to_owned(),
    }
}

fn nothing_against(_: &World, _: &BindingName, _: &binding::Spec) -> Option<Denial> {
    None
}

fn refused(_: &World, name: &BindingName, _: &binding::Spec) -> Option<Denial> {
    (*name == binding_name()).then(|| denial("default deny"))
}

fn judged(given: &Given, command: &Command, judge: Judge<'_>) -> Vec<Event> {
    let events = decide(given.world(), command, &context()).unwrap();
    assert!(is_judged(command, &events));
    entitle(given.world(), (command, events), &context(), judge)
}

/// Goes on with what a command leads to under this judge.
fn after(given: &Given, command: &Command, judge: Judge<'_>) -> Given {
    let more = judged(given, command, judge);
    Given::events(given.log().iter().cloned().chain(more))
}

fn bind() -> Command {
    apply_binding(anywhere(), file(), Reload::None)
}

fn apply_policies() -> Command {
    Command::ApplyPolicies(policy::Request {
        id: PolicySetId::from_bytes([1; 16]),
        expected: None,
        policies: Policies {
            text: String::new(),
            groups: Vec::new(),
        },
        by: "unix:0".to_owned(),
    })
}

fn planned(given: &Given) -> usize {
    plan_host(given.world(), HOST).unwrap().bindings.len()
}

const fn is_delivery(event: &Event) -> bool {
    matches!(event, Event::Secret(_, secret::Event::Delivered { .. }))
}

#[test]
fn a_binding_that_is_refused_never_grants_and_has_nothing_delivered() {
    let given = Given::first_version().and(enrol(HOST));
    let granted = judged(&given, &bind(), &nothing_against);
    assert!(granted.iter().any(is_delivery), "{granted:?}");
    let events = judged(&given, &bind(), &refused);
    assert!(
        matches!(
            &events[..],
            [Event::Binding(_, binding::Event::Withheld { .. })]
        ),
        "{events:?}"
    );
    let given = after(&given, &bind(), &refused);
    assert_eq!(planned(&given), 0);
    let known = given.world().binding_named(&binding_name()).unwrap();
    assert!(known.spec.is_none() && known.declared().is_some());
    // Nobody has to say again what they declared, and a rotation gives that binding nothing either.
    given.clone().when(bind()).then_nothing();
    let given = given.and(rotate(SECOND)).finished(SECOND);
    assert!(!given.log().iter().any(is_delivery));
}

#[test]
fn a_set_takes_what_was_granted_and_another_one_gives_it_back_as_it_is_by_then() {
    let given = Given::serving();
    assert_eq!(planned(&given), 1);
    let before = given.world().host_generation(HOST);
    let given = after(&given, &apply_policies(), &refused);
    assert_eq!(planned(&given), 0, "its files are withdrawn");
    assert!(given.world().host_generation(HOST) > before);
    let given = given
        .and(Command::Report(report(Vec::new(), &[])))
        .and(rotate(SECOND))
        .finished(SECOND);
    let events = judged(&given, &Command::JudgeBindings, &nothing_against);
    assert!(
        matches!(events[0], Event::Binding(_, binding::Event::Bound { .. })),
        "{events:?}"
    );
    let is_second = |event: &Event| {
        matches!(
            event,
            Event::Secret(_, secret::Event::Delivered { version: 2, .. })
        )
    };
    assert!(events.iter().any(is_second), "{events:?}");
    let given = after(&given, &Command::JudgeBindings, &nothing_against);
    assert_eq!(planned(&given), 1);
    let plan = plan_host(given.world(), HOST).unwrap();
    assert_eq!(plan.bindings[0].current.unwrap().version, 2);
}

#[test]
fn the_same_word_again_is_no_event_and_another_reason_is_one() {
    let given = after(&Given::serving(), &apply_policies(), &refused);
    let again = Command::JudgeBindings;
    assert_eq!(judged(&given, &again, &refused), []);
    let forbids: Judge<'_> = &|_, _, _| Some(denial("forbidden by x"));
    let events = judged(&given, &again, forbids);
    assert_eq!(events.len(), 1, "{events:?}");
    let given = after(&given, &again, forbids);
    let known = given.world().binding_named(&binding_name()).unwrap();
    assert_eq!(
        known.withheld.as_ref().unwrap().denial,
        denial("forbidden by x")
    );
    let served = Given::serving();
    assert_eq!(judged(&served, &again, &nothing_against), []);
}

#[test]
fn what_another_binding_of_the_same_apply_gives_is_delivered_all_the_same() {
    let other = Declaration::Binding {
        id: BindingId::from_bytes([0x22; 16]),
        name: BindingName::parse("other").unwrap(),
        secret: secret_name(),
        also: std::collections::BTreeSet::new(),
        previous: std::collections::BTreeSet::new(),
        selector: on_host(host_name()),
        target: file(),
        reload: Reload::None,
        on_revoke: binding::OnRevoke::Remove,
    };
    let Command::Apply(mut both) = bind() else {
        panic!("no apply");
    };
    both.push(other);
    let given = Given::first_version().and(enrol(HOST));
    let events = judged(&given, &Command::Apply(both), &refused);
    // The first one of the two drew the delivery, and is refused.
    assert_eq!(events.iter().filter(|event| is_delivery(event)).count(), 1);
    let given = Given::events(given.log().iter().cloned().chain(events));
    assert_eq!(planned(&given), 1);
}

#[test]
fn what_is_withheld_keeps_its_place_and_can_be_unbound() {
    let given = after(&Given::serving(), &apply_policies(), &refused);
    let Command::Apply(mut same_place) = bind() else {
        panic!("no apply");
    };
    if let Some(Declaration::Binding { id, name, .. }) = same_place.first_mut() {
        *id = BindingId::from_bytes([0x22; 16]);
        *name = BindingName::parse("other").unwrap();
    }
    let taken = decide(given.world(), &Command::Apply(same_place), &context());
    assert!(matches!(
        taken.unwrap_err().reason,
        Rejection::TargetTaken { .. }
    ));
    assert!(given.world().is_bound(SECRET));
    let name = binding_name();
    let given = given.and(Command::Unbind { name });
    let known = given.world().binding_named(&binding_name()).unwrap();
    assert!(known.declared().is_none());
    assert_eq!(
        judged(&given, &Command::JudgeBindings, &nothing_against),
        []
    );
}

#[test]
fn a_binding_is_for_the_service_that_its_labels_ask_for_else_for_one_of_its_own_name() {
    let of = |labels: &[(&str, &str)]| {
        let labels = labels.iter();
        let spec = binding::Spec {
            secret: SECRET,
            also: std::collections::BTreeSet::new(),
            selector: binding::Selector {
                labels: labels
                    .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                    .collect(),
                ..anywhere()
            },
            target: file(),
            reload: Reload::None,
            previous: std::collections::BTreeSet::new(),
            on_revoke: binding::OnRevoke::Remove,
        };
        spec.service(&binding_name())
    };
    let project = ("com.docker.compose.project", "shop");
    let service = ("com.docker.compose.service", "web");
    assert_eq!(of(&[project, service]), "shop/web");
    assert_eq!(of(&[project]), "payments", "half of it is none");
    assert_eq!(
        of(&[("com.docker.swarm.service.name", "shop_web")]),
        "shop_web"
    );
    assert_eq!(of(&[("app", "web")]), "payments");
}
