//! Every verb against a journal in memory: statuses, problems, and what is on record.

use axum::body::Body;
use axum::http::StatusCode;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use keywheel_core::id::{PutToken, RotationId};
use keywheel_engine::port::ErrorKind;
use keywheel_engine::stash;
use serde_json::{Value, json};

mod approvals;
mod backups;
mod contract;
mod entitlement;
mod forgotten;
mod history;
mod interventions;
mod lasting;
mod logins;
mod looks;
mod outward;
mod playbooks;
mod policies;
mod radius;
mod refused;
mod repeats;
mod replaced;
mod reports;
mod retention;
mod seal;
mod sealed;
mod sinks;
mod stores;
mod streams;
mod tokens;
mod unanswered;
mod under_way;
mod walked;
mod wishes;

use super::*;
use crate::denials::{RECORDED_PER_UID, WINDOW};
use crate::testing::{Bench, OPERATOR, STRANGER};

const MANIFEST: &str = "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: prod/db }\nspec: { store: local, generator: { length: 20 } }\n";
/// No generator: values are always provided.
const PROVIDED: &str = "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: prod/key }\nspec: { store: local }\n";

impl Bench {
    /// An operator's request with headers.
    async fn send(
        &self,
        (method, path): (&str, &str),
        headers: &[(&str, &str)],
        body: Body,
    ) -> Response {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .extension(ConnectInfo(OPERATOR));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let router = TowerToHyperService::new(router(self.api.clone()));
        router.call(request.body(body).unwrap()).await.unwrap()
    }

    async fn ask_as(
        &self,
        peer: Peer,
        method: &str,
        path: &str,
        body: Body,
    ) -> (StatusCode, String) {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .extension(ConnectInfo(peer))
            .body(body)
            .unwrap();
        let router = TowerToHyperService::new(router(self.api.clone()));
        let response = router.call(request).await.unwrap();
        let status = response.status();
        if status.is_client_error() || status.is_server_error() {
            let kind = &response.headers()["content-type"];
            assert_eq!(kind, "application/problem+json");
        }
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20)
            .await
            .unwrap();
        (status, String::from_utf8(bytes.to_vec()).unwrap())
    }

    async fn post(&self, verb: &str, body: Value) -> (u16, Value) {
        let path = format!("/v1/{verb}");
        let body = Body::from(body.to_string());
        let (status, text) = self.ask_as(OPERATOR, "POST", &path, body).await;
        (status.as_u16(), serde_json::from_str(&text).unwrap())
    }

    async fn see(&self, path: &str) -> (u16, Value) {
        let path = format!("/v1/{path}");
        let (status, text) = self.ask_as(OPERATOR, "GET", &path, Body::empty()).await;
        (status.as_u16(), serde_json::from_str(&text).unwrap())
    }

    async fn apply(&self, manifest: &str) -> (u16, Value) {
        let request = json!({ "manifests": manifest, "source": "test.yaml" });
        self.post("apply", request).await
    }
}

/// An answer's body as text.
async fn text_of(response: Response) -> String {
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    String::from_utf8(bytes.unwrap().to_vec()).unwrap()
}

/// A problem whose status, code and detail say the same.
fn assert_problem(answer: &(u16, Value), status: u16, code: &str, part: &str) {
    let (given, problem) = answer;
    assert_eq!(*given, status, "{problem}");
    assert_eq!(problem["status"], status);
    assert_eq!(problem["code"], code);
    assert_eq!(problem["type"], format!("about:blank#{code}"));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains(part), "{detail}");
}

#[tokio::test]
async fn apply_makes_a_secret_once_and_a_dry_run_makes_nothing() {
    let bench = Bench::start().await;
    let dry = json!({ "manifests": MANIFEST, "source": "t", "dry_run": true });
    let (status, answer) = bench.post("apply", dry).await;
    assert_eq!(
        (status, &answer["results"][0]["action"]),
        (200, &json!("created"))
    );
    assert_eq!(bench.see("secrets").await, (200, json!([])));
    for action in ["created", "unchanged"] {
        let (status, answer) = bench.apply(MANIFEST).await;
        assert_eq!(
            (status, &answer["results"][0]["action"]),
            (200, &json!(action))
        );
    }
    let (_, secrets) = bench.see("secrets").await;
    assert_eq!(secrets[0]["name"], "prod/db");
}

