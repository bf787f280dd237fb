//! Operators and others at the TCP port, over real TLS.

use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::id::HostId;
use keywheel_identity::authority::OPERATOR_LIFETIME;
use keywheel_identity::bundle::Bundle;
use keywheel_identity::name::PeerName;
use keywheel_seal::OsEntropy;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::*;
use crate::denials::RECORDED_PER_UID;
use crate::testing::members::{Members, ada, body, http, rest};

const APPLY: &[u8] = br#"{"manifests":"apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: { name: prod/db }\nspec: { store: local }\n","source":"t"}"#;

#[tokio::test]
async fn an_operator_uses_every_verb_and_is_on_record_by_name() {
    let members = Members::start(Spans::default()).await;
    let bundle = Bundle::read(&members.credentials_of("operators/ada")).unwrap();
    let said = members
        .ask(members.client_of(&bundle), &http("POST /v1/apply", APPLY))
        .await;
    assert!(said.unwrap().starts_with("HTTP/1.1 200"));
    let said = members
        .ask(members.client_of(&bundle), &http("GET /v1/secrets", b""))
        .await;
    assert!(said.unwrap().contains("prod/db"));
    let request = http("POST /v1/hosts/web-2/join-token", b"");
    let said = members
        .ask(members.client_of(&bundle), &request)
        .await
        .unwrap();
    let answer: serde_json::Value = serde_json::from_str(body(&said)).unwrap();
    assert!(
        answer["token"].as_str().unwrap().starts_with("kwjoin1."),
        "{said}"
    );
    for (verb, reason) in [
        ("apply", "client-certificate"),
        ("list", "client-certificate"),
        ("issue-join-token", "client-certificate"),
    ] {
        let verb = format!("\"{verb}\"");
        let words = ["operator", "\"ada\"", &verb, reason];
        assert_eq!(members.records(&words).await.len(), 1, "{verb}");
    }
}

#[tokio::test]
async fn nobody_but_operators_gets_in_and_each_attempt_is_on_record() {
    let members = Members::start(Spans::default()).await;
    let ours = &members.authority;
    let host = PeerName::Host(HostId::from_bytes([3; 16]));
    let request = http("GET /v1/secrets", b"");
    let rows = [
        (members.client(ours, &host), "the other side is host"),
        (
            members.client(ours, &PeerName::Service(Role::StoreSync)),
            "the other side is service store-sync",
        ),
        (
            members.client(ours, &PeerName::Service(Role::Gateway)),
            "the other side is service gateway",
        ),
    ];
    for (client, reason) in rows {
        let heard = members.ask(client, &request).await.unwrap_err();
        assert!(heard.contains("refused our credentials"), "{heard}");
        let words = ["connect", "operators-port", "denied", "127.0.0.1", reason];
        assert_eq!(members.records(&words).await.len(), 1, "{reason}");
    }
    assert!(members.records(&["prod"]).await.is_empty());
}

#[tokio::test]
async fn other_authorities_old_certificates_none_and_plaintext_are_refused() {
    let members = Members::start(Spans::default()).await;
    let request = http("GET /v1/secrets", b"");
    let refused = async |said: Result<String, String>, reason: &str| {
        let heard = said.unwrap_err();
        assert!(!heard.is_empty(), "{reason}");
        let words = ["connect", "operators-port", "denied", reason];
        assert_eq!(members.records(&words).await.len(), 1, "{reason}");
    };
    let foreign = members.foreign();
    let bundle = keywheel_identity::init::plain(&foreign, &ada(), &[], members.now(), &OsEntropy);
    let mut bundle = bundle.unwrap();
    // It trusts our gateway; the gateway does not trust it.
    bundle.tls.roots_pem = members.authority.roots_pem();
    let said = members.ask(members.client_of(&bundle), &request).await;
    refused(said, "an authority this deployment does not trust").await;

    let token = members.token("web-2").await;
    let clock = members.bench.clock.clone();
    let bare =
        keywheel_identity::tls::join_client_config(token.deployment, token.pin, clock).unwrap();
    let said = members.ask(bare, &request).await;
    refused(said, "showed no certificate").await;

    let mut stream = members.dial_operators().await;
    stream.write_all(&request).await.unwrap();
    let said = rest(stream).await.unwrap_or_default();
    assert!(!said.contains("HTTP/1.1"), "{said}");
    let words = ["connect", "operators-port", "does not speak tls"];
    assert_eq!(members.records(&words).await.len(), 1);
}

#[tokio::test]
async fn an_expired_operator_is_refused() {
    let members = Members::start(Spans::default()).await;
    let past = keywheel_core::time::Timestamp::from_micros(
        members.now().micros() - i64::try_from(2 * OPERATOR_LIFETIME.as_micros()).unwrap(),
    );
    let bundle =
        keywheel_identity::init::plain(&members.authority, &ada(), &[], past, &OsEntropy).unwrap();
    let said = members
        .ask(members.client_of(&bundle), &http("GET /v1/secrets", b""))
        .await;
    assert!(said.unwrap_err().contains("expired"));
    assert_eq!(members.records(&["connect", "has expired"]).await.len(), 1);
}

