//! Reading the engine's JSON: what is absent, null or empty means the same there.

use serde_json::{Map, Value};

/// Whether nothing is said: null, an empty text, list or object.
pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// A text member; empty when there is none.
pub(super) fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The same of an object's fields.
pub(super) fn text_at<'a>(fields: &'a Map<String, Value>, name: &str) -> &'a str {
    fields.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// The items of a list; none when it is none.
pub(super) fn members(list: Option<&Value>) -> impl Iterator<Item = &Value> {
    list.and_then(Value::as_array).into_iter().flatten()
}

/// The same value without anything that says nothing, at every depth.
pub(super) fn condensed(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name, condensed(value)));
            let said = fields.filter(|(_, value)| !is_empty(value));
            Value::Object(said.map(|(name, value)| (name.clone(), value)).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(condensed).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_says_nothing_is_left_out_and_false_and_zero_are_said() {
        let value =
            json!({ "a": null, "b": { "c": [] }, "d": "", "e": false, "f": 0, "g": [null] });
        assert_eq!(
            condensed(&value),
            json!({ "e": false, "f": 0, "g": [null] })
        );
    }
}
