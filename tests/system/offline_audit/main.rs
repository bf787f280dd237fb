//! Suite offline_audit: see README.md beside this file.
#![forbid(unsafe_code)]

mod receivers;
mod sinks;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::canary::Canary;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::manifest;
use keywheel_tests::output::Output;
use keywheel_tests::planted::{self, PLANTED};
use keywheel_tests::stage::{find, rotate, wait_current};
use keywheel_tests::wait;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

/// A name long and rare enough to find it on disk.
const NAMED: &str = "test/tampered-with-on-disk";
/// A playbook that rotates it.
const PLAYBOOK: &str = "apiVersion: keywheel.dev/v1\nkind: Playbook\nmetadata: { name: replace }\nspec:\n  steps:\n    - { name: replace, rotate: { secrets: [test/tampered-with-on-disk] } }\n    - { name: converge, wait: {} }\n";
/// The record that is changed.
const CHANGED: usize = 3;
/// What the sink is told, and a copy of that before the export.
const SINK: &str = "sink.jsonl";
const TOLD: &str = "told.jsonl";

/// A server that did something, holds a planted value, denied something, and stopped; its export.
fn stopped_with_export() -> Result<(Keywheel, PathBuf)> {
    let mut keywheel = started_with_sink()?;
    keywheel.apply(&manifest::secret(NAMED, &[]))?;
    wait_current(&keywheel, NAMED, 1)?;
    // An older log, and a part of it.
    export(&keywheel, "older.json", &[])?;
    export(&keywheel, "part.json", &["--from", "1", "--to", "3"])?;
    for _ in 0..3 {
        rotate(&keywheel, NAMED)?;
    }
    keywheel.apply(PLAYBOOK)?;
    let run = [
        "playbook", "run", "replace", "--reason", "a test", "--yes", "--wait",
    ];
    keywheel.cli(&run)?.ok()?;
    keywheel.json(&["revoke", NAMED, "--reason", "a test", "--yes", "--wait"])?;
    planted::plant(&keywheel, PLANTED)?;
    let _ = keywheel.cli(&["rotate", "no/such"])?;
    assert_found_by_filters(&keywheel)?;
    let told = keywheel.scratch().join(SINK);
    wait::until(
        "the sink to have what was refused last",
        wait::PATIENCE,
        || {
            let text = fs::read_to_string(&told).unwrap_or_default();
            Ok(text.contains("no/such").then_some(()))
        },
    )?;
    fs::copy(&told, keywheel.scratch().join(TOLD))?;
    let path = export(&keywheel, "audit.json", &[])?;
    for (kind, name) in [("revocation", NAMED), ("playbook-run", "replace")] {
        let [page, json] = reports(&keywheel, kind).map(|file| file.display().to_string());
        let args = ["report", kind, name, "--out", &page, "--out", &json];
        keywheel.cli(&args)?.ok()?;
    }
    keywheel.stop()?;
    Ok((keywheel, path))
}

/// Records by what, by how it ended and by which run; all that is asked for has to fit.
fn assert_found_by_filters(keywheel: &Keywheel) -> Result<()> {
    let listed = |filters: &[&str]| -> Result<Vec<Value>> {
        let said = keywheel.json(&[["audit", "query"].as_slice(), filters].concat())?;
        said.as_array().cloned().context("the answer is no list")
    };
    let word = |record: &Value, name: &str| record.get(name).map(ToString::to_string);
    let object = format!("secret/{NAMED}");
    let revoked = listed(&["--object", &object, "--verb", "revoke"])?;
    assert_eq!(revoked.len(), 1, "{revoked:?}");
    let later = [
        "--object",
        &object,
        "--verb",
        "revoke",
        "--outcome",
        "denied",
    ];
    assert_eq!(listed(&later)?.len(), 0);
    let rejected = listed(&["--outcome", "rejected", "--since", "1h"])?;
    let is_rejected = |record: &Value| word(record, "outcome").as_deref() == Some("\"rejected\"");
    ensure!(!rejected.is_empty() && rejected.iter().all(is_rejected));
    let trace = revoked.first().and_then(|record| record.get("trace"));
    let trace = trace.and_then(Value::as_str).context("no trace")?;
    let of_run = listed(&["--trace", trace])?;
    let has_it = |record: &Value| record.get("trace").and_then(Value::as_str) == Some(trace);
    ensure!(!of_run.is_empty() && of_run.iter().all(has_it));
    Ok(())
}

