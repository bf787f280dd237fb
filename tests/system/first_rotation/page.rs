//! What Prometheus reads of a deployment with one secret, one container that runs on its second version,
//! and nothing under way.

use anyhow::{Result, ensure};
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::stage::PATIENCE;
use keywheel_tests::{apart, metrics, wait};

/// What a number has to be.
#[derive(Clone, Copy, Debug)]
enum Is {
    /// This one.
    Exactly(f64),
    /// At least this.
    AtLeast(f64),
    /// Between nothing and a test's length, in seconds.
    Short,
    /// An instant about now.
    Now,
    /// An instant in a while.
    Later,
    /// On no page.
    Absent,
}

/// Longest that a test takes, in seconds.
const TEST: f64 = 900.0;

/// Beginnings of lines with the secret's name left open, and what their numbers are.
const SHOWN: [(&str, Is); 46] = [
    ("keywheel_secrets ", Is::Exactly(1.0)),
    ("keywheel_secret_age_seconds{S} ", Is::Short),
    (
        "keywheel_secret_last_rotation_timestamp_seconds{S} ",
        Is::Now,
    ),
    ("keywheel_secret_overdue{S} ", Is::Absent),
    ("keywheel_stragglers{S} ", Is::Exactly(0.0)),
    (
        "keywheel_stragglers_lacking{reason=\"refused\"} ",
        Is::Exactly(0.0),
    ),
    (
        "keywheel_rotations_total{trigger=\"on_demand\"} ",
        Is::Exactly(1.0),
    ),
    ("keywheel_rotations_open ", Is::Exactly(0.0)),
    ("keywheel_rotations_parked ", Is::Exactly(0.0)),
    (
        "keywheel_rotation_step_failures_total{step=\"set\"} ",
        Is::Exactly(0.0),
    ),
    ("keywheel_revocations_open ", Is::Exactly(0.0)),
    (
        "keywheel_revocation_duration_seconds_count ",
        Is::Exactly(0.0),
    ),
    (
        "keywheel_playbook_runs_total{outcome=\"failed\"} ",
        Is::Exactly(0.0),
    ),
    ("keywheel_playbook_runs_open ", Is::Exactly(0.0)),
    (
        "keywheel_playbook_runs_awaiting_approval ",
        Is::Exactly(0.0),
    ),
    ("keywheel_playbook_runs_overdue ", Is::Exactly(0.0)),
    ("keywheel_effects_open ", Is::Exactly(0.0)),
    (
        "keywheel_rotation_duration_seconds_count{outcome=\"completed\"} ",
        Is::Exactly(2.0),
    ),
    (
        "keywheel_rotation_step_duration_seconds_count{step=\"distribute\"} ",
        Is::Exactly(2.0),
    ),
    ("keywheel_propagation_seconds_count ", Is::Exactly(1.0)),
    ("keywheel_consumers{state=\"waiting\"} ", Is::Exactly(0.0)),
    ("keywheel_consumers{state=\"swapped\"} ", Is::Exactly(1.0)),
    ("keywheel_consumer_restarts_total{", Is::Exactly(0.0)),
    ("keywheel_hosts ", Is::Exactly(1.0)),
    ("keywheel_host_last_contact_timestamp_seconds{", Is::Now),
    ("keywheel_host_plan_lag_seconds{", Is::Exactly(0.0)),
    ("keywheel_host_plan_generation{", Is::AtLeast(1.0)),
    ("keywheel_host_gateway_contact_timestamp_seconds{", Is::Now),
    ("keywheel_host_lease_expiry_timestamp_seconds{", Is::Later),
    ("keywheel_host_lease_seconds{", Is::Exactly(24.0 * 3600.0)),
    ("keywheel_host_containers{", Is::AtLeast(1.0)),
    ("keywheel_host_consumers{", Is::Exactly(1.0)),
    ("keywheel_host_engine_up{", Is::Exactly(1.0)),
    (
        "keywheel_host_cache_reads_total{result=\"error\"} ",
        Is::Exactly(0.0),
    ),
    (
        "keywheel_store_operation_duration_seconds_count{store=\"local\",operation=\"create\"} ",
        Is::Exactly(2.0),
    ),
    (
        "keywheel_store_last_success_timestamp_seconds{store=\"local\"} ",
        Is::Now,
    ),
    (
        "keywheel_cache_reads_total{result=\"miss\"} ",
        Is::Exactly(0.0),
    ),
    (
        "keywheel_clock_set_back_total{service=\"scheduler\"} ",
        Is::Exactly(0.0),
    ),
    ("keywheel_journal_up ", Is::Exactly(1.0)),
    ("keywheel_journal_events ", Is::AtLeast(10.0)),
    ("keywheel_audit_records ", Is::AtLeast(3.0)),
    ("keywheel_sealed ", Is::Exactly(0.0)),
    ("keywheel_findings{severity=\"problem\"} ", Is::Exactly(0.0)),
    (
        "keywheel_reader_lag{service=\"audit-sink\"",
        Is::Exactly(0.0),
    ),
    (
        "keywheel_instances{service=\"store-sync\",heard=\"yes\"} ",
        Is::Exactly(1.0),
    ),
    ("keywheel_build_info{service=\"gateway\"", Is::Exactly(1.0)),
];

