//! Playbooks over HTTP: declared, planned, run, approved, stopped; and a run goes on by itself.

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::id::{HostId, RunId};
use keywheel_core::name::PlaybookName;
use keywheel_core::playbook_run::{Cause, Request as RunRequest};
use keywheel_identity::name::OperatorName;

use super::*;

const LEAKED: &str = include_str!("../../../../../deploy/playbooks/leaked-credential.yaml");
const COMPROMISED: &str = include_str!("../../../../../deploy/playbooks/compromised-host.yaml");
const DRILL: &str = include_str!("../../../../../deploy/playbooks/quarterly-drill.yaml");
const BINDING: &str = "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: { name: payments }\nspec:\n  secret: prod/db\n  containers: { host: web-1, image: i }\n  file: { name: f }\n";

const PLAYBOOK: &str = "apiVersion: keywheel.dev/v1\nkind: Playbook\nmetadata: { name: ask }\nspec:\n  parameters: [{ name: secret, default: prod/db }]\n  steps:\n    - { name: approve, approve: {} }\n    - { name: rotate, rotate: { secrets: [\"${secret}\"] } }\n    - { name: converge, wait: {} }\n";

impl Bench {
    /// A run that waits for an approval.
    pub(super) async fn with_a_run(&self) -> String {
        let (status, answer) = self.apply(PLAYBOOK).await;
        assert_eq!(status, 200, "{answer}");
        let (status, begun) = self
            .post("playbooks/ask/run", json!({ "reason": "leaked" }))
            .await;
        assert_eq!(status, 200, "{begun}");
        let id = begun["run_id"].as_str().unwrap().to_owned();
        self.until(&id, |run| run["steps"][0]["state"] == "running")
            .await;
        id
    }

    /// A host that has the secret and never tells of it again, and a playbook.
    async fn with_a_silent_host(playbook: &str) -> Self {
        let bench = Self::start().await;
        let host = Command::EnrolHost {
            host: HostId::from_bytes([8; 16]),
            name: HostName::parse("web-1").unwrap(),
            sealing_key: [1; 32],
        };
        bench.submit(Role::Injector, host).await;
        bench.apply(&format!("{MANIFEST}---\n{BINDING}")).await;
        bench.work().await;
        let (status, answer) = bench.apply(playbook).await;
        assert_eq!(status, 200, "{answer}");
        bench
    }

    pub(super) async fn run(&self, playbook: &str, arguments: Value) -> String {
        let wish = json!({ "arguments": arguments, "reason": "a test" });
        let (status, begun) = self.post(&format!("playbooks/{playbook}/run"), wish).await;
        assert_eq!(status, 200, "{begun}");
        begun["run_id"].as_str().unwrap().to_owned()
    }

    /// The run once a step stands so.
    pub(super) async fn until_step(&self, id: &str, step: &str, state: &str) -> Value {
        let is_so = |one: &Value| one["name"] == step && one["state"] == state;
        self.until(id, |run| run["steps"].as_array().unwrap().iter().any(is_so))
            .await
    }

    /// The run once it has ended.
    pub(super) async fn until_end(&self, id: &str) -> Value {
        self.until(id, |run| run["state"] != "running").await
    }

    async fn end_step(&self, id: &str, step: &str, after: Duration) {
        self.clock.advance(after);
        let due = Command::Playbook(RunRequest::Due {
            run: RunId::parse(id).unwrap(),
            step: step.to_owned(),
        });
        self.submit(Role::Scheduler, due).await;
    }

    /// The run once it is so; it goes on by itself, a moment after each answer.
    async fn until(&self, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let mut bell = self.api.view.bell();
        loop {
            bell.borrow_and_update();
            let (status, run) = self.see(&format!("playbook-runs/{id}")).await;
            assert_eq!(status, 200, "{run}");
            if is_so(&run) {
                return run;
            }
            bell.changed().await.unwrap();
        }
    }
}

#[tokio::test]
async fn a_run_is_planned_begun_and_refuses_who_started_it() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    let id = bench.with_a_run().await;
    let (_, plan) = bench.see("playbook-plan/ask").await;
    assert_eq!(plan["blockers"], json!([]), "{plan}");
    assert_eq!(plan["steps"][1]["targets"], json!(["prod/db"]));
    let told = "playbook-plan/ask?arguments=%7B%22secret%22%3A%22prod%2Fno%22%7D";
    let (_, plan) = bench.see(told).await;
    assert!(plan["blockers"].to_string().contains("prod/no"), "{plan}");
    let own = bench
        .post(
            &format!("playbook-runs/{id}/approve"),
            json!({ "reason": "fine" }),
        )
        .await;
    assert_problem(&own, 409, "conflict", "started playbook run");
    let nobody = bench
        .post("playbooks/none/run", json!({ "reason": "x" }))
        .await;
    assert_problem(&nobody, 404, "not_found", "no playbook is named `none`");
    let silent = bench
        .post("playbooks/ask/run", json!({ "reason": " " }))
        .await;
    assert_problem(&silent, 400, "invalid", "--reason");
    let (status, gone) = bench
        .post(
            &format!("playbook-runs/{id}/cancel"),
            json!({ "reason": "a drill" }),
        )
        .await;
    assert_eq!((status, &gone["state"]), (200, &json!("cancelled")));
}

