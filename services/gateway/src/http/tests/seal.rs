//! The seal: offers pass unopened, every one is on record, also what was refused, and values say `sealed`.

use keywheel_engine::port::bus::Body as Said;
use keywheel_engine::unseal::{self, SealState, Shares};

use super::unanswered::PATIENCE;
use super::*;

impl Bench {
    /// What store-sync says from now on.
    pub(super) fn store_says(&self, said: Said) {
        *self.store.seal.lock().unwrap() = Some(said);
    }

    /// Records since then.
    pub(super) async fn left(&self, before: usize) -> Vec<String> {
        self.audit().await.split_off(before)
    }
}

/// The command that a record is about.
pub(super) fn command_of(record: &str) -> String {
    let (_, rest) = record.split_once("command: ").unwrap();
    rest.split(", trace").next().unwrap().to_owned()
}

pub(super) fn sealed() -> Said {
    Said::SealState(SealState {
        sealed: true,
        provider: "shamir".to_owned(),
        key: [9; 32],
        shares: Some(Shares { have: 1, need: 3 }),
        kek_rows_left: None,
    })
}

#[tokio::test]
async fn an_offer_passes_unopened_and_is_on_record_before_it_does() {
    let bench = Bench::start().await;
    bench.store_says(sealed());
    let (status, view) = bench.see("seal").await;
    assert_eq!(status, 200, "{view}");
    assert_eq!(
        (&view["shares"], &view["shares_needed"]),
        (&json!(1), &json!(3))
    );
    let before = bench.audit().await.len();
    let (status, answer) = bench.post("unseal", json!({ "offer": "AAEC" })).await;
    assert_eq!((status, &answer["sealed"]), (200, &json!(true)), "{answer}");
    assert_eq!(*bench.store.offered.lock().unwrap(), [vec![0, 1, 2]]);
    let left = bench.left(before).await;
    assert_eq!(left.len(), 2, "{left:?}");
    let is_its = |record: &String| record.contains("unseal") && record.contains("Allowed");
    assert!(left.iter().all(is_its), "{left:?}");
    assert!(left[1].contains("done: sealed, 1 of 3 shares"), "{left:?}");
    assert_eq!(command_of(&left[0]), command_of(&left[1]), "{left:?}");
    assert!(
        left.iter().all(|record| !record.contains("AAEC")),
        "{left:?}"
    );
}

#[tokio::test]
async fn a_refused_offer_has_two_records_and_no_reason() {
    let bench = Bench::start().await;
    bench.store_says(Said::Failed {
        kind: ErrorKind::Denied,
        text: "it was not taken".to_owned(),
    });
    let before = bench.audit().await.len();
    let answer = bench.post("unseal", json!({ "offer": "AAEC" })).await;
    assert_problem(&answer, 403, "denied", "it was not taken");
    let left = bench.left(before).await;
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(
        left[0].contains("Allowed") && left[1].contains("Rejected"),
        "{left:?}"
    );
    assert!(
        left.iter().all(|record| record.contains("unseal")),
        "{left:?}"
    );
    assert!(
        left.iter().all(|record| !record.contains("not taken")),
        "{left:?}"
    );
}

#[tokio::test]
async fn what_was_asked_of_store_sync_has_its_outcome_also_where_nobody_knows_it() {
    let bench = Bench::start().await;
    let asks = [
        ("unseal", json!({ "offer": "AAEC" })),
        ("seal", json!({})),
        ("rotate-kek", json!({})),
    ];
    let fault = Said::Failed {
        kind: ErrorKind::Unavailable,
        text: "the cache is busy".to_owned(),
    };
    for (is_away, words) in [
        (false, "failed: the cache is busy"),
        (true, "not known whether it was done: store-sync is away"),
    ] {
        bench.store_says(fault.clone());
        *bench.store.is_away.lock().unwrap() = is_away;
        for (verb, body) in asks.clone() {
            let before = bench.audit().await.len();
            assert_eq!(bench.post(verb, body).await.0, 503);
            let left = bench.left(before).await;
            assert_eq!(left.len(), 2, "{left:?}");
            assert!(left[0].contains("Allowed"), "{left:?}");
            assert!(
                left[1].contains("Rejected") && left[1].contains(words),
                "{left:?}"
            );
            assert_eq!(command_of(&left[0]), command_of(&left[1]), "{left:?}");
        }
    }
}

