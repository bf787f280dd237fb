//! What policies take from bindings, and give them back: a binding grants only what its service may have.
//!
//! What policies mean is not known here: whoever decides a command brings a judge. Its word is a fact in the log like
//! any other, so a replay asks nobody. Invariants: a binding that is refused never grants, not for the moment between
//! two events either; a binding is withheld and given back by an event of its own; the same word again is none.

use std::borrow::Cow;

use super::{Context, manifest};
use crate::binding::{self, Binding, Denial, Spec};
use crate::command::Command;
use crate::event::Event;
use crate::id::BindingId;
use crate::name::BindingName;
use crate::policy;
use crate::secret::{self, Secret};
use crate::world::World;

/// Says what policies have against what a binding grants, in the world as it would be; `None` where nothing.
pub type Judge<'j> = &'j dyn Fn(&World, &BindingName, &Spec) -> Option<Denial>;

/// Whether a command may lead to bindings being judged anew, or for the first time.
#[must_use]
pub fn is_judged(command: &Command, events: &[Event]) -> bool {
    is_of_all(command, events) || events.iter().any(is_bound)
}

/// What a command leads to once its bindings are judged: all of them where policies changed, else those that it
/// declares.
#[must_use]
pub fn entitle(
    world: &World,
    (command, events): (&Command, Vec<Event>),
    ctx: &Context,
    judge: Judge<'_>,
) -> Vec<Event> {
    let judges_all = is_of_all(command, &events);
    let mut events = declared(world, events, judge);
    if judges_all {
        let mut draft = Cow::Borrowed(world);
        fold(&mut draft, &events);
        let more = judged_anew(draft, ctx, judge);
        events.extend(more);
    }
    events
}

fn is_of_all(command: &Command, events: &[Event]) -> bool {
    let is_applied =
        |event: &Event| matches!(event, Event::Policy(_, policy::Event::Applied { .. }));
    matches!(command, Command::JudgeBindings) || events.iter().any(is_applied)
}

const fn is_bound(event: &Event) -> bool {
    matches!(event, Event::Binding(_, binding::Event::Bound { .. }))
}

/// The draft is thrown away, and no decision here looks at a generation.
fn fold(draft: &mut Cow<'_, World>, events: &[Event]) {
    for event in events {
        draft.to_mut().apply(0, event);
    }
}

/// A binding that is refused is withheld instead of bound, and what it alone would have had delivered is not.
fn declared(world: &World, events: Vec<Event>, judge: Judge<'_>) -> Vec<Event> {
    if !events.iter().any(is_bound) {
        return events;
    }
    let mut draft = Cow::Borrowed(world);
    let is_alone = events.iter().filter(|event| is_looked_at(event)).count() == 1;
    let (mut is_refused, mut all) = (false, Vec::with_capacity(events.len()));
    for event in events {
        let event = match event {
            Event::Binding(id, binding::Event::Bound { name, spec }) => {
                let denial = judge(&draft, &name, &spec);
                is_refused |= denial.is_some();
                let event = match denial {
                    None => binding::Event::Bound { name, spec },
                    Some(denial) => binding::Event::Withheld { name, spec, denial },
                };
                Event::Binding(id, event)
            }
            event => event,
        };
        if !is_alone && is_looked_at(&event) {
            draft.to_mut().apply(0, &event);
        }
        all.push(event);
    }
    match is_refused {
        true => without_ungiven(world, all),
        false => all,
    }
}

/// What a judge may look at, and what says who is given what.
const fn is_looked_at(event: &Event) -> bool {
    matches!(
        event,
        Event::Secret(_, secret::Event::Registered { .. })
            | Event::Binding(..)
            | Event::Policy(..)
            | Event::Host(..)
    )
}

fn without_ungiven(world: &World, mut events: Vec<Event>) -> Vec<Event> {
    let mut after = world.clone();
    for event in events.iter().filter(|event| !is_delivery(event)) {
        after.apply(0, event);
    }
    events.retain(|event| match event {
        Event::Secret(id, secret::Event::Delivered { host, .. }) => after.is_given_to(*id, *host),
        _ => true,
    });
    events
}

const fn is_delivery(event: &Event) -> bool {
    matches!(event, Event::Secret(_, secret::Event::Delivered { .. }))
}

/// Every binding against the policies as they are by now.
fn judged_anew(mut draft: Cow<'_, World>, ctx: &Context, judge: Judge<'_>) -> Vec<Event> {
    let mut all = Vec::new();
    let ids: Vec<BindingId> = draft.bindings.keys().copied().collect();
    for (part, id) in ids.into_iter().enumerate() {
        let Some(binding) = draft.bindings.get(&id) else {
            continue;
        };
        let events = again(&draft, binding, &ctx.part(part), judge);
        fold(&mut draft, &events);
        all.extend(events);
    }
    all
}

fn again(world: &World, binding: &Binding, ctx: &Context, judge: Judge<'_>) -> Vec<Event> {
    let Some(spec) = binding.declared() else {
        return Vec::new();
    };
    let (name, said) = (&binding.name, judge(world, &binding.name, spec));
    let known = binding.withheld.as_ref().map(|withheld| &withheld.denial);
    match (known, said) {
        (known, Some(denial)) if known != Some(&denial) => {
            let (name, spec) = (name.clone(), spec.clone());
            let event = binding::Event::Withheld { name, spec, denial };
            vec![Event::Binding(binding.id, event)]
        }
        (Some(_), None) => given_back(world, binding, spec, ctx),
        _ => Vec::new(),
    }
}

fn given_back(world: &World, binding: &Binding, spec: &Spec, ctx: &Context) -> Vec<Event> {
    let (name, of) = (binding.name.clone(), spec.clone());
    let bound = Event::Binding(binding.id, binding::Event::Bound { name, spec: of });
    let own = world.secrets.get(&spec.secret);
    let further: Vec<&Secret> = spec
        .also
        .iter()
        .filter_map(|id| world.secrets.get(id))
        .collect();
    let given = own.and_then(|own| manifest::give_out(world, (own, &further[..]), spec, ctx).ok());
    std::iter::once(bound)
        .chain(given.unwrap_or_default())
        .collect()
}
