//! `rotation` of a `kind: Secret`: when it rotates by itself, and what holds that back.
//!
//! A part that can have no effect beside the others is refused, with the part to change.

use std::time::Duration;

use keywheel_core::name::SecretName;
use keywheel_core::schedule::{
    Ack, Freeze, GroupOffset, MissedRun, OnDeadline, RotationPolicy, Schedule, Window,
};
use keywheel_core::time::Timestamp;

use super::reader::{Faults, Fields, TextAt};
use super::tree::{Located, Node, position};
use super::{
    CheckSchedule, MAX_DEADLINE, MAX_FREEZES, MAX_GROUP_BYTES, MAX_INTERVAL, MAX_JITTER,
    MAX_OFFSET, MAX_REASON_BYTES, MAX_SCHEDULE_BYTES, MAX_WINDOW, MAX_WINDOWS, MIN_AGE,
    MIN_DEADLINE, MIN_INTERVAL, MIN_WINDOW, canary, on_event,
};
use crate::mirror::TextForm as _;

/// Time zone of a schedule that names none.
const DEFAULT_TIMEZONE: &str = "UTC";
/// Every field.
const KNOWN: [&str; 17] = [
    "schedule",
    "timezone",
    "interval",
    "maxAge",
    "lifetime",
    "jitter",
    "missedRun",
    "holdOff",
    "windows",
    "freezes",
    "phase",
    "deadline",
    "onDeadline",
    "previous",
    "onEvent",
    "ack",
    "canary",
];

pub(super) fn read(
    node: &Located,
    own: Option<&SecretName>,
    check: CheckSchedule<'_>,
    faults: &mut Faults,
) -> Option<RotationPolicy> {
    let fields = Fields::of(node, "rotation", &KNOWN, faults)?;
    let schedule = read_schedule(&fields, check, faults);
    let zone = match &schedule {
        Some(Schedule::Cron { timezone, .. }) => timezone.as_str(),
        _ => DEFAULT_TIMEZONE,
    };
    let windows = items(&fields, "windows", MAX_WINDOWS, faults);
    let windows = windows
        .iter()
        .filter_map(|node| read_window(node, zone, check, faults))
        .collect();
    let freezes = items(&fields, "freezes", MAX_FREEZES, faults);
    let freezes = freezes
        .iter()
        .filter_map(|node| read_freeze(node, faults))
        .collect();
    let jitter = fields.span("jitter", Duration::ZERO, MAX_JITTER, faults);
    let missed_runs = [("once", MissedRun::Once), ("skip", MissedRun::Skip)];
    let policies = [("hold", OnDeadline::Hold), ("force", OnDeadline::Force)];
    let keeps = [("revoke", false), ("keep", true)];
    let policy = RotationPolicy {
        jitter: jitter.unwrap_or_default(),
        missed_run: read_word(&fields, "missedRun", missed_runs, faults).unwrap_or_default(),
        deadline: fields.span("deadline", MIN_DEADLINE, MAX_DEADLINE, faults),
        on_deadline: read_word(&fields, "onDeadline", policies, faults).unwrap_or_default(),
        max_age: fields.span("maxAge", MIN_AGE, MAX_INTERVAL, faults),
        lifetime: fields.span("lifetime", MIN_AGE, MAX_INTERVAL, faults),
        hold_off: fields.span("holdOff", MIN_INTERVAL, MAX_INTERVAL, faults),
        windows,
        freezes,
        phase: read_phase(&fields, faults),
        on_event: on_event::read(&fields, own, faults),
        ack: read_ack(&fields, faults),
        canary: canary::read(&fields, faults),
        schedule: schedule.clone().unwrap_or_default(),
        keep_previous: read_word(&fields, "previous", keeps, faults).unwrap_or_default(),
    };
    refuse_idle_parts(&fields, faults);
    refuse_what_never_fires(&fields, &policy, faults);
    schedule.map(|_| policy)
}

