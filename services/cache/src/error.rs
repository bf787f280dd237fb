//! What can go wrong with the cache, by what the caller can do about it.
//!
//! Invariant: no text tells a value, its length or a key.

use std::path::PathBuf;

use keywheel_core::id::SecretId;

/// Base codes of SQLite that decide the kind of an error.
mod code {
    pub(super) const BUSY: i32 = 5;
    pub(super) const LOCKED: i32 = 6;
    pub(super) const CORRUPT: i32 = 11;
    pub(super) const FULL: i32 = 13;
    pub(super) const NOT_A_DATABASE: i32 = 26;
}

/// The cache could not do it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key file is not the one this cache was made with.
    #[error(
        "the unseal key does not open the cache {path}; give the key file this data directory was made with"
    )]
    WrongUnsealKey {
        /// The cache.
        path: PathBuf,
    },
    /// The file belongs to another installation.
    #[error(
        "the cache {path} belongs to another deployment; give each deployment its own data directory"
    )]
    WrongDeployment {
        /// The cache.
        path: PathBuf,
    },
    /// Written by a newer build, or by something else.
    #[error(
        "the cache {path} has format {found}, this build reads format {known}; use a newer keywheel"
    )]
    UnknownFormat {
        /// The cache.
        path: PathBuf,
        /// What the file says.
        found: i64,
        /// What this build knows.
        known: i64,
    },
    /// The place of the file is not safe or not usable.
    #[error("the cache cannot be kept at {path}: {reason}")]
    Location {
        /// The file or directory.
        path: PathBuf,
        /// Why, and what to do.
        reason: String,
    },
    /// A library with known corruption bugs.
    #[error(
        "SQLite {found} is too old, {wanted} or newer is needed; build keywheel with its bundled SQLite"
    )]
    SqliteTooOld {
        /// The linked version.
        found: String,
        /// The oldest one that is safe.
        wanted: &'static str,
    },
    /// There is no such version here.
    #[error("version {version} of secret {secret} is not in the cache")]
    NotFound {
        /// The secret.
        secret: SecretId,
        /// The version.
        version: u64,
    },
    /// The version was destroyed and never comes back.
    #[error(
        "version {version} of secret {secret} was destroyed; rotate the secret to get a new one"
    )]
    Destroyed {
        /// The secret.
        secret: SecretId,
        /// The version.
        version: u64,
    },
    /// Version and token do not belong together.
    #[error("version {version} of secret {secret} was made under another token")]
    TokenConflict {
        /// The secret.
        secret: SecretId,
        /// The version.
        version: u64,
    },
    /// The row was changed, moved or damaged.
    #[error(
        "version {version} of secret {secret} does not open in the cache: it was changed or damaged; rotate the secret"
    )]
    CorruptRow {
        /// The secret.
        secret: SecretId,
        /// The version.
        version: u64,
        /// How it failed.
        #[source]
        source: keywheel_seal::envelope::OpenError,
    },
    /// A provided value was changed, moved or damaged.
    #[error("a provided value does not open in the cache: it was changed or damaged; put it again")]
    CorruptStash(#[source] keywheel_seal::envelope::OpenError),
    /// A key for provided values was changed, moved or damaged.
    #[error(
        "a key for provided values does not open in the cache: it was changed or damaged; find out by whom, then empty its table store_key: a fresh key is made"
    )]
    CorruptStoreKey,
    /// The file is damaged.
    #[error("the cache {path} is damaged; restore the data directory from a backup")]
    CorruptFile {
        /// The cache.
        path: PathBuf,
        /// What SQLite says, when it says something.
        #[source]
        source: Option<sqlx::Error>,
    },
    /// The database cannot be used.
    #[error("the cache cannot be opened: {0}")]
    Database(#[from] keywheel_postgres::Error),
    /// A value over the limit.
    #[error(transparent)]
    TooLarge(#[from] keywheel_seal::TooLarge),
    /// The value could not be sealed.
    #[error("the value cannot be sealed")]
    Seal(#[source] keywheel_seal::envelope::SealError),
    /// A new key could not be sealed.
    #[error("a new key cannot be sealed")]
    SealKey(#[source] keywheel_seal::envelope::OpenError),
    /// A row does not open with the fresh key.
    #[error(
        "a row of the cache does not open with its fresh key, so the old keys are kept; restore the data directory, or rotate what `keywheel status` names"
    )]
    UnverifiedKek,
    /// Other processes replace the key all the time.
    #[error("the cache's key was replaced again and again by others; compare their clocks")]
    KekUnsteady,
    /// Too many provided values wait.
    #[error(
        "{limit} provided values wait for their rotation; let them finish, then put the value again"
    )]
    StashFull {
        /// The limit.
        limit: u32,
    },
    /// No room for the write.
    #[error("the disk of the cache {path} is full; free space there, nothing was changed")]
    DiskFull {
        /// The cache.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: sqlx::Error,
    },
    /// Another program has the file open.
    #[error(
        "the cache {path} is in use by another program; stop the other keywheel of this data directory"
    )]
    InUse {
        /// The cache.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: sqlx::Error,
    },
    /// The file cannot be read or written right now.
    #[error("the cache {path} cannot be read or written")]
    Io {
        /// The cache.
        path: PathBuf,
        /// What SQLite says.
        #[source]
        source: sqlx::Error,
    },
}

