//! What a step over many containers costs while they wait: each order and each member of a rollout is looked at once,
//! however many wait.

use super::orders::{orders, restarting, running_on};
use super::*;
use crate::binding::{DEFAULT_HEALTH_TIMEOUT, DEFAULT_SETTLE, Reload, Rollout as Policy};
use crate::report::HostReport;
use crate::rollout::MAX_LEAVES_PER_HOST;
use crate::testing::{anywhere, apply_binding, container, file, reloaded};
use crate::world::looked;

/// Containers of one service on one host.
const MANY: u8 = 200;

#[test]
fn restarts_that_wait_for_room_ask_for_it_once_together() {
    let all = (1..=MANY).map(|n| reloaded(n, 1)).collect();
    let told = Command::Report(HostReport {
        orders: Some(Vec::new()),
        containers: (1..=MANY).map(container).collect(),
        ..report(all, &[1])
    });
    let most = u32::from(MANY);
    let reload = Reload::Restart {
        settle: DEFAULT_SETTLE,
        health_timeout: DEFAULT_HEALTH_TIMEOUT,
        rollout: Some(Policy {
            max_parallel: most,
            max_unavailable: most,
            ..Policy::default()
        }),
    };
    let given = Given::serving().and(told);
    let given = given.and(apply_binding(anywhere(), file(), reload));
    let given = running_on(given, vec![step("restart", restarting(), &[])]);
    assert_eq!(orders(&given).len(), MAX_LEAVES_PER_HOST);
    looked();
    assert!(next_run(given.world()).is_none());
    assert_eq!(looked(), MAX_LEAVES_PER_HOST);
}
