//! YAML as a tree with positions. Whatever the schema says later, positions are kept here.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::budget::BudgetBreach;
use serde_saphyr::{Error, Spanned};

use super::{MAX_DEPTH, MAX_DOCUMENTS, MAX_MANIFEST_BYTES, Position};

/// A node and where it stands.
pub(super) type Located = Spanned<Node>;

/// A node.
#[derive(Debug)]
pub(super) enum Node {
    Null,
    Bool(bool),
    Integer(i128),
    Float,
    Text(String),
    List(Vec<Located>),
    Map(Vec<(Spanned<String>, Located)>),
}

impl Node {
    /// What it is, in a person's words.
    pub(super) fn words(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Integer(_) => "a whole number",
            Self::Float => "a number with a fraction",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// Where a node is used.
pub(super) fn position<T>(node: &Spanned<T>) -> Position {
    Position {
        line: node.referenced.line(),
        column: node.referenced.column(),
    }
}

/// Reads every document that is not empty.
pub(super) fn read_documents(text: &str) -> Result<Vec<Located>, (Position, String)> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_documents: MAX_DOCUMENTS,
            max_depth: MAX_DEPTH,
            max_total_scalar_bytes: MAX_MANIFEST_BYTES,
            max_aliases: 0,
        },
        with_snippet: false,
    };
    serde_saphyr::from_multiple_with_options::<Located>(text, options)
        .map_err(|error| explain(&error))
}

fn explain(error: &Error) -> (Position, String) {
    let position = error
        .location()
        .map_or(Position { line: 1, column: 1 }, |at| Position {
            line: at.line(),
            column: at.column(),
        });
    let message = match error.without_snippet() {
        Error::DuplicateMappingKey { key: Some(key), .. } => {
            format!(
                "field `{}` stands here twice; keep one of them",
                crate::leaf::shorten(key)
            )
        }
        Error::Budget { breach, .. } => {
            format!("the text is over a limit: {}", over(breach))
        }
        other => {
            let text = other.to_string();
            let tail = format!(" at line {}, column {}", position.line, position.column);
            format!(
                "this is not YAML: {}",
                text.strip_suffix(&tail).unwrap_or(&text)
            )
        }
    };
    (position, message)
}

/// Which limit, and what to do about it.
fn over(breach: &BudgetBreach) -> String {
    match breach {
        BudgetBreach::Documents { .. } => {
            format!("it has more than {MAX_DOCUMENTS} documents; split it into several files")
        }
        BudgetBreach::Depth { .. } => {
            format!("it is nested deeper than {MAX_DEPTH} levels; nothing here needs that many")
        }
        BudgetBreach::Aliases { .. }
        | BudgetBreach::Anchors { .. }
        | BudgetBreach::AliasAnchorRatio { .. } => {
            "aliases like `*name` are not taken; write out what each stands for".to_owned()
        }
        BudgetBreach::ScalarBytes { .. } | BudgetBreach::InputBytes { .. } => {
            format!("it has more than {MAX_MANIFEST_BYTES} bytes; split it into several files")
        }
        _ => "it has too many parts; split it into several files".to_owned(),
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML node")
    }
    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.into()))
    }
    fn visit_f64<E>(self, _: f64) -> Result<Node, E> {
        Ok(Node::Float)
    }
    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Text(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}
