//! Machines at the join port, over real TLS: joining once, and every way not to.

use keywheel_core::host::JOIN_TOKEN_LIFETIME;
use keywheel_identity::enrol::Joining;
use keywheel_identity::token::{Destination, JoinToken};
use keywheel_seal::OsEntropy;
use tokio::io::AsyncWriteExt as _;

use super::*;
use crate::testing::members::{Members, answer, http, rest};

async fn members() -> Members {
    Members::start(Spans::default()).await
}

fn ask(token: &JoinToken) -> (Joining, Vec<u8>) {
    let joining = Joining::begin(token, &OsEntropy).unwrap();
    let body = serde_json::to_vec(&joining.ask(token)).unwrap();
    (joining, body)
}

#[tokio::test]
async fn a_machine_joins_once_and_the_second_use_is_refused_on_record() {
    let members = members().await;
    let token = members.token("web-2").await;
    let (joining, body) = ask(&token);
    let said = members.post(&token, &body).await.unwrap();
    let bundle = joining.accept(&answer(&said), members.now()).unwrap();
    let identity = bundle.identity.unwrap();
    assert_eq!(identity.host(), Some(token.host));
    assert_eq!(identity.servers, ["tls://bus.example:4222"]);
    {
        let committed = members.bench.api.view.read();
        let host = &committed.world.hosts[&token.host];
        let signing_key = identity.signing.verifying_key().to_bytes();
        assert_eq!(host.signing_key, Some(signing_key));
    }
    let joined = ["\"join\"", "host/web-2", "allowed", "127.0.0.1", "stranger"];
    assert_eq!(members.records(&joined).await.len(), 1);

    let (_, body) = ask(&token);
    let said = members.post(&token, &body).await.unwrap();
    assert!(!said.starts_with("HTTP/1.1 2"), "{said}");
    assert!(said.contains("it was used before"), "{said}");
    let refused = ["\"join\"", "host/web-2", "denied", "127.0.0.1"];
    assert_eq!(members.records(&refused).await.len(), 1);
}

#[tokio::test]
async fn a_token_that_is_late_or_of_another_name_is_refused_and_used_up() {
    let members = members().await;
    let late = members.token("web-2").await;
    members.bench.clock.advance(JOIN_TOKEN_LIFETIME);
    let said = members.post(&late, &ask(&late).1).await.unwrap();
    assert!(said.contains("has expired"), "{said}");
    let said = members.post(&late, &ask(&late).1).await.unwrap();
    assert!(said.contains("it was used before"), "{said}");

    let mut other = members.token("web-3").await;
    other.name = keywheel_core::name::HostName::parse("web-4").unwrap();
    let said = members.post(&other, &ask(&other).1).await.unwrap();
    assert!(said.contains("issued for host `web-3`"), "{said}");
    assert_eq!(members.records(&["\"join\"", "denied"]).await.len(), 3);
    assert!(members.bench.api.view.read().world.hosts.is_empty());
}

#[tokio::test]
async fn a_machine_that_expects_another_authority_tells_nothing() {
    let members = members().await;
    let known = members.token("web-2").await;
    let to = Destination {
        deployment: known.deployment,
        address: known.address.clone(),
        pin: [1; 32],
    };
    let token = JoinToken::issue(to, known.host, known.token, known.name, &OsEntropy).unwrap();
    let why = members.post(&token, &ask(&token).1).await.unwrap_err();
    assert!(why.contains("the authority in the join token"), "{why}");
    let still_open = members.bench.api.view.read().world.join_tokens.len();
    assert_eq!(still_open, 1);
}

#[tokio::test]
async fn what_is_no_request_or_too_large_is_refused_on_record_and_not_repeated() {
    let members = members().await;
    let token = members.token("web-2").await;
    let garbage = br#"{"v":"kept-to-itself"}"#;
    for body in [garbage.to_vec(), vec![b'x'; MAX_ASK_BYTES + 1], Vec::new()] {
        let said = members.post(&token, &body).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 400"), "{said}");
        assert!(!said.contains("kept-to-itself"), "{said}");
    }
    for (line, status) in [("GET /v1/join", "405"), ("POST /v1/kept-to-itself", "404")] {
        let said = members.ask_join(&token, line, b"").await.unwrap();
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{said}");
        assert!(said.contains("machines join here, with POST"), "{said}");
    }
    let records = members.records(&["malformed", "127.0.0.1"]).await;
    assert_eq!(records.len(), 5, "{records:?}");
    assert!(!records.concat().contains("kept-to-itself"));
    assert_eq!(members.bench.api.view.read().world.join_tokens.len(), 1);
}

#[tokio::test]
async fn plaintext_is_refused_on_record() {
    let members = members().await;
    let mut stream = members.dial_join().await;
    stream.write_all(&http("GET /", b"")).await.unwrap();
    let _alert = rest(stream).await;
    let records = members.records(&["connect", "join-port", "does not speak tls"]);
    assert_eq!(records.await.len(), 1);
}

#[tokio::test]
async fn one_address_has_so_many_attempts_a_minute() {
    let members = members().await;
    let token = members.token("web-2").await;
    for _ in 0..MAX_ATTEMPTS_PER_ADDRESS {
        let said = members.post(&token, b"{}").await.unwrap();
        assert!(said.starts_with("HTTP/1.1 400"), "{said}");
    }
    let (joining, body) = ask(&token);
    let said = members.post(&token, &body).await.unwrap();
    assert!(said.starts_with("HTTP/1.1 429"), "{said}");
    assert!(said.contains("wait a minute"), "{said}");
    members.bench.clock.advance(ATTEMPT_WINDOW);
    let said = members.post(&token, &body).await.unwrap();
    joining.accept(&answer(&said), members.now()).unwrap();
}

#[test]
fn all_addresses_together_have_so_many_attempts_a_minute() {
    for most in [MAX_ATTEMPTS, MAX_RETURNS] {
        let attempts = Attempts::of(most);
        let from = |n: u32| IpAddr::from(n.to_be_bytes());
        let admitted = (0..2 * most).filter(|n| attempts.admit(from(*n), Duration::ZERO));
        assert_eq!(admitted.count(), most as usize);
        assert!(attempts.admit(from(0), ATTEMPT_WINDOW));
    }
}

#[test]
fn a_thousand_hosts_of_one_network_come_back_and_ask_twice_a_minute() {
    let returns = Attempts::of(MAX_RETURNS);
    let from = |host: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, host]);
    for host in (0..1000).chain(0..1000) {
        assert!(returns.admit(from(host), Duration::ZERO), "{host}");
    }
}

#[test]
fn one_machine_with_a_network_of_addresses_leaves_attempts_to_others() {
    let attempts = Attempts::of(MAX_ATTEMPTS);
    let from = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
    let admitted = (0..2000).filter(|host| attempts.admit(from(1, *host), Duration::ZERO));
    assert_eq!(admitted.count(), (MAX_ATTEMPTS / 2) as usize);
    let remembered = attempts.window.lock().unwrap().by_address.len();
    assert_eq!(remembered, (MAX_ATTEMPTS / 2) as usize);
    assert!(attempts.admit(from(2, 1), Duration::ZERO));
    assert!(attempts.admit(IpAddr::from([192, 0, 2, 1]), Duration::ZERO));
    assert!(attempts.admit(from(1, 1), ATTEMPT_WINDOW));
}
