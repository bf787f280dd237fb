//! Many secrets that are due in the same second: which containers use which of them, their manifests, and
//! what the log says of their ends.
//!
//! Invariant: nothing here measures; times come from the log, which has them whoever looks when.

use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_core::time::Timestamp;
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::manifest::{self, Selector};
use keywheel_tests::stage::Stage;
use keywheel_tests::{metrics, wait};
use serde_json::Value;

/// How long many rotations together may take.
pub const PATIENCE: Duration = Duration::from_secs(1800);
/// Between two looks at how far they are: a look costs the server something, too.
const LOOK: Duration = Duration::from_millis(500);
/// Secrets in one apply.
const BATCH: usize = 250;
/// Rows of a list that no run fills.
const ALL: &str = "1000000";
/// Seconds of a day; a slot comes once in each.
const DAY: i64 = 86_400;

/// A second of the day in which all are due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// The line of a schedule that has it, in UTC.
    pub line: String,
    second: i64,
}

impl Slot {
    /// The first whole second that is at least so far ahead.
    #[must_use]
    pub fn after(now: Timestamp, lead: Duration) -> Self {
        let second = (now.plus(lead).micros() / 1_000_000 + 1).rem_euclid(DAY);
        let (hour, minute) = (second / 3600, second / 60 % 60);
        Self {
            line: format!("{} {minute} {hour} * * *", second % 60),
            second,
        }
    }

    /// Milliseconds from the slot to a time of the log, within half a day; `None` for one before the slot.
    #[must_use]
    pub fn to(&self, time: &str) -> Option<f64> {
        passed(self.second as f64, time)
    }

    /// Milliseconds from the slot to every completed rotation of these events.
    #[must_use]
    pub fn to_completed(&self, events: &[Value]) -> Vec<f64> {
        let is_completed = |event: &&Value| event["data"]["outcome"] == "completed";
        let closed = of_type(events, "rotation.closed").filter(is_completed);
        closed.filter_map(|event| self.to_event(event)).collect()
    }

    /// Milliseconds from the slot to the first event of a type.
    #[must_use]
    pub fn to_first(&self, events: &[Value], kind: &str) -> Option<f64> {
        of_type(events, kind).find_map(|event| self.to_event(event))
    }

    fn to_event(&self, event: &Value) -> Option<f64> {
        self.to(event["time"].as_str()?)
    }
}

fn of_type<'a>(events: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    let name = format!("dev.keywheel.{kind}.v1");
    let is_of_type = move |event: &&Value| event["type"] == name.as_str();
    events.iter().filter(is_of_type)
}

/// Milliseconds from an instant to every event of a type, within half a day; events before it are left out.
#[must_use]
pub fn since(from: Timestamp, events: &[Value], kind: &str) -> Vec<f64> {
    let second = from.micros().rem_euclid(DAY * 1_000_000) as f64 / 1e6;
    of_type(events, kind)
        .filter_map(|event| passed(second, event["time"].as_str()?))
        .collect()
}

/// Milliseconds from a second of the day to a time of the log.
fn passed(second: f64, time: &str) -> Option<f64> {
    let day = DAY as f64;
    let passed = (seconds_of_day(time)? - second).rem_euclid(day);
    (passed < day / 2.0).then_some(passed * 1e3)
}

/// Seconds since midnight of a time such as `2026-01-04T02:00:00.000027Z`.
fn seconds_of_day(time: &str) -> Option<f64> {
    let (_, clock) = time.strip_suffix('Z')?.split_once('T')?;
    let mut parts = clock.splitn(3, ':');
    let mut part = || parts.next()?.parse::<f64>().ok();
    let (hour, minute, second) = (part()?, part()?, part()?);
    Some(hour * 3600.0 + minute * 60.0 + second)
}

/// How many secrets which containers use: both are in as many groups, and a container uses the secrets of its
/// group, each as a file of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// Secrets.
    pub secrets: usize,
    /// Containers.
    pub containers: usize,
    /// Groups.
    pub groups: usize,
}

impl Shape {
    /// The label of a secret's, or of a container's, group.
    #[must_use]
    pub fn group(&self, number: usize) -> String {
        format!("due-{}", number % self.groups)
    }

    /// A secret's name.
    #[must_use]
    pub fn secret(&self, number: usize) -> String {
        format!("due/s{number}")
    }

