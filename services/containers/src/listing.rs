//! The records behind the rows of an engine's list, several looks at once. It decides nothing about them.

use futures_util::StreamExt as _;
use keywheel_core::id::ContainerId;
use keywheel_engine::port::PortError;
use keywheel_engine::port::container_host::ContainerRecord;

use crate::form::Listed;

/// Inspects under way at once during a list.
const PARALLEL_INSPECTS: usize = 8;

fn ids(rows: &[Listed]) -> Vec<ContainerId> {
    let ids = rows
        .iter()
        .filter_map(|row| ContainerId::parse(&row.id).ok());
    ids.collect()
}

/// All of them; the first that cannot be told of is the list's error.
pub(crate) async fn records<F, A>(
    rows: &[Listed],
    look: F,
) -> Result<Vec<ContainerRecord>, PortError>
where
    F: Fn(ContainerId) -> A + Send,
    A: Future<Output = Result<Option<ContainerRecord>, PortError>> + Send,
{
    let ids = ids(rows);
    let mut records = Vec::with_capacity(ids.len());
    let looks = ids.into_iter().map(look);
    let mut answers = futures_util::stream::iter(looks).buffer_unordered(PARALLEL_INSPECTS);
    while let Some(answer) = answers.next().await {
        records.extend(answer?);
    }
    Ok(records)
}

/// Those whose start was refused. One that cannot be told of is passed over, unless that is so with
/// all of them.
pub(crate) async fn refused<F, A>(
    rows: &[Listed],
    look: F,
) -> Result<Vec<ContainerRecord>, PortError>
where
    F: Fn(ContainerId) -> A + Send,
    A: Future<Output = Result<Option<ContainerRecord>, PortError>> + Send,
{
    let looks = ids(rows).into_iter().map(|id| {
        let answer = look(id.clone());
        async move { (answer.await, id) }
    });
    let mut answers = futures_util::stream::iter(looks).buffer_unordered(PARALLEL_INSPECTS);
    let (mut records, mut has_answer, mut failed) = (Vec::new(), false, None);
    while let Some((answer, id)) = answers.next().await {
        match answer {
            Ok(record) => {
                has_answer = true;
                records.extend(record.filter(|record| record.refused.is_some()));
            }
            Err(error) => {
                tracing::warn!(
                    container = id.short(),
                    error = error.text,
                    "not known whether the container's start was refused"
                );
                failed = Some(error);
            }
        }
    }
    failed.filter(|_| !has_answer).map_or(Ok(records), Err)
}
