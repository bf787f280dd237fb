//! `keywheel status` for a tired person: what is wrong first, each with the next step; then every
//! part of the deployment in one line; then the figures. Pure.

use jiff::Timestamp;
use keywheel_schemas::api::{Component, ComponentKind, Finding, HealthWord, Status};

use super::table::{columns, fields};
use super::tame;

/// Hosts that are well and shown one by one; more are one line.
const SHOWN_HOSTS: usize = 20;
/// Longest note of a part's line, in characters.
const MAX_NOTE_CHARS: usize = 60;
/// Findings that are shown; `-o json` has all.
const SHOWN_FINDINGS: usize = 20;

/// The whole page.
pub(crate) fn page(status: &Status, color: bool) -> String {
    let mut text = headline(&status.findings);
    for finding in status.findings.iter().take(SHOWN_FINDINGS) {
        text.push_str(&told(finding));
    }
    let left = status.findings.len().saturating_sub(SHOWN_FINDINGS);
    if left > 0 {
        text.push_str(&format!(
            "\n{left} more; `keywheel status -o json` has all\n"
        ));
    }
    let now = status.time.parse().ok();
    text.push_str(&format!("\n{}\n\n", parts(&status.components, now, color)));
    text.push_str(&figures(status));
    text
}

fn headline(findings: &[Finding]) -> String {
    let count = |state| {
        findings
            .iter()
            .filter(|finding| finding.state == state)
            .count()
    };
    let word = |count: usize, one: &str, many: &str| match count {
        0 => None,
        1 => Some(format!("1 {one}")),
        _ => Some(format!("{count} {many}")),
    };
    let words = [
        word(count(HealthWord::Problem), "problem", "problems"),
        word(count(HealthWord::Warning), "warning", "warnings"),
        word(
            count(HealthWord::Unknown),
            "thing is not known",
            "things are not known",
        ),
    ];
    let words: Vec<String> = words.into_iter().flatten().collect();
    match words.is_empty() {
        true => "everything is as it should be\n".to_owned(),
        false => format!("{}\n", words.join(", ")),
    }
}

fn told(finding: &Finding) -> String {
    let state = finding.state.word().to_uppercase();
    let (kind, name) = (finding.kind.word(), tame(&finding.name));
    let what = tame(&finding.what);
    let next = finding.next.as_deref().map(tame);
    let next = next.map_or_else(String::new, |next| format!("  next: {next}\n"));
    format!("\n{state} {kind} {name}: {what}\n{next}")
}

fn parts(components: &[Component], now: Option<Timestamp>, color: bool) -> String {
    let is_well =
        |part: &&Component| part.kind == ComponentKind::Host && part.state == HealthWord::Ok;
    let well = components.iter().filter(is_well).count();
    let hidden = if well > SHOWN_HOSTS { well } else { 0 };
    let shown = components
        .iter()
        .filter(|part| hidden == 0 || !is_well(part));
    let mut rows: Vec<Vec<String>> = shown.map(|part| row(part, now)).collect();
    if hidden > 0 {
        let mut more = vec![String::new(); HEADERS.len()];
        more.splice(
            0..3,
            [
                "host".to_owned(),
                format!("{hidden} others"),
                "ok".to_owned(),
            ],
        );
        rows.push(more);
    }
    columns(&HEADERS, rows, color)
}

const HEADERS: [&str; 9] = [
    "PART",
    "NAME",
    "STATE",
    "VERSION",
    "UP",
    "HEARD",
    "LAG",
    "CREDENTIALS",
    "NOTE",
];

fn row(part: &Component, now: Option<Timestamp>) -> Vec<String> {
    let ago = |text: &Option<String>| span(since(text.as_deref(), now));
    let left = part.certificate_end.as_deref().and_then(|end| {
        let end: Timestamp = end.parse().ok()?;
        Some(end.duration_since(now?).as_secs())
    });
    let left = match left {
        Some(seconds) if seconds <= 0 => "ended".to_owned(),
        other => span(other),
    };
    let worst = part.facts.iter().find(|fact| fact.state == part.state);
    vec![
        part.kind.word().to_owned(),
        part.name.clone(),
        part.state.word().to_owned(),
        part.version.clone().unwrap_or_default(),
        ago(&part.started),
        ago(&part.heard),
        part.lag.map(|lag| lag.to_string()).unwrap_or_default(),
        left,
        worst.map(|fact| short(&fact.note)).unwrap_or_default(),
    ]
}

fn since(text: Option<&str>, now: Option<Timestamp>) -> Option<i64> {
    let at: Timestamp = text?.parse().ok()?;
    Some(now?.duration_since(at).as_secs().max(0))
}

/// Seconds, in the largest unit that says enough.
fn span(seconds: Option<i64>) -> String {
    match seconds {
        None => String::new(),
        Some(seconds) if seconds < 120 => format!("{seconds}s"),
        Some(seconds) if seconds < 2 * 3600 => format!("{}m", seconds / 60),
        Some(seconds) if seconds < 2 * 86_400 => format!("{}h", seconds / 3600),
        Some(seconds) => format!("{}d", seconds / 86_400),
    }
}

fn short(text: &str) -> String {
    match text.char_indices().nth(MAX_NOTE_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or(text)),
        None => text.to_owned(),
    }
}

