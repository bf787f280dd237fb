//! Numbers of the log: rotations, revocations, consumers, work and records.

use keywheel_core::binding::{Reload, Selector, Target};
use keywheel_core::effect::Work;
use keywheel_core::host::SealingKey;
use keywheel_core::id::{BindingId, ContainerId, RevocationId};
use keywheel_core::name::{BindingName, Directory, FileName, HostName};
use keywheel_core::report::{Fact, HostReport, Item};
use keywheel_core::schedule::{CANARIES, CANARY_WATCH, Canary};
use keywheel_engine::port::journal::Journal as _;

use super::*;

const HOST: HostId = HostId::from_bytes([5; 16]);
const BINDING: BindingId = BindingId::from_bytes([6; 16]);

/// A host with a container that is to have the secret.
pub(super) async fn with_host(bench: &Bench) {
    let enrol = Command::EnrolHost {
        host: HOST,
        name: HostName::parse("web-1").unwrap(),
        sealing_key: SealingKey::default(),
    };
    submit(bench, enrol).await;
    let binding = Declaration::Binding {
        id: BINDING,
        name: BindingName::parse("web").unwrap(),
        secret: SecretName::parse("prod/db").unwrap(),
        also: std::collections::BTreeSet::new(),
        previous: std::collections::BTreeSet::new(),
        selector: Selector {
            insecure: true,
            labels: [("app".to_owned(), "web".to_owned())].into(),
            ..Selector::default()
        },
        target: Target::File {
            directory: Directory::parse("/run/secrets").unwrap(),
            name: FileName::parse("db").unwrap(),
            uid: 0,
            gid: 0,
            mode: 0o400,
            template: None,
        },
        reload: Reload::None,
        on_revoke: keywheel_core::binding::OnRevoke::Remove,
    };
    submit(bench, Command::Apply(vec![binding])).await;
}

/// What the host says.
pub(super) async fn report(bench: &Bench, facts: Vec<Fact>, holds: &[u64]) {
    submit(bench, Command::Report(report_of(bench, facts, holds))).await;
}

fn report_of(bench: &Bench, facts: Vec<Fact>, holds: &[u64]) -> HostReport {
    let container = ContainerId::parse(&"c".repeat(64)).unwrap();
    let item = |fact| Item {
        container: container.clone(),
        container_name: "web".to_owned(),
        image_digest: String::new(),
        binding: BINDING,
        secret: SECRET,
        fact,
        service: String::new(),
    };
    HostReport {
        generation: bench.api.view.read().world.host_generation(HOST),
        items: facts.into_iter().map(item).collect(),
        holds: holds.iter().map(|version| (SECRET, *version)).collect(),
        complete: true,
        containers: vec![container.clone()],
        ..HostReport::empty(HOST)
    }
}

fn swapped(bench: &Bench, version: u64) -> Fact {
    let at = bench.api.clock.now();
    Fact::Swapped { version, at }
}

async fn rotate(bench: &Bench, n: u8) -> RotationId {
    let rotation = RotationId::from_bytes([n; 16]);
    let secret = SecretName::parse("prod/db").unwrap();
    submit(bench, Command::Rotate { rotation, secret }).await;
    rotation
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test]
async fn a_step_that_fails_rises_from_a_zero_that_was_there() {
    let bench = declared().await;
    let metrics = Metrics::new(bench.api.clone());
    let before = page(&metrics).await;
    for step in [
        "create",
        "set",
        "test",
        "finish",
        "revoke_old",
        "roll_back",
        "drain",
    ] {
        let line = format!("keywheel_rotation_step_failures_total{{step=\"{step}\"}} 0");
        assert_has(&before, &line);
    }
    let zero = "keywheel_rotation_duration_seconds_count{outcome=\"parked\"} 0";
    assert_has(&before, zero);
    assert_has(
        &before,
        "keywheel_consumer_restarts_total{cause=\"late\"} 0",
    );
    assert_has(&before, "keywheel_rotations_total{trigger=\"external\"} 0");
    assert_has(&before, "keywheel_rotations_open 1");
    assert_has(&before, "keywheel_effects_open 1");
    let records = |n: usize| format!("keywheel_audit_records {n}");
    assert_has(&before, &records(bench.audit().await.len()));

    let open = bench.journal.open_effects().await.unwrap().remove(0);
    let Work::Step(work) = open.effect.work else {
        panic!("a rotation's first effect is a step");
    };
    let failed = Command::StepOutcome {
        rotation: work.rotation,
        step: work.step,
        attempt: work.attempt,
        failure: Some("the store says no".to_owned()),
        is_away: false,
        remote: None,
        sessions: None,
    };
    submit(&bench, failed).await;
    let after = page(&metrics).await;
    assert_has(
        &after,
        "keywheel_rotation_step_failures_total{step=\"create\"} 1",
    );
    assert_has(
        &after,
        "keywheel_rotation_step_failures_total{step=\"set\"} 0",
    );
    assert_has(&after, "keywheel_effects_open 0");
    assert_has(&after, &records(bench.audit().await.len()));
}

