//! A record as an event of the Open Cybersecurity Schema Framework, version 1.8.0. Pure.
//!
//! What a container got or lost, and its restart by an order, is Application Lifecycle (6002); a container that a
//! playbook cut off, or a host that it evicted, is Remediation Activity (7001); what a service of ours did to any other
//! thing is Entity Management (3004); every other request, denied and malformed ones among them, is API Activity
//! (6003). `metadata.sequence` and `metadata.uid` are the record's number and leaf hash, so an event leads back to the
//! record that is proven. Invariant: every event is valid by `schemas/ocsf`, the standard's own schema.

use keywheel_core::audit::{Category, ContainerRef, Outcome, Principal, Record};
use keywheel_schemas::mirror::TextForm as _;
use keywheel_schemas::subject::role_word;
use serde_json::{Map, Value, json};

/// The version of the schema.
const VERSION: &str = "1.8.0";
/// An activity that the schema has no number for; its name is told then.
const OTHER: u32 = 99;
/// How an object begins that is a host.
const HOST: &str = "host/";

/// What sort of event it is.
struct Class {
    uid: u32,
    category: u32,
    name: &'static str,
    activity: u32,
}

/// Writes a record; nothing when that does not go.
pub(super) fn event(sequence: u64, leaf: &str, record: &Record) -> Option<String> {
    let class = class(record);
    let mut event = Map::new();
    let mut set = |name: &str, value: Value| drop(event.insert(name.to_owned(), value));
    set("class_uid", class.uid.into());
    set("class_name", class.name.into());
    set("category_uid", class.category.into());
    set("activity_id", class.activity.into());
    set("activity_name", record.verb.as_str().into());
    set("type_uid", (class.uid * 100 + class.activity).into());
    set("time", record.time.micros().div_euclid(1000).into());
    let (severity, status) = weight(record.outcome);
    set("severity_id", severity.into());
    set("status_id", status.into());
    set("status_code", word(record.outcome).into());
    set("status_detail", record.reason.as_str().into());
    set("metadata", metadata(sequence, leaf, record, &class));
    set("actor", actor(&record.principal));
    set("unmapped", unmapped(record));
    match (&record.container, class.uid) {
        (Some(container), 6002) => {
            set("app", app(container));
            set("device", device(container));
        }
        (container, 7001) => {
            set("command_uid", record.command.to_string().into());
            let evicted = || host(record.object.strip_prefix(HOST).unwrap_or_default());
            set("device", container.as_ref().map_or_else(evicted, device));
        }
        (_, 3004) => set("entity", thing(record)),
        _ => {
            set("api", api(record));
            set("src_endpoint", endpoint(&record.principal));
            if !record.object.is_empty() {
                set("resources", json!([thing(record)]));
            }
        }
    }
    serde_json::to_string(&event).ok()
}

fn class(record: &Record) -> Class {
    if record.category != Category::Administration
        && let Some(activity) = remedy(record)
    {
        return Class {
            uid: 7001,
            category: 7,
            name: "Remediation Activity",
            activity,
        };
    }
    if record.category != Category::Administration && record.container.is_some() {
        return Class {
            uid: 6002,
            category: 6,
            name: "Application Lifecycle",
            activity: in_container(&record.verb),
        };
    }
    if record.category == Category::System && !record.object.is_empty() {
        return Class {
            uid: 3004,
            category: 3,
            name: "Entity Management",
            activity: to_thing(&record.verb),
        };
    }
    Class {
        uid: 6003,
        category: 6,
        name: "API Activity",
        activity: change(&record.verb),
    }
}

/// Of Remediation Activity: 1 isolate, 2 evict. What a person does about it is a request like any other.
fn remedy(record: &Record) -> Option<u32> {
    match record.verb.as_str() {
        "quarantine" if record.container.is_some() => Some(1),
        "evict" if record.object.starts_with(HOST) => Some(2),
        _ => None,
    }
}

/// Of Application Lifecycle: 4 stop, 5 restart, 8 update.
fn in_container(verb: &str) -> u32 {
    match verb {
        "vanish" => 4,
        "restart" | "restart-by-order" => 5,
        "inject" | "inject-previous" | "replace" | "remove" | "reload" => 8,
        _ => OTHER,
    }
}

/// Of Entity Management: 8 enable, 9 disable, else what is in API Activity, too.
fn to_thing(verb: &str) -> u32 {
    match verb {
        "give-back" => 8,
        "withhold" => 9,
        other => change(other),
    }
}

