//! What takes several people. Policies say who may; this says how many.
//!
//! Invariant: it is in the configuration and nowhere else, as sinks are (rule A7), so nobody who may only ask lowers it.

use std::collections::BTreeMap;

use keywheel_core::approval::{MAX_PEOPLE, MIN_PEOPLE, Operation};

use super::sources::Sources;
use crate::leaf::shorten;

/// How many people an operation takes; what is not in here takes one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DualControl {
    /// By operation, whoever asks being one of them.
    pub people: BTreeMap<Operation, u64>,
}

impl DualControl {
    pub(super) fn take(sources: &mut Sources) -> Self {
        let people = Operation::ALL.into_iter().filter_map(|operation| {
            let people = people(sources, setting(operation))?;
            Some((operation, people))
        });
        Self {
            people: people.collect(),
        }
    }
}

/// Name of the setting of an operation.
#[must_use]
pub const fn setting(operation: Operation) -> &'static str {
    match operation {
        Operation::Unseal => "dual_control.unseal",
        Operation::AuditExport => "dual_control.audit_export",
        Operation::SinkChange => "dual_control.sink_change",
        Operation::PolicyChange => "dual_control.policy_change",
        Operation::HostReturn => "dual_control.host_return",
    }
}

fn people(sources: &mut Sources, setting: &'static str) -> Option<u64> {
    let text = sources.optional_text(setting)?;
    match text.parse() {
        Ok(people) if (MIN_PEOPLE..=MAX_PEOPLE).contains(&people) => Some(people),
        _ => {
            let message = format!(
                "`{}` is not how many people it takes; write \"{MIN_PEOPLE}\" to \"{MAX_PEOPLE}\", or leave it out",
                shorten(&text)
            );
            sources.fault(setting, message);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, ConfigFlags};

    fn load(file: &str) -> Result<DualControl, String> {
        let flags = ConfigFlags {
            machine_name: Some("one".to_owned()),
            ..ConfigFlags::default()
        };
        let loaded = Config::load(Some(("file", file)), &|_| None, flags);
        loaded.map(|config| config.dual_control).map_err(|faults| {
            let faults = faults.iter().map(ToString::to_string);
            faults.collect::<Vec<_>>().join("; ")
        })
    }

    #[test]
    fn nothing_takes_several_people_unless_it_says_so() {
        assert_eq!(load("").unwrap(), DualControl::default());
        let said = "[dual_control]\npolicy_change = \"3\"\nunseal = \"2\"";
        let people = load(said).unwrap().people;
        let wanted = [(Operation::PolicyChange, 3), (Operation::Unseal, 2)];
        assert_eq!(people, wanted.into());
    }

    #[test]
    fn every_operation_has_a_setting_and_bounds() {
        for operation in Operation::ALL {
            let (section, name) = setting(operation).split_once('.').unwrap();
            let of = |people: u64| load(&format!("[{section}]\n{name} = \"{people}\""));
            for people in [MIN_PEOPLE, MAX_PEOPLE] {
                assert_eq!(of(people).unwrap().people, [(operation, people)].into());
            }
            for people in [MIN_PEOPLE - 1, MAX_PEOPLE + 1] {
                let fault = of(people).unwrap_err();
                assert!(fault.contains("how many people"), "{fault}");
            }
        }
        assert!(load("[dual_control]\nunseal = \"two\"").is_err());
    }
}
