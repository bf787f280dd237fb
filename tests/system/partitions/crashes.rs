//! Gateway, store-sync and bus server are killed, or stand still: starts on a host go on, and a bus
//! that says nothing is an alarm.

use anyhow::{Result, ensure};
use keywheel_tests::apart::Role;
use keywheel_tests::docker::Container;
use keywheel_tests::fleet::Fleet;
use keywheel_tests::keywheel::Options;
use keywheel_tests::metrics;
use keywheel_tests::process::PATIENCE;
use keywheel_tests::wait;

use super::silence::{is_alarmed, wait_alarm};
use super::{CUT, NEAR, NEAR_HOST, served_after_restart, value, wait_current_plan};

/// All of them, one after the other; gives the last value.
pub(crate) fn all(fleet: &mut Fleet, near: &Container) -> Result<String> {
    let before = value(near)?;
    for role in [Role::StoreSync, Role::Gateway, Role::Bus] {
        fleet.process(role, 0)?.kill9()?;
        let served = served_after_restart(near)?;
        assert_eq!(served.as_ref(), Some(&before), "without {role:?}");
    }
    // The injector comes back alone: what it serves now it has from its disk.
    fleet.process(Role::Injector, NEAR_HOST)?.kill9()?;
    fleet.process(Role::Injector, NEAR_HOST)?.start()?;
    wait::until_true("a start from the disk", PATIENCE, || {
        Ok(served_after_restart(near)?.as_ref() == Some(&before))
    })?;
    up(fleet)?;
    assert!(!is_alarmed(fleet, NEAR_HOST)?, "alarmed without silence");
    fleet.process(Role::Bus, 0)?.pause()?;
    let served = served_after_restart(near)?;
    assert_eq!(served.as_ref(), Some(&before), "a bus that stands still");
    for host in [CUT, NEAR_HOST] {
        wait_alarm(fleet, host)?;
    }
    let served = served_after_restart(near)?;
    assert_eq!(served.as_ref(), Some(&before), "after the alarm");
    silent_on_the_page(fleet)?;
    fleet.process(Role::Bus, 0)?.resume()?;
    wait_current_plan(fleet, NEAR_HOST)?;
    fleet.rotate(NEAR)?;
    let after = value(near)?;
    assert_ne!(after, before);
    Ok(after)
}

/// The gateway started while one host was cut off, and never heard it: its page says so all the same.
fn silent_on_the_page(fleet: &mut Fleet) -> Result<()> {
    let pages = metrics::pages(&fleet.keywheel)?;
    let only = |start: &str| -> Result<f64> {
        let found = metrics::numbers(&pages, start);
        ensure!(found.len() == 1, "{start}: {found:?} in {pages:?}");
        Ok(found.into_iter().sum())
    };
    let contact = |host: usize| -> Result<f64> {
        let name = &fleet.machine(host)?.name;
        only(&format!(
            "keywheel_host_last_contact_timestamp_seconds{{host=\"{name}\"}}"
        ))
    };
    let started = only("keywheel_start_time_seconds{service=\"gateway\"}")?;
    let (cut, near) = (contact(CUT)?, contact(NEAR_HOST)?);
    // It began to listen once it was up, and took the time that it took; the clock may be set meanwhile.
    ensure!(cut > started - 1.0, "{cut}, started {started}");
    ensure!(cut <= near, "{cut}, the other one {near}");
    let silent = only("keywheel_instances{service=\"injector\",heard=\"no\"}")?;
    ensure!(silent == 2.0, "{silent} of two hosts are not heard");
    Ok(())
}

/// Starts what was killed, and waits until the host is heard.
fn up(fleet: &mut Fleet) -> Result<()> {
    fleet.apart()?.up(&Options::default())?;
    fleet.apart()?.wait_store_sync()?;
    wait::until_true("the gateway to answer", PATIENCE, || {
        Ok(fleet.keywheel.cli(&["status", "-o", "json"])?.code == 0)
    })?;
    wait_current_plan(fleet, NEAR_HOST)
}
