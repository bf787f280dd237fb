//! The document against itself, the permissions, and the golden events.

use super::*;

/// What a `$ref` of the document leads to.
fn resolve<'a>(document: &'a Value, reference: &str) -> Option<&'a Value> {
    document.pointer(reference.strip_prefix('#')?)
}

fn each_reference(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                match value {
                    Value::String(text) if key == "$ref" => visit(text),
                    value => each_reference(value, visit),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| each_reference(item, visit)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_body_is_used() {
    let document = value().unwrap();
    let mut used = std::collections::BTreeSet::new();
    each_reference(&document, &mut |reference| {
        assert!(resolve(&document, reference).is_some(), "{reference}");
        used.insert(reference.to_owned());
    });
    for kind in Kind::ALL {
        let message = format!("#/components/messages/{}", kind.word());
        assert!(used.contains(&message), "{kind:?} is said nowhere");
    }
}

#[test]
fn every_role_hears_what_its_permissions_say() {
    let document = value().unwrap();
    let operations = document["operations"].as_object().unwrap();
    let mut takes: Vec<&str> = operations
        .keys()
        .filter(|name| name.contains(".takes."))
        .map(String::as_str)
        .collect();
    // Whether a map has its keys in order is a feature that any crate of the workspace may ask for.
    takes.sort_unstable();
    assert_eq!(
        takes,
        [
            "audit-sink.takes.audit",
            "gateway.takes.ask-gateway",
            "gateway.takes.presence",
            "injector.takes.plan",
            "scheduler.takes.events",
            "store-sync.takes.ask-store-sync",
            "store-sync.takes.hosts",
            "store-sync.takes.work",
        ]
    );
}

#[test]
fn whoever_says_something_may_publish_it_at_the_bus_server() {
    let subjects = Subjects::new(DEPLOYMENT);
    for route in ROUTES {
        for role in route.from {
            let client = client(*role);
            let publish = subjects.permissions(&client).publish;
            let subject = match route.place {
                Place::Events => subjects.events(),
                Place::Audit => subjects.audit(),
                Place::Work => subjects.all_work(),
                Place::Plan => subjects.plans(),
                Place::Hosts => subjects.hosts(),
                Place::Presence => subjects.presence(&client),
                Place::Ask(server) => subjects.request(server, &client),
                Place::Answer(_) => continue,
            };
            assert!(publish.contains(&subject), "{role:?} {route:?}");
        }
    }
}

#[test]
fn subjects_have_parameters_where_uuids_stand() {
    let document = value().unwrap();
    let address = |channel: &str| document["channels"][channel]["address"].clone();
    assert_eq!(address("events"), "keywheel.{deployment}.events");
    assert_eq!(address("plan"), "keywheel.{deployment}.plan.{host}");
    assert_eq!(
        address("presence"),
        "keywheel.{deployment}.presence.{sender}"
    );
    assert_eq!(
        address("ask-gateway"),
        "keywheel.{deployment}.ask.gateway.{sender}"
    );
    assert_eq!(
        address("answer-store-sync"),
        "keywheel.{deployment}.inbox.{sender}.{token}"
    );
    let text = document.to_string();
    assert!(!text.contains(&DEPLOYMENT.to_string()) && !text.contains(&HOST.to_string()));
}

#[test]
fn every_golden_event_fits_the_payload_it_travels_in() {
    let document = value().unwrap();
    let schema = serde_json::json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "$ref": "#/components/schemas/bus.event",
        "components": document["components"].clone(),
    });
    let validator = jsonschema::validator_for(&schema).unwrap();
    let examples = document["components"]["messages"]["event"]["examples"].clone();
    let examples = examples.as_array().unwrap();
    assert_eq!(examples.len(), crate::event::KINDS.len());
    for example in examples {
        let faults: Vec<String> = validator
            .iter_errors(&example["payload"])
            .map(|fault| fault.to_string())
            .collect();
        assert_eq!(faults, Vec::<String>::new(), "{}", example["name"]);
    }
    let mut broken = examples[0]["payload"].clone();
    broken["data"]["event"]["data"] = "x".into();
    assert!(!validator.is_valid(&broken));
}
