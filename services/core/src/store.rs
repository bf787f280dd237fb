//! Secret stores outside: what a person declares about one, and where in it a secret's value lies.
//!
//! Owns the shapes; it knows no protocol. Invariants: no credential is here, only where one is read;
//! texts are within their limits when they come from a manifest.

mod declared;
mod news;
#[cfg(test)]
mod tests;

pub use declared::{Declared, Event, MAX_STALE_REASON_CHARS, Rejection};
pub use news::{CredentialNow, Found, Looked, MAX_NEWS, News, PlannedUse, SecretNow, StoreNow};

use std::time::Duration;

use crate::name::{SecretName, StoreName};

/// How often a store is asked for outside changes when a manifest says nothing.
pub const DEFAULT_POLL: Duration = Duration::from_secs(60);
/// Shortest poll interval: below it the store's own limits are met first.
pub const MIN_POLL: Duration = Duration::from_secs(1);
/// Longest poll interval.
pub const MAX_POLL: Duration = Duration::from_secs(86_400);
/// How long one request to a store may take when a manifest says nothing.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest request timeout: shorter than a step's deadline, so that the failure is told.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(14);
/// Longest address, path, mount, role, region or other text of a store, in bytes.
pub const MAX_STORE_TEXT_BYTES: usize = 2048;

/// A store as declared by `kind: Store`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSpec {
    /// Which kind, with what only that kind has.
    pub backend: Backend,
    /// How often it is asked for outside changes.
    pub poll: Duration,
    /// How long one request may take.
    pub timeout: Duration,
}

/// The kinds of store outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backend {
    /// HashiCorp Vault or OpenBao, KV version 2.
    Vault(VaultSpec),
    /// AWS Secrets Manager.
    Aws(AwsSpec),
}

impl Backend {
    /// The server it speaks to, as the `credentialFor` of its credentials names it: the address, or the
    /// endpoint of AWS, or `aws`.
    #[must_use]
    pub fn server(&self) -> &str {
        match self {
            Self::Vault(vault) => &vault.address,
            Self::Aws(aws) if aws.endpoint.is_empty() => AWS,
            Self::Aws(aws) => &aws.endpoint,
        }
    }
    /// Whether versions there are still the ones they were: the same server, mount and namespace, or
    /// the same region and endpoint.
    #[must_use]
    pub fn is_same_server(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Vault(one), Self::Vault(two)) => {
                (&one.address, &one.namespace, &one.mount)
                    == (&two.address, &two.namespace, &two.mount)
            }
            (Self::Aws(one), Self::Aws(two)) => {
                (&one.region, &one.endpoint) == (&two.region, &two.endpoint)
            }
            _ => false,
        }
    }
    /// Whether there are static roles, whose values the server makes itself. Elsewhere a path that looks like
    /// one is a name like any other.
    #[must_use]
    pub const fn has_static_roles(&self) -> bool {
        matches!(self, Self::Vault(_))
    }
    /// The word in a manifest: `vault` or `aws`.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Vault(_) => "vault",
            Self::Aws(_) => "aws",
        }
    }
}

/// The server of an AWS store that names no endpoint.
pub const AWS: &str = "aws";

/// Where a credential is read, each time it is needed. Never the credential itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialRef {
    /// A file on the machine of store-sync, absolute.
    File(String),
    /// The current version of a secret of the `local` store.
    Secret(SecretName),
}

/// Vault or OpenBao.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VaultSpec {
    /// `https://host:port`; `http` only to a loopback address.
    pub address: String,
    /// The namespace; empty for the root one.
    pub namespace: String,
    /// Where the KV version 2 engine is mounted, without slashes around it.
    pub mount: String,
    /// PEM file with the authorities that sign the server's certificate; empty for the system's.
    pub ca_file: String,
    /// What becomes of an old version that we wrote.
    pub old_versions: OldVersions,
    /// How we log in.
    pub auth: VaultAuth,
}

/// What becomes at Vault of a version that Keywheel wrote, once a rotation took it from every container.
/// What a revocation names is destroyed, whatever this says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OldVersions {
    /// It is destroyed: nobody can bring it back.
    #[default]
    Destroy,
    /// It is deleted: who may `undelete` there can bring it back.
    SoftDelete,
}

/// How we log in at Vault or OpenBao.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VaultAuth {
    /// A token somebody made.
    Token {
        /// The token.
        token: CredentialRef,
    },
    /// AppRole.
    AppRole {
        /// Mount of the auth method, `approle` by default.
        mount: String,
        /// The role id: a name, no secret.
        role_id: String,
        /// The secret id, or the wrapping token around it.
        secret_id: CredentialRef,
        /// Whether what is read is a wrapping token (used once, then the secret id is kept in memory).
        wrapped: bool,
    },
    /// TLS client certificate.
    Cert {
        /// Mount of the auth method, `cert` by default.
        mount: String,
        /// The role; empty lets the server choose.
        role: String,
        /// PEM certificate chain.
        certificate: CredentialRef,
        /// PEM private key.
        key: CredentialRef,
    },
    /// A signed JSON Web Token, read anew for each login.
    Jwt {
        /// Mount of the auth method, `jwt` by default.
        mount: String,
        /// The role.
        role: String,
        /// The token.
        token: CredentialRef,
    },
}

/// AWS Secrets Manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AwsSpec {
    /// The region; empty for the one of the standard chain (environment, profile).
    pub region: String,
    /// Another endpoint than the region's; empty for none. `http` only to a loopback address.
    pub endpoint: String,
    /// Where credentials come from.
    pub auth: AwsAuth,
}

