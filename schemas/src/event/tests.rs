//! Tests of events as bytes: there and back, refusals, the CloudEvents SDK's opinion.

mod random;

use cloudevents::{AttributesReader as _, Data};
use jsonschema::Validator;
use keywheel_core::event::Event;
use keywheel_core::id::{CommandId, EventId, SecretId};
use keywheel_core::time::Timestamp;
use keywheel_core::{binding, secret};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::{
    DecodeError, EventMeta, KINDS, MAX_EVENT_BYTES, all_types, decode, decode_proven, encode,
    schema_address, type_name,
};
use crate::catalogue;
use crate::examples::{events, meta};

fn promoted() -> (EventMeta, Event) {
    (
        meta(7),
        Event::Secret(
            SecretId::from_bytes([1; 16]),
            secret::Event::VersionPromoted { version: 2 },
        ),
    )
}

/// The bytes of an event after its JSON was changed and written canonically again.
fn changed(change: impl Fn(&mut Value)) -> Vec<u8> {
    let (meta, event) = promoted();
    let mut value: Value = serde_json::from_slice(&encode(&meta, &event)).unwrap();
    change(&mut value);
    crate::canonical::bytes(&value)
}

fn refusal(bytes: &[u8]) -> String {
    decode(bytes).expect_err("it has to be refused").to_string()
}

#[test]
fn every_type_has_an_example_and_comes_back_as_it_was() {
    let examples = events().unwrap();
    let types: Vec<_> = examples.iter().map(type_name).collect();
    assert_eq!(types, all_types());
    for (number, event) in (1..).zip(examples) {
        let bytes = encode(&meta(number), &event);
        let proven = decode_proven(&bytes).unwrap();
        assert_eq!(
            (proven.id, proven.time),
            (meta(number).id, meta(number).time)
        );
        assert_eq!(proven.traceparent, meta(number).traceparent);
        assert_eq!(proven.event, event);
        assert_eq!(decode(&bytes).unwrap(), (meta(number), event));
    }
}

#[test]
fn bytes_are_canonical_and_exactly_these() {
    let (meta, event) = promoted();
    let text = String::from_utf8(encode(&meta, &event)).unwrap();
    let wanted = concat!(
        r#"{"aggregatesequence":"1","causationid":"119a5c10-3e77-7d21-8b44-010203040506","data":{"version":2},"#,
        r#""datacontenttype":"application/json","#,
        r#""dataschema":"https://keywheel.dev/schemas/dev.keywheel.secret.version_promoted.v1.json","#,
        r#""id":"109a5c10-3e77-7d21-8b44-010203040506","#,
        r#""previoushash":"abababababababababababababababababababababababababababababababab","#,
        r#""sequence":"7","source":"keywheel/07a1b2c3-0000-7000-8000-000000000001/gateway","specversion":"1.0","#,
        r#""subject":"secret/01010101-0101-0101-0101-010101010101","time":"2026-01-04T02:00:00.000007Z","#,
        r#""traceparent":"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01","#,
        r#""type":"dev.keywheel.secret.version_promoted.v1"}"#,
    );
    assert_eq!(text, wanted);
}

#[test]
fn an_event_without_trace_context_has_no_such_attribute() {
    let (mut meta, event) = promoted();
    meta.traceparent = None;
    let bytes = encode(&meta, &event);
    assert!(!String::from_utf8_lossy(&bytes).contains("traceparent"));
    assert_eq!(decode(&bytes).unwrap().0, meta);
}

#[test]
fn the_cloudevents_sdk_reads_every_event_with_all_attributes() {
    for (number, event) in (1..).zip(events().unwrap()) {
        let meta = meta(number);
        let read: cloudevents::Event = serde_json::from_slice(&encode(&meta, &event)).unwrap();
        assert_eq!(read.id(), meta.id.to_string());
        assert_eq!(read.source().as_str(), meta.source);
        assert_eq!(read.ty(), type_name(&event));
        assert_eq!(read.subject(), Some(super::subject(&event).as_str()));
        assert_eq!(read.time().map(chrono_micros), Some(meta.time.micros()));
        assert_eq!(read.datacontenttype(), Some("application/json"));
        assert_eq!(
            read.dataschema().map(ToString::to_string),
            Some(schema_address(type_name(&event)))
        );
        assert!(matches!(read.data(), Some(Data::Json(Value::Object(_)))));
        let extension = |name: &str| read.extension(name).map(ToString::to_string);
        assert_eq!(extension("sequence"), Some(number.to_string()));
        assert_eq!(extension("aggregatesequence"), Some("1".to_owned()));
        assert_eq!(extension("causationid"), Some(meta.causation.to_string()));
        assert_eq!(extension("previoushash"), Some("ab".repeat(32)));
        assert_eq!(extension("traceparent"), meta.traceparent);
        let names: Vec<_> = read
            .iter_extensions()
            .map(|(name, _)| name.to_owned())
            .collect();
        assert_eq!(names.len(), 5, "{names:?}");
        for name in names {
            let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
            assert!(name.len() <= 20 && name.bytes().all(allowed), "{name}");
        }
    }
}

