//! A gateway over a journal in memory, and the page it shows.

use std::sync::atomic::{AtomicUsize, Ordering};

use keywheel_core::audit::Principal;
use keywheel_core::command::{Command, Declaration};
use keywheel_core::id::{CommandId, LetterId, RotationId};
use keywheel_core::name::SecretName;
use keywheel_core::rotation::{Rotation, Trigger};
use keywheel_core::schedule::{RotationPolicy, Schedule};
use keywheel_core::secret::{Generator, Spec};
use keywheel_engine::command_bus::Submission;
use keywheel_engine::port::clock::Clock as _;
use keywheel_engine::port::deliveries::Deliveries as _;

use super::*;
use crate::denials::Attempt;
use crate::testing::Bench;

const HOUR: Duration = Duration::from_secs(3600);
const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const FIRST: RotationId = RotationId::from_bytes([2; 16]);

mod heard;
mod log;

async fn submit(bench: &Bench, command: Command) {
    let submission = Submission {
        id: CommandId::from_bytes(bench.api.ids.draw()),
        principal: Principal::User {
            uid: 0,
            name: "root".to_owned(),
        },
        traceparent: None,
        command,
    };
    bench.api.commands.submit(submission).await.unwrap();
}

/// A secret that rotates every hour, with its first version.
async fn with_secret() -> Bench {
    let bench = declared().await;
    bench.work().await;
    bench
}

/// The same, whose first version is not made yet.
async fn declared() -> Bench {
    let mut bench = Bench::start().await;
    bench.api.next_fires = |policy, horizon| match &policy.schedule {
        Schedule::Interval(every) => vec![
            jiff::Timestamp::from_microsecond(horizon.after.plus(*every).micros())
                .unwrap()
                .to_string(),
        ],
        _ => Vec::new(),
    };
    let spec = Spec {
        generator: Some(Generator::default()),
        rotation: RotationPolicy {
            schedule: Schedule::Interval(HOUR),
            jitter: Duration::from_secs(60),
            ..RotationPolicy::default()
        },
        ..Spec::default()
    };
    let secret = Declaration::Secret {
        id: SECRET,
        rotation: FIRST,
        name: SecretName::parse("prod/db").unwrap(),
        spec,
    };
    submit(&bench, Command::Apply(vec![secret])).await;
    bench
}

async fn page(metrics: &Metrics) -> String {
    let mut page = Page::default();
    metrics.read(&mut page).await;
    page.text()
}

fn assert_has(page: &str, line: &str) {
    assert!(page.lines().any(|found| found == line), "{line}: {page}");
}

#[tokio::test]
async fn a_secret_ages_and_is_overdue_when_its_time_and_patience_are_over() {
    let bench = with_secret().await;
    let metrics = Metrics::new(bench.api.clone());
    bench.clock.advance(HOUR);
    let young = page(&metrics).await;
    assert_has(
        &young,
        "keywheel_secret_age_seconds{secret=\"prod/db\"} 3600",
    );
    assert_has(&young, "keywheel_secret_overdue{secret=\"prod/db\"} 0");
    assert_has(&young, "keywheel_rotations_total{trigger=\"initial\"} 1");
    let closed = "keywheel_rotation_duration_seconds_count{outcome=\"completed\"} 1";
    assert_has(&young, closed);
    assert_has(&young, "keywheel_journal_up 1");
    let promoted = bench.clock.now().micros() / 1_000_000 - 3600;
    let last = "keywheel_secret_last_rotation_timestamp_seconds{secret=\"prod/db\"}";
    assert_has(&young, &format!("{last} {promoted}"));
    let next = "keywheel_secret_next_rotation_timestamp_seconds{secret=\"prod/db\"}";
    assert_has(&young, &format!("{next} {}", promoted + 3600));
    // At the very end of the patience it is not overdue; after it, it is.
    bench.clock.advance(OVERDUE_AFTER + Duration::from_secs(60));
    let last = page(&metrics).await;
    assert_has(&last, "keywheel_secret_overdue{secret=\"prod/db\"} 0");
    bench.clock.advance(Duration::from_micros(1));
    let late = page(&metrics).await;
    assert_has(&late, "keywheel_secret_overdue{secret=\"prod/db\"} 1");
}

/// Calendars are asked before anything is locked, and once for each promotion.
#[tokio::test]
async fn when_a_secret_is_due_is_computed_ahead_of_the_page() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let mut bench = with_secret().await;
    bench.api.next_fires = |_, horizon| {
        ASKED.fetch_add(1, Ordering::Relaxed);
        let hour = jiff::Timestamp::from_microsecond(horizon.after.plus(HOUR).micros());
        vec![hour.unwrap().to_string()]
    };
    let metrics = Metrics::new(bench.api.clone());
    metrics.look_ahead();
    assert_eq!(ASKED.load(Ordering::Relaxed), 1);
    let due = bench.clock.now().micros() / 1_000_000 + 3600;
    let next = "keywheel_secret_next_rotation_timestamp_seconds{secret=\"prod/db\"}";
    for _ in 0..2 {
        assert_has(&page(&metrics).await, &format!("{next} {due}"));
    }
    assert_eq!(ASKED.load(Ordering::Relaxed), 1);
}

