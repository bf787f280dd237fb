//! The bus server's users: an operator, its accounts and a short-lived signed permit per client.
//!
//! Decentralised authorisation of NATS: the server trusts the operator's key, and everything else is
//! a signed claim, so hosts join and are evicted without a change of the server's files. Invariants:
//! a client's permissions are exactly `schemas::subject`'s; a permit lives as long as the client's
//! certificate; a revoked key is refused by every server that got the account's new claim, also
//! after a restart (the resolver keeps claims on disk and only takes newer ones). Keys of operator
//! and accounts rest sealed. It connects to nothing.

mod claims;
mod revocations;
mod server;
mod stored;

use std::time::Duration;

use keywheel_core::id::DeploymentId;
use keywheel_core::time::Timestamp;
use keywheel_schemas::subject::{Client, Subjects};
use keywheel_seal::SecretBytes;
use nkeys::{KeyPair, KeyPairType};

pub use self::revocations::Revocations;
pub use self::server::{
    BusCluster, BusServer, BusTls, HEADER_ROOM_BYTES, MAX_PAYLOAD_BYTES, server_config,
};
pub use self::stored::StoredBusAuthority;

/// How many answers a request may get.
const ANSWERS: u64 = 1;
/// How long a request may be answered.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// Where the system account takes a new claim.
pub const CLAIMS_SUBJECT: &str = "$SYS.REQ.CLAIMS.UPDATE";
/// Where the system user hears the answer to it.
pub const CLAIMS_INBOX: &str = "_INBOX_keywheel_claims";

/// Why the bus's claims cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// Not a user's key.
    #[error("this is not the public key of a NATS user (`U…`); make a new key")]
    UserKey,
    /// A permit that allows something else than this build needs.
    #[error("the permit for the bus does not fit this build: {0}")]
    Permit(String),
    /// Not a claim of ours.
    #[error(
        "the bus server's claim about the account is not signed by this deployment's operator; check that the server runs on this deployment's configuration"
    )]
    Claim,
    /// The sealed file is damaged.
    #[error("the stored keys of the bus are damaged; restore them from your backup")]
    Damaged,
    /// Wrong unseal key.
    #[error("the unseal key does not open the keys of the bus; give the key they were sealed with")]
    WrongUnsealKey,
    /// A setting that would be unsafe or unreadable.
    #[error("the bus server's configuration cannot be made: {0}")]
    Setting(String),
    /// The library refused.
    #[error("the bus's key library refused: {0}")]
    Key(#[from] nkeys::error::Error),
}

/// Who signs claims: the keys of the operator, the system account and our account.
pub struct BusAuthority {
    deployment: DeploymentId,
    operator: KeyPair,
    system: KeyPair,
    account: KeyPair,
}

/// A user's key pair with its permit.
#[derive(Debug)]
pub struct UserKey(KeyPair);

impl UserKey {
    /// A fresh key.
    #[must_use]
    pub fn generate() -> Self {
        Self(KeyPair::new_user())
    }

    /// A stored key.
    ///
    /// # Errors
    /// When it is not the seed of a user.
    pub fn from_seed(seed: &SecretBytes) -> Result<Self, NatsError> {
        // EXPOSE: the seed is parsed into the key type.
        let text = std::str::from_utf8(seed.expose()).map_err(|_| NatsError::Damaged)?;
        let pair = KeyPair::from_seed(text.trim())?;
        match pair.key_pair_type() {
            KeyPairType::User => Ok(Self(pair)),
            _ => Err(NatsError::UserKey),
        }
    }

    /// The public key (`U…`).
    #[must_use]
    pub fn public_key(&self) -> String {
        self.0.public_key()
    }

