//! What a rotation and a revocation are told to wait for while store-sync is sealed.

use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::id::RevocationId;
use keywheel_core::rotation::Step;
use keywheel_core::time::Timestamp;
use keywheel_engine::presence::{Fact, Presence, SEAL_FACT, Seen};

use super::*;

impl Bench {
    /// What a store-sync says of itself.
    fn hear_store_sync(&self, instance: u8, second: i64, fact: Fact) {
        let presence = Presence {
            role: Role::StoreSync,
            host: None,
            instance: [instance; 16],
            machine: format!("m{instance}"),
            version: "1".to_owned(),
            started: Timestamp::from_micros(1),
            sent: Timestamp::from_micros(second * 1_000_000),
            leaving: false,
            certificate_end: None,
            bus: None,
            seen: Seen {
                reached: None,
                facts: vec![fact],
            },
        };
        assert!(self.api.presences.hear(presence, None));
    }

    /// What comes next of a rotation, as one and in the list.
    async fn next_of(&self, id: &str) -> Value {
        self.next_of_one(("rotations", "rotation_id"), id).await
    }

    /// The same of a revocation.
    async fn next_of_revocation(&self, id: &str) -> Value {
        self.next_of_one(("revocations", "revocation_id"), id).await
    }

    async fn next_of_one(&self, (all, key): (&str, &str), id: &str) -> Value {
        let (_, one) = self.see(&format!("{all}/{id}")).await;
        let (_, all) = self.see(all).await;
        let mut rows = all.as_array().unwrap().iter();
        let row = rows.find(|row| row[key] == id).unwrap();
        assert_eq!(row["next_step"], one["next_step"]);
        one["next_step"].clone()
    }
}

fn shut() -> Fact {
    Fact::problem(SEAL_FACT, "sealed, by shamir", "`keywheel unseal`")
}

#[tokio::test]
async fn a_rotation_that_waits_for_the_seal_says_so_until_it_is_unsealed() {
    let bench = Bench::start().await;
    assert_eq!(bench.apply(MANIFEST).await.0, 200);
    bench.work().await;
    let rotate = json!({ "secret": "prod/db" });
    let (_, begun) = bench.post("rotate", rotate).await;
    let id = begun["rotation_id"].as_str().unwrap().to_owned();
    // Of a store-sync that nobody hears nobody knows whether it is sealed.
    assert_eq!(bench.next_of(&id).await, Value::Null);
    bench.hear_store_sync(1, 1, shut());
    let next = bench.next_of(&id).await.to_string();
    for part in ["store-sync is sealed", "`keywheel unseal`", "by itself"] {
        assert!(next.contains(part), "{next}");
    }
    // Another one does the steps.
    bench.hear_store_sync(2, 2, Fact::ok(SEAL_FACT, "unsealed"));
    assert_eq!(bench.next_of(&id).await, Value::Null);
    bench.hear_store_sync(2, 3, shut());
    assert!(bench.next_of(&id).await.is_string());
    // What is over waits for nobody.
    bench.work().await;
    assert_eq!(bench.next_of(&id).await, Value::Null);
}

#[tokio::test]
async fn the_seal_is_told_before_what_a_rotation_waits_for_besides() {
    let bench = Bench::start().await;
    assert_eq!(bench.apply(MANIFEST).await.0, 200);
    bench.work().await;
    bench.hear_store_sync(1, 1, shut());
    let (_, begun) = bench.post("rotate", json!({ "secret": "prod/db" })).await;
    let next = begun["next_step"].as_str().unwrap();
    assert!(next.starts_with("store-sync is sealed"), "{begun}");
    let id = begun["rotation_id"].as_str().unwrap();
    let failed = Command::StepOutcome {
        rotation: RotationId::parse(id).unwrap(),
        step: Step::Create,
        attempt: 1,
        failure: Some("the disk is full".to_owned()),
        is_away: false,
        remote: None,
        sessions: None,
    };
    bench.submit(Role::StoreSync, failed).await;
    let next = bench.next_of(id).await.to_string();
    for part in ["store-sync is sealed", "; it is tried again by itself"] {
        assert!(next.contains(part), "{next}");
    }
}

#[tokio::test]
async fn a_revocation_whose_store_waits_for_the_seal_says_so_until_it_is_unsealed() {
    let bench = Bench::start().await;
    assert_eq!(bench.apply(MANIFEST).await.0, 200);
    bench.work().await;
    bench.hear_store_sync(1, 1, shut());
    let wish = json!({ "secret": "prod/db", "reason": "leaked" });
    let (status, begun) = bench.post("revoke", wish).await;
    assert_eq!(status, 200, "{begun}");
    let id = begun["revocation_id"].as_str().unwrap().to_owned();
    let next = bench.next_of_revocation(&id).await;
    assert_eq!(begun["next_step"], next, "who asked for it is told, too");
    let next = next.to_string();
    for part in ["store-sync is sealed", "lose it", "`keywheel unseal`"] {
        assert!(next.contains(part), "{next}");
    }
    // Another one does the store's half.
    bench.hear_store_sync(2, 2, Fact::ok(SEAL_FACT, "unsealed"));
    assert_eq!(bench.next_of_revocation(&id).await, Value::Null);
    bench.hear_store_sync(2, 3, shut());
    assert!(bench.next_of_revocation(&id).await.is_string());
    // What is over waits for nobody.
    let done = Command::RevokeOutcome {
        revocation: RevocationId::parse(&id).unwrap(),
        attempt: 1,
        failure: None,
    };
    bench.submit(Role::StoreSync, done).await;
    let (_, ended) = bench.see(&format!("revocations/{id}")).await;
    assert_eq!(ended["state"], "closed");
    assert_eq!(bench.next_of_revocation(&id).await, Value::Null);
}

#[tokio::test]
async fn a_revocation_that_waits_for_its_replacement_says_that_its_versions_live() {
    let bench = Bench::start().await;
    assert_eq!(bench.apply(MANIFEST).await.0, 200);
    bench.work().await;
    let wish = json!({ "secret": "prod/db", "reason": "leaked", "replace": true });
    let (status, begun) = bench.post("revoke", wish).await;
    assert_eq!(status, 200, "{begun}");
    assert_eq!(begun["state"], "awaiting_replacement");
    assert_eq!(begun["next_step"], Value::Null);
    bench.hear_store_sync(1, 1, shut());
    let id = begun["revocation_id"].as_str().unwrap();
    let next = bench.next_of_revocation(id).await.to_string();
    for part in ["store-sync is sealed", "they live", "`keywheel unseal`"] {
        assert!(next.contains(part), "{next}");
    }
    assert!(!next.contains("lose it"), "{next}");
}
