//! A thousand secrets whose slot is the same second, used by a hundred containers: how long until all have
//! rotated, what memory that takes, and how long a revoke takes that a person asks for in the middle of it.
//! OpenBao's agent, at its shortest interval, changes as many files in the same run.
//!
//! Invariants: times are the log's; a revoke that was not in the middle is no figure.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use keywheel_bench::deployment::clock;
use keywheel_bench::due::{self, Shape, Slot};
use keywheel_bench::samples::Samples;
use keywheel_tests::docker::Container;
use keywheel_tests::manifest;
use keywheel_tests::stage::{Stage, find};
use serde_json::Value;

use crate::agent::Agent;
use crate::{Line, peak_mb, resident_mb};

/// Secrets and containers; groups of both: one container a secret, and ten.
const SECRETS: usize = 1000;
const CONTAINERS: usize = 100;
const GROUPS: [usize; 2] = [100, 10];
/// Applying all takes less.
const LEAD: Duration = Duration::from_secs(30);
/// Revokes at rest.
const RESTS: usize = 5;
/// The share of all that has rotated when a person revokes.
const MIDDLE: usize = SECRETS / 10;
/// Changes at the agent.
const CHANGES: u32 = 3;
/// What is revoked: every container has it.
const URGENT: &str = "due/urgent";
const EVERYONE: &str = "everyone";

/// Measures both shapes, and the agent.
pub(crate) fn due_at_once() -> Result<Vec<Line>> {
    let mut lines = Vec::new();
    for groups in GROUPS {
        let shape = Shape {
            secrets: SECRETS,
            containers: CONTAINERS,
            groups,
        };
        lines.extend(measure(&shape)?);
    }
    lines.extend(agent()?);
    Ok(lines)
}

fn measure(shape: &Shape) -> Result<Vec<Line>> {
    let stage = Stage::set()?;
    let pid = stage.keywheel.pid().context("up does not run")?;
    shape.declare(&stage)?;
    declare_urgent(&stage)?;
    let containers = (0..CONTAINERS)
        .map(|number| {
            let everyone = format!("bench={EVERYONE}");
            let flags = ["--label", everyone.as_str()];
            stage.run(&shape.group(number), &flags, "/bin/app-idle")
        })
        .collect::<Result<Vec<Container>>>()?;
    let mut rest = Samples::new();
    for _ in 0..RESTS {
        stage.rotate(URGENT)?;
        rest.add(revoke(&stage)?);
    }
    stage.rotate(URGENT)?;
    due::wait_rest(&stage.keywheel)?;
    let before = resident_mb(pid)?;
    let (ended, middle) = run(&stage, shape)?;
    let memory = [before, resident_mb(pid)?, peak_mb(pid)?];
    drop(containers);
    Ok(lines(shape, &ended, (rest, middle), memory))
}

/// All are due; milliseconds to the end of each, and those of the revoke in the middle.
fn run(stage: &Stage, shape: &Shape) -> Result<(Vec<f64>, f64)> {
    let keywheel = &stage.keywheel;
    let completed = due::completed(keywheel)?;
    let head = due::head(keywheel)?;
    let slot = Slot::after(clock().now(), LEAD);
    shape.schedule(stage, &slot)?;
    due::wait_completed(keywheel, completed + MIDDLE)?;
    let middle = revoke(stage)?;
    due::wait_completed(keywheel, completed + SECRETS)?;
    due::wait_rest(keywheel)?;
    let (events, ended) = due::ends(keywheel, &head, &slot, SECRETS)?;
    let revoked = slot.to_first(&events, "revocation.requested");
    let revoked = revoked.context("the log has no revoke")?;
    let later = ended.iter().filter(|ended| **ended > revoked).count();
    ensure!(
        later > 0 && later < SECRETS,
        "the revoke was not in the middle: {later} rotations ended after it"
    );
    Ok((ended, middle))
}

