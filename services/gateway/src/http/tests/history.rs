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
    /// A host whose containers get `prod/db`.
    async fn serve_host(&self) {
        let enrol = Command::EnrolHost {
            host: HOST,
            name: HostName::parse("web-1").unwrap(),
            sealing_key: [1; 32],
        };
        self.submit(Role::Injector, enrol).await;
        self.apply(&format!("{MANIFEST}---\n{BINDING}")).await;
        self.work().await;
    }

    /// So many containers that run on version 1 of `prod/db`.
    pub(super) async fn serve_consumers(&self, count: usize) {
        self.serve_host().await;
        let containers: Vec<String> = "abcdef".chars().take(count).map(String::from).collect();
        self.run_on(1, &containers).await;
    }

    /// The container is not there any more.
    pub(super) async fn vanish(&self, container: &str) {
        let known = self.api.view.read().world.assignments.clone();
        let others = known.keys().map(|key| key.container.to_string());
        let others = others.filter(|other| other != container);
        self.report(Vec::new(), others.collect(), true, 1).await;
    }

    /// The host says that its container runs on a version.
    async fn swapped(&self, version: u64) {
        self.run_on(version, &["c".to_owned()]).await;
    }

    /// The host says that containers, named by the digit of their ids, run on a version.
    pub(super) async fn run_on(&self, version: u64, containers: &[String]) {
        self.run_as("", version, containers).await;
    }

    /// The same of containers of a service.
    pub(super) async fn run_as(&self, service: &str, version: u64, containers: &[String]) {
        let (binding, secret) = {
            let committed = self.api.view.read();
            let binding = committed.world.bindings.values().next().unwrap();
            (binding.id, binding.spec.as_ref().unwrap().secret)
        };
        let at = self.api.clock.now();
        let ids: Vec<String> = containers.iter().map(|digit| digit.repeat(64)).collect();
        let item = |id: &String| Item {
            container: ContainerId::parse(id).unwrap(),
            container_name: "web".to_owned(),
            image_digest: String::new(),
            binding,
            secret,
            fact: Fact::Swapped { version, at },
            service: service.to_owned(),
        };
        let items = ids.iter().map(item).collect();
        self.report(items, ids, false, version).await;
    }

    /// The host's injector says that it takes orders.
    pub(super) async fn knows_orders(&self) {
        let report = HostReport {
            orders: Some(Vec::new()),
            ..self.telling(Vec::new(), Vec::new(), false, 1)
        };
        self.submit(Role::Injector, Command::Report(report)).await;
    }

    async fn report(&self, items: Vec<Item>, running: Vec<String>, complete: bool, version: u64) {
        let report = self.telling(items, running, complete, version);
        self.submit(Role::Injector, Command::Report(report)).await;
    }

    fn telling(
        &self,
        items: Vec<Item>,
        running: Vec<String>,
        complete: bool,
        version: u64,
    ) -> HostReport {
        let committed = self.api.view.read();
        let secret = *committed.world.secrets.keys().next().unwrap();
        let running = running.iter().map(|id| ContainerId::parse(id).unwrap());
        HostReport {
            generation: committed.world.host_generation(HOST),
            items,
            holds: vec![(secret, version)],
            complete,
            containers: running.collect(),
            ..HostReport::empty(HOST)
        }
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
    bench.serve_host().await;
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

#[tokio::test]
async fn a_clock_that_was_ahead_hides_nothing_that_came_after_it() {
    let bench = Bench::start().await;
    let begin = bench.api.clock.now();
    let minutes = |n: u64| begin.plus(Duration::from_secs(60 * n));
    bench.clock.set_wall(minutes(120));
    bench.apply(MANIFEST).await;
    // Somebody sets it right; what happens now has an earlier time than what happened before.
    bench.clock.set_wall(minutes(1));
    bench.work().await;
    let path = format!("history/prod/db?at={}", minutes(2).text());
    let (status, then) = bench.see(&path).await;
    assert_eq!(status, 200, "{then}");
    assert_eq!(then["versions"][0]["stage"], "current");
    let head = bench.journal.head().await.unwrap().number;
    assert_eq!(then["number"], head);
}

#[tokio::test]
async fn what_an_evicted_host_held_is_told_before_and_after() {
    let bench = Bench::start().await;
    bench.serve_host().await;
    bench.swapped(1).await;
    let before = bench.an_hour_later();
    let evict = json!({ "reason": "stolen" });
    assert_eq!(bench.post("hosts/web-1/evict", evict).await.0, 200);
    let after = bench.an_hour_later();
    let rotate = json!({ "secret": "prod/db" });
    assert_eq!(bench.post("rotate", rotate).await.0, 200);
    bench.work().await;
    let names = |version: &Value| (version["hosts"].clone(), version["evicted_hosts"].clone());
    let (web, none) = (json!(["web-1"]), json!([]));
    for (time, expected) in [
        (before, (web.clone(), none.clone())),
        (after, (none.clone(), web.clone())),
    ] {
        let path = format!("history/prod/db?at={}", time.text());
        let (_, then) = bench.see(&path).await;
        assert_eq!(names(&then["versions"][0]), expected, "{then}");
    }
    // It may have it for good, although it is retired by now.
    for path in ["versions/prod/db", "history/prod/db"] {
        let (_, now) = bench.see(path).await;
        let versions = now.get("versions").unwrap_or(&now);
        assert_eq!(versions[0]["version"], 2);
        assert_eq!(names(&versions[0]), (none.clone(), none.clone()));
        assert_eq!(names(&versions[1]), (none.clone(), web.clone()), "{now}");
    }
}
