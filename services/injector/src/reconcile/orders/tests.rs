//! What a container in quarantine has in its variables, until that is lifted and afterwards.

use keywheel_core::name::HostName;
use keywheel_core::plan::PlannedBinding;
use keywheel_core::report::Fact;

use super::*;
use crate::decide::tests::{binding, env, file, plan, tracked};
use crate::decide::{Had, Todo, decide, place_of};
use crate::granted::seen_by;
use crate::model::{Ack, Holding};
use crate::state::Remembered;

const NONE: Reload = Reload::None;

fn holding(planned: &PlannedBinding) -> Holding {
    Holding {
        secret: planned.secret,
        place: place_of(&planned.target),
        attr: None,
        form: None,
        version: Some(1),
        further: BTreeMap::new(),
        previous: BTreeMap::new(),
        news: Vec::new(),
        content: 1,
        ack: Ack::Done,
        remembered: None,
        kept: None,
    }
}

/// Version 1 in a variable, and in a file under another binding.
fn holder() -> Tracked {
    let mut holder = tracked("keywheel", &["DB={keywheel:prod/db}"]);
    for planned in [
        binding(1, env(), NONE, Some(1)),
        binding(2, file("db"), NONE, Some(1)),
    ] {
        holder.put(planned.binding, holding(&planned));
    }
    holder
}

fn apart(holder: &Tracked) -> Order {
    Order {
        container: holder.record.facts.id.clone(),
        number: 7,
        task: Task::Quarantine {
            action: OnRevoke::Pause,
        },
    }
}

/// In quarantine its variable counted as lost; that was lifted. Gives what is to be done by this binding.
fn lifted(planned: PlannedBinding) -> (Todo, Tracked) {
    let mut holder = holder();
    let id = holder.record.facts.id.clone();
    let _said = holder.lose_variables();
    let mut containers = Containers::from([(id.clone(), holder)]);
    let plan = plan(vec![planned]);
    find_lost(&mut containers, &plan);
    let holder = containers.remove(&id).unwrap();
    let host = HostName::parse("web-1").unwrap();
    let todo = decide(
        &seen_by(&plan, &id),
        &host,
        (&holder, Duration::ZERO),
        true,
        &|_| Had::Here,
    );
    (todo, holder)
}

#[test]
fn a_variable_counts_as_lost_once_and_stays_so_until_its_quarantine_is_lifted() {
    let mut holder = holder();
    let id = holder.record.facts.id.clone();
    let variable = binding(1, env(), NONE, Some(1));
    let said = holder.lose_variables();
    assert_eq!(said.len(), 1);
    assert_eq!(said[0].fact, Fact::Vanished);
    assert_eq!(said[0].binding, variable.binding);
    assert_eq!(holder.holdings.len(), 1, "its file is somebody else's");
    assert!(holder.lose_variables().is_empty());
    let mut apart_plan = plan(vec![variable.clone()]);
    apart_plan.orders = vec![apart(&holder)];
    let mut containers = Containers::from([(id.clone(), holder)]);
    find_lost(&mut containers, &apart_plan);
    assert!(!containers[&id].holdings.contains_key(&variable.binding));
    // Another run of the injector knows it, too.
    let remembered = Remembered::of(&containers[&id]).lost();
    let known = &remembered[&variable.binding];
    assert_eq!((known.secret, known.version), (variable.secret, Some(1)));
    apart_plan.orders.clear();
    find_lost(&mut containers, &apart_plan);
    let holder = &containers[&id];
    let found = holder.holdings.get(&variable.binding).unwrap();
    assert_eq!((found.version, found.ack), (Some(1), Ack::AtStart));
    assert!(holder.lost.is_empty() && holder.dirty);
}

#[test]
fn what_died_in_a_variable_of_one_that_was_lifted_before_it_was_stopped_stops_it() {
    let mut dead = binding(1, env(), NONE, None);
    dead.floor = 1;
    let (todo, holder) = lifted(dead.clone());
    assert_eq!(todo.stop, [(dead.binding, dead.secret)]);
    let held = holder.holdings.get(&dead.binding);
    assert!(held.is_some_and(|held| held.has((dead.secret, 1))));
    // Where something took its place, that comes with a restart, and nobody stops it.
    let mut replaced = binding(1, env(), NONE, Some(2));
    replaced.floor = 1;
    let (todo, _) = lifted(replaced.clone());
    assert!(todo.stop.is_empty());
    assert_eq!(todo.restart, [(replaced.binding, replaced.secret, 2)]);
}

#[test]
fn one_that_is_lifted_while_its_variable_is_what_it_is_to_have_goes_on_with_it() {
    let (todo, _) = lifted(binding(1, env(), NONE, Some(1)));
    assert!(todo.stop.is_empty() && todo.restart.is_empty());
}
