//! Every sink's receiver has the journal's records, in order and without a gap, whatever becomes of it meanwhile.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::canary::Canary;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::ocsf;
use keywheel_tests::planted::{self, PLANTED};
use keywheel_tests::stage::{rotate, wait_current};
use keywheel_tests::{manifest, wait};
use serde_json::Value;

use crate::receivers::{Receivers, Which};

const SECRET: &str = "test/told";

/// What `status` says of a sink, where it is not well.
fn complaint(keywheel: &Keywheel, which: Which) -> Result<Option<Value>> {
    let status = keywheel.json(&["status"])?;
    let findings = status["findings"].as_array().context("no findings")?;
    let begin = format!("sink {}: ", which.name());
    let is_its = |finding: &&Value| {
        let what = finding["what"].as_str();
        what.is_some_and(|what| what.starts_with(&begin))
    };
    Ok(findings.iter().find(is_its).cloned())
}

/// Waits until it is a problem that says why and what to do.
fn wait_problem(keywheel: &Keywheel, which: Which, why: &str) -> Result<()> {
    let what = format!("status to say of {} `{why}`", which.name());
    wait::until_true(&what, wait::PATIENCE, || {
        let Some(finding) = complaint(keywheel, which)? else {
            return Ok(false);
        };
        let says = |key: &str, word: &str| {
            let text = finding[key].as_str();
            text.is_some_and(|text| text.contains(word))
        };
        Ok(finding["state"] == "problem" && says("what", why) && says("next", "mend the receiver"))
    })
}

/// Waits until these have every record that there is now.
fn wait_records(keywheel: &Keywheel, receivers: &Receivers, which: &[Which]) -> Result<()> {
    let size = keywheel.stream("audit")?.len();
    for one in which {
        let what = format!("{size} records at {}", one.name());
        wait::until_true(&what, wait::PATIENCE, || {
            Ok(receivers.records(*one)?.len() >= size)
        })?;
    }
    Ok(())
}

/// The same of all, and until status, which hears of them every ten seconds, has nothing to say of any.
fn wait_well(keywheel: &Keywheel, receivers: &Receivers) -> Result<()> {
    wait_records(keywheel, receivers, &Which::ALL)?;
    for one in &Which::ALL {
        let what = format!("{} to be well", one.name());
        wait::until_true(&what, wait::PATIENCE, || {
            Ok(complaint(keywheel, *one)?.is_none())
        })?;
    }
    Ok(())
}

/// The journal's own records, from an export that verifies.
fn exported(keywheel: &Keywheel) -> Result<Vec<Value>> {
    let path = keywheel.scratch().join("export.json");
    let file = path.display().to_string();
    keywheel.cli(&["audit", "export", "--file", &file])?.ok()?;
    keywheel.cli(&["audit", "verify", "--file", &file])?.ok()?;
    let export: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    let records = export["records"].as_array().context("no records")?;
    let record = |text: &Value| -> Result<Value> {
        let text = text.as_str().context("a record is no text")?;
        Ok(serde_json::from_str(text)?)
    };
    records.iter().map(record).collect()
}

/// Each receiver has exactly these first, and nothing of a value.
fn assert_told(keywheel: &Keywheel, receivers: &Receivers) -> Result<()> {
    let wanted = exported(keywheel)?;
    let canary = Canary::new(&[planted::value(keywheel).into_bytes()])?;
    for which in Which::ALL {
        let name = which.name();
        wait::until_true(&format!("the export at {name}"), wait::PATIENCE, || {
            Ok(receivers.records(which)?.len() >= wanted.len())
        })?;
        let records = receivers.records(which)?;
        for (at, (told, wanted)) in records.iter().zip(&wanted).enumerate() {
            ensure!(told["record"] == *wanted, "{name}: record {at} is another");
        }
        // The same by what a person verifies with: lines as they came, also those that came twice.
        let lines = receivers.texts(which)?.join("\n") + "\n";
        let kept = keywheel.scratch().write("kept.jsonl", lines)?;
        let kept = kept.display().to_string();
        keywheel
            .cli(&["audit", "verify", "--against", &kept])?
            .ok()?;
        let text = receivers.texts(which)?.concat();
        ensure!(text.contains(PLANTED), "{name} knows of no put");
        let hits = canary.search(name, text.as_bytes());
        ensure!(hits.is_empty(), "plaintext at {name}: {hits:#?}");
    }
    Ok(())
}

