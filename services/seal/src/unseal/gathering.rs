//! Shares as they come in, one by one, until they are enough.
//!
//! Invariants: a share that is wrong, was given already or is of another set is refused in the same words, and
//! changes nothing; so a stranger learns nothing and spoils nothing. Shares are overwritten when this is
//! dropped. Who may give shares, how often and for how long is the caller's.

use std::fmt;

use super::Provider;
use super::share::{self, SetId, Share, ShareCheck};
use crate::envelope::UnsealKey;
use crate::secret::SecretBytes;

/// A share was not taken; why is not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the share was not taken: it is no share of this seal, or was given already")]
pub struct Refused;

/// A share was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Taken {
    /// So many are there.
    pub have: u8,
    /// So many are needed.
    pub need: u8,
}

impl Taken {
    /// Whether they are enough.
    #[must_use]
    pub const fn is_enough(&self) -> bool {
        self.have >= self.need
    }
}

/// The shares that came in so far.
pub struct Gathering {
    set: SetId,
    threshold: u8,
    checks: Vec<ShareCheck>,
    taken: Vec<Share>,
}

impl Gathering {
    /// None yet; only of a provider that has shares.
    pub(super) fn of(provider: &Provider) -> Option<Self> {
        let Provider::Shares {
            set,
            threshold,
            checks,
        } = provider
        else {
            return None;
        };
        Some(Self {
            set: *set,
            threshold: *threshold,
            checks: checks.clone(),
            taken: Vec::with_capacity(usize::from(*threshold)),
        })
    }

    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> Taken {
        Taken {
            have: u8::try_from(self.taken.len()).unwrap_or(u8::MAX),
            need: self.threshold,
        }
    }

    /// Takes one more, as it was typed.
    ///
    /// # Errors
    /// [`Refused`] for anything but a share of this set that was not given yet.
    pub fn take(&mut self, text: &SecretBytes) -> Result<Taken, Refused> {
        let share = Share::from_text(text).map_err(|_| Refused)?;
        let known = usize::from(share.number())
            .checked_sub(1)
            .and_then(|at| self.checks.get(at));
        let is_ours = known.is_some_and(|known| known.ct_eq(&share.check()));
        let is_new = self
            .taken
            .iter()
            .all(|taken| taken.number() != share.number());
        let has_room = !self.progress().is_enough();
        if share.set() != self.set || !is_ours || !is_new || !has_room {
            return Err(Refused);
        }
        self.taken.push(share);
        Ok(self.progress())
    }

    /// Takes the last one back, which may be given again.
    pub fn give_back(&mut self) {
        self.taken.pop();
    }

    /// The wrapping key, once there are enough.
    pub(super) fn combine(&self) -> Option<UnsealKey> {
        self.progress()
            .is_enough()
            .then(|| share::combine(&self.taken))
            .flatten()
    }
}

impl fmt::Debug for Gathering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Taken { have, need } = self.progress();
        write!(f, "Gathering({have} of {need})")
    }
}
