//! store-sync, scheduler and audit-sink, each by itself.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use keywheel_audit_sink::{AuditSink, AuditSinkOptions};
use keywheel_cache::PostgresCache;
use keywheel_core::audit::Role;
use keywheel_scheduler::Scheduler;
use keywheel_seal::OsEntropy;
use keywheel_store_sync::seal::{self, Seal};
use keywheel_store_sync::{StoreSync, StoreSyncOptions};
use tokio::sync::oneshot;

use super::bus::follow_hosts;
use super::{Opened, claim, database};
use crate::seal::under_seal;
use crate::sinks;
use crate::up::{Error, Kind, cache_error, layout};
use crate::wiring::{Spawner, store_sync_ports};

/// Name under which store-sync follows the list of hosts.
const HOSTS_CONSUMER: &str = "store-sync";

/// Starts store-sync on its own cache.
pub(super) async fn store_sync(opened: &Opened, spawn: &Spawner) -> Result<File, Error> {
    let config = &opened.config;
    let lock = claim(config)?;
    let seal = open_cache(opened).await?;
    let bus = opened.nats.endpoint();
    let (learned, knows_hosts) = oneshot::channel();
    let following = follow_hosts(
        bus.clone(),
        HOSTS_CONSUMER,
        opened.trust.clone(),
        spawn.shutdown.token(),
        Some(learned),
    );
    spawn.start("list of hosts", following);
    let own = (Role::StoreSync, None);
    let ports = store_sync_ports(bus.clone(), &seal, opened.clock.clone(), spawn);
    let directory = config.store_credentials_dir.clone();
    let options = StoreSyncOptions {
        webhook_allow: config.webhook_allow.clone(),
        ..StoreSyncOptions::new(opened.deployment(), directory)
    };
    let service = StoreSync::under_seal(options, ports, seal);
    let look = Arc::new(service.handle());
    spawn.shown.add(look.clone());
    opened.run().beat(own, bus, look, spawn);
    let shutdown = spawn.shutdown.clone();
    spawn.start("store-sync", async move {
        // A host that asks before its key is known here would be taken for a stranger.
        let _stopped = knows_hosts.await;
        service.run(shutdown).await
    });
    Ok(lock)
}

/// The cache that is configured: a database that store-syncs share, or a file of its own, under its seal.
async fn open_cache(opened: &Opened) -> Result<Seal, Error> {
    let config = &opened.config;
    let deployment = *opened.deployment().bytes();
    let (entropy, clock) = (Arc::new(OsEntropy), opened.clock.clone());
    if let Some(database) = &config.apart.cache {
        let sealed = opened.directory.join(seal::file::NAME);
        if sealed.exists() {
            return Err(shares_its_cache(&sealed));
        }
        let address = database::address(database, "cache.url")?;
        let unseal = layout::present_unseal_key(&config.unseal_key_file, &config.data_dir)?;
        let opened = PostgresCache::open_shared(&address, deployment, unseal, entropy, clock).await;
        return Ok(Seal::shared(opened.map_err(|e| cache_error(e, config))?));
    }
    let own = (opened.directory.as_path(), opened.deployment());
    let key = || layout::unseal_key(&config.unseal_key_file, &config.data_dir);
    under_seal(config, own, clock, key).await
}

/// A share reaches one store-sync, so of several the others would stay sealed.
fn shares_its_cache(sealed: &Path) -> Error {
    Error::new(
        Kind::BadConfiguration,
        format!(
            "{} says that people unseal this store-sync, and its cache is a database that several share",
            sealed.display()
        ),
        "leave `cache.url` out, so that it keeps a file of its own; or move that file away and give a key file",
    )
}

/// Starts the scheduler; it keeps nothing.
pub(super) fn scheduler(opened: &Opened, spawn: &Spawner) {
    let options = keywheel_scheduler::Options::default();
    let (clock, ids) = (opened.clock.clone(), opened.ids.clone());
    let bus = opened.nats.endpoint();
    let scheduler = Scheduler::new(bus.clone(), clock, ids, options);
    let look = Arc::new(scheduler.handle());
    spawn.shown.add(look.clone());
    let own = (Role::Scheduler, None);
    opened.run().beat(own, bus, look, spawn);
    spawn.start("scheduler", scheduler.run(spawn.shutdown.clone()));
}

/// Starts the audit sink on its own file.
pub(super) async fn audit_sink(opened: &Opened, spawn: &Spawner) -> Result<File, Error> {
    let lock = claim(&opened.config)?;
    let options = AuditSinkOptions {
        path: opened.config.data_dir.join("audit-sink.db"),
    };
    let bus = opened.nats.endpoint();
    let sink = AuditSink::open(&options, bus.clone()).await.map_err(|error| {
        let next = "free what is named above, or move audit-sink.db away and keep it: a new one begins with what the journal still has";
        Error::new(Kind::Unavailable, keywheel_daemon::chain(&error), next)
    })?;
    let machine = opened.host_name.to_string();
    let onward = sinks::options(&opened.config, machine, opened.clock.clone())?;
    let sink = sink.with_sinks(&onward);
    let own = (Role::AuditSink, None);
    let look = Arc::new(sink.handle());
    spawn.shown.add(look.clone());
    opened.run().beat(own, bus, look, spawn);
    spawn.start("audit-sink", sink.run(spawn.shutdown.clone()));
    Ok(lock)
}
