//! Leases: each container has one of its own, for as long as it is there.

mod bounds;
mod ends;
pub(crate) mod graces;
mod probes;

use crate::assignment;
use crate::binding::Reload;
use crate::command::{Command, Declaration, Observation, ProofTaken};
use crate::event::Event;
use crate::id::{RevocationId, RotationId, SecretId, StoreId};
use crate::lease::{self, DEFAULT_LINGER, Lease, LeaseOf};
use crate::name::{SecretName, StoreName};
use crate::plan::plan_host;
use crate::report::{Fact, HostReport, Item};
use crate::revocation::Proof;
use crate::rotation::{self, Intervention, Outcome, Phase, Step, Trigger};
use crate::secret::{self, Place, Spec, Store};
use crate::store::{
    Backend, CredentialRef, OldVersions, RemoteVersion, Source, StoreSpec, VaultAuth, VaultSpec,
};
use crate::testing::*;

/// What ids of the first and the second want in one report are counted from.
const WANTS: u32 = 50_000;

fn store() -> Command {
    store_at("https://vault:8200")
}

fn store_at(address: &str) -> Command {
    let backend = Backend::Vault(VaultSpec {
        address: address.to_owned(),
        namespace: String::new(),
        mount: "secret".to_owned(),
        ca_file: String::new(),
        old_versions: OldVersions::Destroy,
        auth: VaultAuth::Token {
            token: CredentialRef::File("/etc/token".to_owned()),
        },
    });
    Command::Apply(vec![Declaration::Store {
        id: StoreId::from_bytes([0x31; 16]),
        name: StoreName::parse("bao").unwrap(),
        spec: StoreSpec {
            backend,
            poll: std::time::Duration::from_secs(60),
            timeout: std::time::Duration::from_secs(5),
        },
    }])
}

fn dynamic() -> Spec {
    let source = Source {
        path: "database/creds/app".to_owned(),
        field: String::new(),
    };
    let store = StoreName::parse("bao").unwrap();
    Spec {
        store: Store::Outside(Place { store, source }),
        lease: Some(Box::new(Lease::PerContainer {
            linger: DEFAULT_LINGER,
            probe: None,
        })),
        ..Spec::default()
    }
}

fn bound() -> Given {
    Given::nothing()
        .and(store())
        .and(apply_secret(dynamic()))
        .and(enrol(HOST))
        .and(apply_binding(anywhere(), file(), Reload::None))
}

pub(crate) fn lease(n: u8) -> SecretId {
    lease::secret_of(SECRET, &container(n))
}

fn mint(count: u32) -> RotationId {
    RotationId::from_bytes(*drawn(WANTS + count).bytes())
}

fn remote(n: u8) -> RemoteVersion {
    RemoteVersion(format!("accessor{n}:suffix{n}:3600"))
}

fn says(items: Vec<Item>) -> Command {
    Command::Report(report(items, &[]))
}

fn wants(containers: &[u8]) -> Command {
    says(containers.iter().map(|n| item(*n, Fact::Wanted)).collect())
}

/// What a container has, as its host knows it.
fn leased(n: u8, version: u64) -> Item {
    Item {
        binding: lease::binding_of(BINDING, lease(n)),
        secret: lease(n),
        ..item(n, Fact::Swapped { version, at: NOW })
    }
}

fn made(rotation: RotationId, n: u8) -> Command {
    Command::StepOutcome {
        rotation,
        step: Step::Create,
        attempt: 1,
        failure: None,
        is_away: false,
        remote: Some(remote(n)),
        sessions: None,
    }
}

trait Minted {
    fn minted(self, rotation: RotationId, n: u8) -> Self;
}

impl Minted for Given {
    fn minted(self, rotation: RotationId, n: u8) -> Self {
        [Step::Set, Step::Test, Step::Finish]
            .into_iter()
            .fold(self.and(made(rotation, n)), |given, step| {
                given.and(done(rotation, step))
            })
    }
}

/// Container 1 has a lease, and runs on it.
pub(crate) fn served() -> Given {
    let given = bound().and(wants(&[1])).minted(mint(0), 1);
    given.and(Command::Report(HostReport {
        holds: vec![(lease(1), 1)],
        ..report(vec![leased(1, 1)], &[])
    }))
}

