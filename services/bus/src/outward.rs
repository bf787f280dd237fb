//! Telling a subject of somebody else's NATS server: one acknowledged message at a time.
//!
//! It is no part of our bus: nothing is read there, and nothing is signed as our messages are. Invariants: a
//! message counts as told only when a stream there has it; a repeat has the same id, so that stream drops it;
//! without TLS only this machine is told, and the server's certificate is always checked.

use std::sync::Arc;
use std::time::Duration;

use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::Context;
use async_nats::jetstream::context::ContextBuilder;
use async_nats::{ConnectOptions, HeaderMap, ServerAddr, rustls};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};

/// How long connecting and being acknowledged may each take.
pub const OUTWARD_TIMEOUT: Duration = Duration::from_secs(10);

/// A connection to a server of somebody else.
pub struct Outward {
    context: Context,
    name: String,
}

/// Host and port of a server's URL.
///
/// # Errors
/// `Denied` when it is none.
pub fn place(url: &str) -> Result<(String, u16), PortError> {
    let server: ServerAddr = url.parse().map_err(|_| unusable("the URL"))?;
    Ok((server.host().to_owned(), server.port()))
}

fn unusable(what: &str) -> PortError {
    let text = format!("{what} of the NATS server cannot be used; correct it");
    PortError::new(ErrorKind::Denied, text)
}

impl Outward {
    /// Connects to `tls://host:port`, or `nats://` of this machine, with credentials as NATS writes them.
    ///
    /// # Errors
    /// `Denied` when the address, the credentials or the authorities (PEM) are none, else `Unavailable`.
    pub async fn connect(
        url: &str,
        credentials: Option<&SecretBytes>,
        authorities: Option<&[u8]>,
    ) -> Result<Self, PortError> {
        let server: ServerAddr = url.parse().map_err(|_| unusable("the URL"))?;
        let name = format!("{}:{}", server.host(), server.port());
        let mut connect = ConnectOptions::new()
            .name("keywheel")
            .ignore_discovered_servers()
            .connection_timeout(OUTWARD_TIMEOUT)
            .max_reconnects(Some(1));
        if let Some(credentials) = credentials {
            // EXPOSE: the client signs the server's challenge with it.
            let text = std::str::from_utf8(credentials.expose());
            let text = text.map_err(|_| unusable("the credentials file"))?;
            let signed = connect.credentials(text);
            connect = signed.map_err(|_| unusable("the credentials file"))?;
        }
        if url.starts_with("tls://") {
            let config = tls(authorities).ok_or_else(|| unusable("the caFile"))?;
            connect = connect.tls_client_config(config).require_tls(true);
        }
        let client = connect.connect(server).await.map_err(|error| {
            let text = format!("{name} cannot be reached; see its log");
            PortError::caused(ErrorKind::Unavailable, text, error)
        })?;
        let context = ContextBuilder::new()
            .timeout(OUTWARD_TIMEOUT)
            .ack_timeout(OUTWARD_TIMEOUT)
            .build(client);
        Ok(Self { context, name })
    }

    /// Publishes a message under an id, and comes back when a stream has it.
    ///
    /// # Errors
    /// `Unavailable` when no stream acknowledged it.
    pub async fn publish(&self, subject: &str, id: &str, body: &[u8]) -> Result<(), PortError> {
        let message = ("application/cloudevents+json", body);
        self.publish_as(subject, id, message).await
    }

    /// The same for what is no CloudEvent: a content type, and a body of it.
    ///
    /// # Errors
    /// `Unavailable` when no stream acknowledged it.
    pub async fn publish_as(
        &self,
        subject: &str,
        id: &str,
        (kind, body): (&str, &[u8]),
    ) -> Result<(), PortError> {
        let untold = |error: Box<dyn std::error::Error + Send + Sync>| {
            let text = format!(
                "no stream at {} acknowledged a message to `{subject}`; make one there that takes this subject",
                self.name
            );
            PortError::caused(ErrorKind::Unavailable, text, error)
        };
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, id);
        headers.insert("Content-Type", kind);
        let sent = self
            .context
            .publish_with_headers(subject.to_owned(), headers, body.to_vec().into())
            .await
            .map_err(|error| untold(error.into()))?;
        sent.await.map(drop).map_err(|error| untold(error.into()))
    }
}

/// The client's side of the connection: these authorities, or the platform's.
fn tls(authorities: Option<&[u8]>) -> Option<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match authorities {
        Some(pem) => {
            for certificate in CertificateDer::pem_slice_iter(pem) {
                roots.add(certificate.ok()?).ok()?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    if roots.is_empty() {
        return None;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider);
    let builder = builder.with_safe_default_protocol_versions().ok()?;
    Some(builder.with_root_certificates(roots).with_no_client_auth())
}
