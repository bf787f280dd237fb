//! The pages that people read: every metric and span in a table, every alert with its next step.

use std::fmt::Write as _;

use super::alerts::all;
use super::rules::BASE_LABEL;
use crate::names::{self, Bound, Kind, Label, Metric};
use crate::traces::{MAX_ATTRIBUTES, MAX_QUEUED, MAX_TEXT_CHARS, names as spans};

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
        ("scheduler", "Scheduler"),
        ("injector", "Injector"),
        ("audit-sink", "Audit sink"),
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

pub(super) fn traces() -> String {
    let mut text = format!(
        "# Traces\n\n{MADE}\n\n`otlp.endpoint` (`--otlp-endpoint`, or OpenTelemetry's own `OTEL_EXPORTER_OTLP_ENDPOINT`) names a collector that takes OTLP over HTTP, such as `http://127.0.0.1:4318`; `/v1/traces` is added to it. It is off by default, and then no span is made. Each process tells its own spans. Over `https` the collector is checked by the system's authorities. Where it asks who we are, `otlp.headers_file` names a file with its headers (`authorization=Bearer%20…`, more between commas or one a line, mode 0600); OpenTelemetry's own `OTEL_EXPORTER_OTLP_HEADERS` is heard, too, though whoever may look at the process sees a variable. Headers go over `https` or to this machine only, and are in no log and no error. `otlp.compression = \"gzip\"`, or `OTEL_EXPORTER_OTLP_COMPRESSION`, compresses spans on their way.\n\nOne rotation, one revocation and one start of a container are one trace each, whatever processes and hosts have a part in it:\n\n- **Rotation and revocation.** The trace begins with the person's request, which may bring a `traceparent`, with the schedule's timer, or with store-sync's look at a store outside. Below it stands a span `rotation` or `revocation` from the first event to the last, and below that the steps at the store, what each host did, and what was asked on the way. That span is told when the rotation ends, so its children come before it. Its id is the last half of the rotation's id.\n- **Start.** The trace begins when the container engine calls our runtime, and has the real runtime's part, what was fetched, what was put in place, and the host's report. The runtime tells nobody but the injector, which tells its spans.\n\nEvents in the log have the same trace in `traceparent`, audit records in `trace`, log lines in `trace_id`; work that is told again after a restart goes on with it, because it is in the log.\n\nTelling never delays work: at most {MAX_QUEUED} spans wait, what is more or what the collector does not take is dropped and counted (`keywheel_spans_dropped_total`). A text has at most {MAX_TEXT_CHARS} characters, a span at most {MAX_ATTRIBUTES} attributes. None holds a value, its length or its digest.\n"
    );
    for (title, what, list) in [
        ("Spans", "span", spans::SPANS),
        ("Attributes", "attribute", spans::ATTRIBUTES),
        ("Attributes of a process", "attribute", spans::RESOURCE),
    ] {
        let _ = write!(text, "\n## {title}\n\n| {what} | what it is |\n|---|---|\n");
        for (name, meaning) in list {
            let _ = writeln!(
                text,
                "| `{name}` | {} |",
                meaning.trim().trim_end_matches('.')
            );
        }
    }
    text.push_str("\nA person's request is called by its method and route: `POST /v1/rotate`.\n");
    text
}

pub(super) fn alerts() -> String {
    let mut text = format!(
        "# Alerts\n\n{MADE}\n\n`deploy/prometheus/keywheel.rules.yml` has the rules; name it in `rule_files` of your Prometheus. Call the job that reads Keywheel's pages `keywheel`, or something that begins so: then a process that never answered is noticed, too. What watches Prometheus itself (an alert that always fires, and somebody who misses it) is yours to have.\n\nEach alert has its page here as `runbook_url`. Serve this directory where your people read, and say where, so that the address can be followed from Alertmanager and Grafana:\n\n```yaml\nglobal:\n  external_labels:\n    {BASE_LABEL}: https://git.example/ops/keywheel/blob/main/deploy/docs\nrule_files:\n  - keywheel.rules.yml\nscrape_configs:\n  - job_name: keywheel\n    static_configs:\n      - targets: [\"127.0.0.1:9464\"]\n```\n\nWithout that label it is `deploy/docs/alerts.md#…`, a path in the repository.\n\nIn what follows NAME is a secret, HOST a host, STORE a store, SERVICE and ROLE a service (`gateway`, `store-sync`, `scheduler`, `audit-sink`, `injector`), DIR a directory of credentials. `keywheel` speaks with the gateway; `journalctl` and `keywheel-node` are for the machine in question. Without systemd logs are in `/var/log/keywheel`, and `keywheel up` is started again by whatever started it.\n"
    );
    for alert in all() {
        let runbook = &alert.runbook;
        let _ = write!(
            text,
            "\n## {}\n\n{}, {}.\n\nWhen: `{}`, for {} min.\n\n**Next:** {}\n\n**What it means.** {}\n\n**What is affected.** {}\n\n**How to look**\n\n{}\n**What to do**\n\n{}",
            alert.name,
            capital(alert.what),
            alert.severity.word(),
            alert.when,
            alert.minutes,
            alert.next,
            runbook.means,
            runbook.affected,
            numbered(runbook.look),
            listed(runbook.act),
        );
    }
    text
}

/// Steps, one after the other.
fn numbered(steps: &[&str]) -> String {
    let steps = steps.iter().zip(1..);
    steps
        .map(|(step, number)| format!("{number}. {step}\n"))
        .collect()
}

/// Cases, of which one or the other is at hand.
fn listed(cases: &[&str]) -> String {
    cases.iter().map(|case| format!("- {case}\n")).collect()
}

fn capital(text: &str) -> String {
    let mut chars = text.chars();
    let first = chars.next().map(|first| first.to_uppercase().to_string());
    first.unwrap_or_default() + chars.as_str()
}
