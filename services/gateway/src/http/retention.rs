//! What became of old audit records, and what would become of them next: a look, nothing is removed by it.

use axum::Json;
use axum::extract::State;
use keywheel_schemas::api::AuditRetentionView;
use keywheel_schemas::config::audit::keep_words;
use keywheel_schemas::mirror::TextForm as _;

use super::{Api, Failure};
use crate::retention::{before, count_old, last_of_unit};

pub(super) async fn look(State(api): State<Api>) -> Result<Json<AuditRetentionView>, Failure> {
    let size = api.journal.head().await?.audit_size;
    let begins = api.journal.audit_begins().await?;
    let keep = api.presences.keep_records();
    let mut view = AuditRetentionView {
        keep: keep.map(keep_words),
        begins,
        size,
        removable: 0,
        next: None,
        waits: None,
    };
    let Some(keep) = keep else {
        return Ok(Json(view));
    };
    let old = before(api.presences.steady_now(), keep);
    view.removable = count_old(&*api.journal, &(begins..size), old).await?;
    let end = begins.saturating_add(view.removable);
    let next = last_of_unit(&*api.journal, end).await?;
    view.next = next.map(|last| last.plus(keep).text());
    view.waits = match view.removable {
        0 => None,
        _ => api.presences.keeps_records(end),
    };
    Ok(Json(view))
}

/// Why there is no such record any more.
pub(super) fn gone(index: u64, begins: u64) -> String {
    format!(
        "audit record {index} was removed from the journal by its age, as all before {begins} were; their leaf hashes are in an export, and the records at the sinks and in exports of before"
    )
}
