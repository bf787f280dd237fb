//! A service's connection to the bus server, and what it learns there about hosts.

use std::sync::Arc;
use std::time::Duration;

use keywheel_bus::{ConnectError, Nats, Trust, Unfit};
use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_engine::late::Late;
use keywheel_engine::port::PortError;
use keywheel_engine::port::bus::{Address, Body, Bus, HostKeys, Source, Topic};
use keywheel_engine::port::clock::Clock;
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
    let mut lists = Lists::new(trust, Arc::new(SystemClock::new()));
    loop {
        let lost = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            followed = follow(&bus, consumer, &mut lists, &mut learned) => followed,
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

/// The lists that came. An older one brings nothing back; one that is no repeat is to be refused aloud.
struct Lists {
    trust: Trust,
    late: Late,
    clock: Arc<dyn Clock>,
}

impl Lists {
    fn new(trust: Trust, clock: Arc<dyn Clock>) -> Self {
        Self {
            trust,
            late: Late::default(),
            clock,
        }
    }

    /// Takes a list; whether it is stale.
    fn learn(&mut self, list: &[HostKeys]) -> bool {
        // Grows with each change of the list: keys are only followed by newer ones, and hosts stay in it.
        let one = |keys: &HostKeys| keys.generation.saturating_add(u64::from(keys.evicted));
        let number = list.iter().map(one).fold(0, u64::saturating_add);
        let now = self.clock.monotonic();
        if self.late.is_stale(number, now) {
            return true;
        }
        self.late.took(number, now);
        self.trust.learn_hosts(list);
        false
    }
}

async fn follow(
    bus: &Arc<dyn Bus>,
    consumer: &str,
    lists: &mut Lists,
    learned: &mut Option<oneshot::Sender<()>>,
) -> Result<(), PortError> {
    let mut list = bus.subscribe(Topic::Hosts, consumer).await?;
    let asked = bus
        .request(Address::Gateway, None, Body::ReadHosts, GATEWAY_TIMEOUT)
        .await?;
    if let Body::Hosts(hosts) = asked {
        if lists.learn(&hosts) {
            bus.refuse_stale(Source::Answer(Address::Gateway));
        }
        if let Some(learned) = learned.take() {
            let _gone = learned.send(());
        }
    }
    while let Some(incoming) = list.next().await {
        if let Body::Hosts(hosts) = &incoming.message.body
            && lists.learn(hosts)
        {
            bus.refuse_stale(Source::Topic(Topic::Hosts));
        }
        list.ack(incoming.sequence).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use keywheel_core::id::{DeploymentId, HostId};
    use keywheel_engine::late::REPEAT_LIMIT;
    use keywheel_testkit::fake::FakeClock;

    use super::*;

    #[test]
    fn an_older_list_of_hosts_is_a_repeat_and_long_after_refused_as_stale() {
        let clock = Arc::new(FakeClock::default());
        let trust = Trust::new(DeploymentId::from_bytes([1; 16]), []);
        let mut lists = Lists::new(trust, Arc::clone(&clock) as _);
        let host = |number: u8, generation, evicted| HostKeys {
            host: HostId::from_bytes([number; 16]),
            signing_key: [number; 32],
            generation,
            evicted,
        };
        let grown = [
            vec![],
            vec![host(1, 1, false)],
            vec![host(1, 2, false)],
            vec![host(1, 2, false), host(2, 1, false)],
            vec![host(1, 2, true), host(2, 1, false)],
        ];
        for list in &grown {
            assert!(!lists.learn(list));
        }
        let [older @ .., newest] = &grown;
        assert!(older.iter().all(|list| !lists.learn(list)), "repeats");
        clock.advance(REPEAT_LIMIT);
        assert!(older.iter().all(|list| lists.learn(list)));
        assert!(!lists.learn(newest), "told again");
    }
}
