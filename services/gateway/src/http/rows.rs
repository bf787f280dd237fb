//! The rows of a list that somebody may see.
//!
//! Invariant: a row is shown to whoever may see all that it names. Long lists are looked through where nobody waits for
//! it: decisions are made one after the other, once for all things of which policies say the same.

use keywheel_policy::Resource;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::gates::seconds;
use super::{Api, Caller};

/// From so many rows on a list keeps other requests of its thread from waiting.
const MANY: usize = 256;

impl Api {
    /// The rows of a list that a caller may see: those of which they may see all that a row names.
    pub(super) fn rows_for<T, R: IntoIterator<Item = Resource>>(
        &self,
        caller: &Caller,
        rows: Vec<T>,
        named: impl Fn(&T) -> R,
    ) -> Vec<T> {
        caller.standing.note_judged();
        match rows.len() >= MANY && is_shared() {
            true => tokio::task::block_in_place(|| self.seen(caller, rows, named)),
            false => self.seen(caller, rows, named),
        }
    }

    fn seen<T, R: IntoIterator<Item = Resource>>(
        &self,
        caller: &Caller,
        mut rows: Vec<T>,
        named: impl Fn(&T) -> R,
    ) -> Vec<T> {
        let in_force = self.in_force();
        let who = caller.standing.person(&caller.principal);
        let mut seer = in_force.seer(who, seconds(self.clock.now()));
        let held = caller.standing.held();
        rows.retain(|row| {
            let mut named = named(row).into_iter();
            let is_covered = |resource: &Resource| held.is_none_or(|held| held.shows(resource));
            named.all(|resource| is_covered(&resource) && seer.sees(&resource))
        });
        rows
    }
}

/// Whether other threads can take over what waits for this one.
fn is_shared() -> bool {
    let runtime = Handle::try_current();
    runtime.is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread)
}
