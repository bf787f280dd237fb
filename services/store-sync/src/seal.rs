//! The seal: whether there is a key to open values with, and how it comes and goes.
//!
//! [`Seal`] stands where the vault would and is that vault while it is unsealed. Owns the gathered shares, the
//! key they are encrypted to, and how often may be tried. Invariants: one offer is looked at at a time; what is
//! refused is refused in the same words whatever was wrong with it, and changes nothing but the count of
//! refusals; shares are in memory alone, for [`SHARES_KEPT_FOR`] after the first; nothing that was encrypted to
//! it opens after it was unsealed or sealed. Where a key service opens it, it is asked by itself (`by_service`),
//! until a person seals. Sealing drops the vault with every key beneath it, once no call
//! uses it any more. Who may ask is the gateway's to judge, and to record.

mod by_service;
mod effort;
pub mod file;
mod keys;
mod vault;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use keywheel_cache::{Cache, PostgresCache};
use keywheel_core::id::DeploymentId;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::key_service::KeyService;
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::presence::{Fact, SEAL_FACT};
use keywheel_engine::unseal::{self, SealState, Shares};
use keywheel_seal::envelope::UnsealKey;
use keywheel_seal::hpke::{Envelope, HostKeyPair};
use keywheel_seal::unseal::{Gathering, Provider, SealedRoot};
use keywheel_seal::{Entropy, SecretBytes};
use tokio::sync::{Mutex, MutexGuard, Notify, watch};

use self::by_service::Asking;
pub use self::by_service::{
    SERVICE_TIMEOUT, START_PATIENCE, UNSEAL_PAUSE, UNSEAL_PAUSE_LIMIT, root_by_service,
    seal_by_service, unseal_by_service,
};
use self::effort::Effort;
pub use self::effort::{MAX_REFUSED, REFUSED_SPAN};
pub(crate) use self::keys::replace_keys;
pub use self::keys::{LOOK_AGAIN, VaultKeys};

/// How long shares wait for the others, from the first on.
pub const SHARES_KEPT_FOR: Duration = Duration::from_secs(30 * 60);
/// Longest offer, sealed, in bytes: a passphrase, padded.
pub const MAX_OFFER_BYTES: usize = 8 * 1024;
/// Why an offer was not taken; the same words for everything that may be wrong with one.
const REFUSED: &str = "it was not taken, and nothing was changed: it does not belong to this seal, was given already, or is older than the last unsealing";

/// Whoever has the key file and the cache.
#[async_trait]
pub trait KeyCustodian: Send + Sync {
    /// The key of the key file.
    fn key_file(&self) -> Result<UnsealKey, PortError>;
    /// Opens the cache with the root key; `Denied` when it is another cache's.
    async fn open(&self, root: UnsealKey) -> Result<Opened, PortError>;
}

/// An open cache.
#[derive(Clone)]
pub struct Opened {
    /// What lies in it.
    pub vault: Arc<dyn VersionVault>,
    /// Its keys, where they can be replaced by command.
    pub keys: Option<Arc<dyn VaultKeys>>,
    /// The cache itself, where no other process has it open.
    pub cache: Option<Arc<Cache>>,
}

impl Opened {
    /// A cache that no other process has open.
    #[must_use]
    pub fn own(cache: Cache) -> Self {
        let cache = Arc::new(cache);
        Self {
            vault: cache.clone(),
            keys: Some(cache.clone()),
            cache: Some(cache),
        }
    }
}

/// What unsealing needs.
pub struct Custody {
    /// This installation.
    pub deployment: DeploymentId,
    /// The sealed root key; without one the key file's key is the root.
    pub root: Option<SealedRoot>,
    /// Reads the key file, and opens the cache.
    pub custodian: Arc<dyn KeyCustodian>,
    /// The key service that opens the sealed root key, where one does.
    pub service: Option<Arc<dyn KeyService>>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Custody {
    /// Who gives the key, in a word.
    fn word(&self) -> &'static str {
        self.root
            .as_ref()
            .map_or(Provider::KeyFile.word(), |root| root.provider.word())
    }

    /// The root key of a key file.
    fn by_key_file(&self) -> Result<UnsealKey, PortError> {
        let key = self.custodian.key_file()?;
        match &self.root {
            None => Ok(key),
            Some(root) => root.open_with_key(&key).map_err(|error| {
                let text = "the key file does not open the sealed root key; give the one it was sealed with";
                PortError::caused(ErrorKind::Denied, text, error)
            }),
        }
    }
}

