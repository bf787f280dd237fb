//! Fresh credentials made by whoever holds the authorities, without asking anyone.
//!
//! The gateway renews its own directory this way, and a person at the gateway's machine that of a
//! service which was down longer than its certificate lived. Invariant: name, signing key and
//! addresses stay; only what has a life of its own is replaced.

use std::path::{Path, PathBuf};

use keywheel_core::time::Timestamp;
use keywheel_seal::{Entropy, SecretBytes};

use crate::bundle::{Bundle, BundleError, Identity, disk};
use crate::enrol::{EnrolError, Registrar, Renewing, answer_renewal};
use crate::init::plain;
use crate::name::PeerName;
use crate::nats::{NatsError, UserKey};
use crate::tls::{TlsCredentials, TlsError};

/// Why credentials cannot be made fresh.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// The directory cannot be read or written.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// An authority refused.
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    /// The bus's authority refused.
    #[error(transparent)]
    Nats(#[from] NatsError),
    /// A host's directory: whether it may come back is decided when it joins.
    #[error(
        "{0} is a host's: a host whose credentials have ended joins again with a token of `keywheel host join-token`"
    )]
    Host(PathBuf),
    /// What was made cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// Replaces certificate and permits in a directory of a service or host, expired or not, and gives
/// what to go on with.
///
/// # Errors
/// When the directory cannot be read or written, or an authority refuses.
pub fn refresh(
    directory: &Path,
    registrar: &Registrar<'_>,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(TlsCredentials, Identity), RefreshError> {
    let (before, identity) = Bundle::read_speaker(directory)?;
    let renewing = Renewing::begin()?.keeping_addresses(&before.tls);
    let name = identity.name.clone();
    let answer = answer_renewal(registrar, &name, &renewing.ask(), now, entropy)?;
    let mut bundle = renewing.accept(identity, &answer)?;
    if before.claims.is_some() {
        bundle.claims = Some(claims(registrar, &bundle, now)?);
    }
    bundle.write(directory)?;
    let (written, identity) = Bundle::read_speaker(directory)?;
    Ok((written.tls.credentials(identity.deployment)?, identity))
}

/// Makes any directory of credentials fresh but a host's: a service's, a person's, a bus server's.
/// Whose it is and until when. What is written goes to where it was read, whatever the name stands for by then.
///
/// # Errors
/// When the directory cannot be read or written, an authority refuses, or it is a host's.
pub fn refresh_any(
    directory: &Path,
    registrar: &Registrar<'_>,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(PeerName, Timestamp), RefreshError> {
    let pinned = disk::Pinned::open(directory)?;
    refreshed(pinned.path(), registrar, now, entropy).map_err(|error| match error {
        RefreshError::Bundle(error) => error.renamed(pinned.path(), directory).into(),
        RefreshError::Host(_) => RefreshError::Host(directory.to_owned()),
        other => other,
    })
}

