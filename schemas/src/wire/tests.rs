//! Tests of bus messages: there and back, refusals, and validity under the generated schemas.

mod commands;
mod plans;
mod resource;

use keywheel_core::audit::{Category, ContainerRef, Outcome, Principal, Record, Role};
use keywheel_core::binding::{Reload, Selector, Target};
use keywheel_core::command::{Command, Declaration, Replacing};
use keywheel_core::effect::{Effect, Key, Part, RevokeWork, StepWork, Work};
use keywheel_core::id::{
    BindingId, CommandId, ContainerId, HostId, RevocationId, RotationId, SecretId,
};
use keywheel_core::name::{BindingName, EnvName, SecretName};
use keywheel_core::report::{
    DeniedStart, Executed, Fact, HostReport, Item, OrderState, OrderTold, RestartState,
    RestartWish, StalePlan, UsageKind, UsageNote,
};
use keywheel_core::rollout::Due;
use keywheel_core::rotation::{Intervention, Step};
use keywheel_core::secret::{Generator, Spec};
use keywheel_core::time::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use commands::workers_commands;
use plans::plan;

use super::{
    DecodeError, MAX_MESSAGE_BYTES, audit_record_from_json, audit_record_to_json,
    command_from_json, command_to_json, effect_from_json, effect_key_from_string,
    effect_key_to_string, effect_to_json, plan_from_json, plan_to_json, report_from_json,
    report_to_json, sealed, stored_effect_from_json, stored_effect_to_json,
};
use crate::catalogue;

const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const HOST: HostId = HostId::from_bytes([2; 16]);
const BINDING: BindingId = BindingId::from_bytes([3; 16]);
const ROTATION: RotationId = RotationId::from_bytes([4; 16]);
const REVOCATION: RevocationId = RevocationId::from_bytes([5; 16]);
const AT: Timestamp = Timestamp::from_micros(1_767_492_000_000_001);

fn container() -> ContainerId {
    ContainerId::parse(&"ab".repeat(32)).unwrap()
}

fn orders_told() -> Vec<OrderTold> {
    let reason = "its health check fails".to_owned();
    [
        OrderState::Done,
        OrderState::Gone,
        OrderState::Failed { reason },
    ]
    .map(|state| OrderTold {
        container: container(),
        number: 7,
        state,
    })
    .to_vec()
}

fn restarts() -> Vec<RestartWish> {
    [
        RestartState::Due,
        RestartState::UnderWay,
        RestartState::Failed {
            reason: "its health check fails".to_owned(),
        },
    ]
    .map(|state| RestartWish {
        container: container(),
        container_name: "payments-1".to_owned(),
        image_digest: "sha256:x".to_owned(),
        service: "payments".to_owned(),
        due: vec![Due {
            binding: BINDING,
            secret: SECRET,
            version: 2,
        }],
        state,
    })
    .to_vec()
}

fn report() -> HostReport {
    let item = |fact| Item {
        container: container(),
        container_name: "payments-1".to_owned(),
        image_digest: "sha256:x".to_owned(),
        binding: BINDING,
        secret: SECRET,
        fact,
        service: "shop/payments".to_owned(),
    };
    HostReport {
        host: HOST,
        generation: 9,
        items: vec![
            item(Fact::Swapped { version: 2, at: AT }),
            item(Fact::Reloaded { version: 2, at: AT }),
            item(Fact::Withdrawn),
            item(Fact::Vanished),
            item(Fact::Wanted),
            item(Fact::Removed),
            item(Fact::Refused {
                version: 2,
                reason: "no room \"left\"\n".to_owned(),
            }),
        ],
        holds: vec![(SECRET, 2), (SECRET, 3)],
        complete: true,
        containers: vec![container()],
        denied: vec![DeniedStart {
            container: container(),
            container_name: "payments-2".to_owned(),
            image_digest: "sha256:x".to_owned(),
            secret: "prod/db".to_owned(),
            reason: "no binding".to_owned(),
        }],
        stale: vec![StalePlan {
            generation: 3,
            held: 9,
            at: AT,
            count: u64::MAX,
        }],
        executed: vec![Executed {
            container: container(),
            container_name: "payments-1".to_owned(),
            image_digest: "sha256:x".to_owned(),
            exec: "5d".repeat(32),
            at: AT,
            count: 2,
        }],
        notes: vec![UsageNote {
            kind: UsageKind::ServedFromCache,
            container: container(),
            container_name: "payments-1".to_owned(),
            image_digest: "sha256:x".to_owned(),
            binding: BINDING,
            secret: SECRET,
            version: 3,
            at: AT,
        }],
        restarts: restarts(),
        staged: vec![(SECRET, 4)],
        knows_staged: true,
        orders: Some(orders_told()),
    }
}

