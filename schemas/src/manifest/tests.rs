//! Tests of manifests: the issue's example, every fault with its place, limits.

mod stores;

use std::collections::BTreeMap;
use std::time::Duration;

use keywheel_core::binding::{
    DEFAULT_HEALTH_TIMEOUT, DEFAULT_SETTLE, ImageSelector, Reload, Target,
};
use keywheel_core::schedule::{MissedRun, Schedule};
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
        selector,
        target,
        reload,
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
    assert!(!selector.insecure);
    let Target::File {
        directory,
        name,
        uid,
        gid,
        mode,
    } = target
    else {
        panic!("{target:?}")
    };
    assert_eq!(
        (directory.as_str(), name.as_str(), *uid, *gid, *mode),
        ("/run/secrets", "db_password", 1000, 0, 0o400)
    );
    assert_eq!(*reload, Reload::Signal(1));
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
        Manifest::Secret { .. } | Manifest::Store { .. } => panic!(),
    };
    let restart = Reload::Restart {
        settle: DEFAULT_SETTLE,
        health_timeout: DEFAULT_HEALTH_TIMEOUT,
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
    };
    assert_eq!(
        reload_of(
            "  file: { name: db }\n  reload: { restart: { settle: 1s, healthTimeout: 1m30s } }"
        ),
        own
    );
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

#[test]
fn a_unknown_field_is_refused_with_its_place_and_the_nearest_name() {
    one_fault(
        &secret("{ generator: { exlcude: \"a\" } }"),
        "4:22",
        "field `exlcude` is not known in generator (did you mean `exclude`?)",
    );
    one_fault(
        &secret("{ generater: {} }"),
        "4:9",
        "did you mean `generator`?",
    );
    one_fault(
        &secret("{ colour: red }"),
        "4:9",
        "known fields: store, source, generator, rotation, credentialFor",
    );
    one_fault(
        &binding("  file: { name: db }\n  relaod: none"),
        "8:3",
        "did you mean `reload`?",
    );
    one_fault(
        &EXAMPLE.replace(
            "metadata: { name: payments }",
            "metadata: { name: payments, namespace: x }",
        ),
        "11:29",
        "`namespace`",
    );
    one_fault(
        &EXAMPLE.replace("spec:\n  store", "status: {}\nspec:\n  store"),
        "4:1",
        "field `status` is not known in the document",
    );
}

#[test]
fn a_value_in_a_manifest_is_refused_without_being_quoted() {
    let found = faults(&secret("{ value: hunter2-canary }"));
    assert!(
        found[0].contains("a manifest never holds a value"),
        "{found:?}"
    );
    assert!(!found[0].contains("hunter2-canary"), "{found:?}");
}

#[test]
fn kind_and_api_version_are_checked_with_what_is_known() {
    one_fault(
        &EXAMPLE.replace("kind: Binding", "kind: Bindings"),
        "10:7",
        "`Bindings` is not a kind (did you mean `Binding`?); known kinds: Secret, Binding, Store",
    );
    one_fault(
        &EXAMPLE.replace("kind: Binding", "kind: Deployment"),
        "10:7",
        "known kinds: Secret, Binding, Store",
    );
    one_fault(
        &EXAMPLE.replacen("keywheel.dev/v1", "keywheel.dev/v2", 1),
        "1:13",
        "write `keywheel.dev/v1`",
    );
    one_fault(
        &EXAMPLE.replacen("kind: Secret\n", "", 1),
        "1:1",
        "`kind` is missing",
    );
    one_fault(
        &EXAMPLE.replacen("apiVersion: keywheel.dev/v1\n", "", 1),
        "1:1",
        "`apiVersion` is missing",
    );
    one_fault(
        &EXAMPLE.replacen("metadata: { name: payments }", "metadata: {}", 1),
        "11:11",
        "`name` is missing in metadata",
    );
}

#[test]
fn all_faults_of_all_documents_come_at_once_in_the_order_of_the_text() {
    let text = EXAMPLE
        .replace("length: 32", "length: 0")
        .replace("jitter: 5m", "jitter: 5")
        .replace("0 3 * * 0", "0 3 *")
        .replace("host: web-1", "host: WEB")
        .replace("mode: \"0400\"", "mode: 0400")
        .replace("name: db_password", "name: .db")
        .replace("signal: HUP", "signal: HUB");
    let found = faults(&text);
    for (fault, part) in found.iter().zip([
        "between 1 and 4096",
        "too few fields",
        "`5s`",
        "host name",
        "file name",
        "in quotes",
        "not a signal",
    ]) {
        assert!(fault.contains(part), "{part} in {fault}");
    }
    assert_eq!(found.len(), 7, "{found:#?}");
}

