//! What every service shows of itself: its build, its start, its end of the bus, its credentials.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::time::Timestamp;
use keywheel_engine::presence::BusEnd;

use crate::endpoint::Source;
use crate::names;
use crate::page::Page;

/// One service of this process.
pub struct Instance {
    /// Its role's word.
    pub service: &'static str,
    /// Its version.
    pub version: &'static str,
    /// When it started.
    pub started: Timestamp,
    /// How its end of the bus is; `None` inside one process.
    pub end: Option<Arc<dyn Fn() -> BusEnd + Send + Sync>>,
    /// When its credentials end, if it has any.
    pub certificate_end: Arc<dyn Fn() -> Option<Timestamp> + Send + Sync>,
}

/// An instant as Prometheus counts it.
#[expect(
    clippy::cast_precision_loss,
    reason = "microseconds of this century fit"
)]
pub(crate) fn seconds(at: Timestamp) -> f64 {
    at.micros() as f64 / 1e6
}

#[async_trait]
impl Source for Instance {
    async fn read(&self, page: &mut Page) {
        let service = self.service;
        page.count(&names::BUILD_INFO, &[service, self.version], 1);
        page.at(&names::START_TIME, &[service], self.started);
        if let Some(end) = (self.certificate_end)() {
            page.at(&names::CREDENTIALS_EXPIRY, &[service], end);
        }
        let Some(end) = self.end.as_ref().map(|end| end()) else {
            return;
        };
        page.flag(&names::BUS_CONNECTED, &[service], end.connected);
        page.count(&names::BUS_CONNECTS, &[service], end.connects);
        page.count(&names::BUS_REFUSED, &[service], end.refused);
    }
}
