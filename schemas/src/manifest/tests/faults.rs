//! What is no manifest, and what people are told about it.

use super::*;

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
        "known fields: store, source, generator, rotation, credentialFor, rotator",
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
        "`Bindings` is not a kind (did you mean `Binding`?); known kinds: Secret, Binding, Store, Notification, SignalSource, Playbook",
    );
    one_fault(
        &EXAMPLE.replace("kind: Binding", "kind: Deployment"),
        "10:7",
        "known kinds: Secret, Binding, Store, Notification, SignalSource, Playbook",
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
    for (targets, place, part) in [
        (
            "  file: { name: db }\n  files: { name: db }",
            "8:3",
            "`file` and `files`",
        ),
        (
            "  files: { name: db }\n  env: { name: DB }",
            "8:3",
            "`files` and `env`",
        ),
    ] {
        one_fault(&binding(targets), place, part);
    }
    one_fault(&binding(""), "5:3", "`file`, `files` or `env` is missing");
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
fn a_reload_command_that_cannot_be_one_is_refused_at_its_place() {
    one_fault(
        &binding("  env: { name: DB }\n  reload: { command: [reload] }"),
        "8:3",
        "only a restart can change",
    );
    one_fault(
        &binding("  env: { name: DB }\n  reload: label"),
        "8:3",
        "only a restart can change",
    );
    let command =
        |fields: &str| binding(&format!("  file: {{ name: db }}\n  reload: {{ {fields} }}"));
    for (fields, at, part) in [
        ("command: nginx -s reload", "8:22", "list of words"),
        ("command: []", "8:22", "names no program"),
        ("command: [\"\"]", "8:22", "names no program"),
        ("command: [sleep, 5]", "8:30", "put it in quotes"),
        ("command: [a], timeout: 6m", "8:36", "between 1s and 300s"),
        ("command: [a], timeout: 0s", "8:36", "between 1s and 300s"),
        ("signal: HUP, timeout: 5s", "8:26", "is a command's"),
        (
            "signal: HUP, command: [a]",
            "8:11",
            "either `signal` or `restart` or `command`",
        ),
    ] {
        one_fault(&command(fields), at, part);
    }
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
        "{ host: web-1, name: web, user: \"1000\", project: shop }",
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
fn a_container_is_meant_by_name_project_and_user_and_what_cannot_be_read_is_not_left_out() {
    let with = |containers: &str| {
        binding("  file: { name: db }").replace("{ host: web-1, image: shop/app }", containers)
    };
    let text = "{ host: web-1, image: shop/app, name: shop-web-*, project: shop, user: root, labels: { app: web } }";
    let manifests = read(&with(text)).unwrap();
    let [Manifest::Binding { selector, .. }] = &manifests[..] else {
        panic!("{manifests:?}")
    };
    assert_eq!(selector.name.as_deref(), Some("shop-web-*"));
    assert_eq!(selector.user.as_deref(), Some("0"));
    assert_eq!(selector.labels["com.docker.compose.project"], "shop");
    assert_eq!(selector.labels.len(), 2);
    for (field, at, part) in [
        ("name: a/b", "6:53", "no name of a container"),
        ("name: \"*\"", "6:53", "no name of a container"),
        ("user: \"1000:1000\"", "6:53", "without a group"),
        ("user: 1000", "6:53", "put it in quotes"),
        ("project: \"\"", "6:56", "a project's name"),
        (
            "project: shop, labels: { com.docker.compose.project: other }",
            "6:47",
            "two projects",
        ),
    ] {
        let text = format!("{{ host: web-1, image: shop/app, {field} }}");
        one_fault(&with(&text), at, part);
    }
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
    one_fault(
        &rotation("{ onDeadline: kill }"),
        "4:48",
        "write `hold` or `force`",
    );
    one_fault(
        &rotation("{ ack: swapped }"),
        "4:41",
        "write `reloaded` or `drained`",
    );
    one_fault(&rotation("{ deadline: 9s }"), "4:46", "between 10s and 7d");
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
fn a_template_that_is_none_is_refused_with_its_line() {
    let with = |template: &str| binding(&format!("  file: {{ name: db, template: {template:?} }}"));
    for (template, part) in [
        (
            "a\n{{ secret(\"db\" }}",
            "line 2 of the template: `)` is missing",
        ),
        (
            "{{ secret(\"other\") }}",
            "own secret `db` is named by no template",
        ),
        ("{% for x in y %}", "there are no statements"),
        ("no place", "has no place for the value"),
    ] {
        let found = faults(&with(template));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].starts_with("app.yaml:7:") && found[0].contains(part),
            "{found:#?}"
        );
    }
    one_fault(
        &binding("  file: { name: db, template: 5 }"),
        "7:31",
        "put it in quotes",
    );
}

#[test]
fn files_that_do_not_go_together_are_refused_at_their_place() {
    let with = |templates: &str| {
        binding(&format!(
            "  files:\n    name: db\n    templates: {templates}"
        ))
    };
    let value = "'{{ secret(\"db\") }}'";
    for (templates, part) in [
        ("{}".to_owned(), "there are 0 files"),
        (
            "{ a: '{{ secret(\"other\") }}' }".to_owned(),
            "own secret `db` is named by no template",
        ),
        ("{ a: none }".to_owned(), "has no place for the value"),
        (format!("{{ .a: {value} }}"), "file name"),
        ("{ a: 5 }".to_owned(), "put it in quotes"),
    ] {
        let found = faults(&with(&templates));
        assert_eq!(found.len(), 1, "{found:#?}");
        assert!(
            found[0].starts_with("app.yaml:9:") && found[0].contains(part),
            "{found:#?}"
        );
    }
    let missing = binding("  files: { name: db }");
    one_fault(&missing, "7:12", "`templates` is missing in files");
}