fn refreshed(
    directory: &Path,
    registrar: &Registrar<'_>,
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(PeerName, Timestamp), RefreshError> {
    let before = Bundle::read(directory)?;
    let authority = registrar.authority;
    let credentials = before.tls.credentials(authority.deployment())?;
    let name = credentials.name().clone();
    match name {
        PeerName::Host(_) => return Err(RefreshError::Host(directory.to_owned())),
        PeerName::Service(_) => {
            refresh(directory, registrar, now, entropy)?;
        }
        PeerName::BusServer => {
            let kept = authority.kept_addresses(&name, &before.tls.chain_pem);
            let kept = kept.map_err(EnrolError::from)?;
            write_plain(directory, registrar, &name, &kept, now, entropy)?;
        }
        PeerName::Operator(_) => write_plain(directory, registrar, &name, &[], now, entropy)?,
    }
    let (_, end) = Bundle::read(directory)?.tls.life()?;
    Ok((name, end))
}

/// Whose a directory of credentials is, expired or not.
///
/// # Errors
/// When the directory cannot be read.
pub fn whose(directory: &Path) -> Result<PeerName, RefreshError> {
    let tls = Bundle::read(directory)?.tls;
    let credentials = tls.credentials(tls.deployment()?)?;
    Ok(credentials.name().clone())
}

fn write_plain(
    directory: &Path,
    registrar: &Registrar<'_>,
    name: &PeerName,
    addresses: &[String],
    now: Timestamp,
    entropy: &dyn Entropy,
) -> Result<(), RefreshError> {
    let made = plain(registrar.authority, name, addresses, now, entropy);
    Ok(made.map_err(EnrolError::from)?.write(directory)?)
}

/// The gateway's second permit, with the life of its certificate.
fn claims(
    registrar: &Registrar<'_>,
    bundle: &Bundle,
    now: Timestamp,
) -> Result<SecretBytes, RefreshError> {
    let (_, end) = bundle.tls.life()?;
    let user = UserKey::generate();
    let permit = registrar.bus.system_permit(&user.public_key(), now, end)?;
    Ok(user.credentials(&permit)?)
}

#[cfg(test)]
mod tests {
    use keywheel_core::audit::Role;
    use keywheel_core::id::DeploymentId;
    use keywheel_seal::OsEntropy;
    use keywheel_seal::envelope::UnsealKey;

    use super::*;
    use crate::authority::{
        Authority, MEMBER_LIFETIME, OPERATOR_LIFETIME, addresses, certificates,
    };
    use crate::init::{Home, NewDeployment, init};
    use crate::name::OperatorName;

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

    #[test]
    fn expired_credentials_become_fresh_and_keep_who_they_are() {
        let scratch = tempfile::tempdir().unwrap();
        let out = scratch.path().join("deployment");
        let unseal = UnsealKey::generate(&OsEntropy);
        let deployment = DeploymentId::from_bytes([7; 16]);
        let new = NewDeployment {
            deployment,
            authority: Authority::create(deployment, NOW, &OsEntropy).unwrap(),
            operator: OperatorName::parse("ada").unwrap(),
            addresses: [(
                Role::Gateway,
                vec!["gateway.example".into(), "10.0.0.1".into()],
            )]
            .into(),
            servers: Vec::new(),
            urls: Vec::new(),
            tls: true,
            unseal: &unseal,
            entropy: &OsEntropy,
            now: NOW,
        };
        init(&out, &new).unwrap();
        let home = Home::new(out.join("gateway"));
        let (authority, bus) = (home.authority(&unseal).unwrap(), home.bus(&unseal).unwrap());
        let (before, known) = Bundle::read_speaker(&out.join("gateway")).unwrap();
        let servers = ["tls://bus.example:4222".to_owned()];
        let registrar = Registrar {
            authority: &authority,
            bus: &bus,
            trust: &known.trust,
            servers: &servers,
        };
        let later = NOW.plus(MEMBER_LIFETIME * 3);
        let (_, identity) = refresh(&out.join("gateway"), &registrar, later, &OsEntropy).unwrap();
        let (after, read) = Bundle::read_speaker(&out.join("gateway")).unwrap();
        assert_eq!(identity.name, known.name);
        assert_eq!(read.signing.verifying_key(), known.signing.verifying_key());
        assert_eq!(read.servers, servers);
        let leaf = certificates(&after.tls.chain_pem).unwrap().remove(0);
        assert_eq!(addresses(&leaf).unwrap(), ["gateway.example", "10.0.0.1"]);
        assert_eq!(after.tls.life().unwrap().1, later.plus(MEMBER_LIFETIME));
        assert!(!after.claims.unwrap().ct_eq(&before.claims.unwrap()));
        assert!(!after.bus.unwrap().ct_eq(&before.bus.unwrap()));
        let any = |directory: &str| {
            refresh_any(&out.join(directory), &registrar, later, &OsEntropy).unwrap()
        };
        let scheduler = PeerName::Service(Role::Scheduler);
        let ends = later.plus(MEMBER_LIFETIME);
        assert_eq!(any("scheduler"), (scheduler, ends));
        let (scheduler, _) = Bundle::read_speaker(&out.join("scheduler")).unwrap();
        assert!(scheduler.claims.is_none());
        let ada = PeerName::Operator(OperatorName::parse("ada").unwrap());
        assert_eq!(whose(&out.join("operators/ada")).unwrap(), ada);
        assert!(whose(&out).is_err());
        assert_eq!(any("operators/ada"), (ada, later.plus(OPERATOR_LIFETIME)));
    }
}
