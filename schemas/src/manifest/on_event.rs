//! `onEvent` of a secret's `rotation`: which of Keywheel's own events lead to a rotation, and which signals
//! from outside.
//!
//! A rule that what its own rotation brings about would set off again is refused where it can be seen.
//! What cannot be seen here, such as two secrets that follow each other, the scheduler leaves out.

use keywheel_core::name::SecretName;
use keywheel_core::schedule::OnEvent;

use super::reader::{Faults, Fields, TextAt};
use super::rotation::items;
use super::tree::{Located, position};
use super::{MAX_EVENT_RULES, MAX_INTERVAL, MIN_INTERVAL};
use crate::condition::Condition;
use crate::event;
use crate::near::nearest;

/// Aggregates whose events may lead to a rotation: those that are about a secret, a host or a store, signals from
/// outside, and what takes several people. The others are said of single containers, many times in one rotation.
const EVENT_AGGREGATES: [&str; 7] = [
    "secret",
    "rotation",
    "revocation",
    "host",
    "store",
    "signal",
    "approval",
];
/// Aggregates whose events a rotation brings about itself.
const OWN_AGGREGATES: [&str; 2] = ["secret", "rotation"];

pub(super) fn read(
    fields: &Fields<'_>,
    own: Option<&SecretName>,
    faults: &mut Faults,
) -> Vec<OnEvent> {
    let mut rules: Vec<OnEvent> = Vec::new();
    for node in items(fields, "onEvent", MAX_EVENT_RULES, faults) {
        let Some(rule) = read_rule(node, own, faults) else {
            continue;
        };
        let is_again = |other: &OnEvent| other.event == rule.event && other.when == rule.when;
        if rules.iter().any(is_again) {
            let message = format!(
                "two rules of `onEvent` mean the same events, `{}` under the same `when`; keep one of them",
                rule.event
            );
            faults.add(position(node), message);
            continue;
        }
        rules.push(rule);
    }
    rules
}

fn read_rule(node: &Located, own: Option<&SecretName>, faults: &mut Faults) -> Option<OnEvent> {
    let known = ["type", "when", "holdOff"];
    let fields = Fields::of(node, "a rule of `onEvent`", &known, faults)?;
    let kind = fields
        .required_text("type", faults)
        .and_then(|named| read_kind(named, faults));
    let hold_off = fields.span("holdOff", MIN_INTERVAL, MAX_INTERVAL, faults);
    let when = match fields.find("when") {
        None => None,
        Some(_) => {
            let (text, at) = fields.text("when", faults)?;
            match Condition::parse(text) {
                Ok(condition) => Some((text, condition)),
                Err(fault) => {
                    faults.add(at, fault);
                    return None;
                }
            }
        }
    };
    let kind = kind?;
    let condition = when.as_ref().map(|(_, condition)| condition);
    if let Some(own) = own
        && follows_itself(kind, condition, own)
    {
        let name = if condition.is_some() { "when" } else { "type" };
        let message = format!(
            "the rule also means what `{own}` itself brings about when it rotates, so it would never come to rest; name the secret it follows, like `when: event.secret == \"prod/ca\"`, or leave its own out with `event.secret != \"{own}\"`"
        );
        faults.add(fields.position_of(name), message);
        return None;
    }
    Some(OnEvent {
        event: kind.name.to_owned(),
        when: when.map(|(text, _)| text.to_owned()),
        hold_off,
    })
}

pub(super) fn read_kind(
    (name, at): TextAt<'_>,
    faults: &mut Faults,
) -> Option<&'static event::Kind> {
    let kind = event::find(name);
    let found = kind.filter(|kind| EVENT_AGGREGATES.contains(&kind.aggregate));
    if found.is_some() {
        return found;
    }
    let shown = crate::leaf::shorten(name);
    let fault = match kind {
        Some(kind) => format!(
            "events of the aggregate `{}` lead to no rotation, since one rotation has many of them",
            kind.aggregate
        ),
        None => format!(
            "`{shown}` is no type of an event{}",
            nearest(name, event::all_types())
        ),
    };
    let message = format!(
        "{fault}; write a type of {}, for example `dev.keywheel.rotation.closed.v1`",
        EVENT_AGGREGATES.join(", ")
    );
    faults.add(at, message);
    None
}

/// Whether a rule may hold for an event of the secret's own: all but its type and its secret is open.
fn follows_itself(kind: &event::Kind, condition: Option<&Condition>, own: &SecretName) -> bool {
    if !OWN_AGGREGATES.contains(&kind.aggregate) {
        return false;
    }
    let Some(condition) = condition else {
        return true;
    };
    !condition.excludes(own.as_str(), kind.name)
}