#[tokio::test]
async fn a_flood_of_refusals_is_counted_and_keeps_no_operator_out() {
    let members = Members::start(Spans::default()).await;
    for _ in 0..RECORDED_PER_UID + 5 {
        let mut stream = members.dial_operators().await;
        stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let _alert = rest(stream).await;
    }
    let records = members.records(&["connect", "operators-port"]).await;
    assert_eq!(records.len(), RECORDED_PER_UID as usize);
    let counted = members.bench.api.denials.turn();
    assert_eq!(counted.iter().map(|counted| counted.count).sum::<u64>(), 5);
    let client = members.client(&members.authority, &ada());
    let said = members
        .ask(client, &http("GET /v1/status", b""))
        .await
        .unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[tokio::test]
async fn who_shakes_no_hand_is_gone_in_time_and_counted() {
    let spans = Spans {
        handshake: Duration::from_millis(200),
        ..Spans::default()
    };
    let members = Members::start(spans).await;
    let silent = members.dial_operators().await;
    assert_eq!(rest(silent).await, Ok(String::new()));
    let counted = members.bench.api.denials.turn();
    assert!(counted[0].last.what.contains("handshake"), "{counted:?}");
}

/// A request with a token.
fn bearing(token: &str, line: &str) -> Vec<u8> {
    let head = format!(
        "{line} HTTP/1.1\r\nhost: k\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\r\n"
    );
    head.into_bytes()
}

async fn token_of_ada(members: &Members) -> String {
    let wish =
        br#"{"name":"ci","verbs":["list"],"resources":["environment"],"lifetime_seconds":3600}"#;
    let client = members.client(&members.authority, &ada());
    let said = members.ask(client, &http("POST /v1/tokens", wish)).await;
    let answer: serde_json::Value = serde_json::from_str(body(&said.unwrap())).unwrap();
    answer["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_program_comes_with_a_token_and_no_certificate_only_where_tokens_are_taken() {
    let members = Members::start(Spans::default()).await;
    let token = token_of_ada(&members).await;
    let request = bearing(&token, "GET /v1/secrets");
    let said = members
        .ask_with_tokens(members.bare_client(), &request)
        .await;
    let said = said.unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    let words = ["\"ci\"", "certificate:ada", "list"];
    assert_eq!(members.records(&words).await.len(), 1);
    // Where they are not, the handshake ends it, as ever.
    let said = members.ask(members.bare_client(), &request).await;
    assert!(said.is_err(), "{said:?}");
    assert_eq!(members.records(&["showed no certificate"]).await.len(), 1);
}

#[tokio::test]
async fn who_shows_neither_token_nor_certificate_may_nothing_and_a_certificate_has_to_be_an_operators()
 {
    let members = Members::start(Spans::default()).await;
    let request = http("GET /v1/secrets", b"");
    let said = members
        .ask_with_tokens(members.bare_client(), &request)
        .await;
    assert!(said.unwrap().starts_with("HTTP/1.1 403"));
    assert_eq!(
        members
            .records(&["denied", "127.0.0.1", "list"])
            .await
            .len(),
        1
    );
    let token = token_of_ada(&members).await;
    let host = PeerName::Host(HostId::from_bytes([3; 16]));
    let client = members.client(&members.authority, &host);
    let said = members
        .ask_with_tokens(client, &bearing(&token, "GET /v1/secrets"))
        .await;
    assert!(said.unwrap_err().contains("refused our credentials"));
    let client = members.client(&members.authority, &ada());
    let said = members.ask_with_tokens(client, &request).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
}

#[tokio::test]
async fn who_comes_with_a_certificate_is_told_until_when_it_counts() {
    let members = Members::start(Spans::default()).await;
    let client = members.client(&members.authority, &ada());
    let said = members
        .ask(client, &http("GET /v1/whoami", b""))
        .await
        .unwrap();
    let told: serde_json::Value = serde_json::from_str(body(&said)).unwrap();
    assert_eq!(told["principal"], "certificate:ada");
    assert_eq!(told["proof"], "client-certificate");
    let end = members.now().plus(OPERATOR_LIFETIME);
    let until = keywheel_schemas::mirror::TextForm::text(&end);
    assert_eq!(told["until"], until);
}

/// One answer of a connection that stays open.
async fn until_whole(stream: &mut TlsStream<TcpStream>) -> String {
    let mut said = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&said).into_owned();
        let parts = text.split_once("\r\n\r\n");
        let length = parts.and_then(|(head, _)| {
            let lower = head.to_lowercase();
            let line = lower
                .lines()
                .find_map(|line| line.strip_prefix("content-length: ").map(str::to_owned));
            line?.parse::<usize>().ok()
        });
        if let (Some((_, body)), Some(length)) = (parts, length)
            && body.len() >= length
        {
            return text;
        }
        let mut chunk = [0; 4096];
        let read = stream.read(&mut chunk).await.unwrap();
        assert!(read > 0, "it ended: {text}");
        said.extend_from_slice(&chunk[..read]);
    }
}

#[tokio::test]
async fn a_stranger_s_connection_stays_as_long_as_its_token_counts() {
    let spans = Spans {
        stranger: Duration::from_secs(3),
        ..Spans::default()
    };
    let members = Members::start(spans).await;
    let token = token_of_ada(&members).await;
    let head = |line: &str| {
        let text = String::from_utf8(bearing(&token, line)).unwrap();
        text.replace("connection: close\r\n", "").into_bytes()
    };
    let mut stream = members.shake_tokens(members.bare_client()).await;
    stream.write_all(&head("GET /v1/status")).await.unwrap();
    let first = until_whole(&mut stream).await;
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    tokio::time::sleep(spans.stranger * 2).await;
    stream
        .write_all(&bearing(&token, "GET /v1/status"))
        .await
        .unwrap();
    let second = until_whole(&mut stream).await;
    assert!(second.starts_with("HTTP/1.1 200"), "{second}");
}
