//! What people are told about a binding and about versions.

use std::collections::BTreeMap;

use keywheel_core::binding::Selector;
use keywheel_core::name::{Directory, EnvName, FileName};

use super::*;

fn selector(image: Option<ImageSelector>, insecure: bool) -> Selector {
    Selector {
        image,
        labels: BTreeMap::from([("app".to_owned(), "payments".to_owned())]),
        insecure,
        ..Selector::default()
    }
}

fn file() -> Target {
    Target::File {
        directory: Directory::parse(binding::DEFAULT_DIRECTORY).unwrap(),
        name: FileName::parse("f").unwrap(),
        uid: 0,
        gid: 0,
        mode: 0o400,
        template: None,
    }
}

#[test]
fn what_makes_a_binding_weak_is_said() {
    let digest = || Some(ImageSelector::Digest("sha256:1".to_owned()));
    let repository = || Some(ImageSelector::Repository("registry/app".to_owned()));
    let env = Target::Env {
        name: EnvName::parse("A").unwrap(),
    };
    assert_eq!(binding_note(&selector(digest(), false), &file()), None);
    let file = file();
    let note = |selector, target| binding_note(&selector, target).unwrap();
    let by_name = note(selector(repository(), false), &file);
    assert!(
        by_name.contains("image by repository name is weaker"),
        "{by_name}"
    );
    let by_labels = note(selector(None, true), &file);
    assert!(by_labels.contains("insecure selector"), "{by_labels}");
    assert!(note(selector(digest(), false), &env).contains("env is the weaker tier"));
    let both = note(selector(repository(), false), &env);
    assert!(
        both.contains("repository") && both.contains("env"),
        "{both}"
    );
}

#[test]
fn a_binding_s_description_has_the_note() {
    let mut world = World::default();
    let id = keywheel_core::id::BindingId::default();
    let bound = binding::Event::Bound {
        name: keywheel_core::name::BindingName::parse("payments").unwrap(),
        spec: binding::Spec {
            secret: keywheel_core::id::SecretId::default(),
            also: std::collections::BTreeSet::new(),
            previous: std::collections::BTreeSet::new(),
            selector: selector(Some(ImageSelector::Repository("app".to_owned())), false),
            target: file(),
            reload: Reload::None,
            on_revoke: keywheel_core::binding::OnRevoke::Remove,
        },
    };
    world.apply(1, &keywheel_core::event::Event::Binding(id, bound));
    let shown = super::binding(&world, &world.bindings[&id]).unwrap();
    assert!(shown.note.unwrap().contains("repository name is weaker"));
}

#[test]
fn a_binding_says_what_befalls_who_loses_a_revoked_value() {
    let env = Target::Env {
        name: EnvName::parse("A").unwrap(),
    };
    for (target, on_revoke, shown) in [
        (file(), OnRevoke::Remove, OnRevoke::Remove),
        (file(), OnRevoke::Pause, OnRevoke::Pause),
        (env, OnRevoke::Remove, OnRevoke::Stop),
    ] {
        let spec = binding::Spec {
            secret: keywheel_core::id::SecretId::default(),
            also: std::collections::BTreeSet::new(),
            previous: std::collections::BTreeSet::new(),
            selector: selector(None, true),
            target,
            reload: Reload::None,
            on_revoke,
        };
        let id = keywheel_core::id::BindingId::default();
        let name = keywheel_core::name::BindingName::parse("payments").unwrap();
        let mut bound = binding::Binding::new(id, name);
        bound.spec = Some(spec);
        let view = super::binding(&World::default(), &bound).unwrap();
        assert_eq!(view.on_revoke.as_deref(), Some(shown.word()));
    }
}

