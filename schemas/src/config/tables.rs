//! Small files of settings of their own, TOML: every fault of one is told at once, each with its line.
//!
//! Pure. What a value says is told by none of this: it may be a credential that stands in the wrong place.

use std::path::Path;

use serde::de::DeserializeOwned;
use toml::de::{DeTable, DeValue};

use super::ConfigError;
use crate::leaf::shorten;
use crate::near::nearest;

/// A fault, and the byte of the file that it is at.
pub(super) type Found = (usize, String);

/// A table, and what may stand in it.
pub(super) struct Known<'a> {
    /// What it is called in words about it: `[kms]`, or the file.
    pub(super) called: &'a str,
    /// The byte at which it begins: what is missing is missing there.
    pub(super) begin: usize,
    /// Without these it is of no use.
    pub(super) needed: &'static [&'static str],
    /// What may be left out.
    pub(super) optional: &'static [&'static str],
}

/// Reads a file of at most so many bytes, of which `faults` finds what is wrong with it besides its being TOML.
///
/// # Errors
/// With every fault of it, each with its line; where it is no TOML with those alone.
pub(super) fn read<T: DeserializeOwned>(
    path: &Path,
    text: &str,
    most: usize,
    faults: impl FnOnce(&DeTable<'_>) -> Vec<Found>,
) -> Result<T, Vec<ConfigError>> {
    let fault = |message: String| ConfigError {
        origin: path.display().to_string(),
        message,
    };
    if text.len() > most {
        let bytes = text.len();
        let message = format!("the file has {bytes} bytes; at most {most} are allowed");
        return Err(vec![fault(message)]);
    }
    let (table, broken) = DeTable::parse_recoverable(text);
    let broken = broken.iter().map(|error| {
        let at = error.span().map_or(0, |span| span.start);
        (at, format!("this is not TOML: {}", error.message()))
    });
    let mut found: Vec<Found> = broken.collect();
    // What stands in a broken line is nobody's to know, nor what is missing for it.
    if found.is_empty() {
        found = faults(table.get_ref());
    }
    found.sort_by_key(|(at, _)| *at);
    let told = found
        .into_iter()
        .map(|(at, what)| fault(format!("line {}: {what}", line_of(text, at))));
    let told: Vec<ConfigError> = told.collect();
    if !told.is_empty() {
        return Err(told);
    }
    toml::from_str(text).map_err(|error| {
        let line = line_of(text, error.span().map_or(0, |span| span.start));
        vec![fault(format!("line {line}: {}", error.message()))]
    })
}

/// Of a table: what is not known in it, what is missing, and what `wrong` says of a setting that is there.
pub(super) fn of_table(
    table: &DeTable<'_>,
    known: &Known<'_>,
    wrong: impl Fn(&str, &DeValue<'_>) -> Vec<String>,
) -> Vec<Found> {
    let names = [known.needed, known.optional].concat();
    let mut found = Vec::new();
    for (key, value) in table {
        let name: &str = key.get_ref();
        if names.contains(&name) {
            let at = value.span().start;
            let faults = wrong(name, value.get_ref()).into_iter();
            found.extend(faults.map(|what| (at, what)));
        } else {
            let what = format!(
                "setting `{}` is not known{}; {} has {}",
                shorten(name),
                nearest(name, &names),
                known.called,
                names.join(", ")
            );
            found.push((key.span().start, what));
        }
    }
    let needed = known.needed.iter();
    let missing = needed.filter(|name| !table.contains_key(**name));
    found.extend(missing.map(|name| {
        let what = format!("`{name}` is missing in {}", known.called);
        (known.begin, what)
    }));
    found
}

/// The text of a setting, or what is said where it is none.
pub(super) fn text<'a>(name: &str, value: &'a DeValue<'_>) -> Result<&'a str, String> {
    value
        .as_str()
        .ok_or_else(|| format!("`{name}` has to be text in quotes"))
}

/// The line that a byte is in, counted from 1.
fn line_of(text: &str, byte: usize) -> usize {
    text.get(..byte).unwrap_or(text).matches('\n').count() + 1
}
