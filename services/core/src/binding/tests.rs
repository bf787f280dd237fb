//! One case per event and per rejection of a binding, and the table of selectors.

use std::collections::BTreeMap;

use super::*;
use crate::command::{Command, Declaration};
use crate::decision;
use crate::event;
use crate::id::{BindingId, ContainerId, SecretId};
use crate::name::{BindingName, HostName};
use crate::plan::plan_host;
use crate::secret;
use crate::testing::{
    BINDING, Given, HOST, SECRET, anywhere, apply_binding, apply_secret, binding_name, drawn,
    enrol, env, file, generated, host_name, of_secret, on_host, other_host_name, restart,
    secret_name,
};

fn of_binding(event: Event) -> event::Event {
    event::Event::Binding(BINDING, event)
}

fn spec(selector: Selector, target: Target, reload: Reload) -> Spec {
    Spec {
        secret: SECRET,
        also: std::collections::BTreeSet::new(),
        previous: std::collections::BTreeSet::new(),
        selector,
        target,
        reload,
        on_revoke: crate::binding::OnRevoke::Remove,
    }
}

fn bound(spec: Spec) -> event::Event {
    of_binding(Event::Bound {
        name: binding_name(),
        spec,
    })
}

fn command() -> Reload {
    Reload::Command {
        argv: vec!["/bin/reload".to_owned()],
        timeout: DEFAULT_COMMAND_TIMEOUT,
    }
}

fn unbind() -> Command {
    Command::Unbind {
        name: binding_name(),
    }
}

#[test]
fn a_binding_grants_and_delivers_the_current_version_to_the_hosts_it_means() {
    let given = Given::first_version().and(enrol(HOST));
    let command = apply_binding(anywhere(), file(), Reload::None);
    let after = given.when(command.clone()).then([
        bound(spec(anywhere(), file(), Reload::None)),
        of_secret(secret::Event::Delivered {
            host: HOST,
            version: 1,
            delivery: drawn(1000),
        }),
    ]);
    after.when(command).then_nothing();
}

#[test]
fn a_changed_binding_replaces_the_grant_under_the_same_id() {
    let signal = apply_binding(anywhere(), file(), Reload::Signal(1));
    let changed = bound(spec(anywhere(), file(), Reload::Signal(1)));
    let after = Given::serving().when(signal).then([changed]);
    let binding = after.world().binding_named(&binding_name()).unwrap();
    assert_eq!(
        binding.spec.as_ref().map(Spec::ack_level),
        Some(AckLevel::Reloaded)
    );
}

#[test]
fn an_unbound_binding_leaves_the_plan_and_can_be_bound_again() {
    let given = Given::serving();
    let before = given.world().host_generation(HOST);
    let given = given.when(unbind()).then([of_binding(Event::Unbound)]);
    assert!(given.world().host_generation(HOST) > before);
    assert!(plan_host(given.world(), HOST).unwrap().bindings.is_empty());
    given
        .when(apply_binding(anywhere(), file(), Reload::None))
        .then([bound(spec(anywhere(), file(), Reload::None))]);
}

#[test]
fn a_selector_without_host_and_image_is_refused_unless_accepted() {
    let weak = Selector {
        insecure: false,
        ..anywhere()
    };
    let half = Selector {
        host: Some(host_name()),
        ..weak.clone()
    };
    for selector in [weak, half] {
        let command = apply_binding(selector, file(), Reload::None);
        let rejection = Rejection::SelectorTooWeak {
            binding: binding_name(),
        };
        Given::first_version()
            .when(command)
            .then_rejected(rejection);
    }
    let strong = Selector {
        host: Some(host_name()),
        image: Some(ImageSelector::Digest("sha256:1".to_owned())),
        ..Selector::default()
    };
    let given = Given::first_version();
    given
        .when(apply_binding(strong.clone(), file(), Reload::None))
        .then([bound(spec(strong, file(), Reload::None))]);
}

