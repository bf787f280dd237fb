//! The operators' TCP port: the API over mutual TLS 1.3, for who has an operator's certificate.
//!
//! Invariants: nobody else gets past the handshake, not even a host or service of the deployment;
//! who did is on record by the name in the certificate. Same routes and bounds as the unix socket,
//! whose server writes what is counted here.

use std::sync::Arc;

use keywheel_identity::tls::{Admit, PeerKind, TlsError, TlsIdentity};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
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
        Ok(Self(Door {
            router: http::router(api.clone()),
            api,
            acceptor: TlsAcceptor::from(Arc::new(config)),
            members: Some(Arc::clone(tls)),
            spans,
            places: Places::default(),
            object: "operators-port",
        }))
    }

    /// Serves until told to stop; answers under way end first. The command bus must still run then.
    pub async fn run(self, listener: TcpListener, stop: CancellationToken) {
        self.0.run(listener, stop).await;
    }
}

#[cfg(test)]
mod tests;
