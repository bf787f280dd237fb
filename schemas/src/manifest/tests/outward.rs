//! Notifications and sources of signals: read whole, refused with place and next step.

use keywheel_core::notification::{
    self, MAX_MAIL_ADDRESS_BYTES, MAX_NOTIFICATION_TEXT_BYTES, Receiver,
};
use keywheel_core::signal::{self, Format, MAX_SIGNAL_FIELDS, Proof};

use super::*;
use crate::manifest::MAX_FIELD_NAME_BYTES;

const KEY: &str = "keyFile: /etc/keywheel/signals/key";

fn document(kind: &str, spec: &str) -> String {
    format!("apiVersion: keywheel.dev/v1\nkind: {kind}\nmetadata: {{ name: soc }}\nspec: {spec}\n")
}

fn told(spec: &str) -> notification::Spec {
    let text = document("Notification", spec);
    assert!(is_valid_under_schema(&text), "{text}");
    match read(&text).unwrap().remove(0) {
        Manifest::Notification { spec, .. } => spec,
        other => panic!("{other:?}"),
    }
}

fn heard(spec: &str) -> signal::Spec {
    let text = document("SignalSource", spec);
    assert!(is_valid_under_schema(&text), "{text}");
    match read(&text).unwrap().remove(0) {
        Manifest::SignalSource { spec, .. } => spec,
        other => panic!("{other:?}"),
    }
}

/// Asserts that a document has exactly one fault, which says `part`.
fn refused(kind: &str, spec: &str, part: &str) {
    let found = faults(&document(kind, spec));
    assert_eq!(found.len(), 1, "{spec}: {found:#?}");
    assert!(found[0].contains(part), "`{part}` is not in: {}", found[0]);
}

fn email(to: &str) -> String {
    format!(
        "{{ email: {{ url: 'smtps://mail.example', from: keywheel@example.org, to: '{to}' }} }}"
    )
}

#[test]
fn every_kind_of_receiver_is_read() {
    let spec = told(&format!(
        "{{ webhook: {{ url: 'https://hooks.example/k', {KEY}, caFile: /etc/ca.pem }}, when: 'event.secret != \"\"' }}"
    ));
    assert_eq!(spec.when, "event.secret != \"\"");
    let webhook = Receiver::Webhook {
        url: "https://hooks.example/k".to_owned(),
        key_file: "/etc/keywheel/signals/key".to_owned(),
        ca_file: "/etc/ca.pem".to_owned(),
    };
    assert_eq!(spec.receiver, webhook);
    let slack = told("{ slack: { urlFile: /etc/keywheel/signals/slack } }");
    assert_eq!((slack.receiver.word(), slack.when.as_str()), ("slack", ""));
    let nats = told("{ nats: { url: 'nats://127.0.0.1:4222', subject: security.keywheel } }");
    assert_eq!(nats.receiver.place(), "nats://127.0.0.1:4222");
    let email = told(&email("ops@example.org"));
    assert_eq!(
        (email.receiver.word(), email.receiver.place()),
        ("email", "ops@example.org")
    );
}

#[test]
fn a_receiver_that_cannot_be_told_is_refused() {
    let webhook = |url: &str| format!("{{ webhook: {{ url: '{url}', {KEY} }} }}");
    refused("Notification", "{ when: 'true' }", "takes one of `webhook`");
    let two = "{ slack: { urlFile: /s }, nats: { url: 'tls://n', subject: a } }";
    refused("Notification", two, "takes one of `webhook`");
    for (url, part) in [
        ("http://hooks.example/k", "has to begin with https://"),
        ("http://127.0.0.1.example/k", "has to begin with https://"),
        ("https://me:canary@hooks.example/k", "holds a login"),
        ("https://hooks.example/?canary", "holds a login"),
        ("hooks.example", "is no URL"),
    ] {
        refused("Notification", &webhook(url), part);
        let found = faults(&document("Notification", &webhook(url)));
        assert!(!found[0].contains("canary"), "{}", found[0]);
    }
    let longest = |bytes: usize| webhook(&format!("https://h/{}", "a".repeat(bytes - 10)));
    told(&longest(MAX_NOTIFICATION_TEXT_BYTES));
    refused(
        "Notification",
        &longest(MAX_NOTIFICATION_TEXT_BYTES + 1),
        "is too long",
    );
    let subject = "{ nats: { url: 'tls://n', subject: 'a.>' } }";
    refused("Notification", subject, "without `*` and `>`");
    for to in ["ops", "a b@c", "<a@b>", "a@b\\nRCPT", "@b", "a@"] {
        refused("Notification", &email(to), "no plain address");
    }
    let longest = |bytes: usize| email(&format!("{}@b", "a".repeat(bytes - 2)));
    told(&longest(MAX_MAIL_ADDRESS_BYTES));
    refused(
        "Notification",
        &longest(MAX_MAIL_ADDRESS_BYTES + 1),
        "no plain address",
    );
    let clear = "{ email: { url: 'smtp://mail.example', from: a@b, to: a@b } }";
    refused("Notification", clear, "has to begin with smtps://");
    let up = "{ slack: { urlFile: /etc/keywheel/signals/../unseal.key } }";
    refused("Notification", up, "`signals.credentials_dir`");
    let held = "{ slack: { urlFile: /s }, when: held }";
    refused("Notification", held, "names `held`");
}