fn chrono_micros<T: ToString>(time: &T) -> i64 {
    // The SDK's own time type, through its text, so that no second calendar is a dependency here.
    let text = time.to_string().replace(" UTC", "Z").replacen(' ', "T", 1);
    text.parse::<jiff::Timestamp>().unwrap().as_microsecond()
}

#[test]
fn a_proven_event_of_a_newer_build_is_told_by_its_type() {
    let newer = changed(|value| value["type"] = json!("dev.keywheel.secret.lent.v1"));
    let told = decode_proven(&newer).unwrap_err();
    assert!(matches!(told, DecodeError::UnknownType(name) if name.contains("lent")));
    let other = changed(|value| value["data"] = json!({"version": 2, "lent": true}));
    let told = decode_proven(&other).unwrap_err();
    assert!(matches!(told, DecodeError::Shape { .. }));
}

#[test]
fn an_unknown_type_is_told_from_a_broken_event() {
    let bytes = changed(|value| value["type"] = json!("dev.keywheel.secret.version_promoted.v2"));
    assert!(matches!(decode(&bytes), Err(DecodeError::UnknownType(name)) if name.ends_with(".v2")));
    let bytes = changed(|value| value["type"] = json!(5));
    assert!(matches!(decode(&bytes), Err(DecodeError::UnknownType(_))));
}

#[test]
fn more_bytes_than_allowed_are_not_even_read() {
    let bytes = vec![b' '; MAX_EVENT_BYTES + 1];
    assert!(matches!(
        decode(&bytes),
        Err(DecodeError::TooLarge {
            limit: MAX_EVENT_BYTES,
            ..
        })
    ));
    assert!(matches!(
        decode(&bytes[1..]),
        Err(DecodeError::Shape { .. })
    ));
}