#[tokio::test]
async fn a_run_rotates_by_itself_and_says_what_it_began() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    let straight = PLAYBOOK.replace("    - { name: approve, approve: {} }\n", "");
    bench.apply(&straight).await;
    let (_, begun) = bench
        .post("playbooks/ask/run", json!({ "reason": "leaked" }))
        .await;
    let id = begun["run_id"].as_str().unwrap().to_owned();
    let run = bench
        .until(&id, |run| run["steps"][1]["state"] == "running")
        .await;
    let begun = run["steps"][0]["targets"][0]["begun"].as_str().unwrap();
    assert!(begun.starts_with("rotation "), "{run}");
    bench.work().await;
    let run = bench.until(&id, |run| run["state"] != "running").await;
    assert_eq!(run["state"], "completed", "{run}");
}

#[tokio::test]
async fn a_leaked_credential_is_replaced_and_the_old_one_dies_whoever_is_too_slow() {
    let bench = Bench::with_a_silent_host(LEAKED).await;
    let id = bench
        .run("leaked-credential", json!({ "secret": "prod/db" }))
        .await;
    bench.until_step(&id, "converge", "running").await;
    bench.work().await;
    bench
        .end_step(&id, "converge", Duration::from_secs(900))
        .await;
    let run = bench.until_step(&id, "dead-everywhere", "running").await;
    let revoked = &run["steps"].as_array().unwrap()[6];
    assert_eq!(revoked["name"], "revoke-old", "{run}");
    let targets = json!("prod/db version 1");
    assert_eq!(revoked["targets"][0]["target"], targets, "{run}");
    let (_, secret) = bench.see("versions/prod/db").await;
    assert_eq!(secret[0]["state"], "alive", "{secret}");
    assert_ne!(secret[1]["state"], "alive", "{secret}");
}

#[tokio::test]
async fn a_leaked_credential_that_nothing_replaces_dies_once_somebody_else_agrees() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    bench.apply(LEAKED).await;
    let id = bench
        .run("leaked-credential", json!({ "secret": "prod/db" }))
        .await;
    let run = bench.until_step(&id, "converge", "running").await;
    let begun = run["steps"][0]["targets"][0]["begun"].as_str().unwrap();
    let rotation = begun.strip_prefix("rotation ").unwrap();
    let because = json!({ "reason": "its server takes no other" });
    let (status, view) = bench
        .post(&format!("rotations/{rotation}/abort"), because)
        .await;
    assert_eq!(status, 200, "{view}");
    bench.work().await;
    bench
        .until_step(&id, "approve-late-outage", "running")
        .await;
    let (_, secret) = bench.see("versions/prod/db").await;
    let leaked = |all: &Value| {
        let mut all = all.as_array().unwrap().iter();
        all.find(|one| one["version"] == 1).unwrap()["state"].clone()
    };
    assert_eq!(leaked(&secret), "alive", "nobody agreed yet: {secret}");
    let peer = Peer::Operator(OperatorName::parse("anna").unwrap());
    let body = Body::from(json!({ "reason": "agreed" }).to_string());
    let path = format!("/v1/playbook-runs/{id}/approve");
    let (status, text) = bench.ask_as(peer, "POST", &path, body).await;
    assert_eq!(status, StatusCode::OK, "{text}");
    bench.until_step(&id, "gone-at-last", "running").await;
    let (_, secret) = bench.see("versions/prod/db").await;
    assert_ne!(leaked(&secret), "alive", "{secret}");
}

#[tokio::test]
async fn a_compromised_host_is_evicted_and_what_it_held_is_replaced() {
    let bench = Bench::with_a_silent_host(COMPROMISED).await;
    let id = bench
        .run("compromised-host", json!({ "host": "web-1" }))
        .await;
    let run = bench.until_step(&id, "converge", "running").await;
    assert_eq!(run["steps"][1]["targets"][0]["target"], "prod/db", "{run}");
    bench.work().await;
    let run = bench.until_end(&id).await;
    assert_eq!(run["state"], "completed", "{run}");
    let said = run["steps"].as_array().unwrap().last().unwrap();
    let note = said["note"].as_str().unwrap();
    assert!(note.starts_with("0 proven dead; 1 not probed"), "{run}");
    let (_, host) = bench.see("hosts").await;
    assert_eq!(host[0]["state"], "evicted", "{host}");
}

