//! What root did at the gateway's machine, as it has to be on record: by whom, each deed once with its intent and then
//! its outcome, in the order of the deeds; and a ledger of them that is refused.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Result, bail, ensure};
use keywheel_tests::stage::items;
use keywheel_tests::wait;
use serde_json::{Value, json};

use crate::deployment::{Deployment, PATIENCE};

/// The gateway's ledger.
const LEDGER: &str = "deeds.jsonl";
/// No line of a ledger.
const STRANGE: &str = "canary-of-no-line";
/// How an intent without further words ends.
const HERE: &str = " on the gateway's machine";

/// One deed.
#[derive(Debug, Clone)]
pub(crate) struct Recorded {
    /// How the intent ends.
    asked: String,
    /// The outcome, and how its reason begins.
    came: (&'static str, &'static str),
}

impl Recorded {
    /// Another root.
    pub(crate) fn begin() -> Self {
        let done = "done: certificates come from the new root; both are trusted, at ";
        Self::new(HERE, ("allowed", done))
    }

    /// A directory of credentials.
    pub(crate) fn refresh(directory: &str) -> Self {
        Self::new(directory, ("allowed", "done: fresh until "))
    }

    fn new(asked: &str, came: (&'static str, &'static str)) -> Self {
        let asked = asked.to_owned();
        Self { asked, came }
    }

    /// Whether these two records are it.
    fn is(&self, (intent, outcome): (&Value, &Value)) -> Result<()> {
        let asked = text(intent, "reason");
        ensure!(asked.starts_with("asked for at "), "{intent}");
        ensure!(asked.ends_with(&self.asked), "{intent}: {self:?}");
        ensure!(text(intent, "outcome") == "allowed", "{intent}");
        let (came, begin) = self.came;
        ensure!(text(outcome, "outcome") == came, "{outcome}: {self:?}");
        let reason = text(outcome, "reason");
        ensure!(reason.starts_with(begin), "{outcome}: {self:?}");
        Ok(())
    }
}

/// The old root is trusted no more with the last of so many tries.
pub(crate) fn finish(tries: usize) -> Vec<Recorded> {
    let asked = format!("{HERE}: not waiting for people and bus servers");
    let one = |came| Recorded::new(&asked, came);
    let early = tries.saturating_sub(1);
    let mut all = vec![one(("rejected", "failed: ")); early];
    let done = "done: the old root is trusted no more, at ";
    all.push(one(("allowed", done)));
    all
}

/// Waits until exactly these are on record, read at the gateway of the other directory.
pub(crate) fn are(
    all: &Deployment,
    (verb, object): (&str, &str),
    deeds: &[Recorded],
) -> Result<()> {
    let own = fs::metadata("/proc/self")?.uid();
    wait::until_true(verb, PATIENCE, || {
        let listed = list(all, verb, object)?;
        let records = items(&listed);
        let there = records.len();
        ensure!(there == 2 * deeds.len(), "{there} records: {listed}");
        let mut commands = BTreeSet::new();
        for (pair, deed) in records.chunks(2).zip(deeds) {
            let &[intent, outcome] = pair else {
                bail!("no pair: {pair:?}");
            };
            for record in [intent, outcome] {
                ensure!(text(record, "verb") == verb, "{record}");
                ensure!(text(record, "object") == object, "{record}");
                ensure!(text(record, "category") == "administration", "{record}");
                ensure!(text(&record["principal"], "kind") == "user", "{record}");
                ensure!(record["principal"]["uid"] == own, "{record}");
            }
            deed.is((intent, outcome))?;
            let command = text(intent, "command");
            ensure!(text(outcome, "command") == command, "{outcome}: {intent}");
            ensure!(commands.insert(command), "{command} has two");
        }
        Ok(true)
    })
}

/// A ledger that others may write is in the status, also of the other gateway, until it is put right; then what of it is
/// no line is on record, and nothing of what stood there.
pub(crate) fn is_refused_while_open(all: &Deployment, gateway: &Path) -> Result<()> {
    let ledger = gateway.join(LEDGER);
    wait::until_true("an empty ledger", PATIENCE, || {
        Ok(fs::metadata(&ledger)?.len() == 0)
    })?;
    fs::set_permissions(&ledger, fs::Permissions::from_mode(0o622))?;
    fs::write(&ledger, format!("{STRANGE}\n"))?;
    for number in 0..2 {
        wait::until_true("a refused ledger in the status", PATIENCE, || {
            let Some(finding) = finding(all, number)? else {
                return Ok(false);
            };
            ensure!(finding["state"] == "problem", "{finding}");
            ensure!(finding["kind"] == "gateway", "{finding}");
            let what = text(&finding, "what");
            ensure!(what.contains("is open to others"), "{finding}");
            ensure!(text(&finding, "next").contains("mode 0600"), "{finding}");
            ensure!(!finding.to_string().contains(STRANGE), "{finding}");
            Ok(true)
        })?;
    }
    let none = list(all, "read-deeds", LEDGER)?;
    ensure!(items(&none).is_empty(), "it was read: {none}");
    fs::set_permissions(&ledger, fs::Permissions::from_mode(0o600))?;
    for number in 0..2 {
        wait::until_true("no word of the ledger in the status", PATIENCE, || {
            Ok(finding(all, number)?.is_none())
        })?;
    }
    wait::until_true("a record of what is no line", PATIENCE, || {
        let listed = list(all, "read-deeds", LEDGER)?;
        let records = items(&listed);
        let [record] = records.as_slice() else {
            bail!("not one: {listed}");
        };
        let by = json!({ "kind": "service", "role": "gateway" });
        ensure!(record["principal"] == by, "{record}");
        ensure!(text(record, "outcome") == "rejected", "{record}");
        let reason = text(record, "reason");
        ensure!(reason.contains("1 line of it"), "{record}");
        ensure!(!record.to_string().contains(STRANGE), "{record}");
        Ok(true)
    })?;
    ensure!(fs::metadata(&ledger)?.len() == 0, "it was not emptied");
    Ok(())
}

/// What the status of a gateway says of a ledger.
fn finding(all: &Deployment, gateway: usize) -> Result<Option<Value>> {
    let status = all.json(gateway, &["status"])?;
    let findings = status["findings"].as_array();
    let mut findings = findings.into_iter().flatten();
    let found = findings.find(|finding| text(finding, "what").starts_with("deeds: "));
    Ok(found.cloned())
}

fn list(all: &Deployment, verb: &str, object: &str) -> Result<Value> {
    let words = ["audit", "list", "--verb", verb, "--object", object];
    all.json(1, &[&words[..], &["--limit", "1000"]].concat())
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value[field].as_str().unwrap_or_default()
}
