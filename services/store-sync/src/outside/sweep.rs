//! Looks at many places in one store, a few at once, and what they say together about the store.
//!
//! Invariants: a store that is silent at two places is asked nothing more in this sweep; one place that
//! never answers holds up none of the others, and what was not looked at is told, so that the next
//! sweep begins there; a store counts as answering only when it answered at some place.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::id::SecretId;
use keywheel_core::store::{Found, SecretNow};
use keywheel_engine::port::store::Store;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::look::{self, Contact, Outcome, Round};
use crate::service::Shared;

/// Places looked at at once in one store.
pub const MAX_LOOKS: usize = 8;
/// At so many places a store is silent before it is asked no more.
pub const MAX_SILENT: usize = 2;

/// What was looked at.
#[derive(Default)]
pub(super) struct Sweep {
    pub(super) outcomes: Vec<Outcome>,
    /// Where no look was begun, in order.
    pub(super) left: Vec<SecretId>,
}

impl Sweep {
    fn of(&self, contact: Contact) -> impl Iterator<Item = &Outcome> {
        let outcomes = self.outcomes.iter();
        outcomes.filter(move |outcome| outcome.contact == contact)
    }

    fn answers(&self) -> bool {
        let mut outcomes = self.outcomes.iter();
        outcomes.any(|outcome| matches!(outcome.contact, Contact::Answers | Contact::Ours))
    }

    /// Whether the store is asked no more: silent at several paths, or at one and nothing else came.
    fn is_silent(&self) -> bool {
        let paths: BTreeSet<_> = self.of(Contact::Silent).map(|one| &one.path).collect();
        let secrets = self.of(Contact::Silent).count();
        paths.len() >= MAX_SILENT || (secrets >= MAX_SILENT && !self.answers())
    }

    /// Why the store counts as one that does not answer.
    pub(super) fn fault(&self) -> Option<&str> {
        if self.answers() && !self.is_silent() {
            return None;
        }
        let mut unheard = self.of(Contact::Silent).chain(self.of(Contact::Refuses));
        unheard.find_map(|outcome| match &outcome.looked.found {
            Found::Failed { reason } => Some(reason.as_str()),
            _ => None,
        })
    }
}

/// How long it is until then, by the monotonic clock.
pub(super) fn left(shared: &Shared, ends: Duration) -> Duration {
    ends.saturating_sub(shared.registry.parts.clock.monotonic())
}

/// Looks at these places in their order; no look is begun or waited for after `ends`, by the monotonic
/// clock.
pub(super) async fn sweep(
    shared: &Arc<Shared>,
    store: &Arc<dyn Store>,
    secrets: Vec<SecretNow>,
    forced: bool,
    ends: Option<Duration>,
) -> Sweep {
    let mut waiting = secrets.into_iter();
    let mut looking: JoinSet<Outcome> = JoinSet::new();
    let mut swept = Sweep::default();
    let round = Arc::new(Round::default());
    loop {
        while looking.len() < MAX_LOOKS && !swept.is_silent() {
            let Some(secret) = waiting.next() else { break };
            let (shared, store) = (Arc::clone(shared), Arc::clone(store));
            let round = Arc::clone(&round);
            looking
                .spawn(async move { look::look(&shared, &store, &round, &secret, forced).await });
        }
        let ended = match ends {
            Some(ends) => timeout(left(shared, ends), looking.join_next())
                .await
                .unwrap_or(None),
            None => looking.join_next().await,
        };
        match ended {
            Some(Ok(outcome)) => swept.outcomes.push(outcome),
            // It ended badly: its poll looks again.
            Some(Err(_)) => {}
            None => break,
        }
    }
    swept.left = waiting.map(|secret| secret.secret).collect();
    swept
}

#[cfg(test)]
mod tests {
    use keywheel_core::store::Looked;

    use super::*;

    fn outcome(contact: Contact, path: &str) -> Outcome {
        let found = match contact {
            Contact::Answers => Found::Unchanged,
            other => Found::Failed {
                reason: format!("{other:?}"),
            },
        };
        let secret = SecretId::from_bytes([1; 16]);
        Outcome {
            looked: Looked { secret, found },
            path: path.to_owned(),
            contact,
        }
    }

    #[test]
    fn a_store_answers_when_it_answered_somewhere_and_was_not_silent_at_two_places() {
        use Contact::{Answers, Ours, Refuses, Silent};
        for (contacts, fault) in [
            (&[][..], None),
            (&[(Answers, "a"), (Refuses, "b"), (Silent, "c")], None),
            (&[(Ours, "a")], None),
            (&[(Refuses, "a"), (Refuses, "b")], Some("Refuses")),
            (&[(Refuses, "a"), (Silent, "b")], Some("Silent")),
            (&[(Silent, "a")], Some("Silent")),
            (
                &[(Answers, "a"), (Silent, "b"), (Silent, "c")],
                Some("Silent"),
            ),
            // Two secrets at one path are one place.
            (&[(Answers, "a"), (Silent, "b"), (Silent, "b")], None),
            (&[(Silent, "b"), (Silent, "b")], Some("Silent")),
        ] {
            let outcomes = contacts
                .iter()
                .map(|(contact, path)| outcome(*contact, path));
            let swept = Sweep {
                outcomes: outcomes.collect(),
                left: Vec::new(),
            };
            assert_eq!(swept.fault(), fault, "{contacts:?}");
        }
    }
}