/// This rotation made another lease for container 1, which runs on it.
pub(crate) fn moved(given: Given, rotation: RotationId) -> Given {
    given.minted(rotation, 2).and(Command::Report(HostReport {
        holds: vec![(lease(1), 2)],
        ..report(vec![leased(1, 2)], &[])
    }))
}

fn only(containers: &[u8]) -> Command {
    Command::Report(HostReport {
        containers: containers.iter().map(|n| container(*n)).collect(),
        holds: vec![(lease(1), 1)],
        ..report(Vec::new(), &[])
    })
}

fn of_lease(n: u8, event: secret::Event) -> Event {
    Event::Secret(lease(n), event)
}

/// The store's word that the lease of container 1 ends.
fn ending() -> Command {
    Command::Observed(Observation {
        secret: lease(1),
        rotation: SECOND,
        known: Some(remote(1)),
        found: None,
        is_unchanged: false,
        is_gone: false,
    })
}

fn hidden_name() -> SecretName {
    lease::name_of(&secret_name(), &container(1)).unwrap()
}

/// A person asks for another one for container 1.
fn another() -> Command {
    Command::Rotate {
        rotation: SECOND,
        secret: hidden_name(),
    }
}

/// The store's word that what a person revoked is refused there.
fn confirmed() -> Command {
    Command::RevokeOutcome {
        revocation: REVOCATION,
        attempt: 1,
        failure: None,
    }
}

/// The store ended what a person revoked, says so when it is asked, and nothing is kept of it any more.
fn through(given: Given) -> Given {
    [confirmed(), word(REVOCATION), dropped(REVOCATION)]
        .into_iter()
        .fold(given, Given::and)
}

/// Its store says that the lease is gone.
fn word(revocation: RevocationId) -> Command {
    Command::ProofOutcome(ProofTaken {
        revocation,
        attempt: 2,
        proof: Proof::lacking("that is its word"),
    })
}

fn dropped(revocation: RevocationId) -> Command {
    Command::RevokeOutcome {
        revocation,
        attempt: 3,
        failure: None,
    }
}

/// Its store tells no sessions of the lease before, and the grace of that is over.
fn outlived(given: Given, rotation: RotationId) -> Given {
    let given = given.and(done(rotation, Step::Drain));
    let until = given.world().rotations[&rotation].drain.grace.unwrap();
    given.at(until).and(Command::DeadlinePassed { rotation })
}

fn unbind() -> Command {
    Command::Unbind {
        name: binding_name(),
    }
}

#[test]
fn a_container_that_wants_a_lease_gets_one_of_its_own_and_the_declared_secret_has_no_version() {
    let spec = Spec {
        lease: Some(Box::new(Lease::Of(LeaseOf {
            secret: SECRET,
            host: HOST,
            container: container(1),
            linger: DEFAULT_LINGER,
        }))),
        ..dynamic()
    };
    let started = rotation::Event::Started {
        secret: lease(1),
        version: 1,
        trigger: Trigger::Initial,
    };
    let create = rotation::Event::StepStarted {
        step: Step::Create,
        attempt: 1,
    };
    let given = bound().when(wants(&[1])).then([
        of_lease(
            1,
            secret::Event::Registered {
                name: lease::name_of(&secret_name(), &container(1)).unwrap(),
                spec,
            },
        ),
        of_lease(
            1,
            secret::Event::VersionStaged {
                version: 1,
                rotation: mint(0),
            },
        ),
        of_rotation(mint(0), started),
        of_rotation(mint(0), create),
    ]);
    assert_eq!(given.secret().last_version, 0);
}

#[test]
fn a_container_that_starts_again_and_again_gets_no_second_lease() {
    let asked = bound().and(wants(&[1]));
    asked.clone().when(wants(&[1])).then_nothing();
    let minted = asked.minted(mint(0), 1);
    minted.clone().when(wants(&[1])).then_nothing();
    let twice = says(vec![item(1, Fact::Wanted), item(1, Fact::Wanted)]);
    assert_eq!(bound().and(twice).world().rotations.len(), 1);
}

