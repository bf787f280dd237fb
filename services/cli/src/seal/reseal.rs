//! `keywheel reseal --to PROVIDER`: another provider for a store-sync that is stopped, under a fresh root key.
//!
//! Invariants: nothing is changed before what opens it now was given and what opens it next is on the disk and,
//! if it is shares, was shown; a crash leaves one of the two (`next`). What opened it before opens nothing of
//! the cache as it is then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use keywheel_core::id::DeploymentId;
use keywheel_daemon::SystemClock;
use keywheel_engine::port::clock::Clock;
use keywheel_identity::bundle::Bundle;
use keywheel_schemas::config::{Config, ConfigFlags};
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::unseal::{Provider, SealedRoot};
use keywheel_store_sync::seal::{file, root_by_service};

use super::custodian::Custodian;
use super::making::{self, Asked, Wish};
use super::{next, service};
use crate::args::ResealArgs;
use crate::exit::{Exit, Failure};
use crate::output::Screen;
use crate::terminal;
use crate::up::{self, Error, Kind, cache_error, layout};

/// Where everything of one store-sync is.
pub(super) struct Place {
    pub(super) config: Config,
    /// Of the seal file.
    pub(super) directory: PathBuf,
    pub(super) deployment: DeploymentId,
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
    let root = open_root(&place.config, sealed.as_ref()).await?;
    let asked = wish.ask(&place.config.data_dir)?;
    let show = |shares: &[String]| {
        let json = serde_json::json!({
            "unseal": args.to,
            "shares": shares,
            "deployment": place.deployment.to_string(),
        });
        screen.show(&json, |_| shown(&args.to, &wish, shares))
    };
    place.change(root, &asked, show).await?;
    screen.note(&format!(
        "done: what opened it before opens nothing of it any more. Start it{}, then `keywheel rotate-kek --wait`: copies from before hold the key that wraps data keys now.",
        unsealing(&wish)
    ));
    Ok(())
}

/// What opens it behind its start, where that does not by itself.
fn unsealing(wish: &Wish) -> String {
    match wish {
        Wish::Shares { threshold, .. } => {
            format!(", then `keywheel unseal` {threshold} times, a share each")
        }
        Wish::Passphrase => ", then `keywheel unseal`".to_owned(),
        Wish::KeyFile | Wish::Service { .. } => String::new(),
    }
}

fn shown(to: &str, wish: &Wish, shares: &[String]) -> String {
    format!(
        "from now on store-sync is opened by {to}\n{}",
        making::told(shares, wish)
    )
}

async fn make(asked: &Asked, place: &Place) -> Result<making::Made, Failure> {
    let deployment = *place.deployment.bytes();
    if let Some(made) = asked.make(deployment).await? {
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
    /// Seals anew what this root key opens. What opens it next is proven, on the disk and shown before anything is
    /// changed.
    pub(super) async fn change(
        &self,
        root: UnsealKey,
        asked: &Asked,
        show: impl FnOnce(&[String]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let failed = |error| Failure::from(cache_error(error, &self.config));
        let clock = Arc::new(SystemClock::new());
        let custodian = Custodian::new(&self.config, self.deployment, clock);
        let cache = custodian.open_cache(root).await.map_err(failed)?;
        let made = make(asked, self).await?;
        next::write(&self.directory, &self.config.data_dir, &made.text)?;
        show(&making::texts(&made.shares))?;
        let mark = next::mark(&made.sealed);
        cache.reseal(made.root, mark).await.map_err(failed)?;
        cache.close().await.map_err(failed)?;
        Ok(self.settle().await?)
    }

    async fn settle(&self) -> Result<(), Error> {
        let cache = self.config.data_dir.join("cache.db");
        let failed = |error| cache_error(error, &self.config);
        next::settle((&self.directory, self.deployment), (&cache, failed)).await
    }
}

/// The root key as it is now: by the key file, by the key service, or by what a person gives here.
pub(super) async fn open_root(
    config: &Config,
    sealed: Option<&SealedRoot>,
) -> Result<UnsealKey, Failure> {
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
        Provider::Service(kept) => {
            let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
            let keys = service::of_kept(kept, &config.data_dir, clock.clone())?;
            let opened = Box::pin(root_by_service(&*keys, sealed, &clock)).await;
            return opened.map_err(|error| service::failed(&error));
        }
    };
    opened.map_err(|error| {
        let next =
            "`keywheel reseal --to PROVIDER` again, with what opens it now; nothing was changed";
        Failure::new(Exit::Config, error.to_string(), next)
    })
}

fn by_shares(sealed: &SealedRoot) -> Result<UnsealKey, Failure> {
    let gathered = sealed.gather();
    let need = gathered
        .as_ref()
        .map_or(0, |gathered| gathered.progress().need);
    let refused = |what: String| {
        let next = format!(
            "`keywheel reseal --to PROVIDER` again, with {need} different shares of those that open it now, one a line; nothing was changed"
        );
        Failure::new(Exit::Config, what, next)
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_person_has_to_do_behind_the_start_is_said() {
        let said = |text| unsealing(&Wish::parse(text).unwrap());
        assert!(said("shamir:3/5").contains("`keywheel unseal` 3 times"));
        assert!(said("passphrase").contains("`keywheel unseal`"));
        for by_itself in ["key-file", "kms:/etc/u.toml"] {
            assert_eq!(said(by_itself), "", "{by_itself}");
        }
    }
}
