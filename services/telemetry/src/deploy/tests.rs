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
    for path in ["prometheus/keywheel.rules.yml", "grafana/keywheel.json"] {
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
fn every_alert_has_a_heading_on_the_page_that_it_names() {
    let page = checked_in("docs/alerts.md");
    let rules = checked_in("prometheus/keywheel.rules.yml");
    for alert in alerts::ALL {
        assert!(
            page.contains(&format!("\n## {}\n", alert.name)),
            "{}",
            alert.name
        );
        let anchor = format!("deploy/docs/alerts.md#{}\"", alert.name.to_lowercase());
        assert!(rules.contains(&anchor), "{anchor}");
    }
}
