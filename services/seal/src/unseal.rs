//! The root key of a store-sync that does not lie in a key file by itself: sealed by a *wrapping key*, which a
//! provider gives.
//!
//! The root key is random and is an [`UnsealKey`]: it seals the KEKs, as that of a key file does. [`SealedRoot`]
//! is what is stored of it; it names the provider and what that needs to come by the wrapping key again.
//! Providers: another key file, a passphrase (Argon2id), shares of which some are enough (Shamir), a key service
//! outside that wraps the wrapping key (AWS KMS, transit of Vault or OpenBao). Invariants:
//! everything stored is bound into the seal (deployment, root, provider and its parameters), so no part of it
//! can be exchanged; a wrong key, a wrong passphrase, wrong shares and changed bytes give the same answer; no
//! parameter that was read makes this process use more memory or time than the bounds here; it knows no file,
//! no clock and no service: whoever asks one hands the wrapping key in. What is not bound against is an older
//! file put back whole.

mod gathering;
mod passphrase;
mod service;
mod share;
#[cfg(test)]
mod tests;

use std::fmt;

pub use self::gathering::{Gathering, Refused, Taken};
pub use self::passphrase::{
    BadCost, BadPassphrase, Cost, MAX_MEMORY_KIB, MAX_PASSES, MAX_PASSPHRASE_BYTES, MIN_MEMORY_KIB,
    MIN_PASSPHRASE_CHARS, SALT_BYTES, check_passphrase,
};
pub use self::service::{
    BadService, MAX_KEY_NAME_BYTES, MAX_SETTINGS_BYTES, MAX_WRAPPED_BYTES, Service, ServiceKind,
};
pub use self::share::{BadShare, MAX_SHARES, MIN_THRESHOLD, SetId, Share, ShareCheck};
use crate::entropy::{self, Entropy};
use crate::envelope::{OpenError, SealedKey, UnsealKey};
use crate::secret::SecretBytes;

/// The only format of a sealed root key so far.
pub const FORMAT: u8 = 1;
/// Separates it from everything else that such a key seals.
const KIND: &[u8] = b"root/v1";

/// It could not be sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrapError {
    /// Too few or too many shares.
    #[error(
        "{threshold} of {shares} shares cannot be made: at least {MIN_THRESHOLD} and at most all of up to {MAX_SHARES} open it"
    )]
    BadThreshold {
        /// So many open it.
        threshold: u8,
        /// Of so many.
        shares: u8,
    },
    /// The passphrase is too short or too long.
    #[error(transparent)]
    BadPassphrase(#[from] BadPassphrase),
    /// The cipher, the hash or the splitting failed.
    #[error("the root key cannot be sealed: {0}")]
    Failed(&'static str),
}

/// It does not open; what was wrong is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the root key does not open: what was given is not what seals it, or its file was changed")]
pub struct NotOpened;

impl From<OpenError> for NotOpened {
    fn from(_: OpenError) -> Self {
        Self
    }
}

/// Who gives the wrapping key, and what has to be known for that; nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Provider {
    /// A key file holds it.
    KeyFile,
    /// It is derived from a passphrase.
    Passphrase {
        /// Makes the same passphrase another key elsewhere.
        salt: [u8; SALT_BYTES],
        /// What one guess costs.
        cost: Cost,
    },
    /// So many of the shares give it.
    Shares {
        /// The set they belong to.
        set: SetId,
        /// So many.
        threshold: u8,
        /// What each share is known by, in their order from 1 on.
        checks: Vec<ShareCheck>,
    },
    /// A key service outside opens it.
    Service(Service),
}

impl Provider {
    /// Its word in settings, files and views.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::KeyFile => "key-file",
            Self::Passphrase { .. } => "passphrase",
            Self::Shares { .. } => "shamir",
            Self::Service(service) => service.kind().word(),
        }
    }

    /// Whether store-sync is unsealed at its start without a person.
    #[must_use]
    pub const fn unseals_by_itself(&self) -> bool {
        matches!(self, Self::KeyFile | Self::Service(_))
    }

    /// Everything about it, in one way only: each part of changing length has its length before it.
    fn bound(&self) -> Vec<u8> {
        let mut out = vec![FORMAT];
        match self {
            Self::KeyFile => out.push(1),
            Self::Passphrase { salt, cost } => {
                out.push(2);
                out.extend_from_slice(salt);
                for number in [cost.memory_kib(), cost.passes(), cost.lanes()] {
                    out.extend_from_slice(&number.to_be_bytes());
                }
            }
            Self::Shares {
                set,
                threshold,
                checks,
            } => {
                out.push(3);
                out.extend_from_slice(&set.bytes());
                out.push(*threshold);
                out.extend_from_slice(&(checks.len() as u64).to_be_bytes());
                for check in checks {
                    out.extend_from_slice(&check.bytes());
                }
            }
            Self::Service(service) => service.bind(&mut out),
        }
        out
    }
}

/// Which root key it is: a reseal makes another one.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct RootId([u8; 16]);

