//! Hosts at the join port whose credentials have ended, over real TLS: back with the pinned key, and
//! every way not to.

use keywheel_core::host::Host;
use keywheel_identity::authority::MEMBER_LIFETIME;
use keywheel_identity::bundle::{Bundle, Identity};
use keywheel_identity::enrol::{RenewAnswer, RenewAsk, Renewing};
use keywheel_seal::OsEntropy;
use keywheel_seal::sign::SigningKey;

use super::*;
use crate::door::Spans;
use crate::testing::members::{LIFETIME, Members, body};

/// A host that joined and whose credentials have ended since.
async fn ended() -> (Members, Bundle, Identity, HostId) {
    let members = Members::start(Spans::default()).await;
    let mut bundle = members.join("web-2").await;
    let identity = bundle.identity.take().unwrap();
    members.bench.clock.advance(LIFETIME * 2);
    assert!(LIFETIME * 2 < MEMBER_LIFETIME, "the gateway's own live on");
    assert!(bundle.tls.life().unwrap().1 < members.now());
    let host = identity.host().unwrap();
    (members, bundle, identity, host)
}

fn signed(
    ask: &RenewAsk,
    members: &Members,
    host: HostId,
    key: &SigningKey,
    binding: &Binding,
) -> Vec<u8> {
    let whom = (members.bench.api.deployment, host);
    serde_json::to_vec(&ask.signed(whom, key, binding)).unwrap()
}

fn state(members: &Members, host: HostId) -> Host {
    members.bench.api.view.read().world.hosts[&host].clone()
}

#[tokio::test]
async fn a_host_that_was_away_comes_back_with_its_pinned_key_and_a_new_sealing_key() {
    let (members, bundle, mut identity, host) = ended().await;
    let before = state(&members, host);
    let pair = keywheel_seal::hpke::HostKeyPair::generate(&OsEntropy);
    identity
        .sealing
        .push(keywheel_identity::bundle::SealingKey {
            generation: 2,
            made: members.now(),
            pair,
        });
    identity.gateways = vec!["old.example:8444".to_owned()];
    let renewing = Renewing::begin().unwrap();
    let renewing = renewing.with_sealing_key(identity.newest_sealing().unwrap());
    let key = SigningKey::from_seed_bytes(&identity.signing.seed()).unwrap();
    let ask = renewing.ask();
    let said = members
        .come_back(&bundle, |binding| {
            signed(&ask, &members, host, &key, binding)
        })
        .await
        .unwrap();
    assert!(said.starts_with("HTTP/1.1 200"), "{said}");
    let answer: RenewAnswer = serde_json::from_str(body(&said)).unwrap();
    let fresh = renewing.accept(identity, &answer).unwrap();
    assert_eq!(fresh.tls.life().unwrap().1, members.now().plus(LIFETIME));
    let after = state(&members, host);
    assert_eq!(
        (after.id, after.signing_key),
        (before.id, before.signing_key)
    );
    assert_eq!(after.key_generation, 2);
    assert_eq!(after.permits.len(), 1, "the ended one is forgotten");
    assert_ne!(after.permits, before.permits);
    let known = fresh.identity.unwrap().gateways;
    assert_eq!(known.len(), 2, "{known:?}");
    assert_eq!(known[1], "old.example:8444");
    let words = [
        "renew-credentials",
        &host.to_string(),
        "allowed",
        "join port",
    ];
    assert_eq!(members.records(&words).await.len(), 1);
}

