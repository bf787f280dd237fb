//! Streams: events as lines of JSON or as server-sent events, audit records as lines, and the proof of one record.

mod filter;
mod records;

use std::time::Duration;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::stream;
use keywheel_engine::port::PortError;
use keywheel_engine::port::journal::{AuditLeaf, RecordedEvent};
use keywheel_journal::merkle::Hash;
use keywheel_schemas::api::{AUDIT_BEGINS, AuditProof, MAX_PAGE};
use keywheel_schemas::event;
use keywheel_schemas::wire::audit_record_from_json;
use serde::Deserialize;

use filter::Filter;
pub(super) use filter::read_time;
use records::{Asked, Wanted};

use super::retention::gone;
use super::scans::Taken;
use super::subscriptions::{head, is_there};
use super::{Api, Failure, Named, subscriptions};

/// After so long without an event a stream of server-sent events says that it is there.
pub const KEEP_ALIVE_AFTER: Duration = Duration::from_secs(15);
pub(super) const FRAMES: &str = "text/event-stream";
pub(super) const LINES: &str = "application/x-ndjson";

/// Which part of the audit.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditQuery {
    /// Start from this index.
    after: Option<u64>,
    /// At most so many; without it all there are.
    limit: Option<u64>,
    /// Stay and send what comes.
    #[serde(default)]
    follow: bool,
    /// Send the number of each record with it.
    #[serde(default)]
    numbered: bool,
    who: Option<String>,
    verb: Option<String>,
    object: Option<String>,
    container: Option<String>,
    outcome: Option<String>,
    policy: Option<String>,
    since: Option<String>,
    until: Option<String>,
    rotation: Option<String>,
    revocation: Option<String>,
    run: Option<String>,
    trace: Option<String>,
}

/// Which events.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EventsQuery {
    /// Start after this event number.
    after: Option<u64>,
    /// At most so many; without it all there are.
    limit: Option<u64>,
    /// Stay and send what comes.
    #[serde(default)]
    follow: bool,
    /// A type, or the beginning of one up to a dot.
    #[serde(rename = "type")]
    kind: Option<String>,
    /// A subject.
    subject: Option<String>,
    /// A secret by name.
    secret: Option<String>,
    /// RFC 3339.
    since: Option<String>,
    /// A subscription: begin after what it acknowledged.
    subscription: Option<String>,
}

/// Where a stream stands.
struct Cursor {
    api: Api,
    next: u64,
    left: u64,
    follow: bool,
    bell: tokio::sync::watch::Receiver<u64>,
    of: Kind,
    /// When something was said last, by the monotonic clock.
    said: Duration,
    /// Whether it is filtered and has not come to the head yet.
    scans: bool,
    /// Its place among those that scan, while it does.
    place: Option<Taken>,
}

enum Kind {
    Events {
        filter: Filter,
        form: Form,
    },
    Audit {
        wanted: Option<Wanted>,
        is_numbered: bool,
    },
}

/// How an event is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// One a line.
    Lines,
    /// Server-sent events.
    Frames,
}

/// What one look found.
struct Found {
    bytes: Vec<u8>,
    rows: u64,
    /// Whether there was anything to read, wanted or not.
    is_more: bool,
}

fn write(form: Form, event: &RecordedEvent, into: &mut Vec<u8>) {
    match form {
        Form::Lines => {
            into.extend_from_slice(&event.bytes);
            into.push(b'\n');
        }
        Form::Frames => {
            let name = event::type_name(&event.event);
            into.extend_from_slice(
                format!("id: {}\nevent: {name}\ndata: ", event.number).as_bytes(),
            );
            // Canonical JSON has no line break in it.
            into.extend_from_slice(&event.bytes);
            into.extend_from_slice(b"\n\n");
        }
    }
}

/// A record as it is, or behind its number. It is JSON of one line, so it stands there byte by byte.
fn write_record(is_numbered: bool, leaf: &AuditLeaf, into: &mut Vec<u8>) {
    if is_numbered {
        into.extend_from_slice(format!("{{\"index\":{},\"record\":", leaf.index).as_bytes());
    }
    into.extend_from_slice(&leaf.bytes);
    into.extend_from_slice(if is_numbered { b"}\n" } else { b"\n" });
}

