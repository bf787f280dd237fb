//! The document refers to nothing that is not in it, and says of each route what the table says.

use std::collections::BTreeSet;

use super::*;

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(members) => {
            if let Some(Value::String(to)) = members.get("$ref") {
                found.insert(to.clone());
            }
            members
                .values()
                .for_each(|member| references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}

#[test]
fn everything_referred_to_is_there() {
    let document = value();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 30, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn operations_have_names_of_their_own() {
    let names: BTreeSet<_> = ROUTES.iter().map(|route| route.operation).collect();
    assert_eq!(names.len(), ROUTES.len());
}

#[test]
fn every_route_is_described_with_its_parameters() {
    let document = value();
    for route in ROUTES {
        let operation = &document["paths"][route.path][route.method];
        assert_eq!(operation["operationId"], route.operation);
        let names: Vec<_> = operation["parameters"]
            .as_array()
            .unwrap()
            .iter()
            .filter_map(|parameter| parameter["name"].as_str())
            .collect();
        for parameter in route.query {
            assert!(names.contains(&parameter.name), "{}", route.path);
        }
        let in_path = route.path.matches('{').count();
        assert_eq!(names.len(), route.query.len() + in_path, "{}", route.path);
        assert_eq!(operation.get("requestBody").is_some(), route.body.is_some());
        for status in ["200", "400", "403", "429", "500", "503"] {
            assert!(operation["responses"].get(status).is_some(), "{status}");
        }
    }
}

#[test]
fn shapes_of_the_table_are_in_the_document() {
    let document = value();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for route in ROUTES {
        let answered = match route.answer {
            Answer::One(shape) | Answer::Many(shape) => Some(shape),
            Answer::Stream(_) | Answer::Document => None,
        };
        for shape in route.body.into_iter().chain(answered) {
            assert!(schemas.contains_key(shape), "{shape}");
        }
    }
}

#[test]
fn no_answer_can_hold_a_value() {
    let document = value();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for (name, schema) in schemas {
        let members = schema["properties"].as_object();
        let holds = members.is_some_and(|members| members.contains_key("value"));
        assert!(!holds, "{name}");
    }
}
