//! The operators' TCP port: the API over mutual TLS 1.3, for who has an operator's certificate.
//!
//! Invariants: nobody else gets past the handshake, not even a host or service of the deployment, but that who shows
//! no certificate may where tokens are taken, and is a stranger without one;
//! who did is on record by the name in the certificate. Same routes and bounds as the unix socket,
//! whose server writes what is counted here.

use std::sync::Arc;

use keywheel_identity::tls::{Admit, PeerKind, TlsError, TlsIdentity};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;

use crate::door::{Door, Spans};
use crate::http::{self, Api};
use crate::places::Places;

/// The port's server.
pub struct RemoteServer(Door);

impl RemoteServer {
    /// A server of the API; `tls` is the gateway's identity.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(api: Api, tls: &Arc<TlsIdentity>, spans: Spans) -> Result<Self, TlsError> {
        let config = tls.server_config(Admit::only([PeerKind::Operator]))?;
        Ok(Self::of(api, tls, spans, (config, false)))
    }

    /// The same, where somebody without a certificate may come with a token. One who shows a certificate has to show
    /// an operator's all the same.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn with_tokens(api: Api, tls: &Arc<TlsIdentity>, spans: Spans) -> Result<Self, TlsError> {
        let config = tls.server_config_or_none(Admit::only([PeerKind::Operator]))?;
        Ok(Self::of(api, tls, spans, (config, true)))
    }

    fn of(
        api: Api,
        tls: &Arc<TlsIdentity>,
        spans: Spans,
        (config, takes_tokens): (ServerConfig, bool),
    ) -> Self {
        Self(Door {
            router: http::router(api.clone()),
            api,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            members: Some(Arc::clone(tls)),
            spans,
            places: Places::default(),
            object: "operators-port",
            takes_tokens,
        })
    }

    /// Serves until told to stop; answers under way end first. The command bus must still run then.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        self.0.run(listener, stop).await;
    }
}

#[cfg(test)]
mod tests;
