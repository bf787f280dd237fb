//! The client's side of TLS with a syslog receiver.

use std::sync::Arc;

use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio_rustls::TlsConnector;

/// Our certificates (PEM) and their key (PEM).
type Own = (Vec<u8>, SecretBytes);

/// Connects with these authorities (PEM), or the system's; and whom the certificate has to name.
pub(super) fn connector(
    address: &str,
    authorities: Option<&[u8]>,
    own: Option<Own>,
) -> Result<(TlsConnector, ServerName<'static>), PortError> {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|error| {
        let text = "the address of the sink names no server; correct it";
        PortError::caused(ErrorKind::Denied, text, error)
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?
        .with_root_certificates(roots(authorities)?);
    let config = match own {
        None => builder.with_no_client_auth(),
        Some((certificates, key)) => {
            let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&certificates).collect();
            let chain = chain.map_err(unusable)?;
            // EXPOSE: the receiver knows us by what is signed with it.
            let key = PrivateKeyDer::from_pem_slice(key.expose()).map_err(unusable)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(unusable)?
        }
    };
    Ok((TlsConnector::from(Arc::new(config)), name))
}

fn roots(authorities: Option<&[u8]>) -> Result<RootCertStore, PortError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots
                    .add(certificate.map_err(unusable)?)
                    .map_err(unusable)?;
            }
        }
        None => {
            // One that cannot be read is as if it were not there.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    Ok(roots)
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> PortError {
    let text = "the certificates or the key that the sink names cannot be used; correct the files";
    PortError::caused(ErrorKind::Denied, text, error)
}
