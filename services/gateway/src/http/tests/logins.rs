//! Logins over HTTP: whom a provider names comes in by policies alone, for as long as its word counts; who it does not
//! name hears why as far as that helps, and the record says the rest.

use futures_util::StreamExt as _;
use keywheel_engine::presence::Fact;
use keywheel_schemas::config::login::DEFAULT_LOGIN_LIFETIME;

use tokio::sync::Notify;

use super::unanswered::{endless, leave};
use super::*;
use crate::testing::provider::{FakeProvider, ISSUER};

/// What the provider's group `payments` may, and everybody who logged in.
const POLICIES: &str = "@id(\"team\") permit (principal in Group::\"oidc:payments\", action in [Action::\"list\", Action::\"rotate\"], resource in Path::\"prod\");\n@id(\"mail\") permit (principal == User::\"oidc:ada\", action == Action::\"audit\", resource);\n@id(\"local\") permit (principal in Group::\"root\", action, resource);";

fn code() -> Value {
    json!({
        "by": "code", "code": "code-canary", "code_verifier": "verifier-canary", "nonce": "nonce",
        "redirect_uri": "http://127.0.0.1:4711/callback",
    })
}

struct Case {
    bench: Bench,
    provider: Arc<FakeProvider>,
}

impl Case {
    async fn start() -> Self {
        Self::at(Bench::start().await).await
    }

    async fn at(mut bench: Bench) -> Self {
        assert_eq!(bench.apply(MANIFEST).await.0, 200);
        bench.work().await;
        let provider = FakeProvider::new(bench.clock.clone());
        bench.api.logins = Some(provider.logins());
        Self { bench, provider }
    }

    async fn with_policies() -> Self {
        let case = Self::start().await;
        let applied = case
            .bench
            .post("policies", json!({ "policies": POLICIES }))
            .await;
        assert_eq!(applied.0, 200, "{}", applied.1);
        case
    }

