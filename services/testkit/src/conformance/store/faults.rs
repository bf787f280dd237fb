//! A store whose server, or the way to it, does wrong: rows 20 to 25 of the fault matrix that one
//! store alone can show.
//!
//! Each run is over a proxy in front of the real server. What is asked of the adapter: an answer
//! within its time, the right kind, no second write, what was not done is not called done, and all is
//! well again once the fault is gone, without a new adapter.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use keywheel_core::time::Timestamp;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::until::Until;

use super::{
    Outside, again, current, holds, kind, plenty, probe, promote, reads, text, token, value,
};
use crate::conformance::store::FIELD;
use crate::fake::FakeClock;
use crate::server::fault::{Counter, Fault, FaultProxy};

/// What in a request's head tells which call it is, and what a lying server says to it.
#[derive(Debug, Clone, Copy)]
pub struct Calls {
    /// In the head of every request that carries a look.
    pub look: &'static str,
    /// In the head of the request that makes a value current.
    pub write: &'static str,
    /// A body that says that it was done.
    pub write_lie: &'static str,
    /// In the head of the request that destroys a version.
    pub revoke: &'static str,
    /// A body that says that it was done.
    pub revoke_lie: &'static str,
    /// Whether [`Self::revoke`]'s lie can be seen through.
    pub revoke_is_read_back: bool,
}

/// How long a server that hangs does it: longer than any store's timeout here.
const HANG: Duration = Duration::from_secs(120);

/// A deadline before every store's own timeout here, and after the requests before a write.
const SHORT: Duration = Duration::from_secs(4);

/// Runs every case. The adapter goes by way of the proxy, `outside`'s other hand does not.
///
/// # Panics
/// When a law is broken.
pub async fn check(outside: &dyn Outside, proxy: &mut FaultProxy, calls: &Calls) {
    a_server_that_is_down_is_unavailable_until_it_is_back(outside, proxy).await;
    a_server_that_hangs_is_cut_off(outside, proxy, calls).await;
    bursts_are_waited_out(outside, proxy, calls).await;
    a_server_that_stays_busy_is_unavailable(outside, proxy, calls).await;
    half_an_answer_is_none(outside, proxy, calls).await;
    a_lost_answer_writes_no_second_version(outside, proxy, calls).await;
    a_late_call_is_cut_at_the_deadline_and_found_by_the_next_probe(outside, proxy, calls).await;
    no_call_begins_after_the_deadline(outside, proxy).await;
    no_repeat_begins_after_the_deadline(outside, proxy, calls).await;
    a_server_that_lies_is_found_out(outside, proxy, calls).await;
    proxy.heal();
}

async fn a_server_that_is_down_is_unavailable_until_it_is_back(
    outside: &dyn Outside,
    proxy: &mut FaultProxy,
) {
    let (store, at) = (outside.store(), outside.fresh());
    outside.write(&at.path, &[(FIELD, &text("a"))]).await;
    let first = current(outside, &at).await;
    proxy.refuse().await;
    let gone = ErrorKind::Unavailable;
    assert_eq!(kind(store.check(&plenty()).await), gone);
    assert_eq!(kind(store.look(&at, &plenty()).await), gone);
    assert_eq!(kind(store.fetch(&at, &first, &plenty()).await), gone);
    let made = promote(outside, &at, 1, "b", Some(&first));
    assert_eq!(kind(made.await), gone);
    assert_eq!(kind(store.revoke(&at, &first, &plenty()).await), gone);
    proxy.listen().await;
    let made = promote(outside, &at, 1, "b", Some(&first));
    let made = made.await.unwrap();
    holds(outside, &at, &made, "b").await;
    reads(outside, &at, "b").await;
}

async fn a_server_that_hangs_is_cut_off(
    outside: &dyn Outside,
    proxy: &mut FaultProxy,
    calls: &Calls,
) {
    let (store, at) = (outside.store(), outside.fresh());
    outside.write(&at.path, &[(FIELD, &text("a"))]).await;
    proxy.on(calls.look, Fault::Hang(HANG), u32::MAX);
    let until = plenty();
    let looked = tokio::time::timeout(HANG, store.look(&at, &until)).await;
    let looked = looked.expect("a look ends at the store's own timeout");
    assert_eq!(kind(looked), ErrorKind::Unavailable);
    proxy.heal();
    holds(outside, &at, &current(outside, &at).await, "a").await;
}

async fn bursts_are_waited_out(outside: &dyn Outside, proxy: &mut FaultProxy, calls: &Calls) {
    let at = outside.fresh();
    outside.write(&at.path, &[(FIELD, &text("a"))]).await;
    let mut known = current(outside, &at).await;
    for (n, status, wait) in [(1, 429, Some(0)), (2, 503, None), (3, 500, None)] {
        proxy.forget();
        proxy.on(calls.look, Fault::Status(status, wait), 1);
        proxy.on(calls.write, Fault::Status(status, wait), 1);
        assert_eq!(current(outside, &at).await, known, "{status}");
        let next = format!("after {n}");
        let made = promote(outside, &at, n, &next, Some(&known));
        known = made.await.unwrap();
        assert_eq!(current(outside, &at).await, known);
        reads(outside, &at, &next).await;
        assert!(proxy.asked(calls.write) >= 2, "the write was asked again");
        proxy.heal();
    }
}

