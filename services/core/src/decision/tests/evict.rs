//! Eviction: what ends, what is released, what is listed, and that nothing comes back.

use crate::assignment;
use crate::binding::Reload;
use crate::command::Command;
use crate::event::Event;
use crate::host::{self, Held, held_by_evicted};
use crate::id::{HostId, JoinTokenId};
use crate::plan::plan_host;
use crate::revocation;
use crate::rotation::{self, Step};
use crate::secret;
use crate::testing::{
    FIRST, Given, HOST, OTHER_HOST, SECOND, SECRET, THIRD, TOKEN, anywhere, apply_binding,
    consumer, done, enrol, evict, file, host_name, issue, joining, of_consumer, of_host,
    of_revocation, of_rotation, of_secret, reloaded, report, revoke, rotate,
};

fn evicted() -> Event {
    of_host(host::Event::Evicted {
        reason: "stolen".to_owned(),
    })
}

fn refused() -> host::Rejection {
    host::Rejection::Evicted {
        host: HOST,
        name: host_name(),
    }
}

fn held(alive: &[u64]) -> Vec<Held> {
    let secret = SECRET;
    let alive = alive.to_vec();
    vec![Held { secret, alive }]
}

fn retired(versions: &[u64]) -> Vec<Event> {
    let revoked = |version: &u64| of_secret(secret::Event::VersionRevoked { version: *version });
    versions.iter().map(revoked).collect()
}

#[test]
fn an_evicted_host_loses_name_plan_grants_and_consumers() {
    let vanished = of_consumer(1, assignment::Event::Vanished);
    let given = Given::serving()
        .when(evict(HOST))
        .then([evicted(), vanished]);
    let world = given.world();
    assert_eq!(plan_host(world, HOST), None);
    assert_eq!(world.host_named(&host_name()), None);
    assert!(given.secret().delivered.is_empty());
    assert!(world.assignments.is_empty());
    assert_eq!(held_by_evicted(world, HOST), held(&[1]));
    given.when(evict(HOST)).then_nothing();
}

#[test]
fn an_eviction_needs_a_host_and_a_reason() {
    let unknown = host::Rejection::NotEnrolled(HOST);
    Given::nothing().when(evict(HOST)).then_rejected(unknown);
    let without = Command::EvictHost {
        host: HOST,
        reason: " ".to_owned(),
    };
    let missing = host::Rejection::ReasonMissing;
    Given::serving().when(without).then_rejected(missing);
}

#[test]
fn a_straggler_that_is_evicted_holds_up_no_rotation() {
    let acknowledged = rotation::Event::ConsumerAcknowledged {
        consumer: consumer(1),
    };
    let released = rotation::Event::HostReleased { host: HOST };
    let revoke_old = rotation::Event::StepStarted {
        step: Step::RevokeOld,
        attempt: 1,
    };
    let mut events = vec![
        evicted(),
        of_consumer(1, assignment::Event::Vanished),
        of_rotation(SECOND, acknowledged),
        of_rotation(SECOND, released),
    ];
    events.extend(retired(&[1]));
    events.push(of_rotation(SECOND, revoke_old));
    let given = Given::distributing().when(evict(HOST)).then(events);
    // The old version is dead; the new one was granted to it and is to be rotated.
    assert_eq!(held_by_evicted(given.world(), HOST), held(&[2]));
    let given = given
        .and(done(SECOND, Step::RevokeOld))
        .and(rotate(THIRD))
        .finished(THIRD);
    assert_eq!(given.secret().alive(), [3]);
    assert_eq!(held_by_evicted(given.world(), HOST), []);
}

#[test]
fn the_other_hosts_are_still_waited_for() {
    let given = Given::serving()
        .and(enrol(OTHER_HOST))
        .and(rotate(SECOND))
        .finished(SECOND)
        .and(evict(HOST));
    let open = &given.world().rotations[&SECOND];
    assert!(open.is_open() && open.waiting.is_empty());
    assert_eq!(open.barrier.iter().collect::<Vec<_>>(), [&OTHER_HOST]);
    assert_eq!(given.secret().alive(), [1, 2]);
}

#[test]
fn a_revocation_waits_for_an_evicted_host_no_more_and_says_so() {
    let released = of_revocation(revocation::Event::HostReleased { host: HOST });
    let everywhere = of_revocation(revocation::Event::WithdrawnEverywhere);
    let vanished = of_consumer(1, assignment::Event::Vanished);
    let revoking = Given::serving().and(revoke(None));
    revoking.clone().when(evict(HOST)).then([
        evicted(),
        vanished.clone(),
        released.clone(),
        everywhere.clone(),
    ]);
    let confirmed = Command::RevokeOutcome {
        revocation: crate::testing::REVOCATION,
        attempt: 1,
        failure: None,
    };
    let closed = of_revocation(revocation::Event::Closed);
    revoking.and(confirmed).when(evict(HOST)).then([
        evicted(),
        vanished,
        released,
        everywhere,
        closed,
    ]);
}

#[test]
fn a_returning_evicted_host_is_refused_everything() {
    let given = Given::serving().and(evict(HOST));
    let told = Command::Report(report(vec![reloaded(1, 1)], &[1]));
    for command in [told, enrol(HOST)] {
        let by_token = given.clone().by_token();
        by_token.when(command.clone()).then_rejected(refused());
        given.clone().when(command).then_rejected(refused());
    }
}

#[test]
fn nothing_is_granted_to_an_evicted_host_again() {
    let given = Given::serving()
        .and(evict(HOST))
        .and(rotate(SECOND))
        .finished(SECOND)
        .and(apply_binding(anywhere(), file(), Reload::Signal(1)));
    assert!(given.secret().delivered.is_empty());
    assert_eq!(given.world().hosts_of(SECRET), []);
    assert_eq!(held_by_evicted(given.world(), HOST), []);
    assert_eq!(given.world().rotations[&FIRST].secret, SECRET);
}

#[test]
fn open_tokens_of_an_evicted_host_are_spent() {
    let given = Given::nothing().and(issue(TOKEN)).and(enrol(HOST));
    let spent = of_host(host::Event::JoinTokenSpent { token: TOKEN });
    given.when(evict(HOST)).then([evicted(), spent]);
}

#[test]
fn the_same_name_joins_again_as_another_host() {
    let fresh = HostId::from_bytes([0x33; 16]);
    let token = JoinTokenId::from_bytes([0x34; 16]);
    let Command::IssueJoinToken(mut wish) = issue(token) else {
        panic!("not a token")
    };
    wish.host = fresh;
    let mut request = joining();
    (request.host, request.token) = (fresh, token);
    let given = Given::serving()
        .and(evict(HOST))
        .and(Command::IssueJoinToken(wish))
        .and(Command::JoinHost(request));
    let world = given.world();
    assert_eq!(world.host_named(&host_name()).map(|h| h.id), Some(fresh));
    let plan = plan_host(world, fresh).unwrap();
    assert_eq!(plan.bindings[0].current.map(|grant| grant.version), Some(1));
    assert_eq!(plan_host(world, HOST), None);
    assert_eq!(held_by_evicted(world, fresh), []);
}
