//! Fewer sinks of the audit than are asked for: no rotation begins, people hear why and what to do, a revocation goes
//! through; once the receiver is back what waited goes on, and nothing happens twice.

use std::collections::BTreeSet;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_testkit::server::rsyslog::{Driver, RsyslogServer};
use keywheel_tests::docker;
use keywheel_tests::keywheel::{Keywheel, Options};
use keywheel_tests::scratch::Scratch;
use keywheel_tests::stage::{FILE, PATIENCE, SECRET, Stage, current, find, items, wait_current};
use keywheel_tests::{manifest, wait};
use serde_json::Value;

use crate::refusal::{UNAVAILABLE, assert_refused};

/// Rotates by itself.
const OFTEN: &str = "test/often";
/// Every second second.
const SCHEDULE: &str = "rotation: { schedule: \"*/2 * * * * *\", timezone: UTC }";
/// A receiver that works is not so late, on a busy machine either: whoever asks for something then is refused.
const MAX_LAG: &str = "10s";
/// So long nothing may begin: some of its slots.
const NOTHING: Duration = Duration::from_secs(5);
/// How the finding begins that says how many are missing.
const TOO_FEW: &str = "sinks: only 1 of the 2";
/// The reason of the revocation.
const WHY: &str = "leaked while a sink was away";

/// A syslog receiver, and the options of a server that needs it.
fn receiver(files: &Scratch) -> Result<(RsyslogServer, Options)> {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()])?;
    let pem = made.cert.pem();
    let server = RsyslogServer::start(Driver::Ossl, &pem, &made.signing_key.serialize_pem());
    let ca_file = files.write("syslog.pem", &pem)?;
    let sinks = format!(
        "[[sink]]\nname = \"siem\"\ntype = \"syslog\"\naddress = \"{}\"\nca_file = \"{}\"\n",
        server.address(),
        ca_file.display()
    );
    let sinks = files.write("sinks.toml", sinks)?;
    let variable = |name: &str, value: String| (name.to_owned(), value);
    let options = Options {
        environment: vec![
            variable("KEYWHEEL_AUDIT_SINKS_FILE", sinks.display().to_string()),
            variable("KEYWHEEL_AUDIT_MIN_SINKS", "2".to_owned()),
            variable("KEYWHEEL_AUDIT_MAX_LAG", MAX_LAG.to_owned()),
        ],
        ..Options::default()
    };
    Ok((server, options))
}

/// What `status` finds, by what it begins with.
fn finding(keywheel: &Keywheel, begin: &str) -> Result<Option<Value>> {
    let status = keywheel.json(&["status"])?;
    let findings = status["findings"].as_array().context("no findings")?;
    let found = findings.iter().find(|finding| {
        let what = finding["what"].as_str();
        what.is_some_and(|what| what.starts_with(begin))
    });
    Ok(found.cloned())
}

/// Applies as soon as the audit sink was heard after a start.
fn apply_soon(keywheel: &Keywheel, yaml: &str) -> Result<()> {
    wait::until_true("a manifest to be taken", PATIENCE, || {
        let said = keywheel.try_apply(yaml)?;
        ensure!(
            said.code == 0 || said.code == UNAVAILABLE,
            "{}",
            said.said()
        );
        Ok(said.code == 0)
    })
}

/// A host enrols once there are sinks enough, and then has its plan.
fn wait_host(keywheel: &Keywheel) -> Result<()> {
    wait::until_true("the host to follow its plan", PATIENCE, || {
        let hosts = keywheel.json(&["host", "list"])?;
        let follows = |host: &&Value| host["lag"] == 0 && !host["last_seen"].is_null();
        Ok(items(&hosts).iter().any(follows))
    })
}

/// The slots for which a rotation began; each began one.
fn slots(keywheel: &Keywheel) -> Result<BTreeSet<String>> {
    let mut slots = BTreeSet::new();
    for event in keywheel.stream("events")? {
        if !event.to_string().contains("rotation.started") {
            continue;
        }
        let Some(slot) = find(&event, "slot").and_then(Value::as_str) else {
            continue;
        };
        ensure!(slots.insert(slot.to_owned()), "slot {slot} began twice");
    }
    Ok(slots)
}

