//! The dashboard for Grafana, as JSON that its import takes.

use serde_json::{Value, json};

/// Panels stand side by side, so wide each.
const WIDTH: u32 = 8;
/// So high.
const HEIGHT: u32 = 7;
/// How wide a dashboard is.
const WHOLE: u32 = 24;

/// A panel: its title, its unit as Grafana calls it, and its lines with their legends.
type Panel = (
    &'static str,
    &'static str,
    &'static [(&'static str, &'static str)],
);

/// Rows of panels.
const ROWS: &[(&str, &[Panel])] = &[
    (
        "Secrets",
        &[
            (
                "Oldest secrets",
                "s",
                &[(
                    "topk(10, max by (secret) (keywheel_secret_age_seconds))",
                    "{{secret}}",
                )],
            ),
            (
                "Overdue",
                "short",
                &[(
                    "max by (secret) (keywheel_secret_overdue) > 0",
                    "{{secret}}",
                )],
            ),
            (
                "Next rotations",
                "dateTimeFromNow",
                &[(
                    "bottomk(10, min by (secret) (keywheel_secret_next_rotation_timestamp_seconds)) * 1000",
                    "{{secret}}",
                )],
            ),
            (
                "Last rotations",
                "dateTimeFromNow",
                &[(
                    "topk(10, max by (secret) (keywheel_secret_last_rotation_timestamp_seconds)) * 1000",
                    "{{secret}}",
                )],
            ),
            (
                "Known",
                "short",
                &[
                    ("max(keywheel_secrets)", "secrets"),
                    ("max(keywheel_hosts)", "hosts"),
                ],
            ),
            (
                "Findings of status",
                "short",
                &[
                    ("max by (severity) (keywheel_findings)", "{{severity}}"),
                    ("max(keywheel_sealed)", "sealed"),
                    ("max by (kind) (keywheel_letters)", "{{kind}} letters"),
                ],
            ),
        ],
    ),
    (
        "Rotations and revocations",
        &[
            (
                "Rotations an hour, by trigger",
                "short",
                &[(
                    "max by (trigger) (increase(keywheel_rotations_total[1h]))",
                    "{{trigger}}",
                )],
            ),
            (
                "Open and parked",
                "short",
                &[
                    ("max(keywheel_rotations_open)", "open"),
                    ("max(keywheel_rotations_parked)", "parked"),
                    ("max(keywheel_revocations_open)", "revocations"),
                ],
            ),
            (
                "Rotation, p50 and p99",
                "s",
                &[
                    (
                        "histogram_quantile(0.5, max by (le) (rate(keywheel_rotation_duration_seconds_bucket[1h])))",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.99, max by (le) (rate(keywheel_rotation_duration_seconds_bucket[1h])))",
                        "p99",
                    ),
                ],
            ),
            (
                "Gap of a cut-over, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, max by (le) (rate(keywheel_rotation_gap_seconds_bucket[1d])))",
                    "p99",
                )],
            ),
            (
                "Steps, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, max by (step, le) (rate(keywheel_rotation_step_duration_seconds_bucket[1h])))",
                    "{{step}}",
                )],
            ),
            (
                "Failed attempts at steps",
                "short",
                &[(
                    "max by (step) (increase(keywheel_rotation_step_failures_total[1h]))",
                    "{{step}}",
                )],
            ),
            (
                "Revocation, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, max by (le) (rate(keywheel_revocation_duration_seconds_bucket[1h])))",
                    "p99",
                )],
            ),
        ],
    ),
    (
        "Playbooks",
        &[
            (
                "Runs an hour, by how they ended",
                "short",
                &[(
                    "max by (outcome) (increase(keywheel_playbook_runs_total[1h]))",
                    "{{outcome}}",
                )],
            ),
            (
                "Open runs",
                "short",
                &[
                    ("max(keywheel_playbook_runs_open)", "open"),
                    (
                        "max(keywheel_playbook_runs_awaiting_approval)",
                        "wait for an approval",
                    ),
                    (
                        "max(keywheel_playbook_runs_overdue)",
                        "beyond their deadline",
                    ),
                ],
            ),
            (
                "What takes several people",
                "short",
                &[
                    ("max(keywheel_approvals_waiting)", "waits for others"),
                    (
                        "max(keywheel_break_glass_unreviewed)",
                        "went without them, not reviewed",
                    ),
                ],
            ),
        ],
    ),
    (
        "Consumers",
        &[
            (
                "Propagation to containers",
                "s",
                &[
                    (
                        "histogram_quantile(0.5, max by (le) (rate(keywheel_propagation_seconds_bucket[1h])))",
                        "p50",
                    ),
                    (
                        "histogram_quantile(0.99, max by (le) (rate(keywheel_propagation_seconds_bucket[1h])))",
                        "p99",
                    ),
                ],
            ),
            (
                "Consumers by state",
                "short",
                &[("max by (state) (keywheel_consumers)", "{{state}}")],
            ),
            (
                "Stragglers",
                "short",
                &[
                    ("max by (secret) (keywheel_stragglers) > 0", "{{secret}}"),
                    (
                        "max by (reason) (keywheel_stragglers_lacking) > 0",
                        "waited for: {{reason}}",
                    ),
                    (
                        "max by (secret) (keywheel_sessions_left) > 0",
                        "{{secret}}: sessions",
                    ),
                ],
            ),
            (
                "Restarts an hour, by cause",
                "short",
                &[(
                    "max by (cause) (increase(keywheel_consumer_restarts_total[1h]))",
                    "{{cause}}",
                )],
            ),
            (
                "Not served",
                "short",
                &[(
                    "max(increase(keywheel_consumers_refused_total[1h]))",
                    "refused",
                )],
            ),
            (
                "Denied requests",
                "short",
                &[(
                    "sum(increase(keywheel_requests_denied_total[1h]))",
                    "denied",
                )],
            ),
            (
                "Looks at health",
                "short",
                &[("sum(increase(keywheel_health_looks_total[1h]))", "looks")],
            ),
        ],
    ),
    (
        "Hosts",
        &[
            (
                "Behind the newest plan",
                "s",
                &[("max by (host) (keywheel_host_plan_lag_seconds)", "{{host}}")],
            ),
            (
                "Not heard for",
                "s",
                &[(
                    "time() - max by (host) (keywheel_host_last_contact_timestamp_seconds)",
                    "{{host}}",
                )],
            ),
            (
                "Gateway not heard by the host for",
                "s",
                &[(
                    "time() - max by (host) (keywheel_host_gateway_contact_timestamp_seconds)",
                    "{{host}}",
                )],
            ),
            (
                "Left of the lease",
                "s",
                &[
                    (
                        "min by (host) (keywheel_host_lease_expiry_timestamp_seconds) - time()",
                        "{{host}}",
                    ),
                    (
                        "min by (host) (keywheel_host_lease_seconds)",
                        "{{host}} whole",
                    ),
                ],
            ),
            (
                "Containers and consumers",
                "short",
                &[
                    (
                        "sum by (host) (keywheel_host_containers)",
                        "{{host}} containers",
                    ),
                    (
                        "sum by (host) (keywheel_host_consumers)",
                        "{{host}} consumers",
                    ),
                ],
            ),
            (
                "Engine and plan",
                "short",
                &[
                    ("min by (host) (keywheel_host_engine_up)", "{{host}} engine"),
                    (
                        "max by (host) (keywheel_host_plan_generation)",
                        "{{host}} plan",
                    ),
                ],
            ),
        ],
    ),
    (
        "Stores and caches",
        &[
            (
                "Stores, p99",
                "s",
                &[(
                    "histogram_quantile(0.99, sum by (store, operation, le) (rate(keywheel_store_operation_duration_seconds_bucket[1h])))",
                    "{{store}} {{operation}}",
                )],
            ),
            (
                "Failures at stores",
                "short",
                &[(
                    "sum by (store, error) (increase(keywheel_store_errors_total[1h]))",
                    "{{store}} {{error}}",
                )],
            ),
            (
                "Last success of a store",
                "s",
                &[(
                    "time() - max by (store) (keywheel_store_last_success_timestamp_seconds)",
                    "{{store}}",
                )],
            ),
            (
                "Stores outside: last look",
                "s",
                &[(
                    "time() - max by (store) (keywheel_store_last_look_timestamp_seconds)",
                    "{{store}}",
                )],
            ),
            (
                "Stores outside: secrets",
                "short",
                &[
                    ("max by (store) (keywheel_store_up)", "{{store}} answers"),
                    (
                        "max by (store) (keywheel_store_secrets)",
                        "{{store}} secrets",
                    ),
                    (
                        "max by (store) (keywheel_store_unreadable_secrets)",
                        "{{store}} unreadable",
                    ),
                ],
            ),
            (
                "Encrypted cache",
                "short",
                &[(
                    "sum by (result) (increase(keywheel_cache_reads_total[1h]))",
                    "{{result}}",
                )],
            ),
            (
                "Values at hosts",
                "short",
                &[(
                    "sum by (result) (increase(keywheel_host_cache_reads_total[1h]))",
                    "{{result}}",
                )],
            ),
            (
                "Work that waits",
                "short",
                &[("max(keywheel_effects_open)", "open effects")],
            ),
        ],
    ),
    (
        "Services, bus, log",
        &[
            (
                "Instances",
                "short",
                &[(
                    "max by (service, heard) (keywheel_instances)",
                    "{{service}} heard: {{heard}}",
                )],
            ),
            (
                "Readers behind the log",
                "short",
                &[(
                    "max by (service, machine) (keywheel_reader_lag)",
                    "{{service}} {{machine}}",
                )],
            ),
            (
                "Bus",
                "short",
                &[
                    ("keywheel_bus_connected", "{{service}} connected"),
                    (
                        "increase(keywheel_bus_connects_total[1h])",
                        "{{service}} connects",
                    ),
                    (
                        "increase(keywheel_bus_refused_messages_total[1h])",
                        "{{service}} refused",
                    ),
                ],
            ),
            (
                "Waiting on the bus",
                "short",
                &[(
                    "max by (service, topic) (keywheel_bus_backlog_messages)",
                    "{{service}} {{topic}}",
                )],
            ),
            (
                "Log and audit",
                "short",
                &[
                    ("max(keywheel_journal_events)", "events"),
                    ("max(keywheel_audit_records)", "audit records"),
                    ("min(keywheel_journal_up)", "journal answers"),
                ],
            ),
            (
                "Sinks of the audit",
                "short",
                &[
                    (
                        "max by (sink) (keywheel_audit_sink_waiting_records)",
                        "{{sink}} waiting",
                    ),
                    (
                        "max by (sink) (keywheel_audit_sink_lag_seconds)",
                        "{{sink}} seconds behind",
                    ),
                    (
                        "sum by (sink) (increase(keywheel_audit_sink_failures_total[1h]))",
                        "{{sink}} failed attempts",
                    ),
                    (
                        "max by (sink) (keywheel_audit_sink_differs)",
                        "{{sink}} differs",
                    ),
                ],
            ),
            (
                "Spans and log lines",
                "short",
                &[
                    ("increase(keywheel_spans_exported_total[1h])", "told"),
                    ("increase(keywheel_spans_dropped_total[1h])", "dropped"),
                    ("increase(keywheel_log_lines_lost_total[1h])", "lines lost"),
                ],
            ),
            (
                "Clocks set back an hour",
                "short",
                &[("increase(keywheel_clock_set_back_total[1h])", "{{service}}")],
            ),
            (
                "Left of credentials",
                "s",
                &[
                    (
                        "keywheel_credentials_expiry_timestamp_seconds - time()",
                        "{{service}}",
                    ),
                    ("keywheel_credentials_lifetime_seconds", "{{service}} whole"),
                ],
            ),
            (
                "Versions and uptime",
                "s",
                &[(
                    "(time() - keywheel_start_time_seconds) * on (instance, service) group_left (version) keywheel_build_info",
                    "{{service}} {{version}}",
                )],
            ),
        ],
    ),
];

