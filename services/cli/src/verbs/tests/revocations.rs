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

#[tokio::test]
async fn what_is_revoked_is_rotated_at_once_where_that_is_asked_for() {
    let daemon = Daemon::serve(
        "replace",
        &[
            ("POST /v1/revoke ", 200, REVOCATION),
            ("POST /v1/rotate ", 200, ROTATION),
        ],
    );
    let words = ["revoke", "a/b", "--reason", "why", "--yes"];
    assert!(daemon.run(&words).await.is_ok());
    assert!(daemon.bodies("POST /v1/rotate ").is_empty());
    let words = [&words[..], &["--replace"]].concat();
    assert!(daemon.run(&words).await.is_ok());
    let sent = daemon.bodies("POST /v1/rotate ");
    assert_eq!(sent, [serde_json::json!({ "secret": "a/b" })]);
    let refusing = Daemon::serve("no-value", &[("POST /v1/revoke ", 200, REVOCATION)]);
    let failure = refusing.run(&words).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Partial);
    assert!(
        failure.to_string().contains("revoked all the same"),
        "{failure}"
    );
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
