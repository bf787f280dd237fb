//! What the published document promises: the same routes, methods that are refused by name, ETags and
//! pages.

use std::collections::BTreeSet;

use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::id::HostId;
use keywheel_schemas::openapi;

use super::*;

#[test]
fn the_router_and_the_document_have_the_same_routes() {
    let routed: BTreeSet<(String, String)> = routes()
        .iter()
        .map(|(method, path, _)| {
            let method = method.as_str().to_lowercase();
            (method, path.replace("{*", "{"))
        })
        .collect();
    let described: BTreeSet<(String, String)> = openapi::ROUTES
        .iter()
        .map(|route| (route.method.to_owned(), route.path.to_owned()))
        .collect();
    assert_eq!(routed, described);
    assert_eq!(openapi::ROUTES.len(), described.len(), "one twice");
}

#[tokio::test]
async fn the_document_is_served_as_it_is_committed() {
    let bench = Bench::start().await;
    let (_, served) = bench.see("openapi.json").await;
    assert_eq!(served, openapi::value());
}

/// Rule A7: where the audit writes to is the configuration's alone.
#[tokio::test]
async fn no_request_makes_a_sink_of_the_audit() {
    let of_sinks: Vec<(&str, &str)> = openapi::ROUTES
        .iter()
        .filter(|route| route.path.contains("sink") || route.operation.contains("sink"))
        .map(|route| (route.method, route.path))
        .collect();
    assert_eq!(of_sinks, [("post", "/v1/audit/confirm-sinks")]);
    let bench = Bench::start().await;
    let before = bench.head().await;
    for kind in ["Sink", "AuditSink"] {
        let manifest = format!(
            "apiVersion: keywheel.dev/v1\nkind: {kind}\nmetadata: {{ name: x }}\nspec: {{ type: file, path: /tmp/x }}\n"
        );
        assert_problem(&bench.apply(&manifest).await, 400, "invalid", kind);
    }
    assert_eq!(bench.head().await, before);
}

#[tokio::test]
async fn a_method_that_a_resource_does_not_take_is_a_problem_that_names_the_others() {
    let bench = Bench::start().await;
    for (method, path, allowed) in [
        ("POST", "/v1/secrets", "GET,HEAD"),
        ("GET", "/v1/rotate", "POST"),
        ("PATCH", "/v1/stores/bao", "GET,HEAD"),
    ] {
        let response = bench.send((method, path), &[], Body::empty()).await;
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        let named = response.headers()["allow"].to_str().unwrap().to_owned();
        assert!(named.contains(allowed), "{path}: {named}");
        let kind = response.headers()["content-type"].clone();
        assert_eq!(kind, "application/problem+json");
        let problem: Value = serde_json::from_str(&text_of(response).await).unwrap();
        assert_eq!(problem["code"], "invalid");
    }
}

#[tokio::test]
async fn a_path_that_is_no_utf_8_is_a_problem() {
    let bench = Bench::start().await;
    let answer = bench.see("secrets/%FF%FE").await;
    assert_problem(&answer, 400, "invalid", "percent-encode");
}

#[tokio::test]
async fn a_body_that_is_no_object_is_a_problem_also_where_every_member_has_a_default() {
    let bench = Bench::start().await;
    for body in ["[]", " []", "null", "7"] {
        let body = Body::from(body);
        let (status, text) = bench.ask_as(OPERATOR, "POST", "/v1/refresh", body).await;
        let answer = (status.as_u16(), serde_json::from_str(&text).unwrap());
        assert_problem(&answer, 400, "invalid", "what this verb takes");
    }
    let (status, answer) = bench.post("refresh", json!({})).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn a_look_at_the_head_alone_is_on_record_too() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    let before = bench.audit().await.len();
    let asked = ("HEAD", "/v1/secrets/prod/db");
    let response = bench.send(asked, &[], Body::empty()).await;
    assert_eq!(response.status(), StatusCode::OK);
    let left = bench.audit().await.split_off(before);
    assert!(left.len() == 1 && left[0].contains("describe"), "{left:?}");
}

#[tokio::test]
async fn what_did_not_change_is_not_sent_again() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    let asked = ("GET", "/v1/secrets/prod/db");
    let first = bench.send(asked, &[], Body::empty()).await;
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    let again = bench
        .send(asked, &[("if-none-match", &tag)], Body::empty())
        .await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(text_of(again).await, "");
    bench.work().await;
    let changed = bench
        .send(asked, &[("if-none-match", &tag)], Body::empty())
        .await;
    assert_eq!(changed.status(), StatusCode::OK);
    assert_ne!(changed.headers()["etag"], tag.as_str());
}

/// The path in a `Link` header to the next page.
fn next_of(response: &Response) -> Option<String> {
    let link = response.headers().get("link")?.to_str().unwrap();
    let path = link.strip_prefix('<')?.strip_suffix(">; rel=\"next\"")?;
    Some(path.to_owned())
}

#[tokio::test]
async fn links_lead_through_every_row_once() {
    let bench = Bench::start().await;
    for name in ["prod/a", "prod/b", "prod/c"] {
        bench.apply(&MANIFEST.replace("prod/db", name)).await;
    }
    for list in ["secrets", "rotations"] {
        let mut seen = Vec::new();
        let mut next = Some(format!("/v1/{list}?limit=2"));
        while let Some(path) = next {
            let response = bench.send(("GET", &path), &[], Body::empty()).await;
            next = next_of(&response);
            let page: Vec<Value> = serde_json::from_str(&text_of(response).await).unwrap();
            assert!(page.len() <= 2);
            seen.extend(page);
        }
        let (_, whole) = bench.see(list).await;
        assert_eq!(Value::from(seen), whole);
        assert_eq!(whole.as_array().unwrap().len(), 3);
    }
}

#[tokio::test]
async fn a_page_begins_after_a_consumer_that_went() {
    let bench = Bench::start().await;
    bench.serve_consumers(4).await;
    let first = bench
        .send(("GET", "/v1/consumers?limit=2"), &[], Body::empty())
        .await;
    let next = next_of(&first).unwrap();
    let page: Vec<Value> = serde_json::from_str(&text_of(first).await).unwrap();
    let last = page[1]["container"].as_str().unwrap().to_owned();
    let (_, whole) = bench.see("consumers").await;
    bench.vanish(&last).await;
    let rest = bench.see(next.strip_prefix("/v1/").unwrap()).await;
    assert_eq!(rest, (200, json!([whole[2], whole[3]])));
}

#[tokio::test]
async fn an_eviction_between_two_pages_moves_no_host() {
    let bench = Bench::start().await;
    for n in 1..=3 {
        let enrol = Command::EnrolHost {
            host: HostId::from_bytes([n; 16]),
            name: HostName::parse(&format!("web-{n}")).unwrap(),
            sealing_key: [n; 32],
        };
        bench.submit(Role::Injector, enrol).await;
    }
    let first = bench.send(("GET", "/v1/hosts?limit=1"), &[], Body::empty());
    let next = next_of(&first.await).unwrap();
    let evict = json!({ "reason": "stolen" });
    assert_eq!(bench.post("hosts/web-1/evict", evict).await.0, 200);
    let (_, page) = bench.see(next.strip_prefix("/v1/").unwrap()).await;
    assert_eq!(page[0]["name"], "web-2", "{page}");
}
