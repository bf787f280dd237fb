//! What a gateway heard and did not hear: instances, hosts, and what it finds wrong.

use keywheel_engine::presence::{Presence, Seen};

use super::log::{report, with_host};
use super::*;

const HOST: HostId = HostId::from_bytes([5; 16]);

/// Takes a word of an instance, at the moment.
fn hear(bench: &Bench, role: Role, reached: Option<Reached>, head: Option<u64>) {
    let now = bench.api.clock.now();
    let presence = Presence {
        role,
        host: (role == Role::Injector).then_some(HOST),
        instance: [role as u8 + 1; 16],
        machine: "m-1".to_owned(),
        version: "1".to_owned(),
        started: now,
        sent: now,
        leaving: false,
        certificate_end: None,
        bus: None,
        seen: Seen {
            reached,
            facts: Vec::new(),
        },
    };
    assert!(bench.api.presences.hear(presence, head));
}

fn count(shown: &str, service: &str, heard: &str, number: u64) {
    let line = format!("keywheel_instances{{service=\"{service}\",heard=\"{heard}\"}} {number}");
    assert_has(shown, &line);
}

#[tokio::test]
async fn a_needed_service_that_was_never_heard_is_not_heard_after_the_time_to_be() {
    let bench = with_secret().await;
    with_host(&bench).await;
    let metrics = Metrics::new(bench.api.clone());
    bench.clock.advance(SILENT_AFTER);
    let early = page(&metrics).await;
    for service in ["scheduler", "store-sync", "audit-sink", "injector"] {
        count(&early, service, "no", 0);
        count(&early, service, "yes", 0);
    }
    for (severity, number) in [("unknown", 4), ("problem", 0)] {
        let line = format!("keywheel_findings{{severity=\"{severity}\"}} {number}");
        assert_has(&early, &line);
    }
    bench.clock.advance(Duration::from_micros(1));
    let late = page(&metrics).await;
    for service in ["scheduler", "store-sync", "audit-sink", "injector"] {
        count(&late, service, "no", 1);
        count(&late, service, "yes", 0);
    }
    for (severity, number) in [("unknown", 0), ("warning", 0), ("problem", 4)] {
        let line = format!("keywheel_findings{{severity=\"{severity}\"}} {number}");
        assert_has(&late, &line);
    }

    hear(&bench, Role::Scheduler, Some(Reached::Event(3)), Some(8));
    let there = page(&metrics).await;
    count(&there, "scheduler", "yes", 1);
    count(&there, "scheduler", "no", 0);
    count(&there, "store-sync", "no", 1);
    let lag = "keywheel_reader_lag{service=\"scheduler\",machine=\"m-1\"} 5";
    assert_has(&there, lag);
    bench.clock.advance(SILENT_AFTER + Duration::from_micros(1));
    let silent = page(&metrics).await;
    count(&silent, "scheduler", "yes", 0);
    count(&silent, "scheduler", "no", 1);
}

/// A gateway that starts knows hosts from the log and has heard none: the dead ones among them must
/// not be hidden by that.
#[tokio::test]
async fn a_host_that_is_not_heard_after_a_start_was_heard_before_it() {
    let bench = with_secret().await;
    with_host(&bench).await;
    let metrics = Metrics::new(bench.api.clone());
    let contact =
        |at| format!("keywheel_host_last_contact_timestamp_seconds{{host=\"web-1\"}} {at}");
    let begun = bench.api.clock.now().micros() / 1_000_000;
    bench.clock.advance(Duration::from_secs(600));
    assert_has(&page(&metrics).await, &contact(begun));
    report(&bench, Vec::new(), &[]).await;
    assert_has(&page(&metrics).await, &contact(begun + 600));
    bench.clock.advance(Duration::from_secs(600));
    assert_has(&page(&metrics).await, &contact(begun + 600));
    assert_has(&page(&metrics).await, "keywheel_hosts 1");
}

#[tokio::test]
async fn a_host_lags_since_it_first_said_that_it_has_an_older_plan() {
    let bench = with_secret().await;
    with_host(&bench).await;
    let metrics = Metrics::new(bench.api.clone());
    let lag = |seconds| format!("keywheel_host_plan_lag_seconds{{host=\"web-1\"}} {seconds}");
    hear(&bench, Role::Injector, Some(Reached::Plan(4)), Some(9));
    assert_has(&page(&metrics).await, &lag(0));
    bench.clock.advance(Duration::from_secs(10));
    hear(&bench, Role::Injector, Some(Reached::Plan(5)), Some(9));
    bench.clock.advance(Duration::from_secs(20));
    let behind = page(&metrics).await;
    assert_has(&behind, &lag(30));
    count(&behind, "injector", "yes", 1);
    hear(&bench, Role::Injector, Some(Reached::Plan(9)), Some(9));
    bench.clock.advance(Duration::from_secs(3));
    assert_has(&page(&metrics).await, &lag(0));
}

/// Nobody is paged for a day because a machine was given away.
#[tokio::test]
async fn an_evicted_host_is_no_instance_any_more() {
    let bench = with_secret().await;
    with_host(&bench).await;
    let metrics = Metrics::new(bench.api.clone());
    hear(&bench, Role::Injector, Some(Reached::Plan(4)), Some(4));
    bench.clock.advance(SILENT_AFTER + Duration::from_micros(1));
    count(&page(&metrics).await, "injector", "no", 1);
    let evict = Command::EvictHost {
        host: HOST,
        reason: "given away".to_owned(),
    };
    submit(&bench, evict).await;
    let after = page(&metrics).await;
    count(&after, "injector", "no", 0);
    assert!(!after.contains("host=\"web-1\""), "{after}");
    assert_has(&after, "keywheel_hosts 0");
}