    /// Somebody who may nothing by themselves, with this token or none.
    async fn ask(&self, (method, path): (&str, &str), token: &str, body: Value) -> (u16, Value) {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("content-type", "application/json")
            .extension(ConnectInfo(STRANGER));
        if !token.is_empty() {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let body = match body {
            Value::Null => Body::empty(),
            Value::String(text) => Body::from(text),
            body => Body::from(body.to_string()),
        };
        let router = TowerToHyperService::new(router(self.bench.api.clone()));
        let response = router.call(request.body(body).unwrap()).await.unwrap();
        let status = response.status().as_u16();
        let text = text_of(response).await;
        (status, serde_json::from_str(&text).unwrap_or_default())
    }

    async fn log_in(&self, body: Value) -> (u16, Value) {
        self.ask(("POST", "/v1/login"), "", body).await
    }

    async fn token(&self) -> String {
        let (status, answer) = self.log_in(code()).await;
        assert_eq!(
            (status, &answer["state"]),
            (200, &json!("done")),
            "{answer}"
        );
        answer["token"].as_str().unwrap().to_owned()
    }

    async fn last(&self) -> String {
        self.bench.audit().await.pop().unwrap()
    }
}

#[tokio::test]
async fn whom_the_provider_names_may_what_policies_say_of_them_and_their_groups() {
    let case = Case::with_policies().await;
    let before = case.bench.audit().await.len();
    let token = case.token().await;
    let left = case.bench.audit().await.split_off(before);
    assert_eq!(left.len(), 1, "{left:?}");
    let how = "oidc by code, from unix:";
    for part in ["Login {", "\"ada\"", "\"login\"", "Allowed", how] {
        assert!(left[0].contains(part), "{part}: {}", left[0]);
    }
    let rotate = json!({ "secret": "prod/db" });
    let (status, answer) = case.ask(("POST", "/v1/rotate"), &token, rotate).await;
    assert_eq!(status, 200, "{answer}");
    let last = case.last().await;
    assert!(
        last.contains(": team\"") && last.contains("\"ada\""),
        "{last}"
    );
    let revoke = json!({ "secret": "prod/db", "reason": "a test" });
    let refused = case.ask(("POST", "/v1/revoke"), &token, revoke).await;
    assert_problem(&refused, 403, "denied", "`oidc:ada` may not revoke");
    let (_, told) = case.ask(("GET", "/v1/whoami"), &token, Value::Null).await;
    assert_eq!(told["principal"], "oidc:ada");
    assert_eq!(
        (&told["name"], &told["proof"]),
        (&json!("ada"), &json!("oidc"))
    );
    assert_eq!(told["token"]["issuer"], ISSUER);
    assert_eq!(told["token"]["groups"], json!(["payments"]));
    assert_eq!(told["until"], told["token"]["expires_at"]);
    // Nobody becomes somebody of another kind by what a provider calls a group.
    case.provider
        .claims(json!({ "groups": ["root", "client-certificate", "token"] }));
    let other = case.token().await;
    let refused = case
        .ask(("GET", "/v1/secrets/prod/db"), &other, Value::Null)
        .await;
    assert_problem(&refused, 403, "denied", "default deny");
}

#[tokio::test]
async fn until_a_set_says_so_who_logs_in_may_nothing() {
    let case = Case::start().await;
    let token = case.token().await;
    let (_, rows) = case.ask(("GET", "/v1/secrets"), &token, Value::Null).await;
    assert_eq!(rows, json!([]));
    let refused = case
        .ask(
            ("POST", "/v1/rotate"),
            &token,
            json!({ "secret": "prod/db" }),
        )
        .await;
    assert_problem(&refused, 403, "denied", "`oidc:ada` may not rotate");
}

#[tokio::test]
async fn a_login_lives_as_long_as_configured_and_never_longer_than_the_provider_s_word() {
    let case = Case::with_policies().await;
    let token = case.token().await;
    let look = async |token: &str| {
        let asks = ("GET", "/v1/secrets/prod/db");
        case.ask(asks, token, Value::Null).await.0
    };
    assert_eq!(look(&token).await, 200);
    case.bench.clock.advance(DEFAULT_LOGIN_LIFETIME);
    assert_eq!(look(&token).await, 403);
    let last = case.last().await;
    assert!(last.contains("is over"), "{last}");
    let now = case.bench.clock.now().micros() / 1_000_000;
    case.provider.claims(json!({ "exp": now + 90 }));
    let short = case.token().await;
    case.bench.clock.advance(std::time::Duration::from_secs(89));
    assert_eq!(look(&short).await, 200);
    case.bench.clock.advance(std::time::Duration::from_secs(1));
    assert_eq!(look(&short).await, 403);
}

#[tokio::test]
async fn a_login_ends_when_the_provider_says_that_the_person_is_gone() {
    let case = Case::with_policies().await;
    case.provider.gives_refresh("first-canary");
    let (_, answer) = case.log_in(code()).await;
    assert_eq!(answer["refresh_token"], "first-canary");
    let renew = json!({ "by": "refresh", "refresh_token": "first-canary" });
    case.provider.claims(json!({ "nonce": null }));
    case.bench.clock.advance(DEFAULT_LOGIN_LIFETIME);
    let (status, answer) = case.log_in(renew.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let token = answer["token"].as_str().unwrap().to_owned();
    let whoami = ("GET", "/v1/whoami");
    assert_eq!(case.ask(whoami, &token, Value::Null).await.0, 200);
    // They are gone there.
    case.provider
        .answers(400, json!({ "error": "invalid_grant" }));
    case.bench.clock.advance(DEFAULT_LOGIN_LIFETIME);
    let refused = case.log_in(renew).await;
    assert_problem(
        &refused,
        403,
        "denied",
        "the provider does not confirm who this is",
    );
    let last = case.last().await;
    assert!(
        last.contains("invalid_grant") && last.contains("login/refresh"),
        "{last}"
    );
    assert_eq!(case.ask(whoami, &token, Value::Null).await.0, 403);
}

#[tokio::test]
async fn every_token_of_a_person_ends_at_once_and_so_does_one_s_own_login() {
    let case = Case::with_policies().await;
    let (one, other) = (case.token().await, case.token().await);
    let whoami = ("GET", "/v1/whoami");
    let listed = case.ask(("GET", "/v1/tokens"), &one, Value::Null).await.1;
    assert_eq!(listed.as_array().unwrap().len(), 2, "{listed}");
    case.provider.asked.lock().unwrap().clear();
    let refresh = json!({ "refresh_token": "first-canary" });
    let (status, answer) = case.ask(("POST", "/v1/logout"), &one, refresh).await;
    assert_eq!(
        (status, &answer["is_taken_back"]),
        (200, &json!(true)),
        "{answer}"
    );
    let asked = case.provider.asked.lock().unwrap().join("\n");
    assert!(
        asked.contains("/revoke ") && asked.contains("first-canary"),
        "{asked}"
    );
    assert_eq!(case.ask(whoami, &one, Value::Null).await.0, 403);
    assert_eq!(case.ask(whoami, &other, Value::Null).await.0, 200);
    let all = json!({ "owner": "oidc:ada", "reason": "ada left" });
    assert_eq!(case.bench.post("revoke-tokens", all).await.0, 200);
    assert_eq!(case.ask(whoami, &other, Value::Null).await.0, 403);
    let again = case.bench.post("logout", json!({})).await;
    assert_problem(&again, 409, "conflict", "came by no login");
}

#[tokio::test]
async fn a_stream_of_somebody_who_logged_in_ends_with_the_login_and_no_sooner() {
    let case = Case::with_policies().await;
    let token = case.token().await;
    let request = Request::builder()
        .uri("/v1/events?follow=true")
        .header("authorization", format!("Bearer {token}"))
        .extension(ConnectInfo(STRANGER))
        .body(Body::empty())
        .unwrap();
    let router = TowerToHyperService::new(router(case.bench.api.clone()));
    let response = router.call(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    let mut frames = response.into_body().into_data_stream();
    let mut told = String::new();
    let logins = |told: &str| {
        told.matches("\"type\":\"dev.keywheel.token.issued.v1\"")
            .count()
    };
    while logins(&told) < 1 {
        let frame = frames.next().await.unwrap().unwrap();
        told.push_str(&String::from_utf8_lossy(&frame));
    }
    case.token().await;
    while logins(&told) < 2 {
        let frame = frames.next().await.unwrap().unwrap();
        told.push_str(&String::from_utf8_lossy(&frame));
    }
    let (status, _) = case.ask(("POST", "/v1/logout"), &token, json!({})).await;
    assert_eq!(status, 200);
    let mut last = String::new();
    while let Some(frame) = frames.next().await {
        last = String::from_utf8_lossy(&frame.unwrap()).into_owned();
    }
    assert!(last.starts_with("{\"ended\":"), "{last}");
    assert!(last.contains("its token was revoked, or is over"), "{last}");
    let recorded = case.last().await;
    assert!(
        recorded.contains("end-stream") && recorded.contains("Login {"),
        "{recorded}"
    );
}

#[tokio::test]
async fn with_too_few_sinks_people_log_in_and_revoke() {
    let bench = Bench::with_min_sinks(2).await;
    super::sinks::hear(&bench, 1, Fact::ok("sink siem", "well"));
    let case = Case::at(bench).await;
    let policies = "@id(\"on-call\") permit (principal in Group::\"oidc:payments\", action in [Action::\"revoke\", Action::\"rotate\"], resource);\n@id(\"local\") permit (principal in Group::\"root\", action, resource);";
    let (status, answer) = case
        .bench
        .post("policies", json!({ "policies": policies }))
        .await;
    assert_eq!(status, 200, "{answer}");
    let siem = Fact::problem("sink siem", "no route", "mend it");
    super::sinks::hear(&case.bench, 2, siem);
    let token = case.token().await;
    let rotate = json!({ "secret": "prod/db" });
    let held = case.ask(("POST", "/v1/rotate"), &token, rotate).await;
    assert_problem(&held, 503, "unavailable", "only 1 of the 2");
    let revoke = json!({ "secret": "prod/db", "reason": "leaked" });
    let (status, answer) = case.ask(("POST", "/v1/revoke"), &token, revoke).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn who_may_not_look_at_all_hears_of_the_status_how_it_is_on_the_whole() {
    let case = Case::with_policies().await;
    let look = async |token: &str| {
        let asked = case.ask(("GET", "/v1/status"), token, Value::Null).await;
        assert_eq!(asked.0, 200, "{}", asked.1);
        asked.1
    };
    let siem = Fact::problem("sink siem", "no route", "mend it");
    super::sinks::hear(&case.bench, 1, siem);
    let all = look(&case.token().await).await;
    assert_eq!(all["state"], "problem", "{all}");
    assert!(all["findings"].to_string().contains("sink siem"), "{all}");
    case.provider.claims(json!({ "preferred_username": "bob" }));
    let told = look(&case.token().await).await;
    for same in ["state", "host", "version", "sealed"] {
        assert_eq!(told[same], all[same], "{same}");
    }
    for list in ["components", "features"] {
        assert_eq!(told[list], json!([]), "{list}");
    }
    let findings = told["findings"].as_array().unwrap();
    assert_eq!(findings.len(), 1, "{told}");
    assert!(!told.to_string().contains("siem"), "{told}");
    let what = findings[0]["what"].as_str().unwrap();
    assert!(what.contains("who may `list` or `audit`"), "{told}");
    let own = case.bench.see("status").await.1;
    let findings = own["findings"].to_string();
    assert!(findings.contains("sink siem"), "who came otherwise: {own}");
}

#[tokio::test]
async fn where_the_gateway_lies_is_told_to_who_is_there_or_answers_for_the_whole() {
    let case = Case::with_policies().await;
    let of = |status: &Value| (status.get("data_dir").cloned(), status.get("pid").cloned());
    let here = (Some(json!("data")), Some(json!(std::process::id())));
    let root = case.bench.see("status").await.1;
    assert_eq!(of(&root), here, "root at the socket: {root}");
    let look = async |token: &str| {
        let asked = case.ask(("GET", "/v1/status"), token, Value::Null).await;
        assert_eq!(asked.0, 200, "{}", asked.1);
        asked.1
    };
    let ada = look(&case.token().await).await;
    assert_eq!(of(&ada), here, "who may audit: {ada}");
    case.provider.claims(json!({ "preferred_username": "bob" }));
    let bob = look(&case.token().await).await;
    assert_eq!(of(&bob), (None, None), "who logged in: {bob}");
    // Who has a certificate, and is permitted nothing of it.
    let eve = Peer::Operator(keywheel_identity::name::OperatorName::parse("eve").unwrap());
    let asked = case.bench.ask_as(eve, "GET", "/v1/status", Body::empty());
    let (status, text) = asked.await;
    assert_eq!(status, StatusCode::OK, "{text}");
    let eve: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(of(&eve), (None, None), "who is elsewhere: {eve}");
    assert_eq!(eve["host"], root["host"]);
}

#[tokio::test]
async fn a_login_makes_no_token_that_would_outlive_it() {
    let case = Case::with_policies().await;
    let token = case.token().await;
    let refused = case
        .ask(("POST", "/v1/tokens"), &token, super::tokens::wish("t"))
        .await;
    assert_problem(&refused, 403, "denied", "would outlive the login");
    let last = case.last().await;
    assert!(
        last.contains("issue-token") && last.contains("Rejected"),
        "{last}"
    );
}

#[tokio::test]
async fn who_is_not_named_hears_what_helps_and_the_record_says_why() {
    let case = Case::with_policies().await;
    let helps = "does not count here";
    for (claims, why) in [
        (json!({ "iss": "https://evil.example" }), "another issuer"),
        (json!({ "aud": "other" }), "another client"),
        (json!({ "nonce": "other" }), "another nonce"),
        (json!({ "exp": 0 }), "is over"),
        (json!({ "preferred_username": "a b" }), "preferred_username"),
        (json!({ "groups": "payments" }), "groups"),
    ] {
        case.provider.claims(claims);
        let refused = case.log_in(code()).await;
        assert_problem(&refused, 403, "denied", helps);
        let last = case.last().await;
        assert!(
            last.contains(why) && last.contains("Denied"),
            "{why}: {last}"
        );
        assert!(last.contains("login/code"), "{last}");
        drop(case.bench.api.denials.turn());
    }
    case.provider.claims(json!({}));
    for (error, part) in [
        ("invalid_grant", "does not confirm who this is"),
        ("access_denied", "was told to refuse"),
        ("invalid_client", "compares `client_id`"),
    ] {
        case.provider.answers(
            400,
            json!({ "error": error, "error_description": "canary" }),
        );
        assert_problem(&case.log_in(code()).await, 403, "denied", part);
        let last = case.last().await;
        assert!(last.contains(error) && !last.contains("canary"), "{last}");
    }
    let everything = case.bench.audit().await.join("\n");
    assert!(
        !everything.contains("canary"),
        "a code or verifier is on record"
    );
    assert_eq!(case.bench.api.view.read().world.tokens.iter().count(), 0);
}

#[tokio::test]
async fn a_visitor_may_log_in_and_nothing_else_and_is_on_record_so_often_and_then_counted() {
    let case = Case::with_policies().await;
    let (status, told) = case.ask(("GET", "/v1/login"), "", Value::Null).await;
    assert_eq!((status, &told["issuer"]), (200, &json!(ISSUER)));
    let begun = case
        .ask(("POST", "/v1/login/device"), "", Value::Null)
        .await;
    assert_eq!((begun.0, &begun.1["user_code"]), (200, &json!("WDJB-MJHT")));
    let last = case.last().await;
    assert!(
        last.contains("login/device") && !last.contains("canary"),
        "{last}"
    );
    case.provider
        .answers(400, json!({ "error": "authorization_pending" }));
    let before = case.bench.audit().await.len();
    let asks = json!({ "by": "device", "device_code": "device-canary" });
    let (status, pending) = case.log_in(asks).await;
    assert_eq!((status, &pending["state"]), (200, &json!("pending")));
    assert_eq!(
        case.bench.audit().await.len(),
        before,
        "a question is no deed"
    );
    for (method, path) in [
        ("GET", "/v1/secrets"),
        ("DELETE", "/v1/login"),
        ("GET", "/v1/login/device"),
        ("POST", "/v1/logout"),
        ("POST", "/v1/tokens"),
    ] {
        let refused = case.ask((method, path), "", json!({})).await;
        assert_problem(&refused, 403, "denied", "may not use this socket");
    }
    let large = "x".repeat(crate::http::login::MAX_VISITOR_BODY_BYTES);
    let large = json!({ "by": "refresh", "refresh_token": large });
    let refused = case.log_in(large.clone()).await;
    assert_problem(&refused, 400, "invalid", "is larger than 65536 bytes");
    // Whoever may do more may send more.
    let refused = case.bench.post("login", large).await;
    assert_problem(&refused, 400, "invalid", "empty or too long");
    drop(case.bench.api.denials.turn());
    let before = case.bench.audit().await.len();
    let asked = case.provider.asked.lock().unwrap().len();
    let mut statuses = Vec::new();
    for n in 0..RECORDED_PER_UID + 5 {
        // What is not understood counts as what is refused.
        let body = match n % 2 {
            0 => Value::String("{\"by\":".to_owned()),
            _ => json!({ "by": "refresh", "refresh_token": "" }),
        };
        statuses.push(case.log_in(body).await.0);
    }
    let left = case.bench.audit().await.len() - before;
    assert_eq!(left, RECORDED_PER_UID as usize, "{statuses:?}");
    let (tried, refused) = statuses.split_at(RECORDED_PER_UID as usize);
    assert!(tried.iter().all(|status| *status == 400), "{statuses:?}");
    assert!(refused.iter().all(|status| *status == 429), "{statuses:?}");
    assert_eq!(case.provider.asked.lock().unwrap().len(), asked);
    assert_eq!(case.bench.api.denials.turn()[0].count, 5);
}

#[tokio::test]
async fn what_a_provider_is_asked_comes_to_its_end_and_on_record_though_who_asked_left() {
    let case = Case::with_policies().await;
    let denied = json!({ "error": "invalid_grant" });
    let logs_in = ("/v1/login", code());
    let begins = ("/v1/login/device", json!({}));
    let code = json!({
        "device_code": "device-canary", "user_code": "WDJB-MJHT", "verification_uri": "https://x",
        "expires_in": 600,
    });
    for (turn, (says, (path, body), [outcome, words])) in [
        (
            Some((400, denied)),
            logs_in.clone(),
            ["Denied", "invalid_grant"],
        ),
        (None, logs_in, ["Allowed", "oidc by code"]),
        (Some((200, code)), begins, ["Allowed", "was begun"]),
    ]
    .into_iter()
    .enumerate()
    {
        match says {
            Some((status, body)) => case.provider.answers(status, body),
            None => case.provider.answers_with_tokens(),
        }
        let holds = Arc::new(Notify::new());
        *case.provider.holds.lock().unwrap() = Some(holds.clone());
        let before = case.bench.audit().await.len();
        leave(case.ask(("POST", path), "", body)).await;
        assert_eq!(case.bench.came_since(before, 0).await, [""; 0]);
        holds.notify_one();
        let left = case.bench.came_since(before, 1).await;
        assert!(
            left.len() == 1 && left[0].contains(outcome) && left[0].contains(words),
            "{turn}: {left:?}"
        );
        // The refusal counts as one that was waited for does.
        assert_eq!(case.bench.api.denials.total(), 1, "{turn}");
    }
    assert_eq!(case.bench.api.view.read().world.tokens.iter().count(), 1);
}

#[tokio::test]
async fn a_visitor_who_leaves_is_on_record_so_often_and_then_counted() {
    let case = Case::with_policies().await;
    let before = case.bench.audit().await.len();
    for turn in 1..=u64::from(RECORDED_PER_UID) + 2 {
        let asking = case.bench.ask_as(STRANGER, "POST", "/v1/login", endless());
        leave(asking).await;
        while case.bench.api.denials.total() < turn {
            tokio::task::yield_now().await;
        }
    }
    let singly = RECORDED_PER_UID as usize;
    let left = case.bench.came_since(before, singly).await;
    assert_eq!(left.len(), singly, "{left:?}");
    assert!(left[0].contains("no answer was given"), "{left:?}");
    assert_eq!(case.bench.api.denials.turn()[0].count, 2);
}

#[tokio::test]
async fn without_its_provider_a_gateway_takes_no_login() {
    let mut case = Case::with_policies().await;
    let token = case.token().await;
    let whoami = ("GET", "/v1/whoami");
    let other = case
        .provider
        .logins_with(|file| file.issuer = "https://other.example".to_owned());
    for logins in [None, Some(other)] {
        case.bench.api.logins = logins;
        let refused = case.ask(whoami, &token, Value::Null).await;
        assert_problem(&refused, 403, "denied", "this token opens nothing here");
    }
    case.bench.api.logins = None;
    let refused = case.log_in(code()).await;
    assert_problem(&refused, 403, "denied", "may not use this socket");
    let refused = case.bench.post("login", code()).await;
    assert_problem(&refused, 409, "conflict", "login.provider_file");
    let refused = case.bench.see("login").await;
    assert_problem(&refused, 404, "not_found", "login.provider_file");
}
