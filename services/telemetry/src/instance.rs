//! What every service shows of itself: its build, its start, its end of the bus, its credentials; and
//! every process of its log lines.

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::time::Timestamp;
use keywheel_engine::presence::{Backlog, BusEnd};

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
    /// What waits for it there; `None` inside one process.
    pub backlog: Option<Arc<dyn Backlog>>,
    /// When its credentials begin and end, if it has any.
    pub credentials: Arc<dyn Fn() -> Option<(Timestamp, Timestamp)> + Send + Sync>,
}

/// How many log lines of this process nobody reads.
pub struct LogLines(pub fn() -> u64);

#[async_trait]
impl Source for LogLines {
    async fn read(&self, page: &mut Page) {
        page.count(&names::LOG_LINES_LOST, &[], (self.0)());
    }
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
        if let Some((begin, end)) = (self.credentials)() {
            page.at(&names::CREDENTIALS_EXPIRY, &[service], end);
            let life = end.since(begin).as_secs_f64();
            page.set(&names::CREDENTIALS_LIFETIME, &[service], life);
        }
        if let Some(backlog) = &self.backlog {
            for (topic, waits) in backlog.backlog().await {
                page.count(&names::BUS_BACKLOG, &[service, topic], waits);
            }
        }
        let Some(end) = self.end.as_ref().map(|end| end()) else {
            return;
        };
        page.flag(&names::BUS_CONNECTED, &[service], end.connected);
        page.count(&names::BUS_CONNECTS, &[service], end.connects);
        page.count(&names::BUS_REFUSED, &[service], end.refused);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    struct Waits;

    #[async_trait]
    impl Backlog for Waits {
        async fn backlog(&self) -> Vec<(&'static str, u64)> {
            vec![("work", 3), ("events", 0)]
        }
    }

    fn at(seconds: u64) -> Timestamp {
        Timestamp::default().plus(Duration::from_secs(seconds))
    }

    async fn page(end: Option<BusEnd>, credentials: Option<(Timestamp, Timestamp)>) -> String {
        let backlog = end.is_some().then(|| Arc::new(Waits) as Arc<dyn Backlog>);
        let instance = Instance {
            service: "store-sync",
            version: "1.2.3",
            started: at(7),
            end: end
                .map(|end| Arc::new(move || end.clone()) as Arc<dyn Fn() -> BusEnd + Send + Sync>),
            backlog,
            credentials: Arc::new(move || credentials),
        };
        let mut page = Page::default();
        instance.read(&mut page).await;
        page.text()
    }

    #[tokio::test]
    async fn what_nobody_reads_is_counted() {
        let mut page = Page::default();
        LogLines(|| 3).read(&mut page).await;
        assert!(page.text().contains("\nkeywheel_log_lines_lost_total 3\n"));
    }

    #[tokio::test]
    async fn what_a_service_shows_of_itself_is_what_its_bus_and_its_credentials_say() {
        let end = BusEnd {
            connected: true,
            connects: 2,
            refused: 5,
            ..BusEnd::default()
        };
        let away = BusEnd {
            connected: false,
            ..end.clone()
        };
        let shown = page(Some(end), Some((at(1_000), at(4_600)))).await;
        for line in [
            "keywheel_build_info{service=\"store-sync\",version=\"1.2.3\"} 1",
            "keywheel_start_time_seconds{service=\"store-sync\"} 7",
            "keywheel_bus_connected{service=\"store-sync\"} 1",
            "keywheel_bus_connects_total{service=\"store-sync\"} 2",
            "keywheel_bus_refused_messages_total{service=\"store-sync\"} 5",
            "keywheel_bus_backlog_messages{service=\"store-sync\",topic=\"work\"} 3",
            "keywheel_bus_backlog_messages{service=\"store-sync\",topic=\"events\"} 0",
            "keywheel_credentials_expiry_timestamp_seconds{service=\"store-sync\"} 4600",
            "keywheel_credentials_lifetime_seconds{service=\"store-sync\"} 3600",
        ] {
            assert!(shown.lines().any(|found| found == line), "{line}: {shown}");
        }
        let shown = page(Some(away), None).await;
        let line = "keywheel_bus_connected{service=\"store-sync\"} 0\n";
        assert!(shown.contains(line), "{shown}");
        let shown = page(None, None).await;
        assert!(
            !shown.contains("keywheel_bus_"),
            "inside one process: {shown}"
        );
        assert!(!shown.contains("keywheel_credentials_"), "{shown}");
    }
}
