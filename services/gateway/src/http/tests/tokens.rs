//! Tokens over HTTP: whoever brings one is its owner within its scope, and what is wrong with one is told to nobody.

mod bounds;

use std::time::Duration;

use futures_util::StreamExt as _;
use keywheel_identity::name::OperatorName;

use super::*;
use crate::tokens::PREFIX;

const OTHER: &str = "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: stage/db }\nspec: { store: local, generator: { length: 20 } }\n";
const HOUR: u64 = 3600;

/// A token that may list what is below `prod`, and rotate it.
pub(super) fn wish(name: &str) -> Value {
    json!({ "name": name, "verbs": ["list", "rotate"], "resources": ["path/prod"], "lifetime_seconds": HOUR })
}

fn ada() -> Peer {
    Peer::Operator(OperatorName::parse("ada").unwrap())
}

impl Bench {
    async fn with_secrets() -> Self {
        let bench = Self::start().await;
        let (status, answer) = bench.apply(&format!("{MANIFEST}---\n{OTHER}")).await;
        assert_eq!(status, 200, "{answer}");
        bench.work().await;
        bench
    }

    async fn as_peer(&self, peer: Peer, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = Body::from(body.to_string());
        let (status, text) = self.ask_as(peer, method, path, body).await;
        let answer = serde_json::from_str(&text).unwrap_or_default();
        (status.as_u16(), answer)
    }

    /// A token of ada's.
    pub(super) async fn issue(&self, wish: Value) -> String {
        let (status, answer) = self.as_peer(ada(), "POST", "/v1/tokens", wish).await;
        assert_eq!(status, 200, "{answer}");
        answer["token"].as_str().unwrap().to_owned()
    }