#[test]
fn each_of_two_containers_has_its_own_in_the_plan_of_their_host() {
    let given = bound().and(wants(&[1, 2]));
    let given = given.minted(mint(0), 1).minted(mint(1), 2);
    let plan = plan_host(given.world(), HOST).unwrap();
    let (declared, leases): (Vec<_>, Vec<_>) = plan.bindings.iter().partition(|one| one.leases);
    assert!(declared.len() == 1 && declared[0].current.is_none());
    assert_eq!(leases.len(), 2);
    for n in [1, 2] {
        let own = leases.iter().find(|one| one.secret == lease(n)).unwrap();
        assert_eq!(own.selector.container, Some(container(n)));
        assert_eq!(own.binding, lease::binding_of(BINDING, lease(n)));
        assert_eq!(own.secret_name, secret_name());
        assert_eq!(own.current.unwrap().version, 1);
    }
    let other = given.and(enrol(OTHER_HOST));
    let plan = plan_host(other.world(), OTHER_HOST).unwrap();
    assert!(
        plan.bindings.iter().all(|one| one.leases),
        "no lease of ours"
    );
}

#[test]
fn what_a_host_tells_of_a_lease_counts_for_its_container_alone() {
    let given = served();
    let key = consumer(1);
    assert_eq!(given.world().assignments[&key].secret, lease(1));
    let foreign = Item {
        container: container(2),
        ..leased(1, 1)
    };
    given.when(says(vec![foreign])).then_among_others([]);
    let foreign = Item {
        container: container(2),
        ..leased(1, 1)
    };
    let after = served().and(says(vec![foreign]));
    let key = assignment::Key {
        container: container(2),
        ..key
    };
    assert!(!after.world().assignments.contains_key(&key));
}

#[test]
fn a_lease_at_its_end_gives_way_to_another_one_and_dies_a_while_after_the_container_has_that() {
    let given = served().and(ending()).minted(SECOND, 2);
    let secret = &given.world().secrets[&lease(1)];
    assert_eq!((secret.current, secret.alive()), (Some(2), vec![1, 2]));
    let acknowledged = Command::Report(HostReport {
        holds: vec![(lease(1), 2)],
        ..report(vec![leased(1, 2)], &[])
    });
    let given = given.and(acknowledged);
    assert_eq!(given.world().secrets[&lease(1)].alive(), [1, 2]);
    let given = outlived(given, SECOND);
    assert_eq!(given.world().secrets[&lease(1)].alive(), [2]);
    assert!(given.world().open_rotation(lease(1)).is_none());
    let open = &given.world().revocations[&lease::end_of(SECOND)];
    assert_eq!(
        (&open.versions[..], &open.retire[..]),
        (&[1][..], &[remote(1)][..])
    );
    assert!(open.waiting.is_empty(), "{open:?}");
    // One that its store cannot end holds up no other swap.
    let failed = Command::RevokeOutcome {
        revocation: lease::end_of(SECOND),
        attempt: 1,
        failure: Some("the database is away".to_owned()),
    };
    let Command::Observed(seen) = ending() else {
        panic!("no look");
    };
    let next = Command::Observed(Observation {
        rotation: THIRD,
        known: Some(remote(2)),
        ..seen
    });
    let again = given.and(failed).and(next);
    assert_eq!(again.world().open_rotation(lease(1)).unwrap().id, THIRD);
}

#[test]
fn the_lease_of_a_container_that_does_not_run_is_kept_for_a_while_and_then_revoked() {
    let until = NOW.plus(DEFAULT_LINGER);
    let lingering = of_lease(1, secret::Event::LeaseLingering { until });
    let down = served().when(only(&[])).then_among_others([lingering]);
    let end = Command::LingerEnded { secret: lease(1) };
    let too_early = secret::Rejection::NotLingering {
        secret: lease::name_of(&secret_name(), &container(1)).unwrap(),
    };
    down.clone()
        .when(end.clone())
        .then_rejected(too_early.clone());
    let resumed = of_lease(1, secret::Event::LeaseResumed);
    let up = down.clone().when(only(&[1])).then_among_others([resumed]);
    up.at(until).when(end.clone()).then_rejected(too_early);
    let over = down.at(until).and(end);
    assert!(over.world().secrets[&lease(1)].alive().is_empty());
    let open = over.world().unconfirmed_revocation(lease(1)).unwrap();
    assert_eq!(open.retire, [remote(1)], "also the one that is current");
    let plan = plan_host(over.world(), HOST).unwrap();
    assert_eq!(plan.bindings.len(), 1, "the host drops what it had");
}

