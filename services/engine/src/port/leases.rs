//! Logins that a store makes for whoever asks, and ends when their lease does: dynamic credentials.
//!
//! Laws: what [`Leases::mint`] made and nobody extended ends by itself within [`MINT_SPAN`], so that one whose
//! maker died before it was on record is no orphan; an end of what is gone succeeds; a lease that is gone is told
//! as [`Extended::Gone`], never as an error. Only leases that were minted here are touched: each has a name that
//! only its maker could know. No text of an error holds a value or a credential.

use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::store::{RemoteVersion, Source};
use keywheel_seal::SecretBytes;

use super::PortError;
use crate::until::Until;

/// How long a login lives that nobody extended.
pub const MINT_SPAN: Duration = Duration::from_secs(300);

/// A login that was made.
#[derive(Debug)]
pub struct Minted {
    /// What its lease is called: no secret.
    pub lease: RemoteVersion,
    /// What a container gets: one JSON object, like `{"username":"…","password":"…"}`.
    pub value: SecretBytes,
}

/// What came of a wish for more time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extended {
    /// It lives for so long from now on.
    For {
        /// So long.
        granted: Duration,
        /// So long it lives where nothing limits it.
        whole: Duration,
    },
    /// It ended, or cannot be renewed.
    Gone,
}

impl Extended {
    /// When it is to be renewed next: after two thirds of its time.
    #[must_use]
    pub fn renew_after(granted: Duration) -> Duration {
        granted * 2 / 3
    }

    /// Whether it gives way to another one now: it is gone, or at its maximum lifetime, so that it got less
    /// than two thirds of its time.
    #[must_use]
    pub fn gives_way(&self) -> bool {
        match self {
            Self::For { granted, whole } => *granted < Self::renew_after(*whole),
            Self::Gone => true,
        }
    }
}

/// Logins of a store.
#[async_trait]
pub trait Leases: Send + Sync {
    /// Makes a login at this role. Repeated, it makes another one.
    async fn mint(&self, role: &Source, until: &Until) -> Result<Minted, PortError>;
    /// Gives a lease its whole time again, as far as the store lets it.
    async fn extend(
        &self,
        role: &Source,
        lease: &RemoteVersion,
        until: &Until,
    ) -> Result<Extended, PortError>;
    /// Ends a lease: the login is refused from then on.
    async fn end(
        &self,
        role: &Source,
        lease: &RemoteVersion,
        until: &Until,
    ) -> Result<(), PortError>;
    /// Whether the store has a lease no more; changes nothing. [`TellsNothing`] where we may not ask.
    ///
    /// [`TellsNothing`]: super::rotator::TellsNothing
    async fn is_gone(
        &self,
        role: &Source,
        lease: &RemoteVersion,
        until: &Until,
    ) -> Result<bool, PortError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_gives_way_when_its_store_gives_it_less_than_two_thirds() {
        let got = |granted: u64, whole: u64| Extended::For {
            granted: Duration::from_secs(granted),
            whole: Duration::from_secs(whole),
        };
        assert!(!got(60, 60).gives_way() && !got(40, 60).gives_way());
        assert!(got(39, 60).gives_way() && got(0, 60).gives_way());
        assert!(Extended::Gone.gives_way());
        assert_eq!(
            Extended::renew_after(Duration::from_secs(90)),
            Duration::from_secs(60)
        );
    }
}
