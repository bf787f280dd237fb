//! A host whose credentials have ended asks for fresh ones at a gateway's join port, with its pinned key.
//!
//! Invariants: only the gateway whose certificate leads to a root in the host's directory is told
//! anything; what is sent is signed over that very connection. Containers keep what they have
//! meanwhile; nothing here touches them. Who may come back is decided by the gateway.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_daemon::chain;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_identity::bundle::{Identity, TlsFiles};
use keywheel_identity::enrol::{RenewAnswer, RenewAsk};
use keywheel_identity::tls::{binding, return_client_config};
use keywheel_member::JoinPort;
use tokio_rustls::TlsConnector;

use crate::join::{ANSWER_TIMEOUT, JoinError, RETURN_PATH, broken, connect, post, read};

/// Asks the gateways that a host remembers, one after the other.
pub struct Returning {
    /// Judges the gateway's certificate.
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl JoinPort for Returning {
    async fn ask(
        &self,
        tls: &TlsFiles,
        identity: &Identity,
        ask: &RenewAsk,
    ) -> Result<RenewAnswer, PortError> {
        let mut fault = PortError::new(
            ErrorKind::NotFound,
            "no gateway's join port is known to this host",
        );
        for address in &identity.gateways {
            match self.ask_at(address, tls, identity, ask).await {
                Ok(answer) => return Ok(answer),
                Err(error) => {
                    let kind = match error {
                        JoinError::Refused(_) => ErrorKind::Denied,
                        _ => ErrorKind::Unavailable,
                    };
                    fault = PortError::new(kind, chain(&error));
                }
            }
        }
        Err(fault)
    }
}

impl Returning {
    async fn ask_at(
        &self,
        address: &str,
        tls: &TlsFiles,
        identity: &Identity,
        ask: &RenewAsk,
    ) -> Result<RenewAnswer, JoinError> {
        let host = identity
            .host()
            .ok_or_else(|| JoinError::Refused("these credentials are no host's".to_owned()))?;
        let clock = Arc::clone(&self.clock);
        let config = return_client_config(identity.deployment, &tls.roots_pem, clock)?;
        let stream = connect(&TlsConnector::from(Arc::new(config)), address).await?;
        let binding = binding(stream.get_ref().1)?;
        let whom = (identity.deployment, host);
        let asked = ask.signed(whom, &identity.signing, &binding);
        let asked = serde_json::to_vec(&asked).map_err(|error| broken(address, &error))?;
        let exchange = post(stream, RETURN_PATH, &asked, address);
        let answered = tokio::time::timeout(ANSWER_TIMEOUT, exchange).await;
        let late = |_| JoinError::Late {
            address: address.to_owned(),
        };
        read(&answered.map_err(late)??)
    }
}
