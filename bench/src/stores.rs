//! Ten thousand secrets in one store: how long a round of looks takes when nothing changed there, how
//! many requests it costs, and how much memory `keywheel up` needs for it. A real OpenBao.
//!
//! Invariant: every secret has a path of its own, so no look is shared; requests are counted by a
//! proxy before the server, in a round that is not timed.

use std::fmt::Write as _;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_testkit::server::fault::FaultProxy;
use keywheel_testkit::server::openbao::{OpenBao, ROOT};
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::{metrics, wait};
use tokio::runtime::Runtime;

use crate::{Line, resident_mb};

/// What the store is called.
pub(crate) const STORE: &str = "bench";
/// Secrets in the store.
const SECRETS: usize = 10_000;
/// Documents in one apply.
const BATCH: usize = 500;
/// Rounds that are timed.
const ROUNDS: usize = 10;
/// How long taking over all values may take.
const PATIENCE: Duration = Duration::from_secs(1800);
/// What a store's health is told by.
const KNOWN: &str = "keywheel_store_secrets{store=\"bench\"}";

/// Measures it.
pub(crate) fn stores() -> Result<Vec<Line>> {
    let bao = OpenBao::start(None);
    for number in 0..SECRETS {
        let body = format!("{{\"data\":{{\"value\":\"value-of-secret-{number:05}\"}}}}");
        bao.must("POST", &format!("secret/data/many/{number}"), &[], &body);
    }
    let keywheel = Keywheel::start()?;
    let pid = keywheel.pid().context("up does not run")?;
    let before = resident_mb(pid)?;
    let token = token(&keywheel)?;
    let store = |address: &str| declared(address, &token);
    keywheel.apply(&store(&format!("http://{}", bao.address())))?;
    let begun = now();
    declare(&keywheel)?;
    let applied = begun.elapsed();
    taken_over(&keywheel)?;
    let taken = begun.elapsed();
    let mut rounds = Samples::new();
    for _ in 0..ROUNDS {
        let begun = now();
        round(&keywheel)?;
        rounds.add_span(begun.elapsed());
    }
    let memory = resident_mb(pid)?;
    let requests = counted(&keywheel, &bao, &store)?;
    let line = |key: &str, what: &str, samples| Line {
        key: key.to_owned(),
        what: what.to_owned(),
        samples,
        budget: "-",
    };
    Ok(vec![
        line(
            "stores_declared",
            "10,000 secrets outside: applied",
            span(applied),
        ),
        line(
            "stores_taken",
            "the same: until every value is taken over",
            span(taken),
        ),
        line("stores_round", "a round of looks, nothing changed", rounds),
        line("stores_requests", "requests of a round", one(requests)),
        line(
            "stores_memory_before",
            "memory of `up` before, MB",
            one(before),
        ),
        line(
            "stores_memory",
            "memory of `up` with 10,000, MB",
            one(memory),
        ),
    ])
}

/// A file with what opens an OpenBao, as a manifest names it.
pub(crate) fn token(keywheel: &Keywheel) -> Result<String> {
    fs::create_dir_all(keywheel.credentials_dir())?;
    let token = keywheel.credentials_dir().join("token");
    fs::write(&token, ROOT)?;
    fs::set_permissions(&token, Permissions::from_mode(0o600))?;
    Ok(token.display().to_string())
}

/// The store [`STORE`] at this address.
pub(crate) fn declared(address: &str, token: &str) -> String {
    format!(
        "apiVersion: keywheel.dev/v1\nkind: Store\nmetadata: {{ name: {STORE} }}\nspec:\n  \
         vault: {{ address: \"{address}\", auth: {{ token: {{ file: \"{token}\" }} }} }}\n  poll: 24h\n---\n"
    )
}

fn one(number: f64) -> Samples {
    let mut samples = Samples::new();
    samples.add(number);
    samples
}

fn span(span: Duration) -> Samples {
    let mut samples = Samples::new();
    samples.add_span(span);
    samples
}

fn declare(keywheel: &Keywheel) -> Result<()> {
    let mut next = 0;
    while next < SECRETS {
        let mut text = String::new();
        for number in next..SECRETS.min(next + BATCH) {
            let _ = writeln!(
                text,
                "apiVersion: keywheel.dev/v1\nkind: Secret\nmetadata: {{ name: many/s{number} }}\nspec: {{ store: bench, source: {{ path: many/{number}, field: value }} }}\n---"
            );
        }
        keywheel.apply(&text)?;
        next += BATCH;
    }
    Ok(())
}

/// Waits until every secret has a version and no rotation is open.
fn taken_over(keywheel: &Keywheel) -> Result<()> {
    wait::until_true("every value to be taken over", PATIENCE, || {
        let pages = metrics::pages(keywheel)?;
        let number = |start: &str| metrics::numbers(&pages, start).iter().sum::<f64>();
        let completed = "keywheel_rotation_duration_seconds_count{outcome=\"completed\"}";
        std::thread::sleep(Duration::from_millis(250));
        Ok(number(completed) >= SECRETS as f64 && number(KNOWN) >= SECRETS as f64)
    })
}

/// One round over everything, by a person's command; each place has to be as it is known.
fn round(keywheel: &Keywheel) -> Result<()> {
    let answer = keywheel.json(&["refresh"])?;
    let results = answer["results"].as_array().context("no results")?;
    let same = results.iter().filter(|one| one["found"] == "unchanged");
    ensure!(
        same.count() == SECRETS,
        "not every place was looked at, or one changed: {} results",
        results.len()
    );
    Ok(())
}

/// Requests of one round, as a proxy before the server counts them.
fn counted(keywheel: &Keywheel, bao: &OpenBao, store: &dyn Fn(&str) -> String) -> Result<f64> {
    let runtime = Runtime::new()?;
    let proxy = runtime.block_on(FaultProxy::before(bao.address()));
    keywheel.apply(&store(&proxy.url()))?;
    // It is looked at at once because it is declared anew; after that a round is alone.
    let shown = "keywheel_store_last_look_timestamp_seconds{store=\"bench\"}";
    wait::until_true("the first round", PATIENCE, || {
        let pages = metrics::pages(keywheel)?;
        let is_shown = !metrics::numbers(&pages, shown).is_empty();
        Ok(is_shown && proxy.asked("GET /v1/secret/metadata/") >= SECRETS)
    })?;
    proxy.forget();
    round(keywheel)?;
    let asked = proxy.asked("HTTP/1.1");
    Ok(f64::from(u32::try_from(asked)?))
}