async fn a_server_that_stays_busy_is_unavailable(
    outside: &dyn Outside,
    proxy: &mut FaultProxy,
    calls: &Calls,
) {
    let (store, at) = (outside.store(), outside.fresh());
    outside.write(&at.path, &[(FIELD, &text("a"))]).await;
    proxy.on(calls.look, Fault::Status(503, Some(0)), u32::MAX);
    proxy.forget();
    let looked = store.look(&at, &plenty()).await;
    assert_eq!(kind(looked), ErrorKind::Unavailable);
    let asked = proxy.asked(calls.look);
    assert!((2..=10).contains(&asked), "asked {asked} times");
    proxy.heal();
    // It says when to come again, and that is later than the call may take: it ends at once.
    proxy.on(calls.look, Fault::Status(429, Some(3600)), u32::MAX);
    proxy.forget();
    let looked = store.look(&at, &plenty()).await;
    assert_eq!(kind(looked), ErrorKind::Unavailable);
    assert_eq!(proxy.asked(calls.look), 1, "it is not asked before it said");
    proxy.heal();
    holds(outside, &at, &current(outside, &at).await, "a").await;
}

async fn half_an_answer_is_none(outside: &dyn Outside, proxy: &mut FaultProxy, calls: &Calls) {
    let (store, at) = (outside.store(), outside.fresh());
    outside.write(&at.path, &[(FIELD, &text("a"))]).await;
    let first = current(outside, &at).await;
    proxy.on("", Fault::HalfAnswer, u32::MAX);
    let gone = ErrorKind::Unavailable;
    assert_eq!(kind(store.look(&at, &plenty()).await), gone);
    assert_eq!(kind(store.fetch(&at, &first, &plenty()).await), gone);
    proxy.heal();
    // One half answer to a write: whatever is told, there is one version of ours in the end.
    proxy.on(calls.write, Fault::HalfAnswer, 1);
    let tried = promote(outside, &at, 1, "b", Some(&first));
    if let Err(error) = tried.await {
        assert_eq!(error.kind, gone);
    }
    let made = again(outside, &at, 1, "b", Some(&first));
    let made = made.await.unwrap();
    assert_eq!(current(outside, &at).await, made);
    reads(outside, &at, "b").await;
    proxy.heal();
}

async fn a_lost_answer_writes_no_second_version(
    outside: &dyn Outside,
    proxy: &mut FaultProxy,
    calls: &Calls,
) {
    let (store, at) = (outside.store(), outside.fresh());
    outside.write(&at.path, &[(FIELD, &text("a"))]).await;
    let first = current(outside, &at).await;
    proxy.on(calls.write, Fault::DropAnswer, 1);
    let tried = promote(outside, &at, 1, "b", Some(&first));
    let tried = tried.await;
    let there = current(outside, &at).await;
    let made = again(outside, &at, 1, "b", Some(&first));
    assert_eq!(made.await.unwrap(), there);
    assert_eq!(current(outside, &at).await, there, "no second version");
    match tried {
        Ok(version) => assert_eq!(version, there),
        Err(error) => assert_eq!(error.kind, ErrorKind::Unavailable),
    }
    proxy.on(calls.revoke, Fault::DropAnswer, 1);
    let _lost = store.revoke(&at, &first, &plenty()).await;
    store.revoke(&at, &first, &plenty()).await.unwrap();
    if outside.revoked_is_gone() {
        let gone = store.fetch(&at, &first, &plenty()).await;
        assert_eq!(kind(gone), ErrorKind::NotFound);
    }
    holds(outside, &at, &there, "b").await;
    proxy.heal();
}

async fn a_server_that_lies_is_found_out(
    outside: &dyn Outside,
    proxy: &mut FaultProxy,
    calls: &Calls,
) {
    let (store, at) = (outside.store(), outside.fresh());
    outside.write(&at.path, &[(FIELD, &text("a"))]).await;
    let first = current(outside, &at).await;
    proxy.on(calls.write, Fault::Lie(calls.write_lie.to_owned()), 1);
    let made = promote(outside, &at, 1, "b", Some(&first));
    assert_eq!(kind(made.await), ErrorKind::Unavailable);
    reads(outside, &at, "a").await;
    let made = promote(outside, &at, 1, "b", Some(&first));
    made.await.unwrap();
    reads(outside, &at, "b").await;
    if calls.revoke_is_read_back {
        proxy.on(calls.revoke, Fault::Lie(calls.revoke_lie.to_owned()), 1);
        let revoked = store.revoke(&at, &first, &plenty()).await;
        assert_eq!(kind(revoked), ErrorKind::Unavailable);
        holds(outside, &at, &first, "a").await;
        store.revoke(&at, &first, &plenty()).await.unwrap();
        let gone = store.fetch(&at, &first, &plenty()).await;
        assert_eq!(kind(gone), ErrorKind::NotFound);
    }
    proxy.heal();
}

