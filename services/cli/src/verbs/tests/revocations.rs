//! Verbs of revocations: of many at once, of one that is given up, and of one whose secret is to have another value.

use super::*;

#[tokio::test]
async fn a_revocation_of_many_shows_its_radius_first_and_tells_who_was_refused() {
    let daemon = Daemon::serve(
        "revoke-by",
        &[
            (
                "GET /v1/revoke-plan?emergency=true&prefix=a ",
                200,
                r#"{"secrets":[],"containers":0,"stops":0,"hosts":0}"#,
            ),
            (
                "POST /v1/revoke-by ",
                200,
                r#"{"revocations":[{"revocation_id":"v1","secret":"a/b","versions":[1],"state":"running","backend":"asked","waiting_hosts":[],"reason":"why","withdrawn_ms":null}],"refused":[]}"#,
            ),
            ("GET /v1/revocations/v1?wait=", 200, CLOSED),
        ],
    );
    let plan = ["revoke", "--prefix", "a", "--emergency", "--dry-run"];
    assert!(daemon.run(&plan).await.is_ok());
    assert!(daemon.bodies("POST").is_empty(), "nothing was begun");
    let many = ["revoke", "--prefix", "a", "--emergency", "--reason", "why"];
    let sure = [&many[..], &["--yes", "--wait"]].concat();
    assert!(daemon.run(&sure).await.is_ok());
    let sent =
        serde_json::json!({ "scope": { "prefix": "a" }, "reason": "why", "emergency": true });
    assert_eq!(daemon.bodies("POST /v1/revoke-by "), [sent]);
    let refusing = Daemon::serve(
        "revoke-some",
        &[(
            "POST /v1/revoke-by ",
            200,
            r#"{"revocations":[],"refused":[{"secret":"a/c","reason":"it is gone"}]}"#,
        )],
    );
    let words = ["revoke", "--store", "bao", "--reason", "why", "--yes"];
    let failure = refusing.run(&words).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Partial);
    assert!(
        failure.what.contains("1 secrets were not revoked"),
        "{failure}"
    );
}

#[tokio::test]
async fn a_word_that_a_revocation_be_forgotten_goes_with_its_reason() {
    let daemon = Daemon::serve(
        "forget",
        &[
            ("POST /v1/revocations/v1/forget ", 200, REVOCATION),
            ("GET /v1/secrets/", 200, SECRET),
            ("GET /v1/revocations", 200, REVOCATIONS),
        ],
    );
    let words = ["revocation", "forget", "a/b", "--reason", "why", "--yes"];
    assert!(daemon.run(&words).await.is_ok());
    let sent = daemon.bodies("POST /v1/revocations/v1/forget ");
    assert_eq!(sent, [serde_json::json!({ "reason": "why" })]);
}

/// It began without a replacement.
const UNREPLACED: &str = r#"{"revocation_id":"v1","secret":"a/b","versions":[1],"state":"running","backend":"asked","waiting_hosts":[],"reason":"why","withdrawn_ms":null,"states":{"withdrawn_everywhere":false,"dead_at_backend":false,"proof":"awaited","destroyed":false,"replacement":{"state":"none","because":"it has no generator"}}}"#;

#[tokio::test]
async fn a_replacement_is_one_wish_with_the_revocation() {
    let daemon = Daemon::serve("replace", &[("POST /v1/revoke ", 200, REVOCATION)]);
    let words = ["revoke", "a/b", "--reason", "why", "--yes"];
    let replacing = [&words[..], &["--replace"]].concat();
    let urgent = [&replacing[..], &["--emergency"]].concat();
    for words in [&words[..], &replacing[..], &urgent[..]] {
        assert!(daemon.run(words).await.is_ok());
    }
    let sent = daemon.bodies("POST /v1/revoke ");
    let wish = |more: serde_json::Value| {
        let mut wish = serde_json::json!({ "secret": "a/b", "reason": "why" });
        let more = more.as_object().cloned().unwrap_or_default();
        wish.as_object_mut().unwrap().extend(more);
        wish
    };
    let wanted = [
        wish(serde_json::json!({})),
        wish(serde_json::json!({ "replace": true })),
        wish(serde_json::json!({ "replace": true, "emergency": true })),
    ];
    assert_eq!(sent, wanted);
    let none = Daemon::serve("no-value", &[("POST /v1/revoke ", 200, UNREPLACED)]);
    let failure = none.run(&urgent).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Partial);
    for part in ["it has no generator", "revoked all the same"] {
        assert!(failure.to_string().contains(part), "{failure}");
    }
}

#[tokio::test]
async fn who_was_refused_is_told_also_where_one_that_began_cannot_be_asked_about() {
    let daemon = Daemon::serve(
        "revoke-lost",
        &[
            (
                "POST /v1/revoke-by ",
                200,
                r#"{"revocations":[{"revocation_id":"v0","secret":"a/a","versions":[1],"state":"running","backend":"asked","waiting_hosts":[],"reason":"why","withdrawn_ms":null},{"revocation_id":"v1","secret":"a/b","versions":[1],"state":"running","backend":"asked","waiting_hosts":[],"reason":"why","withdrawn_ms":null}],"refused":[{"secret":"a/c","reason":"it is gone"}]}"#,
            ),
            ("GET /v1/revocations/v1?wait=", 200, CLOSED),
        ],
    );
    let words = [
        "revoke", "--prefix", "a", "--reason", "why", "--yes", "--wait",
    ];
    let failure = daemon.run(&words).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Partial, "{failure}");
    assert!(
        failure
            .what
            .contains("1 secrets were not revoked, and 1 revocations are not through"),
        "{failure}"
    );
    assert_eq!(
        daemon.bodies("GET /v1/revocations/v1?wait=").len(),
        1,
        "the other is waited for"
    );
}