    /// The seed (`SU…`), to be stored with care.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn seed(&self) -> Result<SecretBytes, NatsError> {
        Ok(SecretBytes::from(self.0.seed()?.into_bytes()))
    }

    /// Signs a server's nonce.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn sign(&self, nonce: &[u8]) -> Result<Vec<u8>, NatsError> {
        Ok(self.0.sign(nonce)?)
    }

    /// The text of a credentials file: permit and seed, as NATS clients read it.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn credentials(&self, permit: &str) -> Result<SecretBytes, NatsError> {
        let seed = zeroize::Zeroizing::new(self.0.seed()?);
        let mut text = String::with_capacity(permit.len() + seed.len() + 300);
        text.push_str("-----BEGIN NATS USER JWT-----\n");
        text.push_str(permit);
        text.push_str("\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n");
        text.push_str(&seed);
        text.push_str("\n------END USER NKEY SEED------\n");
        Ok(SecretBytes::from(text.into_bytes()))
    }
}

impl BusAuthority {
    /// Makes all three keys.
    #[must_use]
    pub fn create(deployment: DeploymentId) -> Self {
        Self {
            deployment,
            operator: KeyPair::new_operator(),
            system: KeyPair::new_account(),
            account: KeyPair::new_account(),
        }
    }

    /// Whose they are.
    #[must_use]
    pub fn deployment(&self) -> DeploymentId {
        self.deployment
    }

    /// Public key of our account.
    #[must_use]
    pub fn account(&self) -> String {
        self.account.public_key()
    }

    /// Public key of the system account.
    #[must_use]
    pub fn system_account(&self) -> String {
        self.system.public_key()
    }

    /// The operator's claim, which the server's configuration carries.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn operator_claim(&self, now: Timestamp) -> Result<String, NatsError> {
        let body = claims::operator(&self.system.public_key());
        let name = format!("keywheel-{}", self.deployment);
        let subject = self.operator.public_key();
        claims::sign(
            &self.operator,
            &subject,
            &name,
            claims::seconds(now),
            None,
            body,
        )
    }

    /// The system account's claim.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn system_claim(&self, now: Timestamp) -> Result<String, NatsError> {
        let body = claims::system_account();
        let subject = self.system.public_key();
        claims::sign(
            &self.operator,
            &subject,
            "SYS",
            claims::seconds(now),
            None,
            body,
        )
    }

    /// Our account's claim with everything that is revoked. To make it known, publish it to
    /// [`CLAIMS_SUBJECT`] as the system user; the servers keep it.
    ///
    /// # Errors
    /// When the library refuses.
    pub fn account_claim(
        &self,
        revocations: &mut Revocations,
        now: Timestamp,
    ) -> Result<String, NatsError> {
        let at = revocations.next_claim(now);
        let body = claims::account(revocations.revoked());
        let subject = self.account.public_key();
        claims::sign(&self.operator, &subject, "KEYWHEEL", at, None, body)
    }

    /// Takes over what a claim about our account, as a server has it, revokes: another gateway may
    /// have made it. To be asked for at [`Self::lookup_subject`] before a new claim is made.
    ///
    /// # Errors
    /// When it is not a claim about our account by our operator.
    pub fn learn(&self, claim: &str, revocations: &mut Revocations) -> Result<(), NatsError> {
        let content = claims::read(claim, &self.operator)?;
        if content.sub != self.account.public_key() {
            return Err(NatsError::Claim);
        }
        revocations.take_over(content.iat, content.nats.revocations);
        Ok(())
    }

    /// Whether a claim about our account, as a server has it, refuses all that is revoked here.
    ///
    /// # Errors
    /// When it is not a claim about our account by our operator.
    pub fn refuses_all(&self, claim: &str, revocations: &Revocations) -> Result<bool, NatsError> {
        let content = claims::read(claim, &self.operator)?;
        if content.sub != self.account.public_key() {
            return Err(NatsError::Claim);
        }
        let told = &content.nats.revocations;
        let mut ours = revocations.revoked().iter();
        Ok(ours.all(|(key, at)| told.get(key) >= Some(at)))
    }

    /// Where the system account tells the claim it has about our account.
    #[must_use]
    pub fn lookup_subject(&self) -> String {
        format!(
            "$SYS.REQ.ACCOUNT.{}.CLAIMS.LOOKUP",
            self.account.public_key()
        )
    }

    /// A client's permit, until its certificate ends.
    ///
    /// # Errors
    /// When the key is not a user's.
    pub fn permit(
        &self,
        client: &Client,
        public_key: &str,
        now: Timestamp,
        not_after: Timestamp,
    ) -> Result<String, NatsError> {
        check_user(public_key)?;
        let allowed = Subjects::new(self.deployment).permissions(client);
        let body = claims::user(&allowed, ANSWERS, ANSWER_WITHIN);
        let (at, end) = (claims::seconds(now), claims::seconds(not_after));
        claims::sign(
            &self.account,
            public_key,
            &client.consumer(),
            at,
            Some(end),
            body,
        )
    }

    /// The gateway's second permit: it may tell the servers a new claim, and nothing else.
    ///
    /// # Errors
    /// When the key is not a user's.
    pub fn system_permit(
        &self,
        public_key: &str,
        now: Timestamp,
        not_after: Timestamp,
    ) -> Result<String, NatsError> {
        check_user(public_key)?;
        let allowed = keywheel_schemas::subject::Permissions {
            publish: vec![CLAIMS_SUBJECT.to_owned(), self.lookup_subject()],
            subscribe: vec![format!("{CLAIMS_INBOX}.>")],
            responses: false,
        };
        let body = claims::user(&allowed, ANSWERS, ANSWER_WITHIN);
        let (at, end) = (claims::seconds(now), claims::seconds(not_after));
        claims::sign(&self.system, public_key, "claims", at, Some(end), body)
    }
}