/// Parts that say nothing without another one.
fn refuse_idle_parts(fields: &Fields<'_>, faults: &mut Faults) {
    let has = |name: &&str| fields.find(name).is_some();
    let has_slots = ["schedule", "interval"].iter().any(has);
    let fires = has_slots || ["maxAge", "lifetime", "onEvent"].iter().any(has);
    let has_times = has_slots || ["maxAge", "lifetime"].iter().any(has);
    for name in ["jitter", "missedRun", "windows", "freezes", "holdOff"] {
        // An event is never missed, so the rule for what was missed is not about events.
        let is_idle = match name {
            "holdOff" => !has_slots,
            "missedRun" => !has_times,
            _ => !fires,
        };
        if !has(&name) || !is_idle {
            continue;
        }
        let others = match name {
            "holdOff" => " (a rule of `onEvent` has a `holdOff` of its own)",
            "missedRun" => " (`maxAge` or `lifetime` will do, too)",
            _ => " (`maxAge`, `lifetime` or `onEvent` will do, too)",
        };
        let message = format!(
            "`{name}` says nothing without a `schedule` or an `interval`{others}; add one of them"
        );
        faults.add(fields.position_of(name), message);
    }
    if has(&"phase") && !has(&"schedule") {
        let message = "`phase` says nothing without a `schedule`: an interval and an age count from each secret's own last rotation; write a cron line, the same for the whole group".to_owned();
        faults.add(fields.position_of("phase"), message);
    }
}

/// Parts that another one always forestalls.
fn refuse_what_never_fires(fields: &Fields<'_>, policy: &RotationPolicy, faults: &mut Faults) {
    let at = |name| fields.position_of(name);
    if matches!(policy.schedule, Schedule::Interval(_)) && policy.max_age.is_some() {
        let message = "`interval` and `maxAge` do not go together: both count from the last rotation; keep the shorter one".to_owned();
        faults.add(at("maxAge"), message);
        return;
    }
    if let (Some(max_age), Some(renewal)) = (policy.max_age, policy.renewal_age())
        && max_age >= renewal
    {
        let message = "`maxAge` is not shorter than two thirds of `lifetime`, at which the secret rotates anyway: it would never count; shorten `maxAge`, or leave it out".to_owned();
        faults.add(at("maxAge"), message);
    }
    let limits = [
        ("maxAge", policy.max_age, "`maxAge`"),
        ("lifetime", policy.renewal_age(), "two thirds of `lifetime`"),
    ];
    for (name, age, words) in limits {
        let Some(age) = age else { continue };
        if policy.hold_off.is_some_and(|hold_off| hold_off >= age) {
            let message = format!(
                "`holdOff` is not shorter than {words}: no slot of the schedule would ever count; shorten `holdOff`"
            );
            faults.add(at("holdOff"), message);
        }
        if matches!(policy.schedule, Schedule::Interval(every) if every >= age) {
            let message = format!(
                "`interval` is not shorter than {words}: it would never count; shorten `interval`, or keep `{name}` alone"
            );
            faults.add(at("interval"), message);
        }
    }
}

/// What is shown before the value before may die.
pub(super) fn read_ack(fields: &Fields<'_>, faults: &mut Faults) -> Option<Ack> {
    let acks = [("reloaded", Ack::Reloaded), ("drained", Ack::Drained)];
    read_word(fields, "ack", acks, faults)
}

/// One of two words.
fn read_word<T>(
    fields: &Fields<'_>,
    name: &str,
    [(first, one), (second, other)]: [(&str, T); 2],
    faults: &mut Faults,
) -> Option<T> {
    let (word, at) = fields.text(name, faults)?;
    if word == first {
        return Some(one);
    }
    if word == second {
        return Some(other);
    }
    let found = crate::leaf::shorten(word);
    let message = format!("{name} `{found}` is not known; write `{first}` or `{second}`");
    faults.add(at, message);
    None
}

/// The entries of a list; none when it is not there.
pub(super) fn items<'n>(
    fields: &Fields<'n>,
    name: &str,
    most: usize,
    faults: &mut Faults,
) -> &'n [Located] {
    let Some(node) = fields.find(name) else {
        return &[];
    };
    let message = match &node.value {
        Node::List(items) if (1..=most).contains(&items.len()) => return items,
        Node::List(items) => format!(
            "`{name}` has {} entries; between 1 and {most} are allowed, or leave it out",
            items.len()
        ),
        other => format!("`{name}` has to be a list, not {}", other.words()),
    };
    faults.add(position(node), message);
    &[]
}

fn read_window(
    node: &Located,
    zone: &str,
    check: CheckSchedule<'_>,
    faults: &mut Faults,
) -> Option<Window> {
    let known = ["schedule", "timezone", "duration"];
    let fields = Fields::of(node, "a window", &known, faults)?;
    let line = fields.required_text("schedule", faults);
    let zone = match fields.find("timezone") {
        Some(_) => fields.text("timezone", faults)?,
        None => (zone, fields.position),
    };
    let duration = fields
        .required("duration", faults)
        .and_then(|_| fields.span("duration", MIN_WINDOW, MAX_WINDOW, faults));
    let (expression, timezone) = checked_line(line?, zone, check, faults)?;
    Some(Window {
        expression,
        timezone,
        duration: duration?,
    })
}

