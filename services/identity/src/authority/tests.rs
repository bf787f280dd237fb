//! Issuing, signing, sealing and rolling over, without a network.

use keywheel_core::audit::Role;
use keywheel_core::id::HostId;
use keywheel_seal::OsEntropy;
use keywheel_seal::envelope::UnsealKey;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::*;
use crate::name::OperatorName;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn deployment() -> DeploymentId {
    DeploymentId::from_bytes([7; 16])
}

fn authority() -> Authority {
    Authority::create(deployment(), NOW, &OsEntropy).unwrap()
}

fn leaf(pem: &str) -> CertificateDer<'static> {
    certificates(pem).unwrap().remove(0)
}

#[test]
fn a_certificate_names_its_owner_and_lives_as_long_as_it_should() {
    let ca = authority();
    let host = PeerName::Host(HostId::from_bytes([1; 16]));
    let person = PeerName::Operator(OperatorName::parse("ada").unwrap());
    for (name, life) in [
        (PeerName::Service(Role::Gateway), MEMBER_LIFETIME),
        (PeerName::BusServer, BUS_SERVER_LIFETIME),
        (host, MEMBER_LIFETIME),
        (person, OPERATOR_LIFETIME),
    ] {
        let issued = ca.issue(&name, &[], NOW, &OsEntropy).unwrap();
        let der = leaf(&issued.certificate.chain_pem);
        assert_eq!(PeerName::of_certificate(&der, deployment()), Ok(name));
        let (from, to) = validity(&der).unwrap();
        assert_eq!(
            (from, to),
            (issued.certificate.not_before, issued.certificate.not_after)
        );
        assert_eq!(NOW.since(from), CLOCK_SKEW);
        assert_eq!(to.since(NOW), life);
    }
}

#[test]
fn addresses_are_names_or_numbers() {
    let ca = authority();
    let name = PeerName::BusServer;
    let issue = |addresses: &[String]| ca.issue(&name, addresses, NOW, &OsEntropy);
    let good = [
        "nats-1.example".to_owned(),
        "127.0.0.1".into(),
        "::1".into(),
    ];
    let issued = issue(&good).unwrap();
    let der = leaf(&issued.certificate.chain_pem);
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert_eq!(names.value.general_names.len(), 4);
    assert_eq!(super::addresses(&der).unwrap(), good);
    for bad in ["", "a b", "http://x", "spiffe://x/service/gateway"] {
        assert!(
            matches!(issue(&[bad.to_owned()]), Err(AuthorityError::Address(_))),
            "{bad}"
        );
    }
    let many = vec!["a.example".to_owned(); MAX_ADDRESSES];
    assert!(issue(&many).is_ok());
    let more = vec!["a.example".to_owned(); MAX_ADDRESSES + 1];
    assert!(matches!(
        issue(&more),
        Err(AuthorityError::TooManyAddresses(_))
    ));
}

#[test]
fn only_the_key_of_a_signing_request_counts() {
    let ca = authority();
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["evil.example".to_owned()]).unwrap();
    let wanted = PeerName::Service(Role::Gateway).uri(deployment());
    params
        .subject_alt_names
        .push(SanType::URI(wanted.try_into().unwrap()));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let request = params.serialize_request(&key).unwrap().pem().unwrap();
    let name = PeerName::Host(HostId::from_bytes([1; 16]));
    let signed = ca.sign(&request, &name, &[], NOW, &OsEntropy).unwrap();
    let der = leaf(&signed.chain_pem);
    assert_eq!(PeerName::of_certificate(&der, deployment()), Ok(name));
    let (_, parsed) = X509Certificate::from_der(&der).unwrap();
    assert!(!parsed.is_ca());
    assert_eq!(parsed.public_key().raw, key.subject_public_key_info());
    assert!(!format!("{:?}", parsed.subject_alternative_name()).contains("evil"));
}

#[test]
fn a_request_without_proof_of_its_key_is_refused() {
    let ca = authority();
    let (_, request) = signing_request().unwrap();
    let name = PeerName::Host(HostId::from_bytes([1; 16]));
    assert!(ca.sign(&request, &name, &[], NOW, &OsEntropy).is_ok());
    let other = signing_request().unwrap().1;
    let middle = request.len() / 2;
    let mixed = format!("{}{}", &request[..middle], &other[middle..]);
    for bad in [mixed.as_str(), "", "-----BEGIN CERTIFICATE REQUEST-----"] {
        let error = ca.sign(bad, &name, &[], NOW, &OsEntropy).unwrap_err();
        assert!(matches!(error, AuthorityError::Request(_)), "{error}");
    }
    let long = "x".repeat(MAX_REQUEST_BYTES + 1);
    let error = ca.sign(&long, &name, &[], NOW, &OsEntropy).unwrap_err();
    assert!(error.to_string().contains("16384"));
}

#[test]
fn the_key_rests_sealed_and_opens_with_its_unseal_key_only() {
    let ca = authority();
    let unseal = UnsealKey::generate(&OsEntropy);
    let stored = ca.seal(&unseal, &OsEntropy).unwrap();
    let text = serde_json::to_string(&stored).unwrap();
    assert!(!text.contains("PRIVATE"));
    let read: StoredAuthority = serde_json::from_str(&text).unwrap();
    let opened = Authority::open(&read, &unseal).unwrap();
    assert_eq!(opened.pin(), ca.pin());
    let name = PeerName::BusServer;
    assert!(opened.issue(&name, &[], NOW, &OsEntropy).is_ok());
    let other = UnsealKey::generate(&OsEntropy);
    assert!(matches!(
        Authority::open(&read, &other),
        Err(AuthorityError::WrongUnsealKey)
    ));
    let moved = text.replace(
        &deployment().to_string(),
        &DeploymentId::from_bytes([8; 16]).to_string(),
    );
    let moved: StoredAuthority = serde_json::from_str(&moved).unwrap();
    assert!(matches!(
        Authority::open(&moved, &unseal),
        Err(AuthorityError::WrongUnsealKey)
    ));
}

