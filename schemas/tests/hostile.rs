//! Whatever arrives as an event, a bus message, a manifest or a configuration: reading comes back, and
//! what is right reads afterwards.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

use keywheel_schemas::config::{Config, ConfigFlags};
use keywheel_schemas::{catalogue, event, examples, manifest, wire};
use keywheel_testkit::hostile;

#[test]
fn no_event_makes_its_reader_panic() {
    for golden in catalogue::goldens().unwrap() {
        let bytes = golden.text.trim_end().as_bytes();
        hostile(bytes, |bytes| drop(event::decode(bytes)));
        assert!(event::decode(bytes).is_ok());
    }
    assert!(!examples::events().unwrap().is_empty());
}

#[test]
fn no_bus_message_makes_its_reader_panic() {
    let plan = b"{\"bindings\":[],\"generation\":3,\"host\":\"01010101-0101-0101-0101-010101010101\",\"host_name\":\"a\",\"v\":1}";
    assert!(wire::plan_from_json(plan).is_ok());
    hostile(plan, |bytes| {
        drop(wire::plan_from_json(bytes));
        drop(wire::report_from_json(bytes));
        drop(wire::effect_from_json(bytes));
        drop(wire::stored_effect_from_json(bytes));
        drop(wire::command_from_json(bytes));
        drop(wire::audit_record_from_json(bytes));
    });
    let command = b"{\"kind\":\"step_outcome\",\"rotation\":\"01010101-0101-0101-0101-010101010101\",\"step\":\"create\",\"attempt\":1,\"v\":1}";
    assert!(wire::command_from_json(command).is_ok());
    hostile(command, |bytes| drop(wire::command_from_json(bytes)));
    let huge = vec![b' '; wire::MAX_MESSAGE_BYTES + 1];
    assert!(matches!(
        wire::plan_from_json(&huge),
        Err(wire::DecodeError::TooLarge { .. })
    ));
}

#[test]
fn no_manifest_makes_its_reader_panic() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/manifest.v1.yaml");
    let good = std::fs::read(path).unwrap();
    hostile(&good, |bytes| {
        let text = String::from_utf8_lossy(bytes);
        drop(manifest::parse(&text, "hostile", &|_, _| Ok(())));
    });
    let text = String::from_utf8(good).unwrap();
    assert!(manifest::parse(&text, "good", &|_, _| Ok(())).is_ok());
}

#[test]
fn no_configuration_makes_its_reader_panic() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/config.v1.toml");
    let good = std::fs::read(path).unwrap();
    let load = |text: &str| {
        let flags = ConfigFlags {
            machine_name: Some("web-1".to_owned()),
            ..ConfigFlags::default()
        };
        Config::load(Some(("c.toml", text)), &|_| None, flags)
    };
    hostile(&good, |bytes| drop(load(&String::from_utf8_lossy(bytes))));
    assert!(load(&String::from_utf8(good).unwrap()).is_ok());
}