#[test]
fn an_env_variable_without_a_restart_is_refused() {
    for reload in [Reload::None, Reload::Signal(1), command(), Reload::Label] {
        let rejection = Rejection::EnvNeedsRestart {
            binding: binding_name(),
        };
        let command = apply_binding(anywhere(), env(), reload);
        Given::first_version()
            .when(command)
            .then_rejected(rejection);
    }
    let given = Given::first_version();
    let command = apply_binding(anywhere(), env(), restart());
    given
        .when(command)
        .then([bound(spec(anywhere(), env(), restart()))]);
}

/// The same wish, with what is to befall who loses a revoked value.
fn with_on_revoke(command: Command, wanted: OnRevoke) -> Command {
    let Command::Apply(mut declarations) = command else {
        panic!("it declares a binding");
    };
    for declaration in &mut declarations {
        if let Declaration::Binding { on_revoke, .. } = declaration {
            *on_revoke = wanted;
        }
    }
    Command::Apply(declarations)
}

#[test]
fn what_befalls_who_loses_a_value_goes_with_the_plan_and_a_variable_only_stops() {
    for (word, on_revoke) in OnRevoke::WORDS {
        assert_eq!(
            (on_revoke.word(), OnRevoke::parse(word)),
            (word, Some(on_revoke))
        );
        let wish = with_on_revoke(apply_binding(anywhere(), file(), Reload::None), on_revoke);
        let given = Given::first_version().and(enrol(HOST)).and(wish);
        let plan = plan_host(given.world(), HOST).unwrap();
        assert_eq!(plan.bindings[0].on_revoke, on_revoke);
        let wish = with_on_revoke(apply_binding(anywhere(), env(), restart()), on_revoke);
        let asked = Given::first_version().when(wish);
        match on_revoke {
            OnRevoke::Remove | OnRevoke::Stop => {
                let spec = Spec {
                    on_revoke,
                    ..spec(anywhere(), env(), restart())
                };
                asked.then([bound(spec)]);
            }
            OnRevoke::Restart | OnRevoke::Disconnect | OnRevoke::Pause => {
                let binding = binding_name();
                asked.then_rejected(Rejection::VariableStays { binding });
            }
        }
    }
    assert_eq!(OnRevoke::parse("freeze"), None);
}

#[test]
fn a_binding_is_unbound_once() {
    let rejection = Rejection::NotBound {
        binding: binding_name(),
    };
    Given::serving()
        .and(unbind())
        .when(unbind())
        .then_rejected(rejection);
}

#[test]
fn a_binding_or_secret_nobody_named_is_unknown() {
    let unknown = decision::Rejection::BindingUnknown(binding_name());
    Given::nothing().when(unbind()).then_rejected(unknown);
    let command = apply_binding(anywhere(), file(), Reload::None);
    let unknown = decision::Rejection::SecretUnknown {
        name: secret_name(),
        nearest: None,
    };
    Given::nothing().when(command).then_rejected(unknown);
}

#[test]
fn two_bindings_of_one_selector_do_not_place_the_same_file() {
    let other = BindingName::parse("other").unwrap();
    let command = |selector| {
        Command::Apply(vec![Declaration::Binding {
            id: BindingId::from_bytes([77; 16]),
            name: other.clone(),
            secret: secret_name(),
            also: std::collections::BTreeSet::new(),
            previous: std::collections::BTreeSet::new(),
            selector,
            target: file(),
            reload: Reload::None,
            on_revoke: crate::binding::OnRevoke::Remove,
        }])
    };
    let rejection = decision::Rejection::TargetTaken {
        binding: other.clone(),
        other: binding_name(),
    };
    Given::serving()
        .when(command(anywhere()))
        .then_rejected(rejection);
    let elsewhere = Given::serving().and(command(on_host(other_host_name())));
    assert!(elsewhere.world().binding_named(&other).is_some());
}

