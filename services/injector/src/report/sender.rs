//! One report on its way: kept, sent, repeated until it is answered, and dropped.
//!
//! The log answers a command's id once, for ever. So no report is decided after a newer one of its host,
//! wherever an attempt was held up, if this holds. Invariants: a report is on the disk, with its command id,
//! before it is sent; from then on nothing else is sent until it is answered, in this run or the next; one that
//! was never sent and has no facts gives way to a newer one; a refused report is dropped, since a refusal is an
//! answer.

use std::time::Duration;

use keywheel_core::command::Command;
use keywheel_daemon::{chain, failpoint, names};
use keywheel_engine::port::bus::{Address, Body};
use keywheel_engine::port::journal::Verdict;
use keywheel_engine::trace::Context;
use keywheel_telemetry::traces::{Kind, Span, names as spans};
use tokio::sync::mpsc;

use super::{Queued, RETRY_FIRST, RETRY_MOST, has_facts, write};
use crate::origin::SERVICE;
use crate::shared::Shared;
use crate::spool::{Spool, Spooled};

/// How long the gateway may take for one report.
const SUBMIT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether it is about this host: a machine that joined again is another one, for which the gateway refuses
/// to hear of the one before for ever.
pub(super) fn is_own(shared: &Shared, spooled: &Spooled) -> bool {
    let (told, own) = (spooled.report.host, shared.options.host);
    if told != own {
        tracing::error!({ names::HOST } = %told, { names::NUMBER } = spooled.number, "spooled report of another host passed over; look at it and remove it");
    }
    told == own
}

/// Sends until answered. One that is not on the disk has no facts and was never sent: it gives way to a newer
/// one, which is returned. One that was sent and then given up could be decided after the newer one.
pub(super) async fn deliver(
    shared: &Shared,
    spool: &Spool,
    (spooled, mut is_spooled): Queued,
    mut newer: Option<&mut mpsc::Receiver<Queued>>,
) -> Option<Queued> {
    let mut wait = RETRY_FIRST;
    loop {
        match attempt(shared, spool, &spooled, &mut is_spooled).await {
            Ok(()) => break,
            Err(reason) => tracing::warn!({ names::REASON } = reason, "report not answered"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(RETRY_MOST);
        // A write that failed may have left a file, which a later run would send after the newer one.
        if !is_spooled
            && let Some(newer) = newer.as_mut().filter(|newer| !newer.is_empty())
            && remove(spool, spooled.number).await
            && let Ok(next) = newer.try_recv()
        {
            return Some(next);
        }
    }
    // A file that stays is replayed, and the gateway knows its command.
    remove(spool, spooled.number).await;
    if has_facts(&spooled.report) {
        // Nothing is left to fail.
        let _injected = failpoint::hit_async("injector.after_unspool").await;
    }
    None
}

/// Whether no file of that number is left.
async fn remove(spool: &Spool, number: u64) -> bool {
    let spool = spool.clone();
    let removed = tokio::task::spawn_blocking(move || spool.remove(number)).await;
    matches!(removed, Ok(Ok(())))
}

/// Sends once, after it is on the disk.
async fn attempt(
    shared: &Shared,
    spool: &Spool,
    spooled: &Spooled,
    is_spooled: &mut bool,
) -> Result<(), String> {
    // A host that comes back hears what is dead before it tells anything.
    shared.come_back().await.map_err(|error| chain(&error))?;
    if !*is_spooled {
        match write(spool, spooled).await {
            Some(Ok(())) => *is_spooled = true,
            Some(Err(error)) => {
                tracing::error!({ names::ERROR } = chain(&error), "report not spooled");
                return Err("it is not sent before the disk has it".to_owned());
            }
            None => return Err("the injector ends".to_owned()),
        }
    }
    send(shared, spooled).await
}

async fn send(shared: &Shared, spooled: &Spooled) -> Result<(), String> {
    failpoint::hit_async("injector.before_report")
        .await
        .map_err(|error| error.to_string())?;
    let body = Body::Submit {
        id: spooled.command,
        command: Command::Report(spooled.report.clone()),
    };
    // One report may answer several rotations; each sees it, and the gateway's part stands below one.
    let traces = shared.traces_of(&spooled.report);
    let told: Vec<Span> = traces
        .into_iter()
        .map(|trace| span_of(shared, trace))
        .collect();
    let trace = told.first().and_then(Span::traceparent);
    let answer = shared
        .bus
        .request(Address::Gateway, trace, body, SUBMIT_TIMEOUT)
        .await;
    drop(told);
    failpoint::hit_async("injector.after_report")
        .await
        .map_err(|error| error.to_string())?;
    let answer = answer.map_err(|error| {
        shared.lost(&error);
        chain(&error)
    })?;
    match answer {
        Body::Verdict(Verdict::Accepted { .. }) => {
            shared.heard();
            Ok(())
        }
        Body::Verdict(Verdict::Rejected { text, .. }) => {
            tracing::warn!({ names::REASON } = text, "report refused");
            shared.heard();
            Ok(())
        }
        Body::Failed { text, .. } => Err(text),
        _ => Err("the gateway answered something else than a verdict".to_owned()),
    }
}

fn span_of(shared: &Shared, above: Context) -> Span {
    Span::below(SERVICE, spans::SUBMIT, Kind::Client, Some(above))
        .with(spans::RPC_SYSTEM, spans::SYSTEM)
        .with(spans::RPC_METHOD, spans::SUBMIT)
        .with(spans::COMMAND, "report")
        .with(spans::HOST, shared.options.host_name.to_string())
}

#[cfg(test)]
mod tests;