impl Cursor {
    async fn look(&mut self) -> Result<Found, PortError> {
        let mut found = Found {
            bytes: Vec::new(),
            rows: 0,
            is_more: false,
        };
        match &mut self.of {
            Kind::Events { filter, form } => {
                let page = self.api.journal.read(self.next, MAX_PAGE).await?;
                let committed = self.api.view.read();
                for event in page {
                    if found.rows == self.left {
                        break;
                    }
                    self.next = event.number;
                    found.is_more = true;
                    if filter.wants(&committed.world, &event) {
                        write(*form, &event, &mut found.bytes);
                        found.rows += 1;
                    }
                }
            }
            Kind::Audit {
                wanted,
                is_numbered,
            } => {
                let limit = match wanted {
                    Some(_) => MAX_PAGE,
                    None => usize::try_from(self.left).unwrap_or(MAX_PAGE).min(MAX_PAGE),
                };
                for leaf in self.api.journal.read_audit(self.next, limit).await? {
                    if found.rows == self.left {
                        break;
                    }
                    self.next = leaf.index + 1;
                    found.is_more = true;
                    if is_wanted(wanted.as_ref(), &leaf) {
                        write_record(*is_numbered, &leaf, &mut found.bytes);
                        found.rows += 1;
                    }
                }
            }
        }
        self.left = self.left.saturating_sub(found.rows);
        Ok(found)
    }

    async fn next_chunk(mut self) -> Option<(Result<Bytes, PortError>, Self)> {
        if self.scans && self.place.is_none() {
            self.place = self.api.scans.next_scan().await;
        }
        let chunk = self.chunk().await?;
        // Whoever reads slowly keeps nobody from a place.
        self.place = None;
        Some((chunk, self))
    }

    async fn chunk(&mut self) -> Option<Result<Bytes, PortError>> {
        loop {
            if self.left == 0 {
                return None;
            }
            self.bell.borrow_and_update();
            match self.look().await {
                Ok(found) if found.rows > 0 => {
                    self.said = self.api.clock.monotonic();
                    return Some(Ok(Bytes::from(found.bytes)));
                }
                Ok(found) if found.is_more => {
                    if self.is_framed() && self.patience().is_zero() {
                        return Some(Ok(self.bookmark()));
                    }
                }
                Ok(_) if self.follow => {
                    self.scans = false;
                    self.place = None;
                    match self.wait().await? {
                        Waited::Rang => {}
                        Waited::Quiet => return Some(Ok(self.bookmark())),
                    }
                }
                Ok(_) => return None,
                Err(error) => {
                    self.left = 0;
                    return Some(Err(error));
                }
            }
        }
    }

    const fn is_framed(&self) -> bool {
        matches!(
            self.of,
            Kind::Events {
                form: Form::Frames,
                ..
            }
        )
    }

    /// How long nothing more may be said.
    fn patience(&self) -> Duration {
        let silent = self.api.clock.monotonic().saturating_sub(self.said);
        KEEP_ALIVE_AFTER.saturating_sub(silent)
    }

    /// Says that the stream is there, and how far it read: an id without data is no event to a client,
    /// which comes back with it all the same. So one behind a filter resumes where it was.
    fn bookmark(&mut self) -> Bytes {
        self.said = self.api.clock.monotonic();
        Bytes::from(format!("id: {}\n: here\n\n", self.next))
    }

    /// Waits for the bell; server-sent events say something from time to time, so that whoever stands
    /// between does not close a quiet connection, however often the bell rings for what is not wanted.
    async fn wait(&mut self) -> Option<Waited> {
        let (is_framed, patience) = (self.is_framed(), self.patience());
        let rings = self.bell.changed();
        if !is_framed {
            return rings.await.ok().map(|()| Waited::Rang);
        }
        match tokio::time::timeout(patience, rings).await {
            Ok(rang) => rang.ok().map(|()| Waited::Rang),
            Err(_) => Some(Waited::Quiet),
        }
    }
}

enum Waited {
    Rang,
    Quiet,
}

