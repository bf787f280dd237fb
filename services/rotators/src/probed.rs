//! Leases whose logins are tried at their server: whoever rotates them does what it does without that, and beside it
//! each login is let in there once when it is made, and refused there once it was revoked.
//!
//! A refusal alone shows nothing: another server than the one that the login is for refuses it, too. So a proof is
//! taken only where `test` was let in before, at this very server, and a login that it never let in goes to no server
//! any more. That it was is a destroyed version in the vault under an id of its own, as in [`barring`]. Invariants:
//! the end of a lease asks nothing here, so no server that is away holds it up; nothing is changed at the server;
//! nobody is admin there, so what only an admin could tell is said to be lacking.
//!
//! [`barring`]: crate::barring

use std::sync::Arc;

use async_trait::async_trait;
use keywheel_core::effect::{Outside, StepWork};
use keywheel_core::id::SecretId;
use keywheel_core::name::SecretName;
use keywheel_core::resource::{Probe, Resource, Strategy};
use keywheel_core::revocation::Proof;
use keywheel_core::rotation::Sessions;
use keywheel_core::store::{CredentialRef, RemoteVersion};
use keywheel_engine::port::accounts::{Accounts, ConnectAccounts, Login};
use keywheel_engine::port::rotator::{Probed, Rotator, TellsNothing};
use keywheel_engine::port::store::Credentials;
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::until::Until;
use keywheel_seal::{SecretBytes, digest};

use crate::account::proving::{Knocked, knock, note};
use crate::account::{Credential, new_version};
use crate::{form, password};

/// Stands where an address names the admin.
const NOBODY: &str = "nobody";

/// Performs the steps for leases, and tries their logins.
pub struct ProbedRotator {
    leases: Arc<dyn Rotator>,
    connect: Arc<dyn ConnectAccounts>,
    credentials: Arc<dyn Credentials>,
    vault: Arc<dyn VersionVault>,
    probe: Probe,
}

impl ProbedRotator {
    /// Over whoever rotates the leases, with the cache in which their values lie. Of the credentials only files of
    /// authorities are read.
    #[must_use]
    pub fn new(
        leases: Arc<dyn Rotator>,
        (connect, credentials): (Arc<dyn ConnectAccounts>, Arc<dyn Credentials>),
        vault: Arc<dyn VersionVault>,
        probe: Probe,
    ) -> Self {
        Self {
            leases,
            connect,
            credentials: Arc::new(FilesOnly(credentials)),
            vault,
            probe,
        }
    }

    /// The server's accounts; opens no connection.
    fn accounts(&self) -> Result<Arc<dyn Accounts>, PortError> {
        let resource = resource_of(&self.probe)?;
        self.connect
            .connect(&resource, Arc::clone(&self.credentials))
    }

