//! Metrics of the services that this program runs, on one page.

use std::sync::{Arc, Mutex, PoisonError};

use keywheel_schemas::config::Config;
use keywheel_schemas::config::metrics::MetricsListen;
use keywheel_telemetry::traces::SpanCounts;
use keywheel_telemetry::{Endpoint, EndpointError, Listen, LogLines, Source};

use crate::up::{Error, Kind};
use crate::wiring::Spawner;

/// What is shown; clones are one.
#[derive(Clone, Default)]
pub(crate) struct Shown(Arc<Mutex<Vec<Arc<dyn Source>>>>);

impl Shown {
    /// Shows this, too.
    pub(crate) fn add(&self, source: Arc<dyn Source>) {
        let mut shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.push(source);
    }

    fn all(&self) -> Vec<Arc<dyn Source>> {
        let shown = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        shown.clone()
    }
}

/// Serves what was added until now, where the configuration says so.
pub(crate) async fn serve(config: &Config, spawn: &Spawner) -> Result<(), Error> {
    let listen = match &config.metrics {
        None => return Ok(()),
        Some(MetricsListen::Loopback(address)) => Listen::Tcp(*address),
        Some(MetricsListen::Unix(path)) => Listen::Unix(path.clone()),
    };
    spawn.shown.add(Arc::new(SpanCounts));
    let lines = LogLines(keywheel_daemon::lines_lost);
    spawn.shown.add(Arc::new(lines));
    let endpoint = Endpoint::bind(&listen, spawn.shown.all()).await;
    let endpoint = endpoint.map_err(|error| fault(&error))?;
    if let Some(address) = endpoint.address() {
        tracing::info!(%address, "serving metrics");
    }
    spawn.start("metrics", endpoint.run(spawn.shutdown.token()));
    Ok(())
}

fn fault(error: &EndpointError) -> Error {
    let next = "give a place that is free as `metrics.listen`, such as 127.0.0.1:9464";
    Error::new(Kind::CannotCreate, keywheel_daemon::chain(error), next)
}
