//! Tests of bus messages: there and back, refusals, and validity under the generated schemas.

mod resource;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use keywheel_core::audit::{Category, ContainerRef, Outcome, Principal, Record, Role};
use keywheel_core::binding::{ImageSelector, OnRevoke, Reload, Rollout, Selector, SetFile, Target};
use keywheel_core::command::{Command, Declaration, ProofTaken, Replacing};
use keywheel_core::effect::{Effect, Key, Part, RevokeWork, StepWork, Work};
use keywheel_core::id::{
    BindingId, CommandId, ContainerId, DeliveryId, HostId, RevocationId, RotationId, RunId,
    SecretId, SlotId,
};
use keywheel_core::name::{
    BindingName, Directory, EnvName, FileName, HostName, PlaybookName, SecretName,
};
use keywheel_core::plan::{
    Grant, HostPlan, Leave, Order, PlannedBinding, PlannedPrevious, PlannedSecret, Staged, Task,
};
use keywheel_core::playbook_run;
use keywheel_core::report::{
    DeniedStart, Executed, Fact, HostReport, Item, OrderState, OrderTold, RestartState,
    RestartWish, StalePlan, UsageKind, UsageNote,
};
use keywheel_core::revocation::Proof;
use keywheel_core::rollout::Due;
use keywheel_core::rotation::{Intervention, Sessions, Step};
use keywheel_core::secret::{Generator, Spec};
use keywheel_core::time::Timestamp;
use proptest::prelude::*;
use serde_json::Value;

use super::{
    DecodeError, MAX_MESSAGE_BYTES, audit_record_from_json, audit_record_to_json,
    command_from_json, command_to_json, effect_from_json, effect_key_from_string,
    effect_key_to_string, effect_to_json, plan_from_json, plan_to_json, report_from_json,
    report_to_json, sealed, stored_effect_from_json, stored_effect_to_json,
};
use crate::{catalogue, examples};

const SECRET: SecretId = SecretId::from_bytes([1; 16]);
const HOST: HostId = HostId::from_bytes([2; 16]);
const BINDING: BindingId = BindingId::from_bytes([3; 16]);
const ROTATION: RotationId = RotationId::from_bytes([4; 16]);
const REVOCATION: RevocationId = RevocationId::from_bytes([5; 16]);
const AT: Timestamp = Timestamp::from_micros(1_767_492_000_000_001);

fn container() -> ContainerId {
    ContainerId::parse(&"ab".repeat(32)).unwrap()
}

fn planned(
    target: Target,
    reload: Reload,
    image: ImageSelector,
    current: Option<Grant>,
) -> PlannedBinding {
    PlannedBinding {
        binding: BINDING,
        name: BindingName::parse("payments").unwrap(),
        secret: SECRET,
        secret_name: SecretName::parse("prod/db").unwrap(),
        also: Vec::new(),
        previous: Vec::new(),
        selector: Selector {
            host: Some(HostName::parse("web-1").unwrap()),
            image: Some(image),
            labels: BTreeMap::from([("app".to_owned(), "payments".to_owned())]),
            insecure: true,
            container: None,
            name: None,
            user: None,
        },
        target,
        reload,
        current,
        floor: 3,
        dead: BTreeSet::from([5, 7]),
        traceparent: Some(examples::TRACE.to_owned()),
        leases: false,
        on_revoke: keywheel_core::binding::OnRevoke::Remove,
    }
}

fn of_template(template: &str) -> Target {
    Target::File {
        directory: Directory::parse("/etc/app").unwrap(),
        name: FileName::parse("app.conf").unwrap(),
        uid: 0,
        gid: 0,
        mode: 0o400,
        template: Some(template.to_owned()),
    }
}

/// A binding whose template names two secrets, one without a version.
fn of_several(image: ImageSelector, grant: Grant) -> PlannedBinding {
    let form = of_template("{{ secret(\"prod/db\") }}{{ secret(\"prod/api\") }}");
    let further = |number: u8, name: &str, current| PlannedSecret {
        secret: SecretId::from_bytes([number; 16]),
        name: SecretName::parse(name).unwrap(),
        current,
        floor: 1,
        dead: BTreeSet::from([4]),
        traceparent: current.map(|_| examples::TRACE.to_owned()),
    };
    let mut several = planned(form, Reload::None, image, Some(grant));
    several.also = vec![
        further(7, "prod/api", Some(grant)),
        further(8, "prod/mail", None),
    ];
    several.previous = vec![PlannedPrevious {
        secret: SECRET,
        grant,
    }];
    several
}