fn read_freeze(node: &Located, faults: &mut Faults) -> Option<Freeze> {
    let fields = Fields::of(node, "a freeze", &["from", "until", "reason"], faults)?;
    let from = read_instant(&fields, "from", faults);
    let until = read_instant(&fields, "until", faults);
    let reason = match fields.text("reason", faults) {
        None => String::new(),
        Some((text, at)) => {
            if text.len() > MAX_REASON_BYTES || text.chars().any(char::is_control) {
                let message = format!(
                    "`reason` has at most {MAX_REASON_BYTES} bytes without control characters; shorten it"
                );
                faults.add(at, message);
            }
            text.to_owned()
        }
    };
    let (from, until) = (from?, until?);
    if from >= until {
        let message =
            "`until` has to lie after `from`; exchange them, or set a later end".to_owned();
        faults.add(fields.position_of("until"), message);
        return None;
    }
    Some(Freeze {
        from,
        until,
        reason,
    })
}

fn read_instant(fields: &Fields<'_>, name: &str, faults: &mut Faults) -> Option<Timestamp> {
    let (text, at) = fields.required_text(name, faults)?;
    if let Ok(instant) = Timestamp::parse_text(text) {
        return Some(instant);
    }
    let found = crate::leaf::shorten(text);
    let message = format!(
        "`{name}` is not an instant: `{found}`; write date, time and offset, like `2026-12-20T00:00:00+01:00`"
    );
    faults.add(at, message);
    None
}

fn read_phase(fields: &Fields<'_>, faults: &mut Faults) -> Option<GroupOffset> {
    let node = fields.find("phase")?;
    let fields = Fields::of(node, "phase", &["group", "offset"], faults)?;
    let group = fields.required_text("group", faults);
    let offset = fields
        .required("offset", faults)
        .and_then(|_| fields.span("offset", Duration::ZERO, MAX_OFFSET, faults));
    let (group, at) = group?;
    let fits =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
    if !(1..=MAX_GROUP_BYTES).contains(&group.len()) || !group.bytes().all(fits) {
        let message = format!(
            "`group` has 1 to {MAX_GROUP_BYTES} lower-case letters, digits, `.`, `_` and `-`; give it another name"
        );
        faults.add(at, message);
        return None;
    }
    Some(GroupOffset {
        group: group.to_owned(),
        offset: offset?,
    })
}

fn read_schedule(
    fields: &Fields<'_>,
    check: CheckSchedule<'_>,
    faults: &mut Faults,
) -> Option<Schedule> {
    let interval = fields.span("interval", MIN_INTERVAL, MAX_INTERVAL, faults);
    let timezone = fields.text("timezone", faults);
    if let Some(node) = fields.find("interval") {
        for other in ["schedule", "timezone"] {
            if fields.find(other).is_some() {
                let message =
                    format!("`interval` and `{other}` do not go together; keep one of them");
                faults.add(position(node), message);
            }
        }
        return interval.map(Schedule::Interval);
    }
    let Some((expression, at)) = fields.text("schedule", faults) else {
        if let Some((_, at)) = timezone {
            faults.add(
                at,
                "`timezone` says nothing without a `schedule`; add one".to_owned(),
            );
        }
        return fields
            .find("schedule")
            .is_none()
            .then_some(Schedule::OnDemand);
    };
    let zone = timezone.unwrap_or((DEFAULT_TIMEZONE, at));
    let (expression, timezone) = checked_line((expression, at), zone, check, faults)?;
    Some(Schedule::Cron {
        expression,
        timezone,
    })
}

/// A cron line and its zone, when whoever knows calendars takes them.
pub(super) fn checked_line(
    line: TextAt<'_>,
    zone: TextAt<'_>,
    check: CheckSchedule<'_>,
    faults: &mut Faults,
) -> Option<(String, String)> {
    for (what, (text, at)) in [("schedule", line), ("timezone", zone)] {
        if text.len() > MAX_SCHEDULE_BYTES {
            faults.add(
                at,
                format!("`{what}` has more than {MAX_SCHEDULE_BYTES} bytes"),
            );
            return None;
        }
    }
    match check(line.0, zone.0) {
        Ok(()) => Some((line.0.to_owned(), zone.0.to_owned())),
        Err(fault) => {
            faults.add(line.1, fault);
            None
        }
    }
}
