//! The engine's command bus, over the fake journal, decides what the simulation's gateway decided: the
//! same commands at the same times give the same log, the same open work and the same world.

use std::sync::Arc;

use keywheel_core::decision::next_run;
use keywheel_core::effect;
use keywheel_core::event::Event;
use keywheel_engine::command_bus::{CommandBus, Parts, Started};
use keywheel_engine::port::journal::{Journal as _, RecordedEvent};
use keywheel_engine::state::Committed;
use keywheel_testkit::fake::{FakeClock, FakeIds, MemoryJournal};

use crate::gateway::Gateway;
use crate::scene::Reach;
use crate::steps::run;

/// Runs that are put through the bus: enough to have every command and a kill in many places.
const RUNS: u64 = 40;
/// Runs with playbooks among which some go on as the bus does it.
const PLAYED: u64 = 100;

#[tokio::test]
async fn the_command_bus_decides_what_the_simulation_decided() {
    for seed in 0..RUNS {
        let run = run(seed, Reach::Defaults, None, true);
        assert_eq!(run.broken, None, "seed {seed}");
        the_bus_agrees(&run.sim.gateway, seed).await;
    }
}

/// The bus has runs go on by itself, at once: so do they here, where the gateway was never cut off from that.
#[tokio::test]
async fn the_command_bus_has_runs_go_on_as_the_simulation_does() {
    let mut moves = 0;
    for seed in 0..PLAYED {
        let run = run(seed, Reach::Whole, None, true);
        let (wishes, gateway) = (run.sim.wishes, &run.sim.gateway);
        if !wishes.plays || !wishes.is_eager || gateway.was_cut {
            continue;
        }
        assert_eq!(run.broken, None, "seed {seed}");
        the_bus_agrees(gateway, seed).await;
        let of_runs = |one: &&RecordedEvent| matches!(one.event, Event::PlaybookRun(..));
        moves += gateway.log.iter().filter(of_runs).count();
    }
    assert!(moves > 0, "no run went on");
}

async fn the_bus_agrees(gateway: &Gateway, seed: u64) {
    let journal = Arc::new(MemoryJournal::new());
    let clock = Arc::new(FakeClock::default());
    let parts = Parts {
        journal: journal.clone(),
        clock: clock.clone(),
        ids: Arc::new(FakeIds::new()),
        failpoint: |_| (),
    };
    let Started {
        bus,
        handle,
        view,
        mut commits,
    } = CommandBus::start(parts).await.unwrap();
    let deciding = tokio::spawn(bus.run());
    let mut read = Committed::default();
    for served in &gateway.served {
        clock.set_wall(served.at);
        // A slot that comes early is told to come again: no answer of the bus, and none here.
        let _ = handle.submit(served.submission.clone()).await;
        while next_run(&view.read().world).is_some() {
            while commits.try_recv().is_ok() {}
            tokio::task::yield_now().await;
        }
        while commits.try_recv().is_ok() {}
        // I5 and I6 of what the bus itself appended: each prefix of its log gives what it decides on.
        for recorded in journal.read(read.number, usize::MAX).await.unwrap() {
            assert_eq!(recorded.number, read.number + 1, "seed {seed}");
            read.apply(&recorded, recorded.time);
        }
        assert!(view.read().world == read.world, "seed {seed}");
    }
    let verified = journal.verify().await.unwrap();
    assert_eq!(verified.faults, Vec::<String>::new(), "seed {seed}");
    let appended = read_all(&journal).await;
    let both = gateway.log.iter().zip(&appended);
    for (own, other) in both {
        assert_eq!(essence(own), essence(other), "seed {seed}");
    }
    assert_eq!(appended.len(), gateway.log.len(), "seed {seed}");
    let open = journal.open_effects().await.unwrap();
    let mut open: Vec<effect::Key> = open.iter().map(|open| open.effect.key()).collect();
    open.sort_unstable();
    let own: Vec<effect::Key> = gateway.open.keys().cloned().collect();
    assert_eq!(open, own, "seed {seed}");
    assert!(view.read().world == gateway.committed.world, "seed {seed}");
    drop(handle);
    deciding.await.unwrap().unwrap();
}

async fn read_all(journal: &MemoryJournal) -> Vec<RecordedEvent> {
    let mut all: Vec<RecordedEvent> = Vec::new();
    loop {
        let after = u64::try_from(all.len()).unwrap();
        let some = journal.read(after, usize::MAX).await.unwrap();
        if some.is_empty() {
            return all;
        }
        all.extend(some);
    }
}

/// What does not depend on how an event is stored.
const fn essence(recorded: &RecordedEvent) -> (u64, keywheel_core::time::Timestamp, &Event) {
    (recorded.number, recorded.time, &recorded.event)
}
