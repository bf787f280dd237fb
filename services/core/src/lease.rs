//! Leases: a secret whose store makes a login of its own for each container.
//!
//! The secret that a person declares never has a version. Each container that wants it has a hidden secret
//! beside it, whose versions are its leases, one after the other: so delivery, acknowledgement, dead set,
//! barrier and revocation are those of any secret. Owns how the two are named and told apart; what is
//! decided about them is in `decision::lease`. Invariant: secret, container and binding give the ids, so
//! that a want that comes twice makes nothing twice.

use std::time::Duration;

use crate::id::{BindingId, ContainerId, HostId, RevocationId, RotationId, SecretId};
use crate::name::SecretName;
use crate::resource::Probe;
use crate::rotation::GRACE;
use crate::store::RemoteVersion;

/// How long a lease is kept for a container that does not run, by default.
pub const DEFAULT_LINGER: Duration = Duration::from_secs(300);
/// Shortest time that may be asked for: a container that starts again, or is refused and comes back, has its login
/// for as long as that takes.
pub const MIN_LINGER: Duration = Duration::from_secs(30);
/// Longest time that may be asked for.
pub const MAX_LINGER: Duration = Duration::from_secs(86_400);
/// Longest name of a secret with leases: the container is added to it.
pub const MAX_NAME_BYTES: usize = 180;
/// Most leases of one secret that a host's containers have at a time.
pub const MAX_LEASES: usize = 1_000;
/// Most revocations of one container's leases that their store did not confirm: a container with so many gets no
/// other lease.
pub const MAX_UNCONFIRMED: usize = 8;
/// A lease that gave way lives on for this part of its time at most: it is over then before the one that took its
/// place gives way.
pub const GRACE_PART: u32 = 3;
/// What the last part of a lease's name begins with.
const PREFIX: &str = "lease.";
/// Digits of a container's id that are as many bytes as an id of ours.
const HALF_DIGITS: usize = 32;

/// How a secret has to do with leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lease {
    /// Its store makes one for each container; it has no version itself.
    PerContainer {
        /// How long one is kept for a container that does not run.
        linger: Duration,
        /// The server at which its logins are tried; `None` where only their store is asked.
        probe: Option<Box<Probe>>,
    },
    /// Its versions are the leases of one container.
    Of(LeaseOf),
}

/// Whose leases a hidden secret has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseOf {
    /// The secret that a person declared.
    pub secret: SecretId,
    /// The container's host.
    pub host: HostId,
    /// The container.
    pub container: ContainerId,
    /// How long one is kept while the container does not run.
    pub linger: Duration,
}

/// The hidden secret of one container. A container's id is drawn by its engine, so no two share one.
#[must_use]
pub fn secret_of(parent: SecretId, container: &ContainerId) -> SecretId {
    let mut bytes = *parent.bytes();
    for half in container.as_str().as_bytes().chunks(HALF_DIGITS) {
        for (byte, pair) in bytes.iter_mut().zip(half.chunks(2)) {
            let pair = std::str::from_utf8(pair).unwrap_or_default();
            *byte ^= u8::from_str_radix(pair, 16).unwrap_or_default();
        }
    }
    SecretId::from_bytes(bytes)
}

/// The revocation of what a swap replaced: each rotation has one. No id that a command counts up differs in that byte.
#[must_use]
pub fn end_of(rotation: RotationId) -> RevocationId {
    let mut bytes = *rotation.bytes();
    if let Some(byte) = bytes.get_mut(8) {
        *byte ^= 1;
    }
    RevocationId::from_bytes(bytes)
}

/// How long a lease lives where nothing limits it, in whole seconds: the last part of what its store calls it. `None`
/// where that says nothing of a time.
#[must_use]
pub fn whole_of(lease: &RemoteVersion) -> Option<Duration> {
    let (_, seconds) = lease.0.rsplit_once(':')?;
    seconds.parse().ok().map(Duration::from_secs)
}

/// How long a lease of so much time lives on beside the one that took its place, where nobody knows when its
/// container's program reads that one: as long as any old credential, but a part of its time at most. It gives way that
/// early.
#[must_use]
pub fn grace_of(whole: Duration) -> Duration {
    GRACE.min(whole / GRACE_PART)
}

/// Its name; `None` when the declared one is too long for that.
#[must_use]
pub fn name_of(parent: &SecretName, container: &ContainerId) -> Option<SecretName> {
    SecretName::parse(&format!("{parent}/{PREFIX}{container}")).ok()
}

/// Whether a name is that of a lease, whichever secret and container it may belong to.
#[must_use]
pub fn is_name(name: &SecretName) -> bool {
    let last = name.as_str().rsplit_once('/').map(|(_, last)| last);
    let container = last.and_then(|last| last.strip_prefix(PREFIX));
    container.is_some_and(|container| ContainerId::parse(container).is_ok())
}

/// The binding's id in a host's plan where it gives this lease: another one for each container, since a
/// host tells what it holds by binding. Applied twice it is the binding's own id again.
#[must_use]
pub fn binding_of(binding: BindingId, lease: SecretId) -> BindingId {
    let mut bytes = *binding.bytes();
    for (byte, other) in bytes.iter_mut().zip(lease.bytes()) {
        *byte ^= other;
    }
    BindingId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(n: u8) -> ContainerId {
        ContainerId::parse(&format!("{n:064x}")).unwrap()
    }

    #[test]
    fn each_container_has_a_secret_and_a_name_of_its_own() {
        let parent = SecretId::from_bytes([0x1f; 16]);
        let (one, other) = (
            secret_of(parent, &container(1)),
            secret_of(parent, &container(2)),
        );
        let mut bytes = [0x1f; 16];
        bytes[15] = 0x1e;
        assert_eq!(one, SecretId::from_bytes(bytes));
        assert!(one != other && one != parent);
        let name = SecretName::parse("shop/db").unwrap();
        let named = name_of(&name, &container(0xab)).unwrap();
        let end = format!("{:064x}", 0xab);
        assert_eq!(named.as_str(), format!("shop/db/lease.{end}"));
        assert!(is_name(&named));
        for other in ["shop/db", "shop/db/lease.abc", "shop/lease/db"] {
            assert!(!is_name(&SecretName::parse(other).unwrap()), "{other}");
        }
        let longest = SecretName::parse(&"a".repeat(MAX_NAME_BYTES)).unwrap();
        assert!(name_of(&longest, &container(1)).is_some());
    }

    #[test]
    fn one_that_gave_way_lives_on_as_any_old_credential_does_and_a_third_of_its_time_at_most() {
        let seconds = Duration::from_secs;
        for (whole, grace) in [(0, 0), (15, 5), (600, 200), (900, 300), (86_400, 300)] {
            assert_eq!(grace_of(seconds(whole)), seconds(grace), "{whole}");
        }
        let called = |name: &str| whole_of(&RemoteVersion(name.to_owned()));
        assert_eq!(called("accessor.ns:lease.ns:3600"), Some(seconds(3600)));
        for odd in ["", "3600", "accessor:lease", "accessor:lease:1h"] {
            assert_eq!(called(odd), None, "{odd:?}");
        }
    }

    #[test]
    fn a_planned_binding_is_turned_back_into_its_own() {
        let binding = BindingId::from_bytes([0x2a; 16]);
        let lease = SecretId::from_bytes([0x77; 16]);
        let planned = binding_of(binding, lease);
        assert_ne!(planned, binding);
        assert_eq!(binding_of(planned, lease), binding);
    }
}
