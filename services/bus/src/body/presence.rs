//! Presence between the port and the wire. Writing cuts what is too long; reading refuses it, since
//! nobody of ours writes it.

use keywheel_core::id::EventId;
use keywheel_engine::presence::{
    BusEnd, Fact, Health, MAX_FACTS, MAX_TEXT_CHARS, Presence, Reached, Seen,
};
use keywheel_schemas::mirror::Text;
use keywheel_schemas::wire::presence::{
    BusEndShape, FactShape, HealthWord, PresenceShape, ReachedShape,
};

use super::Sender;
use crate::refusal::Refusal;

/// Longest name of a fact or version, in characters.
const MAX_WORD_CHARS: usize = 64;
/// Longest name of a machine, in characters.
const MAX_MACHINE_CHARS: usize = 255;

/// Writes it.
pub(super) fn shape(presence: &Presence) -> PresenceShape {
    let facts = presence.seen.facts.iter().take(MAX_FACTS);
    PresenceShape {
        instance: Text(EventId::from_bytes(presence.instance)),
        machine: cut(&presence.machine, MAX_MACHINE_CHARS),
        version: cut(&presence.version, MAX_WORD_CHARS),
        started: Text(presence.started),
        sent: Text(presence.sent),
        leaving: presence.leaving,
        certificate_end: presence.certificate_end.map(Text),
        bus: presence.bus.as_ref().map(|end| BusEndShape {
            connected: end.connected,
            server_version: cut(&end.server_version, MAX_WORD_CHARS),
            connects: end.connects,
            refused: end.refused,
            problem: end.problem.as_deref().map(|p| cut(p, MAX_TEXT_CHARS)),
        }),
        reached: presence.seen.reached.map(|reached| match reached {
            Reached::Event(number) => ReachedShape::Event(number),
            Reached::AuditRecords(count) => ReachedShape::AuditRecords(count),
            Reached::Plan(generation) => ReachedShape::Plan(generation),
        }),
        facts: facts.map(fact).collect(),
    }
}

fn fact(fact: &Fact) -> FactShape {
    FactShape {
        name: cut(&fact.name, MAX_WORD_CHARS),
        health: match fact.health {
            Health::Ok => HealthWord::Ok,
            Health::Unknown => HealthWord::Unknown,
            Health::Warning => HealthWord::Warning,
            Health::Problem => HealthWord::Problem,
        },
        note: cut(&fact.note, MAX_TEXT_CHARS),
        next: fact.next.as_deref().map(|next| cut(next, MAX_TEXT_CHARS)),
    }
}

fn cut(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// Reads what a sender said about itself.
pub(super) fn presence(shape: PresenceShape, (role, host): Sender) -> Result<Presence, Refusal> {
    check(&shape)?;
    Ok(Presence {
        role,
        host,
        instance: *shape.instance.0.bytes(),
        machine: shape.machine,
        version: shape.version,
        started: shape.started.0,
        sent: shape.sent.0,
        leaving: shape.leaving,
        certificate_end: shape.certificate_end.map(|end| end.0),
        bus: shape.bus.map(|end| BusEnd {
            connected: end.connected,
            server_version: end.server_version,
            connects: end.connects,
            refused: end.refused,
            problem: end.problem,
        }),
        seen: Seen {
            reached: shape.reached.map(|reached| match reached {
                ReachedShape::Event(number) => Reached::Event(number),
                ReachedShape::AuditRecords(count) => Reached::AuditRecords(count),
                ReachedShape::Plan(generation) => Reached::Plan(generation),
            }),
            facts: shape.facts.into_iter().map(into_fact).collect(),
        },
    })
}

fn into_fact(shape: FactShape) -> Fact {
    Fact {
        name: shape.name,
        health: match shape.health {
            HealthWord::Ok => Health::Ok,
            HealthWord::Unknown => Health::Unknown,
            HealthWord::Warning => Health::Warning,
            HealthWord::Problem => Health::Problem,
        },
        note: shape.note,
        next: shape.next,
    }
}

fn check(shape: &PresenceShape) -> Result<(), Refusal> {
    let fits = |text: &str, most: usize| text.chars().nth(most).is_none();
    let short = |text: &Option<String>| text.as_deref().is_none_or(|t| fits(t, MAX_TEXT_CHARS));
    let fact_fits = |fact: &FactShape| {
        fits(&fact.name, MAX_WORD_CHARS) && fits(&fact.note, MAX_TEXT_CHARS) && short(&fact.next)
    };
    let end_fits =
        |end: &BusEndShape| fits(&end.server_version, MAX_WORD_CHARS) && short(&end.problem);
    let is_bounded = shape.facts.len() <= MAX_FACTS
        && fits(&shape.machine, MAX_MACHINE_CHARS)
        && fits(&shape.version, MAX_WORD_CHARS)
        && shape.bus.as_ref().is_none_or(end_fits)
        && shape.facts.iter().all(fact_fits);
    match is_bounded {
        true => Ok(()),
        false => Err(Refusal::Malformed("presence over its bounds")),
    }
}
