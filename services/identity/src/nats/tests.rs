//! Claims and configuration without a server; the real server has its own suite.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use keywheel_core::audit::Role;
use keywheel_core::id::HostId;
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::UnsealKey;
use serde_json::Value;

use super::*;
use crate::authority::MEMBER_LIFETIME_MOST;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_500_000);

fn authority() -> BusAuthority {
    BusAuthority::create(DeploymentId::from_bytes([7; 16]))
}

/// The content of a claim, after a check of its signature.
fn content(claim: &str) -> Value {
    let (signed, signature) = claim.rsplit_once('.').unwrap();
    let (_, body) = signed.split_once('.').unwrap();
    let body: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(body).unwrap()).unwrap();
    let issuer = KeyPair::from_public_key(body["iss"].as_str().unwrap()).unwrap();
    let signature = URL_SAFE_NO_PAD.decode(signature).unwrap();
    issuer.verify(signed.as_bytes(), &signature).unwrap();
    body
}

#[test]
fn a_permit_carries_the_clients_subjects_and_ends_with_its_certificate() {
    let authority = authority();
    let client = Client::injector(HostId::from_bytes([1; 16]));
    let key = UserKey::generate();
    let end = NOW.plus(Duration::from_secs(3600));
    let permit = authority
        .permit(&client, &key.public_key(), NOW, end)
        .unwrap();
    let body = content(&permit);
    assert_eq!(body["iss"], authority.account());
    assert_eq!(body["sub"], key.public_key());
    assert_eq!(body["exp"], 1_800_003_600);
    let wanted = Subjects::new(authority.deployment()).permissions(&client);
    assert_eq!(
        body["nats"]["pub"]["allow"],
        serde_json::json!(wanted.publish)
    );
    assert_eq!(
        body["nats"]["sub"]["allow"],
        serde_json::json!(wanted.subscribe)
    );
    assert_eq!(body["nats"]["resp"], Value::Null);
}

#[test]
fn every_permit_fits_into_one_line_of_the_protocol() {
    let authority = authority();
    let key = UserKey::generate().public_key();
    for role in crate::name::ROLES {
        let host = (role == Role::Injector).then(|| HostId::from_bytes([1; 16]));
        let permit = authority
            .permit(&Client { role, host }, &key, NOW, NOW)
            .unwrap();
        assert!(permit.len() < 16 << 10, "{role:?}: {}", permit.len());
    }
}

#[test]
fn who_answers_may_answer_once_and_in_time() {
    let key = UserKey::generate().public_key();
    let client = Client::service(Role::Gateway);
    let body = content(&authority().permit(&client, &key, NOW, NOW).unwrap());
    assert_eq!(body["nats"]["resp"]["max"], 1);
    assert_eq!(body["nats"]["resp"]["ttl"], 60_000_000_000_u64);
}

#[test]
fn a_revocation_makes_a_newer_claim_even_within_one_second() {
    let authority = authority();
    let mut revocations = Revocations::default();
    let first = content(&authority.account_claim(&mut revocations, NOW).unwrap());
    let key = UserKey::generate().public_key();
    revocations.revoke(&key, NOW).unwrap();
    let second = content(&authority.account_claim(&mut revocations, NOW).unwrap());
    assert!(second["iat"].as_i64() > first["iat"].as_i64());
    assert_eq!(second["nats"]["revocations"][&key], 1_800_000_000);
    assert!(revocations.contains(&key));
    let kept = serde_json::to_string(&revocations).unwrap();
    assert_eq!(
        serde_json::from_str::<Revocations>(&kept).unwrap(),
        revocations
    );
}

#[test]
fn revocations_are_forgotten_after_the_permits_expired() {
    let mut revocations = Revocations::default();
    let (old, new) = (
        UserKey::generate().public_key(),
        UserKey::generate().public_key(),
    );
    revocations.revoke(&old, NOW).unwrap();
    revocations
        .revoke(&new, NOW.plus(MEMBER_LIFETIME_MOST))
        .unwrap();
    assert!(revocations.contains(&old));
    revocations
        .revoke(&new, NOW.plus(MEMBER_LIFETIME_MOST * 2))
        .unwrap();
    assert!(!revocations.contains(&old));
}

