//! Opening a connection to the server: unix socket, TCP, TLS.
//!
//! Invariants: without TLS only to this machine; the server's certificate is always checked, by the
//! authorities of one file or by the system's, which are read at each connection, so that a changed
//! file is taken up. Speaks no Redis.

use std::io;
use std::path::Path;
use std::sync::Arc;

use keywheel_engine::port::{ErrorKind, PortError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::wire::{Failure, Stream, bounded};
use crate::address::{Address, Target};

/// Opens a connection.
pub(super) async fn connect(
    address: &Address,
    ca: Option<&Path>,
) -> Result<Box<dyn Stream>, Failure> {
    let (host, port) = match &address.target {
        Target::Socket(path) => {
            let stream = bounded(&address.name, UnixStream::connect(path)).await?;
            return Ok(Box::new(stream));
        }
        Target::Tcp(host, port) => (host, *port),
    };
    let stream = bounded(&address.name, TcpStream::connect((host.as_str(), port))).await?;
    // A command is one small write: waiting to fill a packet only costs time.
    let _slower = stream.set_nodelay(true);
    if !address.is_tls {
        return Ok(Box::new(stream));
    }
    let config = configuration(&address.name, ca).await.map_err(Failure::Other)?;
    let name = ServerName::try_from(host.clone()).map_err(|_| {
        let text = format!("`{host}` is no name that a certificate can have; correct the connection");
        Failure::Other(PortError::new(ErrorKind::Denied, text))
    })?;
    let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
    let done = tokio::time::timeout(super::CALL_TIMEOUT, connected).await;
    let done = done.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let stream = done.map_err(|error| Failure::Other(untrusted(&address.name, error)))?;
    Ok(Box::new(stream))
}

async fn configuration(name: &str, ca: Option<&Path>) -> Result<ClientConfig, PortError> {
    let roots = match ca {
        Some(file) => roots_of(file).await?,
        None => {
            let mut roots = RootCertStore::empty();
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    if roots.is_empty() {
        let text = format!("{name}: there is no authority to check its certificate by; name one in the rotator's tls.ca");
        return Err(PortError::new(ErrorKind::Denied, text));
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            PortError::caused(ErrorKind::Denied, "TLS cannot be used", error)
        })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

async fn roots_of(file: &Path) -> Result<RootCertStore, PortError> {
    let text = || {
        let file = file.display();
        format!("CA file {file} cannot be used; put the authority's certificate there, as PEM")
    };
    let pem = tokio::fs::read(file).await;
    let pem = pem.map_err(|error| PortError::caused(ErrorKind::Denied, text(), error))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let certificate = certificate
            .map_err(|error| PortError::caused(ErrorKind::Denied, text(), error))?;
        roots
            .add(certificate)
            .map_err(|error| PortError::caused(ErrorKind::Denied, text(), error))?;
    }
    Ok(roots)
}

fn untrusted(name: &str, error: io::Error) -> PortError {
    let cause = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let (kind, why) = match cause {
        Some(rustls::Error::InvalidCertificate(_)) => (
            ErrorKind::Denied,
            "its certificate is not trusted; name its authority in the rotator's tls.ca",
        ),
        _ => (
            ErrorKind::Unavailable,
            "TLS cannot be agreed on; see its log",
        ),
    };
    PortError::caused(kind, format!("{name}: {why}"), error)
}
