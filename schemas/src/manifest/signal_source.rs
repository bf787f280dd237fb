//! `kind: SignalSource`: who outside may say that something happened, in what form, and what is kept of it.
//!
//! Invariants: every form has a proof; a mapping is read here, so that the gateway never meets one it cannot
//! read; a key is only ever named by the file it is read from.

use std::collections::BTreeMap;

use keywheel_core::name::SignalSourceName;
use keywheel_core::signal::{Format, MAX_SIGNAL_FIELDS, Proof, Spec};

use super::notification::required_file;
use super::reader::{Faults, Fields, TextAt, named, open_fields};
use super::tree::Located;
use super::{Manifest, Position};
use crate::condition::mapping::Mapping;
use crate::near::nearest;

/// What a mapping calls the token that a signal reports: it is compared, and never kept.
pub const REPORTED_TOKEN: &str = "token";
/// Longest name of something that is kept, in bytes.
pub const MAX_FIELD_NAME_BYTES: usize = 64;

const FORMATS: [&str; 4] = ["cloudEvents", "githubAlert", "githubPartner", "webhook"];
const PROOFS: [&str; 3] = ["standardWebhooks", "hubSignature", "bearer"];

pub(super) fn read(
    name: Option<TextAt<'_>>,
    node: &Located,
    at: Position,
    faults: &mut Faults,
) -> Option<Manifest> {
    let name = name.and_then(|name| named(name, SignalSourceName::parse, faults));
    let known = ["format", "proof", "keyFile", "map", "letters"];
    let fields = Fields::of(node, "spec", &known, faults)?;
    let format = fields
        .required_text("format", faults)
        .and_then(|at| read_format(at, faults));
    let key_file = required_file(&fields, "keyFile", faults);
    let map = read_map(&fields, faults);
    let format = format?;
    let proof = read_proof(&fields, format, faults);
    let map = map.filter(|map| fits(&fields, format, map, faults));
    let has_token = map
        .as_ref()
        .is_some_and(|map| map.contains_key(REPORTED_TOKEN));
    let keeps_letters = read_letters(&fields, (format, has_token), faults);
    Some(Manifest::SignalSource {
        name: name?,
        spec: Spec {
            format,
            proof: proof?,
            key_file: key_file?,
            map: map?,
            keeps_letters: keeps_letters?,
        },
        position: at,
    })
}

fn read_format((text, at): TextAt<'_>, faults: &mut Faults) -> Option<Format> {
    Some(match text {
        "cloudEvents" => Format::CloudEvents,
        "githubAlert" => Format::GithubAlert,
        "githubPartner" => Format::GithubPartner,
        "webhook" => Format::Webhook,
        other => {
            let near = nearest(other, &FORMATS);
            let message = format!(
                "`{}` is no format of signals{near}; known are {}",
                crate::leaf::shorten(other),
                FORMATS.join(", ")
            );
            faults.add(at, message);
            return None;
        }
    })
}

/// GitHub proves itself in its own way; others do as is said, and as Standard Webhooks has it by default.
fn read_proof(fields: &Fields<'_>, format: Format, faults: &mut Faults) -> Option<Proof> {
    let own = match format {
        Format::GithubAlert => Some(Proof::HubSignature),
        Format::GithubPartner => Some(Proof::GithubPartner),
        Format::CloudEvents | Format::Webhook => None,
    };
    if fields.find("proof").is_none() {
        return Some(own.unwrap_or(Proof::StandardWebhooks));
    }
    let (text, at) = fields.text("proof", faults)?;
    if own.is_some() {
        let message = "`proof` says nothing here: GitHub signs in one way only; leave it out";
        faults.add(at, message.to_owned());
        return None;
    }
    Some(match text {
        "standardWebhooks" => Proof::StandardWebhooks,
        "hubSignature" => Proof::HubSignature,
        "bearer" => Proof::Bearer,
        other => {
            let near = nearest(other, &PROOFS);
            let message = format!(
                "`{}` is no proof of a sender{near}; known are {}",
                crate::leaf::shorten(other),
                PROOFS.join(", ")
            );
            faults.add(at, message);
            return None;
        }
    })
}

