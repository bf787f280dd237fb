//! Tests that the wire has no place for a value (C4): every property name of every schema.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::catalogue;

/// Words a value could hide behind, as a whole name or as a part of one.
const VALUE_LIKE: [&str; 9] = [
    "value",
    "plaintext",
    "password",
    "cleartext",
    "content",
    "payload",
    "credential",
    "passphrase",
    "private",
];

/// The only property that carries a value, sealed, and the only schema it may stand in.
const SEALED_INPUT: (&str, &str) = ("sealed", "api.put_request.v1");

fn names(schema: &Value, into: &mut BTreeSet<String>) {
    match schema {
        Value::Object(object) => {
            if let Some(Value::Object(properties)) = object.get("properties") {
                into.extend(properties.keys().cloned());
            }
            object.values().for_each(|inner| names(inner, into));
        }
        Value::Array(items) => items.iter().for_each(|inner| names(inner, into)),
        _ => {}
    }
}

fn is_value_like(name: &str) -> bool {
    // A CloudEvent's own attribute names the content type of `data`; it is always JSON. A file's path
    // is no value, nor is a directory or how long credentials live, and neither is the name of what systemd keeps, nor
    // that of the server for which a credential is.
    let known = [
        "datacontenttype",
        "Content-Type",
        "password_file",
        "credentials",
        "host_cache_credential",
        "credential_for",
        "credentialFor",
        "credentials_dir",
        "credentials_file",
        "credentialsFile",
    ];
    !known.contains(&name)
        && VALUE_LIKE
            .iter()
            .any(|word| name.to_lowercase().contains(word))
}

#[test]
fn no_schema_has_a_place_for_a_value() {
    let schemas = catalogue::schemas();
    assert!(schemas.len() > 50, "only {} schemas", schemas.len());
    for document in schemas {
        let mut found = BTreeSet::new();
        names(&serde_json::from_str(&document.text).unwrap(), &mut found);
        assert!(!found.is_empty(), "{} has no properties", document.path);
        let receiver = catalogue::WEBHOOK_SCHEMAS;
        if receiver.iter().any(|name| document.path.contains(name)) {
            // The receiver is the resource whose password it is: only there a value stands in the clear.
            assert!(found.contains("value"), "{}", document.path);
            continue;
        }
        for name in &found {
            assert!(
                !is_value_like(name),
                "{}: `{name}` looks like a place for a value",
                document.path
            );
        }
        // The bus carries values too, sealed to one key each; the API's description has all its shapes.
        let sealed = [
            SEALED_INPUT.1,
            "api.seal_view.v1",
            "api.status.v1",
            "asyncapi.v1",
            "openapi.v1",
        ];
        let may_be_sealed = sealed.iter().any(|path| document.path.contains(path));
        assert!(
            may_be_sealed || !found.contains(SEALED_INPUT.0),
            "{}: `sealed`",
            document.path
        );
    }
}

#[test]
fn the_check_finds_a_value_wherever_it_hides() {
    let schema = serde_json::json!({"oneOf": [{"$defs": {"A": {"properties": {"newValue": {}, "version": {}}}}}]});
    let mut found = BTreeSet::new();
    names(&schema, &mut found);
    let hidden: Vec<_> = found.iter().filter(|name| is_value_like(name)).collect();
    assert_eq!(hidden, ["newValue"]);
}

#[test]
fn the_sealed_input_of_put_is_text_and_status_only_says_whether() {
    let schemas = catalogue::api_schemas();
    let schema = |name: &str| {
        schemas
            .iter()
            .find(|(known, _)| known == name)
            .unwrap()
            .1
            .clone()
    };
    let sealed = schema("api.put_request.v1")["properties"]["sealed"]["type"].clone();
    assert_eq!(sealed, serde_json::json!(["string", "null"]));
    assert_eq!(
        schema("api.status.v1")["properties"]["sealed"]["type"],
        serde_json::json!("boolean")
    );
    assert_eq!(
        schema("api.seal_view.v1")["properties"]["sealed"]["type"],
        serde_json::json!("boolean")
    );
}

#[test]
fn limits_leave_room_for_what_they_bound() {
    // A sealed value of 1 MiB as base64, and the largest manifest as JSON text, with their frames.
    const {
        assert!(
            super::MAX_BODY_BYTES
                > crate::wire::sealed::MAX_CIPHERTEXT_BYTES.div_ceil(3) * 4 + 4096
        )
    };
    const { assert!(super::MAX_BODY_BYTES >= 2 * crate::manifest::MAX_MANIFEST_BYTES) };
    const { assert!(super::MAX_PAGE > 0) };
}

#[test]
fn a_request_with_an_unknown_member_is_refused() {
    let apply = |text: &str| serde_json::from_str::<super::ApplyRequest>(text).is_ok();
    assert!(apply(r#"{"manifests":"x","source":"-"}"#));
    assert!(!apply(r#"{"manifests":"x","source":"-","dryrun":true}"#));
    assert!(
        serde_json::from_str::<super::PutRequest>(r#"{"name":"x","token":"y","value":"z"}"#)
            .is_err()
    );
    assert!(serde_json::from_str::<super::RotateRequest>(r#"{"secret":"x","version":1}"#).is_err());
    assert!(
        serde_json::from_str::<super::RevokeRequest>(
            r#"{"secret":"x","reason":"y","versions":[1]}"#
        )
        .is_err()
    );
}
