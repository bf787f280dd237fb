//! No answer and no event has a place for a value: every field of them that could hold a text is known by name.
//!
//! `text_fields.txt` lists them, one a line. Whoever adds a field there has read what it holds: names, ids, times,
//! words, public keys, hashes of what is no value, and the tokens that a person asks for (a host's, a program's, their
//! own login and what renews it).

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::collections::BTreeSet;

use keywheel_schemas::{catalogue, openapi};
use serde_json::Value;

const KNOWN: &str = include_str!("text_fields.txt");
/// What a field is never called, known or not.
const NEVER: [&str; 12] = [
    "value",
    "values",
    "old_value",
    "new_value",
    "plaintext",
    "password",
    "passphrase",
    "private_key",
    "sealed",
    "share",
    "shares",
    "dek",
];

/// Where to look further in a schema, besides its properties.
const LISTS: [&str; 3] = ["anyOf", "oneOf", "allOf"];
const PARTS: [&str; 2] = ["items", "additionalProperties"];

fn resolve<'v>(root: &'v Value, reference: &str) -> &'v Value {
    let pointer = reference.strip_prefix('#').unwrap();
    root.pointer(pointer)
        .unwrap_or_else(|| panic!("{reference} leads nowhere"))
}

fn lists(schema: &Value) -> impl Iterator<Item = &Value> {
    let all = LISTS.into_iter();
    let all = all.filter_map(move |name| schema.get(name)?.as_array());
    all.flatten()
}

/// Whether what a schema describes may be, or be made of, a text that it does not name.
fn is_text(root: &Value, schema: &Value, seen: &mut Vec<String>) -> bool {
    if schema == &Value::Bool(true) {
        return true;
    }
    let Some(members) = schema.as_object() else {
        return false;
    };
    if let Some(reference) = members.get("$ref").and_then(Value::as_str) {
        if seen.iter().any(|one| one == reference) {
            return false;
        }
        seen.push(reference.to_owned());
        let found = is_text(root, resolve(root, reference), seen);
        seen.pop();
        return found;
    }
    if members.contains_key("enum") || members.contains_key("const") {
        return false;
    }
    if lists(schema).any(|one| is_text(root, one, seen)) {
        return true;
    }
    let kinds: Vec<&str> = match members.get("type") {
        Some(Value::String(kind)) => vec![kind],
        Some(Value::Array(kinds)) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    let is_open = lists(schema).next().is_none() && !members.contains_key("properties");
    if kinds.is_empty() {
        return is_open;
    }
    let anything = Value::Bool(true);
    let part = |name: &str| members.get(name).unwrap_or(&anything);
    kinds.contains(&"string")
        || (kinds.contains(&"array") && is_text(root, part("items"), seen))
        || (kinds.contains(&"object")
            && is_open
            && is_text(root, part("additionalProperties"), seen))
}

/// Names of the fields that may hold a text, in everything that a schema leads to.
fn walk(root: &Value, schema: &Value, seen: &mut BTreeSet<String>, found: &mut BTreeSet<String>) {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str)
        && seen.insert(reference.to_owned())
    {
        walk(root, resolve(root, reference), seen, found);
    }
    for (name, member) in schema
        .get("properties")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
    {
        if is_text(root, member, &mut Vec::new()) {
            found.insert(name.clone());
        }
        walk(root, member, seen, found);
    }
    for one in lists(schema) {
        walk(root, one, seen, found);
    }
    for part in PARTS.iter().filter_map(|name| schema.get(*name)) {
        walk(root, part, seen, found);
    }
}

/// Fields of everything that the API answers, on every route and with every status.
fn answered() -> BTreeSet<String> {
    let document = openapi::value();
    let (mut seen, mut found) = (BTreeSet::new(), BTreeSet::new());
    let mut answers = 0;
    for route in openapi::ROUTES {
        let operation = &document["paths"][route.path][route.method];
        for response in operation["responses"].as_object().unwrap().values() {
            let reference = response.get("$ref").and_then(Value::as_str);
            let response = reference.map_or(response, |to| resolve(&document, to));
            let contents = response.get("content").and_then(Value::as_object);
            for content in contents.into_iter().flat_map(serde_json::Map::values) {
                walk(&document, &content["schema"], &mut seen, &mut found);
                answers += 1;
            }
        }
    }
    assert!(answers > openapi::ROUTES.len(), "the document was not read");
    // What streams carry, a line each.
    for shape in ["Envelope", "AuditRecord"] {
        let schema = &document["components"]["schemas"][shape];
        assert!(schema.is_object(), "{shape}");
        walk(&document, schema, &mut seen, &mut found);
    }
    found
}

/// Fields of every event's data.
fn told() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut events = 0;
    for document in catalogue::schemas() {
        if document.path.starts_with("generated/dev.keywheel.") {
            let schema: Value = serde_json::from_str(&document.text).unwrap();
            walk(&schema, &schema, &mut BTreeSet::new(), &mut found);
            events += 1;
        }
    }
    assert!(events > 50, "{events} events were read");
    found
}

#[test]
fn every_field_of_an_answer_or_event_that_may_hold_a_text_is_known() {
    let found: BTreeSet<String> = answered().into_iter().chain(told()).collect();
    let known: BTreeSet<String> = KNOWN.lines().map(str::to_owned).collect();
    let unknown: Vec<&String> = found.difference(&known).collect();
    assert!(
        unknown.is_empty(),
        "read what they hold, then add them to schemas/tests/text_fields.txt: {unknown:?}"
    );
    let gone: Vec<&String> = known.difference(&found).collect();
    assert!(gone.is_empty(), "no field is called so any more: {gone:?}");
    for name in NEVER {
        assert!(
            !found.contains(name),
            "`{name}` is in an answer or an event"
        );
    }
}

#[test]
fn a_value_that_somebody_adds_is_found_wherever_it_hides() {
    let root: Value = serde_json::json!({
        "$defs": { "Deep": { "type": "object", "properties": {
            "count": { "type": "integer" },
            "word": { "type": "string", "enum": ["a"] },
            "hidden": { "type": ["string", "null"] },
        } } },
        "type": "object",
        "properties": {
            "rows": { "type": "array", "items": { "anyOf": [{ "$ref": "#/$defs/Deep" }, { "type": "null" }] } },
            "open": true,
            "map": { "type": "object", "additionalProperties": { "type": "string" } },
            "numbers": { "type": "array", "items": { "type": "integer" } },
        },
    });
    let mut found = BTreeSet::new();
    walk(&root, &root, &mut BTreeSet::new(), &mut found);
    let expected = ["hidden", "map", "open"].map(str::to_owned);
    assert_eq!(found, BTreeSet::from(expected));
}