#[test]
fn a_claim_that_lacks_a_revocation_is_known_from_one_that_has_it() {
    let authority = authority();
    let mut mine = Revocations::default();
    let before = authority.account_claim(&mut mine, NOW).unwrap();
    assert!(mine.is_empty() && authority.refuses_all(&before, &mine).unwrap());
    mine.revoke(&UserKey::generate().public_key(), NOW).unwrap();
    assert!(!authority.refuses_all(&before, &mine).unwrap());
    let after = authority.account_claim(&mut mine, NOW).unwrap();
    assert!(authority.refuses_all(&after, &mine).unwrap());
    assert!(authority.refuses_all("a.b.c", &mine).is_err());
}

#[test]
fn a_permit_with_other_permissions_than_the_build_s_is_told_apart() {
    let authority = authority();
    let deployment = authority.deployment();
    let end = NOW.plus(MEMBER_LIFETIME_MOST);
    let creds = |client: &Client| {
        let user = UserKey::generate();
        let permit = authority
            .permit(client, &user.public_key(), NOW, end)
            .unwrap();
        user.credentials(&permit).unwrap()
    };
    let host = |byte| Client::injector(HostId::from_bytes([byte; 16]));
    let clients = [
        Client::service(Role::Gateway),
        Client::service(Role::Scheduler),
        Client::service(Role::StoreSync),
        Client::service(Role::AuditSink),
        host(1),
    ];
    for client in &clients {
        check_permit(&creds(client), deployment, client).unwrap();
    }
    let wrong = check_permit(&creds(&clients[1]), deployment, &clients[0]).unwrap_err();
    assert!(
        wrong.to_string().contains("it may not publish to"),
        "{wrong}"
    );
    let other = check_permit(&creds(&host(2)), deployment, &host(1)).unwrap_err();
    assert!(matches!(other, NatsError::Permit(_)), "{other}");
    let none = SecretBytes::from(b"none".to_vec());
    assert!(check_permit(&none, deployment, &clients[0]).is_err());
}

#[test]
fn an_eviction_refuses_every_key_of_the_client_and_no_other() {
    let mut revocations = Revocations::default();
    let (mine, other) = (
        Client::injector(HostId::from_bytes([1; 16])),
        Client::injector(HostId::from_bytes([2; 16])),
    );
    let keys: Vec<_> = (0..3).map(|_| UserKey::generate().public_key()).collect();
    let half = NOW.plus(MEMBER_LIFETIME_MOST / 2);
    revocations.note_issued(&mine, &keys[0], NOW);
    revocations.note_issued(&mine, &keys[1], half);
    revocations.note_issued(&other, &keys[2], half);
    let mut later = revocations.clone();
    assert_eq!(revocations.revoke_client(&mine, half), 2);
    assert!(revocations.contains(&keys[0]) && revocations.contains(&keys[1]));
    assert!(!revocations.contains(&keys[2]));
    assert_eq!(revocations.revoke_client(&mine, half), 0);
    later.note_issued(&other, &keys[2], NOW.plus(MEMBER_LIFETIME_MOST));
    let left = later.revoke_client(&mine, NOW.plus(MEMBER_LIFETIME_MOST));
    assert_eq!(left, 1, "the first permit has ended by itself");
}

#[test]
fn what_another_gateway_revoked_is_learnt_from_its_claim() {
    let authority = authority();
    let (mut mine, mut theirs) = (Revocations::default(), Revocations::default());
    let key = UserKey::generate().public_key();
    theirs.revoke(&key, NOW).unwrap();
    let claim = authority.account_claim(&mut theirs, NOW).unwrap();
    authority.learn(&claim, &mut mine).unwrap();
    assert!(mine.contains(&key));
    let next = content(&authority.account_claim(&mut mine, NOW).unwrap());
    assert!(next["iat"].as_i64() > content(&claim)["iat"].as_i64());
    let stranger = self::authority().account_claim(&mut theirs, NOW).unwrap();
    let system = authority.system_claim(NOW).unwrap();
    let cut = &claim[..claim.len() - 2];
    for forged in [stranger.as_str(), &system, cut, "", "a.b.c"] {
        let refused = authority.learn(forged, &mut Revocations::default());
        assert!(matches!(refused, Err(NatsError::Claim)), "{forged}");
    }
}