impl std::fmt::Debug for BusAuthority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BusAuthority({}, …)", self.deployment)
    }
}

/// What a permit (the text of a `.creds` file) allows and what a client of this build needs, where
/// they differ.
///
/// # Errors
/// With the difference, for a person.
pub fn check_permit(
    creds: &SecretBytes,
    deployment: DeploymentId,
    client: &Client,
) -> Result<(), NatsError> {
    // EXPOSE: the permit in it is public; the seed is not looked at.
    let text =
        std::str::from_utf8(creds.expose()).map_err(|_| NatsError::Permit("no text".into()))?;
    let permit = text.lines().nth(1).unwrap_or_default();
    let held = claims::UserPermissions::read(permit);
    let held = held.ok_or_else(|| NatsError::Permit("it is none".into()))?;
    let needed = Subjects::new(deployment).permissions(client);
    let differences = differences(&held.publish, &needed.publish, "publish to")
        .into_iter()
        .chain(differences(
            &held.subscribe,
            &needed.subscribe,
            "subscribe to",
        ))
        .chain((held.responses != needed.responses).then(|| {
            let may = if held.responses { "may" } else { "may not" };
            format!("it {may} answer requests")
        }));
    match differences.take(MAX_DIFFERENCES).collect::<Vec<_>>() {
        none if none.is_empty() => Ok(()),
        some => Err(NatsError::Permit(some.join(", "))),
    }
}

/// Most differences that are told.
const MAX_DIFFERENCES: usize = 3;

fn differences(held: &[String], needed: &[String], verb: &str) -> Vec<String> {
    let missing = needed.iter().filter(|subject| !held.contains(subject));
    let excess = held.iter().filter(|subject| !needed.contains(subject));
    missing
        .map(|subject| format!("it may not {verb} {subject}"))
        .chain(excess.map(|subject| format!("it may {verb} {subject}")))
        .collect()
}

/// Refuses what is not the public key of a NATS user.
///
/// # Errors
/// When it is not.
pub fn check_user(public_key: &str) -> Result<(), NatsError> {
    let pair = KeyPair::from_public_key(public_key).map_err(|_| NatsError::UserKey)?;
    match pair.key_pair_type() {
        KeyPairType::User if pair.public_key() == public_key => Ok(()),
        _ => Err(NatsError::UserKey),
    }
}

#[cfg(test)]
mod tests;
