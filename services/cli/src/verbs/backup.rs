//! `backup` and `restore accept`: what of them asks the daemon.

use super::Desk;
use crate::args::{RestoreArgs, RestoreVerb, Verb};
use crate::backup::{fetch, restore};
use crate::exit::{Exit, Failure};

pub(super) async fn ask(desk: &Desk, verb: Verb) -> Result<(), Failure> {
    match verb {
        Verb::Backup(args) => {
            let out = args.out.unwrap_or_default();
            fetch::backup(&desk.client, desk.screen, &out).await
        }
        Verb::Restore(RestoreArgs {
            verb: Some(RestoreVerb::Accept { reason }),
            ..
        }) => restore::accept(&desk.client, desk.screen, &reason).await,
        _ => Err(Failure::new(
            Exit::Unexpected,
            "this verb needs no daemon",
            "report this fault of keywheel",
        )),
    }
}
