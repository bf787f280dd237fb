//! What a daemon is told: file, then environment, then flags; all faults at once, before anything is
//! opened. Reads and starts logging; what the settings mean is the schema's business.

use std::path::{Path, PathBuf};

use keywheel_schemas::config::{
    Config, ConfigError, ConfigFlags, LogFormat as WantedFormat, MAX_CONFIG_BYTES,
};

use crate::{LogFormat, LoggingError, env, init_logging, names};

/// Why a daemon's settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Some settings are wrong.
    #[error("{}", lines(.0))]
    Invalid(Vec<ConfigError>),
    /// Logging does not start as asked.
    #[error(transparent)]
    Logging(#[from] LoggingError),
}

impl SettingsError {
    /// What a person does about it.
    #[must_use]
    pub const fn next_step(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => "name a readable TOML file with --config, or leave it out",
            Self::Invalid(_) => "correct what is named above; nothing was started",
            Self::Logging(LoggingError::Journal(_)) => {
                "leave `log.format` out: the journal is found by itself where it is"
            }
            Self::Logging(_) => "give a level like info or debug",
        }
    }
}

fn lines(faults: &[ConfigError]) -> String {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

/// Reads the configuration, and starts logging as it says; a variable that begins like ours and is none is warned of.
///
/// # Errors
/// With every fault of file, environment and flags, before anything was opened.
pub fn load(file: Option<&Path>, flags: ConfigFlags) -> Result<Config, SettingsError> {
    let config = look(file, flags)?;
    let format = match config.log.format {
        Some(WantedFormat::Json) => LogFormat::Json,
        Some(WantedFormat::Text) => LogFormat::Text,
        Some(WantedFormat::Journald) => LogFormat::Journald,
        None => LogFormat::of_stderr(),
    };
    init_logging(format, &config.log.level)?;
    for unknown in env::unknown() {
        tracing::warn!(
            { names::REASON } = unknown.as_str(),
            "a variable has no effect"
        );
    }
    Ok(config)
}

/// Reads the configuration and starts nothing.
///
/// # Errors
/// With every fault of file, environment and flags.
pub fn look(file: Option<&Path>, flags: ConfigFlags) -> Result<Config, SettingsError> {
    let text = file.map(read).transpose()?;
    let name = file.map(|path| path.display().to_string());
    let flags = ConfigFlags {
        machine_name: machine_name(),
        ..flags
    };
    Config::load(name.as_deref().zip(text.as_deref()), &env::marked, flags)
        .map_err(SettingsError::Invalid)
}

fn read(path: &Path) -> Result<String, SettingsError> {
    let unreadable = |why: String| SettingsError::Unreadable {
        path: path.to_owned(),
        why,
    };
    let found = std::fs::metadata(path).map_err(|e| unreadable(e.to_string()))?;
    if !found.is_file() {
        return Err(unreadable("it is not a file".to_owned()));
    }
    if found.len() > u64::try_from(MAX_CONFIG_BYTES).unwrap_or(u64::MAX) {
        return Err(unreadable(format!(
            "it is larger than {MAX_CONFIG_BYTES} bytes"
        )));
    }
    std::fs::read_to_string(path).map_err(|e| unreadable(e.to_string()))
}

/// What the machine calls itself, in the letters a host name has.
fn machine_name() -> Option<String> {
    let name = rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .to_lowercase();
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_or_nothing_in_the_files_place_is_named() {
        for path in ["/", "/nothing/is/here.toml"] {
            let error = load(Some(Path::new(path)), ConfigFlags::default()).unwrap_err();
            assert!(error.to_string().contains(path), "{error}");
            assert!(error.next_step().contains("--config"));
        }
    }

    #[test]
    fn every_wrong_flag_is_named_before_logging_starts() {
        let flags = ConfigFlags {
            host_name: Some("Not A Name".to_owned()),
            log_format: Some("xml".to_owned()),
            ..ConfigFlags::default()
        };
        let text = load(None, flags).unwrap_err().to_string();
        assert!(
            text.contains("--host-name") && text.contains("--log-format"),
            "{text}"
        );
    }
}