fn effects() -> Vec<Effect> {
    let step = |step, generator, provided| Effect {
        work: Work::Step(StepWork {
            rotation: ROTATION,
            secret: SECRET,
            step,
            attempt: 2,
            versions: vec![4],
            generator,
            provided,
            outside: None,
            resource: None,
            mark: (step == Step::Drain).then_some(i64::MAX),
        }),
    };
    let generator = Generator {
        length: 32,
        alphabet: "ab\"".to_owned(),
        exclude: String::new(),
    };
    vec![
        step(Step::Create, Some(generator), false),
        step(Step::RevokeOld, None, true),
        step(Step::Drain, None, false),
        Effect {
            work: Work::Revoke(RevokeWork {
                revocation: REVOCATION,
                secret: SECRET,
                versions: vec![1, 2],
                attempt: 1,
                outside: None,
                resource: Some(Box::new(resource::at_resource())),
                part: Part::Whole,
                is_emergency: false,
            }),
        },
    ]
}

fn record() -> Record {
    Record {
        time: AT,
        category: Category::Usage,
        principal: Principal::Service(Role::StoreSync),
        verb: "replace".to_owned(),
        object: "secret/prod/db".to_owned(),
        version: Some(2),
        outcome: Outcome::Denied,
        reason: "Z2".to_owned(),
        container: Some(ContainerRef {
            id: container().to_string(),
            name: "payments-1".to_owned(),
            image_digest: "sha256:x".to_owned(),
            host: "web-1".to_owned(),
        }),
        command: CommandId::from_bytes([8; 16]),
        trace: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
    }
}

fn valid(name: &str, bytes: &[u8]) {
    let schema = catalogue::published(&format!("wire.{name}.v1"));
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&schema)
        .unwrap();
    let value: Value = serde_json::from_slice(bytes).unwrap();
    let faults: Vec<_> = validator
        .iter_errors(&value)
        .map(|error| error.to_string())
        .collect();
    assert!(faults.is_empty(), "{name}: {faults:?}");
}

#[test]
fn plans_reports_effects_and_records_come_back_and_are_valid() {
    let bytes = plan_to_json(&plan());
    assert_eq!(plan_from_json(&bytes).unwrap(), plan());
    valid("host_plan", &bytes);
    let bytes = report_to_json(&report());
    assert_eq!(report_from_json(&bytes).unwrap(), report());
    valid("host_report", &bytes);
    for effect in effects() {
        let bytes = effect_to_json(&effect);
        assert_eq!(effect_from_json(&bytes).unwrap(), effect);
        valid("effect", &bytes);
        assert_eq!(
            stored_effect_from_json(&bytes).unwrap(),
            (effect.clone(), None)
        );
        for trace in [None, Some("00-0123-45-01")] {
            let stored = stored_effect_to_json(&effect, trace);
            let read = stored_effect_from_json(&stored).unwrap();
            assert_eq!(read, (effect.clone(), trace.map(str::to_owned)));
        }
    }
    let user = Record {
        principal: Principal::User {
            uid: 0,
            name: "root".to_owned(),
        },
        container: None,
        version: None,
        ..record()
    };
    let principals = [
        Principal::Operator {
            name: "ada@example.org".to_owned(),
        },
        Principal::Stranger {
            address: "2001:db8::1".to_owned(),
        },
        Principal::Token {
            name: "ci".to_owned(),
            owner: "certificate:ada".to_owned(),
        },
        Principal::Login {
            name: "ada".to_owned(),
        },
    ];
    let remote = principals.map(|principal| Record {
        principal,
        ..user.clone()
    });
    for record in [record(), user].into_iter().chain(remote) {
        let bytes = audit_record_to_json(&record);
        assert_eq!(audit_record_from_json(&bytes).unwrap(), record);
        valid("audit_record", &bytes);
    }
}