/// A secret that can be made, and a binding of one that is not there.
fn half_good() -> String {
    let binding = "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: stray }\nspec:\n  secret: prod/none\n  containers: { host: web-1, image: i }\n  file: { name: f }\n";
    format!("{MANIFEST}---\n{binding}")
}

#[tokio::test]
async fn apply_makes_all_documents_or_none_and_a_dry_run_says_the_same() {
    let bench = Bench::start().await;
    let before = bench.journal.head().await.unwrap().number;
    for dry_run in [true, false] {
        let request = json!({ "manifests": half_good(), "source": "t", "dry_run": dry_run });
        let answer = bench.post("apply", request).await;
        assert_problem(&answer, 404, "not_found", "document 2, Binding `stray`");
        assert_problem(&answer, 404, "not_found", "prod/none");
        assert_problem(&answer, 404, "not_found", "nothing was applied");
    }
    assert_eq!(bench.see("secrets").await, (200, json!([])));
    assert_eq!(bench.journal.head().await.unwrap().number, before);
    let whole = half_good().replace("prod/none", "prod/db");
    for (dry_run, action) in [(true, "created"), (false, "created"), (true, "unchanged")] {
        let request = json!({ "manifests": whole, "source": "t", "dry_run": dry_run });
        let (status, answer) = bench.post("apply", request).await;
        assert_eq!(status, 200, "{answer}");
        for result in answer["results"].as_array().unwrap() {
            assert_eq!(result["action"], action, "{answer}");
        }
        let note = answer["results"][1]["note"].as_str().unwrap();
        assert!(note.contains("repository name is weaker"), "{note}");
    }
}

#[tokio::test]
async fn an_apply_leaves_a_record_per_document_and_a_dry_run_one() {
    let bench = Bench::start().await;
    let whole = half_good().replace("prod/none", "prod/db");
    for (manifests, dry_run, left) in [
        (half_good(), true, vec!["Rejected"]),
        (half_good(), false, vec!["Rejected", "Rejected"]),
        (whole.clone(), true, vec!["Allowed"]),
        (whole, false, vec!["Allowed", "Allowed"]),
    ] {
        let before = bench.audit().await.len();
        let request = json!({ "manifests": manifests, "source": "t", "dry_run": dry_run });
        bench.post("apply", request).await;
        let records = bench.audit().await.split_off(before);
        assert_eq!(records.len(), left.len(), "{records:?}");
        for (record, outcome) in records.iter().zip(left) {
            assert!(record.contains(outcome), "{record}");
            assert!(
                record.contains("prod/db") || record.contains("stray"),
                "{record}"
            );
            assert_eq!(record.contains("apply-dry-run"), dry_run, "{record}");
        }
    }
}

#[tokio::test]
async fn apply_names_the_fault_and_it_is_on_record() {
    let bench = Bench::start().await;
    let answer = bench.apply("kind: Nonsense\n").await;
    assert_problem(&answer, 400, "invalid", "test.yaml");
    assert_problem(
        &bench.post("apply", json!({})).await,
        400,
        "invalid",
        "body",
    );
    let audit = bench.audit().await;
    assert_eq!(audit.len(), 2);
    assert!(audit.iter().all(|record| record.contains("Malformed")));
}

