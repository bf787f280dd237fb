//! What a dry run predicts of consumers that are there, and what it finds in the way, each by its cause.

use keywheel_core::binding::{self, Selector, Target};
use keywheel_core::event::Event;
use keywheel_core::host;
use keywheel_core::id::{BindingId, RotationId, SecretId, StoreId};
use keywheel_core::lease::{DEFAULT_LINGER, Lease, LeaseOf};
use keywheel_core::name::{
    BindingName, Directory, EnvName, FileName, HostName, SecretName, StoreName,
};
use keywheel_core::resource::Kind;
use keywheel_core::rollout::{self, Instance, Service};
use keywheel_core::schedule::{Ack, RotationPolicy};
use keywheel_core::secret::{self, Place};
use keywheel_core::store::{self, RemoteVersion, Source};
use keywheel_core::time::Timestamp;

use super::*;

const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const HOST: HostId = HostId::from_bytes([2; 16]);
const STORE: StoreId = StoreId::from_bytes([3; 16]);
const DECLARED: SecretId = SecretId::from_bytes([4; 16]);

fn name() -> SecretName {
    SecretName::parse("shop/db").unwrap()
}

fn restart() -> Reload {
    Reload::Restart {
        settle: binding::DEFAULT_SETTLE,
        health_timeout: binding::DEFAULT_HEALTH_TIMEOUT,
        rollout: None,
    }
}

fn container(n: u8) -> ContainerId {
    ContainerId::parse(&format!("{n:064x}")).unwrap()
}

fn key(n: u8, binding: u8) -> assignment::Key {
    assignment::Key {
        host: HOST,
        container: container(n),
        binding: BindingId::from_bytes([binding; 16]),
        also: None,
    }
}

/// A secret whose version 1 is current, and a host.
fn registered(store: secret::Store) -> Vec<Event> {
    let spec = secret::Spec {
        store,
        ..secret::Spec::default()
    };
    let rotation = RotationId::default();
    let of_secret = [
        secret::Event::Registered { name: name(), spec },
        secret::Event::VersionStaged {
            version: 1,
            rotation,
        },
        secret::Event::VersionPromoted { version: 1 },
    ];
    let mut events = vec![Event::Host(
        HOST,
        host::Event::Enrolled {
            name: HostName::parse("edge-1").unwrap(),
            sealing_key: [7; 32],
            signing_key: None,
        },
    )];
    events.extend(of_secret.map(|event| Event::Secret(SECRET, event)));
    events
}

fn bound(binding: u8, reload: Reload) -> Event {
    let name = EnvName::parse("DB_PASSWORD").unwrap();
    bound_as(binding, Target::Env { name }, reload)
}

fn bound_as(binding: u8, target: Target, reload: Reload) -> Event {
    bound_to(SECRET, (binding, target), reload)
}

fn bound_to(secret: SecretId, (binding, target): (u8, Target), reload: Reload) -> Event {
    let spec = binding::Spec {
        secret,
        also: BTreeSet::new(),
        selector: Selector {
            insecure: true,
            ..Selector::default()
        },
        target,
        reload,
        previous: BTreeSet::new(),
        on_revoke: binding::OnRevoke::Remove,
    };
    let name = BindingName::parse(&format!("shop-{binding}")).unwrap();
    Event::Binding(
        BindingId::from_bytes([binding; 16]),
        binding::Event::Bound { name, spec },
    )
}

/// Container `n` runs on version 1 under a binding.
fn serving(n: u8, binding: u8) -> [Event; 2] {
    let at = Timestamp::default();
    let assigned = assignment::Event::Assigned {
        secret: SECRET,
        version: 1,
        container_name: format!("web-{n}"),
        image_digest: "sha256:1".to_owned(),
    };
    [assigned, assignment::Event::Reloaded { version: 1, at }]
        .map(|event| Event::Assignment(key(n, binding), event))
}

fn plan_of(events: &[Event], refusal: Option<&str>, is_silent: bool) -> RotationPlan {
    let mut world = World::default();
    for (number, event) in (1..).zip(events) {
        world.apply(number, event);
    }
    let secret = &world.secrets[&SECRET];
    rotation_plan(&world, secret, refusal.map(str::to_owned), &|_| is_silent)
}

