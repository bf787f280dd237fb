//! A service's connection to the bus server, and what it learns there about hosts.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_bus::{ConnectError, Credentials, Identity as Speaker, Nats, NatsOptions, Tls, Trust};
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_engine::port::PortError;
use keywheel_engine::port::bus::{Address, Body, Bus, Requests, Subscription, Topic};
use keywheel_identity::bundle::{Bundle, Identity};
use keywheel_identity::name::PeerName;
use keywheel_schemas::config::Config;
use keywheel_seal::SecretBytes;
use keywheel_seal::sign::SigningKey;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use crate::up::{Error, Kind};

/// Copies of a stream in a cluster of three servers or more.
const CLUSTER_REPLICAS: usize = 3;
/// Pause before the list of hosts is asked for again.
const RETRY: Duration = Duration::from_millis(500);
/// How long the gateway may take to answer.
const GATEWAY_TIMEOUT: Duration = Duration::from_secs(10);

/// Connects as the identity says.
pub(super) async fn connect(
    config: &Config,
    bundle: &Bundle,
    identity: &Identity,
    trust: &Trust,
    (clock, ids): (Arc<SystemClock>, Arc<SystemIds>),
) -> Result<Nats, Error> {
    let named = &config.apart.bus_servers;
    let servers = if named.is_empty() {
        identity.servers.clone()
    } else {
        named.clone()
    };
    let mut options = NatsOptions::new(servers, identity.deployment);
    options.replicas = if options.servers.len() >= CLUSTER_REPLICAS {
        CLUSTER_REPLICAS
    } else {
        1
    };
    if options.servers.iter().any(|url| url.starts_with("tls://")) {
        options.tls = Some(Tls {
            ca: bundle.tls.roots_pem.clone().into_bytes(),
            certificate: bundle.tls.chain_pem.clone().into_bytes(),
            key: copy(&bundle.tls.key_pem),
        });
    }
    if let Some(credentials) = &bundle.bus {
        options.credentials = Credentials::Creds(copy(credentials));
    }
    Nats::connect(options, speaker(identity)?, trust.clone(), clock, ids)
        .await
        .map_err(refused)
}

fn refused(error: ConnectError) -> Error {
    let kind = match &error {
        ConnectError::Unreachable { .. } => Kind::Unavailable,
        ConnectError::Unfit(_) => Kind::Refused,
        _ => Kind::BadConfiguration,
    };
    Error::new(
        kind,
        keywheel_daemon::chain(&error),
        "check `bus.servers`, the bus server's log, and that it runs with the nats.conf that `keywheel init` made",
    )
}

fn copy(secret: &SecretBytes) -> SecretBytes {
    // EXPOSE: a second copy for the connection, which owns what it is given.
    SecretBytes::from(secret.expose().to_vec())
}

fn speaker(identity: &Identity) -> Result<Speaker, Error> {
    let key = SigningKey::from_seed_bytes(&identity.signing.seed())
        .map_err(|e| Error::new(Kind::Broken, e.to_string(), "report this"))?;
    match identity.name {
        PeerName::Service(role) => Ok(Speaker::service(identity.deployment, role, key)),
        PeerName::Host(host) => Ok(Speaker::injector(identity.deployment, host, key)),
        PeerName::BusServer | PeerName::Operator(_) => Err(Error::new(
            Kind::Refused,
            "these credentials speak for nobody on the bus",
            "name the directory of a service as `identity_dir`",
        )),
    }
}

/// The gateway's end: the list of hosts that it tells counts for itself too.
pub(super) struct Telling {
    pub(super) inner: Arc<dyn Bus>,
    pub(super) trust: Trust,
}

#[async_trait]
impl Bus for Telling {
    async fn publish(
        &self,
        topic: Topic,
        id: [u8; 16],
        traceparent: Option<String>,
        body: Body,
    ) -> Result<(), PortError> {
        if let Body::Hosts(hosts) = &body {
            self.trust.learn_hosts(hosts);
        }
        self.inner.publish(topic, id, traceparent, body).await
    }

    async fn subscribe(
        &self,
        topic: Topic,
        consumer: &str,
    ) -> Result<Box<dyn Subscription>, PortError> {
        self.inner.subscribe(topic, consumer).await
    }

    async fn request(
        &self,
        to: Address,
        traceparent: Option<String>,
        body: Body,
        timeout: Duration,
    ) -> Result<Body, PortError> {
        self.inner.request(to, traceparent, body, timeout).await
    }

    async fn serve(&self, at: Address) -> Result<Box<dyn Requests>, PortError> {
        self.inner.serve(at).await
    }
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
