//! Hosts over the API: what is shown, what a token's answer holds, what an eviction names.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Request, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use keywheel_core::audit::{Principal, Role};
use keywheel_core::host::{JoinRequest, LEASE};
use keywheel_core::id::CommandId;
use keywheel_core::report::HostReport;
use keywheel_engine::command_bus::Submission;
use keywheel_engine::port::journal::{Journal as _, Verdict};
use serde_json::{Value, json};

use super::*;
use crate::http::router;
use crate::testing::{Bench, FakeTokens, OPERATOR, SECRET_HALF};

const HOST: HostId = HostId::from_bytes([5; 16]);
const MANIFESTS: &str = "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: prod/db }\nspec: { store: local, generator: { length: 20 } }\n---\napiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: web }\nspec:\n  secret: prod/db\n  containers: { labels: { app: web }, insecureSelector: true }\n  file: { name: db }\n  reload: none\n";

async fn ask(bench: &Bench, line: &str, body: Value) -> (StatusCode, Value) {
    ask_under(bench, None, line, body).await
}

/// The same under an `Idempotency-Key`.
async fn ask_under(
    bench: &Bench,
    key: Option<&str>,
    line: &str,
    body: Value,
) -> (StatusCode, Value) {
    let (method, path) = line.split_once(' ').unwrap();
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", "application/json")
        .extension(ConnectInfo(OPERATOR));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let request = request.body(Body::from(body.to_string())).unwrap();
    let router = TowerToHyperService::new(router(bench.api.clone()));
    let response = router.call(request).await.unwrap();
    let status = response.status();
    let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    (status, serde_json::from_slice(&bytes.unwrap()).unwrap())
}

async fn submit(bench: &Bench, command: Command) -> Verdict {
    let submission = Submission {
        id: CommandId::from_bytes(bench.api.ids.draw()),
        principal: Principal::Service(Role::Injector),
        traceparent: None,
        command,
    };
    bench.api.commands.submit(submission).await.unwrap()
}

/// The gateway's own machine, granted version 1 of `prod/db`.
async fn serving() -> Bench {
    let bench = Bench::start().await;
    let enrol = Command::EnrolHost {
        host: HOST,
        name: HostName::parse("web-1").unwrap(),
        sealing_key: [1; 32],
    };
    submit(&bench, enrol).await;
    let manifests = json!({ "manifests": MANIFESTS, "source": "test" });
    let (status, answer) = ask(&bench, "POST /v1/apply", manifests).await;
    assert_eq!(status, StatusCode::OK, "{answer}");
    bench.work().await;
    bench
}

#[tokio::test]
async fn hosts_are_listed_with_what_is_known_of_them() {
    let bench = serving().await;
    let (_, listed) = ask(&bench, "GET /v1/hosts", Value::Null).await;
    assert_eq!(
        (&listed[0]["name"], &listed[0]["state"]),
        (&json!("web-1"), &json!("enrolled"))
    );
    assert_eq!(listed[0].get("last_seen"), None, "nobody has heard of it");
    let generation = listed[0]["generation"].as_u64().unwrap();
    let told = HostReport {
        generation: generation - 1,
        complete: true,
        ..HostReport::empty(HOST)
    };
    submit(&bench, Command::Report(told)).await;
    let (_, listed) = ask(&bench, "GET /v1/hosts", Value::Null).await;
    assert_eq!(listed[0]["lag"], 1);
    assert!(listed[0]["last_seen"].as_str().unwrap().ends_with('Z'));
    let now = bench.api.clock.now();
    let late = |span| {
        views::hosts(&bench.api.view, now.plus(span))[0]
            .note
            .clone()
    };
    assert_eq!(late(LEASE), None);
    let silent = late(LEASE + std::time::Duration::from_secs(1)).unwrap();
    assert!(silent.contains("lease of 24 h"), "{silent}");
}

#[tokio::test]
async fn a_host_is_described_by_name_or_id_with_what_it_may_hold() {
    let bench = serving().await;
    for name in ["web-1".to_owned(), HOST.to_string()] {
        let (status, page) = ask(&bench, &format!("GET /v1/hosts/{name}"), Value::Null).await;
        assert_eq!((status, &page["name"]), (StatusCode::OK, &json!("web-1")));
        let held = json!([{ "secret": "prod/db", "versions": [1], "current": true }]);
        assert_eq!(page["held"], held);
    }
    let (status, problem) = ask(&bench, "GET /v1/hosts/web-9", Value::Null).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("keywheel host list"), "{detail}");
}

#[tokio::test]
async fn one_process_lets_nobody_join_and_says_what_would() {
    let bench = Bench::start().await;
    let (status, problem) = ask(&bench, "POST /v1/hosts/web-2/join-token", json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("no TCP port") && detail.contains("deploy/README.md"));
    let audit = bench.audit().await;
    assert!(audit[0].contains("\"join-token\""), "{audit:?}");
}

