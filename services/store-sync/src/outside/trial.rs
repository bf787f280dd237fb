//! Trying a store that is about to be declared, and the rights that secrets are about to need there.
//!
//! Invariants: all that is missing is told at once, not the first of it; what was not asked in time is
//! counted and told, and refuses nothing; no more is asked at once than in a cycle.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::store::{CredentialNow, NamedStore, PlannedUse};
use keywheel_engine::port::store::Store;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use tokio::task::JoinSet;

use super::look::LOOK_SPAN;
use super::sweep::MAX_LOOKS;
use super::watch::bounded_check;
use crate::service::Shared;

/// How long asking for rights may take before a store is declared: with [`LOOK_SPAN`] it is less than
/// what the gateway waits.
pub(crate) const RIGHTS_SPAN: Duration = Duration::from_secs(4);
/// Most places whose missing rights are told in words, and most things that could not be tried; of
/// more the number is told.
pub(crate) const MAX_TOLD: usize = 8;

type Asked = Result<Vec<String>, PortError>;

/// Tries a store, and what secrets are about to need there. Gives what could not be tried.
pub(crate) async fn check(
    shared: &Shared,
    store: &NamedStore,
    credentials: &[CredentialNow],
    places: &[PlannedUse],
) -> Result<Vec<String>, PortError> {
    let live = shared.registry.trial(store, credentials)?;
    bounded_check(shared, &live).await?;
    let clock = Arc::clone(&shared.registry.parts.clock);
    let until = Until::new(clock.now().plus(LOOK_SPAN), clock);
    let asked = ask(&live, places, &until).await;
    answer(asked, places.len())
}

/// Asks at each place, some at once, as long as there is time.
async fn ask(
    store: &Arc<dyn Store>,
    places: &[PlannedUse],
    until: &Until,
) -> BTreeMap<usize, Asked> {
    let mut asked = BTreeMap::new();
    let mut asking = JoinSet::new();
    let mut places = places.iter().cloned().enumerate();
    let in_time = async {
        loop {
            while asking.len() < MAX_LOOKS
                && let Some((number, place)) = places.next()
            {
                let (store, until) = (Arc::clone(store), until.clone());
                asking.spawn(async move {
                    let rights = store.check_use(&place.source, place.writes, &until);
                    (number, rights.await)
                });
            }
            match asking.join_next().await {
                Some(Ok((number, rights))) => asked.insert(number, rights),
                Some(Err(_)) => None,
                None => return,
            };
        }
    };
    let _late = tokio::time::timeout(RIGHTS_SPAN, in_time).await;
    asked
}

/// One answer of all: what is missing, or what could not be tried.
fn answer(asked: BTreeMap<usize, Asked>, places: usize) -> Asked {
    let unasked = places.saturating_sub(asked.len());
    let unasked = (unasked > 0).then(|| {
        format!(
            "{unasked} of {places} places were not checked within {RIGHTS_SPAN:?}; what is missing there is \
             told at their first look"
        )
    });
    let (mut untried, mut missing, mut silent) = (Vec::new(), Vec::new(), None);
    for asked in asked.into_values() {
        match asked {
            Ok(notes) => untried.extend(notes),
            Err(error) if error.kind == ErrorKind::Unavailable => {
                silent.get_or_insert(error);
            }
            Err(error) => missing.push(error.text),
        }
    }
    if missing.is_empty() {
        return match silent {
            Some(silent) => Err(silent),
            None => Ok(told(untried, unasked)),
        };
    }
    let text = told(missing, unasked).join("; and ");
    Err(PortError::new(ErrorKind::Denied, text))
}

/// The first of many, how many there are besides, and what was not asked.
fn told(mut all: Vec<String>, unasked: Option<String>) -> Vec<String> {
    let more = all.len().saturating_sub(MAX_TOLD);
    all.truncate(MAX_TOLD);
    if more > 0 {
        all.push(format!("{more} more are like these"));
    }
    all.extend(unasked);
    all
}

#[cfg(test)]
mod tests {
    use keywheel_core::store::Source;
    use keywheel_testkit::conformance::store::plenty;
    use keywheel_testkit::fake::FakeStore;

    use super::*;

    fn lacking(n: usize) -> Asked {
        let text = format!("this login lacks `read` on {n};");
        Err(PortError::new(ErrorKind::Denied, text))
    }

    #[test]
    fn all_that_is_missing_is_told_up_to_the_limit_and_then_counted() {
        for (count, more) in [(1, None), (MAX_TOLD, None), (MAX_TOLD + 3, Some("3 more"))] {
            let told = answer((0..count).map(|n| (n, lacking(n))).collect(), count);
            let told = told.unwrap_err();
            assert_eq!(told.kind, ErrorKind::Denied);
            for n in 0..count {
                let says = told.text.contains(&format!("on {n};"));
                assert_eq!(says, n < MAX_TOLD, "{told}");
            }
            assert_eq!(told.text.contains(" more "), more.is_some(), "{told}");
            assert!(told.text.contains(more.unwrap_or_default()), "{told}");
            assert!(!told.text.contains("not checked"), "{told}");
        }
    }

    #[tokio::test(start_paused = true)]
    #[expect(clippy::disallowed_methods, reason = "the paused clock is measured")]
    async fn a_store_that_holds_whoever_asks_is_waited_for_so_long_and_no_longer() {
        let held = Arc::new(FakeStore::default());
        held.hold(true);
        let store: Arc<dyn Store> = Arc::clone(&held) as Arc<dyn Store>;
        let place = |n: usize| PlannedUse {
            source: Source {
                path: n.to_string(),
                field: "password".to_owned(),
            },
            writes: false,
        };
        let places: Vec<_> = (0..=MAX_LOOKS).map(place).collect();
        let begun = tokio::time::Instant::now();
        let asked = ask(&store, &places, &plenty()).await;
        assert_eq!(begun.elapsed(), RIGHTS_SPAN);
        assert!(asked.is_empty());
        assert_eq!(held.calls(), MAX_LOOKS, "no more at once");
        held.hold(false);
        assert_eq!(ask(&store, &places, &plenty()).await.len(), places.len());
    }

    #[test]
    fn what_was_not_asked_is_counted_and_refuses_nothing() {
        let some = BTreeMap::from([(0, Ok(Vec::new())), (2, Ok(vec!["a".to_owned()]))]);
        let told = answer(some, 5).unwrap();
        assert_eq!(told[0], "a");
        assert!(
            told[1].starts_with("3 of 5 places were not checked"),
            "{told:?}"
        );
        let told = answer(BTreeMap::from([(1, lacking(1))]), 2).unwrap_err();
        assert!(
            told.text.contains("; and 1 of 2 places were not checked"),
            "{told}"
        );
        assert_eq!(answer(BTreeMap::new(), 0).unwrap(), Vec::<String>::new());
        let away = || Err(PortError::new(ErrorKind::Unavailable, "away"));
        let told = answer(BTreeMap::from([(0, away()), (1, lacking(1))]), 2);
        assert_eq!(told.unwrap_err().kind, ErrorKind::Denied);
        let told = answer(BTreeMap::from([(0, Ok(Vec::new())), (1, away())]), 2);
        assert_eq!(told.unwrap_err().kind, ErrorKind::Unavailable);
    }
}
