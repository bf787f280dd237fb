//! What a person can do about a rotation, where something is left to a person. Pure.

use keywheel_core::id::{RevocationId, RotationId};
use keywheel_core::lease;
use keywheel_core::revocation::Backend;
use keywheel_core::rotation::{Outcome, Phase, Rotation, Step};
use keywheel_core::secret::Secret;
use keywheel_core::world::World;
use keywheel_schemas::api::{RevocationView, RotationView};

use super::replacement;

/// What holds up every rotation that is open while store-sync is sealed; no event says it.
const SEALED: &str = "store-sync is sealed, so that no step of it is done and no value is given out: `keywheel unseal` takes what opens it, and then it goes on by itself";

/// What is told of a rotation while store-sync is sealed.
#[must_use]
pub fn while_sealed(world: &World, id: RotationId, mut view: RotationView) -> RotationView {
    if world.rotations.get(&id).is_some_and(Rotation::is_open) {
        let own = view.next_step.take();
        let own = own.map(|own| format!("; {own}"));
        view.next_step = Some(format!("{SEALED}{}", own.unwrap_or_default()));
    }
    view
}

/// What holds up the store's half of every revocation while store-sync is sealed; the other half goes on.
const SEALED_HALF: &str = "store-sync is sealed, so that nothing is done at its store, proven or destroyed, while hosts and containers lose it all the same: `keywheel unseal` takes what opens it, and then it goes on by itself";
/// What holds up one that waits for its replacement.
const SEALED_BEFORE: &str = "store-sync is sealed, so that nothing takes the place of its versions, and they live: `keywheel unseal` takes what opens it, and then it goes on by itself";

/// What is told of a revocation while store-sync is sealed. One that only waits for hosts does not wait for that.
#[must_use]
pub fn revocation_while_sealed(
    world: &World,
    id: RevocationId,
    mut view: RevocationView,
) -> RevocationView {
    let known = world.revocations.get(&id);
    if let Some(open) = known.filter(|known| !known.closed) {
        view.next_step = match open.backend {
            Backend::Confirmed => None,
            Backend::NotAsked => Some(SEALED_BEFORE.to_owned()),
            Backend::Asked { .. } | Backend::Failed { .. } => Some(SEALED_HALF.to_owned()),
        };
    }
    view
}

/// The next step, and what waits for its end; `None` while it goes on by itself, and once nothing is left to do.
pub(super) fn step(world: &World, rotation: &Rotation) -> Option<String> {
    let follows = replacement::follows(world, rotation);
    match (own(world, rotation), follows) {
        (Some(own), Some(follows)) => Some(format!("{own}; {follows}")),
        (own, follows) => own.or(follows),
    }
}

fn own(world: &World, rotation: &Rotation) -> Option<String> {
    let secret = world.secrets.get(&rotation.secret)?;
    match &rotation.phase {
        Phase::Closed(Outcome::Parked) => Some(parked(world, rotation, secret)),
        Phase::Closed(Outcome::RolledBack) if is_left_to_end(world, rotation) => {
            Some(left_to_end(rotation, secret))
        }
        Phase::Closed(Outcome::RolledBack)
            if is_newest(rotation, secret) && secret.passed_over().is_some() =>
        {
            Some(format!(
                "nothing: containers keep what they have, and what is at the store now is left there; `keywheel refresh {}` takes it over again",
                secret.name
            ))
        }
        Phase::Closed(Outcome::RolledBack) if is_newest(rotation, secret) => Some(format!(
            "once what failed is mended, `keywheel rotate {}` tries again with a new value",
            secret.name
        )),
        Phase::Retrying {
            step: Step::Create | Step::Set | Step::Test,
            ..
        } => Some(format!(
            "it is tried again by itself; `keywheel rotation retry {0} --reason …` does it now, `keywheel rotation abort {0} --reason …` gives it up",
            rotation.id
        )),
        Phase::Draining { .. }
        | Phase::Retrying {
            step: Step::Drain, ..
        } if rotation.drain.left.is_some() => Some(format!(
            "it is asked again by itself, also after the deadline; end the sessions at the server, or restart what holds them; `keywheel rotation force {} --reason …` revokes the old version without waiting for them",
            rotation.id
        )),
        Phase::Retrying { .. } => Some(format!(
            "it is tried again by itself; `keywheel rotation retry {} --reason …` does it now",
            rotation.id
        )),
        Phase::Canary if !rotation.waiting.is_empty() => Some(format!(
            "it goes on by itself once whoever is named above runs on version {1}; mend that, or `keywheel rotation abort {0} --reason …` takes the version back from its canaries",
            rotation.id, rotation.version
        )),
        Phase::Distributing if rotation.is_held_by_canaries() => Some(format!(
            "it ends by itself once whoever is named above is back at version {}; mend that, or `keywheel rotation force {} --reason …` revokes version {} without them",
            rotation.wanted(),
            rotation.id,
            rotation.version
        )),
        Phase::Distributing if rotation.halted.is_some() && rotation.returning.is_none() => {
            Some(halted(secret))
        }
        _ => None,
    }
}