#[test]
fn only_the_public_key_of_a_user_gets_a_permit() {
    let authority = authority();
    let user = UserKey::generate();
    // EXPOSE: a seed given by mistake must be refused.
    let seed = String::from_utf8(user.seed().unwrap().expose().to_vec()).unwrap();
    let bad = [
        authority.account(),
        seed.clone(),
        String::new(),
        "U".repeat(56),
    ];
    for key in bad {
        let error = authority
            .permit(&Client::service(Role::Scheduler), &key, NOW, NOW)
            .unwrap_err();
        assert!(matches!(error, NatsError::UserKey), "{error}");
        assert!(!error.to_string().contains(&seed));
    }
}

#[test]
fn keys_rest_sealed_and_open_with_their_unseal_key_only() {
    let authority = authority();
    let unseal = UnsealKey::generate(&OsEntropy);
    let stored = authority.seal(&unseal, &OsEntropy).unwrap();
    let opened = BusAuthority::open(&stored, &unseal).unwrap();
    assert_eq!(opened.account(), authority.account());
    assert_eq!(opened.system_account(), authority.system_account());
    let other = UnsealKey::generate(&OsEntropy);
    let wrong = BusAuthority::open(&stored, &other).unwrap_err();
    assert!(matches!(wrong, NatsError::WrongUnsealKey));
}

fn server(listen: &str, tls: bool) -> BusServer {
    BusServer {
        name: "bus-1".into(),
        listen: listen.parse().unwrap(),
        store: "/var/lib/nats".into(),
        max_store_bytes: 1 << 30,
        tls: tls.then(|| BusTls {
            certificate: "/etc/keywheel/nats/tls.pem".into(),
            key: "/etc/keywheel/nats/tls.key".into(),
            roots: "/etc/keywheel/nats/ca.pem".into(),
        }),
        cluster: None,
    }
}

#[test]
fn without_tls_a_server_listens_on_loopback_only() {
    let authority = authority();
    let config = |server| server_config(&authority, &mut Revocations::default(), &server, NOW);
    assert!(config(server("127.0.0.1:4222", false)).is_ok());
    assert!(config(server("[::1]:4222", false)).is_ok());
    let error = config(server("0.0.0.0:4222", false)).unwrap_err();
    assert!(error.to_string().contains("no TLS"), "{error}");
    let text = config(server("0.0.0.0:4222", true)).unwrap();
    assert!(text.contains("verify: true") && text.contains("min_version: \"1.3\""));
    let mut routed = server("127.0.0.1:4222", false);
    routed.cluster = Some(BusCluster {
        listen: "0.0.0.0:6222".parse().unwrap(),
        routes: vec![],
    });
    assert!(config(routed).is_err());
}

#[test]
fn a_setting_cannot_break_out_of_its_place() {
    let authority = authority();
    for name in ["", "a\"b", "a\nb", "$HOME", "a\\b"] {
        let mut server = server("127.0.0.1:4222", false);
        server.name = name.into();
        let config = server_config(&authority, &mut Revocations::default(), &server, NOW);
        assert!(matches!(config, Err(NatsError::Setting(_))), "{name}");
    }
}

#[test]
fn no_claim_makes_its_reader_panic_signed_or_not() {
    let authority = authority();
    let mut revocations = Revocations::default();
    let claim = authority.account_claim(&mut revocations, NOW).unwrap();
    let learned = |claim: &str| authority.learn(claim, &mut Revocations::default());
    assert!(learned(&claim).is_ok());
    keywheel_testkit::hostile(claim.as_bytes(), |bytes| {
        let text = String::from_utf8_lossy(bytes);
        if learned(&text).is_ok() {
            assert_eq!(text.trim(), claim, "a changed claim counts");
        }
        let _ = claims::UserPermissions::read(&text);
    });
    // A content of any bytes under a signature that holds.
    let by = KeyPair::new_operator();
    let valid = serde_json::to_vec(&content(&claim)).unwrap();
    keywheel_testkit::hostile(&valid, |bytes| {
        let signed = format!("e30.{}", URL_SAFE_NO_PAD.encode(bytes));
        let signature = URL_SAFE_NO_PAD.encode(by.sign(signed.as_bytes()).unwrap());
        let claim = format!("{signed}.{signature}");
        let _ = claims::read(&claim, &by);
        let _ = claims::UserPermissions::read(&claim);
    });
}