/// Nothing new begins, by command or by schedule, and both say why.
fn nothing_begins(stage: &Stage) -> Result<()> {
    let keywheel = &stage.keywheel;
    wait::until_true("status to say that sinks are missing", PATIENCE, || {
        Ok(finding(keywheel, TOO_FEW)?.is_some())
    })?;
    let told = finding(keywheel, TOO_FEW)?.context("it was there")?;
    ensure!(
        told["state"] == "problem"
            && told["next"]
                .as_str()
                .is_some_and(|n| n.contains("mend a sink")),
        "{told}"
    );
    let sink = finding(keywheel, "sink siem: ")?.context("which one is not told")?;
    ensure!(sink["state"] == "problem", "{sink}");
    let (before, version) = (slots(keywheel)?, current(keywheel, SECRET)?);
    for words in [&["rotate", SECRET][..], &["rotate", SECRET, "--wait"]] {
        let said = keywheel.cli(words)?;
        assert_refused(&said, UNAVAILABLE, &["only 1 of the 2 audit sinks"]);
    }
    let said = keywheel.try_apply(&manifest::secret("test/new", &[]))?;
    assert_refused(&said, UNAVAILABLE, &["only 1 of the 2 audit sinks"]);
    thread::sleep(NOTHING);
    ensure!(
        finding(keywheel, TOO_FEW)?.is_some(),
        "the receiver came back by itself"
    );
    ensure!(slots(keywheel)? == before, "a rotation began");
    ensure!(current(keywheel, SECRET)? == version);
    // Health is asked all the time and needs no sink; other looks go on, too.
    for words in [&["status"][..], &["secret", "list"], &["audit", "list"]] {
        keywheel.cli(words)?.ok()?;
    }
    Ok(())
}

/// The receiver has every record once it is back, what was refused and revoked meanwhile among them.
fn was_told(stage: &Stage, server: &RsyslogServer) -> Result<()> {
    let size = stage.keywheel.stream("audit")?.len();
    let all = wait::until("the receiver to have every record", PATIENCE, || {
        let mut all: Vec<String> = Vec::new();
        for line in server.received() {
            let record: Value = serde_json::from_str(&line)?;
            let at = record["sequence"].as_u64().context("no number")?;
            let at = usize::try_from(at)?;
            ensure!(at <= all.len(), "record {} is not there", all.len());
            if at == all.len() {
                all.push(line);
            }
        }
        Ok((all.len() >= size).then_some(all))
    })?;
    let has = |word: &str| all.iter().any(|line| line.contains(word));
    ensure!(has(WHY) && has("answered with status 503"), "{all:?}");
    Ok(())
}

#[test]
fn with_too_few_sinks_nothing_begins_but_a_revocation_and_what_waited_goes_on_once() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let files = Scratch::make()?;
    let (mut server, options) = receiver(&files)?;
    let stage = Stage::set_with(&options)?;
    let on = stage.on("few-sinks");
    let binding = manifest::file_binding("f", SECRET, &on, "db_password", "none");
    apply_soon(&stage.keywheel, &(manifest::secret(SECRET, &[]) + &binding))?;
    stage.wait_current(SECRET, 1)?;
    wait_host(&stage.keywheel)?;
    let container = stage.run("few-sinks", &[], "/bin/app-idle")?;
    let first = stage.value_soon_in(&container)?;
    stage
        .keywheel
        .apply(&manifest::secret(OFTEN, &[SCHEDULE]))?;
    wait::until_true("a slot to fire", PATIENCE, || {
        Ok(!slots(&stage.keywheel)?.is_empty())
    })?;

    server.kill();
    nothing_begins(&stage)?;
    ensure!(stage.value_in(&container)? == first);
    let revoke = ["revoke", SECRET, "--reason", WHY, "--yes", "--wait"];
    stage.keywheel.json(&revoke)?;
    ensure!(container.read(FILE)?.is_none(), "it still has what is dead");
    let (fired, version) = (slots(&stage.keywheel)?, current(&stage.keywheel, OFTEN)?);

    server.restart();
    wait_current(&stage.keywheel, OFTEN, version + 2)?;
    ensure!(finding(&stage.keywheel, TOO_FEW)?.is_none());
    ensure!(slots(&stage.keywheel)?.is_superset(&fired));
    // Whoever was refused is not remembered: what they asked for did not happen since.
    let missing = stage.keywheel.cli(&["describe", "secret", "test/new"])?;
    ensure!(missing.code != 0, "{}", missing.said());
    ensure!(container.read(FILE)?.is_none(), "a refused rotation began");
    was_told(&stage, &server)?;
    stage.rotate(SECRET)?;
    let second = stage.value_soon_in(&container)?;
    ensure!(second != first);
    stage.finish(&[first, second], &[&container])
}
