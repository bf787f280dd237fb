//! Looks that a person asked for.
//!
//! Invariants: all end within a bounded time; each store is asked by a task of its own, so that one
//! that does not answer holds up no other; a store that did not answer is tried at once, whatever it
//! would be waited for otherwise, and is polled again when it does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::id::SecretId;
use keywheel_core::name::StoreName;
use keywheel_core::store::{Found, Looked, SecretNow};
use keywheel_daemon::chain;
use keywheel_engine::port::PortError;
use keywheel_engine::port::store::Store;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::sweep::{left, sweep};
use super::watch::{bounded_check, hear, note, note_look};
use crate::service::Shared;

/// All looks that a person asked for end within this.
const REFRESH_SPAN: Duration = Duration::from_secs(25);

/// One store that is asked.
struct Asked {
    name: StoreName,
    store: Arc<dyn Store>,
    was_silent: bool,
    secrets: Vec<SecretNow>,
}

/// Looks now: at one secret, or at all of them.
pub(crate) async fn look_now(
    shared: &Arc<Shared>,
    secret: Option<SecretId>,
) -> Result<Vec<Looked>, PortError> {
    hear(shared, false).await?;
    let ends = shared.registry.parts.clock.monotonic() + REFRESH_SPAN;
    let wanted = wanted(shared, secret);
    let late = "it was not looked at in time; its poll does";
    let all = wanted.iter().flat_map(|asked| &asked.secrets);
    let mut open: BTreeMap<SecretId, Looked> = all
        .map(|secret| (secret.secret, failed(secret.secret, late)))
        .collect();
    let mut asking = JoinSet::new();
    for asked in wanted {
        let shared = Arc::clone(shared);
        asking.spawn(async move { ask(&shared, asked, ends).await });
    }
    while let Some(ended) = asking.join_next().await {
        let looked = ended.into_iter().flatten();
        open.extend(looked.map(|looked| (looked.secret, looked)));
    }
    Ok(open.into_values().collect())
}

fn failed(secret: SecretId, reason: &str) -> Looked {
    let reason = reason.to_owned();
    let found = Found::Failed { reason };
    Looked { secret, found }
}

/// What was asked for, by store.
fn wanted(shared: &Shared, secret: Option<SecretId>) -> Vec<Asked> {
    let state = shared.registry.state();
    let mut wanted: BTreeMap<&StoreName, Asked> = BTreeMap::new();
    let meant = |now: &&SecretNow| secret.is_none_or(|secret| now.secret == secret);
    for now in state.secrets.values().filter(meant) {
        let name = now.place.as_ref().map(|place| &place.store);
        let live = name.and_then(|name| state.stores.get_key_value(name));
        let Some((name, live)) = live else { continue };
        let Ok(store) = &live.store else { continue };
        let asked = wanted.entry(name).or_insert_with(|| Asked {
            name: name.clone(),
            store: Arc::clone(store),
            was_silent: live.health.silent.is_some(),
            secrets: Vec::new(),
        });
        asked.secrets.push(SecretNow {
            // What a person had passed over is taken over only where it is named.
            is_passed_over: now.is_passed_over && secret.is_some(),
            ..now.clone()
        });
    }
    wanted.into_values().collect()
}

/// Looks at what is wanted of one store; what is left out was not looked at in time.
async fn ask(shared: &Arc<Shared>, asked: Asked, ends: Duration) -> Vec<Looked> {
    let Asked {
        name,
        store,
        was_silent,
        secrets,
    } = asked;
    if was_silent {
        // Says why for all of them, and tries a login that is waited with.
        let tried = timeout(left(shared, ends), bounded_check(shared, &store)).await;
        if let Ok(Err(error)) = tried {
            let reason = chain(&error);
            note(shared, &name, Some(&reason)).await;
            let secrets = secrets.iter();
            return secrets.map(|now| failed(now.secret, &reason)).collect();
        }
    }
    let swept = sweep(shared, &store, secrets, true, Some(ends)).await;
    let fault = swept.fault().map(str::to_owned);
    for outcome in &swept.outcomes {
        note_look(shared, &name, outcome, fault.is_some());
    }
    if fault.is_none() && !swept.outcomes.is_empty() {
        note(shared, &name, None).await;
        if was_silent {
            shared.registry.nudge(&name);
        }
    }
    let unasked = fault.iter().flat_map(|reason| {
        let secrets = swept.left.iter();
        secrets.map(|secret| failed(*secret, reason))
    });
    let unasked: Vec<_> = unasked.collect();
    let looked = swept.outcomes.into_iter().map(|outcome| outcome.looked);
    looked.chain(unasked).collect()
}
