//! A service's connection to the bus server, and what it learns there about hosts.

use std::sync::Arc;
use std::time::Duration;

use keywheel_bus::{ConnectError, Nats, Trust, Unfit};
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_engine::port::PortError;
use keywheel_engine::port::bus::{Address, Body, Bus, Topic};
use keywheel_identity::bundle::{Bundle, Identity};
use keywheel_member::MemberError;
use keywheel_schemas::config::Config;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::up::{Error, Kind};

/// Pause before the list of hosts is asked for again.
const RETRY: Duration = Duration::from_millis(500);
/// How long the gateway may take to answer.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects as the identity says.
pub(super) async fn connect(
    config: &Config,
    (bundle, identity): (&Bundle, &Identity),
    trust: &Trust,
    (clock, ids): (Arc<SystemClock>, Arc<SystemIds>),
) -> Result<Nats, MemberError> {
    let named = &config.apart.bus_servers;
    keywheel_member::connect(named, false, (bundle, identity), trust, (clock, ids)).await
}

/// Why there is no connection, for a person.
pub(super) fn refused(error: &MemberError) -> Error {
    let kind = match error {
        MemberError::Connect(
            ConnectError::Unreachable { .. } | ConnectError::Unfit(Unfit::Stream { .. }),
        ) => Kind::Unavailable,
        MemberError::Connect(ConnectError::Unfit(_)) | MemberError::Silent => Kind::Refused,
        MemberError::Connect(_) | MemberError::Key(_) => Kind::BadConfiguration,
    };
    Error::new(
        kind,
        keywheel_daemon::chain(error),
        "check `bus.servers`, the bus server's log, and that it runs with the nats.conf that `keywheel init` made",
    )
}

/// Learns whose key speaks for which host: asks the gateway once, says so to `learned`, then follows
/// its list.
pub(super) async fn follow_hosts(
    bus: Arc<dyn Bus>,
    consumer: &'static str,
    trust: Trust,
    stop: CancellationToken,
    mut learned: Option<oneshot::Sender<()>>,
) -> Result<(), PortError> {
    loop {
        let lost = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            followed = follow(&bus, consumer, &trust, &mut learned) => followed,
        };
        match lost {
            Ok(()) => return Ok(()),
            Err(error) => {
                let reason = keywheel_daemon::chain(&error);
                tracing::warn!(error = reason, "list of hosts not read yet");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

async fn follow(
    bus: &Arc<dyn Bus>,
    consumer: &str,
    trust: &Trust,
    learned: &mut Option<oneshot::Sender<()>>,
) -> Result<(), PortError> {
    let mut list = bus.subscribe(Topic::Hosts, consumer).await?;
    let asked = bus
        .request(Address::Gateway, None, Body::ReadHosts, GATEWAY_TIMEOUT)
        .await?;
    if let Body::Hosts(hosts) = asked {
        trust.learn_hosts(&hosts);
        if let Some(learned) = learned.take() {
            let _gone = learned.send(());
        }
    }
    while let Some(incoming) = list.next().await {
        if let Body::Hosts(hosts) = &incoming.message.body {
            trust.learn_hosts(hosts);
        }
        list.ack(incoming.sequence).await?;
    }
    Ok(())
}
