//! `approval …`: what takes several people.

use keywheel_schemas::api::{ApprovalRequest, ApprovalView};
use serde_json::json;

use super::Desk;
use crate::args::{ApprovalVerb, WordArgs};
use crate::exit::{Exit, Failure};
use crate::http::escape;
use crate::output::{approvals as texts, tame};

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
        ApprovalVerb::Approve(args) => say(desk, args, ("approve", texts::told)).await,
        ApprovalVerb::Deny(args) => say(desk, args, ("deny", texts::told)).await,
        ApprovalVerb::Withdraw { id } => {
            let path = format!("{PATH}/{}/withdraw", escape(id));
            let now: ApprovalView = desk.client.change(&path, &json!({})).await?;
            desk.screen.show(&now, texts::told)
        }
        ApprovalVerb::BreakGlass(args) => say(desk, args, ("break-glass", texts::told)).await,
        ApprovalVerb::Review(args) => say(desk, args, ("review", texts::reviewed)).await,
        ApprovalVerb::ConfirmSinks { reason } => {
            let request = ApprovalRequest {
                reason: reason.clone(),
            };
            let path = "/v1/audit/confirm-sinks";
            let now: ApprovalView = desk.client.change(path, &request).await?;
            desk.screen.show(&now, texts::told)?;
            confirmed(&now)
        }
    }
}

/// Sinks that still wait for others are no more confirmed than a command that waits is done.
fn confirmed(now: &ApprovalView) -> Result<(), Failure> {
    if now.state != "waiting" {
        return Ok(());
    }
    let id = tame(&now.approval_id);
    Err(Failure::new(
        Exit::Waiting,
        format!(
            "the sinks are not confirmed yet: request {id} waits for {} more",
            now.missing
        ),
        format!(
            "they look with `keywheel approval describe {id}` and say `keywheel approval confirm-sinks --reason TEXT`"
        ),
    ))
}

async fn list(desk: &Desk, waiting: bool, unreviewed: bool) -> Result<(), Failure> {
    let mut all: Vec<ApprovalView> = desk.client.read_all(PATH).await?;
    if waiting {
        all.retain(|one| one.state == "waiting");
    }
    if unreviewed {
        all.retain(texts::is_unreviewed);
    }
    if all.is_empty() && (waiting || unreviewed) && !desk.screen.is_json() {
        desk.screen
            .note("no request fits; `keywheel approval list` lists all");
    }
    desk.screen
        .show(&all, |all| texts::list(all, desk.screen.color))
}

/// Says a word, and shows what it came to.
async fn say(
    desk: &Desk,
    args: &WordArgs,
    (word, shown): (&str, fn(&ApprovalView) -> String),
) -> Result<(), Failure> {
    let path = format!("{PATH}/{}/{word}", escape(&args.id));
    let request = ApprovalRequest {
        reason: args.reason.clone(),
    };
    let now: ApprovalView = desk.client.change(&path, &request).await?;
    desk.screen.show(&now, shown)
}
