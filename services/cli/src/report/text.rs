//! A report as a file: JSON by itself, or JSON in its page.

use keywheel_schemas::api::EvidenceReport;

use super::page::{self, BEGIN, DOCTYPE, END};

/// The report as JSON, for people and programs.
pub(crate) fn json(report: &EvidenceReport) -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(report).map(|text| format!("{text}\n"))
}

/// The same on one line, without a character that means something in HTML: such ones stand in JSON's strings alone.
pub(super) fn embedded(report: &EvidenceReport) -> Result<String, serde_json::Error> {
    let text = serde_json::to_string(report)?;
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '<' => safe.push_str("\\u003c"),
            '>' => safe.push_str("\\u003e"),
            '&' => safe.push_str("\\u0026"),
            other => safe.push(other),
        }
    }
    Ok(safe)
}

/// Reads a file of either form.
///
/// # Errors
/// In words, when it is neither.
pub(crate) fn read(file: &str) -> Result<EvidenceReport, String> {
    let is_page = file.starts_with(DOCTYPE);
    let text = match is_page {
        true => in_page(file).ok_or("it is a page without a report in it")?,
        false => file,
    };
    serde_json::from_str(text).map_err(|error| error.to_string())
}

/// Whether a file is the one that its report gives, to the last byte; else which part of it is not, and from where.
pub(super) fn check(report: &EvidenceReport, file: &str) -> Result<(), (&'static str, String)> {
    let (part, made) = match file.starts_with(DOCTYPE) {
        true => ("page", page::page(report)),
        false => ("file", json(report)),
    };
    let made = made.map_err(|error| (part, error.to_string()))?;
    if made == file {
        return Ok(());
    }
    let pairs = made.lines().zip(file.lines());
    let same = pairs.take_while(|(made, file)| made == file).count();
    let what = format!(
        "what stands in it is not what its report gives, from line {} on; the report inside it is proven",
        same + 1
    );
    Err((part, what))
}

fn in_page(page: &str) -> Option<&str> {
    let (_, rest) = page.split_once(BEGIN)?;
    rest.split_once(END).map(|(text, _)| text)
}
