//! Logins that a store makes for whoever asks, and ends when their lease does: dynamic credentials.
//!
//! Laws: what [`Leases::mint`] made and nobody extended ends by itself within [`MINT_SPAN`], so that one whose
//! maker died before it was on record is no orphan; an end of what is gone succeeds; a lease that is gone is told
//! as [`Extended::Gone`], never as an error. Only leases that were minted here are touched: each has a name that
//! only its maker could know. No text of an error holds a value or a credential.

use std::time::Duration;

use async_trait::async_trait;
use keywheel_core::lease::grace_of;
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
    /// When it is to be renewed next: after two thirds of its time. What its maximum lifetime limits is looked at so
    /// early that it lives on for a grace beside the one that takes its place then.
    #[must_use]
    pub fn renew_after(granted: Duration, whole: Duration) -> Duration {
        let next = two_thirds(granted);
        if granted < two_thirds(whole) {
            return next;
        }
        next.min(granted.saturating_sub(grace_of(whole)))
    }

    /// Whether it gives way to another one now: it is gone, or at its maximum lifetime, so that it got less
    /// than two thirds of its time.
    #[must_use]
    pub fn gives_way(&self) -> bool {
        match self {
            Self::For { granted, whole } => *granted < two_thirds(*whole),
            Self::Gone => true,
        }
    }
}

fn two_thirds(time: Duration) -> Duration {
    time * 2 / 3
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
    }

    #[test]
    fn a_lease_is_looked_at_after_two_thirds_of_its_time_and_a_grace_before_its_end() {
        let seconds = Duration::from_secs;
        for (granted, whole, next) in [
            (90, 90, 60),
            // Its maximum lifetime comes a second before its end: it is not made anew for that.
            (89, 90, 59),
            (3600, 3600, 2400),
            (2700, 3600, 1800),
            (600, 900, 300),
            // It has given way.
            (30, 90, 20),
            (0, 90, 0),
        ] {
            let found = Extended::renew_after(seconds(granted), seconds(whole));
            assert_eq!(found, seconds(next), "{granted} of {whole}");
        }
        // Whatever it was granted, it gives way with its grace before it.
        for whole in 1_u64..2000 {
            for granted in (whole * 2).div_ceil(3)..=whole {
                let next = Extended::renew_after(seconds(granted), seconds(whole));
                let left = seconds(granted).saturating_sub(next);
                assert!(left >= grace_of(seconds(whole)), "{granted} of {whole}");
                assert!(
                    !next.is_zero(),
                    "{granted} of {whole} is renewed without end"
                );
            }
        }
    }
}
