//! From a value to what its files hold: as it is, or through the binding's templates.
//!
//! Invariants: what is filled in is written once, into memory that is overwritten when it is dropped,
//! and is no longer than a value may be; a fault names the template and never the value. What is not
//! overwritten: the scratch buffer of the JSON reader, which holds a string of the object while it
//! resolves its escapes.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use keywheel_core::binding::{SetFile, Target};
use keywheel_core::id::SecretId;
use keywheel_core::name::{FileName, SecretName};
use keywheel_core::plan::PlannedBinding;
use keywheel_schemas::template::{Piece, Place, parse};
use keywheel_seal::{MAX_VALUE_BYTES, SecretBytes};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use zeroize::Zeroizing;

use crate::granted::{further_of, previous_of};
use crate::shared::VersionKey;

/// Most bytes that are read for the fields of one binding: each place reads the whole value.
const MAX_FIELD_BYTES: usize = 16 << 20;

/// What becomes of a value in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Form {
    shape: Shape,
    secret: SecretName,
    /// Further secrets that it is made of. Another version of one of them is another form.
    further: Vec<Further>,
    /// Versions before the current one that it is made of, which makes it another form too. For what is
    /// not among them nothing is filled in.
    previous: Vec<Further>,
}

/// A further secret, or one of which the version before is meant, and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Further {
    secret: SecretId,
    name: SecretName,
    version: u64,
}

/// Values of the further secrets of one binding, and of versions before the current one.
pub(crate) type FurtherValues = BTreeMap<VersionKey, Arc<SecretBytes>>;

/// What a form is filled with.
struct Values<'a> {
    own: &'a SecretBytes,
    further: &'a FurtherValues,
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
        let further = further_of(planned).map(|(one, grant)| Further {
            secret: one.secret,
            name: one.name.clone(),
            version: grant.version,
        });
        let named = |secret: SecretId| {
            let own = (planned.secret == secret).then_some(&planned.secret_name);
            let mut also = planned.also.iter();
            own.or_else(|| Some(&also.find(|one| one.secret == secret)?.name))
        };
        let previous = previous_of(planned).filter_map(|(secret, grant)| {
            Some(Further {
                secret,
                name: named(secret)?.clone(),
                version: grant.version,
            })
        });
        Some(Arc::new(Self {
            shape,
            secret: planned.secret_name.clone(),
            further: further.collect(),
            previous: previous.collect(),
        }))
    }

    /// The versions of the further secrets that it is made of.
    pub(crate) fn versions(&self) -> BTreeMap<SecretId, u64> {
        let further = self.further.iter();
        further.map(|one| (one.secret, one.version)).collect()
    }

    /// The versions before the current ones that it is made of.
    pub(crate) fn previous_versions(&self) -> BTreeMap<SecretId, u64> {
        let previous = self.previous.iter();
        previous.map(|one| (one.secret, one.version)).collect()
    }

    /// The same, and what the secrets are called.
    pub(crate) fn previous_named(&self) -> impl Iterator<Item = (&SecretName, VersionKey)> {
        let previous = self.previous.iter();
        previous.map(|one| (&one.name, (one.secret, one.version)))
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
            further: Vec::new(),
            previous: Vec::new(),
        })
    }

    fn fill(&self, values: &Values<'_>) -> Result<Formed, String> {
        let mut budget = Budget {
            fields: 0,
            read: 0,
            length: 0,
        };
        match &self.shape {
            Shape::File(template) => {
                let filled = self.fill_one(template, values, &mut budget);
                filled.map(|filled| Formed::File(Arc::new(filled)))
            }
            Shape::Set(files) => {
                let fill = |file: &SetFile| -> Result<(FileName, SecretBytes), String> {
                    let filled = self.fill_one(&file.template, values, &mut budget);
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
        values: &Values<'_>,
        budget: &mut Budget,
    ) -> Result<SecretBytes, String> {
        let pieces = parse(template).map_err(|fault| fault.to_string())?;
        for piece in &pieces {
            if let Piece::Place(place) = piece
                && !place.fields.is_empty()
            {
                budget.fields += 1;
                // EXPOSE: only its length is looked at.
                let value = self.value_of(place, values)?;
                let length = value.map_or(0, |value| value.expose().len());
                budget.read = budget.read.saturating_add(length);
            }
        }
        if budget.read > MAX_FIELD_BYTES {
            let fields = budget.fields;
            return Err(format!(
                "its {fields} places for fields, each times the length of its value, are more than {MAX_FIELD_BYTES} bytes"
            ));
        }
        let mut parts = Vec::with_capacity(pieces.len());
        let mut length = 0_usize;
        for piece in &pieces {
            let part = match piece {
                Piece::Text(text) => Part::Given(text.as_bytes()),
                Piece::Place(place) => self.part(place, values)?,
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

    /// The value that is meant; `None`: there is no version before the current one.
    fn value_of<'a>(
        &self,
        place: &Place<'_>,
        values: &Values<'a>,
    ) -> Result<Option<&'a SecretBytes>, String> {
        let is_named = |one: &&Further| one.name.as_str() == place.secret;
        let is_own = place.secret == self.secret.as_str();
        let named = match place.is_previous {
            true => {
                let previous = self.previous.iter().find(is_named);
                if previous.is_none() && (is_own || self.further.iter().any(|one| is_named(&one))) {
                    return Ok(None);
                }
                previous
            }
            false if is_own => return Ok(Some(values.own)),
            false => self.further.iter().find(is_named),
        };
        let value = named.and_then(|one| values.further.get(&(one.secret, one.version)));
        value.map(|value| Some(&**value)).ok_or_else(|| {
            format!(
                "line {}: `{}` is another secret than those that the binding gives out",
                place.line, place.secret
            )
        })
    }

    fn part<'a>(&self, place: &Place<'_>, values: &Values<'a>) -> Result<Part<'a>, String> {
        let Some(value) = self.value_of(place, values)? else {
            return Ok(Part::Given(b""));
        };
        // EXPOSE: copied into what the container's file will hold.
        let bytes = value.expose();
        let part = if place.fields.is_empty() {
            Part::Given(bytes)
        } else {
            match field(bytes, place) {
                Ok(found) => Part::Own(found),
                // What another version was made for need not be in it: as if there were none before.
                Err(_) if place.is_previous => return Ok(Part::Given(b"")),
                Err(fault) => return Err(fault),
            }
        };
        Ok(if place.is_encoded {
            Part::Own(encoded(part.bytes()))
        } else {
            part
        })
    }
}

/// What is made of a value, and of those of the further secrets.
pub(crate) fn formed(
    form: Option<&Arc<Form>>,
    value: &Arc<SecretBytes>,
    further: &FurtherValues,
) -> Result<Formed, String> {
    let Some(form) = form else {
        return Ok(Formed::File(Arc::clone(value)));
    };
    let values = Values {
        own: value,
        further,
    };
    form.fill(&values).map_err(|fault| {
        let field = match form.shape {
            Shape::File(_) => "file.template",
            Shape::Set(_) => "files.templates",
        };
        let mut next = format!("correct `{field}` of its binding, or the value");
        for (name, (_, version)) in form.previous_named() {
            next.push_str(&format!(
                ", or leave out the version before with `keywheel revoke {name} --version {version}`"
            ));
        }
        format!("template_failed: {fault}; {next}")
    })
}

/// What the templates of one binding used up.
struct Budget {
    /// Places for fields.
    fields: usize,
    /// Bytes that were read for them.
    read: usize,
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
mod tests;
