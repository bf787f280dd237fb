//! One field of the JSON object that an AWS secret often is.
//!
//! Invariants: what is not our field stays byte for byte as it was, its order, numbers and spaces
//! included; a field that is there twice is refused, since programs disagree on which one counts; no
//! error holds anything of the document.

use std::fmt;

use keywheel_seal::SecretBytes;
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

/// Why a field cannot be read or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DocumentError {
    /// It is bytes that are no text, or text that is no JSON object.
    #[error("its value is no JSON object")]
    NoObject,
    /// The field is not there.
    #[error("it has no such field")]
    Missing,
    /// More than once.
    #[error("it has that field more than once")]
    Twice,
    /// `null`, a list or another object.
    #[error("that field is neither text, number nor boolean")]
    NoText,
    /// Only text can be a field of JSON.
    #[error("the new value is no UTF-8 text, as a field of JSON has to be")]
    NotUtf8,
}

/// The fields of an object as they are written, with names as they are meant.
struct Fields<'a>(Vec<(String, &'a RawValue)>);

impl<'a> Fields<'a> {
    fn of(document: &'a [u8]) -> Result<Self, DocumentError> {
        let mut reader = serde_json::Deserializer::from_slice(document);
        let fields = reader
            .deserialize_map(FieldsVisitor)
            .map_err(|_| DocumentError::NoObject)?;
        reader.end().map_err(|_| DocumentError::NoObject)?;
        Ok(Self(fields))
    }

    fn raw(&self, field: &str) -> Result<Option<&'a RawValue>, DocumentError> {
        let mut found = self.0.iter().filter(|(name, _)| name == field);
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some((_, raw)), None) => Ok(Some(raw)),
            (Some(_), Some(_)) => Err(DocumentError::Twice),
        }
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Vec<(String, &'de RawValue)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Vec::new();
        while let Some(entry) = map.next_entry::<String, &'de RawValue>()? {
            fields.push(entry);
        }
        Ok(fields)
    }
}

/// The value of a field: text as it is meant, numbers and booleans as they are written.
pub(super) fn read(document: &SecretBytes, field: &str) -> Result<SecretBytes, DocumentError> {
    // EXPOSE: one field of the document is the value that was asked for.
    let fields = Fields::of(document.expose())?;
    let raw = fields.raw(field)?.ok_or(DocumentError::Missing)?.get();
    match raw.as_bytes().first() {
        Some(b'"') => {
            let text: String = serde_json::from_str(raw).map_err(|_| DocumentError::NoObject)?;
            Ok(SecretBytes::from(text.into_bytes()))
        }
        Some(b'{' | b'[' | b'n') | None => Err(DocumentError::NoText),
        Some(_) => Ok(SecretBytes::copied(raw.as_bytes())),
    }
}

/// The document with this value in that field, everything else as it was; a new document when there
/// is none yet.
pub(super) fn write(
    document: Option<&SecretBytes>,
    field: &str,
    value: &SecretBytes,
) -> Result<SecretBytes, DocumentError> {
    // EXPOSE: the value becomes a part of the document that goes to the store.
    let text = str::from_utf8(value.expose()).map_err(|_| DocumentError::NotUtf8)?;
    let text = Zeroizing::new(quoted(text)?);
    let Some(document) = document else {
        let name = quoted(field)?;
        return Ok(joined(&[
            b"{",
            name.as_bytes(),
            b":",
            text.as_bytes(),
            b"}",
        ]));
    };
    // EXPOSE: its other fields are copied.
    let bytes = document.expose();
    let fields = Fields::of(bytes)?;
    if let Some(raw) = fields.raw(field)? {
        let start = offset(bytes, raw.get())?;
        let after = start + raw.get().len();
        let (before, rest) = (bytes.get(..start), bytes.get(after..));
        let parts = before.zip(rest).ok_or(DocumentError::NoObject)?;
        return Ok(joined(&[parts.0, text.as_bytes(), parts.1]));
    }
    let end = bytes.iter().rposition(|byte| *byte == b'}');
    let before = end.and_then(|end| bytes.get(..end));
    let before = before.ok_or(DocumentError::NoObject)?.trim_ascii_end();
    let comma: &[u8] = if fields.0.is_empty() { b"" } else { b"," };
    let name = quoted(field)?;
    let parts = [before, comma, name.as_bytes(), b":", text.as_bytes(), b"}"];
    Ok(joined(&parts))
}

fn quoted(text: &str) -> Result<String, DocumentError> {
    serde_json::to_string(text).map_err(|_| DocumentError::NotUtf8)
}