#[test]
fn every_format_of_signals_is_read() {
    let spec = heard(&format!("{{ format: cloudEvents, {KEY} }}"));
    assert_eq!(
        (spec.format, spec.proof),
        (Format::CloudEvents, Proof::StandardWebhooks)
    );
    let alert = heard(&format!("{{ format: githubAlert, {KEY} }}"));
    assert_eq!(alert.proof, Proof::HubSignature);
    let partner = heard(&format!("{{ format: githubPartner, {KEY} }}"));
    assert_eq!(partner.proof, Proof::GithubPartner);
    let spec = heard(&format!(
        "{{ format: webhook, proof: bearer, {KEY}, map: {{ id: body.id, type: '\"leak\"', secret: body.secret }} }}"
    ));
    assert_eq!((spec.proof, spec.map.len()), (Proof::Bearer, 3));
}

#[test]
fn a_source_that_cannot_be_believed_or_read_is_refused() {
    let source = |fields: &str| format!("{{ {KEY}, {fields} }}");
    for (fields, part) in [
        ("format: cloudEvent", "did you mean `cloudEvents`?"),
        (
            "format: cloudEvents, proof: hmac",
            "is no proof of a sender",
        ),
        (
            "format: githubAlert, proof: bearer",
            "GitHub signs in one way",
        ),
        ("format: webhook", "what names a signal"),
        (
            "format: webhook, map: { id: body.id }",
            "what names a signal",
        ),
        ("format: githubAlert, map: { a: body.a }", "no token is"),
        ("format: cloudEvents, map: { id: body.a }", "names itself"),
        ("format: cloudEvents, map: { A: body.a }", "is no name for"),
        (
            "format: cloudEvents, map: { a: event.a }",
            "may name `body`",
        ),
    ] {
        refused("SignalSource", &source(fields), part);
    }
    let longest = "a".repeat(MAX_FIELD_NAME_BYTES);
    heard(&source(&format!(
        "format: cloudEvents, map: {{ {longest}: body.a }}"
    )));
    refused(
        "SignalSource",
        &source(&format!(
            "format: cloudEvents, map: {{ {longest}a: body.a }}"
        )),
        "is no name for",
    );
    let many = |count: usize| {
        let fields: Vec<String> = (0..count).map(|n| format!("f{n}: body.a")).collect();
        source(&format!(
            "format: cloudEvents, map: {{ {} }}",
            fields.join(", ")
        ))
    };
    heard(&many(MAX_SIGNAL_FIELDS));
    // What is only compared is none of them.
    let with_token = many(MAX_SIGNAL_FIELDS).replace("map: {", "map: { token: body.value,");
    assert_eq!(heard(&with_token).map.len(), MAX_SIGNAL_FIELDS + 1);
    refused(
        "SignalSource",
        &many(MAX_SIGNAL_FIELDS + 1),
        "keeps more than",
    );
}

#[test]
fn a_signal_leads_to_a_rotation() {
    let rule = "onEvent: [{ type: dev.keywheel.signal.received.v1, when: 'event.data.type == \"com.example.leak\" && event.data.fields.secret == \"db\"' }]";
    let text = secret(&format!("{{ generator: {{}}, rotation: {{ {rule} }} }}"));
    assert!(read(&text).is_ok());
    assert!(is_valid_under_schema(&text));
}

#[test]
fn what_cannot_be_read_is_kept_only_where_that_is_said() {
    let of = |rest: &str| heard(&format!("{{ format: cloudEvents, {KEY}{rest} }}")).keeps_letters;
    assert!(!of("") && !of(", letters: discard") && of(", letters: keep"));
    let github = format!("{{ format: githubAlert, {KEY}, letters: keep }}");
    refused(
        "SignalSource",
        &github,
        "nothing is kept of what GitHub reports",
    );
    let token =
        format!("{{ format: cloudEvents, {KEY}, map: {{ token: body.value }}, letters: keep }}");
    refused(
        "SignalSource",
        &token,
        "nothing is kept of what holds a token",
    );
    let unknown = format!("{{ format: cloudEvents, {KEY}, letters: always }}");
    refused("SignalSource", &unknown, "known are keep, discard");
}