/// What a caller does about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nothing there.
    NotFound,
    /// Gone for good.
    Destroyed,
    /// Changed or damaged; never served.
    Corrupt,
    /// May work later.
    Unavailable,
    /// The place or the token is taken.
    Conflict,
    /// Will never work like this.
    Refused,
}

impl Error {
    /// What a caller does about it.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::NotFound { .. } => Kind::NotFound,
            Self::Destroyed { .. } => Kind::Destroyed,
            Self::CorruptRow { .. }
            | Self::CorruptStash(_)
            | Self::CorruptStoreKey
            | Self::UnverifiedKek
            | Self::CorruptFile { .. } => Kind::Corrupt,
            Self::DiskFull { .. }
            | Self::InUse { .. }
            | Self::Io { .. }
            | Self::KekUnsteady
            | Self::StashFull { .. } => Kind::Unavailable,
            Self::Database(keywheel_postgres::Error::Gone { .. }) => Kind::Unavailable,
            Self::TokenConflict { .. } => Kind::Conflict,
            Self::WrongUnsealKey { .. }
            | Self::WrongDeployment { .. }
            | Self::UnknownFormat { .. }
            | Self::Location { .. }
            | Self::SqliteTooOld { .. }
            | Self::Database(_)
            | Self::TooLarge(_)
            | Self::Seal(_)
            | Self::SealKey(_) => Kind::Refused,
        }
    }

    /// What lies beneath the error, so that a caller can keep the text and the cause apart.
    pub(crate) fn into_source(self) -> Option<Box<dyn std::error::Error + Send + Sync>> {
        match self {
            Self::CorruptFile { source, .. } => source.map(Into::into),
            Self::DiskFull { source, .. }
            | Self::InUse { source, .. }
            | Self::Io { source, .. } => Some(source.into()),
            Self::CorruptRow { source, .. }
            | Self::CorruptStash(source)
            | Self::SealKey(source) => Some(source.into()),
            Self::Seal(source) => Some(source.into()),
            Self::Database(source) => Some(source.into()),
            _ => None,
        }
    }

    /// An error of SQLite on the file at `path`.
    pub(crate) fn sqlite(path: &std::path::Path, source: sqlx::Error) -> Self {
        let path = path.to_owned();
        let database = source.as_database_error().and_then(|error| error.code());
        let base = database
            .and_then(|code| code.parse::<i32>().ok())
            .map(|code| code & 0xff);
        match base {
            Some(code::FULL) => Self::DiskFull { path, source },
            Some(code::BUSY | code::LOCKED) => Self::InUse { path, source },
            Some(code::CORRUPT | code::NOT_A_DATABASE) => Self::CorruptFile {
                path,
                source: Some(source),
            },
            _ => Self::Io { path, source },
        }
    }
}