fn revoke(stage: &Stage) -> Result<f64> {
    let words = ["revoke", URGENT, "--reason", "benchmark", "--yes", "--wait"];
    let answer = stage.keywheel.json(&words)?;
    let withdrawn = find(&answer, "withdrawn_ms").and_then(Value::as_f64);
    withdrawn.with_context(|| format!("no `withdrawn_ms` in {answer}"))
}

/// One more secret, with a version, in every container.
fn declare_urgent(stage: &Stage) -> Result<()> {
    let on = stage.on(EVERYONE);
    let binding = manifest::file_binding("due-urgent", URGENT, &on, "urgent", "none");
    // The label `app` says the group.
    let binding = binding.replace("{ app: ", "{ bench: ");
    stage
        .keywheel
        .apply(&(manifest::secret(URGENT, &[]) + &binding))?;
    stage.wait_current(URGENT, 1)
}

fn lines(
    shape: &Shape,
    ended: &[f64],
    (rest, middle): (Samples, f64),
    [before, after, peak]: [f64; 3],
) -> Vec<Line> {
    let files = shape.files();
    let key = |what: &str| format!("due_{files}_{what}");
    let mut each = Samples::new();
    ended.iter().for_each(|ended| each.add(*ended));
    let last = each.quantile(1.0);
    let line = |what: &str, words: String, samples| Line {
        key: key(what),
        what: words,
        samples,
        budget: "-",
    };
    let due = format!("{SECRETS} due at once, {files} files a container");
    vec![
        line("closed", format!("{due}: due -> closed, each"), each),
        line("all_closed", format!("{due}: all closed"), one(last)),
        line(
            "rate",
            format!("{due}: rotations a second"),
            one(SECRETS as f64 / (last / 1e3)),
        ),
        line(
            "revoke_rest",
            format!("revoke -> gone from {CONTAINERS}, at rest"),
            rest,
        ),
        line(
            "revoke_middle",
            format!("revoke -> gone from {CONTAINERS}, in the middle"),
            one(middle),
        ),
        line(
            "memory_before",
            "memory of `up` before, MB".to_owned(),
            one(before),
        ),
        line(
            "memory_after",
            "memory of `up` after, MB".to_owned(),
            one(after),
        ),
        line(
            "memory_peak",
            "memory of `up` at most, MB".to_owned(),
            one(peak),
        ),
    ]
}

/// As many files by OpenBao's agent.
fn agent() -> Result<Vec<Line>> {
    let agent = Agent::start(SECRETS)?;
    let (mut each, mut all) = (Samples::new(), Samples::new());
    for turn in 1..=CHANGES {
        let changed = agent.change(turn)?;
        all.add(changed.quantile(1.0));
        each.extend(&changed);
    }
    let line = |key: &str, what: String, samples| Line {
        key: key.to_owned(),
        what,
        samples,
        budget: "-",
    };
    Ok(vec![
        line(
            "due_agent_file",
            format!("OpenBao agent, 1 s, {SECRETS} changed: each file"),
            each,
        ),
        line(
            "due_agent_all",
            format!("OpenBao agent, 1 s, {SECRETS} changed: all files"),
            all,
        ),
        line(
            "due_agent_memory",
            "memory of the agent at most, MB".to_owned(),
            one(peak_mb(agent.pid())?),
        ),
    ])
}

fn one(number: f64) -> Samples {
    let mut samples = Samples::new();
    samples.add(number);
    samples
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_are_told_apart_and_their_rate_is_that_of_the_last_end() {
        let mut keys = std::collections::BTreeSet::new();
        for groups in GROUPS {
            let shape = Shape {
                secrets: SECRETS,
                containers: CONTAINERS,
                groups,
            };
            let told = lines(&shape, &[500.0, 4000.0], (one(30.0), 60.0), [1.0, 2.0, 3.0]);
            let rate = told.iter().find(|line| line.key.ends_with("_rate"));
            assert_eq!(rate.map(|line| line.samples.p50()), Some(250.0));
            let count = told.len();
            keys.extend(told.into_iter().map(|line| line.key));
            assert!(keys.len() >= count);
        }
        assert!(keys.contains("due_10_closed") && keys.contains("due_100_revoke_middle"));
    }
}
