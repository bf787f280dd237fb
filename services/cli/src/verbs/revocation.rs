//! `revocation …`: the revocations, and the two words that have one forgotten.

use keywheel_schemas::api::{ForgetRequest, RevocationView};

use super::revoke::{confirm, require_person};
use super::{Desk, look};
use crate::args::{DescribeArgs, DescribeKind, ForgetArgs, GetArgs, Kind, RevocationVerb};
use crate::exit::Failure;
use crate::output::revocations as views;

pub(super) async fn run(desk: &Desk, verb: &RevocationVerb) -> Result<(), Failure> {
    match verb {
        RevocationVerb::List => {
            let all = GetArgs {
                kind: Kind::Revocations,
                name: None,
            };
            look::list(desk, &all).await
        }
        RevocationVerb::Describe { revocation } => {
            let one = DescribeArgs {
                kind: DescribeKind::Revocation,
                name: revocation.clone(),
            };
            look::describe(desk, &one).await
        }
        RevocationVerb::Forget(args) => forget(desk, args).await,
    }
}

async fn forget(desk: &Desk, args: &ForgetArgs) -> Result<(), Failure> {
    let found = look::revocation_of(desk, &args.revocation).await?;
    if !args.yes {
        require_person(desk.screen, "revocation forget")?;
        desk.screen.note(&format!(
            "The store of {} has not confirmed: it may accept what was revoked. With a second principal's word it is asked no more.",
            found.secret
        ));
        confirm(desk.screen, &found.secret)?;
    }
    let path = format!("/v1/revocations/{}/forget", found.revocation_id);
    let request = ForgetRequest {
        reason: args.reason.clone(),
    };
    let view: RevocationView = desk.client.change(&path, &request).await?;
    desk.screen.show(&view, views::revocation)?;
    if view.states.forget.len() < 2 && !desk.screen.is_json() {
        let text = "this is one of two: another principal has to repeat it, until then the store is asked on";
        desk.screen.note(text);
    }
    Ok(())
}