#[test]
fn every_container_that_restarts_is_predicted_once_whatever_bindings_it_has() {
    let mut events = registered(secret::Store::Local);
    events.extend([
        bound(1, restart()),
        bound(2, restart()),
        bound(3, Reload::None),
    ]);
    events.extend([serving(1, 1), serving(1, 2), serving(2, 1), serving(3, 3)].concat());
    let plan = plan_of(&events, None, false);
    assert_eq!((plan.restarts, plan.consumers.len()), (2, 4));
    let restarting = plan.consumers.iter().filter(|one| one.restarts);
    let restarting: Vec<&str> = restarting.map(|one| one.name.as_str()).collect();
    assert_eq!(restarting, ["web-1", "web-1", "web-2"]);
    let told = "none in the value; 2 containers are away, each for its own restart";
    assert_eq!(plan.expected_gap, told);
    assert_eq!(plan.blockers, Vec::<String>::new());
    // Who never had a copy is not restarted for another one.
    let refused = assignment::Event::Refused {
        version: 1,
        reason: "its image is another one".to_owned(),
    };
    let [assigned, _] = serving(4, 1);
    events.extend([assigned, Event::Assignment(key(4, 1), refused)]);
    let plan = plan_of(&events, None, false);
    assert_eq!((plan.restarts, plan.blockers.len()), (2, 0));
}

/// The only thing in the way, with what happened besides.
fn blocker(more: Vec<Event>, refusal: Option<&str>, is_silent: bool) -> String {
    let place = Place {
        store: StoreName::parse("bao").unwrap(),
        source: Source::default(),
    };
    let mut events = vec![Event::Store(STORE, declared())];
    events.extend(registered(secret::Store::Outside(place)));
    events.push(bound(1, restart()));
    events.extend(serving(1, 1));
    assert_eq!(plan_of(&events, None, false).blockers, Vec::<String>::new());
    events.extend(more);
    let plan = plan_of(&events, refusal, is_silent);
    assert_eq!(plan.blockers.len(), 1, "{:?}", plan.blockers);
    plan.blockers.concat()
}

fn declared() -> store::Event {
    let backend = store::Backend::Aws(store::AwsSpec {
        region: "eu-central-1".to_owned(),
        endpoint: String::new(),
        auth: store::AwsAuth::Chain {
            profile: String::new(),
        },
    });
    store::Event::Declared {
        name: StoreName::parse("bao").unwrap(),
        spec: store::StoreSpec {
            backend,
            poll: store::DEFAULT_POLL,
            timeout: store::DEFAULT_TIMEOUT,
        },
    }
}

#[test]
fn each_thing_in_the_way_is_named_with_what_to_do() {
    let stale = store::Event::WentStale {
        reason: "connection refused".to_owned(),
    };
    let told = blocker(vec![Event::Store(STORE, stale)], None, false);
    assert!(told.contains("`keywheel store describe bao`"), "{told}");
    let refused = assignment::Event::Refused {
        version: 1,
        reason: "its mount is covered; unmount that".to_owned(),
    };
    let told = blocker(vec![Event::Assignment(key(1, 1), refused)], None, false);
    assert_eq!(
        told,
        "container web-1 is refused: its mount is covered; unmount that"
    );
    let failed = rollout::Event::Failed {
        instance: Instance {
            host: HOST,
            container: container(1),
        },
        container_name: "web-1".to_owned(),
        due: Vec::new(),
        reason: "its health check fails".to_owned(),
    };
    let service = Service::of("sha256:1", "web");
    let told = blocker(vec![Event::Rollout(service, failed)], None, false);
    assert!(told.contains("web-1 is not well"), "{told}");
    assert!(
        told.contains("`keywheel consumers --secret shop/db`"),
        "{told}"
    );
    let told = blocker(Vec::new(), None, true);
    assert!(told.contains("host edge-1 is silent"), "{told}");
    assert!(told.contains("`keywheel host evict edge-1`"), "{told}");
    let told = blocker(Vec::new(), Some("a rotation is open"), false);
    assert_eq!(told, "a rotation is open");
}

/// The same secret, whose account at a server of this kind takes two passwords; `file` is a binding without reload.
fn double(kind: Kind, ack: Option<Ack>) -> Vec<Event> {
    let mut events = registered(secret::Store::Local);
    let spec = secret::Spec {
        rotator: Some(Box::new(Resource {
            kind,
            connection: "https://db.example".to_owned(),
            accounts: vec!["app".to_owned()],
            admin: SecretName::parse("shop/admin").unwrap(),
            strategy: Strategy::DualPassword,
            ca: None,
        })),
        rotation: RotationPolicy {
            ack,
            ..RotationPolicy::default()
        },
        ..secret::Spec::default()
    };
    events.push(Event::Secret(SECRET, secret::Event::SpecChanged { spec }));
    events.push(bound_as(1, file(), Reload::None));
    events.push(bound_as(2, file(), Reload::Signal(1)));
    events
}

