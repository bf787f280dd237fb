//! Whether what was revoked is refused: one login with it, over a connection of its own.
//!
//! Invariants: each version is tried once; nothing is changed; what comes back is a class of answer, with its
//! account and its server, and never a value. Whatever else keeps a login from being answered is an error, and is
//! tried again: a server that is away, that cannot be trusted, that is not set up right.

use keywheel_core::id::SecretId;
use keywheel_core::revocation::{Evidence, Proof};
use keywheel_engine::port::rotator::TellsNothing;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;

use super::{AccountRotator, Credential};
use crate::password;

impl AccountRotator {
    /// Logs in with each version; what cannot be tried is said, and the others are tried all the same.
    pub(super) async fn knock_with(
        &self,
        secret: SecretId,
        versions: &[u64],
        until: &Until,
    ) -> Result<Proof, PortError> {
        let mut proof = Proof::default();
        for version in versions {
            match self.knock_once(secret, *version, until).await {
                Ok(Knocked::Answered(evidence)) => proof.evidence.push(evidence),
                Ok(Knocked::Lacking(why)) => {
                    proof.lacking.get_or_insert(why);
                }
                Err(error) if TellsNothing::is_beneath(&error) => {
                    proof.lacking.get_or_insert(error.text);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(proof)
    }

    async fn knock_once(
        &self,
        secret: SecretId,
        version: u64,
        until: &Until,
    ) -> Result<Knocked, PortError> {
        let revoked = match self.credential(secret, version, until).await {
            Ok(Some(revoked)) => revoked,
            Ok(None) => {
                return Ok(Knocked::Lacking(format!(
                    "the value of version {version} is gone, so nobody here can log in with it"
                )));
            }
            // Our own copy, not the server: it stays as it is, whenever it is looked at again.
            Err(error) if error.kind == ErrorKind::Corrupt => {
                return Ok(Knocked::Lacking(format!(
                    "the value of version {version} is damaged in the cache, so nobody here can log in with it"
                )));
            }
            Err(error) => return Err(error),
        };
        let Credential { login, password } = &revoked;
        if !password::is_possible(password) {
            return Ok(Knocked::Lacking(format!(
                "version {version} holds no password that anybody can log in with"
            )));
        }
        until.check()?;
        let answer = self.accounts.answer(login, password, until).await?;
        Ok(Knocked::Answered(Evidence {
            version,
            at: until.now(),
            place: format!("account {login} of {}", self.plan.resource),
            answer,
        }))
    }
}

/// What came of one version.
enum Knocked {
    /// The server answered a login with it.
    Answered(Evidence),
    /// There is no login with it, for this reason.
    Lacking(String),
}