#[tokio::test]
async fn put_keeps_the_value_before_the_command_and_starts_a_rotation() {
    let bench = Bench::start().await;
    bench.apply(PROVIDED).await;
    let token = PutToken::from_bytes([3; 16]);
    let id = stash::rotation(token);
    let request = json!({ "name": "prod/key", "token": token.to_string(), "sealed": "AAAA" });
    let (status, rotation) = bench.post("put", request.clone()).await;
    assert_eq!(
        (status, &rotation["rotation_id"]),
        (200, &json!(id.to_string()))
    );
    assert_eq!(*bench.store.kept.lock().unwrap(), [id]);
    assert_eq!(bench.see(&format!("rotations/{id}")).await.0, 200);
    // Repeated, it is refused, and the rotation under way keeps its value.
    assert_eq!(bench.post("put", request).await.0, 409);
    assert!(bench.store.dropped.lock().unwrap().is_empty());
}

#[tokio::test]
async fn nobody_chooses_the_id_of_a_put_s_rotation() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    // The id a slot's rotation will have.
    let wanted = RotationId::from_bytes([5; 16]);
    for sealed in [None, Some("AAAA")] {
        // Without a value no token is used; with one the id is derived from it.
        let mut request = json!({ "name": "prod/db" });
        if let Some(sealed) = sealed {
            request["token"] = wanted.to_string().into();
            request["sealed"] = sealed.into();
        }
        let (status, rotation) = bench.post("put", request).await;
        assert_eq!(status, 200, "{rotation}");
        assert_ne!(rotation["rotation_id"], wanted.to_string());
        bench.work().await;
    }
    assert!(!bench.store.kept.lock().unwrap().contains(&wanted));
}

#[tokio::test]
async fn the_value_of_a_refused_put_is_dropped_at_once() {
    let bench = Bench::start().await;
    bench.apply(PROVIDED).await;
    let tokens = [3, 4].map(|n| PutToken::from_bytes([n; 16]));
    let ids = tokens.map(stash::rotation);
    let put = |token: PutToken| {
        bench.post(
            "put",
            json!({ "name": "prod/key", "token": token.to_string(), "sealed": "AAAA" }),
        )
    };
    assert_eq!(put(tokens[0]).await.0, 200);
    assert_problem(&put(tokens[1]).await, 409, "conflict", "prod/key");
    assert_eq!(*bench.store.kept.lock().unwrap(), ids);
    assert_eq!(*bench.store.dropped.lock().unwrap(), [ids[1]]);
}

#[tokio::test]
async fn put_without_its_parts_or_without_store_sync_changes_nothing() {
    let bench = Bench::start().await;
    let token = PutToken::from_bytes([3; 16]).to_string();
    let cases = [
        json!({ "name": "Not A Name", "token": token }),
        json!({ "name": "prod/key", "token": "x" }),
        json!({ "name": "prod/key", "sealed": "AAAA" }),
        json!({ "name": "prod/key", "token": token, "sealed": "!" }),
    ];
    for case in cases {
        assert_problem(&bench.post("put", case).await, 400, "invalid", "");
    }
    *bench.store.is_away.lock().unwrap() = true;
    let request = json!({ "name": "prod/key", "token": token, "sealed": "AAAA" });
    let away = bench.post("put", request).await;
    assert_problem(&away, 503, "unavailable", "store-sync");
    assert_problem(&bench.see("store-key").await, 503, "unavailable", "");
    assert_eq!(bench.see("rotations").await, (200, json!([])));
}

#[tokio::test]
async fn rotate_and_revoke_answer_with_what_they_began_or_why_not() {
    let bench = Bench::start().await;
    let rotate = || bench.post("rotate", json!({ "secret": "prod/db" }));
    assert_problem(&rotate().await, 404, "not_found", "prod/db");
    bench.apply(MANIFEST).await;
    // The first version is still being made.
    assert_problem(&rotate().await, 409, "conflict", "prod/db");
    bench.work().await;
    let (status, rotation) = rotate().await;
    assert_eq!(
        (status, &rotation["secret"]),
        (200, &json!("prod/db")),
        "{rotation}"
    );
    let revoke =
        |reason: &str| bench.post("revoke", json!({ "secret": "prod/db", "reason": reason }));
    assert_problem(&revoke("").await, 400, "invalid", "reason");
    let (status, revocation) = revoke("leaked").await;
    assert_eq!(
        (status, &revocation["state"]),
        (200, &json!("running")),
        "{revocation}"
    );
    let id = revocation["revocation_id"].as_str().unwrap();
    assert_eq!(
        bench.see(&format!("revocations/{id}")).await.1["reason"],
        "leaked"
    );
    let unknown = bench.post("revoke", json!({ "secret": "no/such", "reason": "r" }));
    assert_problem(&unknown.await, 404, "not_found", "no/such");
}

