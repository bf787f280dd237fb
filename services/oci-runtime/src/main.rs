//! `keywheel-runtime`: the OCI runtime wrapper. On `create` it puts secrets in place, then the real runtime works.
//!
//! Every other command execs the real runtime with unchanged arguments, `run` and `restore` only without
//! placeholders; the container's own health check gets its variables on `exec`. It never changes the engine's own
//! bundle, never writes a resolved value anywhere but to the injector's memory-only directory, and refuses rather than
//! let a container start without what it was promised. It decides no entitlement: the injector answers, this obeys.
//! What reads and asks is a process of its own under a filter: `halves`.
#![forbid(unsafe_code)]
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::disallowed_methods
    )
)]

mod args;
mod ask;
mod base64;
mod bundle;
mod calls;
mod config;
mod create;
mod exec;
mod failpoint;
mod halves;
mod kept;
mod real;
mod refuse;
mod times;
mod work;

use std::process::ExitCode;

use crate::args::Invocation;
use crate::work::{Outcome, Work};

fn main() -> ExitCode {
    let invocation = Invocation::parse(std::env::args_os().skip(1));
    let outcome = match Work::of(&invocation) {
        None => Ok(Outcome::PassThrough),
        Some(work) => work.and_then(|work| halves::run(&invocation, &work)),
    };
    let refusal = match outcome {
        Ok(Outcome::Done(code)) => return ExitCode::from(code),
        Ok(Outcome::PassThrough) => {
            heal(&invocation);
            real::replace_self(&invocation)
        }
        Err(refusal) => refusal,
    };
    refuse::report(&invocation, &refusal);
    ExitCode::FAILURE
}

/// Before a call about a container's end, under a runtime that keeps a copy: see `kept`.
fn heal(invocation: &Invocation) {
    let Some(id) = invocation.about_end() else {
        return;
    };
    if real::find(&invocation.real_runtime).is_ok_and(|runtime| real::keeps_copy(&runtime)) {
        kept::heal(&real::crun_root(invocation.root.as_deref()), id);
    }
}
