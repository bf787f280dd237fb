//! A schedule and its next fires as text for people. Pure.

use keywheel_schemas::api::{FireView, ScheduleView};

use super::tame;

/// The rules, then each fire by the zone's clock and in UTC, with what is to be said of it below.
pub(crate) fn words(view: &ScheduleView) -> String {
    let mut lines = vec![format!("{} rotates", tame(&view.secret))];
    lines.extend(view.rules.iter().map(|rule| format!("  {}", tame(rule))));
    if !view.fires.is_empty() {
        lines.push(String::new());
        lines.push("next, before jitter".to_owned());
    }
    lines.extend(view.fires.iter().flat_map(fire));
    if let Some(note) = &view.note {
        lines.push(String::new());
        lines.push(format!("note: {}", tame(note)));
    }
    lines.join("\n")
}

fn fire(fire: &FireView) -> Vec<String> {
    let first = format!("  {}  {}", tame(&fire.local), tame(&fire.at));
    let notes = fire.notes.iter().map(|note| format!("    {}", tame(note)));
    std::iter::once(first).chain(notes).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_come_first_then_each_fire_with_its_notes() {
        let view = ScheduleView {
            secret: "prod/db".to_owned(),
            rules: vec!["daily (Europe/Berlin)".to_owned()],
            fires: vec![
                FireView {
                    at: "2026-03-29T01:00:00Z".to_owned(),
                    local: "Sun 2026-03-29 03:00:00 CEST (+02:00)".to_owned(),
                    cause: "schedule".to_owned(),
                    notes: vec!["02:30 is left out".to_owned()],
                },
                FireView {
                    at: "2026-03-30T00:30:00Z".to_owned(),
                    local: "Mon 2026-03-30 02:30:00 CEST (+02:00)".to_owned(),
                    cause: "schedule".to_owned(),
                    notes: Vec::new(),
                },
            ],
            note: None,
        };
        let expected = "prod/db rotates
  daily (Europe/Berlin)

next, before jitter
  Sun 2026-03-29 03:00:00 CEST (+02:00)  2026-03-29T01:00:00Z
    02:30 is left out
  Mon 2026-03-30 02:30:00 CEST (+02:00)  2026-03-30T00:30:00Z";
        assert_eq!(words(&view), expected);
    }

    #[test]
    fn without_a_fire_the_note_says_why() {
        let view = ScheduleView {
            secret: "a".to_owned(),
            rules: vec!["on demand".to_owned()],
            fires: Vec::new(),
            note: Some("ask for it\u{1b}[31m".to_owned()),
        };
        assert_eq!(
            words(&view),
            "a rotates\n  on demand\n\nnote: ask for it\u{b7}[31m"
        );
    }
}