/// Where AWS credentials come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AwsAuth {
    /// The standard chain: environment, profile (with its keys, role, SSO session or process), web
    /// identity, container, instance.
    Chain {
        /// The profile; empty for the default one.
        profile: String,
    },
    /// An access key somebody made.
    Keys {
        /// The access key id: a name, no secret.
        access_key_id: String,
        /// The secret access key.
        secret_access_key: CredentialRef,
        /// The token that belongs to a temporary key.
        session_token: Option<CredentialRef>,
    },
}

/// Where in its store a secret's value lies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Source {
    /// Path below the mount (Vault), or name or ARN (AWS). Of a static role: [`Source::static_role`].
    pub path: String,
    /// The field of a map of fields (Vault: required there; AWS: empty means the whole string).
    pub field: String,
}

/// What stands between the mount of a database engine and the name of a static role of it.
const STATIC_ROLE: &str = "/static-creds/";
/// The field of a static role that its server makes anew.
const PASSWORD: &str = "password";
/// The field of a static role that names its account.
const USERNAME: &str = "username";

/// A static role of a database engine at Vault or OpenBao: the server makes its account's password itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StaticRole<'a> {
    /// Where the engine is mounted, without slashes around it.
    pub mount: &'a str,
    /// The role.
    pub name: &'a str,
}

/// Length of what AWS adds to a secret's name in its ARN: `-` and six characters.
const ARN_SUFFIX_BYTES: usize = 7;

impl Source {
    /// The static role that it names: `/MOUNT/static-creds/ROLE`, with the fields that a role tells. A path
    /// that begins with a slash is the server's, and not below the store's mount. Only in a store that
    /// [`Backend::has_static_roles`].
    #[must_use]
    pub fn static_role(&self) -> Option<StaticRole<'_>> {
        let is_told = matches!(self.field.as_str(), PASSWORD | USERNAME);
        self.role_in_path().filter(|_| is_told)
    }

    /// Whether its server makes the value itself: the password of a static role.
    #[must_use]
    pub fn is_made_there(&self) -> bool {
        self.field == PASSWORD && self.static_role().is_some()
    }

    fn role_in_path(&self) -> Option<StaticRole<'_>> {
        let path = self.path.strip_prefix('/')?;
        let (mount, name) = path.split_once(STATIC_ROLE)?;
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        let is_fit = mount.split('/').all(plain) && plain(name) && !name.contains('/');
        is_fit.then_some(StaticRole { mount, name })
    }

    /// Whether both name one place of a store of this kind, whatever way they are written.
    #[must_use]
    pub fn is_same_place(&self, other: &Self, backend: &Backend) -> bool {
        let resource = |source: &Self| match backend {
            Backend::Vault(_) => source.path.clone(),
            Backend::Aws(_) => aws_name(&source.path).to_owned(),
        };
        self.field == other.field && resource(self) == resource(other)
    }

    /// What is wrong with it as a place in a store of this kind, and what would be right.
    #[must_use]
    pub fn fault(&self, backend: &Backend) -> Option<&'static str> {
        if self.path.is_empty() {
            return Some("`source.path` is empty; name the path in the store");
        }
        match backend {
            Backend::Vault(_) if self.field.is_empty() => {
                Some("a secret in Vault is a map; name one with `source.field`")
            }
            Backend::Vault(_) if self.static_role().is_some() => None,
            Backend::Vault(_) if self.role_in_path().is_some() => Some(
                "a static role tells two fields; write `password` in `source.field`, or `username`",
            ),
            Backend::Vault(_) => {
                let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
                (!self.path.split('/').all(plain)).then_some(
                    "`source.path` is the path below the mount, like `payments/db`: without `/` at its ends, empty parts, `.` or `..`",
                )
            }
            Backend::Aws(_) => None,
        }
    }

    /// Why nobody makes values for it, and what would be right.
    #[must_use]
    pub fn generator_fault(&self, backend: &Backend) -> Option<&'static str> {
        let is_role = backend.has_static_roles() && self.static_role().is_some();
        (is_role && !self.is_made_there()).then_some(
            "the account of a static role has its name from the server; leave `generator` out, and give it to the secret whose `source.field` is `password`",
        )
    }
}

impl Source {
    /// What is wrong with it as a role that gives logins, and what would be right.
    #[must_use]
    pub fn lease_fault(&self, backend: &Backend) -> Option<&'static str> {
        let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
        let has_parts = self.path.split('/').count() > 2;
        match backend {
            Backend::Aws(_) => Some(
                "AWS Secrets Manager gives no logins by lease; name a store that is a Vault or an OpenBao",
            ),
            Backend::Vault(_) if !has_parts || !self.path.split('/').all(plain) => Some(
                "`rotator.role` is the path at which the server gives logins, like `database/creds/app`: without `/` at its ends, empty parts, `.` or `..`",
            ),
            Backend::Vault(_) => None,
        }
    }

    /// Whether it is a role that gives logins, not a field of a secret: those have one.
    #[must_use]
    pub fn is_role(&self, backend: &Backend) -> bool {
        matches!(backend, Backend::Vault(_)) && self.field.is_empty()
    }
}

/// The name in an ARN, or what was given.
fn aws_name(path: &str) -> &str {
    let Some((arn, name)) = path.split_once(":secret:") else {
        return path;
    };
    let end = name.len().saturating_sub(ARN_SUFFIX_BYTES);
    match name.split_at_checked(end) {
        Some((short, suffix)) if arn.starts_with("arn:") && suffix.starts_with('-') => short,
        _ => name,
    }
}

/// A version as the store names it: a number at Vault, a version id at AWS. Opaque here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RemoteVersion(pub String);

/// Longest name of a version at a store, in bytes.
pub const MAX_REMOTE_VERSION_BYTES: usize = 128;

/// A configured store as secrets refer to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedStore {
    /// Its name.
    pub name: StoreName,
    /// What was declared.
    pub spec: StoreSpec,
}
