//! Alert rules for Prometheus, and their tests for `promtool test rules`. YAML, with every text as a
//! JSON string, which YAML reads as it stands.

use std::fmt::Write as _;

use serde_json::Value;

use super::alerts::{Alert, EXAMPLE_MINUTES, Example, all};

/// Where a file comes from.
const HEAD: &str =
    "# Made by `cargo run -p keywheel-telemetry --bin generate-deploy` from services/telemetry.\n";

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// The external label of Prometheus with the address at which an operator serves `deploy/docs`.
pub(super) const BASE_LABEL: &str = "keywheel_docs";
/// Where the pages are without it.
const DEFAULT_BASE: &str = "deploy/docs";
/// An address for the rules' own test.
const EXAMPLE_BASE: &str = "https://wiki.example/keywheel";

/// The page of an alert, below a base.
fn page(base: &str, alert: &Alert) -> String {
    format!("{base}/alerts.md#{}", alert.name.to_lowercase())
}

/// The same as Prometheus fills it in: below the operator's base, where there is one.
fn runbook(alert: &Alert) -> String {
    let base = format!(
        "{{{{ with $externalLabels.{BASE_LABEL} }}}}{{{{ . }}}}{{{{ else }}}}{DEFAULT_BASE}{{{{ end }}}}"
    );
    page(&base, alert)
}

pub(super) fn rules() -> String {
    let mut text = format!(
        "{HEAD}# `external_labels: {{ {BASE_LABEL}: ADDRESS }}` in Prometheus' configuration says where you serve deploy/docs.\ngroups:\n  - name: keywheel\n    rules:\n"
    );
    for alert in all() {
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {}m\n        labels:\n          severity: {}\n        annotations:\n          summary: {}\n          next: {}\n          runbook_url: {}\n",
            alert.name,
            quoted(alert.when),
            alert.minutes,
            alert.severity.word(),
            quoted(alert.what),
            quoted(alert.next),
            quoted(&runbook(alert)),
        );
    }
    text
}

pub(super) fn tests() -> String {
    let mut text = format!(
        "{HEAD}# Run it: promtool test rules deploy/prometheus/keywheel.test.yml\nrule_files:\n  - keywheel.rules.yml\nevaluation_interval: 1m\ntests:\n"
    );
    for alert in all() {
        for shown in alert.examples {
            example(&mut text, alert, shown, None);
        }
        let first = alert.examples.iter().find(|shown| shown.fires);
        if let Some(first) = first {
            example(&mut text, alert, first, Some(EXAMPLE_BASE));
        }
    }
    text
}

fn example(text: &mut String, alert: &Alert, shown: &Example, base: Option<&str>) {
    let with = base.map_or("", |_| ", with an address of its page");
    let name = format!("{} {}{with}", alert.name, shown.name);
    let _ = write!(text, "  - name: {}\n    interval: 1m\n", quoted(&name));
    if let Some(base) = base {
        let base = quoted(base);
        let _ = write!(text, "    external_labels:\n      {BASE_LABEL}: {base}\n");
    }
    let none = if shown.series.is_empty() { " []" } else { "" };
    let _ = writeln!(text, "    input_series:{none}");
    for (series, values) in shown.series {
        let (series, values) = (quoted(series), quoted(values));
        let _ = write!(text, "      - series: {series}\n        values: {values}\n");
    }
    let _ = write!(
        text,
        "    alert_rule_test:\n      - eval_time: {EXAMPLE_MINUTES}m\n        alertname: {}\n",
        alert.name
    );
    if !shown.fires {
        text.push_str("        exp_alerts: []\n");
        return;
    }
    let _ = write!(
        text,
        "        exp_alerts:\n          - exp_labels:\n              severity: {}\n",
        alert.severity.word()
    );
    for (label, value) in shown.labels.unwrap_or(alert.labels) {
        let _ = writeln!(text, "              {label}: {}", quoted(value));
    }
    let _ = write!(
        text,
        "            exp_annotations:\n              summary: {}\n              next: {}\n              runbook_url: {}\n",
        quoted(alert.what),
        quoted(alert.next),
        quoted(&page(base.unwrap_or(DEFAULT_BASE), alert)),
    );
}
