//! Logging in at a provider that signs: what it is asked, whose keys count, and each way in which nobody is named.

use keywheel_schemas::config::login::DEFAULT_LOGIN_LIFETIME;
use keywheel_testkit::fake::FakeClock;
use serde_json::{Value, json};

use super::*;
use crate::testing::provider::{A_MOMENT, CLIENT, FakeProvider, WORD_SECONDS};

fn provider() -> (Arc<FakeClock>, Arc<FakeProvider>) {
    let clock = Arc::new(FakeClock::default());
    (clock.clone(), FakeProvider::new(clock))
}

fn code() -> LoginRequest {
    LoginRequest::Code {
        code: "c o&de".to_owned(),
        code_verifier: "verifier".to_owned(),
        nonce: "nonce".to_owned(),
        redirect_uri: "http://127.0.0.1:4711/callback".to_owned(),
    }
}

fn device() -> LoginRequest {
    LoginRequest::Device {
        device_code: "device".to_owned(),
    }
}

fn refresh() -> LoginRequest {
    LoginRequest::Refresh {
        refresh_token: "refresh".to_owned(),
    }
}

async fn named(logins: &Logins, request: &LoginRequest) -> Identity {
    match logins.ask(request).await.unwrap() {
        Outcome::Named { identity, .. } => identity,
        pending => panic!("{pending:?}"),
    }
}

#[tokio::test]
async fn a_code_is_exchanged_with_its_verifier_and_names_somebody() {
    let (clock, provider) = provider();
    let logins = provider.logins();
    let ada = named(&logins, &code()).await;
    assert_eq!(
        (ada.name.as_str(), ada.groups.as_slice()),
        ("ada", ["payments".to_owned()].as_slice())
    );
    let now = clock.now().micros() / 1_000_000;
    assert_eq!(ada.ends_at.micros() / 1_000_000, now + WORD_SECONDS);
    let asked = provider.asked.lock().unwrap().clone();
    let form = format!(
        "/token client_id={CLIENT}&grant_type=authorization_code&code=c%20o%26de&code_verifier=verifier&redirect_uri=http%3A%2F%2F127.0.0.1%3A4711%2Fcallback"
    );
    assert!(asked.contains(&form), "{asked:?}");
    let settings = logins.settings().await.unwrap();
    assert_eq!(settings.scopes, ["openid", "groups"]);
    assert!(settings.device);
}

#[tokio::test]
async fn a_new_key_is_read_once_and_strangers_keys_do_not_have_it_read_again_and_again() {
    let (clock, provider) = provider();
    let logins = provider.logins();
    named(&logins, &code()).await;
    named(&logins, &code()).await;
    assert_eq!(provider.reads("/keys"), 1);
    assert_eq!(provider.reads("/.well-known/openid-configuration"), 1);
    // It turns its key over, and signs with a new one.
    clock.advance(A_MOMENT);
    provider.turn_key(2, true);
    named(&logins, &code()).await;
    assert_eq!(provider.reads("/keys"), 2);
    // A key that it does not show.
    provider.sends(&FakeProvider::signed(&provider.claimed(), 9, 9));
    for _ in 0..3 {
        let refused = logins.ask(&code()).await.unwrap_err();
        assert!(
            matches!(refused, LoginError::Token(JwtError::UnknownKey(_))),
            "{refused}"
        );
    }
    assert_eq!(provider.reads("/keys"), 2);
    clock.advance(A_MOMENT);
    logins.ask(&code()).await.unwrap_err();
    assert_eq!(provider.reads("/keys"), 3);
}

#[tokio::test]
async fn a_key_that_the_provider_took_away_counts_no_more_after_an_hour() {
    let (clock, provider) = provider();
    let logins = provider.logins();
    named(&logins, &code()).await;
    provider.turn_key(2, false);
    clock.advance(DOCUMENTS_LIFETIME);
    provider.sends(&FakeProvider::signed(&provider.claimed(), 1, 1));
    let refused = logins.ask(&code()).await.unwrap_err();
    assert!(
        matches!(refused, LoginError::Token(JwtError::UnknownKey(_))),
        "{refused}"
    );
}

