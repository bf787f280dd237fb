//! Opening a connection to the server: unix socket, TCP, TLS.
//!
//! Invariants: without TLS only to this machine; the server's certificate is always checked, by the
//! authorities that were handed in or by the system's. Speaks no Redis.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use keywheel_engine::port::{ErrorKind, PortError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::wire::{Failure, Stream, bounded};
use crate::address::{Address, Target};
use crate::trust::is_distrusted;

/// Opens a connection; `authorities` (PEM) are those that the certificate has to come from.
pub(crate) async fn connect(
    address: &Address,
    authorities: Option<&[u8]>,
) -> Result<Box<dyn Stream>, Failure> {
    let (host, port) = match &address.target {
        Target::Socket(path) => {
            let stream = bounded(&address.name, UnixStream::connect(path)).await?;
            return Ok(Box::new(stream));
        }
        Target::Tcp(host, port) => (host, *port),
    };
    let stream = bounded(&address.name, TcpStream::connect((host.as_str(), port))).await?;
    secured(address, host, stream, authorities).await
}

/// Opens a connection to where the address's name was resolved to.
pub(crate) async fn connect_to(
    address: &Address,
    at: &[SocketAddr],
    authorities: Option<&[u8]>,
) -> Result<Box<dyn Stream>, Failure> {
    let Target::Tcp(host, _) = &address.target else {
        return connect(address, authorities).await;
    };
    let stream = bounded(&address.name, TcpStream::connect(at)).await?;
    secured(address, host, stream, authorities).await
}

/// With TLS, where the address asks for it.
async fn secured(
    address: &Address,
    host: &str,
    stream: TcpStream,
    authorities: Option<&[u8]>,
) -> Result<Box<dyn Stream>, Failure> {
    // A command is one small write: waiting to fill a packet only costs time.
    let _slower = stream.set_nodelay(true);
    if !address.is_tls {
        return Ok(Box::new(stream));
    }
    let config = configuration(&address.name, authorities).map_err(Failure::Other)?;
    let name = ServerName::try_from(host.to_owned()).map_err(|_| {
        let text =
            format!("`{host}` is no name that a certificate can have; correct the connection");
        Failure::Other(PortError::new(ErrorKind::Denied, text))
    })?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let done = tokio::time::timeout(super::CALL_TIMEOUT, connected).await;
    let done = done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = done.map_err(|error| Failure::Other(untrusted(&address.name, error)))?;
    Ok(Box::new(stream))
}

fn configuration(name: &str, authorities: Option<&[u8]>) -> Result<ClientConfig, PortError> {
    let mut roots = RootCertStore::empty();
    match authorities {
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let certificate = certificate.map_err(unusable)?;
                roots.add(certificate).map_err(unusable)?;
            }
        }
    }
    if roots.is_empty() {
        let text = format!(
            "{name}: there is no authority to check its certificate by; name one as caFile"
        );
        return Err(PortError::new(ErrorKind::Denied, text));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(unusable)?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn unusable(error: impl std::error::Error + Send + Sync + 'static) -> PortError {
    let text = "the caFile cannot be used; put the authority's certificate there, as PEM";
    PortError::caused(ErrorKind::Denied, text, error)
}

fn untrusted(name: &str, error: io::Error) -> PortError {
    let (kind, why) = match is_distrusted(&error) {
        true => (
            ErrorKind::Denied,
            "its certificate is not trusted; name its authority as caFile",
        ),
        false => (
            ErrorKind::Unavailable,
            "TLS cannot be agreed on; see its log",
        ),
    };
    PortError::caused(kind, format!("{name}: {why}"), error)
}
