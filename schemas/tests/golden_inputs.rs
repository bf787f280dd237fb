//! The golden manifest and configuration: accepted by the parser and by the published JSON Schema.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use std::path::Path;

use keywheel_schemas::config::{Config, ConfigFlags};
use keywheel_schemas::manifest;
use serde_json::Value;

fn read(name: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

fn check(schema: &str, instance: &Value) {
    let schema: Value = serde_json::from_str(&read(schema)).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let faults: Vec<String> = validator
        .iter_errors(instance)
        .map(|fault| fault.to_string())
        .collect();
    assert!(faults.is_empty(), "{instance}: {faults:?}");
}

#[test]
fn the_golden_manifest_is_parsed_whole_and_fits_its_schema() {
    let text = read("golden/manifest.v1.yaml");
    let parsed = manifest::parse(&text, "golden", &|_, _| Ok(())).unwrap();
    assert_eq!(parsed.len(), 8);
    for document in text.split("\n---\n") {
        let value: Value = serde_saphyr::from_str(document).unwrap();
        check("generated/manifest.v1.json", &value);
    }
}

#[test]
fn the_playbooks_that_are_shipped_are_parsed_and_fit_the_schema() {
    for name in [
        "leaked-credential",
        "compromised-host",
        "quarterly-drill",
        "break-glass-review",
    ] {
        let text = read(&format!("../deploy/playbooks/{name}.yaml"));
        let parsed = manifest::parse(&text, name, &|_, _| Ok(())).unwrap();
        assert_eq!((parsed[0].kind(), parsed[0].name()), ("Playbook", name));
        let value: Value = serde_saphyr::from_str(&text).unwrap();
        check("generated/manifest.v1.json", &value);
    }
}

#[test]
fn a_field_nobody_knows_fits_neither_parser_nor_schema() {
    let text = read("golden/manifest.v1.yaml").replace("uid: 1000", "owner: 1000");
    assert!(manifest::parse(&text, "golden", &|_, _| Ok(())).is_err());
    let schema: Value = serde_json::from_str(&read("generated/manifest.v1.json")).unwrap();
    let validator = jsonschema::validator_for(&schema).unwrap();
    let binding = text.split("\n---\n").nth(2).unwrap();
    let value: Value = serde_saphyr::from_str(binding).unwrap();
    assert!(!validator.is_valid(&value));
}

#[test]
fn the_golden_configuration_is_read_whole_and_fits_its_schema() {
    let text = read("golden/config.v1.toml");
    let config = Config::load(Some(("golden", &text)), &|_| None, ConfigFlags::default()).unwrap();
    assert_eq!(config.host_name, "web-1");
    assert_eq!(config.injector.reconcile_interval.as_secs(), 30);
    let value: Value = toml::from_str(&text).unwrap();
    check("generated/config.v1.json", &value);
}
