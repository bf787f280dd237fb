//! A store as the log has it: facts, refusals, state and the fold.

use super::{Backend, CredentialRef, NamedStore, StoreSpec, VaultAuth};
use crate::id::StoreId;
use crate::name::{SecretName, StoreName};

/// What happened to a store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// Secrets may lie in it from now on.
    Declared {
        /// Its name, for ever.
        name: StoreName,
        /// What a person declared.
        spec: StoreSpec,
    },
    /// A later manifest says something else.
    Changed {
        /// The new declaration, whole.
        spec: StoreSpec,
    },
    /// It is asked nothing any more.
    Removed,
    /// It does not answer: what is known of it gets old, and containers keep what they have.
    WentStale {
        /// Why, without a value.
        reason: String,
    },
    /// It answers again.
    Recovered,
}

/// Longest reason in [`Event::WentStale`], in characters.
pub const MAX_STALE_REASON_CHARS: usize = 300;

/// A normal "no" about a store.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// No store has that name.
    #[error(
        "no store is named `{0}`; `keywheel store list` lists them, and `kind: Store` declares one"
    )]
    Unknown(StoreName),
    /// The name of our own.
    #[error("`local` is the store that is always there; give this one another name")]
    NameTaken,
    /// Secrets lie in it.
    #[error("secret `{secret}` lies in store `{store}`; move it to another store first")]
    InUse {
        /// The store.
        store: StoreName,
        /// One of the secrets.
        secret: SecretName,
    },
    /// Its credential is no secret of ours.
    #[error(
        "store `{store}` reads a credential from secret `{secret}`, which does not exist; apply it first (`kind: Secret` with `credentialFor: {server}`), then give its value with `keywheel secret put {secret} --value-file FILE`"
    )]
    CredentialUnknown {
        /// The store.
        store: StoreName,
        /// The secret.
        secret: SecretName,
        /// The server that it would be sent to.
        server: String,
    },
    /// Its credential is a secret for something else, and would be shown to that server.
    #[error(
        "store `{store}` would send the value of secret `{secret}` to `{server}`, for which it was not given; declare a secret with `credentialFor: {server}`, give it its value, and name that one"
    )]
    CredentialNotMeant {
        /// The store.
        store: StoreName,
        /// The secret.
        secret: SecretName,
        /// The server that it would be sent to.
        server: String,
    },
    /// Its credential lies in a store, too: then neither could be read first.
    #[error(
        "store `{store}` reads a credential from secret `{secret}`, which lies in a store outside itself; keep credentials of stores in the store `local`"
    )]
    CredentialOutside {
        /// The store.
        store: StoreName,
        /// The secret.
        secret: SecretName,
    },
    /// The place belongs to another secret.
    #[error(
        "secret `{secret}` is to lie where secret `{other}` lies already; one place belongs to one secret: bind `{other}` instead, or name another path or field"
    )]
    PlaceTaken {
        /// The secret asked for.
        secret: SecretName,
        /// The one that has it.
        other: SecretName,
    },
    /// A place that its kind of store does not have.
    #[error("secret `{secret}` cannot lie there: {reason}")]
    NoPlace {
        /// The secret.
        secret: SecretName,
        /// What is wrong with it, and what would be right.
        reason: &'static str,
    },
    /// Somebody looked there when we knew another version than now.
    #[error("the look at secret `{0}` is older than what is known; look again")]
    LookOutdated(SecretName),
    /// What is current there was revoked.
    #[error(
        "what is current at the store of secret `{0}` was revoked; put a new value there, or rotate"
    )]
    RevokedThere(SecretName),
    /// Another place while work is under way at the old one.
    #[error(
        "secret `{secret}` cannot lie elsewhere now: {what} works where it lies; apply again when that has ended"
    )]
    Working {
        /// The secret.
        secret: SecretName,
        /// The rotation or revocation.
        what: String,
    },
    /// A look at a secret that has no place outside.
    #[error("secret `{0}` lies in the store `local`; there is nothing to look at")]
    NotOutside(SecretName),
}

/// A declared store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    /// Its id.
    pub id: StoreId,
    /// Its name and what was declared.
    pub store: NamedStore,
    /// Whether it does not answer, as store-sync said last.
    pub is_stale: bool,
}

impl Declared {
    /// Declares it, or what changes; nothing when it is as declared already.
    #[must_use]
    pub fn decide_declare(&self, spec: &StoreSpec) -> Option<Event> {
        (self.store.spec != *spec).then(|| Event::Changed { spec: spec.clone() })
    }

    /// Folds one event; total. A removal is the world's.
    pub fn evolve(&mut self, event: &Event) {
        match event {
            Event::Declared { spec, .. } | Event::Changed { spec } => {
                self.store.spec = spec.clone();
            }
            Event::WentStale { .. } => self.is_stale = true,
            Event::Recovered => self.is_stale = false,
            Event::Removed => {}
        }
    }

    /// What becomes of word that it answers, or why not; nothing when that is known.
    #[must_use]
    pub fn decide_contact(&self, failure: Option<&str>) -> Option<Event> {
        match (self.is_stale, failure) {
            (false, Some(reason)) => Some(Event::WentStale {
                reason: reason.chars().take(MAX_STALE_REASON_CHARS).collect(),
            }),
            (true, None) => Some(Event::Recovered),
            _ => None,
        }
    }
}

impl StoreSpec {
    /// Secrets of `local` in which its credentials are.
    #[must_use]
    pub fn credential_secrets(&self) -> Vec<&SecretName> {
        let credentials = self.backend.credentials().into_iter();
        credentials.filter_map(CredentialRef::secret).collect()
    }
}

impl CredentialRef {
    /// The secret it is read from, if it is one.
    #[must_use]
    pub const fn secret(&self) -> Option<&SecretName> {
        match self {
            Self::Secret(name) => Some(name),
            Self::File(_) => None,
        }
    }
}

impl Backend {
    /// Where its credentials are read.
    #[must_use]
    pub fn credentials(&self) -> Vec<&CredentialRef> {
        use super::AwsAuth;
        match self {
            Self::Vault(vault) => match &vault.auth {
                VaultAuth::Token { token } | VaultAuth::Jwt { token, .. } => vec![token],
                VaultAuth::AppRole { secret_id, .. } => vec![secret_id],
                VaultAuth::Cert {
                    certificate, key, ..
                } => vec![certificate, key],
            },
            Self::Aws(aws) => match &aws.auth {
                AwsAuth::Keys {
                    secret_access_key,
                    session_token,
                    ..
                } => std::iter::once(secret_access_key)
                    .chain(session_token)
                    .collect(),
                AwsAuth::Chain { .. } => Vec::new(),
            },
        }
    }
}
