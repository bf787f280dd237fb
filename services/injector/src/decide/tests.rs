//! One case per rule of what a container needs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keywheel_core::binding::{ContainerFacts, ImageSelector, Selector, SetFile};
use keywheel_core::id::{ContainerId, DeliveryId, HostId};
use keywheel_core::name::{BindingName, EnvName, SecretName};
use keywheel_core::plan::PlannedSecret;
use keywheel_engine::port::container_host::{ContainerRecord, Health};

use super::*;

mod left_over;
mod previous;

const RESTART: Reload = Reload::Restart {
    settle: Duration::ZERO,
    health_timeout: Duration::ZERO,
    rollout: None,
};

fn host() -> HostName {
    HostName::parse("web-1").unwrap()
}

pub(crate) fn file(name: &str) -> Target {
    Target::File {
        directory: Directory::parse("/run/secrets").unwrap(),
        name: FileName::parse(name).unwrap(),
        uid: 0,
        gid: 0,
        mode: 0o400,
        template: None,
    }
}

pub(crate) fn env() -> Target {
    Target::Env {
        name: EnvName::parse("DB").unwrap(),
    }
}

pub(crate) fn binding(
    number: u8,
    target: Target,
    reload: Reload,
    version: Option<u64>,
) -> PlannedBinding {
    PlannedBinding {
        binding: BindingId::from_bytes([number; 16]),
        name: BindingName::parse("b").unwrap(),
        secret: SecretId::from_bytes([number; 16]),
        secret_name: SecretName::parse("prod/db").unwrap(),
        also: Vec::new(),
        previous: Vec::new(),
        selector: Selector {
            host: Some(host()),
            image: Some(ImageSelector::Digest("sha256:1".to_owned())),
            labels: BTreeMap::new(),
            insecure: false,
            container: None,
            name: None,
            user: None,
        },
        target,
        reload,
        current: version.map(|version| Grant {
            version,
            delivery: DeliveryId::from_bytes([1; 16]),
        }),
        floor: 0,
        dead: BTreeSet::new(),
        traceparent: None,
        leases: false,
        on_revoke: keywheel_core::binding::OnRevoke::Remove,
    }
}

pub(crate) fn plan(bindings: Vec<PlannedBinding>) -> HostPlan {
    HostPlan {
        host: HostId::from_bytes([9; 16]),
        host_name: host(),
        generation: 1,
        bindings,
        leaves: Vec::new(),
        staged: Vec::new(),
        orders: Vec::new(),
    }
}

pub(crate) fn tracked(runtime: &str, placeholders: &[&str]) -> Tracked {
    let facts = ContainerFacts {
        id: ContainerId::parse(&"a".repeat(64)).unwrap(),
        name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
        image_name: "app".to_owned(),
        labels: BTreeMap::new(),
        user: None,
    };
    let record = ContainerRecord {
        facts,
        pid: 1,
        running: true,
        paused: false,
        started_at: String::new(),
        runtime: runtime.to_owned(),
        health: Health::None,
        placeholders: placeholders
            .iter()
            .map(|entry| (*entry).to_owned())
            .collect(),
        refused: None,
        health_command: Vec::new(),
        user: String::new(),
    };
    Tracked::new(record, Duration::ZERO)
}

fn holds(tracked: &mut Tracked, binding: &PlannedBinding, version: Option<u64>, ack: Ack) {
    let place = place_of(&binding.target);
    let attr = matches!(place, Place::File { .. }).then_some(FileAttr {
        uid: 0,
        gid: 0,
        mode: 0o400,
    });
    let holding = Holding {
        secret: binding.secret,
        place,
        attr,
        form: crate::form::Form::of(binding),
        further: BTreeMap::new(),
        previous: BTreeMap::new(),
        news: Vec::new(),
        version,
        content: 1,
        ack,
        remembered: None,
        kept: None,
    };
    tracked.holdings.insert(binding.binding, holding);
}

