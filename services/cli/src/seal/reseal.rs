//! `keywheel reseal --to PROVIDER`: another provider for a store-sync that is stopped, under a fresh root key.
//!
//! Invariants: nothing is changed before what opens it now was given and what opens it next is on the disk and,
//! if it is shares, was shown; a crash leaves one of the two (`next`). What opened it before opens nothing of
//! the cache as it is then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keywheel_core::id::DeploymentId;
use keywheel_daemon::SystemClock;
use keywheel_identity::bundle::Bundle;
use keywheel_schemas::config::{Config, ConfigFlags};
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::unseal::{Provider, SealedRoot};
use keywheel_store_sync::seal::file;

use super::custodian::Custodian;
use super::making::{self, Asked, Wish};
use super::next;
use crate::args::ResealArgs;
use crate::exit::{Exit, Failure};
use crate::output::Screen;
use crate::terminal;
use crate::up::{self, Error, Kind, cache_error, layout};

/// Where everything of one store-sync is.
struct Place {
    config: Config,
    /// Of the seal file.
    directory: PathBuf,
    deployment: DeploymentId,
}

/// Reseals.
pub(crate) async fn run(screen: Screen, args: &ResealArgs) -> Result<(), Failure> {
    let wish = Wish::parse(&args.to)?;
    terminal::harden()?;
    let place = place(args)?;
    layout::private_directory(&place.config.data_dir)?;
    let _lock = layout::lock(&place.config.data_dir)?;
    place.settle().await?;
    let sealed = super::read(&place.directory.join(file::NAME), place.deployment)?;
    let root = open_root(&place.config, sealed.as_ref())?;
    let asked = wish.ask()?;
    let clock = Arc::new(SystemClock::new());
    let custodian = Custodian::new(&place.config, place.deployment, clock);
    let cache = custodian.open_cache(root).await;
    let cache = cache.map_err(|e| Failure::from(cache_error(e, &place.config)))?;
    let made = make(&asked, &place)?;
    next::write(&place.directory, &place.config.data_dir, &made.text)?;
    let shares = making::texts(&made.shares);
    let json = serde_json::json!({
        "unseal": args.to,
        "shares": shares,
        "deployment": place.deployment.to_string(),
    });
    screen.show(&json, |_| shown(&args.to, wish, &shares))?;
    let resealed = cache.reseal(made.root, next::mark(&made.sealed)).await;
    resealed.map_err(|e| Failure::from(cache_error(e, &place.config)))?;
    let closed = cache.close().await;
    closed.map_err(|e| Failure::from(cache_error(e, &place.config)))?;
    place.settle().await?;
    screen.note("done: what opened it before opens nothing of it any more. Start it, then `keywheel rotate-kek`: copies from before hold the key that wraps data keys now.");
    Ok(())
}

fn shown(to: &str, wish: Wish, shares: &[String]) -> String {
    format!(
        "from now on store-sync is opened by {to}\n{}",
        making::told(shares, wish)
    )
}

fn make(asked: &Asked, place: &Place) -> Result<making::Made, Failure> {
    let deployment = *place.deployment.bytes();
    if let Some(made) = asked.make(deployment)? {
        return Ok(made);
    }
    let config = &place.config;
    let key = layout::first_unseal_key(&config.unseal_key_file, &config.data_dir)?;
    making::by_key_file(deployment, &key)
}

/// Which store-sync it is: that of `keywheel up`, or one that runs apart.
fn place(args: &ResealArgs) -> Result<Place, Failure> {
    let flags = ConfigFlags {
        data_dir: args.data_dir.clone(),
        unseal_key_file: args.unseal_key_file.clone(),
        ..ConfigFlags::default()
    };
    let config = keywheel_daemon::settings::look(args.config.as_deref(), flags);
    let config = config.map_err(|error| Failure::from(Error::from(error)))?;
    if config.apart.cache.is_some() {
        let next =
            "give every one of them the same key file; other providers need a cache of one's own";
        let text = "store-syncs that share a database are opened by a key file";
        return Err(Failure::new(Exit::Usage, text, next));
    }
    let (directory, deployment) = match &config.apart.identity_dir {
        Some(directory) => (directory.clone(), deployment_of(directory)?),
        None => (
            config.data_dir.clone(),
            up::deployment_of(&config.data_dir)?,
        ),
    };
    Ok(Place {
        config,
        directory,
        deployment,
    })
}

fn deployment_of(directory: &Path) -> Result<DeploymentId, Error> {
    let read = Bundle::read_speaker(directory).map_err(|error| {
        let next = "name store-sync's own configuration with --config";
        Error::new(Kind::Refused, keywheel_daemon::chain(&error), next)
    })?;
    Ok(read.1.deployment)
}

impl Place {
    async fn settle(&self) -> Result<(), Error> {
        let cache = self.config.data_dir.join("cache.db");
        let failed = |error| cache_error(error, &self.config);
        next::settle((&self.directory, self.deployment), (&cache, failed)).await
    }
}

/// The root key as it is now: by the key file, or by what a person gives here.
fn open_root(config: &Config, sealed: Option<&SealedRoot>) -> Result<UnsealKey, Failure> {
    let key_file = || layout::present_unseal_key(&config.unseal_key_file, &config.data_dir);
    let Some(sealed) = sealed else {
        return Ok(key_file()?);
    };
    let opened = match &sealed.provider {
        Provider::KeyFile => sealed.open_with_key(&key_file()?),
        Provider::Passphrase { .. } => {
            sealed.open_with_passphrase(&terminal::secret("Passphrase of store-sync now:")?)
        }
        Provider::Shares { .. } => return by_shares(sealed),
    };
    opened.map_err(|error| {
        let next = "give what opens it now; nothing was changed";
        Failure::new(Exit::Config, error.to_string(), next)
    })
}

fn by_shares(sealed: &SealedRoot) -> Result<UnsealKey, Failure> {
    let refused = |what: String| {
        let next = "give as many different shares as open it now, one a line; nothing was changed";
        Failure::new(Exit::Config, what, next)
    };
    let gathered = sealed.gather();
    let mut gathered = gathered.ok_or_else(|| refused("it has no shares".to_owned()))?;
    while !gathered.progress().is_enough() {
        let progress = gathered.progress();
        let question = format!("Share {} of {}:", progress.have + 1, progress.need);
        let taken = gathered.take(&terminal::secret(&question)?);
        taken.map_err(|error| refused(error.to_string()))?;
    }
    let opened = sealed.open_with_shares(&gathered);
    opened.map_err(|error| refused(error.to_string()))
}
