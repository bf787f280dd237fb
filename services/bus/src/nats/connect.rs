//! Opening the connection: as whom, how, and how often again.
//!
//! Invariant: addresses that a server names are not followed; those configured are all there are.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, ServerAddr};
use keywheel_engine::port::ids::Ids;
use keywheel_schemas::subject::Client as Speaker;
use keywheel_seal::SecretBytes;

use super::options::{ConnectError, Credentials, NatsOptions};
use super::{chain, supervisor, tls};

/// Messages of one subscription that may wait for this process; more are dropped and counted as
/// slowness.
const MAX_WAITING: usize = 1024;
/// First pause before connecting again.
const RECONNECT_FIRST: Duration = Duration::from_millis(100);
/// Longest pause before connecting again.
const RECONNECT_MOST: Duration = Duration::from_secs(5);
/// After what silence the bus server is asked whether it is there.
const PING_INTERVAL: Duration = Duration::from_secs(10);

pub(super) async fn open(
    options: &NatsOptions,
    speaker: &Speaker,
    state: &Arc<supervisor::State>,
    ids: &Arc<dyn Ids>,
) -> Result<(Client, Option<Arc<tls::Shown>>), ConnectError> {
    let events = Arc::clone(state);
    let draws = Arc::clone(ids);
    let mut connect = ConnectOptions::new()
        .name(format!("keywheel {}", speaker.words()))
        .custom_inbox_prefix(options.subjects.inbox(speaker))
        .ignore_discovered_servers()
        .max_reconnects(None)
        .reconnect_delay_callback(move |attempts| pause(attempts, draws.draw()))
        .ping_interval(PING_INTERVAL)
        .connection_timeout(options.server_timeout)
        .subscription_capacity(MAX_WAITING)
        .event_callback(move |event| {
            let events = Arc::clone(&events);
            async move { events.note(&event) }
        });
    if options.begin_offline {
        connect = connect.retry_on_initial_connect();
    }
    connect = with_credentials(connect, &options.credentials)?;
    let mut shown = None;
    if let Some(certificates) = &options.tls {
        let (config, certificate) = tls::client(certificates)?;
        connect = connect.tls_client_config(config).require_tls(true);
        shown = Some(certificate);
    }
    let addresses: Result<Vec<ServerAddr>, _> = options
        .servers
        .iter()
        .map(|server| server.parse())
        .collect();
    let addresses = addresses.map_err(|_| ConnectError::NoServer)?;
    let client = connect.connect(addresses).await;
    let client = client.map_err(|error| ConnectError::Unreachable {
        servers: options.servers.join(", "),
        reason: chain(&error),
    })?;
    Ok((client, shown))
}

fn with_credentials(
    connect: ConnectOptions,
    credentials: &Credentials,
) -> Result<ConnectOptions, ConnectError> {
    let text = |bytes: &SecretBytes| {
        // EXPOSE: the client signs the server's challenge with it and takes it as text.
        let text = std::str::from_utf8(bytes.expose());
        text.map(|text| text.trim().to_owned())
            .map_err(|_| ConnectError::BadCredentials("they are not text"))
    };
    Ok(match credentials {
        Credentials::None => connect,
        Credentials::NkeySeed(seed) => connect.nkey(text(seed)?),
        // The client wants the last line's end, too.
        Credentials::Creds(creds) => connect
            .credentials(&format!("{}\n", text(creds)?))
            .map_err(|_| ConnectError::BadCredentials("they are not a token and a seed"))?,
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