    /// Files in each container.
    #[must_use]
    pub const fn files(&self) -> usize {
        self.secrets / self.groups
    }

    /// Which containers use a secret, with its file.
    #[must_use]
    pub fn binding(&self, number: usize, host: &str, image: &str) -> String {
        let (name, file) = (format!("due-{number}"), format!("s{number}"));
        let app = self.group(number);
        let on = Selector {
            host,
            image,
            app: &app,
        };
        manifest::file_binding(&name, &self.secret(number), &on, &file, "none")
    }

    /// Declares secrets of the store `local` with their bindings, and waits for the first versions.
    pub fn declare(&self, stage: &Stage) -> Result<()> {
        let before = completed(&stage.keywheel)?;
        self.apply(stage, |number| manifest::secret(&self.secret(number), &[]))?;
        wait_completed(&stage.keywheel, before + self.secrets)?;
        stage.keywheel.wait_plans()
    }

    /// Has all of them rotate in a slot.
    pub fn schedule(&self, stage: &Stage, slot: &Slot) -> Result<()> {
        let line = rotation(slot);
        self.apply(stage, |number| {
            manifest::secret(&self.secret(number), &[line.as_str()])
        })
    }

    /// Applies what makes each secret, with its binding.
    pub fn apply(&self, stage: &Stage, secret: impl Fn(usize) -> String) -> Result<()> {
        for first in (0..self.secrets).step_by(BATCH) {
            let mut text = String::new();
            for number in first..self.secrets.min(first + BATCH) {
                let binding = self.binding(number, &stage.host, stage.image.digest());
                let _ = write!(text, "{}{binding}", secret(number));
            }
            stage.keywheel.apply(&text)?;
        }
        Ok(())
    }
}

/// The line of a secret that rotates in a slot. A run that is slow is measured and not cut off.
#[must_use]
pub fn rotation(slot: &Slot) -> String {
    format!(
        "rotation: {{ schedule: \"{}\", timezone: UTC, deadline: 1h }}",
        slot.line
    )
}

/// Rotations that were completed so far.
pub fn completed(keywheel: &Keywheel) -> Result<usize> {
    let said = numbers(
        keywheel,
        "keywheel_rotation_duration_seconds_count{outcome=\"completed\"}",
    )?;
    Ok(said.iter().sum::<f64>() as usize)
}

fn numbers(keywheel: &Keywheel, start: &str) -> Result<Vec<f64>> {
    Ok(metrics::numbers(&metrics::pages(keywheel)?, start))
}

/// Waits until so many are completed.
pub fn wait_completed(keywheel: &Keywheel, wanted: usize) -> Result<()> {
    let what = format!("{wanted} completed rotations");
    wait::until_true(&what, PATIENCE, || {
        std::thread::sleep(LOOK);
        Ok(completed(keywheel)? >= wanted)
    })
}

/// Waits until no rotation is open.
pub fn wait_rest(keywheel: &Keywheel) -> Result<()> {
    wait::until_true("every rotation to end", PATIENCE, || {
        let open = numbers(keywheel, "keywheel_rotations_open")?;
        Ok(!open.is_empty() && open.iter().sum::<f64>() < 1.0)
    })
}

/// Waits until no revocation is open.
pub fn wait_revoked(keywheel: &Keywheel) -> Result<()> {
    wait::until_true("every revocation to end", PATIENCE, || {
        let open = numbers(keywheel, "keywheel_revocations_open")?;
        Ok(!open.is_empty() && open.iter().sum::<f64>() < 1.0)
    })
}

/// Events in the log.
pub fn head(keywheel: &Keywheel) -> Result<String> {
    let said = numbers(keywheel, "keywheel_journal_events")?;
    let number = said.first().context("no number of events")?;
    Ok(format!("{number:.0}"))
}

/// All events after a number.
pub fn after(keywheel: &Keywheel, head: &str) -> Result<Vec<Value>> {
    let said = keywheel.json(&["events", "list", "--after", head, "--limit", ALL])?;
    let Value::Array(events) = said else {
        anyhow::bail!("`events list` is no array");
    };
    Ok(events)
}

