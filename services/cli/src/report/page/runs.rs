//! What the page has of a playbook's run alone: its steps, its approvals, and the proof of each version.

use keywheel_schemas::api::{EvidenceSummary, ReportStep};

use super::html::Html;
use super::spans::instant;
use super::{after, number};

/// Steps, in the order in which they are declared.
pub(super) fn steps(html: &mut Html, told: &EvidenceSummary) {
    let Some(first) = told.steps.first() else {
        return;
    };
    // A run without runs below it has its playbook's name in its heading.
    let of_several = told.steps.iter().any(|one| one.run != first.run);
    let rows = told.steps.iter().map(|one| {
        let name = match of_several {
            true => format!("{}: {}", one.playbook, one.name),
            false => one.name.clone(),
        };
        vec![
            name,
            action(one),
            one.state.clone(),
            one.begun.as_deref().map(instant).unwrap_or_default(),
            after(one.took_us),
            one.until.as_deref().map(instant).unwrap_or_default(),
            result(one),
        ]
    });
    let heads = [
        "Step",
        "What it does",
        "State",
        "Begun (UTC)",
        "Took",
        "Deadline (UTC)",
        "What came of it",
    ];
    html.section("Steps", &heads, rows);
}

/// What a step does, and after what.
fn action(one: &ReportStep) -> String {
    match one.after.is_empty() {
        true => one.action.clone(),
        false => format!("{}\nafter {}", one.action, one.after.join(", ")),
    }
}

fn result(one: &ReportStep) -> String {
    let targets = one.targets.iter();
    let targets = targets.map(|one| format!("{}: {}", one.target, one.outcome));
    let first = Some(one.result.clone()).filter(|text| !text.is_empty());
    let all: Vec<String> = first.into_iter().chain(targets).collect();
    all.join("\n")
}

/// Who approved, and for how long they were waited for.
pub(super) fn approvals(html: &mut Html, told: &EvidenceSummary) {
    if !told
        .steps
        .iter()
        .any(|one| one.action.ends_with("approval") || one.action.ends_with("approvals"))
    {
        return;
    }
    let rows = told.approvals.iter().map(|one| {
        vec![
            instant(&one.at),
            one.who.clone(),
            one.step.clone(),
            after(Some(one.after_us)),
            one.reason.clone(),
            one.event.to_string(),
        ]
    });
    let heads = ["When (UTC)", "Who", "Step", "Waited for", "Reason", "Event"];
    html.section("Approvals", &heads, rows);
}

/// Of each version that died whether that was shown.
pub(super) fn proofs(html: &mut Html, told: &EvidenceSummary) {
    let rows = told.proofs.iter().map(|one| {
        vec![
            one.secret.clone(),
            one.version.to_string(),
            one.verdict.clone(),
            one.at.as_deref().map(instant).unwrap_or_default(),
            after(one.after_us),
            number(one.event),
        ]
    });
    let heads = [
        "Secret",
        "Version",
        "What is shown",
        "When (UTC)",
        "After",
        "Event",
    ];
    html.table(&heads, rows);
}