#[test]
fn a_version_that_does_not_fit_a_template_is_left_until_one_of_them_changes() {
    let with = |template: &str, version| {
        let mut target = file("db");
        if let Target::File { template: text, .. } = &mut target {
            *text = Some(template.to_owned());
        }
        binding(1, target, Reload::None, Some(version))
    };
    let (first, other) = ("{{ secret(\"prod/db\").a }}", "{{ secret(\"prod/db\").b }}");
    let mut tracked = tracked("runc", &[]);
    let planned = with(first, 3);
    let unformed = crate::model::Unformed {
        secret: planned.secret,
        version: 3,
        form: crate::form::Form::of(&planned),
        reason: "template_failed".to_owned(),
    };
    tracked.unformed.insert(planned.binding, unformed);
    let beside = binding(2, file("beside"), Reload::None, Some(1));
    let todo = decided(vec![planned, beside], &tracked);
    let written: Vec<&str> = todo.writes.iter().map(|wish| wish.name.as_str()).collect();
    assert_eq!(written, ["beside"]);
    assert_eq!(todo.needs.len(), 1, "its value is not asked for either");
    let said: Vec<&str> = todo.refusals.iter().map(|one| one.3.as_str()).collect();
    assert_eq!(said, ["template_failed"]);
    for changed in [with(other, 3), with(first, 4)] {
        assert_eq!(decided(vec![changed], &tracked).writes.len(), 1);
    }
}

fn decided(bindings: Vec<PlannedBinding>, tracked: &Tracked) -> Todo {
    decided_with(bindings, tracked, Had::Here)
}

/// The same, while the injector is so far with every value.
fn decided_with(bindings: Vec<PlannedBinding>, tracked: &Tracked, had: Had) -> Todo {
    let is_wrapped = tracked.record.runtime.starts_with("keywheel");
    let now = Duration::ZERO;
    decide(
        &plan(bindings),
        &host(),
        (tracked, now),
        is_wrapped,
        &|_| had,
    )
}

#[test]
fn a_matching_container_without_the_file_gets_it() {
    let todo = decided(
        vec![binding(1, file("db"), Reload::None, Some(3))],
        &tracked("runc", &[]),
    );
    assert_eq!(
        todo.writes
            .iter()
            .map(|wish| wish.grant.version)
            .collect::<Vec<_>>(),
        [3]
    );
    assert!(!todo.writes[0].compare_first && todo.needs.len() == 1);
}

#[test]
fn another_image_or_host_gets_nothing() {
    let mut other = binding(1, file("db"), Reload::None, Some(3));
    other.selector.image = Some(ImageSelector::Digest("sha256:2".to_owned()));
    let mut elsewhere = binding(2, file("x"), Reload::None, Some(3));
    elsewhere.selector.host = Some(HostName::parse("web-2").unwrap());
    let todo = decided(vec![other, elsewhere], &tracked("runc", &[]));
    assert!(todo.writes.is_empty() && todo.needs.is_empty());
}

#[test]
fn the_same_version_is_left_alone_and_an_unknown_one_is_compared() {
    let bound = binding(1, file("db"), Reload::None, Some(3));
    let mut container = tracked("runc", &[]);
    holds(&mut container, &bound, Some(3), Ack::Done);
    assert!(decided(vec![bound.clone()], &container).writes.is_empty());
    holds(&mut container, &bound, None, Ack::AtStart);
    assert!(decided(vec![bound], &container).writes[0].compare_first);
}

#[test]
fn a_file_that_nothing_grants_any_more_is_taken_away() {
    let bound = binding(1, file("db"), Reload::None, Some(3));
    let mut container = tracked("runc", &[]);
    holds(&mut container, &bound, Some(3), Ack::Done);
    assert_eq!(decided(Vec::new(), &container).removes.len(), 1);
    let revoked = PlannedBinding {
        current: None,
        ..bound.clone()
    };
    assert_eq!(decided(vec![revoked], &container).removes.len(), 1);
    let dead = PlannedBinding {
        dead: BTreeSet::from([3]),
        ..bound.clone()
    };
    assert_eq!(decided(vec![dead], &container).removes.len(), 1);
    let below_floor = PlannedBinding {
        floor: 3,
        ..bound.clone()
    };
    assert_eq!(decided(vec![below_floor], &container).removes.len(), 1);
    let moved = PlannedBinding {
        target: file("other"),
        ..bound
    };
    let todo = decided(vec![moved], &container);
    assert_eq!((todo.removes.len(), todo.writes.len()), (1, 1));
}