#[tokio::test]
async fn consumers_are_counted_by_how_far_they_are_and_a_rotation_that_is_not_waited_for_is_parked()
{
    let bench = with_secret().await;
    with_host(&bench).await;
    let metrics = Metrics::new(bench.api.clone());
    report(&bench, vec![swapped(&bench, 1)], &[1]).await;
    let first = page(&metrics).await;
    assert_has(&first, "keywheel_consumers{state=\"swapped\"} 1");
    assert_has(&first, "keywheel_consumers{state=\"waiting\"} 0");
    assert_has(&first, "keywheel_stragglers{secret=\"prod/db\"} 0");
    assert_has(&first, "keywheel_sessions_left{secret=\"prod/db\"} 0");
    assert_has(&first, "keywheel_rotations_parked 0");

    let rotation = rotate(&bench, 3).await;
    bench.work().await;
    let waiting = page(&metrics).await;
    assert_has(&waiting, "keywheel_consumers{state=\"waiting\"} 1");
    assert_has(&waiting, "keywheel_consumers{state=\"swapped\"} 0");
    assert_has(&waiting, "keywheel_stragglers{secret=\"prod/db\"} 1");
    let lacking = |page: &str, reason: &str, n: u64| {
        let line = format!("keywheel_stragglers_lacking{{reason=\"{reason}\"}} {n}");
        assert_has(page, &line);
    };
    lacking(&first, "not_in_place", 0);
    lacking(&waiting, "not_in_place", 1);
    lacking(&waiting, "refused", 0);
    assert_has(&waiting, "keywheel_rotations_open 1");
    bench.clock.advance(HOUR);
    submit(&bench, Command::DeadlinePassed { rotation }).await;
    let parked = page(&metrics).await;
    assert_has(&parked, "keywheel_rotations_parked 1");
    assert_has(&parked, "keywheel_stragglers{secret=\"prod/db\"} 1");
    lacking(&parked, "not_in_place", 0);
    assert_has(&parked, "keywheel_rotations_open 0");
    let closed = "keywheel_rotation_duration_seconds_sum{outcome=\"parked\"} 3600";
    assert_has(&parked, closed);

    // The next one retires every older version, and the secret is parked no more.
    rotate(&bench, 4).await;
    bench.work().await;
    bench.clock.advance(seconds(4));
    report(&bench, vec![swapped(&bench, 3)], &[3]).await;
    bench.work().await;
    let done = page(&metrics).await;
    assert_has(&done, "keywheel_rotations_parked 0");
    assert_has(&done, "keywheel_stragglers{secret=\"prod/db\"} 0");
    assert_has(&done, "keywheel_propagation_seconds_count 1");
    assert_has(&done, "keywheel_propagation_seconds_sum 4");
}

#[tokio::test]
async fn a_canary_is_no_straggler_and_what_it_has_before_the_promotion_took_no_time_since_one() {
    let bench = with_secret().await;
    with_host(&bench).await;
    let canary = Canary {
        consumers: CANARIES,
        watch: CANARY_WATCH,
    };
    let wish = Declaration::Secret {
        id: SECRET,
        rotation: FIRST,
        name: SecretName::parse("prod/db").unwrap(),
        spec: Spec {
            generator: Some(Generator::default()),
            rotation: RotationPolicy {
                canary: Some(canary),
                ..RotationPolicy::default()
            },
            ..Spec::default()
        },
    };
    submit(&bench, Command::Apply(vec![wish])).await;
    let metrics = Metrics::new(bench.api.clone());
    let knowing = HostReport {
        knows_staged: true,
        ..report_of(&bench, vec![swapped(&bench, 1)], &[1])
    };
    submit(&bench, Command::Report(knowing)).await;
    bench.clock.advance(HOUR);
    let rotation = rotate(&bench, 3).await;
    bench.work().await;
    report(&bench, vec![swapped(&bench, 2)], &[1, 2]).await;
    let ahead = page(&metrics).await;
    assert_has(&ahead, "keywheel_stragglers{secret=\"prod/db\"} 0");
    assert_has(&ahead, "keywheel_propagation_seconds_count 0");

    // On its way back it is one.
    let abort = Command::Intervene {
        rotation,
        intervention: rotation::Intervention::Abort,
        reason: "not today".to_owned(),
    };
    submit(&bench, abort).await;
    let back = page(&metrics).await;
    assert_has(&back, "keywheel_stragglers{secret=\"prod/db\"} 1");
}

#[tokio::test]
async fn a_revocation_is_open_until_the_host_and_the_store_said_so() {
    let bench = with_secret().await;
    with_host(&bench).await;
    report(&bench, vec![swapped(&bench, 1)], &[1]).await;
    let metrics = Metrics::new(bench.api.clone());
    let before = page(&metrics).await;
    assert_has(&before, "keywheel_revocations_open 0");
    assert_has(&before, "keywheel_revocation_duration_seconds_count 0");
    let revocation = RevocationId::from_bytes([9; 16]);
    let revoke = Command::Revoke {
        revocation,
        secret: SecretName::parse("prod/db").unwrap(),
        version: None,
        reason: "leaked".to_owned(),
        is_emergency: false,
    };
    submit(&bench, revoke).await;
    bench.clock.advance(seconds(7));
    let open = page(&metrics).await;
    assert_has(&open, "keywheel_revocations_open 1");
    report(&bench, vec![Fact::Withdrawn], &[]).await;
    let half = page(&metrics).await;
    assert_has(&half, "keywheel_revocations_open 1");
    bench.clock.advance(seconds(5));
    let confirmed = Command::RevokeOutcome {
        revocation,
        attempt: 1,
        failure: None,
    };
    submit(&bench, confirmed).await;
    let closed = page(&metrics).await;
    assert_has(&closed, "keywheel_revocations_open 0");
    assert_has(&closed, "keywheel_revocation_duration_seconds_count 1");
    assert_has(&closed, "keywheel_revocation_duration_seconds_sum 12");
    // Nothing is current now, and the schedule still wants something.
    assert!(!closed.contains("keywheel_secret_age_seconds{"), "{closed}");
    assert_has(&closed, "keywheel_secret_overdue{secret=\"prod/db\"} 0");
    bench.clock.advance(HOUR * 2);
    let late = page(&metrics).await;
    assert_has(&late, "keywheel_secret_overdue{secret=\"prod/db\"} 1");
}