pub(super) fn dashboard() -> String {
    let mut panels = Vec::new();
    let mut y = 0;
    for (title, row) in ROWS {
        let at = json!({ "x": 0, "y": y, "w": WHOLE, "h": 1 });
        panels.push(json!({ "type": "row", "title": title, "gridPos": at, "collapsed": false, "panels": [] }));
        y += 1;
        let mut x = 0;
        for panel in *row {
            if x + WIDTH > WHOLE {
                (x, y) = (0, y + HEIGHT);
            }
            panels.push(panel_at(panel, x, y));
            x += WIDTH;
        }
        y += HEIGHT;
    }
    for (id, panel) in panels.iter_mut().enumerate() {
        panel["id"] = json!(id + 1);
    }
    let mut whole = json!({
        "uid": "keywheel",
        "title": "Keywheel",
        "description": "Made by `cargo run -p keywheel-telemetry --bin generate-deploy` from services/telemetry.",
        "tags": ["keywheel", "secrets"],
        "schemaVersion": 39,
        "version": 1,
        "editable": true,
        "refresh": "30s",
        "time": { "from": "now-24h", "to": "now" },
        "templating": { "list": [{
            "name": "DS_PROMETHEUS", "label": "Prometheus", "type": "datasource", "query": "prometheus"
        }] },
        "panels": panels,
    });
    // Whether a map has its keys in order is a feature that any crate of the workspace may ask for.
    whole.sort_all_objects();
    format!("{whole:#}\n")
}

fn panel_at((title, unit, lines): &Panel, x: u32, y: u32) -> Value {
    let source = json!({ "type": "prometheus", "uid": "${DS_PROMETHEUS}" });
    let target = |(at, (line, legend)): (usize, &(&str, &str))| {
        let letter = char::from(b'A' + u8::try_from(at % 26).unwrap_or(0));
        json!({ "refId": letter.to_string(), "datasource": source, "expr": line, "legendFormat": legend })
    };
    let targets: Vec<Value> = lines.iter().enumerate().map(target).collect();
    json!({
        "type": "timeseries",
        "title": title,
        "datasource": source,
        "gridPos": { "x": x, "y": y, "w": WIDTH, "h": HEIGHT },
        "fieldConfig": { "defaults": { "unit": unit }, "overrides": [] },
        "options": { "legend": { "displayMode": "list", "placement": "bottom" } },
        "targets": targets,
    })
}