#[test]
fn what_a_binding_says_befalls_who_loses_a_revoked_value_for_which_there_is_no_other() {
    let bound = PlannedBinding {
        on_revoke: OnRevoke::Pause,
        ..binding(1, file("db"), Reload::None, Some(3))
    };
    let mut container = tracked("runc", &[]);
    holds(&mut container, &bound, Some(3), Ack::Done);
    let revoked = PlannedBinding {
        current: None,
        floor: 3,
        ..bound.clone()
    };
    let todo = decided(vec![revoked.clone()], &container);
    assert_eq!((todo.removes.len(), todo.on_revoke), (1, OnRevoke::Pause));
    // Not when another value takes its place, and not when it is bound no more or nothing was revoked.
    let newer = binding(1, file("db"), Reload::None, Some(4));
    let replaced = PlannedBinding {
        floor: 3,
        on_revoke: OnRevoke::Pause,
        ..newer
    };
    let without = PlannedBinding {
        current: None,
        ..bound
    };
    for bindings in [vec![replaced], Vec::new(), vec![without]] {
        assert_eq!(decided(bindings, &container).on_revoke, OnRevoke::Remove);
    }
    // Of several the strongest counts.
    let other = PlannedBinding {
        on_revoke: OnRevoke::Stop,
        current: None,
        floor: 3,
        ..binding(2, file("other"), Reload::None, Some(3))
    };
    holds(&mut container, &other, Some(3), Ack::Done);
    let todo = decided(vec![other, revoked], &container);
    assert_eq!(todo.on_revoke, OnRevoke::Stop);
}

#[test]
fn two_bindings_never_share_a_file() {
    let first = binding(1, file("db"), Reload::None, Some(3));
    let second = binding(2, file("db"), Reload::None, Some(4));
    let todo = decided(vec![first, second], &tracked("runc", &[]));
    assert_eq!(todo.writes.len(), 1);
    assert!(todo.refusals[0].3.contains("another file name"));
}

#[test]
fn a_variable_outside_the_wrapper_is_refused_with_the_next_step() {
    let todo = decided(
        vec![binding(1, env(), RESTART, Some(3))],
        &tracked("runc", &["DB={keywheel:prod/db}"]),
    );
    assert!(todo.refusals[0].3.contains("--runtime keywheel") && todo.restart.is_empty());
    assert!(todo.refusals[0].3.contains("keywheel migrate web --env"));
    assert!(todo.refusals[0].3.contains("`-e DB={keywheel:prod/db}`"));
}

#[test]
fn a_variable_without_its_placeholder_is_refused() {
    for entry in ["OTHER={keywheel:prod/db}", "DB={keywheel:prod/other}"] {
        let todo = decided(
            vec![binding(1, env(), RESTART, Some(3))],
            &tracked("keywheel", &[entry]),
        );
        assert!(todo.refusals[0].3.contains("no placeholder"), "{entry}");
    }
}

#[test]
fn a_changed_variable_restarts_and_a_revoked_one_stops() {
    let bound = binding(1, env(), RESTART, Some(3));
    let mut container = tracked("keywheel", &["DB=x{keywheel:prod/db}"]);
    holds(&mut container, &bound, Some(3), Ack::Done);
    assert!(decided(vec![bound.clone()], &container).restart.is_empty());
    holds(&mut container, &bound, Some(2), Ack::Done);
    assert_eq!(decided(vec![bound.clone()], &container).restart.len(), 1);
    let revoked = PlannedBinding {
        current: None,
        ..bound
    };
    assert_eq!(decided(vec![revoked], &container).stop.len(), 1);
    assert!(
        decided(Vec::new(), &tracked("keywheel", &[]))
            .stop
            .is_empty()
    );
}

#[test]
fn a_file_with_reload_restart_asks_for_it_once_it_changed() {
    let bound = binding(1, file("db"), RESTART, Some(3));
    let mut container = tracked("runc", &[]);
    holds(&mut container, &bound, Some(3), Ack::Due);
    assert_eq!(decided(vec![bound.clone()], &container).restart.len(), 1);
    holds(
        &mut container,
        &bound,
        Some(3),
        Ack::Gate {
            since: Duration::ZERO,
        },
    );
    assert!(decided(vec![bound], &container).restart.is_empty());
}