fn plan() -> HostPlan {
    let file = Target::File {
        directory: Directory::parse("/run/secrets").unwrap(),
        name: FileName::parse("db_password").unwrap(),
        uid: 1000,
        gid: 0,
        mode: 0o440,
        template: None,
    };
    let set = Target::Files {
        directory: Directory::parse("/run/secrets").unwrap(),
        name: FileName::parse("db").unwrap(),
        uid: 1000,
        gid: 0,
        mode: 0o440,
        files: vec![SetFile {
            name: FileName::parse("user").unwrap(),
            template: "{{ secret(\"prod/db\").user }}".to_owned(),
        }],
    };
    let form = of_template("url = \"{{ secret(\"prod/db\").url }}\"\n");
    let bare = of_template("{{ secret(\"prod/db\") }}");
    let command = Reload::Command {
        argv: ["nginx", "-s", "reload \"now\"", ""]
            .map(str::to_owned)
            .into(),
        timeout: Duration::from_millis(2500),
    };
    let env = Target::Env {
        name: EnvName::parse("DB_PASSWORD").unwrap(),
    };
    let restart = Reload::Restart {
        settle: Duration::from_millis(1500),
        health_timeout: Duration::from_secs(120),
        rollout: Some(Rollout {
            max_parallel: 2,
            max_unavailable: 3,
            delay: Duration::from_secs(30),
            monitor: Duration::from_millis(1),
        }),
    };
    let grant = Grant {
        version: 8,
        delivery: DeliveryId::from_bytes([6; 16]),
    };
    let digest = ImageSelector::Digest(format!("sha256:{}", "0".repeat(64)));
    let repository = ImageSelector::Repository("shop/payments".to_owned());
    HostPlan {
        host: HOST,
        host_name: HostName::parse("web-1").unwrap(),
        generation: u64::MAX,
        bindings: vec![
            planned(file.clone(), Reload::Signal(1), digest.clone(), Some(grant)),
            planned(env, restart, repository, None),
            planned(file, Reload::None, digest.clone(), None),
            planned(form, command, digest.clone(), Some(grant)),
            planned(set, Reload::None, digest.clone(), Some(grant)),
            planned(bare, Reload::Label, digest.clone(), Some(grant)),
            of_several(digest, grant),
        ],
        leaves: vec![Leave {
            container: container(),
            number: u64::MAX,
            not_before: Some(AT),
        }],
        staged: vec![staged(grant)],
        orders: orders(),
    }
}

fn orders() -> Vec<Order> {
    let order = |task| Order {
        container: container(),
        number: 7,
        task,
    };
    let action = OnRevoke::Pause;
    let not_before = Some(AT);
    vec![
        order(Task::Quarantine { action }),
        order(Task::Restart { not_before }),
        order(Task::Restart { not_before: None }),
    ]
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

fn staged(grant: Grant) -> Staged {
    let secret = SECRET;
    Staged {
        secret,
        grant,
        canaries: vec![container()],
    }
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

fn unproven() -> ProofTaken {
    ProofTaken {
        revocation: REVOCATION,
        attempt: 3,
        proof: Proof::lacking("its value is gone"),
    }
}

fn workers_commands() -> Vec<Command> {
    let failure = Some("the store did not answer".to_owned());
    vec![
        Command::Due {
            rotation: ROTATION,
            secret: SECRET,
            slot: SlotId::from_bytes([7; 16]),
            scheduled: AT,
            after: None,
            tzdata: Some("2026a".to_owned()),
        },
        Command::Due {
            rotation: ROTATION,
            secret: SECRET,
            slot: SlotId::from_bytes([7; 16]),
            scheduled: AT,
            after: Some(42),
            tzdata: None,
        },
        Command::EnrolHost {
            host: HOST,
            name: HostName::parse("web-1").unwrap(),
            sealing_key: [9; 32],
        },
        Command::StepOutcome {
            rotation: ROTATION,
            step: Step::Finish,
            attempt: 1,
            failure: None,
            is_away: false,
            remote: None,
            sessions: None,
        },
        Command::StepOutcome {
            rotation: ROTATION,
            step: Step::RollBack,
            attempt: 5,
            failure: failure.clone(),
            is_away: false,
            remote: None,
            sessions: None,
        },
        revoke_outcome(failure),
        Command::StepOutcome {
            rotation: ROTATION,
            step: Step::Drain,
            attempt: 2,
            failure: None,
            is_away: false,
            remote: None,
            sessions: Some(Sessions {
                mark: i64::MAX,
                left: 3,
            }),
        },
        Command::RetryStep { rotation: ROTATION },
        Command::RetryRevoke {
            revocation: REVOCATION,
        },
        Command::DeadlinePassed { rotation: ROTATION },
        Command::LingerEnded { secret: SECRET },
        Command::ProofOutcome(unproven()),
        Command::Playbook(started()),
        Command::Playbook(playbook_run::Request::Due {
            run: RunId::from_bytes([0x0b; 16]),
            step: "approve".to_owned(),
        }),
        Command::Report(report()),
    ]
}

fn started() -> playbook_run::Request {
    playbook_run::Request::Start {
        run: RunId::from_bytes([0x0b; 16]),
        playbook: PlaybookName::parse("leaked").unwrap(),
        arguments: [("secret".to_owned(), "prod/db".to_owned())].into(),
        by: String::new(),
        reason: "event 7".to_owned(),
        cause: playbook_run::Cause::Event { number: 7 },
    }
}

fn revoke_outcome(failure: Option<String>) -> Command {
    Command::RevokeOutcome {
        revocation: REVOCATION,
        attempt: 1,
        failure,
    }
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
