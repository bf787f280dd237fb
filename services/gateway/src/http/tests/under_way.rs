//! What goes on in tasks of its own has so many places, also where nobody waits for it.

use keywheel_core::audit::Principal;
use tokio::sync::Notify;

use super::seal::sealed;
use super::unanswered::leave;
use super::*;
use crate::http::under_way::{Kind, MAX_OF_A_PERSON, Place};

impl Bench {
    fn operator(&self) -> Principal {
        self.api.access.principal(&OPERATOR)
    }

    /// So many places of the operator.
    fn take(&self, kind: Kind, count: usize) -> Vec<Place> {
        let take = |_| self.api.under_way.place(kind, &self.operator()).unwrap();
        (0..count).map(take).collect()
    }
}

fn put_of(token: u8) -> Value {
    let token = PutToken::from_bytes([token; 16]).to_string();
    json!({ "name": "prod/key", "token": token, "sealed": "AAAA" })
}

#[tokio::test]
async fn who_asks_and_leaves_has_so_many_and_is_told_when_to_come_again() {
    let bench = Bench::start().await;
    bench.apply(PROVIDED).await;
    let before = bench.audit().await.len();
    let others = bench.take(Kind::Put, MAX_OF_A_PERSON - 1);
    let holds = Arc::new(Notify::new());
    *bench.store.holds.lock().unwrap() = Some(holds.clone());
    leave(bench.post("put", put_of(3))).await;

    let body = Body::from(put_of(4).to_string());
    let busy = bench.send(("POST", "/v1/put"), &[], body).await;
    assert_eq!(busy.status(), StatusCode::SERVICE_UNAVAILABLE);
    let kind = &busy.headers()["content-type"];
    assert_eq!(kind, "application/problem+json");
    let again = busy.headers()["retry-after"].to_str().unwrap();
    assert_eq!(again, COME_AGAIN_AFTER.to_string());
    let problem: Value = serde_json::from_str(&text_of(busy).await).unwrap();
    let words = format!("{MAX_OF_A_PERSON} of the kind are under way already for `unix:0`");
    assert_problem(&(503, problem), 503, "unavailable", &words);
    assert!(bench.store.kept.lock().unwrap().is_empty(), "nothing began");
    let left = bench.came_since(before, 1).await;
    assert!(
        left.len() == 1 && left[0].contains("answered with status 503"),
        "{left:?}"
    );

    // Whose asker left has its place until it is over.
    *bench.store.holds.lock().unwrap() = None;
    holds.notify_one();
    let left = bench.came_since(before + 1, 1).await;
    assert!(
        left.len() == 1 && left[0].contains("\"put\"") && left[0].contains("Allowed"),
        "{left:?}"
    );
    let answer = bench.post("put", put_of(4)).await;
    assert_problem(&answer, 409, "conflict", "prod/key");
    drop(others);
}

#[tokio::test]
async fn no_revocation_and_no_seal_waits_behind_other_work() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    bench.store_says(sealed());
    let _full = [Kind::Other, Kind::Put, Kind::Login].map(|kind| bench.take(kind, MAX_OF_A_PERSON));
    let before = bench.audit().await.len();
    for (verb, wish) in [
        ("rotate-kek", json!({})),
        ("subscriptions", json!({ "name": "ci" })),
        ("put", put_of(3)),
    ] {
        let answer = bench.post(verb, wish).await;
        assert_problem(&answer, 503, "unavailable", "under way already");
    }
    let left = bench.left(before).await;
    assert_eq!(left.len(), 3, "{left:?}");
    assert!(
        left.iter().all(|record| !record.contains("asked for")),
        "an intent of what was not begun: {left:?}"
    );
    // Also with one place left, each of which is free again when it is over.
    let kinds = [Kind::Revoke, Kind::Seal, Kind::Unseal];
    let _nearly = kinds.map(|kind| bench.take(kind, MAX_OF_A_PERSON - 1));
    for _ in 0..2 {
        let revoke = json!({ "scope": { "prefix": "prod" }, "reason": "leaked" });
        for (verb, wish) in [
            ("seal", json!({})),
            ("unseal", json!({ "offer": "AAEC" })),
            ("revoke-by", revoke),
        ] {
            let (status, answer) = bench.post(verb, wish).await;
            assert_ne!(status, 503, "{verb}: {answer}");
        }
    }
    let left = bench.left(before).await;
    let revoked = left.iter().filter(|one| one.contains("verb: \"revoke\""));
    assert!(revoked.count() >= 1, "{left:?}");
}

#[tokio::test]
async fn a_deed_has_its_place_until_its_outcome_is_on_record() {
    let bench = Bench::start().await;
    bench.store_says(sealed());
    let _others = bench.take(Kind::Other, MAX_OF_A_PERSON - 1);
    let is_free = || {
        let place = bench.api.under_way.place(Kind::Other, &bench.operator());
        place.is_ok()
    };
    let holds = Arc::new(Notify::new());
    *bench.store.holds.lock().unwrap() = Some(holds.clone());
    let failing = async {
        while bench.audit().await.is_empty() {
            tokio::task::yield_now().await;
        }
        assert!(!is_free());
        bench.journal.fail_appends(Some(ErrorKind::Unavailable));
        holds.notify_one();
    };
    let (answered, ()) = tokio::join!(bench.post("rotate-kek", json!({})), failing);
    assert_eq!(answered.0, 503);
    assert!(!is_free(), "its outcome is offered again");
    bench.journal.fail_appends(None);
    bench.came_since(1, 1).await;
    assert!(is_free());
}
