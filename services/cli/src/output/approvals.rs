//! Requests that take several people, in words. Pure.

use keywheel_schemas::api::{ApprovalView, BrokenGlassView};

use super::table::{columns, fields};
use super::tame;

/// The operation of confirming the audit's sinks.
const SINK_CHANGE: &str = "sink-change";

/// Whether it went without the others, and nobody has reviewed it.
pub(crate) fn is_unreviewed(one: &ApprovalView) -> bool {
    let glass = one.broken_glass.as_ref();
    glass.is_some_and(|glass| glass.reviewed_by.is_none())
}

/// How it is, in a word or two.
fn state(one: &ApprovalView) -> String {
    let more = match one.state.as_str() {
        "waiting" => format!(" for {} more", one.missing),
        _ => String::new(),
    };
    let glass = match &one.broken_glass {
        None => "",
        Some(_) if is_unreviewed(one) => ", without the others, not reviewed",
        Some(_) => ", without the others, reviewed",
    };
    format!("{}{more}{glass}", tame(&one.state))
}

/// Requests.
pub(crate) fn list(all: &[ApprovalView], color: bool) -> String {
    let row = |one: &ApprovalView| {
        vec![
            tame(&one.approval_id),
            tame(&one.operation),
            tame(&one.object),
            tame(&one.by),
            state(one),
            tame(&one.expires_at),
        ]
    };
    let headers = ["ID", "WHAT", "ON", "ASKED BY", "STATE", "EXPIRES"];
    columns(&headers, all.iter().map(row).collect(), color)
}

/// One, with all that would happen.
pub(crate) fn one(one: &ApprovalView) -> String {
    let glass = one.broken_glass.as_ref();
    let of_glass = |text: fn(&BrokenGlassView) -> String| glass.map(text).unwrap_or_default();
    let for_it: Vec<String> = one.approved_by.iter().map(|who| tame(who)).collect();
    let head = fields(&[
        ("id", tame(&one.approval_id)),
        ("what", tame(&one.operation)),
        ("on", tame(&one.object)),
        ("state", state(one)),
        ("it is over", tame(one.over.as_deref().unwrap_or_default())),
        ("people", one.needed.to_string()),
        ("asked by", tame(&one.by)),
        ("reason", tame(&one.reason)),
        ("for it", for_it.join(", ")),
        ("asked at", tame(&one.asked_at)),
        ("expires", tame(&one.expires_at)),
        ("glass broken by", of_glass(|glass| tame(&glass.by))),
        ("because", of_glass(|glass| tame(&glass.reason))),
        ("at", of_glass(|glass| tame(&glass.at))),
        (
            "reviewed by",
            of_glass(|glass| tame(glass.reviewed_by.as_deref().unwrap_or_default())),
        ),
        (
            "review",
            of_glass(|glass| tame(glass.review.as_deref().unwrap_or_default())),
        ),
        ("digest", tame(&one.digest)),
    ]);
    let plan: String = one
        .plan
        .lines()
        .map(|line| format!("  {}\n", tame(line)))
        .collect();
    format!("{}\nwhat happens\n{plan}", head.trim_end_matches('\n'))
}

/// What a word came to.
pub(crate) fn told(one: &ApprovalView) -> String {
    let id = tame(&one.approval_id);
    // Confirming them is all there is to do of such a request.
    let is_confirmed = one.operation == SINK_CHANGE && one.state == "used";
    let done = match is_confirmed {
        true => "; the sinks are confirmed, and new work begins",
        false => "",
    };
    let next = match (one.state.as_str(), is_unreviewed(one)) {
        ("approved", true) => {
            "; whoever asked repeats the command now, and somebody else reviews it afterwards"
                .to_owned()
        }
        ("approved", false) => "; whoever asked repeats the command now".to_owned(),
        (_, true) => {
            format!("; somebody else reviews it: `keywheel approval review {id} --reason TEXT`")
        }
        _ => String::new(),
    };
    format!("{}{done}{next}\n", sentence(one))
}

/// What a review came to: whoever asked is told nothing by it.
pub(crate) fn reviewed(one: &ApprovalView) -> String {
    format!("{}\n", sentence(one))
}

/// Which it is, and how it is.
fn sentence(one: &ApprovalView) -> String {
    format!(
        "request {} ({} on {}) {}",
        tame(&one.approval_id),
        tame(&one.operation),
        tame(&one.object),
        state(one)
    )
}