/// Nothing is kept of what cannot be read, unless a person says otherwise; of what holds a token, as GitHub's reports
/// do, nobody can.
fn read_letters(
    fields: &Fields<'_>,
    (format, has_token): (Format, bool),
    faults: &mut Faults,
) -> Option<bool> {
    if fields.find("letters").is_none() {
        return Some(false);
    }
    let (text, at) = fields.text("letters", faults)?;
    let message = match (text, format) {
        ("discard", _) => return Some(false),
        ("keep", Format::CloudEvents | Format::Webhook) if has_token => format!(
            "nothing is kept of what holds a token, and `map` names one as `{REPORTED_TOKEN}`; leave `letters` out"
        ),
        ("keep", Format::CloudEvents | Format::Webhook) => return Some(true),
        ("keep", _) => {
            "nothing is kept of what GitHub reports, which may hold a token; leave `letters` out"
                .to_owned()
        }
        (other, _) => format!(
            "`{}` is nothing that `letters` can say; known are keep, discard",
            crate::leaf::shorten(other)
        ),
    };
    faults.add(at, message);
    None
}

fn read_map(fields: &Fields<'_>, faults: &mut Faults) -> Option<BTreeMap<String, String>> {
    let mut map = BTreeMap::new();
    let Some(node) = fields.find("map") else {
        return Some(map);
    };
    let entries = open_fields(node, "map", faults)?;
    let mut is_whole = true;
    for ((name, name_at), (text, at)) in entries.texts(faults) {
        if !is_field(name) {
            let message = format!(
                "`{}` is no name for what is kept of a signal; use at most {MAX_FIELD_NAME_BYTES} lower-case letters, digits and `_`, with a letter first",
                crate::leaf::shorten(name)
            );
            faults.add(name_at, message);
            is_whole = false;
        } else if let Err(fault) = Mapping::parse(text) {
            faults.add(at, format!("`{name}`: {fault}"));
            is_whole = false;
        } else {
            map.insert(name.to_owned(), text.to_owned());
        }
    }
    is_whole.then_some(map)
}

fn is_field(name: &str) -> bool {
    let byte = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    name.len() <= MAX_FIELD_NAME_BYTES
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(byte)
}

/// Whether a mapping names what its format needs, and nothing that the format says itself.
fn fits(
    fields: &Fields<'_>,
    format: Format,
    map: &BTreeMap<String, String>,
    faults: &mut Faults,
) -> bool {
    let names = ["id", "type", "source", "subject"];
    let is_kept = |name: &str| name != REPORTED_TOKEN && !names.contains(&name);
    let own = map.keys().filter(|name| is_kept(name));
    let kept = own.count();
    let fault = match format {
        _ if kept > MAX_SIGNAL_FIELDS => {
            format!("`map` keeps more than the {MAX_SIGNAL_FIELDS} fields that a signal may have")
        }
        Format::Webhook if !map.contains_key("id") || !map.contains_key("type") => {
            "`map` has to say what names a signal: `id`, by which a repeat is known, and `type`, like `map: { id: body.incident.id, type: '\"com.example.leak\"' }`".to_owned()
        }
        Format::GithubAlert | Format::GithubPartner if !map.is_empty() => {
            "`map` says nothing here: what is kept of GitHub's signals is fixed, so that no token is".to_owned()
        }
        Format::CloudEvents if names.iter().any(|name| map.contains_key(*name)) => {
            "a CloudEvent names itself; `map` keeps parts of its data under other names than `id`, `type`, `source` and `subject`".to_owned()
        }
        _ => return true,
    };
    faults.add(fields.position_of("map"), fault);
    false
}
