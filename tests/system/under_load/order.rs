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

    /// Fails when anything was revoked before everybody acknowledged.
    fn check(&self, consumers: usize, hosts: usize) -> Result<()> {
        let promoted = self.first("step_completed", Some("finish"))?;
        let acknowledged = self.all("consumer_acknowledged");
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
