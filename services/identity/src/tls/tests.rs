//! Real handshakes between two configurations, over a pipe in memory.

use std::io;
use std::sync::atomic::{AtomicI64, Ordering};

use keywheel_core::id::HostId;
use keywheel_seal::OsEntropy;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::*;
use crate::authority::{Authority, Issued, LongLived, MEMBER_LIFETIME, OPERATOR_LIFETIME};
use crate::name::OperatorName;

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const PIPE_BYTES: usize = 64 << 10;

/// A clock that stands still until it is set.
struct Still(AtomicI64);

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.load(Ordering::SeqCst))
    }

    fn monotonic(&self) -> Duration {
        Duration::ZERO
    }
}

fn clock(at: Timestamp) -> Arc<Still> {
    Arc::new(Still(AtomicI64::new(at.micros())))
}

fn deployment() -> DeploymentId {
    DeploymentId::from_bytes([7; 16])
}

fn early() -> Timestamp {
    Timestamp::from_micros(NOW.micros() - 200 * 24 * 3_600_000_000)
}

fn authority() -> Authority {
    Authority::create(deployment(), early(), &OsEntropy).unwrap()
}

fn gateway() -> PeerName {
    PeerName::Service(Role::Gateway)
}

fn ada() -> PeerName {
    PeerName::Operator(OperatorName::parse("ada").unwrap())
}

fn host() -> PeerName {
    PeerName::Host(HostId::from_bytes([3; 16]))
}

fn issue(ca: &Authority, name: &PeerName, at: Timestamp) -> Issued {
    ca.issue(name, &[], at, &OsEntropy).unwrap()
}

fn credentials(issued: &Issued, roots: &str) -> TlsCredentials {
    let chain = &issued.certificate.chain_pem;
    TlsCredentials::from_pem(deployment(), chain, &issued.key_pem, roots).unwrap()
}

fn identity_at(issued: &Issued, roots: &str, clock: Arc<Still>) -> Arc<TlsIdentity> {
    TlsIdentity::new(deployment(), credentials(issued, roots), clock)
}

fn identity(ca: &Authority, name: &PeerName) -> Arc<TlsIdentity> {
    identity_at(&issue(ca, name, NOW), &ca.roots_pem(), clock(NOW))
}

fn operators() -> Admit {
    Admit::only([PeerKind::Operator])
}

fn gateways() -> Admit {
    Admit::only([PeerKind::Service(Role::Gateway)])
}

type Ends = (io::Result<Vec<Vec<u8>>>, io::Result<Vec<Vec<u8>>>);

/// Both ends of one handshake and a byte each way: what each saw of the other's chain.
async fn shake(server: ServerConfig, client: ClientConfig) -> Ends {
    let (near, far) = duplex(PIPE_BYTES);
    tokio::join!(accept(server, near), connect(client, far))
}

async fn accept(config: ServerConfig, pipe: DuplexStream) -> io::Result<Vec<Vec<u8>>> {
    let mut stream = TlsAcceptor::from(Arc::new(config)).accept(pipe).await?;
    stream.write_all(b"s").await?;
    stream.flush().await?;
    stream.read_exact(&mut [0; 1]).await?;
    Ok(shown(stream.get_ref().1.peer_certificates()))
}

async fn connect(config: ClientConfig, pipe: DuplexStream) -> io::Result<Vec<Vec<u8>>> {
    let name = ServerName::try_from("any.example").unwrap();
    let connector = TlsConnector::from(Arc::new(config));
    let mut stream = connector.connect(name, pipe).await?;
    stream.write_all(b"c").await?;
    stream.flush().await?;
    stream.read_exact(&mut [0; 1]).await?;
    Ok(shown(stream.get_ref().1.peer_certificates()))
}