/// What only services apart show: all five are on the bus, and have credentials.
const APART: [(&str, Is); 4] = [
    ("keywheel_bus_connected{", Is::Exactly(1.0)),
    ("keywheel_bus_connects_total{", Is::AtLeast(1.0)),
    ("keywheel_credentials_expiry_timestamp_seconds{", Is::Later),
    ("keywheel_credentials_lifetime_seconds{", Is::AtLeast(10.0)),
];

/// Who has work or plans told over the bus, services apart: nothing waits there.
const WAITING: [(&str, Is); 2] = [
    (
        "keywheel_bus_backlog_messages{service=\"store-sync\",topic=\"work\"} ",
        Is::Exactly(0.0),
    ),
    (
        "keywheel_bus_backlog_messages{service=\"injector\",topic=\"plan\"} ",
        Is::Exactly(0.0),
    ),
];

/// As many pages as there are processes say the same as the log; Prometheus' own tool finds nothing
/// wrong with any.
pub(crate) fn says_what_the_log_says(keywheel: &Keywheel, secret: &str) -> Result<()> {
    // A host is behind until its last report, and an instance until it says that it is there.
    let mut last = None;
    let heard = wait::until_true("the numbers of a quiet deployment", PATIENCE, || {
        let judged = judge(keywheel, secret);
        let is_well = judged.is_ok();
        last = judged.err();
        Ok(is_well)
    });
    match (heard, last) {
        (Err(late), Some(wrong)) => Err(wrong.context(late.to_string())),
        (heard, _) => heard,
    }
}

fn judge(keywheel: &Keywheel, secret: &str) -> Result<()> {
    let pages = metrics::pages(keywheel)?;
    let processes = if apart::is_wanted() { 5 } else { 1 };
    ensure!(pages.len() == processes, "{pages:?}");
    for (_, page) in &pages {
        metrics::check(page)?;
    }
    let started = metrics::numbers(&pages, "keywheel_start_time_seconds{");
    let now = started.into_iter().fold(0.0, f64::max);
    ensure!(now > 1.7e9, "nobody says when it started: {pages:?}");
    let apart = APART.into_iter().chain(WAITING);
    let apart = apart.filter(|_| apart::is_wanted());
    for (line, is) in SHOWN.into_iter().chain(apart) {
        let line = line.replace("{S}", &format!("{{secret=\"{secret}\"}}"));
        let found = metrics::numbers(&pages, &line);
        let told = || format!("{line} has to be {is:?} and is {found:?}");
        let holds = |number: &f64| match is {
            Is::Exactly(wanted) => (number - wanted).abs() < 1e-9,
            Is::AtLeast(least) => *number >= least,
            Is::Short => (0.0..TEST).contains(number),
            Is::Now => (number - now).abs() < TEST,
            Is::Later => *number > now + 60.0,
            Is::Absent => false,
        };
        let is_absent = matches!(is, Is::Absent);
        ensure!(found.is_empty() == is_absent, "{}", told());
        ensure!(found.iter().all(holds), "{}", told());
    }
    for (line, _) in APART {
        let count = metrics::numbers(&pages, line).len();
        let expected = if apart::is_wanted() { 5 } else { 0 };
        ensure!(count == expected, "{line}: {count} of {expected}");
    }
    Ok(())
}
