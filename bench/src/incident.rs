//! What an incident costs beside its containers: one credential until a real PostgreSQL has refused it, and ten
//! thousand secrets under one prefix in one request.
//!
//! Invariants: only what was proven by a login that was refused counts as dead; a secret that was not revoked, or
//! whose data key is left, is no figure.

use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use keywheel_bench::due;
use keywheel_bench::engine_api::now;
use keywheel_bench::samples::Samples;
use keywheel_testkit::server::postgres::PostgresServer;
use keywheel_tests::keywheel::Keywheel;
use keywheel_tests::manifest;
use serde_json::Value;

use crate::{Line, rotations};

/// Secrets under the prefix.
const SECRETS: usize = 10_000;
/// Secrets in one apply.
const BATCH: usize = 500;
const PREFIX: &str = "many";

/// Measures both.
pub(crate) fn incident() -> Result<Vec<Line>> {
    let mut lines = proven()?;
    lines.extend(prefix()?);
    Ok(lines)
}

/// Each account is revoked by itself, one after the other.
fn proven() -> Result<Vec<Line>> {
    let server = PostgresServer::start();
    let stage = rotations::with_accounts(&server)?;
    let (mut dead, mut proven) = (Samples::new(), Samples::new());
    for number in 0..rotations::POSTGRES.secrets {
        let name = rotations::POSTGRES.secret(number);
        let words = ["revoke", &name, "--reason", "benchmark", "--yes", "--wait"];
        let answer = stage.keywheel.json(&words)?;
        let proof = answer.pointer("/states/proof").and_then(Value::as_str);
        ensure!(proof == Some("proven_dead"), "{answer}");
        dead.add(span(&answer, "dead_ms")?);
        proven.add(span(&answer, "proven_ms")?);
    }
    let what = "revoke requested -> PostgreSQL";
    Ok(vec![
        line("incident_dead", format!("{what}: locked there"), dead),
        line("incident_proven", format!("{what}: login refused"), proven),
    ])
}

fn span(answer: &Value, name: &str) -> Result<f64> {
    let told = answer.pointer(&format!("/states/{name}"));
    let told = told.and_then(Value::as_f64);
    told.with_context(|| format!("no `{name}` in {answer}"))
}

/// All of them in one request, and until the last data key is gone.
fn prefix() -> Result<Vec<Line>> {
    let keywheel = Keywheel::start()?;
    let before = due::completed(&keywheel)?;
    for first in (0..SECRETS).step_by(BATCH) {
        let mut text = String::new();
        for number in first..SECRETS.min(first + BATCH) {
            let name = format!("{PREFIX}/s{number}");
            let _ = write!(text, "{}", manifest::secret(&name, &[]));
        }
        keywheel.apply(&text)?;
    }
    due::wait_completed(&keywheel, before + SECRETS)?;
    due::wait_rest(&keywheel)?;
    let words = ["revoke", "--prefix", PREFIX, "--emergency"];
    let sure = ["--reason", "benchmark", "--yes"];
    let begun = now();
    let answer = keywheel.json(&[&words[..], &sure].concat())?;
    let answered = begun.elapsed();
    due::wait_revoked(&keywheel)?;
    let closed = begun.elapsed();
    let count = |name: &str| answer[name].as_array().map_or(0, Vec::len);
    ensure!(
        (count("revocations"), count("refused")) == (SECRETS, 0),
        "{} of {SECRETS} were revoked",
        count("revocations")
    );
    let what = format!("{SECRETS} secrets under a prefix revoked");
    let mut samples = [Samples::new(), Samples::new()];
    samples[0].add_span(answered);
    samples[1].add_span(closed);
    let [answered, closed] = samples;
    Ok(vec![
        line(
            "incident_prefix",
            format!("{what}: dead, answered"),
            answered,
        ),
        line(
            "incident_prefix_closed",
            format!("{what}: all closed"),
            closed,
        ),
    ])
}

fn line(key: &str, what: String, samples: Samples) -> Line {
    Line {
        key: key.to_owned(),
        what,
        samples,
        budget: "-",
    }
}