#[tokio::test]
async fn a_drill_begins_when_two_others_agree() {
    let bench = Bench::start().await;
    bench.apply(&MANIFEST.replace("prod/db", "drill/db")).await;
    bench.apply(MANIFEST).await;
    bench.work().await;
    bench.apply(DRILL).await;
    let id = bench.run("quarterly-drill", json!({})).await;
    bench.until_step(&id, "agree", "running").await;
    for name in ["anna", "ben"] {
        let peer = Peer::Operator(OperatorName::parse(name).unwrap());
        let body = Body::from(json!({ "reason": "agreed" }).to_string());
        let path = format!("/v1/playbook-runs/{id}/approve");
        let (status, text) = bench.ask_as(peer, "POST", &path, body).await;
        assert_eq!(status, StatusCode::OK, "{text}");
    }
    let run = bench.until_step(&id, "converge", "running").await;
    let agreed = json!(["certificate:anna", "certificate:ben"]);
    assert_eq!(run["steps"][0]["approvals"], agreed);
    let targets = run["steps"][1]["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 1, "{run}");
    bench.work().await;
    let run = bench.until_end(&id).await;
    assert_eq!(run["state"], "completed", "{run}");
    let score = json!({ "targets": 1, "through": 1, "percent": 100, "not_through": [] });
    assert_eq!(run["score"], score, "{run}");
    assert!(run["took_ms"].is_number() && run["steps"][0]["took_ms"].is_number());
}

/// The id of a run that a trigger began is a hash: it may be lower or higher than any other.
#[tokio::test]
async fn the_newest_run_is_first_whatever_its_id() {
    let bench = Bench::start().await;
    bench.apply(MANIFEST).await;
    let (status, answer) = bench.apply(PLAYBOOK).await;
    assert_eq!(status, 200, "{answer}");
    let mut begun = Vec::new();
    for byte in [0xff, 0, 0x80] {
        bench.clock.advance(Duration::from_secs(3600));
        let run = RunId::from_bytes([byte; 16]);
        let start = Command::Playbook(RunRequest::Start {
            run,
            playbook: PlaybookName::parse("ask").unwrap(),
            arguments: BTreeMap::new(),
            by: "unix:0".to_owned(),
            reason: "a test".to_owned(),
            cause: Cause::Person,
        });
        bench.submit(Role::Scheduler, start).await;
        begun.insert(0, run.to_string());
        let (_, runs) = bench.see("playbook-runs").await;
        let runs = runs.as_array().unwrap();
        let ids: Vec<&str> = runs
            .iter()
            .map(|run| run["run_id"].as_str().unwrap())
            .collect();
        assert_eq!(ids, begun);
        let times: Vec<&str> = runs
            .iter()
            .map(|run| run["begun"].as_str().unwrap())
            .collect();
        assert!(times.is_sorted_by(|one, other| one > other), "{times:?}");
    }
    // Open ones stay above those that ended.
    let newest = format!("playbook-runs/{}/cancel", begun[0]);
    let (status, said) = bench.post(&newest, json!({ "reason": "done" })).await;
    assert_eq!(status, 200, "{said}");
    let (_, runs) = bench.see("playbook-runs").await;
    assert_eq!(runs[2]["run_id"], begun[0], "{runs}");
}

const CUT: &str = "apiVersion: keywheel.dev/v1\nkind: Playbook\nmetadata: { name: cut }\nspec:\n  steps:\n    - { name: cut, quarantine: { consumersOf: [prod/db], action: pause } }\n";

#[tokio::test]
async fn a_container_in_quarantine_is_listed_until_a_person_lifts_that() {
    let bench = Bench::start().await;
    bench.serve_consumers(1).await;
    let (status, answer) = bench.apply(CUT).await;
    assert_eq!(status, 200, "{answer}");
    let (_, plan) = bench.see("playbook-plan/cut").await;
    let blockers = plan["blockers"].to_string();
    assert!(blockers.contains("`web-1` knows no orders"), "{plan}");
    bench.knows_orders().await;
    let (_, plan) = bench.see("playbook-plan/cut").await;
    assert_eq!(plan["blockers"], json!([]), "{plan}");
    let target = json!(["web (aaaaaaaaaaaa) on web-1"]);
    assert_eq!(plan["steps"][0]["targets"], target, "{plan}");
    assert_eq!(plan["steps"][0]["action"], "quarantine: pause");

    let id = bench.run("cut", json!({})).await;
    let is_given = |run: &Value| run["steps"][0]["targets"][0]["begun"] == "quarantine";
    bench.until(&id, is_given).await;
    let (_, held) = bench.see("quarantines").await;
    assert_eq!(held[0]["container"], "web", "{held}");
    let told = (&held[0]["action"], &held[0]["state"], &held[0]["run_id"]);
    assert_eq!(told, (&json!("pause"), &json!("ordered"), &json!(id)));
    let silent = bench
        .post("quarantines/web/lift", json!({ "reason": "" }))
        .await;
    assert_problem(&silent, 400, "invalid", "--reason");
    let other = json!({ "reason": "looked at" });
    let nobody = bench.post("quarantines/db/lift", other.clone()).await;
    assert_problem(
        &nobody,
        404,
        "not_found",
        "no container `db` is in quarantine",
    );
    let (status, lifted) = bench.post("quarantines/web/lift", other).await;
    assert_eq!(status, 200, "{lifted}");
    assert_eq!(lifted["results"][0]["action"], "lifted", "{lifted}");
    let (_, held) = bench.see("quarantines").await;
    assert_eq!(held, json!([]));
}
