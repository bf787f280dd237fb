//! A journal on disk for tests, and a gateway that turns to it.

use std::path::Path;

use keywheel_engine::port::journal::Journal;
use keywheel_journal::{JournalOptions, SqliteJournal};
use keywheel_seal::SecretBytes;
use keywheel_seal::sign::{SigningKey, VerifyingKey};

use super::*;

/// A journal in this directory, whose audit's tree has this origin, and the key that the tree is signed with.
pub(crate) async fn journal_in(directory: &Path, origin: &str) -> (Arc<dyn Journal>, VerifyingKey) {
    let signing_key = SigningKey::from_seed_bytes(&SecretBytes::from(vec![7; 32])).unwrap();
    let key = signing_key.verifying_key();
    let options = JournalOptions {
        deployment: DeploymentId::from_bytes([9; 16]),
        source: "keywheel/test/gateway".to_owned(),
        signing_key,
        origin: origin.to_owned(),
    };
    let opened = SqliteJournal::open(&directory.join("journal.db"), options).await;
    let journal: Arc<dyn Journal> = Arc::new(opened.unwrap());
    (journal, key)
}

impl Bench {
    /// Decides over this journal from now on, and says that the audit's tree has this origin and this key.
    pub(crate) async fn turn_to(
        &mut self,
        journal: Arc<dyn Journal>,
        origin: &str,
        key: &VerifyingKey,
    ) {
        let parts = Parts {
            journal: journal.clone(),
            clock: self.clock.clone(),
            ids: self.api.ids.clone(),
            failpoint: |_| (),
        };
        let Started {
            bus,
            handle,
            view,
            mut commits,
        } = CommandBus::start(parts).await.unwrap();
        tokio::spawn(bus.run());
        tokio::spawn(async move { while commits.recv().await.is_some() {} });
        self.api.commands = handle;
        self.api.view = view;
        self.api.journal = journal;
        self.api.origin = origin.to_owned();
        self.api.public_key = key.to_bytes();
    }
}
