//! `kind: Playbook`: steps one after the other, beside each other under `parallel`, and those that follow a
//! failure under `onFailure`. What comes out is a graph; what is wrong with it as one, the core says.
//!
//! Invariant: a quarantine of a host is its eviction, and nothing else.

use std::collections::BTreeMap;

use keywheel_core::binding::OnRevoke;
use keywheel_core::name::{NotificationName, PlaybookName};
use keywheel_core::playbook::{
    After, DEFAULT_DEADLINE, DEFAULT_HOLD_OFF, Deed, MAX_APPROVALS, MAX_DEADLINE, MAX_LEFT_OUT,
    MAX_PARAMETERS, MAX_SELECTIONS, MAX_STEPS, MAX_TRIGGERS, MIN_DEADLINE, Parameter,
    QUARANTINE_ACTIONS, Selection, Spec, Step, Trigger, Which,
};

use super::on_event::read_kind;
use super::reader::{Faults, Fields, TextAt, named, open_fields, text_of};
use super::rotation::{checked_line, items};
use super::tree::{Located, Node, position};
use super::{CheckSchedule, Manifest, Position};
use crate::condition::Condition;

/// Kinds of steps, each a field of its own.
const DEEDS: [&str; 11] = [
    "rotate",
    "revoke",
    "evict",
    "restart",
    "quarantine",
    "wait",
    "approve",
    "run",
    "prove",
    "notify",
    "call",
];

pub(super) fn read(
    name: Option<TextAt<'_>>,
    node: &Located,
    at: Position,
    check: CheckSchedule<'_>,
    faults: &mut Faults,
) -> Option<Manifest> {
    let name = name.and_then(|name| named(name, PlaybookName::parse, faults));
    let known = ["parameters", "steps", "triggers"];
    let fields = Fields::of(node, "spec", &known, faults)?;
    let parameters = items(&fields, "parameters", MAX_PARAMETERS, faults);
    let parameters = parameters
        .iter()
        .filter_map(|node| read_parameter(node, faults))
        .collect();
    fields.required("steps", faults);
    let nodes = items(&fields, "steps", MAX_STEPS, faults);
    let mut steps = Vec::new();
    let is_read = read_steps(nodes, Vec::new(), &mut steps, faults).is_some();
    let triggers = items(&fields, "triggers", MAX_TRIGGERS, faults);
    let triggers = triggers
        .iter()
        .filter_map(|node| read_trigger(node, check, faults))
        .collect();
    let spec = Spec {
        parameters,
        steps,
        triggers,
    };
    if !is_read || nodes.is_empty() {
        return None;
    }
    if let Some(fault) = spec.fault() {
        faults.add(fields.position_of("steps"), fault.to_string());
    }
    Some(Manifest::Playbook {
        name: name?,
        spec,
        position: at,
    })
}

fn read_parameter(node: &Located, faults: &mut Faults) -> Option<Parameter> {
    let fields = Fields::of(node, "a parameter", &["name", "default"], faults)?;
    let (name, _) = fields.required_text("name", faults)?;
    let default = fields.text("default", faults);
    Some(Parameter {
        name: name.to_owned(),
        default: default.map(|(text, _)| text.to_owned()),
    })
}

/// `event` or `schedule`, and what a run is told then.
fn read_trigger(node: &Located, check: CheckSchedule<'_>, faults: &mut Faults) -> Option<Trigger> {
    let known = ["event", "when", "holdOff", "schedule", "timezone", "with"];
    let fields = Fields::of(node, "a trigger", &known, faults)?;
    let arguments = read_with(&fields, faults)?;
    match (fields.has("event"), fields.has("schedule")) {
        (true, false) => read_on_event(&fields, arguments, faults),
        (false, true) => {
            let line = fields.required_text("schedule", faults)?;
            let zone = match fields.find("timezone") {
                Some(_) => fields.text("timezone", faults)?,
                None => ("UTC", fields.position),
            };
            let (expression, timezone) = checked_line(line, zone, check, faults)?;
            Some(Trigger::Schedule {
                expression,
                timezone,
                arguments,
            })
        }
        _ => {
            let message =
                "a trigger has either `event`, a type of an event, or `schedule`, a cron line";
            faults.add(fields.position, message.to_owned());
            None
        }
    }
}