fn is_newest(rotation: &Rotation, secret: &Secret) -> bool {
    secret.last_version == rotation.version
}

/// Whether what it made is a login that its store did not end yet.
fn is_left_to_end(world: &World, rotation: &Rotation) -> bool {
    let end = world.revocations.get(&lease::end_of(rotation.id));
    end.is_some_and(|end| end.backend != Backend::Confirmed)
}

fn left_to_end(rotation: &Rotation, secret: &Secret) -> String {
    let store = secret.place().map_or("local", |place| place.store.as_str());
    format!(
        "store `{store}` does not end the login that was made: `keywheel describe revocation {}` says why, and asks on by itself; `keywheel store policy {store}` prints what it has to allow",
        lease::end_of(rotation.id)
    )
}

fn halted(secret: &Secret) -> String {
    format!(
        "mend what `keywheel consumers --secret {0}` names, then `keywheel rotate {0}`",
        secret.name
    )
}

fn parked(world: &World, rotation: &Rotation, secret: &Secret) -> String {
    let name = &secret.name;
    if let Some(open) = world.open_rotation(secret.id) {
        return format!(
            "nothing: rotation {0} came after it and ends it too; `keywheel describe rotation {0}` shows how that one stands",
            open.id
        );
    }
    if !is_newest(rotation, secret) {
        return format!(
            "nothing for this one, others came after it; `keywheel describe secret {name}` shows what is in use"
        );
    }
    if secret.current != Some(rotation.wanted()) {
        return format!(
            "what it would end with is not in use any more: `keywheel rotate {name}` makes a new value"
        );
    }
    match (rotation.returning, secret.place()) {
        (Some(back), Some(place)) => format!(
            "containers have version {back} again, store `{0}` has version {1}: `keywheel rotate {name}` makes a value for both, or put the right one at the store and say `keywheel refresh {name}`",
            place.store, rotation.version
        ),
        (None, _) if rotation.halted.is_some() => halted(secret),
        (Some(_), None) => format!(
            "mend what is named above, then `keywheel rotation retry {0} --reason …` waits once more; `keywheel rotation force {0} --reason …` revokes version {1} without those who still have it",
            rotation.id, rotation.version
        ),
        (None, _) => format!(
            "mend what is named above, then `keywheel rotation retry {0} --reason …` waits once more; `keywheel rotation force {0} --reason …` {1} without them{2}",
            rotation.id,
            forced(world, rotation),
            way_back(rotation, secret)
        ),
    }
}

/// What force does: where the version before is kept for templates, the one before that dies, if any.
fn forced(world: &World, rotation: &Rotation) -> String {
    let dying = super::dying(world, rotation);
    let dying: Vec<String> = dying.iter().map(u64::to_string).collect();
    match dying.as_slice() {
        [] => "ends it".to_owned(),
        [one] => format!("revokes version {one}"),
        more => format!("revokes versions {}", more.join(", ")),
    }
}

