//! What is AWS's own: tokens that are versions' ids, labels, whole values and bytes, limits.

use keywheel_core::store::{RemoteVersion, Source};
use keywheel_engine::port::store::Store as _;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use keywheel_stores::aws::MAX_AWS_VALUE_BYTES;
use keywheel_testkit::conformance::store::{current, kind, plenty, refused, token};
use keywheel_testkit::server::aws::Maker;

use crate::hand::AtAws;

async fn promote(
    at_aws: &AtAws,
    at: &Source,
    n: u64,
    value: &[u8],
    expected: Option<&RemoteVersion>,
) -> Result<RemoteVersion, PortError> {
    let (value, until) = (bytes(value), plenty());
    let store = &at_aws.store;
    store.promote(at, token(n), &value, expected, &until).await
}

fn bytes(value: &[u8]) -> SecretBytes {
    SecretBytes::from(value.to_vec())
}

async fn every_case(maker: Maker) {
    let at_aws = AtAws::start(maker);
    a_token_is_its_versions_id_and_no_label_stays_behind(&at_aws).await;
    what_a_token_holds_is_never_replaced(&at_aws).await;
    a_first_value_is_made_once_whatever_id_the_server_gives(&at_aws).await;
    a_probe_clears_away_the_label_that_is_left(&at_aws).await;
    whole_values_are_text_or_bytes(&at_aws).await;
    other_fields_stay_as_they_are_written(&at_aws).await;
    a_field_that_cannot_be_read_or_written_is_named(&at_aws).await;
    a_pending_label_left_by_somebody_is_taken_over(&at_aws).await;
    what_is_to_be_deleted_is_not_written(&at_aws).await;
    values_end_at_the_limit_of_aws(&at_aws).await;
    an_arn_is_as_good_as_a_name(&at_aws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_at_moto() {
    every_case(Maker::Moto).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_at_ministack() {
    every_case(Maker::Ministack).await;
}

async fn a_token_is_its_versions_id_and_no_label_stays_behind(at_aws: &AtAws) {
    let (store, at) = (&at_aws.store, at_aws.place(""));
    at_aws.put(&at.path, b"a").await;
    let first = current(at_aws, &at).await;
    let id = token(1).to_string();
    store
        .stage(&at, token(1), &bytes(b"b"), &plenty())
        .await
        .unwrap();
    let labels = at_aws.labels(&at.path).await;
    assert_eq!(labels[&id], ["AWSPENDING"]);
    let staged = RemoteVersion(id.clone());
    let read = store.fetch(&at, &staged, &plenty()).await.unwrap();
    assert!(read.ct_eq(&bytes(b"b")), "what is staged can be tested");
    let made = promote(at_aws, &at, 1, b"b", Some(&first));
    assert_eq!(made.await.unwrap().0, id);
    let labels = at_aws.labels(&at.path).await;
    assert_eq!(labels[&id], ["AWSCURRENT"]);
    assert_eq!(labels[&first.0], ["AWSPREVIOUS"]);
    store.revoke(&at, &first, &plenty()).await.unwrap();
    store.unstage(&at, token(1), &plenty()).await.unwrap();
    let labels = at_aws.labels(&at.path).await;
    assert_eq!(
        labels.into_iter().collect::<Vec<_>>(),
        [(id, vec!["AWSCURRENT".to_owned()])]
    );
}

/// AWS refuses another value under a used token; both servers would take it.
async fn what_a_token_holds_is_never_replaced(at_aws: &AtAws) {
    let (store, at) = (&at_aws.store, at_aws.place(""));
    at_aws.put(&at.path, b"a").await;
    let first = current(at_aws, &at).await;
    store
        .stage(&at, token(1), &bytes(b"b"), &plenty())
        .await
        .unwrap();
    let again = store.stage(&at, token(1), &bytes(b"c"), &plenty()).await;
    assert_eq!(kind(again), ErrorKind::Conflict);
    let made = promote(at_aws, &at, 1, b"c", Some(&first));
    assert_eq!(kind(made.await), ErrorKind::Conflict);
    let held = RemoteVersion(token(1).to_string());
    let held = store.fetch(&at, &held, &plenty()).await.unwrap();
    assert!(held.ct_eq(&bytes(b"b")));
    assert_eq!(at_aws.whole(&at.path).await, b"a");
}

async fn a_first_value_is_made_once_whatever_id_the_server_gives(at_aws: &AtAws) {
    let (store, at) = (&at_aws.store, at_aws.place("password"));
    // There is nothing to put it beside yet.
    store
        .stage(&at, token(1), &bytes(b"a"), &plenty())
        .await
        .unwrap();
    assert_eq!(store.look(&at, &plenty()).await.unwrap(), None);
    let made = promote(at_aws, &at, 1, b"a", None).await.unwrap();
    for (n, value, found) in [(1, b"a", Some(made.clone())), (2, b"b", None)] {
        let (value, until) = (bytes(value), plenty());
        let probed = store.probe_promote(&at, token(n), &value, None, &until);
        assert_eq!(probed.await.unwrap(), found);
    }
    assert_eq!(at_aws.labels(&at.path).await.len(), 1);
    assert_eq!(at_aws.whole(&at.path).await, br#"{"password":"a"}"#);
    let other = promote(at_aws, &at, 2, b"b", None);
    assert_eq!(kind(other.await), ErrorKind::Conflict);
}

/// An attempt that was cut off between its two moves of labels.
async fn a_probe_clears_away_the_label_that_is_left(at_aws: &AtAws) {
    let (store, at) = (&at_aws.store, at_aws.place(""));
    at_aws.put(&at.path, b"a").await;
    let (first, new) = (current(at_aws, &at).await, bytes(b"b"));
    let until = plenty();
    store.stage(&at, token(1), &new, &until).await.unwrap();
    let id = token(1).to_string();
    at_aws
        .relabel(&at.path, "AWSCURRENT", Some(&first.0), Some(&id))
        .await;
    for _ in 0..2 {
        let found = store.probe_promote(&at, token(1), &new, Some(&first), &until);
        assert_eq!(found.await.unwrap(), Some(RemoteVersion(id.clone())));
    }
    assert_eq!(at_aws.labels(&at.path).await[&id], ["AWSCURRENT"]);
}

async fn whole_values_are_text_or_bytes(at_aws: &AtAws) {
    let (store, at) = (&at_aws.store, at_aws.place(""));
    at_aws.put(&at.path, b"\xff\x00a").await;
    let first = current(at_aws, &at).await;
    let read = store.fetch(&at, &first, &plenty()).await.unwrap();
    assert!(read.ct_eq(&bytes(b"\xff\x00a")));
    let made = promote(at_aws, &at, 1, b"\xfe\x00b", Some(&first));
    let made = made.await.unwrap();
    assert_eq!(at_aws.whole(&at.path).await, b"\xfe\x00b");
    let text = promote(at_aws, &at, 2, "é".as_bytes(), Some(&made));
    let text = text.await.unwrap();
    let read = at_aws.client.get_secret_value().secret_id(&at.path);
    let read = read.version_id(text.0).send().await.unwrap();
    assert_eq!(
        read.secret_string(),
        Some("é"),
        "people see text where it is text"
    );
}

async fn other_fields_stay_as_they_are_written(at_aws: &AtAws) {
    let (store, at) = (&at_aws.store, at_aws.place("password"));
    let before =
        "{\n  \"port\": 5432, \"big\": 1.0e400,\n  \"password\": \"a\", \"tls\": true\n}\n";
    at_aws.put(&at.path, before.as_bytes()).await;
    let first = current(at_aws, &at).await;
    let made = promote(at_aws, &at, 1, b"b", Some(&first));
    made.await.unwrap();
    let after = before.replace("\"a\"", "\"b\"");
    assert_eq!(at_aws.whole(&at.path).await, after.as_bytes());
    for (field, value) in [("port", "5432"), ("big", "1.0e400"), ("tls", "true")] {
        let field = Source {
            path: at.path.clone(),
            field: field.to_owned(),
        };
        let read = store.fetch(&field, &first, &plenty()).await.unwrap();
        assert!(read.ct_eq(&bytes(value.as_bytes())), "{value}");
    }
}

async fn a_field_that_cannot_be_read_or_written_is_named(at_aws: &AtAws) {
    let (store, at) = (&at_aws.store, at_aws.place("password"));
    at_aws.put(&at.path, b"plain words").await;
    let first = current(at_aws, &at).await;
    let read = refused(store.fetch(&at, &first, &plenty()).await);
    let written = promote(at_aws, &at, 1, b"b", Some(&first));
    let written = refused(written.await);
    for told in [read, written] {
        assert_eq!(told.kind, ErrorKind::Denied);
        assert!(
            told.text.contains("`password`") && told.text.contains("JSON"),
            "{told}"
        );
        assert!(!told.text.contains("plain words"), "{told}");
    }
    assert_eq!(at_aws.whole(&at.path).await, b"plain words");
}

async fn a_pending_label_left_by_somebody_is_taken_over(at_aws: &AtAws) {
    let (store, at) = (&at_aws.store, at_aws.place(""));
    at_aws.put(&at.path, b"a").await;
    let first = current(at_aws, &at).await;
    let left = at_aws.client.put_secret_value().secret_id(&at.path);
    let left = left.secret_string("left").version_stages("AWSPENDING");
    let left = left.send().await.unwrap().version_id.unwrap();
    store
        .stage(&at, token(1), &bytes(b"b"), &plenty())
        .await
        .unwrap();
    let labels = at_aws.labels(&at.path).await;
    assert!(
        !labels.contains_key(&left),
        "one version is pending: {labels:?}"
    );
    let made = promote(at_aws, &at, 1, b"b", Some(&first));
    made.await.unwrap();
    assert_eq!(at_aws.whole(&at.path).await, b"b");
}

async fn what_is_to_be_deleted_is_not_written(at_aws: &AtAws) {
    let (store, at) = (&at_aws.store, at_aws.place(""));
    at_aws.put(&at.path, b"a").await;
    let first = current(at_aws, &at).await;
    let deleted = at_aws.client.delete_secret().secret_id(&at.path);
    deleted.send().await.unwrap();
    let staged = store.stage(&at, token(1), &bytes(b"b"), &plenty()).await;
    let made = promote(at_aws, &at, 1, b"b", Some(&first));
    for told in [refused(staged), refused(made.await)] {
        assert_eq!(told.kind, ErrorKind::Denied);
        assert!(told.text.contains("restore-secret"), "{told}");
    }
    let restored = at_aws.client.restore_secret().secret_id(&at.path);
    restored.send().await.unwrap();
    assert_eq!(current(at_aws, &at).await, first);
}

async fn values_end_at_the_limit_of_aws(at_aws: &AtAws) {
    let (store, at) = (&at_aws.store, at_aws.place(""));
    for (n, length) in [(1, MAX_AWS_VALUE_BYTES + 1), (2, 0)] {
        let value = vec![b'x'; length];
        let told = refused(promote(at_aws, &at, n, &value, None).await);
        assert_eq!(told.kind, ErrorKind::Denied);
        assert!(told.text.contains("65536"), "{told}");
    }
    let longest = vec![b'x'; MAX_AWS_VALUE_BYTES];
    let made = promote(at_aws, &at, 3, &longest, None).await;
    let read = store.fetch(&at, &made.unwrap(), &plenty()).await.unwrap();
    assert!(read.ct_eq(&bytes(&longest)));
}

async fn an_arn_is_as_good_as_a_name(at_aws: &AtAws) {
    let at = at_aws.place("");
    at_aws.put(&at.path, b"a").await;
    let described = at_aws.client.describe_secret().secret_id(&at.path);
    let by_arn = Source {
        path: described.send().await.unwrap().arn.unwrap(),
        field: String::new(),
    };
    let first = current(at_aws, &by_arn).await;
    assert_eq!(current(at_aws, &at).await, first);
    let made = promote(at_aws, &by_arn, 1, b"b", Some(&first));
    made.await.unwrap();
    assert_eq!(at_aws.whole(&at.path).await, b"b");
    let mut gone = by_arn;
    gone.path.replace_range(gone.path.len() - 6.., "AbCdEf");
    let told = refused(promote(at_aws, &gone, 2, b"b", None).await);
    assert!(told.text.contains("by ARN"), "{told}");
}
