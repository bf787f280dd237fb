//! From a directory of credentials to the bus: who speaks, whom it believes, over which servers.

use std::sync::Arc;

use keywheel_bus::{ConnectError, Identity as Speaker, MemberFiles, Nats, NatsOptions, Trust};
use keywheel_core::id::EventId;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_identity::bundle::{Bundle, Identity};
use keywheel_identity::name::PeerName;
use keywheel_identity::nats::{self, NatsError};
use keywheel_seal::sign::{BadKey, SigningKey};

/// Why a member is not on the bus.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// Credentials of a person or a bus server.
    #[error("these credentials speak for nobody on the bus")]
    Silent,
    /// The signing key cannot be read again.
    #[error("the signing key cannot be used")]
    Key(#[source] BadKey),
    /// No connection.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// A second copy of a member's signing key.
///
/// # Errors
/// Never, for a key that was read.
pub fn signing_key(identity: &Identity) -> Result<SigningKey, MemberError> {
    SigningKey::from_seed_bytes(&identity.signing.seed()).map_err(MemberError::Key)
}

/// Who signs on the bus.
///
/// # Errors
/// When the credentials are those of a person or a bus server.
pub fn speaker(identity: &Identity) -> Result<Speaker, MemberError> {
    let key = signing_key(identity)?;
    match identity.name {
        PeerName::Service(role) => Ok(Speaker::service(identity.deployment, role, key)),
        PeerName::Host(host) => Ok(Speaker::injector(identity.deployment, host, key)),
        PeerName::BusServer | PeerName::Operator(_) => Err(MemberError::Silent),
    }
}

/// Whose signature counts for which role, as the credentials say; hosts' keys come over the bus.
#[must_use]
pub fn trust(identity: &Identity) -> Trust {
    let keys = identity.trust.iter();
    let keys = keys.map(|(role, key)| (*role, key.clone()));
    Trust::new(identity.deployment, keys)
}

/// What the bus needs of a directory.
#[must_use]
pub fn files(bundle: &Bundle) -> MemberFiles<'_> {
    MemberFiles {
        roots: &bundle.tls.roots_pem,
        certificate: &bundle.tls.chain_pem,
        key: &bundle.tls.key_pem,
        permit: bundle.bus.as_ref(),
    }
}

/// Whether the permit for the bus allows what this build needs, and nothing else.
///
/// # Errors
/// With the difference, for a person.
pub fn check_permit(bundle: &Bundle, identity: &Identity) -> Result<(), NatsError> {
    match (&bundle.bus, identity.client()) {
        (Some(permit), Some(client)) => nats::check_permit(permit, identity.deployment, &client),
        _ => Err(NatsError::Permit("there is none".to_owned())),
    }
}

/// Connects with the bus. Without `named` servers it is those that the credentials name; with
/// `begin_offline` it does not wait for one.
///
/// # Errors
/// When no server is reached, one refuses, or is not fit.
pub async fn connect(
    named: &[String],
    begin_offline: bool,
    (bundle, identity): (&Bundle, &Identity),
    trust: &Trust,
    (clock, ids): (Arc<dyn Clock>, Arc<dyn Ids>),
) -> Result<Nats, MemberError> {
    let servers = if named.is_empty() {
        identity.servers.clone()
    } else {
        named.to_vec()
    };
    let mut options = NatsOptions::of_member(servers, identity.deployment, &files(bundle));
    options.begin_offline = begin_offline;
    // Each process hears every event and record; it reads the log first, so no name has to stay.
    options.instance = Some(EventId::from_bytes(ids.draw()).to_string());
    Ok(Nats::connect(options, speaker(identity)?, trust.clone(), clock, ids).await?)
}
