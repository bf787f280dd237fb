//! A backup: on record before it is made, and when it was made, or why it was not. Its bytes are never in an answer.
//!
//! Invariant: what was begun comes to its end, and on record, whether or not who asked waits for that; so nobody begins
//! another one meanwhile.

use async_trait::async_trait;
use axum::Json;
use axum::extract::{Extension, State};
use keywheel_engine::port::PortError;
use keywheel_schemas::api::BackupView;

use super::deed::{self, Ended, Task};
use super::{Api, Caller, Failure};
use crate::deeds::Deed;

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
    let making = async move {
        match maker.make().await {
            Ok(made) => {
                let words = words(&made);
                Ended::done(Json(made), &words)
            }
            Err(error) => Ended::failed(error),
        }
    };
    deed::done(&api, &caller, Task::new(Deed::Backup, OBJECT), making).await
}

fn words(made: &BackupView) -> String {
    let BackupView {
        head,
        records,
        sha256,
        ..
    } = made;
    format!("made up to event {head} and {records} records, sha256 {sha256}")
}
