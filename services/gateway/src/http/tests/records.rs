//! Audit records by who, what, when, and which run.

use super::*;

async fn listed(bench: &Bench, query: &str) -> Vec<String> {
    let path = format!("/v1/audit?{query}");
    let (status, text) = bench.ask_as(OPERATOR, "GET", &path, Body::empty()).await;
    assert_eq!(status.as_u16(), 200, "{text}");
    text.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn records_are_found_by_what_fits_and_all_of_it_has_to() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    let _refused = bench
        .ask_as(STRANGER, "GET", "/v1/secrets", Body::empty())
        .await;
    let all = listed(&bench, "").await;
    let denied = listed(&bench, "outcome=denied").await;
    assert_eq!(denied.len(), 1);
    assert!(denied[0].contains("4242") && all.len() > 3, "{all:?}");
    assert_eq!(listed(&bench, "who=4242").await, denied);
    assert_eq!(listed(&bench, "who=4242&outcome=allowed").await.len(), 0);
    let by_service = listed(&bench, "who=store-sync&object=secret/").await;
    assert!(!by_service.is_empty());
    assert!(by_service.iter().all(|line| line.contains("store_sync")));
    let first = listed(&bench, "who=store-sync&object=secret/&limit=1").await;
    assert_eq!(first, by_service[..1]);
    assert_eq!(listed(&bench, "since=2999-01-01T00:00:00Z").await.len(), 0);
    let (status, text) = bench
        .ask_as(OPERATOR, "GET", "/v1/audit?outcome=maybe", Body::empty())
        .await;
    assert_eq!(status.as_u16(), 400, "{text}");
}
