//! Spans of the services that this program runs, told to a collector where the configuration names one.

use std::sync::Arc;

use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_schemas::config::Config;
use keywheel_telemetry::traces::{self, Exporting, Resource};

use crate::up::{Error, Kind};

/// Starts telling, before anything makes a span.
pub(crate) fn start(
    config: &Config,
    clock: Arc<SystemClock>,
    ids: Arc<SystemIds>,
) -> Result<Option<Exporting>, Error> {
    let Some(endpoint) = &config.otlp_endpoint else {
        return Ok(None);
    };
    let resource = Resource {
        machine: config.host_name.clone(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let exporting = traces::start(endpoint, resource, clock, ids).map_err(|error| {
        let next = "correct `otlp.endpoint`, or leave it out";
        Error::new(Kind::BadConfiguration, keywheel_daemon::chain(&error), next)
    })?;
    Ok(Some(exporting))
}

/// Tells what is left, once the services have ended.
pub(crate) async fn finish(exporting: Option<Exporting>) {
    if let Some(exporting) = exporting {
        exporting.finish().await;
    }
}
