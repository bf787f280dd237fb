//! The examples of what takes several people.

use keywheel_core::approval::{APPROVAL_LIFETIME, Event, Operation};
use keywheel_core::id::ApprovalId;

use super::{NIGHT, id};

pub(super) const APPROVAL: ApprovalId = ApprovalId::from_bytes(id(0x1a));

pub(super) fn of_approval() -> Vec<Event> {
    let by = |name: &str| format!("certificate:{name}");
    vec![
        Event::Requested {
            operation: Operation::PolicyChange.word().to_owned(),
            object: "policies".to_owned(),
            digest: [9; 32],
            plan: "version 3 takes the place of version 2\n- permit ada\n+ permit ada and bob"
                .to_owned(),
            by: by("ada"),
            reason: "bob joined".to_owned(),
            needed: 3,
            asked_at: NIGHT,
            expires_at: NIGHT.plus(APPROVAL_LIFETIME),
        },
        Event::Approved {
            by: by("eve"),
            reason: "seen the ticket".to_owned(),
        },
        Event::Denied {
            by: by("eve"),
            reason: "that is another bob".to_owned(),
        },
        Event::Withdrawn { by: by("ada") },
        Event::Used,
        Event::GlassBroken {
            by: by("ada"),
            reason: "nobody else is awake".to_owned(),
            at: NIGHT,
        },
        Event::GlassReviewed {
            by: by("eve"),
            reason: "looked at the set; it stays".to_owned(),
        },
    ]
}
