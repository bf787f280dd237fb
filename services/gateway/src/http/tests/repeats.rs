//! One request however often it is sent under one key: the same answer, at every gateway, on record.

use std::collections::BTreeSet;

use super::*;

const KEY: (&str, &str) = ("idempotency-key", "7a0c");

impl Bench {
    /// A request under [`KEY`].
    async fn keyed(&self, verb: &str, body: &Value) -> (u16, Value) {
        let path = format!("/v1/{verb}");
        let body = Body::from(body.to_string());
        let response = self.send(("POST", &path), &[KEY], body).await;
        let status = response.status().as_u16();
        (
            status,
            serde_json::from_str(&text_of(response).await).unwrap(),
        )
    }
}

#[tokio::test]
async fn one_key_is_one_request_however_often_it_is_sent() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    let wish = json!({ "secret": "prod/db" });
    let mut begun = BTreeSet::new();
    for _ in 0..3 {
        let (status, rotation) = bench.keyed("rotate", &wish).await;
        assert_eq!(status, 200, "{rotation}");
        begun.insert(rotation["rotation_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(begun.len(), 1, "{begun:?}");
    assert_eq!(bench.see("rotations").await.1.as_array().unwrap().len(), 2);
    let answer = bench.post("rotate", wish.clone()).await;
    assert_problem(&answer, 409, "conflict", "prod/db");
    let key = [("idempotency-key", "")];
    let body = Body::from(wish.to_string());
    let bad = bench.send(("POST", "/v1/rotate"), &key, body).await;
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_repeat_at_another_gateway_shows_what_the_first_one_made() {
    let [one, other] = Bench::pair().await;
    one.apply(MANIFEST).await;
    one.work().await;
    for (verb, body, id) in [
        ("rotate", json!({ "secret": "prod/db" }), "rotation_id"),
        (
            "revoke",
            json!({ "secret": "prod/db", "reason": "leaked" }),
            "revocation_id",
        ),
    ] {
        let first = one.keyed(verb, &body).await;
        assert_eq!(first.0, 200, "{first:?}");
        let head = one.journal.head().await.unwrap().number;
        assert!(other.api.view.read().number < head, "it has not heard");
        let again = other.keyed(verb, &body).await;
        assert_eq!(again.0, 200, "{again:?}");
        assert_eq!(again.1[id], first.1[id]);
    }
}

#[tokio::test]
async fn a_repeated_apply_says_what_the_first_one_did() {
    let [one, other] = Bench::pair().await;
    let wish = json!({ "manifests": MANIFEST, "source": "t" });
    let (_, first) = one.keyed("apply", &wish).await;
    assert_eq!(first["results"][0]["action"], "created", "{first}");
    // Others change it meanwhile; one of them says what it says already.
    let longer = MANIFEST.replace("20", "24");
    for action in ["changed", "unchanged"] {
        let (_, answer) = other.apply(&longer).await;
        assert_eq!(answer["results"][0]["action"], action);
    }
    let before = one.journal.head().await.unwrap();
    for bench in [&one, &other, &one] {
        assert_eq!(bench.keyed("apply", &wish).await, (200, first.clone()));
    }
    let after = one.journal.head().await.unwrap();
    assert_eq!(after.number, before.number);
    // What did nothing at first did nothing, although it would do something now.
    let quiet = json!({ "manifests": longer, "source": "t" });
    let (_, first) = one.keyed("apply", &quiet).await;
    assert_eq!(first["results"][0]["action"], "unchanged", "{first}");
    one.apply(MANIFEST).await;
    assert_eq!(other.keyed("apply", &quiet).await, (200, first));
}

#[tokio::test]
async fn a_repeat_is_on_record_as_one() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    for (verb, body, outcome) in [
        ("rotate", json!({ "secret": "prod/db" }), "Allowed"),
        // Refused the first time, and so again.
        (
            "revoke",
            json!({ "secret": "no/such", "reason": "r" }),
            "Rejected",
        ),
        (
            "apply",
            json!({ "manifests": MANIFEST, "source": "t" }),
            "Allowed",
        ),
    ] {
        let first = bench.keyed(verb, &body).await;
        let before = bench.audit().await.len();
        assert_eq!(bench.keyed(verb, &body).await, first);
        let left = bench.audit().await.split_off(before);
        assert_eq!(left.len(), 1, "{left:?}");
        for part in [verb, outcome, "a repeat", "secret/"] {
            assert!(left[0].contains(part), "{part}: {}", left[0]);
        }
    }
}

#[tokio::test]
async fn a_repeat_that_cannot_be_recorded_is_not_answered() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    let wish = json!({ "secret": "prod/db" });
    let first = bench.keyed("rotate", &wish).await;
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    assert_eq!(bench.keyed("rotate", &wish).await.0, 503);
    assert_eq!(bench.keyed("rotate", &wish).await, first);
}

#[tokio::test]
async fn a_repeated_put_is_answered_although_store_sync_is_away_and_keeps_its_value_once() {
    let bench = Bench::start().await;
    bench.apply(PROVIDED).await;
    let token = PutToken::from_bytes([3; 16]).to_string();
    let wish = json!({ "name": "prod/key", "token": token, "sealed": "AAAA" });
    let (status, first) = bench.keyed("put", &wish).await;
    assert_eq!(status, 200, "{first}");
    *bench.store.is_away.lock().unwrap() = true;
    let (status, again) = bench.keyed("put", &wish).await;
    assert_eq!(
        (status, &again["rotation_id"]),
        (200, &first["rotation_id"])
    );
    assert_eq!(bench.store.kept.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_repeated_revocation_says_nothing_of_a_token_that_has_the_name_by_now() {
    let bench = Bench::start().await;
    let why = json!({ "reason": "leaked" });
    let issue = || bench.post("tokens", super::tokens::wish("ci"));
    assert_eq!(issue().await.0, 200);
    let (status, first) = bench.keyed("tokens/ci/revoke", &why).await;
    assert_eq!(
        (status, &first["revoked"]),
        (200, &json!(["ci"])),
        "{first}"
    );
    assert_eq!(issue().await.0, 200);
    let (status, again) = bench.keyed("tokens/ci/revoke", &why).await;
    assert_eq!((status, &again["revoked"]), (200, &json!([])), "{again}");
    assert_eq!(bench.api.view.read().world.tokens.iter().count(), 1);
}
