//! The deployment's certificate authority: makes roots, issues and signs certificates.
//!
//! Invariants: names come from the caller, never from a signing request; every certificate carries
//! one name, its purpose and a bounded life; the private key leaves memory only sealed under the
//! unseal key. A rollover trusts two roots for as long as certificates of the old one live, and
//! links the new root to the old one, so that a peer that knows only one of them keeps connecting.
//! It opens no file and reads no clock.

mod rollover;
mod stored;
mod x509;

use std::time::Duration;

use keywheel_core::id::DeploymentId;
use keywheel_core::time::Timestamp;
use keywheel_schemas::config::apart::{DEFAULT_CREDENTIAL_LIFETIME, MAX_CREDENTIAL_LIFETIME};
use keywheel_seal::{Entropy, SecretBytes};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use rustls::pki_types::CertificateDer;

pub use self::rollover::LongLived;
pub use self::stored::StoredAuthority;
pub(crate) use self::x509::certificates;
pub use self::x509::{addresses, validity};
use self::x509::{check_chain, check_issued, pem};
use crate::name::PeerName;

/// Life of the certificate of a service or host, and of its user on the bus, unless told otherwise.
pub const MEMBER_LIFETIME: Duration = DEFAULT_CREDENTIAL_LIFETIME;
/// The longest such life. The first credentials of services have it, so that there is time to bring
/// them to their machines.
pub const MEMBER_LIFETIME_MOST: Duration = MAX_CREDENTIAL_LIFETIME;
/// Life of a bus server's certificate: nothing of ours runs there to renew it.
pub const BUS_SERVER_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// Life of a person's certificate.
pub const OPERATOR_LIFETIME: Duration = Duration::from_secs(90 * 24 * 3600);
/// Life of a root.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(10 * 365 * 24 * 3600);
/// How far before now a certificate begins, for clocks that are behind.
pub const CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Most DNS names and addresses of one certificate.
pub const MAX_ADDRESSES: usize = 32;
/// Longest signing request, in bytes.
pub const MAX_REQUEST_BYTES: usize = 16 << 10;
/// Certificates between a leaf and its root: an intermediate, or the link of a rollover.
const PATH_LENGTH: u8 = 1;

/// Why the authority cannot do it.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// Not a CA of ours.
    #[error("the certificate chain cannot be used: {0}")]
    Chain(String),
    /// Not its key.
    #[error(
        "the private key cannot be used: {0}; give the PEM key (ECDSA P-256, P-384 or Ed25519) of the first certificate in the chain"
    )]
    Key(String),
    /// A request that is none.
    #[error("the signing request cannot be used: {0}; make a new one")]
    Request(String),
    /// A DNS name or address that is none.
    #[error("`{0}` is neither a DNS name nor an IP address; correct it")]
    Address(String),
    /// Too many of them.
    #[error("a certificate has at most {MAX_ADDRESSES} addresses, {0} were given; leave some out")]
    TooManyAddresses(usize),
    /// The root ends first.
    #[error("the certificate authority itself expired; roll it over with a new root")]
    Expired,
    /// The sealed file is damaged.
    #[error("the stored certificate authority is damaged ({0}); restore it from your backup")]
    Damaged(&'static str),
    /// Wrong unseal key.
    #[error(
        "the unseal key does not open the certificate authority; give the key it was sealed with"
    )]
    WrongUnsealKey,
    /// A rollover is under way.
    #[error("a rollover is under way already; finish it before you begin another")]
    RolloverUnderWay,
    /// None is.
    #[error("no rollover is under way; begin one first")]
    NoRollover,
    /// Certificates of the old root are alive.
    #[error(
        "certificates of the old root live up to {until}; wait until then, or give people and bus servers new ones and drop theirs explicitly"
    )]
    TooEarly {
        /// When the last one ends.
        until: String,
    },
    /// The library refused.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// Who issues certificates.