#[test]
fn a_mode_that_yaml_reads_as_a_number_is_explained() {
    for mode in ["0400", "400", "0o400"] {
        one_fault(
            &binding(&format!("  file: {{ name: db, mode: {mode} }}")),
            "7:27",
            "has to be in quotes, like mode: \"0400\"",
        );
    }
    for (mode, part) in [
        ("0x99", "octal digits"),
        ("4", "octal digits"),
        ("1777", "permission bits"),
        ("0040", "owner"),
        ("0888", "octal digits"),
    ] {
        one_fault(
            &binding(&format!("  file: {{ name: db, mode: \"{mode}\" }}")),
            "7:27",
            part,
        );
    }
    for mode in ["0400", "440", "0777"] {
        assert!(
            read(&binding(&format!(
                "  file: {{ name: db, mode: \"{mode}\" }}"
            )))
            .is_ok(),
            "{mode}"
        );
    }
}

#[test]
fn a_target_is_a_file_or_an_env_variable() {
    one_fault(
        &binding("  file: { name: db }\n  env: { name: DB }"),
        "8:3",
        "do not go together",
    );
    one_fault(&binding(""), "5:3", "`file` or `env` is missing");
    one_fault(&binding("  env: {}"), "7:8", "`name` is missing in env");
    one_fault(&binding("  env: { name: 1A }"), "7:16", "env name");
    one_fault(&binding("  file: { name: a/b }"), "7:17", "file name");
    one_fault(
        &binding("  file: { name: db, directory: run }"),
        "7:32",
        "absolute path",
    );
    one_fault(
        &binding("  file: { name: db, uid: -1 }"),
        "7:26",
        "between 0 and",
    );
    one_fault(
        &binding("  file: { name: db, uid: root }"),
        "7:26",
        "whole number",
    );
    one_fault(
        &binding("  file: db"),
        "7:9",
        "has to be a mapping, not text",
    );
    one_fault(
        &binding("  env: { name: DB }\n  reload: none"),
        "8:3",
        "only a restart can change",
    );
    one_fault(
        &binding("  env: { name: DB }\n  reload: { signal: HUP }"),
        "8:3",
        "only a restart can change",
    );
    one_fault(
        &binding("  file: { name: db }\n  reload: sometimes"),
        "8:11",
        "is not known",
    );
    one_fault(
        &binding("  file: { name: db }\n  reload: { signal: HUP, restart: {} }"),
        "8:11",
        "either `signal` or `restart`",
    );
    one_fault(
        &binding("  file: { name: db }\n  reload: { restart: { settle: 2h } }"),
        "8:32",
        "between 0s and 1h",
    );
}

#[test]
fn selectors_that_are_too_weak_or_name_no_image_are_refused() {
    let with = |containers: &str| {
        binding("  file: { name: db }").replace("{ host: web-1, image: shop/app }", containers)
    };
    for weak in [
        "{ labels: { app: x } }",
        "{ host: web-1 }",
        "{ image: shop/app }",
        "{}",
        "{ insecureSelector: false }",
    ] {
        one_fault(&with(weak), "6:3", "selects by labels alone");
    }
    assert!(read(&with("{ labels: { app: x }, insecureSelector: true }")).is_ok());
    one_fault(
        &with("{ host: web-1, image: \"sha256:abc\" }"),
        "6:37",
        "64 lower-case hexadecimal digits",
    );
    one_fault(
        &with("{ host: web-1, image: \"a b\" }"),
        "6:37",
        "is not an image",
    );
    one_fault(
        &with("{ host: web-1, image: shop/app, labels: { version: 1.10 } }"),
        "6:66",
        "put it in quotes",
    );
    one_fault(
        &with("{ host: web-1, image: shop/app, labels: [a] }"),
        "6:55",
        "has to be a mapping, not a list",
    );
    one_fault(
        &with("{ host: web-1, image: shop/app, insecureSelector: maybe }"),
        "6:65",
        "true or false",
    );
}

#[test]
fn names_off_the_grammar_are_refused_at_their_place() {
    one_fault(
        &EXAMPLE.replacen("name: prod/payments/db-password", "name: Prod/Payments", 1),
        "3:19",
        "not a valid secret name",
    );
    one_fault(
        &EXAMPLE.replace("secret: prod/payments/db-password", "secret: a//b"),
        "13:11",
        "not a valid secret name",
    );
    let long = format!("name: {}", "a".repeat(256));
    one_fault(
        &EXAMPLE.replace("name: payments", &long),
        "11:19",
        "at most 255",
    );
    one_fault(
        &secret("{}").replace("name: db", "name: 5"),
        "3:19",
        "put it in quotes",
    );
}