    /// What a lease opens; `None` when its value is gone.
    async fn credential(
        &self,
        secret: SecretId,
        version: u64,
    ) -> Result<Option<Credential>, PortError> {
        let value = match self.vault.open(secret, version).await {
            Ok(value) => value,
            Err(error) if error.kind == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let opened = form::decode(Strategy::AlternatingUsers, &value);
        let named = opened.and_then(|opened| Some((opened.account?, opened.password)));
        let Some((account, password)) = named else {
            let text = format!(
                "what was lent as version {version} of secret {secret} is no `username` with its `password`, so it cannot be tried; leave `probe` out of its manifest"
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        };
        Ok(Some(Credential {
            login: Login::of(account),
            password,
        }))
    }

    /// The server lets the login in; on record from then on.
    async fn let_in(&self, secret: SecretId, version: u64, until: &Until) -> Result<(), PortError> {
        let Some(Credential { login, password }) = self.credential(secret, version).await? else {
            let text = format!(
                "version {version} of secret {secret} is not in the cache; the container gets another one"
            );
            return Err(PortError::new(ErrorKind::NotFound, text));
        };
        let is_possible = password::is_possible(&password);
        until.check()?;
        if !is_possible || !self.accounts()?.admits(&login, &password, until).await? {
            let text = format!(
                "{} does not let in the login {login} that was lent; name the server that it is for as `probe`, or look at what else decides there who may sign in",
                self.probe
            );
            return Err(PortError::new(ErrorKind::Denied, text));
        }
        until.check()?;
        self.vault.destroy(self.mark_id(secret), version).await
    }

    async fn knock_once(
        &self,
        secret: SecretId,
        version: u64,
        until: &Until,
    ) -> Result<Knocked, PortError> {
        until.check()?;
        if !self
            .vault
            .is_destroyed(self.mark_id(secret), version)
            .await?
        {
            return Ok(Knocked::Lacking(format!(
                "the login of version {version} was not tried at {} when it was made, so that it is refused there would show nothing",
                self.probe
            )));
        }
        let opened = self.credential(secret, version).await;
        let accounts = self.accounts()?;
        let server = self.probe.to_string();
        knock((&*accounts, &*server), (version, opened), until).await
    }

    /// Under which id it lies that this server let a secret's versions in.
    fn mark_id(&self, secret: SecretId) -> SecretId {
        let server = self.probe.server();
        let parts = [
            b"keywheel lease let in".as_slice(),
            secret.bytes(),
            server.as_bytes(),
        ];
        let digest = digest::sha256(&parts.concat());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        SecretId::from_bytes(bytes)
    }
}

#[async_trait]
impl Rotator for ProbedRotator {
    async fn create(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        self.leases.create(work, until).await
    }

    async fn lease(&self, work: &StepWork) -> Result<Option<RemoteVersion>, PortError> {
        self.leases.lease(work).await
    }

    async fn set(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        self.leases.set(work, until).await
    }

    async fn test(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        self.leases.test(work, until).await?;
        self.let_in(work.secret, new_version(work)?, until).await
    }

    async fn finish(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<RemoteVersion>, PortError> {
        self.leases.finish(work, until).await
    }

    async fn roll_back(&self, work: &StepWork, until: &Until) -> Result<(), PortError> {
        self.leases.roll_back(work, until).await
    }

    async fn revoke(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        self.leases.revoke(secret, versions, outside, until).await
    }

    async fn disable(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        self.leases.disable(secret, versions, outside, until).await
    }

    /// The store's word first, then the logins: what it says beside them is on record, and what it cannot say leaves
    /// the logins what they are.
    async fn prove(
        &self,
        secret: SecretId,
        versions: &[u64],
        until: &Until,
    ) -> Result<Proof, PortError> {
        let word = self.leases.prove(secret, versions, until).await?;
        let mut proof = Proof {
            evidence: word.evidence,
            lacking: None,
        };
        for version in versions {
            let knocked = self.knock_once(secret, *version, until).await;
            note(&mut proof, knocked)?;
        }
        Ok(proof)
    }

    async fn retire(
        &self,
        secret: SecretId,
        versions: &[u64],
        outside: Option<&Outside>,
        until: &Until,
    ) -> Result<(), PortError> {
        self.leases.retire(secret, versions, outside, until).await
    }

    async fn probe(&self, work: &StepWork, until: &Until) -> Result<Probed, PortError> {
        self.leases.probe(work, until).await
    }

    async fn sessions(
        &self,
        work: &StepWork,
        until: &Until,
    ) -> Result<Option<Sessions>, PortError> {
        self.leases.sessions(work, until).await
    }
}

/// Files alone: nobody has the password of an admin here.
struct FilesOnly(Arc<dyn Credentials>);

#[async_trait]
impl Credentials for FilesOnly {
    async fn read(&self, credential: &CredentialRef) -> Result<SecretBytes, PortError> {
        match credential {
            CredentialRef::File(_) => self.0.read(credential).await,
            CredentialRef::Secret(_) => Err(TellsNothing::error(
                "the server turns the login away for another reason than its password, and only an admin there could tell whether the account is locked or kept out",
            )),
        }
    }
}

/// The server as whoever connects to one takes it.
fn resource_of(probe: &Probe) -> Result<Resource, PortError> {
    let connection = match probe.connection.split_once("://") {
        Some((scheme, place)) => format!("{scheme}://{NOBODY}@{place}"),
        None => probe.connection.clone(),
    };
    let admin = SecretName::parse(NOBODY);
    let admin = admin.map_err(|error| PortError::new(ErrorKind::Denied, error.to_string()))?;
    Ok(Resource {
        kind: probe.kind,
        connection,
        accounts: Vec::new(),
        admin,
        strategy: Strategy::AlternatingUsers,
        ca: probe.ca.clone(),
    })
}

#[cfg(test)]
mod tests;