#[test]
fn an_authority_of_ones_own_needs_a_ca_and_its_key() {
    let made = authority();
    let key = SecretBytes::from(made.key.serialize_pem().into_bytes());
    let root = made.roots_pem();
    let own = Authority::from_pem(deployment(), &root, &key).unwrap();
    assert_eq!(own.pin(), made.pin());
    let other = SecretBytes::from(KeyPair::generate().unwrap().serialize_pem().into_bytes());
    let wrong = Authority::from_pem(deployment(), &root, &other).unwrap_err();
    assert!(matches!(wrong, AuthorityError::Key(_)), "{wrong}");
    let issued = made
        .issue(&PeerName::BusServer, &[], NOW, &OsEntropy)
        .unwrap();
    let leaf = Authority::from_pem(deployment(), &issued.certificate.chain_pem, &issued.key_pem);
    assert!(leaf.unwrap_err().to_string().contains("may not sign"));
    let strangers = format!("{root}{}", authority().roots_pem());
    let unlinked = Authority::from_pem(deployment(), &strangers, &key).unwrap_err();
    assert!(unlinked.to_string().contains("not signed by"), "{unlinked}");
}

#[test]
fn a_rollover_trusts_both_roots_until_it_is_finished() {
    let mut ca = authority();
    let old_pin = ca.pin();
    ca.begin_rollover(authority(), NOW, &OsEntropy).unwrap();
    assert_ne!(ca.pin(), old_pin);
    assert_eq!(certificates(&ca.roots_pem()).unwrap().len(), 2);
    let again = ca.begin_rollover(authority(), NOW, &OsEntropy);
    assert!(matches!(again, Err(AuthorityError::RolloverUnderWay)));
    let unseal = UnsealKey::generate(&OsEntropy);
    let stored = ca.seal(&unseal, &OsEntropy).unwrap();
    let mut ca = Authority::open(&stored, &unseal).unwrap();
    let almost = NOW.plus(MEMBER_LIFETIME - Duration::from_micros(1));
    let early = ca.finish_rollover(almost, LongLived::Drop).unwrap_err();
    assert!(matches!(early, AuthorityError::TooEarly { .. }));
    let day = NOW.plus(MEMBER_LIFETIME);
    assert!(ca.finish_rollover(day, LongLived::Wait).is_err());
    ca.finish_rollover(day, LongLived::Drop).unwrap();
    assert_eq!(certificates(&ca.roots_pem()).unwrap().len(), 1);
    let none = ca.finish_rollover(day, LongLived::Drop);
    assert!(matches!(none, Err(AuthorityError::NoRollover)));
}

#[test]
fn members_live_as_long_as_they_are_given_and_never_longer_than_a_day() {
    let host = PeerName::Host(HostId::from_bytes([1; 16]));
    let (minute, week) = (Duration::from_secs(60), Duration::from_secs(7 * 24 * 3600));
    for (given, life) in [(minute, minute), (week, MEMBER_LIFETIME_MOST)] {
        let ca = authority().with_member_lifetime(given);
        let issued = ca.issue(&host, &[], NOW, &OsEntropy).unwrap();
        assert_eq!(issued.certificate.not_after, NOW.plus(life));
        assert_eq!(ca.lifetime(&PeerName::BusServer), BUS_SERVER_LIFETIME);
    }
}

#[test]
fn addresses_are_kept_from_certificates_of_ours_for_the_same_name_only() {
    let mut ca = authority();
    let gateway = PeerName::Service(Role::Gateway);
    let named = ["gateway.example".to_owned(), "10.0.0.1".to_owned()];
    let issued = ca.issue(&gateway, &named, NOW, &OsEntropy).unwrap();
    let shown = issued.certificate.chain_pem;
    assert_eq!(ca.kept_addresses(&gateway, &shown).unwrap(), named);
    let scheduler = PeerName::Service(Role::Scheduler);
    let taken = ca.kept_addresses(&scheduler, &shown).unwrap_err();
    assert!(taken.to_string().contains("scheduler"), "{taken}");
    let forged = authority().issue(&gateway, &named, NOW, &OsEntropy);
    let forged = forged.unwrap().certificate.chain_pem;
    assert!(ca.kept_addresses(&gateway, &forged).is_err());
    ca.begin_rollover(authority(), NOW, &OsEntropy).unwrap();
    let of_old_root = ca.kept_addresses(&gateway, &shown).unwrap();
    assert_eq!(of_old_root, named);
}

#[test]
fn a_certificate_never_outlives_the_authority() {
    let ca = authority();
    let late = NOW.plus(ROOT_LIFETIME - Duration::from_secs(60));
    let issued = ca
        .issue(&PeerName::BusServer, &[], late, &OsEntropy)
        .unwrap();
    assert_eq!(issued.certificate.not_after, NOW.plus(ROOT_LIFETIME));
    let after = NOW.plus(ROOT_LIFETIME);
    let dead = ca.issue(&PeerName::BusServer, &[], after, &OsEntropy);
    assert!(matches!(dead, Err(AuthorityError::Expired)));
}
