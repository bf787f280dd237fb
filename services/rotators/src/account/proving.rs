//! Whether what was revoked is refused: one login with it, over a connection of its own.
//!
//! Invariants: each version is tried once; nothing is changed; what comes back is a class of answer, with its
//! account and its server, and never a value. Whatever else keeps a login from being answered is an error, and is
//! tried again: a server that is away, that cannot be trusted, that is not set up right.

use keywheel_core::id::SecretId;
use keywheel_core::revocation::{Evidence, Proof};
use keywheel_engine::port::accounts::Accounts;
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
        let resource = self.plan.resource.to_string();
        for version in versions {
            let opened = self.credential(secret, *version, until).await;
            let door = (&*self.accounts, &*resource);
            let knocked = knock(door, (*version, opened), until).await;
            note(&mut proof, knocked)?;
        }
        Ok(proof)
    }
}

/// What came of one version.
pub(crate) enum Knocked {
    /// The server answered a login with it.
    Answered(Evidence),
    /// There is no login with it, for this reason.
    Lacking(String),
}

/// One login with what a version opens, at the accounts of a resource.
pub(crate) async fn knock(
    (accounts, resource): (&dyn Accounts, &str),
    (version, opened): (u64, Result<Option<Credential>, PortError>),
    until: &Until,
) -> Result<Knocked, PortError> {
    let revoked = match opened {
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
    let answer = accounts.answer(login, password, until).await?;
    Ok(Knocked::Answered(Evidence {
        version,
        at: until.now(),
        place: format!("account {login} of {resource}"),
        answer,
    }))
}

/// Adds what came of one version. Of what cannot be tried the first reason is told.
pub(crate) fn note(
    proof: &mut Proof,
    knocked: Result<Knocked, PortError>,
) -> Result<(), PortError> {
    match knocked {
        Ok(Knocked::Answered(evidence)) => proof.evidence.push(evidence),
        Ok(Knocked::Lacking(why)) => {
            proof.lacking.get_or_insert(why);
        }
        Err(error) if TellsNothing::is_beneath(&error) => {
            proof.lacking.get_or_insert(error.text);
        }
        Err(error) => return Err(error),
    }
    Ok(())
}
