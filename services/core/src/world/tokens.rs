//! Tokens that were issued and not revoked.

use std::collections::BTreeMap;

use super::ends::Ends;
use crate::id::TokenId;
use crate::name::TokenName;
use crate::time::Timestamp;
use crate::token::{Event, Token, TokenHash};

/// Tokens by id and by the hash of their text. Those that are over stay until another one is issued.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    by_id: BTreeMap<TokenId, Token>,
    by_hash: BTreeMap<TokenHash, TokenId>,
    ends: Ends<TokenId>,
}

impl Tokens {
    /// Every one.
    pub fn iter(&self) -> impl Iterator<Item = &Token> {
        self.by_id.values()
    }

    /// One by its id.
    #[must_use]
    pub fn by_id(&self, id: TokenId) -> Option<&Token> {
        self.by_id.get(&id)
    }

    /// One by the hash of its text.
    #[must_use]
    pub fn by_hash(&self, hash: &TokenHash) -> Option<&Token> {
        self.by_id.get(self.by_hash.get(hash)?)
    }

    /// The newest one of a name.
    #[must_use]
    pub fn named(&self, name: &TokenName) -> Option<&Token> {
        let named = self.iter().filter(|known| known.name == *name);
        named.max_by_key(|known| known.issued_at)
    }

    pub(super) fn apply(&mut self, id: TokenId, event: &Event) {
        match event {
            Event::Issued {
                name,
                hash,
                owner,
                scope,
                issued_at,
                expires_at,
                limit,
                login,
            } => {
                let over = |known: &Token| !known.is_alive(*issued_at);
                let over = self.by_id.values().filter(|known| over(known));
                let over: Vec<TokenId> = over.map(|known| known.id).collect();
                for id in over {
                    self.forget(id);
                }
                self.by_hash.insert(*hash, id);
                let token = Token {
                    id,
                    name: name.clone(),
                    hash: *hash,
                    owner: owner.clone(),
                    scope: scope.clone(),
                    issued_at: *issued_at,
                    expires_at: *expires_at,
                    limit: *limit,
                    taken: 0,
                    login: login.clone(),
                    is_over: false,
                };
                self.ends.add(*expires_at, id);
                self.by_id.insert(id, token);
            }
            Event::UsesTaken { uses } => {
                if let Some(known) = self.by_id.get_mut(&id) {
                    known.taken = known.taken.saturating_add(*uses);
                }
            }
            Event::Revoked { .. } => self.forget(id),
        }
    }

    fn forget(&mut self, id: TokenId) {
        if let Some(known) = self.by_id.remove(&id) {
            self.by_hash.remove(&known.hash);
            self.ends.remove(known.expires_at, id);
        }
    }

    pub(super) fn note_time(&mut self, at: Timestamp) {
        for id in self.ends.take_until(at) {
            if let Some(known) = self.by_id.get_mut(&id) {
                known.is_over |= known.expires_at <= at;
            }
        }
    }
}
