//! Fields of a mapping, read one by one, with every fault noted at its place.

use super::tree::{Located, Node, position};
use super::{MAX_FAULTS, ManifestError, Position};
use crate::near::nearest;
use crate::span::{parse_span, span_words};
use std::time::Duration;

/// Field names under which people try to write a value.
const VALUE_LIKE: [&str; 6] = [
    "value",
    "values",
    "data",
    "stringData",
    "password",
    "plaintext",
];

/// The faults found so far.
pub(super) struct Faults {
    file: String,
    found: Vec<ManifestError>,
    left_out: usize,
}

impl Faults {
    pub(super) fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            found: Vec::new(),
            left_out: 0,
        }
    }

    pub(super) fn add(&mut self, position: Position, message: String) {
        if self.found.len() < MAX_FAULTS {
            self.found.push(ManifestError {
                file: self.file.clone(),
                position,
                message,
            });
        } else {
            self.left_out += 1;
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// The faults in the order of the text.
    pub(super) fn finish(mut self) -> Vec<ManifestError> {
        self.found.sort_by_key(|fault| fault.position);
        if self.left_out > 0 {
            let position = self
                .found
                .last()
                .map_or_else(Position::default, |fault| fault.position);
            let message = format!("and {} more; mend these first", self.left_out);
            self.found.push(ManifestError {
                file: self.file,
                position,
                message,
            });
        }
        self.found
    }
}

/// A text and where it stands.
pub(super) type TextAt<'n> = (&'n str, Position);

/// A mapping whose field names are known.
pub(super) struct Fields<'n> {
    /// Where it begins.
    pub(super) position: Position,
    path: &'n str,
    entries: &'n [(serde_saphyr::Spanned<String>, Located)],
}

impl<'n> Fields<'n> {
    /// Takes a mapping and notes every field that is not known.
    pub(super) fn of(
        node: &'n Located,
        path: &'n str,
        known: &[&str],
        faults: &mut Faults,
    ) -> Option<Self> {
        let entries = match &node.value {
            Node::Map(entries) => entries.as_slice(),
            other => {
                faults.add(
                    position(node),
                    format!("{path} has to be a mapping, not {}", other.words()),
                );
                return None;
            }
        };
        for (key, _) in entries {
            if !known.contains(&key.value.as_str()) {
                faults.add(position(key), unknown_field(&key.value, path, known));
            }
        }
        // A block mapping's own position may lie before its first key; the key is what people see.
        let at = entries
            .first()
            .map_or_else(|| position(node), |(key, _)| position(key));
        Some(Self {
            position: at,
            path,
            entries,
        })
    }

