//! Changes whose askers leave: what was begun comes to its end, and each is on record, once.

use futures_util::FutureExt as _;
use tokio::sync::Notify;

use super::seal::command_of;
use super::*;
use crate::http::revocations::AT_ONCE;

/// Turns that everybody else gets before a request is taken to be where it waits: more than all tasks on its way need
/// together. A time would be over now and then before the machine came to any of them.
const TURNS: usize = 2_000;
/// Longer than anything here takes.
pub(super) const PATIENCE: Duration = Duration::from_secs(120);
/// How the record of one begins that nothing else speaks of.
const UNANSWERED: &str = "no answer was given";

/// A body that never comes whole.
pub(super) fn endless() -> Body {
    Body::from_stream(futures_util::stream::pending::<
        Result<Vec<u8>, std::io::Error>,
    >())
}

/// Asks, and leaves when no answer comes; needs a runtime of one thread.
pub(super) async fn leave<T: std::fmt::Debug>(asking: impl Future<Output = T>) {
    let enough = async {
        for _ in 0..TURNS {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        answered = asking => panic!("it waits: {answered:?}"),
        () = enough => {}
    }
}

impl Bench {
    /// What is on record since, once it is so much and nothing is under way any more.
    pub(super) async fn came_since(&self, before: usize, count: usize) -> Vec<String> {
        let told = async {
            while self.audit().await.len() < before + count {
                tokio::task::yield_now().await;
            }
        };
        let in_time = tokio::time::timeout(PATIENCE, told).await;
        assert!(in_time.is_ok(), "{:?}", self.audit().await);
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        self.audit().await.split_off(before)
    }

    /// store-sync answers once it is told to.
    fn hold_store(&self) -> Arc<Notify> {
        let holds = Arc::new(Notify::new());
        *self.store.holds.lock().unwrap() = Some(holds.clone());
        holds
    }
}

#[tokio::test]
async fn a_change_whose_asker_leaves_before_anything_was_done_is_on_record_once() {
    let bench = Bench::start().await;
    leave(bench.ask_as(OPERATOR, "POST", "/v1/rotate", endless())).await;
    let left = bench.came_since(0, 1).await;
    assert_eq!(left.len(), 1, "{left:?}");
    for part in ["\"rotate\"", "Rejected", UNANSWERED, "uid: 0"] {
        assert!(left[0].contains(part), "{part}: {left:?}");
    }
    // Health is counted when it comes, and this, too.
    leave(bench.ask_as(OPERATOR, "GET", "/v1/status", endless())).await;
    assert_eq!(bench.came_since(1, 0).await, [""; 0]);
    assert_eq!(bench.api.health_looks.load(Ordering::Relaxed), 1);
}

#[tokio::test]
async fn a_command_is_decided_though_its_asker_left_and_its_record_is_the_only_one() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    let before = bench.audit().await.len();
    let body = Body::from(json!({ "secret": "prod/db" }).to_string());
    let asking = bench.ask_as(OPERATOR, "POST", "/v1/rotate", body);
    // It gets as far as the command.
    assert!(asking.now_or_never().is_none());
    let left = bench.came_since(before, 1).await;
    assert!(
        left.len() == 1 && left[0].contains("\"rotate\"") && left[0].contains("Allowed"),
        "{left:?}"
    );
}

#[tokio::test]
async fn all_that_a_revocation_of_many_means_is_begun_though_its_asker_left() {
    let bench = Bench::start().await;
    // More than are begun side by side.
    let count = AT_ONCE + 6;
    let each: Vec<String> = (0..count)
        .map(|n| MANIFEST.replace("prod/db", &format!("many/db-{n}")))
        .collect();
    assert_eq!(bench.apply(&each.join("\n---\n")).await.0, 200);
    bench.work().await;
    let before = bench.audit().await.len();
    let revoked = async || {
        let all = bench.left(before).await;
        let is_its = |record: &&String| record.contains("verb: \"revoke\"");
        all.iter().filter(is_its).count()
    };
    let until = async |least: usize| {
        while revoked().await < least {
            tokio::task::yield_now().await;
        }
    };
    {
        let wish = json!({ "scope": { "prefix": "many" }, "reason": "leaked" });
        let mut asking = std::pin::pin!(bench.post("revoke-by", wish));
        tokio::select! {
            biased;
            () = until(1) => {}
            answered = &mut asking => panic!("{answered:?}"),
        }
    }
    let in_time = tokio::time::timeout(PATIENCE, until(count)).await;
    assert!(in_time.is_ok(), "{} were revoked", revoked().await);
}

