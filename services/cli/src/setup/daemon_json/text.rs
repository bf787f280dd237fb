//! A reader of valid JSON text that knows where each member of an object stands, and edits in place.
//!
//! Pure; the caller has parsed the text before, so it is valid. Positions are bytes.

use std::ops::Range;

use serde_json::Value;

/// One step of indentation where the text shows none.
const INDENT: &str = "    ";

/// A member of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) key: String,
    /// Where its key begins.
    pub(super) start: usize,
    pub(super) value: Range<usize>,
}

impl Member {
    /// The text of its value.
    pub(super) fn text<'a>(&self, text: &'a str) -> &'a str {
        text.get(self.value.clone()).unwrap_or_default()
    }
}

fn byte(text: &str, at: usize) -> u8 {
    // A text that ends too early ends every loop here.
    text.as_bytes().get(at).copied().unwrap_or(b'}')
}

fn skip_blanks(text: &str, mut at: usize) -> usize {
    while matches!(byte(text, at), b' ' | b'\t' | b'\n' | b'\r') {
        at += 1;
    }
    at
}

/// The position after a string that begins at `at`.
fn string_end(text: &str, at: usize) -> usize {
    let mut at = at + 1;
    while at < text.len() {
        match byte(text, at) {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    text.len()
}

/// The position after a value that begins at `at`.
fn value_end(text: &str, at: usize) -> usize {
    let mut depth = 0_usize;
    let mut here = at;
    while here < text.len() {
        match byte(text, here) {
            b'"' => here = string_end(text, here),
            b'{' | b'[' => {
                depth += 1;
                here += 1;
            }
            b'}' | b']' if depth == 0 => return here,
            b'}' | b']' => {
                depth -= 1;
                here += 1;
            }
            b',' | b' ' | b'\t' | b'\n' | b'\r' if depth == 0 => return here,
            _ => here += 1,
        }
        if depth == 0 && matches!(byte(text, at), b'{' | b'[' | b'"') {
            return here;
        }
    }
    text.len()
}

/// The members of the object that begins at or after `from`.
pub(super) fn members(text: &str, from: usize) -> Vec<Member> {
    let mut found = Vec::new();
    let mut at = skip_blanks(text, from) + 1;
    loop {
        at = skip_blanks(text, at);
        if byte(text, at) != b'"' {
            return found;
        }
        let key_end = string_end(text, at);
        let key =
            serde_json::from_str(text.get(at..key_end).unwrap_or_default()).unwrap_or_default();
        let colon = skip_blanks(text, key_end);
        let start = skip_blanks(text, colon + 1);
        let end = value_end(text, start);
        found.push(Member {
            key,
            start: at,
            value: start..end,
        });
        let next = skip_blanks(text, end);
        if byte(text, next) != b',' {
            return found;
        }
        at = next + 1;
    }
}

/// The blanks before a position when nothing else stands before it on its line.
fn own_line(text: &str, at: usize) -> Option<&str> {
    let head = text.get(..at)?;
    let line = head.rfind('\n').map(|end| end + 1)?;
    let blanks = head.get(line..)?;
    blanks
        .chars()
        .all(|c| c == ' ' || c == '\t')
        .then_some(blanks)
}

/// The blanks that begin the line of a position.
fn line_indent(text: &str, at: usize) -> &str {
    let head = text.get(..at).unwrap_or_default();
    let line = head.rfind('\n').map_or(0, |end| end + 1);
    let rest = text.get(line..at).unwrap_or_default();
    let blanks = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    rest.get(..blanks).unwrap_or_default()
}

/// One step of indentation, as the text's first member shows it.
fn step(text: &str) -> String {
    let first = members(text, 0).first().map(|member| member.start);
    let blanks = first
        .and_then(|at| own_line(text, at))
        .filter(|blanks| !blanks.is_empty());
    blanks.unwrap_or(INDENT).to_owned()
}

/// A value as text, each line after the first indented; arrays stay on one line.
fn write(value: &Value, indent: &str, step: &str) -> String {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            let deeper = format!("{indent}{step}");
            let lines: Vec<String> = fields
                .iter()
                .map(|(name, value)| {
                    format!(
                        "{deeper}{}: {}",
                        Value::from(name.as_str()),
                        write(value, &deeper, step)
                    )
                })
                .collect();
            format!("{{\n{}\n{indent}}}", lines.join(",\n"))
        }
        Value::Array(items) => {
            let items: Vec<String> = items.iter().map(Value::to_string).collect();
            format!("[{}]", items.join(", "))
        }
        other => other.to_string(),
    }
}