fn shown(chain: Option<&[CertificateDer<'_>]>) -> Vec<Vec<u8>> {
    let chain = chain.unwrap_or_default();
    chain.iter().map(|der| der.to_vec()).collect()
}

fn why(end: &io::Result<Vec<Vec<u8>>>) -> Refusal {
    let error = end.as_ref().expect_err("the handshake went through");
    explain(error).unwrap_or_else(|| panic!("not a TLS error: {error}"))
}

/// Handshake of a client with these credentials at a gateway that admits operators.
async fn client_with(ca: &Authority, client: Arc<TlsIdentity>) -> Ends {
    let server = identity(ca, &gateway());
    let accepting = server.server_config(operators()).unwrap();
    shake(accepting, client.client_config(gateways()).unwrap()).await
}

#[tokio::test]
async fn each_side_knows_the_other_by_its_name() {
    let ca = authority();
    let (server, client) = (identity(&ca, &gateway()), identity(&ca, &ada()));
    let accepting = server.server_config(operators()).unwrap();
    let connecting = client.client_config(gateways()).unwrap();
    let (seen, met) = shake(accepting, connecting).await;
    let ders = |chain: Vec<Vec<u8>>| -> Vec<CertificateDer<'static>> {
        chain.into_iter().map(CertificateDer::from).collect()
    };
    let (seen, met) = (ders(seen.unwrap()), ders(met.unwrap()));
    assert_eq!(server.peer(Some(&seen)), Ok(ada()));
    assert_eq!(client.peer(Some(&met)), Ok(gateway()));
    assert_eq!(server.peer(None), Err(Refusal::NoCertificate));
}

#[tokio::test]
async fn an_expired_certificate_is_refused_on_both_sides() {
    let ca = authority();
    let old = issue(&ca, &ada(), early());
    let client = identity_at(&old, &ca.roots_pem(), clock(NOW));
    let (server, client) = client_with(&ca, client).await;
    assert_eq!(why(&server), Refusal::Expired);
    assert!(why(&client).to_string().contains("expired"));

    let old = issue(&ca, &gateway(), early());
    let server = identity_at(&old, &ca.roots_pem(), clock(NOW));
    let client = identity(&ca, &ada());
    let accepting = server.server_config(operators()).unwrap();
    let (_, client) = shake(accepting, client.client_config(gateways()).unwrap()).await;
    assert_eq!(why(&client), Refusal::Expired);
}

#[tokio::test]
async fn a_certificate_ends_to_the_second() {
    let ca = authority();
    let issued = issue(&ca, &ada(), NOW);
    let end = NOW.plus(OPERATOR_LIFETIME);
    for (at, good) in [(end, true), (end.plus(Duration::from_secs(1)), false)] {
        let server = identity_at(&issue(&ca, &gateway(), at), &ca.roots_pem(), clock(at));
        let client = identity_at(&issued, &ca.roots_pem(), clock(at));
        let accepting = server.server_config(operators()).unwrap();
        let (server, _) = shake(accepting, client.client_config(gateways()).unwrap()).await;
        assert_eq!(server.is_ok(), good);
    }
}

#[tokio::test]
async fn a_certificate_that_is_not_valid_yet_is_refused() {
    let ca = authority();
    let issued = issue(&ca, &ada(), NOW.plus(Duration::from_secs(3600)));
    let client = identity_at(&issued, &ca.roots_pem(), clock(NOW));
    let (server, _) = client_with(&ca, client).await;
    assert_eq!(why(&server), Refusal::NotYetValid);
    assert!(why(&server).to_string().contains("clock"));
}

#[tokio::test]
async fn a_server_of_another_role_is_refused() {
    let ca = authority();
    let server = identity(&ca, &PeerName::Service(Role::Scheduler));
    let client = identity(&ca, &ada());
    let accepting = server.server_config(operators()).unwrap();
    let (server, client) = shake(accepting, client.client_config(gateways()).unwrap()).await;
    let text = why(&client).to_string();
    assert!(
        text.contains("service scheduler") && text.contains("service gateway"),
        "{text}"
    );
    assert!(matches!(why(&server), Refusal::ByPeer(_)));
}

#[tokio::test]
async fn a_hosts_certificate_is_refused_where_an_operator_is_demanded() {
    let ca = authority();
    let (server, client) = client_with(&ca, identity(&ca, &host())).await;
    let expected = Refusal::WrongPeer {
        found: host(),
        wanted: "an operator".into(),
    };
    assert_eq!(why(&server), expected);
    assert!(matches!(why(&client), Refusal::ByPeer(_)));
}

