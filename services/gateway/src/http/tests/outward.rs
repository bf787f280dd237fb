//! Notifications, sources of signals and letters over the API: what is shown, asked, refused and on record.

use std::time::Duration;

use keywheel_core::id::LetterId;
use keywheel_core::name::NotificationName;
use keywheel_core::time::Timestamp;
use keywheel_engine::port::deliveries::{Deliveries as _, Letter};

use super::seal::command_of;
use super::*;

pub(super) const NOTIFICATION: &str = "apiVersion: keywheel.dev/v1\nkind: Notification\nmetadata: { name: soc }\nspec: { slack: { urlFile: /etc/keywheel/signals/slack }, when: 'event.secret != \"\"' }\n";
const SOURCE: &str = "apiVersion: keywheel.dev/v1\nkind: SignalSource\nmetadata: { name: pager }\nspec: { format: cloudEvents, keyFile: /etc/keywheel/signals/pager }\n";

async fn declared() -> Bench {
    let bench = Bench::start().await;
    let (status, answer) = bench.apply(&format!("{NOTIFICATION}---\n{SOURCE}")).await;
    assert_eq!(status, 200, "{answer}");
    bench
}

fn letter(owner: &str) -> Letter {
    Letter {
        id: LetterId::from_bytes([7; 16]),
        owner: owner.to_owned(),
        heading: "event 2, dev.keywheel.host.evicted.v1".to_owned(),
        time: Timestamp::from_micros(0),
        reason: "refused".to_owned(),
        body: b"2".to_vec(),
    }
}

/// Each deed of this kind has an intent, and then an outcome of the same command with these words.
async fn ends(bench: &Bench, verb: &str, outcomes: &[&str]) {
    let verb = format!("verb: \"{verb}\"");
    // What names nothing that is there is no deed.
    let is_none = |record: &String| {
        ["404", "400"]
            .iter()
            .any(|s| record.contains(&format!("status {s}")))
    };
    let is_deed = |record: &String| record.contains(&verb) && !is_none(record);
    let deeds: Vec<String> = bench.audit().await.into_iter().filter(is_deed).collect();
    assert_eq!(deeds.len(), 2 * outcomes.len(), "{deeds:?}");
    for (pair, words) in deeds.chunks(2).zip(outcomes) {
        assert!(pair[0].contains("reason: \"asked for"), "{pair:?}");
        assert!(pair[1].contains(&format!("reason: \"{words}")), "{pair:?}");
        assert_eq!(command_of(&pair[0]), command_of(&pair[1]), "{pair:?}");
        let is_done = words.starts_with("done");
        assert_eq!(pair[1].contains("Allowed"), is_done, "{pair:?}");
    }
}

#[tokio::test]
async fn what_is_declared_is_shown_and_goes() {
    let bench = declared().await;
    let (_, all) = bench.see("notifications").await;
    let one = &all[0];
    assert_eq!(
        (&one["name"], &one["kind"]),
        (&json!("soc"), &json!("slack"))
    );
    assert_eq!(
        one["receiver"], "/etc/keywheel/signals/slack",
        "never the URL"
    );
    assert_eq!((&one["delivered"], &one["behind"]), (&json!(1), &json!(1)));
    assert_eq!(bench.see("notifications/soc").await.1, *one);
    let (_, sources) = bench.see("signal-sources").await;
    assert_eq!(sources[0]["path"], "/signals/pager");
    assert_eq!(sources[0]["proof"], "standardWebhooks");
    for path in ["/v1/notifications/soc", "/v1/signal-sources/pager"] {
        let remove = || bench.ask_as(OPERATOR, "DELETE", path, Body::empty());
        assert_eq!(remove().await.0, StatusCode::OK, "{path}");
        assert_eq!(remove().await.0, StatusCode::NOT_FOUND, "{path}");
    }
    assert_eq!(bench.see("notifications").await, (200, json!([])));
    let records = bench.audit().await.join("\n");
    for verb in ["remove-notification", "remove-signal-source"] {
        assert!(records.contains(verb), "{records}");
    }
}

#[tokio::test]
async fn a_test_is_on_record_and_answered_as_it_ended() {
    let bench = declared().await;
    let (status, _) = bench.post("notifications/soc/test", json!({})).await;
    assert_eq!(status, 200);
    *bench.outside.fault.lock().unwrap() = Some("it is away".to_owned());
    let failed = bench.post("notifications/soc/test", json!({})).await;
    assert_problem(&failed, 503, "unavailable", "it is away");
    assert_eq!(
        *bench.outside.asked.lock().unwrap(),
        ["test soc", "test soc"]
    );
    ends(
        &bench,
        "test-notification",
        &[
            "done: its receiver took it",
            "not known whether it was done: it is away",
        ],
    )
    .await;
    let unknown = bench.post("notifications/none/test", json!({})).await;
    assert_problem(&unknown, 404, "not_found", "notification list");
}

#[tokio::test]
async fn a_replay_goes_back_and_never_on() {
    let bench = declared().await;
    let name = NotificationName::parse("soc").unwrap();
    let id = {
        let committed = bench.api.view.read();
        committed.world.notification_named(&name).unwrap().id
    };
    let span = Duration::from_secs(60);
    bench.journal.claim(id, 1, span).await.unwrap();
    assert!(bench.journal.advance(id, 1, 2).await.unwrap());
    let replay = |after: u64| bench.post("notifications/soc/replay", json!({ "after": after }));
    let (status, view) = replay(0).await;
    assert_eq!((status, &view["delivered"]), (200, &json!(0)));
    assert_eq!(*bench.outside.asked.lock().unwrap(), ["call"]);
    assert_problem(&replay(1).await, 409, "conflict", "an earlier one");
    assert_problem(&replay(99).await, 400, "invalid", "there is no event 99");
    let words = [
        "done: what came after",
        "failed: notification `soc` has not come",
    ];
    ends(&bench, "replay-notification", &words).await;
}

#[tokio::test]
async fn a_letter_is_shown_retried_and_thrown_away() {
    let bench = declared().await;
    bench
        .journal
        .keep(&letter("notification/soc"))
        .await
        .unwrap();
    let (_, all) = bench.see("letters").await;
    assert_eq!(all[0]["owner"], "notification/soc");
    assert_eq!(bench.see("notifications/soc").await.1["letters"], 1);
    let id = all[0]["id"].as_str().unwrap();
    let path = format!("letters/{id}/retry");
    let retry = || bench.post(&path, json!({}));
    *bench.outside.fault.lock().unwrap() = Some("still away".to_owned());
    assert_problem(&retry().await, 503, "unavailable", "still away");
    assert_eq!(bench.see("letters").await.1, all, "it stays");
    assert_eq!(retry().await.0, 200);
    assert_eq!(bench.see("letters").await, (200, json!([])));
    assert_problem(&retry().await, 404, "not_found", "letter list");
    bench
        .journal
        .keep(&letter("signal-source/pager"))
        .await
        .unwrap();
    let path = format!("/v1/letters/{id}");
    let (status, _) = bench.ask_as(OPERATOR, "DELETE", &path, Body::empty()).await;
    assert_eq!(status, StatusCode::OK);
    let words = [
        "not known whether it was done: still away",
        "done: it was taken",
    ];
    ends(&bench, "retry-letter", &words).await;
    ends(&bench, "discard-letter", &["done"]).await;
    let bad = bench.post("letters/x/retry", json!({})).await;
    assert_problem(&bad, 400, "invalid", "is not an id");
}
