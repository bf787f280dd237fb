//! Leases of containers: renewed by their store's poll, and told when another one is needed.

use keywheel_engine::port::leases::Leases as _;
use keywheel_testkit::conformance::store::plenty;

use super::*;

fn role() -> Source {
    Source {
        path: "database/creds/app".to_owned(),
        field: String::new(),
    }
}

/// How many swaps one lease after the other goes through: more than a wait that doubles with each would let pass.
const SWAPS: u32 = 14;
/// How long a lease lives there, and at its maximum lifetime.
const SHORT: [Duration; 2] = [Duration::from_millis(60), Duration::from_millis(10)];
/// Polls, and renewals, that are looked at.
const POLLS: usize = 20;
const RENEWALS: u32 = 4;

/// A container's lease of the store `one`.
fn leased(lease: &RemoteVersion) -> SecretNow {
    SecretNow {
        place: Some(Place {
            store: StoreName::parse("one").unwrap(),
            source: role(),
        }),
        known: Some(lease.clone()),
        leases: vec![lease.clone()],
        current: Some(1),
        ..secret_now(SECRET, "one")
    }
}

#[tokio::test]
async fn a_lease_at_its_maximum_lifetime_is_renewed_and_told_to_give_way() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    let minted = store.lender.mint(&role(), &plenty()).await.unwrap();
    store.lender.grant(Duration::from_secs(60));
    let (shutdown, task) = world.start();
    world.tell(vec![store_now("one")], vec![leased(&minted.lease)]);
    let seen = world.observation().await;
    assert_eq!((seen.secret, seen.found), (SECRET, None));
    assert!(!seen.is_gone);
    assert_eq!(seen.known.as_ref(), Some(&minted.lease));
    store.lender.pass_mint_span();
    assert_eq!(
        store.lender.alive(),
        [minted.lease],
        "it lives on meanwhile"
    );
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn the_lease_before_is_renewed_while_another_one_takes_its_place() {
    let world = World::new().await;
    let store = world.fakes.store("one");
    let before = store.lender.mint(&role(), &plenty()).await.unwrap();
    let next = store.lender.mint(&role(), &plenty()).await.unwrap();
    let (shutdown, task) = world.start();
    let swapping = SecretNow {
        leases: vec![before.lease.clone(), next.lease.clone()],
        is_rotating: true,
        ..leased(&next.lease)
    };
    world.tell(vec![store_now("one")], vec![swapping]);
    let mut both = [before.lease, next.lease];
    both.sort_unstable();
    let extended = async {
        while store.lender.extended() < both.len() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, extended).await.unwrap();
    store.lender.pass_mint_span();
    assert_eq!(store.lender.alive(), both);
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn a_lease_that_is_gone_there_is_told_and_one_that_has_its_time_is_not() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    let minted = store.lender.mint(&role(), &plenty()).await.unwrap();
    let (shutdown, task) = world.start();
    let gone = SecretNow {
        secret: OTHER,
        ..leased(&remote("token9:lease9:3600"))
    };
    world.tell(vec![store_now("one")], vec![leased(&minted.lease), gone]);
    let seen = world.observation().await;
    assert_eq!((seen.secret, seen.found), (OTHER, None));
    assert!(seen.is_gone);
    store.lender.pass_mint_span();
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn each_swap_comes_as_soon_as_the_first_where_the_one_before_brought_a_lease_that_is_well() {
    let mut world = World::new().await;
    let store = world.fakes.store("one");
    let [whole, short] = SHORT;
    store.lender.set_whole(whole);
    let mut slower = store_now("one");
    if let Some(named) = &mut slower.store {
        named.spec.poll = Duration::from_millis(50);
    }
    let (shutdown, task) = world.start();
    for _ in 0..SWAPS {
        let minted = store.lender.mint(&role(), &plenty()).await.unwrap();
        store.lender.grant(whole);
        world.tell(vec![slower.clone()], vec![leased(&minted.lease)]);
        let renewed = async {
            while store.lender.extended() == 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(SOON, renewed).await.unwrap();
        store.lender.grant(short);
        // The one before may have been told once more.
        while world.observation().await.known.as_ref() != Some(&minted.lease) {}
        store
            .lender
            .end(&role(), &minted.lease, &plenty())
            .await
            .unwrap();
    }
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn polls_before_two_thirds_of_its_time_neither_renew_a_lease_nor_make_one() {
    let world = World::new().await;
    let store = world.fakes.store("one");
    let minted = store.lender.mint(&role(), &plenty()).await.unwrap();
    let (shutdown, task) = world.start();
    world.tell(vec![store_now("one")], vec![leased(&minted.lease)]);
    let polled = async {
        while store.calls() < POLLS {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, polled).await.unwrap();
    // Of one that it did not renew yet store-sync knows no time: that comes first, and once.
    assert_eq!(store.lender.extensions(), 1);
    assert_eq!(store.lender.minted(), 1);
    assert_eq!(store.lender.alive(), [minted.lease]);
    shutdown.request();
    task.await.unwrap();
}

#[tokio::test]
async fn a_lease_is_renewed_each_time_when_two_thirds_of_its_time_are_over_and_not_before() {
    let world = World::new().await;
    let store = world.fakes.store("one");
    let [whole, _] = SHORT;
    store.lender.set_whole(whole);
    let minted = store.lender.mint(&role(), &plenty()).await.unwrap();
    let begun = world.clock.monotonic();
    let (shutdown, task) = world.start();
    world.tell(vec![store_now("one")], vec![leased(&minted.lease)]);
    let renewed = async {
        while store.lender.extensions() < u64::from(RENEWALS) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, renewed).await.unwrap();
    let passed = world.clock.monotonic().saturating_sub(begun);
    assert!(passed >= whole * 2 / 3 * (RENEWALS - 1), "{passed:?}");
    assert_eq!(store.lender.minted(), 1);
    shutdown.request();
    task.await.unwrap();
}