#[test]
fn a_workers_command_comes_back_and_every_other_is_refused() {
    for command in workers_commands() {
        let bytes = command_to_json(&command).unwrap();
        assert_eq!(command_from_json(&bytes).unwrap(), command);
        valid("command", &bytes);
    }
    let (name, secret) = (
        BindingName::parse("b").unwrap(),
        SecretName::parse("s").unwrap(),
    );
    let target = Target::Env {
        name: EnvName::parse("A").unwrap(),
    };
    let others = [
        Command::Apply(vec![Declaration::Secret {
            id: SECRET,
            rotation: ROTATION,
            name: secret.clone(),
            spec: Spec::default(),
        }]),
        Command::Apply(vec![Declaration::Binding {
            id: BINDING,
            name: name.clone(),
            secret: secret.clone(),
            also: std::collections::BTreeSet::new(),
            previous: std::collections::BTreeSet::new(),
            selector: Selector::default(),
            target,
            reload: Reload::None,
            on_revoke: keywheel_core::binding::OnRevoke::Remove,
        }]),
        Command::Unbind { name },
        Command::Put {
            id: SECRET,
            rotation: ROTATION,
            name: secret.clone(),
            provided: true,
        },
        Command::Rotate {
            rotation: ROTATION,
            secret: secret.clone(),
        },
        Command::Intervene {
            rotation: ROTATION,
            intervention: Intervention::Abort,
            reason: "x".to_owned(),
        },
        Command::Revoke {
            revocation: REVOCATION,
            secret: secret.clone(),
            version: None,
            reason: "x".to_owned(),
            is_emergency: false,
        },
        Command::Replace(Replacing {
            revocation: REVOCATION,
            rotation: ROTATION,
            secret,
            version: None,
            reason: "x".to_owned(),
            is_emergency: false,
        }),
    ];
    for command in others {
        let error = command_to_json(&command).unwrap_err().to_string();
        assert!(error.contains("is not a worker's command"), "{error}");
    }
    assert!(command_from_json(br#"{"kind":"rotate","rotation":"x","secret":"s","v":1}"#).is_err());
}

#[test]
fn an_audit_record_is_exactly_these_bytes() {
    let record = Record {
        container: None,
        version: None,
        ..record()
    };
    let wanted = concat!(
        r#"{"category":"usage","command":"08080808-0808-0808-0808-080808080808","object":"secret/prod/db","#,
        r#""outcome":"denied","principal":{"kind":"service","role":"store_sync"},"reason":"Z2","#,
        r#""time":"2026-01-04T02:00:00.000001Z","trace":"4bf92f3577b34da6a3ce929d0e0e4736","v":1,"verb":"replace"}"#,
    );
    assert_eq!(
        String::from_utf8(audit_record_to_json(&record)).unwrap(),
        wanted
    );
}

#[test]
fn a_message_of_another_schema_number_or_over_the_limit_is_named() {
    let text = String::from_utf8(plan_to_json(&plan())).unwrap();
    let newer = text.replace("\"v\":1}", "\"v\":2}");
    assert_ne!(newer, text);
    assert!(matches!(
        plan_from_json(newer.as_bytes()),
        Err(DecodeError::SchemaNumber { known: 1, .. })
    ));
    let none = text.replace(",\"v\":1}", "}");
    assert!(
        matches!(plan_from_json(none.as_bytes()), Err(DecodeError::SchemaNumber { found, .. }) if found == "none")
    );
    let long = vec![b' '; MAX_MESSAGE_BYTES + 1];
    assert!(matches!(
        report_from_json(&long),
        Err(DecodeError::TooLarge {
            limit: MAX_MESSAGE_BYTES,
            ..
        })
    ));
    assert!(matches!(
        report_from_json(&long[1..]),
        Err(DecodeError::Shape { .. })
    ));
}

#[test]
fn unknown_members_and_names_off_the_grammar_are_refused() {
    let text = String::from_utf8(plan_to_json(&plan())).unwrap();
    for (from, to) in [
        ("\"host_name\":\"web-1\"", "\"host_name\":\"WEB\""),
        ("\"generation\":", "\"value\":\"x\",\"generation\":"),
        ("\"kind\":\"signal\"", "\"kind\":\"signal\",\"value\":\"x\""),
        ("\"mode\":\"0440\"", "\"mode\":\"0x1\""),
    ] {
        let broken = text.replace(from, to);
        assert_ne!(broken, text, "{from}");
        assert!(plan_from_json(broken.as_bytes()).is_err(), "{to}");
    }
}

#[test]
fn effect_keys_come_back_and_other_texts_do_not() {
    for effect in effects() {
        let text = effect_key_to_string(&effect.key());
        assert_eq!(effect_key_from_string(&text).unwrap(), effect.key());
    }
    assert_eq!(
        effect_key_to_string(&Key::Step(ROTATION, Step::RevokeOld, 3)),
        format!("step/{ROTATION}/revoke_old/3")
    );
    let id = ROTATION.to_string();
    for text in [
        String::new(),
        format!("step/{id}/create"),
        format!("step/{id}/make/1"),
        format!("step/{id}/create/01"),
        format!("step/{id}/create/-1"),
        format!("step/{}/create/1", id.replace('-', "")),
        format!("revoke/{id}/1/2"),
        format!("other/{id}/1"),
    ] {
        assert!(effect_key_from_string(&text).is_err(), "{text}");
    }
}

#[test]
fn a_sealed_value_is_base64_and_bounded() {
    let sealed = sealed::SealedValue::new(1, b"enc", b"ciphertext");
    let text = serde_json::to_string(&sealed).unwrap();
    assert_eq!(
        text,
        r#"{"suite":1,"enc":"ZW5j","ciphertext":"Y2lwaGVydGV4dA=="}"#
    );
    let back: sealed::SealedValue = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (back.enc_bytes(), back.ciphertext_bytes()),
        (&b"enc"[..], &b"ciphertext"[..])
    );
    assert!(
        serde_json::from_str::<sealed::SealedValue>(&text.replace("ZW5j", "not base64")).is_err()
    );
    for (bytes, taken) in [
        (sealed::MAX_CIPHERTEXT_BYTES, true),
        (sealed::MAX_CIPHERTEXT_BYTES + 1, false),
    ] {
        let text =
            serde_json::to_string(&sealed::SealedValue::new(1, b"enc", &vec![0; bytes])).unwrap();
        assert_eq!(
            serde_json::from_str::<sealed::SealedValue>(&text).is_ok(),
            taken,
            "{bytes}"
        );
    }
}

proptest! {
    #[test]
    fn random_bytes_are_refused_without_a_panic(bytes in any::<Vec<u8>>(), text in ".{0,80}") {
        prop_assert!(plan_from_json(&bytes).is_err());
        prop_assert!(report_from_json(&bytes).is_err());
        prop_assert!(effect_from_json(&bytes).is_err());
        prop_assert!(command_from_json(&bytes).is_err());
        prop_assert!(audit_record_from_json(&bytes).is_err());
        prop_assert!(effect_key_from_string(&text).is_err());
    }

    #[test]
    fn a_changed_byte_of_a_command_never_panics(place in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = command_to_json(&Command::Report(report())).unwrap();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(command) = command_from_json(&bytes) {
            prop_assert_eq!(command_from_json(&command_to_json(&command).unwrap()).unwrap(), command);
        }
    }
}
