//! The shipped playbooks over the real core and the real command bus, with the gateway killed before and after
//! every append of a run: each ends as if nobody had died, no step is begun or ended twice, and nothing is done
//! twice outside. Bugs that forget, repeat or lose a token are planted, and found.
//!
//! What is killed here is the deciding task over a journal in memory; whole programs are killed in
//! `tests/system/crash_points`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod cut;
mod ending;
mod laws;
mod life;
mod outside;
mod scene;
mod store;
mod sweep;

use cut::{Deaths, Planted};
use scene::{SCENARIOS, Scenario};
use sweep::{Sweep, run};

/// Fewer places than any scenario has: less was not the whole run.
const FEWEST_PLACES: u64 = 30;

fn scenario(name: &str) -> &'static Scenario {
    let mut all = SCENARIOS.iter();
    all.find(|one| one.name == name).unwrap()
}

#[tokio::test]
async fn killed_before_or_after_any_append_every_playbook_ends_as_if_nobody_had_died() {
    for scenario in &SCENARIOS {
        let sweep = Sweep::of(scenario, None).await;
        let sweep = sweep.unwrap_or_else(|fault| panic!("{}: {fault}", scenario.name));
        let places = sweep.places();
        assert!(
            places >= FEWEST_PLACES,
            "{}: {places} places",
            scenario.name
        );
        let found = sweep.find().await;
        assert_eq!(found, None, "{}", scenario.name);
    }
}

#[tokio::test]
async fn killed_before_and_after_every_append_in_turn_every_playbook_ends_as_if_nobody_had_died() {
    for scenario in &SCENARIOS {
        let whole = run(scenario, Deaths::Never, None).await.unwrap();
        let died = run(scenario, Deaths::BeforeAndAfterEach, None).await;
        let died = died.unwrap_or_else(|fault| panic!("{}: {fault}", scenario.name));
        assert_eq!(died.ending, whole.ending, "{}", scenario.name);
        // Each append was lost once and made once, and both ended a life.
        assert!(
            died.deaths >= whole.places,
            "{}: {} deaths at {} places",
            scenario.name,
            died.deaths,
            whole.places
        );
    }
}

#[tokio::test]
async fn each_planted_bug_is_found_by_a_kill_and_by_nothing_else() {
    let planted = [
        (Planted::FactBesideDeed, "leaked", "acted twice"),
        (Planted::StepAnew, "leaked", "began twice"),
        (Planted::NoToken, "leaked", "credentials were made"),
        (Planted::MessageAnew, "told", "was told twice"),
        (Planted::CommandAnew, "host", "runs were begun"),
    ];
    for (bug, name, trace) in planted {
        // Without a kill nobody sees it: the run ends as it should.
        let sweep = Sweep::of(scenario(name), Some(bug)).await;
        let sweep = sweep.unwrap_or_else(|fault| panic!("{bug:?}: {fault}"));
        let found = sweep.find().await.unwrap_or_default();
        assert!(found.contains(trace), "{bug:?} was not found: {found:?}");
    }
}
