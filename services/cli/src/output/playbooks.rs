//! Playbooks, plans and runs, as text for people. Pure.

use keywheel_schemas::api::{
    PlannedPlaybookStep, PlaybookPlan, PlaybookRunView, PlaybookView, QuarantineView, RunScore,
    RunStepView, RunTargetView,
};
use keywheel_schemas::event::playbook::{
    PlaybookDeed, PlaybookParameter, PlaybookStep, PlaybookTrigger,
};

use super::table::{columns, fields};
use super::tame;

/// The list.
pub(crate) fn playbooks(all: &[PlaybookView], color: bool) -> String {
    if all.is_empty() {
        return "no playbook is declared; `keywheel apply -f` takes `kind: Playbook`".to_owned();
    }
    let row = |one: &PlaybookView| {
        let told = one.parameters.iter().map(parameter).collect::<Vec<_>>();
        vec![
            one.name.clone(),
            one.steps.len().to_string(),
            told.join(" "),
            one.open_runs.to_string(),
        ]
    };
    let headers = ["PLAYBOOK", "STEPS", "PARAMETERS", "OPEN RUNS"];
    columns(&headers, all.iter().map(row).collect(), color)
}

fn parameter(one: &PlaybookParameter) -> String {
    match &one.default {
        Some(default) => format!("{}={default}", one.name),
        None => one.name.clone(),
    }
}

/// One playbook.
pub(crate) fn playbook(one: &PlaybookView, color: bool) -> String {
    let told = one.parameters.iter().map(parameter).collect::<Vec<_>>();
    let mut text = fields(&[
        ("playbook", one.name.clone()),
        ("parameters", told.join(" ")),
        ("open runs", one.open_runs.to_string()),
    ]);
    for trigger in &one.triggers {
        text.push_str(&format!("begins:      {}\n", tame(&begins(trigger))));
    }
    let row = |step: &PlaybookStep| {
        let after = step.after.iter().map(|after| match after.failed {
            true => format!("{} failed", after.step),
            false => after.step.clone(),
        });
        vec![
            step.name.clone(),
            word(&step.deed).to_owned(),
            after.collect::<Vec<_>>().join(", "),
            format!("{} s", step.deadline.0.as_secs()),
        ]
    };
    let rows = one.steps.iter().map(row).collect();
    let headers = ["STEP", "DOES", "AFTER", "DEADLINE"];
    text.push_str(&format!("\n{}", columns(&headers, rows, color)));
    text
}

fn begins(trigger: &PlaybookTrigger) -> String {
    match trigger {
        PlaybookTrigger::Event { event, when, .. } => match when {
            Some(when) => format!("{event} when {when}"),
            None => event.clone(),
        },
        PlaybookTrigger::Schedule {
            expression,
            timezone,
            ..
        } => format!("{expression} {timezone}"),
    }
}

const fn word(deed: &PlaybookDeed) -> &'static str {
    match deed {
        PlaybookDeed::Rotate { .. } => "rotate",
        PlaybookDeed::Revoke { .. } => "revoke",
        PlaybookDeed::Evict { .. } => "evict",
        PlaybookDeed::Wait { .. } => "wait",
        PlaybookDeed::Approve { .. } => "approve",
        PlaybookDeed::Run { .. } => "run",
        PlaybookDeed::Withdrawn {} => "wait until withdrawn",
        PlaybookDeed::Prove {} => "prove",
        PlaybookDeed::Notify { .. } => "notify",
        PlaybookDeed::Call { .. } => "call",
        PlaybookDeed::Restart { .. } => "restart",
        PlaybookDeed::Quarantine { .. } => "quarantine",
    }
}

/// What a run would do.
pub(crate) fn plan(plan: &PlaybookPlan, color: bool) -> String {
    let row = |step: &PlannedPlaybookStep| {
        vec![
            step.name.clone(),
            step.action.clone(),
            step.targets.join(", "),
            step.after.join(", "),
            format!("{} s", step.deadline_seconds),
        ]
    };
    let rows = plan.steps.iter().map(row).collect();
    let headers = ["STEP", "DOES", "TO", "AFTER", "DEADLINE"];
    let mut text = columns(&headers, rows, color);
    text.push('\n');
    for blocker in &plan.blockers {
        text.push_str(&format!("in the way:  {}\n", tame(blocker)));
    }
    text
}

/// What stands in the way of a run.
pub(crate) fn blockers(plan: &PlaybookPlan) -> String {
    if plan.blockers.is_empty() {
        return format!("nothing is in the way of a run of {}", tame(&plan.playbook));
    }
    let lines = plan.blockers.iter().map(|blocker| tame(blocker));
    lines.collect::<Vec<_>>().join("\n")
}

/// Containers in quarantine.
pub(crate) fn quarantines(all: &[QuarantineView], color: bool) -> String {
    if all.is_empty() {
        return "no container is in quarantine".to_owned();
    }
    let row = |one: &QuarantineView| {
        vec![
            tame(&one.container),
            one.id.chars().take(12).collect(),
            one.host.clone(),
            one.action.clone(),
            one.state.clone(),
            tame(one.failure.as_ref().unwrap_or(&one.reason)),
        ]
    };
    let rows = all.iter().map(row).collect();
    let headers = ["CONTAINER", "ID", "HOST", "ACTION", "STATE", "WHY"];
    columns(&headers, rows, color)
}

