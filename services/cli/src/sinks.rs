//! The audit's sinks, from the one file that the configuration names.
//!
//! Read before anything is opened, so that a fault in it ends the start, and told to nobody but the audit sink.

use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use keywheel_audit_sink::OnwardOptions;
use keywheel_daemon::SystemClock;
use keywheel_schemas::config::Config;
use keywheel_schemas::config::sinks::{self, MAX_SINKS_BYTES, Sink};
use keywheel_seal::OsEntropy;

use crate::up::{Error, Kind};

/// The sinks; none where no file is named.
pub(crate) fn read(config: &Config) -> Result<Vec<Sink>, Error> {
    let Some(path) = &config.audit.sinks_file else {
        return Ok(Vec::new());
    };
    let text = text(path).map_err(|error| {
        let what = format!(
            "the file of sinks {} cannot be read: {error}",
            path.display()
        );
        let next = "correct `audit.sinks_file` in the configuration, or leave it out";
        Error::new(Kind::MissingInput, what, next)
    })?;
    sinks::parse(path, &text).map_err(|faults| {
        let faults = faults.iter().map(ToString::to_string);
        let what = faults.collect::<Vec<_>>().join("; ");
        Error::new(
            Kind::BadConfiguration,
            what,
            "correct the file of sinks; `deploy/docs/audit.md` has every setting",
        )
    })
}

/// One byte more than the limit is enough to see that it is too long.
fn text(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    let most = u64::try_from(MAX_SINKS_BYTES).unwrap_or(u64::MAX);
    let mut file = std::fs::File::open(path)?.take(most.saturating_add(1));
    file.read_to_string(&mut text)?;
    Ok(text)
}

/// What the audit sink tells them with.
pub(crate) fn options(
    config: &Config,
    machine: String,
    clock: Arc<SystemClock>,
) -> Result<OnwardOptions, Error> {
    Ok(OnwardOptions {
        sinks: read(config)?,
        max_lag: config.audit.max_lag,
        machine,
        clock,
        entropy: Arc::new(OsEntropy),
    })
}