#[tokio::test]
async fn a_token_that_somebody_else_signed_or_nobody_names_nobody() {
    let (_, provider) = provider();
    let logins = provider.logins();
    let claims = provider.claimed();
    let good = FakeProvider::signed(&claims, 1, 1);
    let none = {
        let body = good.split('.').nth(1).unwrap();
        // {"alg":"none"}
        format!("eyJhbGciOiJub25lIn0.{body}.")
    };
    let large = FakeProvider::signed(&json!({ "x": "x".repeat(jwt::MAX_JWT_BYTES) }), 1, 1);
    for (token, why) in [
        (FakeProvider::signed(&claims, 2, 1), JwtError::Signature),
        (none, JwtError::Algorithm("none".to_owned())),
        (large, JwtError::TooLarge),
    ] {
        provider.sends(&token);
        match logins.ask(&code()).await {
            Err(LoginError::Token(error)) => assert_eq!(error, why),
            other => panic!("{why}: {other:?}"),
        }
    }
    provider.sends(&good);
    assert_eq!(named(&logins, &code()).await.name, "ada");
}

#[tokio::test]
async fn a_code_s_identity_is_bound_to_its_login_and_others_to_none() {
    let (_, provider) = provider();
    let logins = provider.logins();
    provider.claims(json!({ "nonce": "of another login" }));
    let refused = logins.ask(&code()).await.unwrap_err();
    assert!(
        matches!(refused, LoginError::Claim(ClaimError::Nonce)),
        "{refused}"
    );
    provider.claims(json!({ "nonce": null }));
    named(&logins, &device()).await;
    named(&logins, &refresh()).await;
    let asked = provider.asked.lock().unwrap().join("\n");
    for part in [
        "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Adevice_code&device_code=device",
        "grant_type=refresh_token&refresh_token=refresh",
    ] {
        assert!(asked.contains(part), "{asked}");
    }
}

#[tokio::test]
async fn a_device_code_waits_until_somebody_typed_it() {
    let (_, provider) = provider();
    let logins = provider.logins();
    let begun = logins.begin_device().await.unwrap();
    assert_eq!(
        (begun.user_code.as_str(), begun.interval_seconds),
        ("WDJB-MJHT", 7)
    );
    assert!(!format!("{begun:?}").contains("canary"));
    let error = |word: &str| json!({ "error": word });
    for (word, wait) in [("authorization_pending", None), ("slow_down", Some(10))] {
        provider.answers(400, error(word));
        let asked = logins.ask(&device()).await.unwrap();
        assert!(
            matches!(asked, Outcome::Pending { interval } if interval == wait),
            "{asked:?}"
        );
        // A code that a browser brought has nothing to wait for.
        assert!(matches!(
            logins.ask(&code()).await,
            Err(LoginError::Refused(_))
        ));
    }
    for (word, refusal) in [
        ("expired_token", Refusal::ExpiredToken),
        ("access_denied", Refusal::AccessDenied),
        ("<script>canary", Refusal::Other),
    ] {
        provider.answers(400, error(word));
        let refused = logins.ask(&device()).await.unwrap_err();
        assert!(
            matches!(&refused, LoginError::Refused(found) if *found == refusal),
            "{refused}"
        );
        assert!(!refused.to_string().contains("canary"), "{refused}");
    }
    provider.answers_with_tokens();
    named(&logins, &device()).await;
}

#[tokio::test]
async fn so_many_device_codes_are_begun_in_a_minute_and_none_where_there_are_none() {
    let (clock, provider) = provider();
    let logins = provider.logins();
    for _ in 0..MAX_DEVICES {
        logins.begin_device().await.unwrap();
    }
    assert!(matches!(logins.begin_device().await, Err(LoginError::Busy)));
    clock.advance(DEVICES_SPAN);
    assert!(logins.begin_device().await.is_ok());
    let (_, other) = self::provider();
    other.makes_no_codes();
    let refused = other.logins().begin_device().await.unwrap_err();
    assert!(matches!(refused, LoginError::NoDevice), "{refused}");
}