pub struct Authority {
    deployment: DeploymentId,
    key: KeyPair,
    /// The issuing certificate first, its root last.
    chain: Vec<CertificateDer<'static>>,
    /// The old root and the link to it, while a rollover is under way.
    rollover: Option<rollover::Rollover>,
    member_lifetime: Duration,
}

/// A certificate as its owner presents it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedCertificate {
    /// PEM: the certificate, then everything up to the root.
    pub chain_pem: String,
    /// PEM: every root to be trusted.
    pub roots_pem: String,
    /// When it begins.
    pub not_before: Timestamp,
    /// When it ends.
    pub not_after: Timestamp,
}

/// A certificate with a fresh key.
#[derive(Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: SignedCertificate,
    /// Its private key, PEM (PKCS #8).
    pub key_pem: SecretBytes,
}

impl Authority {
    /// Makes a self-signed root (ECDSA P-256).
    ///
    /// # Errors
    /// When no key can be made.
    pub fn create(
        deployment: DeploymentId,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate()?;
        let serial = draw_serial(entropy);
        let label: String = serial.iter().take(4).map(|b| format!("{b:02x}")).collect();
        let name = format!("Keywheel {deployment} root {label}");
        let params = ca_params(&name, now, now.plus(ROOT_LIFETIME), &serial);
        let root = params.self_signed(&key)?;
        Ok(Self {
            deployment,
            key,
            chain: vec![root.der().clone()],
            rollover: None,
            member_lifetime: MEMBER_LIFETIME,
        })
    }

    /// Takes an authority of your own: PEM chain (the issuing certificate first, its root last) and
    /// the PEM key of the first.
    ///
    /// # Errors
    /// When the chain is not of CAs, or the key is not the first one's.
    pub fn from_pem(
        deployment: DeploymentId,
        chain_pem: &str,
        key_pem: &SecretBytes,
    ) -> Result<Self, AuthorityError> {
        // EXPOSE: the PEM text is parsed into the key type.
        let text = std::str::from_utf8(key_pem.expose())
            .map_err(|_| AuthorityError::Key("it is not PEM text".into()))?;
        let key =
            KeyPair::from_pem(text).map_err(|error| AuthorityError::Key(error.to_string()))?;
        let chain = certificates(chain_pem).map_err(AuthorityError::Chain)?;
        check_chain(&chain, &key)?;
        Ok(Self {
            deployment,
            key,
            chain,
            rollover: None,
            member_lifetime: MEMBER_LIFETIME,
        })
    }

    /// Gives services and hosts certificates that live so long.
    #[must_use]
    pub fn with_member_lifetime(mut self, lifetime: Duration) -> Self {
        self.member_lifetime = lifetime.min(MEMBER_LIFETIME_MOST);
        self
    }

    /// How long a certificate of this name lives.
    #[must_use]
    pub const fn lifetime(&self, name: &PeerName) -> Duration {
        match name {
            PeerName::Service(_) | PeerName::Host(_) => self.member_lifetime,
            PeerName::BusServer => BUS_SERVER_LIFETIME,
            PeerName::Operator(_) => OPERATOR_LIFETIME,
        }
    }

    /// DNS names and IP addresses of a certificate (PEM with its chain) that was issued here for
    /// `name`, expired or not: its next one has the same.
    ///
    /// # Errors
    /// When it is not from here or not for `name`.
    pub fn kept_addresses(
        &self,
        name: &PeerName,
        chain_pem: &str,
    ) -> Result<Vec<String>, AuthorityError> {
        let chain = certificates(chain_pem).map_err(AuthorityError::Chain)?;
        let (leaf, between) = chain
            .split_first()
            .ok_or_else(|| AuthorityError::Chain("it is empty".into()))?;
        let (_, end) = validity(leaf)?;
        let roots: Vec<_> = self.roots().cloned().collect();
        check_issued(leaf, between, &roots, end)?;
        match PeerName::of_certificate(leaf, self.deployment) {
            Ok(found) if found == *name => addresses(leaf),
            _ => Err(AuthorityError::Chain(format!(
                "it is not a certificate of {name}"
            ))),
        }
    }

