//! One container in another's place, and back again when that does not do.
//!
//! Invariants: the new one is created, connected and compared while the old one runs, so that what the
//! engine refuses costs nothing; the two never run at once; whatever fails after the stop, the old one
//! gets its name back and is started. Between two steps it heeds who wants to stop it, within none.

use std::time::Duration;

use keywheel_daemon::{Shutdown, SystemClock};
use keywheel_engine::port::clock::Clock as _;
use serde_json::Value;
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::engine::Engine;
use super::equal;
use super::grant::Gate;
use super::json::text;
use super::recreate::{Recreation, name, short};
use crate::exit::{Exit, Failure};
use crate::output::tame;

/// How often the new one is looked at until it is healthy.
const LOOK: Duration = Duration::from_millis(200);
/// Most characters of a health check's word.
const MAX_WORD_CHARS: usize = 40;

/// Names of the three states of a migration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// The container's own.
    pub(super) own: String,
    /// The new one's until it takes the own.
    pub(super) new: String,
    /// The old one's after it gave its own away.
    pub(super) old: String,
}

impl Names {
    /// Of a container.
    pub(super) fn of(own: &str) -> Self {
        Self {
            own: own.to_owned(),
            new: format!("{own}-being-migrated"),
            old: format!("{own}-before-migrate"),
        }
    }
}

/// What a person types to put the old one back, by ids: names may be either's.
pub(super) fn by_hand(new: Option<&str>, old: &str, own: &str) -> String {
    let old = short(old);
    let first = new.map_or_else(String::new, |new| format!("docker rm -f {}; ", short(new)));
    format!("put it back by hand: `{first}docker rename {old} {own}; docker start {old}`")
}

/// Who may stop a migration: asked between its steps.
#[derive(Debug)]
pub(super) struct Interrupt {
    asked: Shutdown,
    /// A terminal that goes ends nothing while this is held.
    _hangup: Signal,
}

impl Interrupt {
    /// From now on signals end no step, but the run.
    pub(super) fn listen() -> Result<Self, Failure> {
        let unheard = |error: String| {
            Failure::new(
                Exit::Unexpected,
                format!("signals cannot be listened for: {error}"),
                "check the limit of files, then repeat the command",
            )
        };
        let asked = Shutdown::new();
        asked
            .on_signals()
            .map_err(|error| unheard(keywheel_daemon::chain(&error)))?;
        let hangup = signal(SignalKind::hangup()).map_err(|error| unheard(error.to_string()))?;
        Ok(Self {
            asked,
            _hangup: hangup,
        })
    }

    /// A failure when somebody asked.
    pub(super) fn heed(&self) -> Result<(), Failure> {
        if !self.asked.is_requested() {
            return Ok(());
        }
        Err(Failure::new(
            Exit::Partial,
            "the migration was interrupted",
            "repeat the command when it may run to its end",
        ))
    }
}

/// A container and the one that is to take its place.
#[derive(Debug)]
pub(super) struct Pair {
    /// Their names.
    pub(super) names: Names,
    /// Id of the old one.
    pub(super) old: String,
    /// Id of the new one.
    pub(super) new: String,
}

/// Creates the new one beside the old, connects it, and compares the two. Nothing is left when that fails.
pub(super) async fn create(
    engine: &Engine,
    names: &Names,
    before: &Value,
    recreation: &Recreation,
    env: Vec<String>,
) -> Result<Pair, Failure> {
    let new = engine.create(&names.new, &recreation.body(env)).await?;
    let pair = Pair {
        names: names.clone(),
        old: text(before, "Id").to_owned(),
        new,
    };
    match connect(engine, &pair, before, recreation).await {
        Ok(()) => Ok(pair),
        Err(failure) => Err(discard(engine, &pair, failure).await),
    }
}

