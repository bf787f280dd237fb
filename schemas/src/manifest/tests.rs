//! Tests of manifests: the issue's example, defaults, the schema; faults and limits have files of their own.

mod canary;
mod dynamic;
mod faults;
mod limits;
mod on_event;
mod outward;
mod playbooks;
mod rotation;
mod rotators;
mod stores;

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::binding::{
    DEFAULT_COMMAND_TIMEOUT, DEFAULT_HEALTH_TIMEOUT, DEFAULT_SETTLE, ImageSelector, OnRevoke,
    Reload, Target,
};
use keywheel_core::schedule::{Ack, MissedRun, OnDeadline, Schedule};
use keywheel_core::secret::{DEFAULT_ALPHABET, Generator};
use proptest::prelude::*;
use serde_json::Value;

use super::{
    MAX_DOCUMENTS, MAX_FAULTS, MAX_IMAGE_BYTES, MAX_INTERVAL, MAX_JITTER, MAX_LABEL_BYTES,
    MAX_LABELS, MAX_MANIFEST_BYTES, MAX_RESTART_WAIT, MAX_SCHEDULE_BYTES, MIN_INTERVAL, Manifest,
    Position, parse,
};
use crate::catalogue;

const EXAMPLE: &str = r#"apiVersion: keywheel.dev/v1
kind: Secret
metadata: { name: prod/payments/db-password }
spec:
  store: local
  generator: { length: 32, exclude: "/@\"'\\" }
  rotation: { schedule: "0 3 * * 0", timezone: Europe/Berlin, jitter: 5m }
---
apiVersion: keywheel.dev/v1
kind: Binding
metadata: { name: payments }
spec:
  secret: prod/payments/db-password
  containers: { host: web-1, image: "sha256:5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d5d", labels: { app: payments } }
  file: { name: db_password, uid: 1000, mode: "0400" }     # or env: { name: DB_PASSWORD }
  reload: { signal: HUP }
"#;

/// Stands for the scheduler's check.
fn check(expression: &str, zone: &str) -> Result<(), String> {
    if expression.split_whitespace().count() < 5 {
        return Err(format!("schedule `{expression}` has too few fields"));
    }
    if zone.contains("Nowhere") {
        return Err(format!("time zone `{zone}` is not known"));
    }
    Ok(())
}

fn read(text: &str) -> Result<Vec<Manifest>, Vec<String>> {
    parse(text, "app.yaml", &check)
        .map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn faults(text: &str) -> Vec<String> {
    read(text).expect_err("it has to be refused")
}

fn secret(spec: &str) -> String {
    format!("apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: db }}\nspec: {spec}\n")
}

fn binding(spec: &str) -> String {
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Binding\nmetadata: {{ name: b }}\nspec:\n  secret: db\n  containers: {{ host: web-1, image: shop/app }}\n{spec}\n"
    )
}

/// Asserts that a text has exactly one fault, that it stands at `place` and says `part`.
fn one_fault(text: &str, place: &str, part: &str) {
    let found = faults(text);
    assert_eq!(found.len(), 1, "{found:#?}\n{text}");
    assert!(
        found[0].starts_with(&format!("app.yaml:{place}: ")),
        "{} is not at {place}\n{text}",
        found[0]
    );
    assert!(found[0].contains(part), "`{part}` is not in: {}", found[0]);
}

#[test]
fn the_issues_secret_is_read_whole() {
    let manifests = read(EXAMPLE).unwrap();
    let Manifest::Secret {
        name,
        spec,
        position,
    } = &manifests[0]
    else {
        panic!("{manifests:?}")
    };
    assert_eq!(name.as_str(), "prod/payments/db-password");
    assert_eq!(
        spec.generator,
        Some(Generator {
            length: 32,
            alphabet: String::new(),
            exclude: "/@\"'\\".to_owned()
        })
    );
    let cron = Schedule::Cron {
        expression: "0 3 * * 0".to_owned(),
        timezone: "Europe/Berlin".to_owned(),
    };
    assert_eq!(spec.rotation.schedule, cron);
    assert_eq!(
        (spec.rotation.jitter, spec.rotation.missed_run),
        (Duration::from_secs(300), MissedRun::Once)
    );
    assert_eq!(*position, Position { line: 1, column: 1 });
}