#[test]
fn a_binding_of_several_files_names_them() {
    let mut world = World::default();
    let id = keywheel_core::id::BindingId::default();
    let one = |name: &str| binding::SetFile {
        name: FileName::parse(name).unwrap(),
        template: "{{ secret(\"prod/db\") }}".to_owned(),
    };
    let bound = binding::Event::Bound {
        name: keywheel_core::name::BindingName::parse("payments").unwrap(),
        spec: binding::Spec {
            secret: keywheel_core::id::SecretId::default(),
            also: std::collections::BTreeSet::new(),
            previous: std::collections::BTreeSet::new(),
            selector: selector(None, true),
            target: Target::Files {
                directory: Directory::parse(binding::DEFAULT_DIRECTORY).unwrap(),
                name: FileName::parse("db").unwrap(),
                uid: 5,
                gid: 0,
                mode: 0o440,
                files: vec![one("password"), one("user")],
            },
            reload: Reload::None,
            on_revoke: keywheel_core::binding::OnRevoke::Remove,
        },
    };
    world.apply(1, &keywheel_core::event::Event::Binding(id, bound));
    let shown = super::binding(&world, &world.bindings[&id]).unwrap();
    assert_eq!(
        shown.target,
        "files password, user in /run/secrets/db uid 5 gid 0 mode 0440"
    );
}

#[test]
fn a_binding_of_several_secrets_names_them() {
    let mut world = World::default();
    let (own, other) = (SecretId::from_bytes([1; 16]), SecretId::from_bytes([2; 16]));
    let id = keywheel_core::id::BindingId::default();
    for (number, secret, name) in [(1, own, "prod/db"), (2, other, "prod/api")] {
        let registered = keywheel_core::secret::Event::Registered {
            name: keywheel_core::name::SecretName::parse(name).unwrap(),
            spec: keywheel_core::secret::Spec::default(),
        };
        let registered = keywheel_core::event::Event::Secret(secret, registered);
        world.apply(number, &registered);
    }
    let bound = binding::Event::Bound {
        name: keywheel_core::name::BindingName::parse("payments").unwrap(),
        spec: binding::Spec {
            secret: own,
            also: std::collections::BTreeSet::from([other]),
            previous: std::collections::BTreeSet::new(),
            selector: selector(None, true),
            target: file(),
            reload: Reload::None,
            on_revoke: keywheel_core::binding::OnRevoke::Remove,
        },
    };
    world.apply(3, &keywheel_core::event::Event::Binding(id, bound));
    let shown = super::binding(&world, &world.bindings[&id]).unwrap();
    assert_eq!(
        (shown.secret.as_str(), shown.also.as_slice()),
        ("prod/db", &["prod/api".to_owned()][..])
    );
}

fn stage(world: &mut World, id: keywheel_core::id::SecretId, version: u64) {
    let staged = keywheel_core::secret::Event::VersionStaged {
        version,
        rotation: RotationId::default(),
    };
    world.apply(
        version + 1,
        &keywheel_core::event::Event::Secret(id, staged),
    );
}

#[test]
fn a_secret_s_newest_versions_are_listed_up_to_the_limit() {
    let id = keywheel_core::id::SecretId::default();
    let mut world = World::default();
    let registered = keywheel_core::secret::Event::Registered {
        name: keywheel_core::name::SecretName::parse("prod/db").unwrap(),
        spec: keywheel_core::secret::Spec::default(),
    };
    world.apply(1, &keywheel_core::event::Event::Secret(id, registered));
    for version in 1..=MAX_VERSIONS as u64 {
        stage(&mut world, id, version);
    }
    assert_eq!(versions(&world, &world.secrets[&id]).len(), MAX_VERSIONS);
    let one_more = MAX_VERSIONS as u64 + 1;
    stage(&mut world, id, one_more);
    let listed = versions(&world, &world.secrets[&id]);
    assert_eq!(listed.len(), MAX_VERSIONS);
    assert_eq!(listed.first().unwrap().version, one_more);
    assert_eq!(listed.last().unwrap().version, 2);
}