/// The events of OCSF are about the same records, in their order, and valid by the standard's own schema.
fn assert_events(keywheel: &Keywheel, receivers: &Receivers) -> Result<()> {
    let records = receivers.records(Which::File)?;
    wait::until_true("an event of each record", wait::PATIENCE, || {
        Ok(receivers.events()?.len() >= records.len())
    })?;
    let events = receivers.events()?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    for (at, (event, line)) in events.iter().zip(&records).enumerate() {
        let record = &line["record"];
        let is_about_it = event["metadata"]["uid"] == line["leaf"]
            && text(&event["metadata"]["event_code"]) == text(&record["verb"])
            && text(&event["unmapped"]["object"]) == text(&record["object"]);
        ensure!(is_about_it, "event {at} is not about {line}: {event}");
    }
    let kept = receivers.events_file().display().to_string();
    keywheel
        .cli(&["audit", "verify", "--against", &kept])?
        .ok()?;
    let mut lines: Vec<String> = events.iter().map(Value::to_string).collect();
    let judged = ocsf::judge(keywheel.scratch(), &lines)?;
    ensure!(judged.faults.is_empty(), "{:#?}", judged.faults);
    for class in ["3004", "6003"] {
        let count = judged.seen.get(class).copied().unwrap_or(0);
        ensure!(count > 0, "no event of class {class}: {:?}", judged.seen);
    }
    let all = lines.concat();
    ensure!(all.contains(PLANTED), "the events know of no put");
    let canary = Canary::new(&[planted::value(keywheel).into_bytes()])?;
    let hits = canary.search("the events", all.as_bytes());
    ensure!(hits.is_empty(), "plaintext in the events: {hits:#?}");
    // Whoever judges finds what does not fit.
    let mut other = events.first().cloned().context("no event")?;
    other["keywheel"] = Value::from(1);
    lines.push(other.to_string());
    let judged = ocsf::judge(keywheel.scratch(), &lines)?;
    ensure!(judged.faults.len() == 1, "{:#?}", judged.faults);
    Ok(())
}

#[test]
fn every_receiver_has_the_records_of_the_journal_in_order_whatever_becomes_of_it() -> Result<()> {
    let mut receivers = Receivers::start()?;
    let mut keywheel = Keywheel::prepare()?;
    let sinks = keywheel.scratch().write("sinks.toml", receivers.sinks())?;
    let variable = |name: &str, value: String| (name.to_owned(), value);
    let options = Options {
        environment: vec![
            variable("KEYWHEEL_AUDIT_SINKS_FILE", sinks.display().to_string()),
            variable("KEYWHEEL_AUDIT_MAX_LAG", "2s".to_owned()),
        ],
        ..Options::default()
    };
    keywheel.up(&options)?;
    keywheel.apply(&manifest::secret(SECRET, &[]))?;
    wait_current(&keywheel, SECRET, 1)?;
    planted::plant(&keywheel, PLANTED)?;
    wait_records(&keywheel, &receivers, &Which::ALL)?;

    // Two hang and two are dead, and the file goes on; the server dies, too, while they are away.
    receivers.pause(Which::Syslog)?;
    receivers.kill(Which::Http)?;
    receivers.kill(Which::Nats)?;
    receivers.pause(Which::Otlp)?;
    rotate(&keywheel, SECRET)?;
    wait_records(&keywheel, &receivers, &[Which::File])?;
    for (which, why) in [
        (Which::Syslog, "within 10s"),
        (Which::Http, "records told by http"),
        (Which::Nats, "wait, the oldest for"),
        (Which::Otlp, "wait, the oldest for"),
    ] {
        wait_problem(&keywheel, which, why)?;
    }
    keywheel.restart(&options)?;
    rotate(&keywheel, SECRET)?;
    receivers.resume(Which::Syslog)?;
    receivers.restart(Which::Http)?;
    receivers.restart(Which::Nats)?;
    receivers.resume(Which::Otlp)?;
    wait_well(&keywheel, &receivers)?;

    // The other way round.
    receivers.kill(Which::Syslog)?;
    receivers.pause(Which::Http)?;
    rotate(&keywheel, SECRET)?;
    wait_records(
        &keywheel,
        &receivers,
        &[Which::File, Which::Nats, Which::Otlp],
    )?;
    receivers.restart(Which::Syslog)?;
    receivers.resume(Which::Http)?;

    assert_told(&keywheel, &receivers)?;
    assert_events(&keywheel, &receivers)?;
    keywheel.stop()?;
    planted::assert_clean(&keywheel, &[])
}