/// A server whose audit has a sink of its own, beside the copy.
fn started_with_sink() -> Result<Keywheel> {
    let mut keywheel = Keywheel::prepare()?;
    let file = keywheel.scratch().join(SINK);
    let sinks = format!(
        "[[sink]]\nname = \"archive\"\ntype = \"file\"\npath = \"{}\"\n",
        file.display()
    );
    let sinks = keywheel.scratch().write("sinks.toml", sinks)?;
    let sinks = sinks.display().to_string();
    let options = Options {
        environment: vec![("KEYWHEEL_AUDIT_SINKS_FILE".to_owned(), sinks)],
        ..Options::default()
    };
    keywheel.up(&options)?;
    Ok(keywheel)
}

fn export(keywheel: &Keywheel, name: &str, more: &[&str]) -> Result<PathBuf> {
    let path = keywheel.scratch().join(name);
    let file = path.display().to_string();
    let args = [["audit", "export", "--file", &file].as_slice(), more].concat();
    keywheel.cli(&args)?.ok()?;
    Ok(path)
}

/// A report of this kind, as page and as JSON.
fn reports(keywheel: &Keywheel, kind: &str) -> [PathBuf; 2] {
    ["html", "json"].map(|form| keywheel.scratch().join(&format!("{kind}.{form}")))
}

fn verify_report(keywheel: &Keywheel, file: &Path, key: &str) -> Result<Output> {
    let file = file.display().to_string();
    keywheel.cli(&["report", "verify", &file, "--key", key])
}

fn verify(keywheel: &Keywheel, path: &Path) -> Result<Output> {
    keywheel.cli(&[
        "audit",
        "verify",
        "--file",
        &path.display().to_string(),
        "-o",
        "json",
    ])
}

/// Writes a changed copy of the export and verifies that.
fn verify_changed(
    keywheel: &Keywheel,
    path: &Path,
    change: impl FnOnce(&mut Value) -> Result<()>,
) -> Result<Output> {
    let mut export: Value = serde_json::from_str(&fs::read_to_string(path)?)?;
    change(&mut export)?;
    let copy = keywheel
        .scratch()
        .write("changed.json", export.to_string())?;
    verify(keywheel, &copy)
}

fn list<'a>(export: &'a mut Value, key: &str) -> Result<&'a mut Vec<Value>> {
    export
        .get_mut(key)
        .and_then(Value::as_array_mut)
        .with_context(|| format!("the export has no list `{key}`"))
}

/// Replaces one digit or letter of a text by another of its kind.
fn altered(text: &str) -> String {
    let at = text.rfind(|c: char| c.is_ascii_digit()).unwrap_or(0);
    let other = if text.as_bytes().get(at) == Some(&b'0') {
        "1"
    } else {
        "0"
    };
    [
        text.get(..at).unwrap_or_default(),
        other,
        text.get(at + 1..).unwrap_or_default(),
    ]
    .concat()
}

fn alter(slot: Option<&mut Value>) -> Result<()> {
    let slot = slot.context("nothing to change there")?;
    let text = slot.as_str().context("not a text")?;
    *slot = Value::from(altered(text));
    Ok(())
}

/// The end of every test: no place shows the planted value, the export included.
fn finish(mut keywheel: Keywheel, path: &Path) -> Result<()> {
    keywheel.kill9()?;
    let text = fs::read_to_string(path)?;
    ensure!(text.contains(PLANTED), "the planted value was never put");
    let canary = Canary::new(&[planted::value(&keywheel).into_bytes()])?;
    let hits = canary.search("the export", text.as_bytes());
    ensure!(hits.is_empty(), "plaintext in the export: {hits:#?}");
    planted::assert_clean(&keywheel, &[])
}

fn assert_found(said: &Output, what: &str) {
    assert_ne!(said.code, 0, "{what} was not found: {}", said.said());
    let is_fault = said.said().contains("a fault in keywheel");
    assert!(!is_fault, "{what}: {}", said.said());
}

