//! From a directory of credentials to the bus: who speaks, whom it believes, over which servers.

use std::sync::Arc;
use std::time::Duration;

use keywheel_bus::{
    ConnectError, Identity as Speaker, MemberFiles, Nats, NatsOptions, START_TIMEOUT, Trust, Unfit,
};
use keywheel_core::id::EventId;
use keywheel_engine::port::clock::Clock;
use keywheel_engine::port::ids::Ids;
use keywheel_identity::bundle::{Bundle, Identity};
use keywheel_identity::name::PeerName;
use keywheel_identity::nats::{self, NatsError};
use keywheel_seal::sign::{BadKey, SigningKey};

/// A start waits for the bus this part of what is left of its credentials' life, at most.
const LIFE_PARTS: u32 = 3;

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

impl MemberError {
    /// Whether the bus servers only have not started yet, or have no leader.
    #[must_use]
    pub const fn may_pass(&self) -> bool {
        matches!(
            self,
            Self::Connect(
                ConnectError::Unreachable {
                    is_absent: true,
                    ..
                } | ConnectError::Unfit(Unfit::Stream { .. })
            )
        )
    }
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

/// How long a start waits for the bus: not so long that what it shows ends meanwhile.
fn wait_of(bundle: &Bundle, clock: &dyn Clock) -> Duration {
    let end = bundle.tls.life().map(|(_, end)| end);
    let left = end.map_or(Duration::ZERO, |end| end.since(clock.now()));
    START_TIMEOUT.min(left / LIFE_PARTS)
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
    options.start_timeout = wait_of(bundle, &*clock);
    // Each process hears every event and record; it reads the log first, so no name has to stay.
    options.instance = Some(EventId::from_bytes(ids.draw()).to_string());
    Ok(Nats::connect(options, speaker(identity)?, trust.clone(), clock, ids).await?)
}
