//! A service's credentials: read and judged before anything is opened, then kept fresh.
//!
//! Invariant: the gateway makes its own fresh before it speaks to anybody, so that it needs nobody's
//! help however long it was down; every other service asks the gateway.

use std::path::Path;
use std::sync::Arc;

use keywheel_core::audit::Role;
use keywheel_core::time::Timestamp;
use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock as _;
use keywheel_gateway::registry::{Registry, Told};
use keywheel_identity::authority::MEMBER_LIFETIME;
use keywheel_identity::bundle::{Bundle, Identity};
use keywheel_identity::init::Home;
use keywheel_identity::name::PeerName;
use keywheel_identity::tls::TlsIdentity;
use keywheel_member::{Begin, Keeper, OverBus, RenewalFault, Source, Taken, ends};
use keywheel_schemas::config::Config;
use keywheel_schemas::subject::role_word;
use keywheel_seal::OsEntropy;

use super::Opened;
use crate::up::{Error, Kind, layout};
use crate::wiring::Spawner;

fn refused(error: &(dyn std::error::Error + 'static), next: &str) -> Error {
    Error::new(Kind::Refused, keywheel_daemon::chain(error), next)
}

/// Reads the directory of the role that was asked for; what has ended is refused.
pub(super) fn read(
    directory: &Path,
    role: Role,
    now: Timestamp,
) -> Result<(Bundle, Identity), Error> {
    let next = "name the directory that `keywheel init` made for this service as `identity_dir`";
    let (bundle, identity) = Bundle::read_speaker(directory).map_err(|e| refused(&e, next))?;
    if identity.name != PeerName::Service(role) {
        return Err(Error::new(
            Kind::Refused,
            format!(
                "the credentials in {} are those of {}, not of the {}",
                directory.display(),
                identity.name.uri(identity.deployment),
                role_word(role)
            ),
            "name this service's own directory as `identity_dir`: no service speaks for another",
        ));
    }
    let (_, end) = bundle.tls.life().map_err(|e| refused(&e, next))?;
    if end <= now {
        return Err(Error::new(
            Kind::Refused,
            format!(
                "the credentials in {} ended at {}: the {} was down for longer than they live",
                directory.display(),
                ends(end),
                role_word(role)
            ),
            refresh_next(directory),
        ));
    }
    keywheel_member::check_permit(&bundle, &identity)
        .map_err(|e| refused(&e, &refresh_next(directory)))?;
    Ok((bundle, identity))
}

fn refresh_next(directory: &Path) -> String {
    format!(
        "copy {} to the gateway's machine, run `keywheel credentials refresh` on it there, and bring it back",
        directory.display()
    )
}

/// Opens the authorities that `keywheel init` made, which lie with the gateway's credentials, and
/// makes those fresh.
pub(super) fn open_registry(
    config: &Config,
    directory: &Path,
    clock: &SystemClock,
) -> Result<Arc<Registry>, Error> {
    let apart = &config.apart;
    let unseal = layout::present_unseal_key(&config.unseal_key_file, directory)?;
    let next = "name the directory that `keywheel init` made for the gateway as `identity_dir`";
    let (_, identity) = Bundle::read_speaker(directory).map_err(|e| refused(&e, next))?;
    let listens = apart.listen_join.map(|address| address.to_string());
    let told = Told {
        trust: identity.trust,
        servers: identity.servers,
        join_address: apart.advertise_join.clone().or(listens).unwrap_or_default(),
        lifetime: apart.credential_lifetime.unwrap_or(MEMBER_LIFETIME),
    };
    let next = "give the key file that `keywheel init` made or used as `unseal_key_file`";
    let home = Home::new(directory);
    let registry = Registry::open(home, unseal, told, Arc::new(OsEntropy));
    let registry = Arc::new(registry.map_err(|e| refused(&e, next))?);
    refresh_own(Some(&registry), directory, clock)?;
    Ok(registry)
}

/// Makes the gateway's own fresh; of another service nothing.
pub(super) fn refresh_own(
    registry: Option<&Arc<Registry>>,
    directory: &Path,
    clock: &SystemClock,
) -> Result<(), Error> {
    let Some(registry) = registry else {
        return Ok(());
    };
    let next = "correct what is named above and start again";
    let made = registry.refresh_own(directory, clock.now());
    made.map_err(|e| refused(&e, next))
}

/// Keeps a service's credentials fresh as long as it runs.
pub(super) fn keep(opened: &Opened, spawn: &Spawner) {
    let source = OverBus {
        bus: opened.nats.endpoint(),
        clock: opened.clock.clone(),
        entropy: Arc::new(OsEntropy),
        sealing: None,
        port: None,
    };
    let keeper = Keeper {
        // What `keywheel init` gave lives longer than what the gateway gives.
        begin: Begin::AtOnce,
        ..keeper(opened, Arc::new(source), Box::new(|_, _| Ok(())))
    };
    spawn.start("renewal of credentials", keeper.run(spawn.shutdown.token()));
}

/// Keeps the gateway's own fresh, and shows them at its ports.
pub(super) fn keep_own(
    opened: &Opened,
    registry: Arc<Registry>,
    tls: Arc<TlsIdentity>,
    spawn: &Spawner,
) {
    let own = Own {
        registry,
        clock: opened.clock.clone(),
    };
    let show: Taken = Box::new(move |bundle, identity| {
        Ok(tls.replace(bundle.tls.credentials(identity.deployment)?)?)
    });
    let keeper = keeper(opened, Arc::new(own), show);
    spawn.start("renewal of credentials", keeper.run(spawn.shutdown.token()));
}

fn keeper(opened: &Opened, source: Arc<dyn Source>, taken: Taken) -> Keeper {
    Keeper {
        directory: opened.directory.clone(),
        source,
        nats: opened.nats.clone(),
        clock: opened.clock.clone(),
        begin: Begin::WhenDue,
        when_ended: refresh_next(&opened.directory),
        taken,
    }
}

/// The gateway's own authorities as a source.
struct Own {
    registry: Arc<Registry>,
    clock: Arc<SystemClock>,
}

#[async_trait::async_trait]
impl Source for Own {
    async fn renew(&self, directory: &Path) -> Result<(), RenewalFault> {
        let (registry, now) = (self.registry.clone(), self.clock.now());
        let directory = directory.to_owned();
        let making = tokio::task::spawn_blocking(move || registry.refresh_own(&directory, now));
        Ok(making.await.map_err(|_| RenewalFault::Stopped)??)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::time::Duration;

    use keywheel_core::id::DeploymentId;
    use keywheel_identity::authority::Authority;
    use keywheel_identity::init::{NewDeployment, init};
    use keywheel_identity::name::OperatorName;
    use keywheel_seal::envelope::UnsealKey;

    use super::*;

    #[test]
    fn a_service_that_was_down_too_long_is_told_what_to_do() {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("deployment");
        let now = SystemClock::new().now();
        let deployment = DeploymentId::from_bytes([7; 16]);
        let new = NewDeployment {
            deployment,
            authority: Authority::create(deployment, now, &OsEntropy).unwrap(),
            operator: OperatorName::parse("ada").unwrap(),
            addresses: BTreeMap::new(),
            servers: Vec::new(),
            urls: Vec::new(),
            tls: true,
            unseal: &UnsealKey::generate(&OsEntropy),
            entropy: &OsEntropy,
            now,
        };
        init(&out, &new).unwrap();
        let directory = out.join("scheduler");
        let late = now.plus(MEMBER_LIFETIME + Duration::from_secs(1));
        assert!(read(&directory, Role::Scheduler, now).is_ok());
        let ended = read(&directory, Role::Scheduler, late).err().unwrap();
        assert!(ended.what.contains("ended at"), "{}", ended.what);
        assert!(ended.next.contains("credentials refresh"), "{}", ended.next);
        let other = read(&directory, Role::StoreSync, now).err().unwrap();
        assert!(
            other.what.contains("not of the store-sync"),
            "{}",
            other.what
        );
    }
}