#[test]
fn a_binding_of_another_secret_replaces_the_file_at_any_version() {
    let bound = binding(1, file("db"), Reload::None, Some(3));
    let mut container = tracked("runc", &[]);
    for version in [Some(3), Some(9), None] {
        holds(&mut container, &bound, version, Ack::Done);
        let other = PlannedBinding {
            secret: SecretId::from_bytes([7; 16]),
            ..bound.clone()
        };
        let todo = decided(vec![other], &container);
        assert_eq!((todo.removes.len(), todo.writes.len()), (0, 1));
        assert_eq!(todo.writes[0].secret, SecretId::from_bytes([7; 16]));
        assert!(!todo.writes[0].compare_first, "{version:?}");
    }
}

#[test]
fn a_binding_of_another_secret_without_a_version_takes_the_file_away() {
    let bound = binding(1, file("db"), Reload::None, Some(3));
    let mut container = tracked("runc", &[]);
    holds(&mut container, &bound, Some(3), Ack::Done);
    let other = PlannedBinding {
        secret: SecretId::from_bytes([7; 16]),
        current: None,
        ..bound
    };
    assert_eq!(decided(vec![other], &container).removes.len(), 1);
}

#[test]
fn a_variable_of_another_secret_stops_its_container() {
    let bound = binding(1, env(), RESTART, Some(3));
    let mut container = tracked("keywheel", &["DB={keywheel:prod/db}"]);
    holds(&mut container, &bound, Some(3), Ack::Done);
    let other = PlannedBinding {
        secret: SecretId::from_bytes([7; 16]),
        ..bound
    };
    let todo = decided(vec![other], &container);
    assert_eq!(todo.stop.len(), 1);
}

#[test]
fn another_owner_or_mode_is_applied_at_the_same_version() {
    let bound = binding(1, file("db"), Reload::None, Some(3));
    let mut container = tracked("runc", &[]);
    let change = |uid, gid, mode| PlannedBinding {
        target: Target::File {
            directory: Directory::parse("/run/secrets").unwrap(),
            name: FileName::parse("db").unwrap(),
            uid,
            gid,
            mode,
            template: None,
        },
        ..bound.clone()
    };
    for version in [Some(3), None] {
        holds(&mut container, &bound, version, Ack::Done);
        for changed in [
            change(5, 0, 0o400),
            change(0, 5, 0o400),
            change(0, 0, 0o440),
        ] {
            let todo = decided(vec![changed], &container);
            assert_eq!((todo.writes.len(), todo.removes.len()), (1, 0));
            assert!(!todo.writes[0].compare_first, "{version:?}");
        }
    }
}

#[test]
fn a_label_restarts_only_where_the_binding_lets_it() {
    for (reload, restarts) in [
        (Reload::Label, 1),
        (Reload::None, 0),
        (Reload::Signal(1), 0),
    ] {
        let bound = binding(1, file("db"), reload, Some(3));
        let mut one = tracked("runc", &[]);
        let label = (crate::reload::RELOAD_LABEL.to_owned(), "restart".to_owned());
        one.record.facts.labels.extend([label]);
        one = Tracked::new(one.record, Duration::ZERO);
        holds(&mut one, &bound, Some(3), Ack::Due);
        assert_eq!(decided(vec![bound], &one).restart.len(), restarts);
    }
}

#[test]
fn another_template_is_applied_at_the_same_version() {
    let bound = binding(1, file("db"), Reload::None, Some(3));
    let with = |text: &str| {
        let mut changed = bound.clone();
        if let Target::File { template, .. } = &mut changed.target {
            *template = Some(text.to_owned());
        }
        changed
    };
    let mut container = tracked("runc", &[]);
    for (held, wanted, writes) in [
        (bound.clone(), with("a"), 1),
        (with("a"), with("b"), 1),
        (with("a"), bound.clone(), 1),
        (with("a"), with("a"), 0),
    ] {
        holds(&mut container, &held, Some(3), Ack::Done);
        let todo = decided(vec![wanted], &container);
        assert_eq!((todo.writes.len(), todo.removes.len()), (writes, 0));
    }
    // What an earlier run wrote is compared, whatever the template was then.
    holds(&mut container, &bound, None, Ack::Done);
    let todo = decided(vec![with("a")], &container);
    assert!(todo.writes[0].compare_first && todo.writes[0].form.is_some());
}

