//! Refused starts that `describe secret` tells, over a real journal.

use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::id::ContainerId;
use keywheel_core::report::{DeniedStart, HostReport};

use super::reports::{HOST, Real};

/// More than are read at once.
const OTHERS: usize = 1_100;

impl Real {
    /// The host says so often that it refused a start for want of a secret.
    async fn refuse(&self, secret: &str, times: usize) {
        let start = DeniedStart {
            container: ContainerId::parse(&"e".repeat(64)).unwrap(),
            container_name: format!("job of {secret}"),
            image_digest: "sha256:1".to_owned(),
            secret: secret.to_owned(),
            reason: "no binding means it".to_owned(),
        };
        let generation = self.bench.api.view.read().world.host_generation(HOST);
        let told = Command::Report(HostReport {
            generation,
            denied: vec![start; times],
            ..HostReport::empty(HOST)
        });
        self.bench.submit(Role::Injector, told).await;
    }

    async fn refused(&self, secret: &str) -> Vec<String> {
        let path = format!("secrets/{secret}?refused_starts=true");
        let (status, told) = self.bench.see(&path).await;
        assert_eq!(status, 200, "{told}");
        let starts = told["refused_starts"].as_array().unwrap();
        let names = starts.iter().map(|start| start["container"].as_str());
        names.map(|name| name.unwrap().to_owned()).collect()
    }
}

#[tokio::test]
async fn a_refused_start_is_found_behind_a_thousand_others() {
    let real = Real::start().await;
    real.serve().await;
    real.refuse("prod/db", 1).await;
    real.refuse("prod/api", OTHERS).await;
    assert_eq!(real.refused("prod/db").await, ["job of prod/db"]);
    assert_eq!(real.refused("prod/api").await, ["job of prod/api"; 10]);
}
