//! Records of what takes several people. A command that was approved leaves its own record, which names the request.

use keywheel_core::approval::{Ask, Operation, Request};
use keywheel_core::id::ApprovalId;
use keywheel_core::world::World;

use super::{Described, describe};

/// Verb and object.
pub(super) fn described(world: &World, request: &Request) -> Option<Described> {
    let of = |id: &ApprovalId| object(world, *id);
    Some(match request {
        Request::Ask(Ask {
            operation, object, ..
        }) => (asked(*operation), object.clone(), None),
        Request::Approve { approval, .. } => ("approve", of(approval), None),
        Request::Deny { approval, .. } => ("deny", of(approval), None),
        Request::Withdraw { approval, .. } => ("withdraw-approval", of(approval), None),
        Request::BreakGlass { approval, .. } => ("break-glass", of(approval), None),
        Request::Review { approval, .. } => ("review-break-glass", of(approval), None),
        Request::Perform(wish) => return describe(world, &wish.command),
    })
}

/// A person's own words.
pub(super) fn reason(request: &Request) -> String {
    match request {
        Request::Ask(Ask { reason, .. })
        | Request::Approve { reason, .. }
        | Request::Deny { reason, .. }
        | Request::BreakGlass { reason, .. }
        | Request::Review { reason, .. } => reason.clone(),
        Request::Withdraw { .. } => "takes a word back".to_owned(),
        Request::Perform(wish) => format!("approved: request {}", wish.approval),
    }
}

const fn asked(operation: Operation) -> &'static str {
    match operation {
        Operation::Unseal => "ask-unseal",
        Operation::AuditExport => "ask-audit-export",
        Operation::SinkChange => "ask-sink-change",
        Operation::PolicyChange => "ask-policy-change",
        Operation::HostReturn => "ask-host-return",
    }
}

/// What a request is about, and which it is.
fn object(world: &World, id: ApprovalId) -> String {
    let known = world.approvals.by_id(id);
    known.map_or_else(
        || format!("approval/{id}"),
        |known| format!("approval/{id} {} {}", known.word, known.object),
    )
}