/// The seal of one store-sync; clones are one.
#[derive(Clone)]
pub struct Seal {
    inner: Arc<Inner>,
}

struct Inner {
    opened: RwLock<Option<Opened>>,
    sealed: watch::Sender<bool>,
    /// Rung when what it says of itself is another thing, and nobody is at an unsealing any more who could hide it.
    told: watch::Sender<()>,
    /// Rung when keys are to be replaced.
    rekey: Notify,
    /// Rows that do not open with the key they name.
    damaged: AtomicU64,
    /// `None` where the vault is open for good.
    custody: Option<(Custody, Mutex<Unsealing>)>,
    /// Whether, and how, a key service is asked.
    asking: Asking,
}

/// What is known of an unsealing that is under way.
struct Unsealing {
    /// What offers are encrypted to.
    pair: HostKeyPair,
    /// Shares, and until when they are kept.
    gathered: Option<(Gathering, Duration)>,
    effort: Effort,
}

impl Seal {
    /// Of a vault that is open for good.
    #[must_use]
    pub fn never(vault: Arc<dyn VersionVault>) -> Self {
        let opened = Opened {
            vault,
            keys: None,
            cache: None,
        };
        Self::of(Some(opened), None)
    }

    /// Of a cache that other store-syncs share: it is open for good, and its keys are replaced all the same.
    #[must_use]
    pub fn shared(cache: PostgresCache) -> Self {
        let cache = Arc::new(cache);
        let opened = Opened {
            vault: cache.clone(),
            keys: Some(cache),
            cache: None,
        };
        Self::of(Some(opened), None)
    }

    /// Unsealed, with a vault; or sealed, without one.
    #[must_use]
    pub fn begin(custody: Custody, opened: Option<Opened>) -> Self {
        let unsealing = Unsealing {
            pair: HostKeyPair::generate(&*custody.entropy),
            gathered: None,
            effort: Effort::default(),
        };
        Self::of(opened, Some((custody, Mutex::new(unsealing))))
    }

    fn of(opened: Option<Opened>, custody: Option<(Custody, Mutex<Unsealing>)>) -> Self {
        let sealed = watch::Sender::new(opened.is_none());
        let has_service = |(custody, _): &(Custody, _)| custody.service.is_some();
        let asking = Asking::new(custody.as_ref().is_some_and(has_service));
        Self {
            inner: Arc::new(Inner {
                opened: RwLock::new(opened),
                sealed,
                told: watch::Sender::new(()),
                rekey: Notify::new(),
                damaged: AtomicU64::new(0),
                custody,
                asking,
            }),
        }
    }

    /// Whether no value can be opened.
    #[must_use]
    pub fn is_sealed(&self) -> bool {
        *self.inner.sealed.borrow()
    }

    /// Rings when it is sealed or unsealed.
    pub(crate) fn bell(&self) -> watch::Receiver<bool> {
        self.inner.sealed.subscribe()
    }

    /// Rings when it is sealed or unsealed, or has other shares than before.
    pub(crate) fn told(&self) -> watch::Receiver<()> {
        self.inner.told.subscribe()
    }

    /// The vault while it is unsealed.
    fn vault(&self) -> Result<Arc<dyn VersionVault>, PortError> {
        self.opened().map(|opened| opened.vault)
    }

    /// The cache while it is unsealed, where no other process has it open.
    #[must_use]
    pub fn own_cache(&self) -> Option<Arc<Cache>> {
        self.opened().ok()?.cache
    }

    fn opened(&self) -> Result<Opened, PortError> {
        let opened = self.inner.opened.read();
        let opened = opened.unwrap_or_else(PoisonError::into_inner);
        opened.clone().ok_or_else(unseal::sealed)
    }

    /// How it is.
    ///
    /// # Errors
    /// `Denied` where there is no seal, and no key to replace.
    pub async fn state(&self) -> Result<SealState, PortError> {
        if self.inner.custody.is_none() && self.opened()?.keys.is_some() {
            return self.open_for_good().await;
        }
        let (custody, unsealing) = self.custody()?;
        let mut unsealing = unsealing.lock().await;
        unsealing.forget_old(custody, custody.clock.monotonic());
        let state = self.tell(custody, &unsealing);
        drop(unsealing);
        let kek_rows_left = self.kek_rows_left().await?;
        Ok(SealState {
            kek_rows_left,
            ..state
        })
    }