#[test]
fn a_container_that_was_removed_is_not_waited_for() {
    let removed = Item {
        fact: Fact::Removed,
        ..leased(1, 1)
    };
    let over = [
        of_lease(1, secret::Event::LeaseEnded),
        of_lease(1, secret::Event::VersionRevoked { version: 1 }),
    ];
    let ended = served().when(says(vec![removed])).then_among_others(over);
    let open = ended.world().unconfirmed_revocation(lease(1)).unwrap();
    assert_eq!(open.retire, [remote(1)]);
    // Also while another one takes its place: nothing of that goes on.
    let removed = Item {
        fact: Fact::Removed,
        ..leased(1, 1)
    };
    let swapping = served().and(ending()).minted(SECOND, 2);
    let ended = swapping.and(says(vec![removed]));
    assert!(ended.world().secrets[&lease(1)].alive().is_empty());
    assert!(ended.world().open_rotation(lease(1)).is_none());
}

#[test]
fn a_container_that_goes_away_in_the_report_that_wants_one_gets_none() {
    let removed = Item {
        secret: lease(1),
        ..item(1, Fact::Removed)
    };
    let both = says(vec![item(1, Fact::Wanted), removed]);
    bound().when(both).then_nothing();
}

#[test]
fn leases_of_a_host_that_is_evicted_end_with_it_and_nothing_waits_for_it() {
    let gone = served().and(evict(HOST));
    assert!(gone.world().secrets[&lease(1)].alive().is_empty());
    let open = gone.world().unconfirmed_revocation(lease(1)).unwrap();
    assert_eq!(open.retire, [remote(1)]);
    assert!(open.waiting.is_empty(), "{open:?}");
    let secret = hidden_name();
    let gone_host = secret::Rejection::LeaseHostGone { secret };
    gone.when(another()).then_rejected(gone_host);
}

#[test]
fn another_lease_for_a_container_that_does_not_run_is_not_kept_longer_and_none_is_made_by_itself() {
    let until = NOW.plus(DEFAULT_LINGER);
    let down = served().and(only(&[]));
    down.clone().when(ending()).then_nothing();
    // One that is gone there is worth nothing to a container that comes back: it asks for another one.
    let Command::Observed(seen) = ending() else {
        panic!("no look");
    };
    let gone = Command::Observed(Observation {
        is_gone: true,
        ..seen
    });
    let lost = down.clone().and(gone);
    assert!(lost.world().secrets[&lease(1)].alive().is_empty());
    let swapping = down.and(another());
    let secret = &swapping.world().secrets[&lease(1)];
    assert_eq!(secret.lingers_until, Some(until));
    let end = Command::LingerEnded { secret: lease(1) };
    let ended = swapping.at(until).and(end);
    assert!(ended.world().secrets[&lease(1)].alive().is_empty());
}

#[test]
fn a_container_that_wants_one_again_after_its_own_ended_is_kept_no_time() {
    let down = served().and(only(&[])).and(revoke(None));
    let withdrawn = Command::Report(report(Vec::new(), &[]));
    let down = through(down).and(withdrawn).drawn(0xdd);
    let resumed = of_lease(1, secret::Event::LeaseResumed);
    let back = down.when(wants(&[1])).then_among_others([resumed]);
    assert_eq!(back.world().secrets[&lease(1)].lingers_until, None);
    assert!(back.world().open_rotation(lease(1)).is_some());
}

#[test]
fn the_time_of_what_a_person_revoked_meanwhile_ends_once() {
    let until = NOW.plus(DEFAULT_LINGER);
    let revoked = served().and(only(&[])).and(revoke(None)).at(until);
    let end = Command::LingerEnded { secret: lease(1) };
    let over = of_lease(1, secret::Event::LeaseEnded);
    let ended = revoked.when(end.clone()).then([over]);
    let secret = hidden_name();
    ended
        .when(end)
        .then_rejected(secret::Rejection::NotLingering { secret });
}