    /// Somebody who may not come in by themselves, with these headers.
    async fn bare(
        &self,
        (method, path): (&str, &str),
        headers: &[&str],
        body: Value,
    ) -> (u16, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .extension(ConnectInfo(STRANGER));
        for value in headers {
            request = request.header("authorization", *value);
        }
        let body = match body {
            Value::Null => Body::empty(),
            body => Body::from(body.to_string()),
        };
        let router = TowerToHyperService::new(router(self.api.clone()));
        let response = router.call(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let text = text_of(response).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    /// A program with a token.
    pub(super) async fn with(&self, token: &str, asks: (&str, &str), body: Value) -> (u16, Value) {
        self.bare(asks, &[&format!("Bearer {token}")], body).await
    }

    /// Sixty requests of one stranger would be counted; each here is to have its record.
    fn forgive(&self) {
        let _counted = self.api.denials.turn();
    }
}

#[tokio::test]
async fn a_program_does_what_its_token_says_and_is_on_record_with_its_owner() {
    let bench = Bench::with_secrets().await;
    let token = bench.issue(wish("ci")).await;
    let rotate = |name: &str| json!({ "secret": name });
    let (status, answer) = bench
        .with(&token, ("POST", "/v1/rotate"), rotate("prod/db"))
        .await;
    assert_eq!(status, 200, "{answer}");
    let last = bench.audit().await.pop().unwrap();
    for part in ["\"rotate\"", "\"ci\"", "certificate:ada", "Token {"] {
        assert!(last.contains(part), "{part}: {last}");
    }
    // What she may do, and the token may not.
    let refused = bench
        .with(&token, ("POST", "/v1/rotate"), rotate("stage/db"))
        .await;
    assert_problem(&refused, 403, "denied", "outside the scope");
    let last = bench.audit().await.pop().unwrap();
    assert!(last.contains("Denied") && last.contains("\"ci\""), "{last}");
    let revoke = json!({ "secret": "prod/db", "reason": "a test" });
    let refused = bench.with(&token, ("POST", "/v1/revoke"), revoke).await;
    assert_problem(&refused, 403, "denied", "outside the scope");
    // Lists show what is in its scope.
    let (_, rows) = bench
        .with(&token, ("GET", "/v1/secrets"), Value::Null)
        .await;
    let names: Vec<&str> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| row["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["prod/db"]);
}

#[tokio::test]
async fn a_refusal_tells_a_program_nothing_that_its_scope_does_not_show() {
    let bench = Bench::with_secrets().await;
    let binding = "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: web }\nspec:\n  secret: stage/db\n  containers: { host: web-1, image: i }\n  file: { name: f }\n";
    let (status, answer) = bench.apply(binding).await;
    assert_eq!(status, 200, "{answer}");
    let mut binds = wish("ci");
    binds["verbs"] = json!(["bind", "list"]);
    let token = bench.issue(binds).await;
    let asks = ("DELETE", "/v1/bindings/web");
    // Its owner may list what the binding gives.
    let refused = bench.with(&token, asks, Value::Null).await;
    assert_problem(&refused, 403, "denied", "all that this leads to");
    assert!(!refused.1.to_string().contains("stage/db"), "{}", refused.1);
    let last = bench.audit().await.pop().unwrap();
    assert!(
        last.contains("secret/stage/db"),
        "the audit is told: {last}"
    );
}

#[tokio::test]
async fn a_token_has_no_more_than_its_owner_has_now() {
    let bench = Bench::with_secrets().await;
    let token = bench.issue(wish("ci")).await;
    let looks = |name: &'static str| bench.with(&token, ("GET", name), Value::Null);
    assert_eq!(looks("/v1/secrets/prod/db").await.0, 200);
    let rotating = "@id(\"a\") permit (principal == User::\"certificate:ada\", action == Action::\"rotate\", resource);";
    let none = json!({ "policies": rotating });
    assert_eq!(bench.post("policies", none).await.0, 200);
    assert_problem(
        &looks("/v1/secrets/prod/db").await,
        403,
        "denied",
        "default deny",
    );
    let rotate = json!({ "secret": "prod/db" });
    let (status, answer) = bench.with(&token, ("POST", "/v1/rotate"), rotate).await;
    assert_eq!(status, 200, "{answer}");
    // Policies may tell a program from its owner.
    let apart = "@id(\"all\") permit (principal == User::\"certificate:ada\", action, resource);\n@id(\"no-programs\") forbid (principal in Group::\"token\", action == Action::\"list\", resource);";
    assert_eq!(
        bench.post("policies", json!({ "policies": apart })).await.0,
        200
    );
    assert_problem(
        &looks("/v1/secrets/prod/db").await,
        403,
        "denied",
        "no-programs",
    );
    let hers = bench
        .as_peer(ada(), "GET", "/v1/secrets/prod/db", Value::Null)
        .await;
    assert_eq!(hers.0, 200, "{}", hers.1);
}

#[tokio::test]
async fn nobody_gives_a_token_more_than_they_may_and_no_token_makes_another() {
    let bench = Bench::with_secrets().await;
    let listing = "@id(\"a\") permit (principal == User::\"certificate:ada\", action == Action::\"list\", resource in Path::\"prod\");";
    assert_eq!(
        bench
            .post("policies", json!({ "policies": listing }))
            .await
            .0,
        200
    );
    let asked = bench.as_peer(ada(), "POST", "/v1/tokens", wish("ci")).await;
    assert_problem(&asked, 403, "denied", "may not rotate `path/prod`");
    let mut listed = wish("ci");
    listed["verbs"] = json!(["list"]);
    let token = bench.issue(listed).await;
    let mut less = wish("more");
    less["verbs"] = json!(["list"]);
    let asked = bench.with(&token, ("POST", "/v1/tokens"), less).await;
    assert_problem(&asked, 403, "denied", "outside the scope");
    let last = bench.audit().await.pop().unwrap();
    assert!(
        last.contains("issue-token") && last.contains("Denied"),
        "{last}"
    );
    for (verbs, resources, part) in [
        (
            json!(["grant"]),
            json!(["environment"]),
            "`grant` is about hosts alone",
        ),
        (
            json!(["read"]),
            json!(["path/prod"]),
            "no token reads a value",
        ),
        (json!(["steal"]), json!(["path/prod"]), "is no verb"),
        (json!(["list"]), json!(["prod"]), "is no resource"),
        (json!([]), json!(["path/prod"]), "at least one verb"),
    ] {
        let mut odd = wish("odd");
        odd["verbs"] = verbs;
        odd["resources"] = resources;
        let asked = bench.as_peer(ada(), "POST", "/v1/tokens", odd).await;
        assert_problem(&asked, 400, "invalid", part);
    }
    assert_eq!(bench.api.view.read().world.tokens.iter().count(), 1);
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_the_answer_is_the_same_and_the_record_says_what() {
    let bench = Bench::with_secrets().await;
    let token = bench.issue(wish("ci")).await;
    let over = bench.issue(wish("over")).await;
    let revoked = bench.issue(wish("revoked")).await;
    let reason = json!({ "reason": "leaked" });
    let path = "/v1/tokens/revoked/revoke";
    assert_eq!(bench.as_peer(ada(), "POST", path, reason).await.0, 200);
    let right = format!("Bearer {token}");
    let other = format!("Bearer {PREFIX}{}", "A".repeat(43));
    let used_up = {
        let mut once = wish("once");
        once["limit"] = json!(1);
        let once = bench.issue(once).await;
        let first = bench.with(&once, ("GET", "/v1/secrets"), Value::Null).await;
        assert_eq!(first.0, 200);
        format!("Bearer {once}")
    };
    let revoked = format!("Bearer {revoked}");
    let cases: [(&[&str], &str); 8] = [
        (&["Basic YWRhOmFkYQ=="], "no token of ours"),
        (&["Bearer "], "no token of ours"),
        (&[""], "no token of ours"),
        (&[&right, &right], "no token of ours"),
        (&[&right[..right.len() - 1]], "no token of ours"),
        (&[&other], "no token that is known has this text"),
        (&[&revoked], "token `revoked` was revoked"),
        (&[&used_up], "token `once`: its uses are used up"),
    ];
    let asks = ("GET", "/v1/secrets");
    let mut answers = Vec::new();
    for (headers, why) in cases {
        answers.push(bench.bare(asks, headers, Value::Null).await);
        let last = bench.audit().await.pop().unwrap();
        assert!(last.contains(why), "{headers:?}: {last}");
        let ended = if why == "no token of ours" {
            "Malformed"
        } else {
            "Denied"
        };
        assert!(last.contains(ended), "{last}");
        bench.forgive();
    }
    bench.clock.advance(Duration::from_secs(HOUR));
    answers.push(bench.with(&over, asks, Value::Null).await);
    let last = bench.audit().await.pop().unwrap();
    assert!(last.contains("token `over` is over"), "{last}");
    assert_problem(&answers[0], 403, "denied", "this token opens nothing here");
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    // A wrong token is no way in for who could come without one either.
    let wrong = [("authorization", other.as_str())];
    let response = bench.send(asks, &wrong, Body::empty()).await;
    assert_eq!(response.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn guesses_are_recorded_so_often_and_then_counted() {
    let bench = Bench::start().await;
    let guess = format!("Bearer {PREFIX}{}", "A".repeat(43));
    let before = bench.audit().await.len();
    let mut statuses = Vec::new();
    for _ in 0..RECORDED_PER_UID + 5 {
        let (status, _) = bench
            .bare(("GET", "/v1/secrets"), &[&guess], Value::Null)
            .await;
        statuses.push(status);
    }
    assert_eq!(
        bench.audit().await.len() - before,
        RECORDED_PER_UID as usize
    );
    assert_eq!(statuses[RECORDED_PER_UID as usize - 1], 403);
    assert!(
        statuses[RECORDED_PER_UID as usize..]
            .iter()
            .all(|status| *status == 429)
    );
    assert_eq!(bench.api.denials.turn()[0].count, 5);
}

#[tokio::test]
async fn what_is_revoked_opens_nothing_at_once_at_any_gateway() {
    let [one, other] = Bench::pair().await;
    let token = one.issue(wish("ci")).await;
    let asks = ("GET", "/v1/secrets");
    assert_eq!(other.with(&token, asks, Value::Null).await.0, 200);
    let reason = json!({ "reason": "leaked" });
    let path = "/v1/tokens/ci/revoke";
    let (status, answer) = one.as_peer(ada(), "POST", path, reason).await;
    assert_eq!((status, &answer["revoked"]), (200, &json!(["ci"])));
    for bench in [&one, &other] {
        assert_eq!(bench.with(&token, asks, Value::Null).await.0, 403);
    }
}

#[tokio::test]
async fn a_limit_is_kept_by_two_gateways_together() {
    let [one, other] = Bench::pair().await;
    let mut limited = wish("ci");
    limited["limit"] = json!(5);
    let token = one.issue(limited).await;
    // All at once.
    let both = [&one, &other].into_iter().cycle().take(12);
    let asked = both.map(|bench| bench.with(&token, ("GET", "/v1/secrets"), Value::Null));
    let answers = futures_util::future::join_all(asked).await;
    let served = answers.iter().filter(|(status, _)| *status == 200).count();
    assert_eq!(served, 5, "{answers:?}");
}

#[tokio::test]
async fn many_uses_cost_few_events_and_a_limit_holds_exactly() {
    let bench = Bench::start().await;
    let mut limited = wish("ci");
    let limit = 320;
    limited["limit"] = json!(limit);
    let token = bench.issue(limited).await;
    let before = bench.journal.head().await.unwrap().number;
    let mut served = 0;
    for _ in 0..limit + 3 {
        let (status, _) = bench
            .with(&token, ("GET", "/v1/secrets"), Value::Null)
            .await;
        served += u32::from(status == 200);
        bench.forgive();
    }
    assert_eq!(served, limit);
    let events = bench.journal.head().await.unwrap().number - before;
    // Twenty at once in the beginning, one by one at the end.
    assert!(events < u64::from(limit) / 4, "{events}");
    assert!(events > 31, "{events}: the last ones are taken one by one");
}

#[tokio::test]
async fn what_a_gateway_took_and_did_not_use_is_lost_with_it_and_given_to_nobody() {
    let mut bench = Bench::start().await;
    let mut limited = wish("ci");
    // Two are taken at once as long as so many are left.
    limited["limit"] = json!(40);
    let token = bench.issue(limited).await;
    let asks = ("GET", "/v1/secrets");
    assert_eq!(bench.with(&token, asks, Value::Null).await.0, 200);
    // All that it had in memory is gone; the log is as it was.
    bench.api.tokens = Arc::default();
    let mut served = 1;
    for _ in 0..60 {
        let (status, _) = bench.with(&token, asks, Value::Null).await;
        served += u32::from(status == 200);
        bench.forgive();
    }
    assert_eq!(served, 39);
}

#[tokio::test]
async fn the_text_of_a_token_is_in_its_answer_alone() {
    let bench = Bench::with_secrets().await;
    let token = bench.issue(wish("ci")).await;
    bench
        .with(&token, ("GET", "/v1/secrets"), Value::Null)
        .await;
    bench
        .with(&token, ("POST", "/v1/rotate"), json!({ "secret": "none" }))
        .await;
    let broken = format!("{token}x");
    bench
        .with(&broken, ("GET", "/v1/secrets"), Value::Null)
        .await;
    let secret = token.strip_prefix(PREFIX).unwrap();
    let audit = bench.audit().await;
    assert!(audit.len() > 4 && !audit.iter().any(|record| record.contains(secret)));
    let log = bench.api.journal.read(0, 1000).await.unwrap();
    let texts: Vec<String> = log
        .iter()
        .map(|event| String::from_utf8_lossy(&event.bytes).into_owned())
        .collect();
    assert!(
        texts
            .iter()
            .any(|text| text.contains("dev.keywheel.token.issued.v1"))
    );
    assert!(!texts.iter().any(|text| text.contains(secret)));
    let (_, rows) = bench.as_peer(ada(), "GET", "/v1/tokens", Value::Null).await;
    assert_eq!(rows[0]["name"], "ci");
    assert!(!rows.to_string().contains(secret));
}

#[tokio::test]
async fn a_repeat_under_one_key_gives_no_second_token() {
    let bench = Bench::start().await;
    let mut answers = Vec::new();
    for _ in 0..2 {
        let key = [("idempotency-key", "k")];
        let body = Body::from(wish("ci").to_string());
        let response = bench.send(("POST", "/v1/tokens"), &key, body).await;
        answers.push((response.status().as_u16(), text_of(response).await));
    }
    assert_eq!(answers[0].0, 200, "{}", answers[0].1);
    assert_eq!(answers[1].0, 409, "{}", answers[1].1);
    assert!(!answers[1].1.contains(PREFIX));
    assert_eq!(bench.api.view.read().world.tokens.iter().count(), 1);
}

#[tokio::test]
async fn one_s_own_tokens_are_one_s_own_and_others_take_the_right_to_grant_or_revoke() {
    let bench = Bench::start().await;
    let hers = bench.issue(wish("hers")).await;
    assert_eq!(bench.post("tokens", wish("his")).await.0, 200);
    // Nobody may anything but come in.
    assert_eq!(
        bench.post("policies", json!({ "policies": "" })).await.0,
        200
    );
    let names = |rows: &Value| {
        let rows = rows.as_array().unwrap().iter();
        rows.map(|row| row["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let (_, rows) = bench.as_peer(ada(), "GET", "/v1/tokens", Value::Null).await;
    assert_eq!(names(&rows), ["hers"]);
    let reason = || json!({ "reason": "a test" });
    for name in ["his", "nobodys"] {
        let path = format!("/v1/tokens/{name}/revoke");
        let asked = bench.as_peer(ada(), "POST", &path, reason()).await;
        assert_problem(&asked, 403, "denied", "may not grant `environment`");
    }
    let his = json!({ "owner": "unix:0", "reason": "a test" });
    let asked = bench.as_peer(ada(), "POST", "/v1/revoke-tokens", his).await;
    assert_problem(&asked, 403, "denied", "may not grant `environment`");
    // A program ends what it came with, and no other token of its owner.
    let (_, rows) = bench.with(&hers, ("GET", "/v1/tokens"), Value::Null).await;
    assert_eq!(names(&rows), ["hers"]);
    let (status, _) = bench
        .with(&hers, ("POST", "/v1/tokens/hers/revoke"), reason())
        .await;
    assert_eq!(status, 200);
    let revoking = "@id(\"responders\") permit (principal == User::\"certificate:ada\", action == Action::\"revoke\", resource);";
    assert_eq!(
        bench
            .post("policies", json!({ "policies": revoking }))
            .await
            .0,
        200
    );
    let his = json!({ "owner": "unix:0", "reason": "gone" });
    let (status, answer) = bench.as_peer(ada(), "POST", "/v1/revoke-tokens", his).await;
    assert_eq!(
        (status, &answer["revoked"]),
        (200, &json!(["his"])),
        "{answer}"
    );
    let last = bench.audit().await.pop().unwrap();
    let why = "gone (policies version 2: responders)";
    for part in ["revoke-tokens", "owner/unix:0", why] {
        assert!(last.contains(part), "{part}: {last}");
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_token_does() {
    let bench = Bench::start().await;
    let mut audits = wish("ci");
    audits["verbs"] = json!(["audit"]);
    audits["resources"] = json!(["environment"]);
    let token = bench.issue(audits).await;
    let request = Request::builder()
        .uri("/v1/events?follow=true")
        .header("authorization", format!("Bearer {token}"))
        .extension(ConnectInfo(STRANGER))
        .body(Body::empty())
        .unwrap();
    let router = TowerToHyperService::new(router(bench.api.clone()));
    let response = router.call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let reading = tokio::spawn(axum::body::to_bytes(response.into_body(), 1 << 20));
    let reason = json!({ "reason": "done" });
    let (status, _) = bench
        .as_peer(ada(), "POST", "/v1/tokens/ci/revoke", reason)
        .await;
    assert_eq!(status, 200);
    let read = reading.await.unwrap().unwrap();
    assert!(String::from_utf8_lossy(&read).contains("dev.keywheel.token.issued.v1"));
}

#[tokio::test]
async fn a_stream_ends_when_its_token_s_owner_may_come_in_no_more() {
    let mut bench = Bench::start().await;
    let folder = tempfile::tempdir().unwrap();
    let group_file = folder.path().join("group");
    std::fs::write(&group_file, "keywheel:x:990:alice\n").unwrap();
    let user_file = folder.path().join("passwd");
    std::fs::write(&user_file, "alice:x:1001:1001::/:/bin/sh\n").unwrap();
    bench.api.access = Access {
        own_uid: 77,
        group_file: group_file.clone(),
        user_file,
    };
    let alice = Peer::User {
        uid: 1001,
        gid: 1001,
    };
    let mut audits = wish("ci");
    audits["verbs"] = json!(["audit"]);
    audits["resources"] = json!(["environment"]);
    let (status, answer) = bench.as_peer(alice, "POST", "/v1/tokens", audits).await;
    assert_eq!(status, 200, "{answer}");
    let token = answer["token"].as_str().unwrap();
    let request = Request::builder()
        .uri("/v1/events?follow=true")
        .header("authorization", format!("Bearer {token}"))
        .extension(ConnectInfo(STRANGER))
        .body(Body::empty())
        .unwrap();
    let router = TowerToHyperService::new(router(bench.api.clone()));
    let response = router.call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut frames = response.into_body().into_data_stream();
    frames.next().await.unwrap().unwrap();
    std::fs::write(&group_file, "keywheel:x:990:\n").unwrap();
    // Nothing more is told, and it ends.
    while let Some(frame) = frames.next().await {
        frame.unwrap();
    }
}

#[tokio::test]
async fn who_somebody_is_taken_for_is_told_with_what_they_may() {
    let bench = Bench::with_secrets().await;
    let (status, told) = bench.see("whoami").await;
    assert_eq!(status, 200);
    assert_eq!(
        (&told["principal"], &told["proof"]),
        (&json!("unix:0"), &json!("root"))
    );
    assert_eq!(
        told["may"].as_array().unwrap().len(),
        8,
        "every verb but `read`"
    );
    let token = bench.issue(wish("ci")).await;
    let (_, told) = bench.with(&token, ("GET", "/v1/whoami"), Value::Null).await;
    assert_eq!(told["principal"], "certificate:ada");
    assert_eq!(
        (&told["proof"], &told["came_by"]),
        (&json!("token"), &json!("client-certificate"))
    );
    assert_eq!(told["token"]["name"], "ci");
    assert_eq!(told["until"], told["token"]["expires_at"]);
    let wanted = json!([
        { "verb": "list", "of": ["secret/prod/db"], "is_cut": false },
        { "verb": "rotate", "of": ["secret/prod/db"], "is_cut": false },
    ]);
    assert_eq!(told["may"], wanted);
    let nobody = bench.bare(("GET", "/v1/whoami"), &[], Value::Null).await;
    assert_problem(&nobody, 403, "denied", "may not use this socket");
}

#[tokio::test]
async fn who_may_change_what_they_may_not_list_is_not_told_that_it_is_there() {
    let bench = Bench::with_secrets().await;
    let policies = "@id(\"a\") permit (principal == User::\"certificate:ada\", action == Action::\"write\", resource in Path::\"stage\");\n@id(\"b\") permit (principal == User::\"certificate:ada\", action == Action::\"list\", resource in Path::\"prod\");";
    let set = json!({ "policies": policies });
    assert_eq!(bench.post("policies", set).await.0, 200);
    let (status, told) = bench.as_peer(ada(), "GET", "/v1/whoami", Value::Null).await;
    assert_eq!(status, 200, "{told}");
    assert!(told.to_string().contains("secret/prod/db"), "{told}");
    assert!(!told.to_string().contains("stage/db"), "{told}");
}
