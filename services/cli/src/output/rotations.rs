//! What a rotation would do, and who a forced one leaves behind, as text for people. Pure.

use keywheel_schemas::api::{PlannedConsumer, RotationPlan, RotationView};

use super::table::{columns, fields};
use super::tame;
use super::views::{short, version_list};

/// A plan.
pub(crate) fn plan(plan: &RotationPlan, color: bool) -> String {
    let mut text = fields(&[
        ("secret", plan.secret.clone()),
        ("version", plan.version.to_string()),
        ("strategy", plan.strategy.clone()),
        ("consumers", plan.consumers.len().to_string()),
        ("restarts", plan.restarts.to_string()),
        ("expected gap", plan.expected_gap.clone()),
        (
            "deadline",
            format!("{} s, then {}", plan.deadline_seconds, plan.on_deadline),
        ),
        ("by itself", plan.schedule.clone()),
        ("sessions", plan.sessions.clone()),
        ("canary", plan.canary.clone()),
    ]);
    for blocker in &plan.blockers {
        text.push_str(&format!("in the way:  {}\n", tame(blocker)));
    }
    if !plan.consumers.is_empty() {
        let rows = plan.consumers.iter().map(row).collect();
        let headers = [
            "CONSUMER",
            "HOST",
            "BINDING",
            "VERSION",
            "ACTION",
            "ACKNOWLEDGES",
        ];
        text.push_str(&format!("\n{}", columns(&headers, rows, color)));
    }
    text
}

fn row(consumer: &PlannedConsumer) -> Vec<String> {
    vec![
        format!("{} ({})", consumer.name, short(&consumer.container)),
        consumer.host.clone(),
        consumer.binding.clone(),
        consumer.version.to_string(),
        consumer.action.clone(),
        consumer.acknowledges.clone(),
    ]
}

/// What forcing a rotation means for those who did not acknowledge.
pub(crate) fn force_warning(rotation: &RotationView) -> String {
    let mut text = format!(
        "This ends the waiting of the rotation of {} to version {}: {}, for ever.",
        tame(&rotation.secret),
        rotation.version,
        dying(rotation)
    );
    match rotation.waiting_for.as_slice() {
        [] => text.push_str("\nNobody is waited for."),
        left => {
            text.push_str("\nLeft behind:");
            for one in left {
                text.push_str(&format!("\n  {}", tame(one)));
            }
        }
    }
    text
}

/// What is revoked, in words; an older gateway does not say it.
fn dying(rotation: &RotationView) -> String {
    match rotation.dying.as_slice() {
        [] => "what dies at its end is revoked".to_owned(),
        [version] if *version == rotation.version => {
            format!("consumers go back to the version before, and version {version} is revoked")
        }
        [version] => format!("version {version} is revoked"),
        versions => format!("versions {} are revoked", version_list(versions)),
    }
}

#[cfg(test)]
mod tests {
    use keywheel_schemas::api::RotationTimings;

    use super::*;

    #[test]
    fn a_plan_names_strategy_gap_restarts_and_what_is_in_the_way() {
        let view = RotationPlan {
            secret: "prod/db".to_owned(),
            version: 3,
            strategy: "overlap: both live".to_owned(),
            consumers: vec![PlannedConsumer {
                container: "0123456789abcdef".repeat(4),
                name: "web\u{1b}[31m".to_owned(),
                host: "h".to_owned(),
                binding: "b".to_owned(),
                version: 2,
                action: "restarted".to_owned(),
                restarts: true,
                acknowledges: "reloaded".to_owned(),
            }],
            restarts: 1,
            expected_gap: "none in the value".to_owned(),
            deadline_seconds: 300,
            on_deadline: "hold".to_owned(),
            blockers: vec!["store `bao` does not answer".to_owned()],
            schedule: "on event dev.keywheel.host.evicted.v1 when held".to_owned(),
            sessions: "waited for".to_owned(),
            canary: "web, alone for 30 s".to_owned(),
        };
        let text = plan(&view, false);
        for part in [
            "overlap: both live",
            "restarts:",
            "none in the value",
            "300 s, then hold",
            "waited for",
            "canary:",
            "web, alone for 30 s",
            "in the way:  store `bao` does not answer",
            "on event dev.keywheel.host.evicted.v1 when held",
            "(0123456789ab)",
            "restarted",
        ] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
    }

    #[test]
    fn a_force_names_who_is_left_behind() {
        let mut view = RotationView {
            rotation_id: "r".to_owned(),
            secret: "a/b".to_owned(),
            version: 2,
            state: "distributing".to_owned(),
            trigger: "on_demand".to_owned(),
            waiting_for: vec!["container web: new value not in place yet".to_owned()],
            dying: vec![1],
            next_step: None,
            timings: RotationTimings::default(),
            consumers: Vec::new(),
        };
        let text = force_warning(&view);
        assert!(text.contains("a/b to version 2"), "{text}");
        assert!(text.contains("Left behind:\n  container web"), "{text}");
        assert!(text.contains("version 1 is revoked, for ever"), "{text}");
        for (dying, part) in [
            (vec![2], "go back to the version before, and version 2 is"),
            (vec![0, 1], "versions 0, 1 are revoked"),
            (vec![], "what dies at its end is revoked"),
        ] {
            view.dying = dying;
            assert!(force_warning(&view).contains(part), "{part}");
        }
        view.waiting_for.clear();
        assert!(force_warning(&view).contains("Nobody is waited for"));
    }
}
