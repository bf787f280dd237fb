//! What `keywheel up` is told, as the shared loader reads it.

use keywheel_daemon::settings::{self, SettingsError};
use keywheel_schemas::config::{Config, ConfigFlags};

use super::error::{Error, Kind};
use crate::args::UpArgs;

/// Reads the configuration, and starts logging as it says.
pub(super) fn load(args: UpArgs) -> Result<Config, Error> {
    let flags = ConfigFlags {
        data_dir: args.data_dir,
        socket: args.socket,
        unseal_key_file: args.unseal_key_file,
        host_name: args.host_name,
        metrics_listen: args.metrics_listen,
        otlp_endpoint: args.otlp_endpoint,
        log_format: args.log_format,
        ..ConfigFlags::default()
    };
    let config = settings::load(args.config.as_deref(), flags)?;
    if let Some(setting) = config.apart.first_given() {
        return Err(Error::new(
            Kind::BadConfiguration,
            format!("`keywheel up` runs everything in one process and has no use for `{setting}`"),
            "remove it, or start the services one by one with `keywheel server`",
        ));
    }
    Ok(config)
}

impl From<SettingsError> for Error {
    fn from(error: SettingsError) -> Self {
        let kind = match error {
            SettingsError::Unreadable { .. } => Kind::MissingInput,
            SettingsError::Invalid(_) | SettingsError::Logging(_) => Kind::BadConfiguration,
        };
        Self::new(kind, keywheel_daemon::chain(&error), error.next_step())
    }
}
