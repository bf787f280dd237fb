//! The log as clients read it: followed over a restart, kept by a subscription, filtered, and folded up
//! to a time.

use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command};

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::apart::{self, Role};
use keywheel_tests::docker;
use keywheel_tests::keywheel::{Keywheel, Options, READY};
use keywheel_tests::manifest;
use keywheel_tests::output::Output;
use keywheel_tests::stage::{PATIENCE, SECRET, Stage, items};
use keywheel_tests::wait;
use serde_json::{Value, json};

/// A secret that nobody asks about.
const OTHER: &str = "test/other";
/// The subscription.
const NAME: &str = "siem";
/// Exit codes: nothing has this name, and nobody answers any more.
const NOT_FOUND: i32 = 3;
const UNAVAILABLE: i32 = 69;
const PROMOTED: &str = "dev.keywheel.secret.version_promoted.v1";
const ROTATIONS: &str = "dev.keywheel.rotation.";
const CLOSED: &str = "dev.keywheel.rotation.closed.v1";

/// `keywheel events tail`, as long as it runs.
struct Tail {
    child: Child,
    said: [PathBuf; 2],
}

impl Tail {
    fn begin(keywheel: &Keywheel, name: &str, words: &[&str]) -> Result<Self> {
        let said = [format!("{name}.out"), format!("{name}.err")];
        let said = said.map(|name| keywheel.scratch().join(&name));
        let mut command = keywheel.client(&[&["events", "tail"], words].concat())?;
        let [out, err] = &said;
        command
            .stdout(File::create(out)?)
            .stderr(File::create(err)?);
        let child = command.spawn()?;
        Ok(Self { child, said })
    }

    /// Whole events that it wrote.
    fn events(&self) -> Result<Vec<Value>> {
        let text = fs::read_to_string(&self.said[0])?;
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        let events = whole.lines().map(serde_json::from_str);
        Ok(events.collect::<Result<_, _>>()?)
    }

    /// Waits until it told that a rotation is over.
    fn wait_closed(&self) -> Result<()> {
        wait::until_true("the rotation's end in the tail", PATIENCE, || {
            Ok(self.events()?.iter().any(|event| event["type"] == CLOSED))
        })
    }

    /// Waits until it ends by itself; gives its exit code and what it complained about.
    fn ended(&mut self) -> Result<(Option<i32>, String)> {
        let status = wait::until("the tail to end", PATIENCE, || Ok(self.child.try_wait()?))?;
        Ok((status.code(), fs::read_to_string(&self.said[1])?))
    }