/// Of API Activity and Entity Management alike: 1 create, 2 read, 3 update, 4 delete.
fn change(verb: &str) -> u32 {
    const READS: [&str; 6] = ["list", "describe", "read", "export", "report", "verify"];
    const CREATES: [&str; 5] = [
        "create-version",
        "enrol",
        "issue-join-token",
        "issue-permit",
        "join",
    ];
    let is_word = |word: &&str| verb == *word || verb.starts_with(&format!("{word}-"));
    if READS.iter().any(is_word) {
        2
    } else if CREATES.contains(&verb) {
        1
    } else if ["remove", "unbind", "evict", "forget", "end-lease"]
        .iter()
        .any(is_word)
    {
        4
    } else if verb.is_empty() {
        OTHER
    } else {
        3
    }
}

/// Severity and status: 1 informational, 2 low, 3 medium; 1 success, 2 failure.
const fn weight(outcome: Outcome) -> (u32, u32) {
    match outcome {
        Outcome::Allowed => (1, 1),
        Outcome::Rejected | Outcome::Malformed => (2, 2),
        Outcome::Denied => (3, 2),
    }
}

const fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allowed => "allowed",
        Outcome::Denied => "denied",
        Outcome::Rejected => "rejected",
        Outcome::Malformed => "malformed",
    }
}

fn metadata(sequence: u64, leaf: &str, record: &Record, class: &Class) -> Value {
    let profiles: &[&str] = match (class.uid, &record.container) {
        (6002 | 7001, Some(_)) => &["container", "host"],
        (7001, None) => &["host"],
        _ => &[],
    };
    let mut metadata = json!({
        "version": VERSION,
        "product": {
            "name": "Keywheel",
            "vendor_name": "Keywheel",
            "version": env!("CARGO_PKG_VERSION"),
        },
        "log_name": "audit",
        "sequence": sequence,
        "uid": leaf,
        "event_code": record.verb,
        "original_time": record.time.text(),
        "profiles": profiles,
    });
    if !record.trace.is_empty()
        && let Some(metadata) = metadata.as_object_mut()
    {
        metadata.insert("correlation_uid".to_owned(), record.trace.as_str().into());
    }
    metadata
}

/// Who, by a name, and by what tells people of one name apart.
fn actor(principal: &Principal) -> Value {
    let person = |name: &str, uid: String| json!({ "user": { "name": name, "uid": uid } });
    match principal {
        Principal::User { uid, name } => person(name, uid.to_string()),
        Principal::Operator { name } => person(name, format!("certificate:{name}")),
        Principal::Stranger { address } => json!({ "app_name": format!("unknown at {address}") }),
        Principal::Service(role) => {
            json!({ "app_name": format!("keywheel-{}", role_word(*role)) })
        }
        Principal::Token { name, owner } => {
            json!({ "user": { "name": owner }, "app_name": format!("token {name}") })
        }
        Principal::Login { name } => person(name, format!("oidc:{name}")),
    }
}

/// Where it came from: an address, or what there is instead of one.
fn endpoint(principal: &Principal) -> Value {
    match principal {
        Principal::User { .. } => json!({ "name": "unix socket" }),
        Principal::Operator { name } => json!({ "name": name }),
        Principal::Stranger { address } => match address.parse::<std::net::SocketAddr>() {
            Ok(at) => json!({ "ip": at.ip().to_string(), "port": at.port() }),
            Err(_) => json!({ "name": address }),
        },
        Principal::Service(role) => {
            json!({ "svc_name": format!("keywheel-{}", role_word(*role)) })
        }
        Principal::Token { name, .. } => json!({ "name": format!("token {name}") }),
        Principal::Login { name } => json!({ "name": format!("login of {name}") }),
    }
}

fn api(record: &Record) -> Value {
    json!({
        "operation": record.verb,
        "service": { "name": "keywheel" },
        "request": { "uid": record.command.to_string() },
    })
}

/// What it was done to: `secret/prod/db` is `prod/db`, a `secret`.
fn thing(record: &Record) -> Value {
    let (kind, name) = match record.object.split_once('/') {
        Some((kind, name)) if !name.is_empty() => (kind, name),
        _ => ("", record.object.as_str()),
    };
    let mut thing = Map::new();
    thing.insert("name".to_owned(), name.into());
    if !kind.is_empty() {
        thing.insert("type".to_owned(), kind.into());
    }
    if let Some(version) = record.version {
        thing.insert("version".to_owned(), version.to_string().into());
    }
    Value::Object(thing)
}