async fn connect(
    engine: &Engine,
    pair: &Pair,
    before: &Value,
    recreation: &Recreation,
) -> Result<(), Failure> {
    for (network, settings) in &recreation.networks.others {
        engine.connect(&pair.new, network, settings).await?;
    }
    for network in &recreation.networks.left {
        engine.disconnect(&pair.new, network).await?;
    }
    let made = engine.inspect(&pair.new).await?;
    let made = made.map(|made| made.about).unwrap_or_default();
    let differences = equal::differences(before, &made);
    if differences.is_empty() {
        return Ok(());
    }
    Err(Failure::new(
        Exit::Conflict,
        format!(
            "Docker makes another container of {}: {} would differ",
            pair.names.own,
            tame(&differences.join(", "))
        ),
        "recreate it by hand (deploy/docs/migrate.md), and report these names with what `docker version` prints",
    ))
}

/// Removes a new one that never ran.
pub(super) async fn discard(engine: &Engine, pair: &Pair, failure: Failure) -> Failure {
    match engine.remove(&pair.new).await {
        Ok(()) => Failure {
            what: format!("{}\nthe container was not touched", failure.what),
            ..failure
        },
        Err(left) => Failure {
            what: format!(
                "{}\nthe container was not touched; the new one, {}, is left: {}",
                failure.what, pair.names.new, left.what
            ),
            next: Some(format!("`docker rm {}`", pair.names.new)),
            ..failure
        },
    }
}

/// Puts the new one in the old one's place and waits until it is healthy; else everything back.
pub(super) async fn swap(
    engine: &Engine,
    pair: &Pair,
    gate: Gate,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    match exchange(engine, pair, gate, interrupt).await {
        Ok(()) => Ok(()),
        Err(failure) => Err(put_back(engine, pair, failure).await),
    }
}

async fn exchange(
    engine: &Engine,
    pair: &Pair,
    gate: Gate,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    interrupt.heed()?;
    engine.stop(&pair.old).await?;
    interrupt.heed()?;
    engine.rename(&pair.old, &pair.names.old).await?;
    engine.rename(&pair.new, &pair.names.own).await?;
    interrupt.heed()?;
    engine.start(&pair.new).await?;
    wait_healthy(engine, pair, gate, interrupt).await
}

/// Removes the old one, which nobody needs any more; until then its values can be read.
pub(super) async fn finish(engine: &Engine, pair: &Pair) -> Result<(), Failure> {
    engine.remove(&pair.old).await.map_err(|failure| {
        let what = format!(
            "{} runs under the runtime, but the one from before is left, with its values: {}",
            pair.names.own, failure.what
        );
        Failure::new(
            Exit::Partial,
            what,
            format!("`docker rm {}`", pair.names.old),
        )
    })
}

async fn wait_healthy(
    engine: &Engine,
    pair: &Pair,
    gate: Gate,
    interrupt: &Interrupt,
) -> Result<(), Failure> {
    let clock = SystemClock::new();
    loop {
        interrupt.heed()?;
        let about = engine.inspect(&pair.new).await?;
        let about = about.map(|about| about.about).unwrap_or_default();
        match judge(&about, gate, clock.monotonic()) {
            Verdict::Healthy => return Ok(()),
            Verdict::Waits => tokio::time::sleep(LOOK).await,
            Verdict::Fails(why) => {
                let what = format!("the new {}: {why}", pair.names.own);
                let next = "see why the application does not run: with `--wait-healthy` or `--settle` it gets longer";
                return Err(Failure::new(Exit::Partial, what, next));
            }
        }
    }
}

/// What is to be thought of a container that was started so long ago.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Healthy,
    Waits,
    Fails(String),
}