fn way_back(rotation: &Rotation, secret: &Secret) -> String {
    let is_alive = |back: u64| back < rotation.version && secret.is_deliverable(back);
    if !secret.has_way_back() {
        return "; there is no way back, for the password of the version before is refused since"
            .to_owned();
    }
    if !secret.previous.is_some_and(is_alive) {
        return String::new();
    }
    format!(
        ", `keywheel rotation abort {} --reason …` goes back to it",
        rotation.id
    )
}

#[cfg(test)]
mod tests {
    use keywheel_core::assignment;
    use keywheel_core::event::Event;
    use keywheel_core::id::{BindingId, ContainerId, HostId, RotationId, SecretId};
    use keywheel_core::name::{SecretName, StoreName};
    use keywheel_core::resource::{Kind, Resource, Strategy};
    use keywheel_core::revocation;
    use keywheel_core::rotation::{self, Trigger};
    use keywheel_core::secret::{self, Place, Spec, Store};
    use keywheel_core::store::{RemoteVersion, Source};
    use keywheel_core::time::Timestamp;
    use keywheel_schemas::api::RevocationStates;

    use super::*;
    use crate::views::sessions_words;

    const SECRET: SecretId = SecretId::from_bytes([1; 16]);
    const ROTATION: RotationId = RotationId::from_bytes([2; 16]);
    const LATER: RotationId = RotationId::from_bytes([3; 16]);

    fn started(id: RotationId, version: u64) -> [Event; 2] {
        let staged = secret::Event::VersionStaged {
            version,
            rotation: id,
        };
        let started = rotation::Event::Started {
            secret: SECRET,
            version,
            trigger: Trigger::OnDemand,
        };
        [Event::Secret(SECRET, staged), Event::Rotation(id, started)]
    }

    fn promoted(version: u64) -> Event {
        Event::Secret(SECRET, secret::Event::VersionPromoted { version })
    }

    fn own(event: rotation::Event) -> Event {
        Event::Rotation(ROTATION, event)
    }

    fn turned_back() -> [Event; 2] {
        let turned = rotation::Event::TurnedBack {
            version: 1,
            consumers: Vec::new(),
            hosts: Vec::new(),
            deadline: Timestamp::default(),
        };
        [promoted(1), own(turned)]
    }

    fn halted() -> Event {
        own(rotation::Event::Halted {
            consumer: assignment::Key {
                host: HostId::from_bytes([4; 16]),
                container: ContainerId::parse(&"c".repeat(64)).unwrap(),
                binding: BindingId::from_bytes([5; 16]),
                also: None,
            },
            reason: "its health check fails".to_owned(),
        })
    }

    /// The next step of a rotation to version 2 that is parked, with events before and after that.
    fn of_parked(store: Store, before: Vec<Event>, after: Vec<Event>) -> String {
        let spec = Spec {
            store,
            ..Spec::default()
        };
        of_parked_as(spec, before, after)
    }

    fn of_parked_as(spec: Spec, before: Vec<Event>, after: Vec<Event>) -> String {
        let name = SecretName::parse("prod/db").unwrap();
        let registered = secret::Event::Registered { name, spec };
        let first = secret::Event::VersionStaged {
            version: 1,
            rotation: RotationId::from_bytes([9; 16]),
        };
        let mut events = vec![
            Event::Secret(SECRET, registered),
            Event::Secret(SECRET, first),
            promoted(1),
        ];
        events.extend(started(ROTATION, 2));
        events.push(promoted(2));
        events.push(own(rotation::Event::DistributionStarted {
            consumers: Vec::new(),
            hosts: Vec::new(),
            old: vec![1],
            deadline: Timestamp::default(),
        }));
        events.extend(before);
        events.push(own(rotation::Event::Closed {
            outcome: Outcome::Parked,
        }));
        events.extend(after);
        let mut world = World::default();
        for (number, event) in (1..).zip(&events) {
            world.apply(number, event);
        }
        step(&world, &world.rotations[&ROTATION]).unwrap()
    }

