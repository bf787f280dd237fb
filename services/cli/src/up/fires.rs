//! The next fires of a secret's policy, as people see them.

use keywheel_core::schedule::RotationPolicy;
use keywheel_gateway::views::Horizon;
use keywheel_scheduler::schedule::{self, Cause, Fire};
use keywheel_schemas::api::FireView;

/// The next fires, and the promotion that each counts from: those before it are taken as served at once.
fn walk(
    policy: &RotationPolicy,
    horizon: Horizon,
) -> impl Iterator<Item = (Fire, keywheel_core::time::Timestamp)> {
    let (mut after, mut anchor) = (horizon.after, horizon.anchor);
    let next = std::iter::from_fn(move || {
        let since = anchor;
        let fire = schedule::next_fire(policy, after, since)?;
        (after, anchor) = (fire.at, fire.at);
        Some((fire, since))
    });
    next.take(horizon.count)
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
    (schedule::rules(policy), fires.collect())
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

    use keywheel_core::schedule::Schedule;
    use keywheel_core::time::Timestamp;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn horizon(after: u32, anchor: u32, count: usize) -> Horizon {
        let at = |hours| Timestamp::default().plus(HOUR * hours);
        Horizon {
            after: at(after),
            anchor: at(anchor),
            count,
        }
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

    #[test]
    fn on_demand_there_is_no_fire() {
        let policy = RotationPolicy::default();
        assert_eq!(next_fires(&policy, horizon(0, 0, 3)), Vec::<String>::new());
    }
}
