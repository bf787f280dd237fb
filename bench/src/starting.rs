//! Restarts and starts beside the engine's own.

use std::time::Duration;

use anyhow::{Context as _, Result};
use keywheel_bench::engine_api;
use keywheel_bench::samples::Samples;
use keywheel_tests::docker::{Container, docker};
use keywheel_tests::manifest;
use keywheel_tests::scratch::unique;
use keywheel_tests::stage::{Stage, find};
use serde_json::Value;

use crate::Line;

/// Pairs of restarts.
const RESTARTS: usize = 15;
/// Starts of each kind.
const STARTS: usize = 30;
const TOKEN: &str = "bench/api-token";
const PLACEHOLDER: &str = "API_TOKEN={keywheel:bench/api-token}";

fn apply_env(stage: &Stage) -> Result<()> {
    let reload = "{ restart: { settle: 1s } }";
    let binding = manifest::env_binding("bench-env", TOKEN, &stage.on("env"), "API_TOKEN", reload);
    stage
        .keywheel
        .apply(&(manifest::secret(TOKEN, &[]) + &binding))?;
    stage.wait_current(TOKEN, 1)
}

fn line(key: &str, what: &str, samples: Samples, budget: &'static str) -> Line {
    Line {
        key: key.to_owned(),
        what: what.to_owned(),
        samples,
        budget,
    }
}

/// An environment consumer's change beside a bare restart, in turns.
pub(crate) fn restart() -> Result<Vec<Line>> {
    let stage = Stage::set()?;
    apply_env(&stage)?;
    let consumer = stage.run("env", &["-e", PLACEHOLDER], "/bin/app-env")?;
    let bare = Container::run(&stage.image, &[], &["/bin/app-env"])?;
    let (mut ours, mut theirs, mut ratio) =
        (Samples::default(), Samples::default(), Samples::default());
    for _ in 0..RESTARTS {
        let bare_span = engine_api::restart(bare.id())?;
        theirs.add_span(bare_span);
        let answer = stage.rotate(TOKEN)?;
        let latency = find(&answer, "latency_ms")
            .and_then(Value::as_f64)
            .context("no latency_ms")?;
        ours.add(latency);
        ratio.add(latency / (bare_span.as_secs_f64() * 1e3));
    }
    drop(consumer);
    Ok(vec![
        line(
            "env_restart",
            "env: promote committed -> new process runs",
            ours,
            "-",
        ),
        line(
            "bare_restart",
            "a bare restart by the engine's API",
            theirs,
            "-",
        ),
        line("env_restart_ratio", "ratio of each pair", ratio, "<= 1.15"),
    ])
}

/// Creates a container, starts it by the API, removes it.
fn started(stage: &Stage, flags: &[&str]) -> Result<Duration> {
    let name = unique("kwb");
    let image = stage.image.tag();
    let words = [
        &["create", "--name", &name, "--network", "none"],
        flags,
        &[image, "/bin/app-env"],
    ]
    .concat();
    let id = docker(&words)?.ok()?.stdout.trim().to_owned();
    let took = engine_api::start(&id);
    docker(&["rm", "-f", &id])?.ok()?;
    took
}

/// What is started: key, words, flags, and the budget over a plain start.
type Kind<'a> = (&'a str, &'a str, Vec<&'a str>, &'static str);

fn kinds(runtime: &str) -> Vec<Kind<'_>> {
    vec![
        ("bare", "no secret", vec!["--runtime", runtime], "p50 <= 5"),
        (
            "file",
            "a file",
            vec!["--runtime", runtime, "--label", "app=file"],
            "p50 <= 25",
        ),
        (
            "env",
            "a variable",
            vec![
                "--runtime",
                runtime,
                "--label",
                "app=env",
                "-e",
                PLACEHOLDER,
            ],
            "p50 <= 25",
        ),
    ]
}

/// Container starts: under the runtime without secrets, with file and env, each beside a plain one.
pub(crate) fn start() -> Result<Vec<Line>> {
    let stage = Stage::set()?;
    stage.apply_file("file", "none")?;
    apply_env(&stage)?;
    let mut plain = Samples::default();
    let mut lines = Vec::new();
    for (key, what, flags, budget) in kinds(&stage.runtime) {
        let (mut ours, mut over) = (Samples::default(), Samples::default());
        for _ in 0..STARTS {
            let bare = started(&stage, &[])?;
            let with = started(&stage, &flags)?;
            plain.add_span(bare);
            ours.add_span(with);
            over.add((with.as_secs_f64() - bare.as_secs_f64()) * 1e3);
        }
        lines.push(line(
            &format!("start_{key}"),
            &format!("start under keywheel, {what}"),
            ours,
            "-",
        ));
        lines.push(line(
            &format!("start_{key}_over"),
            "  over the plain start of the same pair",
            over,
            budget,
        ));
    }
    lines.insert(0, line("start_plain", "start under plain runc", plain, "-"));
    Ok(lines)
}