    #[test]
    fn sessions_that_are_waited_for_are_named_with_what_to_do() {
        let name = SecretName::parse("prod/db").unwrap();
        let spec = Spec::default();
        let mut world = World::default();
        world.apply(
            1,
            &Event::Secret(SECRET, secret::Event::Registered { name, spec }),
        );
        let mut open = Rotation::started(ROTATION, SECRET, 2, Trigger::OnDemand);
        assert_eq!(sessions_words(&open), None);
        open.evolve(&rotation::Event::SessionsLeft {
            attempt: 1,
            mark: 7,
            sessions: 2,
            since: Timestamp::default(),
        });
        let words = sessions_words(&open).unwrap();
        let part = "2 sessions of the old credential are open since before 1970";
        assert!(words.contains(part), "{words}");
        let told = step(&world, &open).unwrap();
        assert!(told.contains("keywheel rotation force"), "{told}");
        assert!(told.contains("also after the deadline"), "{told}");
        assert!(words.contains("deadline has passed"), "{words}");
        open.evolve(&rotation::Event::DeadlineMoved {
            deadline: Timestamp::default(),
        });
        let words = sessions_words(&open).unwrap();
        assert!(!words.contains("deadline"), "{words}");
        open.evolve(&rotation::Event::SessionsUntold {
            attempt: 2,
            until: Timestamp::default(),
        });
        let words = sessions_words(&open).unwrap();
        assert!(words.contains("does not tell"), "{words}");
        assert_eq!(step(&world, &open), None, "it goes on by itself");
    }

    #[test]
    fn no_way_back_is_told_where_there_is_none() {
        let cut_over = Spec {
            rotator: Some(Box::new(Resource {
                kind: Kind::Postgres,
                connection: "postgres://rotator@db.example:5432/shop".to_owned(),
                accounts: vec!["app".to_owned()],
                admin: SecretName::parse("shop/admin").unwrap(),
                strategy: Strategy::SingleUser,
                ca: None,
            })),
            ..Spec::default()
        };
        let told = of_parked_as(cut_over, Vec::new(), Vec::new());
        assert!(told.contains("there is no way back"), "{told}");
        assert!(!told.contains("rotation abort"), "{told}");
        let dead = Event::Secret(SECRET, secret::Event::VersionRevoked { version: 1 });
        let told = of_parked(Store::Local, Vec::new(), vec![dead]);
        assert!(told.contains("rotation retry"), "{told}");
        assert!(!told.contains("rotation abort"), "{told}");
    }

    #[test]
    fn after_an_aborted_change_from_outside_a_refresh_takes_it_over_again() {
        let name = SecretName::parse("prod/db").unwrap();
        let place = Place {
            store: StoreName::parse("bao").unwrap(),
            source: Source::default(),
        };
        let spec = Spec {
            store: Store::Outside(place),
            ..Spec::default()
        };
        let mut events = vec![Event::Secret(
            SECRET,
            secret::Event::Registered { name, spec },
        )];
        events.extend(started(ROTATION, 1));
        let outcome = Outcome::RolledBack;
        events.push(own(rotation::Event::Closed { outcome }));
        let noted = secret::Event::RemoteVersionNoted {
            version: 1,
            remote: RemoteVersion("8".to_owned()),
            written: false,
        };
        for event in [
            secret::Event::VersionRevoked { version: 1 },
            secret::Event::VersionDestroyed { version: 1 },
            noted,
        ] {
            events.push(Event::Secret(SECRET, event));
        }
        let mut world = World::default();
        for (number, event) in (1..).zip(&events) {
            world.apply(number, event);
        }
        let told = step(&world, &world.rotations[&ROTATION]).unwrap();
        assert!(told.contains("`keywheel refresh prod/db`"), "{told}");
    }