#[test]
fn only_a_plain_file_is_done_when_it_is_swapped() {
    let level = |target, reload| spec(anywhere(), target, reload).ack_level();
    assert_eq!(level(file(), Reload::None), AckLevel::Swapped);
    assert_eq!(level(file(), Reload::Signal(1)), AckLevel::Reloaded);
    assert_eq!(level(file(), restart()), AckLevel::Reloaded);
    assert_eq!(level(env(), restart()), AckLevel::Reloaded);
    assert_eq!(level(file(), command()), AckLevel::Reloaded);
    assert_eq!(level(file(), Reload::Label), AckLevel::Reloaded);
}

fn facts() -> ContainerFacts {
    ContainerFacts {
        id: ContainerId::parse(&"a".repeat(64)).unwrap(),
        name: "web".to_owned(),
        image_digest: "sha256:abc".to_owned(),
        image_name: "registry.example/team/app:1.2".to_owned(),
        labels: BTreeMap::from([
            ("app".to_owned(), "payments".to_owned()),
            ("tier".to_owned(), "front".to_owned()),
        ]),
        user: Some("1000:1000".to_owned()),
    }
}

fn with_image(image: ImageSelector) -> Selector {
    Selector {
        image: Some(image),
        ..Selector::default()
    }
}

fn with_labels(labels: &[(&str, &str)]) -> Selector {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    Selector {
        labels: labels.iter().map(own).collect(),
        ..Selector::default()
    }
}

#[test]
fn every_part_of_a_selector_that_is_given_must_hold() {
    let digest = |text: &str| with_image(ImageSelector::Digest(text.to_owned()));
    let repository = |text: &str| with_image(ImageSelector::Repository(text.to_owned()));
    let host = |name: HostName| Selector {
        host: Some(name),
        ..Selector::default()
    };
    let table = [
        ("nothing is asked", Selector::default(), true),
        ("this host", host(host_name()), true),
        ("another host", host(other_host_name()), false),
        ("this digest", digest("sha256:abc"), true),
        ("another digest", digest("sha256:abd"), false),
        ("a digest's beginning", digest("sha256:ab"), false),
        (
            "the name as written",
            repository("registry.example/team/app:1.2"),
            true,
        ),
        (
            "the repository of any tag",
            repository("registry.example/team/app"),
            true,
        ),
        (
            "another tag",
            repository("registry.example/team/app:1.3"),
            false,
        ),
        (
            "a tag's beginning",
            repository("registry.example/team/app:1"),
            false,
        ),
        (
            "a repository's beginning",
            repository("registry.example/team/ap"),
            false,
        ),
        ("a registry alone", repository("registry.example"), false),
        ("one label", with_labels(&[("app", "payments")]), true),
        (
            "both labels",
            with_labels(&[("app", "payments"), ("tier", "front")]),
            true,
        ),
        (
            "a label of another value",
            with_labels(&[("app", "billing")]),
            false,
        ),
        (
            "a label it lacks",
            with_labels(&[("app", "payments"), ("zone", "a")]),
            false,
        ),
    ];
    hold(table);
}

#[test]
fn who_a_container_is_and_its_user_must_hold_where_they_are_given() {
    let table = [
        ("this container", with_id('a'), true),
        ("another container", with_id('b'), false),
        ("its name", with_name("web"), true),
        ("how its name begins", with_name("we*"), true),
        ("a name's beginning without a star", with_name("we"), false),
        ("another name", with_name("web-2"), false),
        ("its user", with_user("1000"), true),
        ("another user", with_user("1001"), false),
        ("root", with_user("0"), false),
    ];
    hold(table);
}

fn hold<const N: usize>(table: [(&str, Selector, bool); N]) {
    for (what, selector, expected) in table {
        assert_eq!(selector.matches(&host_name(), &facts()), expected, "{what}");
        let missing = selector.missing(&host_name(), &facts());
        assert_eq!(missing.is_empty(), expected, "{what}: {missing:?}");
    }
}

