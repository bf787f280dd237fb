//! Opening connections: as whom, how, and how often again.
//!
//! Invariant: addresses that a server names are not followed; those configured are all there are.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_schemas::subject::Client as Speaker;

use super::line::{Line, Standing};
use super::options::{ConnectError, NatsOptions, Tls};
use super::proof::Proof;
use super::{chain, supervisor, tls};

/// Messages of one subscription that may wait for this process; more are dropped and counted as
/// slowness.
const MAX_WAITING: usize = 1024;
/// First pause before connecting again.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
/// Longest pause before connecting again.
const RECONNECT_MOST: Duration = Duration::from_secs(5);
/// Pause of a start before it asks again for bus servers that start, too.
pub(super) const START_PAUSE: Duration = Duration::from_secs(1);
/// After what silence the bus server is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(10);

/// Opens connections, each with the newest credentials.
pub(super) struct Opener {
    servers: Vec<ServerAddr>,
    /// The same for a person.
    named: String,
    name: String,
    inbox: String,
    server_timeout: Duration,
    state: Arc<supervisor::State>,
    ids: Arc<dyn Ids>,
    proof: Proof,
    opened: AtomicU64,
}

impl Opener {
    pub(super) fn new(
        options: &NatsOptions,
        speaker: &Speaker,
        state: &Arc<supervisor::State>,
        ids: &Arc<dyn Ids>,
    ) -> Result<Self, ConnectError> {
        let servers: Result<Vec<ServerAddr>, _> = options
            .servers
            .iter()
            .map(|server| server.parse())
            .collect();
        let proof = Proof::default();
        proof.hold(&options.credentials)?;
        Ok(Self {
            servers: servers.map_err(|_| ConnectError::NoServer)?,
            named: options.servers.join(", "),
            name: format!("keywheel {}", speaker.words()),
            inbox: options.subjects.inbox(speaker),
            server_timeout: options.server_timeout,
            state: Arc::clone(state),
            ids: Arc::clone(ids),
            proof,
            opened: AtomicU64::new(0),
        })
    }

    /// What every connect proves.
    pub(super) const fn proof(&self) -> &Proof {
        &self.proof
    }

    /// Opens the first connection; `offline` does not wait for a server. Where nobody listens yet it is
    /// tried again until `end`, by the monotonic clock.
    pub(super) async fn first(
        &self,
        tls: Option<&Tls>,
        offline: bool,
        (clock, end): (&dyn Clock, Duration),
    ) -> Result<Line, ConnectError> {
        loop {
            let opened = self.open(tls, Standing::first(), offline).await;
            match opened {
                Err(ConnectError::Unreachable {
                    servers,
                    reason,
                    is_absent: true,
                }) if clock.monotonic() < end => {
                    tracing::warn!(servers, reason, "no bus server listens yet; trying again");
                    tokio::time::sleep(START_PAUSE).await;
                }
                opened => return opened,
            }
        }
    }

    /// Opens one that is to take over.
    pub(super) async fn next(&self, tls: Option<&Tls>) -> Result<Line, ConnectError> {
        self.open(tls, Standing::next(), false).await
    }

    async fn open(
        &self,
        tls: Option<&Tls>,
        standing: Arc<Standing>,
        offline: bool,
    ) -> Result<Line, ConnectError> {
        let mut connect = self.options(&standing);
        if offline {
            connect = connect.retry_on_initial_connect();
        }
        let mut shown = None;
        if let Some(certificates) = tls {
            let (config, certificate) = tls::client(certificates)?;
            connect = connect.tls_client_config(config).require_tls(true);
            shown = Some(certificate);
        }
        let client = connect.connect(self.servers.clone()).await;
        let client = client.map_err(|error| ConnectError::Unreachable {
            servers: self.named.clone(),
            reason: chain(&error),
            is_absent: is_absent(&error),
        })?;
        let number = self.opened.fetch_add(1, Ordering::SeqCst);
        let timeout = self.server_timeout;
        Ok(Line::new(client, shown, standing, number, timeout))
    }

    fn options(&self, standing: &Arc<Standing>) -> ConnectOptions {
        let connect = if self.proof.is_held() {
            let proof = self.proof.clone();
            ConnectOptions::with_auth_callback(move |challenge| {
                std::future::ready(proof.answer(&challenge))
            })
        } else {
            ConnectOptions::new()
        };
        let (state, standing) = (Arc::clone(&self.state), Arc::clone(standing));
        let draws = Arc::clone(&self.ids);
        connect
            .name(&self.name)
            .custom_inbox_prefix(&self.inbox)
            .ignore_discovered_servers()
            .max_reconnects(None)
            .reconnect_delay_callback(move |attempts| pause(attempts, draws.draw()))
            .ping_interval(PING_INTERVAL)
            .connection_timeout(self.server_timeout)
            .subscription_capacity(MAX_WAITING)
            .event_callback(move |event| {
                standing.note(&state, &event);
                std::future::ready(())
            })
    }
}

/// Whether nobody listens at an address.
fn is_absent(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    causes.any(|cause| {
        let cause = cause.downcast_ref::<std::io::Error>();
        cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::ConnectionRefused)
    })
}

/// Doubles up to the longest pause; each client's is another, so that they do not all come at once.
fn pause(attempts: usize, draw: [u8; 16]) -> Duration {
    let doublings = u32::try_from(attempts.saturating_sub(1))
        .unwrap_or(u32::MAX)
        .min(10);
    let most = RECONNECT_FIRST
        .saturating_mul(1 << doublings)
        .min(RECONNECT_MOST);
    // The last byte of an id is random.
    most.mul_f64(0.5 + f64::from(draw[15]) / 512.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_differ() {
        let last = |byte: u8| {
            let mut draw = [0; 16];
            draw[15] = byte;
            draw
        };
        assert_eq!(pause(1, last(0)), RECONNECT_FIRST / 2);
        assert!(pause(1, last(255)) < RECONNECT_FIRST);
        assert!(pause(3, last(7)) > pause(2, last(7)));
        for attempts in [7, 100, usize::MAX] {
            assert!(pause(attempts, last(255)) <= RECONNECT_MOST);
            assert!(pause(attempts, last(0)) >= RECONNECT_MOST / 2);
        }
    }
}
