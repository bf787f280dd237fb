//! What the scheduler's queue holds per secret, and whether a tick costs more with more secrets.
//!
//! Invariant: memory is the growth of this process's resident memory while the queue is built.
//! Secrets have random ids, a cron line in a zone and jitter, as a manifest gives them, and each was delivered
//! to a host. None has a rule on events.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_core::event::Event;
use keywheel_core::id::{DeliveryId, EventId, HostId, SecretId};
use keywheel_core::name::SecretName;
use keywheel_core::rotation;
use keywheel_core::schedule::{MissedRun, RotationPolicy, Schedule};
use keywheel_core::secret::{self, Generator, Spec};
use keywheel_core::time::Timestamp;
use keywheel_scheduler::timer::{Fired, Timers};
use keywheel_seal::digest::sha256;

use crate::{Line, resident_mb};

/// Secrets of the small and of the large queue.
const COUNTS: [(u64, &str); 2] = [(1000, "-"), (1_000_000, "as with 1,000")];
/// Ticks measured in each.
const TICKS: usize = 500;
/// Hosts that they are delivered to.
const HOSTS: u64 = 100;
/// When all secrets became known.
const BEGIN: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);

fn id(number: u64) -> [u8; 16] {
    let digest = sha256(&number.to_be_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    bytes
}

fn spec(number: u64) -> Spec {
    let (minute, hour) = (number % 60, number / 60 % 24);
    Spec {
        generator: Some(Generator::default()),
        rotation: RotationPolicy {
            schedule: Schedule::Cron {
                expression: format!("{minute} {hour} * * 0"),
                timezone: "Europe/Berlin".to_owned(),
            },
            jitter: Duration::from_secs(300),
            missed_run: MissedRun::Once,
            ..RotationPolicy::default()
        },
        ..Spec::default()
    }
}

fn fill(count: u64) -> Result<Timers> {
    let mut timers = Timers::new();
    let name = SecretName::parse("bench/secret").map_err(|error| anyhow::anyhow!("{error}"))?;
    for number in 0..count {
        let events = [
            secret::Event::Registered {
                name: name.clone(),
                spec: spec(number),
            },
            secret::Event::Delivered {
                host: HostId::from_bytes(id(number % HOSTS)),
                version: 1,
                delivery: DeliveryId::from_bytes(id(number)),
            },
        ];
        for event in events {
            let event = Event::Secret(SecretId::from_bytes(id(number)), event);
            timers.fold((number, EventId::default()), BEGIN, &event);
        }
        timers.settle();
    }
    Ok(timers)
}

/// One tick: the first timer runs out, its rotation starts and ends, its next slot is computed.
fn tick(timers: &mut Timers) -> Result<Fired> {
    let due = timers.next_due().context("no timer is set")?;
    let fired = timers.pop(due).context("nothing is due")?;
    let keywheel_core::command::Command::Due {
        rotation, secret, ..
    } = fired.command
    else {
        anyhow::bail!("no slot: {fired:?}");
    };
    let events = [
        rotation::Event::Started {
            secret,
            version: 1,
            trigger: rotation::Trigger::OnDemand,
        },
        rotation::Event::Closed {
            outcome: rotation::Outcome::Completed,
        },
    ];
    for event in events {
        timers.apply(due, &Event::Rotation(rotation, event));
        timers.settle();
    }
    Ok(fired)
}

/// Bytes a secret, and a tick's cost with few and with many secrets.
pub(crate) fn scheduler() -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for (count, budget) in COUNTS {
        let before = resident_mb(std::process::id())?;
        let mut timers = fill(count)?;
        let grown = resident_mb(std::process::id())? - before;
        ensure!(
            timers.len() as u64 == count,
            "{} timers are set",
            timers.len()
        );
        let mut ticks = Samples::default();
        for _ in 0..TICKS {
            let begun = now();
            tick(&mut timers)?;
            ticks.add_span(begun.elapsed());
        }
        lines.push(Line {
            key: format!("tick_{count}"),
            what: format!("a tick of the scheduler, {count} secrets"),
            samples: ticks,
            budget,
        });
        if count == COUNTS[1].0 {
            let mut bytes = Samples::default();
            bytes.add(grown * 1024.0 * 1024.0 / count as f64);
            lines.push(Line {
                key: "scheduler_bytes_a_secret".to_owned(),
                what: format!("scheduler's memory, bytes a secret of {count}"),
                samples: bytes,
                budget: "<= 300",
            });
        }
    }
    Ok(lines)
}