    /// Of a shared cache, which takes no offer.
    async fn open_for_good(&self) -> Result<SealState, PortError> {
        Ok(SealState {
            sealed: false,
            provider: Provider::KeyFile.word().to_owned(),
            key: [0; 32],
            shares: None,
            kek_rows_left: self.kek_rows_left().await?,
        })
    }

    /// Takes what may unseal it.
    ///
    /// # Errors
    /// `Denied`, in the same words, for whatever does not belong to this seal; `Unavailable` after too many of
    /// these; `Conflict` when it is unsealed.
    pub async fn offer(&self, offered: &[u8]) -> Result<SealState, PortError> {
        let (custody, unsealing) = self.custody()?;
        if custody.service.is_some() {
            return Box::pin(self.offer_to_service(offered)).await;
        }
        let mut unsealing = unsealing.lock().await;
        let now = custody.clock.monotonic();
        unsealing.forget_old(custody, now);
        self.refuse_unsealed()?;
        unsealing.effort.check(now)?;
        let root = match unsealing.root(custody, offered, now).await {
            Ok(Some(root)) => root,
            Ok(None) => return Ok(self.tell_all(custody, unsealing)),
            Err(error) => {
                if error.kind == ErrorKind::Denied {
                    unsealing.effort.note(now);
                }
                return Err(error);
            }
        };
        let opened = custody.custodian.open(root).await?;
        unsealing.renew(custody);
        self.put(Some(opened));
        tracing::info!(provider = custody.word(), "store-sync is unsealed");
        Ok(self.tell_all(custody, unsealing))
    }

    fn refuse_unsealed(&self) -> Result<(), PortError> {
        if self.is_sealed() {
            return Ok(());
        }
        let text = "store-sync is unsealed already; nothing has to be given";
        Err(PortError::new(ErrorKind::Conflict, text))
    }

    /// Drops every key. Repeating it is harmless.
    ///
    /// # Errors
    /// `Denied` where there is no seal.
    pub async fn close(&self) -> Result<SealState, PortError> {
        let (custody, unsealing) = self.custody()?;
        let mut unsealing = unsealing.lock().await;
        unsealing.renew(custody);
        self.inner.asking.end();
        if !self.is_sealed() {
            self.put(None);
            tracing::warn!(provider = custody.word(), "store-sync is sealed");
        }
        Ok(self.tell_all(custody, unsealing))
    }

    /// Who was told that it is sealed finds no vault, and who was told that it is not finds one.
    fn put(&self, opened: Option<Opened>) {
        let is_sealed = opened.is_none();
        if is_sealed {
            self.inner.sealed.send_replace(true);
        }
        let before = {
            let place = self.inner.opened.write();
            let mut place = place.unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *place, opened)
        };
        drop(before);
        if !is_sealed {
            self.inner.sealed.send_replace(false);
        }
    }

    fn custody(&self) -> Result<(&Custody, &Mutex<Unsealing>), PortError> {
        let custody = self.inner.custody.as_ref();
        let (custody, unsealing) = custody
            .ok_or_else(|| PortError::new(
                ErrorKind::Denied,
                "a store-sync that shares its cache is neither sealed nor unsealed by command; stop it, and take its key file away",
            ))?;
        Ok((custody, unsealing))
    }

    /// How it is after a change, which others are told of, too.
    fn tell_all(&self, custody: &Custody, unsealing: MutexGuard<'_, Unsealing>) -> SealState {
        let state = self.tell(custody, &unsealing);
        drop(unsealing);
        self.inner.told.send_replace(());
        state
    }

    fn tell(&self, custody: &Custody, unsealing: &Unsealing) -> SealState {
        let sealed = self.is_sealed();
        let shares = custody.root.as_ref().filter(|_| sealed);
        SealState {
            sealed,
            provider: custody.word().to_owned(),
            key: unsealing.pair.public().to_bytes(),
            shares: shares.and_then(|root| unsealing.shares(root)),
            kek_rows_left: None,
        }
    }

    /// How it is, for `keywheel status`.
    pub(crate) fn fact(&self) -> Fact {
        let Some((custody, unsealing)) = self.inner.custody.as_ref() else {
            return Fact::ok(SEAL_FACT, "unsealed, by key-file");
        };
        if !self.is_sealed() {
            return Fact::ok(SEAL_FACT, format!("unsealed, by {}", custody.word()));
        }
        if let Some(fact) = self.inner.asking.fact(custody.word()) {
            return fact;
        }
        // A passphrase is being looked at when it is held.
        let shares = unsealing.try_lock().ok().and_then(|mut unsealing| {
            unsealing.forget_old(custody, custody.clock.monotonic());
            unsealing.shares(custody.root.as_ref()?)
        });
        let progress = match shares {
            Some(Shares { have, need }) => format!("; {have} of {need} shares are there"),
            None => String::new(),
        };
        let note = format!(
            "sealed, by {}{progress}: no value can be opened, work waits, and containers keep what they have",
            custody.word()
        );
        let next = match shares {
            Some(_) => "`keywheel unseal`, share by share, from any machine that may use keywheel",
            None => "`keywheel unseal`",
        };
        Fact::problem(SEAL_FACT, note, next)
    }
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Seal(sealed: {})", self.is_sealed())
    }
}

