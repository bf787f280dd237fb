//! What a token does not open: anything once it was over, whatever a clock says; what takes people; and how often
//! guesses are asked about.

use keywheel_core::approval::Operation;
use keywheel_engine::replay::replay;

use super::*;

const ASKS: (&str, &str) = ("GET", "/v1/secrets");

#[tokio::test]
async fn a_token_that_was_over_stays_so_when_the_clock_is_put_back() {
    let bench = Bench::with_secrets().await;
    let began = bench.api.clock.now();
    let token = bench.issue(wish("ci")).await;
    bench.clock.advance(Duration::from_secs(HOUR));
    let later = MANIFEST.replace("prod/db", "prod/later");
    assert_eq!(bench.apply(&later).await.0, 200);
    bench.clock.set_wall(began);
    assert_eq!(bench.with(&token, ASKS, Value::Null).await.0, 403);
    let last = bench.audit().await.pop().unwrap();
    assert!(last.contains("token `ci` is over"), "{last}");
    let (_, listed) = bench.see("tokens").await;
    assert_eq!(listed[0]["state"], "expired", "{listed}");
    // The name is free, and what is issued now counts by the clock as it is.
    let next = bench.issue(wish("ci")).await;
    assert_eq!(bench.with(&next, ASKS, Value::Null).await.0, 200);
    // The first one's row went with that, and whoever comes with it is still on record by its name.
    assert_eq!(bench.with(&token, ASKS, Value::Null).await.0, 403);
    let last = bench.audit().await.pop().unwrap();
    assert!(last.contains("token `ci` is over"), "{last}");
    // Whoever reads the log anew knows the same.
    let read = replay(&*bench.api.journal, &bench.api.view).await.unwrap();
    assert_eq!(read.difference, None);
}

#[tokio::test]
async fn a_token_that_was_over_at_one_gateway_is_so_at_another_whose_clock_is_behind() {
    let [one, other] = Bench::pair().await;
    let token = one.issue(wish("ci")).await;
    assert_eq!(other.with(&token, ASKS, Value::Null).await.0, 200);
    one.clock.advance(Duration::from_secs(HOUR));
    assert_eq!(one.apply(MANIFEST).await.0, 200);
    assert_eq!(other.with(&token, ASKS, Value::Null).await.0, 403);
    // What it decides on says the same: the name is free.
    let next = other.issue(wish("ci")).await;
    assert_eq!(other.with(&next, ASKS, Value::Null).await.0, 200);
    let read = replay(&*other.api.journal, &other.api.view).await.unwrap();
    assert_eq!(read.difference, None);
}

#[tokio::test]
async fn a_playbook_s_step_is_approved_by_people_and_by_no_token() {
    let bench = Bench::with_secrets().await;
    let id = bench.with_a_run().await;
    let mut all = wish("ci");
    all["resources"] = json!(["environment"]);
    let token = bench.issue(all).await;
    let path = format!("/v1/playbook-runs/{id}/approve");
    let why = || json!({ "reason": "fine" });
    let refused = bench.with(&token, ("POST", &path), why()).await;
    assert_problem(&refused, 409, "conflict", "takes people");
    assert_problem(&refused, 409, "conflict", "keywheel login");
    let last = bench.audit().await.pop().unwrap();
    for part in ["approve-playbook", "Rejected", "\"ci\"", "takes people"] {
        assert!(last.contains(part), "{part}: {last}");
    }
    let (status, run) = bench.as_peer(ada(), "POST", &path, why()).await;
    assert_eq!(status, 200, "{run}");
    let approved = json!(["certificate:ada"]);
    assert_eq!(run["steps"][0]["approvals"], approved, "{run}");
}

#[tokio::test]
async fn what_takes_several_is_approved_and_reviewed_by_people_and_by_no_token() {
    let bench = Bench::taking(&[(Operation::AuditExport, 2)]).await;
    let token = bench
        .issue(json!({ "name": "ci", "verbs": ["audit"], "resources": ["environment"], "lifetime_seconds": HOUR }))
        .await;
    let bob = || Peer::Operator(OperatorName::parse("bob").unwrap());
    let (wish, why) = ("/v1/audit/export", || json!({ "reason": "fine" }));
    let asked = bench.as_peer(bob(), "GET", wish, Value::Null).await;
    assert_problem(&asked, 202, "waiting", "audit-export");
    let (_, all) = bench.see("approvals").await;
    let id = all[0]["approval_id"].as_str().unwrap();
    let path = |word: &str| format!("/v1/approvals/{id}/{word}");
    let refused = bench.with(&token, ("POST", &path("approve")), why()).await;
    assert_problem(&refused, 409, "conflict", "takes people");
    // What may not be for it goes without the others even less.
    let word = path("break-glass");
    let refused = bench.with(&token, ("POST", &word), why()).await;
    assert_problem(&refused, 409, "conflict", "takes people");
    let broken = bench
        .as_peer(bob(), "POST", &path("break-glass"), why())
        .await;
    assert_eq!(broken.0, 200, "{}", broken.1);
    let refused = bench.with(&token, ("POST", &path("review")), why()).await;
    assert_problem(&refused, 409, "conflict", "keywheel login");
    let reviewed = bench.as_peer(ada(), "POST", &path("review"), why()).await;
    assert_eq!(reviewed.0, 200, "{}", reviewed.1);
}

/// Guesses as often as each has a record of its own.
async fn guess(bench: &Bench) {
    let guess = format!("{PREFIX}{}", "A".repeat(43));
    for _ in 0..RECORDED_PER_UID {
        assert_eq!(bench.with(&guess, ASKS, Value::Null).await.0, 403);
    }
}

#[tokio::test]
async fn guesses_that_are_only_counted_ask_nothing_of_the_log() {
    let [one, other] = Bench::pair().await;
    guess(&other).await;
    // It heard of no new token, and does not ask either.
    let token = one.issue(wish("ci")).await;
    assert_eq!(other.with(&token, ASKS, Value::Null).await.0, 429);
    other.forgive();
    assert_eq!(other.with(&token, ASKS, Value::Null).await.0, 200);
    // One that it knows is asked about each time.
    guess(&other).await;
    assert_eq!(other.with(&token, ASKS, Value::Null).await.0, 200);
    let (path, reason) = ("/v1/tokens/ci/revoke", json!({ "reason": "leaked" }));
    assert_eq!(one.as_peer(ada(), "POST", path, reason).await.0, 200);
    assert_eq!(other.with(&token, ASKS, Value::Null).await.0, 429);
}
