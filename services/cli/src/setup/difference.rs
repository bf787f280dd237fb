//! What changes in a file, for people: lines out, lines in, a little around them. Pure.

/// Unchanged lines shown around the change.
const AROUND: usize = 2;

/// The change as lines that begin with `-`, `+` or a blank.
pub(super) fn lines(before: &str, after: &str) -> String {
    let (old, new): (Vec<&str>, Vec<&str>) = (before.lines().collect(), after.lines().collect());
    let same = old
        .iter()
        .zip(&new)
        .take_while(|(old, new)| old == new)
        .count();
    let room = old.len().min(new.len()) - same;
    let tail = old
        .iter()
        .rev()
        .zip(new.iter().rev())
        .take(room)
        .take_while(|(old, new)| old == new)
        .count();
    let mut text = String::new();
    let mut add = |sign: char, lines: &[&str]| {
        lines
            .iter()
            .for_each(|line| text.push_str(&format!("  {sign} {line}\n")))
    };
    add(
        ' ',
        old.get(same.saturating_sub(AROUND)..same)
            .unwrap_or_default(),
    );
    add('-', old.get(same..old.len() - tail).unwrap_or_default());
    add('+', new.get(same..new.len() - tail).unwrap_or_default());
    add(
        ' ',
        old.get(old.len() - tail..(old.len() - tail + AROUND).min(old.len()))
            .unwrap_or_default(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_shown_with_what_is_around_it() {
        let shown = lines("{\n  a\n  b\n  c\n}\n", "{\n  a\n  b,\n  new\n  c\n}\n");
        assert_eq!(
            shown,
            "    {\n      a\n  -   b\n  +   b,\n  +   new\n      c\n    }\n"
        );
    }

    #[test]
    fn new_empty_and_equal_files_are_shown_whole_or_not_at_all() {
        assert_eq!(lines("", "{\n}\n"), "  + {\n  + }\n");
        assert_eq!(lines("{}\n", ""), "  - {}\n");
        assert!(!lines("a\na\n", "a\n").contains('+'));
        assert!(!lines("a\nb\n", "a\nb\n").contains(['+', '-']));
    }
}
