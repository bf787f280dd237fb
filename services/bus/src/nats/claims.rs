//! Questions to the bus servers' own account: what claim they have about ours, and a newer one.
//!
//! Invariant: the connection lasts as long as the questions; nothing listens on it. What a claim says
//! is not known here.

use std::time::Duration;

use async_nats::{Client, ConnectOptions, ServerAddr};

use super::options::{self, ConnectError, MemberFiles};
use super::proof::Proof;
use super::{chain, tls};

/// How long a connection or an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A connection for questions.
pub struct ClaimsDesk {
    client: Client,
    named: String,
}

impl ClaimsDesk {
    /// Connects; `files` hold the permit for the system account, `inbox` is where it may listen.
    ///
    /// # Errors
    /// When no server is reached, or it refuses.
    pub async fn open(
        servers: &[String],
        files: &MemberFiles<'_>,
        inbox: &str,
    ) -> Result<Self, ConnectError> {
        let has_tls = servers.iter().any(|url| url.starts_with("tls://"));
        options::check_servers(servers, has_tls)?;
        let addresses: Result<Vec<ServerAddr>, _> =
            servers.iter().map(|server| server.parse()).collect();
        let addresses = addresses.map_err(|_| ConnectError::NoServer)?;
        let proof = Proof::default();
        proof.hold(&files.credentials())?;
        let mut connect = ConnectOptions::with_auth_callback(move |challenge| {
            std::future::ready(proof.answer(&challenge))
        });
        connect = connect
            .name("keywheel claims")
            .custom_inbox_prefix(inbox)
            .ignore_discovered_servers()
            .connection_timeout(PATIENCE);
        if has_tls {
            let (config, _) = tls::client(&files.tls())?;
            connect = connect.tls_client_config(config).require_tls(true);
        }
        let named = servers.join(", ");
        let client = connect.connect(addresses).await;
        let client = client.map_err(|error| ConnectError::Unreachable {
            servers: named.clone(),
            reason: chain(&error),
            is_absent: false,
        })?;
        Ok(Self { client, named })
    }

    /// Asks, and gives the answer.
    ///
    /// # Errors
    /// When none comes.
    pub async fn ask(&self, subject: String, content: String) -> Result<Vec<u8>, ConnectError> {
        let request = async_nats::Request::new()
            .payload(content.into())
            .timeout(Some(PATIENCE));
        let answered = self.client.send_request(subject, request).await;
        let answer = answered.map_err(|error| ConnectError::Unreachable {
            servers: self.named.clone(),
            reason: chain(&error),
            is_absent: false,
        })?;
        Ok(answer.payload.to_vec())
    }
}
