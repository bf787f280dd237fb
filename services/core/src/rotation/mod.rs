//! The rotation: one run that replaces a secret's current version, from request to close.
//!
//! Order: create → set → test → finish (promote) → distribute → drain → revoke old → close; in a cut-over hosts
//! take the version between create and set; with canaries a few containers have it between test and finish, and
//! it goes on only while they run well with it. The old version is revoked only when every consumer
//! acknowledged and every host it was delivered to says that it holds it no more; where that is promised, also
//! not before its sessions from before then are gone. An outcome is taken once per open step.

mod canary;
mod cut_over;
mod drain;
mod event;
mod react;
mod rejection;
mod replacement;
mod state;
mod stragglers;
#[cfg(test)]
mod tests;

pub use drain::Drain;
pub use event::{Event, Intervention, Outcome, Sessions, Step, Straggler, Trigger};
pub use react::react;
pub(crate) use react::retired_by;
pub use rejection::Rejection;
pub(crate) use state::is_before_promotion;
pub use state::{Failure, Phase, Rotation};
pub use stragglers::{Lack, lack, lack_of, stragglers};

use std::time::Duration;

/// How often a store may refuse a step before the rotation is rolled back. A store that is away is
/// waited for, however long.
pub const MAX_STEP_ATTEMPTS: u32 = 5;
/// How long consumers may take, where the secret says nothing else, before its stragglers are named and
/// the rotation is parked or forced.
pub const ACK_DEADLINE: Duration = Duration::from_secs(300);
/// How long an old credential lives on after the last acknowledgement, where its sessions were to be waited
/// for and the backend does not tell them. Of a lease it is never more than [`grace_of`] its time.
///
/// [`grace_of`]: crate::lease::grace_of
pub const GRACE: Duration = Duration::from_secs(300);
/// How long hosts may take to have a version at hand before its account is cut over to it. One that is away
/// does not hold it up: it asks for the version when it is to give it out.
pub const STAGING_DEADLINE: Duration = Duration::from_secs(15);
/// Longest reason for stepping into a rotation, in characters.
pub const MAX_REASON_CHARS: usize = 1000;
/// How far the scheduler's clock may run ahead of the gateway's. A slot further ahead is refused: once
/// served it would bar every slot before it.
pub const MAX_SLOT_SKEW: Duration = Duration::from_secs(30);