fn answer(cursor: Cursor, kind: &'static str) -> Response {
    let body = Body::from_stream(stream::unfold(cursor, Cursor::next_chunk));
    let headers = [
        (header::CONTENT_TYPE, kind),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (headers, body).into_response()
}

pub(super) async fn events(
    State(api): State<Api>,
    headers: HeaderMap,
    query: Result<Query<EventsQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    let form = match accepts_frames(&headers) {
        true => Form::Frames,
        false => Form::Lines,
    };
    let filter = Filter::new(
        &api.view.read().world,
        query.kind,
        query.subject,
        query.secret.as_deref(),
        query.since.as_deref(),
    )?;
    let after = match last_event_id(&headers)? {
        Some(last) if form == Form::Frames => last,
        _ => query.after.unwrap_or(0),
    };
    let after = is_there(after, head(&api).await?)?;
    let after = match query.subscription {
        Some(name) => after.max(subscriptions::find(&api, &name).await?.acknowledged),
        None => after,
    };
    let scans = !filter.is_all();
    // A browser takes any other answer than the stream for its end; it waits for its place in it.
    let asks = scans && form == Form::Lines;
    let place = asks.then(|| api.scans.scan()).transpose()?;
    let (bell, said) = (api.view.bell(), api.clock.monotonic());
    let cursor = Cursor {
        api,
        next: after,
        left: query.limit.unwrap_or(u64::MAX),
        // A browser that is told the end comes again at once.
        follow: query.follow || form == Form::Frames,
        bell,
        of: Kind::Events { filter, form },
        said,
        scans,
        place,
    };
    Ok(answer(
        cursor,
        match form {
            Form::Frames => FRAMES,
            Form::Lines => LINES,
        },
    ))
}

fn accepts_frames(headers: &HeaderMap) -> bool {
    let accepted = headers.get(header::ACCEPT).and_then(|it| it.to_str().ok());
    accepted.is_some_and(|accepted| {
        let mut kinds = accepted.split(',');
        kinds.any(|kind| kind.split(';').next().map(str::trim) == Some(FRAMES))
    })
}

/// Where a client that comes back goes on.
fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Failure> {
    let Some(last) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let number = last.to_str().ok().and_then(|last| last.parse().ok());
    number.map(Some).ok_or_else(|| {
        Failure::invalid("the header `Last-Event-ID` is not the number of an event; send the `id` of the last one you had, or leave it out")
    })
}

pub(super) async fn audit(
    State(api): State<Api>,
    query: Result<Query<AuditQuery>, QueryRejection>,
) -> Result<Response, Failure> {
    let Query(query) = query?;
    let asked = Asked {
        who: query.who,
        verb: query.verb,
        object: query.object,
        container: query.container,
        outcome: query.outcome,
        policy: query.policy,
        since: query.since,
        until: query.until,
        rotation: query.rotation,
        revocation: query.revocation,
        run: query.run,
        trace: query.trace,
    };
    let wanted = Wanted::new(&api.view.read(), asked)?;
    let scans = wanted.is_some();
    let place = scans.then(|| api.scans.scan()).transpose()?;
    let (bell, said) = (api.view.bell(), api.clock.monotonic());
    let begins = api.journal.audit_begins().await?;
    let cursor = Cursor {
        api,
        next: query.after.unwrap_or(0),
        left: query.limit.unwrap_or(u64::MAX),
        follow: query.follow,
        bell,
        of: Kind::Audit {
            wanted,
            is_numbered: query.numbered,
        },
        said,
        scans,
        place,
    };
    let mut response = answer(cursor, LINES);
    if begins > 0 {
        let begins = HeaderValue::from(begins);
        response.headers_mut().insert(AUDIT_BEGINS, begins);
    }
    Ok(response)
}

/// Whether a record is wanted; one that this build cannot read fits no filter.
fn is_wanted(wanted: Option<&Wanted>, leaf: &AuditLeaf) -> bool {
    wanted.is_none_or(|wanted| {
        audit_record_from_json(&leaf.bytes).is_ok_and(|record| wanted.wants(&record))
    })
}

pub(super) fn hexadecimal(hash: &Hash) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(super) async fn proof(
    State(api): State<Api>,
    Named(index): Named,
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
    if leaf.index != index {
        return Err(Failure::not_found(gone(index, leaf.index)));
    }
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
