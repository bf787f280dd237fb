//! From a value to what its files hold: as it is, or through the binding's templates.
//!
//! Invariants: what is filled in is written once, into memory that is overwritten when it is dropped,
//! and is no longer than a value may be; a fault names the template and never the value. What is not
//! overwritten: the scratch buffer of the JSON reader, which holds a string of the object while it
//! resolves its escapes.

use std::fmt;
use std::sync::Arc;

use keywheel_core::binding::{SetFile, Target};
use keywheel_core::name::{FileName, SecretName};
use keywheel_core::plan::PlannedBinding;
use keywheel_schemas::template::{Piece, Place, parse};
use keywheel_seal::{MAX_VALUE_BYTES, SecretBytes};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

/// Most bytes that are read for the fields of one binding: each place reads the whole value.
const MAX_FIELD_BYTES: usize = 16 << 20;

/// What becomes of a value in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Form {
    shape: Shape,
    secret: SecretName,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Shape {
    /// One file, by this template.
    File(String),
    /// Several that change together.
    Set(Vec<SetFile>),
}

/// What stands under the name that a binding gives.
#[derive(Debug)]
pub(crate) enum Formed {
    /// A file.
    File(Arc<SecretBytes>),
    /// A directory with these files.
    Set(Vec<(FileName, SecretBytes)>),
}

impl Form {
    /// What the binding says; `None`: the value as it is.
    pub(crate) fn of(planned: &PlannedBinding) -> Option<Arc<Self>> {
        let shape = match &planned.target {
            Target::File { template, .. } => Shape::File(template.clone()?),
            Target::Files { files, .. } => Shape::Set(files.clone()),
            Target::Env { .. } => return None,
        };
        Some(Arc::new(Self {
            shape,
            secret: planned.secret_name.clone(),
        }))
    }

    /// Whether it makes several files, in a directory.
    pub(crate) fn is_set(&self) -> bool {
        matches!(self.shape, Shape::Set(_))
    }

    #[cfg(test)]
    pub(crate) fn new(template: &str, secret: &str) -> Arc<Self> {
        Arc::new(Self {
            shape: Shape::File(template.to_owned()),
            secret: SecretName::parse(secret).unwrap(),
        })
    }

    fn fill(&self, value: &SecretBytes) -> Result<Formed, String> {
        let mut budget = Budget {
            fields: 0,
            length: 0,
        };
        match &self.shape {
            Shape::File(template) => {
                let filled = self.fill_one(template, value, &mut budget);
                filled.map(|filled| Formed::File(Arc::new(filled)))
            }
            Shape::Set(files) => {
                let fill = |file: &SetFile| -> Result<(FileName, SecretBytes), String> {
                    let filled = self.fill_one(&file.template, value, &mut budget);
                    let filled =
                        filled.map_err(|fault| format!("file `{}`: {fault}", file.name))?;
                    Ok((file.name.clone(), filled))
                };
                let filled: Result<Vec<_>, String> = files.iter().map(fill).collect();
                filled.map(Formed::Set)
            }
        }
    }

    fn fill_one(
        &self,
        template: &str,
        value: &SecretBytes,
        budget: &mut Budget,
    ) -> Result<SecretBytes, String> {
        let pieces = parse(template).map_err(|fault| fault.to_string())?;
        let of_field =
            |piece: &&Piece<'_>| matches!(piece, Piece::Place(place) if !place.fields.is_empty());
        budget.fields += pieces.iter().filter(of_field).count();
        let fields = budget.fields;
        // EXPOSE: only its length is looked at.
        if fields.saturating_mul(value.expose().len()) > MAX_FIELD_BYTES {
            return Err(format!(
                "its {fields} places for fields, times the length of the value, are more than {MAX_FIELD_BYTES} bytes"
            ));
        }
        let mut parts = Vec::with_capacity(pieces.len());
        let mut length = 0_usize;
        for piece in &pieces {
            let part = match piece {
                Piece::Text(text) => Part::Given(text.as_bytes()),
                Piece::Place(place) => self.part(place, value)?,
            };
            length = length.saturating_add(part.bytes().len());
            if budget.length.saturating_add(length) > MAX_VALUE_BYTES {
                return Err(format!(
                    "what the template makes of the value is longer than {MAX_VALUE_BYTES} bytes"
                ));
            }
            parts.push(part);
        }
        budget.length = budget.length.saturating_add(length);
        // As long as all parts: it never moves, so no copy of it stays behind.
        let mut whole = Vec::with_capacity(length);
        for part in &parts {
            whole.extend_from_slice(part.bytes());
        }
        Ok(SecretBytes::from(whole))
    }