fn spliced(text: &str, place: Range<usize>, new: &str) -> String {
    let head = text.get(..place.start).unwrap_or_default();
    let tail = text.get(place.end..).unwrap_or_default();
    [head, new, tail].concat()
}

/// The text with a member added at the end of the object that begins at or after `from`.
pub(super) fn insert(text: &str, from: usize, key: &str, value: &Value) -> String {
    let start = skip_blanks(text, from);
    let list = members(text, start);
    let (step, key) = (step(text), Value::from(key));
    let Some(last) = list.last() else {
        let outer = line_indent(text, start);
        let inner = format!("{outer}{step}");
        let body = format!(
            "{{\n{inner}{key}: {}\n{outer}}}",
            write(value, &inner, &step)
        );
        return spliced(text, start..value_end(text, start), &body);
    };
    let first = list.first().map_or(start, |first| first.start);
    let new = match own_line(text, first) {
        Some(indent) => format!(",\n{indent}{key}: {}", write(value, indent, &step)),
        None => format!(", {key}: {value}"),
    };
    spliced(text, last.value.end..last.value.end, &new)
}

/// The text with a member's value replaced.
pub(super) fn replace(text: &str, member: &Member, value: &Value) -> String {
    let new = match own_line(text, member.start) {
        Some(indent) => write(value, indent, &step(text)),
        None => value.to_string(),
    };
    spliced(text, member.value.clone(), &new)
}

/// The text without the member at `place` of the object that begins at or after `from`.
pub(super) fn remove(text: &str, from: usize, place: usize) -> String {
    let start = skip_blanks(text, from);
    let list = members(text, start);
    let Some(member) = list.get(place) else {
        return text.to_owned();
    };
    if list.len() == 1 {
        return spliced(text, start..value_end(text, start), "{}");
    }
    let before = place.checked_sub(1).and_then(|before| list.get(before));
    match (before, list.get(place + 1)) {
        (Some(before), _) => spliced(text, before.value.end..member.value.end, ""),
        (None, Some(next)) => spliced(text, member.start..next.start, ""),
        (None, None) => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_found_with_their_exact_places() {
        let text = "\n{ \"a\" : {\"x\":[1,\"}\"]} ,\"b\\\"c\":\"q\\\"}\", \"n\":-1.5e3,\"t\":true}";
        let found: Vec<(String, &str)> = members(text, 0)
            .iter()
            .map(|m| (m.key.clone(), m.text(text)))
            .collect();
        let wanted = [
            ("a", "{\"x\":[1,\"}\"]}"),
            ("b\"c", "\"q\\\"}\""),
            ("n", "-1.5e3"),
            ("t", "true"),
        ];
        assert_eq!(found, wanted.map(|(key, value)| (key.to_owned(), value)));
        assert!(members("{}", 0).is_empty() && members(" { } ", 0).is_empty());
    }

    #[test]
    fn what_was_inserted_is_removed_to_the_byte() {
        for text in [
            "{\n  \"a\": 1\n}\n",
            "{\"a\":1}",
            "{\n\t\"a\": {\n\t\t\"b\": []\n\t},\n\t\"c\": \"x\"\n}",
            "{ \"a\": 1, \"b\": 2 }\n",
        ] {
            let with = insert(
                text,
                0,
                "new",
                &serde_json::json!({ "path": "/x", "runtimeArgs": ["a", "b"] }),
            );
            assert!(serde_json::from_str::<Value>(&with).is_ok(), "{with}");
            let place = members(&with, 0).len() - 1;
            assert_eq!(remove(&with, 0, place), text);
        }
    }

    #[test]
    fn the_first_and_the_only_member_can_be_removed() {
        assert_eq!(remove("{\"a\":1,\"b\":2}", 0, 0), "{\"b\":2}");
        assert_eq!(remove("{ \"a\": 1 }", 0, 0), "{}");
        assert_eq!(remove("{\"a\":1}", 0, 5), "{\"a\":1}");
    }
}