    /// Whose authority it is.
    #[must_use]
    pub fn deployment(&self) -> DeploymentId {
        self.deployment
    }

    /// PEM of every root that is to be trusted: one, or two during a rollover.
    #[must_use]
    pub fn roots_pem(&self) -> String {
        self.roots().map(|der| pem(der)).collect()
    }

    /// SHA-256 of the root new certificates lead to, as join tokens carry it.
    #[must_use]
    pub fn pin(&self) -> [u8; 32] {
        self.chain
            .last()
            .map(|root| keywheel_seal::digest::sha256(root))
            .unwrap_or_default()
    }

    /// Issues a certificate with a fresh key. `addresses` are DNS names and IP addresses.
    ///
    /// # Errors
    /// When an address is none, or the authority expired.
    pub fn issue(
        &self,
        name: &PeerName,
        addresses: &[String],
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<Issued, AuthorityError> {
        let key = KeyPair::generate()?;
        Ok(Issued {
            certificate: self.certify(&key, name, addresses, now, entropy)?,
            key_pem: SecretBytes::from(key.serialize_pem().into_bytes()),
        })
    }

    /// Signs the public key of a signing request (PEM). Nothing else of the request counts: names,
    /// purposes and life are ours to give. Its own signature is checked, as proof of the key.
    ///
    /// # Errors
    /// When the request cannot be used, an address is none, or the authority expired.
    pub fn sign(
        &self,
        request_pem: &str,
        name: &PeerName,
        addresses: &[String],
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<SignedCertificate, AuthorityError> {
        if request_pem.len() > MAX_REQUEST_BYTES {
            let limit = format!("it is longer than {MAX_REQUEST_BYTES} bytes");
            return Err(AuthorityError::Request(limit));
        }
        let request = CertificateSigningRequestParams::from_pem(request_pem)
            .map_err(|error| AuthorityError::Request(error.to_string()))?;
        self.certify(&request.public_key, name, addresses, now, entropy)
    }

    fn certify(
        &self,
        key: &impl PublicKeyData,
        name: &PeerName,
        addresses: &[String],
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<SignedCertificate, AuthorityError> {
        let issuing = self.issuing()?;
        let not_before = seconds(skewed(now));
        let end = self.ends()?;
        if end <= now {
            return Err(AuthorityError::Expired);
        }
        let not_after = seconds(now.plus(self.lifetime(name)).min(end));
        let mut params = CertificateParams::default();
        set_life(&mut params, not_before, not_after);
        params.serial_number = Some(SerialNumber::from_slice(&draw_serial(entropy)));
        params.distinguished_name = rcgen::DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, name.to_string());
        params.subject_alt_names = alternative_names(name, self.deployment, addresses)?;
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = purposes(name);
        params.use_authority_key_identifier_extension = true;
        let issuer = Issuer::from_ca_cert_der(issuing, &self.key)?;
        let leaf = params.signed_by(key, &issuer)?;
        Ok(SignedCertificate {
            chain_pem: self.presented(leaf.der()),
            roots_pem: self.roots_pem(),
            not_before,
            not_after,
        })
    }

    /// The certificate, its chain, and during a rollover the link to the old root and that root.
    fn presented(&self, leaf: &CertificateDer<'_>) -> String {
        let rollover = self.rollover.iter();
        let old = rollover.flat_map(|rollover| [&rollover.link, &rollover.root]);
        std::iter::once(leaf)
            .chain(&self.chain)
            .chain(old)
            .map(|der| pem(der))
            .collect()
    }

    fn roots(&self) -> impl Iterator<Item = &CertificateDer<'static>> {
        let old = self.rollover.iter().map(|rollover| &rollover.root);
        self.chain.last().into_iter().chain(old)
    }

    fn issuing(&self) -> Result<&CertificateDer<'static>, AuthorityError> {
        let empty = || AuthorityError::Chain("it is empty".into());
        self.chain.first().ok_or_else(empty)
    }

