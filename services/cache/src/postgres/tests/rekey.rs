//! Replacing the KEK of a cache that two store-syncs share: whoever of them, or the server, is killed.

use async_trait::async_trait;
use keywheel_postgres::session;
use keywheel_testkit::conformance::vault_keys::{self, Ends, Home, Keys};

use super::*;
use crate::keys::Ring;
use crate::postgres::{PostgresTable, SCHEMA, UPGRADES};
use crate::tests::killed::{
    DONE, MOMENTS, MOST_KILLS, ORPHANS, OTHERS, Program, WRITES, WROTE, key_file, key_in, order,
    say, step, wait_for_the_end,
};
use crate::tests::rekey::{VERSIONS, assert_all_open, fill};
use crate::{MAX_STORE_KEY_AGE, Stepped};

const KEKS: &str = "SELECT COUNT(*) FROM kek";
const KEK: &str = "SELECT id FROM kek WHERE state = 'current'";

/// One database of a server.
struct Shared<'p> {
    place: &'p Place,
    url: String,
}

#[async_trait(?Send)]
impl Home for Shared<'_> {
    async fn open(&self) -> Ends {
        let (one, other) =
            tokio::join!(self.place.open_at(&self.url), self.place.open_at(&self.url));
        [one, other].map(|cache| Arc::new(cache) as Arc<dyn Keys>)
    }
}

async fn finish(cache: &PostgresCache) -> Stepped {
    loop {
        let stepped = cache.rekey_step(3).await.unwrap();
        if stepped != Stepped::More {
            return stepped;
        }
    }
}

#[tokio::test]
async fn a_shared_cache_keeps_the_laws_of_replacing_its_key() {
    let (place, made) = (Place::new(), AtomicI64::new(0));
    let (place, made) = (&place, &made);
    let fresh = || async move {
        let name = format!("keys_{}", made.fetch_add(1, Ordering::SeqCst));
        let url = place.server.database(&name);
        Shared { place, url }
    };
    vault_keys::check(fresh).await;
}

/// The program.
async fn obey(order: &[String]) {
    let words: Vec<&str> = order.iter().map(String::as_str).collect();
    let [verb, url, key] = words.as_slice() else {
        panic!("an order has three words");
    };
    let address = Address::parse(url, None).unwrap();
    let unseal = UnsealKey::from_file(&key_in(key)).unwrap();
    let clock = Arc::<StillClock>::default();
    let entropy = Arc::new(OsEntropy);
    let opened = PostgresCache::open_shared(&address, DEPLOYMENT, unseal, entropy, clock);
    let cache = opened.await.unwrap();
    match *verb {
        "begin" => {
            say(WRITES);
            cache.begin_rekey().await.unwrap();
        }
        "step" => step(&cache).await,
        _ => panic!("no such order: {order:?}"),
    }
    say(DONE);
    wait_for_the_end();
}

#[tokio::test]
async fn killed_at_any_row_of_a_shared_cache_it_goes_on_and_all_opens_by_the_new_key_alone() {
    const OWN: &str = "postgres::tests::rekey::killed_at_any_row_of_a_shared_cache_it_goes_on_and_all_opens_by_the_new_key_alone";
    if let Some(order) = order() {
        return obey(&order).await;
    }
    let (place, keys) = (Place::new(), tempfile::tempdir().unwrap());
    let key = key_file(&keys, "key", &place.key);
    // Another store-sync, which does nothing for it and gives values out meanwhile.
    let witness = place.open().await;
    let key_pair = fill(&witness).await;
    let old = place.ask(KEK);
    let (mut kills, mut begun, mut ends) = (0, false, 0);
    loop {
        assert_all_open(&witness, &key_pair).await;
        let now = witness.rekeying().await.unwrap();
        if begun && now.old_keks == 0 {
            break;
        }
        begun |= now.old_keks > 0;
        let verb = if begun { "step" } else { "begin" };
        let mut program = Program::start(OWN, &[verb, &place.url, &key]);
        assert!(program.hear(WRITES));
        if kills % 2 == 0 {
            program.kill(kills / 2 % MOMENTS);
        } else if now.left > OTHERS {
            program.hear(WROTE);
            program.kill(0);
        } else {
            // One step later each time, until one program comes to the end.
            for _ in 0..=ends {
                if !program.hear(WROTE) {
                    break;
                }
            }
            ends += 1;
            program.kill(0);
        }
        kills += 1;
        assert!(kills < MOST_KILLS, "it does not end");
    }
    assert!(u64::from(kills) >= 2 * VERSIONS, "{kills} kills");
    assert_eq!(place.ask(KEKS), "1");
    assert_ne!(place.ask(KEK), old);
    assert_eq!(place.ask(ORPHANS), "0");
    assert_all_open(&place.open().await, &key_pair).await;
    // It knows the key that went, and writes under the fresh one.
    insert(&witness, 900, 900, CANARY).await.unwrap();
    assert_eq!(place.ask("SELECT COUNT(DISTINCT key_id) FROM version"), "1");
}