fn app(container: &ContainerRef) -> Value {
    json!({
        "name": container.name,
        "uid": container.id,
        "version": container.image_digest,
    })
}

/// Where a container is, and which one it is.
fn device(container: &ContainerRef) -> Value {
    let mut device = host(&container.host);
    if let Some(device) = device.as_object_mut() {
        let container = json!({
            "name": container.name,
            "uid": container.id,
            "image": { "uid": container.image_digest },
        });
        device.insert("container".to_owned(), container);
    }
    device
}

/// A server (1), as far as anybody knows.
fn host(name: &str) -> Value {
    json!({ "hostname": name, "name": name, "type_id": 1 })
}

/// What the schema has no place for.
fn unmapped(record: &Record) -> Value {
    let category = match record.category {
        Category::Administration => "administration",
        Category::Usage => "usage",
        Category::System => "system",
    };
    let mut unmapped = json!({
        "category": category,
        "command": record.command.to_string(),
        "object": record.object,
    });
    if let (Some(version), Some(unmapped)) = (record.version, unmapped.as_object_mut()) {
        unmapped.insert("version".to_owned(), version.into());
    }
    unmapped
}

#[cfg(test)]
mod tests {
    use keywheel_core::audit::Role;
    use keywheel_core::time::Timestamp;

    use super::super::line::tests::record;
    use super::*;

    fn schema(uid: u64) -> jsonschema::Validator {
        let text = match uid {
            3004 => include_str!("../../../../schemas/ocsf/entity_management.json"),
            6002 => include_str!("../../../../schemas/ocsf/application_lifecycle.json"),
            6003 => include_str!("../../../../schemas/ocsf/api_activity.json"),
            7001 => include_str!("../../../../schemas/ocsf/remediation_activity.json"),
            _ => panic!("no class {uid}"),
        };
        jsonschema::validator_for(&serde_json::from_str(text).unwrap()).unwrap()
    }

    fn container() -> ContainerRef {
        ContainerRef {
            id: "c".repeat(64),
            name: "web".to_owned(),
            image_digest: "sha256:1".to_owned(),
            host: "one".to_owned(),
        }
    }

    fn told(record: &Record) -> Value {
        serde_json::from_str(&event(9, &"a".repeat(64), record).unwrap()).unwrap()
    }

    /// Every sort of principal.
    fn principals() -> [Principal; 7] {
        [
            Principal::User {
                uid: 0,
                name: String::new(),
            },
            Principal::Operator {
                name: "ada".to_owned(),
            },
            Principal::Stranger {
                address: "192.0.2.7:4711".to_owned(),
            },
            Principal::Stranger {
                address: "?".to_owned(),
            },
            Principal::Service(Role::StoreSync),
            Principal::Token {
                name: "ci".to_owned(),
                owner: "certificate:ada".to_owned(),
            },
            Principal::Login {
                name: "ada".to_owned(),
            },
        ]
    }

    /// Every sort of record that there is.
    fn records() -> Vec<Record> {
        let verbs = [
            "list",
            "apply",
            "rotate",
            "remove-store",
            "inject",
            "vanish",
            "restart",
            "restart-by-order",
            "quarantine",
            "evict",
            "withhold",
            "give-back",
            "exec",
            "enrol",
            "",
        ];
        let outcomes = [
            Outcome::Allowed,
            Outcome::Denied,
            Outcome::Rejected,
            Outcome::Malformed,
        ];
        let categories = [Category::Administration, Category::Usage, Category::System];
        let mut all = Vec::new();
        for principal in principals() {
            for verb in verbs {
                for outcome in outcomes {
                    for category in categories {
                        for (object, version, container) in [
                            ("secret/prod/db", Some(u64::MAX), Some(container())),
                            ("", None, None),
                            ("secret/", Some(1), None),
                            ("host/web-1", None, None),
                            ("host/", None, None),
                        ] {
                            all.push(Record {
                                principal: principal.clone(),
                                verb: verb.to_owned(),
                                outcome,
                                category,
                                object: object.to_owned(),
                                version,
                                container,
                                time: Timestamp::from_micros(1_795_946_400_000_001),
                                trace: String::new(),
                                ..record()
                            });
                        }
                    }
                }
            }
        }
        all
    }

