//! What every keeper of subscriptions has to keep: the laws of `port::subscriptions`.

use std::future::Future;
use std::sync::Arc;

use keywheel_core::id::SubscriptionId;
use keywheel_core::name::SubscriptionName;
use keywheel_engine::port::ErrorKind;
use keywheel_engine::port::journal::Journal;
use keywheel_engine::port::subscriptions::MAX_SUBSCRIPTIONS;

/// Drawn for those that are made.
const ID: SubscriptionId = SubscriptionId::from_bytes([7; 16]);
/// Drawn for one that is made again.
const NEXT: SubscriptionId = SubscriptionId::from_bytes([8; 16]);

type Ends = [Arc<dyn Journal>; 2];

/// Runs every case, each on an empty log. `fresh` gives two ends of it: those of two processes where an
/// adapter can be shared, else the same one twice.
///
/// # Panics
/// When a law is broken.
pub async fn check<F, R>(fresh: F)
where
    F: Fn() -> R,
    R: Future<Output = Ends>,
{
    a_place_is_kept_and_never_goes_back(&fresh().await).await;
    one_made_again_is_not_moved_by_who_knew_the_one_before(&fresh().await).await;
    an_unknown_name_is_not_found(&fresh().await).await;
    there_are_as_many_as_there_may_be(&fresh().await).await;
    no_acknowledgement_is_an_event(&fresh().await).await;
}

fn name(text: &str) -> SubscriptionName {
    SubscriptionName::parse(text).unwrap()
}

async fn kept(end: &Arc<dyn Journal>) -> Vec<(String, u64)> {
    let all = end.subscriptions().await.unwrap();
    let pair = |one: keywheel_engine::port::subscriptions::Subscription| {
        (one.name.to_string(), one.acknowledged)
    };
    all.into_iter().map(pair).collect()
}

async fn a_place_is_kept_and_never_goes_back([one, other]: &Ends) {
    assert_eq!(kept(one).await, []);
    let made = one.subscribe(&name("siem"), ID, 4).await.unwrap();
    let expected = (ID, name("siem"), 4);
    assert_eq!((made.id, made.name, made.acknowledged), expected);
    let again = other.subscribe(&name("siem"), NEXT, 9).await.unwrap();
    let stays = (ID, 4);
    assert_eq!((again.id, again.acknowledged), stays, "it is the same one");
    for (number, expected) in [(7, 7), (6, 7), (7, 7), (8, 8)] {
        let moved = other.acknowledge(&name("siem"), ID, number).await.unwrap();
        assert_eq!(moved.acknowledged, expected);
        assert_eq!(kept(one).await, [("siem".to_owned(), expected)]);
    }
    other.subscribe(&name("alarm"), ID, 0).await.unwrap();
    let both = [("alarm".to_owned(), 0), ("siem".to_owned(), 8)];
    assert_eq!(kept(one).await, both, "by name");
    one.unsubscribe(&name("siem")).await.unwrap();
    assert_eq!(kept(other).await, [("alarm".to_owned(), 0)]);
}

async fn one_made_again_is_not_moved_by_who_knew_the_one_before([one, other]: &Ends) {
    one.subscribe(&name("siem"), ID, 2).await.unwrap();
    other.acknowledge(&name("siem"), ID, 5).await.unwrap();
    one.unsubscribe(&name("siem")).await.unwrap();
    let made = other.subscribe(&name("siem"), NEXT, 1).await.unwrap();
    assert_eq!((made.id, made.acknowledged), (NEXT, 1));
    let late = one.acknowledge(&name("siem"), ID, 6).await.unwrap_err();
    assert_eq!(late.kind, ErrorKind::Conflict);
    assert!(late.text.contains("made again"), "{late}");
    assert_eq!(kept(one).await, [("siem".to_owned(), 1)]);
    let moved = one.acknowledge(&name("siem"), NEXT, 3).await.unwrap();
    assert_eq!(moved.acknowledged, 3);
}

async fn an_unknown_name_is_not_found([one, other]: &Ends) {
    let refused = one.acknowledge(&name("none"), ID, 1).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound);
    let refused = other.unsubscribe(&name("none")).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::NotFound);
    assert_eq!(kept(one).await, []);
}

async fn there_are_as_many_as_there_may_be([one, other]: &Ends) {
    for number in 0..MAX_SUBSCRIPTIONS {
        let end = if number % 2 == 0 { one } else { other };
        end.subscribe(&name(&format!("s{number}")), ID, 0)
            .await
            .unwrap();
    }
    let refused = one.subscribe(&name("one-more"), ID, 0).await.unwrap_err();
    assert_eq!(refused.kind, ErrorKind::Conflict);
    assert!(refused.text.contains("unsubscribe"), "{refused}");
    one.subscribe(&name("s0"), ID, 0).await.unwrap();
    one.unsubscribe(&name("s0")).await.unwrap();
    other.subscribe(&name("one-more"), ID, 0).await.unwrap();
    assert_eq!(kept(one).await.len(), MAX_SUBSCRIPTIONS);
}

async fn no_acknowledgement_is_an_event([one, other]: &Ends) {
    let before = one.head().await.unwrap();
    one.subscribe(&name("siem"), ID, 0).await.unwrap();
    other.acknowledge(&name("siem"), ID, 3).await.unwrap();
    one.unsubscribe(&name("siem")).await.unwrap();
    assert_eq!(one.head().await.unwrap(), before);
    let verified = one.verify().await.unwrap();
    assert_eq!(verified.faults, Vec::<String>::new());
}
