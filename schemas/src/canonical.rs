//! The one form of JSON that is hashed: keys sorted by bytes, no whitespace, numbers as integers.
//!
//! Sorting is done here and not left to a map type, because another crate in the build may switch
//! `serde_json` to insertion order.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// A value whose maps are sorted, whatever `serde_json` was built with.
#[derive(Serialize)]
#[serde(untagged)]
enum Sorted<'a> {
    Object(BTreeMap<&'a str, Sorted<'a>>),
    Array(Vec<Sorted<'a>>),
    Leaf(&'a Value),
}

fn sort(value: &Value) -> Sorted<'_> {
    match value {
        Value::Object(map) => {
            Sorted::Object(map.iter().map(|(k, v)| (k.as_str(), sort(v))).collect())
        }
        Value::Array(items) => Sorted::Array(items.iter().map(sort).collect()),
        leaf => Sorted::Leaf(leaf),
    }
}

/// Writes a value canonically.
#[must_use]
pub(crate) fn bytes(value: &Value) -> Vec<u8> {
    // A `Value` always serialises: its keys are strings and it writes to memory.
    serde_json::to_vec(&sort(value)).unwrap_or_default()
}

/// Writes a value sorted and indented, for files people review.
#[must_use]
pub(crate) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(&sort(value)).unwrap_or_default()
}

/// Turns one of our own shapes into a value; they all have string keys, so this cannot fail.
pub(crate) fn value<T: Serialize>(dto: &T) -> Value {
    serde_json::to_value(dto).unwrap_or(Value::Null)
}

#[cfg(test)]
mod tests {
    use super::bytes;
    use serde_json::json;

    #[test]
    fn keys_are_sorted_at_every_depth_and_nothing_is_spaced() {
        let text = bytes(&json!({"b": [{"z": 1, "a": null}], "a": "ü"}));
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"{"a":"ü","b":[{"a":null,"z":1}]}"#
        );
    }
}