/// Where a part of the document begins in it.
fn offset(document: &[u8], part: &str) -> Result<usize, DocumentError> {
    let start = part.as_ptr().addr().checked_sub(document.as_ptr().addr());
    start
        .filter(|start| *start < document.len())
        .ok_or(DocumentError::NoObject)
}

/// One buffer of the right size from the start, so that none is left behind by growing.
fn joined(parts: &[&[u8]]) -> SecretBytes {
    let mut whole = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
    for part in parts {
        whole.extend_from_slice(part);
    }
    SecretBytes::from(whole)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secret(text: &str) -> SecretBytes {
        SecretBytes::from(text.as_bytes().to_vec())
    }

    fn shown(secret: &SecretBytes) -> &str {
        str::from_utf8(secret.expose()).unwrap()
    }

    fn reading(document: &str, field: &str) -> Result<String, DocumentError> {
        read(&secret(document), field).map(|value| shown(&value).to_owned())
    }

    fn writing(document: &str, field: &str, value: &str) -> Result<String, DocumentError> {
        let written = write(Some(&secret(document)), field, &secret(value))?;
        Ok(shown(&written).to_owned())
    }

    #[test]
    fn text_numbers_and_booleans_are_values_and_nothing_else_is() {
        let document = r#" {"a":"x\n\u00e9","b":5432,"c":true,"d":null,"e":[1],"f":{}} "#;
        assert_eq!(reading(document, "a").unwrap(), "x\n\u{e9}");
        assert_eq!(reading(document, "b").unwrap(), "5432");
        assert_eq!(reading(document, "c").unwrap(), "true");
        for field in ["d", "e", "f"] {
            assert_eq!(reading(document, field), Err(DocumentError::NoText));
        }
        assert_eq!(reading(document, "g"), Err(DocumentError::Missing));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for document in ["", "x", "[]", "\"a\"", "{", "{}x", "{\"a\":1,}", "null"] {
            assert_eq!(
                reading(document, "a"),
                Err(DocumentError::NoObject),
                "{document}"
            );
            assert_eq!(
                writing(document, "a", "v"),
                Err(DocumentError::NoObject),
                "{document}"
            );
        }
        let bytes = SecretBytes::from(vec![0xff, 0xfe]);
        assert_eq!(read(&bytes, "a").unwrap_err(), DocumentError::NoObject);
    }

    #[test]
    fn everything_else_stays_byte_for_byte() {
        let document =
            "{\n  \"z\": 1.10e400, \"pass\\u0077ord\" : \"old\",\n \"a\": {\"password\": 1} }\n";
        assert_eq!(
            writing(document, "password", "n\"w").unwrap(),
            "{\n  \"z\": 1.10e400, \"pass\\u0077ord\" : \"n\\\"w\",\n \"a\": {\"password\": 1} }\n"
        );
        assert_eq!(
            writing("{ \"a\" : {} }\n", "b", "v").unwrap(),
            "{ \"a\" : {},\"b\":\"v\"}"
        );
        assert_eq!(writing(" { } ", "b", "v").unwrap(), " {\"b\":\"v\"}");
    }

    #[test]
    fn a_field_that_is_there_twice_is_refused() {
        let document = r#"{"a":"1","\u0061":"2"}"#;
        assert_eq!(reading(document, "a"), Err(DocumentError::Twice));
        assert_eq!(writing(document, "a", "v"), Err(DocumentError::Twice));
    }

    #[test]
    fn a_first_document_has_one_field_and_only_text_fits() {
        let made = write(None, "a\"b", &secret("v")).unwrap();
        assert_eq!(shown(&made), r#"{"a\"b":"v"}"#);
        let bytes = SecretBytes::from(vec![0xff]);
        let refused = write(None, "a", &bytes).unwrap_err();
        assert_eq!(refused, DocumentError::NotUtf8);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read_and_the_rest_is_as_before(
            fields in proptest::collection::btree_map("[a-c\"\\\\é]{0,3}", ".{0,8}", 0..5),
            field in "[a-c\"\\\\é]{0,3}",
            value in ".{0,20}",
        ) {
            let document = serde_json::to_string(&fields).unwrap();
            let written = writing(&document, &field, &value).unwrap();
            prop_assert_eq!(&reading(&written, &field).unwrap(), &value);
            let mut expected = fields;
            expected.insert(field, value);
            let all: std::collections::BTreeMap<String, String> = serde_json::from_str(&written).unwrap();
            prop_assert_eq!(all, expected);
        }

        #[test]
        fn no_bytes_are_a_panic(document: Vec<u8>, field in ".{0,4}") {
            let document = SecretBytes::from(document);
            let _ = read(&document, &field);
            let _ = write(Some(&document), &field, &secret("v"));
        }
    }
}
