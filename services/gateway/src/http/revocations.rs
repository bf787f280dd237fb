//! A person steps into a revocation that runs.

use axum::Json;
use axum::extract::{Extension, State};
use keywheel_core::command::Command;
use keywheel_core::id::RevocationId;
use keywheel_schemas::api::{ForgetRequest, RevocationView};

use super::change::Payload;
use super::{Api, Caller, Failure, Named};
use crate::views;

/// One of the two words that it takes; whose it is the connection says, and nobody else.
pub(super) async fn forget(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    Named(id): Named,
    body: Payload<ForgetRequest>,
) -> Result<Json<RevocationView>, Failure> {
    let Json(ForgetRequest { reason }) = body?;
    let revocation =
        RevocationId::parse(&id).map_err(|error| Failure::invalid(error.to_string()))?;
    let command = Command::ForgetRevocation {
        revocation,
        by: caller.principal.clone(),
        reason,
    };
    api.submit(&caller, command).await?;
    views::revocation(&api.view.read(), revocation)
        .map(Json)
        .ok_or_else(|| Failure::not_found(format!("no revocation {revocation}")))
}
