//! What a revocation by path, store, container or image hits: that, and nothing beside it.

use super::*;
use crate::assignment;
use crate::decision::scope::{Hit, Scope, hits, is_known_service, reached_by_bindings};
use crate::name::SecretName;
use crate::report::{HostReport, Item, MAX_SERVICE_BYTES};
use crate::testing::{container, of_consumer, reloaded};

const OTHER: SecretId = SecretId::from_bytes([41; 16]);
const THEIRS: RotationId = RotationId::from_bytes([42; 16]);

/// `prod/db` with version 1 in container 1, and another secret with its first version.
fn beside(name: &str) -> Given {
    let other = Command::Apply(vec![Declaration::Secret {
        id: OTHER,
        rotation: THEIRS,
        name: SecretName::parse(name).unwrap(),
        spec: generated(),
    }]);
    Given::serving().and(other).finished(THEIRS)
}

fn hit(given: &Given, scope: Scope) -> Vec<(SecretId, Vec<u64>, bool)> {
    let parts = |hit: Hit| (hit.secret, hit.versions, hit.is_whole);
    hits(given.world(), &scope).into_iter().map(parts).collect()
}

#[test]
fn a_path_hits_what_is_at_it_and_below_it_in_the_order_of_names() {
    let given = beside("prod/db/replica");
    let both = [(SECRET, vec![1], true), (OTHER, vec![1], true)];
    for path in ["prod", "prod/", "prod/db"] {
        assert_eq!(hit(&given, Scope::Prefix(path.to_owned())), both, "{path}");
    }
    let below = Scope::Prefix("prod/db/replica".to_owned());
    assert_eq!(hit(&given, below), [(OTHER, vec![1], true)]);
    let given = beside("prod/db2");
    let one = Scope::Prefix("prod/db".to_owned());
    assert_eq!(hit(&given, one), [(SECRET, vec![1], true)]);
    for nothing in ["", "/", "pro", "prod/d"] {
        assert!(hit(&given, Scope::Prefix(nothing.to_owned())).is_empty());
    }
}

#[test]
fn a_container_hits_what_it_has_by_name_or_id_and_an_image_what_its_containers_have() {
    let given = beside("prod/api");
    let had = [(SECRET, vec![1], false)];
    let id = container(1).to_string();
    for name in ["web", id.as_str(), &id[..12]] {
        let scope = Scope::Container(name.to_owned());
        assert_eq!(hit(&given, scope), had, "{name}");
    }
    for nobody in ["we", &id[..11], "other"] {
        assert!(hit(&given, Scope::Container(nobody.to_owned())).is_empty());
    }
    let image = |digest: &str| Scope::Image(digest.to_owned());
    assert_eq!(hit(&given, image("sha256:1")), had);
    assert!(hit(&given, image("sha256:2")).is_empty());
    // It moves to version 2: it may have both.
    let moving = given.and(rotate(SECOND)).finished(SECOND);
    let moved = moving.and(Command::Report(report(vec![reloaded(1, 2)], &[2])));
    assert_eq!(hit(&moved, image("sha256:1")), [(SECRET, vec![2], false)]);
}

/// Container 1 as its host tells of it, with its service.
fn told(service: &str) -> Command {
    let item = Item {
        service: service.to_owned(),
        ..reloaded(1, 1)
    };
    Command::Report(report(vec![item], &[1]))
}

#[test]
fn a_service_hits_what_its_containers_have_by_its_name_with_or_without_the_project() {
    let of = |name: &str| Scope::Service(name.to_owned());
    let given = beside("prod/api");
    assert!(hit(&given, of("web")).is_empty(), "its host did not tell");
    let given = given.and(told("shop/web"));
    for name in ["shop/web", "web"] {
        assert_eq!(hit(&given, of(name)), [(SECRET, vec![1], false)], "{name}");
    }
    for other in ["", "shop", "shop/", "other/web", "we"] {
        assert!(hit(&given, of(other)).is_empty(), "{other}");
    }
    let swarm = beside("prod/api").and(told("shop_web"));
    assert_eq!(hit(&swarm, of("shop_web")), [(SECRET, vec![1], false)]);
    assert!(hit(&swarm, of("web")).is_empty());
}

#[test]
fn a_service_is_noted_once_and_stays_with_its_container() {
    let noted = |service: &str| {
        let service = service.to_owned();
        of_consumer(1, assignment::Event::ServiceNoted { service })
    };
    let given = Given::serving().when(told("shop/web"));
    let given = given.then_among_others([noted("shop/web")]);
    let again = given.clone().when(told("shop/web"));
    again.then_nothing();
    // A host that tells of none takes nothing back.
    let given = given.and(told(""));
    let scope = Scope::Service("web".to_owned());
    assert_eq!(hit(&given, scope), [(SECRET, vec![1], false)]);
    // Nothing of a name that is too long, and of the longest one all of it.
    let longest = "s".repeat(MAX_SERVICE_BYTES);
    let long = given.clone().when(told(&format!("{longest}s")));
    long.then_nothing();
    given.when(told(&longest)).then([noted(&longest)]);
}

#[test]
fn a_principal_reaches_what_is_bound_to_its_very_name_and_what_its_containers_have() {
    let reached = |given: &Given, service: &str| {
        let names = reached_by_bindings(given.world(), service).into_iter();
        names.map(|name| name.to_string()).collect::<Vec<_>>()
    };
    let bound = beside("prod/api");
    assert_eq!(reached(&bound, "payments"), ["prod/db"]);
    for other in ["payment", "shop/payments", "shop/web", "prod"] {
        assert!(reached(&bound, other).is_empty(), "{other}");
        assert!(!is_known_service(bound.world(), other), "{other}");
    }
    assert!(is_known_service(bound.world(), "payments"));
    let told = bound.and(told("shop/web"));
    assert!(is_known_service(told.world(), "shop/web"));
    assert!(!is_known_service(told.world(), "web"), "it is of a project");
    assert_eq!(reached(&told, "shop/web"), ["prod/db"]);
    assert!(reached(&told, "web").is_empty(), "it is of a project");
    // What it has it has, though nothing grants it any more.
    let unbound = told.and(Command::Unbind {
        name: binding_name(),
    });
    for by in ["payments", "shop/web"] {
        assert_eq!(reached(&unbound, by), ["prod/db"], "{by}");
    }
    assert!(reached(&unbound, "prod").is_empty());
    let gone = unbound.and(Command::Report(HostReport {
        containers: Vec::new(),
        ..report(Vec::new(), &[])
    }));
    for by in ["payments", "shop/web"] {
        assert!(reached(&gone, by).is_empty(), "{by}");
    }
}

#[test]
fn what_is_dead_is_hit_by_nothing() {
    let given = Given::serving().and(revoke(None));
    let scopes = [
        Scope::Secret(secret_name(), None),
        Scope::Secret(secret_name(), Some(1)),
        Scope::Prefix("prod".to_owned()),
        Scope::Container("web".to_owned()),
        Scope::Each([secret_name()].into()),
    ];
    for scope in scopes {
        assert!(hit(&given, scope.clone()).is_empty(), "{scope:?}");
    }
    let alive = Given::serving();
    let one = Scope::Secret(secret_name(), Some(1));
    assert_eq!(hit(&alive, one), [(SECRET, vec![1], false)]);
    let each = Scope::Each([secret_name()].into());
    assert_eq!(hit(&alive, each), [(SECRET, vec![1], true)]);
    assert!(hit(&alive, Scope::Each([].into())).is_empty());
}