#[tokio::test]
async fn an_evicted_host_is_refused_from_the_next_handshake_on() {
    let ca = authority();
    let (server, client) = (identity(&ca, &gateway()), identity(&ca, &host()));
    let hosts = || Admit::only([PeerKind::Host]);
    let once = || async {
        let accepting = server.server_config(hosts()).unwrap();
        shake(accepting, client.client_config(gateways()).unwrap())
            .await
            .0
    };
    assert!(once().await.is_ok());
    server.deny([host()].into());
    assert_eq!(why(&once().await), Refusal::Denied(host()));
}

#[tokio::test]
async fn a_self_signed_certificate_is_refused_whatever_it_says() {
    let ca = authority();
    for is_ca in [
        rcgen::IsCa::NoCa,
        rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
    ] {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::default();
        let uri = ada().uri(deployment()).try_into().unwrap();
        params.subject_alt_names = vec![rcgen::SanType::URI(uri)];
        params.is_ca = is_ca;
        let made = params.self_signed(&key).unwrap();
        let key = SecretBytes::from(key.serialize_pem().into_bytes());
        let roots = ca.roots_pem();
        let credentials = TlsCredentials::from_pem(deployment(), &made.pem(), &key, &roots);
        let client = TlsIdentity::new(deployment(), credentials.unwrap(), clock(NOW));
        let (server, client) = client_with(&ca, client).await;
        assert_eq!(why(&server), Refusal::UnknownAuthority);
        assert!(matches!(why(&client), Refusal::ByPeer(_)));
    }
}

#[tokio::test]
async fn another_authoritys_certificate_is_refused_on_both_sides() {
    let (ours, theirs) = (authority(), authority());
    let client = identity_at(&issue(&theirs, &ada(), NOW), &ours.roots_pem(), clock(NOW));
    let (server, client) = client_with(&ours, client).await;
    assert_eq!(why(&server), Refusal::UnknownAuthority);
    assert!(why(&client).to_string().contains("authority"));

    let (_, client) = client_with(&theirs, identity(&ours, &ada())).await;
    assert_eq!(why(&client), Refusal::UnknownAuthority);
}

#[tokio::test]
async fn a_name_of_another_deployment_is_refused_even_under_the_same_root() {
    let other = DeploymentId::from_bytes([8; 16]);
    let own = Authority::create(other, early(), &OsEntropy).unwrap();
    let issued = issue(&own, &ada(), NOW);
    let chain = &issued.certificate.chain_pem;
    let theirs = TlsCredentials::from_pem(other, chain, &issued.key_pem, &own.roots_pem());
    let client = TlsIdentity::new(other, theirs.unwrap(), clock(NOW));
    let server = issue(&authority(), &gateway(), NOW);
    let server = identity_at(&server, &own.roots_pem(), clock(NOW));
    let accepting = server.server_config(operators()).unwrap();
    let mut connecting = client.client_config(gateways()).unwrap();
    connecting
        .dangerous()
        .set_certificate_verifier(Arc::new(Blind));
    let (server, _) = shake(accepting, connecting).await;
    assert!(matches!(
        why(&server),
        Refusal::Name(NameError::OtherDeployment { .. })
    ));
}

#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let ca = authority();
    let server = identity(&ca, &gateway());
    let accepting = server.server_config(operators()).unwrap();
    let bare = join_client_config(deployment(), ca.pin(), clock(NOW)).unwrap();
    let (server, client) = shake(accepting, bare).await;
    assert_eq!(why(&server), Refusal::NoCertificate);
    assert!(
        why(&client)
            .to_string()
            .contains("wants a client certificate")
    );
}

