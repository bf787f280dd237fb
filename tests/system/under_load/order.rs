//! What the event log proves of a rotation: everybody acknowledged before anything was revoked, and where
//! sessions were asked for, they were gone by then.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use keywheel_tests::keywheel::Keywheel;
use serde_json::Value;

/// The events of one rotation, in the log's order.
struct Story<'a>(Vec<&'a Value>);

impl Story<'_> {
    fn is(event: &Value, kind: &str, step: Option<&str>) -> bool {
        let name = format!("dev.keywheel.rotation.{kind}.v1");
        let is_step = step.is_none_or(|step| event["data"]["step"] == step);
        event["type"] == name.as_str() && is_step
    }

    /// Where the first such event is.
    fn first(&self, kind: &str, step: Option<&str>) -> Result<usize> {
        let found = self.0.iter().position(|event| Self::is(event, kind, step));
        found.with_context(|| format!("no {kind} {step:?} in {:#?}", self.kinds()))
    }

    /// Where all such events are.
    fn all(&self, kind: &str) -> Vec<usize> {
        let events = self.0.iter().enumerate();
        let found = events.filter(|(_, event)| Self::is(event, kind, None));
        found.map(|(at, _)| at).collect()
    }

    fn kinds(&self) -> Vec<&str> {
        let kinds = self.0.iter().filter_map(|event| event["type"].as_str());
        kinds.collect()
    }

    /// How many have to acknowledge: containers, and hosts that held the old version.
    fn awaited(&self) -> Option<(usize, usize)> {
        let is_begin = |event: &&&Value| Self::is(event, "distribution_started", None);
        let begin = self.0.iter().find(is_begin)?;
        let count = |what: &str| begin["data"][what].as_array().map(Vec::len);
        Some((count("consumers")?, count("hosts")?))
    }

    /// How many got the new version ahead of its promotion.
    fn canaries(&self) -> usize {
        let is_begin = |event: &&&Value| Self::is(event, "canary_started", None);
        let begin = self.0.iter().find(is_begin);
        let named = begin.and_then(|begin| begin["data"]["consumers"].as_array());
        named.map_or(0, Vec::len)
    }

    /// Fails when anything was revoked before everybody acknowledged.
    fn check(&self, consumers: usize, hosts: usize) -> Result<()> {
        let promoted = self.first("step_completed", Some("finish"))?;
        // Canaries show it before, and once more after.
        let acknowledged = self.all("consumer_acknowledged");
        let (ahead, acknowledged): (Vec<usize>, Vec<usize>) =
            acknowledged.into_iter().partition(|at| *at < promoted);
        ensure!(
            ahead.len() == self.canaries(),
            "{} acknowledged before the promotion: {:#?}",
            ahead.len(),
            self.kinds()
        );
        let barriers = self.all("host_barrier_acknowledged");
        ensure!(
            acknowledged.len() == consumers && barriers.len() == hosts,
            "{consumers} consumers and {hosts} hosts were to acknowledge: {:#?}",
            self.kinds()
        );
        let revoked = self.first("step_started", Some("revoke_old"))?;
        let dead = self.first("step_completed", Some("revoke_old"))?;
        let closed = self.first("closed", None)?;
        let mut each = acknowledged.iter().chain(&barriers);
        let asked = self.first("step_started", Some("drain")).ok();
        let drained = self.first("step_completed", Some("drain")).ok();
        let is_drained = match (asked, drained) {
            (None, None) => true,
            (Some(asked), Some(drained)) => asked < drained && drained < revoked,
            _ => false,
        };
        ensure!(
            is_drained,
            "revoked before it was drained: {:#?}",
            self.kinds()
        );
        ensure!(
            each.all(|at| promoted < *at && *at < revoked) && revoked < dead && dead < closed,
            "revoked at {revoked}, acknowledged at {acknowledged:?} and {barriers:?}: {:#?}",
            self.kinds()
        );
        Ok(())
    }
}