#[test]
fn the_issues_binding_is_read_whole() {
    let manifests = read(EXAMPLE).unwrap();
    let Manifest::Binding {
        name: binding,
        secret,
        also,
        selector,
        target,
        reload,
        previous,
        on_revoke,
        position,
    } = &manifests[1]
    else {
        panic!("{manifests:?}")
    };
    assert_eq!(
        (binding.as_str(), secret.as_str()),
        ("payments", "prod/payments/db-password")
    );
    assert_eq!(
        selector.host.as_ref().map(|host| host.as_str()),
        Some("web-1")
    );
    assert_eq!(
        selector.image,
        Some(ImageSelector::Digest(format!("sha256:{}", "5d".repeat(32))))
    );
    assert_eq!(
        selector.labels,
        BTreeMap::from([("app".to_owned(), "payments".to_owned())])
    );
    assert!(!selector.insecure && also.is_empty() && previous.is_empty());
    let Target::File {
        directory,
        name,
        uid,
        gid,
        mode,
        template: None,
    } = target
    else {
        panic!("{target:?}")
    };
    assert_eq!(
        (directory.as_str(), name.as_str(), *uid, *gid, *mode),
        ("/run/secrets", "db_password", 1000, 0, 0o400)
    );
    assert_eq!((reload, *on_revoke), (&Reload::Signal(1), OnRevoke::Remove));
    assert_eq!(*position, Position { line: 9, column: 1 });
    assert_eq!(
        (manifests[0].kind(), manifests[1].kind(), manifests.len()),
        ("Secret", "Binding", 2)
    );
    assert_eq!(
        (manifests[1].name(), manifests[1].position()),
        ("payments", *position)
    );
}

#[test]
fn what_is_left_out_has_its_default() {
    let Manifest::Secret { spec, .. } = &read(&secret("{}")).unwrap()[0] else {
        panic!()
    };
    assert_eq!(*spec, keywheel_core::secret::Spec::default());
    let Manifest::Secret { spec, .. } = &read(&secret("{ generator: {} }")).unwrap()[0] else {
        panic!()
    };
    assert_eq!(spec.generator, Some(Generator::default()));
    let Manifest::Secret { spec, .. } = &read(&secret(
        "{ generator: {}, rotation: { schedule: '* * * * *' } }",
    ))
    .unwrap()[0] else {
        panic!()
    };
    let utc = Schedule::Cron {
        expression: "* * * * *".to_owned(),
        timezone: "UTC".to_owned(),
    };
    assert_eq!(spec.rotation.schedule, utc);
    let reload_of = |spec: &str| match &read(&binding(spec)).unwrap()[0] {
        Manifest::Binding { reload, .. } => reload.clone(),
        other => panic!("{other:?}"),
    };
    let restart = Reload::Restart {
        settle: DEFAULT_SETTLE,
        health_timeout: DEFAULT_HEALTH_TIMEOUT,
        rollout: None,
    };
    assert_eq!(reload_of("  env: { name: DB_PASSWORD }"), restart);
    assert_eq!(reload_of("  file: { name: db }"), Reload::None);
    assert_eq!(reload_of("  file: { name: db }\n  reload:"), Reload::None);
    assert_eq!(
        reload_of("  file: { name: db }\n  reload: none"),
        Reload::None
    );
    assert_eq!(
        reload_of("  file: { name: db }\n  reload: restart"),
        restart
    );
    assert_eq!(
        reload_of("  file: { name: db }\n  reload: { restart: }"),
        restart
    );
    let own = Reload::Restart {
        settle: Duration::from_secs(1),
        health_timeout: Duration::from_secs(90),
        rollout: None,
    };
    assert_eq!(
        reload_of(
            "  file: { name: db }\n  reload: { restart: { settle: 1s, healthTimeout: 1m30s } }"
        ),
        own
    );
}

#[test]
fn what_befalls_who_loses_a_revoked_value_is_read() {
    let with = |target: &str, line: &str| binding(&format!("  {target}{line}"));
    let of = |line: &str| match &read(&with("file: { name: db }", line)).unwrap()[0] {
        Manifest::Binding { on_revoke, .. } => *on_revoke,
        other => panic!("{other:?}"),
    };
    assert_eq!(of(""), OnRevoke::Remove);
    for (word, on_revoke) in OnRevoke::WORDS {
        assert_eq!(of(&format!("\n  onRevoke: {word}")), on_revoke);
    }
    let unknown = with("file: { name: db }", "\n  onRevoke: freeze");
    assert!(faults(&unknown).concat().contains("`pause`"));
    let variable = with("env: { name: DB }", "\n  onRevoke: pause");
    assert!(
        faults(&variable)
            .concat()
            .contains("only a stop takes away")
    );
}