fn read_on_event(
    fields: &Fields<'_>,
    arguments: BTreeMap<String, String>,
    faults: &mut Faults,
) -> Option<Trigger> {
    let kind = fields.required_text("event", faults)?;
    let kind = read_kind(kind, faults)?;
    let hold_off = fields.span("holdOff", MIN_DEADLINE, MAX_DEADLINE, faults);
    let when = match fields.find("when") {
        None => None,
        Some(_) => {
            let (text, at) = fields.text("when", faults)?;
            let condition = Condition::parse(text);
            let condition = condition.map_err(|fault| faults.add(at, fault)).ok()?;
            if condition.asks_held() {
                let message = "`held` is about a secret that asks, and here none does; ask for `event.host` instead";
                faults.add(at, message.to_owned());
                return None;
            }
            Some(text.to_owned())
        }
    };
    Some(Trigger::Event {
        event: kind.name.to_owned(),
        when,
        hold_off: hold_off.unwrap_or(DEFAULT_HOLD_OFF),
        arguments,
    })
}

/// What is told under `with`.
fn read_with(fields: &Fields<'_>, faults: &mut Faults) -> Option<BTreeMap<String, String>> {
    let Some(node) = fields.find("with") else {
        return Some(BTreeMap::new());
    };
    let told = open_fields(node, "with", faults)?.texts(faults);
    let told = told.into_iter();
    Some(
        told.map(|((name, _), (value, _))| (name.to_owned(), value.to_owned()))
            .collect(),
    )
}

/// Reads steps that follow each other; gives what the next one comes after. `None` when one is faulty, since
/// what is said of the rest would be of no use.
fn read_steps(
    nodes: &[Located],
    mut after: Vec<After>,
    steps: &mut Vec<Step>,
    faults: &mut Faults,
) -> Option<Vec<After>> {
    let mut is_whole = true;
    for node in nodes {
        match read_step(node, after.clone(), steps, faults) {
            Some(next) => after = next,
            None => is_whole = false,
        }
    }
    is_whole.then_some(after)
}

fn read_step(
    node: &Located,
    after: Vec<After>,
    steps: &mut Vec<Step>,
    faults: &mut Faults,
) -> Option<Vec<After>> {
    let mut known = vec!["name", "deadline", "onFailure", "parallel"];
    known.extend(DEEDS);
    let fields = Fields::of(node, "a step", &known, faults)?;
    if fields.has("parallel") {
        return read_branches(&fields, &after, steps, faults);
    }
    let name = fields.required_text("name", faults);
    let deadline = fields.span("deadline", MIN_DEADLINE, MAX_DEADLINE, faults);
    let deed = read_deed(&fields, faults)?;
    let (name, _) = name?;
    let at = steps.len();
    steps.push(Step {
        name: name.to_owned(),
        deed,
        after,
        deadline: deadline.unwrap_or(DEFAULT_DEADLINE),
        may_fail: false,
    });
    let may_fail = read_failure(&fields, name, steps, faults)?;
    if let Some(step) = steps.get_mut(at) {
        step.may_fail = may_fail;
    }
    Some(vec![After {
        step: name.to_owned(),
        failed: false,
    }])
}

/// `onFailure`: `stop`, which is the default, `continue`, or steps. Whether the run goes on.
fn read_failure(
    fields: &Fields<'_>,
    name: &str,
    steps: &mut Vec<Step>,
    faults: &mut Faults,
) -> Option<bool> {
    let Some(node) = fields.find("onFailure") else {
        return Some(false);
    };
    match &node.value {
        Node::Text(word) if word == "stop" => Some(false),
        Node::Text(word) if word == "continue" => Some(true),
        Node::List(nodes) if !nodes.is_empty() => {
            let after = vec![After {
                step: name.to_owned(),
                failed: true,
            }];
            read_steps(nodes, after, steps, faults).map(|_| false)
        }
        _ => {
            let message = "`onFailure` has to be `stop`, `continue` or a list of steps";
            faults.add(position(node), message.to_owned());
            None
        }
    }
}

/// Branches beside each other; what comes next comes after all of them.
fn read_branches(
    fields: &Fields<'_>,
    after: &[After],
    steps: &mut Vec<Step>,
    faults: &mut Faults,
) -> Option<Vec<After>> {
    let mut ends = Vec::new();
    let mut is_whole = true;
    let mut others = vec!["name", "deadline", "onFailure"];
    others.extend(DEEDS);
    for other in others {
        if fields.has(other) {
            let message = format!("`{other}` goes into a branch's steps, not beside `parallel`");
            faults.add(fields.position_of(other), message);
            is_whole = false;
        }
    }
    let branches = items(fields, "parallel", MAX_STEPS, faults);
    for branch in branches {
        let Node::List(nodes) = &branch.value else {
            let message = "a branch of `parallel` has to be a list of steps";
            faults.add(position(branch), message.to_owned());
            is_whole = false;
            continue;
        };
        match read_steps(nodes, after.to_vec(), steps, faults) {
            Some(end) if !nodes.is_empty() => ends.extend(end),
            _ => is_whole = false,
        }
    }
    (is_whole && !ends.is_empty()).then_some(ends)
}