fn with_id(digit: char) -> Selector {
    Selector {
        container: ContainerId::parse(&digit.to_string().repeat(64)).ok(),
        ..Selector::default()
    }
}

fn with_name(name: &str) -> Selector {
    Selector {
        name: Some(name.to_owned()),
        ..Selector::default()
    }
}

fn with_user(user: &str) -> Selector {
    Selector {
        user: Some(user.to_owned()),
        ..Selector::default()
    }
}

#[test]
fn root_is_one_user_by_each_of_its_names_and_an_untold_one_is_nobody() {
    let runs_as = |configured: Option<&str>, wanted| {
        let mut facts = facts();
        facts.user = configured.map(str::to_owned);
        with_user(wanted).matches(&host_name(), &facts)
    };
    for root in ["", "0", "root", "0:0", "root:adm"] {
        assert!(runs_as(Some(root), "0"), "{root}");
        assert!(!runs_as(Some(root), "1000"), "{root}");
    }
    assert!(runs_as(Some("app:1000"), "app"));
    for wanted in ["0", "1000", "app"] {
        assert!(!runs_as(None, wanted), "{wanted}");
    }
}

#[test]
fn parts_that_do_not_hold_are_named_and_what_a_container_has_is_not_repeated() {
    let mut selector = with_labels(&[("app", "billing"), ("tier", "front")]);
    selector.host = Some(other_host_name());
    selector.image = Some(ImageSelector::Digest("sha256:abd".to_owned()));
    selector.user = Some("0".to_owned());
    let parts = selector.parts(&host_name(), &facts());
    let fields: Vec<&str> = parts.iter().map(|part| part.field.as_str()).collect();
    let all = ["host", "image", "user", "label app", "label tier"];
    assert_eq!(fields, all);
    let missing = selector.missing(&host_name(), &facts());
    let fields: Vec<&str> = missing.iter().map(|part| part.field.as_str()).collect();
    assert_eq!(fields, all[..4]);
    let words: Vec<String> = missing.iter().map(Part::words).collect();
    assert_eq!(words[1], "image is not `sha256:abd`");
    assert_eq!(words[3], "label app is not `billing`");
    assert!(!words.concat().contains("payments"), "{words:?}");
    assert_eq!(missing[3].found, "payments");
    let long = with_labels(&[("app", &"x".repeat(500))]);
    let words = long.missing(&host_name(), &facts())[0].words();
    assert!(words.len() < 150, "{words}");
}

#[test]
fn what_a_container_s_creator_chooses_makes_no_selector_strong() {
    for chosen in [
        with_name("web"),
        with_user("0"),
        with_labels(&[("app", "x")]),
    ] {
        let chosen = Selector {
            host: Some(host_name()),
            ..chosen
        };
        assert!(!chosen.is_strong(), "{chosen:?}");
    }
}

#[test]
fn a_repository_with_a_port_is_not_mistaken_for_a_tag() {
    let mut facts = facts();
    facts.image_name = "localhost:5000/app".to_owned();
    let selector = with_image(ImageSelector::Repository("localhost".to_owned()));
    assert!(!selector.matches(&host_name(), &facts));
    facts.image_name = "team/app@sha256:abc".to_owned();
    let selector = with_image(ImageSelector::Repository("team/app".to_owned()));
    assert!(selector.matches(&host_name(), &facts));
}

#[test]
fn a_binding_of_another_secret_leaves_the_first_one_s_grants_alone() {
    let given = Given::serving();
    assert_eq!(given.world().hosts_of(SECRET), [HOST]);
    assert!(
        given
            .world()
            .hosts_of(SecretId::from_bytes([99; 16]))
            .is_empty()
    );
    let again = given.when(apply_secret(generated()));
    again.then_nothing();
}
