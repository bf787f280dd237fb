//! Whether a playbook can be run at all: names, order, bounds. What it is about may not be there yet.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    Deed, EVENT_DATA, EVENT_WORDS, MAX_APPROVALS, MAX_DEADLINE, MAX_LEFT_OUT, MAX_MESSAGE_BYTES,
    MAX_PARAMETERS, MAX_SELECTIONS, MAX_STEPS, MAX_TRIGGERS, MAX_WORD_BYTES, MIN_DEADLINE,
    QUARANTINE_ACTIONS, Selection, Spec, Step, Trigger, is_person, resolve,
};

/// What is wrong with a playbook.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// It does nothing.
    #[error("it has no step; give it at least one")]
    Empty,
    /// Over a bound.
    #[error("it has {count} {what}; at most {limit} are allowed")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many.
        count: usize,
        /// How many there may be.
        limit: usize,
    },
    /// A word off the grammar.
    #[error(
        "`{word}` is no name of a {what}: use lower-case letters, digits, `.`, `_` and `-`, {MAX_WORD_BYTES} at most"
    )]
    Word {
        /// Of what.
        what: &'static str,
        /// The word, shortened.
        word: String,
    },
    /// Two have one name.
    #[error("two of its {what} are named `{word}`; give one of them another name")]
    Twice {
        /// Of what.
        what: &'static str,
        /// The name.
        word: String,
    },
    /// A step comes after one that is not there.
    #[error(
        "step `{step}` comes after `{after}`, which is no step of it; name one that is, or leave `after` out"
    )]
    AfterUnknown {
        /// The step.
        step: String,
        /// What it names.
        after: String,
    },
    /// Steps wait for each other.
    #[error("step `{step}` waits for itself; take one of the steps between out of its way")]
    Circle {
        /// One of them.
        step: String,
    },
    /// A deadline or wait off its bounds.
    #[error("step `{step}` has a time outside of one second to seven days")]
    Time {
        /// The step.
        step: String,
    },
    /// An approval off its bounds.
    #[error("step `{step}` waits for {count} principals; ask for 1 to {MAX_APPROVALS}")]
    Approvals {
        /// The step.
        step: String,
        /// How many.
        count: u32,
    },
    /// An approval leaves out what is nobody.
    #[error(
        "step `{step}` leaves out `{text}`, which names no person; write `unix:UID`, `certificate:NAME`, `oidc:NAME` or a parameter"
    )]
    NotPerson {
        /// The step.
        step: String,
        /// What it names, shortened.
        text: String,
    },
    /// A step means no secret.
    #[error("step `{step}` names no secret; give it at least one selection")]
    NoSecret {
        /// The step.
        step: String,
    },
    /// A step means no container.
    #[error("step `{step}` names no container; give it at least one selection")]
    NoContainer {
        /// The step.
        step: String,
    },
    /// What is done in a quarantine is nothing that cuts anything off.
    #[error(
        "step `{step}` has a quarantine that does `{action}`; choose `disconnect`, `pause` or `stop`"
    )]
    QuarantineAction {
        /// The step.
        step: String,
        /// What it does.
        action: &'static str,
    },
    /// A parameter that is not declared.
    #[error(
        "step `{step}` uses `${{{parameter}}}`, which is no parameter of it; declare it under `parameters`"
    )]
    ParameterUnknown {
        /// The step.
        step: String,
        /// The parameter.
        parameter: String,
    },
    /// A trigger tells what is no parameter.
    #[error(
        "a trigger tells `{parameter}`, which is no parameter of it; declare it under `parameters`"
    )]
    TriggerUnknown {
        /// The parameter.
        parameter: String,
    },
    /// A trigger does not tell what a run has to be told.
    #[error(
        "a trigger does not tell `{parameter}`; say it under its `with`, or give the parameter a default"
    )]
    TriggerSilent {
        /// The parameter.
        parameter: String,
    },
    /// A trigger's argument names something that is not there.
    #[error(
        "`{text}` of a trigger names something else than `${{event.secret}}`, `${{event.host}}` and what lies in `${{event.data.…}}`, which triggers on events have"
    )]
    TriggerText {
        /// The text, shortened.
        text: String,
    },
    /// A message off its bounds.
    #[error(
        "step `{step}` has to say something in {MAX_MESSAGE_BYTES} bytes at most, without control characters, to at least one notification"
    )]
    Message {
        /// The step.
        step: String,
    },
    /// A `${` without its end.
    #[error("step `{step}` has a `${{` without `}}` behind it")]
    ParameterOpen {
        /// The step.
        step: String,
    },
}