/// One that cannot be made, or that lies outside and is not there, is late as well; one that a person
/// puts is waited for.
#[tokio::test]
async fn a_secret_that_never_was_promoted_is_overdue_after_the_same_patience() {
    let bench = declared().await;
    let put = Command::Put {
        id: SecretId::from_bytes([7; 16]),
        rotation: RotationId::from_bytes([7; 16]),
        name: SecretName::parse("prod/put").unwrap(),
        provided: true,
    };
    submit(&bench, put).await;
    let metrics = Metrics::new(bench.api.clone());
    bench.clock.advance(OVERDUE_AFTER + Duration::from_secs(60));
    let last = page(&metrics).await;
    assert_has(&last, "keywheel_secret_overdue{secret=\"prod/db\"} 0");
    assert!(!last.contains("keywheel_secret_age_seconds"), "{last}");
    bench.clock.advance(Duration::from_micros(1));
    let late = page(&metrics).await;
    assert_has(&late, "keywheel_secret_overdue{secret=\"prod/db\"} 1");
    assert!(!late.contains("overdue{secret=\"prod/put\"}"), "{late}");
}

#[tokio::test]
async fn denied_requests_are_counted_whether_recorded_or_not() {
    let bench = Bench::start().await;
    let metrics = Metrics::new(bench.api.clone());
    assert_has(&page(&metrics).await, "keywheel_requests_denied_total 0");
    let who = Principal::User {
        uid: 7,
        name: "eve".to_owned(),
    };
    for _ in 0..50 {
        let attempt = Attempt::new(Timestamp::default(), "list secrets");
        bench.api.denials.note(&who, attempt);
    }
    assert_has(&page(&metrics).await, "keywheel_requests_denied_total 50");
}

#[tokio::test]
async fn looks_that_leave_no_record_each_are_counted() {
    let bench = Bench::start().await;
    let metrics = Metrics::new(bench.api.clone());
    assert_has(&page(&metrics).await, "keywheel_health_looks_total 0");
    bench.api.health_looks.fetch_add(7, Ordering::Relaxed);
    assert_has(&page(&metrics).await, "keywheel_health_looks_total 7");
}

#[tokio::test]
async fn letters_are_counted_by_whose_they_are() {
    let bench = Bench::start().await;
    let metrics = Metrics::new(bench.api.clone());
    let line = |kind: &str, n: u32| format!("keywheel_letters{{kind=\"{kind}\"}} {n}");
    for kind in names::LETTER_KINDS {
        assert_has(&page(&metrics).await, &line(kind, 0));
    }
    for (n, owner) in [
        (1, "signal-source/a"),
        (2, "signal-source/b"),
        (3, "notification/a"),
    ] {
        let letter = Letter {
            id: LetterId::from_bytes([n; 16]),
            owner: owner.to_owned(),
            heading: "a request".to_owned(),
            time: Timestamp::default(),
            reason: "it is no JSON".to_owned(),
            body: Vec::new(),
        };
        bench.journal.keep(&letter).await.unwrap();
    }
    let shown = page(&metrics).await;
    assert_has(&shown, &line("signal-source", 2));
    assert_has(&shown, &line("notification", 1));
}

/// Every word that the log's numbers come with is one that the catalogue names.
#[tokio::test]
async fn nothing_of_a_secrets_life_is_counted_under_other() {
    let bench = with_secret().await;
    let shown = page(&Metrics::new(bench.api.clone())).await;
    assert!(!shown.contains("\"other\""), "{shown}");
    for metric in names::ALL.iter().filter(|m| m.shown_by == "gateway") {
        let about_others = ["keywheel_host_", "keywheel_reader_lag"];
        let is_there = shown.contains(&format!("# TYPE {} ", metric.name));
        let is_of_others = about_others
            .iter()
            .any(|name| metric.name.starts_with(name));
        assert!(is_there || is_of_others, "{} is not shown", metric.name);
    }
}

/// What no test of a whole deployment brings about: every way to fail, and what waits for a person.
#[test]
fn what_failed_and_what_waits_for_a_person_is_counted() {
    let span = Duration::from_secs(2);
    let mut tally = Tally::default();
    tally.failures.insert("finish", 2);
    tally.restarts.insert("schedule", 4);
    tally.refused = 3;
    tally.runs.insert("failed", 2);
    tally.revoked.add(span);
    tally.gaps.add(span);
    let mut world = World::default();
    let (id, secret) = (
        RotationId::from_bytes([2; 16]),
        SecretId::from_bytes([1; 16]),
    );
    let mut rotation = Rotation::started(id, secret, 1, Trigger::OnDemand);
    rotation.phase = Phase::Closed(Outcome::Parked);
    world.rotations.insert(id, rotation);
    let mut page = Page::default();
    super::tally(&mut page, &tally);
    rotations(&mut page, &world);
    let shown = page.text();
    for line in [
        "keywheel_consumers_refused_total 3",
        "keywheel_playbook_runs_total{outcome=\"failed\"} 2",
        "keywheel_playbook_runs_total{outcome=\"completed\"} 0",
        "keywheel_rotation_step_failures_total{step=\"finish\"} 2",
        "keywheel_consumer_restarts_total{cause=\"schedule\"} 4",
        "keywheel_revocation_duration_seconds_count 1",
        "keywheel_revocation_duration_seconds_sum 2",
        "keywheel_rotation_gap_seconds_count 1",
        "keywheel_rotations_parked 1",
    ] {
        assert_has(&shown, line);
    }
    // A newer one that ended well takes its place.
    let newer = RotationId::from_bytes([3; 16]);
    let mut rotation = Rotation::started(newer, secret, 2, Trigger::OnDemand);
    rotation.phase = Phase::Closed(Outcome::Completed);
    world.rotations.insert(newer, rotation);
    let mut page = Page::default();
    rotations(&mut page, &world);
    assert_has(&page.text(), "keywheel_rotations_parked 0");
}

