//! What shows that a credential is dead: how a server answered a login with it.
//!
//! An answer is a class. The server's own words are not kept, for they may repeat what was sent.

use crate::time::Timestamp;

/// Why nothing was proven where a worker says no more.
pub const NOTHING_TO_ASK: &str =
    "its value opens no account that Keywheel knows, so there is no login that could be refused";

/// How a server answered a login with a revoked credential, or a store what became of its lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It says that the password is wrong; so it does of an account that is not there.
    WrongPassword,
    /// The account may not sign in at all, or is not there.
    NoLogin,
    /// It turned the login away and does not tell why.
    Refused,
    /// It let it in.
    Accepted,
    /// No login: the store that made it says that its lease is gone.
    LeaseGone,
    /// No login: the store that made it has its lease still.
    LeaseAlive,
}

impl Answer {
    /// Whether what it is about is alive.
    const fn is_of_the_living(self) -> bool {
        matches!(self, Self::Accepted | Self::LeaseAlive)
    }
}

/// One login with a revoked credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Which version.
    pub version: u64,
    /// When it was answered, by the clock of whoever asked.
    pub at: Timestamp,
    /// Which account of which server.
    pub place: String,
    /// The answer.
    pub answer: Answer,
}

/// What came of asking with every version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Proof {
    /// The logins.
    pub evidence: Vec<Evidence>,
    /// Why there is none of some version; `None` when there is one of each.
    pub lacking: Option<String>,
}

impl Proof {
    /// Of versions that nobody can log in with.
    #[must_use]
    pub fn lacking(reason: impl Into<String>) -> Self {
        Self {
            evidence: Vec::new(),
            lacking: Some(reason.into()),
        }
    }

    /// What was found of these versions.
    pub(super) fn judge(&self, versions: &[u64]) -> Judged {
        let meant = |one: &&Evidence| versions.contains(&one.version);
        let evidence: Vec<Evidence> = self.evidence.iter().filter(meant).cloned().collect();
        if evidence.iter().any(|one| one.answer.is_of_the_living()) {
            return Judged::Alive(evidence);
        }
        // A store's word about a lease is on record, and is no login that was refused.
        let is_login = |one: &&Evidence| one.answer != Answer::LeaseGone;
        let logins = || evidence.iter().filter(is_login);
        let is_asked = |version: &u64| logins().any(|one| one.version == *version);
        match &self.lacking {
            None if !versions.is_empty() && versions.iter().all(is_asked) => Judged::Dead(evidence),
            lacking => {
                let reason = lacking.as_deref().unwrap_or(NOTHING_TO_ASK);
                Judged::Unknown(evidence, reason.to_owned())
            }
        }
    }
}

/// What evidence comes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Judged {
    /// A login was refused with each.
    Dead(Vec<Evidence>),
    /// One was let in.
    Alive(Vec<Evidence>),
    /// Of some there is no answer, and there will be none, for this reason.
    Unknown(Vec<Evidence>, String),
}