#[test]
fn a_reload_command_and_the_word_label_are_read() {
    let reload_of = |reload: &str| {
        let text = binding(&format!("  file: {{ name: db }}\n  reload: {reload}"));
        match read(&text).unwrap().remove(0) {
            Manifest::Binding { reload, .. } => reload,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(reload_of("label"), Reload::Label);
    let argv: Vec<String> = vec!["nginx".into(), "-s".into(), "reload".into()];
    assert_eq!(
        reload_of("{ command: [nginx, -s, reload] }"),
        Reload::Command {
            argv: argv.clone(),
            timeout: DEFAULT_COMMAND_TIMEOUT,
        }
    );
    assert_eq!(
        reload_of("{ command: [nginx, \"-s\", reload], timeout: 5s }"),
        Reload::Command {
            argv,
            timeout: Duration::from_secs(5),
        }
    );
}

#[test]
fn a_template_is_read_as_it_stands() {
    let text =
        "  file:\n    name: db\n    template: |\n      url={{ secret(\"db\").url }}\n      # end";
    let Manifest::Binding { target, .. } = &read(&binding(text)).unwrap()[0] else {
        panic!()
    };
    let Target::File { template, .. } = target else {
        panic!("{target:?}")
    };
    let expected = "url={{ secret(\"db\").url }}\n# end\n";
    assert_eq!(template.as_deref(), Some(expected));
}

#[test]
fn the_secrets_that_templates_name_beside_the_binding_s_own_are_read() {
    let one = "'{{ secret(\"db\") }}{{ secret(\"api\").key }}'";
    let file = format!("  file: {{ name: db, template: {one} }}");
    let (own, other) = ("'{{ secret(\"db\") }}'", "'{{ secret(\"api\") }}'");
    let files = format!("  files: {{ name: db, templates: {{ a: {own}, b: {other} }} }}");
    for text in [file, files] {
        let Manifest::Binding { secret, also, .. } = &read(&binding(&text)).unwrap()[0] else {
            panic!()
        };
        assert_eq!(secret.as_str(), "db");
        let also: Vec<&str> = also.iter().map(|name| name.as_str()).collect();
        assert_eq!(also, ["api"], "{text}");
    }
}

#[test]
fn the_secrets_whose_version_before_is_named_are_read() {
    let of = |other: &str| {
        let one = format!("{{{{ secret(\"db\") }}}}{{{{ secret(\"api\"{other}) }}}}");
        let text = format!("  file: {{ name: db, template: '{one}' }}");
        let Manifest::Binding { previous, .. } = &read(&binding(&text)).unwrap()[0] else {
            panic!()
        };
        let names = previous.iter().map(|name| name.to_string());
        names.collect::<Vec<_>>()
    };
    assert_eq!(of(", version=\"previous\""), ["api"]);
    assert!(of("").is_empty() && of(", version=\"current\"").is_empty());
}

#[test]
fn files_that_change_together_are_read_whatever_their_order() {
    let (user, password) = ("'{{ secret(\"db\").u }}'", "'{{ secret(\"db\").p }}'");
    for templates in [
        format!("{{ user: {user}, password: {password} }}"),
        format!("{{ password: {password}, user: {user} }}"),
    ] {
        let text =
            format!("  files: {{ name: db, uid: 5, mode: \"0440\", templates: {templates} }}");
        let Manifest::Binding { target, reload, .. } = &read(&binding(&text)).unwrap()[0] else {
            panic!()
        };
        let Target::Files {
            directory,
            name,
            uid,
            gid,
            mode,
            files,
        } = target
        else {
            panic!("{target:?}")
        };
        assert_eq!(
            (directory.as_str(), name.as_str(), *uid, *gid, *mode),
            ("/run/secrets", "db", 5, 0, 0o440)
        );
        let files: Vec<(&str, &str)> = files
            .iter()
            .map(|file| (file.name.as_str(), file.template.as_str()))
            .collect();
        let expected = [
            ("password", "{{ secret(\"db\").p }}"),
            ("user", "{{ secret(\"db\").u }}"),
        ];
        assert_eq!(files, expected);
        assert_eq!(*reload, Reload::None);
    }
}

#[test]
fn signals_are_read_by_name_and_number() {
    for (text, number) in [
        ("HUP", 1),
        ("SIGHUP", 1),
        ("USR1", 10),
        ("SIGUSR2", 12),
        ("1", 1),
        ("64", 64),
        ("\"15\"", 15),
    ] {
        let text = binding(&format!(
            "  file: {{ name: db }}\n  reload: {{ signal: {text} }}"
        ));
        let Manifest::Binding { reload, .. } = &read(&text).unwrap()[0] else {
            panic!()
        };
        assert_eq!(*reload, Reload::Signal(number));
    }
    for (text, part) in [
        ("HUB", "not a signal"),
        ("hup", "not a signal"),
        ("0", "not a signal"),
        ("65", "not a signal"),
        ("-1", "not a signal"),
        ("1.5", "name like HUP"),
        ("KILL", "cannot be caught"),
        ("19", "cannot be caught"),
    ] {
        one_fault(
            &binding(&format!(
                "  file: {{ name: db }}\n  reload: {{ signal: {text} }}"
            )),
            "8:21",
            part,
        );
    }
}

#[test]
fn a_deadline_and_what_follows_it_are_read_also_without_a_schedule() {
    let text = secret("{ generator: {}, rotation: { deadline: 10m, onDeadline: force } }");
    let Manifest::Secret { spec, .. } = &read(&text).unwrap()[0] else {
        panic!()
    };
    assert_eq!(spec.rotation.deadline, Some(Duration::from_secs(600)));
    assert_eq!(spec.rotation.on_deadline, OnDeadline::Force);
    assert_eq!(spec.rotation.schedule, Schedule::OnDemand);
    let Manifest::Secret { spec, .. } = &read(&secret("{}")).unwrap()[0] else {
        panic!()
    };
    assert_eq!(spec.rotation.deadline, None);
    assert_eq!(spec.rotation.on_deadline, OnDeadline::Hold);
    assert_eq!(spec.rotation.ack, None);
}

#[test]
fn what_has_to_be_shown_before_the_old_version_dies_is_read() {
    for (word, expected) in [("drained", Ack::Drained), ("reloaded", Ack::Reloaded)] {
        let text = secret(&format!(
            "{{ generator: {{}}, rotation: {{ ack: {word} }} }}"
        ));
        let Manifest::Secret { spec, .. } = &read(&text).unwrap()[0] else {
            panic!()
        };
        assert_eq!(spec.rotation.ack, Some(expected));
        assert_eq!(spec.rotation.schedule, Schedule::OnDemand);
    }
}

#[test]
fn an_interval_and_its_missed_runs_are_read() {
    let text =
        secret("{ generator: {}, rotation: { interval: 12h, missedRun: skip, jitter: 90s } }");
    let Manifest::Secret { spec, .. } = &read(&text).unwrap()[0] else {
        panic!()
    };
    assert_eq!(
        spec.rotation.schedule,
        Schedule::Interval(Duration::from_secs(43_200))
    );
    assert_eq!(
        (spec.rotation.missed_run, spec.rotation.jitter),
        (MissedRun::Skip, Duration::from_secs(90))
    );
}

fn is_valid_under_schema(text: &str) -> bool {
    let validator = jsonschema::validator_for(&catalogue::published("manifest.v1")).unwrap();
    let documents = serde_saphyr::from_multiple::<Value>(text).unwrap();
    documents
        .iter()
        .all(|document| validator.is_valid(document))
}

#[test]
fn the_schema_for_editors_agrees_with_the_parser() {
    let full = binding(
        "  file: { name: db, directory: /x, uid: 1, gid: 2, mode: \"0440\" }\n  reload: { restart: { settle: 1s, healthTimeout: 2s } }",
    );
    for text in [
        EXAMPLE,
        &full,
        &secret("{}"),
        &binding("  env: { name: DB }\n  reload: restart"),
        &binding("  file: { name: db }\n  reload: label"),
        &binding("  file: { name: db, template: 'a {{ secret(\"db\") }}' }"),
        &binding("  file: { name: db }\n  reload: { command: [a, b], timeout: 5s }"),
        &binding("  files: { name: db, templates: { a: '{{ secret(\"db\").a }}' } }"),
        &secret("{ generator: {}, rotation: { interval: 12h, missedRun: skip } }"),
        &secret("{ rotation: { deadline: 1h, onDeadline: hold } }"),
        &secret("{ store: vault, source: { path: a, field: b } }"),
        &secret("{ credentialFor: \"https://vault:8200\" }"),
        &stores::store("{ aws: { auth: { profile: x } }, poll: 5s }"),
        &stores::store(&stores::vault(
            "{ appRole: { roleId: r, secretId: { file: /f } } }",
        )),
    ] {
        assert!(read(text).is_ok(), "{text}");
        assert!(is_valid_under_schema(text), "{text}");
    }
    for text in [
        secret("{ value: x }"),
        secret("{ store: Vault, source: { path: a } }"),
        secret("{ store: vault, source: { pfad: a } }"),
        stores::store("{ aws: { auth: { profil: x } } }"),
        binding("  file: { name: db, mode: 400 }"),
        binding("  files: { name: db, template: a }"),
        binding("  file: { name: db }\n  reload: { signal: HUP, restart: {} }"),
        binding("  file: { name: db }\n  reload: { command: [] }"),
        binding("  file: { name: db }\n  reload: { command: a }"),
        EXAMPLE.replace("kind: Binding", "kind: Bindings"),
        EXAMPLE.replace("keywheel.dev/v1", "v1"),
    ] {
        assert!(read(&text).is_err(), "{text}");
        assert!(!is_valid_under_schema(&text), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_without_a_panic(text in "(?s).{0,200}", place in any::<proptest::sample::Index>(), byte in "[ -~\n]") {
        let _either = parse(&text, "x", &check);
        let mut mutated = EXAMPLE.to_owned();
        let place = place.index(mutated.len());
        mutated.replace_range(place..=place, &byte);
        let _either = parse(&mutated, "x", &check);
    }
}