    #[test]
    fn every_sort_of_record_is_valid_by_the_standard_s_own_schema() {
        let schemas = [3004, 6002, 6003, 7001].map(|uid| (uid, schema(uid)));
        let mut seen = [0; 4];
        for record in records() {
            let event = told(&record);
            let uid = event["class_uid"].as_u64().unwrap();
            let at = schemas.iter().position(|(known, _)| *known == uid).unwrap();
            seen[at] += 1;
            let (_, schema) = &schemas[at];
            let faults: Vec<_> = schema.iter_errors(&event).map(|e| e.to_string()).collect();
            assert!(faults.is_empty(), "{faults:?}: {event}");
            let activity = event["activity_id"].as_u64().unwrap();
            assert_eq!(event["type_uid"].as_u64(), Some(uid * 100 + activity));
        }
        assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    }

    #[test]
    fn the_schema_refuses_what_is_not_of_it() {
        let event = told(&record());
        let schema = schema(6003);
        assert!(schema.is_valid(&event));
        for (at, wrong) in [
            ("/activity_id", json!(77)),
            ("/time", json!("now")),
            ("/severity_id", json!(9)),
            ("/metadata", json!({})),
            ("/actor", json!({})),
            ("/api", json!({})),
        ] {
            let mut broken = event.clone();
            *broken.pointer_mut(at).unwrap() = wrong;
            assert!(!schema.is_valid(&broken), "{at}");
        }
        let mut more = event;
        more["keywheel"] = json!(1);
        assert!(!schema.is_valid(&more), "an attribute that is not OCSF's");
    }

    #[test]
    fn a_record_is_told_by_who_what_and_when() {
        let event = told(&record());
        assert_eq!(event["class_uid"], 6003);
        assert_eq!(event["type_uid"], 600_303);
        assert_eq!(event["time"], 1_795_946_400_000_i64);
        assert_eq!(event["actor"]["user"]["name"], "ada");
        assert_eq!(event["resources"][0]["name"], "prod/db");
        assert_eq!(event["resources"][0]["type"], "secret");
        assert_eq!(event["metadata"]["sequence"], 9);
        let usage = Record {
            category: Category::Usage,
            verb: "inject".to_owned(),
            container: Some(container()),
            principal: Principal::Service(Role::Injector),
            ..record()
        };
        let event = told(&usage);
        assert_eq!(event["type_uid"], 600_208);
        assert_eq!(event["app"]["name"], "web");
        assert_eq!(event["device"]["hostname"], "one");
        assert_eq!(event["device"]["container"]["uid"], "c".repeat(64));
        assert_eq!(event["unmapped"]["object"], "secret/prod/db");
    }

    #[test]
    fn people_of_one_name_who_came_in_by_other_ways_are_told_apart() {
        let name = || "ada".to_owned();
        let all = [
            (Principal::Operator { name: name() }, "certificate:ada"),
            (Principal::Login { name: name() }, "oidc:ada"),
            (
                Principal::User {
                    uid: 7,
                    name: name(),
                },
                "7",
            ),
        ];
        for (principal, uid) in all {
            let event = told(&Record {
                principal,
                ..record()
            });
            assert_eq!(event["actor"]["user"], json!({ "name": "ada", "uid": uid }));
        }
    }

    #[test]
    fn what_an_order_of_ours_did_is_told_by_what_it_was_done_to() {
        let of = |verb: &str, object: &str, container: Option<ContainerRef>| {
            told(&Record {
                category: Category::System,
                principal: Principal::Service(Role::Injector),
                verb: verb.to_owned(),
                object: object.to_owned(),
                container,
                ..record()
            })
        };
        let restarted = of("restart-by-order", "playbook/leak", Some(container()));
        assert_eq!(restarted["type_uid"], 600_205);
        assert_eq!(restarted["device"]["container"]["name"], "web");
        let cut_off = of("quarantine", "playbook/leak", Some(container()));
        assert_eq!(cut_off["type_uid"], 700_101);
        assert_eq!(cut_off["device"]["container"]["name"], "web");
        assert_eq!(cut_off["command_uid"], cut_off["unmapped"]["command"]);
        let evicted = of("evict", "host/web-1", None);
        assert_eq!(evicted["type_uid"], 700_102);
        assert_eq!(evicted["device"]["hostname"], "web-1");
        let withheld = of("withhold", "binding/web", None);
        assert_eq!(withheld["type_uid"], 300_409);
        let given_back = of("give-back", "binding/web", None);
        assert_eq!(given_back["type_uid"], 300_408);
        let by_a_person = told(&Record {
            verb: "evict".to_owned(),
            object: "host/web-1".to_owned(),
            ..record()
        });
        assert_eq!(by_a_person["type_uid"], 600_304);
    }
}
