//! Tests of the pool, and of what it says where memory cannot be locked.

use std::process::Command;

use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};

use super::*;

const CHILD: &str = "KEYWHEEL_TEST_LOCKED";
/// Enough for the first keys, and for no value of the largest class.
const SMALL_LIMIT: u64 = 64 << 10;

fn all_zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[test]
fn what_was_given_back_is_zeros_and_is_given_out_again() {
    // No other test takes a piece of this class.
    let mut first = LockedBytes::copied(&[0xa5; 16_000]);
    assert!(first.bytes().iter().all(|byte| *byte == 0xa5));
    first.truncate(9_000);
    assert_eq!(first.bytes().len(), 9_000);
    first.truncate(10_000);
    assert_eq!(first.bytes().len(), 9_000, "it does not grow");
    let at = first.bytes().as_ptr().addr();
    drop(first);
    let again = LockedBytes::zeroed(16_640);
    assert_eq!(
        again.bytes().as_ptr().addr(),
        at,
        "another piece was mapped"
    );
    assert!(all_zeros(again.bytes()));
    let other = LockedBytes::zeroed(16_640);
    assert_ne!(other.bytes().as_ptr().addr(), at, "one piece for two");
}

#[test]
fn every_length_gets_a_piece_and_what_is_longer_than_any_value_lies_on_the_heap() {
    let mut pool = Pool::new(Keeping::Secret);
    let sizes = SMALL.iter().map(|(size, _)| *size).chain(LARGE);
    let mut before = 0;
    for size in sizes {
        assert!(size > before && size % 64 == 0, "{size}");
        for length in [before + 1, size] {
            let place = pool.take(length).unwrap();
            assert!(place.bytes().len() >= length && all_zeros(place.bytes()));
            pool.give(place);
        }
        before = size;
    }
    assert!(pool.take(MAX_LOCKED_BYTES + 1).is_none());
    let mut long = LockedBytes::zeroed(MAX_LOCKED_BYTES + 1);
    assert_eq!(long.bytes_mut().len(), MAX_LOCKED_BYTES + 1);
    assert!(LockedBytes::zeroed(0).bytes().is_empty());
}

#[test]
fn no_more_than_the_limit_of_large_pieces_is_kept_for_later() {
    let mut pool = Pool::new(Keeping::Locked);
    let most = MAX_IDLE_BYTES / MAX_LOCKED_BYTES + 2;
    let places: Vec<Place> = (0..most)
        .map_while(|_| pool.take(MAX_LOCKED_BYTES))
        .collect();
    assert_eq!(places.len(), most);
    let mapped = |pool: &Pool| pool.state.locked_bytes + pool.plain_bytes;
    assert!(mapped(&pool) >= most * MAX_LOCKED_BYTES);
    for place in places {
        pool.give(place);
    }
    assert!(mapped(&pool) <= MAX_IDLE_BYTES);
    assert_eq!(pool.idle_bytes, mapped(&pool), "what is mapped is idle");
    let free: usize = pool.large.iter().map(Vec::len).sum();
    // A next value of that class makes no system call where one is free.
    let again = pool.take(MAX_LOCKED_BYTES);
    let left: usize = pool.large.iter().map(Vec::len).sum();
    assert!(again.is_some() && left == free.saturating_sub(1));
}

#[test]
fn a_way_that_the_kernel_lacks_is_tried_once_and_plain_memory_is_told() {
    assert!(is_lacking(&io::Error::from_raw_os_error(libc::ENOSYS)));
    assert!(is_lacking(&io::Error::from_raw_os_error(libc::EPERM)));
    // The limit may have room again later.
    assert!(!is_lacking(&io::Error::from_raw_os_error(libc::EAGAIN)));
    assert!(!is_lacking(&io::Error::from_raw_os_error(libc::ENOMEM)));
    let mut pool = Pool::new(Keeping::Plain);
    assert!(pool.state.is_locked(), "nothing is anywhere yet");
    let place = pool.take(MAX_LOCKED_BYTES).unwrap();
    assert!(pool.state.plain_bytes >= MAX_LOCKED_BYTES);
    pool.give(place);
    assert_eq!((pool.plain_bytes, pool.idle_bytes), (0, 0));
    assert!(!pool.state.is_locked(), "it was so once");
}

#[test]
fn a_plain_piece_is_given_out_where_no_better_one_is_free() {
    let mut pool = Pool::new(Keeping::Plain);
    let plain = pool.take(64).unwrap();
    pool.give(plain);
    // There is room to lock again.
    let pieces = Pages::map(1, Keeping::Plain).unwrap().into_pieces(64);
    let better: Vec<usize> = pieces
        .iter()
        .map(|one| one.bytes().as_ptr().addr())
        .collect();
    pool.small[0].extend(pieces);
    let mut taken: Vec<Place> = Vec::new();
    for _ in &better {
        let place = pool.take(64).unwrap();
        assert!(better.contains(&place.bytes().as_ptr().addr()));
        taken.push(place);
    }
    let mapped = pool.plain_bytes;
    let place = pool.take(64).unwrap();
    assert!(!better.contains(&place.bytes().as_ptr().addr()));
    assert_eq!(pool.plain_bytes, mapped, "one that was free");
}

#[test]
fn a_value_is_used_where_it_lies_and_dropped_once() {
    let dropped = std::sync::Arc::new(());
    let mut value = Locked::new(([7_u8; 32], dropped.clone()));
    (*value).0[0] = 8;
    assert_eq!((*value).0[..2], [8, 7]);
    assert_eq!(format!("{value:?}"), "Locked(…)");
    assert_eq!(std::sync::Arc::strong_count(&dropped), 2);
    drop(value);
    assert_eq!(std::sync::Arc::strong_count(&dropped), 1);
    // Larger than any small piece.
    let large = Locked::new([1_u8; 20_000]);
    assert_eq!(large[19_999], 1);
}

/// Without the right to lock as much as it likes, and with this limit.
fn confine(limit: u64) {
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    set_capabilities(None, none).unwrap();
    let limit = Rlimit {
        current: Some(0),
        maximum: Some(limit),
    };
    setrlimit(Resource::Memlock, limit).unwrap();
}

#[test]
#[expect(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the child is told by a variable, and its parent reads what it prints"
)]
fn a_limit_that_is_too_small_is_told_and_stops_nothing() {
    if let Some(limit) = std::env::var_os(CHILD) {
        confine(limit.to_str().unwrap().parse().unwrap());
        let at_first = prepare();
        println!("keys={}", at_first.is_locked());
        assert_eq!(at_first.limit, getrlimit(Resource::Memlock).maximum);
        let mut value = LockedBytes::zeroed(MAX_LOCKED_BYTES);
        value.bytes_mut().fill(1);
        assert_eq!(value.bytes()[MAX_LOCKED_BYTES - 1], 1);
        drop(value);
        let state = state();
        println!("values={}", state.is_locked());
        println!("refused={}", state.refusal.is_some());
        return;
    }
    let child = |limit: u64| {
        let test = "locked::tests::a_limit_that_is_too_small_is_told_and_stops_nothing";
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--test-threads=1", "--nocapture"])
            .env(CHILD, limit.to_string())
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let none = child(0);
    for said in ["keys=false", "values=false", "refused=true"] {
        assert!(none.contains(said), "{none}");
    }
    let small = child(SMALL_LIMIT);
    for said in ["keys=true", "values=false", "refused=true"] {
        assert!(small.contains(said), "{small}");
    }
}
