//! `probe` of `rotator: { type: dynamic }`: the server at which the logins that a store makes are tried.
//!
//! No text of a fault quotes a connection: a login that somebody wrote into it may hold a password.

use keywheel_core::resource::{Kind, MAX_CONNECTION_BYTES, Probe};

use super::reader::{Faults, Fields};
use super::rotator::{is_printable, schemes};
use super::store::path;

const FIELDS: [&str; 3] = ["type", "connection", "caFile"];

/// The server, if the rotator names one.
pub(super) fn read(rotator: &Fields<'_>, faults: &mut Faults) -> Option<Box<Probe>> {
    let node = rotator.find("probe")?;
    let fields = Fields::of(node, "probe", &FIELDS, faults)?;
    let kind = read_kind(&fields, faults);
    let ca = fields
        .find("caFile")
        .and_then(|_| path(&fields, "caFile", faults));
    let connection = read_connection(&fields, kind?, faults)?;
    Some(Box::new(Probe {
        kind: kind?,
        connection,
        ca,
    }))
}

fn read_kind(fields: &Fields<'_>, faults: &mut Faults) -> Option<Kind> {
    let (word, at) = fields.required_text("type", faults)?;
    // A receiver of somebody's own takes no login.
    let kind = Kind::of(word).filter(|kind| *kind != Kind::Webhook);
    if kind.is_none() {
        let found = crate::leaf::shorten(word);
        let message =
            format!("probe type `{found}` is not known; write `postgres`, `mariadb` or `redis`");
        faults.add(at, message);
    }
    kind
}

fn read_connection(fields: &Fields<'_>, kind: Kind, faults: &mut Faults) -> Option<String> {
    let (text, at) = fields.required_text("connection", faults)?;
    match connection_fault(text, kind) {
        None => Some(text.to_owned()),
        Some(fault) => {
            faults.add(at, format!("`connection` {fault}"));
            None
        }
    }
}

fn connection_fault(text: &str, kind: Kind) -> Option<String> {
    if text.len() > MAX_CONNECTION_BYTES {
        return Some(format!("has more than {MAX_CONNECTION_BYTES} bytes"));
    }
    let schemes = schemes(kind);
    let like = format!(
        "has to be like `{}://db.example:5432/shop`",
        schemes.first().copied().unwrap_or_default()
    );
    let Some((scheme, rest)) = text.split_once("://") else {
        return Some(like);
    };
    let (host, database) = rest.split_once('/').unwrap_or((rest, ""));
    if host.contains('@') {
        let fault = "names a login; leave it out: each login that the store makes is tried";
        return Some(fault.to_owned());
    }
    let is_plain = !rest.contains(['?', '#', ' ', '@']) && is_printable(rest);
    // PostgreSQL looks at the password before the database, and lets nobody in without one.
    let is_whole = !host.is_empty() && (kind != Kind::Postgres || !database.is_empty());
    (!schemes.contains(&scheme) || !is_plain || !is_whole).then_some(like)
}
