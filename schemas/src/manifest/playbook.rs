//! `kind: Playbook`: steps one after the other, beside each other under `parallel`, and those that follow a
//! failure under `onFailure`. What comes out is a graph; what is wrong with it as one, the core says.
//!
//! Invariant: a kind of step that nothing performs yet is refused with what to write instead.

use std::collections::BTreeMap;

use keywheel_core::name::PlaybookName;
use keywheel_core::playbook::{
    After, DEFAULT_DEADLINE, Deed, MAX_APPROVALS, MAX_DEADLINE, MAX_PARAMETERS, MAX_SELECTIONS,
    MAX_STEPS, MIN_DEADLINE, Parameter, Selection, Spec, Step, Which,
};

use super::reader::{Faults, Fields, TextAt, named, open_fields, text_of};
use super::rotation::items;
use super::tree::{Located, Node, position};
use super::{Manifest, Position};

/// Kinds of steps, each a field of its own.
const DEEDS: [&str; 6] = ["rotate", "revoke", "evict", "wait", "approve", "run"];
/// Kinds of steps that are known and performed by nothing yet, each with what to do instead.
const NOT_YET: [(&str, &str); 5] = [
    (
        "restart",
        "rotate a secret whose binding says `reload: restart`",
    ),
    (
        "quarantine",
        "evict the host, and stop or disconnect the container with its engine",
    ),
    (
        "prove",
        "wait with `wait: {}`: a rotation and a revocation end when the backend has confirmed",
    ),
    (
        "notify",
        "follow `keywheel events tail --follow` with a subscription",
    ),
    (
        "call",
        "follow `keywheel events tail --follow` with a subscription, and call from there",
    ),
];

pub(super) fn read(
    name: Option<TextAt<'_>>,
    node: &Located,
    at: Position,
    faults: &mut Faults,
) -> Option<Manifest> {
    let name = name.and_then(|name| named(name, PlaybookName::parse, faults));
    let known = ["parameters", "steps", "triggers"];
    let fields = Fields::of(node, "spec", &known, faults)?;
    if fields.has("triggers") {
        let message = "nothing but a person starts a playbook yet; leave `triggers` out, and start it with `keywheel playbook run`, from cron or a program that follows the event stream, too";
        faults.add(fields.position_of("triggers"), message.to_owned());
    }
    let parameters = items(&fields, "parameters", MAX_PARAMETERS, faults);
    let parameters = parameters
        .iter()
        .filter_map(|node| read_parameter(node, faults))
        .collect();
    fields.required("steps", faults);
    let nodes = items(&fields, "steps", MAX_STEPS, faults);
    let mut steps = Vec::new();
    let is_read = read_steps(nodes, Vec::new(), &mut steps, faults).is_some();
    let spec = Spec { parameters, steps };
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
    known.extend(NOT_YET.iter().map(|(word, _)| *word));
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
    for (word, instead) in NOT_YET {
        if fields.has(word) {
            let message = format!("nothing performs a step `{word}` yet; {instead}");
            faults.add(fields.position_of(word), message);
            return None;
        }
    }
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
            let own = deed_fields(fields, "wait", &["for"], faults)?;
            let span = match own.has("for") {
                true => Some(own.span("for", MIN_DEADLINE, MAX_DEADLINE, faults)?),
                false => None,
            };
            Some(Deed::Wait { span })
        }
        "approve" => {
            let own = deed_fields(fields, "approve", &["count"], faults)?;
            let count = match own.has("count") {
                true => own.number("count", 1, MAX_APPROVALS, faults)?,
                false => 1,
            };
            Some(Deed::Approve { count })
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

const SELECTIONS: [&str; 3] = ["secrets", "prefixes", "heldBy"];

fn read_selections(fields: &Fields<'_>, faults: &mut Faults) -> Option<Vec<Selection>> {
    let mut selections = Vec::new();
    for name in ["secrets", "prefixes"] {
        for node in items(fields, name, MAX_SELECTIONS, faults) {
            let (text, _) = text_of(node, name, faults)?;
            let text = text.to_owned();
            selections.push(match name {
                "secrets" => Selection::Secret { name: text },
                _ => Selection::Prefix { path: text },
            });
        }
    }
    if let Some((host, _)) = fields.text("heldBy", faults) {
        let host = host.to_owned();
        selections.push(Selection::HeldBy { host });
    }
    Some(selections)
}

fn read_revoke(fields: &Fields<'_>, faults: &mut Faults) -> Option<Deed> {
    let known = ["secrets", "prefixes", "heldBy", "versions"];
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
    let mut arguments = BTreeMap::new();
    if let Some(node) = own.find("with") {
        for ((name, _), (value, _)) in open_fields(node, "with", faults)?.texts(faults) {
            arguments.insert(name.to_owned(), value.to_owned());
        }
    }
    Some(Deed::Run {
        playbook,
        arguments,
    })
}
