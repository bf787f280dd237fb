//! What is checked in is what would be written, and speaks of metrics that there are.

use std::collections::BTreeSet;
use std::path::Path;

use super::*;
use crate::names::{self, Kind};

fn checked_in(path: &str) -> String {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    std::fs::read_to_string(deploy.join(path)).unwrap_or_default()
}

/// Every word that looks like one of our metrics, as its name without a histogram's endings.
fn spoken_of(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_ascii_lowercase() || c == '_';
    let words = text.split(|c: char| !is_part(c));
    let ours = words.filter(|word| word.starts_with("keywheel_"));
    let base = |word: &str| {
        let plain = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|ending| word.strip_suffix(ending))
            .unwrap_or(word);
        plain.to_owned()
    };
    // The address of the pages is no metric.
    let ours = ours.filter(|word| *word != rules::BASE_LABEL);
    ours.map(base).collect()
}

fn known() -> BTreeSet<String> {
    names::ALL
        .iter()
        .map(|metric| metric.name.to_owned())
        .collect()
}

#[test]
fn what_is_checked_in_is_what_would_be_written() {
    for file in files() {
        assert!(
            checked_in(file.path) == file.text,
            "deploy/{} is stale; run `cargo run -p keywheel-telemetry --bin generate-deploy`",
            file.path
        );
    }
}

#[test]
fn rules_and_dashboard_speak_of_metrics_that_there_are() {
    let known = known();
    for path in [
        "prometheus/keywheel.rules.yml",
        "grafana/keywheel.json",
        "docs/alerts.md",
    ] {
        let spoken = spoken_of(&checked_in(path));
        assert!(!spoken.is_empty(), "{path}");
        let unknown: Vec<_> = spoken.difference(&known).collect();
        assert!(unknown.is_empty(), "{path}: {unknown:?}");
    }
    let other = spoken_of("sum(keywheel_secret_aeg_seconds)");
    assert!(!other.is_subset(&known), "a misspelt one is found");
}

#[test]
fn the_dashboard_shows_every_metric() {
    let shown = spoken_of(&checked_in("grafana/keywheel.json"));
    let missing: Vec<_> = known().difference(&shown).cloned().collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_histogram_is_asked_by_its_buckets_and_nothing_else_is() {
    let text = checked_in("prometheus/keywheel.rules.yml") + &checked_in("grafana/keywheel.json");
    for metric in names::ALL {
        let by_bucket = text.contains(&format!("{}_bucket", metric.name));
        assert_eq!(by_bucket, metric.kind == Kind::Histogram, "{}", metric.name);
    }
}

#[test]
fn every_alert_has_a_page_where_its_address_leads() {
    let page = checked_in("docs/alerts.md");
    let rules = checked_in("prometheus/keywheel.rules.yml");
    for alert in alerts::all() {
        assert!(
            page.contains(&format!("\n## {}\n", alert.name)),
            "{}",
            alert.name
        );
        let anchor = format!("/alerts.md#{}\"", alert.name.to_lowercase());
        assert!(rules.contains(&anchor), "{anchor}");
    }
    let addresses = rules
        .matches("runbook_url: \"{{ with $externalLabels.")
        .count();
    assert_eq!(addresses, alerts::all().count());
    // What one page says of another leads there.
    for link in page.split("](#").skip(1) {
        let anchor = link.split(')').next().unwrap_or_default();
        let mut names = alerts::all().map(|alert| alert.name.to_lowercase());
        assert!(names.any(|name| name == anchor), "{anchor}");
    }
}

#[test]
fn every_page_says_what_is_and_what_to_do_with_commands() {
    for alert in alerts::all() {
        let runbook = &alert.runbook;
        let name = alert.name;
        assert!(runbook.means.len() > 60, "{name}: what it means");
        assert!(runbook.affected.len() > 40, "{name}: what is affected");
        assert!(runbook.look.len() >= 2, "{name}: how to look");
        assert!(runbook.act.len() >= 2, "{name}: what to do");
        let steps = || runbook.look.iter().chain(runbook.act);
        let has_command = |step: &&&str| step.contains("`keywheel ");
        assert!(steps().filter(has_command).count() >= 2, "{name}");
        for step in steps() {
            assert!(step.ends_with(['.', '?', '`']), "{name}: {step}");
            assert_eq!(step.matches('`').count() % 2, 0, "{name}: {step}");
        }
    }
}

#[test]
fn every_alert_has_an_example_that_fires_and_one_that_does_not() {
    for alert in alerts::all() {
        let fires = alert.examples.iter().filter(|shown| shown.fires).count();
        assert!(fires > 0, "{}", alert.name);
        assert!(fires < alert.examples.len(), "{}", alert.name);
    }
}

/// Prometheus counts a rise from what was there before, so a counter's first is seen only when its
/// series was there, or when the rule asks for those that were not.
#[test]
fn the_first_of_something_fires() {
    for alert in alerts::all() {
        let counters = names::ALL.iter().filter(|metric| {
            metric.kind == Kind::Counter
                && alert.when.contains(&format!("increase({}[", metric.name))
        });
        for counter in counters {
            let begins_at_zero = counter.shown_by == "gateway" && !counter.labels.is_empty();
            let asks = format!("{0} unless {0} offset", counter.name);
            let is_seen = begins_at_zero || alert.when.contains(&asks);
            assert!(is_seen, "{}: {}", alert.name, counter.name);
            let begins_without = |(_, values): &(&str, &str)| values.starts_with("_x");
            let mut fires = alert.examples.iter().filter(|shown| shown.fires);
            let shows = fires.any(|shown| shown.series.iter().any(begins_without));
            assert!(shows, "{}: no example without the series", alert.name);
        }
    }
}

/// Spans that an operator may set are told, and compared with, so that no setting fires for ever.
#[test]
fn what_ends_is_judged_by_how_long_it_lives() {
    let judged = |metric: &str, by: &str| {
        let rules = alerts::all().filter(|alert| alert.when.contains(metric));
        let rules: Vec<_> = rules.collect();
        let by = format!("/ {by}");
        !rules.is_empty() && rules.iter().all(|alert| alert.when.contains(&by))
    };
    let lease = names::HOST_LEASE_EXPIRY.name;
    assert!(judged(lease, names::HOST_LEASE.name));
    let credentials = names::CREDENTIALS_EXPIRY.name;
    assert!(judged(credentials, names::CREDENTIALS_LIFETIME.name));
}
