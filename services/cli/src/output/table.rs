//! Plain aligned columns and lists of `name: value`, without borders, fit for `grep` and `awk`.

use comfy_table::{Cell, Color, ContentArrangement, TableStyle};

use super::tame;

/// Columns under headers; states are coloured when asked for.
pub(crate) fn columns(headers: &[&str], rows: Vec<Vec<String>>, color: bool) -> String {
    let mut table = comfy_table::Table::new();
    table
        .load_style(TableStyle::new())
        .set_content_arrangement(ContentArrangement::Disabled);
    if color {
        table.enforce_styling();
    } else {
        table.force_no_tty();
    }
    table.set_header(headers.iter().map(Cell::new));
    for row in rows {
        table.add_row(row.iter().map(|text| cell(text, color)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}

fn cell(text: &str, color: bool) -> Cell {
    let cell = Cell::new(tame(text));
    match shade(text).filter(|_| color) {
        Some(shade) => cell.fg(shade),
        None => cell,
    }
}

/// The colour of a state word.
fn shade(word: &str) -> Option<Color> {
    Some(match word {
        "completed" | "reloaded" | "current" | "alive" | "ok" | "created" | "closed"
        | "confirmed" | "allowed" | "joined" | "enrolled" => Color::Green,
        "waiting"
        | "swapped"
        | "pending"
        | "canary"
        | "distributing"
        | "draining"
        | "retrying"
        | "running"
        | "asked"
        | "changed"
        | "awaiting_replacement" => Color::Yellow,
        "parked" | "refused" | "revoked" | "destroyed" | "missing" | "denied" | "rejected"
        | "rolled_back" | "failed" | "evicted" => Color::Red,
        _ => return None,
    })
}

/// `name: value` lines, the values aligned; empty values are left out.
pub(crate) fn fields(pairs: &[(&str, String)]) -> String {
    let shown = || pairs.iter().filter(|(_, value)| !value.is_empty());
    let width = shown()
        .map(|(name, _)| name.chars().count())
        .max()
        .unwrap_or(0)
        + 1;
    let mut text = String::new();
    for (name, value) in shown() {
        text.push_str(&format!(
            "{:<width$}  {}\n",
            format!("{name}:"),
            tame(value)
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_align_without_borders_or_trailing_blanks() {
        let rows = vec![
            vec!["a".to_owned(), "long value".to_owned()],
            vec!["bbbb".to_owned(), "x".to_owned()],
        ];
        let text = columns(&["NAME", "VALUE"], rows, false);
        assert_eq!(text, "NAME  VALUE\na     long value\nbbbb  x");
    }

    #[test]
    fn states_are_coloured_only_when_asked_for() {
        let rows = || vec![vec!["completed".to_owned()]];
        assert!(!columns(&["STATE"], rows(), false).contains('\u{1b}'));
        assert!(columns(&["STATE"], rows(), true).contains('\u{1b}'));
    }

    #[test]
    fn fields_align_and_leave_out_what_is_empty() {
        let text = fields(&[
            ("name", "a".to_owned()),
            ("note", String::new()),
            ("schedule", "x\ny".to_owned()),
        ]);
        assert_eq!(text, "name:      a\nschedule:  x·y\n");
    }
}
