//! Policies in words.

use std::collections::BTreeMap;

use keywheel_schemas::api::{PoliciesView, PolicyExplanation, PolicyFinding};

use super::tame;

fn findings(all: &[PolicyFinding]) -> String {
    let line = |one: &PolicyFinding| {
        format!(
            "policy {}: {} ({})\n",
            tame(&one.policy),
            tame(&one.text),
            tame(&one.kind)
        )
    };
    all.iter().map(line).collect()
}

/// What came of an apply.
pub(crate) fn applied(view: &PoliciesView, dry_run: bool) -> String {
    let head = match dry_run {
        true => "the set fits the schema; nothing was applied\n".to_owned(),
        false => format!("version {} of the policies is in force\n", view.version),
    };
    format!("{head}{}", findings(&view.findings))
}

/// What came of a check.
pub(crate) fn validated(count: usize, all: &[PolicyFinding]) -> String {
    format!("{count} policies fit the schema\n{}", findings(all))
}

/// What came of cases.
pub(crate) fn tested(count: usize, failed: &BTreeMap<&str, &str>) -> String {
    let lines = failed
        .iter()
        .map(|(name, text)| format!("{}: {}\n", tame(name), tame(text)));
    let lines: String = lines.collect();
    let well = count.saturating_sub(failed.len());
    format!("{well} of {count} cases come out as they should\n{lines}")
}

/// A set, whole.
pub(crate) fn set(view: &PoliciesView) -> String {
    let what = match (view.version, view.in_force) {
        (0, true) => "the shipped policies, in force until a set is applied".to_owned(),
        (0, false) => "the shipped policies".to_owned(),
        (version, true) => format!("version {version}, in force"),
        (version, false) => format!("version {version}"),
    };
    let by = view.by.as_deref().map(tame);
    let by = by.map_or_else(String::new, |by| format!(", applied by {by}"));
    let faults: String = view
        .faults
        .iter()
        .map(|fault| format!("{}\n", tame(fault)))
        .collect();
    let groups: String = view
        .groups
        .iter()
        .map(|(name, members)| {
            let members: Vec<String> = members.iter().map(|one| tame(one)).collect();
            format!("group {}: {}\n", tame(name), members.join(", "))
        })
        .collect();
    let text: String = view
        .policies
        .lines()
        .map(|line| format!("{}\n", tame(line)))
        .collect();
    format!(
        "{what}{by}\n{faults}{}{groups}\n{text}",
        findings(&view.findings)
    )
}

/// Why somebody may, or may not.
pub(crate) fn explanation(told: &PolicyExplanation) -> String {
    let word = if told.allowed { "allowed" } else { "denied" };
    let by = match told.allowed {
        true => format!("by {}", tame(&told.reason)),
        false => tame(&told.reason),
    };
    let near: String = told
        .near
        .iter()
        .map(|one| {
            let effect = if one.permits { "permits" } else { "forbids" };
            format!("  {} {effect}, but {}\n", tame(&one.policy), tame(&one.but))
        })
        .collect();
    format!("{word}: {by}\n{near}")
}

#[cfg(test)]
mod tests {
    use keywheel_schemas::api::NearPolicy;

    use super::*;

    #[test]
    fn an_explanation_says_what_decided_and_what_was_near() {
        let near = NearPolicy {
            policy: "team".to_owned(),
            permits: true,
            but: "is about other things".to_owned(),
        };
        let told = PolicyExplanation {
            allowed: false,
            reason: "default deny".to_owned(),
            policies: Vec::new(),
            near: vec![near],
            version: 3,
        };
        let text = "denied: default deny\n  team permits, but is about other things\n";
        assert_eq!(explanation(&told), text);
    }
}