#[tokio::test]
async fn what_is_sent_has_bounds_and_a_browser_brings_a_code_to_this_machine_alone() {
    let (_, provider) = provider();
    let logins = provider.logins();
    let to = |redirect_uri: &str| LoginRequest::Code {
        code: "c".to_owned(),
        code_verifier: "v".to_owned(),
        nonce: "n".to_owned(),
        redirect_uri: redirect_uri.to_owned(),
    };
    let mut odd: Vec<LoginRequest> = [
        "",
        "https://evil.example/callback",
        "http://127.0.0.1:0/callback",
        "http://127.0.0.1:4711/other",
        "http://127.0.0.1:4711@evil.example/callback",
        "http://localhost:4711/callback",
    ]
    .map(to)
    .into();
    for text in [String::new(), "x".repeat(MAX_PROOF_BYTES + 1)] {
        odd.push(LoginRequest::Device {
            device_code: text.clone(),
        });
        odd.push(LoginRequest::Refresh {
            refresh_token: text,
        });
    }
    for request in odd {
        let refused = logins.ask(&request).await.unwrap_err();
        assert!(matches!(refused, LoginError::Malformed(_)), "{refused}");
    }
    assert!(provider.asked.lock().unwrap().is_empty());
}

#[tokio::test]
async fn another_issuer_s_description_and_an_answer_without_an_identity_name_nobody() {
    let (_, provider) = provider();
    let logins = provider.logins_with(|file| file.issuer.push('/'));
    let refused = logins.ask(&code()).await.unwrap_err();
    assert!(refused.to_string().contains("another issuer"), "{refused}");
    let logins = provider.logins();
    provider.answers(200, json!({ "access_token": "access" }));
    assert!(matches!(
        logins.ask(&code()).await,
        Err(LoginError::NoIdentity)
    ));
    provider.answers(200, json!({ "token_type": "Bearer" }));
    assert!(matches!(
        logins.ask(&refresh()).await,
        Err(LoginError::NoIdentity)
    ));
    for (status, body) in [(500, json!({})), (302, json!({})), (200, Value::Null)] {
        provider.answers(status, body);
        let refused = logins.ask(&refresh()).await.unwrap_err();
        assert!(
            matches!(refused, LoginError::Away(_)),
            "{status}: {refused}"
        );
    }
}

#[tokio::test]
async fn a_renewal_without_an_identity_token_asks_whom_the_provider_still_names() {
    let (clock, provider) = provider();
    let logins = provider.logins();
    provider.answers(200, json!({ "access_token": "access", "expires_in": 120 }));
    let ada = named(&logins, &refresh()).await;
    assert_eq!((ada.name.as_str(), ada.subject.as_str()), ("ada", "4711"));
    let ends_in = ada.ends_at.since(clock.now());
    assert_eq!(ends_in, Duration::from_secs(120));
    provider.answers(
        200,
        json!({ "access_token": "access", "expires_in": u64::MAX }),
    );
    let ada = named(&logins, &refresh()).await;
    assert_eq!(ada.ends_at.since(clock.now()), DEFAULT_LOGIN_LIFETIME);
    provider.claims(json!({ "preferred_username": null }));
    let refused = logins.ask(&refresh()).await.unwrap_err();
    assert!(matches!(refused, LoginError::Claim(_)), "{refused}");
    // The person is gone there.
    provider.answers(200, json!({ "access_token": "of nobody" }));
    let refused = logins.ask(&refresh()).await.unwrap_err();
    assert!(
        matches!(refused, LoginError::Refused(Refusal::InvalidGrant)),
        "{refused}"
    );
}

#[tokio::test]
async fn a_refresh_token_is_given_back_and_only_one_that_can_be_one() {
    let (_, provider) = provider();
    let logins = provider.logins();
    assert!(logins.take_back("re fresh").await);
    assert!(!logins.take_back("").await);
    let asked = provider.asked.lock().unwrap().join("\n");
    assert!(
        asked.contains("/revoke client_id=keywheel&token=re%20fresh&token_type_hint=refresh_token"),
        "{asked}"
    );
}
