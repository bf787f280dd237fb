//! Bus and journal as the gateway of this program sees them, for `keywheel status`.

use std::sync::Arc;
use std::time::Duration;

use keywheel_bus::RefusalCounts;
use keywheel_engine::port::PortError;
use keywheel_engine::presence::Fact;
use keywheel_gateway::views::status::Part;
use keywheel_journal::{RESERVE_BYTES, RESTORE_HEADROOM, SqliteJournal};
use keywheel_schemas::api::ComponentKind;
use tokio_util::sync::CancellationToken;

/// How often a full disk is asked whether there is room again.
const RESTORE_INTERVAL: Duration = Duration::from_secs(10);

/// A journal in a file.
pub(crate) fn sqlite(journal: &SqliteJournal) -> Part {
    Part {
        kind: ComponentKind::Journal,
        name: "SQLite".to_owned(),
        version: None,
        facts: vec![disk_reserve(journal.is_reserve_in_use())],
    }
}

/// A journal on a server.
pub(crate) fn postgres(url: &str) -> Part {
    // A URL of the configuration holds no password.
    let note = format!("{url}; every gateway appends to it");
    Part {
        kind: ComponentKind::Journal,
        name: "PostgreSQL".to_owned(),
        version: None,
        facts: vec![Fact::ok("database", note)],
    }
}

/// The bus inside one process.
pub(crate) fn in_process(refused: &RefusalCounts) -> Part {
    Part {
        kind: ComponentKind::Bus,
        name: "in one process".to_owned(),
        version: None,
        facts: vec![refusals(refused)],
    }
}

/// What receivers dropped; every sort is somebody's mistake, or an attack.
pub(crate) fn refusals(counts: &RefusalCounts) -> Fact {
    if counts.total() == 0 {
        return Fact::ok("refusals", "no message was refused");
    }
    let named = [
        (counts.forged, "without a trusted signature"),
        (counts.not_permitted, "of who may not send it"),
        (counts.wrong_receiver, "for another receiver"),
        (counts.replayed, "sent again"),
        (counts.stale, "of another time"),
        (counts.malformed, "unreadable"),
        (counts.too_large, "too large"),
    ];
    let words = named.iter().filter(|(count, _)| *count > 0);
    let words: Vec<String> = words
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let note = format!(
        "messages were refused since the start: {}",
        words.join(", ")
    );
    let next = "the gateway's log has each reason with its subject; `of another time` is mostly a wrong clock";
    Fact::warning("refusals", note, next)
}

/// Takes the journal's reserve again when there is room, until told to stop.
pub(crate) async fn restore(
    journal: Arc<SqliteJournal>,
    shutdown: CancellationToken,
) -> Result<(), PortError> {
    loop {
        journal.restore_reserve().await;
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(RESTORE_INTERVAL) => {}
        }
    }
}

/// Room that is kept for revocations and audit records on a full disk (rule E9).
fn disk_reserve(in_use: bool) -> Fact {
    let mib = |bytes: u64| bytes >> 20;
    if !in_use {
        let kept = mib(RESERVE_BYTES);
        let note = format!("{kept} MiB are kept for revocations and audit records on a full disk");
        return Fact::ok("disk reserve", note);
    }
    let note = "the disk of the data directory is full and its reserve in use: new work is refused, revocations and audit records are kept";
    let wanted = mib(RESERVE_BYTES + RESTORE_HEADROOM);
    Fact::problem("disk reserve", note, format!("free {wanted} MiB"))
}

#[cfg(test)]
mod tests {
    use keywheel_engine::presence::Health;

    use super::*;

    #[test]
    fn a_reserve_in_use_is_told_with_the_next_step() {
        let whole = disk_reserve(false);
        assert_eq!(whole.health, Health::Ok);
        assert!(whole.note.starts_with("32 MiB are kept"), "{}", whole.note);
        let used = disk_reserve(true);
        assert_eq!(used.health, Health::Problem);
        assert_eq!(used.next.as_deref(), Some("free 40 MiB"));
    }

    #[test]
    fn refusals_are_named_by_sort() {
        let mut counts = RefusalCounts::default();
        assert_eq!(refusals(&counts).health, Health::Ok);
        (counts.stale, counts.forged) = (3, 1);
        let fact = refusals(&counts);
        assert_eq!(fact.health, Health::Warning);
        assert!(
            fact.note
                .contains("1 without a trusted signature, 3 of another time")
        );
    }
}