impl Spec {
    /// What is wrong with it, in itself; the first of several.
    #[must_use]
    pub fn fault(&self) -> Option<Fault> {
        let parameters = self.parameters.iter().map(|one| one.name.as_str());
        let steps = self.steps.iter().map(|step| step.name.as_str());
        let empty = self.steps.is_empty().then_some(Fault::Empty);
        empty
            .or_else(|| too_many("steps", self.steps.len(), MAX_STEPS))
            .or_else(|| too_many("parameters", self.parameters.len(), MAX_PARAMETERS))
            .or_else(|| names(("parameter", "parameters"), parameters))
            .or_else(|| names(("step", "steps"), steps))
            .or_else(|| self.steps.iter().find_map(|step| self.step_fault(step)))
            .or_else(|| self.circle())
            .or_else(|| too_many("triggers", self.triggers.len(), MAX_TRIGGERS))
            .or_else(|| self.triggers.iter().find_map(|one| self.trigger_fault(one)))
    }

    fn step_fault(&self, step: &Step) -> Option<Fault> {
        let name = || step.name.clone();
        let is_known = |after: &str| self.steps.iter().any(|other| other.name == after);
        if let Some(after) = step.after.iter().find(|after| !is_known(&after.step)) {
            let after = after.step.clone();
            return Some(Fault::AfterUnknown {
                step: name(),
                after,
            });
        }
        let times = MIN_DEADLINE..=MAX_DEADLINE;
        let span = match &step.deed {
            Deed::Wait { span } => *span,
            _ => None,
        };
        if !times.contains(&step.deadline) || span.is_some_and(|span| !times.contains(&span)) {
            return Some(Fault::Time { step: name() });
        }
        match &step.deed {
            Deed::Approve { count, not } => {
                if let Some(fault) = approval_fault(step, *count, not) {
                    return Some(fault);
                }
            }
            Deed::Rotate { secrets } | Deed::Revoke { secrets, .. } => {
                if secrets.is_empty() {
                    return Some(Fault::NoSecret { step: name() });
                }
                if let Some(fault) = too_many("selections", secrets.len(), MAX_SELECTIONS) {
                    return Some(fault);
                }
            }
            Deed::Restart { containers } | Deed::Quarantine { containers, .. } => {
                if let Some(fault) = containers_fault(step, containers) {
                    return Some(fault);
                }
            }
            Deed::Notify {
                notifications,
                text,
            } => {
                let count = notifications.len();
                if let Some(fault) = too_many("notifications", count, MAX_SELECTIONS) {
                    return Some(fault);
                }
                if count == 0 || !is_message(text) {
                    return Some(Fault::Message { step: name() });
                }
            }
            Deed::Call { text, .. } if !is_message(text) => {
                return Some(Fault::Message { step: name() });
            }
            _ => {}
        }
        texts(&step.deed)
            .into_iter()
            .find_map(|text| self.text_fault(step, text))
    }

    fn text_fault(&self, step: &Step, text: &str) -> Option<Fault> {
        let step = step.name.clone();
        let Some(used) = resolve::parameters_of(text) else {
            return Some(Fault::ParameterOpen { step });
        };
        let is_known = |name: &&str| self.parameters.iter().any(|one| one.name == **name);
        let unknown = used.into_iter().find(|name| !is_known(name))?;
        let parameter = unknown.chars().take(MAX_WORD_BYTES).collect();
        Some(Fault::ParameterUnknown { step, parameter })
    }

    fn trigger_fault(&self, trigger: &Trigger) -> Option<Fault> {
        let told = trigger.arguments();
        let is_known = |name: &&String| self.parameters.iter().any(|one| one.name == **name);
        if let Some(unknown) = told.keys().find(|name| !is_known(name)) {
            let parameter = unknown.chars().take(MAX_WORD_BYTES).collect();
            return Some(Fault::TriggerUnknown { parameter });
        }
        let mut parameters = self.parameters.iter();
        let is_missing = |name: &str| !told.contains_key(name);
        if let Some(missing) = parameters.find(|one| one.default.is_none() && is_missing(&one.name))
        {
            let parameter = missing.name.clone();
            return Some(Fault::TriggerSilent { parameter });
        }
        let is_told = |word: &str| match trigger {
            Trigger::Event { .. } => EVENT_WORDS.contains(&word) || is_data(word),
            Trigger::Schedule { .. } => false,
        };
        let is_off = |text: &&String| {
            let used = resolve::parameters_of(text);
            used.is_none_or(|used| used.iter().any(|word| !is_told(word)))
        };
        let off = told.values().find(is_off)?;
        let text = off.chars().take(MAX_WORD_BYTES).collect();
        Some(Fault::TriggerText { text })
    }

