//! `events list|tail` and `audit list|tail`: as JSON an array or one object a line, as text one line each.

use keywheel_schemas::api::Status;

use super::Desk;
use crate::args::PageArgs;
use crate::client::Lines;
use crate::exit::{Exit, Failure};
use crate::output::{Screen, records};

/// How many of the latest `list` shows unless asked otherwise.
pub(crate) const LIST_ROWS: u64 = 1000;
/// How many of the latest `tail` begins with.
pub(crate) const TAIL_ROWS: u64 = 10;
/// Output is written in pieces of about so many bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// A stream of the daemon.
pub(super) struct Source {
    path: &'static str,
    name: &'static str,
    words: fn(&[u8]) -> String,
    total: fn(&Status) -> u64,
}

/// Events of the journal.
pub(super) const EVENTS: Source = Source {
    path: "/v1/events",
    name: "events",
    words: records::event,
    total: |status| status.events,
};
/// Records of the audit.
pub(super) const AUDIT: Source = Source {
    path: "/v1/audit",
    name: "audit records",
    words: records::audit,
    total: |status| status.audit_records,
};

/// Where to begin: as asked, or so that the latest `rows` come.
async fn beginning(
    desk: &Desk,
    source: &Source,
    page: &PageArgs,
    rows: u64,
) -> Result<u64, Failure> {
    if let Some(after) = page.after {
        return Ok(after);
    }
    let status: Status = desk.client.read("/v1/status").await?;
    Ok((source.total)(&status).saturating_sub(rows))
}

pub(super) async fn list(desk: &Desk, source: &Source, page: &PageArgs) -> Result<(), Failure> {
    let rows = page.limit.unwrap_or(LIST_ROWS);
    let after = beginning(desk, source, page, rows).await?;
    let lines = desk
        .client
        .lines(&format!("{}?after={after}&limit={rows}", source.path))
        .await?;
    let shown = if desk.screen.is_json() {
        array(desk.screen, lines).await?
    } else {
        text(desk.screen, source, lines).await?
    };
    if page.after.is_none() && page.limit.is_none() && after > 0 {
        desk.screen.note(&format!(
            "these are the latest {shown} {}; {after} older ones: --after 0 --limit N begins with the first",
            source.name
        ));
    }
    Ok(())
}

async fn text(screen: Screen, source: &Source, mut lines: Lines) -> Result<u64, Failure> {
    let (mut piece, mut shown) = (String::new(), 0);
    while let Some(line) = lines.next().await? {
        piece.push_str(&(source.words)(&line));
        piece.push('\n');
        shown += 1;
        if piece.len() >= PIECE_BYTES {
            screen.write(piece.as_bytes())?;
            piece.clear();
        }
    }
    screen.write(piece.as_bytes())?;
    Ok(shown)
}

async fn array(screen: Screen, mut lines: Lines) -> Result<u64, Failure> {
    let (mut piece, mut shown) = (b"[".to_vec(), 0);
    while let Some(line) = lines.next().await? {
        piece.extend_from_slice(if shown == 0 { b"\n" } else { b",\n" });
        piece.extend_from_slice(&line);
        shown += 1;
        if piece.len() >= PIECE_BYTES {
            screen.write(&piece)?;
            piece.clear();
        }
    }
    piece.extend_from_slice(b"\n]\n");
    screen.write(&piece)?;
    Ok(shown)
}

pub(super) async fn tail(desk: &Desk, source: &Source, page: &PageArgs) -> Result<(), Failure> {
    let after = beginning(desk, source, page, TAIL_ROWS).await?;
    let limit = page
        .limit
        .map(|limit| format!("&limit={limit}"))
        .unwrap_or_default();
    let mut lines = desk
        .client
        .lines(&format!("{}?after={after}&follow=true{limit}", source.path))
        .await?;
    let mut shown = 0;
    while let Some(line) = lines.next().await? {
        shown += 1;
        if desk.screen.is_json() {
            desk.screen.write(&[line.as_slice(), b"\n"].concat())?;
        } else {
            desk.screen
                .write(format!("{}\n", (source.words)(&line)).as_bytes())?;
        }
    }
    if page.limit.is_some_and(|limit| shown >= limit) {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Unavailable,
        "the stream ended: keywheel stopped",
        format!("when it is up again, go on with --after {}", after + shown),
    ))
}
