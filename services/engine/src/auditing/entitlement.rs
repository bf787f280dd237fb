//! Records of what policies take from bindings and give back: of each binding by itself, whoever changed the policies.

use keywheel_core::audit::{Category, Outcome, Record};
use keywheel_core::binding::{self, Denial};
use keywheel_core::command::Command;
use keywheel_core::decision::Refusal;
use keywheel_core::event::Event;
use keywheel_core::policy;
use keywheel_core::world::World;

use super::{Deed, blank, secret_object};

/// What was withheld, and what was given back without that somebody declared it anew.
pub(super) fn records(
    before: &World,
    deed: &Deed<'_>,
    command: &Command,
    decided: &Result<Vec<Event>, Refusal>,
) -> Vec<Record> {
    let events = decided.iter().flatten();
    let by = set_of(before, decided);
    let of = |event: &Event| {
        let Event::Binding(_, event) = event else {
            return None;
        };
        match event {
            binding::Event::Withheld { name, denial, .. } => Some(Record {
                object: format!("binding/{name}"),
                outcome: Outcome::Denied,
                reason: with(words(before, denial), by.as_deref()),
                ..blank(deed, Category::System, "withhold")
            }),
            binding::Event::Bound { name, .. } if !matches!(command, Command::Apply(_)) => {
                Some(Record {
                    object: format!("binding/{name}"),
                    reason: with(
                        "policies permit again what it grants".to_owned(),
                        by.as_deref(),
                    ),
                    ..blank(deed, Category::System, "give-back")
                })
            }
            _ => None,
        }
    };
    events.filter_map(of).collect()
}

/// The set that decided: what this decision put in force, else what was; `None` where there is none.
fn set_of(before: &World, decided: &Result<Vec<Event>, Refusal>) -> Option<String> {
    let applied = decided.iter().flatten().find_map(|event| match event {
        Event::Policy(_, policy::Event::Applied { version, .. }) => Some(*version),
        _ => None,
    });
    let version = applied.or_else(|| before.policies().map(|set| set.version));
    version.map(|version| format!("policies version {version}"))
}

fn with(words: String, by: Option<&str>) -> String {
    match by {
        None => words,
        Some(set) => format!("{words} ({set})"),
    }
}

fn words(before: &World, denial: &Denial) -> String {
    let Denial {
        service,
        secret,
        reason,
    } = denial;
    let secret = secret_object(before, *secret);
    format!("service `{service}` may not read {secret}: {reason}")
}
