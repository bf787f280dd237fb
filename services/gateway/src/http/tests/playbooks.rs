//! Playbooks over HTTP: declared, planned, run, approved, stopped; and a run goes on by itself.

use super::*;

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
