//! Policies and fires in words, for people.

use std::time::Duration;

use jiff::civil::DateTime;
use jiff::fmt::strtime;
use jiff::tz::TimeZone;
use keywheel_core::schedule::{Freeze, OnEvent, RotationPolicy, Schedule, Window};
use keywheel_core::time::Timestamp;

use super::cron::{self, Jump, Pass};
use super::plan::{self, Cause, Fire};
use super::zone;

/// A schedule in words.
#[must_use]
pub fn describe(schedule: &Schedule) -> String {
    match schedule {
        Schedule::OnDemand => "on demand".to_owned(),
        Schedule::Interval(every) => match length(*every).strip_prefix("1 ") {
            Some(unit) => format!("every {unit}"),
            None => format!("every {}", length(*every)),
        },
        Schedule::Cron {
            expression,
            timezone,
        } => line(expression, timezone),
    }
}

fn line(expression: &str, timezone: &str) -> String {
    match cron::parse(expression) {
        Ok(line) => format!("{} ({timezone})", line.describe().trim_end_matches('.')),
        Err(error) => error,
    }
}

/// A span in its largest whole unit.
fn length(span: Duration) -> String {
    let seconds = span.as_secs();
    let units = [(86_400, "day"), (3_600, "hour"), (60, "minute")];
    let (count, unit) = units
        .into_iter()
        .find(|(size, _)| seconds >= *size && seconds.is_multiple_of(*size))
        .map_or((seconds, "second"), |(size, unit)| (seconds / size, unit));
    match count {
        1 => format!("1 {unit}"),
        _ => format!("{count} {unit}s"),
    }
}

/// Every rule of a policy, one a line.
#[must_use]
pub fn rules(policy: &RotationPolicy) -> Vec<String> {
    let mut rules = Vec::new();
    if policy.schedule != Schedule::OnDemand || !policy.is_automatic() {
        rules.push(describe(&policy.schedule));
    }
    if let Some(phase) = &policy.phase {
        let (offset, group) = (length(phase.offset), &phase.group);
        rules.push(format!("{offset} after that, in group {group}"));
    }
    if let Some(age) = policy.max_age {
        rules.push(format!("when the version is {} old", length(age)));
    }
    if let (Some(lifetime), Some(age)) = (policy.lifetime, policy.renewal_age()) {
        let (lifetime, age) = (length(lifetime), length(age));
        rules.push(format!(
            "when the version is {age} old: two thirds of the version's lifetime of {lifetime}"
        ));
    }
    rules.extend(policy.on_event.iter().map(on_event));
    if let Some(hold_off) = policy.hold_off {
        let hold_off = length(hold_off);
        rules.push(format!(
            "slots within {hold_off} after a rotation are passed over"
        ));
    }
    if !policy.jitter.is_zero() {
        rules.push(format!("each up to {} later", length(policy.jitter)));
    }
    rules.extend(policy.windows.iter().map(window));
    rules.extend(policy.freezes.iter().map(|one| freeze(one, policy)));
    rules
}

fn on_event(rule: &OnEvent) -> String {
    let when = rule.when.as_deref().map(|when| format!(" when {when}"));
    format!(
        "on event {}{}, at the earliest {} after a rotation",
        rule.event,
        when.unwrap_or_default(),
        length(rule.rest())
    )
}

fn window(window: &Window) -> String {
    let line = line(&window.expression, &window.timezone);
    format!("only in the {} after: {line}", length(window.duration))
}

fn freeze(freeze: &Freeze, policy: &RotationPolicy) -> String {
    let (from, until) = (local(policy, freeze.from), local(policy, freeze.until));
    let reason = match freeze.reason.as_str() {
        "" => String::new(),
        reason => format!(" ({reason})"),
    };
    format!("not from {from} until {until}{reason}")
}