    #[test]
    fn a_login_that_its_store_does_not_end_is_named_until_it_does() {
        let name = SecretName::parse("prod/db/lease.1").unwrap();
        let place = Place {
            store: StoreName::parse("bao").unwrap(),
            source: Source::default(),
        };
        let spec = Spec {
            store: Store::Outside(place),
            ..Spec::default()
        };
        let end = lease::end_of(ROTATION);
        let requested = revocation::Event::Requested {
            secret: SECRET,
            versions: vec![1],
            hosts: Vec::new(),
            reason: "its store did not end it".to_owned(),
            is_to_prove: false,
            is_emergency: false,
        };
        let registered = secret::Event::Registered { name, spec };
        let outcome = Outcome::RolledBack;
        let mut events = vec![Event::Secret(SECRET, registered)];
        events.extend(started(ROTATION, 1));
        events.push(own(rotation::Event::Closed { outcome }));
        events.push(Event::Revocation(end, requested));
        let mut world = World::default();
        for (number, event) in (1..).zip(&events) {
            world.apply(number, event);
        }
        let told = |world: &World| step(world, &world.rotations[&ROTATION]).unwrap();
        let waiting = told(&world);
        let described = format!("`keywheel describe revocation {end}`");
        assert!(waiting.contains(&described), "{waiting}");
        assert!(waiting.contains("`keywheel store policy bao`"), "{waiting}");
        let confirmed = revocation::Event::BackendConfirmed;
        world.apply(9, &Event::Revocation(end, confirmed));
        let after = told(&world);
        assert!(
            after.contains("`keywheel rotate prod/db/lease.1`"),
            "{after}"
        );
    }

    #[test]
    fn a_revocation_that_waits_for_hosts_alone_does_not_wait_for_the_seal() {
        let id = RevocationId::from_bytes([7; 16]);
        let told = |world: &World| {
            let view = RevocationView {
                revocation_id: id.to_string(),
                secret: "prod/db".to_owned(),
                versions: vec![1],
                state: "running".to_owned(),
                backend: String::new(),
                waiting_hosts: Vec::new(),
                reason: "leaked".to_owned(),
                withdrawn_ms: None,
                states: RevocationStates::default(),
                next_step: None,
            };
            revocation_while_sealed(world, id, view).next_step
        };
        let mut world = World::default();
        assert_eq!(told(&world), None, "it is not known");
        let requested = revocation::Event::Requested {
            secret: SECRET,
            versions: vec![1],
            hosts: vec![HostId::from_bytes([4; 16])],
            reason: "leaked".to_owned(),
            is_to_prove: true,
            is_emergency: false,
        };
        let failed = revocation::Event::BackendFailed {
            attempt: 1,
            reason: "away".to_owned(),
        };
        let evidence = Vec::new();
        let halves = [
            requested,
            failed,
            revocation::Event::BackendRetried { attempt: 2 },
            revocation::Event::BackendConfirmed,
            revocation::Event::ProvenDead { evidence },
        ];
        for (number, half) in (1..).zip(halves) {
            world.apply(number, &Event::Revocation(id, half));
            assert_eq!(told(&world).as_deref(), Some(SEALED_HALF));
        }
        world.apply(6, &Event::Revocation(id, revocation::Event::Destroyed));
        assert!(!world.revocations[&id].closed);
        assert_eq!(told(&world), None);
    }

    #[test]
    fn whatever_parked_it_a_person_is_told_what_to_do() {
        let outside = || {
            Store::Outside(Place {
                store: StoreName::parse("bao").unwrap(),
                source: Source::default(),
            })
        };
        let dead = Event::Secret(SECRET, secret::Event::VersionRevoked { version: 2 });
        let next = [started(LATER, 3).to_vec(), vec![promoted(3)]].concat();
        let ended = Event::Rotation(
            LATER,
            rotation::Event::Closed {
                outcome: Outcome::Completed,
            },
        );
        let passed = [next.clone(), vec![ended]].concat();
        let back = || turned_back().to_vec();
        for (store, before, after, part) in [
            (Store::Local, vec![], vec![], "keywheel rotation abort"),
            (Store::Local, vec![], vec![], "keywheel rotation retry"),
            (outside(), vec![], vec![], "keywheel rotation force"),
            (Store::Local, back(), vec![], "revokes version 2"),
            (outside(), back(), vec![], "keywheel refresh prod/db"),
            (Store::Local, vec![halted()], vec![], "keywheel consumers"),
            (Store::Local, vec![], vec![dead], "keywheel rotate prod/db"),
            (Store::Local, vec![], next, "came after it and ends it too"),
            (Store::Local, vec![], passed, "others came after it"),
        ] {
            let told = of_parked(store, before, after);
            assert!(told.contains(part), "{part} is missing in {told}");
        }
    }
}