#[test]
fn the_lease_in_use_is_the_known_one_until_another_is_promoted_and_both_are_kept_alive() {
    let made = served().and(ending()).and(made(SECOND, 2));
    let secret = &made.world().secrets[&lease(1)];
    assert_eq!(secret.known, Some(remote(1)));
    assert_eq!(secret.living_leases(), [remote(1), remote(2)]);
    let promoted = [Step::Set, Step::Test, Step::Finish]
        .into_iter()
        .fold(made, |given, step| given.and(done(SECOND, step)));
    let secret = &promoted.world().secrets[&lease(1)];
    assert_eq!(secret.known, Some(remote(2)));
    assert_eq!(secret.living_leases(), [remote(1), remote(2)]);
}

#[test]
fn a_swap_that_is_turned_back_ends_the_new_lease_and_the_one_before_is_the_known_one() {
    let aborted = Command::Intervene {
        rotation: SECOND,
        intervention: Intervention::Abort,
        reason: "drill".to_owned(),
    };
    let stays = Command::Report(HostReport {
        holds: vec![(lease(1), 1)],
        ..report(vec![leased(1, 1)], &[])
    });
    let back = served().and(ending()).minted(SECOND, 2).and(aborted);
    let back = back.and(stays);
    let secret = &back.world().secrets[&lease(1)];
    assert_eq!((secret.current, secret.alive()), (Some(1), vec![1]));
    assert_eq!(secret.known, Some(remote(1)));
    let open = back.world().open_rotation(lease(1)).unwrap();
    let is_going_back = matches!(
        open.phase,
        Phase::Performing {
            step: Step::RollBack,
            ..
        }
    );
    assert!(is_going_back, "{:?}", open.phase);
}

#[test]
fn a_binding_that_comes_back_gives_each_lease_to_its_own_host_again() {
    let given = served().and(enrol(OTHER_HOST)).and(unbind());
    let given = given.and(another()).minted(SECOND, 2);
    let back = given.and(apply_binding(anywhere(), file(), Reload::None));
    let plan = plan_host(back.world(), HOST).unwrap();
    let own = plan.bindings.iter().find(|one| one.secret == lease(1));
    assert_eq!(own.unwrap().current.unwrap().version, 2);
    let delivered = &back.world().secrets[&lease(1)].delivered;
    assert!(delivered.keys().all(|(host, _)| *host == HOST));
}

#[test]
fn a_container_that_no_binding_gives_its_lease_any_more_keeps_it_no_longer_than_one_that_is_gone() {
    let until = NOW.plus(DEFAULT_LINGER);
    let lingering = of_lease(1, secret::Event::LeaseLingering { until });
    let unbound = served().and(unbind());
    unbound.when(only(&[1])).then_among_others([lingering]);
}

#[test]
fn the_time_for_which_a_lease_is_kept_is_the_declared_one_as_it_is_now() {
    let linger = std::time::Duration::from_secs(60);
    let shorter = Spec {
        lease: Some(Box::new(Lease::PerContainer {
            linger,
            probe: None,
        })),
        ..dynamic()
    };
    let until = NOW.plus(linger);
    let lingering = of_lease(1, secret::Event::LeaseLingering { until });
    let changed = served().and(apply_secret(shorter));
    changed.when(only(&[])).then_among_others([lingering]);
}

#[test]
fn a_person_who_revokes_the_declared_secret_ends_every_lease() {
    let given = bound().and(wants(&[1, 2]));
    let given = given.minted(mint(0), 1).minted(mint(1), 2);
    let revoked = given.and(revoke(None));
    assert_eq!(revoked.world().revocations.len(), 2);
    assert!(revoked.world().revocations.contains_key(&REVOCATION));
    for n in [1, 2] {
        assert!(revoked.world().secrets[&lease(n)].alive().is_empty());
    }
}

#[test]
fn nobody_gives_a_value_to_what_its_store_makes() {
    let only = secret::Rejection::OnlyLeases {
        secret: secret_name(),
    };
    bound().when(rotate(SECOND)).then_rejected(only);
    let fixed = secret::Rejection::LeaseFixed {
        secret: secret_name(),
    };
    bound().when(apply_secret(generated())).then_rejected(fixed);
}