/// The zone in which a policy's times are said.
fn zone_of(policy: &RotationPolicy) -> TimeZone {
    match &policy.schedule {
        Schedule::Cron { timezone, .. } => zone::find(timezone).unwrap_or(TimeZone::UTC),
        Schedule::OnDemand | Schedule::Interval(_) => TimeZone::UTC,
    }
}

/// An instant as RFC 3339 in UTC.
#[must_use]
pub fn instant(at: Timestamp) -> String {
    jiff::Timestamp::from_microsecond(at.micros())
        .map(|at| at.to_string())
        .unwrap_or_default()
}

/// An instant by the wall clock of the policy's zone, with day, zone and offset.
#[must_use]
pub fn local(policy: &RotationPolicy, at: Timestamp) -> String {
    let Ok(at) = jiff::Timestamp::from_microsecond(at.micros()) else {
        return String::new();
    };
    let zoned = at.to_zoned(zone_of(policy));
    strtime::format("%a %Y-%m-%d %H:%M:%S %Z (%:z)", &zoned).unwrap_or_default()
}

/// What is to be said of a fire besides its time, one a line.
#[must_use]
pub fn notes(policy: &RotationPolicy, fire: &Fire, promoted: Timestamp) -> Vec<String> {
    let mut notes = Vec::new();
    match fire.cause {
        Cause::Schedule => {}
        Cause::MaxAge => notes.push("the version has its largest age then".to_owned()),
        Cause::Lifetime => {
            notes.push("two thirds of the version's lifetime are over then".to_owned());
        }
    }
    notes.extend(fire.jump.and_then(|jump| jumped(policy, fire, jump)));
    if fire.at > fire.wanted {
        notes.push(moved(policy, fire.wanted));
    } else if fire.is_outside {
        let end = policy.lifetime.map(|lifetime| promoted.plus(lifetime));
        let end = end.map(|end| local(policy, end)).unwrap_or_default();
        notes.push(format!(
            "outside of what windows and freezes allow: the version's lifetime ends {end}, before they allow it"
        ));
    }
    notes
}

fn moved(policy: &RotationPolicy, wanted: Timestamp) -> String {
    let at = local(policy, wanted);
    match policy.freezes.iter().find(|freeze| freeze.holds(wanted)) {
        None => format!("moved from {at}: no window is open then"),
        Some(freeze) if freeze.reason.is_empty() => format!("moved from {at}: a freeze holds then"),
        Some(freeze) => format!("moved from {at}: a freeze holds then ({})", freeze.reason),
    }
}

/// What the clock does; the time that the line names lies the group's offset before the fire.
fn jumped(policy: &RotationPolicy, fire: &Fire, jump: Jump) -> Option<String> {
    let named = plan::before(fire.wanted, plan::offset(policy));
    let at = jiff::Timestamp::from_microsecond(named.micros()).ok()?;
    let zone = zone_of(policy);
    let wall = zone.to_datetime(at);
    let text = match jump {
        Jump::Gap { wanted } => {
            let second = jiff::SignedDuration::from_secs(1);
            let last = zone.to_datetime(at.checked_sub(second).ok()?);
            let from = last.checked_add(second).ok()?;
            format!(
                "{} is left out: the clock goes from {} to {}; it fires right after the gap",
                time(wanted, wall),
                time(from, wall),
                time(wall, from)
            )
        }
        Jump::Fold { pass } => {
            let pass = match pass {
                Pass::Only => "it fires in the first pass only",
                Pass::First => "this is the first of both",
                Pass::Second => "this is the second of both",
            };
            format!(
                "{} comes twice, as the clock goes back: {pass}",
                time(wall, wall)
            )
        }
    };
    Some(text)
}

/// A time of the wall clock; with its day when the other one is of another day.
fn time(wall: DateTime, other: DateTime) -> String {
    let day = if wall.date() == other.date() {
        ""
    } else {
        "%Y-%m-%d "
    };
    let seconds = if wall.second() == 0 { "" } else { ":%S" };
    strtime::format(format!("{day}%H:%M{seconds}"), wall).unwrap_or_default()
}