#[test]
fn files_take_the_place_of_a_file_and_share_it_with_no_other_binding() {
    let set = Target::Files {
        directory: Directory::parse("/run/secrets").unwrap(),
        name: FileName::parse("db").unwrap(),
        uid: 0,
        gid: 0,
        mode: 0o400,
        files: vec![SetFile {
            name: FileName::parse("user").unwrap(),
            template: "{{ secret(\"prod/db\").user }}".to_owned(),
        }],
    };
    let (one, several) = (
        binding(1, file("db"), Reload::None, Some(3)),
        binding(1, set, Reload::None, Some(3)),
    );
    let mut container = tracked("runc", &[]);
    for (held, wanted, writes) in [
        (&one, &several, 1),
        (&several, &one, 1),
        (&several, &several, 0),
    ] {
        holds(&mut container, held, Some(3), Ack::Done);
        let todo = decided(vec![wanted.clone()], &container);
        assert_eq!((todo.writes.len(), todo.removes.len()), (writes, 0));
    }
    let other = binding(2, file("db"), Reload::None, Some(1));
    let todo = decided(vec![several, other], &container);
    let said: Vec<&str> = todo.refusals.iter().map(|one| one.3.as_str()).collect();
    assert!(
        matches!(said[..], [reason] if reason.contains("/run/secrets/db")),
        "{said:?}"
    );
}

/// A file of its own secret at version 3 and of another at this one.
fn of_two(version: Option<u64>) -> PlannedBinding {
    let mut target = file("db");
    if let Target::File { template, .. } = &mut target {
        let text = "{{ secret(\"prod/db\") }}:{{ secret(\"prod/api\") }}";
        *template = Some(text.to_owned());
    }
    let mut planned = binding(1, target, Reload::None, Some(3));
    planned.also.push(PlannedSecret {
        secret: SecretId::from_bytes([9; 16]),
        name: SecretName::parse("prod/api").unwrap(),
        current: version.map(|version| Grant {
            version,
            delivery: DeliveryId::from_bytes([2; 16]),
        }),
        floor: 0,
        dead: BTreeSet::new(),
        traceparent: None,
    });
    planned
}

fn holds_two(tracked: &mut Tracked, planned: &PlannedBinding, other: u64, ack: Ack) {
    holds(tracked, planned, Some(3), ack);
    let holding = tracked.holdings.get_mut(&planned.binding).unwrap();
    holding.further = BTreeMap::from([(SecretId::from_bytes([9; 16]), other)]);
}

#[test]
fn a_file_of_two_secrets_is_written_again_when_one_of_them_changes() {
    let (first, second) = (of_two(Some(1)), of_two(Some(2)));
    let mut tracked = tracked("runc", &[]);
    let fresh = decided(vec![first.clone()], &tracked);
    assert_eq!(fresh.needs.len(), 2);
    assert_eq!(fresh.writes[0].news.len(), 2, "all of it is new");
    holds_two(&mut tracked, &first, 1, Ack::Done);
    let same = decided(vec![first], &tracked);
    assert!(same.writes.is_empty() && same.needs.is_empty());
    let changed = decided(vec![second], &tracked);
    let other = SecretId::from_bytes([9; 16]);
    assert_eq!(changed.writes[0].news, [(other, 2)], "and only that");
    assert_eq!(changed.needs.len(), 2, "the file needs both");
}

#[test]
fn a_file_of_two_secrets_is_taken_away_when_one_of_them_is_gone() {
    let mut tracked = tracked("runc", &[]);
    holds_two(&mut tracked, &of_two(Some(1)), 1, Ack::Done);
    let todo = decided(vec![of_two(None)], &tracked);
    assert_eq!(todo.removes.len(), 1);
    assert!(todo.writes.is_empty() && todo.needs.is_empty());
}

#[test]
fn a_restart_is_due_for_what_is_new_in_a_file_of_two_secrets() {
    let mut planned = of_two(Some(2));
    planned.reload = RESTART;
    let other = SecretId::from_bytes([9; 16]);
    let mut tracked = tracked("runc", &[]);
    holds_two(&mut tracked, &planned, 2, Ack::Due);
    let all = decided(vec![planned.clone()], &tracked).restart;
    let own = (planned.binding, planned.secret, 3);
    assert_eq!(all, [own, (planned.binding, other, 2)]);
    let holding = tracked.holdings.get_mut(&planned.binding).unwrap();
    holding.news = vec![(other, 2)];
    let due = decided(vec![planned.clone()], &tracked).restart;
    assert_eq!(due, [(planned.binding, other, 2)]);
}
