//! `rotation …`: the rotations, and a person's steps into one. Each step needs a reason.

use keywheel_schemas::api::{InterveneRequest, RotationView};

use super::revoke::{confirm, require_person};
use super::{Desk, look, waiting};
use crate::args::{
    DescribeArgs, DescribeKind, ForceArgs, GetArgs, InterveneArgs, Kind, RotationVerb,
};
use crate::exit::Failure;
use crate::output::rotations as views;

pub(super) async fn run(desk: &Desk, verb: &RotationVerb) -> Result<(), Failure> {
    match verb {
        RotationVerb::List => {
            let all = GetArgs {
                kind: Kind::Rotations,
                name: None,
            };
            look::list(desk, &all).await
        }
        RotationVerb::Describe { rotation } => {
            let one = DescribeArgs {
                kind: DescribeKind::Rotation,
                name: rotation.clone(),
            };
            look::describe(desk, &one).await
        }
        RotationVerb::Abort(args) => {
            let found = look::rotation_of(desk, &args.rotation).await?;
            let begun = step_in(desk, &found, "abort", args).await?;
            waiting::rotation_to(desk, begun, &args.wait, &[waiting::ROLLED_BACK]).await
        }
        RotationVerb::Retry(args) => {
            let found = look::rotation_of(desk, &args.rotation).await?;
            let begun = step_in(desk, &found, "retry", args).await?;
            waiting::rotation(desk, begun, &args.wait).await
        }
        RotationVerb::Force(args) => force(desk, args).await,
    }
}

async fn force(desk: &Desk, args: &ForceArgs) -> Result<(), Failure> {
    let asked = &args.intervene;
    let found = look::rotation_of(desk, &asked.rotation).await?;
    if !args.yes {
        require_person(desk.screen, "rotation force")?;
        desk.screen.note(&views::force_warning(&found));
        confirm(desk.screen, &found.secret)?;
    }
    let begun = step_in(desk, &found, "force", asked).await?;
    // One that goes back to the version before ends so, too.
    let ends = [waiting::COMPLETED, waiting::ROLLED_BACK];
    waiting::rotation_to(desk, begun, &asked.wait, &ends).await
}

async fn step_in(
    desk: &Desk,
    found: &RotationView,
    verb: &str,
    args: &InterveneArgs,
) -> Result<RotationView, Failure> {
    let path = format!("/v1/rotations/{}/{verb}", found.rotation_id);
    let request = InterveneRequest {
        reason: args.reason.clone(),
    };
    desk.client.change(&path, &request).await
}
