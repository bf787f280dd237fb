//! Who held which version at a time.

use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::id::{ContainerId, HostId};
use keywheel_core::report::{Fact, HostReport, Item};
use keywheel_core::time::Timestamp;
use keywheel_schemas::mirror::TextForm as _;

use super::*;

const HOST: HostId = HostId::from_bytes([5; 16]);
const BINDING: &str = "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: web }\nspec:\n  secret: prod/db\n  containers: { labels: { app: web }, insecureSelector: true }\n  file: { name: db }\n  reload: none\n";

impl Bench {
    /// The host says that its container runs on a version.
    async fn swapped(&self, version: u64) {
        let (binding, secret) = {
            let committed = self.api.view.read();
            let binding = committed.world.bindings.values().next().unwrap();
            (binding.id, binding.spec.as_ref().unwrap().secret)
        };
        let at = self.api.clock.now();
        let item = Item {
            container: ContainerId::parse(&"c".repeat(64)).unwrap(),
            container_name: "web".to_owned(),
            image_digest: String::new(),
            binding,
            secret,
            fact: Fact::Swapped { version, at },
        };
        let container = item.container.clone();
        let report = HostReport {
            host: HOST,
            generation: self.api.view.read().world.host_generation(HOST),
            items: vec![item],
            holds: vec![(secret, version)],
            complete: false,
            containers: vec![container],
            denied: Vec::new(),
            stale: Vec::new(),
        };
        self.submit(Role::Injector, Command::Report(report)).await;
    }

    /// An hour goes by; the time between what was and what comes.
    fn an_hour_later(&self) -> Timestamp {
        let half = Duration::from_secs(1800);
        self.clock.advance(half);
        let between = self.api.clock.now();
        self.clock.advance(half);
        between
    }
}

#[tokio::test]
async fn the_log_tells_who_held_which_version_at_a_time() {
    let bench = Bench::start().await;
    let before = bench.an_hour_later();
    let enrol = Command::EnrolHost {
        host: HOST,
        name: HostName::parse("web-1").unwrap(),
        sealing_key: [1; 32],
    };
    bench.submit(Role::Injector, enrol).await;
    bench.apply(&format!("{MANIFEST}---\n{BINDING}")).await;
    bench.work().await;
    bench.swapped(1).await;
    let first = bench.an_hour_later();
    let rotate = json!({ "secret": "prod/db" });
    assert_eq!(bench.post("rotate", rotate).await.0, 200);
    bench.work().await;
    bench.swapped(2).await;
    let at = |time: Timestamp| format!("history/prod/db?at={}", time.text());
    let (status, then) = bench.see(&at(first)).await;
    assert_eq!(status, 200, "{then}");
    assert_eq!(then["at"], first.text());
    assert_eq!(
        (
            &then["consumers"][0]["version"],
            &then["consumers"][0]["name"]
        ),
        (&json!(1), &json!("web"))
    );
    assert_eq!(then["versions"].as_array().unwrap().len(), 1, "{then}");
    let (_, now) = bench.see("history/prod/db").await;
    assert_eq!(now["consumers"][0]["version"], 2, "{now}");
    assert_eq!(now["versions"][0]["version"], 2, "{now}");
    assert!(now["number"].as_u64() > then["number"].as_u64());
    let answer = bench.see(&at(before)).await;
    assert_problem(&answer, 404, "not_found", "no secret was named `prod/db`");
    for bad in ["history/prod/db?at=yesterday", "history/UPPER"] {
        assert_problem(&bench.see(bad).await, 400, "invalid", "");
    }
}
