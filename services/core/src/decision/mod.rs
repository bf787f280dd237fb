//! Decisions: one command, the world as it is, and the events of every aggregate concerned.
//!
//! A decision is one append. It reads the world, changes nothing, and either gives events or a
//! rejection. An empty list of events means: everything is as asked already.

mod approval;
mod canary;
mod drain;
mod entitle;
mod evict;
mod intervene;
mod join;
mod lease;
mod manifest;
mod order;
mod outward;
mod playbook;
mod policy;
mod refusal;
mod replace;
mod report;
mod restored;
mod revoke;
mod rollout;
mod rotate;
pub mod scope;
mod staging;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod token;

pub use canary::canaries;
pub use drain::{DrainCause, drain_cause, grace, unreloaded};
pub use entitle::{Judge, entitle, is_judged};
pub use manifest::{Action, Planned, plan_apply};
pub use playbook::{
    MAX_PLANNED_RUNS, MAX_URGENT_TEXT_BYTES, PlannedStep, is_led_over, is_urgent, next_run,
    next_urgent_run, plan_playbook,
};
pub use refusal::{Refusal, Rejection, RejectionKind};
pub use restored::MAX_BURIED;

use crate::command::Command;
use crate::event::Event;
use crate::name::SecretName;
use crate::rotation;
use crate::secret;
use crate::time::Timestamp;
use crate::world::World;

/// What a decision may know besides the world.
#[derive(Debug, Clone, Copy)]
pub struct Context {
    /// Now.
    pub now: Timestamp,
    /// Sixteen random bytes, drawn once per command; further ids are counted up from them.
    pub seed: [u8; 16],
    /// How hosts become known here.
    pub enrolment: Enrolment,
}

/// How hosts become known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Enrolment {
    /// The one host is the gateway's own machine, and its injector runs in the same program.
    #[default]
    Local,
    /// Hosts join with tokens and are known by the keys they pinned then.
    ByToken,
}

impl Context {
    /// The n-th id of this command.
    #[must_use]
    pub fn id(&self, n: u32) -> [u8; 16] {
        let mut bytes = self.seed;
        for (byte, count) in bytes.iter_mut().rev().zip(n.to_le_bytes()) {
            *byte ^= count;
        }
        bytes
    }

    /// The context of one of several decisions that one command takes: its ids are others than theirs.
    #[must_use]
    fn part(&self, n: usize) -> Self {
        let mut part = *self;
        for (byte, count) in part.seed.iter_mut().skip(9).zip(n.to_le_bytes()).take(3) {
            *byte ^= count;
        }
        part
    }
}

/// Decides one command.
///
/// # Errors
/// With the reason when the command is refused, and what happened all the same.
pub fn decide(world: &World, command: &Command, ctx: &Context) -> Result<Vec<Event>, Refusal> {
    let mut events = decide_alone(world, command, ctx)?;
    replace::follow(world, &mut events)?;
    order::wait_for(world, &mut events);
    Ok(events)
}