#[test]
fn an_export_verifies_without_the_server() -> Result<()> {
    let (keywheel, path) = stopped_with_export()?;
    let said = verify(&keywheel, &path)?.ok()?.json()?;
    assert_eq!(said.get("verified"), Some(&Value::Bool(true)), "{said}");
    let records = find(&said, "records").and_then(Value::as_u64).unwrap_or(0);
    assert!(records >= 8, "only {records} records: {said}");
    let text = fs::read_to_string(&path)?;
    for word in ["a test", NAMED] {
        assert!(text.contains(word), "`{word}` is not on the record");
    }
    let key = find(&said, "public_key").and_then(Value::as_str);
    let key = key.context("no key")?;
    let dead = ["data keys destroyed", "cannot be probed"];
    assert_against_sink(&keywheel, &path)?;
    assert_reports(&keywheel, "revocation", key, &dead)?;
    assert_reports(&keywheel, "playbook-run", key, &["advance-playbook"])?;
    let [page, _] = reports(&keywheel, "playbook-run");
    let page = fs::read_to_string(&page)?;
    let score = "1 of 1 rotations and revocations";
    ensure!(page.contains(score), "the run has no score: {page}");
    finish(keywheel, &path)
}

/// The sink has the same records as the log, and more than the log of before; a part has its own proof.
fn assert_against_sink(keywheel: &Keywheel, path: &Path) -> Result<()> {
    let told = keywheel.scratch().join(TOLD).display().to_string();
    let against = |export: &Path| {
        let file = export.display().to_string();
        let args = ["audit", "verify", "--file", &file, "--against", &told];
        keywheel.cli(&[args.as_slice(), &["-o", "json"]].concat())
    };
    let said = against(path)?.ok()?.json()?;
    ensure!(find(&said, "compared").is_some(), "not compared: {said}");
    let older = keywheel.scratch().join("older.json");
    verify(keywheel, &older)?.ok()?;
    let text: Value = serde_json::from_str(&fs::read_to_string(&older)?)?;
    let size = text.get("records").and_then(Value::as_array).map(Vec::len);
    let said = against(&older)?;
    assert_eq!(said.code, 5, "a log that was put back: {}", said.said());
    let wanted = format!("audit record {} is at the sink", size.unwrap_or(0));
    assert!(said.said().contains(&wanted), "{}", said.said());
    assert_goes_on(keywheel, path, &older)?;
    let part = keywheel.scratch().join("part.json");
    verify(keywheel, &part)?.ok()?;
    let said = verify_changed(keywheel, &part, |export| {
        alter(list(export, "records")?.first_mut())
    })?;
    assert_found(&said, "a changed record of a part");
    Ok(())
}

/// Of the checkpoint in the older export the log is the continuation; of its own the older one is none.
fn assert_goes_on(keywheel: &Keywheel, path: &Path, older: &Path) -> Result<()> {
    let since = |export: &Path, kept: &Path| {
        let (export, kept) = (export.display().to_string(), kept.display().to_string());
        keywheel.cli(&["audit", "verify", "--file", &export, "--since", &kept])
    };
    since(path, older)?.ok()?;
    let said = since(older, path)?;
    assert_eq!(said.code, 5, "a log that was put back: {}", said.said());
    assert!(said.said().contains("cut or put back"), "{}", said.said());
    Ok(())
}

/// Both forms of the report verify without the server; one that was changed has an exit code of its own.
fn assert_reports(keywheel: &Keywheel, kind: &str, key: &str, words: &[&str]) -> Result<()> {
    for (file, named) in reports(keywheel, kind).iter().zip(["page", "event "]) {
        verify_report(keywheel, file, key)?.ok()?;
        let text = fs::read_to_string(file)?;
        for word in ["a test", NAMED].iter().chain(words) {
            assert!(text.contains(word), "`{word}` is not in {}", file.display());
        }
        fs::write(file, text.replacen("a test", "a jest", 1))?;
        let said = verify_report(keywheel, file, key)?;
        assert_eq!(said.code, 5, "{}", said.said());
        assert!(said.said().contains(named), "{}", said.said());
        fs::write(file, text)?;
        let stranger = "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=";
        let said = verify_report(keywheel, file, stranger)?;
        assert_eq!(said.code, 5, "another key: {}", said.said());
    }
    Ok(())
}

#[test]
fn a_changed_record_is_named_by_its_index() -> Result<()> {
    let (keywheel, path) = stopped_with_export()?;
    let said = verify_changed(&keywheel, &path, |export| {
        alter(list(export, "records")?.get_mut(CHANGED))
    })?;
    assert_found(&said, "a changed record");
    assert!(
        said.said().contains(&CHANGED.to_string()),
        "the index is not named: {}",
        said.said()
    );
    finish(keywheel, &path)
}

