//! How many sinks take the audit's records, by what audit sinks said of themselves. Pure.
//!
//! Invariant: who is not heard, or is itself far behind the journal, takes none.

use std::collections::BTreeSet;

use keywheel_engine::presence::{COPY_FACT, Health, Reached, Row, SINK_FACT};

use crate::views::status::LAG_LIMIT;

/// Why no new work may begin with fewer than `min`; nothing when there are enough.
pub(crate) fn held_back(heard: &[Row], min: usize) -> Option<String> {
    let taking = taking(heard).len();
    (taking < min).then(|| {
        format!(
            "only {taking} of the {min} audit sinks that are asked for take records, so no new work begins; `keywheel status` names those that do not; revocations go on"
        )
    })
}

/// Why records before a number may not leave the journal; nothing when sinks enough take records, one at least, and
/// every copy that is heard has these and agrees with the journal.
pub(crate) fn keeps(heard: &[Row], before: u64, min: usize) -> Option<String> {
    let (taking, min) = (taking(heard).len(), min.max(1));
    if taking < min {
        return Some(format!(
            "only {taking} of the {min} audit sinks that have to have them take records; `keywheel status` names those that do not"
        ));
    }
    let differs = |row: &Row| {
        let mut facts = row.presence.seen.facts.iter();
        facts.any(|fact| fact.name == COPY_FACT && fact.health == Health::Problem)
    };
    if heard.iter().any(differs) {
        let text = "a copy of the audit differs from the journal: both are kept as they are";
        return Some(text.to_owned());
    }
    let kept = heard.iter().map(|row| match row.presence.seen.reached {
        Some(Reached::AuditRecords(kept)) => kept,
        _ => 0,
    });
    let behind = kept.min().filter(|kept| *kept < before);
    behind.map(|kept| {
        format!(
            "an audit sink's copy ends before record {kept}, and has to have all before {before}"
        )
    })
}

/// Sinks that take records, the copy of an audit sink being one.
fn taking(heard: &[Row]) -> BTreeSet<&str> {
    let near = heard
        .iter()
        .filter(|row| row.lag().is_some_and(|lag| lag <= LAG_LIMIT));
    let facts = near.flat_map(|row| &row.presence.seen.facts);
    let is_sink = |name: &str| name == COPY_FACT || name.starts_with(SINK_FACT);
    facts
        .filter(|fact| is_sink(&fact.name) && fact.health < Health::Problem)
        .map(|fact| fact.name.as_str())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keywheel_core::audit::Role;
    use keywheel_core::time::Timestamp;
    use keywheel_engine::presence::{Fact, Heard, Presence, Seen};

    use super::*;

    fn row(reached: u64, head: u64, facts: Vec<Fact>) -> Row {
        let at = Timestamp::from_micros(1);
        let presence = Presence {
            role: Role::AuditSink,
            host: None,
            instance: [1; 16],
            machine: "m".to_owned(),
            version: "0".to_owned(),
            started: at,
            sent: at,
            leaving: false,
            certificate_end: None,
            bus: None,
            seen: Seen {
                reached: Some(Reached::AuditRecords(reached)),
                facts,
            },
        };
        let heard = Heard {
            at,
            steady: Duration::ZERO,
            head: Some(head),
        };
        Row {
            presence,
            heard,
            behind_since: None,
        }
    }

    fn facts() -> Vec<Fact> {
        vec![
            Fact::ok(COPY_FACT, ""),
            Fact::ok("backfill", ""),
            Fact::warning("sink siem", "", ""),
            Fact::problem("sink lake", "", ""),
        ]
    }

    #[test]
    fn the_copy_and_every_sink_without_a_problem_count() {
        let rows = [row(9, 9, facts())];
        assert_eq!(held_back(&rows, 2), None);
        let why = held_back(&rows, 3).unwrap();
        assert!(why.contains("only 2 of the 3"), "{why}");
        assert_eq!(held_back(&[], 0), None);
        assert!(held_back(&[], 1).is_some(), "nobody is heard");
    }

    #[test]
    fn a_copy_that_is_far_behind_takes_nothing() {
        assert_eq!(held_back(&[row(0, LAG_LIMIT, facts())], 2), None);
        assert!(held_back(&[row(0, LAG_LIMIT + 1, facts())], 1).is_some());
    }

    #[test]
    fn records_stay_that_a_copy_lacks_or_that_too_few_take() {
        let near = || row(900, 900, facts());
        assert_eq!(keeps(&[near()], 900, 2), None);
        let why = |rows: &[Row], before, min| keeps(rows, before, min).unwrap();
        assert!(why(&[near()], 901, 0).contains("ends before record 900"));
        assert!(why(&[near()], 5, 3).contains("only 2 of the 3"));
        assert!(why(&[], 5, 0).contains("only 0 of the 1"), "one at least");
        // Of two copies both have to have them, and none may differ.
        assert!(why(&[near(), row(899, 900, facts())], 900, 0).contains("899"));
        let differing = vec![Fact::problem(COPY_FACT, "", "")];
        assert!(why(&[near(), row(900, 900, differing)], 900, 0).contains("differs"));
    }

    #[test]
    fn two_audit_sinks_with_one_configuration_are_not_twice_as_many() {
        let rows = [row(9, 9, facts()), row(9, 9, facts())];
        assert!(held_back(&rows, 3).is_some());
    }
}
