//! One event or audit record as one line for people. Lines that are not understood are shown as they are.

use serde_json::Value;

use super::tame;

/// Digits of a container id that people know.
const SHORT_ID: usize = 12;

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

/// An instant to the millisecond, without the zone everyone knows is UTC.
fn instant(text: &str) -> String {
    text.get(..23).map_or_else(
        || text.to_owned(),
        |head| format!("{}Z", head.replace('T', " ")),
    )
}

/// An event: number, time, type, subject, facts.
pub(crate) fn event(line: &[u8]) -> String {
    let Ok(event) = serde_json::from_slice::<Value>(line) else {
        return tame(&String::from_utf8_lossy(line));
    };
    let kind = text(&event, "/type");
    let kind = kind.strip_prefix("dev.keywheel.").unwrap_or(kind);
    let facts = event.get("data").map(facts).unwrap_or_default();
    let shown = format!(
        "{:>7}  {}  {kind:<34}  {}  {facts}",
        text(&event, "/sequence"),
        instant(text(&event, "/time")),
        text(&event, "/subject")
    );
    tame(shown.trim_end())
}

/// The number of an event.
pub(crate) fn number(line: &[u8]) -> Option<u64> {
    let event = serde_json::from_slice::<Value>(line).ok()?;
    text(&event, "/sequence").parse().ok()
}

/// The plain facts of an event, `name=value`.
fn facts(data: &Value) -> String {
    let Some(fields) = data.as_object() else {
        return String::new();
    };
    let plain = fields.iter().filter_map(|(name, value)| match value {
        Value::String(text) => Some(format!(
            "{name}={}",
            text.chars().take(64).collect::<String>()
        )),
        Value::Number(_) | Value::Bool(_) => Some(format!("{name}={value}")),
        _ => None,
    });
    plain.collect::<Vec<_>>().join(" ")
}

/// Who acted, in a word; of a token, whose it is as well.
fn who(record: &Value) -> String {
    let name = text(record, "/principal/name");
    match text(record, "/principal/kind") {
        "user" | "operator" | "login" => name.to_owned(),
        "token" => format!("{name} of {}", text(record, "/principal/owner")),
        "stranger" => text(record, "/principal/address").to_owned(),
        _ => text(record, "/principal/role").to_owned(),
    }
}

/// An audit record behind its number, which `audit prove` takes; one that comes without is shown without.
pub(crate) fn numbered_audit(line: &[u8]) -> String {
    match numbered(line) {
        Some((index, record)) => format!("{index:>7}  {}", audit_words(&record)),
        None => audit(line),
    }
}

/// Where to go on behind an audit record that comes with its number.
pub(crate) fn behind_audit(line: &[u8]) -> Option<u64> {
    numbered(line).and_then(|(index, _)| index.checked_add(1))
}

fn numbered(line: &[u8]) -> Option<(u64, Value)> {
    let mut numbered = serde_json::from_slice::<Value>(line).ok()?;
    let index = numbered.get("index")?.as_u64()?;
    Some((index, numbered.get_mut("record")?.take()))
}

/// An audit record: time, who, what, on what, how it ended, why.
pub(crate) fn audit(line: &[u8]) -> String {
    serde_json::from_slice::<Value>(line).map_or_else(
        |_| tame(&String::from_utf8_lossy(line)),
        |record| audit_words(&record),
    )
}

fn audit_words(record: &Value) -> String {
    let who = who(record);
    let version = record
        .get("version")
        .and_then(Value::as_u64)
        .map(|v| format!(" v{v}"))
        .unwrap_or_default();
    let container = text(record, "/container/name");
    let container = match text(record, "/container/id").get(..SHORT_ID) {
        Some(id) => format!(" in {container} ({id})"),
        None => String::new(),
    };
    let shown = format!(
        "{}  {:<8}  {who:<12}  {:<10}  {}{version}{container}  {}",
        instant(text(record, "/time")),
        text(record, "/outcome"),
        text(record, "/verb"),
        text(record, "/object"),
        text(record, "/reason"),
    );
    tame(shown.trim_end())
}

