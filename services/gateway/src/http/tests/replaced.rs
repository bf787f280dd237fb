//! A revocation that has its secret replaced first: what the plan says, what it waits for, and when it begins.

use super::*;

impl Bench {
    async fn revocation(&self, begun: &Value) -> Value {
        let id = begun["revocation_id"].as_str().unwrap();
        self.see(&format!("revocations/{id}")).await.1
    }
}

#[tokio::test]
async fn what_is_replaced_lives_until_its_replacement_is_in_use() {
    let bench = Bench::start().await;
    bench.serve_consumers(1).await;
    let (_, plan) = bench.see("revoke-plan?secret=prod/db&replace=true").await;
    let hit = &plan["secrets"][0];
    let action = &hit["consumers"][0]["action"];
    assert_eq!(action, "file replaced by version 2", "{plan}");
    let words = hit["replacement"].as_str().unwrap();
    assert!(words.contains("version 2 is made"), "{words}");
    assert_eq!(bench.see("revocations").await.1, json!([]), "nothing began");
    let wish = json!({ "secret": "prod/db", "reason": "leaked", "replace": true });
    let (status, begun) = bench.post("revoke", wish).await;
    let state = (status, &begun["state"], &begun["backend"]);
    let waits = json!("awaiting_replacement");
    assert_eq!(state, (200, &waits, &json!("not_asked")), "{begun}");
    let states = &begun["states"];
    assert_eq!(states["withdrawn_everywhere"], false, "{begun}");
    assert_eq!(states["replacement"]["state"], "awaited", "{begun}");
    let rotation = states["replacement"]["rotation_id"].as_str().unwrap();
    let (_, run) = bench.see(&format!("rotations/{rotation}")).await;
    let next = run["next_step"].as_str().unwrap();
    let id = begun["revocation_id"].as_str().unwrap();
    assert!(next.contains(id), "{next}");
    bench.work().await;
    let promoted = bench.revocation(&begun).await;
    assert_eq!(promoted["state"], waits, "a container has the old one");
    assert_eq!(promoted["withdrawn_ms"], Value::Null, "{promoted}");
    bench.run_on(2, &["a".to_owned()]).await;
    let running = bench.revocation(&begun).await;
    let state = (&running["state"], &running["backend"], &running["versions"]);
    assert_eq!(
        state,
        (&json!("running"), &json!("asked"), &json!([1])),
        "{running}"
    );
    assert_eq!(running["states"]["replacement"]["state"], "made");
}

#[tokio::test]
async fn a_refused_replacement_refuses_the_revocation_but_in_an_emergency() {
    let bench = Bench::start().await;
    bench.serve_consumers(1).await;
    // A rotation that is distributing: what it made is among what is to die.
    let rotated = bench.post("rotate", json!({ "secret": "prod/db" })).await;
    assert_eq!(rotated.0, 200, "{}", rotated.1);
    bench.work().await;
    let wish = json!({ "scope": { "prefix": "prod" }, "reason": "leaked", "replace": true });
    let (_, plan) = bench.see("revoke-plan?prefix=prod&replace=true").await;
    let words = plan["secrets"][0]["replacement"].as_str().unwrap();
    assert!(words.contains("nothing was revoked"), "{words}");
    let (status, answer) = bench.post("revoke-by", wish.clone()).await;
    assert_eq!(status, 200, "{answer}");
    let refused = &answer["refused"][0];
    assert_eq!(refused["secret"], "prod/db", "{answer}");
    assert!(
        refused["reason"].as_str().unwrap().contains("is open"),
        "{answer}"
    );
    assert_eq!(answer["revocations"], json!([]));
    let mut urgent = wish;
    urgent["emergency"] = json!(true);
    let (_, answer) = bench.post("revoke-by", urgent).await;
    let begun = &answer["revocations"][0];
    assert_eq!(begun["versions"], json!([1, 2]), "{answer}");
    assert_eq!(begun["states"]["replacement"]["state"], "none", "{answer}");
}