#[tokio::test]
async fn a_full_disk_is_not_answered_with_success() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    let revoke = json!({ "secret": "prod/db", "reason": "leaked" });
    let answer = bench.post("revoke", revoke).await;
    assert_eq!((answer.0, &answer.1["code"]), (503, &json!("unavailable")));
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    assert_eq!(
        bench.see("secrets").await.0,
        503,
        "a look is on record or not given"
    );
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let bench = Bench::start().await;
    let body = Body::from(vec![b' '; MAX_BODY_BYTES + 1]);
    let (status, text) = bench.ask_as(OPERATOR, "POST", "/v1/apply", body).await;
    assert_eq!(status.as_u16(), 400);
    assert!(text.contains(&MAX_BODY_BYTES.to_string()), "{text}");
}

#[tokio::test]
async fn a_stranger_is_denied_on_record_and_a_flood_is_counted() {
    let bench = Bench::start().await;
    let mut statuses = Vec::new();
    for _ in 0..RECORDED_PER_UID + 30 {
        let (status, text) = bench
            .ask_as(STRANGER, "POST", "/v1/revoke", Body::empty())
            .await;
        assert!(text.contains("\"denied\""), "{text}");
        statuses.push(status.as_u16());
    }
    let first = RECORDED_PER_UID as usize;
    assert!(statuses[..first].iter().all(|status| *status == 403));
    assert!(statuses[first..].iter().all(|status| *status == 429));
    assert_eq!(bench.audit().await.len(), first);
    let counted = bench.api.denials.turn().remove(0);
    assert_eq!(
        (counted.count, counted.first.what.as_str()),
        (30, "revoke revoke")
    );
    assert!(WINDOW >= Duration::from_secs(1));
    let (status, _) = bench.see("secrets").await;
    assert_eq!(status, 200, "an operator is served meanwhile");
}

#[tokio::test]
async fn a_denial_that_cannot_be_recorded_is_not_answered_as_one_and_is_counted() {
    let bench = Bench::start().await;
    bench.journal.fail_next_append(ErrorKind::Unavailable);
    let (status, _) = bench
        .ask_as(STRANGER, "GET", "/v1/secrets", Body::empty())
        .await;
    assert_eq!(status.as_u16(), 503);
    assert_eq!(bench.api.denials.turn().remove(0).count, 1);
}

#[tokio::test]
async fn no_body_keeps_the_next_one_from_being_served() {
    let bench = Bench::start().await;
    let put =
        br#"{"name":"prod/db","token":"01010101-0101-0101-0101-010101010101","sealed":"eA=="}"#;
    let mut bodies = Vec::new();
    let mut turn = 0;
    // One in eight: each is a request with its record.
    keywheel_testkit::hostile(put, |bytes| {
        turn += 1;
        if turn % 8 == 0 {
            bodies.push(bytes.to_vec());
        }
    });
    for (body, verb) in bodies
        .into_iter()
        .zip(["put", "rotate", "revoke", "apply"].iter().cycle())
    {
        let path = format!("/v1/{verb}");
        let (status, _) = bench
            .ask_as(OPERATOR, "POST", &path, Body::from(body))
            .await;
        assert!(!status.is_success() || *verb == "put", "{verb}: {status}");
        assert!(!status.is_server_error(), "{verb}: {status}");
    }
    assert_eq!(bench.apply(MANIFEST).await.0, 200);
}