#[test]
fn generators_that_cannot_make_a_value_are_refused() {
    for length in ["0", "4097", "-1", "99999999999999999999"] {
        let found = faults(&secret(&format!("{{ generator: {{ length: {length} }} }}")));
        assert!(found[0].contains("`length`"), "{length}: {found:?}");
    }
    assert!(read(&secret("{ generator: { length: 4096 } }")).is_ok());
    one_fault(
        &secret("{ generator: { alphabet: abc, exclude: cba } }"),
        "4:37",
        "leaves no character",
    );
    let all = DEFAULT_ALPHABET.replace('\'', "''");
    one_fault(
        &secret(&format!("{{ generator: {{ exclude: '{all}' }} }}")),
        "4:22",
        "leaves no character",
    );
    one_fault(
        &secret("{ generator: { alphabet: \"\" } }"),
        "4:32",
        "`alphabet` is empty",
    );
    one_fault(
        &secret("{ generator: { alphabet: \"a\\n\" } }"),
        "4:32",
        "control character",
    );
    let most: String = ('\u{100}'..).take(257).collect();
    one_fault(
        &secret(&format!("{{ generator: {{ alphabet: \"{most}\" }} }}")),
        "4:32",
        "more than 256",
    );
}

#[test]
fn rotations_that_say_nothing_or_too_much_are_refused() {
    let rotation = |rotation: &str| secret(&format!("{{ generator: {{}}, rotation: {rotation} }}"));
    one_fault(&rotation("{ schedule: '0 3' }"), "4:46", "too few fields");
    one_fault(
        &rotation("{ schedule: '* * * * *', timezone: Nowhere }"),
        "4:46",
        "time zone `Nowhere`",
    );
    one_fault(
        &rotation("{ timezone: UTC }"),
        "4:46",
        "without a `schedule`",
    );
    one_fault(
        &rotation("{ jitter: 5m }"),
        "4:36",
        "without a `schedule` or an `interval`",
    );
    one_fault(
        &rotation("{ missedRun: once }"),
        "4:36",
        "without a `schedule` or an `interval`",
    );
    one_fault(
        &rotation("{ interval: 1h, schedule: '* * * * *' }"),
        "4:46",
        "do not go together",
    );
    one_fault(&rotation("{ interval: 0s }"), "4:46", "between 1s and");
    one_fault(&rotation("{ interval: 4000d }"), "4:46", "and 3660d");
    one_fault(
        &rotation("{ interval: weekly }"),
        "4:46",
        "`weekly` is not a span",
    );
    one_fault(&rotation("{ interval: 12 }"), "4:46", "has no unit");
    one_fault(
        &rotation("{ interval: 1h, jitter: 25h }"),
        "4:58",
        "between 0s and 1d",
    );
    one_fault(
        &rotation("{ interval: 1h, missedRun: twice }"),
        "4:61",
        "write `once` or `skip`",
    );
    let long = "*".repeat(MAX_SCHEDULE_BYTES + 1);
    one_fault(
        &rotation(&format!("{{ schedule: '{long}' }}")),
        "4:46",
        "more than 128 bytes",
    );
    one_fault(
        &secret("{ rotation: { interval: 1h } }"),
        "4:9",
        "needs a `generator`",
    );
    one_fault(&secret("{ store: vault }"), "4:9", "`source` is missing");
}

#[test]
fn text_that_is_not_yaml_is_refused_at_its_place() {
    for (text, part) in [
        ("a: [1\nb: 2\n", "this is not YAML"),
        ("a:\n\tb: 1\n", "this is not YAML"),
        ("a: 1\na: 2\n", "field `a` stands here twice"),
        ("a: *unknown\n", ""),
        ("", "no document"),
        ("# only words\n", "no document"),
        ("- a\n", "the document has to be a mapping, not a list"),
        ("hello\n", "the document has to be a mapping, not text"),
    ] {
        let found = faults(text);
        assert_eq!(found.len(), 1, "{text:?}: {found:?}");
        assert!(found[0].contains(part), "{text:?}: {found:?}");
    }
}

#[test]
fn the_same_thing_twice_in_one_text_is_refused() {
    let text = format!("{EXAMPLE}---\n{}", EXAMPLE.split("---\n").next().unwrap());
    one_fault(
        &text,
        "18:1",
        "Secret `prod/payments/db-password` is declared twice, first in line 1",
    );
}

