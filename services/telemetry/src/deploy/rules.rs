//! Alert rules for Prometheus, and their tests for `promtool test rules`. YAML, with every text as a
//! JSON string, which YAML reads as it stands.

use std::fmt::Write as _;

use serde_json::Value;

use super::alerts::{ALL, Alert, EXAMPLE_MINUTES, Series};

/// Where a file comes from.
const HEAD: &str =
    "# Made by `cargo run -p keywheel-telemetry --bin generate-deploy` from services/telemetry.\n";

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Where the page of an alert is.
fn runbook(alert: &Alert) -> String {
    format!("deploy/docs/alerts.md#{}", alert.name.to_lowercase())
}

pub(super) fn rules() -> String {
    let mut text = format!("{HEAD}groups:\n  - name: keywheel\n    rules:\n");
    for alert in ALL {
        // Writing into a string cannot fail.
        let _ = write!(
            text,
            "      - alert: {}\n        expr: {}\n        for: {}m\n        labels:\n          severity: {}\n        annotations:\n          summary: {}\n          next: {}\n          runbook: {}\n",
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
    for alert in ALL {
        example(&mut text, alert, alert.fires, true);
        example(&mut text, alert, alert.quiet, false);
    }
    text
}

fn example(text: &mut String, alert: &Alert, series: &[Series], fires: bool) {
    let what = if fires { "fires" } else { "keeps quiet" };
    let _ = write!(
        text,
        "  - name: {} {what}\n    interval: 1m\n    input_series:\n",
        alert.name
    );
    for (series, values) in series {
        let (series, values) = (quoted(series), quoted(values));
        let _ = write!(text, "      - series: {series}\n        values: {values}\n");
    }
    let _ = write!(
        text,
        "    alert_rule_test:\n      - eval_time: {EXAMPLE_MINUTES}m\n        alertname: {}\n",
        alert.name
    );
    if !fires {
        text.push_str("        exp_alerts: []\n");
        return;
    }
    let _ = write!(
        text,
        "        exp_alerts:\n          - exp_labels:\n              severity: {}\n",
        alert.severity.word()
    );
    for (label, value) in alert.labels {
        let _ = writeln!(text, "              {label}: {}", quoted(value));
    }
    let _ = write!(
        text,
        "            exp_annotations:\n              summary: {}\n              next: {}\n              runbook: {}\n",
        quoted(alert.what),
        quoted(alert.next),
        quoted(&runbook(alert)),
    );
}
