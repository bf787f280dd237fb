//! Tokens, with which programs come for a person, and people's logins, which are tokens of a short life: facts,
//! refusals, and the fold of one.
//!
//! A token is known by the SHA-256 of its text, which is thirty-two random bytes; the text is nowhere here. What its
//! scope means is not known here either: whoever issues one has read it. Invariants: uses are counted before they are
//! made, so that a crash loses some and gives none; what is over or revoked counts none.

use std::time::Duration;

use crate::id::TokenId;
use crate::name::TokenName;
use crate::time::Timestamp;

/// SHA-256 of a token's text.
pub type TokenHash = [u8; 32];

/// Tokens of one person that are alive at once.
pub const MAX_TOKENS_PER_OWNER: usize = 100;
/// Tokens of all people that are alive at once.
pub const MAX_TOKENS: usize = 10_000;
/// Tokens that are gone and whose names are still known.
pub const MAX_GONE_TOKENS: usize = 4096;
/// How long a token lives at least.
pub const MIN_TOKEN_LIFETIME: Duration = Duration::from_secs(60);
/// How long a token lives at most.
pub const MAX_TOKEN_LIFETIME: Duration = Duration::from_secs(366 * 24 * 3600);
/// How often a token with a limit may be used at most.
pub const MAX_TOKEN_USES: u64 = 1_000_000_000;
/// Verbs and resources of one scope, together.
pub const MAX_SCOPE_WORDS: usize = 64;
/// Longest word of a scope, in bytes.
pub const MAX_SCOPE_WORD_BYTES: usize = 512;
/// Groups of one login.
pub const MAX_LOGIN_GROUPS: usize = 200;
/// Longest name of such a group, in bytes.
pub const MAX_LOGIN_GROUP_BYTES: usize = 128;
/// Longest reason of a revocation, in characters.
pub const MAX_TOKEN_REASON_CHARS: usize = 500;

/// What a token is good for, in the words of policies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// What it may do.
    pub verbs: Vec<String>,
    /// Of what.
    pub resources: Vec<String>,
}

impl Scope {
    fn is_in_bounds(&self) -> bool {
        let words = || self.verbs.iter().chain(&self.resources);
        !self.verbs.is_empty()
            && !self.resources.is_empty()
            && words().count() <= MAX_SCOPE_WORDS
            && words().all(|word| !word.is_empty() && word.len() <= MAX_SCOPE_WORD_BYTES)
    }
}

/// Whom a provider of identities named: a token with it is a person's login, and no program's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The provider.
    pub issuer: String,
    /// The person, as the provider tells people apart; it names nobody else later.
    pub subject: String,
    /// Groups that the provider says they are in.
    pub groups: Vec<String>,
    /// Until when the provider's word counts; the login ends no later.
    pub until: Timestamp,
}

impl Login {
    fn is_in_bounds(&self) -> bool {
        let words = || [&self.issuer, &self.subject].into_iter();
        self.groups.len() <= MAX_LOGIN_GROUPS
            && words().all(|word| !word.is_empty() && word.len() <= MAX_SCOPE_WORD_BYTES)
            && self
                .groups
                .iter()
                .all(|group| !group.is_empty() && group.len() <= MAX_LOGIN_GROUP_BYTES)
    }
}

/// What happened to a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// It was made, and shown to whoever asked for it.
    Issued {
        /// Its name.
        name: TokenName,
        /// SHA-256 of its text.
        hash: TokenHash,
        /// The person it stands for.
        owner: String,
        /// What it is good for.
        scope: Scope,
        /// When.
        issued_at: Timestamp,
        /// From then on it opens nothing.
        expires_at: Timestamp,
        /// How often it may be used; without one as often as it lives.
        limit: Option<u64>,
        /// Of a login: whom the provider named.
        login: Option<Login>,
    },
    /// Uses were taken out of its limit: they count as made.
    UsesTaken {
        /// How many.
        uses: u64,
    },
    /// It opens nothing any more.
    Revoked {
        /// Who revoked it.
        by: String,
        /// Why.
        reason: String,
    },
}

/// A wish for a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Its id.
    pub id: TokenId,
    /// Its name.
    pub name: TokenName,
    /// SHA-256 of its text.
    pub hash: TokenHash,
    /// The person it stands for.
    pub owner: String,
    /// What it is good for, which its sender has read.
    pub scope: Scope,
    /// How long it lives.
    pub lifetime: Duration,
    /// How often it may be used.
    pub limit: Option<u64>,
    /// Of a login: whom the provider named.
    pub login: Option<Login>,
}

/// Which tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// The one with this name.
    Named(TokenName),
    /// Every one of a person.
    Of(String),
}

