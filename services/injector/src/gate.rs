//! The health gate: whether a started container counts as running well. Pure.

use std::time::Duration;

use keywheel_core::binding::{DEFAULT_HEALTH_TIMEOUT, DEFAULT_SETTLE, Reload};
use keywheel_engine::port::container_host::Health;

/// What the gate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Gate {
    /// It runs well.
    Passed,
    /// Not known before this time.
    Wait(Duration),
    /// It does not, and why.
    Failed(String),
}

/// Judges a container that runs since `since`.
pub(crate) fn judge(reload: &Reload, health: Health, since: Duration, now: Duration) -> Gate {
    let (settle, timeout) = match reload {
        Reload::Restart {
            settle,
            health_timeout,
            ..
        } => (*settle, *health_timeout),
        Reload::None | Reload::Signal(_) | Reload::Command { .. } | Reload::Label => {
            (DEFAULT_SETTLE, DEFAULT_HEALTH_TIMEOUT)
        }
    };
    let waited = now.saturating_sub(since);
    match health {
        Health::Healthy => Gate::Passed,
        Health::None if waited >= settle => Gate::Passed,
        Health::None => Gate::Wait(since + settle),
        Health::Unhealthy => Gate::Failed(
            "its health check fails since the restart; look at `docker inspect` and the container's log".to_owned(),
        ),
        Health::Starting if waited >= timeout => Gate::Failed(format!(
            "its health check did not pass within {} s of the restart; raise `healthTimeout` or look at the container's log",
            timeout.as_secs()
        )),
        Health::Starting => Gate::Wait(since + timeout),
    }
}

/// How long one that was found to run well is watched.
pub(crate) fn monitor_of(reload: &Reload) -> Duration {
    match reload {
        Reload::Restart {
            rollout: Some(rollout),
            ..
        } => rollout.monitor,
        _ => Duration::ZERO,
    }
}

/// Judges a container that was found to run well at `since`.
pub(crate) fn watch(reload: &Reload, health: Health, since: Duration, now: Duration) -> Gate {
    let until = since.saturating_add(monitor_of(reload));
    match health {
        Health::Unhealthy => Gate::Failed(
            "its health check failed while it was watched after its restart; look at `docker inspect` and the container's log".to_owned(),
        ),
        Health::Healthy | Health::None | Health::Starting if now >= until => Gate::Passed,
        Health::Healthy | Health::None | Health::Starting => Gate::Wait(until),
    }
}

#[cfg(test)]
mod tests {
    use keywheel_core::binding::Rollout;

    use super::*;

    const RELOAD: Reload = Reload::Restart {
        settle: Duration::from_secs(10),
        health_timeout: Duration::from_secs(60),
        rollout: None,
    };

    fn after(health: Health, seconds: u64) -> Gate {
        let since = Duration::from_secs(100);
        judge(&RELOAD, health, since, since + Duration::from_secs(seconds))
    }

    #[test]
    fn without_a_health_check_it_has_to_run_for_the_settle_time() {
        assert_eq!(after(Health::None, 9), Gate::Wait(Duration::from_secs(110)));
        assert_eq!(after(Health::None, 10), Gate::Passed);
    }

    #[test]
    fn it_is_watched_for_the_monitor_period_of_a_rollout_and_no_longer() {
        let of = |seconds| {
            let since = Duration::from_secs(100);
            let now = since + Duration::from_secs(seconds);
            move |health| {
                let reload = Reload::Restart {
                    settle: Duration::ZERO,
                    health_timeout: Duration::from_secs(60),
                    rollout: Some(Rollout {
                        monitor: Duration::from_secs(30),
                        ..Rollout::default()
                    }),
                };
                watch(&reload, health, since, now)
            }
        };
        let until = Gate::Wait(Duration::from_secs(130));
        for health in [Health::Healthy, Health::None] {
            assert_eq!(of(29)(health), until);
            assert_eq!(of(30)(health), Gate::Passed);
        }
        assert!(matches!(of(30)(Health::Unhealthy), Gate::Failed(_)));
        assert_eq!(monitor_of(&RELOAD), Duration::ZERO);
    }

    #[test]
    fn with_one_it_passes_when_healthy_and_fails_when_unhealthy_or_late() {
        assert_eq!(after(Health::Healthy, 0), Gate::Passed);
        assert!(matches!(after(Health::Unhealthy, 1), Gate::Failed(_)));
        assert_eq!(
            after(Health::Starting, 59),
            Gate::Wait(Duration::from_secs(160))
        );
        assert!(
            matches!(after(Health::Starting, 60), Gate::Failed(reason) if reason.contains("60 s"))
        );
    }
}
