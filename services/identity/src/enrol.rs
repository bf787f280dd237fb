//! Joining and renewing: what a machine asks, what the gateway answers, and both sides' checks.
//!
//! Invariants: private keys never leave the machine that made them; a machine accepts an answer only
//! if it fits its own keys and leads to the root its token names; the gateway takes public keys from a
//! request and nothing else. No IO here: the token is spent in the journal (a command) before
//! [`answer_join`] is called.

mod machine;
mod returning;
mod wire;

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_core::audit::Role;
use keywheel_core::host::JoinRequest;
use keywheel_core::id::{HostId, JoinTokenId};
use keywheel_core::name::HostName;
use keywheel_core::time::Timestamp;
use keywheel_seal::sign::VerifyingKey;
use keywheel_seal::{Entropy, SecretBytes};
use zeroize::Zeroizing;

pub use self::machine::{Joining, Renewing};
pub use self::returning::CheckedReturn;
pub use self::wire::{JoinAnswer, JoinAsk, MAX_ASK_BYTES, RenewAnswer, RenewAsk, ReturnAsk};
use crate::authority::{Authority, AuthorityError, SignedCertificate};
use crate::bundle::{client_of, stored};
use crate::name::PeerName;
use crate::nats::{BusAuthority, NatsError, check_user};
use crate::token;

/// Why a machine cannot join or renew.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// What was asked makes no sense.
    #[error(
        "the request cannot be used: {0}; update the machine's keywheel-injector and try again"
    )]
    Ask(String),
    /// What was answered does not fit.
    #[error(
        "the gateway's answer cannot be trusted: {0}; nothing was changed, get a new token and check the address"
    )]
    Answer(String),
    /// Not somebody who renews here.
    #[error("{0} has no credentials that are renewed here; issue new ones with `keywheel init`")]
    NotRenewed(PeerName),
    /// The authority refused.
    #[error(transparent)]
    Authority(#[from] AuthorityError),
    /// The bus's authority refused.
    #[error(transparent)]
    Nats(#[from] NatsError),
}

/// Who answers: the two authorities, and what every member is told.
pub struct Registrar<'a> {
    /// Issues certificates.
    pub authority: &'a Authority,
    /// Issues permits for the bus.
    pub bus: &'a BusAuthority,
    /// Whose signature counts for which role.
    pub trust: &'a BTreeMap<Role, VerifyingKey>,
    /// Where the bus's servers are.
    pub servers: &'a [String],
}

/// A join request, read and checked for its form.
#[derive(Debug)]
pub struct CheckedAsk {
    /// What to submit as the command `JoinHost`: it spends the token and decides.
    pub request: JoinRequest,
    signing_request: String,
    bus_key: String,
}

impl JoinAsk {
    /// Reads the parts; says nothing about the token.
    ///
    /// # Errors
    /// When a part has not its form.
    pub fn check(&self) -> Result<CheckedAsk, EnrolError> {
        let bad = |error: &dyn std::fmt::Display| EnrolError::Ask(error.to_string());
        if self.v != wire::VERSION {
            return Err(EnrolError::Ask(format!("it has version {}", self.v)));
        }
        check_user(&self.bus_key)?;
        let secret = STANDARD.decode(&*self.secret).map(SecretBytes::from);
        let secret = secret.map_err(|_| bad(&"the secret is not base64"))?;
        let request = JoinRequest {
            host: HostId::parse(&self.host).map_err(|error| bad(&error))?,
            name: HostName::parse(&self.name).map_err(|error| bad(&error))?,
            token: JoinTokenId::parse(&self.token).map_err(|error| bad(&error))?,
            secret_hash: token::hash(&secret),
            signing_key: public(&self.signing_key, "the signing key")?,
            sealing_key: public(&self.sealing_key, "the sealing key")?,
        };
        VerifyingKey::from_bytes(request.signing_key).map_err(|error| bad(&error))?;
        Ok(CheckedAsk {
            request,
            signing_request: self.signing_request.clone(),
            bus_key: self.bus_key.clone(),
        })
    }
}

impl CheckedAsk {
    /// Public key of its user on the bus, for [`crate::nats::Revocations::note_issued`].
    #[must_use]
    pub fn bus_key(&self) -> &str {
        &self.bus_key
    }
}

/// Answers a machine whose token was just spent for it.
///
/// # Errors
/// When an authority refuses.
pub fn answer_join(
    registrar: &Registrar<'_>,
    ask: &CheckedAsk,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<JoinAnswer, EnrolError> {
    let name = PeerName::Host(ask.request.host);
    let asked = (ask.signing_request.as_str(), ask.bus_key.as_str());
    let (certificate, permit) = credentials(registrar, &name, asked, &[], now, entropy)?;
    Ok(JoinAnswer {
        v: wire::VERSION,
        deployment: registrar.authority.deployment().to_string(),
        host: ask.request.host.to_string(),
        certificate: certificate.chain_pem,
        roots: certificate.roots_pem,
        permit,
        trust: stored::trust_words(registrar.trust),
        servers: registrar.servers.to_vec(),
    })
}

/// Answers a member (known by its signature or its certificate, and not evicted) with a fresh
/// certificate and permit, with the addresses of the certificate it shows.
///
/// # Errors
/// When it is somebody who does not renew here, or an authority refuses.
pub fn answer_renewal(
    registrar: &Registrar<'_>,
    name: &PeerName,
    ask: &RenewAsk,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<RenewAnswer, EnrolError> {
    if ask.v != wire::VERSION {
        return Err(EnrolError::Ask(format!("it has version {}", ask.v)));
    }
    let addresses = match &ask.certificate {
        None => Vec::new(),
        Some(shown) => registrar.authority.kept_addresses(name, shown)?,
    };
    let asked = (ask.signing_request.as_str(), ask.bus_key.as_str());
    let (certificate, permit) = credentials(registrar, name, asked, &addresses, now, entropy)?;
    Ok(RenewAnswer {
        v: wire::VERSION,
        certificate: certificate.chain_pem,
        roots: certificate.roots_pem,
        permit,
        trust: stored::trust_words(registrar.trust),
        servers: registrar.servers.to_vec(),
        gateway: None,
    })
}

/// The new sealing key a renewal brings, if it does: to be submitted as `RotateHostKey`.
///
/// # Errors
/// When it has not the form of a key.
pub fn renewed_sealing_key(ask: &RenewAsk) -> Result<Option<(u64, [u8; 32])>, EnrolError> {
    let Some(key) = &ask.sealing_key else {
        return Ok(None);
    };
    Ok(Some((
        key.generation,
        public(&key.public, "the sealing key")?,
    )))
}

fn credentials(
    registrar: &Registrar<'_>,
    name: &PeerName,
    (signing_request, bus_key): (&str, &str),
    addresses: &[String],
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(SignedCertificate, String), EnrolError> {
    let client = client_of(name).ok_or_else(|| EnrolError::NotRenewed(name.clone()))?;
    let authority = registrar.authority;
    let certificate = authority.sign(signing_request, name, addresses, now, entropy)?;
    let end = certificate.not_after;
    let permit = registrar.bus.permit(&client, bus_key, now, end)?;
    Ok((certificate, permit))
}

fn public(text: &str, what: &str) -> Result<[u8; 32], EnrolError> {
    let bytes = STANDARD.decode(text).map(Zeroizing::new).ok();
    bytes
        .and_then(|bytes| bytes.as_slice().try_into().ok())
        .ok_or_else(|| EnrolError::Ask(format!("{what} is not 32 bytes of base64")))
}

#[cfg(test)]
mod tests;