fn read_deed(fields: &Fields<'_>, faults: &mut Faults) -> Option<Deed> {
    let given: Vec<&str> = DEEDS.into_iter().filter(|word| fields.has(word)).collect();
    let [word] = given.as_slice() else {
        let message = format!(
            "a step does exactly one thing: give one of {}, or `parallel`",
            DEEDS.join(", ")
        );
        faults.add(fields.position, message);
        return None;
    };
    match *word {
        "rotate" => {
            let own = deed_fields(fields, "rotate", &SELECTIONS, faults)?;
            let secrets = read_selections(&own, faults)?;
            Some(Deed::Rotate { secrets })
        }
        "revoke" => read_revoke(fields, faults),
        "evict" => {
            let own = deed_fields(fields, "evict", &["host"], faults)?;
            let (host, _) = own.required_text("host", faults)?;
            let host = host.to_owned();
            Some(Deed::Evict { host })
        }
        "wait" => {
            let own = deed_fields(fields, "wait", &["for", "until"], faults)?;
            read_wait(&own, faults)
        }
        "prove" => {
            deed_fields(fields, "prove", &[], faults)?;
            Some(Deed::Prove)
        }
        "restart" => {
            let own = deed_fields(fields, "restart", &CONTAINERS, faults)?;
            let containers = read_containers(&own, faults)?;
            Some(Deed::Restart { containers })
        }
        "quarantine" => read_quarantine(fields, faults),
        "notify" => read_notify(fields, faults),
        "call" => {
            let own = deed_fields(fields, "call", &["notification", "text"], faults)?;
            let notification = own.required_text("notification", faults);
            let (text, _) = own.required_text("text", faults)?;
            let notification = named(notification?, NotificationName::parse, faults)?;
            let text = text.to_owned();
            Some(Deed::Call { notification, text })
        }
        "approve" => {
            let own = deed_fields(fields, "approve", &["count", "not"], faults)?;
            read_approve(&own, faults)
        }
        _ => read_run(fields, faults),
    }
}

/// What a step of this kind is told.
fn deed_fields<'n>(
    fields: &Fields<'n>,
    word: &'n str,
    known: &[&str],
    faults: &mut Faults,
) -> Option<Fields<'n>> {
    let Some(node) = fields.find(word) else {
        let message = format!("`{word}` is empty; write `{word}: {{}}` if it says nothing");
        faults.add(fields.position_of(word), message);
        return None;
    };
    Fields::of(node, word, known, faults)
}

fn read_approve(own: &Fields<'_>, faults: &mut Faults) -> Option<Deed> {
    let count = match own.has("count") {
        true => own.number("count", 1, MAX_APPROVALS, faults)?,
        false => 1,
    };
    if own.has("not") {
        // With nothing behind it, it would leave nobody out.
        own.required("not", faults)?;
    }
    let mut not = Vec::new();
    for node in items(own, "not", MAX_LEFT_OUT, faults) {
        let (text, _) = text_of(node, "not", faults)?;
        not.push(text.to_owned());
    }
    Some(Deed::Approve { count, not })
}

fn read_wait(own: &Fields<'_>, faults: &mut Faults) -> Option<Deed> {
    match (own.has("for"), own.has("until")) {
        (true, true) => {
            let message = "`wait` has either `for`, a time, or `until`; `wait: {}` waits for the end of all that began";
            faults.add(own.position_of("until"), message.to_owned());
            None
        }
        (true, false) => {
            let span = own.span("for", MIN_DEADLINE, MAX_DEADLINE, faults)?;
            Some(Deed::Wait { span: Some(span) })
        }
        (false, false) => Some(Deed::Wait { span: None }),
        (false, true) => match own.required_text("until", faults)? {
            ("withdrawn", _) => Some(Deed::Withdrawn),
            (_, at) => {
                let message =
                    "`until` has to be `withdrawn`: until no host has what is replaced or revoked";
                faults.add(at, message.to_owned());
                None
            }
        },
    }
}

fn read_notify(fields: &Fields<'_>, faults: &mut Faults) -> Option<Deed> {
    let own = deed_fields(fields, "notify", &["notifications", "text"], faults)?;
    own.required("notifications", faults);
    let mut notifications = Vec::new();
    for node in items(&own, "notifications", MAX_SELECTIONS, faults) {
        let text = text_of(node, "notifications", faults)?;
        notifications.push(named(text, NotificationName::parse, faults)?);
    }
    let (text, _) = own.required_text("text", faults)?;
    let text = text.to_owned();
    Some(Deed::Notify {
        notifications,
        text,
    })
}

