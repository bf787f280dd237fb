//! Manifests for what lies in a store already: names in, YAML out, to be read by a person and applied.
//!
//! It knows names and never values. Invariants: what comes out is read by [`super::parse`] without a
//! fault, and fits one `apply`; the same names give the same text, in whatever order they came; two
//! places never get one name; a name that could not stay as it was is told with its place.

mod declared;

use std::collections::BTreeSet;
use std::fmt::Write as _;

use keywheel_core::name::{MAX_NAME_BYTES, SecretName};
use keywheel_core::store::{MAX_STORE_TEXT_BYTES, NamedStore, Source};

use super::{API_VERSION, MAX_DOCUMENTS, MAX_MANIFEST_BYTES};

/// Most secrets in one proposal: one document is the store's.
pub const MAX_PROPOSED: usize = MAX_DOCUMENTS - 1;
/// What a name keeps free for the number that tells it from another one.
const SUFFIX_BYTES: usize = 8;
/// The name of what has no letter that a name may have.
const NAMELESS: &str = "secret";

/// A proposal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// The YAML text.
    pub text: String,
    /// How many secrets are in it.
    pub secrets: usize,
    /// Places whose name had to change, with the name they got.
    pub renamed: Vec<(Source, SecretName)>,
    /// Places that no manifest can name.
    pub left_out: Vec<Source>,
}

/// More than one `apply` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "there are more secrets than one text with manifests may have ({MAX_PROPOSED} of them, \
     {MAX_MANIFEST_BYTES} bytes); give a longer `--path`, and import part by part"
)]
pub struct TooMany;

/// Proposes the store and a secret for each place in it.
///
/// # Errors
/// [`TooMany`] when it would not fit one `apply`.
pub fn propose(declared: &NamedStore, places: &[Source]) -> Result<Proposal, TooMany> {
    let places: BTreeSet<&Source> = places.iter().collect();
    let (places, left_out): (Vec<&Source>, Vec<&Source>) =
        places.into_iter().partition(|place| can_be_named(place));
    if places.len() > MAX_PROPOSED {
        return Err(TooMany);
    }
    let names = names(&places);
    let mut text = head(declared);
    text.push_str(&declared::document(declared));
    let mut renamed = Vec::new();
    for (place, name) in places.iter().zip(&names) {
        text.push_str("---\n");
        if name.as_str() != wished(place) {
            text.push_str("# as it is called there it cannot be called here, or another one is\n");
            renamed.push(((*place).clone(), name.clone()));
        }
        push_secret(&mut text, declared, place, name);
    }
    if text.len() > MAX_MANIFEST_BYTES {
        return Err(TooMany);
    }
    Ok(Proposal {
        text,
        secrets: places.len(),
        renamed,
        left_out: left_out.into_iter().cloned().collect(),
    })
}

fn head(declared: &NamedStore) -> String {
    format!(
        "# Proposed by `keywheel import` for store `{}`. Values stay where they are.\n\
         # Remove what Keywheel shall not know, then: keywheel apply -f FILE\n",
        declared.name
    )
}

fn push_secret(text: &mut String, declared: &NamedStore, place: &Source, name: &SecretName) {
    let _ = write!(
        text,
        "apiVersion: {API_VERSION}\nkind: Secret\nmetadata: {{ name: {name} }}\nspec:\n  store: {}\n  \
         source: {{ path: {}",
        quoted(declared.name.as_str()),
        quoted(&place.path),
        name = quoted(name.as_str()),
    );
    if !place.field.is_empty() {
        let _ = write!(text, ", field: {}", quoted(&place.field));
    }
    text.push_str(" }\n");
}

/// YAML takes the strings of JSON.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn can_be_named(place: &Source) -> bool {
    let fits =
        |text: &str| text.len() <= MAX_STORE_TEXT_BYTES && !text.chars().any(char::is_control);
    !place.path.is_empty() && fits(&place.path) && fits(&place.field)
}

/// The place as a name, if every text were one.
fn wished(place: &Source) -> String {
    match place.field.as_str() {
        "" => place.path.clone(),
        field => format!("{}/{field}", place.path),
    }
}

/// Names in the order of the places. Who may keep its name gets it before anyone who may not.
fn names(places: &[&Source]) -> Vec<SecretName> {
    let mut taken = BTreeSet::new();
    let mut keep = |place: &&Source| {
        let name = SecretName::parse(&wished(place)).ok()?;
        taken.insert(name.clone()).then_some(name)
    };
    let kept: Vec<Option<SecretName>> = places.iter().map(&mut keep).collect();
    let pairs = places.iter().zip(kept);
    let name = |(place, kept): (&&Source, Option<SecretName>)| {
        kept.unwrap_or_else(|| free_name(&wished(place), &mut taken))
    };
    pairs.map(name).collect()
}

/// The nearest name that nobody has.
fn free_name(wished: &str, taken: &mut BTreeSet<SecretName>) -> SecretName {
    let near = nearest(wished);
    let mut name = near.clone();
    let mut number = 1_u32;
    loop {
        // What `nearest` gives is a name, and stays one with a number behind it.
        if let Ok(free) = SecretName::parse(&name)
            && taken.insert(free.clone())
        {
            return free;
        }
        number = number.saturating_add(1);
        name = format!("{near}-{number}");
    }
}

/// The text with everything that no name has replaced, short enough for a number behind it.
fn nearest(wished: &str) -> String {
    let parts = wished.split('/').map(nearest_part);
    let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
    let mut name = parts.join("/");
    name.truncate(MAX_NAME_BYTES - SUFFIX_BYTES);
    let name = name.trim_end_matches('/');
    if name.is_empty() {
        NAMELESS.to_owned()
    } else {
        name.to_owned()
    }
}

fn nearest_part(part: &str) -> String {
    let letter = |c: char| match c.to_ascii_lowercase() {
        c if c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-') => c,
        _ => '-',
    };
    let part: String = part.chars().map(letter).collect();
    if matches!(part.as_str(), "." | "..") {
        part.replace('.', "-")
    } else {
        part
    }
}

#[cfg(test)]
mod tests;