fn file() -> Target {
    Target::File {
        directory: Directory::parse(binding::DEFAULT_DIRECTORY).unwrap(),
        name: FileName::parse("db").unwrap(),
        uid: 0,
        gid: 0,
        mode: 0o400,
        template: None,
    }
}

#[test]
fn that_sessions_are_waited_for_is_said_with_those_who_read_their_files_when_they_like() {
    let told = |kind, ack, consumers: &[[Event; 2]]| {
        let mut events = double(kind, ack);
        events.extend(consumers.concat());
        plan_of(&events, None, false).sessions
    };
    let reloading = [serving(1, 2)];
    let sessions = told(Kind::Mariadb, None, &reloading);
    assert!(sessions.starts_with("not waited for"), "{sessions}");
    let some = [serving(1, 2), serving(2, 1), serving(3, 1)];
    let sessions = told(Kind::Mariadb, None, &some);
    assert!(sessions.starts_with("waited for: "), "{sessions}");
    assert!(
        sessions.contains("when web-2, web-3 read their files again (no `reload`)"),
        "{sessions}"
    );
    let many: Vec<[Event; 2]> = (2..=6).map(|n| serving(n, 1)).collect();
    let sessions = told(Kind::Redis, None, &many);
    assert!(
        sessions.contains("web-2, web-3, web-4 and 2 more"),
        "{sessions}"
    );
    let sessions = told(Kind::Webhook, None, &some);
    assert!(sessions.contains("a grace of 300 s"), "{sessions}");
    assert!(sessions.contains("web-2, web-3"), "{sessions}");
    let sessions = told(Kind::Mariadb, Some(Ack::Reloaded), &some);
    assert!(sessions.starts_with("not waited for"), "{sessions}");
    let sessions = told(Kind::Mariadb, Some(Ack::Drained), &reloading);
    assert!(
        sessions.contains("`ack: drained` asks for it"),
        "{sessions}"
    );
}

/// The login that container 2 has, and the file in which it has it, by a binding without reload.
fn lent(ack: Option<Ack>) -> Vec<Event> {
    let place = Place {
        store: StoreName::parse("bao").unwrap(),
        source: Source::default(),
    };
    let declared = secret::Spec {
        store: secret::Store::Outside(place),
        lease: Some(Box::new(Lease::PerContainer {
            linger: DEFAULT_LINGER,
            probe: None,
        })),
        rotation: RotationPolicy {
            ack,
            ..RotationPolicy::default()
        },
        ..secret::Spec::default()
    };
    let of = LeaseOf {
        secret: DECLARED,
        host: HOST,
        container: container(2),
        linger: DEFAULT_LINGER,
    };
    let spec = secret::Spec {
        lease: Some(Box::new(Lease::Of(of))),
        ..declared.clone()
    };
    let parent = secret::Event::Registered {
        name: SecretName::parse("shop/lent").unwrap(),
        spec: declared,
    };
    let mut events = registered(secret::Store::Local);
    events.push(Event::Secret(DECLARED, parent));
    let noted = secret::Event::RemoteVersionNoted {
        version: 1,
        remote: RemoteVersion("accessor:suffix:600".to_owned()),
        written: true,
    };
    let of_lease = [secret::Event::SpecChanged { spec }, noted];
    events.extend(of_lease.map(|event| Event::Secret(SECRET, event)));
    events.push(bound_to(DECLARED, (1, file()), Reload::None));
    events.extend(serving(2, 1));
    events
}

#[test]
fn how_long_a_lease_lives_on_is_said_and_that_its_store_tells_no_sessions() {
    let told = |ack| plan_of(&lent(ack), None, false).sessions;
    for (ack, why) in [
        (None, "when web-2 read their files again"),
        (Some(Ack::Drained), "`ack: drained` asks for it"),
    ] {
        let sessions = told(ack);
        assert!(sessions.contains("a grace of 200 s"), "{sessions}");
        assert!(sessions.contains("unless its store ends it"), "{sessions}");
        assert!(sessions.contains(why), "{sessions}");
    }
    let sessions = told(Some(Ack::Reloaded));
    assert!(sessions.starts_with("not waited for"), "{sessions}");
}
