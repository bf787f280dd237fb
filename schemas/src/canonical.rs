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
    let mut bytes = Vec::new();
    write(value, &mut bytes);
    bytes
}

/// Straight from the value: a second tree of a report of hundreds of facts would be a megabyte.
fn write(value: &Value, bytes: &mut Vec<u8>) {
    match value {
        Value::Object(map) => {
            let mut members: Vec<(&String, &Value)> = map.iter().collect();
            members.sort_unstable_by_key(|(name, _)| *name);
            bytes.push(b'{');
            for (index, (name, member)) in members.into_iter().enumerate() {
                separate(index, bytes);
                leaf(name, bytes);
                bytes.push(b':');
                write(member, bytes);
            }
            bytes.push(b'}');
        }
        Value::Array(items) => {
            bytes.push(b'[');
            for (index, item) in items.iter().enumerate() {
                separate(index, bytes);
                write(item, bytes);
            }
            bytes.push(b']');
        }
        other => leaf(other, bytes),
    }
}

fn separate(index: usize, bytes: &mut Vec<u8>) {
    if index > 0 {
        bytes.push(b',');
    }
}

/// Texts, numbers and words always serialise, and to memory.
fn leaf<T: Serialize>(leaf: &T, bytes: &mut Vec<u8>) {
    let _infallible = serde_json::to_writer(bytes, leaf);
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
    use super::{bytes, sort};
    use serde_json::json;

    #[test]
    fn it_is_what_the_serialiser_writes_of_a_sorted_tree() {
        let value = json!({
            "": {}, "z\u{1}\"\\/": [], "é\u{2028}": [[], [1, -1, u64::MAX, i64::MIN], null],
            "a": {"c": true, "b": {"d": 0.5, "A": false}}, "B": "\t\n\u{7f}𝄞", "a\u{0}": 1e300,
        });
        let serialised = serde_json::to_vec(&sort(&value)).unwrap();
        assert_eq!(bytes(&value), serialised);
        for leaf in [json!(null), json!("x"), json!(7), json!([])] {
            assert_eq!(bytes(&leaf), serde_json::to_vec(&leaf).unwrap());
        }
    }

    #[test]
    fn keys_are_sorted_at_every_depth_and_nothing_is_spaced() {
        let text = bytes(&json!({"b": [{"z": 1, "a": null}], "a": "ü"}));
        assert_eq!(
            String::from_utf8(text).unwrap(),
            r#"{"a":"ü","b":[{"a":null,"z":1}]}"#
        );
    }
}