    /// What it wrote is searched by the canary like all that a client says.
    fn hear(&self, keywheel: &Keywheel) -> Result<()> {
        keywheel.hear(Command::new("cat").args(&self.said))?;
        Ok(())
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn number(event: &Value) -> Result<u64> {
    let number = event["sequence"].as_str().context("no number")?;
    Ok(number.parse()?)
}

fn numbers(events: &[Value]) -> Result<Vec<u64>> {
    events.iter().map(number).collect()
}

/// `events list` with these filters.
fn list(keywheel: &Keywheel, words: &str) -> Result<Vec<Value>> {
    let words: Vec<&str> = words.split(' ').collect();
    let said = keywheel.json(&[&["events", "list"], words.as_slice()].concat())?;
    Ok(said.as_array().context("no array")?.clone())
}

/// A power cut for the gateway, and where all is one process, for everything.
fn restart(keywheel: &mut Keywheel) -> Result<()> {
    if !apart::is_wanted() {
        return keywheel.restart(&Options::default());
    }
    let gateway = keywheel.apart()?.process(Role::Gateway, 0)?;
    gateway.kill9()?;
    gateway.start()?;
    wait::until_true("the gateway to answer", READY, || {
        Ok(keywheel.cli(&["status"])?.code == 0)
    })
}

/// Which container is on which version, of what `history` answered.
fn held(history: &Value) -> Vec<(&Value, u64)> {
    let consumers = history.get("consumers").map(items).unwrap_or_default();
    let row = |row: &Value| row["version"].as_u64().unwrap_or_default();
    let rows = consumers.into_iter();
    rows.map(|one| (&one["container"], row(one))).collect()
}

#[test]
fn a_stream_is_followed_kept_filtered_and_folded_over_a_restart() -> Result<()> {
    if !docker::ready()? {
        return Ok(());
    }
    let mut stage = Stage::set()?;
    stage.apply_file("stream", "none")?;
    stage.keywheel.apply(&manifest::secret(OTHER, &[]))?;
    stage.wait_current(OTHER, 1)?;
    let container = stage.run("stream", &[], "/bin/app-idle")?;
    let mut values = vec![stage.value_in(&container)?];
    let id = json!(container.id());
    let then = wait::until("the container in the history", PATIENCE, || {
        let history = stage.keywheel.json(&["history", SECRET])?;
        Ok((held(&history) == [(&id, 1)]).then_some(history))
    })?;
    let made = stage.keywheel.json(&["events", "subscribe", NAME])?;
    let begin = made["acknowledged"].as_u64().context("no place")?;

    // Before the restart.
    let from = ["--secret", SECRET, "-o", "json", "--after"];
    let after = begin.to_string();
    let words = [from.as_slice(), &[after.as_str()]].concat();
    let mut tail = Tail::begin(&stage.keywheel, "tail-1", &words)?;
    let mut rotations = vec![rotate(&stage)?];
    values.push(stage.value_in(&container)?);
    tail.wait_closed()?;
    let taken = list(
        &stage.keywheel,
        &format!("--subscription {NAME} --acknowledge"),
    )?;
    restart(&mut stage.keywheel)?;

    // The tail says where it stood; another one goes on from there, and so does the subscription.
    let (code, said) = tail.ended()?;
    let seen = tail.events()?;
    let last = number(seen.last().context("nothing was told")?)?;
    ensure!(
        code == Some(UNAVAILABLE) && said.contains(&format!("--after {last}\n")),
        "{code:?} {said}"
    );
    let after = last.to_string();
    let words = [from.as_slice(), &[after.as_str()]].concat();
    let resumed = Tail::begin(&stage.keywheel, "tail-2", &words)?;
    rotations.push(rotate(&stage)?);
    values.push(stage.value_in(&container)?);
    resumed.wait_closed()?;
    let told = [seen, resumed.events()?].concat();
    let whole = list(
        &stage.keywheel,
        &format!("--secret {SECRET} --after {begin}"),
    )?;
    ensure!(
        whole.starts_with(&told),
        "something is missing or twice: {:?}, and in the log {:?}",
        numbers(&told)?,
        numbers(&whole)?
    );
    for tail in [&tail, &resumed] {
        tail.hear(&stage.keywheel)?;
    }
    keeps_its_place(&stage.keywheel, begin, &taken)?;
    is_filtered(&stage.keywheel, &then["at"], &rotations)?;
    is_folded(&stage.keywheel, &then, &id)?;
    stage.finish(&values, &[&container])
}

/// Rotates both secrets; gives the subject of the rotation that is asked about.
fn rotate(stage: &Stage) -> Result<String> {
    let rotated = stage.rotate(SECRET)?;
    stage.rotate(OTHER)?;
    let id = rotated["rotation_id"].as_str().context("no id")?;
    Ok(format!("rotation/{id}"))
}

/// What was acknowledged before the restart does not come again, all else does, and no place goes back.
fn keeps_its_place(keywheel: &Keywheel, begin: u64, taken: &[Value]) -> Result<()> {
    let shown = list(keywheel, &format!("--subscription {NAME}"))?;
    let again = list(keywheel, &format!("--subscription {NAME} --acknowledge"))?;
    ensure!(
        again.starts_with(&shown),
        "what was not acknowledged comes again"
    );
    let all = list(keywheel, &format!("--after {begin}"))?;
    let both = [taken, &again].concat();
    ensure!(
        all.starts_with(&both) && !taken.is_empty(),
        "before {:?}, after {:?}",
        numbers(taken)?,
        numbers(&again)?
    );
    let last = number(again.last().context("nothing came after the restart")?)?;
    let promoted = again.iter().filter(|event| event["type"] == PROMOTED);
    ensure!(promoted.count() == 2, "one of each secret: {again:?}");
    let stands = |place: &Value| place["name"] == NAME && place["acknowledged"] == last;
    for words in [
        ["events", "acknowledge", NAME, &begin.to_string()].as_slice(),
        &["events", "subscribe", NAME, "--after", "0"],
    ] {
        let place = keywheel.json(words)?;
        ensure!(stands(&place), "{words:?} moved it: {place}");
    }
    let listed = keywheel.json(&["events", "subscriptions"])?;
    ensure!(items(&listed).into_iter().all(stands), "{listed}");
    let limited = ["events", "tail", "--subscription", NAME, "--limit", "1"];
    let again = [&limited[..], &["--after", "0", "-o", "json"]].concat();
    keywheel.json(&["rotate", OTHER, "--wait"])?;
    let next = keywheel.cli(&again)?.ok()?.json()?;
    ensure!(number(&next)? == last + 1, "{next}");
    let gone = keywheel.json(&["events", "unsubscribe", NAME])?;
    ensure!(stands(&gone), "{gone}");
    let unknown = keywheel.cli(&["events", "list", "--subscription", NAME])?;
    ensure!(unknown.code == NOT_FOUND, "{unknown:?}");
    Ok(())
}

/// Type, secret and time, each by itself and together, over the whole log.
fn is_filtered(keywheel: &Keywheel, at: &Value, rotations: &[String]) -> Result<()> {
    let at = at.as_str().context("no time")?;
    let all = keywheel.stream("events")?;
    let registered = |event: &&Value| event["data"]["name"] == SECRET;
    let registered = all.iter().find(registered).context("no such secret")?;
    let own = &registered["subject"];
    let by_hand = |is_wanted: &dyn Fn(&Value) -> bool| {
        let found: Vec<Value> = all.iter().filter(|one| is_wanted(one)).cloned().collect();
        numbers(&found)
    };
    let promoted = |event: &Value| event["type"] == PROMOTED;
    let since = |event: &Value| event["time"].as_str().is_some_and(|time| time >= at);
    for (words, expected) in [
        (format!("--type {PROMOTED}"), by_hand(&promoted)?),
        (
            format!("--type {PROMOTED} --secret {SECRET}"),
            by_hand(&|one| promoted(one) && one["subject"] == *own)?,
        ),
        (
            format!("--type {PROMOTED} --secret {SECRET} --since {at}"),
            by_hand(&|one| promoted(one) && one["subject"] == *own && since(one))?,
        ),
        (
            format!("--type {ROTATIONS} --secret {SECRET} --since {at}"),
            by_hand(&|one| {
                let kind = one["type"].as_str().unwrap_or_default();
                let subject = one["subject"].as_str().unwrap_or_default();
                kind.starts_with(ROTATIONS) && rotations.iter().any(|own| own == subject)
            })?,
        ),
    ] {
        let found = numbers(&list(keywheel, &words)?)?;
        ensure!(
            found == expected && found.len() > 1,
            "{words}: {found:?}, not {expected:?}"
        );
    }
    let lately = list(keywheel, &format!("--type {PROMOTED} --since 1h"))?;
    ensure!(numbers(&lately)? == by_hand(&promoted)?, "{lately:?}");
    let line = keywheel.cli(&["events", "list", "--type", PROMOTED, "--secret", SECRET])?;
    ensure!(
        line.ok()?.stdout.lines().count() == 3,
        "one line each, for people"
    );
    Ok(())
}

/// Who held which version then, and who does now.
fn is_folded(keywheel: &Keywheel, then: &Value, container: &Value) -> Result<()> {
    let at = then["at"].as_str().context("no time")?;
    let past = keywheel.json(&["history", SECRET, "--at", at])?;
    ensure!(
        past["versions"] == then["versions"] && held(&past) == [(container, 1)],
        "then {then}, and told of then {past}"
    );
    let now = keywheel.json(&["history", SECRET])?;
    ensure!(held(&now) == [(container, 3)], "{now}");
    let said: Output = keywheel.cli(&["history", SECRET, "--at", at])?.ok()?;
    let name = then["consumers"][0]["name"].as_str().context("no name")?;
    ensure!(said.stdout.contains(name), "{}", said.stdout);
    let before = keywheel.cli(&["history", SECRET, "--at", "24h"])?;
    ensure!(
        before.code == NOT_FOUND && before.stderr.contains("events list"),
        "{before:?}"
    );
    Ok(())
}
