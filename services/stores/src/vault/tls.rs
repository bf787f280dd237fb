//! Opening a connection to the server: address, TCP, TLS.
//!
//! Invariants: plain HTTP only to this machine; the server's certificate is always checked, by the
//! authorities of one file or by the system's; files and credentials are read at each connection, so
//! a changed one is taken up. Goes through no proxy and knows no HTTP.

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use hyper::Uri;
use keywheel_core::store::{CredentialRef, VaultAuth, VaultSpec};
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::{ErrorKind, PortError};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::file;
use crate::http::Stream;

/// Longest file of authorities: a system's own has a quarter of it.
pub const MAX_CA_FILE_BYTES: u64 = 1 << 20;
const HTTPS_PORT: u16 = 443;
const HTTP_PORT: u16 = 80;

/// Where the server is and how it is spoken to.
pub(super) struct Endpoint {
    host: String,
    port: u16,
    is_tls: bool,
    /// `host[:port]` as it was declared.
    pub(super) authority: String,
    ca_file: String,
    identity: Option<(CredentialRef, CredentialRef)>,
}

impl Endpoint {
    /// The one that was declared.
    pub(super) fn parse(spec: &VaultSpec) -> Result<Self, PortError> {
        let refused = |why: &str| {
            let text = format!("address `{}` {why}", spec.address);
            PortError::new(ErrorKind::Denied, text)
        };
        let unclear = "is not `https://host:port`; correct the store's address";
        let uri: Uri = spec.address.parse().map_err(|_| refused(unclear))?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err(refused(unclear));
        };
        if !matches!(uri.path(), "" | "/")
            || uri.query().is_some()
            || authority.as_str().contains('@')
        {
            return Err(refused(unclear));
        }
        let host = authority
            .host()
            .trim_start_matches('[')
            .trim_end_matches(']');
        let is_tls = match scheme {
            "https" => true,
            "http" if is_this_machine(host) => false,
            "http" => {
                return Err(refused(
                    "is not of this machine: only https may leave it; use https",
                ));
            }
            _ => return Err(refused(unclear)),
        };
        Ok(Self {
            host: host.to_owned(),
            port: authority
                .port_u16()
                .unwrap_or(if is_tls { HTTPS_PORT } else { HTTP_PORT }),
            is_tls,
            authority: authority.to_string(),
            ca_file: spec.ca_file.clone(),
            identity: match &spec.auth {
                VaultAuth::Cert {
                    certificate, key, ..
                } => Some((certificate.clone(), key.clone())),
                _ => None,
            },
        })
    }

    /// Opens a connection.
    pub(super) async fn connect(
        &self,
        credentials: &dyn Credentials,
    ) -> Result<Box<dyn Stream>, PortError> {
        let place = (self.host.as_str(), self.port);
        let stream = TcpStream::connect(place).await.map_err(|error| {
            let text = format!("{} cannot be reached", self.authority);
            PortError::caused(ErrorKind::Unavailable, text, error)
        })?;
        // A request is one small write: waiting to fill a packet only costs time.
        let _slower = stream.set_nodelay(true);
        if !self.is_tls {
            return Ok(Box::new(stream));
        }
        let config = self.configuration(credentials).await?;
        let name = ServerName::try_from(self.host.clone()).map_err(|_| {
            let text = format!("`{}` is no name that a certificate can have", self.host);
            PortError::new(ErrorKind::Denied, text)
        })?;
        let connected = TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await;
        Ok(Box::new(connected.map_err(|error| self.explain(error))?))
    }

    async fn configuration(
        &self,
        credentials: &dyn Credentials,
    ) -> Result<ClientConfig, PortError> {
        let roots = match self.ca_file.as_str() {
            "" => system_roots()?,
            file => Arc::new(roots_of(file).await?),
        };
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("TLS", error))?
            .with_root_certificates(roots);
        let Some((certificate, key)) = &self.identity else {
            return Ok(builder.with_no_client_auth());
        };
        let certificate = credentials.read(certificate).await?;
        // EXPOSE: the certificate chain is shown to the server; its PEM text is parsed here.
        let chain =
            CertificateDer::pem_slice_iter(certificate.expose()).collect::<Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| unusable("the client certificate", error))?;
        let key = credentials.read(key).await?;
        // EXPOSE: the library signs the handshake with it.
        let key = PrivateKeyDer::from_pem_slice(key.expose());
        let key = key.map_err(|error| unusable("the client certificate's key", error))?;
        let config = builder.with_client_auth_cert(chain, key);
        config.map_err(|error| unusable("the client certificate with its key", error))
    }

    fn explain(&self, error: io::Error) -> PortError {
        let cause = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let (kind, why) = match cause {
            Some(rustls::Error::InvalidCertificate(_)) if self.ca_file.is_empty() => (
                ErrorKind::Denied,
                "its certificate is not trusted by this machine; name its authority in the store's CA file".to_owned(),
            ),
            Some(rustls::Error::InvalidCertificate(_)) => (
                ErrorKind::Denied,
                format!("its certificate is not trusted by {}; put its authority there", self.ca_file),
            ),
            _ => (ErrorKind::Unavailable, "TLS cannot be agreed on".to_owned()),
        };
        PortError::caused(kind, format!("{}: {why}", self.authority), error)
    }
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost"
        || host
            .parse()
            .is_ok_and(|address: IpAddr| address.is_loopback())
}

fn unusable(what: &str, error: impl std::error::Error + Send + Sync + 'static) -> PortError {
    PortError::caused(ErrorKind::Denied, format!("{what} cannot be used"), error)
}

async fn roots_of(file: &str) -> Result<RootCertStore, PortError> {
    let read = file::read(Path::new(file), MAX_CA_FILE_BYTES).await;
    let pem = read.map_err(|error| {
        let text = format!("CA file {file} cannot be read; correct its path or its mode");
        PortError::caused(ErrorKind::Denied, text, error)
    })?;
    let mut roots = RootCertStore::empty();
    // EXPOSE: certificates are public.
    for certificate in CertificateDer::pem_slice_iter(pem.bytes.expose()) {
        let certificate = certificate.map_err(|error| unusable(file, error))?;
        roots
            .add(certificate)
            .map_err(|error| unusable(file, error))?;
    }
    if roots.is_empty() {
        let text =
            format!("CA file {file} holds no certificate; put the authority's there, as PEM");
        return Err(PortError::new(ErrorKind::Denied, text));
    }
    Ok(roots)
}

/// Read once: it is hundreds of certificates.
fn system_roots() -> Result<Arc<RootCertStore>, PortError> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    if let Some(roots) = ROOTS.get() {
        return Ok(Arc::clone(roots));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        let text = "this machine has no authorities; name the server's in the store's CA file";
        return Err(PortError::new(ErrorKind::Denied, text));
    }
    Ok(Arc::clone(ROOTS.get_or_init(|| Arc::new(roots))))
}