#[test]
fn a_changed_record_with_a_fitting_hash_still_fails_the_root() -> Result<()> {
    let (keywheel, path) = stopped_with_export()?;
    let said = verify_changed(&keywheel, &path, |export| {
        alter(list(export, "records")?.get_mut(CHANGED))?;
        list(export, "leaf_hashes")?.clear();
        Ok(())
    })?;
    assert_found(&said, "a changed record without any hash");
    let said = verify_changed(&keywheel, &path, |export| {
        alter(list(export, "records")?.get_mut(CHANGED))?;
        let record = export
            .pointer(&format!("/records/{CHANGED}"))
            .and_then(Value::as_str)
            .unwrap_or_default();
        let leaf = Sha256::new_with_prefix([0u8])
            .chain_update(record)
            .finalize();
        let fitting: String = leaf.iter().map(|byte| format!("{byte:02x}")).collect();
        *list(export, "leaf_hashes")?
            .get_mut(CHANGED)
            .context("too few hashes")? = Value::from(fitting);
        Ok(())
    })?;
    assert_found(&said, "a changed record with its own hash");
    finish(keywheel, &path)
}

#[test]
fn removed_swapped_and_added_records_are_found() -> Result<()> {
    let (keywheel, path) = stopped_with_export()?;
    let cut = |export: &mut Value, key: &str| list(export, key).map(Vec::pop).map(|_| ());
    let said = verify_changed(&keywheel, &path, |export| {
        cut(export, "records").and(cut(export, "leaf_hashes"))
    })?;
    assert_found(&said, "a missing last record");
    let swap = |export: &mut Value, key: &str| list(export, key).map(|all| all.swap(1, 2));
    let said = verify_changed(&keywheel, &path, |export| {
        swap(export, "records").and(swap(export, "leaf_hashes"))
    })?;
    assert_found(&said, "two swapped records");
    let twice = |export: &mut Value, key: &str| {
        let all = list(export, key)?;
        let last = all.last().cloned().context("an empty export")?;
        all.push(last);
        Ok(())
    };
    let said = verify_changed(&keywheel, &path, |export| {
        twice(export, "records").and(twice(export, "leaf_hashes"))
    })?;
    assert_found(&said, "an added record");
    finish(keywheel, &path)
}

#[test]
fn a_changed_checkpoint_is_found() -> Result<()> {
    let (keywheel, path) = stopped_with_export()?;
    let said = verify_changed(&keywheel, &path, |export| {
        alter(export.get_mut("checkpoint"))
    })?;
    assert_found(&said, "a changed checkpoint");
    let said = verify_changed(&keywheel, &path, |export| {
        alter(export.get_mut("public_key"))
    })?;
    assert_found(&said, "another public key");
    let said = verify(&keywheel, &keywheel.scratch().write("no.json", "{}")?)?;
    assert_found(&said, "an empty export");
    finish(keywheel, &path)
}

/// Changes one letter of the name wherever it stands in the journal's files.
fn tamper(folder: &Path) -> Result<usize> {
    let mut changed = 0;
    for entry in fs::read_dir(folder)?.flatten() {
        let path = entry.path();
        if !entry
            .file_name()
            .to_string_lossy()
            .starts_with("journal.db")
        {
            continue;
        }
        let mut bytes = fs::read(&path)?;
        let places: Vec<usize> = bytes
            .windows(NAMED.len())
            .enumerate()
            .filter(|(_, window)| *window == NAMED.as_bytes())
            .map(|(at, _)| at)
            .collect();
        for at in &places {
            if let Some(byte) = bytes.get_mut(at + NAMED.len() - 1) {
                *byte = b'X';
            }
        }
        if !places.is_empty() {
            fs::write(&path, bytes)?;
        }
        changed += places.len();
    }
    Ok(changed)
}

#[test]
fn a_changed_byte_in_the_journal_is_found() -> Result<()> {
    let (mut keywheel, path) = stopped_with_export()?;
    let changed = tamper(keywheel.data_dir())?;
    ensure!(
        changed > 0,
        "the name is nowhere on disk: the test tampers with nothing"
    );
    keywheel.spawn(&Options::default())?;
    if keywheel.wait_ready().is_err() {
        let log = keywheel.log();
        assert!(
            log.contains("is damaged: event") && log.contains("next: keep the data directory"),
            "{log}"
        );
        return finish(keywheel, &path);
    }
    let said = keywheel.cli(&["journal", "verify"])?;
    // SQLite drops the end of a write-ahead log that was changed: then the journal is whole but
    // shorter, and its second copy at the audit sink is what tells.
    let told = keywheel.log().contains("differs from its copy");
    assert!(
        said.code != 0 || told,
        "a changed journal was not found: {}",
        said.said()
    );
    finish(keywheel, &path)
}
