//! The next fires of a secret's policy, as people see them.

use keywheel_core::schedule::RotationPolicy;
use keywheel_core::time::Timestamp;
use keywheel_gateway::views::Horizon;
use keywheel_scheduler::schedule::{self, Cause, Fire, Origin, Reading};
use keywheel_schemas::api::FireView;

/// The next fires, and the promotion that each counts from: the first is what the scheduler waits for,
/// and those before one are taken as served at once.
fn walk(policy: &RotationPolicy, horizon: Horizon) -> impl Iterator<Item = (Fire, Timestamp)> {
    let reading = Reading::of(policy);
    let mut last: Option<Timestamp> = None;
    let next = std::iter::from_fn(move || {
        let (fire, since) = match last {
            None => (first(&reading, horizon)?, horizon.anchor),
            Some(at) => (reading.next_fire(at, Origin::from(at))?, at),
        };
        last = Some(fire.at);
        Some((fire, since))
    });
    next.take(horizon.count)
}

fn first(reading: &Reading<'_>, horizon: Horizon) -> Option<Fire> {
    let origin = Origin {
        promoted: horizon.anchor,
        moved: horizon.moved,
        stopped: horizon.stopped,
    };
    reading.next_ahead(horizon.after, horizon.now, origin)
}

/// The next fires as RFC 3339 text.
pub(crate) fn next_fires(policy: &RotationPolicy, horizon: Horizon) -> Vec<String> {
    walk(policy, horizon)
        .map(|(fire, _)| schedule::instant(fire.at))
        .collect()
}

/// Every rule of a policy in words, and the next fires with what is to be said of each.
pub(crate) fn outlook(policy: &RotationPolicy, horizon: Horizon) -> (Vec<String>, Vec<FireView>) {
    let fires = walk(policy, horizon).map(|(fire, since)| FireView {
        at: schedule::instant(fire.at),
        local: schedule::local(policy, fire.at),
        cause: cause(fire.cause).to_owned(),
        notes: schedule::notes(policy, &fire, since),
    });
    let mut rules = schedule::rules(policy);
    let zones = schedule::tzdata_of(policy);
    rules.extend(zones.map(|release| format!("time zones by tzdata {release}")));
    (rules, fires.collect())
}

fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Schedule => "schedule",
        Cause::MaxAge => "max_age",
        Cause::Lifetime => "lifetime",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use keywheel_core::schedule::{Freeze, MissedRun, Schedule, Window};
    use keywheel_schemas::api::ScheduleView;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn at(hours: u32) -> Timestamp {
        Timestamp::default().plus(HOUR * hours)
    }

    fn horizon(now: u32, anchor: u32, count: usize) -> Horizon {
        Horizon {
            now: at(now),
            ..Horizon::after_promotion(at(anchor), count)
        }
    }

    /// At noon, from ten to midnight.
    fn nightly(missed_run: MissedRun) -> RotationPolicy {
        let line = |expression: &str| (expression.to_owned(), "UTC".to_owned());
        let (expression, timezone) = line("0 12 * * *");
        let (opens, zone) = line("0 22 * * *");
        RotationPolicy {
            schedule: Schedule::Cron {
                expression,
                timezone,
            },
            windows: vec![Window {
                expression: opens,
                timezone: zone,
                duration: HOUR * 2,
            }],
            missed_run,
            ..RotationPolicy::default()
        }
    }

    #[test]
    fn a_slot_that_waits_for_a_window_or_the_end_of_a_freeze_is_the_next_one() {
        let waiting = horizon(14, 1, 2);
        assert_eq!(
            next_fires(&nightly(MissedRun::Skip), waiting),
            ["1970-01-01T22:00:00Z", "1970-01-02T22:00:00Z"]
        );
        let frozen = RotationPolicy {
            schedule: Schedule::Interval(HOUR * 12),
            freezes: vec![Freeze {
                from: at(10),
                until: at(20),
                reason: String::new(),
            }],
            ..RotationPolicy::default()
        };
        assert_eq!(
            next_fires(&frozen, horizon(15, 0, 2)),
            ["1970-01-01T20:00:00Z", "1970-01-02T08:00:00Z"]
        );
    }

    #[test]
    fn a_slot_that_was_missed_is_told_where_it_is_caught_up() {
        let weekly = |missed_run| RotationPolicy {
            schedule: Schedule::Cron {
                expression: "0 23 * * THU".to_owned(),
                timezone: "UTC".to_owned(),
            },
            ..nightly(missed_run)
        };
        // The first of 1970 was a Thursday; on Friday morning nobody had served it.
        let away = horizon(24 + 9, 1, 1);
        let told = |missed_run| next_fires(&weekly(missed_run), away);
        assert_eq!(told(MissedRun::Once), ["1970-01-02T22:00:00Z"]);
        assert_eq!(told(MissedRun::Skip), ["1970-01-08T23:00:00Z"]);
    }

    #[test]
    fn an_age_is_told_after_its_rest() {
        let aged = RotationPolicy {
            max_age: Some(HOUR * 240),
            ..RotationPolicy::default()
        };
        let turned_back = Horizon {
            after: at(241),
            moved: at(241),
            stopped: Some(at(241)),
            ..horizon(242, 0, 1)
        };
        assert_eq!(next_fires(&aged, turned_back), ["1970-01-12T01:00:00Z"]);
    }

    #[test]
    fn an_interval_counts_from_the_promotion_and_not_from_now() {
        let policy = RotationPolicy {
            schedule: Schedule::Interval(HOUR * 12),
            ..RotationPolicy::default()
        };
        assert_eq!(
            next_fires(&policy, horizon(13, 10, 3)),
            [
                "1970-01-01T22:00:00Z",
                "1970-01-02T10:00:00Z",
                "1970-01-02T22:00:00Z"
            ]
        );
    }

    #[test]
    fn each_fire_is_told_as_if_the_one_before_it_was_served() {
        let policy = RotationPolicy {
            max_age: Some(HOUR * 24),
            ..RotationPolicy::default()
        };
        let (rules, fires) = outlook(&policy, horizon(0, 0, 2));
        assert_eq!(rules, ["when the version is 1 day old"]);
        let told: Vec<_> = fires.iter().map(|fire| (&*fire.at, &*fire.cause)).collect();
        assert_eq!(
            told,
            [
                ("1970-01-02T00:00:00Z", "max_age"),
                ("1970-01-03T00:00:00Z", "max_age")
            ]
        );
        assert_eq!(fires[0].notes, ["the version has its largest age then"]);
        assert_eq!(fires[0].local, "Fri 1970-01-02 00:00:00 UTC (+00:00)");
    }

    /// What `schedule next` says of two fires of half past two in Berlin, from noon of a day on.
    fn said_in_berlin(noon: u64) -> String {
        let policy = RotationPolicy {
            schedule: Schedule::Cron {
                expression: "30 2 * * *".to_owned(),
                timezone: "Europe/Berlin".to_owned(),
            },
            ..RotationPolicy::default()
        };
        let noon = Timestamp::default().plus(Duration::from_secs(noon));
        let (rules, fires) = outlook(&policy, Horizon::after_promotion(noon, 2));
        crate::output::schedule::words(&ScheduleView {
            secret: "prod/db".to_owned(),
            rules,
            fires,
            note: None,
        })
    }

    #[test]
    fn a_gap_and_a_repeated_hour_of_the_clock_are_told_in_words() {
        // The 28th of March and the 24th of October 2026.
        let gap = said_in_berlin(1_774_699_200);
        let spring = "  Sun 2026-03-29 03:00:00 CEST (+02:00)  2026-03-29T01:00:00Z
    02:30 is left out: the clock goes from 02:00 to 03:00; it fires right after the gap
  Mon 2026-03-30 02:30:00 CEST (+02:00)  2026-03-30T00:30:00Z";
        assert!(gap.ends_with(spring), "{gap}");
        let zones = format!("\n  time zones by tzdata {}\n", schedule::tzdata());
        assert!(gap.contains(&zones), "{gap}");
        let fold = said_in_berlin(1_792_843_200);
        let autumn = "  Sun 2026-10-25 02:30:00 CEST (+02:00)  2026-10-25T00:30:00Z
    02:30 comes twice, as the clock goes back: it fires in the first pass only
  Mon 2026-10-26 02:30:00 CET (+01:00)  2026-10-26T01:30:00Z";
        assert!(fold.ends_with(autumn), "{fold}");
    }

    #[test]
    fn on_demand_there_is_no_fire() {
        let policy = RotationPolicy::default();
        assert_eq!(next_fires(&policy, horizon(0, 0, 3)), Vec::<String>::new());
    }
}