    /// A field that is there and not empty.
    pub(super) fn find(&self, name: &str) -> Option<&'n Located> {
        let (_, node) = self.entries.iter().find(|(key, _)| key.value == name)?;
        (!matches!(node.value, Node::Null)).then_some(node)
    }

    /// Whether a field is named, even with nothing behind it.
    pub(super) fn has(&self, name: &str) -> bool {
        self.entries.iter().any(|(key, _)| key.value == name)
    }

    /// Where a field stands, or else the mapping.
    pub(super) fn position_of(&self, name: &str) -> Position {
        let key = self.entries.iter().find(|(key, _)| key.value == name);
        key.map_or(self.position, |(key, _)| position(key))
    }

    pub(super) fn required(&self, name: &str, faults: &mut Faults) -> Option<&'n Located> {
        let found = self.find(name);
        if found.is_none() {
            faults.add(
                self.position_of(name),
                format!("`{name}` is missing in {}", self.path),
            );
        }
        found
    }

    pub(super) fn required_text(&self, name: &str, faults: &mut Faults) -> Option<TextAt<'n>> {
        self.required(name, faults)?;
        self.text(name, faults)
    }

    pub(super) fn text(&self, name: &str, faults: &mut Faults) -> Option<TextAt<'n>> {
        let node = self.find(name)?;
        text_of(node, name, faults)
    }

    pub(super) fn flag(&self, name: &str, faults: &mut Faults) -> Option<bool> {
        let node = self.find(name)?;
        match &node.value {
            Node::Bool(flag) => Some(*flag),
            other => {
                faults.add(
                    position(node),
                    format!("`{name}` has to be true or false, not {}", other.words()),
                );
                None
            }
        }
    }

    /// A whole number within bounds.
    pub(super) fn number(
        &self,
        name: &str,
        least: u32,
        most: u32,
        faults: &mut Faults,
    ) -> Option<u32> {
        let node = self.find(name)?;
        let number = match &node.value {
            Node::Integer(number) => u32::try_from(*number)
                .ok()
                .filter(|n| (least..=most).contains(n)),
            other => {
                faults.add(
                    position(node),
                    format!("`{name}` has to be a whole number, not {}", other.words()),
                );
                return None;
            }
        };
        if number.is_none() {
            faults.add(
                position(node),
                format!("`{name}` has to lie between {least} and {most}"),
            );
        }
        number
    }

    /// A span like `5m` within bounds.
    pub(super) fn span(
        &self,
        name: &str,
        least: Duration,
        most: Duration,
        faults: &mut Faults,
    ) -> Option<Duration> {
        let node = self.find(name)?;
        let span = match &node.value {
            Node::Text(text) => parse_span(text),
            Node::Integer(number) => Err(format!(
                "has no unit; write for example `{number}s`, `{number}m` or `{number}h`"
            )),
            other => Err(format!(
                "has to be a span like `30s`, not {}",
                other.words()
            )),
        };
        let bounded = span.and_then(|span| {
            if (least..=most).contains(&span) {
                return Ok(span);
            }
            Err(format!(
                "has to lie between {} and {}",
                span_words(least),
                span_words(most)
            ))
        });
        bounded
            .map_err(|fault| faults.add(position(node), format!("`{name}` {fault}")))
            .ok()
    }

    /// A text that is parsed into a name, or the default.
    pub(super) fn named<T, E: std::fmt::Display>(
        &self,
        name: &str,
        parse: impl Fn(&str) -> Result<T, E>,
        faults: &mut Faults,
    ) -> Option<T> {
        let at = self.text(name, faults)?;
        named(at, parse, faults)
    }

    /// Every entry as text.
    pub(super) fn texts(&self, faults: &mut Faults) -> Vec<(TextAt<'n>, TextAt<'n>)> {
        let read = |(key, node): &'n (serde_saphyr::Spanned<String>, Located)| {
            let text = text_of(node, &key.value, faults)?;
            Some(((key.value.as_str(), position(key)), text))
        };
        self.entries.iter().filter_map(read).collect()
    }
}

/// Takes a mapping whose field names are a person's own.
pub(super) fn open_fields<'n>(
    node: &'n Located,
    path: &'n str,
    faults: &mut Faults,
) -> Option<Fields<'n>> {
    match &node.value {
        Node::Map(entries) => Some(Fields {
            position: position(node),
            path,
            entries,
        }),
        other => {
            faults.add(
                position(node),
                format!("{path} has to be a mapping, not {}", other.words()),
            );
            None
        }
    }
}

/// Parses a text into a name and notes why it is none.
pub(super) fn named<T, E: std::fmt::Display>(
    (text, at): TextAt<'_>,
    parse: impl Fn(&str) -> Result<T, E>,
    faults: &mut Faults,
) -> Option<T> {
    parse(text)
        .map_err(|error| faults.add(at, error.to_string()))
        .ok()
}

/// A node that has to be a text.
pub(super) fn text_of<'n>(
    node: &'n Located,
    name: &str,
    faults: &mut Faults,
) -> Option<TextAt<'n>> {
    let message = match &node.value {
        Node::Text(text) => return Some((text, position(node))),
        Node::Integer(_) | Node::Float | Node::Bool(_) => {
            format!(
                "`{name}` has to be text, and YAML reads this as {}; put it in quotes",
                node.value.words()
            )
        }
        other => format!("`{name}` has to be text, not {}", other.words()),
    };
    faults.add(position(node), message);
    None
}

fn unknown_field(name: &str, path: &str, known: &[&str]) -> String {
    let shown = crate::leaf::shorten(name);
    if VALUE_LIKE.contains(&name) {
        return format!(
            "field `{shown}` is not known in {path}: a manifest never holds a value; give it with `keywheel secret put NAME --value-file FILE`"
        );
    }
    let near = nearest(name, known);
    format!(
        "field `{shown}` is not known in {path}{near}; known fields: {}",
        known.join(", ")
    )
}
