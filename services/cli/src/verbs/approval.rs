//! `approval …`: what takes several people.

use keywheel_schemas::api::{ApprovalRequest, ApprovalView};
use serde_json::json;

use super::Desk;
use crate::args::{ApprovalVerb, WordArgs};
use crate::exit::Failure;
use crate::http::escape;
use crate::output::approvals as texts;

/// Where requests are.
const PATH: &str = "/v1/approvals";

pub(super) async fn run(desk: &Desk, verb: &ApprovalVerb) -> Result<(), Failure> {
    match verb {
        ApprovalVerb::List {
            waiting,
            unreviewed,
        } => list(desk, *waiting, *unreviewed).await,
        ApprovalVerb::Describe { id } => {
            let path = format!("{PATH}/{}", escape(id));
            let found: ApprovalView = desk.client.read(&path).await?;
            desk.screen.show(&found, texts::one)
        }
        ApprovalVerb::Approve(args) => say(desk, args, "approve").await,
        ApprovalVerb::Deny(args) => say(desk, args, "deny").await,
        ApprovalVerb::Withdraw { id } => {
            let path = format!("{PATH}/{}/withdraw", escape(id));
            let now: ApprovalView = desk.client.change(&path, &json!({})).await?;
            desk.screen.show(&now, texts::told)
        }
        ApprovalVerb::BreakGlass(args) => say(desk, args, "break-glass").await,
        ApprovalVerb::Review(args) => say(desk, args, "review").await,
        ApprovalVerb::ConfirmSinks { reason } => {
            let request = ApprovalRequest {
                reason: reason.clone(),
            };
            let path = "/v1/audit/confirm-sinks";
            let now: ApprovalView = desk.client.change(path, &request).await?;
            desk.screen.show(&now, texts::told)
        }
    }
}

async fn list(desk: &Desk, waiting: bool, unreviewed: bool) -> Result<(), Failure> {
    let mut all: Vec<ApprovalView> = desk.client.read_all(PATH).await?;
    if waiting {
        all.retain(|one| one.state == "waiting");
    }
    if unreviewed {
        all.retain(texts::is_unreviewed);
    }
    desk.screen
        .show(&all, |all| texts::list(all, desk.screen.color))
}

async fn say(desk: &Desk, args: &WordArgs, word: &str) -> Result<(), Failure> {
    let path = format!("{PATH}/{}/{word}", escape(&args.id));
    let request = ApprovalRequest {
        reason: args.reason.clone(),
    };
    let now: ApprovalView = desk.client.change(&path, &request).await?;
    desk.screen.show(&now, texts::told)
}
