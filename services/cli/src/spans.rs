//! Spans of the services that this program runs, told to a collector where the configuration names one.

use std::sync::Arc;

use keywheel_daemon::{SystemClock, SystemIds};
use keywheel_schemas::config::Config;
use keywheel_schemas::config::otlp::{HEADERS_VARIABLE, Otlp, OtlpHeaders};
use keywheel_telemetry::traces::{self, Collector, Exporting, Headers, HeadersError, Resource};

use crate::up::{Error, Kind};

/// Starts telling, before anything makes a span.
pub(crate) fn start(
    config: &Config,
    clock: Arc<SystemClock>,
    ids: Arc<SystemIds>,
) -> Result<Option<Exporting>, Error> {
    let Some(otlp) = &config.otlp else {
        return Ok(None);
    };
    let wrong = |error: &dyn std::error::Error, next: &str| {
        Error::new(Kind::BadConfiguration, keywheel_daemon::chain(error), next)
    };
    let headers = headers(otlp).map_err(|error| {
        let next = format!("correct `otlp.headers_file` or {HEADERS_VARIABLE}, or leave them out");
        wrong(&error, &next)
    })?;
    let collector = Collector {
        endpoint: otlp.endpoint.clone(),
        headers,
        gzip: otlp.gzip,
    };
    let resource = Resource {
        machine: config.host_name.clone(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let exporting = traces::start(collector, resource, clock, ids);
    let exporting =
        exporting.map_err(|error| wrong(&error, "correct `otlp.endpoint`, or leave it out"))?;
    Ok(Some(exporting))
}

fn headers(otlp: &Otlp) -> Result<Headers, HeadersError> {
    match &otlp.headers {
        OtlpHeaders::None => Ok(Headers::default()),
        OtlpHeaders::File(path) => Headers::read(path),
        OtlpHeaders::Environment => {
            let text = keywheel_daemon::env::lookup(HEADERS_VARIABLE);
            Headers::parse(&text.unwrap_or_default())
        }
    }
}

/// Tells what is left, once the services have ended.
pub(crate) async fn finish(exporting: Option<Exporting>) {
    if let Some(exporting) = exporting {
        exporting.finish().await;
    }
}
