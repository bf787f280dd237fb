//! Folds the log anew and compares with what the gateway decides on (rule E8, invariant I5).
//!
//! It reads the log in pages and changes nothing. The committed world is copied first, so the log may
//! grow meanwhile.

use keywheel_core::world::World;

use crate::port::PortError;
use crate::port::journal::{Journal, MAX_READ};
use crate::state::View;

/// What folding the log anew showed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replayed {
    /// How many events were folded.
    pub events: u64,
    /// In what it differs from the live state; `None` when it is the same.
    pub difference: Option<String>,
}

/// Folds the log up to where the view stands, and compares.
///
/// # Errors
/// When the log cannot be read.
pub async fn replay(journal: &dyn Journal, view: &View) -> Result<Replayed, PortError> {
    let (live, number) = {
        let committed = view.read();
        (committed.world.clone(), committed.number)
    };
    let (mut folded, mut last) = (World::default(), 0);
    while last < number {
        let page = journal.read(last, MAX_READ).await?;
        let before = last;
        for event in page.iter().take_while(|event| event.number <= number) {
            folded.apply(event.number, &event.event);
            last = event.number;
        }
        if last == before {
            let difference =
                format!("the log ends at event {last}, and the gateway stands at {number}");
            return Ok(Replayed {
                events: last,
                difference: Some(difference),
            });
        }
    }
    let difference = live
        .difference(&folded)
        .map(|what| format!("{what} is not what the log says after event {number}"));
    Ok(Replayed {
        events: number,
        difference,
    })
}