#[tokio::test]
async fn who_is_no_host_of_this_key_on_this_connection_always_hears_the_same() {
    let (members, bundle, identity, host) = ended().await;
    let ours = SigningKey::from_seed_bytes(&identity.signing.seed()).unwrap();
    let theirs = SigningKey::generate(&OsEntropy);
    let (other, evicted) = {
        let other = members.join("web-3").await.identity.unwrap();
        let evicted = members.join("web-4").await.identity.unwrap();
        members.evict(evicted.host().unwrap()).await;
        (other.host().unwrap(), evicted)
    };
    let nobody = HostId::from_bytes([0xab; 16]);
    let ask = Renewing::begin().unwrap().ask();
    let before = state(&members, host);
    let mut heard = Vec::new();
    // Overheard on a connection before this one, in full.
    let mut overheard = Vec::new();
    let wrong = |binding: &Binding| {
        overheard = signed(&ask, &members, host, &ours, binding);
        signed(&ask, &members, host, &theirs, binding)
    };
    heard.push(members.come_back(&bundle, wrong).await.unwrap());
    heard.push(members.come_back(&bundle, |_| overheard).await.unwrap());
    for (host, key) in [
        (other, &ours),
        (nobody, &ours),
        (evicted.host().unwrap(), &evicted.signing),
    ] {
        let make = |binding: &Binding| signed(&ask, &members, host, key, binding);
        heard.push(members.come_back(&bundle, make).await.unwrap());
    }
    let changed = |binding: &Binding| {
        let whole = signed(&ask, &members, host, &ours, binding);
        let text = String::from_utf8(whole).unwrap();
        let more = Renewing::begin().unwrap().ask();
        text.replace(ask.bus_key(), more.bus_key()).into_bytes()
    };
    heard.push(members.come_back(&bundle, changed).await.unwrap());
    for said in &heard {
        assert!(said.starts_with("HTTP/1.1 403"), "{said}");
        assert_eq!(
            body(said),
            body(&heard[0]),
            "the answer tells what it should not"
        );
    }
    let denied = ["renew-credentials", "denied", "127.0.0.1"];
    assert_eq!(members.records(&denied).await.len(), heard.len());
    for (reason, count) in [
        ("not signed by the host's pinned key", 4),
        ("no such host", 1),
        ("was evicted", 1),
    ] {
        let words = [&denied[..], &[reason]].concat();
        assert_eq!(members.records(&words).await.len(), count, "{reason}");
    }
    assert_eq!(state(&members, host), before);
}

#[tokio::test]
async fn a_renewal_that_is_refused_behind_the_port_is_on_record_once() {
    let (members, bundle, mut identity, host) = ended().await;
    let pair = keywheel_seal::hpke::HostKeyPair::generate(&OsEntropy);
    identity
        .sealing
        .push(keywheel_identity::bundle::SealingKey {
            generation: 9,
            made: members.now(),
            pair,
        });
    let renewing = Renewing::begin().unwrap();
    let renewing = renewing.with_sealing_key(identity.newest_sealing().unwrap());
    let key = SigningKey::from_seed_bytes(&identity.signing.seed()).unwrap();
    let ask = renewing.ask();
    let said = members
        .come_back(&bundle, |binding| {
            signed(&ask, &members, host, &key, binding)
        })
        .await
        .unwrap();
    assert!(said.starts_with("HTTP/1.1 403"), "{said}");
    let denied = members.records(&["renew-credentials", "denied"]).await;
    assert!(
        denied.len() == 1 && denied[0].contains("does not follow"),
        "{denied:?}"
    );
}

#[tokio::test]
async fn what_is_no_request_is_refused_on_record_and_not_repeated() {
    let (members, bundle, _, _) = ended().await;
    for sent in [&b"{}"[..], b"kept-to-itself", b"{\"v\":1,\"host\":\"h\"}"] {
        let said = members.come_back(&bundle, |_| sent.to_vec()).await.unwrap();
        assert!(said.starts_with("HTTP/1.1 400"), "{said}");
        assert!(!said.contains("kept-to-itself"), "{said}");
    }
    assert_eq!(
        members
            .records(&["renew-credentials", "malformed"])
            .await
            .len(),
        3
    );
}

#[tokio::test]
async fn a_host_tells_its_wish_to_no_gateway_of_another_authority() {
    let (members, mut bundle, _, _) = ended().await;
    let foreign = members.foreign();
    let name = crate::testing::members::ada();
    let other = keywheel_identity::init::plain(&foreign, &name, &[], members.now(), &OsEntropy);
    bundle.tls.roots_pem = other.unwrap().tls.roots_pem;
    let why = members
        .come_back(&bundle, |_| panic!("it told something"))
        .await;
    assert!(why.is_err(), "{why:?}");
}
