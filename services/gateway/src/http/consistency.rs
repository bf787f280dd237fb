//! That the audit goes on from a checkpoint of before: a look at hashes, also at those of records that are gone.

use axum::Json;
use axum::extract::State;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use keywheel_schemas::api::AuditConsistency;

use super::stream::hexadecimal;
use super::{Api, Failure, Named};

pub(super) async fn look(
    State(api): State<Api>,
    Named(size): Named,
) -> Result<Json<AuditConsistency>, Failure> {
    let size: u64 = size.parse().map_err(|_| {
        Failure::invalid(format!(
            "`{size}` is not a number of audit records; it is the second line of a checkpoint"
        ))
    })?;
    let head = api.journal.head().await?;
    if size > head.audit_size {
        return Err(Failure::not_found(format!(
            "there are {} audit records, and never were {size}: if a checkpoint of this log was signed over {size}, the log was cut or put back",
            head.audit_size
        )));
    }
    let path = api.journal.consistency_proof(size, head.audit_size).await?;
    Ok(Json(AuditConsistency {
        origin: api.origin.clone(),
        public_key: STANDARD.encode(api.public_key),
        checkpoint: head.checkpoint,
        size,
        path: path.iter().map(hexadecimal).collect(),
    }))
}
