//! A person steps into a rotation: each verb is one command with its reason on record; a plan begins
//! nothing.

use keywheel_core::audit::Role;
use keywheel_core::command::Command;
use keywheel_core::event::Event;
use keywheel_core::rotation::{self, ACK_DEADLINE};
use keywheel_engine::port::journal::{Journal as _, RecordedEvent};

use super::*;

const WHY: &str = "the machine behind it is gone";

impl Bench {
    /// A rotation that waits for a container.
    async fn waiting(&self) -> (RotationId, String) {
        self.serve_consumers(1).await;
        let (status, begun) = self.post("rotate", json!({ "secret": "prod/db" })).await;
        assert_eq!(status, 200, "{begun}");
        let id = begun["rotation_id"].as_str().unwrap().to_owned();
        self.work().await;
        let (_, view) = self.see(&format!("rotations/{id}")).await;
        assert_eq!(view["state"], "distributing", "{view}");
        (RotationId::parse(&id).unwrap(), id)
    }

    async fn park(&self, rotation: RotationId) {
        self.clock.advance(ACK_DEADLINE);
        self.submit(Role::Scheduler, Command::DeadlinePassed { rotation })
            .await;
    }

    async fn step_in(&self, id: &str, verb: &str) -> (u16, Value) {
        self.post(&format!("rotations/{id}/{verb}"), json!({ "reason": WHY }))
            .await
    }
}

#[tokio::test]
async fn a_parked_rotation_says_what_to_do_and_does_it() {
    let bench = Bench::start().await;
    let (rotation, id) = bench.waiting().await;
    bench.park(rotation).await;
    let (_, parked) = bench.see(&format!("rotations/{id}")).await;
    assert_eq!(parked["state"], "parked");
    assert_eq!(parked["dying"], json!([1]));
    let next = parked["next_step"].as_str().unwrap();
    for verb in ["retry", "force", "abort"] {
        let command = format!("`keywheel rotation {verb} {id} --reason …`");
        assert!(next.contains(&command), "{next}");
    }
    let (status, again) = bench.step_in(&id, "retry").await;
    assert_eq!((status, &again["state"]), (200, &json!("distributing")));
    let before = bench.audit().await.len();
    let (status, forced) = bench.step_in(&id, "force").await;
    assert_eq!((status, &forced["state"]), (200, &json!("revoking_old")));
    assert_eq!(forced["dying"], json!([]), "it is dead");
    let waits = forced["waiting_for"].to_string();
    assert!(waits.contains("not waited for any more"), "{waits}");
    let left = bench.audit().await.split_off(before);
    let is_said = |record: &&String| record.contains("force-rotation") && record.contains(WHY);
    assert_eq!(left.iter().filter(is_said).count(), 1, "{left:?}");
    bench.work().await;
    let (_, ended) = bench.see(&format!("rotations/{id}")).await;
    assert_eq!(ended["state"], "completed", "{ended}");
}

#[tokio::test]
async fn where_a_secret_says_force_its_deadline_kills_the_old_version_and_names_who_is_missing() {
    let bench = Bench::start().await;
    let (rotation, id) = bench.waiting().await;
    let forcing = MANIFEST.replace(" } }", " }, rotation: { onDeadline: force } }");
    let (status, applied) = bench.apply(&forcing).await;
    assert_eq!(status, 200, "{applied}");
    let (_, plan) = bench.see("rotation-plan/prod/db").await;
    assert_eq!(plan["on_deadline"], "force", "{plan}");
    let (_, waits) = bench.see(&format!("rotations/{id}")).await;
    assert_eq!(
        (&waits["state"], &waits["dying"]),
        (&json!("distributing"), &json!([1]))
    );
    let before = bench.audit().await.len();
    bench.park(rotation).await;
    let (_, forced) = bench.see(&format!("rotations/{id}")).await;
    assert_eq!(forced["state"], "revoking_old", "{forced}");
    assert_eq!(forced["dying"], json!([]), "it is dead");
    let (_, secret) = bench.see("secrets/prod/db").await;
    assert_eq!(secret["current"], 2, "{secret}");
    let left = bench.audit().await.split_off(before);
    let is_said = |record: &&String| record.contains("forced, without those who are missing");
    assert_eq!(left.iter().filter(is_said).count(), 1, "{left:?}");
    let events = bench.journal.read(0, 1000).await.unwrap();
    let of_rotation = |recorded: &RecordedEvent| match &recorded.event {
        Event::Rotation(_, event) => Some(event.clone()),
        _ => None,
    };
    let mut told = events.iter().filter_map(of_rotation);
    let missing = told.find_map(|event| match event {
        rotation::Event::StragglersNamed { consumers, .. } => Some(consumers.len()),
        _ => None,
    });
    assert_eq!(missing, Some(1), "the container that has not moved");
    assert_eq!(told.next(), Some(rotation::Event::Forced));
    bench.work().await;
    let (_, ended) = bench.see(&format!("rotations/{id}")).await;
    assert_eq!(ended["state"], "completed", "{ended}");
}

