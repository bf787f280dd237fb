//! Where people log in, from the one file that the configuration names.
//!
//! Read before anything is opened, so that a fault in it ends the start.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use keywheel_daemon::SystemClock;
use keywheel_gateway::login::Logins;
use keywheel_schemas::config::Config;
use keywheel_schemas::config::login::{self, MAX_PROVIDER_BYTES, Provider};
use keywheel_seal::OsEntropy;
use keywheel_signals::{ProviderDoor, ProviderPlace};

use crate::up::{Error, Kind};

/// The settings of the provider; none where no file is named.
pub(crate) fn read(config: &Config) -> Result<Option<Provider>, Error> {
    let Some(path) = &config.login_provider_file else {
        return Ok(None);
    };
    let text = text(path).map_err(|error| {
        let what = format!(
            "the file of the provider {} cannot be read: {error}",
            path.display()
        );
        let next = "correct `login.provider_file` in the configuration, or leave it out";
        Error::new(Kind::MissingInput, what, next)
    })?;
    let settings = login::parse(path, &text).map_err(|faults| {
        let faults = faults.iter().map(ToString::to_string);
        let what = faults.collect::<Vec<_>>().join("; ");
        let next = "correct the file of the provider; `deploy/docs/people.md` has every setting";
        Error::new(Kind::BadConfiguration, what, next)
    })?;
    Ok(Some(settings))
}

/// Logins at the provider; nobody logs in where no file is named.
pub(crate) fn of(config: &Config, clock: &Arc<SystemClock>) -> Result<Option<Arc<Logins>>, Error> {
    let Some(settings) = read(config)? else {
        return Ok(None);
    };
    let file = settings.file.clone();
    let place = ProviderPlace {
        issuer: file.issuer,
        client_id: file.client_id,
        client_secret_file: file.client_secret_file,
        ca_file: file.ca_file,
    };
    let door = ProviderDoor::new(place, clock.clone(), Arc::new(OsEntropy));
    Ok(Some(Arc::new(Logins::new(
        settings,
        Arc::new(door),
        clock.clone(),
    ))))
}

/// One byte more than the limit is enough to see that it is too long.
fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let most = u64::try_from(MAX_PROVIDER_BYTES).unwrap_or(u64::MAX);
    let mut file = std::fs::File::open(path)?.take(most.saturating_add(1));
    file.read_to_string(&mut text)?;
    Ok(text)
}
