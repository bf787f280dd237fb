//! Checks of the other side's certificate, and the presenting of ours, behind the TLS library's traits.
//!
//! Invariant: chain and dates are the library's verdict under the clock it was given; after that the
//! name decides. Each handshake uses the credentials that are current when it begins.

use std::fmt;
use std::sync::Arc;

use keywheel_core::audit::Role;
use keywheel_core::id::DeploymentId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, verify_server_cert_signed_by_trust_anchor};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError,
    PeerIncompatible, RootCertStore, SignatureScheme,
};

use super::{Admit, Refusal, TlsIdentity, provider};
use crate::name::PeerName;

/// What the library needs of one set of credentials, made once.
pub(super) struct Known {
    certified: Arc<CertifiedKey>,
    roots: Arc<RootCertStore>,
    clients: Arc<dyn ClientCertVerifier>,
}

impl Known {
    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
        roots: Vec<CertificateDer<'static>>,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root)?;
        }
        let roots = Arc::new(store);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        Ok(Self {
            certified: Arc::new(CertifiedKey::from_der(chain, key, provider)?),
            roots,
            clients,
        })
    }
}

/// One end: shows the current certificate and checks the other's.
pub(super) struct Presenter {
    identity: Arc<TlsIdentity>,
    admit: Admit,
    algorithms: WebPkiSupportedAlgorithms,
    /// Whether a client may show none.
    is_optional: bool,
}

impl Presenter {
    pub(super) fn new(identity: Arc<TlsIdentity>, admit: Admit) -> Self {
        Self {
            identity,
            admit,
            algorithms: provider().signature_verification_algorithms,
            is_optional: false,
        }
    }

    /// One that lets in clients that show none.
    pub(super) fn or_none(mut self) -> Self {
        self.is_optional = true;
        self
    }

    /// The name decides, once the chain is known to be good.
    fn admit(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let name = PeerName::of_certificate(leaf, self.identity.deployment)
            .map_err(|error| refused(Refusal::Name(error)))?;
        if !self.admit.admits(&name) {
            return Err(refused(Refusal::WrongPeer {
                found: name,
                wanted: self.admit.to_string(),
            }));
        }
        if self.identity.denied().contains(&name) {
            return Err(refused(Refusal::Denied(name)));
        }
        Ok(())
    }
}

impl fmt::Debug for Presenter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Presenter({}, …)", self.identity.name)
    }
}

impl ResolvesServerCert for Presenter {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.identity.current().known.certified))
    }
}

impl ResolvesClientCert for Presenter {
    fn resolve(&self, _roots: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.identity.current().known.certified))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for Presenter {
    /// Roots can change while in use, so clients are not told which we trust.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        !self.is_optional
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let current = self.identity.current();
        let verified = current.known.clients.verify_client_cert(leaf, chain, now);
        let verified = verified.map_err(plainer)?;
        self.admit(leaf)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Presenter {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let current = self.identity.current();
        let roots = &current.known.roots;
        check_server_chain(leaf, roots, chain, now, &self.algorithms)?;
        self.admit(leaf)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Where a gateway's chain has to lead.
pub(super) enum Anchor {
    /// To the root with this fingerprint, which the gateway shows.
    Pin([u8; 32]),
    /// To one of these.
    Roots(Arc<RootCertStore>),
}

impl Anchor {
    /// Certificates of roots.
    pub(super) fn of_roots(roots: Vec<CertificateDer<'static>>) -> Result<Self, Error> {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root)?;
        }
        Ok(Self::Roots(Arc::new(store)))
    }

    fn roots(&self, chain: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, Error> {
        let pin = match self {
            Self::Roots(roots) => return Ok(Arc::clone(roots)),
            Self::Pin(pin) => pin,
        };
        let root = chain
            .iter()
            .find(|der| keywheel_seal::digest::sha256(der) == *pin)
            .ok_or_else(|| refused(Refusal::WrongPin))?;
        let mut store = RootCertStore::empty();
        store.add(root.clone().into_owned())?;
        Ok(Arc::new(store))
    }
}

/// Knows a deployment's gateway by the root its certificate leads to, as a join token or a host's
/// directory says.
pub(super) struct GatewayVerifier {
    /// Which deployment's; `None` where the anchor says that, since an authority issues for its own alone.
    deployment: Option<DeploymentId>,
    anchor: Anchor,
    algorithms: WebPkiSupportedAlgorithms,
}

impl GatewayVerifier {
    pub(super) fn new(deployment: Option<DeploymentId>, anchor: Anchor) -> Self {
        Self {
            deployment,
            anchor,
            algorithms: provider().signature_verification_algorithms,
        }
    }
}

impl fmt::Debug for GatewayVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GatewayVerifier({:?})", self.deployment)
    }
}

impl ServerCertVerifier for GatewayVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        chain: &[CertificateDer<'_>],
        _address: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let roots = self.anchor.roots(chain)?;
        check_server_chain(leaf, &roots, chain, now, &self.algorithms)?;
        let unnamed = |error| refused(Refusal::Name(error));
        let deployment = match self.deployment {
            Some(deployment) => deployment,
            None => PeerName::deployment_of(leaf).map_err(unnamed)?,
        };
        let found = PeerName::of_certificate(leaf, deployment).map_err(unnamed)?;
        let gateway = PeerName::Service(Role::Gateway);
        if found != gateway {
            let wanted = gateway.to_string();
            return Err(refused(Refusal::WrongPeer { found, wanted }));
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(too_old())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

fn check_server_chain(
    leaf: &CertificateDer<'_>,
    roots: &RootCertStore,
    chain: &[CertificateDer<'_>],
    now: UnixTime,
    algorithms: &WebPkiSupportedAlgorithms,
) -> Result<(), Error> {
    let leaf = ParsedCertificate::try_from(leaf)?;
    verify_server_cert_signed_by_trust_anchor(&leaf, roots, chain, now, algorithms.all)
        .map_err(plainer)
}

/// A root shown as a leaf (a self-signed certificate) is an unknown authority like any other.
fn plainer(error: Error) -> Error {
    match error {
        Error::InvalidCertificate(CertificateError::Other(_)) => {
            Error::InvalidCertificate(CertificateError::UnknownIssuer)
        }
        other => other,
    }
}

fn refused(refusal: Refusal) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))
}

/// Never reached: no configuration of ours offers TLS 1.2.
fn too_old() -> Error {
    Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered)
}