/// Fields of what a step is done to.
const SELECTIONS: [&str; 7] = [
    "secrets",
    "prefixes",
    "stores",
    "containers",
    "images",
    "services",
    "heldBy",
];

fn read_selections(fields: &Fields<'_>, faults: &mut Faults) -> Option<Vec<Selection>> {
    let mut selections = Vec::new();
    for name in SELECTIONS.into_iter().filter(|name| *name != "heldBy") {
        for node in items(fields, name, MAX_SELECTIONS, faults) {
            let (text, _) = text_of(node, name, faults)?;
            let text = text.to_owned();
            selections.push(match name {
                "secrets" => Selection::Secret { name: text },
                "prefixes" => Selection::Prefix { path: text },
                "stores" => Selection::Store { name: text },
                "containers" => Selection::Container { name: text },
                "images" => Selection::Image { digest: text },
                _ => Selection::Service { name: text },
            });
        }
    }
    if let Some((host, _)) = fields.text("heldBy", faults) {
        let host = host.to_owned();
        selections.push(Selection::HeldBy { host });
    }
    Some(selections)
}

/// Fields of the containers that a step is done to.
const CONTAINERS: [&str; 5] = ["containers", "images", "services", "consumersOf", "host"];

fn read_containers(fields: &Fields<'_>, faults: &mut Faults) -> Option<Vec<Selection>> {
    let mut selections = Vec::new();
    for name in CONTAINERS.into_iter().filter(|name| *name != "host") {
        for node in items(fields, name, MAX_SELECTIONS, faults) {
            let (text, _) = text_of(node, name, faults)?;
            let text = text.to_owned();
            selections.push(match name {
                "containers" => Selection::Container { name: text },
                "images" => Selection::Image { digest: text },
                "services" => Selection::Service { name: text },
                _ => Selection::Secret { name: text },
            });
        }
    }
    if fields.has("host") {
        let (host, _) = fields.required_text("host", faults)?;
        let host = host.to_owned();
        selections.push(Selection::HeldBy { host });
    }
    Some(selections)
}

/// Of containers what is done to them; of a host, alone, its eviction.
fn read_quarantine(fields: &Fields<'_>, faults: &mut Faults) -> Option<Deed> {
    let mut known = CONTAINERS.to_vec();
    known.push("action");
    let own = deed_fields(fields, "quarantine", &known, faults)?;
    if own.has("host") {
        let mut others = known.iter().filter(|name| **name != "host");
        if others.any(|name| own.has(name)) {
            let message = "a quarantine of a `host` is its eviction and says nothing else; leave the rest out, or name its containers";
            faults.add(own.position_of("host"), message.to_owned());
            return None;
        }
        let (host, _) = own.required_text("host", faults)?;
        let host = host.to_owned();
        return Some(Deed::Evict { host });
    }
    let containers = read_containers(&own, faults)?;
    let (word, at) = own.required_text("action", faults)?;
    let Some(action) = OnRevoke::parse(word).filter(|one| QUARANTINE_ACTIONS.contains(one)) else {
        let message = "`action` has to be `disconnect`, `pause` or `stop`";
        faults.add(at, message.to_owned());
        return None;
    };
    Some(Deed::Quarantine { containers, action })
}

fn read_revoke(fields: &Fields<'_>, faults: &mut Faults) -> Option<Deed> {
    let mut known = SELECTIONS.to_vec();
    known.push("versions");
    let own = deed_fields(fields, "revoke", &known, faults)?;
    let secrets = read_selections(&own, faults)?;
    let which = match own.required_text("versions", faults)? {
        ("alive", _) => Which::Alive,
        ("old", _) => Which::Old,
        (_, at) => {
            let message =
                "`versions` has to be `old`, those before the current one, or `alive`, all of them";
            faults.add(at, message.to_owned());
            return None;
        }
    };
    Some(Deed::Revoke { secrets, which })
}

fn read_run(fields: &Fields<'_>, faults: &mut Faults) -> Option<Deed> {
    let own = deed_fields(fields, "run", &["playbook", "with"], faults)?;
    let playbook = own.required_text("playbook", faults)?;
    let playbook = named(playbook, PlaybookName::parse, faults)?;
    let arguments = read_with(&own, faults)?;
    Some(Deed::Run {
        playbook,
        arguments,
    })
}
