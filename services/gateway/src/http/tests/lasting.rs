//! Streams end with the right to them, and say why by a last line.

use keywheel_identity::name::OperatorName;
use tokio::task::JoinHandle;

use super::*;

const ROOT: &str = "@id(\"root\") permit (principal in Group::\"root\", action, resource);\n";
const AUDITOR: &str = "@id(\"auditor\") permit (principal == User::\"certificate:ada\", action == Action::\"audit\", resource);\n";

fn ada() -> Peer {
    Peer::Operator(OperatorName::parse("ada").unwrap())
}

impl Bench {
    async fn govern(&self, policies: &str) {
        let set = json!({ "policies": format!("{ROOT}{policies}") });
        let (status, answer) = self.post("policies", set).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Reads a stream to its end.
    async fn follow(&self, peer: Peer, path: &str, headers: &[(&str, &str)]) -> JoinHandle<String> {
        let mut request = Request::builder().uri(path).extension(ConnectInfo(peer));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let router = TowerToHyperService::new(router(self.api.clone()));
        let request = request.body(Body::empty()).unwrap();
        let response = router.call(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        tokio::spawn(text_of(response))
    }
}

#[tokio::test]
async fn a_stream_ends_with_the_policy_that_permitted_it_and_goes_on_under_one_that_does() {
    let bench = Bench::start().await;
    bench.govern(AUDITOR).await;
    let path = "/v1/events?follow=true&type=dev.keywheel.policy.applied.v1";
    let reading = bench.follow(ada(), path, &[]).await;
    let other = "@id(\"more\") permit (principal, action == Action::\"list\", resource is Store);";
    bench.govern(&format!("{AUDITOR}{other}")).await;
    // It comes to hear of this one.
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!reading.is_finished());
    bench.govern(other).await;
    let text = reading.await.unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let (last, before) = lines.split_last().unwrap();
    assert!(
        before.len() <= 2,
        "the set that took the right is told to nobody who had it: {text}"
    );
    let last: Value = serde_json::from_str(last).unwrap();
    assert_eq!(last["ended"]["code"], "denied", "{last}");
    let detail = last["ended"]["detail"].as_str().unwrap();
    let part =
        "`certificate:ada` may not audit `environment` any more (default deny, policies version 3)";
    assert!(detail.contains(part), "{detail}");
    let said = bench.audit().await;
    let is_end = |record: &&String| record.contains("end-stream") && record.contains("ada");
    assert_eq!(said.iter().filter(is_end).count(), 1, "{said:?}");
}

#[tokio::test]
async fn a_browser_is_told_by_an_event_of_its_own() {
    let bench = Bench::start().await;
    bench.govern(AUDITOR).await;
    let headers = [("accept", "text/event-stream")];
    let reading = bench.follow(ada(), "/v1/events", &headers).await;
    bench.govern("").await;
    let text = reading.await.unwrap();
    let last = text.split_terminator("\n\n").last().unwrap();
    assert!(last.starts_with("event: ended\ndata: {"), "{last}");
    assert!(last.contains("may not audit"), "{last}");
}

#[tokio::test]
async fn a_token_that_is_revoked_ends_the_audit_s_stream_with_a_word() {
    let bench = Bench::start().await;
    let wish = json!({ "name": "siem", "verbs": ["audit"], "resources": ["environment"], "lifetime_seconds": 3600 });
    let (status, answer) = bench.post("tokens", wish).await;
    assert_eq!(status, 200, "{answer}");
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    let headers = [("authorization", bearer.as_str())];
    let path = "/v1/audit?follow=true";
    let reading = bench.follow(STRANGER, path, &headers).await;
    let reason = json!({ "reason": "done" });
    assert_eq!(bench.post("tokens/siem/revoke", reason).await.0, 200);
    let text = reading.await.unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let detail = last["ended"]["detail"].as_str().unwrap();
    assert!(detail.contains("its token was revoked"), "{last}");
}

#[tokio::test]
async fn what_ends_by_itself_says_nothing_more() {
    let bench = Bench::start().await;
    bench.govern(AUDITOR).await;
    let text = bench.follow(ada(), "/v1/events?limit=1", &[]).await;
    let text = text.await.unwrap();
    assert_eq!(text.lines().count(), 1, "{text}");
    assert!(!text.contains("\"ended\""), "{text}");
}
