//! The join token: it lets one machine take one name, once, within minutes.

use super::{Rejection, SealingKey, SigningKey};
use crate::id::{HostId, JoinTokenId};
use crate::name::HostName;
use crate::time::Timestamp;

/// SHA-256 of a token's secret half.
pub type TokenHash = [u8; 32];

/// What a person asks for with a join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// Id of the host if the name is new.
    pub host: HostId,
    /// The name.
    pub name: HostName,
    /// The token.
    pub token: JoinTokenId,
    /// SHA-256 of the token's secret half.
    pub secret_hash: TokenHash,
    /// When it ends; at most [`JOIN_TOKEN_LIFETIME`](super::JOIN_TOKEN_LIFETIME) from now.
    pub expires_at: Timestamp,
}

/// What a machine presents to become a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// The host the token was issued for.
    pub host: HostId,
    /// The name the machine has for itself.
    pub name: HostName,
    /// The token.
    pub token: JoinTokenId,
    /// SHA-256 of the secret half it presents.
    pub secret_hash: TokenHash,
    /// What it says will be signed with this key.
    pub signing_key: SigningKey,
    /// Values for it are to be sealed to this key.
    pub sealing_key: SealingKey,
}

/// A token that is open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The host that whoever comes with it becomes.
    pub host: HostId,
    /// The name it was issued for.
    pub name: HostName,
    /// SHA-256 of its secret half.
    pub secret_hash: TokenHash,
    /// From then on it opens nothing.
    pub expires_at: Timestamp,
    /// Whether the log went on beyond its end.
    pub is_over: bool,
}

impl JoinToken {
    /// Whether it is too old.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.is_over || now >= self.expires_at
    }

    /// Checks what a machine presents. The token is spent already, whatever comes out.
    ///
    /// # Errors
    /// When it is of another secret, too old, or for another host.
    pub fn check(&self, joining: &JoinRequest, now: Timestamp) -> Result<(), Rejection> {
        if self.secret_hash != joining.secret_hash {
            return Err(Rejection::TokenForged(self.name.clone()));
        }
        if self.is_expired(now) {
            return Err(Rejection::TokenExpired(self.name.clone()));
        }
        if self.host != joining.host || self.name != joining.name {
            return Err(Rejection::TokenOfAnother {
                bound: self.name.clone(),
                asked: joining.name.clone(),
            });
        }
        Ok(())
    }
}