#[test]
fn a_consumer_s_version_before_is_shown_while_its_binding_names_it() {
    use keywheel_core::event::Event;
    use keywheel_core::secret;
    let mut world = World::default();
    let own = SecretId::from_bytes([1; 16]);
    let mut spec = secret::Spec::default();
    spec.rotation.keep_previous = true;
    let name = keywheel_core::name::SecretName::parse("prod/db").unwrap();
    let promoted = |version| secret::Event::VersionPromoted { version };
    let staged = |version| secret::Event::VersionStaged {
        version,
        rotation: RotationId::default(),
    };
    let delivered = |version| secret::Event::Delivered {
        host: HostId::default(),
        version,
        delivery: keywheel_core::id::DeliveryId::default(),
    };
    let mut events = vec![secret::Event::Registered { name, spec }];
    for version in 1..=3 {
        events.extend([staged(version), promoted(version), delivered(version)]);
    }
    for (number, event) in (1..).zip(events) {
        world.apply(number, &Event::Secret(own, event));
    }
    let key = assignment::Key {
        host: HostId::default(),
        container: keywheel_core::id::ContainerId::parse(&"a".repeat(64)).unwrap(),
        binding: keywheel_core::id::BindingId::default(),
        also: None,
    };
    let mut shown = |previous, holds| {
        let bound = binding::Event::Bound {
            name: keywheel_core::name::BindingName::parse("payments").unwrap(),
            spec: binding::Spec {
                secret: own,
                also: std::collections::BTreeSet::new(),
                previous,
                selector: selector(None, true),
                target: file(),
                reload: Reload::None,
                on_revoke: keywheel_core::binding::OnRevoke::Remove,
            },
        };
        world.apply(19, &Event::Binding(key.binding, bound));
        let held = Assignment {
            secret: own,
            assigned: 3,
            holds,
            ..Assignment::default()
        };
        super::consumer(&world, &key, &held, None).previous
    };
    let named = || std::collections::BTreeSet::from([own]);
    assert_eq!(shown(named(), 3), Some(2));
    assert_eq!(shown(named(), 2), Some(1), "it has not moved yet");
    assert_eq!(shown(named(), 1), None);
    assert_eq!(shown(std::collections::BTreeSet::new(), 3), None);
}

/// A secret with a canary, and one container that runs on its version 1.
fn with_canary() -> Vec<keywheel_core::event::Event> {
    use keywheel_core::assignment::Event as Fact;
    use keywheel_core::event::Event;
    use keywheel_core::schedule::{CANARIES, CANARY_WATCH, Canary};
    use keywheel_core::{host, secret};

    let mut spec = secret::Spec::default();
    spec.rotation.canary = Some(Canary {
        consumers: CANARIES,
        watch: CANARY_WATCH,
    });
    let own = |event| Event::Secret(SecretId::default(), event);
    let of_host = |event| Event::Host(HostId::default(), event);
    let bound = binding::Event::Bound {
        name: keywheel_core::name::BindingName::parse("payments").unwrap(),
        spec: binding::Spec {
            secret: SecretId::default(),
            also: BTreeSet::new(),
            previous: BTreeSet::new(),
            selector: selector(None, true),
            target: file(),
            reload: Reload::None,
            on_revoke: binding::OnRevoke::Remove,
        },
    };
    let at = Timestamp::default();
    vec![
        own(secret::Event::Registered {
            name: keywheel_core::name::SecretName::parse("prod/db").unwrap(),
            spec,
        }),
        own(secret::Event::VersionStaged {
            version: 1,
            rotation: RotationId::from_bytes([1; 16]),
        }),
        own(secret::Event::VersionPromoted { version: 1 }),
        of_host(host::Event::Enrolled {
            name: keywheel_core::name::HostName::parse("web-1").unwrap(),
            sealing_key: [0; 32],
            signing_key: None,
        }),
        of_host(host::Event::StagingKnown),
        Event::Binding(keywheel_core::id::BindingId::default(), bound),
        Event::Assignment(consumer_key(), assigned(1)),
        Event::Assignment(consumer_key(), Fact::Swapped { version: 1, at }),
    ]
}

fn consumer_key() -> assignment::Key {
    assignment::Key {
        host: HostId::default(),
        container: keywheel_core::id::ContainerId::parse(&"c".repeat(64)).unwrap(),
        binding: keywheel_core::id::BindingId::default(),
        also: None,
    }
}

fn assigned(version: u64) -> assignment::Event {
    assignment::Event::Assigned {
        secret: SecretId::default(),
        version,
        container_name: "web".to_owned(),
        image_digest: "sha256:1".to_owned(),
    }
}

fn folded(events: Vec<keywheel_core::event::Event>) -> World {
    let mut world = World::default();
    for (number, event) in (1..).zip(&events) {
        world.apply(number, event);
    }
    world
}

