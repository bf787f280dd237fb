//! A whole deployment on a real disk.

use keywheel_core::id::HostId;
use keywheel_seal::OsEntropy;

use super::*;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn server(index: u16) -> NewServer {
    NewServer {
        name: format!("bus-{index}"),
        listen: format!("0.0.0.0:{}", 4222 + index).parse().unwrap(),
        cluster: Some(format!("0.0.0.0:{}", 6222 + index).parse().unwrap()),
        route: Some(format!("bus-{index}.example:{}", 6222 + index)),
        addresses: vec![format!("bus-{index}.example")],
        store: "/var/lib/nats".into(),
        max_store_bytes: 1 << 30,
        installed: "/etc/keywheel/nats".into(),
    }
}

fn new<'a>(unseal: &'a UnsealKey, tls: bool) -> NewDeployment<'a> {
    let deployment = DeploymentId::from_bytes([7; 16]);
    NewDeployment {
        deployment,
        authority: Authority::create(deployment, NOW, &OsEntropy).unwrap(),
        operator: OperatorName::parse("ada").unwrap(),
        addresses: [(Role::Gateway, vec!["gateway.example".to_owned()])].into(),
        servers: vec![server(1), server(2), server(3)],
        urls: vec!["tls://bus-1.example:4223".into()],
        tls,
        unseal,
        entropy: &OsEntropy,
        now: NOW,
    }
}

#[test]
fn a_new_deployment_has_credentials_for_everyone_and_authorities_that_open() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("deployment");
    let unseal = UnsealKey::generate(&OsEntropy);
    init(&out, &new(&unseal, true)).unwrap();
    let mut trusts = Vec::new();
    for role in SERVICES {
        let (bundle, identity) = Bundle::read_speaker(&out.join(role_word(role))).unwrap();
        assert_eq!(identity.name, PeerName::Service(role));
        assert_eq!(identity.trust.len(), SERVICES.len());
        assert_eq!(identity.trust[&role], identity.signing.verifying_key());
        assert_eq!(bundle.claims.is_some(), role == Role::Gateway);
        assert!(bundle.bus.is_some());
        trusts.push(identity.trust);
    }
    assert!(trusts.windows(2).all(|pair| pair[0] == pair[1]));
    let person = Bundle::read(&out.join("operators/ada")).unwrap();
    assert!(person.identity.is_none() && person.bus.is_none());
    let home = Home::new(out.join("gateway"));
    let authority = home.authority(&unseal).unwrap();
    let host = PeerName::Host(HostId::from_bytes([1; 16]));
    assert!(authority.issue(&host, &[], NOW, &OsEntropy).is_ok());
    let bus = home.bus(&unseal).unwrap();
    let other = UnsealKey::generate(&OsEntropy);
    assert!(home.authority(&other).is_err() && home.bus(&other).is_err());
    let mut revocations = home.revocations().unwrap();
    let key = UserKey::generate().public_key();
    revocations.revoke(&key, NOW).unwrap();
    home.keep_revocations(&revocations).unwrap();
    assert!(home.revocations().unwrap().contains(&key));
    let config = std::fs::read_to_string(out.join("nats/bus-2").join(SERVER_FILE)).unwrap();
    assert!(config.contains(&bus.account()));
    assert_eq!(config.matches("nats-route://").count(), 3);
    assert_eq!(config.matches("verify: true").count(), 2);
    assert!(config.contains("\"/etc/keywheel/nats/tls.key\""));
}

#[test]
fn what_is_there_is_never_overwritten() {
    let scratch = tempfile::tempdir().unwrap();
    let unseal = UnsealKey::generate(&OsEntropy);
    let again = init(scratch.path(), &new(&unseal, true));
    assert!(matches!(again, Err(InitError::Exists(_))));
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn an_open_bus_without_tls_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let unseal = UnsealKey::generate(&OsEntropy);
    let open = init(&scratch.path().join("x"), &new(&unseal, false));
    assert!(open.unwrap_err().to_string().contains("no TLS"));
}

#[test]
fn a_bus_server_without_an_address_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let unseal = UnsealKey::generate(&OsEntropy);
    let mut new = new(&unseal, true);
    new.servers[1].addresses.clear();
    let out = scratch.path().join("x");
    assert!(init(&out, &new).unwrap_err().to_string().contains("bus-2"));
    assert!(!out.exists());
}
