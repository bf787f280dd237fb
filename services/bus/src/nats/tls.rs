//! Mutual TLS 1.3 with the bus server: our authorities and no others, and a certificate that can be
//! renewed while the service runs.
//!
//! Invariant: the platform's authorities are never trusted.

use std::sync::{Arc, PoisonError, RwLock};

use async_nats::rustls;
use keywheel_seal::SecretBytes;
use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

use super::options::{ConnectError, Tls};

/// The certificate that is shown at the next connect.
#[derive(Debug)]
pub(super) struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let shown = self.0.read().unwrap_or_else(PoisonError::into_inner);
        Some(Arc::clone(&shown))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl Shown {
    /// Shows another certificate from the next connect on.
    pub(super) fn replace(
        &self,
        certificate: &[u8],
        key: &SecretBytes,
    ) -> Result<(), ConnectError> {
        let renewed = certified(&provider(), certificate, key)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(renewed);
        Ok(())
    }
}

/// Whether a connection could be made with them.
pub(super) fn check(tls: &Tls) -> Result<(), ConnectError> {
    client(tls).map(drop)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The client's side of the connection.
pub(super) fn client(tls: &Tls) -> Result<(ClientConfig, Arc<Shown>), ConnectError> {
    let provider = provider();
    let mut roots = RootCertStore::empty();
    for authority in certificates("authority", &tls.ca)? {
        roots
            .add(authority)
            .map_err(|error| bad("authority", error))?;
    }
    let certified = certified(&provider, &tls.certificate, &tls.key)?;
    let shown = Arc::new(Shown(RwLock::new(Arc::new(certified))));
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| bad("TLS version", error))?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesClientCert>);
    Ok((config, shown))
}

fn certified(
    provider: &CryptoProvider,
    certificate: &[u8],
    key: &SecretBytes,
) -> Result<CertifiedKey, ConnectError> {
    let chain = certificates("certificate", certificate)?;
    // EXPOSE: the TLS library signs the handshake with it.
    let key = PrivateKeyDer::from_pem_slice(key.expose())
        .map_err(|_| bad("certificate's key", "it is not a PEM key"))?;
    CertifiedKey::from_der(chain, key, provider).map_err(|error| bad("certificate", error))
}

fn certificates(
    what: &'static str,
    pem: &[u8],
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let read = read.map_err(|error| bad(what, error.to_string()))?;
    if read.is_empty() {
        return Err(bad(what, "there is no PEM certificate in it"));
    }
    Ok(read)
}

fn bad(
    what: &'static str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ConnectError {
    let source = source.into();
    ConnectError::BadCertificate { what, source }
}