    /// When the first certificate of the chain ends.
    fn ends(&self) -> Result<Timestamp, AuthorityError> {
        let ends = self
            .chain
            .iter()
            .map(|der| validity(der).map(|(_, end)| end));
        let ends: Vec<_> = ends.collect::<Result<_, _>>()?;
        let empty = || AuthorityError::Chain("it is empty".into());
        ends.into_iter().min().ok_or_else(empty)
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Authority({}, …)", self.deployment)
    }
}

/// A fresh key (PEM) and a signing request for it (PEM) that names nobody.
///
/// # Errors
/// When no key can be made.
pub fn signing_request() -> Result<(SecretBytes, String), AuthorityError> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    let request = params.serialize_request(&key)?.pem()?;
    Ok((SecretBytes::from(key.serialize_pem().into_bytes()), request))
}

fn ca_params(
    name: &str,
    now: Timestamp,
    not_after: Timestamp,
    serial: &[u8; 16],
) -> CertificateParams {
    let mut params = CertificateParams::default();
    set_life(&mut params, skewed(now), not_after);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(PATH_LENGTH));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

/// Servers prove themselves to clients and to each other; hosts and people only as clients.
fn purposes(name: &PeerName) -> Vec<ExtendedKeyUsagePurpose> {
    match name {
        PeerName::Service(_) | PeerName::BusServer => vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ],
        PeerName::Host(_) | PeerName::Operator(_) => vec![ExtendedKeyUsagePurpose::ClientAuth],
    }
}

/// Whether one certificate can have all these DNS names and IP addresses.
///
/// # Errors
/// With the first that is neither, or when there are too many.
pub fn check_addresses(addresses: &[String]) -> Result<(), AuthorityError> {
    if addresses.len() > MAX_ADDRESSES {
        return Err(AuthorityError::TooManyAddresses(addresses.len()));
    }
    addresses
        .iter()
        .try_for_each(|address| subject(address).map(drop))
}

/// An address as a certificate names it.
fn subject(address: &str) -> Result<SanType, AuthorityError> {
    let bad = || AuthorityError::Address(address.chars().take(80).collect());
    match address.parse() {
        Ok(ip) => Ok(SanType::IpAddress(ip)),
        Err(_) => {
            rustls::pki_types::DnsName::try_from(address).map_err(|_| bad())?;
            Ok(SanType::DnsName(address.try_into().map_err(|_| bad())?))
        }
    }
}

fn alternative_names(
    name: &PeerName,
    deployment: DeploymentId,
    addresses: &[String],
) -> Result<Vec<SanType>, AuthorityError> {
    check_addresses(addresses)?;
    let uri = name.uri(deployment).try_into()?;
    let mut names = vec![SanType::URI(uri)];
    for address in addresses {
        names.push(subject(address)?);
    }
    Ok(names)
}

/// Sixteen bytes nobody can guess; positive and not shortened.
fn draw_serial(entropy: &dyn Entropy) -> [u8; 16] {
    let mut serial = [0; 16];
    entropy.fill(&mut serial);
    serial[0] = (serial[0] & 0x7f) | 0x40;
    serial
}

/// Whole seconds, as certificates hold them.
fn seconds(at: Timestamp) -> Timestamp {
    Timestamp::from_micros(at.micros().div_euclid(1_000_000) * 1_000_000)
}

/// A little before now, for clocks that are behind.
fn skewed(now: Timestamp) -> Timestamp {
    let skew = i64::try_from(CLOCK_SKEW.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(skew))
}

/// Sets begin and end, both after 1970 and in whole seconds.
fn set_life(params: &mut CertificateParams, not_before: Timestamp, not_after: Timestamp) {
    let after_1970 = |at: Timestamp| {
        let since = at.since(Timestamp::from_micros(0));
        rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(since.as_secs())
    };
    params.not_before = after_1970(not_before);
    params.not_after = after_1970(not_after);
}

#[cfg(test)]
mod tests;