#[tokio::test]
async fn a_put_whose_asker_leaves_comes_to_its_end_and_on_record() {
    for (is_away, words) in [(false, "Allowed"), (true, "answered with status 503")] {
        let bench = Bench::start().await;
        bench.apply(PROVIDED).await;
        let holds = bench.hold_store();
        let before = bench.audit().await.len();
        let token = PutToken::from_bytes([3; 16]);
        let request = json!({ "name": "prod/key", "token": token.to_string(), "sealed": "AAAA" });
        leave(bench.post("put", request)).await;
        assert_eq!(bench.came_since(before, 0).await, [""; 0]);
        *bench.store.is_away.lock().unwrap() = is_away;
        holds.notify_one();
        let left = bench.came_since(before, 1).await;
        assert!(
            left.len() == 1 && left[0].contains("\"put\"") && left[0].contains(words),
            "{left:?}"
        );
        let id = stash::rotation(token);
        let is_kept = bench.store.kept.lock().unwrap().contains(&id);
        assert_eq!(is_kept, !is_away);
        let begun = bench.api.view.read().world.rotations.contains_key(&id);
        assert_eq!(begun, !is_away);
    }
}

#[tokio::test]
async fn the_record_of_a_part_does_not_speak_for_the_whole() {
    let bench = Bench::start().await;
    let holds = bench.hold_store();
    let tried = async {
        while bench.audit().await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    {
        let mut asking = std::pin::pin!(bench.apply(super::stores::STORE));
        tokio::select! {
            answered = &mut asking => panic!("{answered:?}"),
            () = tried => {}
        }
    }
    let left = bench.came_since(0, 2).await;
    let is_of = |record: &&String, parts: [&str; 2]| parts.iter().all(|part| record.contains(part));
    let tried = left
        .iter()
        .filter(|one| is_of(one, ["\"try-store\"", "asked for"]));
    assert_eq!(tried.count(), 1, "{left:?}");
    let whole = left
        .iter()
        .filter(|one| is_of(one, ["\"apply\"", UNANSWERED]));
    assert_eq!(whole.count(), 1, "{left:?}");
    holds.notify_one();
    let left = bench.came_since(0, 3).await;
    assert!(left[2].contains("\"try-store\""), "{left:?}");
    assert_eq!(left.len(), 3, "{left:?}");
}

#[tokio::test]
async fn an_outcome_that_the_log_does_not_take_now_is_on_record_later_once() {
    let bench = Bench::start().await;
    let holds = bench.hold_store();
    let failing = async {
        while bench.audit().await.is_empty() {
            tokio::task::yield_now().await;
        }
        bench.journal.fail_appends(Some(ErrorKind::Unavailable));
        holds.notify_one();
    };
    let (answered, ()) = tokio::join!(bench.post("rotate-kek", json!({})), failing);
    assert_eq!(answered.0, 503);
    assert_eq!(bench.audit().await.len(), 1, "the intent alone");
    bench.journal.fail_appends(None);
    let left = bench.came_since(1, 1).await;
    assert!(
        left.len() == 1 && left[0].contains("done: ") && left[0].contains("Allowed"),
        "{left:?}"
    );
    let intent = bench.audit().await.remove(0);
    assert_eq!(command_of(&intent), command_of(&left[0]));
    // Nobody offers it a second time.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(bench.audit().await.len(), 2, "{left:?}");
}
