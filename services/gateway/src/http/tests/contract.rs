//! What the published document promises: the same routes, methods that are refused by name, ETags,
//! pages, and one request however often it is sent under one key.

use std::collections::BTreeSet;

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
async fn one_key_is_one_request_however_often_it_is_sent() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    let wish = json!({ "secret": "prod/db" }).to_string();
    let mut begun = BTreeSet::new();
    for _ in 0..3 {
        let key = [("idempotency-key", "7a0c")];
        let sent = bench.send(("POST", "/v1/rotate"), &key, Body::from(wish.clone()));
        let response = sent.await;
        assert_eq!(response.status(), StatusCode::OK);
        let rotation: Value = serde_json::from_str(&text_of(response).await).unwrap();
        begun.insert(rotation["rotation_id"].as_str().unwrap().to_owned());
    }
    assert_eq!(begun.len(), 1, "{begun:?}");
    assert_eq!(bench.see("rotations").await.1.as_array().unwrap().len(), 2);
    let answer = bench.post("rotate", json!({ "secret": "prod/db" })).await;
    assert_problem(&answer, 409, "conflict", "prod/db");
    let key = [("idempotency-key", "")];
    let bad = bench
        .send(("POST", "/v1/rotate"), &key, Body::from(wish))
        .await;
    assert_eq!(bad.status(), StatusCode::BAD_REQUEST);
}
