//! Deaths around a message and around a signal: nothing is lost, and what comes twice has one id.

use std::sync::Arc;

use keywheel_core::signal::{Format, Proof};
use keywheel_engine::port::deliveries::Deliveries as _;
use keywheel_engine::port::failpoint::Points;
use keywheel_signals::{FAILPOINTS, Notifier};
use keywheel_testkit::fake::{Trap, TrapFault};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::bench::{Bench, PATIENCE};
use crate::hook::Hook;
use crate::incoming::{TOKEN, door_of, received, spec};

/// Where a gateway dies, what the receiver answers before, whether a message comes twice, and how many letters are left.
struct Death {
    at: &'static str,
    hit: u32,
    answers: Vec<u16>,
    doubled: usize,
    letters: usize,
}

/// A death at each point around a message, at its first hit and at its second.
fn deaths() -> Vec<Death> {
    let death = |at: &'static str, hit: u32| {
        let is_kept = at == "signals.after_keep";
        let refusals = match is_kept {
            true => usize::try_from(hit).unwrap(),
            false => 0,
        };
        Death {
            at,
            hit,
            answers: vec![400; refusals],
            doubled: usize::from(is_kept || at == "signals.after_send"),
            letters: refusals,
        }
    };
    let around_messages = FAILPOINTS.iter().filter(|at| **at != "signals.after_take");
    around_messages
        .flat_map(|&at| [death(at, 1), death(at, 2)])
        .collect()
}

#[tokio::test]
async fn a_gateway_that_dies_anywhere_loses_no_message_and_doubles_one_at_most() {
    let deaths = deaths();
    assert_eq!(deaths.len(), 8);
    for death in deaths {
        let what = format!("{} at its hit {}", death.at, death.hit);
        let hook = Hook::start().await;
        let bench = Bench::start(&[hook.at]).await;
        let id = bench.declare("soc", bench.webhook(hook.url()), "").await;
        let declared = bench.events(0).await.len();
        for name in ["prod/a", "prod/b", "prod/c"] {
            bench.happen(name).await;
        }
        hook.answer_with(&death.answers);
        let trap = Arc::new(Trap::new(death.at, TrapFault::Cut, death.hit));
        let desk = bench.watched_desk(Points::watched(trap.clone()));
        let dying = trap.perform(Notifier::new(&desk).run(CancellationToken::new()));
        let died = tokio::time::timeout(PATIENCE, dying).await;
        assert!(
            died.is_ok_and(|ended| ended.is_none()),
            "{what}: not reached"
        );
        let next = bench.desk();
        let _running = bench.notify(&next);
        let events = bench.events(0).await;
        let head = events.last().map(|event| event.number);
        bench.until_place(id, head).await;
        let got: Vec<String> = hook.got().into_iter().map(|one| one.id).collect();
        let mut once = got.clone();
        once.dedup();
        let told = events.iter().skip(declared);
        let told: Vec<String> = told.map(|event| event.id.to_string()).collect();
        assert_eq!(once, told, "{what}: none is missing, and in order");
        assert_eq!(got.len() - once.len(), death.doubled, "{what}");
        let letters = bench.journal.letters().await.unwrap();
        assert_eq!(letters.len(), death.letters, "{what}");
    }
}

#[tokio::test]
async fn a_signal_whose_taker_died_before_it_answered_is_taken_once() {
    let bench = Bench::start(&[]).await;
    let scanner = spec(&bench, Format::CloudEvents, Proof::Bearer, &[]);
    bench.hear("scanner", scanner).await;
    let authorization = format!("Bearer {TOKEN}");
    let headers = [
        ("authorization", authorization.as_str()),
        ("content-type", "application/cloudevents+json"),
    ];
    let event = json!({ "specversion": "1.0", "id": "7", "source": "s", "type": "leak" });
    let body = event.to_string();
    let trap = Arc::new(Trap::new("signals.after_take", TrapFault::Cut, 1));
    let dying = door_of(&bench.watched_desk(Points::watched(trap.clone()))).await;
    let sending = dying.send("/signals/scanner", &headers, body.as_bytes());
    let sent = tokio::time::timeout(PATIENCE, trap.perform(sending)).await;
    assert!(sent.is_ok_and(|answered| answered.is_none()), "not reached");
    drop(dying);
    let next = door_of(&bench.desk()).await;
    let (status, answer) = next
        .send("/signals/scanner", &headers, body.as_bytes())
        .await;
    assert_eq!(status, 202, "{answer}");
    assert!(answer.contains("\"repeated\":1"), "{answer}");
    assert_eq!(received(&bench).await.len(), 1);
}
