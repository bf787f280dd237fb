//! The pages that people read: every metric in a table, every alert with its next step.

use std::fmt::Write as _;

use super::alerts::ALL;
use crate::names::{self, Bound, Kind, Label, Metric};

/// Where a page comes from.
const MADE: &str = "<!-- Made by `cargo run -p keywheel-telemetry --bin generate-deploy` from services/telemetry. -->";

pub(super) fn metrics() -> String {
    let mut text = format!(
        "# Metrics\n\n{MADE}\n\n`metrics.listen` (or `--metrics-listen`) serves `GET /metrics` in plain HTTP on this machine only: `127.0.0.1:9464`, or `unix:/run/keywheel/metrics.sock`. It is off by default, since every user of a machine reads a loopback port and the page names secrets and hosts; it never shows a value. Each process has a page of its own: `keywheel up` one for all services, apart one each.\n\nA label has the values named here and `other` for the rest; names are told apart up to the number in the table, in alphabetical order for secrets, and everything beyond is one series. Counts and spans of the log are the same at every gateway and survive its restart: take their maximum, not their sum.\n"
    );
    for (by, title) in [
        ("every", "Every service"),
        ("gateway", "Gateway"),
        ("store-sync", "store-sync"),
        ("injector", "Injector"),
    ] {
        let _ = write!(
            text,
            "\n## {title}\n\n| metric | type | labels | what it says |\n|---|---|---|---|\n"
        );
        for metric in names::ALL.iter().filter(|metric| metric.shown_by == by) {
            text.push_str(&row(metric));
        }
    }
    text
}

fn row(metric: &Metric) -> String {
    let kind = match metric.kind {
        Kind::Counter => "counter",
        Kind::Gauge => "gauge",
        Kind::Histogram => "histogram",
    };
    let labels: Vec<String> = metric.labels.iter().map(label).collect();
    format!(
        "| `{}` | {kind} | {} | {} |\n",
        metric.name,
        labels.join("; "),
        metric.help
    )
}

fn label(label: &Label) -> String {
    match label.bound {
        Bound::Words(words) => format!("`{}`: {}", label.name, words.join(", ")),
        Bound::Most(most) => format!("`{}`: {most} names", label.name),
    }
}

pub(super) fn alerts() -> String {
    let mut text = format!(
        "# Alerts\n\n{MADE}\n\n`deploy/prometheus/keywheel.rules.yml` has the rules; name it in `rule_files` of your Prometheus. Each alert here says what is wrong and what to do next.\n"
    );
    for alert in ALL {
        let _ = write!(
            text,
            "\n## {}\n\n{}, {}.\n\nWhen: `{}`, for {} min.\n\n**Next:** {}\n",
            alert.name,
            capital(alert.what),
            alert.severity.word(),
            alert.when,
            alert.minutes,
            alert.next
        );
    }
    text
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}