/// Which policies are in force; a gateway that says nothing has none.
fn policies(status: &Status) -> String {
    let told = status.policies.as_ref().map(|told| tame(&told.note));
    told.unwrap_or_else(|| "none: whoever may come in may do everything".to_owned())
}

fn figures(status: &Status) -> String {
    let sealed = match status.sealed {
        true => {
            "yes: no store-sync that is heard has its unseal key, so no value can be given out; `keywheel unseal`"
        }
        false => "no",
    };
    let version = match status.pid {
        Some(pid) => format!("{} (pid {pid})", status.version),
        None => status.version.clone(),
    };
    let mut rows = vec![("keywheel", version), ("host", status.host.clone())];
    rows.extend(
        status
            .data_dir
            .iter()
            .map(|place| ("data directory", place.clone())),
    );
    rows.extend([
        ("sealed", sealed.to_owned()),
        ("policies", policies(status)),
        ("secrets", status.secrets.to_string()),
        ("bindings", status.bindings.to_string()),
        ("consumers", status.consumers.to_string()),
        ("open rotations", status.open_rotations.to_string()),
        ("open revocations", status.open_revocations.to_string()),
        ("open effects", status.open_effects.to_string()),
        ("events", status.events.to_string()),
        ("audit records", status.audit_records.to_string()),
    ]);
    fields(&rows)
}

#[cfg(test)]
mod tests {
    use keywheel_schemas::api::FactView;

    use super::*;

    fn part(kind: ComponentKind, name: &str, state: HealthWord) -> Component {
        Component {
            kind,
            name: name.to_owned(),
            instance: None,
            state,
            version: Some("0.1.0".to_owned()),
            started: Some("2026-11-27T09:00:00Z".to_owned()),
            heard: Some("2026-11-27T11:59:57Z".to_owned()),
            reached: Some(7),
            lag: Some(0),
            certificate_end: Some("2026-11-28T05:00:00Z".to_owned()),
            connection: None,
            facts: vec![FactView {
                name: "x".to_owned(),
                state,
                note: "a note".to_owned(),
                next: None,
            }],
        }
    }

    fn status(components: Vec<Component>, findings: Vec<Finding>) -> Status {
        Status {
            state: HealthWord::Ok,
            findings,
            components,
            version: "0.1.0".to_owned(),
            host: "gw-1".to_owned(),
            data_dir: Some("/var/lib/keywheel".to_owned()),
            pid: Some(1),
            time: "2026-11-27T12:00:00Z".to_owned(),
            sealed: false,
            secrets: 1,
            bindings: 1,
            consumers: 1,
            open_rotations: 0,
            open_revocations: 0,
            open_effects: 0,
            events: 7,
            audit_records: 9,
            features: Vec::new(),
            warnings: Vec::new(),
            policies: None,
        }
    }

    #[test]
    fn where_a_gateway_lies_is_shown_as_far_as_it_was_told() {
        let told = figures(&status(Vec::new(), Vec::new()));
        assert!(told.contains("0.1.0 (pid 1)"), "{told}");
        assert!(told.contains("/var/lib/keywheel"), "{told}");
        let untold = figures(&Status {
            data_dir: None,
            pid: None,
            ..status(Vec::new(), Vec::new())
        });
        assert!(untold.contains("0.1.0"), "{untold}");
        for part in ["pid", "data directory"] {
            assert!(!untold.contains(part), "{part}: {untold}");
        }
    }

    #[test]
    fn what_is_wrong_comes_first_with_the_next_step() {
        let finding = Finding {
            state: HealthWord::Problem,
            kind: ComponentKind::Scheduler,
            name: "sched-1".to_owned(),
            what: "presence: not heard for 50 s\u{1b}[2J".to_owned(),
            next: Some("on sched-1: start it again".to_owned()),
        };
        let parts = vec![part(ComponentKind::Gateway, "gw-1", HealthWord::Ok)];
        let text = page(&status(parts, vec![finding]), false);
        let head: Vec<&str> = text.lines().take(4).collect();
        assert_eq!(head[0], "1 problem");
        assert_eq!(
            head[2],
            "PROBLEM scheduler sched-1: presence: not heard for 50 s·[2J"
        );
        assert_eq!(head[3], "  next: on sched-1: start it again");
        let row = text
            .lines()
            .find(|line| line.starts_with("gateway"))
            .unwrap();
        for word in ["gw-1", "ok", "0.1.0", "3h", "3s", "17h", "a note"] {
            assert!(row.contains(word), "{word} is missing in {row}");
        }
        assert!(text.contains("events:            7"), "{text}");
    }

    #[test]
    fn many_hosts_that_are_well_are_one_line() {
        let host = |number: usize| {
            let state = if number == 0 {
                HealthWord::Problem
            } else {
                HealthWord::Ok
            };
            part(ComponentKind::Host, &format!("web-{number}"), state)
        };
        let text = page(
            &status((0..=SHOWN_HOSTS).map(host).collect(), Vec::new()),
            false,
        );
        assert!(text.contains("web-20"), "so many are shown: {text}");
        let text = page(
            &status((0..=SHOWN_HOSTS + 1).map(host).collect(), Vec::new()),
            false,
        );
        assert!(
            text.contains("web-0 ") && !text.contains("web-20"),
            "{text}"
        );
        assert!(text.contains("21 others"), "{text}");
        assert!(text.starts_with("everything is as it should be"));
    }
}
