//! `rotator: { type: dynamic }` of a `kind: Secret`: a role of a store that makes a login for each container.

use keywheel_core::lease::{DEFAULT_LINGER, Lease, MAX_LINGER, MIN_LINGER};
use keywheel_core::name::StoreName;
use keywheel_core::schedule::RotationPolicy;
use keywheel_core::secret::{LOCAL_STORE, Place, Spec, Store};
use keywheel_core::store::{MAX_STORE_TEXT_BYTES, Source};

use super::reader::{Faults, Fields, open_fields};
use super::tree::{Node, position};
use super::{probe, rotation};
use crate::leaf::shorten;

/// The word that says so.
const DYNAMIC: &str = "dynamic";
const FIELDS: [&str; 5] = ["type", "store", "role", "linger", "probe"];
/// What says nothing beside it: its store makes the values, and a container's lease is its own.
const OTHERS: [&str; 4] = ["store", "source", "generator", "credentialFor"];
/// What `rotation` may say beside it: a lease's own time says when another one is made.
const ACK: &str = "ack";

/// Whether a secret's rotator is of this type.
pub(super) fn is_meant(fields: &Fields<'_>) -> bool {
    let Some(Node::Map(entries)) = fields.find("rotator").map(|node| &node.value) else {
        return false;
    };
    let mut kinds = entries.iter().filter(|(key, _)| key.value == "type");
    kinds.any(|(_, node)| matches!(&node.value, Node::Text(word) if word == DYNAMIC))
}

/// The secret, as it is declared then.
pub(super) fn read(fields: &Fields<'_>, faults: &mut Faults) -> Option<Spec> {
    for other in OTHERS {
        if fields.has(other) {
            let message = format!(
                "`{other}` does not go with `rotator: {{ type: dynamic }}`: the store that `rotator.store` names makes a login for each container; leave `{other}` out"
            );
            faults.add(fields.position_of(other), message);
        }
    }
    let node = fields.find("rotator")?;
    let rotator = Fields::of(node, "rotator", &FIELDS, faults)?;
    let store = rotator
        .required("store", faults)
        .and_then(|_| rotator.named("store", StoreName::parse, faults));
    let role = read_role(&rotator, faults);
    let linger = rotator.span("linger", MIN_LINGER, MAX_LINGER, faults);
    let probe = probe::read(&rotator, faults);
    let rotation = read_rotation(fields, faults);
    let store = store?;
    if store.as_str() == LOCAL_STORE {
        let message = "the store `local` gives no logins; name a declared store that is a Vault or an OpenBao";
        faults.add(rotator.position_of("store"), message.to_owned());
        return None;
    }
    let source = Source {
        path: role?,
        field: String::new(),
    };
    let linger = linger.unwrap_or(DEFAULT_LINGER);
    Some(Spec {
        store: Store::Outside(Place { store, source }),
        lease: Some(Box::new(Lease::PerContainer { linger, probe })),
        rotation,
        ..Spec::default()
    })
}

/// What is said of how a lease gives way to the next one.
fn read_rotation(fields: &Fields<'_>, faults: &mut Faults) -> RotationPolicy {
    let mut policy = RotationPolicy::default();
    let Some(node) = fields.find("rotation") else {
        return policy;
    };
    if let Node::Map(entries) = &node.value {
        for (key, _) in entries.iter().filter(|(key, _)| key.value != ACK) {
            let message = format!(
                "`rotation` does not go with `rotator: {{ type: dynamic }}`, but for `{ACK}`: a lease's own time says when its container gets another one; leave `{}` out",
                shorten(&key.value)
            );
            faults.add(position(key), message);
        }
    }
    let said = open_fields(node, "rotation", faults);
    policy.ack = said.and_then(|said| rotation::read_ack(&said, faults));
    policy
}

/// The path at which the server gives logins; whether it can be one is asked where the store is known.
fn read_role(rotator: &Fields<'_>, faults: &mut Faults) -> Option<String> {
    let (text, at) = rotator.required_text("role", faults)?;
    let is_fit =
        (1..=MAX_STORE_TEXT_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
    if !is_fit {
        let message = format!(
            "`role` has 1 to {MAX_STORE_TEXT_BYTES} bytes and no control character; write for example `database/creds/app`"
        );
        faults.add(at, message);
        return None;
    }
    Some(text.to_owned())
}
