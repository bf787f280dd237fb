//! `keywheel-runtime`: the OCI runtime wrapper. On `create` it puts secrets in place, then the real runtime works.
//!
//! Every other command execs the real runtime with unchanged arguments, `run` and `restore` only without
//! placeholders; the container's own health check gets its variables on `exec`. It never changes the engine's own bundle, never writes a resolved value anywhere but to the injector's
//! memory-only directory, and refuses rather than let a container start without what it was promised. It decides no
//! entitlement: the injector answers, this obeys.
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
mod config;
mod create;
mod exec;
mod failpoint;
mod kept;
mod real;
mod refuse;
mod times;

use std::process::ExitCode;

use crate::args::Invocation;
use crate::create::Outcome;

fn main() -> ExitCode {
    let invocation = Invocation::parse(std::env::args_os().skip(1));
    let outcome = match invocation.create() {
        None => match (invocation.direct_start(), invocation.exec()) {
            (Some(start), _) => create::check_direct(&start),
            (None, Some(exec)) => Ok(exec::run(&invocation, &exec)),
            (None, None) => Ok(Outcome::PassThrough),
        },
        Some(create) => create.and_then(|create| create::run(&invocation, &create)),
    };
    let refusal = match outcome {
        Ok(Outcome::Done(code)) => return code,
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