#[test]
fn limits_hold_and_the_limit_itself_is_allowed() {
    let filled = |bytes: usize| format!("{EXAMPLE}#{}", "x".repeat(bytes - EXAMPLE.len() - 1));
    assert!(read(&filled(MAX_MANIFEST_BYTES)).is_ok());
    assert!(faults(&filled(MAX_MANIFEST_BYTES + 1))[0].contains("at most 1048576 are allowed"));
    let documents = |count: usize| {
        (0..count)
            .map(|n| secret("{}").replace("name: db", &format!("name: db-{n}")))
            .collect::<Vec<_>>()
            .join("---\n")
    };
    assert_eq!(
        read(&documents(MAX_DOCUMENTS)).unwrap().len(),
        MAX_DOCUMENTS
    );
    assert!(faults(&documents(MAX_DOCUMENTS + 1))[0].contains("over a limit"));
    let deep = format!("{}1{}", "[".repeat(100), "]".repeat(100));
    assert!(
        faults(&deep)[0].contains("over a limit"),
        "{:?}",
        faults(&deep)
    );
    let aliases = "a: &x 1\nb: *x\n";
    assert!(
        faults(aliases)[0].contains("over a limit"),
        "{:?}",
        faults(aliases)
    );
    let labels = |count: usize| {
        (0..count)
            .map(|n| format!("l{n}: x"))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let with = |labels: &str| {
        binding("  file: { name: db }").replace(
            "image: shop/app",
            &format!("image: shop/app, labels: {{ {labels} }}"),
        )
    };
    assert!(read(&with(&labels(MAX_LABELS))).is_ok());
    assert!(faults(&with(&labels(MAX_LABELS + 1)))[0].contains("more than 64 labels"));
    assert!(read(&with(&format!("a: {}", "x".repeat(MAX_LABEL_BYTES)))).is_ok());
    assert!(
        faults(&with(&format!("a: {}", "x".repeat(MAX_LABEL_BYTES + 1))))[0]
            .contains("at most 4096")
    );
}

#[test]
fn a_span_and_a_name_at_its_limit_is_allowed_and_one_more_is_not() {
    let rotation =
        |fields: &str| secret(&format!("{{ generator: {{}}, rotation: {{ {fields} }} }}"));
    let interval = |seconds: u64| rotation(&format!("interval: {seconds}s"));
    let jitter = |seconds: u64| rotation(&format!("interval: 366d, jitter: {seconds}s"));
    let restart = |field: &str, seconds: u64| {
        binding(&format!(
            "  file: {{ name: db }}\n  reload: {{ restart: {{ {field}: {seconds}s }} }}"
        ))
    };
    let image = |bytes: u64| {
        let name = "i".repeat(usize::try_from(bytes).unwrap());
        binding("  file: { name: db }").replace("shop/app", &name)
    };
    type Text<'a> = &'a dyn Fn(u64) -> String;
    let rows: [(&str, Text<'_>, u64); 5] = [
        ("interval", &interval, MAX_INTERVAL.as_secs()),
        ("jitter", &jitter, MAX_JITTER.as_secs()),
        (
            "settle",
            &|n| restart("settle", n),
            MAX_RESTART_WAIT.as_secs(),
        ),
        (
            "healthTimeout",
            &|n| restart("healthTimeout", n),
            MAX_RESTART_WAIT.as_secs(),
        ),
        ("image", &image, MAX_IMAGE_BYTES as u64),
    ];
    for (what, text, most) in rows {
        assert!(read(&text(most)).is_ok(), "{what}: {:?}", read(&text(most)));
        assert_eq!(faults(&text(most + 1)).len(), 1, "{what}");
    }
    assert!(read(&interval(MIN_INTERVAL.as_secs())).is_ok());
}

#[test]
fn more_faults_than_people_read_are_counted() {
    let fields: Vec<_> = (0..MAX_FAULTS + 5).map(|n| format!("x{n}: 1")).collect();
    let found = faults(&secret(&format!("{{ {} }}", fields.join(", "))));
    assert_eq!(found.len(), MAX_FAULTS + 1);
    assert!(
        found[MAX_FAULTS].ends_with("and 5 more; mend these first"),
        "{}",
        found[MAX_FAULTS]
    );
}

fn is_valid_under_schema(text: &str) -> bool {
    let path = format!("{}/manifest.v1.json", catalogue::GENERATED);
    let schema = catalogue::schemas()
        .into_iter()
        .find(|schema| schema.path == path)
        .unwrap();
    let validator =
        jsonschema::validator_for(&serde_json::from_str(&schema.text).unwrap()).unwrap();
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
        &secret("{ generator: {}, rotation: { interval: 12h, missedRun: skip } }"),
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
        binding("  file: { name: db }\n  reload: { signal: HUP, restart: {} }"),
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
