//! A backup: on record before it is made, and when it was made, or why it was not. Its bytes are never in an answer.
//!
//! Invariant: what was begun comes to its end, and on record, whether or not who asked waits for that; so nobody begins
//! another one meanwhile.

use async_trait::async_trait;
use axum::Json;
use axum::extract::{Extension, State};
use keywheel_core::audit::Outcome;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_schemas::api::BackupView;

use super::{Api, Caller, Failure};

/// What a record names.
const OBJECT: &str = "deployment";
/// Why there is none, and what to do.
const ELSEWHERE: &str = "the parts of this deployment run apart, and no one of them has all that belongs into a backup; copy the databases of journal and cache with their own tools, the journal's first: deploy/docs/backup.md says how";

/// Makes backups; where the parts run apart there is none.
#[async_trait]
pub trait BackupMaker: Send + Sync {
    /// Makes one, and looks whether what was written is what was meant.
    ///
    /// # Errors
    /// `Conflict` while another one is made, `Unavailable` without room for it.
    async fn make(&self) -> Result<BackupView, PortError>;
}

pub(super) async fn backup(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<BackupView>, Failure> {
    let Some(maker) = api.backups.clone() else {
        return Err(Failure::conflict(ELSEWHERE));
    };
    // A handler ends with its connection.
    let making = tokio::spawn(async move { made(&api, &caller, &*maker).await });
    making.await.unwrap_or_else(|error| {
        let text = "the backup was not made to its end; ask again";
        Err(PortError::caused(ErrorKind::Unavailable, text, error).into())
    })
}

async fn made(
    api: &Api,
    caller: &Caller,
    maker: &dyn BackupMaker,
) -> Result<Json<BackupView>, Failure> {
    note(api, caller, (Outcome::Allowed, "asked for")).await?;
    let made = match maker.make().await {
        Ok(made) => made,
        Err(error) => {
            let words = format!("not made: {error}");
            note(api, caller, (Outcome::Rejected, &words)).await?;
            return Err(Failure::from(error).on_record());
        }
    };
    let BackupView {
        head,
        records,
        sha256,
        ..
    } = &made;
    let words = format!("made: up to event {head} and {records} records, sha256 {sha256}");
    note(api, caller, (Outcome::Allowed, &words)).await?;
    Ok(Json(made))
}

async fn note(
    api: &Api,
    caller: &Caller,
    (outcome, words): (Outcome, &str),
) -> Result<(), Failure> {
    let words = caller.standing.words(words);
    let record = api.record(&caller.principal, "backup", OBJECT, outcome, &words);
    Ok(api.commands.record(record).await?)
}
