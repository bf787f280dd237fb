//! Too few sinks of the audit: what people hear, and what goes on.

use std::sync::atomic::Ordering;

use keywheel_core::audit::Role;
use keywheel_engine::presence::{COPY_FACT, Fact, Presence, Reached, Seen};

use super::*;

impl Bench {
    /// What an audit sink says of itself: how many records its copy has, and what else is so.
    pub(super) fn hear_sink(&self, second: i64, kept: u64, facts: Vec<Fact>) {
        let at = keywheel_core::time::Timestamp::from_micros(second * 1_000_000);
        let presence = Presence {
            role: Role::AuditSink,
            host: None,
            instance: [1; 16],
            machine: "m".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: at,
            sent: at,
            leaving: false,
            certificate_end: None,
            bus: None,
            seen: Seen {
                reached: Some(Reached::AuditRecords(kept)),
                facts,
            },
        };
        assert!(self.api.presences.hear(presence, Some(kept)));
    }
}

/// The same with this for its sink.
pub(super) fn hear(bench: &Bench, second: i64, sink: Fact) {
    bench.hear_sink(second, 0, vec![Fact::ok(COPY_FACT, "well"), sink]);
}

async fn findings(bench: &Bench) -> Vec<String> {
    let status = bench.see("status").await.1;
    let findings = status["findings"].as_array().unwrap().iter();
    findings
        .map(|finding| finding["what"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn too_few_sinks_are_a_problem_that_status_names_and_new_work_waits() {
    let bench = Bench::with_min_sinks(2).await;
    // Nobody was heard.
    assert_problem(
        &bench.apply(MANIFEST).await,
        503,
        "unavailable",
        "only 0 of the 2",
    );
    hear(&bench, 1, Fact::ok("sink siem", "well"));
    let (status, answer) = bench.apply(MANIFEST).await;
    assert_eq!(status, 200, "{answer}");
    bench.work().await;
    hear(&bench, 2, Fact::problem("sink siem", "no route", "mend it"));
    let rotate = json!({ "secret": "prod/db" });
    let (status, answer) = bench.post("rotate", rotate).await;
    assert_eq!(status, 503, "{answer}");
    let detail = answer["detail"].as_str().unwrap();
    assert!(detail.contains("only 1 of the 2"), "{answer}");
    let refused = bench.audit().await.pop().unwrap();
    assert!(refused.contains("status 503"), "on record: {refused}");
    let found = findings(&bench).await;
    let is_told = |word: &str| found.iter().any(|what| what.contains(word));
    assert!(is_told("sinks: only 1 of the 2"), "{found:?}");
    assert!(is_told("sink siem: no route"), "{found:?}");
    assert_eq!(bench.see("secrets").await.0, 200, "looks go on");
    let revoke = json!({ "secret": "prod/db", "reason": "leaked" });
    let (status, answer) = bench.post("revoke", revoke).await;
    assert_eq!(status, 200, "{answer}");
    hear(&bench, 3, Fact::warning("sink siem", "slow", "wait"));
    assert!(
        !findings(&bench)
            .await
            .iter()
            .any(|what| what.contains("of the 2"))
    );
    let (status, answer) = bench.apply(PROVIDED).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn health_is_counted_leaves_no_record_each_and_is_never_refused_for_want_of_a_sink() {
    let bench = Bench::with_min_sinks(2).await;
    // With no sink at all, with too few, and with enough.
    let paths = ["status", "openapi.json"];
    for round in 0..3 {
        match round {
            0 => {}
            1 => hear(&bench, 1, Fact::problem("sink siem", "no route", "mend it")),
            _ => hear(&bench, 2, Fact::ok("sink siem", "well")),
        }
        let records = bench.audit().await.len();
        for path in paths {
            for _ in 0..10 {
                let (status, answer) = bench.see(path).await;
                assert_eq!(status, 200, "{path}: {answer}");
            }
        }
        assert_eq!(bench.audit().await.len(), records, "round {round}");
    }
    let counted = || bench.api.health_looks.load(Ordering::Relaxed);
    assert_eq!(counted(), 60);
    // What is recorded by itself is not counted beside it.
    assert_eq!(bench.see("secrets").await.0, 200);
    assert_eq!(counted(), 60);
}

#[tokio::test]
async fn with_too_few_sinks_tokens_are_revoked_and_used_and_none_is_issued() {
    let bench = Bench::with_min_sinks(2).await;
    hear(&bench, 1, Fact::ok("sink siem", "well"));
    let mut limited = super::tokens::wish("ci");
    limited["limit"] = json!(3);
    let (status, answer) = bench.post("tokens", limited).await;
    assert_eq!(status, 200, "{answer}");
    let bearer = format!("Bearer {}", answer["token"].as_str().unwrap());
    hear(&bench, 2, Fact::problem("sink siem", "no route", "mend it"));
    let other = bench.post("tokens", super::tokens::wish("other")).await;
    assert_problem(&other, 503, "unavailable", "only 1 of the 2");
    // What it is used for may be a revocation.
    let shown = [("authorization", bearer.as_str())];
    let used = bench
        .send(("GET", "/v1/secrets"), &shown, Body::empty())
        .await;
    assert_eq!(used.status(), StatusCode::OK);
    let why = json!({ "reason": "leaked" });
    let (status, answer) = bench.post("tokens/ci/revoke", why).await;
    assert_eq!(
        (status, &answer["revoked"]),
        (200, &json!(["ci"])),
        "{answer}"
    );
}

#[tokio::test]
async fn while_a_restored_log_is_made_ready_no_sink_is_asked_for() {
    let bench = Bench::with_min_sinks(1).await;
    bench.api.presences.set_lenient(true);
    let (status, answer) = bench.apply(MANIFEST).await;
    assert_eq!(status, 200, "{answer}");
    bench.api.presences.set_lenient(false);
    let held = bench.apply(PROVIDED).await;
    assert_problem(&held, 503, "unavailable", "only 0 of the 1");
}

#[tokio::test]
async fn a_fresh_key_waits_for_sinks_and_what_opens_or_shuts_the_cache_does_not() {
    let bench = Bench::with_min_sinks(2).await;
    bench.store_says(super::seal::sealed());
    let held = bench.post("rotate-kek", json!({})).await;
    assert_problem(&held, 503, "unavailable", "only 0 of the 2");
    let left = bench.audit().await;
    assert!(
        left.len() == 1 && left[0].contains("status 503"),
        "{left:?}"
    );
    let offer = json!({ "offer": "AAEC" });
    for (verb, body) in [("unseal", offer), ("seal", json!({}))] {
        let (status, answer) = bench.post(verb, body).await;
        assert_eq!(status, 200, "{verb}: {answer}");
    }
    hear(&bench, 1, Fact::ok("sink siem", "well"));
    let (status, answer) = bench.post("rotate-kek", json!({})).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn with_too_few_sinks_no_credential_is_shown_to_a_store_and_no_value_is_kept() {
    let bench = Bench::with_min_sinks(2).await;
    let held = bench.apply(super::stores::STORE).await;
    assert_problem(&held, 503, "unavailable", "only 0 of the 2");
    assert!(bench.store.tried.lock().unwrap().is_empty());
    hear(&bench, 1, Fact::ok("sink siem", "well"));
    assert_eq!(bench.apply(PROVIDED).await.0, 200);
    hear(&bench, 2, Fact::problem("sink siem", "no route", "mend it"));
    let token = "01010101-0101-0101-0101-010101010101";
    let value = json!({ "name": "prod/key", "token": token, "sealed": "AAAA" });
    let held = bench.post("put", value).await;
    assert_problem(&held, 503, "unavailable", "only 1 of the 2");
    assert!(bench.store.kept.lock().unwrap().is_empty());
    let audit = bench.audit().await.join("\n");
    assert!(!audit.contains("try-store"), "{audit}");
}
