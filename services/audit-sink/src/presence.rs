//! What the audit sink tells about itself: how many records it keeps, and whether the log agrees.

use async_trait::async_trait;
use keywheel_engine::presence::{COPY_FACT, Fact, Look, Reached, Seen};

use crate::sink::Handle;

#[async_trait]
impl Look for Handle {
    async fn look(&self) -> Seen {
        let copy = match self.conflicts() {
            0 => Fact::ok(COPY_FACT, "every record agrees with the journal's"),
            conflicts => {
                let note = format!(
                    "{conflicts} audit records differ between the journal and the audit sink: one of them was changed"
                );
                let next = "keep both files, and compare them with your backup";
                Fact::problem(COPY_FACT, note, next)
            }
        };
        let backfilled = format!("{} records were read from the log", self.backfilled());
        Seen {
            reached: Some(Reached::AuditRecords(self.size())),
            facts: vec![copy, Fact::ok("backfill", backfilled)],
        }
    }
}
