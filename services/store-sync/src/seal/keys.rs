//! Replacing the keys that wrap data keys, some rows at a time, beside all other work.
//!
//! It needs no word to go on: what an earlier run left, also one that was killed, is taken up as soon as the cache is
//! open, and keys that were replaced by age or use meanwhile within [`LOOK_AGAIN`].

use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use keywheel_cache::{Cache, PostgresCache, REKEY_STEP, Rekeying, Stepped};
use keywheel_daemon::failpoint::{self, Injected};
use keywheel_daemon::{Shutdown, chain, names};
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::presence::{Fact, ROOT_KEY_FACT};
use keywheel_engine::unseal::{Given, RootKey, SealState};
use keywheel_seal::unseal::Provider;

use super::{Custody, Seal};

/// How often it is looked whether a wrap replaced a key by its age or use, of which nobody is told.
pub const LOOK_AGAIN: Duration = Duration::from_secs(60 * 60);
/// Pause after a step that could not be done.
const STEP_RETRY: Duration = Duration::from_secs(10);

/// The keys of a cache.
#[async_trait]
pub trait VaultKeys: Send + Sync {
    /// Makes a fresh key current.
    async fn begin(&self) -> Result<Rekeying, PortError>;
    /// How far it is.
    async fn progress(&self) -> Result<Rekeying, PortError>;
    /// Wraps some rows anew; after the last one the keys before go.
    async fn step(&self) -> Result<Stepped, PortError>;
}

/// Writes the same for each sort of cache.
macro_rules! keys_of {
    ($cache:ty) => {
        #[async_trait]
        impl VaultKeys for $cache {
            async fn begin(&self) -> Result<Rekeying, PortError> {
                Ok(self.begin_rekey().await?)
            }

            async fn progress(&self) -> Result<Rekeying, PortError> {
                Ok(self.rekeying().await?)
            }

            async fn step(&self) -> Result<Stepped, PortError> {
                Ok(self.rekey_step(REKEY_STEP).await?)
            }
        }
    };
}

keys_of!(Cache);
keys_of!(PostgresCache);

impl Seal {
    /// Wraps every data key anew. Of store-syncs that share a cache one is asked; what it does not come to, each of
    /// the others takes up.
    ///
    /// # Errors
    /// `Unavailable` while it is sealed, `Denied` where the vault has no keys.
    pub async fn rotate_kek(&self) -> Result<SealState, PortError> {
        let keys = self.opened()?.keys.ok_or_else(|| {
            PortError::new(
                ErrorKind::Denied,
                "what keeps values here has no key that is replaced by command",
            )
        })?;
        keys.begin().await?;
        self.inner.rekey.notify_one();
        tracing::info!("a fresh key wraps data keys; those before go");
        self.state().await
    }

    /// Rows under a key that goes; none when there is one key alone.
    pub(super) async fn kek_rows_left(&self) -> Result<Option<u64>, PortError> {
        let Ok(opened) = self.opened() else {
            return Ok(None);
        };
        let Some(keys) = opened.keys else {
            return Ok(None);
        };
        let Rekeying { old_keks, left } = keys.progress().await?;
        Ok((old_keks > 0).then_some(left))
    }

    /// What a person has to know of it.
    pub(crate) fn keys_fact(&self) -> Option<Fact> {
        let damaged = self.inner.damaged.load(Ordering::Relaxed);
        let note = format!(
            "{damaged} values do not open with the key they were sealed with, which is kept for them"
        );
        let next = "`keywheel rotate` what its log names, or restore the data directory";
        (damaged > 0).then(|| Fact::warning("keys", note, next))
    }

    /// Which root key opened the cache, for the audit; nothing while it is sealed, or where the cache cannot be read.
    pub(crate) async fn root_fact(&self) -> Option<Fact> {
        let mark = match self.opened().ok()?.cache {
            Some(cache) => cache.own_mark().await.ok()?,
            // One that others share is opened by a key file, and never resealed.
            None => 0,
        };
        let custody = self.inner.custody.as_ref().map(|(custody, _)| custody);
        let sealed = custody.and_then(|custody| custody.root.as_ref());
        let hexadecimal =
            |id: [u8; 16]| -> String { id.iter().map(|byte| format!("{byte:02x}")).collect() };
        let root = RootKey {
            given: match mark {
                0 => Given::Init,
                _ => Given::Reseal,
            },
            provider: custody
                .map_or(Provider::KeyFile.word(), Custody::word)
                .to_owned(),
            id: sealed.map(|sealed| hexadecimal(sealed.root.bytes())),
        };
        Some(Fact::ok(ROOT_KEY_FACT, root.words()))
    }

    /// Does the next rows; whether it is worth going on at once.
    async fn replace_some(&self) -> Result<bool, PortError> {
        let Some(keys) = self.opened().ok().and_then(|opened| opened.keys) else {
            return Ok(false);
        };
        // A test can end the program before and after each step.
        failpoint::hit_async("storesync.before_rekey")
            .await
            .map_err(injected)?;
        let stepped = keys.step().await?;
        failpoint::hit_async("storesync.after_rekey")
            .await
            .map_err(injected)?;
        let damaged = match stepped {
            Stepped::More => return Ok(true),
            Stepped::Done => 0,
            Stepped::Damaged(rows) => rows,
        };
        self.inner.damaged.store(damaged, Ordering::Relaxed);
        Ok(false)
    }
}

fn injected(error: Injected) -> PortError {
    PortError::caused(ErrorKind::Unavailable, "the step was not done", error)
}

/// Replaces keys whenever there are some to replace, until told to stop.
pub(crate) async fn replace_keys(seal: &Seal, shutdown: &Shutdown) {
    let mut bell = seal.bell();
    loop {
        let pause = match seal.replace_some().await {
            Ok(true) if shutdown.is_requested() => return,
            Ok(true) => {
                // Others get their turn at the cache.
                tokio::task::yield_now().await;
                continue;
            }
            Ok(false) => LOOK_AGAIN,
            Err(error) => {
                tracing::warn!({ names::ERROR } = chain(&error), "keys not replaced");
                STEP_RETRY
            }
        };
        tokio::select! {
            () = shutdown.requested() => return,
            () = seal.inner.rekey.notified() => {}
            Ok(()) = bell.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}