    fn part<'a>(&self, place: &Place<'_>, value: &'a SecretBytes) -> Result<Part<'a>, String> {
        if place.secret != self.secret.as_str() {
            return Err(format!(
                "line {}: `{}` is another secret than the binding's own",
                place.line, place.secret
            ));
        }
        // EXPOSE: copied into what the container's file will hold.
        let bytes = value.expose();
        let part = if place.fields.is_empty() {
            Part::Given(bytes)
        } else {
            Part::Own(field(bytes, place)?)
        };
        Ok(if place.is_encoded {
            Part::Own(encoded(part.bytes()))
        } else {
            part
        })
    }
}

/// What is made of a value.
pub(crate) fn formed(form: Option<&Arc<Form>>, value: &Arc<SecretBytes>) -> Result<Formed, String> {
    let Some(form) = form else {
        return Ok(Formed::File(Arc::clone(value)));
    };
    form.fill(value).map_err(|fault| {
        let field = match form.shape {
            Shape::File(_) => "file.template",
            Shape::Set(_) => "files.templates",
        };
        format!("template_failed: {fault}; correct `{field}` of its binding, or the value")
    })
}

/// What the templates of one binding used up.
struct Budget {
    /// Places for fields.
    fields: usize,
    /// Bytes that were made.
    length: usize,
}

/// A part of what is filled in.
enum Part<'a> {
    Given(&'a [u8]),
    Own(Zeroizing<Vec<u8>>),
}

impl Part<'_> {
    fn bytes(&self) -> &[u8] {
        match self {
            Self::Given(bytes) => bytes,
            Self::Own(bytes) => bytes,
        }
    }
}

/// Percent-encodes all but what RFC 3986 calls unreserved, so that it is one part of a URL wherever it
/// stands.
fn encoded(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    const DIGITS: [u8; 16] = *b"0123456789ABCDEF";
    let digit = |nibble: u8| DIGITS.get(usize::from(nibble)).copied().unwrap_or(b'0');
    let mut text = Zeroizing::new(Vec::with_capacity(bytes.len().saturating_mul(3)));
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(byte) {
            text.push(*byte);
        } else {
            text.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte & 15)]);
        }
    }
    text
}

/// A field of a value that is a JSON object. The reader's own words are not told: they quote the value.
fn field(value: &[u8], place: &Place<'_>) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut reader = serde_json::Deserializer::from_slice(value);
    let found = Seek(&place.fields).deserialize(&mut reader);
    let found = found.and_then(|found| reader.end().map(|()| found));
    let found = found.map_err(|_| {
        format!(
            "line {}: the value is not a JSON object with text, a whole number, true or false at `{}`",
            place.line,
            place.fields.join(".")
        )
    })?;
    found.ok_or_else(|| {
        format!(
            "line {}: the value has no field `{}`",
            place.line,
            place.fields.join(".")
        )
    })
}