fn decide_alone(world: &World, command: &Command, ctx: &Context) -> Result<Vec<Event>, Refusal> {
    Ok(match command {
        Command::JoinHost(joining) => return join::join(world, joining, ctx),
        Command::Approval(request) => return approval::decide(world, request, ctx),
        Command::IssueJoinToken(wish) => join::issue_token(world, wish, ctx),
        Command::Apply(declarations) => manifest::apply(world, declarations, ctx),
        Command::Unbind { name } => manifest::unbind(world, name),
        Command::RemoveStore { name } => store::remove(world, name),
        Command::Observed(seen) => store::observed(world, seen, ctx),
        Command::StoreContact { store, failure } => store::note(world, *store, failure.as_deref()),
        Command::Put {
            id,
            rotation,
            name,
            provided,
        } => rotate::put(world, *id, *rotation, name, *provided, ctx),
        Command::Rotate { rotation, secret } => rotate::on_demand(world, *rotation, secret, ctx),
        Command::Intervene {
            rotation,
            intervention,
            reason,
        } => intervene::intervene(world, *rotation, *intervention, reason, ctx),
        Command::Due {
            rotation,
            secret,
            slot,
            scheduled: at,
            after,
            tzdata,
        } => rotate::due(world, *rotation, *secret, (*slot, *at, tzdata), *after, ctx),
        Command::EnrolHost {
            host,
            name,
            sealing_key,
        } => join::enrol(world, *host, name, *sealing_key, ctx),
        Command::RotateHostKey(next) => join::rotate_keys(world, next),
        Command::NotePermit(wish) => join::note_permit(world, wish, ctx),
        Command::EvictHost { host, reason } => evict::evict(world, *host, reason, ctx),
        Command::StepOutcome {
            rotation,
            step,
            attempt,
            failure,
            is_away,
            remote,
            sessions,
        } => {
            let (failed, told) = (failure.as_deref(), (remote.as_ref(), *sessions));
            let answer = rotate::Answer::new((*step, *attempt), failure_of(failed, *is_away), told);
            rotate::outcome(world, *rotation, &answer, ctx)
        }
        Command::RetryStep { rotation } => rotate::retry(world, *rotation),
        Command::DeadlinePassed { rotation } => intervene::deadline(world, *rotation, ctx.now),
        Command::Report(report) => report::record(world, report, ctx),
        Command::LingerEnded { secret } => lease::end(world, *secret, ctx),
        Command::Outward(wish) => outward::decide(world, wish),
        Command::Playbook(request) => playbook::decide(world, request, ctx),
        Command::ApplyPolicies(wish) => policy::apply(world, wish),
        Command::Token(request) => token::decide(world, request, ctx),
        Command::BuryLost(lost) => restored::bury(world, lost),
        // Whoever judges has the last word on what it leads to.
        Command::JudgeBindings => Ok(Vec::new()),
        Command::Revoke { .. }
        | Command::Replace(_)
        | Command::RevokeOutcome { .. }
        | Command::RetryRevoke { .. }
        | Command::ProofOutcome { .. }
        | Command::ForgetRevocation { .. } => decide_about_revocation(world, command, ctx),
    }?)
}

/// What is decided about a revocation.
fn decide_about_revocation(
    world: &World,
    command: &Command,
    ctx: &Context,
) -> Result<Vec<Event>, Rejection> {
    match command {
        Command::Revoke {
            revocation,
            secret,
            version,
            reason,
            is_emergency,
        } => lease::revoke(
            world,
            (*revocation, secret),
            *version,
            (reason, *is_emergency),
            ctx,
        ),
        Command::Replace(wish) => replace::request(world, wish, ctx),
        Command::RevokeOutcome {
            revocation,
            attempt,
            failure,
        } => revoke::outcome(world, *revocation, *attempt, failure.as_deref()),
        Command::RetryRevoke { revocation } => revoke::retry(world, *revocation),
        Command::ProofOutcome(taken) => revoke::proof(world, taken),
        Command::ForgetRevocation {
            revocation,
            by,
            reason,
        } => revoke::forget(world, *revocation, (by, reason), ctx.now),
        _ => Ok(Vec::new()),
    }
}

fn failure_of(reason: Option<&str>, is_away: bool) -> Option<rotation::Failure<'_>> {
    reason.map(|reason| rotation::Failure { reason, is_away })
}

fn secret_or_reject<'w>(
    world: &'w World,
    name: &SecretName,
) -> Result<&'w secret::Secret, Rejection> {
    world.secret_named(name).ok_or_else(|| {
        let nearest = world
            .secrets
            .values()
            .map(|s| &s.name)
            .min_by_key(|n| distance(n.as_str(), name.as_str()));
        let near = nearest
            .filter(|n| distance(n.as_str(), name.as_str()) <= 3)
            .cloned();
        Rejection::SecretUnknown {
            name: name.clone(),
            nearest: near,
        }
    })
}

/// Edit distance, for "did you mean".
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<u8> = b.bytes().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.bytes().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (j, y) in b.iter().enumerate() {
            let above = row.get(j + 1).copied().unwrap_or(usize::MAX);
            let cost = (diagonal + usize::from(x != *y))
                .min(above + 1)
                .min(left + 1);
            diagonal = above;
            if let Some(cell) = row.get_mut(j) {
                *cell = left;
            }
            left = cost;
        }
        if let Some(cell) = row.last_mut() {
            *cell = left;
        }
    }
    row.last().copied().unwrap_or(0)
}
