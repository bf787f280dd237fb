//! Tokens that were issued and not revoked, and the names of the last others.

use std::collections::{BTreeMap, VecDeque};

use super::ends::Ends;
use crate::id::TokenId;
use crate::name::TokenName;
use crate::time::Timestamp;
use crate::token::{Event, Gone, MAX_GONE_TOKENS, Token, TokenHash};

/// Tokens by id and by the hash of their text. Those that are over stay until another one is issued; of the last that
/// are gone the name is known, for the record of whoever still comes with one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    by_id: BTreeMap<TokenId, Token>,
    by_hash: BTreeMap<TokenHash, TokenId>,
    ends: Ends<TokenId>,
    gone: BTreeMap<TokenHash, (TokenName, Gone)>,
    /// Those, the oldest first.
    gone_in_order: VecDeque<TokenHash>,
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

    /// What is known of one that is gone, by the hash of its text: its name, and how it went.
    #[must_use]
    pub fn gone(&self, hash: &TokenHash) -> Option<(&TokenName, Gone)> {
        let (name, how) = self.gone.get(hash)?;
        Some((name, *how))
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
                    self.forget(id, Gone::Over);
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
            Event::Revoked { .. } => self.forget(id, Gone::Revoked),
        }
    }

    fn forget(&mut self, id: TokenId, how: Gone) {
        if let Some(known) = self.by_id.remove(&id) {
            self.by_hash.remove(&known.hash);
            self.ends.remove(known.expires_at, id);
            self.remember(known.hash, known.name, how);
        }
    }

    fn remember(&mut self, hash: TokenHash, name: TokenName, how: Gone) {
        if self.gone.insert(hash, (name, how)).is_none() {
            self.gone_in_order.push_back(hash);
        }
        if self.gone_in_order.len() > MAX_GONE_TOKENS
            && let Some(oldest) = self.gone_in_order.pop_front()
        {
            self.gone.remove(&oldest);
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