/// What an effect's late call did at the backend, after its deadline, is found by the next probe.
async fn a_late_call_is_cut_at_the_deadline_and_found_by_the_next_probe(
    outside: &dyn Outside,
    proxy: &FaultProxy,
    calls: &Calls,
) {
    let (store, at) = (outside.store(), outside.fresh());
    outside.write(&at.path, &[(FIELD, &text("a"))]).await;
    let first = current(outside, &at).await;
    let now = Timestamp::from_micros(1);
    let until = Until::new(now.plus(SHORT), Arc::new(FakeClock::at(now)));
    let value = value("b");
    proxy.on(calls.write, Fault::Late, u32::MAX);
    let late = store.promote(&at, token(1), &value, Some(&first), &until);
    let late = tokio::time::timeout(HANG, late).await;
    let late = late.expect("the call ends at the deadline");
    assert_eq!(kind(late), ErrorKind::Unavailable);
    let ended = async {
        while proxy.left() == 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let ended = tokio::time::timeout(HANG, ended).await;
    ended.expect("its connection ends with it");
    proxy.heal();
    let there = current(outside, &at).await;
    assert_ne!(there, first, "it was done there");
    for _ in 0..2 {
        let found = probe(outside, &at, 1, "b", Some(&first)).await.unwrap();
        assert_eq!(found.as_ref(), Some(&there));
    }
    let versions = outside.versions(&at.path).await;
    assert_eq!(versions, 2, "theirs, and one of ours");
    assert_eq!(current(outside, &at).await, there);
    reads(outside, &at, "b").await;
}

/// A clock that is beyond every deadline after so many readings, and notes what was asked by then.
struct Ending {
    left: AtomicUsize,
    asked: Counter,
    at_end: OnceLock<usize>,
}

/// The deadline of [`Ending`].
const DEADLINE: Timestamp = Timestamp::from_micros(60_000_000);

impl Clock for Ending {
    fn now(&self) -> Timestamp {
        let before = |left: usize| left.checked_sub(1);
        let left = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, before);
        if left.is_ok() {
            return Timestamp::from_micros(1);
        }
        self.at_end.get_or_init(|| self.asked.asked(""));
        DEADLINE
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// The deadline passes at each of the readings in turn: nothing is asked of the server after it.
async fn no_call_begins_after_the_deadline(outside: &dyn Outside, proxy: &FaultProxy) {
    let store = outside.store();
    let value = value("b");
    let mut most = 0;
    for readings in 0.. {
        let at = outside.fresh();
        outside.write(&at.path, &[(FIELD, &text("a"))]).await;
        let first = current(outside, &at).await;
        proxy.forget();
        let clock = Arc::new(Ending {
            left: AtomicUsize::new(readings),
            asked: proxy.counter(),
            at_end: OnceLock::new(),
        });
        let until = Until::new(DEADLINE, Arc::clone(&clock) as Arc<dyn Clock>);
        let made = store.promote(&at, token(1), &value, Some(&first), &until);
        let made = made.await;
        let Some(at_end) = clock.at_end.get() else {
            made.expect("time was left");
            break;
        };
        let asked = proxy.asked("");
        assert_eq!(
            asked, *at_end,
            "asked after the deadline, at reading {readings}"
        );
        most = most.max(asked);
        if let Err(error) = made {
            assert_eq!(error.kind, ErrorKind::Unavailable, "{error}");
        }
    }
    assert!(most >= 2, "several calls, each after a reading: {most}");
}

/// A clock that is beyond every deadline once a write was asked for.
struct AfterTheWrite(Counter, &'static str);

impl Clock for AfterTheWrite {
    fn now(&self) -> Timestamp {
        match self.0.asked(self.1) {
            0 => Timestamp::from_micros(1),
            _ => DEADLINE,
        }
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

/// A busy server would be asked again, by us or by a library.
async fn no_repeat_begins_after_the_deadline(
    outside: &dyn Outside,
    proxy: &FaultProxy,
    calls: &Calls,
) {
    let (store, at) = (outside.store(), outside.fresh());
    outside.write(&at.path, &[(FIELD, &text("a"))]).await;
    let first = current(outside, &at).await;
    proxy.forget();
    proxy.on(calls.write, Fault::Status(503, None), u32::MAX);
    let clock = Arc::new(AfterTheWrite(proxy.counter(), calls.write));
    let until = Until::new(DEADLINE, clock);
    let value = value("b");
    let made = store.promote(&at, token(1), &value, Some(&first), &until);
    assert_eq!(kind(made.await), ErrorKind::Unavailable);
    assert_eq!(proxy.asked(calls.write), 1, "no repeat after the deadline");
    proxy.heal();
}