#[cfg(test)]
mod tests {
    use keywheel_schemas::wire::audit::{Principal, Role};

    use super::*;

    #[test]
    fn an_event_is_one_line_with_its_number_type_and_facts() {
        let line = br#"{"sequence":"12","time":"2026-11-21T10:00:00.123456Z","type":"dev.keywheel.secret.version_promoted.v1","subject":"secret/1","data":{"version":2,"list":[1],"note":"x\u001b[1m"}}"#;
        let shown = event(line);
        assert!(
            shown.starts_with("     12  2026-11-21 10:00:00.123Z  secret.version_promoted.v1"),
            "{shown}"
        );
        assert!(
            shown.contains("version=2") && !shown.contains("list") && !shown.contains('\u{1b}'),
            "{shown}"
        );
    }

    #[test]
    fn a_record_tells_who_did_what_and_how_it_ended() {
        let line = br#"{"time":"2026-11-21T10:00:00.123456Z","category":"administration","principal":{"kind":"user","uid":65534,"name":"nobody"},"verb":"list","object":"secrets","outcome":"denied","reason":"not in the group","command":"c","trace":""}"#;
        let shown = audit(line);
        for part in ["denied", "nobody", "list", "secrets", "not in the group"] {
            assert!(shown.contains(part), "{shown}");
        }
    }

    #[test]
    fn a_record_stands_behind_the_number_by_which_it_is_proven() {
        let record = r#"{"time":"2026-11-21T10:00:00.123456Z","principal":{"kind":"user","uid":7,"name":"ada"},"verb":"list","object":"secrets","outcome":"allowed"}"#;
        let line = format!(r#"{{"index":41,"record":{record}}}"#);
        let shown = numbered_audit(line.as_bytes());
        let alone = audit(record.as_bytes());
        assert_eq!(shown, format!("     41  {alone}"));
        assert!(
            alone.starts_with("2026-11-21 10:00:00.123Z  allowed "),
            "{alone}"
        );
        assert_eq!(behind_audit(line.as_bytes()), Some(42));
        // One without is shown as it is.
        assert_eq!(numbered_audit(record.as_bytes()), alone);
        assert_eq!(behind_audit(record.as_bytes()), None);
        assert_eq!(numbered_audit(b"\x1b"), "·");
    }

    #[test]
    fn a_record_names_whoever_acted_of_every_kind() {
        let name = || "ada".to_owned();
        let all = [
            (
                Principal::User {
                    uid: 7,
                    name: name(),
                },
                "ada",
            ),
            (Principal::Operator { name: name() }, "ada"),
            (Principal::Login { name: name() }, "ada"),
            (
                Principal::Token {
                    name: "ci".to_owned(),
                    owner: "certificate:ada".to_owned(),
                },
                "ci of certificate:ada",
            ),
            (
                Principal::Stranger {
                    address: "192.0.2.1".to_owned(),
                },
                "192.0.2.1",
            ),
            (
                Principal::Service {
                    role: Role::Scheduler,
                },
                "scheduler",
            ),
        ];
        for (principal, who) in all {
            // Another kind has to be in the table above.
            match &principal {
                Principal::User { .. }
                | Principal::Operator { .. }
                | Principal::Login { .. }
                | Principal::Token { .. }
                | Principal::Stranger { .. }
                | Principal::Service { .. } => {}
            }
            let record = serde_json::json!({
                "time": "2026-11-21T10:00:00.123456Z",
                "principal": principal,
                "verb": "list",
                "object": "secrets",
                "outcome": "allowed",
            });
            let shown = audit(record.to_string().as_bytes());
            assert!(
                shown.contains(&format!("  allowed   {who:<12}  list ")),
                "{shown}"
            );
        }
    }

    #[test]
    fn what_is_not_understood_is_shown_as_it_is() {
        assert_eq!(event(b"not json"), "not json");
        assert_eq!(audit(b"\x1b"), "·");
    }
}