/// Checks every rotation that containers had to acknowledge and that ended as `completed`; gives their number.
pub(crate) fn check(keywheel: &Keywheel) -> Result<usize> {
    let events = keywheel.stream("events")?;
    let mut stories: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for event in &events {
        let subject = event["subject"].as_str().unwrap_or_default();
        if subject.starts_with("rotation/") {
            stories.entry(subject).or_default().push(event);
        }
    }
    let mut checked = 0;
    for story in stories.into_values().map(Story) {
        let is_completed = |event: &&Value| event["data"]["outcome"] == "completed";
        let awaited = story.awaited().filter(|(consumers, _)| *consumers > 0);
        if let Some((consumers, hosts)) = awaited
            && story.0.iter().any(is_completed)
        {
            story.check(consumers, hosts)?;
            checked += 1;
        }
    }
    Ok(checked)
}

/// How many rotations waited until no session of the old credential was left.
pub(crate) fn drained(keywheel: &Keywheel) -> Result<usize> {
    let events = keywheel.stream("events")?;
    let is_drained = |event: &&Value| Story::is(event, "step_completed", Some("drain"));
    Ok(events.iter().filter(is_drained).count())
}

/// How many events of a type there are.
pub(crate) fn count(keywheel: &Keywheel, kind: &str) -> Result<usize> {
    let name = format!("dev.keywheel.{kind}.v1");
    let events = keywheel.stream("events")?;
    let is_of_kind = |event: &&Value| event["type"] == name.as_str();
    Ok(events.iter().filter(is_of_kind).count())
}

/// The last of this secret's rotations had one canary: it alone was given the version before that was promoted,
/// it ran well with it, and only then anybody else was given it. Gives the canary's container, and the instants
/// at which it passed and the version was promoted.
pub(crate) fn check_canary(keywheel: &Keywheel) -> Result<(String, [String; 2])> {
    let events = keywheel.stream("events")?;
    let is =
        |event: &Value, kind: &str| event["type"] == format!("dev.keywheel.{kind}.v1").as_str();
    let last = |kind: &str| {
        let found = events.iter().rposition(|event| is(event, kind));
        found.with_context(|| format!("no event {kind}"))
    };
    let started = last("rotation.canary_started")?;
    let (watched, passed) = (
        last("rotation.canary_watched")?,
        last("rotation.canary_passed")?,
    );
    let promoted = last("secret.version_promoted")?;
    ensure!(
        started < watched && watched < passed && passed < promoted,
        "started at {started}, watched at {watched}, passed at {passed}, promoted at {promoted}"
    );
    let of = |at: usize| events.get(at).context("no event");
    let named = of(started)?["data"]["consumers"].clone();
    let canaries = named.as_array().context("no canaries")?;
    let canary = canaries.first().and_then(|one| one["container"].as_str());
    let canary = canary.context("no canary")?.to_owned();
    ensure!(canaries.len() == 1, "{named}");
    let version = &of(promoted)?["data"]["version"];
    let is_given =
        |event: &&Value| is(event, "assignment.assigned") && event["data"]["version"] == *version;
    let (before, after) = events.split_at(promoted);
    let given_to = |events: &[Value]| -> Vec<String> {
        let given = events.iter().filter(is_given);
        let to = given.filter_map(|event| event["data"]["consumer"]["container"].as_str());
        to.map(str::to_owned).collect()
    };
    let (ahead, rest) = (given_to(before), given_to(after));
    ensure!(
        ahead == [canary.as_str()] && rest.iter().any(|one| *one != canary),
        "given before the promotion to {ahead:?}, and then to {rest:?}"
    );
    let at = |at: usize| {
        let time = of(at)?["time"].as_str();
        anyhow::Ok(time.context("no time")?.to_owned())
    };
    Ok((canary, [at(passed)?, at(promoted)?]))
}