#[cfg(test)]
mod tests {
    use keywheel_core::approval::Operation;

    use super::*;

    fn asked() -> ApprovalView {
        ApprovalView {
            approval_id: "0190c8f0-0000-7000-8000-000000000001".to_owned(),
            operation: "policy-change".to_owned(),
            object: "policies".to_owned(),
            plan: "version 3 takes the place of version 2\n+ permit\u{1b}[31m bob".to_owned(),
            digest: "09".repeat(32),
            by: "certificate:ada".to_owned(),
            reason: "bob joined".to_owned(),
            state: "waiting".to_owned(),
            over: None,
            needed: 3,
            missing: 2,
            approved_by: vec!["certificate:ada".to_owned()],
            asked_at: "2026-01-04T02:00:00Z".to_owned(),
            expires_at: "2026-01-05T02:00:00Z".to_owned(),
            broken_glass: None,
        }
    }

    fn broken(reviewed_by: Option<&str>) -> ApprovalView {
        ApprovalView {
            state: "used".to_owned(),
            missing: 0,
            broken_glass: Some(BrokenGlassView {
                by: "certificate:ada".to_owned(),
                reason: "nobody else is awake".to_owned(),
                at: "2026-01-04T02:00:00Z".to_owned(),
                reviewed_by: reviewed_by.map(str::to_owned),
                review: reviewed_by.map(|_| "it stays".to_owned()),
            }),
            ..asked()
        }
    }

    #[test]
    fn a_list_says_how_many_each_waits_for_and_what_nobody_reviewed() {
        let text = list(&[asked(), broken(None)], false);
        for part in [
            "policy-change",
            "certificate:ada",
            "waiting for 2 more",
            "used, without the others, not reviewed",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(is_unreviewed(&broken(None)) && !is_unreviewed(&broken(Some("certificate:eve"))));
        assert!(!is_unreviewed(&asked()));
    }

    #[test]
    fn one_that_was_overtaken_waits_for_nobody_and_says_why() {
        let over = ApprovalView {
            state: "overtaken".to_owned(),
            over: Some("a set came since\u{1b}[31m".to_owned()),
            ..asked()
        };
        let listed = list(std::slice::from_ref(&over), false);
        assert!(listed.contains("overtaken"), "{listed}");
        assert!(!listed.contains("for 2 more"), "{listed}");
        let text = one(&over);
        assert!(text.contains("a set came since·[31m"), "{text}");
    }

    #[test]
    fn one_shows_line_by_line_what_would_happen_and_steers_no_terminal() {
        let text = one(&asked());
        assert!(
            text.contains("  version 3 takes the place of version 2\n"),
            "{text}"
        );
        assert!(text.contains("  + permit·[31m bob\n"), "{text}");
        assert!(!text.contains("reviewed by"), "{text}");
        let text = one(&broken(Some("certificate:eve")));
        assert!(
            text.contains("certificate:eve") && text.contains("it stays"),
            "{text}"
        );
    }

    #[test]
    fn whoever_says_a_word_hears_what_comes_next() {
        let approved = ApprovalView {
            state: "approved".to_owned(),
            missing: 0,
            ..asked()
        };
        assert!(told(&approved).contains("repeats the command now"));
        let used = ApprovalView {
            state: "used".to_owned(),
            ..approved
        };
        assert!(told(&used).ends_with(") used\n"), "{}", told(&used));
        let sinks = ApprovalView {
            operation: Operation::SinkChange.word().to_owned(),
            ..used
        };
        let text = told(&sinks);
        assert!(
            text.ends_with("used; the sinks are confirmed, and new work begins\n"),
            "{text}"
        );
        assert!(told(&asked()).contains("waiting for 2 more\n"));
        assert!(told(&broken(None)).contains(
            "`keywheel approval review 0190c8f0-0000-7000-8000-000000000001 --reason TEXT`"
        ));
    }

    #[test]
    fn a_review_tells_nobody_to_repeat_the_command() {
        let unused = ApprovalView {
            state: "approved".to_owned(),
            ..broken(Some("certificate:eve"))
        };
        for one in [unused, broken(Some("certificate:eve"))] {
            let text = reviewed(&one);
            assert!(text.ends_with(", without the others, reviewed\n"), "{text}");
        }
    }
}