impl RootId {
    /// A stored id.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The bytes of the id.
    #[must_use]
    pub const fn bytes(&self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Debug for RootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RootId(")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// A root key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedRoot {
    /// The deployment it belongs to.
    pub deployment: [u8; 16],
    /// Which root key it is.
    pub root: RootId,
    /// Who gives the wrapping key.
    pub provider: Provider,
    /// The root key, sealed by the wrapping key.
    pub sealed: SealedKey,
}

impl SealedRoot {
    /// Seals a root key by the key of a key file.
    ///
    /// # Errors
    /// [`WrapError::Failed`] when the cipher refuses, which it never does.
    pub fn by_key_file(
        deployment: [u8; 16],
        root: &UnsealKey,
        key: &UnsealKey,
        entropy: &dyn Entropy,
    ) -> Result<Self, WrapError> {
        Self::wrap((deployment, root), Provider::KeyFile, key, entropy)
    }

    /// Seals a root key by a passphrase. Takes as long as one guess does.
    ///
    /// # Errors
    /// [`WrapError`] when the passphrase is too short or too long.
    pub fn by_passphrase(
        deployment: [u8; 16],
        root: &UnsealKey,
        (passphrase, cost): (&SecretBytes, Cost),
        entropy: &dyn Entropy,
    ) -> Result<Self, WrapError> {
        check_passphrase(passphrase)?;
        let salt = entropy::array(entropy);
        let key = passphrase::derive(passphrase, &salt, cost)
            .ok_or(WrapError::Failed("there is no memory for Argon2id"))?;
        let provider = Provider::Passphrase { salt, cost };
        Self::wrap((deployment, root), provider, &key, entropy)
    }

    /// Seals a root key by a fresh key of which nothing is left but its shares. They are given once.
    ///
    /// # Errors
    /// [`WrapError`] when so many shares cannot be made.
    pub fn by_shares(
        deployment: [u8; 16],
        root: &UnsealKey,
        (threshold, shares): (u8, u8),
        entropy: &dyn Entropy,
    ) -> Result<(Self, Vec<Share>), WrapError> {
        let key = UnsealKey::generate(entropy);
        let made = share::split(&key, threshold, shares, entropy)?;
        let first = made.first().map(Share::set);
        let set = first.ok_or(WrapError::Failed("no share was made"))?;
        let provider = Provider::Shares {
            set,
            threshold,
            checks: made.iter().map(Share::check).collect(),
        };
        let sealed = Self::wrap((deployment, root), provider, &key, entropy)?;
        Ok((sealed, made))
    }

    /// Seals a root key by a fresh key that a service outside wrapped.
    ///
    /// # Errors
    /// [`WrapError::Failed`] when the cipher refuses, which it never does.
    pub fn by_service(
        deployment: [u8; 16],
        root: &UnsealKey,
        (service, key): (Service, &UnsealKey),
        entropy: &dyn Entropy,
    ) -> Result<Self, WrapError> {
        Self::wrap((deployment, root), Provider::Service(service), key, entropy)
    }

    /// Opens it with the key of a key file.
    ///
    /// # Errors
    /// [`NotOpened`], whatever was wrong.
    pub fn open_with_key(&self, key: &UnsealKey) -> Result<UnsealKey, NotOpened> {
        match self.provider {
            Provider::KeyFile => self.unwrap(key),
            _ => Err(NotOpened),
        }
    }

    /// Opens it with what a service outside unwrapped.
    ///
    /// # Errors
    /// [`NotOpened`], whatever was wrong.
    pub fn open_with_service(&self, key: &UnsealKey) -> Result<UnsealKey, NotOpened> {
        match self.provider {
            Provider::Service(_) => self.unwrap(key),
            _ => Err(NotOpened),
        }
    }

    /// Opens it with a passphrase. Takes as long as one guess does, also for a wrong one.
    ///
    /// # Errors
    /// [`NotOpened`], whatever was wrong.
    pub fn open_with_passphrase(&self, passphrase: &SecretBytes) -> Result<UnsealKey, NotOpened> {
        let Provider::Passphrase { salt, cost } = &self.provider else {
            return Err(NotOpened);
        };
        let key = passphrase::derive(passphrase, salt, *cost).ok_or(NotOpened)?;
        self.unwrap(&key)
    }

    /// Gathers shares of it.
    #[must_use]
    pub fn gather(&self) -> Option<Gathering> {
        Gathering::of(&self.provider)
    }

    /// Opens it with gathered shares.
    ///
    /// # Errors
    /// [`NotOpened`], whatever was wrong.
    pub fn open_with_shares(&self, gathered: &Gathering) -> Result<UnsealKey, NotOpened> {
        self.unwrap(&gathered.combine().ok_or(NotOpened)?)
    }

    fn wrap(
        (deployment, root): ([u8; 16], &UnsealKey),
        provider: Provider,
        key: &UnsealKey,
        entropy: &dyn Entropy,
    ) -> Result<Self, WrapError> {
        let id = RootId(entropy::array(entropy));
        let name = bound(id, &provider);
        let sealed = key
            .seal_root(&deployment, KIND, &name, root, entropy)
            .map_err(|_| WrapError::Failed("the cipher refused"))?;
        Ok(Self {
            deployment,
            root: id,
            provider,
            sealed,
        })
    }

    fn unwrap(&self, key: &UnsealKey) -> Result<UnsealKey, NotOpened> {
        let name = bound(self.root, &self.provider);
        Ok(key.open_root(&self.deployment, KIND, &name, &self.sealed)?)
    }
}

/// What the sealed root is bound to beside its deployment.
fn bound(root: RootId, provider: &Provider) -> Vec<u8> {
    [&root.0[..], &provider.bound()].concat()
}