#[test]
fn a_second_spelling_of_the_same_event_is_refused() {
    let (meta, event) = promoted();
    let text = String::from_utf8(encode(&meta, &event)).unwrap();
    for other in [
        format!(" {text}"),
        format!("{text}\n"),
        text.replace(r#""version":2"#, r#""version": 2"#),
        text.replace(r#""version":2"#, r#""version":1,"version":2"#),
        text.replace(r#""version":2"#, r#""\u0076ersion":2"#),
        text.replace("000007Z", "0000070Z"),
        text.replace("02:00:00.000007Z", "03:00:00.000007+01:00"),
        text.replace("109a5c10-3e77", "109A5C10-3e77"),
        text.replace(r#"{"aggregatesequence":"1","#, "{").replace(
            r#""specversion""#,
            r#""aggregatesequence":"1","specversion""#,
        ),
    ] {
        assert_ne!(other, text);
        assert!(
            matches!(decode(other.as_bytes()), Err(DecodeError::NotCanonical)),
            "{other}"
        );
    }
    let null = changed(|value| value["traceparent"] = Value::Null);
    assert!(matches!(decode(&null), Err(DecodeError::NotCanonical)));
}

#[test]
fn wrong_attributes_are_named() {
    for (name, value) in [
        ("specversion", json!("0.3")),
        ("datacontenttype", json!("text/plain")),
        (
            "dataschema",
            json!("https://keywheel.dev/schemas/other.json"),
        ),
        ("source", json!("")),
        ("sequence", json!("07")),
        ("sequence", json!("-1")),
        ("aggregatesequence", json!("18446744073709551616")),
        ("previoushash", json!("ab")),
        ("previoushash", json!("AB".repeat(32))),
        (
            "subject",
            json!("binding/01010101-0101-0101-0101-010101010101"),
        ),
        ("subject", json!("secret/no-uuid")),
        ("subject", json!("secret")),
        ("subject", json!("secret/01010101010101010101010101010101")),
    ] {
        let text = refusal(&changed(|event| event[name] = value.clone()));
        assert!(
            text.starts_with(&format!("attribute `{name}`")),
            "{name}: {text}"
        );
    }
}

#[test]
fn missing_unknown_and_mistyped_members_are_refused() {
    let refused = [
        changed(|value| drop(value.as_object_mut().unwrap().remove("id"))),
        changed(|value| value["id"] = json!("no-uuid")),
        changed(|value| value["extra"] = json!("x")),
        changed(|value| value["data"] = json!({})),
        changed(|value| value["data"] = json!([])),
        changed(|value| value["data"]["value"] = json!("x")),
        changed(|value| value["data"]["version"] = json!(-1)),
        changed(|value| value["data"]["version"] = json!("2")),
        changed(|value| value["time"] = json!("yesterday")),
        b"[]".to_vec(),
        b"null".to_vec(),
        b"".to_vec(),
        vec![0xff, 0xfe],
        "[".repeat(100_000).into_bytes(),
    ];
    for bytes in refused {
        assert!(
            decode(&bytes).is_err(),
            "{}",
            String::from_utf8_lossy(&bytes[..bytes.len().min(200)])
        );
    }
}

#[test]
fn an_assignment_stands_under_the_subject_of_its_consumer_and_no_other() {
    let all = events().unwrap();
    let (key, event) = all
        .iter()
        .find_map(|event| match event {
            Event::Assignment(key, _) => Some((key.clone(), event.clone())),
            _ => None,
        })
        .unwrap();
    let mut value: Value = serde_json::from_slice(&encode(&meta(1), &event)).unwrap();
    let mut other = key.clone();
    other.host = keywheel_core::id::HostId::from_bytes([9; 16]);
    assert_ne!(
        super::assignment::derive_subject(&key),
        super::assignment::derive_subject(&other)
    );
    value["subject"] = json!(format!(
        "assignment/{}",
        super::assignment::derive_subject(&other)
    ));
    assert!(refusal(&crate::canonical::bytes(&value)).contains("subject"));
    value.as_object_mut().unwrap()["data"]
        .as_object_mut()
        .unwrap()
        .remove("consumer");
    assert!(matches!(
        decode(&crate::canonical::bytes(&value)),
        Err(DecodeError::Shape {
            what: "consumer",
            ..
        })
    ));
}

fn validator(name: &str) -> Validator {
    jsonschema::options()
        .should_validate_formats(true)
        .build(&catalogue::published(name))
        .unwrap()
}

#[test]
fn what_is_about_a_further_secret_says_so_and_all_else_is_as_it_was() {
    let other = SecretId::from_bytes([0x2a; 16]);
    let seen = events().unwrap().into_iter().map(|event| match event {
        Event::Assignment(mut key, event) => {
            let own = super::assignment::derive_subject(&key);
            key.also = Some(other);
            assert_ne!(super::assignment::derive_subject(&key), own);
            let bytes = encode(&meta(1), &Event::Assignment(key.clone(), event.clone()));
            let value: Value = serde_json::from_slice(&bytes).unwrap();
            assert_eq!(value["data"]["consumer"]["also"], json!(other.to_string()));
            let back = Event::Assignment(key, event);
            assert_eq!(decode(&bytes).unwrap().1, back);
            1
        }
        Event::Binding(id, binding::Event::Bound { name, mut spec }) => {
            let is_said = |spec: &binding::Spec| {
                let (name, spec) = (name.clone(), spec.clone());
                let event = Event::Binding(id, binding::Event::Bound { name, spec });
                let bytes = encode(&meta(1), &event);
                assert_eq!(decode(&bytes).unwrap().1, event);
                let value: Value = serde_json::from_slice(&bytes).unwrap();
                ["also", "previous"].map(|name| value["data"]["spec"].get(name).is_some())
            };
            spec.previous.clear();
            assert_eq!(is_said(&spec), [false, false]);
            spec.also.insert(other);
            assert_eq!(is_said(&spec), [true, false]);
            spec.previous.insert(other);
            assert_eq!(is_said(&spec), [true, true]);
            1
        }
        _ => 0,
    });
    assert!(seen.sum::<usize>() > 1);
}

#[test]
fn every_golden_file_is_valid_under_its_schema_and_a_broken_one_is_not() {
    for golden in catalogue::goldens().unwrap() {
        let kept =
            std::fs::read_to_string(format!("{}/{}", env!("CARGO_MANIFEST_DIR"), golden.path))
                .unwrap();
        let value: Value = serde_json::from_str(&kept).unwrap();
        let name = value["type"].as_str().unwrap();
        let validator = validator(name);
        let faults: Vec<_> = validator
            .iter_errors(&value)
            .map(|error| error.to_string())
            .collect();
        assert!(faults.is_empty(), "{name}: {faults:?}");
        for broken in [
            ("id", json!("no-uuid")),
            ("type", json!("dev.keywheel.other.v1")),
            ("value", json!("x")),
        ] {
            let mut value = value.clone();
            value[broken.0] = broken.1;
            assert!(!validator.is_valid(&value), "{name}: {}", broken.0);
        }
        let mut value = value.clone();
        value["data"]["plaintext"] = json!("x");
        assert!(
            !validator.is_valid(&value),
            "{name}: an unknown member of data"
        );
    }
}

#[test]
fn what_is_checked_in_is_what_this_build_writes() {
    let faults = crate::stale::check(std::path::Path::new(env!("CARGO_MANIFEST_DIR"))).unwrap();
    assert!(
        faults.is_empty(),
        "run `cargo run -p keywheel-schemas --bin generate`: {faults:#?}"
    );
}

#[test]
fn a_stale_missing_or_broken_file_is_found() {
    let root = std::env::temp_dir().join(format!("keywheel-schemas-{}", std::process::id()));
    for directory in [catalogue::GENERATED, catalogue::GOLDEN] {
        std::fs::create_dir_all(root.join(directory)).unwrap();
    }
    for document in catalogue::schemas()
        .into_iter()
        .chain(catalogue::goldens().unwrap())
    {
        std::fs::write(root.join(&document.path), &document.text).unwrap();
    }
    assert_eq!(crate::stale::check(&root).unwrap(), Vec::<String>::new());
    let golden = |name: &str| {
        root.join(catalogue::GOLDEN)
            .join(format!("dev.keywheel.{name}.json"))
    };
    std::fs::write(golden("secret.registered.v1"), "{}").unwrap();
    std::fs::copy(golden("host.enrolled.v1"), golden("host.key_replaced.v1")).unwrap();
    std::fs::remove_file(golden("binding.unbound.v1")).unwrap();
    std::fs::write(root.join("generated/config.v1.json"), "{}").unwrap();
    std::fs::write(root.join("generated/left-over.json"), "{}").unwrap();
    std::fs::remove_file(root.join("generated/manifest.v1.json")).unwrap();
    let faults = crate::stale::check(&root).unwrap().join("\n");
    std::fs::remove_dir_all(&root).unwrap();
    for part in [
        "secret.registered.v1.json no longer decodes",
        "host.key_replaced.v1.json holds a `dev.keywheel.host.enrolled.v1`",
        "golden/dev.keywheel.binding.unbound.v1.json is missing",
        "config.v1.json is stale",
        "left-over.json belongs to no shape",
        "manifest.v1.json is missing",
    ] {
        assert!(faults.contains(part), "{part} in\n{faults}");
    }
}

#[test]
fn type_names_say_aggregate_event_and_version() {
    for kind in KINDS {
        assert_eq!(
            kind.name,
            format!("dev.keywheel.{}.{}.v1", kind.aggregate, kind.variant)
        );
    }
}

prop_compose! {
    fn any_meta()(
        id in any::<[u8; 16]>(), number in any::<u64>(), aggregate_sequence in any::<u64>(),
        micros in -62_135_596_800_000_000_i64..253_402_207_199_999_999, source in ".{1,60}",
        traceparent in proptest::option::of(".{0,60}"), causation in any::<[u8; 16]>(), previous_hash in any::<[u8; 32]>(),
    ) -> EventMeta {
        EventMeta {
            id: EventId::from_bytes(id), number, aggregate_sequence, time: Timestamp::from_micros(micros), source,
            traceparent, causation: CommandId::from_bytes(causation), previous_hash,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn whatever_is_encoded_comes_back(meta in any_meta(), event in random::any_event()) {
        let bytes = encode(&meta, &event);
        prop_assert_eq!(&decode_proven(&bytes).unwrap().event, &event);
        let (back, event_back) = decode(&bytes).unwrap();
        prop_assert_eq!(back, meta);
        prop_assert_eq!(event_back, event);
    }

    #[test]
    fn random_bytes_are_refused_without_a_panic(bytes in any::<Vec<u8>>()) {
        prop_assert!(decode(&bytes).is_err());
        prop_assert!(decode_proven(&bytes).is_err());
    }

    #[test]
    fn a_changed_byte_gives_a_refusal_or_another_event(
        event in random::any_event(), place in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in any::<bool>(),
    ) {
        let original = encode(&meta(1), &event);
        let mut bytes = original.clone();
        let place = place.index(bytes.len());
        if cut { bytes.truncate(place) } else { bytes[place] = byte }
        match decode(&bytes) {
            Ok((meta, event)) => prop_assert_eq!(encode(&meta, &event), bytes),
            Err(_) => prop_assert_ne!(bytes, original),
        }
    }
}