#[tokio::test]
async fn a_join_token_is_in_its_answer_and_nowhere_else() {
    let mut bench = Bench::start().await;
    bench.api.join_tokens = Some(Arc::new(FakeTokens));
    let (status, first) = ask(&bench, "POST /v1/hosts/web-2/join-token", json!({})).await;
    assert_eq!(
        (status, &first["token"]),
        (StatusCode::OK, &json!(SECRET_HALF))
    );
    let (_, second) = ask(&bench, "POST /v1/hosts/web-2/join-token", json!({})).await;
    assert_eq!(first["host"], second["host"], "one name, one host");
    let events = bench.journal.read(0, 10).await.unwrap();
    assert_eq!(events.len(), 2);
    let mut kept = bench.audit().await;
    kept.extend(events.iter().map(|e| format!("{:?}", e.event)));
    kept.extend(
        events
            .iter()
            .map(|e| String::from_utf8_lossy(&e.bytes).into_owned()),
    );
    assert!(kept.iter().all(|text| !text.contains("the-secret-half")));
    let (token, open) = {
        let committed = bench.api.view.read();
        let (token, open) = committed.world.join_tokens.first_key_value().unwrap();
        (*token, open.clone())
    };
    let joining = Command::JoinHost(JoinRequest {
        host: open.host,
        name: open.name,
        token,
        secret_hash: open.secret_hash,
        signing_key: [1; 32],
        sealing_key: [2; 32],
    });
    let verdict = submit(&bench, joining).await;
    assert!(matches!(verdict, Verdict::Accepted { .. }), "{verdict:?}");
    let (_, page) = ask(&bench, "GET /v1/hosts/web-2", Value::Null).await;
    assert_eq!(
        (&page["state"], &page["id"]),
        (&json!("joined"), &first["host"])
    );
}

#[tokio::test]
async fn a_repeat_for_a_join_token_is_told_that_it_was_given_and_makes_none() {
    let mut bench = Bench::start().await;
    bench.api.join_tokens = Some(Arc::new(FakeTokens));
    let path = "POST /v1/hosts/web-2/join-token";
    let (status, first) = ask_under(&bench, Some("k1"), path, json!({})).await;
    assert_eq!(
        (status, &first["token"]),
        (StatusCode::OK, &json!(SECRET_HALF))
    );
    let before = bench.audit().await.len();
    let (status, again) = ask_under(&bench, Some("k1"), path, json!({})).await;
    assert_eq!(status, StatusCode::CONFLICT);
    let text = again.to_string();
    assert!(!text.contains(SECRET_HALF), "{text}");
    assert!(text.contains("another key"), "{text}");
    assert_eq!(bench.journal.head().await.unwrap().number, 1, "one token");
    let left = bench.audit().await.split_off(before);
    assert!(left.len() == 1 && left[0].contains("a repeat"), "{left:?}");
    let (status, _) = ask_under(&bench, Some("k2"), path, json!({})).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_repeated_eviction_tells_of_the_host_that_it_evicted() {
    let bench = serving().await;
    let path = "POST /v1/hosts/web-1/evict";
    let reason = json!({ "reason": "stolen" });
    let (_, first) = ask_under(&bench, Some("k"), path, reason.clone()).await;
    let enrol = Command::EnrolHost {
        host: HostId::from_bytes([6; 16]),
        name: HostName::parse("web-1").unwrap(),
        sealing_key: [2; 32],
    };
    submit(&bench, enrol).await;
    let (status, again) = ask_under(&bench, Some("k"), path, reason).await;
    assert_eq!((status, again), (StatusCode::OK, first));
}

#[tokio::test]
async fn an_eviction_names_what_is_to_be_rotated() {
    let bench = serving().await;
    let path = "POST /v1/hosts/web-1/evict";
    let (status, problem) = ask(&bench, path, json!({ "reason": " " })).await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(problem["detail"].as_str().unwrap().contains("--reason"));
    for _ in 0..2 {
        let (status, answer) = ask(&bench, path, json!({ "reason": "stolen" })).await;
        assert_eq!(
            (status, &answer["host"]["state"]),
            (StatusCode::OK, &json!("evicted"))
        );
        assert_eq!(answer["held"][0]["secret"], "prod/db");
    }
    let (_, page) = ask(&bench, "GET /v1/hosts/web-1", Value::Null).await;
    assert_eq!(page["evicted_because"], "stolen");
    assert!(
        page["note"]
            .as_str()
            .unwrap()
            .contains("not rotated yet: 1")
    );
    let audit = bench.audit().await;
    assert!(
        audit
            .iter()
            .any(|record| record.contains("\"evict\"") && record.contains("host/web-1"))
    );
    let (status, _) = ask(
        &bench,
        "POST /v1/hosts/web-9/evict",
        json!({ "reason": "r" }),
    )
    .await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}
