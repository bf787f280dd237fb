//! Performing one effect and submitting its outcome.
//!
//! Invariants: the outcome's command id is derived from the effect's key, so a repeat gets the first
//! answer; a step that may have been attempted before is probed first, and is not performed when it was
//! done or when that cannot be told; a step that hangs fails at its deadline, before the bus hands the work out again; after
//! the deadline that the gateway named no call to a store is begun and no failure is told: the effect
//! is open and comes again.

use std::sync::Arc;
use std::time::Duration;

use keywheel_core::command::{Command, ProofTaken};
use keywheel_core::effect::{AtResource, Effect, Key, Outside, Part, RevokeWork, StepWork, Work};
use keywheel_core::id::CommandId;
use keywheel_core::revocation::Proof;
use keywheel_core::rotation::{Sessions, Step};
use keywheel_core::store::RemoteVersion;
use keywheel_daemon::failpoint::{self, Injected};
use keywheel_daemon::{chain, lines, names};
use keywheel_engine::port::bus::{Address, Body};
use keywheel_engine::port::journal::Verdict;
use keywheel_engine::port::rotator::{Probed, Rotator};
use keywheel_engine::port::store::LoginRefused;
use keywheel_engine::port::vault::VersionVault;
use keywheel_engine::port::{ErrorKind, PortError};
use keywheel_engine::tally::step_word;
use keywheel_engine::trace::Context;
use keywheel_engine::unseal::SEALED;
use keywheel_engine::until::Until;
use keywheel_schemas::wire::effect_key_to_string;
use keywheel_seal::digest;
use keywheel_stores::forget_leases;
use keywheel_telemetry::traces::{self, Kind, Span};

use crate::backlog::{self, Job};
use crate::outside;
use crate::seal::Seal;
use crate::service::{Ports, Shared};

/// Whose spans these are.
pub(crate) const SERVICE: &str = "store-sync";
/// How long one step, or one revocation, may take.
pub const STEP_DEADLINE: Duration = Duration::from_secs(15);
/// How long the gateway may take to answer an outcome.
pub const SUBMIT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest reason of a failure, in characters.
const MAX_REASON_CHARS: usize = 500;

