//! Streams: events and audit records as lines of JSON, the audit's export, and the proof of one record.

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use keywheel_engine::port::PortError;
use keywheel_journal::merkle::{self, Hash};
use keywheel_schemas::api::{AuditExport, AuditProof, MAX_PAGE};
use serde::Deserialize;

use super::{Api, Failure};

/// Which part of a stream.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    /// Start after this event number, or from this audit index.
    after: Option<u64>,
    /// At most so many; without it all there are.
    limit: Option<u64>,
    /// Stay and send what comes.
    #[serde(default)]
    follow: bool,
}

/// Where a stream stands.
struct Cursor {
    api: Api,
    next: u64,
    left: u64,
    follow: bool,
    bell: tokio::sync::watch::Receiver<u64>,
    of: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Events,
    Audit,
}

impl Cursor {
    async fn page(&mut self) -> Result<Vec<u8>, PortError> {
        let limit = usize::try_from(self.left).unwrap_or(MAX_PAGE).min(MAX_PAGE);
        let mut lines = Vec::new();
        let mut sent = 0;
        let mut push = |bytes: &[u8]| {
            lines.extend_from_slice(bytes);
            lines.push(b'\n');
            sent += 1;
        };
        match self.of {
            Kind::Events => {
                for event in self.api.journal.read(self.next, limit).await? {
                    self.next = event.number;
                    push(&event.bytes);
                }
            }
            Kind::Audit => {
                for leaf in self.api.journal.read_audit(self.next, limit).await? {
                    self.next = leaf.index + 1;
                    push(&leaf.bytes);
                }
            }
        }
        self.left = self.left.saturating_sub(sent);
        Ok(lines)
    }

    async fn next_chunk(mut self) -> Option<(Result<Bytes, PortError>, Self)> {
        loop {
            if self.left == 0 {
                return None;
            }
            self.bell.borrow_and_update();
            match self.page().await {
                Ok(lines) if !lines.is_empty() => return Some((Ok(Bytes::from(lines)), self)),
                Ok(_) if self.follow => self.bell.changed().await.ok()?,
                Ok(_) => return None,
                Err(error) => {
                    self.left = 0;
                    return Some((Err(error), self));
                }
            }
        }
    }
}

fn answer(api: Api, page: &Page, of: Kind) -> Response {
    let bell = api.view.bell();
    let cursor = Cursor {
        api,
        next: page.after.unwrap_or(0),
        left: page.limit.unwrap_or(u64::MAX),
        follow: page.follow,
        bell,
        of,
    };
    let body = Body::from_stream(stream::unfold(cursor, Cursor::next_chunk));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], body).into_response()
}

pub(super) async fn events(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Failure> {
    Ok(answer(api, &page?.0, Kind::Events))
}

pub(super) async fn audit(
    State(api): State<Api>,
    page: Result<Query<Page>, QueryRejection>,
) -> Result<Response, Failure> {
    Ok(answer(api, &page?.0, Kind::Audit))
}

fn hexadecimal(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) async fn proof(
    State(api): State<Api>,
    Path(index): Path<String>,
) -> Result<Json<AuditProof>, Failure> {
    let index: u64 = index.parse().map_err(|_| {
        Failure::invalid(format!(
            "`{index}` is not the number of an audit record; the first is 0"
        ))
    })?;
    let head = api.journal.head().await?;
    let unknown = || {
        Failure::not_found(format!(
            "there is no audit record {index}: there are {}, and the first is 0",
            head.audit_size
        ))
    };
    if index >= head.audit_size {
        return Err(unknown());
    }
    let leaf = api.journal.read_audit(index, 1).await?.into_iter().next();
    let leaf = leaf.ok_or_else(unknown)?;
    let path = api.journal.inclusion_proof(index, head.audit_size).await?;
    Ok(Json(AuditProof {
        origin: api.origin.clone(),
        public_key: STANDARD.encode(api.public_key),
        checkpoint: head.checkpoint,
        index,
        record: String::from_utf8_lossy(&leaf.bytes).into_owned(),
        path: path.iter().map(hexadecimal).collect(),
    }))
}

pub(super) async fn export(State(api): State<Api>) -> Result<Json<AuditExport>, Failure> {
    let head = api.journal.head().await?;
    let (mut records, mut leaf_hashes) = (Vec::new(), Vec::new());
    let mut next = 0;
    while next < head.audit_size {
        let left = usize::try_from(head.audit_size - next).unwrap_or(MAX_PAGE);
        let leaves = api.journal.read_audit(next, left.min(MAX_PAGE)).await?;
        if leaves.is_empty() {
            break;
        }
        for leaf in leaves {
            next = leaf.index + 1;
            let hash = merkle::leaf_hash(&leaf.bytes);
            leaf_hashes.push(hexadecimal(&hash));
            records.push(String::from_utf8_lossy(&leaf.bytes).into_owned());
        }
    }
    Ok(Json(AuditExport {
        origin: api.origin.clone(),
        public_key: STANDARD.encode(api.public_key),
        checkpoint: head.checkpoint,
        records,
        leaf_hashes,
    }))
}