/// A run waits for somebody, is too late, and ends.
#[test]
fn runs_of_playbooks_are_counted_by_where_they_stand() {
    use keywheel_core::event::Event;
    use keywheel_core::id::{PlaybookId, RunId};
    use keywheel_core::name::PlaybookName;
    use keywheel_core::playbook::Step;
    use keywheel_core::playbook_run::{Cause, Event as Fact, Outcome as Ended, Score};
    let step = Step {
        name: "ask".to_owned(),
        deed: Deed::Approve {
            count: 1,
            not: Vec::new(),
        },
        after: Vec::new(),
        deadline: HOUR,
        may_fail: false,
    };
    let until = Timestamp::from_micros(1_000_000);
    let began = [
        Fact::Triggered {
            playbook: PlaybookId::from_bytes([1; 16]),
            name: PlaybookName::parse("ask").unwrap(),
            arguments: BTreeMap::new(),
            steps: vec![step],
            by: "unix:0".to_owned(),
            reason: "leaked".to_owned(),
            parent: None,
            depth: 0,
            cause: Cause::Person,
        },
        Fact::StepStarted {
            step: "ask".to_owned(),
            targets: Vec::new(),
            until,
        },
    ];
    let mut world = World::default();
    let shown = |world: &World, now| {
        let mut page = Page::default();
        runs(&mut page, world, now);
        page.text()
    };
    let has = |text: &str, numbers: [u32; 3]| {
        for (name, number) in ["open", "awaiting_approval", "overdue"].iter().zip(numbers) {
            assert_has(text, &format!("keywheel_playbook_runs_{name} {number}"));
        }
    };
    has(&shown(&world, until), [0, 0, 0]);
    for (number, fact) in (1..).zip(began) {
        world.apply(
            number,
            &Event::PlaybookRun(RunId::from_bytes([2; 16]), fact),
        );
    }
    has(&shown(&world, until), [1, 1, 0]);
    has(
        &shown(&world, until.plus(Duration::from_micros(1))),
        [1, 1, 1],
    );
    let ended = Fact::Completed {
        outcome: Ended::Failed,
        score: Score::default(),
    };
    world.apply(3, &Event::PlaybookRun(RunId::from_bytes([2; 16]), ended));
    has(&shown(&world, until.plus(HOUR)), [0, 0, 0]);
}

#[test]
fn what_takes_several_people_is_counted_while_it_waits_and_until_it_is_reviewed() {
    use keywheel_core::approval::Event as Fact;
    use keywheel_core::event::Event;
    let id = keywheel_core::id::ApprovalId::from_bytes([4; 16]);
    let (asked_at, expires_at) = (Timestamp::from_micros(1), Timestamp::from_micros(9));
    let by = |name: &str| format!("certificate:{name}");
    let facts = [
        Fact::Requested {
            operation: "policy-change".to_owned(),
            object: "policies".to_owned(),
            digest: [7; 32],
            plan: String::new(),
            by: by("ada"),
            reason: "bob joined".to_owned(),
            needed: 2,
            asked_at,
            expires_at,
        },
        Fact::GlassBroken {
            by: by("ada"),
            reason: "nobody is awake".to_owned(),
            at: asked_at,
        },
        Fact::GlassReviewed {
            by: by("bob"),
            reason: "it stays".to_owned(),
        },
    ];
    let mut world = World::default();
    let shown = |world: &World, now: Timestamp| {
        let mut page = Page::default();
        approvals(&mut page, world, now);
        page.text()
    };
    let has = |text: &str, waiting: u32, unreviewed: u32| {
        assert_has(text, &format!("keywheel_approvals_waiting {waiting}"));
        assert_has(
            text,
            &format!("keywheel_break_glass_unreviewed {unreviewed}"),
        );
    };
    has(&shown(&world, asked_at), 0, 0);
    for ((number, fact), (waiting, unreviewed)) in (1..).zip(facts).zip([(1, 0), (0, 1), (0, 0)]) {
        world.apply(number, &Event::Approval(id, fact));
        has(&shown(&world, asked_at), waiting, unreviewed);
        has(&shown(&world, expires_at), 0, unreviewed);
    }
}
