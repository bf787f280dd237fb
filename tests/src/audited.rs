//! What the audit has of containers: each change of what they hold, once.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::keywheel::Keywheel;
use crate::stage::items;

/// No change of a container is on record twice: of what happened to its copy of one secret no two records
/// that follow each other are the same.
pub fn each_change_is_audited_once(keywheel: &Keywheel, ids: &[&str]) -> Result<()> {
    let audit = Value::from(keywheel.stream("audit")?);
    let mut last: BTreeMap<(String, String), String> = BTreeMap::new();
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    for row in items(&audit) {
        let text = |key: &str| row.get(key).map(Value::to_string).unwrap_or_default();
        let container = row
            .get("container")
            .map(Value::to_string)
            .unwrap_or_default();
        let id = ids.iter().find(|id| container.contains(**id));
        // An exec and a refusal change nothing.
        let is_change = text("category").contains("usage")
            && !["exec", "refuse"]
                .iter()
                .any(|verb| text("verb").contains(verb));
        let Some(id) = id.filter(|_| is_change) else {
            continue;
        };
        let change = format!("{} {}", text("verb"), text("version"));
        let before = last.insert(((*id).to_owned(), text("object")), change.clone());
        ensure!(
            before.as_ref() != Some(&change),
            "audited twice in a row: {row}"
        );
        *seen.entry((*id).to_owned()).or_default() += 1;
    }
    ensure!(seen.len() == ids.len(), "not all are on record: {seen:?}");
    Ok(())
}

/// How often something was done to a container, by the audit's verb.
pub fn times(keywheel: &Keywheel, id: &str, verb: &str) -> Result<usize> {
    let audit = keywheel.stream("audit")?;
    let said = |row: &Value, at: &str| row.pointer(at).and_then(Value::as_str).map(str::to_owned);
    let is_one = |row: &&Value| {
        said(row, "/container/id").as_deref() == Some(id)
            && said(row, "/category").as_deref() == Some("usage")
            && said(row, "/verb").as_deref() == Some(verb)
    };
    Ok(audit.iter().filter(is_one).count())
}
