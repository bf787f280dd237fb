//! The laws of a key service: what it wrapped opens with the same key and binding, and with nothing else.

use keywheel_core::id::DeploymentId;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::key_service::{Binding, KeyService, MAX_PLAIN_BYTES};
use keywheel_seal::SecretBytes;

use super::store::{plenty, refused, text, too_late, value};

/// Of this deployment.
fn binding(deployment: u8) -> Binding {
    Binding {
        deployment: DeploymentId::from_bytes([deployment; 16]),
    }
}

/// Runs them against two keys of one service.
///
/// # Panics
/// When a law is broken.
pub async fn check(own: &dyn KeyService, other: &dyn KeyService) {
    it_gives_back_what_it_took_as_often_as_it_is_asked(own).await;
    nothing_else_opens_it(own, other).await;
    a_call_begins_only_before_its_deadline(own).await;
}

async fn it_gives_back_what_it_took_as_often_as_it_is_asked(own: &dyn KeyService) {
    let longest = SecretBytes::from(vec![7; MAX_PLAIN_BYTES]);
    for plain in [value("wrapped"), longest] {
        let wrapped = own.wrap(&plain, &binding(1), &plenty()).await.unwrap();
        let canary = text("wrapped").into_bytes();
        let tells = wrapped.windows(canary.len()).any(|part| part == canary);
        assert!(!tells, "what is kept holds the key");
        for _ in 0..2 {
            let opened = own.unwrap(&wrapped, &binding(1), &plenty()).await;
            assert!(opened.unwrap().ct_eq(&plain));
        }
    }
}

async fn nothing_else_opens_it(own: &dyn KeyService, other: &dyn KeyService) {
    assert_ne!(own.key(), other.key());
    let plain = value("bound");
    let wrapped = own.wrap(&plain, &binding(1), &plenty()).await.unwrap();
    let elsewhere = own.unwrap(&wrapped, &binding(2), &plenty()).await;
    told(own, elsewhere, "another deployment");
    let by_other = other.unwrap(&wrapped, &binding(1), &plenty()).await;
    told(other, by_other, "another key");
    for at in [wrapped.len() / 2, wrapped.len() - 1] {
        let mut changed = wrapped.clone();
        changed[at] ^= 1;
        let opened = own.unwrap(&changed, &binding(1), &plenty()).await;
        told(own, opened, "a changed byte");
    }
    let cut = own
        .unwrap(&wrapped[..wrapped.len() / 2], &binding(1), &plenty())
        .await;
    told(own, cut, "half of it");
    let opened = own.unwrap(&wrapped, &binding(1), &plenty()).await;
    assert!(opened.unwrap().ct_eq(&plain), "nothing was used up");
}

/// A refusal that names the key.
fn told<T>(
    service: &dyn KeyService,
    answer: Result<T, keywheel_engine::port::PortError>,
    what: &str,
) {
    let error = refused(answer);
    assert_eq!(error.kind, ErrorKind::Denied, "{what}: {error}");
    assert!(error.text.contains(service.key()), "{what}: {error}");
}

async fn a_call_begins_only_before_its_deadline(own: &dyn KeyService) {
    let plain = value("late");
    let late = own.wrap(&plain, &binding(1), &too_late()).await;
    assert_eq!(refused(late).kind, ErrorKind::Unavailable);
    let wrapped = own.wrap(&plain, &binding(1), &plenty()).await.unwrap();
    let late = own.unwrap(&wrapped, &binding(1), &too_late()).await;
    assert_eq!(refused(late).kind, ErrorKind::Unavailable);
}
