//! Every format: what is read of it, what is refused, and that no token is kept.

use hyper::header::{HeaderName, HeaderValue};
use keywheel_seal::envelope::UnsealKey;
use serde_json::json;

use super::*;

const CANARY: &str = "ghp_canary0123456789";

fn via() -> SignalSourceName {
    SignalSourceName::parse("pager").unwrap()
}

fn key(byte: u8) -> LetterKey {
    let unseal = SecretBytes::from(vec![byte; 32]);
    LetterKey::of(&UnsealKey::from_file(&unseal).unwrap())
}

/// Reads as one installation does.
fn read(via: &SignalSourceName, spec: &Spec, came: &Arrived) -> Result<Vec<Heard>, Unread> {
    super::read(via, spec, came, &key(1))
}

fn spec(format: Format, proof: Proof, map: &[(&str, &str)]) -> Spec {
    let pair = |(name, text): &(&str, &str)| ((*name).to_owned(), (*text).to_owned());
    Spec {
        format,
        proof,
        key_file: "/k".to_owned(),
        map: map.iter().map(pair).collect(),
        keeps_letters: true,
    }
}

fn arrived(headers: &[(&str, &str)], body: &Value) -> Arrived {
    let pair = |(name, value): &(&str, &str)| {
        let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
        (name, HeaderValue::from_str(value).unwrap())
    };
    let headers: HeaderMap = headers.iter().map(pair).collect();
    Arrived::of(&headers, body.to_string().as_bytes())
}

fn event(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "https://scan.example", "type": "com.example.leak",
        "data": { "secret": "prod/db", "n": 3 },
    })
}

const STRUCTURED: (&str, &str) = (
    "content-type",
    "application/cloudevents+json; charset=utf-8",
);
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");

#[test]
fn a_cloud_event_is_read_in_each_mode() {
    let map = [("secret", "body.secret"), ("team", "body.team")];
    let signed = spec(Format::CloudEvents, Proof::StandardWebhooks, &map);
    let read_one = |came: &Arrived, spec: &Spec| read(&via(), spec, came).unwrap().remove(0).signal;
    let one = read_one(&arrived(&[STRUCTURED], &event("7")), &signed);
    assert_eq!(
        (one.id.as_str(), one.kind.as_str()),
        ("7", "com.example.leak")
    );
    assert_eq!(
        one.fields,
        BTreeMap::from([("secret".to_owned(), "prod/db".to_owned())])
    );
    let batch = arrived(&[BATCH], &json!([event("7"), event("8")]));
    assert_eq!(read(&via(), &signed, &batch).unwrap().len(), 2);
    let binary = arrived(
        &[
            ("content-type", "application/json"),
            ("ce-specversion", "1.0"),
            ("ce-id", "9"),
            ("ce-source", "https://scan.example"),
            ("ce-type", "com.example.leak"),
            ("ce-subject", "a%20b"),
        ],
        &json!({ "secret": "prod/ca" }),
    );
    let with_token = spec(Format::CloudEvents, Proof::Bearer, &map);
    let one = read_one(&binary, &with_token);
    assert_eq!((one.id.as_str(), one.subject.as_str()), ("9", "a b"));
    assert_eq!(one.fields["secret"], "prod/ca");
    let refused = read(&via(), &signed, &binary).unwrap_err();
    assert!(refused.reason.contains("does not cover"), "{refused:?}");
    assert!(refused.may_be_kept);
}

#[test]
fn what_is_no_cloud_event_is_refused() {
    let spec = spec(Format::CloudEvents, Proof::Bearer, &[("n", "body.n")]);
    let refused = |came: &Arrived| read(&via(), &spec, came).unwrap_err().reason;
    let without = |name: &str| {
        let mut event = event("7");
        event.as_object_mut().unwrap().remove(name);
        refused(&arrived(&[STRUCTURED], &event))
    };
    for name in ["specversion", "id", "source", "type"] {
        assert_eq!(without(name), format!("its attribute `{name}` is missing"));
    }
    let mut newer = event("7");
    newer["specversion"] = "2.0".into();
    assert!(refused(&arrived(&[STRUCTURED], &newer)).contains("another version"));
    let plain = arrived(&[("content-type", "application/json")], &event("7"));
    assert!(refused(&plain).contains("is no CloudEvent"));
    let mut long = event("7");
    long["source"] = "x".repeat(MAX_SIGNAL_TEXT_BYTES + 1).into();
    assert!(refused(&arrived(&[STRUCTURED], &long)).contains("more than"));
    let many: Vec<Value> = (0..=MAX_BATCH).map(|n| event(&n.to_string())).collect();
    assert!(refused(&arrived(&[BATCH], &json!(many))).contains("more than 100"));
    let fits = arrived(&[BATCH], &json!(many[1..]));
    assert_eq!(read(&via(), &spec, &fits).unwrap().len(), MAX_BATCH);
}

#[test]
fn a_webhook_s_content_is_mapped() {
    let map = [
        ("id", "body.incident.id"),
        ("type", "\"leak\""),
        ("secret", "body.path"),
    ];
    let spec = spec(Format::Webhook, Proof::StandardWebhooks, &map);
    let came = arrived(
        &[],
        &json!({ "incident": { "id": 4711 }, "path": "prod/db" }),
    );
    let one = read(&via(), &spec, &came).unwrap().remove(0).signal;
    assert_eq!((one.id.as_str(), one.source.as_str()), ("4711", "pager"));
    assert_eq!((one.kind.as_str(), one.fields.len()), ("leak", 1));
    let nameless = arrived(&[], &json!({ "path": "prod/db" }));
    let refused = read(&via(), &spec, &nameless).unwrap_err();
    assert!(
        refused.may_be_kept && refused.reason.contains("`id`"),
        "{refused:?}"
    );
}

