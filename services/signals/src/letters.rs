//! Letters: how what came is sealed in them, and when they end.
//!
//! Invariants: what came from outside is in no letter but sealed, under a data key that ends with the letter; a
//! letter of a source ends after [`MAX_LETTER_AGE`], any letter with its owner; whose oldest goes because there
//! are too many is said. When one is made is for others.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use keywheel_core::time::Timestamp;
use keywheel_engine::port::deliveries::{Letter, MAX_LETTER_AGE};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_seal::SecretBytes;
use keywheel_seal::letters::Place;
use tokio_util::sync::CancellationToken;

use crate::desk::{Desk, Inner, SOURCES, notification_owner, source_owner};

/// How often letters are swept although no owner went.
pub const SWEEP_INTERVAL: Duration = Duration::from_secs(600);

impl Inner {
    fn place<'a>(&self, letter: &'a Letter) -> Place<'a> {
        Place {
            deployment: *self.parts.deployment.bytes(),
            letter: *letter.id.bytes(),
            owner: &letter.owner,
        }
    }

    /// A letter with what came in it, sealed. One that cannot be sealed has none.
    pub(crate) fn with_body(&self, letter: Letter, came: &SecretBytes) -> Letter {
        let parts = &self.parts;
        let sealed = parts
            .letter_key
            .seal(&self.place(&letter), came, &*parts.entropy);
        let body = sealed.unwrap_or_else(|error| {
            tracing::warn!(owner = letter.owner, %error, "nothing is kept of what came");
            Vec::new()
        });
        Letter { body, ..letter }
    }

    /// What came, as a letter of a source holds it.
    pub(crate) fn open_body(&self, letter: &Letter) -> Result<SecretBytes, PortError> {
        let opened = self
            .parts
            .letter_key
            .open(&self.place(letter), &letter.body);
        opened.map_err(|error| {
            let text = "what is kept of the letter does not open here: it was sealed with another unseal key, or changed; throw it away with `keywheel letter discard`, and have its sender send it again";
            PortError::caused(ErrorKind::Corrupt, text, error)
        })
    }

    /// Keeps a letter; whose oldest go for it is said.
    pub(crate) async fn keep(&self, letter: &Letter) -> Result<(), PortError> {
        let gone = self.parts.deliveries.keep(letter).await?;
        if gone > 0 {
            tracing::warn!(
                owner = letter.owner,
                gone,
                "too many letters of one owner; the oldest are gone"
            );
        }
        Ok(())
    }

    /// Who is declared, as letters name their owners.
    fn owners(&self) -> BTreeSet<String> {
        let committed = self.parts.view.read();
        let notifications = committed.world.notifications.values();
        let sources = committed.world.signal_sources.values();
        let notifications = notifications.map(|known| notification_owner(&known.name));
        let sources = sources.map(|known| source_owner(&known.name));
        notifications.chain(sources).collect()
    }
}

/// Ends letters.
pub struct Sweeper {
    inner: Arc<Inner>,
}

impl Sweeper {
    /// One over a desk's ports.
    #[must_use]
    pub fn new(desk: &Desk) -> Self {
        Self {
            inner: desk.inner(),
        }
    }

    /// Runs until told to stop: at once, whenever an owner went, and from time to time.
    pub async fn run(self, stop: CancellationToken) {
        let mut bell = self.inner.parts.view.bell();
        loop {
            bell.borrow_and_update();
            let declared = self.inner.owners();
            if let Err(error) = self.sweep().await {
                tracing::warn!(%error, "letters are not swept now");
            }
            let an_owner_went = async {
                while bell.changed().await.is_ok() {
                    if !declared.is_subset(&self.inner.owners()) {
                        return;
                    }
                }
                // Nothing is decided any more: whoever stops this does it soon.
                std::future::pending().await
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = an_owner_went => {}
                () = tokio::time::sleep(SWEEP_INTERVAL) => {}
            }
        }
    }

    /// Ends what is too old, and what nobody owns any more; how many that were.
    ///
    /// # Errors
    /// When letters or the log cannot be reached.
    pub async fn sweep(&self) -> Result<u64, PortError> {
        let parts = &self.inner.parts;
        let mut gone = parts
            .deliveries
            .expire(SOURCES, before(parts.clock.now()))
            .await?;
        let letters = parts.deliveries.letters().await?;
        // Whoever kept one of these knew its owner from the log: who is not in it after that is gone.
        parts.commands.look_at_head().await?;
        let declared = self.inner.owners();
        let owners: BTreeSet<&str> = letters.iter().map(|one| one.owner.as_str()).collect();
        for owner in owners {
            if !declared.contains(owner) {
                gone += parts.deliveries.discard_all(owner).await?;
            }
        }
        if gone > 0 {
            tracing::info!(gone, "letters ended by their age or with their owner");
        }
        Ok(gone)
    }
}

/// What was kept before this is too old.
fn before(now: Timestamp) -> Timestamp {
    let age = i64::try_from(MAX_LETTER_AGE.as_micros()).unwrap_or(i64::MAX);
    Timestamp::from_micros(now.micros().saturating_sub(age))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_letter_is_kept_for_a_week() {
        let now = Timestamp::from_micros(1_767_492_000_000_000);
        assert_eq!(now.since(before(now)), Duration::from_secs(604_800));
    }
}