fn judge(about: &Value, gate: Gate, since: Duration) -> Verdict {
    let is = |pointer: &str| about.pointer(pointer).and_then(Value::as_bool) == Some(true);
    let number = |pointer: &str| about.pointer(pointer).and_then(Value::as_i64).unwrap_or(0);
    if !is("/State/Running") || is("/State/Restarting") || number("/RestartCount") > 0 {
        let code = number("/State/ExitCode");
        return Verdict::Fails(format!("its program ended with code {code}"));
    }
    let health = about
        .pointer("/State/Health/Status")
        .and_then(Value::as_str);
    match health.unwrap_or("none") {
        "none" | "" if since >= gate.settle => Verdict::Healthy,
        "none" | "" => Verdict::Waits,
        "healthy" => Verdict::Healthy,
        "unhealthy" => Verdict::Fails("its health check says unhealthy".to_owned()),
        word if since >= gate.healthy => {
            let word: String = tame(word).chars().take(MAX_WORD_CHARS).collect();
            let seconds = gate.healthy.as_secs();
            Verdict::Fails(format!("its health check says {word} after {seconds} s"))
        }
        _ => Verdict::Waits,
    }
}

async fn put_back(engine: &Engine, pair: &Pair, failure: Failure) -> Failure {
    let own = &pair.names.own;
    match restore(engine, pair).await {
        Ok(()) => Failure {
            what: format!(
                "{}\nthe {own} from before is back, and runs as it did",
                failure.what
            ),
            ..failure
        },
        Err(fault) => Failure::new(
            Exit::Partial,
            format!(
                "{}\nand the {own} from before could not be put back: {}",
                failure.what, fault.what
            ),
            by_hand(Some(&pair.new), &pair.old, own),
        ),
    }
}

async fn restore(engine: &Engine, pair: &Pair) -> Result<(), Failure> {
    engine.remove(&pair.new).await?;
    let gone = || {
        Failure::new(
            Exit::NotFound,
            "it is not there any more",
            "look for it with `docker ps -a`",
        )
    };
    let old = engine.inspect(&pair.old).await?.ok_or_else(gone)?;
    if name(&old.about) != pair.names.own {
        engine.rename(&pair.old, &pair.names.own).await?;
    }
    engine.start(&pair.old).await
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const GATE: Gate = Gate {
        settle: Duration::from_secs(10),
        healthy: Duration::from_secs(60),
    };

    fn after(seconds: u64, state: Value) -> Verdict {
        let about = json!({ "State": state, "RestartCount": 0 });
        judge(&about, GATE, Duration::from_secs(seconds))
    }

    #[test]
    fn without_a_health_check_it_has_to_run_for_its_time() {
        let runs = || json!({ "Running": true, "ExitCode": 0 });
        assert_eq!(after(9, runs()), Verdict::Waits);
        assert_eq!(after(10, runs()), Verdict::Healthy);
        let ended = after(1, json!({ "Running": false, "ExitCode": 3 }));
        assert_eq!(
            ended,
            Verdict::Fails("its program ended with code 3".to_owned())
        );
        let again = json!({ "State": runs(), "RestartCount": 1 });
        assert!(matches!(
            judge(&again, GATE, Duration::ZERO),
            Verdict::Fails(_)
        ));
        assert!(matches!(after(1, json!({})), Verdict::Fails(_)));
    }

    #[test]
    fn a_health_check_decides_when_there_is_one() {
        let says = |word: &str| json!({ "Running": true, "Health": { "Status": word } });
        assert_eq!(after(30, says("starting")), Verdict::Waits);
        assert_eq!(after(1, says("healthy")), Verdict::Healthy);
        for failed in [after(1, says("unhealthy")), after(60, says("starting"))] {
            assert!(matches!(failed, Verdict::Fails(_)), "{failed:?}");
        }
    }

    #[test]
    fn what_a_person_types_never_removes_the_old_one() {
        let (new, old) = ("a".repeat(64), "b".repeat(64));
        let short = &old[..12];
        assert_eq!(
            by_hand(Some(&new), &old, "web"),
            format!(
                "put it back by hand: `docker rm -f {}; docker rename {short} web; docker start {short}`",
                &new[..12]
            )
        );
        assert!(!by_hand(None, &old, "web").contains("rm"));
    }
}