fn is_canary(heard: &Heard) -> bool {
    let canary = SecretBytes::from(CANARY.as_bytes().to_vec());
    heard
        .token
        .as_ref()
        .is_some_and(|token| token.ct_eq(&canary))
}

#[test]
fn a_token_that_a_mapping_names_is_no_field_of_its_signal() {
    let map = [
        ("id", "body.id"),
        ("type", "\"leak\""),
        ("token", "body.value"),
        ("path", "body.path"),
    ];
    let content = |value: &str| json!({ "id": "7", "value": value, "path": "a/b" });
    let webhook = spec(Format::Webhook, Proof::Bearer, &map);
    let mut event = event("7");
    event["data"] = content(CANARY);
    let cloud = spec(Format::CloudEvents, Proof::Bearer, &map[2..]);
    for (spec, came) in [
        (&webhook, arrived(&[], &content(CANARY))),
        (&cloud, arrived(&[STRUCTURED], &event)),
    ] {
        let heard = read(&via(), spec, &came).unwrap().remove(0);
        assert!(is_canary(&heard), "{:?}", spec.format);
        assert_eq!(heard.signal.fields.len(), 1, "{:?}", heard.signal);
        assert!(!format!("{heard:?}").contains(CANARY));
    }
    let empty = read(&via(), &webhook, &arrived(&[], &content(""))).unwrap();
    assert!(empty[0].token.is_none());
    let nameless = arrived(&[], &json!({ "value": CANARY }));
    let refused = read(&via(), &webhook, &nameless).unwrap_err();
    assert!(!refused.may_be_kept, "it holds a token, whatever is said");
}

#[test]
fn an_alert_of_github_is_read_without_its_token() {
    let spec = spec(Format::GithubAlert, Proof::HubSignature, &[]);
    let alert = json!({
        "action": "created",
        "alert": {
            "number": 42, "secret": CANARY, "secret_type": "aws", "validity": "active",
            "html_url": "https://github.com/o/r/security/secret-scanning/42", "resolution": null,
        },
        "repository": { "full_name": "o/r" },
    });
    let scanned = ("x-github-event", "secret_scanning_alert");
    let heard = read(&via(), &spec, &arrived(&[scanned], &alert)).unwrap();
    assert!(!format!("{heard:?}").contains(CANARY));
    assert!(is_canary(&heard[0]), "it is there to be compared");
    let signal = &heard[0].signal;
    assert_eq!(signal.kind, "com.github.secret_scanning_alert.created");
    assert_eq!(signal.fields["validity"], "active");
    let again = read(&via(), &spec, &arrived(&[scanned], &alert)).unwrap();
    assert_eq!(
        &again[0].signal, signal,
        "the same content is the same signal"
    );
    let elsewhere = super::read(&via(), &spec, &arrived(&[scanned], &alert), &key(2)).unwrap();
    assert_ne!(
        elsewhere[0].signal.id, signal.id,
        "its id can be made by nobody who guesses its token"
    );
    let ping = arrived(&[("x-github-event", "ping")], &json!({}));
    assert!(read(&via(), &spec, &ping).unwrap().is_empty());
    let push = arrived(&[("x-github-event", "push")], &alert);
    let refused = read(&via(), &spec, &push).unwrap_err();
    assert!(!refused.may_be_kept && !refused.reason.contains(CANARY));
}

#[test]
fn a_partner_s_reports_are_read_without_their_tokens() {
    let spec = spec(Format::GithubPartner, Proof::GithubPartner, &[]);
    let report =
        |url: &str| json!({ "token": CANARY, "type": "my_token", "url": url, "source": "content" });
    let came = arrived(&[], &json!([report("https://a"), report("https://a")]));
    let heard = read(&via(), &spec, &came).unwrap();
    assert!(!format!("{heard:?}").contains(CANARY));
    assert!(heard.iter().all(is_canary), "they are there to be compared");
    let first = &heard[0].signal;
    assert_eq!(
        (heard.len(), first.fields["secret_type"].as_str()),
        (2, "my_token")
    );
    assert_ne!(first.id, heard[1].signal.id);
    let many: Vec<Value> = (0..=MAX_BATCH).map(|_| report("u")).collect();
    let refused = read(&via(), &spec, &arrived(&[], &json!(many))).unwrap_err();
    assert!(!refused.may_be_kept && !refused.reason.contains(CANARY));
}

#[test]
fn hostile_bytes_are_read_or_refused() {
    for format in [Format::CloudEvents, Format::Webhook, Format::GithubPartner] {
        let spec = spec(
            format,
            Proof::Bearer,
            &[("id", "body.id"), ("type", "body.type")],
        );
        let seed = event("7").to_string();
        keywheel_testkit::hostile(seed.as_bytes(), |bytes| {
            let headers = HeaderMap::from_iter([(
                hyper::header::CONTENT_TYPE,
                HeaderValue::from_static("application/cloudevents+json"),
            )]);
            let _read = read(&via(), &spec, &Arrived::of(&headers, bytes));
        });
    }
}