/// Runs.
pub(crate) fn runs(all: &[PlaybookRunView], color: bool) -> String {
    if all.is_empty() {
        return "no playbook was run".to_owned();
    }
    let row = |run: &PlaybookRunView| {
        vec![
            run.run_id.clone(),
            run.playbook.clone(),
            run.state.clone(),
            done(run),
            run.by.clone(),
            run.reason.clone(),
        ]
    };
    let headers = ["RUN", "PLAYBOOK", "STATE", "STEPS", "BY", "REASON"];
    columns(&headers, all.iter().map(row).collect(), color)
}

fn done(run: &PlaybookRunView) -> String {
    let is_over = |step: &&RunStepView| !["pending", "running"].contains(&step.state.as_str());
    let over = run.steps.iter().filter(is_over).count();
    format!("{over}/{}", run.steps.len())
}

/// How a run stands, in a line.
pub(crate) fn standing(run: &PlaybookRunView) -> String {
    let open = run.steps.iter().filter(|step| step.state == "running");
    let open: Vec<String> = open
        .map(|step| format!("{} ({})", tame(&step.name), tame(&step.action)))
        .collect();
    let mut words = format!(
        "playbook {}: {}, {} steps are over",
        tame(&run.playbook),
        run.state,
        done(run)
    );
    if !open.is_empty() {
        words.push_str(&format!("; under way: {}", open.join(", ")));
    }
    words
}

/// One run.
pub(crate) fn run(run: &PlaybookRunView, color: bool) -> String {
    let told = run.arguments.iter();
    let told: Vec<String> = told
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    let mut text = fields(&[
        ("run", run.run_id.clone()),
        ("playbook", run.playbook.clone()),
        ("state", run.state.clone()),
        ("told", told.join(" ")),
        ("by", run.by.clone()),
        ("reason", run.reason.clone()),
        ("step of run", run.parent.clone().unwrap_or_default()),
        ("took", run.took_ms.map(took).unwrap_or_default()),
        ("score", score(&run.score)),
    ]);
    let row = |step: &RunStepView| {
        vec![
            step.name.clone(),
            step.action.clone(),
            step.state.clone(),
            step.until.clone().unwrap_or_default(),
            step.took_ms.map(took).unwrap_or_default(),
            step.approvals.join(", "),
        ]
    };
    let rows = run.steps.iter().map(row).collect();
    let headers = ["STEP", "DOES", "STATE", "UNTIL", "TOOK", "APPROVED BY"];
    text.push_str(&format!("\n{}\n", columns(&headers, rows, color)));
    for one in &run.score.not_through {
        text.push_str(&format!("\nnot through: {}", tame(one)));
    }
    for step in &run.steps {
        if let Some(why) = &step.failure {
            text.push_str(&format!("\n{} failed: {}", tame(&step.name), tame(why)));
        }
        if let Some(note) = &step.note {
            text.push_str(&format!("\n{}: {}", tame(&step.name), tame(note)));
        }
        for target in &step.targets {
            text.push_str(&format!("\n{}: {}", tame(&step.name), came_of(target)));
        }
    }
    text
}

fn took(milliseconds: f64) -> String {
    format!("{:.1} s", milliseconds / 1000.0)
}

fn score(score: &RunScore) -> String {
    match score.targets {
        0 => String::new(),
        all => format!(
            "{} % ({} of {all} are through)",
            score.percent, score.through
        ),
    }
}

fn came_of(target: &RunTargetView) -> String {
    let name = tame(&target.target);
    match (&target.begun, &target.refused) {
        (Some(begun), _) => format!("{name}: {}", tame(begun)),
        (None, Some(why)) => format!("{name}: refused: {}", tame(why)),
        (None, None) => format!("{name}: not yet"),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_run_says_where_it_stands_and_what_was_refused() {
        let step = |name: &str, state: &str| RunStepView {
            name: name.to_owned(),
            action: "rotate".to_owned(),
            state: state.to_owned(),
            until: None,
            failure: None,
            note: None,
            took_ms: None,
            approvals: Vec::new(),
            targets: vec![RunTargetView {
                target: "prod/db".to_owned(),
                begun: None,
                refused: (state == "failed").then(|| "no\u{1b} generator".to_owned()),
            }],
        };
        let shown = PlaybookRunView {
            run_id: "r".to_owned(),
            playbook: "leaked".to_owned(),
            state: "running".to_owned(),
            arguments: BTreeMap::new(),
            by: "unix:0".to_owned(),
            reason: "leaked".to_owned(),
            parent: None,
            steps: vec![step("first", "failed"), step("second", "running")],
            took_ms: Some(61_000.0),
            score: RunScore {
                targets: 2,
                through: 1,
                percent: 50,
                not_through: vec!["prod/db: no generator".to_owned()],
            },
            begun: None,
        };
        let text = run(&shown, false);
        assert!(
            text.contains("first: prod/db: refused: no\u{b7} generator"),
            "{text}"
        );
        assert!(text.contains("second: prod/db: not yet"), "{text}");
        assert!(text.contains("50 % (1 of 2 are through)"), "{text}");
        assert!(
            text.contains("not through: prod/db: no generator"),
            "{text}"
        );
        let line = standing(&shown);
        assert!(
            line.contains("1/2 steps") && line.contains("second"),
            "{line}"
        );
    }
}
