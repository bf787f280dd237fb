//! `kind: Secret`.

use std::collections::BTreeSet;

use keywheel_core::name::{SecretName, StoreName};
use keywheel_core::resource::{Kind, MAX_CONNECTION_BYTES, Resource};
use keywheel_core::secret::{
    DEFAULT_ALPHABET, Generator, LOCAL_STORE, MAX_ALPHABET, MAX_LENGTH, MIN_LENGTH, Place, Spec,
    Store,
};

use super::reader::{Faults, Fields, TextAt, named};
use super::rotator;
use super::store::{read_source, server};
use super::tree::{Located, Node};
use super::{CheckSchedule, Manifest, Position, canary, dynamic, rotation};

pub(super) fn read(
    name: Option<TextAt<'_>>,
    node: &Located,
    at: Position,
    check: CheckSchedule<'_>,
    faults: &mut Faults,
) -> Option<Manifest> {
    let name = name.and_then(|name| named(name, SecretName::parse, faults));
    let fields = Fields::of(
        node,
        "spec",
        &[
            "store",
            "source",
            "generator",
            "rotation",
            "credentialFor",
            "rotator",
        ],
        faults,
    )?;
    if dynamic::is_meant(&fields) {
        let spec = dynamic::read(&fields, faults);
        return Some(Manifest::Secret {
            name: name?,
            spec: spec?,
            position: at,
        });
    }
    let store = read_store(&fields, faults);
    let generator = fields
        .find("generator")
        .and_then(|node| read_generator(node, faults));
    let rotation = fields
        .find("rotation")
        .and_then(|node| rotation::read(node, name.as_ref(), check, faults));
    let rotation = rotation.unwrap_or_default();
    let credential_for = read_credential_for(&fields, faults);
    if rotation.is_automatic() && fields.find("generator").is_none() {
        let message = "`rotation` needs a `generator` to make values from; add `generator: {}`, or leave `rotation` out and give values with `keywheel secret put`";
        faults.add(fields.position_of("rotation"), message.to_owned());
    }
    let has_rotator = fields.find("rotator").is_some();
    let rotator = read_rotator(&fields, store.as_ref(), faults);
    if has_rotator && rotator.is_none() {
        return None;
    }
    let spec = Spec {
        store: store?,
        generator,
        rotation,
        credential_for,
        rotator,
        lease: None,
    };
    canary::refuse(&fields, &spec, faults);
    Some(Manifest::Secret {
        name: name?,
        spec,
        position: at,
    })
}

/// The resource whose accounts it opens; the value is ours to make, and may lie at a store, too.
fn read_rotator(
    fields: &Fields<'_>,
    store: Option<&Store>,
    faults: &mut Faults,
) -> Option<Box<Resource>> {
    let found = rotator::read(fields, faults)?;
    let is_elsewhere = store.is_some_and(|store| *store != Store::Local);
    if is_elsewhere && found.kind == Kind::Webhook {
        let message = "`store` does not go with `rotator: { type: webhook }`: what a receiver makes is kept in `local`; leave `store` out";
        faults.add(fields.position_of("rotator"), message.to_owned());
    }
    if fields.has("credentialFor") {
        let message = "`credentialFor` does not go with `rotator`: a credential of Keywheel's own is provided; leave `credentialFor` out";
        faults.add(fields.position_of("rotator"), message.to_owned());
    }
    Some(found)
}

/// The server for which it is a credential of ours; such a secret is provided, and ours to keep.
fn read_credential_for(fields: &Fields<'_>, faults: &mut Faults) -> Option<String> {
    let at = fields.position_of("credentialFor");
    let found = match fields.find("credentialFor").map(|node| &node.value) {
        Some(Node::Text(text)) => match resource_server(text) {
            Some(found) => found,
            None => server(fields, "credentialFor", faults)?,
        },
        _ => server(fields, "credentialFor", faults)?,
    };
    for other in ["store", "generator"] {
        if fields.has(other) {
            let message = format!(
                "`{other}` does not go with `credentialFor`: a store's credential is made at the store and kept in `local`; leave `{other}` out"
            );
            faults.add(at, message);
        }
    }
    Some(found)
}

/// A server with accounts, like `postgres://db.example:5432`, in the way in which servers are compared.
fn resource_server(text: &str) -> Option<String> {
    let (scheme, host) = text.split_once("://")?;
    let is_plain = !host.is_empty() && !host.contains(['@', '/', '?', '#', ' ']);
    let is_fit = is_plain && rotator::is_printable(host) && text.len() <= MAX_CONNECTION_BYTES;
    let kind = Kind::of(scheme).filter(|_| is_fit)?;
    Some(format!("{scheme}://{}", kind.server(host)))
}

/// `local`, or a declared store with the place in it; whether it is declared is not known here.
fn read_store(fields: &Fields<'_>, faults: &mut Faults) -> Option<Store> {
    let store = match fields.find("store") {
        Some(_) => fields.named("store", StoreName::parse, faults)?,
        None => StoreName::local(),
    };
    let source = read_source(fields, faults);
    if store.as_str() == LOCAL_STORE {
        if fields.has("source") {
            let message = "`source` says nothing in the store `local`; name a declared store with `store`, or leave `source` out";
            faults.add(fields.position_of("source"), message.to_owned());
        }
        return Some(Store::Local);
    }
    if fields.find("source").is_none() {
        let message = format!(
            "`source` is missing in spec: where in store `{store}` does it lie? Write for example `source: {{ path: payments/db, field: password }}`, or leave `store` out for the store `local`"
        );
        faults.add(fields.position_of("store"), message);
    }
    let source = source?;
    Some(Store::Outside(Place { store, source }))
}

fn read_generator(node: &Located, faults: &mut Faults) -> Option<Generator> {
    let fields = Fields::of(
        node,
        "generator",
        &["length", "alphabet", "exclude"],
        faults,
    )?;
    let length = fields.number("length", MIN_LENGTH, MAX_LENGTH, faults);
    let alphabet = characters(&fields, "alphabet", faults);
    let exclude = characters(&fields, "exclude", faults);
    if let Some((alphabet, at)) = &alphabet
        && alphabet.is_empty()
    {
        faults.add(
            *at,
            "`alphabet` is empty; leave it out for the default one".to_owned(),
        );
    }
    let (alphabet, exclude) = (text(alphabet), text(exclude));
    let source = if alphabet.is_empty() {
        DEFAULT_ALPHABET
    } else {
        &alphabet
    };
    if source.chars().all(|c| exclude.contains(c)) && !source.is_empty() {
        let message =
            "`exclude` leaves no character to draw from; exclude fewer, or name more in `alphabet`";
        faults.add(fields.position_of("exclude"), message.to_owned());
    }
    let default = Generator::default();
    Some(Generator {
        length: length.unwrap_or(default.length),
        alphabet,
        exclude,
    })
}

fn text(found: Option<(String, Position)>) -> String {
    found.map(|(text, _)| text).unwrap_or_default()
}

fn characters(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<(String, Position)> {
    let (text, at) = fields.text(name, faults)?;
    let different: BTreeSet<char> = text.chars().collect();
    if text.chars().count() > MAX_ALPHABET {
        faults.add(
            at,
            format!("`{name}` has more than {MAX_ALPHABET} characters; name each once"),
        );
    }
    if different.iter().any(|c| c.is_control()) {
        faults.add(
            at,
            format!("`{name}` holds a control character; name only printable ones"),
        );
    }
    Some((text.to_owned(), at))
}