#[tokio::test]
async fn an_abort_gives_consumers_the_version_before_again() {
    let bench = Bench::start().await;
    let (_, id) = bench.waiting().await;
    let (status, view) = bench.step_in(&id, "abort").await;
    assert_eq!(status, 200, "{view}");
    assert_eq!(view["dying"], json!([2]));
    let waits = view["waiting_for"].to_string();
    assert!(waits.contains(WHY), "{waits}");
    let (_, secret) = bench.see("secrets/prod/db").await;
    assert_eq!(secret["current"], 1, "{secret}");
}

#[tokio::test]
async fn what_cannot_be_done_is_refused_with_the_next_step() {
    let bench = Bench::start().await;
    let (_, id) = bench.waiting().await;
    let silent = bench
        .post(&format!("rotations/{id}/force"), json!({ "reason": " " }))
        .await;
    assert_eq!(silent.1["code"], "invalid", "{silent:?}");
    assert!(silent.1["detail"].as_str().unwrap().contains("--reason"));
    let nothing = bench.step_in(&id, "retry").await;
    assert_problem(&nothing, 409, "conflict", "nothing to retry");
    let unknown = RotationId::from_bytes([0x55; 16]).to_string();
    let unknown = bench.step_in(&unknown, "abort").await;
    assert_problem(&unknown, 404, "not_found", "keywheel get rotations");
    let odd = bench.step_in("x", "abort").await;
    assert_eq!(odd.1["code"], "invalid", "{odd:?}");
}

#[tokio::test]
async fn a_plan_says_who_would_move_and_what_is_in_the_way_and_begins_nothing() {
    let bench = Bench::start().await;
    bench.serve_consumers(2).await;
    let before = bench.journal.head().await.unwrap().number;
    let (status, plan) = bench.see("rotation-plan/prod/db").await;
    assert_eq!(status, 200, "{plan}");
    assert_eq!(plan["version"], 2);
    assert_eq!(plan["consumers"].as_array().unwrap().len(), 2);
    assert_eq!(plan["restarts"], 0);
    assert_eq!(plan["deadline_seconds"], ACK_DEADLINE.as_secs());
    assert_eq!(plan["on_deadline"], "hold");
    assert_eq!(plan["blockers"], json!([]));
    assert!(plan["strategy"].as_str().unwrap().contains("overlap"));
    assert_eq!(bench.journal.head().await.unwrap().number, before);
    assert_eq!(bench.see("rotations").await.1[0]["version"], 1);

    let rotate = json!({ "secret": "prod/db" });
    assert_eq!(bench.post("rotate", rotate).await.0, 200);
    let (_, blocked) = bench.see("rotation-plan/prod/db").await;
    let why = blocked["blockers"][0].as_str().unwrap();
    assert!(why.contains("is still open"), "{why}");
    let none = bench.see("rotation-plan/prod/none").await;
    assert_problem(&none, 404, "not_found", "keywheel get secrets");
}

#[tokio::test]
async fn a_plan_of_what_has_no_generator_says_so() {
    let bench = Bench::start().await;
    bench.apply(PROVIDED).await;
    let (_, plan) = bench.see("rotation-plan/prod/key").await;
    let why = plan["blockers"][0].as_str().unwrap();
    assert!(why.contains("has no generator"), "{why}");
}