/// Reads the one field that lies at the end of a path, and passes over all else.
struct Seek<'p>(&'p [&'p str]);

/// What was found.
type Found = Option<Zeroizing<Vec<u8>>>;

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = Found;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Found, D::Error> {
        if self.0.is_empty() {
            deserializer.deserialize_any(Leaf)
        } else {
            deserializer.deserialize_map(self)
        }
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Found, A::Error> {
        let mut found = None;
        let Some((first, behind)) = self.0.split_first() else {
            return Ok(found);
        };
        while let Some(is_it) = entries.next_key_seed(Key(first))? {
            if is_it {
                found = entries.next_value_seed(Seek(behind))?;
            } else {
                entries.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

/// Whether a key is the one that is looked for. It may be a secret, too, so it is not kept.
struct Key<'p>(&'p str);

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<bool, E> {
        Ok(key == self.0)
    }
}

/// A value that can stand in a text.
struct Leaf;

impl Visitor<'_> for Leaf {
    type Value = Found;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text, a whole number, true or false")
    }

    fn visit_str<E>(self, text: &str) -> Result<Found, E> {
        Ok(Some(Zeroizing::new(text.as_bytes().to_vec())))
    }

    fn visit_string<E>(self, text: String) -> Result<Found, E> {
        Ok(Some(Zeroizing::new(text.into_bytes())))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Found, E> {
        Ok(Some(Zeroizing::new(number.to_string().into_bytes())))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Found, E> {
        Ok(Some(Zeroizing::new(number.to_string().into_bytes())))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Found, E> {
        Ok(Some(Zeroizing::new(flag.to_string().into_bytes())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fill(template: &str, value: &[u8]) -> Result<String, String> {
        let form = Form::new(template, "prod/db");
        let value = Arc::new(SecretBytes::from(value.to_vec()));
        let text = |whole: Arc<SecretBytes>| String::from_utf8_lossy(whole.expose()).into_owned();
        formed(Some(&form), &value).map(|formed| text(file(formed)))
    }

    fn file(formed: Formed) -> Arc<SecretBytes> {
        match formed {
            Formed::File(whole) => whole,
            Formed::Set(files) => panic!("{} files", files.len()),
        }
    }

    /// Files by name and template, filled in.
    fn fill_set(files: &[(&str, &str)], value: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
        let set_file = |(name, template): &(&str, &str)| SetFile {
            name: FileName::parse(name).unwrap(),
            template: (*template).to_owned(),
        };
        let form = Arc::new(Form {
            shape: Shape::Set(files.iter().map(set_file).collect()),
            secret: SecretName::parse("prod/db").unwrap(),
        });
        let value = Arc::new(SecretBytes::from(value.to_vec()));
        match formed(Some(&form), &value)? {
            Formed::File(_) => panic!("one file"),
            Formed::Set(files) => Ok(files
                .iter()
                .map(|(name, bytes)| (name.to_string(), bytes.expose().to_vec()))
                .collect()),
        }
    }

    #[test]
    fn a_set_has_each_of_its_files_from_one_value_or_none_of_them() {
        let (user, password) = (
            "{{ secret(\"prod/db\").user }}",
            "{{ secret(\"prod/db\").password }}",
        );
        let value = br#"{"user":"app","password":"canary-5e2"}"#;
        let filled = fill_set(&[("password", password), ("user", user)], value).unwrap();
        let expected = [("password", "canary-5e2"), ("user", "app")];
        assert_eq!(
            filled,
            expected.map(|(name, text)| (name.to_owned(), text.as_bytes().to_vec()))
        );
        let other = "\n{{ secret(\"prod/db\").token }}";
        let fault = fill_set(&[("password", password), ("token", other)], value).unwrap_err();
        assert!(
            fault.starts_with("template_failed: file `token`: line 2: ")
                && fault.contains("`files.templates`")
                && !fault.contains("canary"),
            "{fault}"
        );
    }

    #[test]
    fn a_set_is_bounded_as_a_whole() {
        let whole = "{{ secret(\"prod/db\") }}";
        let half = vec![b'a'; MAX_VALUE_BYTES / 2];
        assert!(fill_set(&[("a", whole), ("b", whole)], &half).is_ok());
        let more = format!("x{whole}");
        let fault = fill_set(&[("a", whole), ("b", &more)], &half).unwrap_err();
        assert!(fault.contains("longer than 1048576 bytes"), "{fault}");
        // Fields are counted over all files, too.
        let value = format!(r#"{{"a":"x","b":"{}"}}"#, "y".repeat(MAX_VALUE_BYTES - 20));
        let places = "{{ secret(\"prod/db\").a }}".repeat(MAX_FIELD_BYTES / value.len());
        assert!(fill_set(&[("a", &places)], value.as_bytes()).is_ok());
        let one = "{{ secret(\"prod/db\").a }}";
        let fault = fill_set(&[("a", &places), ("b", one)], value.as_bytes()).unwrap_err();
        assert!(fault.contains("more than 16777216 bytes"), "{fault}");
    }

    #[test]
    fn as_many_files_are_allowed_as_a_file_system_takes_in_one_set() {
        let allowed = keywheel_schemas::template::MAX_FILES;
        assert_eq!(allowed, keywheel_sys::secretfs::MAX_SET_FILES);
    }

    #[test]
    fn a_value_its_fields_and_what_a_url_may_hold_are_filled_in() {
        let url = "postgres://app:{{ secret(\"prod/db\") }}@db/app";
        assert_eq!(fill(url, b"pw").unwrap(), "postgres://app:pw@db/app");
        let object = r#"{"user":"a\u00fc\"","password":"p/w@ 1","port":5432,"tls":true,"in":{"a b":"x"},"low":-1}"#;
        for (place, expected) in [
            (".user", "aü\""),
            (".password", "p/w@ 1"),
            (".password | urlencode", "p%2Fw%40%201"),
            (".user | urlencode", "a%C3%BC%22"),
            (".port", "5432"),
            (".low", "-1"),
            (".tls", "true"),
            (".in[\"a b\"]", "x"),
            ("", object),
        ] {
            let template = format!("<{{{{ secret(\"prod/db\"){place} }}}}>");
            let filled = fill(&template, object.as_bytes()).unwrap();
            assert_eq!(filled, format!("<{expected}>"));
        }
    }

    #[test]
    fn a_value_without_a_template_is_not_copied() {
        let value = Arc::new(SecretBytes::from(vec![0, 255]));
        let made = file(formed(None, &value).unwrap());
        assert!(Arc::ptr_eq(&made, &value));
    }

    #[test]
    fn bytes_that_are_no_text_stay_as_they_are() {
        let form = Form::new("a{{ secret(\"prod/db\") }}", "prod/db");
        let filled = form.fill(&SecretBytes::from(vec![0, 255])).unwrap();
        assert_eq!(file(filled).expose(), [b'a', 0, 255]);
    }

    #[test]
    fn a_fault_says_where_and_never_what_the_value_is() {
        let of = |path: &str| format!("\n{{{{ secret(\"prod/db\"){path} }}}}");
        for (template, value, part) in [
            (of(".a"), "canary-9c1", "not a JSON object"),
            (of(".a"), "\"canary-9c1\"", "not a JSON object"),
            (of(".a"), "{\"canary-9c1\":1}", "has no field `a`"),
            (
                of(".a.b"),
                "{\"a\":{\"c\":\"canary-9c1\"}}",
                "has no field `a.b`",
            ),
            (of(".a.b"), "{\"a\":\"canary-9c1\"}", "at `a.b`"),
            (of(".a"), "{\"a\":[\"canary-9c1\"]}", "at `a`"),
            (of(".a"), "{\"a\":null,\"b\":\"canary-9c1\"}", "at `a`"),
            (of(".a"), "{\"a\":1.5,\"b\":\"canary-9c1\"}", "at `a`"),
            (of(".a"), "{\"a\":\"x\"} canary-9c1", "not a JSON object"),
            (
                of("").replace("prod/db", "prod/x"),
                "canary-9c1",
                "another secret",
            ),
            (of(".").replace("}}", ""), "canary-9c1", "not closed"),
        ] {
            let fault = fill(&template, value.as_bytes()).unwrap_err();
            assert!(fault.starts_with("template_failed: "), "{fault}");
            assert!(fault.contains(part) && fault.contains("line 2"), "{fault}");
            assert!(!fault.contains("canary"), "{fault}");
        }
    }

    #[test]
    fn what_is_filled_in_is_as_long_as_a_value_may_be_and_not_longer() {
        let value = vec![b'a'; MAX_VALUE_BYTES - 1];
        assert!(fill("x{{ secret(\"prod/db\") }}", &value).is_ok());
        let fault = fill("xx{{ secret(\"prod/db\") }}", &value).unwrap_err();
        assert!(fault.contains("longer than 1048576 bytes"), "{fault}");
    }

    #[test]
    fn fields_are_read_up_to_the_limit_and_not_beyond() {
        let head = r#"{"a":"x","b":""#;
        let padding = "y".repeat(MAX_VALUE_BYTES - head.len() - 2);
        let value = format!("{head}{padding}\"}}");
        let places = MAX_FIELD_BYTES / value.len();
        let template = |places: usize| "{{ secret(\"prod/db\").a }}".repeat(places);
        let filled = fill(&template(places), value.as_bytes()).unwrap();
        assert_eq!(filled, "x".repeat(places));
        let fault = fill(&template(places + 1), value.as_bytes()).unwrap_err();
        assert!(fault.contains("more than 16777216 bytes"), "{fault}");
        // The whole value is read by nobody.
        let whole = "{{ secret(\"prod/db\") }}";
        let fault = fill(&whole.repeat(places + 1), value.as_bytes()).unwrap_err();
        assert!(fault.contains("longer than"), "{fault}");
    }

    #[test]
    fn no_value_makes_the_reader_of_fields_panic() {
        let place = Place {
            secret: "a",
            fields: vec!["a", "b"],
            is_encoded: false,
            line: 1,
        };
        keywheel_testkit::hostile(br#"{"x":[1,{}],"a":{"b":"c\u00e4"}}"#, |bytes| {
            drop(field(bytes, &place));
        });
    }
}