#[tokio::test]
async fn a_killed_server_loses_no_row_of_it() {
    let mut place = Place::new();
    let (one, other) = (place.open().await, place.open().await);
    let key_pair = fill(&one).await;
    one.begin_rekey().await.unwrap();
    let mut steps = 0;
    loop {
        assert_eq!(one.rekey_step(5).await.unwrap(), Stepped::More);
        place.server.kill();
        if steps == 0 {
            let away = one.rekey_step(5).await.unwrap_err();
            assert_eq!(away.kind(), Kind::Unavailable);
        }
        place.server.restart();
        assert_all_open(&other, &key_pair).await;
        steps += 1;
        if other.rekeying().await.unwrap().left == 0 {
            break;
        }
        assert!(steps < 20, "it does not end");
    }
    // The other one takes it up.
    assert_eq!(finish(&other).await, Stepped::Done);
    assert_all_open(&one, &key_pair).await;
    assert_eq!(place.ask(KEKS), "1");
}

/// The cache with tables as they were before a row had to name a KEK that is there.
async fn open_before(place: &Place) -> PostgresCache {
    let address = Address::parse(&place.url, None).unwrap();
    let pool = session::open(&address, SCHEMA, &UPGRADES[..2]).await;
    let name = address.name().to_owned();
    let table = PostgresTable {
        name,
        pool: pool.unwrap(),
    };
    let ring = Ring {
        deployment: DEPLOYMENT,
        unseal: UnsealKey::from_file(&place.key).unwrap(),
        entropy: Arc::new(OsEntropy),
    };
    let opened = PostgresCache::over(table, true, ring, place.clock.clone());
    opened.await.unwrap()
}

#[tokio::test]
async fn tables_from_before_are_upgraded_under_a_store_sync_that_runs_and_lose_no_row() {
    const FORMAT: &str = "SELECT number FROM format";
    let place = Place::new();
    let running = open_before(&place).await;
    let key_pair = fill(&running).await;
    // One key went over into another, as by age, and every row is under the first.
    running.begin_rekey().await.unwrap();
    assert_eq!(
        (place.ask(FORMAT), place.ask(KEKS)),
        ("2".to_owned(), "2".to_owned())
    );
    let upgraded = place.open().await;
    assert_eq!(place.ask(FORMAT), UPGRADES.len().to_string());
    assert_all_open(&upgraded, &key_pair).await;
    upgraded.begin_rekey().await.unwrap();
    // It knows two keys, and the one that it writes under goes.
    insert(&running, 300, 300, CANARY).await.unwrap();
    assert_eq!(finish(&upgraded).await, Stepped::Done);
    insert(&running, 301, 301, CANARY).await.unwrap();
    for cache in [&running, &upgraded] {
        assert_all_open(cache, &key_pair).await;
        for version in [300, 301] {
            assert!(reads(cache, version).await.unwrap().ct_eq(&secret(CANARY)));
        }
    }
    assert_eq!(
        (place.ask(KEKS), place.ask(ORPHANS)),
        ("1".to_owned(), "0".to_owned())
    );
}

#[tokio::test]
async fn a_damaged_row_of_a_shared_cache_keeps_its_key_and_is_told_until_it_is_destroyed() {
    let place = Place::new();
    let (one, other) = (place.open().await, place.open().await);
    fill(&one).await;
    let _harmed = place.ask(
        "UPDATE version SET wrapped_dek = '\\x00' WHERE version = 2 AND secret = decode(repeat('01', 16), 'hex')",
    );
    one.begin_rekey().await.unwrap();
    assert_eq!(finish(&one).await, Stepped::Damaged(1));
    assert_eq!(finish(&other).await, Stepped::Damaged(1));
    assert_eq!(place.ask(KEKS), "2");
    assert_eq!(reads(&other, 2).await.map(drop), Err(Kind::Corrupt));
    assert!(reads(&other, 3).await.is_ok());
    one.destroy(SECRET, 2).await.unwrap();
    assert_eq!(finish(&other).await, Stepped::Done);
    assert_eq!(place.ask(KEKS), "1");
}

#[tokio::test]
async fn a_key_pair_is_made_under_the_fresh_key_by_who_knows_the_one_that_went() {
    let place = Place::new();
    let (one, other) = (place.open().await, place.open().await);
    insert(&other, 1, 1, CANARY).await.unwrap();
    let told = other.store_keys().await.unwrap().remove(0);
    one.begin_rekey().await.unwrap();
    assert_eq!(finish(&one).await, Stepped::Done);
    let age = i64::try_from(MAX_STORE_KEY_AGE.as_micros()).unwrap();
    place.clock.0.store(age, Ordering::SeqCst);
    let next = other.store_keys().await.unwrap().remove(0);
    assert_ne!(next.public().to_bytes(), told.public().to_bytes());
    let known = one.store_keys().await.unwrap().remove(0);
    assert_eq!(next.public().to_bytes(), known.public().to_bytes());
    assert_eq!(place.ask(ORPHANS), "0");
}

#[tokio::test]
async fn no_key_goes_while_a_row_names_it_and_no_row_names_one_that_went() {
    let place = Place::new();
    let cache = place.open().await;
    insert(&cache, 1, 1, CANARY).await.unwrap();
    let held = place.ask(
        "DO $$ BEGIN DELETE FROM kek; EXCEPTION WHEN foreign_key_violation THEN RETURN; END $$; SELECT COUNT(*) FROM kek",
    );
    assert_eq!(held, "1");
    let stray = place.ask(
        "DO $$ BEGIN UPDATE version SET key_id = '\\x00'; EXCEPTION WHEN foreign_key_violation THEN RETURN; END $$; SELECT COUNT(*) FROM version WHERE key_id = '\\x00'",
    );
    assert_eq!(stray, "0");
    assert!(reads(&cache, 1).await.unwrap().ct_eq(&secret(CANARY)));
}
