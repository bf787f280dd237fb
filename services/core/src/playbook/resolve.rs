//! Parameters put into a playbook's texts. What comes out is looked at as any name is: a parameter is
//! text and nothing else.

use std::collections::BTreeMap;

use super::{Deed, MAX_ARGUMENT_BYTES, Playbook, Rejection, Selection, Step};

const OPEN: &str = "${";
const CLOSE: char = '}';

/// Names of the parameters in a text; `None` when one has no end.
#[must_use]
pub fn parameters_of(text: &str) -> Option<Vec<&str>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once(OPEN) {
        let (name, after) = behind.split_once(CLOSE)?;
        found.push(name);
        rest = after;
    }
    Some(found)
}

/// A text with its parameters put in; one that is not known stays as it is.
#[must_use]
pub fn put_in(text: &str, arguments: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once(OPEN) {
        out.push_str(before);
        let Some((name, after)) = behind.split_once(CLOSE) else {
            out.push_str(OPEN);
            rest = behind;
            break;
        };
        match arguments.get(name) {
            Some(value) => out.push_str(value),
            None => {
                out.push_str(OPEN);
                out.push_str(name);
                out.push(CLOSE);
            }
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

impl Playbook {
    /// What a run is told, with what it need not be told.
    ///
    /// # Errors
    /// When something is missing, unknown or no name.
    pub fn arguments(
        &self,
        told: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Rejection> {
        let is_known = |name: &&String| self.spec.parameters.iter().any(|one| one.name == **name);
        if let Some(unknown) = told.keys().find(|name| !is_known(name)) {
            return Err(Rejection::ArgumentUnknown {
                playbook: self.name.clone(),
                parameter: unknown.chars().take(super::MAX_WORD_BYTES).collect(),
            });
        }
        let mut arguments = BTreeMap::new();
        for parameter in &self.spec.parameters {
            let name = &parameter.name;
            let value = told.get(name).or(parameter.default.as_ref());
            let Some(value) = value.filter(|value| !value.is_empty()) else {
                return Err(Rejection::ArgumentMissing {
                    playbook: self.name.clone(),
                    parameter: name.clone(),
                });
            };
            if value.len() > MAX_ARGUMENT_BYTES || value.chars().any(char::is_control) {
                return Err(Rejection::ArgumentOff {
                    parameter: name.clone(),
                });
            }
            arguments.insert(name.clone(), value.clone());
        }
        Ok(arguments)
    }

    /// Its steps with the parameters put in.
    #[must_use]
    pub fn steps(&self, arguments: &BTreeMap<String, String>) -> Vec<Step> {
        let concrete = |step: &Step| Step {
            deed: concrete_deed(&step.deed, arguments),
            ..step.clone()
        };
        self.spec.steps.iter().map(concrete).collect()
    }
}

fn concrete_deed(deed: &Deed, arguments: &BTreeMap<String, String>) -> Deed {
    let text = |text: &String| put_in(text, arguments);
    let all = |secrets: &[Selection]| {
        let one = |selection: &Selection| selection.with(put_in(selection.text(), arguments));
        secrets.iter().map(one).collect()
    };
    match deed {
        Deed::Rotate { secrets } => Deed::Rotate {
            secrets: all(secrets),
        },
        Deed::Revoke { secrets, which } => Deed::Revoke {
            secrets: all(secrets),
            which: *which,
        },
        Deed::Evict { host } => Deed::Evict { host: text(host) },
        Deed::Restart { containers } => Deed::Restart {
            containers: all(containers),
        },
        Deed::Quarantine { containers, action } => Deed::Quarantine {
            containers: all(containers),
            action: *action,
        },
        Deed::Run {
            playbook,
            arguments: told,
        } => Deed::Run {
            playbook: playbook.clone(),
            arguments: told
                .iter()
                .map(|(name, value)| (name.clone(), text(value)))
                .collect(),
        },
        Deed::Notify {
            notifications,
            text: said,
        } => Deed::Notify {
            notifications: notifications.clone(),
            text: text(said),
        },
        Deed::Call {
            notification,
            text: said,
        } => Deed::Call {
            notification: notification.clone(),
            text: text(said),
        },
        Deed::Approve { count, not } => Deed::Approve {
            count: *count,
            not: not.iter().map(text).collect(),
        },
        Deed::Wait { .. } | Deed::Withdrawn | Deed::Prove => deed.clone(),
    }
}