#[tokio::test]
async fn a_plaintext_client_is_refused() {
    let ca = authority();
    let server = identity(&ca, &gateway());
    let accepting = server.server_config(operators()).unwrap();
    let (near, mut far) = duplex(PIPE_BYTES);
    let speak = async { far.write_all(b"GET / HTTP/1.1\r\n\r\n").await };
    let (server, spoken) = tokio::join!(accept(accepting, near), speak);
    spoken.unwrap();
    assert_eq!(why(&server), Refusal::Plaintext);
}

#[tokio::test]
async fn a_client_of_tls_1_2_is_refused() {
    let ca = authority();
    let server = identity(&ca, &gateway());
    let accepting = server.server_config(operators()).unwrap();
    let old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Blind))
        .with_no_client_auth();
    let (server, client) = shake(accepting, old).await;
    assert_eq!(why(&server), Refusal::OldProtocol);
    assert_eq!(why(&client), Refusal::OldProtocol);
}

#[tokio::test]
async fn a_server_of_tls_1_2_is_refused() {
    let ca = authority();
    let issued = issue(&ca, &gateway(), NOW);
    let chain = certificates(&issued.certificate.chain_pem).unwrap();
    // EXPOSE: the test's own server key.
    let key = PrivateKeyDer::from_pem_slice(issued.key_pem.expose()).unwrap();
    let old = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let client = identity(&ca, &ada());
    let (_, client) = shake(old, client.client_config(gateways()).unwrap()).await;
    assert_eq!(why(&client), Refusal::OldProtocol);
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let ca = authority();
    let at = clock(NOW);
    let server = identity_at(
        &issue(&ca, &gateway(), NOW),
        &ca.roots_pem(),
        Arc::clone(&at),
    );
    let accepting = server.server_config(Admit::only([PeerKind::Host])).unwrap();
    let later = NOW.plus(MEMBER_LIFETIME * 3 / 4);
    let end = NOW.plus(MEMBER_LIFETIME).plus(Duration::from_secs(60));
    at.0.store(end.micros(), Ordering::SeqCst);
    let client = identity_at(
        &issue(&ca, &host(), later),
        &ca.roots_pem(),
        Arc::clone(&at),
    );
    let connecting = client.client_config(gateways()).unwrap();
    let (_, seen) = shake(accepting.clone(), connecting.clone()).await;
    assert_eq!(
        why(&seen),
        Refusal::Expired,
        "the first certificate has ended"
    );
    server
        .replace(credentials(&issue(&ca, &gateway(), later), &ca.roots_pem()))
        .unwrap();
    assert_eq!(server.life().1, later.plus(MEMBER_LIFETIME));
    let (seen, _) = shake(accepting, connecting).await;
    assert!(
        seen.is_ok(),
        "the same configuration shows the new one: {seen:?}"
    );
    let wrong = server.replace(credentials(&issue(&ca, &ada(), later), &ca.roots_pem()));
    assert!(matches!(wrong, Err(TlsError::NotOurs { .. })));
}

#[tokio::test]
async fn a_rollover_never_refuses_a_member() {
    let mut ca = authority();
    let before = ca.roots_pem();
    let (old_server, old_client) = (issue(&ca, &gateway(), NOW), issue(&ca, &ada(), NOW));
    ca.begin_rollover(authority(), NOW, &OsEntropy).unwrap();
    let both = ca.roots_pem();
    let (new_server, new_client) = (issue(&ca, &gateway(), NOW), issue(&ca, &ada(), NOW));
    let try_all = |roots: Vec<(&'static str, &Issued, String, &Issued, String)>| {
        let pairs = roots
            .into_iter()
            .map(|(what, server, knows, client, known)| {
                let server = identity_at(server, &knows, clock(NOW));
                let client = identity_at(client, &known, clock(NOW));
                let accepting = server.server_config(operators()).unwrap();
                (what, accepting, client.client_config(gateways()).unwrap())
            });
        pairs.collect::<Vec<_>>()
    };
    let all = try_all(vec![
        (
            "old meets old",
            &old_server,
            before.clone(),
            &old_client,
            before.clone(),
        ),
        (
            "old server meets new client",
            &old_server,
            before.clone(),
            &new_client,
            both.clone(),
        ),
        (
            "new server meets old client",
            &new_server,
            both.clone(),
            &old_client,
            before.clone(),
        ),
        (
            "new meets new",
            &new_server,
            both.clone(),
            &new_client,
            both.clone(),
        ),
    ]);
    for (what, accepting, connecting) in all {
        let (server, client) = shake(accepting, connecting).await;
        assert!(
            server.is_ok() && client.is_ok(),
            "{what}: {server:?} {client:?}"
        );
    }
    let later = NOW.plus(OPERATOR_LIFETIME);
    ca.finish_rollover(later, LongLived::Wait).unwrap();
    let finished = identity_at(&issue(&ca, &gateway(), NOW), &ca.roots_pem(), clock(NOW));
    let left = identity_at(&old_client, &both, clock(NOW));
    let accepting = finished.server_config(operators()).unwrap();
    let (server, _) = shake(accepting, left.client_config(gateways()).unwrap()).await;
    assert_eq!(
        why(&server),
        Refusal::UnknownAuthority,
        "the old root is gone"
    );
}