#[tokio::test]
async fn who_asked_may_go_and_what_came_of_it_is_on_record() {
    let bench = Bench::start().await;
    let holds = Arc::new(tokio::sync::Notify::new());
    *bench.store.holds.lock().unwrap() = Some(holds.clone());
    let begun = async {
        while bench.audit().await.is_empty() {
            tokio::task::yield_now().await;
        }
    };
    {
        let mut asking = std::pin::pin!(bench.post("seal", json!({})));
        tokio::select! {
            answered = &mut asking => panic!("{answered:?}"),
            () = begun => {}
        }
    }
    holds.notify_one();
    let told = async {
        while bench.audit().await.len() < 2 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.unwrap();
    let audit = bench.audit().await;
    assert!(audit[1].contains("done: open"), "{audit:?}");
}

#[tokio::test]
async fn what_is_no_offer_does_not_reach_store_sync_and_a_stranger_neither() {
    let bench = Bench::start().await;
    for body in [
        json!({ "offer": "!" }),
        json!({}),
        json!({ "share": "AAEC" }),
    ] {
        let answer = bench.post("unseal", body).await;
        assert_eq!(answer.0, 400, "{answer:?}");
    }
    for verb in ["unseal", "seal"] {
        let path = format!("/v1/{verb}");
        let body = Body::from(json!({ "offer": "AAEC" }).to_string());
        let (status, _) = bench.ask_as(STRANGER, "POST", &path, body).await;
        assert_eq!(status, StatusCode::FORBIDDEN);
    }
    assert!(bench.store.offered.lock().unwrap().is_empty());
    let audit = bench.audit().await;
    let denied = audit.iter().filter(|record| record.contains("Denied"));
    assert_eq!(denied.count(), 2, "{audit:?}");
    let malformed = audit.iter().filter(|record| record.contains("Malformed"));
    assert_eq!(malformed.count(), 3, "{audit:?}");
}

#[tokio::test]
async fn sealing_is_on_record_and_answers_how_it_is_then() {
    let bench = Bench::start().await;
    bench.store_says(sealed());
    let before = bench.audit().await.len();
    let (status, view) = bench
        .post("seal", json!({ "reason": "the disk leaves" }))
        .await;
    assert_eq!((status, &view["sealed"]), (200, &json!(true)), "{view}");
    let left = bench.left(before).await;
    assert!(
        left.len() == 2 && left[0].contains("the disk leaves"),
        "{left:?}"
    );
    assert!(left[1].contains("done: sealed"), "{left:?}");
    *bench.store.is_away.lock().unwrap() = true;
    let answer = bench.post("seal", json!({})).await;
    assert_problem(&answer, 503, "unavailable", "away");
}

#[tokio::test]
async fn a_fresh_key_is_on_record_and_its_answer_says_how_far_it_is() {
    let bench = Bench::start().await;
    bench.store_says(Said::SealState(SealState {
        sealed: false,
        provider: "key-file".to_owned(),
        key: [9; 32],
        shares: None,
        kek_rows_left: Some(12),
    }));
    let before = bench.audit().await.len();
    let (status, view) = bench.post("rotate-kek", json!({})).await;
    assert_eq!(
        (status, &view["kek_rows_left"]),
        (200, &json!(12)),
        "{view}"
    );
    let left = bench.left(before).await;
    assert_eq!(left.len(), 2, "{left:?}");
    let is_its = |record: &String| record.contains("rotate-kek") && record.contains("Allowed");
    assert!(left.iter().all(is_its), "{left:?}");
    assert!(left[1].contains("12 rows"), "{left:?}");
}

#[test]
fn what_needs_a_value_says_sealed_and_what_to_do() {
    let failure = Failure::from(unseal::sealed());
    let answer = failure.into_response();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    let away = keywheel_engine::port::PortError::new(ErrorKind::Unavailable, "store-sync is away");
    assert_ne!(Failure::from(away), Failure::from(unseal::sealed()));
    assert!(
        Failure::from(unseal::sealed())
            .detail()
            .contains("keywheel unseal")
    );
}

#[tokio::test]
async fn a_provided_value_is_refused_with_the_code_sealed() {
    let bench = Bench::start().await;
    bench.apply(PROVIDED).await;
    let error = unseal::sealed();
    *bench.store.values_fault.lock().unwrap() = Some((error.kind, error.text));
    let token = "01010101-0101-0101-0101-010101010101";
    let request = json!({ "name": "prod/key", "token": token, "sealed": "AAAA" });
    assert_problem(
        &bench.post("put", request).await,
        503,
        "sealed",
        "keywheel unseal",
    );
    *bench.store.store_fault.lock().unwrap() = Some(unseal::sealed().text);
    let new = bench.apply(super::stores::STORE).await;
    assert_problem(&new, 503, "sealed", "keywheel unseal");
    assert_problem(
        &bench.see("store-key").await,
        503,
        "sealed",
        "keywheel unseal",
    );
}