#[test]
fn a_plan_names_the_canary_or_says_why_there_is_none() {
    let planned = |events| {
        let world = folded(events);
        let secret = &world.secrets[&SecretId::default()];
        plan::rotation_plan(&world, secret, None, &|_| false).canary
    };
    let named = planned(with_canary());
    assert!(named.starts_with("web, alone for 30 s;"), "{named}");
    let mut events = with_canary();
    events.truncate(3);
    let nobody = planned(events);
    assert_eq!(nobody, "none: no container has the version before");
}

#[test]
fn a_rotation_says_who_runs_ahead_and_until_when() {
    use keywheel_core::event::Event;

    let id = RotationId::from_bytes([2; 16]);
    let (at, until) = (Timestamp::default(), Timestamp::from_micros(30_000_000));
    let own = |event| Event::Rotation(id, event);
    let mut events = with_canary();
    events.extend([
        Event::Secret(
            SecretId::default(),
            keywheel_core::secret::Event::VersionStaged {
                version: 2,
                rotation: id,
            },
        ),
        own(rotation::Event::Started {
            secret: SecretId::default(),
            version: 2,
            trigger: Trigger::OnDemand,
        }),
        Event::Assignment(consumer_key(), assigned(2)),
        own(rotation::Event::CanaryStarted {
            consumers: vec![consumer_key()],
            hosts: vec![HostId::default()],
            deadline: until,
        }),
    ]);
    let words = |events: &[Event]| {
        let world = folded(events.to_vec());
        let rotation = &world.rotations[&id];
        assert_eq!(phase_word(&rotation.phase), "canary");
        (
            waiting_words(&world, rotation),
            next::step(&world, rotation),
        )
    };
    let (missing, told) = words(&events);
    assert_eq!(missing, ["container web: new value not in place yet"]);
    assert!(told.unwrap().contains("`keywheel rotation abort"));
    let swapped = assignment::Event::Swapped { version: 2, at };
    events.push(Event::Assignment(consumer_key(), swapped));
    let consumer = consumer_key();
    events.push(own(rotation::Event::ConsumerAcknowledged { consumer }));
    events.push(own(rotation::Event::CanaryWatched { until }));
    let (watched, told) = words(&events);
    assert_eq!(told, None, "it goes on by itself");
    let wanted = "canaries: web on version 2 before all others, watched until 1970-01-01T00:00:30";
    assert!(
        watched.len() == 1 && watched[0].starts_with(wanted),
        "{watched:?}"
    );
}

#[test]
fn a_lease_that_gave_way_is_shown_with_the_time_until_which_it_lives_and_why() {
    use keywheel_core::event::Event;
    use keywheel_core::lease::{DEFAULT_LINGER, Lease, LeaseOf};
    use keywheel_core::secret;
    let (lease, id) = (SecretId::default(), RotationId::default());
    let told = |of: Option<Lease>| {
        let spec = secret::Spec {
            lease: of.map(Box::new),
            ..secret::Spec::default()
        };
        let name = keywheel_core::name::SecretName::parse("shop/db").unwrap();
        let started = rotation::Event::Started {
            secret: lease,
            version: 2,
            trigger: Trigger::OnDemand,
        };
        let untold = rotation::Event::SessionsUntold {
            attempt: 1,
            until: Timestamp::default(),
        };
        let mut world = World::default();
        world.apply(
            1,
            &Event::Secret(lease, secret::Event::Registered { name, spec }),
        );
        world.apply(2, &Event::Rotation(id, started));
        world.apply(3, &Event::Rotation(id, untold));
        waiting_words(&world, &world.rotations[&id]).concat()
    };
    let of = LeaseOf {
        secret: SecretId::default(),
        host: HostId::default(),
        container: keywheel_core::id::ContainerId::parse(&"c".repeat(64)).unwrap(),
        linger: DEFAULT_LINGER,
    };
    let words = told(Some(Lease::Of(of)));
    assert!(words.contains("lives on until 1970"), "{words}");
    assert!(words.contains("unless its store ends it first"), "{words}");
    let other = told(None);
    assert!(other.contains("the server does not tell"), "{other}");
}
