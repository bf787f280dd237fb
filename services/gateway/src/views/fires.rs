//! A secret and when it rotates by itself, as people see them. Calendars are slow: what they say is asked
//! for last, and nothing is locked then.

use keywheel_core::schedule::{RotationPolicy, Schedule};
use keywheel_core::secret::{LOCAL_STORE, Secret};
use keywheel_core::time::Timestamp;
use keywheel_engine::state::Committed;
use keywheel_schemas::api::{FireView, ScheduleView, SecretView};
use keywheel_schemas::event::resource::Resource;
use keywheel_schemas::mirror::Mirror as _;

use super::count;

/// Fires of a policy that a look at its secret shows.
const SHOWN_FIRES: usize = 3;

/// Which fires of a policy are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    /// Those after this instant, up to which slots are served: one that waits for a window comes, too.
    pub after: Timestamp,
    /// Those that lie ahead of this instant.
    pub now: Timestamp,
    /// The first promotion of the current version, from which intervals and ages count.
    pub anchor: Timestamp,
    /// The last promotion, be it a return to the version before, from which hold-offs count.
    pub moved: Timestamp,
    /// When a run was last aborted or turned back, if nothing new was promoted since.
    pub stopped: Option<Timestamp>,
    /// At most so many.
    pub count: usize,
}

impl Horizon {
    /// All fires after a promotion, as if now was then.
    #[must_use]
    pub const fn after_promotion(promoted: Timestamp, count: usize) -> Self {
        Self {
            after: promoted,
            now: promoted,
            anchor: promoted,
            moved: promoted,
            stopped: None,
            count,
        }
    }
}

/// Computes the next fires of a policy, as RFC 3339 text.
pub type NextFires = fn(&RotationPolicy, Horizon) -> Vec<String>;

/// Says the rules of a policy in words, and its next fires with what is to be said of each.
pub type Outlook = fn(&RotationPolicy, Horizon) -> (Vec<String>, Vec<FireView>);

/// A secret's view but for its fires. Calendars are slow, so nothing is locked while they are asked.
#[derive(Debug, Clone)]
pub struct SecretDraft {
    view: SecretView,
    policy: RotationPolicy,
    horizon: Horizon,
}

impl SecretDraft {
    /// The whole view.
    #[must_use]
    pub fn finish(self, next_fires: NextFires) -> SecretView {
        SecretView {
            next_fires: next_fires(&self.policy, self.horizon),
            ..self.view
        }
    }
}

/// One secret.
#[must_use]
pub fn secret(committed: &Committed, secret: &Secret, now: Timestamp) -> SecretDraft {
    let (world, policy) = (&committed.world, &secret.spec.rotation);
    let view = SecretView {
        name: secret.name.to_string(),
        id: secret.id.to_string(),
        store: secret
            .place()
            .map_or(LOCAL_STORE, |place| place.store.as_str())
            .to_owned(),
        current: secret.current,
        pending: secret.pending,
        last_version: secret.last_version,
        generated: secret.spec.generator.is_some(),
        schedule: schedule_words(policy),
        next_fires: Vec::new(),
        consumers: count(world.consumers(secret.id).count()),
        open_rotation: world
            .open_rotation(secret.id)
            .map(|rotation| rotation.id.to_string()),
        rotator: secret.spec.rotator.as_deref().map(Resource::of),
        refused_starts: Vec::new(),
    };
    SecretDraft {
        view,
        policy: policy.clone(),
        horizon: horizon(committed, secret, now, SHOWN_FIRES),
    }
}

pub(super) fn schedule_words(policy: &RotationPolicy) -> String {
    let slots = match &policy.schedule {
        Schedule::OnDemand if policy.is_automatic() => None,
        Schedule::OnDemand => Some("on demand".to_owned()),
        Schedule::Cron {
            expression,
            timezone,
        } => Some(format!("{expression} ({timezone})")),
        Schedule::Interval(every) => Some(format!("every {} s", every.as_secs())),
    };
    let ages = [policy.max_age, policy.renewal_age()].into_iter().flatten();
    let ages = ages.map(|age| format!("at an age of {} s", age.as_secs()));
    let events = policy.on_event.iter();
    let events = events.map(|rule| match &rule.when {
        Some(when) => format!("on event {} when {when}", rule.event),
        None => format!("on event {}", rule.event),
    });
    let words: Vec<String> = slots.into_iter().chain(ages).chain(events).collect();
    words.join(", ")
}