/// Why an effect has to be taken up again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfinished {
    /// A test asked for it.
    #[error(transparent)]
    Injected(#[from] Injected),
    /// The gateway did not tell about the store where it is to be performed.
    #[error("nothing was heard about the work's store")]
    News(#[source] PortError),
    /// The gateway did not answer.
    #[error("the outcome was not taken")]
    Submit(#[source] PortError),
    /// It was sealed before all was done.
    #[error("store-sync is sealed; it is taken up again once it is unsealed")]
    Sealed,
    /// A store's code failed.
    #[error("the work ended badly")]
    Panicked(#[source] tokio::task::JoinError),
}

/// Performs an effect and tells its outcome.
pub(crate) async fn run(shared: &Shared, job: &Job) -> Result<(), Unfinished> {
    let ports = &shared.ports;
    let points = failpoints(&job.effect);
    failpoint::hit_async(points.before).await?;
    if let Some(place) = outside(&job.effect) {
        let heard = outside::hear_of(shared, &place.store).await;
        heard.map_err(Unfinished::News)?;
    }
    let (mut span, begun) = (span_of(job), ports.clock.monotonic());
    let until = Until::new(job.deadline, Arc::clone(&ports.clock));
    let performed = perform(shared, job, &until).await;
    let Performed::Ended(ended) = performed else {
        span.fail("deadline", "not all of it was begun in time");
        tracing::warn!(
            { names::KIND } = effect_key_to_string(&job.effect.key()),
            { names::DUE } = %job.deadline,
            "deadline passed, effect left open; it comes again, unless this clock is ahead"
        );
        return Ok(());
    };
    if ended
        .as_ref()
        .is_err_and(|failed| failed.is_of(&shared.seal))
    {
        // No outcome: whether a step failed is known once a key is there to look with.
        span.fail("sealed", "there is no key to open values with");
        return Err(Unfinished::Sealed);
    }
    let trace = span.context().map(|place| place.trace_id());
    if let Err(failed) = &ended {
        span.fail("store", &failed.reason);
        tracing::warn!(
            { names::KIND } = effect_key_to_string(&job.effect.key()),
            { names::EVENT } = lines::STEP_NOT_PERFORMED,
            { names::REASON } = failed.reason,
            { names::TRACE } = trace,
            "step failed"
        );
    } else {
        let millis = ports.clock.monotonic().saturating_sub(begun).as_millis();
        tracing::info!(
            { names::EVENT } = lines::STEP_PERFORMED,
            { names::KIND } = effect_key_to_string(&job.effect.key()),
            { names::MILLIS } = u64::try_from(millis).unwrap_or(u64::MAX),
            { names::TRACE } = trace,
            "step done"
        );
    }
    failpoint::hit_async(points.after).await?;
    submit(ports, job, ended, &span).await
}

/// Of one effect; it stands below its rotation or revocation.
fn span_of(job: &Job) -> Span {
    use traces::names;
    let work = &job.effect.work;
    let (operation, outside, attempt, versions) = match work {
        Work::Step(step) => (
            step_word(step.step),
            &step.outside,
            step.attempt,
            &step.versions,
        ),
        Work::Revoke(revoke) => (
            part_word(revoke.part),
            &revoke.outside,
            revoke.attempt,
            &revoke.versions,
        ),
    };
    let above = job.traceparent.as_deref().and_then(Context::parse);
    let name = format!("{operation} {}", names::WORK);
    let store = match (outside, resource(&job.effect)) {
        (Some(outside), _) => outside.store.name.to_string(),
        (None, Some(at)) => at.resource.kind.word().to_owned(),
        (None, None) => "local".to_owned(),
    };
    let mut span = Span::below(SERVICE, name, Kind::Consumer, above)
        .with(names::MESSAGING_SYSTEM, names::SYSTEM)
        .with(names::MESSAGING_OPERATION, operation)
        .with(names::MESSAGING_OPERATION_TYPE, "process")
        .with(names::MESSAGING_DESTINATION, names::WORK)
        .with(
            names::SECRET_ID,
            backlog::secret_of(&job.effect).to_string(),
        )
        .with(names::STORE, store)
        .with(names::ATTEMPT, attempt);
    if let Some(version) = versions.last() {
        span.set(names::VERSION, *version);
    }
    match work {
        Work::Step(step) => span.set(names::ROTATION_ID, step.rotation.to_string()),
        Work::Revoke(revoke) => span.set(names::REVOCATION_ID, revoke.revocation.to_string()),
    }
    span
}

/// A part's word.
const fn part_word(part: Part) -> &'static str {
    match part {
        Part::Whole => "revoke",
        Part::Disable => "disable",
        Part::Prove => "prove",
        Part::Destroy => "destroy",
    }
}

/// Where else than in the store `local` it is performed.
pub(crate) fn outside(effect: &Effect) -> Option<&Outside> {
    let (Work::Step(StepWork { outside, .. }) | Work::Revoke(RevokeWork { outside, .. })) =
        &effect.work;
    outside.as_deref()
}

/// Whose accounts its versions open.
pub(crate) fn resource(effect: &Effect) -> Option<&AtResource> {
    let (Work::Step(StepWork { resource, .. }) | Work::Revoke(RevokeWork { resource, .. })) =
        &effect.work;
    resource.as_deref()
}

struct Points {
    before: &'static str,
    after: &'static str,
}

fn failpoints(effect: &Effect) -> Points {
    match &effect.work {
        Work::Step(StepWork {
            step: Step::RevokeOld | Step::RollBack,
            ..
        })
        | Work::Revoke(RevokeWork {
            part: Part::Whole | Part::Disable | Part::Destroy,
            ..
        }) => Points {
            before: "storesync.before_destroy",
            after: "storesync.after_destroy",
        },
        Work::Step(_)
        | Work::Revoke(RevokeWork {
            part: Part::Prove, ..
        }) => Points {
            before: "storesync.before_step",
            after: "storesync.after_step",
        },
    }
}

/// What is told of an effect that was done.
#[derive(Debug, Default)]
struct Told {
    /// After `finish` the version that is current outside, after `create` the lease that it made.
    remote: Option<RemoteVersion>,
    /// After `drain` the sessions that are left; `None` when the backend does not tell.
    sessions: Option<Sessions>,
    /// After logins with what was revoked what came of them.
    proof: Option<Proof>,
}

impl Told {
    const fn current(remote: Option<RemoteVersion>) -> Self {
        Self {
            remote,
            sessions: None,
            proof: None,
        }
    }
}

type Ended = Result<Told, Failed>;

/// Why an effect failed.
#[derive(Debug)]
struct Failed {
    reason: String,
    /// Whether the store was not there to answer, or takes no login of ours.
    is_away: bool,
}

impl Failed {
    /// Whether it comes of the seal, and of nothing at a store.
    fn is_of(&self, seal: &Seal) -> bool {
        seal.is_sealed() || self.reason.contains(SEALED)
    }
}

/// How an effect ended here.
enum Performed {
    /// Done, with what is to be told of it; or failed for a reason.
    Ended(Ended),
    /// Not all of it was begun in time.
    TooLate,
}

/// Performs it within its time; gives the reason when it failed.
async fn perform(shared: &Shared, job: &Job, until: &Until) -> Performed {
    let longest = shared.options.step_deadline;
    if until.is_past() {
        return Performed::TooLate;
    }
    let limit = longest.min(until.remaining());
    let work = perform_at_its_store(shared, job, until);
    let failure = match tokio::time::timeout(limit, work).await {
        Ok(Ok(told)) => return Performed::Ended(Ok(told)),
        Ok(Err(error)) => Failed {
            reason: chain(&error).chars().take(MAX_REASON_CHARS).collect(),
            // What stays refused until a person mends the login is no failure of this work.
            is_away: error.kind == ErrorKind::Unavailable || LoginRefused::is_beneath(&error),
        },
        Err(_) => Failed {
            reason: format!("the store did not finish within {limit:?}"),
            is_away: true,
        },
    };
    match until.is_past() {
        true => Performed::TooLate,
        false => Performed::Ended(Err(failure)),
    }
}

/// Where an effect says that it is to be performed.
async fn perform_at_its_store(shared: &Shared, job: &Job, until: &Until) -> Done {
    let ports = &shared.ports;
    let outside = outside(&job.effect);
    let rotator = match (outside, resource(&job.effect)) {
        (Some(outside), Some(at)) => shared.registry.kept_rotator(outside, at)?,
        (Some(outside), None) => shared.registry.rotator(outside)?,
        (None, Some(at)) => shared.registry.account_rotator(at)?,
        (None, None) => Arc::clone(&ports.rotator),
    };
    match &job.effect.work {
        Work::Step(step) => {
            if !job.is_first
                && let Probed::Done(remote) = rotator.probe(step, until).await?
            {
                let key = effect_key_to_string(&job.effect.key());
                tracing::info!({ names::KIND } = key, "an earlier attempt had done it");
                return Ok(Told::current(remote));
            }
            perform_step(ports, &*rotator, step, until).await
        }
        Work::Revoke(revoke) => perform_revoke(&*rotator, &*ports.vault, revoke, until).await,
    }
}

/// One part of a revocation. Data keys alone are destroyed by our own store, which is what works without
/// an outside and a resource.
async fn perform_revoke(
    rotator: &dyn Rotator,
    vault: &dyn VersionVault,
    work: &RevokeWork,
    until: &Until,
) -> Done {
    let (secret, versions, outside) = (work.secret, &work.versions, work.outside.as_deref());
    match work.part {
        Part::Whole => rotator.revoke(secret, versions, outside, until).await?,
        Part::Destroy => {
            rotator.revoke(secret, versions, outside, until).await?;
            forget_leases(vault, (secret, versions), until).await?;
        }
        Part::Disable => rotator.disable(secret, versions, outside, until).await?,
        Part::Prove => {
            return Ok(Told {
                proof: Some(rotator.prove(secret, versions, until).await?),
                ..Told::default()
            });
        }
    }
    Ok(Told::default())
}

/// What a rotator did.
type Done = Result<Told, PortError>;

async fn perform_step(
    ports: &Ports,
    rotator: &dyn Rotator,
    work: &StepWork,
    until: &Until,
) -> Done {
    let done = match work.step {
        Step::Create => {
            rotator.create(work, until).await?;
            return rotator.lease(work).await.map(Told::current);
        }
        Step::Set => rotator.set(work, until).await,
        Step::Test => rotator.test(work, until).await,
        Step::Finish => return rotator.finish(work, until).await.map(Told::current),
        Step::Drain => {
            let sessions = rotator.sessions(work, until).await?;
            return Ok(Told {
                sessions,
                ..Told::default()
            });
        }
        Step::RevokeOld => {
            let outside = work.outside.as_deref();
            let retired = rotator.retire(work.secret, &work.versions, outside, until);
            left_if_current(retired.await)
        }
        Step::RollBack => roll_back(ports, rotator, work, until).await,
    };
    done.map(|()| Told::default())
}

/// Somebody made an old version current again at its store: it is left there, and the next look takes
/// it over. Only a revocation insists.
fn left_if_current(retired: Result<(), PortError>) -> Result<(), PortError> {
    match retired {
        Err(error) if error.kind == ErrorKind::Conflict => {
            tracing::warn!({ names::ERROR } = %chain(&error), "old version left at its store");
            Ok(())
        }
        retired => retired,
    }
}

/// The rotation ends here: its version dies, and the provided value goes even when that fails.
async fn roll_back(
    ports: &Ports,
    rotator: &dyn Rotator,
    work: &StepWork,
    until: &Until,
) -> Result<(), PortError> {
    let revoked = rotator.roll_back(work, until).await;
    until.check()?;
    let dropped = ports.vault.drop_stashed(work.rotation).await;
    revoked.and(dropped)
}

async fn submit(ports: &Ports, job: &Job, ended: Ended, span: &Span) -> Result<(), Unfinished> {
    let body = Body::Submit {
        id: derive_command_id(&job.effect.key()),
        command: outcome(&job.effect, ended),
    };
    let traceparent = span.traceparent();
    let answer = ports
        .bus
        .request(Address::Gateway, traceparent, body, SUBMIT_TIMEOUT)
        .await;
    match answer.map_err(Unfinished::Submit)? {
        Body::Verdict(Verdict::Accepted { .. }) => Ok(()),
        Body::Verdict(Verdict::Rejected { text, .. }) => {
            // The rotation went on without it: another attempt, a revocation, a repeat.
            let key = effect_key_to_string(&job.effect.key());
            tracing::info!(
                { names::KIND } = key,
                { names::REASON } = text,
                "outcome not needed"
            );
            Ok(())
        }
        Body::Failed { kind, text } => Err(Unfinished::Submit(PortError::new(kind, text))),
        _ => Err(Unfinished::Submit(PortError::new(
            ErrorKind::Unavailable,
            "the answer to an outcome is no verdict",
        ))),
    }
}

fn outcome(effect: &Effect, ended: Ended) -> Command {
    let (told, failure, is_away) = match ended {
        Ok(told) => (told, None, false),
        Err(failed) => (Told::default(), Some(failed.reason), failed.is_away),
    };
    match &effect.work {
        Work::Step(step) => Command::StepOutcome {
            rotation: step.rotation,
            step: step.step,
            attempt: step.attempt,
            failure,
            is_away,
            remote: told.remote,
            sessions: told.sessions,
        },
        Work::Revoke(revoke) => match told.proof {
            Some(proof) => Command::ProofOutcome(ProofTaken {
                revocation: revoke.revocation,
                attempt: revoke.attempt,
                proof,
            }),
            None => Command::RevokeOutcome {
                revocation: revoke.revocation,
                attempt: revoke.attempt,
                failure,
            },
        },
    }
}

/// The id under which an effect's outcome is submitted, however often.
pub(crate) fn derive_command_id(key: &Key) -> CommandId {
    let digest = digest::sha256(effect_key_to_string(key).as_bytes());
    let mut id = [0; 16];
    id.copy_from_slice(&digest[..16]);
    CommandId::from_bytes(id)
}

#[cfg(test)]
mod tests {
    use keywheel_core::id::{RevocationId, RotationId};

    use super::*;

    #[test]
    fn each_effect_has_one_command_id_and_no_other_has_it() {
        let rotation = RotationId::from_bytes([1; 16]);
        let revocation = RevocationId::from_bytes([1; 16]);
        let keys = [
            Key::Step(rotation, Step::Create, 1),
            Key::Step(rotation, Step::Create, 2),
            Key::Step(rotation, Step::Set, 1),
            Key::Revoke(revocation, 1),
        ];
        let ids: std::collections::BTreeSet<_> = keys.iter().map(derive_command_id).collect();
        assert_eq!(ids.len(), keys.len());
        assert_eq!(
            derive_command_id(&keys[0]),
            derive_command_id(&keys[0].clone())
        );
    }

    #[test]
    fn a_step_ends_and_is_answered_before_the_bus_hands_the_work_out_again() {
        assert!(STEP_DEADLINE + SUBMIT_TIMEOUT < keywheel_bus::ACK_TIMEOUT);
    }
}
