//! Puts on record that store-sync has another root key: what `init` and `reseal` do on a machine where nothing runs.
//!
//! A store-sync says with its presence which root key opened its cache, and how the cache came by it. Invariants: what was
//! said once is recorded once, whichever gateway hears it, however often and after however many starts: its record's id
//! is made of it, and the journal takes an id once, also when the record itself has left by its age. Nothing of a key is
//! said. Whoever says it is a store-sync, by the signature of its presence, and what one says is bounded.

use std::collections::BTreeSet;
use std::sync::Arc;

use keywheel_core::audit::{Category, Outcome, Principal, Record, Role};
use keywheel_core::id::CommandId;
use keywheel_daemon::{chain, names};
use keywheel_engine::command_bus::Handle;
use keywheel_engine::port::PortError;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::journal::Journal;
use keywheel_engine::presence::{Presence, ROOT_KEY_FACT};
use keywheel_engine::unseal::{Given, RootKey};
use keywheel_seal::digest;

/// What ids are made of besides.
const CONTEXT: &[u8] = b"keywheel/root-key/v1";
/// What the records are about.
const OBJECT: &str = "store-sync";
/// So many are looked at while a gateway runs; a store-sync has one, and another after each reseal.
pub const MAX_KNOWN: usize = 32;

/// Root keys that this gateway heard of.
pub struct RootKeys {
    journal: Arc<dyn Journal>,
    commands: Handle,
    clock: Arc<dyn Clock>,
    known: BTreeSet<CommandId>,
}

impl RootKeys {
    /// None yet.
    #[must_use]
    pub fn new(journal: Arc<dyn Journal>, commands: Handle, clock: Arc<dyn Clock>) -> Self {
        Self {
            journal,
            commands,
            clock,
            known: BTreeSet::new(),
        }
    }

    /// Records what a store-sync says of its root key, where the log does not know it. What cannot be recorded now is
    /// with the next word.
    pub async fn hear(&mut self, presence: &Presence) {
        let Some(root) = told(presence) else {
            return;
        };
        let id = id_of(&root);
        if self.known.contains(&id) || self.known.len() >= MAX_KNOWN {
            return;
        }
        match self.note(&root, id).await {
            Ok(()) => {
                self.known.insert(id);
            }
            Err(error) => {
                tracing::warn!(
                    { names::ERROR } = chain(&error),
                    "root key not on record yet"
                );
            }
        }
    }

    async fn note(&self, root: &RootKey, id: CommandId) -> Result<(), PortError> {
        if self.journal.verdict(id).await?.is_some() {
            return Ok(());
        }
        let record = Record {
            time: self.clock.now(),
            category: Category::System,
            principal: Principal::Service(Role::StoreSync),
            verb: root.given.word().to_owned(),
            object: OBJECT.to_owned(),
            version: None,
            outcome: Outcome::Allowed,
            reason: reason(root),
            container: None,
            command: id,
            trace: String::new(),
        };
        self.commands.record(record).await
    }
}

/// What a store-sync says of its root key.
fn told(presence: &Presence) -> Option<RootKey> {
    let facts = match presence.role {
        Role::StoreSync => &presence.seen.facts,
        _ => return None,
    };
    let fact = facts.iter().find(|fact| fact.name == ROOT_KEY_FACT)?;
    RootKey::parse(&fact.note)
}

/// The provider goes with the root key: another one means another id.
fn id_of(root: &RootKey) -> CommandId {
    let parts = [
        CONTEXT,
        root.given.word().as_bytes(),
        root.id.as_deref().unwrap_or_default().as_bytes(),
    ];
    let each: Vec<u8> = parts.into_iter().flat_map(digest::sha256).collect();
    let hash = digest::sha256(&each);
    CommandId::from_bytes(hash.first_chunk().copied().unwrap_or_default())
}

fn reason(root: &RootKey) -> String {
    let by = &root.provider;
    let id = root.id.as_ref().map(|id| format!(" (id {id})"));
    let id = id.unwrap_or_default();
    match root.given {
        Given::Init => format!("its cache was made with a root key{id} that is given by {by}"),
        Given::Reseal => {
            format!("while it was stopped its cache got a root key{id} that is given by {by}")
        }
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::time::Timestamp;
    use keywheel_engine::presence::{Fact, Seen};

    use super::*;
    use crate::testing::Bench;

    const INIT: &str = "init, by key-file";
    const RESEALED: &str = "reseal, by shamir, id 00000000000000000000000000000001";
    const AGAIN: &str = "reseal, by passphrase, id 00000000000000000000000000000002";

    fn said(role: Role, words: &str) -> Presence {
        Presence {
            role,
            host: None,
            instance: [1; 16],
            machine: "m".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started: Timestamp::default(),
            sent: Timestamp::default(),
            leaving: false,
            certificate_end: None,
            bus: None,
            seen: Seen {
                reached: None,
                facts: vec![Fact::ok(ROOT_KEY_FACT, words)],
            },
        }
    }

    /// Of a gateway that starts now.
    fn started(bench: &Bench) -> RootKeys {
        let api = &bench.api;
        RootKeys::new(api.journal.clone(), api.commands.clone(), api.clock.clone())
    }

    #[tokio::test]
    async fn init_and_each_reseal_are_on_record_once_whoever_hears_of_them_and_however_often() {
        let [one, other] = Bench::pair().await;
        let before = one.audit().await.len();
        let (mut first, mut second) = (started(&one), started(&other));
        for (n, (words, verb, by)) in [
            (INIT, "init", "key-file"),
            (RESEALED, "reseal", "shamir"),
            (AGAIN, "reseal", "passphrase"),
        ]
        .into_iter()
        .enumerate()
        {
            let presence = said(Role::StoreSync, words);
            tokio::join!(first.hear(&presence), second.hear(&presence));
            first.hear(&presence).await;
            // After a start they ask the log; a beat of before the reseal that comes late is nothing new, either.
            started(&one).hear(&presence).await;
            started(&other).hear(&said(Role::StoreSync, INIT)).await;
            let left = one.audit().await.split_off(before + n);
            assert_eq!(left.len(), 1, "{words}: {left:?}");
            for part in [verb, by, "StoreSync"] {
                assert!(left[0].contains(part), "{part}: {left:?}");
            }
        }
    }

    #[tokio::test]
    async fn what_cannot_be_recorded_now_is_with_the_next_word() {
        let bench = Bench::start().await;
        let mut roots = started(&bench);
        let before = bench.audit().await.len();
        let presence = said(Role::StoreSync, RESEALED);
        bench
            .journal
            .fail_next_append(keywheel_engine::port::ErrorKind::Unavailable);
        roots.hear(&presence).await;
        assert_eq!(bench.audit().await.len(), before);
        roots.hear(&presence).await;
        assert_eq!(bench.audit().await.len(), before + 1);
    }

    #[tokio::test]
    async fn others_words_and_more_than_a_store_sync_can_have_are_passed_over() {
        let bench = Bench::start().await;
        let mut roots = started(&bench);
        let before = bench.audit().await.len();
        roots.hear(&said(Role::Scheduler, RESEALED)).await;
        roots.hear(&said(Role::StoreSync, "reseal, by you")).await;
        let strange = said(Role::StoreSync, "reseal, by shamir, id x");
        roots.hear(&strange).await;
        assert_eq!(bench.audit().await.len(), before);
        let words = |n: usize| format!("reseal, by shamir, id {n:032x}");
        for n in 0..2 * MAX_KNOWN {
            roots.hear(&said(Role::StoreSync, &words(n))).await;
        }
        assert_eq!(bench.audit().await.len(), before + MAX_KNOWN);
    }
}