/// Fires that lie ahead, of a secret that counts from its promotions, or else from its beginning.
fn horizon(committed: &Committed, secret: &Secret, now: Timestamp, count: usize) -> Horizon {
    let known = committed.tally.anchors(secret.id);
    known.map_or_else(
        || Horizon::after_promotion(now, count),
        |anchors| Horizon {
            after: anchors.served(),
            now,
            anchor: anchors.born(),
            moved: anchors.moved(),
            stopped: anchors.stopped(),
            count,
        },
    )
}

/// When a secret rotates by itself, but for what calendars say.
#[derive(Debug, Clone)]
pub struct ScheduleDraft {
    secret: String,
    policy: RotationPolicy,
    horizon: Horizon,
    note: Option<String>,
}

impl ScheduleDraft {
    /// The whole view.
    #[must_use]
    pub fn finish(self, outlook: Outlook) -> ScheduleView {
        let (rules, fires) = outlook(&self.policy, self.horizon);
        ScheduleView {
            secret: self.secret,
            rules,
            fires,
            note: self.note,
        }
    }
}

/// When a secret rotates by itself, in words.
#[must_use]
pub fn schedule(
    committed: &Committed,
    secret: &Secret,
    (now, count): (Timestamp, usize),
) -> ScheduleDraft {
    let policy = &secret.spec.rotation;
    let open = committed.world.open_rotation(secret.id);
    let note = match open {
        _ if !policy.is_automatic() => Some(format!(
            "it rotates only when somebody asks: `keywheel rotate {}`, or give it a `rotation` in its manifest",
            secret.name
        )),
        Some(open) => Some(format!(
            "rotation {0} is open and holds them back until it ends; `keywheel describe rotation {0}` shows what it waits for",
            open.id
        )),
        None => None,
    };
    ScheduleDraft {
        secret: secret.name.to_string(),
        policy: policy.clone(),
        horizon: horizon(committed, secret, now, count),
        note,
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::schedule::OnEvent;

    use super::*;

    #[test]
    fn a_schedule_s_words_name_what_leads_to_a_rotation() {
        let (hour, day) = (
            std::time::Duration::from_secs(3600),
            std::time::Duration::from_secs(86_400),
        );
        let cron = || Schedule::Cron {
            expression: "0 3 * * *".to_owned(),
            timezone: "UTC".to_owned(),
        };
        let said = |schedule, max_age, lifetime| {
            schedule_words(&RotationPolicy {
                schedule,
                max_age,
                lifetime,
                ..RotationPolicy::default()
            })
        };
        assert_eq!(said(Schedule::OnDemand, None, None), "on demand");
        assert_eq!(said(Schedule::Interval(hour), None, None), "every 3600 s");
        assert_eq!(said(cron(), None, None), "0 3 * * * (UTC)");
        let both = said(cron(), Some(day), Some(3 * hour));
        assert_eq!(
            both,
            "0 3 * * * (UTC), at an age of 86400 s, at an age of 7200 s"
        );
        assert_eq!(
            said(Schedule::OnDemand, Some(day), None),
            "at an age of 86400 s"
        );
        let on_event = |when: Option<&str>| OnEvent {
            event: "dev.keywheel.host.evicted.v1".to_owned(),
            when: when.map(str::to_owned),
            hold_off: None,
        };
        let events = schedule_words(&RotationPolicy {
            on_event: vec![on_event(Some("held")), on_event(None)],
            ..RotationPolicy::default()
        });
        assert_eq!(
            events,
            "on event dev.keywheel.host.evicted.v1 when held, on event dev.keywheel.host.evicted.v1"
        );
    }
}