/// All events after a number, and what they say of a slot in which so many were due: milliseconds from it to
/// the end of each.
pub fn ends(
    keywheel: &Keywheel,
    head: &str,
    slot: &Slot,
    due: usize,
) -> Result<(Vec<Value>, Vec<f64>)> {
    let events = after(keywheel, head)?;
    let ends = slot.to_completed(&events);
    ensure!(
        ends.len() == due,
        "{} of {due} rotations were completed",
        ends.len()
    );
    Ok((events, ends))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOON: Timestamp = Timestamp::from_micros(1_800_000_000_000_000 + 4 * 3_600_000_000);

    #[test]
    fn a_slot_is_a_second_ahead_and_as_a_schedule_says_it() {
        let slot = Slot::after(NOON, Duration::from_secs(61));
        assert_eq!(slot.line, "2 1 12 * * *");
        assert_eq!(slot.to("2027-01-15T12:01:02Z"), Some(0.0));
        assert_eq!(slot.to("2027-01-15T12:01:02.250Z"), Some(250.0));
        assert_eq!(slot.to("2027-01-15T12:01:01Z"), None);
        assert_eq!(slot.to("no time"), None);
    }

    #[test]
    fn a_slot_before_midnight_counts_on() {
        let night = NOON.plus(Duration::from_secs(12 * 3600 - 2));
        let slot = Slot::after(night, Duration::ZERO);
        assert_eq!(slot.line, "59 59 23 * * *");
        assert_eq!(slot.to("2027-01-16T00:00:01Z"), Some(2000.0));
    }

    #[test]
    fn ends_are_those_of_completed_rotations_after_the_slot() {
        let slot = Slot::after(NOON, Duration::ZERO);
        let event = |kind: &str, outcome: &str, second: u32| {
            json!({
                "type": format!("dev.keywheel.{kind}.v1"),
                "time": format!("2027-01-15T12:00:{second:02}Z"),
                "data": { "outcome": outcome },
            })
        };
        let events = [
            event("rotation.closed", "completed", 0),
            event("rotation.closed", "completed", 3),
            event("rotation.closed", "parked", 4),
            event("revocation.closed", "", 2),
        ];
        assert_eq!(slot.to_completed(&events), [2000.0]);
        assert_eq!(slot.to_first(&events, "revocation.closed"), Some(1000.0));
        assert_eq!(slot.to_first(&events, "revocation.requested"), None);
    }

    #[test]
    fn what_came_since_an_instant_is_of_one_type_and_after_it() {
        let event = |kind: &str, time: &str| {
            json!({
                "type": format!("dev.keywheel.{kind}.v1"),
                "time": format!("2027-01-{time}Z"),
            })
        };
        let events = [
            event("revocation.proven_dead", "15T11:59:59.9"),
            event("revocation.proven_dead", "15T12:00:00.5"),
            event("revocation.closed", "15T12:00:01"),
            event("revocation.proven_dead", "15T12:00:02"),
        ];
        let found = since(NOON, &events, "revocation.proven_dead");
        assert_eq!(found, [500.0, 2000.0]);
        let night = NOON.plus(Duration::from_millis(12 * 3_600_000 - 500));
        let over = [event("revocation.closed", "16T00:00:00.5")];
        assert_eq!(since(night, &over, "revocation.closed"), [1000.0]);
    }

    #[test]
    fn every_container_has_as_many_files_and_every_secret_as_many_containers() {
        for (groups, files, users) in [(100, 10, 1), (10, 100, 10)] {
            let shape = Shape {
                secrets: 1000,
                containers: 100,
                groups,
            };
            assert_eq!(shape.files(), files);
            for container in [0, 57, 99] {
                let used = (0..shape.secrets)
                    .filter(|secret| shape.group(*secret) == shape.group(container));
                assert_eq!(used.count(), files);
            }
            let using = (0..shape.containers).filter(|one| shape.group(*one) == shape.group(999));
            assert_eq!(using.count(), users);
        }
    }

    #[test]
    fn a_secret_s_manifest_has_its_slot_and_its_group() {
        let shape = Shape {
            secrets: 20,
            containers: 10,
            groups: 10,
        };
        let slot = Slot::after(NOON, Duration::ZERO);
        let line = rotation(&slot);
        assert!(line.contains("schedule: \"1 0 12 * * *\""), "{line}");
        let binding = shape.binding(13, "here", "sha256:0");
        for part in ["secret: due/s13", "app: due-3", "name: s13"] {
            assert!(binding.contains(part), "{part} is missing in {binding}");
        }
    }
}
