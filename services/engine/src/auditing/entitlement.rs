//! Records of what policies take from bindings and give back: of each binding by itself, whoever changed the policies.

use keywheel_core::audit::{Category, Outcome, Record};
use keywheel_core::binding::{self, Denial};
use keywheel_core::command::Command;
use keywheel_core::decision::Refusal;
use keywheel_core::event::Event;
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
    let of = |event: &Event| {
        let Event::Binding(_, event) = event else {
            return None;
        };
        match event {
            binding::Event::Withheld { name, denial, .. } => Some(Record {
                object: format!("binding/{name}"),
                outcome: Outcome::Denied,
                reason: words(before, denial),
                ..blank(deed, Category::System, "withhold")
            }),
            binding::Event::Bound { name, .. } if !matches!(command, Command::Apply(_)) => {
                Some(Record {
                    object: format!("binding/{name}"),
                    reason: "policies permit again what it grants".to_owned(),
                    ..blank(deed, Category::System, "give-back")
                })
            }
            _ => None,
        }
    };
    events.filter_map(of).collect()
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