#[tokio::test]
async fn a_machine_that_joins_trusts_the_pinned_gateway_only() {
    let ca = authority();
    let join = |server: &Arc<TlsIdentity>, pin| {
        let accepting = server.join_server_config().unwrap();
        let joining = join_client_config(deployment(), pin, clock(NOW)).unwrap();
        shake(accepting, joining)
    };
    let server = identity(&ca, &gateway());
    let (seen, met) = join(&server, ca.pin()).await;
    assert!(seen.unwrap().is_empty() && met.is_ok());
    let (_, met) = join(&server, authority().pin()).await;
    assert_eq!(why(&met), Refusal::WrongPin);
    let scheduler = identity(&ca, &PeerName::Service(Role::Scheduler));
    let (_, met) = join(&scheduler, ca.pin()).await;
    assert!(matches!(why(&met), Refusal::WrongPeer { .. }));
    let impostor = identity(&authority(), &gateway());
    let (_, met) = join(&impostor, ca.pin()).await;
    assert_eq!(why(&met), Refusal::WrongPin);
}

#[tokio::test]
async fn an_impostor_who_shows_our_root_is_still_refused() {
    let (ours, theirs) = (authority(), authority());
    let mut issued = issue(&theirs, &gateway(), NOW);
    issued.certificate.chain_pem.push_str(&ours.roots_pem());
    let impostor = identity_at(&issued, &theirs.roots_pem(), clock(NOW));
    let accepting = impostor.join_server_config().unwrap();
    let joining = join_client_config(deployment(), ours.pin(), clock(NOW)).unwrap();
    let (_, met) = shake(accepting, joining).await;
    assert_eq!(why(&met), Refusal::UnknownAuthority);
}

#[test]
fn credentials_that_do_not_belong_together_are_refused() {
    let ca = authority();
    let (one, two) = (issue(&ca, &ada(), NOW), issue(&ca, &ada(), NOW));
    let roots = ca.roots_pem();
    let read = |chain: &str, key: &SecretBytes, roots: &str| {
        TlsCredentials::from_pem(deployment(), chain, key, roots)
    };
    let chain = &one.certificate.chain_pem;
    assert!(read(chain, &one.key_pem, &roots).is_ok());
    assert!(matches!(
        read(chain, &two.key_pem, &roots),
        Err(TlsError::Setup(_))
    ));
    assert!(matches!(
        read("", &one.key_pem, &roots),
        Err(TlsError::Pem { .. })
    ));
    assert!(matches!(
        read(chain, &one.key_pem, ""),
        Err(TlsError::Pem { .. })
    ));
    let none = SecretBytes::from(b"no key".to_vec());
    assert!(matches!(
        read(chain, &none, &roots),
        Err(TlsError::Pem { .. })
    ));
    assert!(matches!(
        read(&roots, &one.key_pem, &roots),
        Err(TlsError::Name(_))
    ));
}

/// Believes every server: stands for a client that is not ours.
#[derive(Debug)]
struct Blind;

impl rustls::client::danger::ServerCertVerifier for Blind {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        Ok(rustls::client::danger::HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
