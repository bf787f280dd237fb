//! What `keywheel up` is told: file, then environment, then flags; all faults at once, before
//! anything is opened.

use std::path::Path;

use keywheel_daemon::{LogFormat, env};
use keywheel_schemas::config::{Config, ConfigFlags, LogFormat as WantedFormat, MAX_CONFIG_BYTES};

use super::error::{Error, Kind};
use crate::args::UpArgs;

/// Reads the configuration, and starts logging as it says.
pub(super) fn load(args: UpArgs) -> Result<Config, Error> {
    let text = args.config.as_deref().map(read).transpose()?;
    let name = args
        .config
        .as_deref()
        .map(|path| path.display().to_string());
    let file = name.as_deref().zip(text.as_deref());
    let flags = ConfigFlags {
        data_dir: args.data_dir,
        socket: args.socket,
        unseal_key_file: args.unseal_key_file,
        host_name: args.host_name,
        machine_name: machine_name(),
        ..ConfigFlags::default()
    };
    let from_env = |name: &str| env::lookup(name);
    let config = Config::load(file, &from_env, flags).map_err(|faults| {
        let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
        Error::new(
            Kind::BadConfiguration,
            lines.join("\n"),
            "correct what is named above; nothing was started",
        )
    })?;
    let format = match config.log.format {
        WantedFormat::Json => LogFormat::Json,
        WantedFormat::Text => LogFormat::Text,
    };
    keywheel_daemon::init_logging(format, &config.log.level).map_err(|e| {
        Error::new(
            Kind::BadConfiguration,
            keywheel_daemon::chain(&e),
            "give a level like info or debug",
        )
    })?;
    Ok(config)
}

fn read(path: &Path) -> Result<String, Error> {
    let missing = |why: String| {
        let next = "name a readable TOML file with --config, or leave it out";
        Error::new(
            Kind::MissingInput,
            format!("cannot read the configuration {}: {why}", path.display()),
            next,
        )
    };
    let found = std::fs::metadata(path).map_err(|e| missing(e.to_string()))?;
    if !found.is_file() {
        return Err(missing("it is not a file".to_owned()));
    }
    if found.len() > u64::try_from(MAX_CONFIG_BYTES).unwrap_or(u64::MAX) {
        return Err(missing(format!(
            "it is larger than {MAX_CONFIG_BYTES} bytes"
        )));
    }
    std::fs::read_to_string(path).map_err(|e| missing(e.to_string()))
}

/// What the machine calls itself, in the letters a host name has.
fn machine_name() -> Option<String> {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_lowercase();
    (!name.is_empty()).then_some(name)
}