impl Unsealing {
    /// The root key that an offer gives; none while shares are missing.
    async fn root(
        &mut self,
        custody: &Custody,
        offered: &[u8],
        now: Duration,
    ) -> Result<Option<UnsealKey>, PortError> {
        let offer = self.open(custody.deployment, offered).ok_or_else(refused)?;
        let Some(root) = &custody.root else {
            return custody.by_key_file().map(Some);
        };
        match &root.provider {
            Provider::KeyFile => custody.by_key_file().map(Some),
            Provider::Passphrase { .. } => by_passphrase(root.clone(), offer).await.map(Some),
            Provider::Shares { .. } => self.by_share(root, &offer, now),
            // Whoever began this seal has to give the service with it.
            Provider::Service(_) => Err(by_service::unconnected()),
        }
    }

    /// Takes a share. The last one gives the root key and is not kept: where the cache does not open just now, whoever
    /// gave it comes again, and nobody else.
    fn by_share(
        &mut self,
        root: &SealedRoot,
        offer: &SecretBytes,
        now: Duration,
    ) -> Result<Option<UnsealKey>, PortError> {
        let (mut gathered, until) = match self.gathered.take() {
            Some(begun) => begun,
            None => {
                let none = root.gather().ok_or_else(refused)?;
                (none, now.saturating_add(SHARES_KEPT_FOR))
            }
        };
        let taken = gathered.take(offer);
        if taken.is_ok_and(|taken| taken.is_enough()) {
            let opened = root.open_with_shares(&gathered).map_err(|error| {
                let text = "the shares are right and do not open the root key: its file was changed; restore `seal.json`";
                PortError::caused(ErrorKind::Corrupt, text, error)
            })?;
            gathered.give_back();
            self.gathered = Some((gathered, until));
            return Ok(Some(opened));
        }
        if gathered.progress().have > 0 {
            self.gathered = Some((gathered, until));
        }
        taken.map(|_| None).map_err(|_| refused())
    }

    fn open(&self, deployment: DeploymentId, offered: &[u8]) -> Option<SecretBytes> {
        let offered = Some(offered).filter(|offered| offered.len() <= MAX_OFFER_BYTES)?;
        let envelope = Envelope::from_bytes(offered).ok()?;
        let key = self.pair.public().to_bytes();
        let (info, aad) = (unseal::info(deployment), unseal::aad(&key));
        self.pair.open(&info, &aad, &envelope).ok()
    }

    /// Shares that waited too long are gone. What comes next is another unsealing, for whoever counts who gave them.
    fn forget_old(&mut self, custody: &Custody, now: Duration) {
        if self
            .gathered
            .as_ref()
            .is_some_and(|(_, until)| *until <= now)
        {
            self.renew(custody);
            tracing::warn!("shares are forgotten: the others did not come in time");
        }
    }

    /// Nothing that came so far counts any more.
    fn renew(&mut self, custody: &Custody) {
        self.pair = HostKeyPair::generate(&*custody.entropy);
        self.gathered = None;
    }

    fn shares(&self, root: &SealedRoot) -> Option<Shares> {
        let progress = match &self.gathered {
            Some((gathered, _)) => gathered.progress(),
            None => root.gather()?.progress(),
        };
        Some(Shares {
            have: progress.have,
            need: progress.need,
        })
    }
}

/// Argon2id takes a core for a while.
async fn by_passphrase(root: SealedRoot, passphrase: SecretBytes) -> Result<UnsealKey, PortError> {
    let opening = tokio::task::spawn_blocking(move || root.open_with_passphrase(&passphrase));
    let opened = opening.await.map_err(|error| {
        let text = "the passphrase was not looked at; give it again";
        PortError::caused(ErrorKind::Unavailable, text, error)
    })?;
    opened.map_err(|_| refused())
}

fn refused() -> PortError {
    PortError::new(ErrorKind::Denied, REFUSED)
}