    /// A step that waits for itself: what is left once all that can begin has.
    fn circle(&self) -> Option<Fault> {
        let mut left: BTreeMap<&str, BTreeSet<&str>> = self
            .steps
            .iter()
            .map(|step| {
                let after = step.after.iter().map(|after| after.step.as_str());
                (step.name.as_str(), after.collect())
            })
            .collect();
        loop {
            let mut steps = left.iter();
            let Some(free) = steps.find(|(_, after)| after.is_empty()) else {
                break;
            };
            let free = *free.0;
            left.remove(free);
            for after in left.values_mut() {
                after.remove(free);
            }
        }
        let step = (*left.keys().next()?).to_owned();
        Some(Fault::Circle { step })
    }
}

/// What is wrong with a step that waits for people. Whom a parameter names is looked at once the step begins.
fn approval_fault(step: &Step, count: u32, not: &[String]) -> Option<Fault> {
    let name = || step.name.clone();
    if !(1..=MAX_APPROVALS).contains(&count) {
        return Some(Fault::Approvals {
            step: name(),
            count,
        });
    }
    if let Some(fault) = too_many("principals under `not`", not.len(), MAX_LEFT_OUT) {
        return Some(fault);
    }
    let is_open = |text: &str| resolve::parameters_of(text).is_none_or(|used| !used.is_empty());
    let off = not.iter().find(|text| !is_open(text) && !is_person(text))?;
    let text = off.chars().take(MAX_WORD_BYTES).collect();
    Some(Fault::NotPerson { step: name(), text })
}

/// What is wrong with a step that does something to containers.
fn containers_fault(step: &Step, containers: &[Selection]) -> Option<Fault> {
    let name = || step.name.clone();
    if containers.is_empty() {
        return Some(Fault::NoContainer { step: name() });
    }
    if let Deed::Quarantine { action, .. } = step.deed
        && !QUARANTINE_ACTIONS.contains(&action)
    {
        let action = action.word();
        return Some(Fault::QuarantineAction {
            step: name(),
            action,
        });
    }
    too_many("selections", containers.len(), MAX_SELECTIONS)
}

impl Step {
    /// Bytes of its texts that may hold parameters.
    #[must_use]
    pub fn text_bytes(&self) -> usize {
        texts(&self.deed).into_iter().map(str::len).sum()
    }
}

/// Texts of a deed that may hold parameters.
fn texts(deed: &Deed) -> Vec<&str> {
    match deed {
        Deed::Rotate { secrets } | Deed::Revoke { secrets, .. } => {
            secrets.iter().map(Selection::text).collect()
        }
        Deed::Restart { containers } | Deed::Quarantine { containers, .. } => {
            containers.iter().map(Selection::text).collect()
        }
        Deed::Evict { host } => vec![host.as_str()],
        Deed::Run { arguments, .. } => arguments.values().map(String::as_str).collect(),
        Deed::Notify { text, .. } | Deed::Call { text, .. } => vec![text.as_str()],
        Deed::Approve { not, .. } => not.iter().map(String::as_str).collect(),
        Deed::Wait { .. } | Deed::Withdrawn | Deed::Prove => Vec::new(),
    }
}

/// Whether it names a part of an event's data.
fn is_data(word: &str) -> bool {
    let path = word.strip_prefix(EVENT_DATA);
    path.is_some_and(|path| path.split('.').all(|part| !part.is_empty()))
}

fn is_message(text: &str) -> bool {
    let is_bounded = text.len() <= MAX_MESSAGE_BYTES && !text.chars().any(char::is_control);
    is_bounded && !text.trim().is_empty()
}

fn too_many(what: &'static str, count: usize, limit: usize) -> Option<Fault> {
    (count > limit).then_some(Fault::TooMany { what, count, limit })
}

/// A name off the grammar, or one that is there twice.
fn names<'n>(
    (one, many): (&'static str, &'static str),
    names: impl Iterator<Item = &'n str>,
) -> Option<Fault> {
    let mut seen = BTreeSet::new();
    for name in names {
        if !is_word(name) {
            let word = name.chars().take(MAX_WORD_BYTES).collect();
            return Some(Fault::Word { what: one, word });
        }
        if !seen.insert(name) {
            let word = name.to_owned();
            return Some(Fault::Twice { what: many, word });
        }
    }
    None
}

fn is_word(text: &str) -> bool {
    let byte =
        |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    !text.is_empty() && text.len() <= MAX_WORD_BYTES && text.bytes().all(byte)
}
