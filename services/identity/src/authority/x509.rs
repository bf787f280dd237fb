//! Reading and writing certificates: PEM, dates, addresses, chains. Signs nothing.

use keywheel_core::time::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::ParsedCertificate;

use super::AuthorityError;

/// Begin and end of a certificate (DER).
///
/// # Errors
/// When it is not a certificate.
pub fn validity(der: &[u8]) -> Result<(Timestamp, Timestamp), AuthorityError> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let (_, certificate) = X509Certificate::from_der(der)
        .map_err(|_| AuthorityError::Chain("it holds something that is no certificate".into()))?;
    let validity = certificate.validity();
    let at = |seconds: i64| Timestamp::from_micros(seconds.saturating_mul(1_000_000));
    Ok((
        at(validity.not_before.timestamp()),
        at(validity.not_after.timestamp()),
    ))
}

/// The DNS names and IP addresses of a certificate (DER), to be asked for again.
///
/// # Errors
/// When it is not a certificate.
pub fn addresses(der: &[u8]) -> Result<Vec<String>, AuthorityError> {
    use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};
    let bad = || AuthorityError::Chain("it holds something that is no certificate".into());
    let (_, certificate) = X509Certificate::from_der(der).map_err(|_| bad())?;
    let names = certificate.subject_alternative_name().map_err(|_| bad())?;
    let address = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => ip_text(bytes),
        _ => None,
    };
    let all = names.iter().flat_map(|names| &names.value.general_names);
    Ok(all.filter_map(address).collect())
}

fn ip_text(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).map(std::net::IpAddr::from);
    Some(v4.or_else(|_| v6()).ok()?.to_string())
}

/// Certificates of a PEM text, at least one.
pub(crate) fn certificates(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    let all = all.map_err(|error| format!("it is not PEM ({error})"))?;
    if all.is_empty() {
        return Err("it holds no certificate".into());
    }
    Ok(all)
}

/// PEM of one certificate.
pub(super) fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

/// Whether a certificate leads to one of the roots; it is judged as of its last moment.
pub(super) fn check_issued(
    leaf: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    roots: &[CertificateDer<'static>],
    end: Timestamp,
) -> Result<(), AuthorityError> {
    let bad = |error: rustls::Error| AuthorityError::Chain(error.to_string());
    let mut store = rustls::RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(bad)?;
    }
    let since = u64::try_from(end.micros()).unwrap_or_default();
    let at = UnixTime::since_unix_epoch(std::time::Duration::from_micros(since));
    let leaf = ParsedCertificate::try_from(leaf).map_err(bad)?;
    let algorithms = crate::tls::provider().signature_verification_algorithms.all;
    verify_server_cert_signed_by_trust_anchor(&leaf, &store, between, at, algorithms).map_err(bad)
}

/// Each certificate is a CA and signed by the next; the first one's key is ours.
pub(super) fn check_chain(
    chain: &[CertificateDer<'static>],
    key: &KeyPair,
) -> Result<(), AuthorityError> {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let bad = |what: &str| AuthorityError::Chain(what.to_owned());
    let mut child: Option<X509Certificate<'_>> = None;
    for der in chain {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|_| bad("it holds something that is no certificate"))?;
        if !certificate.is_ca() {
            return Err(bad("it holds a certificate that may not sign others"));
        }
        if let Some(child) = &child {
            child
                .verify_signature(Some(certificate.public_key()))
                .map_err(|_| bad("one certificate is not signed by the one after it"))?;
        } else if certificate.public_key().raw != key.subject_public_key_info() {
            return Err(AuthorityError::Key(
                "it does not belong to the first certificate".into(),
            ));
        }
        child = Some(certificate);
    }
    Ok(())
}