/// A wish about tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Have one.
    Issue(Issue),
    /// Take uses out of its limit.
    Take {
        /// Which.
        token: TokenId,
        /// How many.
        uses: u64,
    },
    /// Have them open nothing any more.
    Revoke {
        /// Which.
        which: Which,
        /// Who wants it.
        by: String,
        /// Why.
        reason: String,
    },
}

/// A normal "no" about tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    /// Another one has the name.
    #[error(
        "a token is named `{0}` already; give another name, or revoke that one first with `keywheel token revoke {0}`"
    )]
    NameTaken(TokenName),
    /// The name's owner has too many.
    #[error(
        "`{0}` has {MAX_TOKENS_PER_OWNER} tokens that are alive, and may have no more; revoke one that is not needed"
    )]
    TooManyOf(String),
    /// There are too many.
    #[error(
        "{MAX_TOKENS} tokens are alive, and there may be no more; revoke those that are not needed"
    )]
    TooMany,
    /// It would live too short or too long.
    #[error("a token lives from one minute to 366 days; give such a lifetime")]
    Lifetime,
    /// Its limit is none.
    #[error("a token may be used from once to {MAX_TOKEN_USES} times; give such a limit, or none")]
    Limit,
    /// Its scope is empty or too large.
    #[error(
        "a scope has at least one verb and one resource, and {MAX_SCOPE_WORDS} words of {MAX_SCOPE_WORD_BYTES} bytes at most; name paths instead of each secret"
    )]
    ScopeOutOfBounds,
    /// None has that name.
    #[error("no token is named `{0}`; `keywheel token list` lists those that are alive")]
    Unknown(TokenName),
    /// A person has none.
    #[error("`{0}` has no token; `keywheel token list` lists those that are alive")]
    NoneOf(String),
    /// A revocation says why.
    #[error("say why it is revoked, for the record")]
    ReasonMissing,
    /// The reason is too long.
    #[error("the reason has more than {MAX_TOKEN_REASON_CHARS} characters; say it shorter")]
    ReasonTooLong,
    /// It is revoked, or over.
    #[error("the token was revoked, or is over")]
    Over,
    /// Not so many uses are left.
    #[error("the token has {0} uses left")]
    UsedUp(u64),
    /// The provider says too much of somebody.
    #[error(
        "a login has {MAX_LOGIN_GROUPS} groups of {MAX_LOGIN_GROUP_BYTES} bytes at most; have the provider give those alone that policies name"
    )]
    LoginOutOfBounds,
}

impl Rejection {
    /// Whether the wish itself is out of bounds, whatever there is.
    pub(crate) const fn is_invalid(&self) -> bool {
        matches!(
            self,
            Self::Lifetime
                | Self::Limit
                | Self::ScopeOutOfBounds
                | Self::LoginOutOfBounds
                | Self::ReasonMissing
                | Self::ReasonTooLong
        )
    }
}

/// How a token went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gone {
    /// Somebody revoked it.
    Revoked,
    /// Its time was over.
    Over,
}

/// A token that was issued and not revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// Its id.
    pub id: TokenId,
    /// Its name.
    pub name: TokenName,
    /// SHA-256 of its text.
    pub hash: TokenHash,
    /// The person it stands for.
    pub owner: String,
    /// What it is good for.
    pub scope: Scope,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// From then on it opens nothing.
    pub expires_at: Timestamp,
    /// How often it may be used.
    pub limit: Option<u64>,
    /// Uses that were taken out of the limit.
    pub taken: u64,
    /// Of a login: whom the provider named.
    pub login: Option<Login>,
    /// Whether the log went on beyond its end.
    pub is_over: bool,
}

impl Token {
    /// Whether it opens something, as far as time goes.
    #[must_use]
    pub fn is_alive(&self, now: Timestamp) -> bool {
        !self.is_over && now < self.expires_at
    }

    /// How many uses are left; `None` where nothing limits them.
    #[must_use]
    pub fn left(&self) -> Option<u64> {
        self.limit.map(|limit| limit.saturating_sub(self.taken))
    }
}

impl Issue {
    /// Whether it may be, as far as it goes by itself.
    ///
    /// # Errors
    /// When its lifetime, limit, scope or login is out of bounds.
    pub fn check(&self) -> Result<(), Rejection> {
        if !(MIN_TOKEN_LIFETIME..=MAX_TOKEN_LIFETIME).contains(&self.lifetime) {
            return Err(Rejection::Lifetime);
        }
        if self
            .limit
            .is_some_and(|limit| !(1..=MAX_TOKEN_USES).contains(&limit))
        {
            return Err(Rejection::Limit);
        }
        if !self.scope.is_in_bounds() {
            return Err(Rejection::ScopeOutOfBounds);
        }
        match self.login.as_ref().is_none_or(Login::is_in_bounds) {
            true => Ok(()),
            false => Err(Rejection::LoginOutOfBounds),
        }
    }
}
